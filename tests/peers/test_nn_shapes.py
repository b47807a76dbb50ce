"""Adaptive pools, unpooling, padding modes and transposed convolutions against PyTorch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as TF
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import functional as F
from tests.peers.test_nn_functional import compare, geometries


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 6)), min_size=1, max_size=3))
def test_adaptive_pools(sizes):
    axes = len(sizes)
    x = np.random.default_rng(axes).integers(-3, 4, (2, 2, *(n for n, _ in sizes))).astype(float)
    output = [m for _, m in sizes]
    for kind in ("avg", "max"):
        name = f"adaptive_{kind}_pool{axes}d"
        ours, theirs = getattr(F, name), getattr(TF, name)
        compare(lambda a: ours(a, output), lambda a: theirs(a, output), [x])  # noqa: B023
    _, indices = ours(mg.tensor(x), output, return_indices=True)
    _, tindices = theirs(torch.tensor(x), output, return_indices=True)
    np.testing.assert_array_equal(indices.data, tindices.numpy())


def test_a_nan_is_a_maximum():
    x = np.array([[[1.0, np.nan, 5.0, 2.0, 3.0]]])
    wanted = TF.adaptive_max_pool1d(torch.tensor(x), 3).numpy()
    np.testing.assert_array_equal(F.adaptive_max_pool1d(mg.tensor(x), 3).data, wanted)


@given(geometries(pool=True, dilate=False))
def test_unpooling(geometry):
    axes, size, kernel, stride, padding, _ = geometry
    x = np.random.default_rng(sum(size)).standard_normal((2, 2, *size))
    pool, unpool = f"max_pool{axes}d", f"max_unpool{axes}d"
    y, indices = getattr(F, pool)(mg.tensor(x), kernel, stride, padding, return_indices=True)
    ty, tindices = getattr(TF, pool)(torch.tensor(x), kernel, stride, padding, return_indices=True)
    np.testing.assert_array_equal(indices.data, tindices.numpy())
    found = getattr(F, unpool)(y, indices, kernel, stride, padding, size)
    # Written one after the other where a place is named twice: the last stays.
    wanted = np.zeros(x.shape).reshape(4, -1)
    for plane, values, places in zip(
        wanted, ty.numpy().reshape(4, -1), tindices.numpy().reshape(4, -1), strict=True
    ):
        plane[places] = values
    np.testing.assert_array_equal(found.data, wanted.reshape(x.shape))


def test_unpooling_is_pytorchs_where_windows_do_not_overlap():
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 6))
    _, indices = F.max_pool2d(mg.tensor(x), 2, return_indices=True)
    places = torch.tensor(np.array(indices.data, np.int64))
    values = np.random.default_rng(1).standard_normal(places.shape)
    compare(
        lambda a: F.max_unpool2d(a, indices, 2, output_size=(5, 6)),
        lambda a: TF.max_unpool2d(a, places, 2, output_size=(5, 6)),
        [values],
    )
    default = nn.MaxUnpool2d(2)(mg.tensor(values), indices.data % 20)
    assert default.shape == torch.nn.MaxUnpool2d(2)(torch.tensor(values), places % 20).shape


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("pad", [(1, 2), (2, 0, 0, 3), (1, 1, 1, 2, 0, 1)])
def test_padding(mode, pad):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5, 6)[: 2 + len(pad) // 2])
    compare(lambda a: F.pad(a, pad, mode), lambda a: TF.pad(a, pad, mode), [x])


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("padding", [2, "same"])
@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
def test_padding_modes_of_convolution(mode, axes, padding):
    settings = dict(kernel_size=(4, 3, 2)[:axes], padding=padding, padding_mode=mode, groups=2)
    theirs = getattr(torch.nn, f"Conv{axes}d")(4, 2, **settings).double()
    ours = getattr(nn, f"Conv{axes}d")(4, 2, **settings).astype(mg.float64)
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((2, 4, *(5, 6, 4)[:axes]))
    compare(ours, theirs, [x], order=1)


@given(geometries(), st.integers(1, 2), st.booleans(), st.integers(0, 2))
def test_transposed_convolution(geometry, groups, biased, more):
    axes, size, kernel, stride, padding, dilation = geometry
    size = [min(n, 4) for n in size]
    padding = [
        min(p, (n - 1) * s + d * (k - 1)) // 2
        for p, n, s, d, k in zip(padding, size, stride, dilation, kernel, strict=True)
    ]
    extra = [more % s for s in stride]
    rng = np.random.default_rng(sum(size))
    inputs = [
        rng.standard_normal((2, groups * 2, *size)),
        rng.standard_normal((groups * 2, 3, *kernel)),
    ]
    if biased:
        inputs.append(rng.standard_normal(groups * 3))
    name = f"conv_transpose{axes}d"
    settings = dict(
        stride=stride, padding=padding, output_padding=extra, groups=groups, dilation=dilation
    )
    compare(
        lambda *a: getattr(F, name)(*a, **settings),
        lambda *a: getattr(TF, name)(*a, **settings),
        inputs,
    )


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_transposed_layers(axes):
    settings = dict(stride=3, padding=1, output_padding=1, groups=2, dilation=2)
    theirs = getattr(torch.nn, f"ConvTranspose{axes}d")(4, 6, 3, **settings)
    ours = getattr(nn, f"ConvTranspose{axes}d")(4, 6, 3, **settings)
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((1, 4, *(2, 3, 2)[:axes])).astype("f")
    y, ty = ours(mg.tensor(x)), theirs(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(y.data, ty, rtol=1e-4, atol=1e-5)
    size = [n + 1 for n in y.shape[2:]]
    assert ours(mg.tensor(x), size).shape == tuple(theirs(torch.tensor(x), size).shape)
    assert np.abs(ours.weight.data).max() <= theirs.weight.abs().max().item() * 1.5


def test_separable_layer_is_a_pair_of_pytorchs():
    torch.manual_seed(0)
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, 2, 1, groups=3, bias=False), torch.nn.Conv2d(6, 5, 1)
    )
    ours = nn.SeparableConv2d(3, 5, 3, stride=2, padding=1, multiplier=2)
    names = {"0": "depthwise", "1": "pointwise"}
    ours.load_state_dict({names[k[0]] + k[1:]: v for k, v in theirs.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 7)).astype("f")
    wanted = theirs(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(ours(mg.tensor(x)).data, wanted, rtol=1e-4, atol=1e-5)
