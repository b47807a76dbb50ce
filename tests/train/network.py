"""A small training with everything that has a state: dropout, momentum, shuffling, a schedule."""

import numpy as np

import minigrad
from minigrad_nn import layers, optim, schedule
from minigrad_nn.data import ArrayDataset, Loader
from minigrad_nn.module import Sequential
from minigrad_nn.train import Callback, EarlyStopping, LearningRate, fit


def samples(count=23):
    x = minigrad.random.Generator(5).normal((count, 4))
    return ArrayDataset(x, (x.sum(1) > 0).astype(np.int64))


class Noise:
    """A transform that draws random numbers for each batch."""

    def __call__(self, batch, generator):
        return batch[0] + generator.normal(batch[0].shape, std=0.1), *batch[1:]


class StopAfter(Callback):
    """Wishes to stop after so many steps, as Ctrl-C does."""

    def __init__(self, steps):
        self.steps = steps

    def on_batch(self, run):
        if run.step == self.steps:
            run.stop = "enough"


def make(seed=1, epochs=4, batch_size=5, adam=True):
    """Model, loader, optimiser and callbacks."""
    minigrad.random.manual_seed(seed)
    model = Sequential(
        layers.Linear(4, 6), layers.BatchNorm1d(6), layers.Tanh(), layers.Dropout(0.3),
        layers.Linear(6, 2),
    )  # fmt: skip
    loader = Loader(samples(), batch_size, shuffle=True, seed=seed, transform=Noise())
    if adam:
        optimizer = optim.Adam(model.parameters(), lr=0.05)
    else:
        optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    falling = LearningRate(
        schedule.CosineAnnealingLR(optimizer, epochs * len(loader)), every="batch"
    )
    return model, loader, optimizer, [falling, EarlyStopping("loss", patience=50)]


def train(epochs, *extra, resume=None, seed=1, total=4, **more):
    """A run of `epochs` out of `total` epochs, with the default generator as it was afterwards."""
    with minigrad.random.preserved():
        model, loader, optimizer, callbacks = make(seed, total, **more)
        return fit(
            model,
            loader,
            optimizer,
            epochs,
            validation={"test": Loader(samples(7), 4)},
            callbacks=[*callbacks, *extra],
            resume=resume,
        )
