"""`minigrad draw`: formulas are read, computed and drawn, and can do nothing else."""

import math
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad
from minigrad_nn.cli import main
from minigrad_nn.cli.errors import InputError
from minigrad_nn.cli.expression import FUNCTIONS, compute

LEAVES = st.sampled_from(["x", "y", "2", "0.5", "3"])


def grow(inner):
    return (
        st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(" ".join)
        | inner.map("({})".format)
        | inner.map("-{}".format)
        | inner.map("sin({})".format)
        | st.tuples(inner, inner).map(lambda pair: "max({}, {})".format(*pair))
    )


@given(st.recursive(LEAVES, grow, max_leaves=12), st.floats(-3, 3), st.floats(-3, 3))
def test_formulas_have_the_values_that_python_gives_them(text, x, y):
    text = f"{text} + 0*x + 0*y"
    value = eval(text, {"__builtins__": {}}, {"x": x, "y": y, "sin": math.sin, "max": max})
    assert compute(text, {"x": x, "y": y}).data == pytest.approx(value, rel=1e-12, abs=1e-12)


def test_every_function_is_that_of_its_name():
    given = {
        name: compute(f"{name}({'x, y' if inputs == 2 else 'x'})",
                      {"x": 0.7, "y": 1.3} if inputs == 2 else {"x": 0.7}).data
        for name, (inputs, _) in FUNCTIONS.items()
    }  # fmt: skip
    for name in ("cos", "exp", "log", "sin", "sqrt", "tan", "tanh"):
        assert given[name] == pytest.approx(getattr(math, name)(0.7))
    assert given["abs"] == given["relu"] == 0.7
    assert given["sigmoid"] == pytest.approx(1 / (1 + math.exp(-0.7)))
    assert given["pow"] == pytest.approx(0.7**1.3)
    assert (given["max"], given["min"], given["square"]) == (1.3, 0.7, pytest.approx(0.49))


def test_steps_name_parts_and_names_reach_the_graph():
    root = compute("q = x + y; f = q * z", {"x": -2, "y": 5, "z": -4})
    assert (root.data, root.name) == (-12.0, "f")
    graph = minigrad.draw(root).graph
    assert {node.name for node in graph.nodes} == {"x", "y", "z", "q", "f"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no variable"),
        ("x +", "is no formula"),
        ("x\0", "is no formula"),
        ("(" * 1500 + "x" + ")" * 400, "is no formula"),
        ("1 + 2", "has no variable"),
        ("x + a", "a has no value: add a=NUMBER"),
        ("x ^ 2", r"a power is written \*\*"),
        ("sin", r"sin is a function: write sin\(...\)"),
        ("sin(x, x)", r"sin takes 1 argument\(s\), got 2"),
        ("sinus(x)", "sinus is no function here; there are abs, "),
        ("q = x; q = x; q", "q is given twice"),
        ("x = x; x", "x is given twice"),
        ("x; x", "steps are"),
        ("import os; x", "steps are"),
        ("q = x; x", "does not use q"),
        ("x" * 3000, "3000 characters"),
        (f"x + {'9' * 400}", "is too large"),
        ("x if x else x", "no part of a formula"),
        ("x.real", "no part of a formula"),
        ("x[0]", "no part of a formula"),
        ("(lambda: x)()", "no part of a formula"),
        ("__import__('os').mkdir('trap')", "no part of a formula"),
        ("exp(*x)", "no part of a formula"),
        ("exp(x=x)", "no part of a formula|no function"),
        ("'text' * x", "no part of a formula"),
        ("True * x", "no part of a formula"),
        ("x < 1", "no part of a formula"),
        ("[x for x in x]", "no part of a formula"),
    ],
)
def test_what_is_no_formula_is_told(text, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        compute(text, {"x": 1.0})
    assert not list(tmp_path.iterdir())


@given(st.text("xy()+-*/^.,=;:'\"[]{}_ 0123sin\n\\#@!lambdeforimpt", max_size=40))
def test_no_text_does_more_than_be_refused(text):
    try:
        result = compute(text, {"x": 1.0})
    except InputError:
        return
    assert isinstance(result, minigrad.Scalar)


# --- the command ---------------------------------------------------------------------------------


def test_a_formula_is_drawn(tmp_path, capsys):
    path = tmp_path / "circuit.svg"
    assert main(["draw", "(x + y) * z", "x=-2", "y=5", "z=-4", "-o", str(path)]) == 0
    assert capsys.readouterr().out.startswith(f"{path}: 5 nodes, 4 edges, placed by ")
    assert ElementTree.parse(path).getroot().tag.endswith("svg")
    assert "-12" in path.read_text(encoding="utf-8")


def test_without_a_file_the_graph_is_text(capsys):
    assert main(["draw", "x * y", "x=4", "y=-3"]) == 0
    x, y = minigrad.scalar(4.0, name="x"), minigrad.scalar(-3.0, name="y")
    product = x * y
    product.backward()
    assert capsys.readouterr().out == minigrad.draw(product).text()
    assert main(["draw", "x * y", "x=4", "y=-3", "--forward"]) == 0
    assert "grad 1" not in capsys.readouterr().out


def test_a_model_is_drawn_with_the_names_of_its_parts(tmp_path):
    path = tmp_path / "lenet5.dot"
    assert main(["draw", "lenet5", "-o", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    for name in ("c1.weight", "output.bias", "s2", "f6", "pictures", "loss"):
        assert name in text
    assert "not computed" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x", "x"], "'x' is no NAME=NUMBER"),
        (["x", "x=one"], "'x=one' is no NAME=NUMBER"),
        (["x", "x=nan"], "'x=nan' is no NAME=NUMBER"),
        (["x", "2=1"], "'2=1' is no NAME=NUMBER"),
        (["x", "x=1", "x=2"], "x is given twice"),
        (["x", "x=1", "y=2"], "does not use y"),
        (["x", "x=1", "-o", "picture.jpg"], "must end in .svg"),
        (["x", "x=1", "-o", "no/such/folder/x.svg"], "cannot write no/such/folder/x.svg"),
        (["lenet5", "x=1"], "lenet5 is a model: it takes no values"),
    ],
)
def test_wrong_arguments_end_with_code_2(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["draw", *words]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("minigrad draw: ") and said in told.err
    assert not list(tmp_path.iterdir())
