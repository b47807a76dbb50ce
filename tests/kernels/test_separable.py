"""A depthwise filter between two batch norms: the bits of its parts, and its meaning in float64."""

import numba
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minigrad_nn import kernels
from minigrad_nn.kernels import Geometry, Workspace
from minigrad_nn.kernels import separable as meaning
from minigrad_nn.kernels.cpu import separable
from tests.kernels import reference
from tests.kernels.draws import DTYPES
from tests.kernels.everything import filter_by_planes
from tests.kernels.redzone import GuardedWorkspace, Zones

BENDS = (None, "relu", "relu6")
EPS = 1e-3, 0.1
INPUTS = ("x", "gamma", "beta", "w", "gamma2", "beta2")


@st.composite
def geometries(draw):
    """3x3 filters that move by 1 or 2, which channels go through one by one; others now and then.

    Those take the kernels one after the other: larger filters, dilated or uneven ones, planes of
    one number, lines.
    """
    channels = draw(st.sampled_from((1, 2, 3, 9, 20)))
    if draw(st.integers(0, 3)) == 0:
        return draw(
            st.sampled_from(
                (
                    Geometry.of((7, 6), 5, 1, 2, groups=channels),
                    Geometry.of((9, 7), 3, 1, 1, (2, 1), groups=channels),
                    Geometry.of((6, 9), 3, (2, 1), 1, groups=channels),
                    Geometry.of((9, 8), 3, 3, 1, groups=channels),
                    Geometry.of((1, 1), 3, 1, 1, groups=channels),
                    Geometry.of((3, 3), 3, 1, 0, groups=channels),
                    Geometry.of((1, 1), 3, 1, 2, groups=channels),
                    Geometry.of((11,), 3, 2, 1, groups=channels),
                    Geometry.of((2, 3, 4), 3, 1, 1, groups=channels),
                )
            )
        )
    stride, step = draw(st.sampled_from(((1, 1), (2, 1), (1, 2))))
    paddings = [draw(st.tuples(st.integers(0, 3), st.integers(0, 3))) for _ in range(2)]
    size = [
        draw(st.integers(max(1, extent - sum(around)), longest))
        for extent, around, longest in zip((3, 2 * step + 1), paddings, (9, 40), strict=True)
    ]
    return Geometry.of(size, 3, stride, paddings, (1, step), groups=channels)


def numbers(geometry, images=2, dtype=np.float64, seed=0):
    """The six inputs, and a gradient."""
    rng = np.random.default_rng(seed)
    channels = geometry.groups
    made = [
        rng.standard_normal((images, channels, *geometry.size)) * 2 + 3,
        *rng.standard_normal((2, channels)) * 2,
        rng.standard_normal((channels, 1, *geometry.kernel)),
        *rng.standard_normal((2, channels)) * 3,
        rng.standard_normal((images, channels, *geometry.output)),
    ]
    *inputs, g = (array.astype(dtype) for array in made)
    return inputs, g


def behind(inputs, g, found):
    """The arguments of backward, from those of forward and what that found."""
    x, gamma, beta, w, gamma2, beta2 = inputs
    return g, x, gamma, beta, *found[1:3], w, gamma2, beta2, *found[3:]


CASES = {
    "geometry": geometries(),
    "images": st.sampled_from((1, 2, 5)),
    "bends": st.tuples(st.sampled_from(BENDS), st.sampled_from(BENDS)),
    "dtype": st.sampled_from(DTYPES),
    "seed": st.integers(0, 1000),
}


@pytest.fixture
def by_planes(monkeypatch):
    filter_by_planes(monkeypatch)


def test_each_channel_has_the_bits_of_the_kernels_one_after_the_other(by_planes):
    @given(**CASES)
    @example(Geometry.of((7, 7), 3, 1, 1, groups=37), 5, ("relu6", "relu"), np.float32, 0)
    @example(Geometry.of((14, 14), 3, 2, 1, groups=11), 3, ("relu", None), np.float64, 0)
    @example(Geometry.of((40, 60), 3, 1, 1, groups=2), 2, ("relu6", "relu6"), np.float32, 0)
    def check(geometry, images, bends, dtype, seed):
        inputs, g = numbers(geometry, images, dtype, seed)
        found = kernels.norm_depthwise_norm(*inputs, geometry, bends, EPS)
        assert_same(found, meaning.composed(*inputs, geometry, bends, EPS, None))
        for array in (inputs[0], g):
            array.flags.writeable = False
        arguments = (*behind(inputs, g, found), geometry, bends)
        gradients = kernels.norm_depthwise_norm_backward(*arguments)
        assert_same(gradients, meaning.composed_backward(*arguments, None))
        for one, other in zip(gradients, inputs, strict=True):
            assert one.shape == other.shape and one.dtype == dtype

    check()


def assert_same(one, other):
    for i, (a, b) in enumerate(zip(one, other, strict=True)):
        assert a.shape == b.shape and a.dtype == b.dtype, i
        assert a.tobytes() == b.tobytes(), i


@given(**CASES)
def test_it_equals_what_it_means(geometry, images, bends, dtype, seed):
    if images * np.prod(geometry.output) < 3:
        images = 5  # of fewer values the inverse deviation may be anything
    inputs, g = numbers(geometry, images, dtype, seed)
    found = kernels.norm_depthwise_norm(*inputs, geometry, bends, EPS)
    wanted = reference.norm_depthwise_norm(*inputs, geometry, bends, EPS)
    close = dict(rtol=2e-4, atol=2e-4) if dtype == np.float32 else dict(rtol=1e-10, atol=1e-10)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == dtype
        np.testing.assert_allclose(one, other, **close)
    if dtype == np.float64:  # in fewer digits a value may be at the other side of a corner
        found = kernels.norm_depthwise_norm_backward(*behind(inputs, g, found), geometry, bends)
        wanted = reference.norm_depthwise_norm_backward(g, *inputs, geometry, bends, EPS)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("bends", [(None, None), ("relu", "relu6"), ("relu6", "relu")])
@pytest.mark.parametrize(
    "geometry",
    [
        Geometry.of((5, 6), 3, 1, 1, groups=3),
        Geometry.of((6, 5), 3, 2, ((0, 1), (2, 1)), groups=3),
        Geometry.of((4, 19), 3, 1, (1, 2), (1, 2), groups=2),
        Geometry.of((6, 6), 5, 1, 2, groups=2),
    ],
    ids=str,
)
def test_backward_against_central_differences(geometry, bends):
    inputs, g = numbers(geometry, 3)
    found = kernels.norm_depthwise_norm(*inputs, geometry, bends, EPS)
    gradients = kernels.norm_depthwise_norm_backward(*behind(inputs, g, found), geometry, bends)
    step = 1e-6
    for position, gradient in enumerate(gradients):
        # One number alone: moving all of them would bring some to a corner of an activation.
        strongest = np.unravel_index(np.argsort(-np.abs(gradient), None)[:4], gradient.shape)
        for place in zip(*strongest, strict=True):
            ends = []
            for sign in (1, -1):
                moved = [array.copy() for array in inputs]
                moved[position][place] += sign * step
                y = reference.norm_depthwise_norm(*moved, geometry, bends, EPS)[0]
                ends.append(np.sum(g * y))
            numeric = (ends[0] - ends[1]) / (2 * step)
            assert gradient[place] == pytest.approx(numeric, rel=1e-5, abs=1e-5), INPUTS[position]


class Guarded:
    """NumPy whose `empty` gives arrays among red zones."""

    def __init__(self, zones):
        self.empty = zones.empty

    def __getattr__(self, name):
        return getattr(np, name)


@given(**CASES)
def test_nothing_around_the_results_is_touched(geometry, images, bends, dtype, seed):
    inputs, g = numbers(geometry, images, dtype, seed)
    wanted = kernels.norm_depthwise_norm(*inputs, geometry, bends, EPS)
    arguments = behind(inputs, g, wanted)
    gradients = kernels.norm_depthwise_norm_backward(*arguments, geometry, bends)
    zones = Zones()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(separable, "np", Guarded(zones))
        room = GuardedWorkspace(zones)
        inside = [zones.copy(array) for array in inputs]
        found = kernels.norm_depthwise_norm(*inside, geometry, bends, EPS, workspace=room)
        assert_same(found, wanted)
        inside = [zones.copy(array) for array in arguments]
        found = kernels.norm_depthwise_norm_backward(*inside, geometry, bends, workspace=room)
        assert_same(found, gradients)
    zones.check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stride", [1, 2])
def test_any_strides_and_read_only_inputs_give_the_same_bits(stride, dtype):
    geometry = Geometry.of((7, 18), 3, stride, 1, groups=5)
    inputs, g = numbers(geometry, 3, dtype)
    found = kernels.norm_depthwise_norm(*inputs, geometry, ("relu", None))
    arguments = behind(inputs, g, found)
    gradients = kernels.norm_depthwise_norm_backward(*arguments, geometry, ("relu", None))

    def frozen(array):
        array = array.copy()
        array.flags.writeable = False
        return array

    def odd(array):  # not aligned
        made = np.empty(array.nbytes + 1, np.uint8)[1:].view(dtype).reshape(array.shape)
        made[...] = array
        return made

    for change in (frozen, odd, np.asfortranarray, lambda a: np.repeat(a, 2, 0)[::2]):
        given = [change(array) for array in inputs]
        assert_same(kernels.norm_depthwise_norm(*given, geometry, ("relu", None)), found)
        for array, original in zip(given, inputs, strict=True):
            assert np.array_equal(array, original)
        given = [change(array) for array in arguments]
        assert_same(
            kernels.norm_depthwise_norm_backward(*given, geometry, ("relu", None)), gradients
        )
        for array, original in zip(given, arguments, strict=True):
            assert np.array_equal(array, original)


def test_a_workspace_is_used_again_and_changes_nothing():
    workspace, held = Workspace(), 0
    for _ in range(3):
        for geometry in (
            Geometry.of((9, 20), 3, 1, 1, groups=20),
            Geometry.of((6, 5), 3, 2, 1, groups=3),
            Geometry.of((7, 7), 5, 1, 2, groups=3),
        ):
            inputs, g = numbers(geometry, 3, np.float32)
            found = kernels.norm_depthwise_norm(*inputs, geometry, workspace=workspace)
            assert_same(found, kernels.norm_depthwise_norm(*inputs, geometry))
            arguments = behind(inputs, g, found)
            gradients = kernels.norm_depthwise_norm_backward(
                *arguments, geometry, workspace=workspace
            )
            assert_same(gradients, kernels.norm_depthwise_norm_backward(*arguments, geometry))
        assert held in (0, workspace.nbytes) or workspace.nbytes == workspace.high_water + 64
        held = workspace.nbytes
    assert held >= workspace.high_water > 0


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@pytest.mark.parametrize("channels", [1, 2, 20])
@pytest.mark.parametrize("stride", [1, 2])
def test_threads_change_no_bit(stride, channels):
    geometry = Geometry.of((9, 11), 3, stride, 1, groups=channels)
    inputs, g = numbers(geometry, 3, np.float32)
    made = []
    for number in (1, 2, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(number)
        try:
            found = kernels.norm_depthwise_norm(*inputs, geometry, ("relu6", "relu6"))
            gradients = kernels.norm_depthwise_norm_backward(
                *behind(inputs, g, found), geometry, ("relu6", "relu6")
            )
        finally:
            numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
        made.append([*found, *gradients])
    for other in made[1:]:
        assert_same(made[0], other)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("stride", [1, 2])
def test_one_number_that_is_none_spoils_its_channel_and_no_other(stride, value, by_planes):
    geometry = Geometry.of((7, 9), 3, stride, 1, groups=3)
    inputs, g = numbers(geometry, 2)
    bends = "relu6", "relu"
    clean = kernels.norm_depthwise_norm(*inputs, geometry, bends)
    before = kernels.norm_depthwise_norm_backward(*behind(inputs, g, clean), geometry, bends)
    inputs[0][1, 1, -1, -1] = value
    found = kernels.norm_depthwise_norm(*inputs, geometry, bends)
    after = kernels.norm_depthwise_norm_backward(*behind(inputs, g, found), geometry, bends)
    assert np.isnan(found.output[:, 1]).all() and np.isnan(found.inverse_std[1])
    assert np.array_equal(found.output[:, ::2], clean.output[:, ::2])
    assert np.isnan(after.gx[:, 1]).all() and np.array_equal(after.gx[:, ::2], before.gx[:, ::2])
    assert np.isnan(after.gw[1]).all() and np.array_equal(after.gw[::2], before.gw[::2])
    assert_same(found, meaning.composed(*inputs, geometry, bends, (1e-5, 1e-5), None))


def test_a_batch_without_pictures_has_no_statistics():
    geometry = Geometry.of((4, 5), 3, 1, 1, groups=3)
    inputs, _ = numbers(geometry, 0)
    with pytest.raises(ValueError, match="norm_depthwise_norm: no values have no statistics: x"):
        kernels.norm_depthwise_norm(*inputs, geometry)


VECTORS = {
    "norm_depthwise_norm": ("gamma", "beta", "gamma2", "beta2"),
    "norm_depthwise_norm_backward": (
        *("gamma", "beta", "mean", "inverse_std", "gamma2", "beta2", "mean2", "inverse_std2"),
    ),
}


def arguments_of(name):
    geometry = Geometry.of((6, 6), 3, 1, 1, groups=3)
    inputs, g = numbers(geometry, 2, np.float32)
    found = kernels.norm_depthwise_norm(*inputs, geometry)
    if name == "norm_depthwise_norm":
        return dict(zip((*INPUTS, "geometry"), (*inputs, geometry), strict=True))
    names = "g", "x", *VECTORS[name][:4], "w", *VECTORS[name][4:], "geometry"
    return dict(zip(names, (*behind(inputs, g, found), geometry), strict=True))


@pytest.mark.parametrize("name", VECTORS)
def test_wrong_arguments_are_told(name):
    def refused(error, message, **changed):
        with pytest.raises(error, match=message):
            getattr(kernels, name)(**{**right, **changed})

    right = arguments_of(name)
    getattr(kernels, name)(**right)
    for vector in VECTORS[name]:
        refused(
            ValueError, rf"{name}: {vector} must have shape \(3,\)", **{vector: np.ones(2, "f4")}
        )
        refused(TypeError, rf"x has float32 and {vector} float64|g has .* {vector} float64",
                **{vector: np.ones(3)})  # fmt: skip
    x, w = right["x"], right["w"]
    refused(ValueError, rf"{name}: x must be .* geometry.size=\(6, 6\)", x=x[..., :5])
    refused(ValueError, rf"{name}: w must be .* geometry.kernel=\(3, 3\)", w=w[..., :2])
    refused(ValueError, f"{name}: w of shape .* reads", w=np.ones((3, 2, 3, 3), "f4"))
    wider = np.ones((6, 1, 3, 3), "f4")
    refused(ValueError, f"{name}: a depthwise filter for each of 3 channels is wanted", w=wider)
    dense = Geometry.of((6, 6), 3, 1, 1)
    full = np.ones((3, 3, 3, 3), "f4")
    refused(ValueError, "a depthwise filter for each .* groups=1", w=full, geometry=dense)
    refused(ValueError, "activation must be one of .* 'tanh'", activations=(None, "tanh"))
    refused(ValueError, "activation must be one of .* 'elu'", activations=("elu", None))
    refused(TypeError, f"{name}: .*w float64", w=w.astype("f8"))
    if "g" in right:
        refused(ValueError, rf"{name}: g must have the output's shape", g=right["g"][:1])
        refused(TypeError, f"{name}: .* g has float64", g=right["g"].astype("f8"))
    else:
        refused(TypeError, f"{name}: x must be float32 or float64", x=x.astype("i4"))
