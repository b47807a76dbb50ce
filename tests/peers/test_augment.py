"""Changes of pictures against torchvision's functions on tensors."""

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF2

from minigrad_nn.data.augment import pixel_grid, resize, sample
from minigrad_nn.data.augment.color import brightened, contrasted, saturated, turned_hue
from minigrad_nn.data.augment.geometry import affine_places

rng = np.random.default_rng(3)
BILINEAR = InterpolationMode.BILINEAR


@pytest.mark.parametrize("size", [(9, 9), (8, 11)])
@pytest.mark.parametrize(
    "turn, move, grow, shear",
    [
        (30.0, (0, 0), 1.0, (0.0, 0.0)),
        (0.0, (2, -1), 1.0, (0.0, 0.0)),
        (0.0, (0, 0), 0.7, (0.0, 0.0)),
        (0.0, (0, 0), 1.0, (20.0, 0.0)),
        (0.0, (0, 0), 1.0, (0.0, -15.0)),
        (-50.0, (1, 2), 1.3, (10.0, 25.0)),
    ],
)
def test_affine(size, turn, move, grow, shear):
    x = rng.random((2, 3, *size))
    settings = [np.full(2, v) for v in (turn, grow, *shear, *map(float, move))]
    found = sample(x, *affine_places(*pixel_grid(*size, np.float64), size, *settings))
    # Its positive angles turn with the clock.
    wanted = TF.affine(torch.tensor(x), -turn, list(move), grow, list(shear), BILINEAR)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-6)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [(4, 4), (9, 13), (3, 20), (17, 5), (1, 1)])
def test_resize(size, antialias):
    x = rng.random((2, 3, 9, 13)).astype("f")
    wanted = TF2.resize(torch.tensor(x), list(size), antialias=antialias)
    np.testing.assert_allclose(resize(x, size, antialias), wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize("amount", [0.0, 0.3, 1.0, 1.7])
def test_colours(amount):
    x = rng.random((2, 3, 6, 5))
    theirs, f = torch.tensor(x), np.full((2, 1, 1, 1), amount)
    for found, wanted in (
        (brightened(x, f), TF.adjust_brightness(theirs, amount)),
        (contrasted(x, f), TF.adjust_contrast(theirs, amount)),
        (saturated(x, f), TF.adjust_saturation(theirs, amount)),
    ):
        # It takes 0.2989 for the brightness of red, we the 0.299 of the standard.
        np.testing.assert_allclose(found, wanted.numpy(), atol=2e-4)


@pytest.mark.parametrize("turn", [-0.5, -0.2, 0.0, 0.35, 0.5])
def test_hue(turn):
    x = rng.random((2, 3, 6, 5))
    wanted = TF.adjust_hue(torch.tensor(x), turn).numpy()
    np.testing.assert_allclose(turned_hue(x, np.full((2, 1, 1, 1), turn)), wanted, atol=1e-6)


def test_the_sampler_is_grid_sample():
    x = rng.random((2, 3, 5, 6))
    rows, columns = rng.uniform(-3, 8, (2, 2, 4, 4))
    grid = torch.tensor(np.stack([columns * 2 / 5 - 1, rows * 2 / 4 - 1], -1))
    for ours, theirs in (("constant", "zeros"), ("edge", "border"), ("reflect", "reflection")):
        wanted = torch.nn.functional.grid_sample(
            torch.tensor(x), grid, padding_mode=theirs, align_corners=True
        )
        found = sample(x, rows, columns, mode=ours)
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-10)
