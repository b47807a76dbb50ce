"""Names the mistake in a backward pass, and the first node where it shows.

Each gate is examined on its own: what it handed on against what the engine's rule gives for the
gate gradient that it had, with the values of the forward pass; what a node holds against the sum
of what was handed to it.  So one mistake does not make everything after it look wrong.  The rules
of ops that do not belong to the library are compared with finite differences.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.core import GraphError, Node, Op, Variable
from minigrad.nodes import MultipleNode, OutputNode
from minigrad.observing import Interposer, stand
from minigrad.scalar import Scalar
from minigrad.study.nodes import dense, input_names, label, named_values
from minigrad.study.record import NOT_RECORDED
from minigrad.study.sabotage import (
    FAULTS,
    along_other_axis,
    gradient_of,
    ones_like,
    pull_with,
    saved_values,
    untransposed,
)
from minigrad.transforms import CheckpointNode

__all__ = ["Diagnosis", "diagnose"]

HISTORY = 20
"""So many earlier passes through gates of one op are remembered, to recognise stale values."""
PROBES = 200
"""So many elements of an input are varied when a rule is compared with finite differences."""

# What several guesses explain equally well is called by the first of them.
_PRIORITY = (
    "no_unbroadcast",
    "wrong_shape",
    "detached_branch",
    "wrong_sign",
    "stale_value",
    "forgot_gate_gradient",
    "missing_transpose",
    "wrong_axis",
    "gate_left_open",
    "wrong_factor",
    "wrong_rule",
)


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a backward pass, if anything is.  True in a condition if something is.

    Attributes:
        fault: name of the mistake, a key of `FAULTS`; None if nothing was found.
        node: the first node where it shows: the gate that handed on something wrong, or the node
            whose gradient was added up wrongly.
        evidence: what was seen there, in words and numbers.
        where: the source line of that node, or "not recorded".
        also: other mistakes that would look exactly like it here.
        count: in how many places it shows.
        checked: how many gates were examined.
        error: what the program raised in the end, as a consequence.
    """

    fault: str | None
    node: Node | None = None
    evidence: str = ""
    where: str = NOT_RECORDED
    also: tuple[str, ...] = ()
    count: int = 0
    checked: int = 0
    error: BaseException | None = None

    def __bool__(self) -> bool:
        return self.fault is not None

    def __str__(self) -> str:
        if self.fault is None or self.node is None:
            return f"no fault found in {self.checked} gates"
        words = FAULTS[self.fault]
        lines = [
            f"{self.fault}: {words.mistake}",
            f"  first seen at {label(self.node)}: {self.evidence}",
            f"  line: {self.where}",
            f"  remedy: {words.remedy}",
        ]
        if self.also:
            lines.append(f"  looks the same here: {', '.join(self.also)}")
        return "\n".join(lines)


@dataclass
class _Finding:
    node: Node
    faults: list[str]
    evidence: str


def diagnose(
    program: Callable[..., Any], *args: Any, runs: int = 2, accumulates: bool = False
) -> Diagnosis:
    """Run a program and name the mistake in its backward passes, if there is one.

    Args:
        program: a step of training: it forgets old gradients, computes, and calls `backward()`;
            if it calls none, but returns a loss, that is done for it.
        args: for the program.
        runs: how often it runs; some mistakes show from the second step on.
        accumulates: the program adds gradients of several passes up on purpose.

    Raises:
        Whatever the program raises, unless a fault was found that explains it.

    >>> import minigrad
    >>> from minigrad.study import sabotage
    >>> x = minigrad.scalar(3.0, name="x")
    >>> def step():
    ...     x.zero_grad()
    ...     (x * x).backward()
    >>> with sabotage("overwrite_instead_of_add"):
    ...     print(diagnose(step))
    overwrite_instead_of_add: a value that is used twice keeps only the last contribution
      first seen at leaf 'x': it holds 3.0, but 3.0 + 3.0 = 6.0 arrived
      line: not recorded
      remedy: add contributions (`+=`), do not assign them: several uses are a sum in the chain rule
    >>> print(diagnose(step))
    no fault found in 2 gates
    """
    examiner = _Examiner(accumulates)
    error: BaseException | None = None
    try:
        with stand(examiner):
            for _ in range(runs):
                walks = examiner.walks
                result = program(*args)
                mine = isinstance(result, Variable) and result.requires_grad
                if mine and examiner.walks == walks:
                    result.backward()
    except Exception as raised:
        if not examiner.findings:
            raise
        error = raised
    return examiner.diagnosis(error)


class _Examiner(Interposer):
    """Compares what flows with what should."""

    outermost = True

    def __init__(self, accumulates: bool) -> None:
        self.findings: list[_Finding] = []
        self.walks = 0
        self.checked = 0
        self._accumulates = accumulates
        self._values: dict[Node, tuple] = {}
        self._history: dict[tuple, list[tuple]] = defaultdict(list)
        self._expected: dict[Node, Any] = {}
        self._terms: dict[Node, list[Any]] = defaultdict(list)
        self._owned: set[Node] = set()
        self._depth = 0
        self._quiet = False
        self._rules_checked: set[tuple] = set()

    def diagnosis(self, error: BaseException | None) -> Diagnosis:
        """The guess that explains most of what was found; the earlier in the list if several do."""
        if not self.findings:
            return Diagnosis(None, checked=self.checked)
        counts: dict[str, int] = defaultdict(int)
        for finding in self.findings:
            for fault in finding.faults:
                counts[fault] += 1
        if len(self.findings[0].faults) == 1 and self.findings[0].faults[0] not in _PRIORITY:
            name = self.findings[0].faults[0]
        else:
            order = {fault: i for i, fault in enumerate(_PRIORITY)}
            guesses = [fault for fault in counts if fault in order and fault != "wrong_rule"]
            name = min(guesses or ["wrong_rule"], key=lambda f: (-counts[f], order[f]))
        first = next(f for f in self.findings if name in f.faults)
        also = [
            fault
            for fault, count in counts.items()
            if count == counts[name] and fault not in (name, "wrong_rule")
        ]
        origin = getattr(first.node, "origin", None)
        return Diagnosis(
            name,
            first.node,
            first.evidence,
            NOT_RECORDED if origin is None else str(origin),
            tuple(also),
            counts[name],
            self.checked,
            error,
        )

    def _found(self, node: Node, faults: list[str], evidence: str) -> None:
        self.findings.append(_Finding(node, faults, evidence))

    # --- what the engine tells -------------------------------------------------------------------

    def recorded(self, node: Any, values: tuple) -> None:
        if node.op is not None and values and _is_foreign(node.op):
            kept = [np.array(v) if isinstance(v, np.ndarray) else v for v in values]
            self._values[node] = tuple(kept)

    def observe(self, order: Sequence, table: dict) -> Iterable:
        self.walks += 1
        if not self._depth:
            self._expected = {}
            self._terms = defaultdict(list)
            self._owned = set()
        return order

    def pull(
        self, proceed: Callable, node: Any, g: Any, needs: tuple, record: bool, closed: bool
    ) -> Sequence:
        self._depth += 1
        try:
            found = proceed(node, g, needs, record, closed)
            if not (self._quiet or record or isinstance(node, _NO_RULE)):
                self._quiet = True
                try:
                    self._examine(node, g, found, needs, closed)
                finally:
                    self._quiet = False
        finally:
            self._depth -= 1
        return found

    def merge(
        self, proceed: Callable, source: Any, total: Any, contribution: Any, owned: set
    ) -> Any:
        if self._depth or isinstance(source, MultipleNode):
            return proceed(source, total, contribution, owned)
        expected = self._expected.get(source)
        self._terms[source].append(contribution)
        found = proceed(source, total, contribution, owned)
        if expected is not None and total is None:
            words = f"{_short(contribution)} arrived after it had been visited"
            self._found(source, ["no_topological_order"], words)
        elif expected is not None:
            expected = source.merge(expected, contribution, self._owned)
            if not _near(found, expected):
                sign = " + ".join(_short(term) for term in self._terms[source])
                words = f"it holds {_short(found)}, but {sign} = {_short(expected)} arrived"
                lost = _near(found, contribution)
                self._found(source, ["overwrite_instead_of_add" if lost else "wrong_sum"], words)
        if expected is None or total is None:
            # Alone, or on top of what the walk started with.
            self._expected[source] = source.merge(None, np.copy(dense(found)), self._owned)
        else:
            self._expected[source] = expected
        return found

    def receive(self, proceed: Callable, node: Any, g: Any, record: bool, owned: bool) -> None:
        before = gradient_of(node)
        proceed(node, g, record, owned)
        after = gradient_of(node)
        if node.op is not None or after is None or self._accumulates:
            return
        if before is not None and np.any(before):
            words = f"it still had the gradient {_short(before)} when {_short(g)} came"
            self._found(node, ["forgot_zero_grad"], words)
        elif not _near(after, g):
            words = f"it has the gradient {_short(after)}, but {_short(g)} came"
            self._found(node, ["forgot_zero_grad"], words)

    # --- one gate --------------------------------------------------------------------------------

    def _examine(self, node: Any, g: Any, found: Sequence, needs: tuple, closed: bool) -> None:
        self.checked += 1
        try:
            truth = node.pull(g, needs, False, closed)
        except (GraphError, ValueError):  # the gate gradient has a wrong shape already
            return
        names = input_names(node.op, len(node.inputs))
        for position, (c, t) in enumerate(zip(found, truth, strict=True)):
            if not (c is None and t is None) and not _near(c, t):
                faults = self._guesses(node, g, position, c, t, needs, closed)
                words = f"it handed {_short(c)} to {names[position]} instead of {_short(t)}"
                self._found(node, faults, words)
        if isinstance(node, MultipleNode):
            return
        if node in self._values:
            self._compare_with_differences(node, g, truth)
        values = saved_values(node)
        history = self._history[_kind(node, values)]
        if len(history) < HISTORY:
            history.append(values)

    def _guesses(
        self, node: Any, g: Any, position: int, c: Any, t: Any, needs: tuple, closed: bool
    ) -> list[str]:
        """All mistakes that would have made `c` of what should be `t`."""
        if t is None:
            return ["wrong_rule"]
        faults = _guesses_from_values(c, t, node.inputs[position].shape)
        if c is None or "no_unbroadcast" in faults or isinstance(node, MultipleNode):
            return faults
        if _near(c, node.pull(ones_like(g), needs, False, closed)[position]):
            faults.append("forgot_gate_gradient")
        for values in self._history[_kind(node, saved_values(node))]:
            if _near(c, pull_with(node, g, needs, closed, values)[position]):
                faults.append("stale_value")
                break
        if node.op.name == "matmul":
            if _near(c, untransposed(node, g, position, named_values(node))):
                faults.append("missing_transpose")
        axis = node.params.get("axis")
        if isinstance(axis, tuple) and np.ndim(t) > 1:
            if any(_near(c, along_other_axis(dense(t), a, b)) for a in axis for b in range(t.ndim)):
                faults.append("wrong_axis")
        if node.op.selects and _near(c, g):
            faults.append("gate_left_open")
        return faults

    def _compare_with_differences(self, node: Any, g: Any, truth: Sequence) -> None:
        """Whether the rules of an op of the user's own are its derivative."""
        values = self._values[node]
        kind = _kind(node, values)
        if kind in self._rules_checked or node.op.multiple:
            return
        self._rules_checked.add(kind)
        names = input_names(node.op, len(node.inputs))
        for position, t in enumerate(truth):
            if t is None:
                continue
            numeric = finite_differences(node, g, position, values, dense(t))
            if numeric is not None:
                shape = np.shape(dense(t))
                faults = _guesses_from_values(dense(t), numeric, shape, rtol=1e-2)
                words = (
                    f"the rule of {node.op.name} for {names[position]} gives {_short(t)}, finite "
                    f"differences give {_short(numeric)}"
                )
                self._found(node, faults, words)


_NO_RULE = (OutputNode, CheckpointNode)
"""What has no rule to examine: a checkpoint walks a graph, whose gates are examined."""


def _kind(node: Any, values: tuple) -> tuple:
    return (node.op, *map(np.shape, values), node.needs)


def _is_foreign(op: Op) -> bool:
    """Whether an op is the user's own, and its rules may be wrong."""
    rules = op.rules or ([op.backward] if op.backward else [])
    homes = [(getattr(rule, "__module__", None) or "").split(".")[0] for rule in rules]
    return any(home not in ("minigrad", "minigrad_nn") for home in homes)


def _guesses_from_values(c: Any, t: Any, shape: tuple, rtol: float | None = None) -> list[str]:
    """Mistakes that can be told from the wrong and the right contribution alone."""
    t = dense(t)
    if c is None or (np.any(t) and not np.any(dense(c))):
        return ["detached_branch"]
    c = dense(c)
    if np.shape(c) != tuple(shape):
        try:
            broad = np.broadcast_shapes(np.shape(c), shape) == np.shape(c)
        except ValueError:
            broad = False
        return ["no_unbroadcast" if broad else "wrong_shape"]
    faults = ["wrong_rule"]
    if _near(c, -np.asarray(t), rtol):
        faults.append("wrong_sign")
    if rtol is not None and np.ndim(t) == 2:
        # Ops of the library are tried with the rule of matmul instead.
        turned = np.ascontiguousarray(t.T).reshape(t.shape)
        faults += ["missing_transpose"] if _near(c, turned, rtol) else []
    size = np.vdot(t, t)
    factor = np.vdot(t, c) / size if np.isfinite(size) and size > 0 else np.nan
    if "wrong_sign" not in faults and np.isfinite(factor):
        faults += ["wrong_factor"] if _near(c, factor * np.asarray(t), rtol) else []
    return faults


def finite_differences(
    node: Any, g: Any, position: int, values: tuple, given: Any
) -> np.ndarray | None:
    """The contribution to one input by finite differences; None if `given` agrees with it.

    At a kink anything between the slopes of both sides agrees.
    """
    op = node.op
    arguments = [
        np.asarray(v, np.float64) if np.asarray(v).dtype.kind == "f" else v
        for v in values[: len(node.inputs)]
    ]
    x = np.array(arguments[position])
    numeric = np.array(given, np.float64)
    agrees = True

    def along(element: int, step: float) -> float:
        moved = x.copy()
        moved.flat[element] += step
        changed = [moved if i == position else a for i, a in enumerate(arguments)]
        if isinstance(node, Scalar):
            return g * op.scalar(*[float(a) for a in changed])
        return float(np.sum(np.asarray(g, np.float64) * op.forward(*changed, **node.params)))

    elements: Iterator[int] | range = range(x.size)
    if x.size > PROBES:
        elements = iter(np.random.default_rng(0).choice(x.size, PROBES, replace=False).tolist())
    with np.errstate(all="ignore"):
        for element in elements:
            claimed = float(np.asarray(given).flat[element])
            right = False
            slopes = [claimed]
            for relative in (1e-4, 1e-6):
                step = relative * max(1.0, abs(float(x.flat[element])))
                low, middle, high = (along(element, d) for d in (-step, 0.0, step))
                slopes = [(middle - low) / step, (high - middle) / step]
                if not np.isfinite([*slopes, claimed]).all():
                    right = True  # at the edge of where the function is defined
                    break
                noise = 1e-15 * max(abs(low), abs(middle), abs(high)) / step
                slack = 2e-3 * max(map(abs, [*slopes, claimed])) + 10 * noise
                right = right or min(slopes) - slack <= claimed <= max(slopes) + slack
            numeric.flat[element] = sum(slopes) / len(slopes)
            agrees = agrees and right
    return None if agrees else numeric


def _near(a: Any, b: Any, rtol: float | None = None) -> bool:
    """Whether two gradients are equal up to rounding."""
    if a is None or b is None:
        return a is b
    a, b = np.asarray(dense(a)), np.asarray(dense(b))
    if a.shape != b.shape:
        return False
    if rtol is None:
        rtol = 1e-9 if min(a.dtype.itemsize, b.dtype.itemsize) > 4 else 1e-4
    healthy = np.abs(b[np.isfinite(b)])
    atol = rtol * float(healthy.max()) if healthy.size else 0.0
    return bool(np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True))


def _short(value: Any) -> str:
    """A gradient in a few words."""
    if value is None:
        return "nothing"
    value = dense(value)
    if isinstance(value, (tuple, list)):
        return "several outputs"
    array = np.asarray(value)
    if array.ndim == 0:
        return repr(array.item())
    if array.size <= 6:
        return np.array2string(array, precision=4, separator=", ").replace("\n", "")
    return f"shape {array.shape}, norm {np.linalg.norm(array.astype(np.float64)):.4g}"
