"""What the page of a module graph does: places boxes as `layout` does, opens and closes them."""

from __future__ import annotations

__all__ = ["SCRIPT"]

SCRIPT = r"""
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const { pad: PAD, head: HEAD, row: ROW, column: COLUMN, channel: CHANNEL, line: LINE } = data.sizes;
const metrics = Object.keys(data.metrics);
const svg = $("picture"), view = $("view");
let tree = data.trees[0], metric = 0, box = null, placed = null;

// --- layout: the same as in layout.py ------------------------------------------------------------

const n = x => x.toFixed(1);
const round = (x, digits) => Number(x.toFixed(digits));

function place(id, root) {
  const part = tree[id];
  if (!part.children.length || !(root || part.open))
    return { id, width: part.size[0], height: part.size[1], open: false, inside: [], wires: [] };
  const kids = part.children.map(child => place(child, false));
  const rows = part.rows, count = kids.length, last = Math.max(...rows);
  const links = [...part.links, ...part.inward.map(j => [-1, j, false]),
    ...part.outward.map(i => [i, count, false])];
  const rowOf = i => i < 0 ? -1 : i === count ? last + 1 : rows[i];
  const members = [];
  for (let row = 0; row <= last; row++)
    members.push(kids.map((_, k) => k).filter(k => rows[k] === row));
  const widths = members.map(m => m.reduce((sum, k) => sum + kids[k].width, 0)
    + COLUMN * (m.length - 1));
  const heights = members.map(m => Math.max(0, ...m.map(k => kids[k].height)));
  const right = channels(links.filter(l => !l[2] && rowOf(l[1]) - rowOf(l[0]) > 1), rowOf);
  const left = new Map(links.filter(l => l[2]).map((l, i) => [l, i]));
  const content = Math.max(...widths);
  const rights = Math.max(-1, ...right.values()) + 1;
  let width = 2 * PAD + content + CHANNEL * (left.size + rights);
  const spare = root ? 0 : Math.max(0, part.head - width);
  width += spare;
  const start = PAD + CHANNEL * left.size + spare / 2, middle = start + content / 2;
  let y = (root ? PAD : HEAD) + (part.inward.length ? ROW : 0);
  const tops = heights.map(height => { const top = y; y += height + ROW; return top; });
  const bottom = y - ROW + (part.outward.length ? ROW : PAD);
  const corners = [];
  members.forEach((m, row) => {
    let x = middle - widths[row] / 2;
    for (const k of m) { corners[k] = [x, tops[row]]; x += kids[k].width + COLUMN; }
  });
  const leave = i => {
    if (i < 0) return [middle, root ? PAD : HEAD, root ? PAD : HEAD];
    const [x, top] = corners[i];
    return [x + kids[i].width / 2, top + kids[i].height, tops[rows[i]] + heights[rows[i]]];
  };
  const enter = link => {
    const j = link[1];
    if (j === count) return [middle, bottom];
    const [x, top] = corners[j];
    const key = l => [l[2] ? 0 : 1, right.has(l) ? 1 : 0, rowOf(l[0]), l[0]];
    const into = links.filter(l => l[1] === j).sort((a, b) => {
      const p = key(a), q = key(b);
      for (let i = 0; i < 4; i++) if (p[i] !== q[i]) return p[i] - q[i];
      return 0;
    });
    return [x + kids[j].width * (into.indexOf(link) + 1) / (into.length + 1), top];
  };
  const wires = links.map(link => {
    const [sx, sy, edge] = leave(link[0]), [tx, ty] = enter(link), half = ROW / 2;
    const head = `M${n(sx)},${n(sy)} L${n(sx)},${n(edge)}`;
    if (link[2]) {
      const x = start - CHANNEL * (left.get(link) + 0.5) - 2;
      return [`${head} C${n(sx)},${n(edge + half)} ${n(x)},${n(edge + half)} ${n(x)},${n(edge)} `
        + `L${n(x)},${n(ty)} C${n(x)},${n(ty - half)} ${n(tx)},${n(ty - half)} ${n(tx)},${n(ty)}`,
        true, tx, ty];
    }
    if (right.has(link)) {
      const x = start + content + CHANNEL * (right.get(link) + 0.5) + 2;
      return [`${head} C${n(sx)},${n(edge + half)} ${n(x)},${n(edge)} ${n(x)},${n(edge + half)} `
        + `L${n(x)},${n(ty - half)} C${n(x)},${n(ty)} ${n(tx)},${n(ty - half)} ${n(tx)},${n(ty)}`,
        false, tx, ty];
    }
    return [`${head} C${n(sx)},${n(edge + half)} ${n(tx)},${n(ty - half)} ${n(tx)},${n(ty)}`,
      false, tx, ty];
  });
  return { id, width: round(width, 2), height: round(bottom, 2), open: true, wires,
    inside: kids.map((kid, k) => [round(corners[k][0], 2), round(corners[k][1], 2), kid]) };
}
function channels(links, rowOf) {
  const found = new Map(), ends = [];
  const key = l => [rowOf(l[0]), rowOf(l[1]), l[0], l[1]];
  const sorted = [...links].sort((a, b) => {
    const p = key(a), q = key(b);
    for (let i = 0; i < 4; i++) if (p[i] !== q[i]) return p[i] - q[i];
    return 0;
  });
  for (const link of sorted) {
    let free = ends.findIndex(end => end <= rowOf(link[0]));
    if (free < 0) { free = ends.length; ends.push(0); }
    ends[free] = rowOf(link[1]);
    found.set(link, free);
  }
  return found;
}

// --- painting ------------------------------------------------------------------------------------

function make(tag, attributes, ...inside) {
  const part = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) part.setAttribute(name, value);
  part.append(...inside);
  return part;
}
function text(words, x, y, size, colour, anchor = "middle", weight = "normal") {
  return make("text", { x, y, "font-size": size, "text-anchor": anchor, fill: colour,
    "font-weight": weight }, words);
}
function colours(part) {
  const total = tree[0].values[metric];
  const share = total ? Math.sqrt(part.values[metric] / total) : 0;
  const mix = [[246, 11], [248, 60], [252, 140]].map(([a, b]) => Math.round(a + (b - a) * share));
  return [`rgb(${mix})`, share > 0.55 ? "#ffffff" : "#1c1c1c"];
}
function inside(where, at) {
  for (const [path, again, x, y] of at.wires) {
    const colour = again ? "#d8182c" : "#4d4d4d";
    const wire = make("path", { d: path, fill: "none", stroke: colour, "stroke-width": 1.6 });
    if (again) wire.setAttribute("stroke-dasharray", "6 4");
    where.append(wire, make("polygon", { fill: colour,
      points: `${n(x)},${n(y)} ${n(x - 3.4)},${n(y - 8)} ${n(x + 3.4)},${n(y - 8)}` }));
  }
  for (const [x, y, kid] of at.inside) {
    const part = tree[kid.id];
    const group = make("g", { class: "box", transform: `translate(${x} ${y})`, tabindex: 0,
      "data-id": kid.id, "data-path": part.path, "aria-label": part.words });
    if (part.children.length) {
      group.setAttribute("role", "button");
      group.setAttribute("aria-expanded", kid.open);
    }
    if (kid.open) {
      group.append(make("rect", { class: "frame", width: kid.width, height: kid.height, rx: 10,
        fill: "#3b4252", "fill-opacity": 0.045, stroke: "#3b4252", "stroke-width": 1.3 }),
        text(`▾ ${part.title}  ${part.name}`.trim(), 12, HEAD / 2 + 5, 14, "#1c1c1c", "start",
          "bold"));
      inside(group, kid);
    } else closed(group, kid, part);
    where.append(group);
  }
}
function closed(group, at, part) {
  let [fill, ink] = colours(part);
  const size = { width: at.width, height: at.height, fill, stroke: "#3b4252", "stroke-width": 1.4 };
  const shifts = part.kind === "repeat" ? [7, 3.5] : part.children.length ? [3.5] : [];
  for (const shift of shifts) group.append(make("rect", { ...size, x: shift, y: shift, rx: 7 }));
  let radius = part.kind === "operation" ? at.height / 2 : 7;
  const end = part.kind === "input" || part.kind === "output";
  if (end) { size.fill = "#fff6d6"; radius = 0; ink = "#1c1c1c"; }
  group.append(make("rect", { ...size, class: "frame", rx: radius }));
  const lines = part.lines.map(([options, points]) =>
    [options.length === 1 ? options[0] : options[metric], points]);
  let y = lines[lines.length - 1][0] ? 6 : (at.height - (lines.length - 1) * LINE) / 2;
  lines.forEach(([words, points], i) => {
    if (words) group.append(text(words, at.width / 2, y + LINE / 2 + 0.36 * points, points, ink,
      "middle", i === 0 ? "bold" : "normal"));
    y += LINE;
  });
  const total = tree[0].values[metric], value = part.values[metric];
  if (total && value && !end) {
    const room = at.width - 16, bar = { x: 8, y: at.height - 6, height: 3, fill: ink };
    group.append(make("rect", { ...bar, width: room, "fill-opacity": 0.15 }),
      make("rect", { ...bar, width: room * value / total }));
  }
}
function draw(focus = null) {
  placed = place(0, true);
  svg.replaceChildren();
  const all = make("g", {});
  inside(all, placed);
  svg.append(all);
  if (box === null) fit();
  if (focus !== null) {
    const found = svg.querySelector(`[data-id="${focus}"]`);
    if (found) found.focus({ preventScroll: true });
  }
}
function geometry() {
  const boxes = [], wires = [];
  (function visit(at, x, y) {
    for (const [path] of at.wires) wires.push([at.id, path]);
    for (const [dx, dy, kid] of at.inside) {
      boxes.push([kid.id, x + dx, y + dy, kid.width, kid.height, kid.open]);
      visit(kid, x + dx, y + dy);
    }
  })(placed, 0, 0);
  return { width: placed.width, height: placed.height, boxes, wires };
}

// --- opening, choosing, moving -------------------------------------------------------------------

function toggle(id) {
  if (!tree[id].children.length) return;
  const corner = () => geometry().boxes.find(b => b[0] === id);
  const [, x, y] = corner();
  tree[id].open = !tree[id].open;
  draw(id);
  // The box that was clicked stays where it is on the screen.
  const [, newX, newY] = corner();
  box[0] += newX - x; box[1] += newY - y;
  showBox();
}
function boxOf(event) {
  const group = event.target.closest && event.target.closest("g.box");
  return group ? Number(group.dataset.id) : null;
}
let held = null, moved = false;
const at = event => new DOMPoint(event.clientX, event.clientY)
  .matrixTransform(svg.getScreenCTM().inverse());
svg.addEventListener("click", event => {
  const id = boxOf(event);
  if (id !== null && !moved) toggle(id);
});
for (const name of ["focusin", "pointerover"]) svg.addEventListener(name, event => {
  const id = boxOf(event);
  if (id !== null) $("words").textContent = tree[id].words;
});
view.addEventListener("pointerdown", event => { held = at(event); moved = false; });
view.addEventListener("pointermove", event => {
  if (held === null) return;
  const p = at(event);
  if (Math.hypot(p.x - held.x, p.y - held.y) * view.clientWidth / box[2] > 4) moved = true;
  if (!moved) return;
  box[0] += held.x - p.x; box[1] += held.y - p.y; showBox();
});
for (const end of ["pointerup", "pointercancel"])
  window.addEventListener(end, () => { held = null; });
const showBox = () => svg.setAttribute("viewBox", box.join(" "));
function fit() {
  // All of it if it can be read; else its upper part in full width.
  const shape = view.clientHeight / view.clientWidth;
  const scale = Math.min(view.clientWidth / placed.width, view.clientHeight / placed.height);
  const wide = scale >= 0.55 ? view.clientWidth / Math.min(scale, 1.4)
    : Math.max(placed.width, view.clientWidth / 1.1);
  const high = wide * shape;
  box = [placed.width / 2 - wide / 2, scale >= 0.55 ? placed.height / 2 - high / 2 : 0, wide, high];
  showBox();
}
function zoom(factor, x, y) {
  box = [x - (x - box[0]) * factor, y - (y - box[1]) * factor, box[2] * factor, box[3] * factor];
  showBox();
}
view.addEventListener("wheel", event => {
  event.preventDefault();
  const p = at(event);
  zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, p.x, p.y);
}, { passive: false });
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  const x = box[0] + box[2] / 2, y = box[1] + box[3] / 2, id = boxOf(event);
  const actions = {
    "+": () => zoom(1 / 1.25, x, y), "=": () => zoom(1 / 1.25, x, y), "-": () => zoom(1.25, x, y),
    "0": fit, ArrowDown: () => { box[1] += box[3] / 8; showBox(); },
    ArrowUp: () => { box[1] -= box[3] / 8; showBox(); },
    ArrowLeft: () => { box[0] -= box[2] / 8; showBox(); },
    ArrowRight: () => { box[0] += box[2] / 8; showBox(); },
  };
  if (id !== null) actions.Enter = actions[" "] = () => toggle(id);
  if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
});
$("metric").onchange = event => { metric = metrics.indexOf(event.target.value); draw(); };
$("open").onclick = () => { for (const part of tree) part.open = true; box = null; draw(); };
$("close").onclick = () => { for (const part of tree) part.open = false; box = null; draw(); };
$("fit").onclick = fit;
if ($("unrolled")) $("unrolled").onchange = event => {
  tree = data.trees[event.target.checked ? 1 : 0];
  box = null;
  draw();
};
draw();
window.overview = { geometry, toggle, parts: () => tree };
"""
