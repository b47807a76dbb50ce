"""U-Net: sizes, the count of its weights, and what a pixel of its answer depends on."""

import numpy as np
import pytest

import minigrad as mg
from minigrad_nn import init
from minigrad_nn.models import UNet


def small(**options):
    mg.random.manual_seed(0)
    return UNet(**{"in_channels": 2, "outputs": 3, "channels": (4, 5, 6), "depth": 1, **options})


def test_weights_are_those_of_the_figure():
    """Channels of figure 1, and its convolutions, but for those that grow the maps."""
    with init.without_drawing():
        named = list(UNet().named_parameters())
    shapes = {name: p.shape for name, p in named if name.endswith("0.weight")}
    wide = {f"down.{k}": 64 * 2**k for k in range(5)} | {f"up.{k}": 512 // 2**k for k in range(4)}
    given = {"down.0": 1} | {f"down.{k}": 32 * 2**k for k in range(1, 5)}
    given |= {f"up.{k}": 1536 // 2**k for k in range(4)}
    assert shapes == {f"{k}.0.weight": (wide[k], given[k], 3, 3) for k in wide}


def test_the_answer_is_the_composition():
    """The same layers called by hand, with maps grown and set beside each other in NumPy."""
    model = small().eval()
    x = mg.random.Generator(1).normal((1, 2, 8, 12))
    with mg.no_grad():
        a = model.down[0](mg.tensor(x))
        b = model.down[1](model.pool(a))
        c = model.down[2](model.pool(b))
        d = np.concatenate([np.repeat(np.repeat(c.numpy(), 2, 2), 2, 3), b.numpy()], axis=1)
        d = model.up[0](mg.tensor(d))
        e = np.concatenate([np.repeat(np.repeat(d.numpy(), 2, 2), 2, 3), a.numpy()], axis=1)
        wanted = model.answers(model.up[1](mg.tensor(e))).numpy()
        np.testing.assert_allclose(model(mg.tensor(x)).numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_a_pixel_sees_its_surroundings():
    model = small(channels=(4, 4, 4, 4)).eval()
    x = mg.tensor(mg.random.Generator(2).normal((1, 2, 64, 64)), requires_grad=True)
    model(x)[0, :, 32, 32].sum().backward()
    rows = np.flatnonzero(x.grad.numpy()[0].any((0, 2)))
    # Further than the three convolutions of the top level and of the answer reach.
    assert 15 < rows[-1] - rows[0] + 1 < 64


def test_gradients():
    model = small(channels=(2, 3), outputs=1).astype(np.float64).eval()
    x = mg.tensor(mg.random.Generator(3).normal((1, 2, 2, 4), dtype=np.float64))
    mg.check_gradients(lambda x: (model(x) ** 2).sum(), x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: small(channels=(4,)), "at least two"),
        (lambda: small(depth=0), "depth"),
        (lambda: small()(mg.zeros((1, 1, 8, 8))), r"\(N, 2, H, W\)"),
        (lambda: small()(mg.zeros((1, 2, 8, 10))), "multiples of 4, got 8x10"),
    ],
)
def test_wrong_use_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
