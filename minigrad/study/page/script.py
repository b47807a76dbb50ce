"""What a stepping's page does: shows a step, plays, zooms, and answers keys."""

from __future__ import annotations

__all__ = ["SCRIPT"]

SCRIPT = r"""
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const svg = $("picture"), view = $("view");
const F = data.forward.length, B = data.steps.length, total = F + B;
let place = 0, timer = null, follow = false;

// --- what is known at a step ---------------------------------------------------------------------

function stateAt(k) {
  const values = new Set(), gradients = new Map(), flows = new Map(), complete = new Set();
  const made = new Set(data.forward.map(f => f.gate));
  for (const node of data.nodes) if (!made.has(node.id)) values.add(node.id);
  for (const step of data.forward.slice(0, Math.min(k, F))) values.add(step.gate);
  if (k >= F && data.root.id !== null) {
    gradients.set(data.root.id, data.root.seed);
    complete.add(data.root.id);
  }
  for (const step of data.steps.slice(0, Math.max(0, k - F))) {
    if (step.gate !== null && step.g !== null) gradients.set(step.gate, step.g);
    for (const flow of step.flows) {
      if (flow.node !== null) gradients.set(flow.node, flow.total);
      if (flow.edge !== null) flows.set(flow.edge, flow.result);
      if (flow.complete && flow.node !== null) complete.add(flow.node);
    }
  }
  return { values, gradients, flows, complete };
}

// --- the picture ---------------------------------------------------------------------------------

const groups = [...svg.querySelectorAll("g[data-node]")];
const links = new Map();
for (const part of svg.querySelectorAll("[data-link]")) {
  const i = Number(part.dataset.link);
  links.set(i, [...(links.get(i) || []), part]);
}
function number(g) { return data.scalar ? g.short : g.short.replace("‖·‖ = ", "‖grad‖ "); }

function paint(state, fresh) {
  for (const group of groups) {
    const node = Number(group.dataset.node);
    const edge = group.dataset.edge === undefined ? null : Number(group.dataset.edge);
    const branch = group.classList.contains("branch");
    const gradient = branch ? state.flows.get(edge) : state.gradients.get(node);
    for (const text of group.querySelectorAll("text.before"))
      text.classList.toggle("hidden", !state.values.has(node));
    for (const text of group.querySelectorAll("text.after")) {
      let shown = gradient !== undefined;
      if (text.dataset.row !== "0" && !branch)
        shown = edge === null ? state.complete.has(node) : state.flows.has(edge);
      text.classList.toggle("hidden", !shown);
      text.classList.toggle("fresh", text.dataset.row === "0" && (branch ? fresh.edges.has(edge)
        : fresh.nodes.has(node)));
      const span = text.querySelector("[data-number]");
      if (span && gradient !== undefined) {
        span.textContent = number(gradient);
        span.dataset.full = gradient.full;
      }
    }
    group.classList.toggle("receiver", fresh.kind === "backward"
      && (branch ? fresh.edges.has(edge) : group.classList.contains("wire")
        && fresh.nodes.has(node)));
    group.classList.toggle("focus", group.classList.contains("gate") && node === fresh.gate);
  }
  for (const [i, parts] of links) for (const part of parts) {
    part.classList.toggle("forward", fresh.kind === "forward" && fresh.links.has(i));
    part.classList.toggle("backward", fresh.kind === "backward" && fresh.links.has(i));
  }
}

function freshAt(k) {
  const fresh = { kind: "", gate: null, nodes: new Set(), edges: new Set(), links: new Set() };
  const add = edge => (data.links[edge] || []).forEach(i => fresh.links.add(i));
  if (k > F) {
    const step = data.steps[k - F - 1];
    fresh.kind = "backward"; fresh.gate = step.gate;
    for (const flow of step.flows) {
      if (flow.node !== null) fresh.nodes.add(flow.node);
      if (flow.edge !== null) { fresh.edges.add(flow.edge); add(flow.edge); }
    }
  } else if (k === F && F) {
    fresh.gate = data.root.id; fresh.nodes.add(data.root.id);
  } else if (k > 0) {
    fresh.kind = "forward"; fresh.gate = data.forward[k - 1].gate;
    for (const edge of data.into[fresh.gate] || []) add(edge);
  }
  return fresh;
}

// --- the words -----------------------------------------------------------------------------------

function make(tag, words, name) {
  const part = document.createElement(tag);
  if (name) part.className = name;
  for (const word of [].concat(words === undefined ? [] : words))
    part.append(word);
  return part;
}
function amount(g, name) {
  const part = make("span", [g.short], name);
  part.dataset.full = g.full;
  if (!g.grid) return part;
  const table = make("table", [], "grid");
  table.setAttribute("aria-label", "elements");
  g.grid.forEach((row, i) => {
    const line = make("tr");
    row.forEach((text, j) => {
      const cell = make("td", [text]), v = g.shade[i][j];
      // Red for positive, blue and italic for negative; darker is larger.
      cell.style.background = v > 0 ? `rgba(216, 24, 44, ${0.45 * v})`
        : `rgba(29, 95, 196, ${-0.45 * v})`;
      if (v < 0) cell.style.fontStyle = "italic";
      line.append(cell);
    });
    table.append(line);
  });
  return make("span", [part, table]);
}
function signed(g) { return g.short.startsWith("-") ? { ...g, short: `(${g.short})` } : g; }
function heading(step) {
  const line = step.line ? [make("code", [step.line.place], "place")] : [];
  return [make("h2", [step.title, " ", ...line])];
}
function focusWords(k) {
  if (k === 0) return [make("h2", ["Only the inputs are known"]),
    make("p", ["Step forward: each gate computes its value from its inputs. Then the gradients "
      + "flow back."])];
  if (k < F + 1 && k !== F) {
    const step = data.forward[k - 1];
    return [...heading(step), make("p", [step.filled], "equation value")];
  }
  if (k === F) {
    const last = F ? [...heading(data.forward[F - 1]), make("p", [data.forward[F - 1].filled],
      "equation value")] : [];
    return [...last, make("p", [`The gradient of ${data.root.name} by itself is `,
      amount(data.root.seed, "gradient"), ". Now backwards."])];
  }
  const step = data.steps[k - F - 1];
  const parts = heading(step);
  parts.push(make("p", step.g === null ? ["No gradient has reached this gate."]
    : [`gate gradient of ${step.name}: `, amount(step.g, "gradient state")]));
  const flows = make("div", [], "flows");
  parts.push(flows);
  for (const flow of step.flows) {
    const flowPart = make("div", [], "flow");
    flowPart.dataset.name = flow.name;
    const equation = make("p", [`to ${flow.name}: `], "equation");
    if (flow.local) equation.append(amount(step.g, "gradient gate"), " × ",
      amount(signed(flow.local), "local"), " = ");
    equation.append(amount(flow.result, "gradient result"));
    const rule = make("p", []);
    if (flow.rule) rule.append("rule ", make("code", [flow.rule], "rule"));
    if (flow.filled && flow.filled !== flow.rule)
      rule.append(" = ", make("code", [flow.filled], "filled"));
    const so = make("p", [`${flow.name} has received `,
      amount({ ...flow.total, grid: null }, "gradient total"),
      flow.complete ? ": complete ✓" : ": more to come …"]);
    flowPart.append(equation, rule, so);
    if (flow.note) flowPart.append(make("p", [flow.note], "note"));
    flows.append(flowPart);
  }
  if (k === total) parts.push(make("p", ["All gradients are complete."], "state"));
  return parts;
}
function lineAt(k) {
  if (k > F) return data.steps[k - F - 1].line;
  return k > 0 ? data.forward[k - 1].line : null;
}
function phase(k) {
  if (k === 0) return "inputs";
  return k <= F ? `forward ${k} of ${F}` : `backward ${k - F} of ${B}`;
}

// --- code and numbers ----------------------------------------------------------------------------

for (const [i, file] of data.code.entries()) {
  const pre = make("pre");
  for (const [n, text] of file.lines) {
    const line = make("div", [make("span", [String(n)], "number"), text || " "]);
    line.dataset.line = `${i}:${n}`;
    pre.append(line);
  }
  $("code").append(make("h3", [file.name]), pre);
}
document.querySelector("main").classList.toggle("nocode", !data.code.length);
function mark(line) {
  for (const old of document.querySelectorAll("#code .now")) old.classList.remove("now");
  if (!line) return;
  const found = document.querySelector(`#code [data-line="${line.file}:${line.line}"]`);
  if (!found) return;
  found.classList.add("now");
  const box = $("code");
  box.scrollTop = found.offsetTop - box.offsetTop - box.clientHeight / 2;
}
const rows = new Map();
for (const node of data.nodes) {
  const row = make("tr", [make("td", [node.name]), make("td", [node.made]),
    make("td", [node.value]),
    make("td"), make("td")]);
  row.dataset.node = node.id;
  rows.set(node.id, row);
  $("numbers").querySelector("tbody").append(row);
}
function fill(state) {
  for (const node of data.nodes) {
    const cells = rows.get(node.id).children, g = state.gradients.get(node.id);
    cells[2].textContent = state.values.has(node.id) ? node.value : "";
    cells[3].textContent = g ? g.full : node.needed ? "" : "none needed";
    cells[4].textContent = g ? (state.complete.has(node.id) ? "complete" : "so far") : "";
  }
}

// --- moving --------------------------------------------------------------------------------------

function show(k) {
  place = Math.max(0, Math.min(total, k));
  const state = stateAt(place), fresh = freshAt(place);
  paint(state, fresh); fill(state); mark(lineAt(place));
  $("focus").replaceChildren(...focusWords(place));
  $("focus").scrollTop = 0;
  $("phase").textContent = phase(place);
  $("place").value = place;
  $("place").setAttribute("aria-valuetext", phase(place));
  $("first").disabled = $("back").disabled = place === 0;
  $("last").disabled = $("step").disabled = place === total;
  document.body.dataset.place = place;
  document.body.dataset.phase = phase(place);
  if (follow) centre(fresh.gate);
  if (place === total) pause();
}
function pause() {
  if (timer !== null) clearInterval(timer);
  timer = null;
  $("play").textContent = "▶ play";
  document.body.dataset.playing = "false";
}
function play() {
  if (place === total) show(0);
  timer = setInterval(() => show(place + 1), 1000 * Number($("pace").value));
  $("play").textContent = "❚❚ pause";
  document.body.dataset.playing = "true";
  show(place + 1);
}
function toggle() { timer === null ? play() : pause(); }
const go = k => { pause(); show(k); };
$("first").onclick = () => go(0);
$("back").onclick = () => go(place - 1);
$("play").onclick = toggle;
$("step").onclick = () => go(place + 1);
$("last").onclick = () => go(total);
$("place").max = total;
$("place").oninput = event => go(Number(event.target.value));
$("pace").onchange = () => { if (timer !== null) { pause(); play(); } };

// --- zoom ----------------------------------------------------------------------------------------

const whole = svg.getAttribute("viewBox").split(" ").map(Number);
let box = whole.slice();
const showBox = () => svg.setAttribute("viewBox", box.join(" "));
function zoom(factor, x, y) {
  const width = Math.min(whole[2] * 4, Math.max(40, box[2] * factor));
  factor = width / box[2];
  box = [x - (x - box[0]) * factor, y - (y - box[1]) * factor, width, box[3] * factor];
  showBox();
}
function centre(gate) {
  const group = groups.find(g => g.classList.contains("gate") && Number(g.dataset.node) === gate);
  if (!group) return;
  const middle = group.getBoundingClientRect();
  const p = new DOMPoint(middle.x + middle.width / 2, middle.y + middle.height / 2)
    .matrixTransform(svg.getScreenCTM().inverse());
  // What is seen is as high as the window; the picture's edges stay at the window's.
  const high = box[2] * view.clientHeight / view.clientWidth;
  const hold = (middle, size, from, all) => size >= all ? from + all / 2 - size / 2
    : Math.min(Math.max(middle - size / 2, from), from + all - size);
  box = [hold(p.x, box[2], whole[0], whole[2]), hold(p.y, high, whole[1], whole[3]), box[2], high];
  showBox();
}
function fit() {
  box = whole.slice(); showBox();
  // A long graph would be too small to read: look at the gate in focus instead.
  const scale = Math.min(view.clientWidth / whole[2], view.clientHeight / whole[3]);
  follow = scale < 0.8;
  if (follow) {
    const factor = scale;
    zoom(factor, whole[0] + whole[2] / 2, whole[1] + whole[3] / 2);
  }
}
const at = event => new DOMPoint(event.clientX, event.clientY)
  .matrixTransform(svg.getScreenCTM().inverse());
view.addEventListener("wheel", event => {
  event.preventDefault();
  const p = at(event);
  zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, p.x, p.y);
}, { passive: false });
let held = null;
view.addEventListener("pointerdown", event => {
  held = at(event); view.setPointerCapture(event.pointerId);
});
view.addEventListener("pointermove", event => {
  if (held === null) return;
  const p = at(event);
  box[0] += held.x - p.x; box[1] += held.y - p.y; showBox();
});
for (const end of ["pointerup", "pointercancel"])
  view.addEventListener(end, () => { held = null; });

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.tagName === "SELECT") return;
  if (event.key === " " && event.target.tagName === "BUTTON") return;
  const x = box[0] + box[2] / 2, y = box[1] + box[3] / 2;
  const actions = {
    ArrowRight: () => go(place + 1), ArrowLeft: () => go(place - 1),
    PageDown: () => go(place + 1), PageUp: () => go(place - 1),
    Home: () => go(0), End: () => go(total), " ": toggle, b: () => go(F), B: () => go(F),
    "+": () => zoom(1 / 1.25, x, y), "=": () => zoom(1 / 1.25, x, y), "-": () => zoom(1.25, x, y),
    "0": () => { follow = false; box = whole.slice(); showBox(); },
    f: () => { follow = !follow; if (follow) centre(freshAt(place).gate); },
    n: () => { $("numbers").open = !$("numbers").open; },
  };
  actions.F = actions.f; actions.N = actions.n;
  if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
});

svg.removeAttribute("width"); svg.removeAttribute("height");
fit();
show(data.start ? F + data.start : 0);
"""
