"""Overlaps of boxes against torchvision, where it is installed."""

import numpy as np
import pytest
import torch

from minigrad_nn.metrics import box_iou

ops = pytest.importorskip("torchvision.ops")


def test_overlaps_of_random_boxes():
    rng = np.random.default_rng(0)
    a, b = (np.sort(rng.random((n, 2, 2)), axis=1).reshape(n, 4) for n in (30, 20))
    wanted = ops.box_iou(torch.tensor(a), torch.tensor(b)).numpy()
    assert (wanted > 0).mean() > 0.1
    np.testing.assert_allclose(box_iou(a, b), wanted, rtol=1e-12)
