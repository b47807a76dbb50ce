"""Recipes: what a seed decides, which data get which settings, and what is refused."""

import numpy as np
import pytest

import minigrad
from minigrad_nn.data import Normalize, Pictures, Subset
from minigrad_nn.train.recipes import LENET5, Recipe, prepare_lenet5
from minigrad_nn.train.sources import Source


def source(side=8, width=8, count=12):
    pixels = np.arange(count * side * width, dtype=np.uint8).reshape(count, 1, side, width)
    pictures = Pictures(pixels, np.arange(count) % 3)
    return Source("few", pictures, Pictures(pixels[:5], np.zeros(5, int)), Normalize(0.5, 0.25), 3)


@pytest.fixture(autouse=True)
def same_random_numbers():
    with minigrad.random.preserved():
        yield


def test_the_seed_decides_weights_order_and_shifts():
    recipe = Recipe(epochs=2, batch_size=12, lr=0.1, shift=0.5)

    def start(seed):
        training = prepare_lenet5(source(), recipe, seed)
        x, y = next(iter(training.loader))
        return training.model.c1.weight.numpy(), y, x.mean()

    a, b, c = start(0), start(0), start(1)
    for first, same, other in zip(a, b, c, strict=True):
        assert np.array_equal(first, same) and not np.array_equal(first, other)


def test_a_source_has_its_recipe_and_others_have_that_of_mnist():
    training = prepare_lenet5(source())
    assert training.loader.batch_size == LENET5["mnist"].batch_size
    assert training.optimizer.param_groups[0]["lr"] == LENET5["mnist"].lr
    assert (training.model.size, training.model.output.weight.shape) == (8, (3, 84))
    steps = LENET5["mnist"].epochs * len(training.loader)
    assert training.schedule.T_max == steps


def test_pictures_are_moved_to_learn_from_and_left_alone_to_test_on():
    training = prepare_lenet5(source())
    (x, y), pictures = next(iter(training.test)), source().test[np.arange(5)][0]
    np.testing.assert_allclose(x, (pictures - 0.5) / 0.25, rtol=1e-6)
    assert not training.test.shuffle and training.loader.shuffle and len(y) == 5


def test_folds_take_the_place_of_both_sets():
    few = source()
    training = prepare_lenet5(
        few, train=Subset(few.train, np.arange(4)), test=Subset(few.train, np.arange(4, 12))
    )
    assert (len(training.loader.dataset), len(training.test.dataset)) == (4, 8)


@pytest.mark.parametrize(("height", "width"), [(8, 10), (34, 34), (7, 7)])
def test_pictures_that_do_not_fit_are_refused(height, width):
    with pytest.raises(ValueError, match="square|even number"):
        prepare_lenet5(source(height, width))
