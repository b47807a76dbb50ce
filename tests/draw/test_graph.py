"""The graph as data: its numbers are the engine's, and what is not known says so."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.draw import Graph, GraphEdge, GraphNode, GraphTooLarge, draw
from minigrad.draw import extract as extract_module
from minigrad.draw.extract import statistic
from minigrad.draw.graph import COMPUTED, NOT_COMPUTED, NOT_KEPT, NOT_NEEDED
from tests.draw.helpers import CIRCUITS, lecture_circuit, shared_circuit, small_network


def test_lecture_circuit_comes_out_with_its_numbers():
    f = lecture_circuit()
    f.backward()
    graph = draw(f).graph
    assert [(n.name, n.kind, n.op, n.value, n.gradient) for n in graph.nodes] == [
        ("x", "leaf", None, -2.0, -4.0),
        ("y", "leaf", None, 5.0, -4.0),
        ("z", "leaf", None, -4.0, 3.0),
        ("q", "gate", "add", 3.0, -4.0),
        ("f", "gate", "multiply", -12.0, 1.0),
    ]
    flows = {
        (graph.nodes[e.source].name, graph.nodes[e.target].name): (
            e.gate_gradient,
            e.local_gradient,
            e.contribution,
        )
        for e in graph.edges
    }
    assert flows == {
        ("q", "f"): (1.0, -4.0, -4.0),
        ("z", "f"): (1.0, 3.0, 3.0),
        ("x", "q"): (-4.0, 1.0, -4.0),
        ("y", "q"): (-4.0, 1.0, -4.0),
    }
    assert graph.roots == (4,) and graph.scalar


@st.composite
def programs(draw_):
    """Random straight-line programs over a few scalars."""
    values = [
        mg.scalar(draw_(st.floats(-2, 2)), name=f"x{i}") for i in range(draw_(st.integers(1, 3)))
    ]
    for _ in range(draw_(st.integers(1, 12))):
        a, b = (values[draw_(st.integers(0, len(values) - 1))] for _ in range(2))
        values.append(
            draw_(
                st.sampled_from(
                    [
                        lambda a, b: a + b,
                        lambda a, b: a * b,
                        lambda a, b: a - 2.0 * b,
                        lambda a, b: (a * 0.1).tanh(),
                        lambda a, b: a.max(b),
                        lambda a, b: 0.5 - a.sin(),
                    ]
                )
            )(a, b)
        )
    return values[-1]


@given(programs())
def test_contributions_into_a_node_are_its_gradient(f):
    if f.op is None:
        f = f * 1.0
    f.backward()
    graph = draw(f).graph
    for node in graph.nodes:
        uses = graph.consumers(node.id)
        if not uses:
            assert node.is_root and node.gradient == 1.0
            continue
        assert graph.explains(node.id)
        total = None
        for edge in uses:
            product = edge.gate_gradient * edge.local_gradient
            assert edge.contribution == pytest.approx(product, rel=1e-12, abs=1e-300)
            assert edge.gate_gradient == graph.nodes[edge.target].gradient
            total = edge.contribution if total is None else total + edge.contribution
        assert total == node.gradient


def test_values_are_those_of_the_engine_and_constants_are_folded_into_gates():
    x = mg.scalar(3.0, name="x")
    f = 1.0 / (2.0 * x - 4.0)
    graph = draw(f).graph
    assert [n.symbol for n in graph.nodes] == ["", "× 2", "\N{MINUS SIGN} 4", "1/x"]
    assert [n.value for n in graph.nodes] == [3.0, 6.0, 2.0, 0.5]
    assert [n.constants for n in graph.nodes] == [(), ((0, 2.0),), ((1, 4.0),), ((0, 1.0),)]
    assert len(graph.edges) == 3


def test_a_named_constant_is_a_leaf_that_needs_no_gradient():
    f = mg.scalar(3.0, name="x") * mg.scalar(7.0, name="c", requires_grad=False)
    f.backward()
    graph = draw(f).graph
    c = graph.named("c")
    assert (c.kind, c.value, c.gradient, c.gradient_state) == ("leaf", 7.0, None, NOT_NEEDED)
    (edge,) = graph.consumers(c.id)
    assert not edge.differentiable and edge.local_gradient is None


def test_not_computed_is_not_zero():
    before = draw(lecture_circuit()).graph
    assert all(n.gradient is None and n.gradient_state == NOT_COMPUTED for n in before.nodes)
    assert [e.local_gradient for e in before.edges] == [-4.0, 3.0, 1.0, 1.0]
    assert all(e.gate_gradient is None and e.contribution is None for e in before.edges)

    x, y = mg.scalar(3.0, name="x"), mg.scalar(0.0, name="y")
    f = x * y
    f.backward()
    x_node = draw(f).graph.named("x")
    assert (x_node.gradient, x_node.gradient_state) == (0.0, COMPUTED)


def test_a_leaf_changed_after_its_use_is_told_and_no_slope_is_made_up():
    f = lecture_circuit()
    f.backward()
    x = f.inputs[0].inputs[0]
    x.data = 100.0
    graph = draw(f).graph
    assert graph.named("x").changed and not graph.named("y").changed
    into_q = graph.inputs(graph.named("q").id)
    assert [e.local_gradient for e in into_q] == [None, None]
    assert "changed since its use" in draw(f).svg()


def test_accumulated_gradients_are_not_passed_off_as_a_sum_of_contributions():
    f = lecture_circuit()
    f.backward()
    f.backward()
    graph = draw(f).graph
    x = graph.named("x")
    assert x.gradient == -8.0 and not graph.explains(x.id)
    assert graph.explains(graph.named("q").id)
    assert "with other uses or passes" in draw(f).svg()


def test_the_same_graph_has_the_same_data_whatever_was_computed_before():
    first = draw(shared_circuit())
    junk = [mg.scalar(float(i)) * 2.0 for i in range(100)]
    second = draw(shared_circuit())
    assert first.graph == second.graph and junk
    assert first.dot == second.dot and first.svg() == second.svg()
    assert first.html() == second.html() and first.text() == second.text()


def test_the_same_graph_gives_the_same_text_in_another_process():
    code = (
        "from tests.draw.helpers import shared_circuit\n"
        "from minigrad.draw import draw\n"
        "f = shared_circuit(); f.backward()\n"
        "d = draw(f, around='q', radius=1, engine='builtin'); print(d.dot, d.svg(), d.html())"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


@pytest.mark.parametrize("circuit", CIRCUITS)
def test_drawing_changes_nothing(circuit):
    f = circuit()
    draw(f).svg()
    f.backward()
    once = [n.gradient for n in draw(f).graph.nodes]
    draw(f).html()
    assert [n.gradient for n in draw(f).graph.nodes] == once


# --- tensors -------------------------------------------------------------------------------------


def test_tensors_have_shape_dtype_statistic_and_the_norm_of_the_gradient():
    loss, w, b = small_network()
    before = draw(loss).graph
    assert not before.scalar
    assert {n.gradient_state for n in before.nodes} == {NOT_COMPUTED, NOT_NEEDED}
    loss.backward()
    graph = draw(loss).graph
    node = graph.named("w")
    assert (node.shape, node.dtype, node.gradient_state) == ((3, 2), "float32", COMPUTED)
    assert node.gradient_norm == pytest.approx(np.linalg.norm(w.grad.numpy()))
    assert node.statistic == statistic(w.numpy())
    assert graph.named("b").gradient_norm == pytest.approx(np.linalg.norm(b.grad.numpy()))
    assert graph.named("x").gradient_state == NOT_NEEDED
    assert graph.named("loss").statistic == f"{loss.item():.3g}"
    inner = [n for n in graph.nodes if n.kind == "gate"]
    assert {n.gradient_state for n in inner} == {NOT_KEPT}
    assert [n.op for n in inner] == ["matmul", "add", "relu", "mean"]


def test_a_retained_gradient_is_shown():
    w = mg.tensor([3.0, 4.0], requires_grad=True)
    inner = (w * 1.0).retain_grad()
    inner.name = "inner"
    loss = (inner * inner).sum()
    loss.backward()
    node = draw(loss).graph.named("inner")
    assert node.gradient_state == COMPUTED and node.gradient_norm == pytest.approx(10.0)


def test_parameters_indices_and_several_outputs_stand_in_the_gates():
    x = mg.tensor(np.arange(12.0).reshape(3, 4), requires_grad=True)
    y = x[1:, None].sum(axis=1, keepdims=True)
    graph = draw(y).graph
    assert graph.nodes[1].symbol == "[1:, None]"
    assert dict(graph.nodes[2].params) == {"axis": "1", "keepdims": "True"}

    def backward(saved, g, needs):
        return [mg.concatenate([g[0], g[1]])]

    halves = mg.Op(
        "halves",
        lambda x: (x[:2].copy(), x[2:].copy()),
        inputs=("x",),
        outputs=("top", "bottom"),
        backward=backward,
    )
    a, b = halves(mg.tensor(np.ones((4, 2)), requires_grad=True))
    drawing = draw((a * b).sum())
    assert [n.symbol for n in drawing.graph.nodes] == [
        "", "halves", "output 0", "output 1", "×", "Σ"
    ]  # fmt: skip
    assert drawing.graph.nodes[1].outputs == 2 and "2 outputs" in drawing.svg()


@dataclasses.dataclass(frozen=True)
class Filter:
    size: tuple = (28, 28)
    kernel: tuple = (1, 1)
    stride: tuple = (2, 2)
    padding: tuple = ((0, 0), (1, 2))
    dilation: tuple = (1, 1)
    groups: int = 1


def test_a_description_among_the_parameters_is_written_field_by_field():
    found = extract_module._params({"geometry": Filter(), "axis": None, "exact": False, "k": 3})
    assert found == (
        ("kernel", "(1, 1)"),
        ("stride", "(2, 2)"),
        ("padding", "(0, 0), (1, 2)"),
        ("k", "3"),
    )


@pytest.mark.parametrize(
    "array, words",
    [
        (np.zeros((0, 3)), "empty"),
        (np.array([np.nan, 1.0]), "1 of 2 not finite"),
        (np.full(5, 2.5), "all 2.5"),
        (np.array([True, False, True]), "2 of 3 true"),
        (np.array([-3, 9]), "-3 … 9"),
    ],
)
def test_statistics_of_odd_arrays(array, words):
    assert statistic(array) == words


# --- parts of a graph, and refusals --------------------------------------------------------------


def test_depth_leaves_out_what_is_farther_and_says_so():
    graph = draw(lecture_circuit(), depth=1).graph
    assert [n.name for n in graph.nodes] == ["z", "q", "f"]
    assert graph.named("q").hidden_inputs == 2 and graph.named("f").hidden_inputs == 0
    assert "… 2 more" in draw(lecture_circuit(), depth=1).svg()
    assert "… 2 more" in draw(lecture_circuit(), depth=1).text()


def test_a_region_holds_both_directions():
    f = shared_circuit()
    graph = draw(f, around="q", radius=1).graph
    q = graph.named("q")
    assert {n.op for n in graph.nodes} == {None, "multiply"} and len(graph.nodes) == 5
    assert [graph.nodes[e.target].op for e in graph.consumers(q.id)] == ["multiply"] * 3
    by_node = draw(f, around=f.inputs[0].inputs[0].inputs[0].inputs[0], radius=1).graph
    assert by_node == graph
    hidden = draw(f, around="x", radius=0).graph
    assert hidden.nodes[0].hidden_consumers == 2 and len(hidden.nodes) == 1


def test_a_large_graph_is_refused_with_its_size_and_advice():
    y = mg.scalar(1.0, name="x")
    for _ in range(300):
        y = y.sin()
    with pytest.raises(GraphTooLarge, match=r"301 nodes.*max_nodes is 200.*depth=4.*around="):
        draw(y)
    assert isinstance(GraphTooLarge("x"), ValueError)
    assert len(draw(y, max_nodes=301).graph.nodes) == 301
    assert len(draw(y, depth=3).graph.nodes) == 4
    assert len(draw(y, around="x", radius=2).graph.nodes) == 3


def test_a_chain_of_a_million_gates_is_refused_not_walked(monkeypatch):
    looked_at = 0
    real = extract_module._sources

    def counted(node):
        nonlocal looked_at
        looked_at += 1
        return real(node)

    monkeypatch.setattr(extract_module, "_sources", counted)
    y = mg.scalar(0.5)
    for _ in range(1_000_000):
        y = y.sin()
    with pytest.raises(GraphTooLarge, match="at least 100,0"):
        draw(y)
    assert looked_at < 110_000
    looked_at = 0
    assert len(draw(y, depth=10).graph.nodes) == 11
    assert looked_at < 100


def test_a_fan_out_of_many_is_refused():
    x = mg.scalar(1.0)
    with pytest.raises(GraphTooLarge):
        draw([x * float(i) for i in range(1, 1001)])


def test_a_region_that_is_too_large_is_refused():
    x = mg.scalar(1.0, name="x")
    total = x
    for _ in range(500):
        total = total + x.sin()
    with pytest.raises(GraphTooLarge, match="at least"):
        draw(total, around="x", radius=1)


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"max_nodes": 0}, ValueError, "max_nodes"),
        ({"depth": -1}, ValueError, "depth"),
        ({"depth": 2, "around": "q"}, ValueError, "not both"),
        ({"around": "nobody"}, ValueError, "no nodes below the root are named 'nobody'"),
        ({"around": 3.0}, TypeError, "float stands on no graph"),
        ({"direction": "up"}, ValueError, "'LR'"),
        ({"digits": 0}, ValueError, "digits"),
        ({"engine": "paint"}, ValueError, "engine 'paint' is unknown"),
    ],
)
def test_wrong_options_are_told(options, error, words):
    with pytest.raises(error, match=words):
        draw(lecture_circuit(), **options)


def test_what_is_on_no_graph_is_told():
    with pytest.raises(TypeError, match="ndarray stands on no graph"):
        draw(np.ones(3))
    with pytest.raises(ValueError, match="nothing to draw"):
        draw()
    with pytest.raises(ValueError, match="not part of the graph"):
        draw(lecture_circuit(), around=lecture_circuit())


def test_several_roots_share_what_they_share():
    x = mg.scalar(2.0, name="x")
    f, g = x * 3.0, x.exp()
    graph = draw(f, g).graph
    assert graph == draw([f, g]).graph and len(graph.nodes) == 3 and graph.roots == (1, 2)
    assert draw(f, f).graph == draw(f).graph
    assert len(draw(f, f.inputs[0]).graph.nodes) == 2


def test_a_single_leaf_can_be_drawn():
    drawing = draw(mg.scalar(2.0, name="x"))
    assert len(drawing.graph.nodes) == 1 and "not computed" in drawing.svg()


def test_the_data_checks_itself():
    node = GraphNode(0, "leaf", value=1.0)
    with pytest.raises(ValueError, match="order of ids"):
        Graph((dataclasses.replace(node, id=1),), ())
    with pytest.raises(ValueError, match="not in the graph"):
        Graph((node,), (GraphEdge(0, 1, 0),))
    with pytest.raises(KeyError, match="0 nodes are named 'y'"):
        Graph((node,), ()).named("y")
    with pytest.raises(dataclasses.FrozenInstanceError):
        node.value = 2.0
