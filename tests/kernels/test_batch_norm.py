"""Batch normalisation against plain NumPy, and its gradients against differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad_nn import kernels
from minigrad_nn.kernels import Epilogue, Geometry
from tests.kernels import reference
from tests.kernels.draws import DTYPES

SHAPES = st.one_of(
    st.tuples(st.integers(1, 6), st.integers(1, 5)),
    st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 9)),
    st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(1, 40)),
    st.tuples(*[st.integers(1, 3)] * 5),
)


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(shape) * 3 + 2).astype(dtype)
    return x, *(rng.standard_normal(shape[1]).astype(dtype) for _ in range(2))


@pytest.mark.parametrize("dtype", DTYPES)
@given(shape=SHAPES, seed=st.integers(0, 1000))
def test_forward(dtype, shape, seed):
    x, gamma, beta = numbers(shape, dtype, seed)
    y, mean, inverse_std = kernels.batch_norm(x, gamma, beta, eps=1e-3)
    expected, expected_mean, variance = reference.batch_norm(x, gamma, beta, 1e-3)
    close = dict(rtol=1e-4, atol=1e-4) if dtype == np.float32 else dict(rtol=1e-10, atol=1e-10)
    assert y.dtype == mean.dtype == inverse_std.dtype == dtype
    np.testing.assert_allclose(y, expected, **close)
    np.testing.assert_allclose(mean, expected_mean, **close)
    np.testing.assert_allclose(inverse_std, 1 / np.sqrt(variance + 1e-3), **close)
    moments = kernels.moments(x)
    np.testing.assert_allclose(moments.mean, expected_mean, **close)
    np.testing.assert_allclose(moments.variance, variance, **close)
    given_statistics = kernels.batch_norm_given(x, gamma, beta, mean, inverse_std)
    assert np.array_equal(given_statistics, y)


@given(shape=SHAPES)
def test_none_stands_for_ones_and_zeros(shape):
    x, gamma, beta = numbers(shape, np.float64)
    y, mean, inverse_std = kernels.batch_norm(x, None, None)
    assert np.array_equal(y, kernels.batch_norm(x, gamma * 0 + 1, beta * 0).output)
    gx = kernels.batch_norm_backward(x, x, None, mean, inverse_std).gx
    assert np.array_equal(
        gx, kernels.batch_norm_backward(x, x, gamma * 0 + 1, mean, inverse_std).gx
    )


@pytest.mark.parametrize("fixed", [False, True])
@given(shape=SHAPES)
def test_backward_against_central_differences(fixed, shape):
    x, gamma, beta = numbers(shape, np.float64)
    rng = np.random.default_rng(1)
    g = rng.standard_normal(shape)
    eps = 0.1
    _, mean, inverse_std = kernels.batch_norm(x, gamma, beta, eps=eps)

    def loss(x, gamma, beta):
        if fixed:
            return np.sum(g * kernels.batch_norm_given(x, gamma, beta, mean, inverse_std))
        return np.sum(g * kernels.batch_norm(x, gamma, beta, eps=eps).output)

    gradients = kernels.batch_norm_backward(g, x, gamma, mean, inverse_std, given=fixed)
    for position, gradient in enumerate(gradients):
        arguments = [x, gamma, beta]
        direction = rng.standard_normal(arguments[position].shape)
        step = 1e-5
        ends = []
        for sign in (1, -1):
            moved = list(arguments)
            moved[position] = moved[position] + sign * step * direction
            ends.append(loss(*moved))
        numeric = (ends[0] - ends[1]) / (2 * step)
        scale = np.abs(gradient * direction).sum() + 1
        assert abs(np.sum(gradient * direction) - numeric) < 1e-7 * scale


OPEN = {
    None: lambda y: np.ones_like(y, bool),
    "relu": lambda y: ~(y <= 0),
    "relu6": lambda y: ~((y <= 0) | (y >= 6)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", OPEN)
@given(shape=SHAPES, seed=st.integers(0, 1000), fixed=st.booleans(), added=st.booleans())
def test_epilogue_backward_is_backward_of_what_is_let_through(
    dtype, activation, shape, seed, fixed, added
):
    x, gamma, beta = numbers(shape, dtype, seed)
    gamma *= 4  # so that both ends are reached
    rng = np.random.default_rng(seed)
    g, residual = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    g.flat[0] = np.nan  # where a gate is closed, even that does not pass
    residual = residual if added else None
    epilogue = Epilogue(residual=residual, activation=activation)
    plain, mean, inverse_std = kernels.batch_norm(x, gamma, beta)
    y = kernels.batch_norm(x, gamma, beta, epilogue=epilogue).output
    low, high = {None: (-np.inf, np.inf), "relu": (0, np.inf), "relu6": (0, 6)}[activation]
    assert np.array_equal(y, np.clip(plain + residual if added else plain, low, high))
    given_statistics = kernels.batch_norm_given(
        x, gamma, beta, mean, inverse_std, epilogue=epilogue
    )
    assert np.array_equal(given_statistics, y)
    passed = np.where(OPEN[activation](y), g, 0).astype(dtype)
    wanted = kernels.batch_norm_backward(passed, x, gamma, mean, inverse_std, given=fixed)
    found = kernels.batch_norm_epilogue_backward(
        g, x, gamma, beta, mean, inverse_std, activation, y if added else None, given=fixed
    )
    for one, other in zip(found[:3], wanted, strict=True):
        assert np.array_equal(one, other, equal_nan=True)
    if added:
        assert np.array_equal(found.gresidual, passed, equal_nan=True)
    else:
        assert found.gresidual is None


def test_nan_passes_an_activation_and_an_infinity_is_above_its_ceiling():
    x = np.array([[[0.0, np.nan, np.inf, -np.inf]]], np.float32)
    one, zero, g = np.ones(1, np.float32), np.zeros(1, np.float32), np.full_like(x, 3)
    for activation, wanted, passed in (
        (None, [0, np.nan, np.inf, -np.inf], [3, 3, 3, 3]),
        ("relu", [0, np.nan, np.inf, 0], [0, 3, 3, 0]),
        ("relu6", [0, np.nan, 6, 0], [0, 3, 0, 0]),
    ):
        epilogue = Epilogue(activation=activation)
        y = kernels.batch_norm_given(x, one, zero, zero, one, epilogue=epilogue)
        assert np.array_equal(y.ravel(), np.array(wanted, np.float32), equal_nan=True)
        for output in (None, y):
            found = kernels.batch_norm_epilogue_backward(
                g, x, one, zero, zero, one, activation, output, given=True
            )
            assert found.gx.ravel().tolist() == passed


def test_no_other_kernel_has_relu6():
    x = np.ones((1, 1, 2, 2), np.float32)
    with pytest.raises(ValueError, match="conv: epilogue.activation must be one of .* 'relu6'"):
        kernels.conv(x, x, Geometry.of((2, 2), 2), epilogue=Epilogue(activation="relu6"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_result_may_take_the_place_of_x_or_of_the_residual(dtype):
    x, gamma, beta = numbers((3, 4, 5, 6), dtype)
    residual = x[::-1].copy()
    epilogue = Epilogue(residual=residual, activation="relu")
    wanted, mean, inverse_std = kernels.batch_norm(x, gamma, beta, epilogue=epilogue)
    for out in (x.copy(), residual):
        source = x if out is residual else out
        given = (source, gamma, beta, mean, inverse_std)
        assert kernels.batch_norm_given(*given, out=out, epilogue=epilogue) is out
        assert np.array_equal(out, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_mean_costs_no_digits(dtype):
    rng = np.random.default_rng(0)
    mean = 1e4 if dtype == np.float32 else 1e8
    x = (rng.standard_normal((8, 2, 30, 30)) + mean).astype(dtype)
    variance = np.var(x.astype(np.longdouble), axis=(0, 2, 3))
    np.testing.assert_allclose(kernels.moments(x).variance, variance.astype(dtype), rtol=1e-6)


LENGTHS = range(1, 71)  # so that the last vector of a plane is any part of one


def every_kernel(g, x, gamma, beta):
    """What all kernels make of planes, by name; statistics that are given are of other numbers."""
    channels = x.shape[1]
    middle = np.linspace(-1, 1, channels).astype(x.dtype)
    inverse = np.linspace(0.5, 1, channels).astype(x.dtype)
    epilogue = Epilogue(residual=g, activation="relu6")
    y, mean, inverse_std = kernels.batch_norm(x, gamma, beta, eps=1e-3, epilogue=epilogue)
    given = x, gamma, beta, middle, inverse
    found = {
        "batch_norm": (y, mean, inverse_std),
        "moments": kernels.moments(x),
        "batch_norm_given": [kernels.batch_norm_given(*given, epilogue=epilogue)],
        "batch_norm_backward": kernels.batch_norm_backward(g, x, gamma, mean, inverse_std),
        "epilogue_backward": kernels.epilogue_backward(g, y, "relu6"),
        "channel_sum": [kernels.channel_sum(x)],
    }
    for fixed in (False, True):
        for output in (None, y):
            found[f"batch_norm_epilogue_backward {fixed} {output is not None}"] = (
                kernels.batch_norm_epilogue_backward(g, *given, "relu", output, given=fixed)
            )
    return {
        f"{name} {i}": array
        for name, arrays in found.items()
        for i, array in enumerate(arrays)
        if array is not None
    }


@pytest.mark.parametrize("dtype", DTYPES)
def test_planes_of_every_length(dtype):
    close = dict(rtol=1e-4, atol=1e-4) if dtype == np.float32 else dict(rtol=1e-10, atol=1e-10)
    for length in LENGTHS:
        x, gamma, beta = numbers((2, 3, length), dtype, length)
        g = np.random.default_rng(length).standard_normal(x.shape).astype(dtype)
        y, mean, inverse_std = kernels.batch_norm(x, gamma, beta, eps=0.1)
        expected, expected_mean, variance = reference.batch_norm(x, gamma, beta, 0.1)
        np.testing.assert_allclose(y, expected, **close)
        np.testing.assert_allclose(mean, expected_mean, **close)
        np.testing.assert_allclose(inverse_std, 1 / np.sqrt(variance + 0.1), **close)
        found = kernels.batch_norm_backward(g, x, gamma, mean, inverse_std)
        for one, other in zip(found, reference.batch_norm_backward(g, x, gamma, 0.1), strict=True):
            np.testing.assert_allclose(one, other, **close)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_plane_knows_nothing_of_its_neighbours(dtype, value):
    """Whatever lies before its first and behind its last number leaves each bit as it is."""
    for length in LENGTHS:
        x, gamma, beta = numbers((2, 4, length), dtype, length)
        g = np.random.default_rng(length).standard_normal(x.shape).astype(dtype)
        clean = every_kernel(g, x, gamma, beta)
        for array in (g, x):  # a neighbour before and behind, and both of channel 2
            array[:, 1], array[:, 3, 0] = value, -value
        with np.errstate(all="ignore"):
            spoilt = every_kernel(g, x, gamma, beta)
        for name, wanted in clean.items():
            axis = 0 if wanted.ndim == 1 else 1
            found, wanted = (np.take(array, [0, 2], axis) for array in (spoilt[name], wanted))
            assert found.tobytes() == wanted.tobytes(), (name, length)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@given(length=st.integers(2, 70), data=st.data())
def test_one_number_that_is_none_spoils_its_channel(dtype, value, length, data):
    x, gamma, beta = numbers((2, 2, length), dtype)
    gamma[:], place = 1, data.draw(st.sampled_from((0, length - 1)) | st.integers(0, length - 1))
    clean = kernels.batch_norm(x, gamma, beta)
    fixed = kernels.batch_norm_given(x, gamma, beta, *clean[1:])
    x[1, 0, place] = value
    y, mean, inverse_std = kernels.batch_norm(x, gamma, beta)
    assert np.array_equal(mean[0], value, equal_nan=True)
    assert np.isnan(inverse_std[0]) and np.isnan(y[:, 0]).all()
    assert np.array_equal(y[:, 1], clean.output[:, 1]) and mean[1] == clean.mean[1]
    g = np.ones_like(x)
    gx, ggamma, _ = kernels.batch_norm_backward(g, x, gamma, mean, inverse_std)
    assert np.isnan(gx[:, 0]).all() and np.isnan(ggamma[0]) and not np.isnan(gx[:, 1]).any()
    # Where the statistics are given, it is one number of the result.
    fixed[1, 0, place] = value
    found = kernels.batch_norm_given(x, gamma, beta, *clean[1:])
    assert np.array_equal(found, fixed, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(2, 70)),
    seed=st.integers(0, 1000),
    middle=st.sampled_from((0, 1e3, -1e6)),
    first=st.sampled_from((None, 1e8, -1e8, 1e30)),
)
def test_neither_a_far_mean_nor_a_far_first_number_costs_digits(dtype, shape, seed, middle, first):
    """Planes are summed from their first number on, which may lie anywhere."""
    x = (np.random.default_rng(seed).standard_normal(shape) + middle).astype(dtype)
    if first is not None:
        x[::2, :, 0] = first
    exact = x.astype(np.longdouble)
    mean, variance = exact.mean((0, 2)), exact.var((0, 2))
    with np.errstate(over="ignore"):
        found = kernels.moments(x)
    digits = 1e-6 if dtype == np.float32 else 1e-9
    scale = float(np.abs(exact).mean())
    np.testing.assert_allclose(found.mean, mean.astype("f8"), rtol=digits, atol=1e-12 * scale)
    far = first is not None
    if not (dtype == np.float32 and first == 1e30):  # its square is more than float32 holds
        np.testing.assert_allclose(found.variance, variance.astype("f8"), rtol=digits)
    assert (found.variance > 0).all() or far


def test_a_constant_channel_and_a_nan():
    x = np.ones((2, 3, 4), np.float32)
    x[:, 1] = 7
    x[0, 2, 1] = np.nan
    y, mean, inverse_std = kernels.batch_norm(x, None, np.full(3, 5, np.float32), eps=1e-5)
    assert (y[:, :2] == 5).all() and mean[:2].tolist() == [1, 7]
    assert np.isnan(y[:, 2]).all() and np.isnan(inverse_std[2])
    rectified = kernels.batch_norm(x, None, None, epilogue=Epilogue(activation="relu")).output
    assert np.isnan(rectified[:, 2]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_out_epilogue_and_strides(dtype):
    x, gamma, beta = numbers((3, 4, 5, 6), dtype)
    rng = np.random.default_rng(2)
    residual = rng.standard_normal(x.shape).astype(dtype)
    plain, mean, inverse_std = kernels.batch_norm(x, gamma, beta)
    epilogue = Epilogue(bias=beta, residual=residual, activation="relu")
    expected = np.maximum(plain + beta.reshape(4, 1, 1) + residual, 0)
    out = np.empty(x.shape[::-1], dtype).T
    turned = np.asfortranarray(x)
    assert kernels.batch_norm(turned, gamma, beta, out=out, epilogue=epilogue).output is out
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    in_place = x.copy()
    kernels.batch_norm(in_place, gamma, beta, out=in_place)
    assert np.array_equal(in_place, plain)
    gradients = kernels.batch_norm_backward(residual, x, gamma, mean, inverse_std)
    again = kernels.batch_norm_backward(
        np.asfortranarray(residual), turned, gamma, mean, inverse_std, out=out
    )
    assert again.gx is out
    for one, other in zip(gradients, again, strict=True):
        assert np.array_equal(one, other)


def test_no_values_have_no_statistics_but_can_be_normalised():
    x = np.ones((0, 3, 2), np.float32)
    vector = np.ones(3, np.float32)
    for call in (lambda: kernels.batch_norm(x, None, None), lambda: kernels.moments(x)):
        with pytest.raises(ValueError, match="no values to take statistics of"):
            call()
    assert kernels.batch_norm_given(x, None, None, vector, vector).shape == x.shape
    gx, ggamma, gbeta = kernels.batch_norm_backward(x, x, None, vector, vector)
    assert gx.shape == x.shape and not ggamma.any() and not gbeta.any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: kernels.batch_norm(x, x[0, :2, 0], None), "gamma must have shape \\(3,\\)"),
        (lambda x: kernels.moments(x[0, 0]), "x must be \\(N, C, ...\\)"),
        (lambda x: kernels.batch_norm(x[:, :0], None, None), "has no channels"),
        (
            lambda x: kernels.batch_norm_backward(x[:1], x, None, x[0, :, 0], x[0, :, 0]),
            "g and x must have one shape",
        ),
    ],
)
def test_wrong_arguments_are_told(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((2, 3, 4), np.float32))
