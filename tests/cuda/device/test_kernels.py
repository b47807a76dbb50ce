"""The other kernels on a card against plain NumPy, in red zones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad_nn import kernels
from minigrad_nn.kernels import Epilogue, Geometry
from tests.cuda.device.guarded import GuardedWorkspace, Zones
from tests.cuda.device.settings import DTYPES, few
from tests.kernels import reference
from tests.kernels.test_recurrent import gru_loop, loop, lstm_loop

NOT_COMPUTED = ("register", "output_size", "offers", "reuse_memory")
TOLERANCE = {"float32": dict(rtol=2e-5, atol=2e-5), "float64": dict(rtol=1e-11, atol=1e-11)}


def close(found, wanted):
    found = found.to_numpy()
    np.testing.assert_allclose(found, wanted, **TOLERANCE[found.dtype.name], equal_nan=True)


def clipped(y, activation):
    """What an activation makes of a result."""
    low, high = {None: (None, None), "relu": (0, None), "relu6": (0, 6)}[activation]
    return y if activation is None else np.clip(y, low, high)


@st.composite
def pools(draw):
    """`(geometry, x, g, rng)`: whole numbers, many of them equal, so that maxima tie."""
    axes = draw(st.sampled_from((2, 1, 3)))
    each = []
    for _ in range(axes):
        k = draw(st.integers(1, 3))
        before, after = draw(st.integers(0, k // 2)), draw(st.integers(0, k // 2))
        each.append((draw(st.integers(k, 5)), k, draw(st.integers(1, 3)), (before, after)))
    sizes, taps, strides, paddings = zip(*each, strict=True)
    step = draw(st.sampled_from((1, 2)))
    if step == 2:
        sizes = tuple(n + k for n, k in zip(sizes, taps, strict=True))
    geometry = Geometry.of(sizes, taps, strides, paddings, step, ceil=draw(st.booleans()))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(DTYPES))
    x = rng.integers(-4, 5, (1, 2, *geometry.size)).astype(dtype)
    g = rng.integers(-4, 5, (1, 2, *geometry.output)).astype(dtype)
    return geometry, x, g, rng


def with_epilogue(zones, rng, like):
    """An epilogue, and what it makes of a result."""
    bias = rng.integers(-4, 5, like.shape[1]).astype(like.dtype)
    residual = rng.integers(-4, 5, like.shape).astype(like.dtype)
    epilogue = Epilogue(bias=zones.copy(bias), residual=zones.copy(residual), activation="relu")
    across = (1, -1) + (1,) * (like.ndim - 2)
    return epilogue, lambda y: np.maximum(y + bias.reshape(across) + residual, 0)


def scattered(g, indices, size):
    y = np.zeros((*g.shape[:2], int(np.prod(size))))
    for plane in np.ndindex(g.shape[:2]):
        np.add.at(y[plane], indices[plane].ravel(), g[plane].ravel())
    return y.reshape(*g.shape[:2], *size)


@few
@given(pools())
def test_pools(card, case):
    geometry, x, g, rng = case
    zones = Zones(card)
    there, back = zones.copy(x), zones.copy(g)
    up, of_up = with_epilogue(zones, rng, g)
    down, of_down = with_epilogue(zones, rng, x)
    values, places = reference.max_pool(x, geometry)
    out = zones.empty(g.shape, g.dtype), zones.empty(g.shape, np.int32)
    found = kernels.max_pool(there, geometry, out=out, epilogue=up)
    assert found.values is out[0] and found.indices is out[1]
    assert np.array_equal(out[0].to_numpy(), of_up(values))
    assert np.array_equal(out[1].to_numpy(), places)
    returned = scattered(g, places, geometry.size)
    spread = reference.sum_pool_input(g, geometry)
    for kernel, arguments, epilogue, wanted in (
        (kernels.max_pool_input, (back, out[1], geometry), down, of_down(returned)),
        (kernels.sum_pool, (there, geometry), up, of_up(reference.sum_pool(x, geometry))),
        (kernels.sum_pool_input, (back, geometry), down, of_down(spread)),
    ):  # fmt: skip
        to = zones.empty(wanted.shape, x.dtype)
        assert kernel(*arguments, out=to, epilogue=epilogue) is to
        assert np.array_equal(to.to_numpy(), wanted)
    for padded, divisor in ((True, "padded"), (False, "inside")):
        found = kernels.average_pool(there, geometry, count_include_pad=padded)
        close(found, reference.sum_pool(x, geometry, divisor))
        found = kernels.average_pool_input(back, geometry, count_include_pad=padded)
        close(found, reference.sum_pool_input(g, geometry, divisor))
    zones.check()


def test_maxima_of_nan(card):
    x = np.array([[[1, np.nan, 3, np.nan, 5, 6]]], np.float32)
    found = kernels.max_pool(card.from_numpy(x), Geometry.of((6,), 5, 1))
    assert np.isnan(
        found.values.to_numpy()
    ).all() and found.indices.to_numpy().ravel().tolist() == [3, 3]
    x[:] = -np.inf
    found = kernels.max_pool(card.from_numpy(x), Geometry.of((6,), 3, 3))
    assert found.indices.to_numpy().ravel().tolist() == [0, 3]


@few
@given(st.data())
def test_any_indices(card, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    dtype, kind = (data.draw(st.sampled_from(t)) for t in (DTYPES, (np.int32, np.int64)))
    x = rng.integers(-4, 5, (2, 2, 3, 3)).astype(dtype)
    g = rng.integers(-4, 5, (2, 2, 11)).astype(dtype)
    # More than a block has threads, and most of them equal.
    indices = rng.integers(0, data.draw(st.sampled_from((2, 9))), g.shape).astype(kind)
    zones = Zones(card)
    there = zones.copy(indices)
    read = np.take_along_axis(x.reshape(2, 2, 9), indices.astype(int), 2)
    for kernel, arguments, like, wanted in (
        (kernels.gather, (zones.copy(x), there), g, read),
        (kernels.scatter, (zones.copy(g), there, (3, 3)), x, scattered(g, indices, (3, 3))),
    ):  # fmt: skip
        epilogue, of = with_epilogue(zones, rng, like)
        out = zones.empty(like.shape, dtype)
        assert kernel(*arguments, out=out, epilogue=epilogue) is out
        assert np.array_equal(out.to_numpy(), of(wanted))
    zones.check()


@pytest.mark.parametrize("wrong", [-1, 9])
def test_indices_outside_are_refused(card, wrong):
    indices = card.from_numpy(np.array([[[0, wrong, 3]]]))
    with pytest.raises(IndexError, match=f"1 of 3 indices .* 0 .. 8 .*{wrong}"):
        kernels.gather(card.empty((1, 1, 3, 3)), indices)
    with pytest.raises(IndexError, match=f"1 of 3 indices .* 0 .. 8 .*{wrong}"):
        kernels.scatter(card.empty((1, 1, 3)), indices, (3, 3))


@st.composite
def batches(draw):
    """`(x, g, residual, gamma, beta, rng)` with a mean that is large against the deviations."""
    shape = draw(st.sampled_from(((3, 2, 2, 5), (7, 3), (1, 2, 9), (2, 1, 3))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(DTYPES))
    x, g, residual = rng.standard_normal((3, *shape))
    gamma, beta = rng.standard_normal((2, shape[1]))
    return [a.astype(dtype) for a in (x + 8, g, residual, gamma, beta)]


@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
@few
@given(batches())
def test_batch_norm(card, activation, case):
    x, g, residual, gamma, beta = case
    across = (1, -1) + (1,) * (x.ndim - 2)
    axes = (0, *range(2, x.ndim))
    zones = Zones(card)
    there = [zones.copy(a) for a in case]
    wanted, mean, variance = reference.batch_norm(x, gamma, beta, 1e-5)
    found = kernels.moments(there[0])
    close(found.mean, mean)
    close(found.variance, variance)
    out = zones.empty(x.shape, x.dtype)
    epilogue = Epilogue(residual=there[2], activation=activation)
    room = GuardedWorkspace(zones)
    y, m, s = kernels.batch_norm(
        there[0], there[3], there[4], out=out, workspace=room, epilogue=epilogue
    )
    made = clipped(wanted + residual, activation)
    assert y is out
    close(y, made)
    close(m, mean)
    close(s, 1 / np.sqrt(variance + 1e-5))
    plain = kernels.batch_norm_given(there[0], None, None, m, s)
    close(plain, (wanted - beta.reshape(across)) / gamma.reshape(across))
    h = (x - mean.reshape(across)) / np.sqrt(variance.reshape(across) + 1e-5)
    scale = (gamma / np.sqrt(variance + 1e-5)).reshape(across)
    number = x.size // x.shape[1]
    for output, there_is in ((y, made), (None, clipped(wanted, activation))):
        closed = (there_is == 0) & (activation is not None) | (there_is == 6)
        passed = np.where(closed, 0, g)
        for fixed in (False, True):
            to = zones.empty(x.shape, x.dtype)
            found = kernels.batch_norm_epilogue_backward(
                there[1],
                there[0],
                there[3],
                there[4],
                m,
                s,
                activation,
                output,
                given=fixed,
                out=to,
                workspace=room,
            )
            gbeta, ggamma = passed.sum(axes), (passed * h).sum(axes)
            gx = scale * passed
            if not fixed:
                off = gbeta.reshape(across) + h * ggamma.reshape(across)
                gx = scale * (passed - off / number)
            assert found.gx is to
            for one, other in zip(found[:3], (gx, ggamma, gbeta), strict=True):
                close(one, other)
            if output is not None:
                close(found.gresidual, passed)
    if activation is None:
        plain = kernels.batch_norm_backward(there[1], there[0], there[3], m, s)
        for one, other in zip(plain, found[:3], strict=True):
            assert one.shape == other.shape
    zones.check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("geometry", "bends"),
    [
        (Geometry.of((3, 4), 3, 1, 1, groups=2), ("relu6", "relu")),
        (Geometry.of((4, 3), 3, 2, ((0, 2), (1, 1)), groups=2), ("relu", None)),
        (Geometry.of((5,), 2, 2, 1, groups=2), (None, "relu6")),
    ],
)
def test_a_depthwise_filter_between_two_norms(card, geometry, bends, dtype):
    rng = np.random.default_rng(0)
    x, g = (rng.standard_normal((3, 2, *size)) for size in (geometry.size, geometry.output))
    gamma, beta, gamma2, beta2 = rng.standard_normal((4, 2)) * 2
    w = rng.standard_normal((2, 1, *geometry.kernel))
    inputs = [array.astype(dtype) for array in (x, gamma, beta, w, gamma2, beta2)]
    g, eps, zones = g.astype(dtype), (0.01, 0.1), Zones(card)
    room = GuardedWorkspace(zones)
    there = [zones.copy(array) for array in inputs]
    found = kernels.norm_depthwise_norm(*there, geometry, bends, eps, workspace=room)
    wanted = reference.norm_depthwise_norm(*inputs, geometry, bends, eps)
    for one, other in zip(found, wanted, strict=True):
        close(one, other)
    gradients = kernels.norm_depthwise_norm_backward(
        *(zones.copy(g), *there[:3], *found[1:3], *there[3:], *found[3:], geometry, bends),
        workspace=room,
    )
    wanted = reference.norm_depthwise_norm_backward(g, *inputs, geometry, bends, eps)
    digits = dict(rtol=2e-4, atol=2e-4) if dtype == np.float32 else dict(rtol=1e-10, atol=1e-10)
    for one, other, array in zip(gradients, wanted, inputs, strict=True):
        assert one.shape == array.shape and one.dtype == dtype
        np.testing.assert_allclose(one.to_numpy(), other, **digits)
    zones.check()


def test_a_large_mean_costs_no_digits(card):
    x = np.float32(2**20) + np.arange(24, dtype=np.float32).reshape(2, 1, 12) % 4
    found = kernels.moments(card.from_numpy(x))
    assert found.mean.item() == 2**20 + 1.5 and found.variance.item() == 1.25


@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
@few
@given(batches())
def test_epilogue_backward(card, activation, case):
    g = case[1]
    y = clipped(np.round(case[2] * 4), activation)
    y.flat[0] = np.nan
    zones = Zones(card)
    out = zones.empty(g.shape, g.dtype)
    found = kernels.epilogue_backward(
        zones.copy(g), zones.copy(y), activation, out=out, workspace=GuardedWorkspace(zones)
    )
    closed = (y <= 0) & (activation is not None) | (y >= 6) & (activation == "relu6")
    passed = np.where(closed, 0, g)
    assert found.g is out and np.array_equal(out.to_numpy(), passed)
    close(found.gbias, passed.sum((0, *range(2, g.ndim))))
    zones.check()


@few
@given(batches())
def test_activations(card, case):
    x, g = case[2], case[1]
    x.flat[0] = np.nan
    zones = Zones(card)
    for kernel, y, wanted in (
        (kernels.relu_backward, x, np.where(x <= 0, 0, g)),
        (kernels.tanh_backward, x, g * (1 - x * x)),
        (kernels.sigmoid_backward, x, g * (x * (1 - x))),
    ):
        out = zones.empty(x.shape, x.dtype)
        assert kernel(zones.copy(g), zones.copy(y), out=out) is out
        close(out, wanted)
    with np.errstate(over="ignore"):
        forward = (np.maximum(x, 0), np.tanh(x), 1 / (1 + np.exp(-x)))
    for kernel, wanted in zip((kernels.relu, kernels.tanh, kernels.sigmoid), forward, strict=True):
        same = zones.copy(x)
        assert kernel(same, out=same) is same
        close(same, wanted)
    zones.check()


@few
@given(batches())
def test_channel_sum(card, case):
    x = case[2]
    found = kernels.channel_sum(card.from_numpy(x))
    close(found, x.sum((0, *range(2, x.ndim)), dtype=np.float64))


# There and back, and where sequences differ in length.
WAYS = pytest.mark.parametrize(
    ("reverse", "ended"),
    [
        (False, False),
        (True, True),
        *(pytest.param(e, not e, marks=pytest.mark.full) for e in (0, 1)),
    ],
)


@st.composite
def sequences(draw, gates=1):
    """`(x, h, c, w, lengths, rng)` in float64."""
    steps, count, size = (draw(st.integers(least, least + 2)) for least in (3, 1, 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.standard_normal((steps, count, gates * size))
    h, c = rng.standard_normal((2, count, size))
    w = rng.standard_normal((gates * size, size)) / np.sqrt(size)
    # Ends that lie several steps before the last are where states and gradients must wait.
    lengths = np.resize([1, steps, 0, 2], count)
    return x, h, c, w, lengths, rng


def check_gradients(function, arrays, found, rng):
    """Gradients of a sum against differences along a direction, in float64."""
    directions = [rng.standard_normal(a.shape) for a in arrays]
    step = 1e-6
    up, down = (
        function(*(a + s * step * d for a, d in zip(arrays, directions, strict=True)))
        for s in (1, -1)
    )
    wanted = (up - down) / (2 * step)
    parts = [(g.to_numpy() * d).sum() for g, d in zip(found, directions, strict=True)]
    assert abs(sum(parts) - wanted) < 1e-7 * (1 + sum(map(abs, parts)))


@WAYS
@pytest.mark.parametrize("bend", ["tanh", "relu"])
@few
@given(sequences())
def test_rnn(card, bend, reverse, ended, case):
    x, h, _, w, lengths, rng = case
    lengths = lengths if ended else None
    zones = Zones(card)
    state, weight = zones.copy(h), zones.copy(w)
    out = zones.empty(x.shape, x.dtype)
    y = kernels.rnn(zones.copy(x), state, weight, bend, reverse, lengths, out=out)
    assert y is out
    close(y, loop(x, h, w, bend, reverse, lengths))
    g = rng.standard_normal(y.shape)
    to = zones.empty(x.shape, x.dtype)
    found = kernels.rnn_backward(
        zones.copy(g),
        y,
        state,
        weight,
        bend,
        reverse,
        lengths,
        out=to,
        workspace=GuardedWorkspace(zones),
    )
    assert found.gx is to
    check_gradients(
        lambda x, h, w: (loop(x, h, w, bend, reverse, lengths) * g).sum(), (x, h, w), found, rng
    )
    zones.check()


def test_rnn_in_float32_with_more_sequences_than_places(card):
    rng = np.random.default_rng(0)
    x, h, w = (rng.standard_normal(n).astype(np.float32) for n in ((2, 7, 6), (7, 6), (6, 6)))
    close(kernels.rnn(*map(card.from_numpy, (x, h, w))), loop(x, h, w, "tanh", False))


@WAYS
@few
@given(sequences(gates=4))
def test_lstm(card, reverse, ended, case):
    x, h, c, w, lengths, rng = case
    lengths = lengths if ended else None
    zones = Zones(card)
    states = [zones.copy(a) for a in (h, c, w)]
    out = zones.empty((*x.shape[:2], h.shape[1]), x.dtype)
    made = kernels.lstm(zones.copy(x), *states, reverse, lengths, out=out)
    assert made.y is out
    for one, wanted in zip(made, lstm_loop(x, h, c, w, reverse, lengths), strict=False):
        close(one, wanted)
    g, gm = rng.standard_normal((2, *out.shape))
    to = zones.empty(x.shape, x.dtype)
    found = kernels.lstm_backward(
        zones.copy(g),
        zones.copy(gm),
        *made,
        *states,
        reverse,
        lengths,
        out=to,
        workspace=GuardedWorkspace(zones),
    )
    assert found.gx is to

    def total(*arrays):
        y, memory = lstm_loop(*arrays, reverse, lengths)
        return (y * g).sum() + (memory * gm).sum()

    check_gradients(total, (x, h, c, w), found, rng)
    zones.check()


@WAYS
@few
@given(sequences(gates=3))
def test_gru(card, reverse, ended, case):
    x, h, _, w, lengths, rng = case
    lengths = lengths if ended else None
    b = rng.standard_normal(len(w))
    zones = Zones(card)
    state, weight = zones.copy(h), zones.copy(w)
    out = zones.empty((*x.shape[:2], h.shape[1]), x.dtype)
    made = kernels.gru(zones.copy(x), state, weight, zones.copy(b), reverse, lengths, out=out)
    assert made.y is out
    close(out, gru_loop(x, h, w, b, reverse, lengths))
    g = rng.standard_normal(out.shape)
    to = zones.empty(x.shape, x.dtype)
    found = kernels.gru_backward(
        zones.copy(g),
        *made,
        state,
        weight,
        reverse,
        lengths,
        out=to,
        workspace=GuardedWorkspace(zones),
    )
    assert found.gx is to
    check_gradients(
        lambda x, h, w, b: (gru_loop(x, h, w, b, reverse, lengths) * g).sum(),
        (x, h, w, b),
        found,
        rng,
    )
    zones.check()


@pytest.mark.parametrize("dtype", DTYPES)
def test_updates(card, dtype):
    rng = np.random.default_rng(0)
    shapes = (3, 5), (11,), (1,), (0, 2)  # the second is longer than a chunk
    p, g, v, m, s = ([rng.standard_normal(n).astype(dtype) for n in shapes] for _ in range(5))
    s = [np.abs(a) for a in s]
    zones = Zones(card)

    def there(arrays):
        return [zones.copy(a) for a in arrays]

    for momentum, decay, nesterov, first in (
        (0, 0, False, True), (0, 0.1, False, True), (0.9, 0.1, False, True),
        (0.9, 0.1, True, False), (0.5, 0, False, False),
    ):  # fmt: skip
        moving, speeds = there(p), there(v)
        kernels.sgd_update(
            moving,
            there(g),
            speeds if momentum else None,
            lr=0.3,
            momentum=momentum,
            dampening=0.25,
            weight_decay=decay,
            nesterov=nesterov,
            first=first,
        )
        for one, speed, a, b, c in zip(moving, speeds, p, g, v, strict=True):
            slope = b + decay * a
            if momentum:
                after = slope if first else momentum * c + 0.75 * slope
                close(speed, after)
                slope = slope + momentum * after if nesterov else after
            close(one, a - 0.3 * slope)
    for decoupled in (False, True):
        moving, means, squares = there(p), there(m), there(s)
        kernels.adam_update(
            moving,
            there(g),
            means,
            squares,
            step=3,
            lr=0.3,
            betas=(0.8, 0.9),
            eps=1e-3,
            weight_decay=0.1,
            decoupled=decoupled,
        )
        for one, mean, square, a, b, c, d in zip(moving, means, squares, p, g, m, s, strict=True):
            slope = b if decoupled else b + 0.1 * a
            kept = a * (1 - 0.03) if decoupled else a
            c, d = 0.8 * c + 0.2 * slope, 0.9 * d + 0.1 * slope * slope
            close(mean, c)
            close(square, d)
            step = c / (1 - 0.8**3) / (np.sqrt(d / (1 - 0.9**3)) + 1e-3)
            close(one, kept - 0.3 * step)
    zones.check()


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
@pytest.mark.parametrize("shape", [(3, 7), (2, 3, 2, 2), (0, 3), (2, 1)])
def test_cross_entropy(card, shape, smoothing):
    rng = np.random.default_rng(0)
    x = 30 * rng.standard_normal(shape)
    target = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    top = x.max(axis=1)
    p = np.exp(x - np.expand_dims(top, 1))
    log_sum = np.log(p.sum(axis=1))
    hot = np.moveaxis(np.eye(shape[1])[target], -1, 1)
    hot = (1 - smoothing) * hot + smoothing / shape[1]
    zones = Zones(card)
    there, kept = zones.copy(x), card.from_numpy(target)
    found = kernels.cross_entropy(there, kept, smoothing)
    wanted = log_sum - (hot * (x - np.expand_dims(top, 1))).sum(axis=1)
    for one, other in zip(found, (wanted, top, log_sum), strict=True):
        close(one, other)
    g = rng.standard_normal(target.shape)
    out = zones.empty(shape, x.dtype)
    made = kernels.cross_entropy_backward(
        zones.copy(g), there, kept, found.top, found.log_sum, smoothing, out=out
    )
    assert made is out
    softmax = p / p.sum(axis=1, keepdims=True)
    close(made, np.expand_dims(g, 1) * (softmax - hot))
    zones.check()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_cross_entropy_of_what_has_none(card, value):
    x = np.full((2, 3, 2), -np.inf) if value == -np.inf else np.zeros((2, 3, 2))
    x[1, 1, 1] = value
    for array in (x, x[:, :, 1]):
        target = np.zeros((2, *array.shape[2:]), np.int64)
        found = kernels.cross_entropy(card.from_numpy(array.copy()), card.from_numpy(target))
        assert np.isnan(found.loss.to_numpy().ravel()[-1])


def test_every_public_kernel_is_written(card):
    functions = {name for name in kernels.__all__ if name[0].islower() and name not in NOT_COMPUTED}
    assert functions == {name for name in functions if kernels.offers(name, card.empty(1))}


def test_warmup_compiles_them_all(card):
    told = kernels.warmup(device=kernels.registry.device_of("test", card.empty(1)))
    assert [w.done for w in told] == list(range(1, len(told) + 1))
    assert {w.kernel for w in told} == {
        name
        for name in kernels.__all__
        if name[0].islower() and name not in (*NOT_COMPUTED, "warmup")
    }
