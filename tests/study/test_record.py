"""Source lines, names of variables and module paths of what is built under `recording()`."""

import threading

import pytest

import minigrad
from minigrad import observing, recording, study


def test_lines_and_names_of_a_scalar_formula():
    with study.recording():
        x, y = minigrad.scalar(2.0), minigrad.scalar(5.0)
        q = x + y
        f = minigrad.tanh(q * 0.5)
    assert [v.name for v in (x, y, q, f)] == ["x", "y", "q", "f"]
    found = study.origin(f)
    assert found.text == "f = minigrad.tanh(q * 0.5)"
    assert found.line == study.origin(q).line + 1
    assert found.function == "test_lines_and_names_of_a_scalar_formula"
    assert found.file == __file__
    assert study.where(f).endswith(f"in {found.function}: {found.text}")
    # What is only a part of the right side has the line, but no name.
    (half, constant) = f.inputs[0], f.inputs[0].inputs[1]
    assert half.name is None and study.origin(half).line == found.line
    assert study.where(constant) == study.NOT_RECORDED


def test_names_of_tensors_of_every_kind():
    with study.recording():
        w = minigrad.tensor([[1.0, 2.0]], requires_grad=True)
        data = minigrad.tensor([[3.0, 4.0]])
        h = w * data
        h += 1.0
        spread = minigrad.var(h)  # several nodes: the variable holds the last
        top: minigrad.Tensor = h.max()
        if (low := h.min()).item() < 0:
            raise AssertionError
    assert [v.node.name for v in (w, data, h, spread, top, low)] == [
        "w",
        "data",
        "h",
        "spread",
        "top",
        "low",
    ]
    below = spread.node.inputs[0]
    assert below.name is None and study.origin(below).variable is None
    assert study.origin(below).line == study.origin(spread).line
    assert h.node.inputs[0].name == "h"


def test_a_loop_names_each_of_its_values():
    with study.recording():
        h = minigrad.scalar(0.5)
        for _ in range(3):
            h = h * 0.5
    names = []
    node = h
    while node.op is not None:
        names.append(node.name)
        node = node.inputs[0]
    assert names == ["h"] * 3


def test_the_users_own_name_stays_and_names_can_be_left_alone():
    with study.recording():
        x = minigrad.scalar(2.0, name="mine")
    assert x.name == "mine" and study.origin(x).variable == "x"
    with study.recording(names=False):
        z = x * 2.0
    assert z.name is None and study.origin(z).variable == "z"


class Part:
    """What the recorder knows of a module: `forward`, and `named_modules` for the paths."""

    def __init__(self, **parts):
        self.parts = parts

    def named_modules(self, prefix=""):
        yield prefix, self
        for name, part in self.parts.items():
            yield from part.named_modules(f"{prefix}.{name}" if prefix else name)

    def __call__(self, x):
        return self.forward(x)

    def forward(self, x):
        for part in self.parts.values():
            x = part(x)
        return x * 2.0


def test_module_paths():
    model = Part(first=Part(), rest=Part(inner=Part()))
    with study.recording():
        y = model(minigrad.scalar(1.0))
    modules = []
    while y.op is not None:
        modules.append(study.origin(y).module)
        y = y.inputs[0]
    assert modules == [None, "rest", "rest.inner", "first"]


def test_outside_of_recording_nothing_is_recorded():
    with study.recording() as r:
        x = minigrad.scalar(2.0)
    y = x * x
    assert study.origin(y) is None and study.where(y) == "not recorded"
    assert r.count == 1 and r._last is None
    with pytest.raises(RuntimeError), study.recording():
        raise RuntimeError
    assert not observing.standing and not recording.paused


def test_another_thread_is_not_recorded():
    made = []
    with study.recording():
        thread = threading.Thread(target=lambda: made.append(minigrad.scalar(2.0) * 3.0))
        thread.start()
        thread.join()
    assert study.origin(made[0]) is None


def test_no_grad_still_holds_under_recording():
    with study.recording():
        x = minigrad.scalar(2.0)
        t = minigrad.tensor([1.0], requires_grad=True)
        with minigrad.no_grad():
            assert not (x * x).requires_grad and not (t * t).requires_grad
        assert minigrad.is_recording()
