"""The engine's overhead beside its peers, side by side in one run.

    python benchmarks/engine.py [--json FILE]

Three workloads, each a forward and a backward pass: a small multi-layer perceptron of scalars, a
chain of 10^5 scalar operations, and 1,000 operations on small tensors.  Candidates take turns
(A B A B ...), and the table shows the median of the ratios within a turn, since a shared machine
drifts.  Peers that are not installed are left out and named.

    pip install ".[bench]"
"""

from __future__ import annotations

import gc
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np

import minigrad
from common import about, parser, write

TURNS = 15


# --- scalars: a perceptron with 3 inputs, two layers of 8, one output ---------------------------


def mlp_step(leaf: Callable, activation: Callable) -> tuple[Callable, int]:
    """One forward and backward pass of a scalar perceptron, and its number of operations."""
    numbers = random.Random(0)
    sizes = [3, 8, 8, 1]
    weights = [
        [[leaf(numbers.uniform(-1, 1)) for _ in range(m + 1)] for _ in range(n)]
        for m, n in pairwise(sizes)
    ]
    inputs = [leaf(numbers.uniform(-1, 1)) for _ in range(3)]

    def step() -> None:
        values = inputs
        for layer in weights:
            outputs = []
            for neuron in layer:
                total = neuron[-1]
                for w, x in zip(neuron, values, strict=False):
                    total = total + w * x
                outputs.append(activation(total))
            values = outputs
        values[0].backward()

    operations = sum((2 * m + 1) * n for m, n in pairwise(sizes))
    return step, operations


def chain_step(leaf: Callable, length: int) -> tuple[Callable, int]:
    """A chain of scalar operations, each depending on the one before."""
    numbers = random.Random(0)
    leaves = [leaf(numbers.uniform(0.5, 1.0)) for _ in range(10)]

    def step() -> None:
        y = leaves[0]
        for i in range(length // 2):
            y = y * leaves[i % 10] + leaves[(i + 3) % 10]
        y.backward()

    return step, length


# --- tensors: 1,000 operations on eight numbers ---------------------------------------------------


def tensor_step(x: object, c: object, total: Callable, backward: Callable) -> tuple[Callable, int]:
    """1,000 operations on tensors of eight elements."""

    def step() -> None:
        y = x
        for _ in range(500):
            y = y * c + c
        backward(total(y))

    return step, 1000


def candidates() -> tuple[dict[str, dict[str, tuple[Callable, int]]], list[str]]:
    """For each workload the candidates that can run here, and the names of those that cannot."""
    data = np.linspace(0.5, 0.9, 8).astype(np.float32)
    mine = minigrad.tensor(data, requires_grad=True)
    constant = minigrad.tensor(data)
    work: dict[str, dict[str, tuple[Callable, int]]] = {
        "scalar MLP step": {"minigrad": mlp_step(minigrad.scalar, minigrad.Scalar.relu)},
        "chain of 10^5 scalar ops": {"minigrad": chain_step(minigrad.scalar, 100_000)},
        "1000 small-tensor ops": {
            "minigrad": tensor_step(mine, constant, minigrad.sum, minigrad.Tensor.backward)
        },
    }
    missing = []
    try:
        from micrograd.engine import Value
    except ImportError:
        missing.append("micrograd")
    else:
        # Its backward pass is recursive, so a chain of 10^5 dies at Python's usual limit.
        sys.setrecursionlimit(1_000_000)
        work["scalar MLP step"]["micrograd"] = mlp_step(Value, Value.relu)
        work["chain of 10^5 scalar ops"]["micrograd (limit lifted)"] = chain_step(Value, 100_000)
    try:
        import autograd
        import autograd.numpy as anp
    except ImportError:
        missing.append("autograd")
    else:
        gradient = autograd.grad(lambda x: anp.sum(_autograd_body(x, data)))
        work["1000 small-tensor ops"]["autograd"] = (lambda: gradient(data), 1000)
    try:
        import torch
    except ImportError:
        missing.append("torch")
    else:
        torch.set_num_threads(1)

        def leaf(value: float) -> torch.Tensor:
            return torch.tensor(value, requires_grad=True)

        x = torch.tensor(data, requires_grad=True)
        work["scalar MLP step"]["torch"] = mlp_step(leaf, torch.relu)
        work["chain of 10^5 scalar ops"]["torch"] = chain_step(leaf, 100_000)
        work["1000 small-tensor ops"]["torch"] = tensor_step(
            x, torch.tensor(data), torch.sum, torch.Tensor.backward
        )
    return work, missing


def _autograd_body(x: np.ndarray, c: np.ndarray) -> np.ndarray:
    for _ in range(500):
        x = x * c + c
    return x


def seconds(step: Callable) -> float:
    """Processor time of one pass, repeated until the clock can tell: others cannot disturb it."""
    repeats = 0
    start = time.process_time()
    while True:
        step()
        repeats += 1
        elapsed = time.process_time() - start
        if elapsed > 0.05:
            return elapsed / repeats


def measure(steps: dict[str, tuple[Callable, int]], turns: int) -> dict[str, dict[str, float]]:
    """Microseconds an operation for each candidate, and its ratio to minigrad, as medians."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step, _ in steps.values():
        step()
    for _ in range(turns):
        for name, (step, operations) in steps.items():
            gc.collect()
            times[name].append(seconds(step) / operations * 1e6)
    return {
        name: {
            "us_per_op": statistics.median(values),
            "ratio_to_minigrad": statistics.median(
                v / m for v, m in zip(values, times["minigrad"], strict=True)
            ),
        }
        for name, values in times.items()
    }


def import_ratio(turns: int) -> float:
    """Time to start Python and import minigrad over that of numpy, each above a bare start."""
    # As after an installation, where bytecode is there; the first start writes it otherwise.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def start(code: str) -> float:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        return time.perf_counter() - begin

    for code in ("import numpy", "import minigrad"):
        start(code)
    ratios = []
    for _ in range(turns):
        bare, base, own = start("pass"), start("import numpy"), start("import minigrad")
        ratios.append((own - bare) / (base - bare))
    return statistics.median(ratios)


def main() -> None:
    """Measure, print a table and write JSON on request."""
    given = parser(__doc__, turns=TURNS, threads=False).parse_args()
    work, missing = candidates()
    head, result = about(turns=given.turns), {"workloads": {}}
    machine = f"{head['machine']}, {head['cpu']}"
    print(f"{machine}, Python {head['python']}, NumPy {np.__version__}")
    for title, steps in work.items():
        print(f"\n{title}")
        figures = result["workloads"][title] = measure(steps, given.turns)
        for name, row in figures.items():
            print(
                f"  {name:28} {row['us_per_op']:8.2f} us an op   "
                f"{row['ratio_to_minigrad']:6.2f} x minigrad's time"
            )
    result["import_ratio_to_numpy"] = import_ratio(given.turns)
    print(f"\nimport minigrad / import numpy: {result['import_ratio_to_numpy']:.2f}")
    if missing:
        print(f"not installed, so not measured: {', '.join(missing)}")
    write(given.json, head, result)


if __name__ == "__main__":
    main()
