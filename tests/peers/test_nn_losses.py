"""Losses against PyTorch and torchvision, as functions and as modules."""

import numpy as np
import pytest
import torch
import torch.nn.functional as TF
import torchvision

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import functional as F
from tests.peers.test_nn_functional import compare

REDUCTIONS = ["mean", "sum", "none"]
rng = np.random.default_rng(5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("extra", [(), (2, 3)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("ignored", [-100, 1, 255])
def test_cross_entropy(reduction, extra, weighted, smoothing, ignored):
    x, target = rng.normal(0, 5, (6, 4, *extra)), rng.integers(0, 4, (6, *extra))
    target[0] = ignored
    weight = np.array([0.5, 2.0, 1.0, 0.1]) if weighted else None
    tweight = torch.tensor(weight) if weighted else None
    settings = dict(ignore_index=ignored, reduction=reduction, label_smoothing=smoothing)
    compare(
        lambda a: nn.CrossEntropyLoss(weight, **settings)(a, target),
        lambda a: TF.cross_entropy(a, torch.tensor(target), tweight, **settings),
        [x],
    )
    del settings["label_smoothing"]
    compare(
        lambda a: nn.NLLLoss(weight, **settings)(a, target),
        lambda a: TF.nll_loss(a, torch.tensor(target), tweight, **settings),
        [x],
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("extra", [(), (2, 3)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_with_probabilities(reduction, extra, weighted, smoothing):
    x = rng.normal(0, 5, (6, 4, *extra))
    target = np.moveaxis(rng.dirichlet(np.ones(4), (6, *extra)), -1, 1)
    weight = np.array([0.5, 2.0, 1.0, 0.1]) if weighted else None
    tweight = torch.tensor(weight) if weighted else None
    settings = dict(reduction=reduction, label_smoothing=smoothing)
    compare(
        lambda a, t: nn.CrossEntropyLoss(weight, **settings)(a, t),
        lambda a, t: TF.cross_entropy(a, t, tweight, **settings),
        [x, target],
    )


def test_nothing_that_counts_is_nan_as_in_pytorch():
    x, target = rng.standard_normal((2, 3)), np.array([-100, -100])
    assert torch.isnan(TF.cross_entropy(torch.tensor(x), torch.tensor(target)))
    assert np.isnan(F.cross_entropy(mg.tensor(x), target).item())
    assert F.cross_entropy(mg.tensor(x), target, "sum").item() == 0.0


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_differences(reduction):
    inputs = [rng.normal(0, 2, (4, 5)), rng.standard_normal((4, 5))]
    for ours, theirs in (
        (nn.L1Loss(reduction), torch.nn.L1Loss(reduction=reduction)),
        (nn.MSELoss(reduction), torch.nn.MSELoss(reduction=reduction)),
        (nn.SmoothL1Loss(reduction), torch.nn.SmoothL1Loss(reduction=reduction)),
        (nn.SmoothL1Loss(reduction, 0.3), torch.nn.SmoothL1Loss(reduction=reduction, beta=0.3)),
        (nn.SmoothL1Loss(reduction, 0.0), torch.nn.SmoothL1Loss(reduction=reduction, beta=0.0)),
    ):
        order = 1 if isinstance(ours, nn.L1Loss) or getattr(ours, "beta", 1) == 0 else 2
        compare(ours, theirs, inputs, order=order)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_binary(reduction, weighted):
    x, target = rng.normal(0, 3, (4, 3)), rng.uniform(0, 1, (4, 3))
    weights = [rng.uniform(0.5, 2, 3), rng.uniform(0.5, 2, 3)] if weighted else [None, None]
    theirs = [None if w is None else torch.tensor(w) for w in weights]
    compare(
        nn.BCEWithLogitsLoss(weights[0], reduction, weights[1]),
        lambda a, t: TF.binary_cross_entropy_with_logits(
            a, t, theirs[0], reduction=reduction, pos_weight=theirs[1]
        ),
        [x, target],
    )
    far = np.array([200.0, -200.0, 0.0], np.float32)
    for t in (np.ones(3, np.float32), np.zeros(3, np.float32)):
        found = F.binary_cross_entropy_with_logits(mg.tensor(far), mg.tensor(t), None, "none")
        wanted = TF.binary_cross_entropy_with_logits(
            torch.tensor(far), torch.tensor(t), reduction="none"
        )
        np.testing.assert_allclose(found.data, wanted.numpy(), rtol=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("alpha, gamma", [(0.25, 2.0), (-1, 2.0), (0.6, 0.0), (0.5, 3.5)])
def test_focal(reduction, alpha, gamma):
    x, target = rng.normal(0, 3, (4, 3)), rng.integers(0, 2, (4, 3)).astype(float)
    compare(
        lambda a: nn.SigmoidFocalLoss(alpha, gamma, reduction)(a, target),
        lambda a: torchvision.ops.sigmoid_focal_loss(
            a, torch.tensor(target), alpha, gamma, reduction
        ),
        [x],
        rtol=1e-8,
    )
