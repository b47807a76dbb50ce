"""Updates by kernels: the same bits as NumPy's operations one by one, inside red zones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad_nn import kernels, optim
from minigrad_nn.kernels.cpu import update
from minigrad_nn.optim import base
from tests.kernels.redzone import Zones

OPTIMIZERS = {
    "plain": lambda p: optim.SGD(p, 0.1),
    "decay": lambda p: optim.SGD(p, 0.1, weight_decay=0.01),
    "momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9),
    "dampening": lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.5),
    "nesterov": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: optim.Adam(p, 0.1),
    "adam, decay": lambda p: optim.Adam(p, 0.1, betas=(0.8, 0.9), weight_decay=0.01),
    "adamw": lambda p: optim.AdamW(p, 0.1),
}
SHAPES = [(3, update.CHUNK - 1), (), (5,), (0, 2), (2, 3, 4), (update.CHUNK,)]


def trained(make, dtype, together, monkeypatch, steps=4):
    """Parameters and state after some steps; the last parameter gets no gradient at first."""
    monkeypatch.setattr(base, "MANY", 0 if together else 10**12)
    rng = np.random.default_rng(0)
    tensors = [
        mg.tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True) for shape in SHAPES
    ]
    # A parameter whose memory has gaps goes the slow way.
    tensors.append(mg.tensor(rng.standard_normal((4, 6)).astype(dtype)[:, ::2], requires_grad=True))
    optimizer = make(tensors)
    for step in range(steps):
        for i, p in enumerate(tensors):
            if step or i:
                p.grad = rng.standard_normal(p.shape).astype(dtype)
        optimizer.step()
    state = optimizer.state_dict()["state"]
    return [p.numpy() for p in tensors], [v for held in state.values() for v in held.values()]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_kernel_gives_the_bits_of_many_operations(name, dtype, monkeypatch):
    made = trained(OPTIMIZERS[name], dtype, True, monkeypatch)
    wanted = trained(OPTIMIZERS[name], dtype, False, monkeypatch)
    for one, other in zip(made, wanted, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_kernel_is_what_many_parameters_take(monkeypatch):
    seen = []
    monkeypatch.setattr(kernels, "sgd_update", lambda *a, **k: seen.append(len(a[0])))
    for size in (base.MANY - 1, base.MANY):
        p = mg.tensor(np.ones(size, "f4"), requires_grad=True)
        p.grad = np.ones(size, "f4")
        optim.SGD([p], 0.1).step()
    assert seen == [1]


@given(
    sizes=st.lists(st.integers(0, 70), min_size=1, max_size=4),
    momentum=st.sampled_from([0.0, 0.9]),
    nesterov=st.booleans(),
    seed=st.integers(0, 9),
)
def test_nothing_else_is_read_or_written(sizes, momentum, nesterov, seed):
    zones, rng = Zones(), np.random.default_rng(seed)

    def drawn():
        return [zones.copy(rng.standard_normal(size).astype("f4")) for size in sizes]

    p, g, v, m = drawn(), drawn(), drawn(), drawn()
    before = [a.copy() for a in g]
    kernels.sgd_update(p, g, v, lr=0.1, momentum=momentum, nesterov=nesterov)
    kernels.adam_update(p, g, m, [a * a for a in v], step=3, lr=0.1)
    zones.check()
    assert all(np.array_equal(a, b) for a, b in zip(g, before, strict=True))
    assert all(np.isfinite(a).all() for a in p)


def test_nan_and_infinity_reach_the_parameter_and_no_other():
    p, g = np.ones(4, "f4"), np.array([np.nan, np.inf, 0.0, 1.0], "f4")
    kernels.sgd_update([p], [g], [np.zeros(4, "f4")], lr=0.5, momentum=0.9)
    np.testing.assert_array_equal(p, np.array([np.nan, -np.inf, 1.0, 0.5], "f4"))


def test_wrong_lists_are_told():
    p, g = np.ones(3), np.ones(3)
    with pytest.raises(ValueError, match="2 gradients given for 1 parameters"):
        kernels.sgd_update([p], [g, g], lr=0.1)
    with pytest.raises(ValueError, match=r"gradients\[0\] must be .* shape \(3,\), got .*\(2,\)"):
        kernels.sgd_update([p], [g[:2]], lr=0.1)
    with pytest.raises(ValueError, match="of float64 and"):
        kernels.adam_update([p], [g.astype("f4")], [g], [g], step=1, lr=0.1)
    with pytest.raises(ValueError, match=r"parameters\[0\] must be contiguous"):
        kernels.sgd_update([np.ones(6)[::2]], [g], lr=0.1)
    with pytest.raises(ValueError, match="momentum needs velocities"):
        kernels.sgd_update([p], [g], lr=0.1, momentum=0.9)
    with pytest.raises(TypeError, match="must be float32 or float64, got float16"):
        kernels.sgd_update([p.astype("f2")], [g.astype("f2")], lr=0.1)
    assert (p == 1).all()


def test_no_parameters_are_no_work():
    kernels.sgd_update([], [], lr=0.1)
    kernels.adam_update([], [], [], [], step=1, lr=0.1)
