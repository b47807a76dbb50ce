"""The printed derivation, parsed and evaluated, is the gradient."""

import ast
import math
import operator
import re

import pytest
from hypothesis import given

import minigrad
from minigrad import study
from minigrad.ops import elementwise
from tests.study.programs import scalar_programs

BINARY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: elementwise.divide.scalar,
    ast.Pow: elementwise.power.scalar,
}


def evaluate(text, values=None):
    """A small reader of printed formulas: arithmetic, names, and minigrad's functions."""
    values = {"inf": math.inf, "nan": math.nan, **(values or {})}
    # ∂f/∂q is one symbol; a name cannot hold its signs.
    text = re.sub(r"∂(\w+)/∂(\w+)", r"d_\1_by_\2", text)

    def read(node):
        match node:
            case ast.Expression(body):
                return read(body)
            case ast.Constant(value):
                return float(value)
            case ast.Name(name):
                return values[name]
            case ast.UnaryOp(ast.USub(), operand):
                return -read(operand)
            case ast.BinOp(left, op, right):
                return BINARY[type(op)](read(left), read(right))
            case ast.Call(ast.Name(name), args):
                return getattr(minigrad, name).scalar(*map(read, args))
        raise AssertionError(f"not a formula: {ast.dump(node)}")

    return read(ast.parse(text.strip(), mode="eval"))


def run_lines(text):
    """Compute the text of a derivation line by line, as its reader would; the last gradient."""
    values = {}
    section = name = None
    last = None
    for line in text.splitlines():
        if not line.startswith(" "):
            section = line
            continue
        left, _, rest = line.partition(" = ") if not line.strip().startswith("=") else ("", "", "")
        expressions = rest.split(" = ") if left.strip() else [line.strip().removeprefix("= ")]
        if left.strip():
            name = re.sub(r"∂(\w+)/∂(\w+)", r"d_\1_by_\2", left.strip())
        for expression in expressions:
            found = evaluate(expression, values)
            if name in values:
                assert found == values[name] or found != found, (line, found, values[name])
            values[name] = found
        if section == "backward" or section == "in one expression":
            last = values[name]
    return last


def same(a, b):
    return a == b or (a != a and b != b)


@given(scalar_programs())
def test_what_is_printed_evaluates_to_the_gradient(program):
    leaves = program.make_leaves()
    loss = program.run(leaves)[-1]
    found = {}
    for x in leaves:
        try:
            found[x] = study.explain(x, loss)
        except ValueError as error:
            assert "does not depend" in str(error)
    loss.backward()
    for x, derivation in found.items():
        assert same(derivation.value, x.grad)
        if derivation.numbers is not None:
            assert same(evaluate(derivation.numbers.text), x.grad)
            names = {symbol.text: value for symbol, value in derivation.given}
            names |= {step.symbol.text: step.value for step in derivation.forward}
            assert same(evaluate(derivation.symbols.text, names), x.grad)
        for step in derivation.backward:
            assert same(evaluate(step.numbers.text), step.value)
        values = {symbol.text: value for symbol, value in derivation.given}
        for step in derivation.forward:
            assert same(evaluate(step.numbers.text), step.value)
            assert same(evaluate(step.formula.text, values), step.value)
            values[step.symbol.text] = step.value


EVERY_OP = [
    (op, arity)
    for op in vars(elementwise).values()
    if isinstance(op, minigrad.Op) and op.scalar is not None and op.differentiable[0]
    for arity in [len(op.inputs)]
    if op is not elementwise.where
]


@pytest.mark.parametrize("op, arity", EVERY_OP, ids=lambda value: getattr(value, "name", ""))
@pytest.mark.parametrize("values", [(0.3, 0.7), (0.9, 0.2)])
def test_every_scalar_op_is_explained(op, arity, values):
    x, y = (minigrad.scalar(v, name=n) for v, n in zip(values, "xy", strict=True))
    f = op(*(x, y)[:arity]) * 3.0
    for w in (x, y)[:arity]:
        derivation = study.explain(w, f)
        w.zero_grad()
        f.backward()
        assert evaluate(derivation.numbers.text) == w.grad
        names = {symbol.text: value for symbol, value in derivation.given}
        names |= {step.symbol.text: step.value for step in derivation.forward}
        assert evaluate(derivation.symbols.text, names) == w.grad
        assert run_lines(derivation.text()) == w.grad
        assert evaluate(latex_as_text(last_number_row(derivation.latex()))) == w.grad


def last_number_row(latex):
    """Of the row of the wanted gradient, the part with numbers."""
    row = latex.splitlines()[-2]
    return row.split(" &= ")[1].split(" = ")[-2 if row.count(" = ") > 1 else -1]


def latex_as_text(latex):
    """The arithmetic of LaTeX in Python's signs."""
    functions = {r"\sigma": "sigmoid", r"\ln": "log", r"\max": "maximum", r"\min": "minimum"}
    for sign, name in functions.items():
        latex = latex.replace(sign, name)
    latex = latex.replace(r"\cdot", "*").replace(r"\left(", "(").replace(r"\right)", ")")
    latex = re.sub(r"\\left\|(.*?)\\right\|", r"abs(\1)", latex)
    latex = re.sub(r"\\operatorname{(.*?)}", lambda m: m[1].replace(r"\_", "_"), latex)
    while r"\frac{" in latex or r"\sqrt{" in latex or "^{" in latex:
        start = max(latex.rfind(r"\frac{"), latex.rfind(r"\sqrt{"), latex.rfind("^{"))
        head = next(h for h in (r"\frac", r"\sqrt", "^") if latex.startswith(h, start))
        first, end = braced(latex, start + len(head))
        if head == r"\frac":
            second, end = braced(latex, end)
            middle = f"(({first})/({second}))"
        else:
            middle = f"sqrt({first})" if head == r"\sqrt" else f"**({first})"
        latex = latex[:start] + middle + latex[end:]
    return re.sub(r"\\([a-z]+)", r"\1", latex)


def braced(text, start):
    assert text[start] == "{"
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start + 1 : i], i + 1
    raise AssertionError("brackets do not close")


def test_the_readers_of_this_test_can_tell_wrong_from_right():
    assert evaluate("(x + (-2.0)) * y", {"x": 5.0, "y": 2.0}) == 6.0
    assert latex_as_text(r"\frac{1.0}{x^{2}} \cdot \sigma\left(y\right)") == (
        "((1.0)/(x**(2))) * sigmoid(y)"
    )
    with pytest.raises(AssertionError):
        run_lines("forward\n  q = 1.0 + 1.0 = 3.0")
    assert run_lines("forward\n  q = 1.0 + 1.0 = 2.0\nbackward\n  ∂q/∂x = q * q\n   = 4.0") == 4.0


def test_an_op_of_ones_own_is_explained_by_its_rule():
    cube = minigrad.op(
        "cube", lambda x: x**3, lambda g, x: g * 3 * x**2, scalar=lambda x: x * x * x
    )
    x = minigrad.scalar(2.0, name="x")
    f = cube(x)
    f.name = "f"
    derivation = study.explain(x, f)
    assert derivation.backward[-1].formula.text == "∂f/∂f * 3.0 * x**2.0"
    assert derivation.value == 12.0


def test_a_closed_gate_contributes_zero():
    x = minigrad.scalar(0.0, name="x")
    f = minigrad.relu(x.sqrt() - 1.0)
    derivation = study.explain(x, f)
    assert derivation.value == 0.0
    assert derivation.backward[-1].formula.text == "0.0"


def test_a_long_derivation_leaves_the_single_expression_out():
    x = minigrad.scalar(0.5, name="x")
    h = x
    for _ in range(30):
        h = h * h + h
    derivation = study.explain(x, h)
    assert derivation.numbers is None and "one expression" not in str(derivation)
    h.backward()
    assert derivation.value == x.grad
    assert run_lines(derivation.text()) == x.grad


def test_long_chains_do_not_recurse():
    x = minigrad.scalar(0.5, name="x")
    h = x
    for _ in range(5000):
        h = h * 0.999
    derivation = study.explain(x, h)
    h.backward()
    assert derivation.value == x.grad and len(derivation.backward) == 5001


@pytest.mark.parametrize("w, loss", [(minigrad.tensor([1.0]), None), (None, 3.0)])
def test_what_is_no_scalar_is_refused(w, loss):
    x = minigrad.scalar(1.0)
    with pytest.raises(TypeError, match="explain"):
        study.explain(w or x, loss or x * 2.0)
    with pytest.raises(ValueError, match="does not depend"):
        study.explain(x, minigrad.scalar(2.0) * 2.0)


def test_inner_values_and_names_that_repeat():
    x = minigrad.scalar(2.0, name="x")
    a = minigrad.scalar(5.0, name="x")
    q = x * a
    f = q * q
    f.name = "loss"
    derivation = study.explain(q, f)
    assert derivation.value == 20.0
    assert len({step.symbol.text for step in derivation.forward}) == len(derivation.forward)
    assert r"\partial \mathit{loss}" in derivation.latex()
    assert derivation._repr_latex_().startswith("$")


@pytest.fixture
def nothing_recorded():
    """As in a process in which no recorded backward pass has run."""
    from minigrad.study import record

    record._walked.__dict__.clear()


def test_a_recorded_backward_pass_is_the_one_explained(nothing_recorded):
    x = minigrad.scalar(3.0, name="x")

    def train():
        loss = x * x
        loss.backward()
        return [loss]  # no variable of whoever asks

    (plain,) = train()
    del plain
    with pytest.raises(ValueError, match=r"study\.recording\(\)"):
        study.explain(x)
    x.zero_grad()
    with study.recording():
        kept = train()
    assert study.explain(x).text() == study.explain(x, kept[0]).text()
    x.zero_grad()  # it is remembered all the same
    assert study.explain(x).value == 6.0


@given(scalar_programs())
def test_without_a_loss_it_explains_what_stands_in_grad(program):
    leaves = program.make_leaves()
    *_, loss = program.run(leaves)
    not_walked = loss * 2.0
    loss.backward()
    for w in leaves:
        if w.grad is not None:
            assert same(study.explain(w).value, w.grad)
            assert study.explain(w).text() == study.explain(w, loss).text()
    assert not_walked.grad is None


def test_without_a_loss_the_pass_is_found_among_the_variables(nothing_recorded):
    x, y = minigrad.scalar(2.0, name="x"), minigrad.scalar(3.0, name="y")
    product = x * y
    loss = product + 1.0  # product.grad is 1 as well, but the pass began at the loss
    loss.backward()
    loss.name = "loss"
    derivation = study.explain(x)
    assert derivation.name.text == "∂loss/∂x" and derivation.value == x.grad == 3.0
    assert study.explain(product).value == 1.0


def test_without_a_loss_a_function_sees_the_variables_around_it(nothing_recorded):
    global loss_of_this_module
    x = minigrad.scalar(2.0, name="x")
    loss_of_this_module = x * x * x
    loss_of_this_module.backward()

    def asks(w):
        return study.explain(w)

    assert asks(x).value == 12.0
    del loss_of_this_module


def test_without_a_loss_nothing_is_guessed(nothing_recorded):
    x = minigrad.scalar(2.0, name="x")
    first = x * 3.0
    second = x * 3.0
    with pytest.raises(
        ValueError, match=r"x\.grad is None: no backward pass .* explain\(w, loss\)"
    ):
        study.explain(x)
    first.backward()
    assert study.explain(x).value == 3.0
    second.backward()
    with pytest.raises(ValueError, match=r"x\.grad is 6\.0, and no variable here .* added up"):
        study.explain(x)
    x.zero_grad()
    second.backward()
    with pytest.raises(ValueError, match=r"x\.grad may come from first and second\. Name the loss"):
        study.explain(x)
    assert study.explain(x, second).value == 3.0
    del first
    x.data = 5.0
    with pytest.raises(ValueError, match=r"Of second it holds that .* was changed after multiply"):
        study.explain(x)


def test_a_wrong_loss_is_told():
    x, other = minigrad.scalar(3.0, name="x"), minigrad.scalar(2.0)
    loss = x * x
    loss.backward()
    with pytest.raises(ValueError, match="does not depend on"):
        study.explain(other, loss)
    with pytest.raises(ValueError, match=r"w\.grad is None"):
        study.explain(other)


def test_tensors_are_refused_without_a_loss_too():
    w = minigrad.tensor([1.0], requires_grad=True)
    loss = (w * w).sum()
    with study.recording():
        loss.backward()
    with pytest.raises(TypeError, match="w is a Tensor; formulas are printed for scalar"):
        study.explain(w)
    x = minigrad.scalar(1.0)
    y = x * 2.0
    y.backward()
    assert study.explain(x).value == 2.0  # a recorded pass over tensors is not in the way
