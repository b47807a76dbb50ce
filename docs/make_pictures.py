"""Makes every picture that README and docs show: `python docs/make_pictures.py [folder]`.

The pictures are placed by the layout that comes with minigrad, so they are the same on every
machine, with or without Graphviz.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import minigrad
import minigrad_nn as nn
from minigrad.draw import Drawing, draw
from minigrad_nn.inspect import Overview, overview

Picture = Drawing | Overview
PICTURES: dict[str, Callable[[], Picture]] = {}


def picture(make: Callable[[], Picture]) -> Callable[[], Picture]:
    """Register a function that gives a drawing; its name is the file's."""
    PICTURES[make.__name__] = make
    return make


@picture
def product() -> Drawing:
    """The lectures' first circuit: f = x y at (4, -3)."""
    x = minigrad.scalar(4.0, name="x")
    y = minigrad.scalar(-3.0, name="y")
    f = x * y
    f.name = "f"
    f.backward()
    return draw(f, engine="builtin")


def _sum_times() -> minigrad.Scalar:
    x = minigrad.scalar(-2.0, name="x")
    y = minigrad.scalar(5.0, name="y")
    z = minigrad.scalar(-4.0, name="z")
    q = x + y
    q.name = "q"
    f = q * z
    f.name = "f"
    return f


@picture
def circuit() -> Drawing:
    """The first example of README."""
    x, y, z = (minigrad.scalar(v, name=n) for v, n in [(-2.0, "x"), (5.0, "y"), (-4.0, "z")])
    f = (x + y) * z
    f.backward()
    return draw(f, engine="builtin")


@picture
def chain_rule() -> Drawing:
    """The lectures' second circuit, f = (x + y) z at (-2, 5, -4), after backward."""
    f = _sum_times()
    f.backward()
    return draw(f, engine="builtin")


@picture
def before_backward() -> Drawing:
    """The same circuit before backward: local gradients are known, gradients are not."""
    return draw(_sum_times(), engine="builtin")


@picture
def neuron() -> Drawing:
    """A neuron with two inputs, its sigmoid written out in gates."""
    values = {"w0": 2.0, "x0": -1.0, "w1": -3.0, "x1": -2.0, "w2": -3.0}
    w0, x0, w1, x1, w2 = (minigrad.scalar(v, name=name) for name, v in values.items())
    f = 1.0 / (1.0 + minigrad.exp(-(w0 * x0 + w1 * x1 + w2)))
    f.name = "f"
    f.backward()
    return draw(f, engine="builtin")


@picture
def shared() -> Drawing:
    """Where a value is used twice its gradients add up; a closed gate passes none."""
    x = minigrad.scalar(3.0, name="x")
    y = minigrad.scalar(-2.0, name="y")
    f = x * y + x.max(y)
    f.name = "f"
    f.backward()
    return draw(f, engine="builtin")


@picture
def tensors() -> Drawing:
    """A linear layer, relu and mean on tensors."""
    x = minigrad.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, -1.0]], name="x")
    w = minigrad.tensor([[0.5, -1.0], [0.25, 2.0], [1.0, 0.0]], requires_grad=True, name="w")
    b = minigrad.tensor([0.1, -0.1], requires_grad=True, name="b")
    loss = minigrad.relu(x @ w + b).mean()
    loss.name = "loss"
    loss.backward()
    return draw(loss, engine="builtin", direction="LR")


@picture
def unrolled() -> Drawing:
    """Three steps of the lectures' recurrent network, with numbers in the places of vectors."""
    values = {"W_hh": 0.9, "W_xh": 0.5, "W_hy": 2.0}
    w_hh, w_xh, w_hy = (minigrad.scalar(v, name=name) for name, v in values.items())
    h = minigrad.scalar(0.0, name="h0")
    for t, value in enumerate((1.0, -0.5, 0.25), start=1):
        x = minigrad.scalar(value, name=f"x{t}")
        h = minigrad.tanh(w_hh * h + w_xh * x)
        h.name = f"h{t}"
    y = w_hy * h
    y.name = "y3"
    y.backward()
    return draw(y, engine="builtin")


class Vanilla(nn.Module):
    """The lectures' recurrent network, as a loop."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.xh = nn.Linear(inputs, hidden)
        self.hh = nn.Linear(hidden, hidden, bias=False)
        self.hy = nn.Linear(hidden, outputs)

    def forward(self, x: minigrad.Tensor, h: minigrad.Tensor) -> minigrad.Tensor:
        """An output for each step."""
        outputs = []
        for t in range(len(x)):
            h = minigrad.tanh(self.hh(h) + self.xh(x[t]))
            outputs.append(self.hy(h))
        return minigrad.stack(outputs)


@picture
def rolled() -> Overview:
    """Its loop, rolled up."""
    minigrad.manual_seed(0)
    return overview(Vanilla(4, 5, 2), minigrad.zeros((3, 1, 4)), minigrad.zeros((1, 5)), passes=0)


def main(folder: Path) -> None:
    """Write all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in PICTURES.items():
        print(make().save(folder / f"{name}.svg"))


if __name__ == "__main__":
    default = Path(__file__).parent / "pictures"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
