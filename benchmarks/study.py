"""What it costs to be watched, and what it costs when nobody watches.

    python benchmarks/study.py [--turns N]

One training step (forward and backward) of a perceptron on tensors, and one of a perceptron of
scalars, in processor time: as it is, and with each tool of `minigrad.study` standing by.  "off" is
the same step timed once more: after the tools have come and gone it has to cost what it cost
before them.  Candidates take turns, and the table shows the median of ratios within a turn.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import numpy as np

import minigrad
from minigrad import study


def tensor_step(width: int, batch: int) -> Callable[[], None]:
    """Two layers, ReLU and a squared error."""
    rng = np.random.default_rng(0)

    def leaf(*shape: int) -> minigrad.Tensor:
        values = rng.normal(0, width**-0.5, shape).astype(np.float32)
        return minigrad.tensor(values, requires_grad=True)

    weights = [leaf(width, width), leaf(width), leaf(width, width), leaf(width)]
    x = minigrad.tensor(rng.normal(size=(batch, width)).astype(np.float32))

    def step() -> None:
        for w in weights:
            w.zero_grad()
        a, b, c, d = weights
        error = minigrad.relu(x @ a + b) @ c + d - x
        minigrad.mean(error * error).backward()

    return step


def scalar_step() -> Callable[[], None]:
    """A perceptron with 3 inputs, two layers of 8 and one output."""
    numbers = random.Random(0)
    layers = [
        [[minigrad.scalar(numbers.uniform(-1, 1)) for _ in range(m + 1)] for _ in range(n)]
        for m, n in pairwise([3, 8, 8, 1])
    ]
    inputs = [minigrad.scalar(numbers.uniform(-1, 1)) for _ in range(3)]

    def step() -> None:
        values = inputs
        for layer in layers:
            outputs = []
            for neuron in layer:
                total = neuron[-1]
                for w, value in zip(neuron, values, strict=False):
                    total = total + w * value
                outputs.append(total.relu())
            values = outputs
        values[0].backward()

    return step


TOOLS: dict[str, Callable[[], AbstractContextManager]] = {
    "off": nullcontext,
    "anomalies": study.anomalies,
    "recording": study.recording,
    "override_backward": lambda: study.override_backward("relu", study.guided_backprop),
}


def seconds(step: Callable[[], None], tool: Callable[[], AbstractContextManager]) -> float:
    """Processor time of one step inside a context, repeated until the clock can tell."""
    repeats = 0
    with tool():
        start = time.process_time()
        while True:
            step()
            repeats += 1
            elapsed = time.process_time() - start
            if elapsed > 0.03:
                return elapsed / repeats


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=15)
    turns = parser.parse_args().turns
    work = {
        "scalar perceptron": scalar_step(),
        "tensors, width 16, batch 8": tensor_step(16, 8),
        "tensors, width 256, batch 128": tensor_step(256, 128),
    }
    for title, step in work.items():
        step()
        base: list[float] = []
        ratios: dict[str, list[float]] = {name: [] for name in TOOLS}
        for _ in range(turns):
            gc.collect()
            base.append(seconds(step, nullcontext))
            for name, tool in TOOLS.items():
                ratios[name].append(seconds(step, tool) / base[-1])
        print(f"{title}: {statistics.median(base) * 1e6:.0f} us a step")
        for name, values in ratios.items():
            print(f"  {name:20} {statistics.median(values):6.2f} x")


if __name__ == "__main__":
    main()
