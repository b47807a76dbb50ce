"""Products of rounded factors: which cards have them, how numbers are rounded, what errors are."""

import os
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad_nn import kernels
from minigrad_nn.kernels import Geometry
from minigrad_nn.kernels.cuda import precision, product, tile, warm
from minigrad_nn.kernels.cuda.simulator import ROUND
from tests.kernels import reference

BITS = {"tf32": 11, "bfloat16": 8}
"""Digits of the factors, the one before the point among them."""
FACTOR = {"tf32": 2**-10 + 2**-22, "bfloat16": 2**-7 + 2**-16}
"""The error that rounded factors bring, as `set_matmul_precision` states it."""


@pytest.fixture(params=BITS)
def to(request, card):
    if card.driver.limits.capability < precision.TENSOR_CAPABILITY:
        pytest.skip("the card has no such tensor cores")
    mg.cuda.set_matmul_precision(request.param)
    yield request.param
    mg.cuda.set_matmul_precision("float32")


def rounded(x, to):
    """By arithmetic alone; a half goes away from 0 in TF32, and to an even number in bfloat16."""
    mantissa, exponent = np.frexp(np.asarray(x, np.float64))
    mantissa *= 2 ** BITS[to]
    whole = np.rint(mantissa)
    if to == "tf32":
        whole = np.copysign(np.floor(np.abs(mantissa) + 0.5), mantissa)
    with np.errstate(over="ignore"):  # the largest numbers become infinite
        return np.ldexp(whole, exponent - BITS[to]).astype(np.float32)


def test_it_is_off_until_it_is_asked_for(card):
    assert mg.cuda.get_matmul_precision() == mg.cuda.get_matmul_precision("cuda") == "float32"
    assert not tile.tiles("float32", card.driver.limits)[0].tensor


def test_it_is_taken_where_it_is_wanted_and_there(card, to):
    limits = card.driver.limits
    assert mg.cuda.get_matmul_precision("cuda") == to
    assert tile.tiles("float32", limits)[0].tensor == to
    assert not tile.tiles("float64", limits)[0].tensor
    assert not tile.tiles("float32")[0].tensor
    older = limits._replace(capability=(7, 5))
    assert not tile.tiles("float32", older)[0].tensor
    assert precision.on((7, 5)) == "float32" and precision.on((9, 0)) == to


def test_the_older_switch_is_that_of_tf32():
    tile.use_tf32(True)
    assert mg.cuda.get_matmul_precision() == "tf32"
    tile.use_tf32(False)
    assert mg.cuda.get_matmul_precision() == "float32"


@pytest.mark.parametrize("name", ["bf16", "TF32", "", "float64", "high"])
def test_another_name_is_refused(name):
    with pytest.raises(ValueError, match="one of float32, tf32, bfloat16, got") as told:
        mg.cuda.set_matmul_precision(name)
    assert repr(name) in str(told.value)
    assert mg.cuda.get_matmul_precision() == "float32"


def test_the_environment_says_what_a_process_begins_with():
    asked = precision._asked
    assert asked({}) == asked({"MINIGRAD_TF32": "0", "MINIGRAD_MATMUL_PRECISION": ""}) == "float32"
    assert asked({"MINIGRAD_TF32": "1"}) == "tf32"
    assert asked({"MINIGRAD_TF32": "1", "MINIGRAD_MATMUL_PRECISION": "bfloat16"}) == "bfloat16"
    with pytest.raises(ValueError, match="MINIGRAD_MATMUL_PRECISION must be one of .* 'half'"):
        asked({"MINIGRAD_MATMUL_PRECISION": "half"})
    found = subprocess.run(
        [sys.executable, "-c", "import minigrad; print(minigrad.cuda.get_matmul_precision())"],
        env={**os.environ, "MINIGRAD_MATMUL_PRECISION": "bfloat16"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "bfloat16\n"


@pytest.mark.parametrize("name", BITS)
def test_the_simulator_rounds_to_the_nearest(name):
    rng = np.random.default_rng(0)
    exponents = rng.integers(-120, 127, 300)
    x = np.ldexp(rng.uniform(-2, 2, 300), exponents).astype(np.float32)
    # Numbers in the middle between two neighbours, and the largest of all.
    odd = (np.arange(2 ** BITS[name], 2 ** (BITS[name] + 1), 2 ** (BITS[name] - 5)) + 0.5) / 4
    x = np.concatenate([x, odd, -odd, [0, -0.0, np.finfo("f").max]]).astype(np.float32)
    found = np.array([ROUND[name](v) for v in x])
    assert found.dtype == np.float32
    wanted = rounded(x, name)
    assert np.array_equal(found.view("u4"), wanted.view("u4"))
    assert np.array_equal(np.array([ROUND[name](v) for v in found]), found)
    assert np.isinf(found[-1])
    for special in (np.inf, -np.inf, np.nan, -np.nan):
        assert np.array_equal(ROUND[name](np.float32(special)), np.float32(special), equal_nan=True)
    payload = np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert all(np.isnan(ROUND[name](v)) for v in payload)


def near(found, wanted, magnitudes, terms, factor=0.0):
    """Within what sums in float32 may err, and rounded factors beside."""
    found = found.to_numpy() if hasattr(found, "to_numpy") else found
    most = (factor + (terms + 2) * 2**-23) * magnitudes
    assert (np.abs(found - wanted) <= most).all()
    return np.abs(found - wanted).max()


def test_products_are_those_of_rounded_factors(card, to):
    rng = np.random.default_rng(1)
    a, b = (rng.normal(size=shape).astype("f") for shape in ((2, 5, 37), (2, 37, 3)))
    found = product.matmul(card.from_numpy(a), card.from_numpy(b))
    x, y = (rounded(v, to).astype("d") for v in (a, b))
    near(found, x @ y, np.abs(x) @ np.abs(y), 37)
    whole, size = a.astype("d") @ b.astype("d"), np.abs(a).astype("d") @ np.abs(b).astype("d")
    # Within the bound that is documented, and not in float32 after all.
    assert near(found, whole, size, 37, FACTOR[to]) > 2 ** -(BITS[to] + 3)


def test_convolutions_are_those_of_rounded_factors(card, to):
    rng = np.random.default_rng(2)
    geometry = Geometry.of((4, 3), (3, 2), (1, 2), (1, 0))
    x, w = (rng.normal(size=s).astype("f") for s in ((2, 2, 4, 3), (5, 2, 3, 2)))
    g = rng.normal(size=(2, 5, *geometry.output)).astype("f")
    for name, a, b in (("conv", x, w), ("conv_input", g, w), ("conv_weight", x, g)):
        define = getattr(reference, name)
        found = getattr(kernels, name)(card.from_numpy(a), card.from_numpy(b), geometry)
        one, other = (rounded(v, to).astype("d") for v in (a, b))
        size = define(np.abs(one), np.abs(other), geometry)
        near(found, define(one, other, geometry), size, 30)
        exact = define(a.astype("d"), b.astype("d"), geometry)
        size = define(np.abs(a).astype("d"), np.abs(b).astype("d"), geometry)
        assert near(found, exact, size, 30, FACTOR[to]) > 2 ** -(BITS[to] + 3)


def test_what_is_compiled_ahead_is_what_is_called(card, to, monkeypatch):
    compiled = []
    monkeypatch.setattr(warm, "_compile", lambda kernel, wanted: compiled.append(kernel.name))
    warm.warmup(["matmul", "conv", "conv_weight", "relu"])
    own = {name.split(".")[0] for name in compiled}
    assert own >= {"product", "implicit", "weights", "depthwise", "gates"}
    for family in ("product.product", "implicit.convolve", "weights.correlate"):
        assert any(n.startswith(family) and n.endswith(to) for n in compiled)
    mg.cuda.set_matmul_precision("float32")
    compiled.clear()
    warm.warmup(["matmul", "conv"])
    assert compiled and not any(n.endswith(to) for n in compiled)


def test_float64_keeps_its_digits(card, to):
    a = np.random.default_rng(3).normal(size=(3, 4))
    found = product.matmul(card.from_numpy(a), card.from_numpy(a.T.copy()))
    np.testing.assert_allclose(found.to_numpy(), a @ a.T, rtol=1e-14)


def test_nan_and_infinity_stay_where_they_belong(card, to):
    a, b = np.ones((4, 5), np.float32), np.ones((5, 3), np.float32)
    a[0, 1], a[1, 2], a[2, 3] = np.nan, np.inf, -np.inf
    b[4, 2] = np.nan
    found = product.matmul(card.from_numpy(a), card.from_numpy(b)).to_numpy()
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(found, a @ b)
