"""Derives one gradient in words of the chain rule: first with symbols, then with numbers.

The formulas are not kept in a table.  Each rule of an op is written in ops, so it is run on
symbols, and what it computes is printed: ops of the user's own are explained as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from minigrad.core import GraphError, Node, enable_grad, leading_to, walk
from minigrad.observing import stand
from minigrad.scalar import Constant, Scalar
from minigrad.study.contributions import FlowRecorder
from minigrad.study.formula import Formula, apply, formula, number, slope, symbol, total
from minigrad.study.nodes import graph_of, node_of, symbols
from minigrad.study.record import last_root

__all__ = ["Derivation", "DerivationStep", "explain"]

LONGEST = 4000
"""Characters; a single expression that would be longer is left out."""


@dataclass(frozen=True, slots=True)
class DerivationStep:
    """One line of a derivation: a variable, its formula, and the formula with numbers in it.

    Attributes:
        node: of the graph.
        symbol: what is computed: the node's value, or the loss's derivative by it.
        formula: in the symbols of the lines before.
        numbers: the same with the values of those symbols.
        value: what it comes to.
    """

    node: Node
    symbol: Formula
    formula: Formula
    numbers: Formula
    value: float


@dataclass(frozen=True)
class Derivation:
    """How one gradient comes about.

    Attributes:
        name: of the gradient, such as `∂f/∂w`.
        given: symbol and value of what the derivation starts from.
        forward: a step for each gate on the way from the value to the loss, oldest first.
        backward: a step for each derivative, from the loss to the value.
        symbols: the gradient as one expression in the variables of the graph; None where it
            would be longer than 4,000 characters.
        numbers: that expression with numbers; evaluated in Python with minigrad's functions it
            is the gradient, to the last bit.
        value: the gradient.
    """

    name: Formula
    given: tuple[tuple[Formula, float], ...]
    forward: tuple[DerivationStep, ...]
    backward: tuple[DerivationStep, ...]
    symbols: Formula | None
    numbers: Formula | None
    value: float

    def text(self) -> str:
        """The derivation for a terminal."""
        lines = ["given"]
        lines += [f"  {name.text} = {value!r}" for name, value in self.given]
        lines.append("forward")
        for step in self.forward:
            lines.append(
                f"  {step.symbol.text} = {step.formula.text} = {step.numbers.text} = {step.value!r}"
            )
        lines.append("backward")
        for step in self.backward:
            lines.append(f"  {step.symbol.text} = {step.formula.text}")
            indent = " " * (len(step.symbol.text) + 3)
            if step.numbers.text != step.formula.text:
                lines.append(f"{indent}= {step.numbers.text}")
            if repr(step.value) != step.numbers.text:
                lines.append(f"{indent}= {step.value!r}")
        if self.symbols is not None and self.numbers is not None:
            lines.append("in one expression")
            lines.append(f"  {self.name.text} = {self.symbols.text}")
            indent = " " * (len(self.name.text) + 3)
            lines.append(f"{indent}= {self.numbers.text}")
            lines.append(f"{indent}= {self.value!r}")
        return "\n".join(lines)

    def latex(self) -> str:
        """The derivation as LaTeX, an `align*` environment."""
        rows = [f"{name.latex} &= {number(value).latex}" for name, value in self.given]
        for step in (*self.forward, *self.backward):
            parts = [step.formula.latex]
            for part in (step.numbers.latex, number(step.value).latex):
                if part != parts[-1]:
                    parts.append(part)
            rows.append(f"{step.symbol.latex} &= " + " = ".join(parts))
        body = " \\\\\n".join(rows)
        return f"\\begin{{align*}}\n{body}\n\\end{{align*}}"

    def __str__(self) -> str:
        return self.text()

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex().replace('align*', 'aligned')}$"


def explain(w: Any, loss: Any = None, gradient: float = 1.0) -> Derivation:
    """The derivation of the gradient of `loss` by `w`, on a scalar graph.

    A value does not know what was computed from it.  Without a loss, `explain(w)` derives what
    stands in `w.grad`: it looks among the variables of the code that calls it for the value whose
    backward pass brought just that gradient, and where the pass ran inside `recording()`, which
    remembers the last one, it need not be a variable.  It does not guess: if nothing gives
    `w.grad`, or several do, it says so, and the loss has to be named.  No `.grad` changes.
    Where a gate gradient is exactly 0, the gate is closed and its contribution is 0, however
    steep its slope.

    Args:
        w: a Scalar, leaf or not.
        loss: what is differentiated.
        gradient: what the loss starts with.

    Raises:
        TypeError: an argument is not a Scalar on a graph (of a tensor, take one element's graph).
        ValueError: `loss` does not depend on `w`, or no loss is given and it is not clear which.

    >>> import minigrad
    >>> x, y = minigrad.scalar(-2.0, name="x"), minigrad.scalar(5.0, name="y")
    >>> z, q = minigrad.scalar(-4.0, name="z"), x + y
    >>> q.name = "q"
    >>> f = q * z
    >>> f.name = "f"
    >>> print(explain(x, f))
    given
      x = -2.0
      y = 5.0
      z = -4.0
    forward
      q = x + y = -2.0 + 5.0 = 3.0
      f = q * z = 3.0 * (-4.0) = -12.0
    backward
      ∂f/∂f = 1.0
      ∂f/∂q = ∂f/∂f * z
            = -4.0
      ∂f/∂x = ∂f/∂q
            = -4.0
    in one expression
      ∂f/∂x = z
            = -4.0
            = -4.0
    >>> f.backward()
    >>> explain(x).value == explain(x, f).value == x.grad
    True
    """
    _expect_scalar("w", w)
    if loss is None:
        frame = sys._getframe(1)
        loss = _root_of(w, gradient, {**frame.f_globals, **frame.f_locals})
    _expect_scalar("loss", loss)
    order = graph_of(loss, "explain")
    target = node_of(w, "explain")
    useful = leading_to(order, {target})
    if loss not in useful:
        raise ValueError(f"explain: {loss!r} does not depend on {w!r}")
    order = [n for n in order if n in useful and n is not target and n.seq > target.seq]
    with stand(FlowRecorder()) as recorder:
        (value,) = walk([(loss, float(gradient))], wanted=[target])
    return _Writer([*order, target], loss, target, float(gradient), recorder, value).derivation()


def _expect_scalar(name: str, value: Any) -> None:
    if not isinstance(value, Scalar):
        raise TypeError(
            f"explain: {name} is a {type(value).__name__}; formulas are printed for scalar "
            "graphs, so give Scalars"
        )


def _root_of(w: Scalar, gradient: float, variables: Mapping[str, Any]) -> Scalar:
    """Where the backward pass began that brought what stands in `w.grad`.

    Raises:
        ValueError: no such value is to be found, or several.
    """
    named: dict[Scalar, str] = {}
    for name, value in variables.items():
        if isinstance(value, Scalar) and value.op is not None and value.requires_grad:
            named.setdefault(value, name)
    last = last_root()
    remembered = last if isinstance(last, Scalar) else None  # else a pass over tensors
    known = ([] if remembered is None else [remembered]) + list(named)
    graphs: dict[Scalar, set[Node]] = {}
    stale = ""
    for root in known:
        try:
            graphs[root] = set(graph_of(root, "explain"))
        except GraphError as error:  # a leaf was set since
            stale = f". Of {named.get(root, 'the recorded one')} it holds that {error}"
    found = [r for r in graphs if w in graphs[r] and _brought(r, w, gradient)]
    if remembered is not None and any(r is remembered for r in found):
        return remembered
    # A value below the loss can have the gradient 1 too; then its pass was the loss's.
    found = [r for r in found if not any(r in graphs[top] for top in found if top is not r)]
    if len(found) == 1:
        return found[0]
    if not found and remembered is not None and w in graphs.get(remembered, ()):
        return remembered  # w.grad has been reset since, or has added up several passes
    label = "w" if w.name is None else w.name
    if w.grad is None:
        problem = f"{label}.grad is None: no backward pass has reached it"
    elif found:
        names = " and ".join(named[root] for root in found)
        problem = f"{label}.grad may come from {names}"
    else:
        problem = (
            f"{label}.grad is {w.grad!r}, and no variable here has a backward pass that gives just "
            "that (it may have added up several passes, or its loss is held elsewhere)"
        )
    raise ValueError(
        f"explain: {problem}. Name the loss, explain(w, loss), or run its backward() inside "
        f"study.recording(), which remembers it{stale}"
    )


def _brought(root: Scalar, w: Scalar, gradient: float) -> bool:
    """Whether a backward pass has begun at `root`, and one from there gives `w.grad`."""
    if w.grad is None or root.grad is None or float(root.grad) != gradient:
        return False
    (found,) = walk([(root, float(gradient))], wanted=[w])
    shown = float(w.grad)
    return found == shown or (found != found and shown != shown)


class _Writer:
    def __init__(
        self,
        order: list[Any],
        loss: Scalar,
        target: Node,
        seed: float,
        recorder: FlowRecorder,
        value: float,
    ) -> None:
        self.order = order
        self.loss = loss
        self.target = target
        self.seed = seed
        self.gradients = {**recorder.gradients, target: value}
        self.gradients.setdefault(loss, seed)
        shown = {source for node in order for source in node.inputs} | set(order)
        named = [n for n in shown if n.requires_grad or n.name is not None]
        names = symbols(sorted(named, key=lambda node: node.seq))
        by_age = sorted(names, key=lambda node: node.seq)
        self.symbols: dict[Any, Formula] = {node: symbol(names[node]) for node in by_age}
        top = self.symbols[loss]
        self.slopes = {node: slope(top, self.symbols[node]) for node in order}

    def derivation(self) -> Derivation:
        gates = {node: True for node in self.order if node is not self.target}
        forward = tuple(
            DerivationStep(
                node,
                self.symbols[node],
                self._forward(node, self.symbols.get),
                self._forward(node, self._value),
                node._data,
            )
            for node in reversed(gates)
        )
        backward, closed = self._backward()
        one = closed.get(self.target)
        return Derivation(
            self.slopes[self.target],
            tuple((s, node._data) for node, s in self.symbols.items() if node not in gates),
            forward,
            backward,
            None if one is None else one[0],
            None if one is None else one[1],
            self.gradients[self.target],
        )

    def _forward(self, node: Any, known: Callable[[Any], Formula | None]) -> Formula:
        parts = [known(source) or number(source._data) for source in node.inputs]
        return apply(node.op.name, parts)

    def _value(self, node: Any) -> Formula:
        return number(node._data)

    def _backward(self) -> tuple[tuple[DerivationStep, ...], dict]:
        """The steps, and for each node its gradient as one expression, in symbols and numbers."""
        steps = []
        terms: dict[Any, list[tuple[Formula, Formula]]] = {node: [] for node in self.order}
        whole: dict[Any, list[tuple[Formula, Formula] | None]] = {n: [] for n in self.order}
        start = number(self.seed)
        terms[self.loss].append((start, start))
        whole[self.loss].append((start, start))
        closed: dict[Any, tuple[Formula, Formula] | None] = {}
        for node in self.order:
            lines = terms[node]
            if not lines:  # nothing arrived: no gate that uses it had a gradient to pass on
                continue
            g = self.gradients[node]
            steps.append(
                DerivationStep(
                    node,
                    self.slopes[node],
                    total([line[0] for line in lines]),
                    total([line[1] for line in lines]),
                    g,
                )
            )
            parts = [part for part in whole[node] if part is not None]
            one = None
            if len(parts) == len(whole[node]):
                one = total([part[0] for part in parts]), total([part[1] for part in parts])
                one = None if len(one[0].text) + len(one[1].text) > 2 * LONGEST else one
            closed[node] = one
            if node is self.target:
                continue
            for position, source in enumerate(node.inputs):
                if source not in terms or not source.requires_grad:
                    continue
                contribution = self._contribution(node, position)
                terms[source].append(contribution(self.slopes[node], number(g)))
                whole[source].append(None if one is None else contribution(*one))
        return tuple(steps), closed

    def _contribution(self, node: Any, position: int) -> Callable:
        """The rule of one edge as a function of the gate gradient's two formulas."""
        g = self.gradients[node]
        if g == 0.0:
            zero = number(0.0)
            return lambda in_symbols, in_numbers: (zero, zero)
        with enable_grad():
            gate = Scalar(g)
            flow = node.pull(gate, node.needs, True)[position]
        flow = flow if isinstance(flow, Scalar) else Constant(flow)

        def written(in_symbols: Formula, in_numbers: Formula) -> tuple[Formula, Formula]:
            def with_symbols(part: Any) -> Formula | None:
                return in_symbols if part is gate else self.symbols.get(part)

            def with_numbers(part: Any) -> Formula | None:
                if part is gate:
                    return in_numbers
                return number(part._data) if part in self.symbols else None

            return formula(flow, with_symbols), formula(flow, with_numbers)

        return written
