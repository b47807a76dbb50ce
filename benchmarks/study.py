"""What it costs to be watched, and what it costs when nobody watches.

    python benchmarks/study.py [--turns N] [--json FILE]

One training step (forward and backward) of a perceptron on tensors, and one of a perceptron of
scalars, in processor time: as it is, and with each tool of `minigrad.study` standing by.  "off" is
the same step timed once more: after the tools have come and gone it has to cost what it cost
before them.  Candidates take turns, in another order each time, and the table shows the median of
the ratios within a turn and, in brackets, their lower and upper quartile.

That "off" costs nothing is not left to a clock: `tests/study/test_anomaly.py` compares what is
executed, instruction by instruction.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import numpy as np

import minigrad
from common import about, parser, write
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


def ratios(step: Callable[[], None], turns: int) -> tuple[float, dict[str, list[float]]]:
    """Median seconds of a bare step, and for each tool its ratios to the bare step, by turn."""
    candidates = {"bare": nullcontext, **TOOLS}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for tool in candidates.values():
        seconds(step, tool)
    order = list(candidates)
    shuffle = random.Random(0).shuffle
    for _ in range(turns):
        shuffle(order)
        gc.collect()
        for name in order:
            times[name].append(seconds(step, candidates[name]))
    bare = times.pop("bare")
    found = {n: [t / b for t, b in zip(ts, bare, strict=True)] for n, ts in times.items()}
    return statistics.median(bare), found


def main() -> None:
    """Measure and print a table."""
    given = parser(__doc__, turns=41, threads=False).parse_args()
    work = {
        "scalar perceptron": scalar_step(),
        "tensors, width 16, batch 8": tensor_step(16, 8),
        "tensors, width 256, batch 128": tensor_step(256, 128),
    }
    workloads: dict[str, Any] = {}
    for title, step in work.items():
        bare, found = ratios(step, given.turns)
        print(f"{title}: {bare * 1e6:.0f} us a step")
        told = workloads[title] = {"us_per_step": bare * 1e6, "ratios": {}}
        for name, values in found.items():
            low, median, high = statistics.quantiles(values, n=4)
            print(f"  {name:20} {median:6.3f} x  ({low:.3f} to {high:.3f})")
            told["ratios"][name] = {"median": median, "quartiles": [low, high]}
    write(given.json, about(turns=given.turns), {"workloads": workloads})


if __name__ == "__main__":
    main()
