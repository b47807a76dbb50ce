"""Settings that are known to work, and how they were found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import minigrad.random

from ..data import Loader
from ..data.augment import Compose, RandomShift
from ..data.dataset import Dataset
from ..models import LeNet5
from ..module import Module
from ..optim import Adam, Optimizer
from ..schedule import CosineAnnealingLR
from .callbacks import LearningRate
from .sources import Source

__all__ = ["LENET5", "Recipe", "Training", "prepare_lenet5"]


@dataclass(frozen=True)
class Recipe:
    """How to train LeNet-5: Adam, its learning rate falling along a cosine to 0.

    Attributes:
        epochs: how often every sample is seen.
        batch_size: samples a step.
        lr: the learning rate at the start.
        shift: each picture is moved by up to so many of its own pixels along both axes.
    """

    epochs: int
    batch_size: int
    lr: float
    shift: float

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain data."""
        return asdict(self)


LENET5 = {
    "digits": Recipe(epochs=20, batch_size=32, lr=0.003, shift=0.5),
    "mnist": Recipe(epochs=10, batch_size=64, lr=0.002, shift=1.0),
}
"""By data set; others are trained as MNIST.

They were chosen without a look at a test set.  For the digits, by five folds of the training
split: without shifts 97.8 % of the left-out samples were right, moved by up to half a pixel 98.6 to
98.9 %, by 0.75 pixels 98.2 to 98.4 %; rotating and scaling besides, 30 epochs, or a rate of 0.002
changed less than another seed does.  For MNIST, by the last 10,000 training samples, learning from
the others for 8 epochs: 98.9 % without shifts, 99.1 % with.
"""

EVALUATION_BATCH = 256


@dataclass
class Training:
    """Everything that `fit` needs, made by a recipe."""

    model: Module
    loader: Loader
    test: Loader
    optimizer: Optimizer
    schedule: CosineAnnealingLR

    @property
    def learning_rate(self) -> LearningRate:
        """The callback that moves the schedule on, a step a batch."""
        return LearningRate(self.schedule, every="batch")


def prepare_lenet5(
    source: Source,
    recipe: Recipe | None = None,
    seed: int = 0,
    train: Dataset | None = None,
    test: Dataset | None = None,
) -> Training:
    """Model, loaders, optimiser and schedule of a training of LeNet-5.

    Args:
        source: the pictures.
        recipe: how; None takes the one of `LENET5` that belongs to the source.
        seed: of the initial weights, the order and the shifts; the default random generator is
            started anew from it.
        train: what to learn from, instead of the source's training set, as in folds.
        test: what to evaluate on, instead of its test set.

    Raises:
        ValueError: pictures that are not square or do not fit LeNet-5, or settings out of range.
    """
    recipe = recipe or LENET5.get(source.name, LENET5["mnist"])
    height, width = source.train.pixels.shape[2:]
    if height != width:
        raise ValueError(f"LeNet-5 needs square pictures, these are {height}x{width}")
    minigrad.random.manual_seed(seed)
    model = LeNet5(size=source.size, classes=source.classes, channels=source.channels)
    loader = Loader(
        source.train if train is None else train,
        recipe.batch_size,
        shuffle=True,
        seed=seed,
        transform=Compose(RandomShift(recipe.shift), source.normalize),
    )
    optimizer = Adam(model.parameters(), lr=recipe.lr)
    return Training(
        model=model,
        loader=loader,
        test=Loader(
            source.test if test is None else test, EVALUATION_BATCH, transform=source.normalize
        ),
        optimizer=optimizer,
        schedule=CosineAnnealingLR(optimizer, T_max=max(1, recipe.epochs * len(loader))),
    )
