"""The forms of a picture: SVG, DOT, HTML, text, files.  What they say is what the graph holds."""

import os
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.draw import Drawing, Graph, draw
from minigrad.draw import drawing as drawing_module
from minigrad.draw.engines import run_wasm
from minigrad.draw.scene import make_scene
from minigrad.draw.style import COLOURS, enclosed, format_number, gate_symbol, shorten, text_width
from tests.draw.helpers import (
    CIRCUITS,
    SVG,
    all_text,
    lecture_circuit,
    parts,
    shared_circuit,
    small_network,
    without_tags,
)

# --- the numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["LR", "TB"])
@pytest.mark.parametrize("circuit", CIRCUITS)
def test_each_number_in_the_picture_is_that_of_its_node_or_edge(circuit, direction):
    f = circuit()
    f.backward()
    drawing = draw(f, engine="builtin", direction=direction)
    graph = drawing.graph
    told = set()
    for kind, id_, edge_id, lines in parts(drawing.svg()):
        if kind not in ("wire", "branch"):
            continue
        node = graph.nodes[id_]
        spans = [span for line in lines for span in line]
        values = [text for role, text in spans if role == "value"]
        gradients = [text for role, text in spans if role == "gradient"]
        local = [text for role, text in spans if role == "local"]
        if kind == "wire":
            assert values == [format_number(node.value)]
            assert gradients[0] == format_number(node.gradient)
        if edge_id is None:
            flows = [format_number(e.contribution) for e in graph.consumers(id_)]
            sums = [" + ".join([flows[0], *map(enclosed, flows[1:])])] if flows else []
            assert gradients[1:] == sums
            continue
        edge = graph.edges[edge_id]
        told.add(edge_id)
        assert edge.source == id_
        assert gradients == [format_number(edge.contribution), format_number(edge.gate_gradient)]
        assert local == [enclosed(format_number(edge.local_gradient))]
    assert told == set(range(len(graph.edges)))


def test_values_and_gradients_have_their_own_colours_and_sides():
    f = lecture_circuit()
    f.backward()
    drawing = draw(f, engine="builtin")
    for box in drawing.scene.boxes:
        roles = [[s.role for line in side for s in line.spans] for side in (box.before, box.after)]
        assert "gradient" not in roles[0] and "value" not in roles[1]
    svg = drawing.svg()
    assert COLOURS["value"] in svg and COLOURS["gradient"] in svg and COLOURS["local"] in svg
    assert COLOURS["value"] in drawing.dot and COLOURS["gradient"] in drawing.dot


def test_not_computed_is_written_and_is_no_number():
    drawing = draw(lecture_circuit(), engine="builtin")
    wires = [lines for kind, *_, lines in parts(drawing.svg()) if kind == "wire"]
    assert len(wires) == 5
    for lines in wires:
        assert [("muted", "not computed")] in lines
        assert "gradient" not in {role for line in lines for role, _ in line}
    for text in (drawing.dot, drawing.text(), drawing.html()):
        assert text.count("not computed") >= 5

    x = mg.scalar(3.0, name="x")
    f = x * mg.scalar(0.0, name="y")
    f.backward()
    computed = draw(f, engine="builtin")
    assert "not computed" not in computed.svg() + computed.dot + computed.text()
    (x_wire,) = [
        lines for kind, id_, _, lines in parts(computed.svg()) if (kind, id_) == ("wire", 0)
    ]
    assert [("gradient", "0")] in x_wire


def test_text_is_a_tree_that_writes_shared_values_once():
    f = shared_circuit()
    f.backward()
    text = draw(f).text()
    assert text.startswith("f = 17.5   by")
    assert text.count("by ×   grad -9") == 3 and text.count("(see above)") == 2
    assert "x = 3   grad 12   receives 18 = -9 × (-2)" in text


def test_the_dot_text_holds_all_labels():
    f = lecture_circuit()
    f.backward()
    words = without_tags(draw(f).dot)
    for label in ("x", "y", "z", "q = 3", "f = -12", "= -4 × 1", "= 1 × (-4)", "= 1 × 3"):
        assert label in words
    assert draw(f, title="T").dot.count("label=T") == 1


# --- names of all kinds --------------------------------------------------------------------------

NASTY = ['"', "<b>&amp;", "a\nb", "\\N", "ünïcödé ×", "日本語", "", "x" * 500, "\x00", "-->", "]]>",
         "<!--", "{a|b}", "\ud800", "\u202e"]  # fmt: skip


def named(name, title=None):
    x, y = mg.scalar(2.0, name=name), mg.scalar(3.0, name="y")
    f = x * y + x
    f.name = name
    f.backward()
    return draw(f, engine="builtin", title=title)


def check_escaping(name):
    drawing = named(name, title=name)
    svg = drawing.svg()
    ET.fromstring(svg)
    shown = shorten(name, 24)
    if shown:
        assert shown in all_text(svg) and f"{shown} = 8" in all_text(svg)
    assert run_wasm(drawing.dot, "svg").startswith("<?xml")
    for label in re.findall(r"label=<(.*?)>(?= [a-z]+=|\]\n)", drawing.dot):
        ET.fromstring(f"<label>{label}</label>")
    dot_words = without_tags(drawing.dot)
    for sign, entity in ((">", "&gt;"), ("<", "&lt;"), ("&", "&amp;")):
        dot_words = dot_words.replace(entity, sign)
    assert shown in dot_words
    reader = HTMLParser()
    reader.feed(drawing.html())
    reader.close()
    for text in (svg, drawing.dot, drawing.html(), drawing.text()):
        text.encode()
    assert all(line.width < 400 for box in drawing.scene.boxes for line in box.label + box.before)


@pytest.mark.parametrize("name", NASTY)
def test_nasty_names_are_escaped(name):
    check_escaping(name)


@given(st.text(max_size=60))
def test_any_name_is_escaped(name):
    check_escaping(name)


def test_markup_in_a_name_stays_text():
    page = named("<script>alert(1)</script>", title="</title><script>x</script>").html()
    assert page.count("<script>") == 1
    assert "&lt;script&gt;" in page


# --- the page ------------------------------------------------------------------------------------


class Collector(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.cells = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


def test_the_page_loads_nothing_and_has_a_text_alternative():
    f = lecture_circuit()
    f.backward()
    page = draw(f, engine="builtin", title="The lecture's circuit").html()
    assert not re.search(r"https?:|//[a-z]|url\(|@import|src=|href=", page)
    found = Collector()
    found.feed(page)
    assert {"svg", "table", "script", "h1"} <= {tag for tag, _ in found.tags}
    assert not {"link", "img", "iframe", "object"} & {tag for tag, _ in found.tags}
    policy = next(a["content"] for t, a in found.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert [cell.strip() for cell in found.cells[:5]] == [
        "x",
        "leaf",
        "-2.0",
        "-4.0",
        "through q: gate gradient -4.0 × local gradient 1.0 = contribution -4.0",
    ]
    (svg,) = [attrs for tag, attrs in found.tags if tag == "svg"]
    assert svg["role"] == "img" and svg["aria-label"] == "The lecture's circuit"


def test_the_page_has_all_digits():
    x = mg.scalar(0.1, name="x")
    f = x.exp()
    f.backward()
    page = draw(f, engine="builtin").html()
    assert repr(f.data) in page and repr(x.grad) in page
    assert format_number(f.data) != repr(f.data)


# --- files and notebooks -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".svg", ".dot", ".html", ".txt", ".SVG"])
def test_save_writes_what_the_suffix_says(tmp_path, suffix):
    drawing = draw(lecture_circuit(), engine="builtin")
    path = drawing.save(tmp_path / f"f{suffix}")
    forms = {".svg": drawing.svg, ".html": drawing.html, ".txt": drawing.text}
    expected = drawing.dot if suffix == ".dot" else forms[suffix.lower()]()
    assert path.read_text(encoding="utf-8") == expected
    assert os.listdir(tmp_path) == [f"f{suffix}"]


@pytest.mark.parametrize("name", ["f.gif", "f", ".svg", "f.svg.bak"])
def test_an_unknown_suffix_is_told_before_anything_is_written(tmp_path, name):
    with pytest.raises(ValueError, match=r"must end in .svg, .png, .dot, .html"):
        draw(lecture_circuit()).save(str(tmp_path / name))
    assert os.listdir(tmp_path) == []


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "f.svg"
    path.write_text("old")

    def fails(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(drawing_module.os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        draw(lecture_circuit(), engine="builtin").save(path)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["f.svg"]


def test_notebooks_get_html_svg_and_text():
    drawing = draw(lecture_circuit(), engine="builtin")
    bundle = drawing._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/svg+xml", "text/plain"}
    assert bundle["image/svg+xml"] == drawing._repr_svg_() == drawing.svg()
    assert drawing.svg() in drawing._repr_html_()
    assert repr(drawing) == "<Drawing of 5 nodes and 4 edges>"


def test_the_module_can_be_called():
    f = lecture_circuit()
    assert isinstance(mg.draw(f), mg.draw.Drawing)
    assert mg.draw(f).graph == draw(f).graph


def test_a_drawing_is_a_snapshot():
    f = lecture_circuit()
    drawing = draw(f, engine="builtin")
    f.backward()
    assert "not computed" in drawing.svg()


def test_an_empty_graph_is_an_empty_picture():
    for direction in ("LR", "TB"):
        ET.fromstring(Drawing(Graph((), ()), direction=direction, engine="builtin").svg())


def test_tensor_pictures_hold_shapes_and_norms():
    loss, w, _ = small_network()
    loss.backward()
    drawing = draw(loss, engine="builtin")
    text = all_text(drawing.svg())
    norm = drawing.graph.named("w").gradient_norm
    for words in ("3 × 2 float32", "4 × 3 float32", f"\u2016grad\u2016 {format_number(norm)}"):
        assert words in text
    assert drawing.direction == "TB" and "retain_grad()" in text
    assert w.grad is not None


def test_the_svg_has_a_title_for_each_part_and_a_description():
    f = lecture_circuit()
    f.backward()
    drawing = draw(f, engine="builtin")
    root = ET.fromstring(drawing.svg())
    groups = [g for g in root.iter(f"{SVG}g") if "data-node" in g.attrib]
    assert len(groups) == len(drawing.scene.boxes)
    assert all(g.find(f"{SVG}title").text for g in groups)
    assert "3 inputs and 2 gates" in root.find(f"{SVG}desc").text
    assert "id=" not in drawing.svg() and "url(" not in drawing.svg()


# --- style ---------------------------------------------------------------------------------------


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def lightness(colour):
    y = luminance(colour)
    return 116 * y ** (1 / 3) - 16


def test_colours_can_be_read_and_told_apart_by_lightness():
    for role in ("value", "gradient", "local", "name", "muted"):
        assert (1.05) / (luminance(COLOURS[role]) + 0.05) >= 4.5, role
    assert abs(lightness(COLOURS["value"]) - lightness(COLOURS["gradient"])) > 12


@given(st.floats(-1e308, 1e308))
def test_a_number_as_text_is_the_number_to_its_digits(value):
    text = format_number(value, 4)
    assert float(text) == pytest.approx(value, rel=5.1e-4, abs=0)
    assert float(format_number(value, 17)) == value
    assert (text == "0") == (value == 0)
    assert len(text) <= 11


def test_numbers_that_are_none_are_written():
    infinity = float("inf")
    assert [format_number(v) for v in (infinity, -infinity, infinity - infinity)] == [
        "inf",
        "-inf",
        "nan",
    ]


@pytest.mark.parametrize(
    "op, arity, constants, symbol",
    [
        ("add", 2, ((0, 1.0),), "+ 1"),
        ("subtract", 2, ((0, 1.0),), "1 \N{MINUS SIGN} ·"),
        ("subtract", 2, ((1, 1.0),), "\N{MINUS SIGN} 1"),
        ("divide", 2, ((1, 2.0),), "÷ 2"),
        ("power", 2, ((1, 2.0),), "x²"),
        ("power", 2, ((1, 0.5),), "x^0.5"),
        ("power", 2, ((0, 2.0),), "2 ^ ·"),
        ("where", 3, ((2, 0.0),), "where(·, ·, 0)"),
        ("conv2d", 3, (), "conv2d"),
    ],
)
def test_constants_stand_where_they_were_given(op, arity, constants, symbol):
    assert gate_symbol(op, arity, constants) == symbol


def test_text_is_measured_as_the_font_has_it():
    image_font = pytest.importorskip("PIL.ImageFont")
    from minigrad.draw.engines import FONT

    font = image_font.truetype(str(FONT), 1000)
    for text in ("q = -12.5", "= 0.1966 × -1", "σ + \N{MINUS SIGN} ± Σ", "mean ± std"):
        assert text_width(text, 1000) == pytest.approx(font.getlength(text), rel=0.03)
    assert text_width("日", 10) >= 10


def test_many_contributions_are_counted_instead_of_listed():
    x = mg.scalar(1.0, name="x")
    total = x.sin() + x.cos() + x.exp() + x.tanh() + x * 2.0
    total.backward()
    assert "= sum of 5" in draw(total, engine="builtin").svg()


def test_a_shared_value_branches():
    scene = make_scene(draw(shared_circuit()).graph)
    assert {box.kind for box in scene.boxes} == {"leaf", "gate", "wire", "branch"}
