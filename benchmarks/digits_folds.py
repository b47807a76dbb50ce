"""How well LeNet-5 reads the embedded digits: five stratified folds, each tested once.

Every one of the 1,797 samples is tested by a network that has not seen it.  With `--split train`
the folds are of the training split alone: so settings can be compared without a look at the test
split, as those of `minigrad_nn.train.recipes` were.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import numpy as np

from minigrad_nn.data import Digits, Subset, stratified_folds
from minigrad_nn.train import evaluate, fit
from minigrad_nn.train.recipes import LENET5, prepare_lenet5
from minigrad_nn.train.sources import open_source

FOLDS = 5


def main() -> None:
    recipe = LENET5["digits"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=("all", "train"), default="all")
    parser.add_argument("--seed", type=int, default=0, help="of the folds and of the training")
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(value), default=value)
    given = vars(parser.parse_args())
    digits, seed = Digits(given.pop("split")), given.pop("seed")
    recipe = dataclasses.replace(recipe, **given)
    source = open_source("digits")
    found = []
    for number, (train, test) in enumerate(stratified_folds(digits.labels, FOLDS, seed)):
        start = time.perf_counter()
        training = prepare_lenet5(source, recipe, seed, Subset(digits, train), Subset(digits, test))
        fit(
            training.model,
            training.loader,
            training.optimizer,
            recipe.epochs,
            callbacks=[training.learning_rate],
        )
        found.append(evaluate(training.model, training.test)["accuracy"])
        seconds = time.perf_counter() - start
        print(f"fold {number + 1}: accuracy {found[-1]:.4f} of {len(test)}, {seconds:.1f} s")
    print(f"mean of {FOLDS} folds: accuracy {np.mean(found):.4f}")


if __name__ == "__main__":
    main()
