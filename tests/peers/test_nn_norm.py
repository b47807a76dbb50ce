"""Normalisation of samples, embedding and resizing against PyTorch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as TF
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import functional as F
from tests.peers.test_nn_functional import compare


def drawn(*shape):
    return np.random.default_rng(sum(shape)).normal(1.0, 2.0, shape)


@pytest.mark.parametrize("shape, tail", [((4, 5), 5), ((2, 3, 4), (3, 4)), ((2, 3, 4), (4,))])
@pytest.mark.parametrize("affine", [False, True])
def test_layer_norm(shape, tail, affine):
    tail = (tail,) if isinstance(tail, int) else tail
    inputs = [drawn(*shape)] + [drawn(*tail), drawn(*tail) + 1] * affine
    compare(
        lambda x, *a: F.layer_norm(x, tail, *a, eps=1e-3),
        lambda x, *a: TF.layer_norm(x, tail, *a, eps=1e-3),
        inputs,
        rtol=1e-8,
    )


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3), (2, 4, 2, 3)])
def test_group_norm(groups, shape):
    if groups == 4 and len(shape) == 2:
        return  # a group of one number: PyTorch refuses it in training
    compare(
        lambda x, *a: F.group_norm(x, groups, *a),
        lambda x, *a: TF.group_norm(x, groups, *a),
        [drawn(*shape), drawn(4), drawn(4) + 1],
        rtol=1e-7,
    )


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 2, 3), (2, 3, 2, 1, 3)])
@pytest.mark.parametrize("own", [True, False])
def test_instance_norm(shape, own):
    statistics = [drawn(3), np.abs(drawn(3)) + 0.5]
    ours = [mg.tensor(a) for a in statistics]
    theirs = [torch.tensor(a) for a in statistics]
    compare(
        lambda x, w, b: F.instance_norm(x, *ours, w, b, own, 0.3, 1e-3),
        lambda x, w, b: TF.instance_norm(x, *theirs, w, b, own, 0.3, 1e-3),
        [drawn(*shape), drawn(3), drawn(3) + 1],
        rtol=1e-8,
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.data, b.numpy(), rtol=1e-10)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("shape", [(2, 5, 3), (1, 4, 2, 3)])
def test_local_response_norm(size, shape):
    settings = (size, 0.3, 0.6, 1.5)
    compare(
        lambda x: F.local_response_norm(x, *settings),
        lambda x: TF.local_response_norm(x, *settings),
        [drawn(*shape)],
    )


LAYERS = [
    ("LayerNorm", ((3, 4),), {}, (2, 3, 4)),
    ("LayerNorm", (4,), {"bias": False}, (2, 3, 4)),
    ("LayerNorm", (4,), {"elementwise_affine": False}, (2, 3, 4)),
    ("GroupNorm", (2, 4), {}, (2, 4, 3)),
    ("GroupNorm", (2, 4), {"affine": False}, (2, 4, 3)),
    ("InstanceNorm1d", (3,), {}, (2, 3, 4)),
    ("InstanceNorm2d", (3,), {"affine": True}, (2, 3, 4, 2)),
    ("InstanceNorm3d", (3,), {"affine": True, "track_running_stats": True}, (2, 3, 2, 2, 2)),
    ("LocalResponseNorm", (5,), {"alpha": 0.1, "k": 2.0}, (2, 7, 2, 2)),
]


@pytest.mark.parametrize("name, args, settings, shape", LAYERS)
def test_layers(name, args, settings, shape):
    ours, theirs = getattr(nn, name)(*args, **settings), getattr(torch.nn, name)(*args, **settings)
    state = {k: v.detach().clone() for k, v in theirs.state_dict().items()}
    for key, value in state.items():
        if value.dtype.is_floating_point and value.numel() > 1:
            state[key] = value + torch.arange(value.numel()).reshape(value.shape) / 10
    theirs.load_state_dict(state)
    ours.load_state_dict(state)
    x = drawn(*shape).astype("f")
    for mode in (True, False):
        ours.train(mode)
        theirs.train(mode)
        y, ty = ours(mg.tensor(x)), theirs(torch.tensor(x)).detach().numpy()
        np.testing.assert_allclose(y.data, ty, rtol=1e-4, atol=1e-5)
    for key, value in theirs.state_dict().items():
        if not key.endswith("tracked"):
            np.testing.assert_allclose(ours.state_dict()[key], value.numpy(), rtol=1e-5)


@pytest.mark.parametrize("padding", [None, 2, -1])
def test_embedding(padding):
    table = drawn(5, 3)
    numbers = np.array([[0, 4, 2], [2, 2, 4]])
    compare(
        lambda w: F.embedding(numbers, w, padding),
        lambda w: TF.embedding(torch.tensor(numbers), w, padding),
        [table],
    )
    theirs, ours = torch.nn.Embedding(5, 3, padding), nn.Embedding(5, 3, padding)
    if padding is not None:
        assert (ours.weight.data[padding] == 0).all()
    ours.load_state_dict(theirs.state_dict())
    found = ours(mg.tensor(numbers)).data
    np.testing.assert_array_equal(found, theirs(torch.tensor(numbers)).detach().numpy())


MODES = {1: ("nearest", "linear"), 2: ("nearest", "bilinear"), 3: ("nearest", "trilinear")}


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), min_size=1, max_size=3),
    st.booleans(),
)
def test_resizing_to_a_size(sizes, corners):
    x = drawn(2, 2, *(n for n, _ in sizes))
    size = [m for _, m in sizes]
    for mode in MODES[len(size)]:
        settings = dict(size=size, mode=mode)
        if mode != "nearest":
            settings["align_corners"] = corners
        compare(
            lambda a: F.interpolate(a, **settings),  # noqa: B023
            lambda a: TF.interpolate(a, **settings),  # noqa: B023
            [x],
            order=1,
        )


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("scale", [2, 3, 0.5, 1.7, 2.5])
@pytest.mark.filterwarnings("ignore")
def test_resizing_by_a_factor(axes, scale):
    x = drawn(2, 2, *(4, 5, 3)[:axes])
    for mode in MODES[axes]:
        for corners in (False, True) if mode != "nearest" else (None,):
            ours = nn.Upsample(scale_factor=scale, mode=mode, align_corners=corners)
            theirs = torch.nn.Upsample(scale_factor=scale, mode=mode, align_corners=corners)
            compare(ours, theirs, [x])
