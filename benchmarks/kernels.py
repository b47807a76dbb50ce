"""Kernels one by one, beside PyTorch's and this machine's peak, turn by turn.

    python benchmarks/kernels.py [--only NAME ...] [--quick] [--alone] [--turns N] [--threads N]
                                 [--json FILE]

Every distinct convolution of ResNet-18 and 50, VGG-11 and 16 and MobileNet v1, forward and both
adjoints; pools, batch norm, softmax cross-entropy, recurrent networks and the optimisers' updates.
The two processes take turns, a kernel at a time, so that a busy machine is busy for both; a turn
runs a kernel for a twentieth of a second untimed, and as long timed.  The table has the median of
ours, its GF/s or GB/s (of what must be read or written at least), the share of the peak that was
measured in the same run (products in registers; a copy of a large array), and the median of
PyTorch's time over ours within a turn.  `--only` takes parts of names.  Needs the extra `peers` but
with `--alone`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from common import about, environment, parser, write

# What a turn takes at least, in seconds.
TURN = 0.05
CONV_PARTS = ("forward", "input", "weight")


class Conv(NamedTuple):
    """A convolution of square pictures with padding that keeps their size."""

    size: int
    given: int
    made: int
    kernel: int
    stride: int = 1
    groups: int = 1


# By network, with the pictures of a batch; what stands further up is not repeated.
CONVOLUTIONS: dict[str, tuple[int, list[Conv]]] = {
    "resnet18": (
        8,
        [
            *(Conv(224, 3, 64, 7, 2), Conv(56, 64, 64, 3), Conv(56, 64, 128, 3, 2)),
            *(Conv(56, 64, 128, 1, 2), Conv(28, 128, 128, 3), Conv(28, 128, 256, 3, 2)),
            *(Conv(28, 128, 256, 1, 2), Conv(14, 256, 256, 3), Conv(14, 256, 512, 3, 2)),
            *(Conv(14, 256, 512, 1, 2), Conv(7, 512, 512, 3)),
        ],
    ),
    "resnet50": (
        8,
        [
            *(Conv(56, 64, 64, 1), Conv(56, 64, 256, 1), Conv(56, 256, 64, 1)),
            *(Conv(56, 256, 128, 1), Conv(56, 128, 128, 3, 2), Conv(28, 128, 512, 1)),
            *(Conv(56, 256, 512, 1, 2), Conv(28, 512, 128, 1), Conv(28, 512, 256, 1)),
            *(Conv(28, 256, 256, 3, 2), Conv(14, 256, 1024, 1), Conv(28, 512, 1024, 1, 2)),
            *(Conv(14, 1024, 256, 1), Conv(14, 1024, 512, 1), Conv(14, 512, 512, 3, 2)),
            *(Conv(7, 512, 2048, 1), Conv(14, 1024, 2048, 1, 2), Conv(7, 2048, 512, 1)),
        ],
    ),
    "vgg11": (
        4,
        [
            *(Conv(224, 3, 64, 3), Conv(112, 64, 128, 3), Conv(56, 128, 256, 3)),
            *(Conv(56, 256, 256, 3), Conv(28, 256, 512, 3), Conv(28, 512, 512, 3)),
            Conv(14, 512, 512, 3),
        ],
    ),
    "vgg16": (4, [Conv(224, 64, 64, 3), Conv(112, 128, 128, 3)]),
    "mobilenet_v1": (
        8,
        [
            *(Conv(224, 3, 32, 3, 2), Conv(112, 32, 32, 3, 1, 32), Conv(112, 32, 64, 1)),
            *(Conv(112, 64, 64, 3, 2, 64), Conv(56, 64, 128, 1), Conv(56, 128, 128, 3, 1, 128)),
            *(Conv(56, 128, 128, 1), Conv(56, 128, 128, 3, 2, 128), Conv(28, 128, 256, 1)),
            *(Conv(28, 256, 256, 3, 1, 256), Conv(28, 256, 256, 1)),
            *(Conv(28, 256, 256, 3, 2, 256), Conv(14, 256, 512, 1)),
            *(Conv(14, 512, 512, 3, 1, 512), Conv(14, 512, 512, 1)),
            *(Conv(14, 512, 512, 3, 2, 512), Conv(7, 512, 1024, 1)),
            *(Conv(7, 1024, 1024, 3, 1, 1024), Conv(7, 1024, 1024, 1)),
        ],
    ),
}


class Case(NamedTuple):
    """One row of the table.

    Attributes:
        name: what it is called.
        kind: of kernel.
        sizes: what makes its calls; see `our_call`.
        work: multiplications and additions; 0 where memory is what counts.
        nbytes: bytes that must be read or written.
    """

    name: str
    kind: str
    sizes: tuple[Any, ...]
    work: float
    nbytes: float


def convolutions() -> Iterator[Case]:
    """Forward and both adjoints of each shape."""
    for network, (images, rows) in CONVOLUTIONS.items():
        for c in rows:
            out = -(-c.size // c.stride)
            label = f"{c.given}-{c.made} {c.kernel}x{c.kernel}/{c.stride} {c.size}"
            label += " depthwise" if c.groups > 1 else ""
            taps = c.given // c.groups * c.kernel**2
            work = 2.0 * images * c.made * out**2 * taps
            arrays = images * (c.given * c.size**2 + c.made * out**2) + c.made * taps
            for part in CONV_PARTS:
                # Depthwise filters do so little with a number that memory decides.
                done = 0.0 if c.groups > 1 else work
                name = f"{network} conv {label} {part}"
                yield Case(name, "conv", (images, *c, part), done, 4.0 * arrays)


def others() -> Iterator[Case]:
    """Everything but convolutions."""
    for images, channels, size, kernel, stride, padding in (
        (8, 64, 112, 3, 2, 1),
        (4, 64, 224, 2, 2, 0),
        (4, 512, 28, 2, 2, 0),
    ):
        out = (size + 2 * padding - kernel) // stride + 1
        for kind, more in (("max_pool", 1), ("average_pool", 0)):
            for part in ("forward", "backward"):
                # An index of four bytes is enough for a maximum.
                moved = 4.0 * images * channels * (size**2 + (1 + more) * out**2)
                shape = (images, channels, size, kernel, stride, padding)
                label = f"{channels}x{size}x{size} {kernel}/{stride}"
                yield Case(f"{kind} {label} {part}", kind, (*shape, part), 0.0, moved)
    for shape in ((8, 64, 112, 112), (8, 64, 56, 56), (8, 256, 56, 56), (8, 512, 7, 7)):
        count = math.prod(shape)
        for part, passes in (("forward", 2), ("backward", 3)):
            name = f"batch_norm {'x'.join(map(str, shape))} {part}"
            yield Case(name, "batch_norm", (shape, part), 0.0, 4.0 * passes * count)
    for shape in ((128, 10), (32, 1000), (2048, 65), (4, 21, 128, 128)):
        for part, passes in (("forward", 1), ("backward", 2)):
            name = f"cross_entropy {'x'.join(map(str, shape))} {part}"
            moved = 4.0 * passes * math.prod(shape)
            yield Case(name, "cross_entropy", (shape, part), 0.0, moved)
    for kind, gates in (("rnn", 1), ("lstm", 4), ("gru", 3)):
        steps, count, size = 64, 32, 256
        work = 2.0 * steps * count * gates * size * size
        for part, products in (("forward", 1), ("backward", 2)):
            name = f"{kind} {steps}x{count}x{size} {part}"
            yield Case(name, kind, (steps, count, size, part), products * work, 0.0)
    for kind, arrays in (("sgd", 5), ("adam", 7)):
        yield Case(f"{kind} resnet18", kind, ("resnet18",), 0.0, 4.0 * arrays * 11_689_512)


def quick() -> list[Case]:
    """A small one of each kind, to see that everything runs."""
    shape, loss = (2, 3, 9, 9), (4, 5)
    cases = [
        Case(f"conv {part}", "conv", (1, 8, 2, 3, 3, 1, 1, part), 1e4, 1e4) for part in CONV_PARTS
    ]
    for part in ("forward", "backward"):
        for kind in ("max_pool", "average_pool"):
            cases.append(Case(f"{kind} {part}", kind, (2, 3, 8, 2, 2, 0, part), 0.0, 1e4))
        cases.append(Case(f"batch_norm {part}", "batch_norm", (shape, part), 0.0, 1e4))
        cases.append(Case(f"cross_entropy {part}", "cross_entropy", (loss, part), 0.0, 1e3))
        cases.append(Case(f"rnn {part}", "rnn", (2, 3, 4, part), 1e3, 0.0))
    return [*cases, Case("sgd", "sgd", ("lenet5",), 0.0, 1e6)]


def normal(*shape: int) -> np.ndarray:
    """The same numbers for all."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


# --- minigrad -------------------------------------------------------------------------------------


def our_call(case: Case) -> Callable[[], Any]:
    """One call of ours, warmed up by its first."""
    from minigrad_nn import kernels
    from minigrad_nn.kernels import Geometry

    sizes, part = case.sizes, case.sizes[-1]
    if case.kind == "conv":
        images, *c, _ = sizes
        conv = Conv(*c)
        padding = conv.kernel // 2
        geometry = Geometry.of(
            (conv.size, conv.size), conv.kernel, conv.stride, padding, groups=conv.groups
        )
        x = normal(images, conv.given, conv.size, conv.size)
        w = normal(conv.made, conv.given // conv.groups, conv.kernel, conv.kernel)
        g = normal(images, conv.made, *geometry.output)
        kernel, a, b = {
            "forward": (kernels.conv, x, w),
            "input": (kernels.conv_input, g, w),
            "weight": (kernels.conv_weight, x, g),
        }[part]
        return lambda: kernel(a, b, geometry)
    if case.kind in ("max_pool", "average_pool"):
        images, channels, size, window, stride, padding, _ = sizes
        geometry = Geometry.of((size, size), window, stride, padding)
        x, g = normal(images, channels, size, size), normal(images, channels, *geometry.output)
        if case.kind == "average_pool":
            if part == "forward":
                return lambda: kernels.average_pool(x, geometry)
            return lambda: kernels.average_pool_input(g, geometry)
        if part == "forward":
            return lambda: kernels.max_pool(x, geometry)
        indices = kernels.max_pool(x, geometry).indices
        return lambda: kernels.max_pool_input(g, indices, geometry)
    if case.kind == "batch_norm":
        x, gamma, beta = normal(*sizes[0]), normal(sizes[0][1]), normal(sizes[0][1])
        if part == "forward":
            return lambda: kernels.batch_norm(x, gamma, beta)
        _, mean, inverse_std = kernels.batch_norm(x, gamma, beta)
        g = normal(*sizes[0])
        return lambda: kernels.batch_norm_backward(g, x, gamma, mean, inverse_std)
    if case.kind == "cross_entropy":
        x, shape = normal(*sizes[0]), (sizes[0][0], *sizes[0][2:])
        target = np.random.default_rng(0).integers(0, sizes[0][1], shape)
        if part == "forward":
            return lambda: kernels.cross_entropy(x, target)
        found, g = kernels.cross_entropy(x, target), normal(*shape)
        return lambda: kernels.cross_entropy_backward(g, x, target, found.top, found.log_sum)
    if case.kind in ("rnn", "lstm", "gru"):
        return _our_steps(case, kernels)
    return _our_update(case)


def _our_steps(case: Case, kernels: Any) -> Callable[[], Any]:
    steps, count, size, part = case.sizes
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[case.kind]
    x, h, g = normal(steps, count, gates * size), normal(count, size), normal(steps, count, size)
    w = normal(gates * size, size) / math.sqrt(size)
    b = normal(gates * size)
    given = {"rnn": (x, h, w), "lstm": (x, h, h, w), "gru": (x, h, w, b)}[case.kind]
    forward = getattr(kernels, case.kind)
    if part == "forward":
        return lambda: forward(*given)
    backward, found = getattr(kernels, f"{case.kind}_backward"), forward(*given)
    if case.kind == "rnn":
        return lambda: backward(g, found, h, w)
    if case.kind == "gru":
        return lambda: backward(g, *found, h, w)
    return lambda: backward(g, g, *found, h, h, w)


def _our_update(case: Case) -> Callable[[], Any]:
    import minigrad
    import minigrad_nn as nn
    from minigrad_nn import models

    model = {"resnet18": models.resnet18, "lenet5": models.LeNet5}[case.sizes[0]]()
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = minigrad.tensor(np.full(parameter.shape, 1e-3, np.float32))
    if case.kind == "sgd":
        return nn.optim.SGD(parameters, lr=1e-3, momentum=0.9).step
    return nn.optim.Adam(parameters, lr=1e-3).step


def peaks() -> tuple[float, float]:
    """Operations and bytes a second of this machine: products in registers, and a large copy."""
    import numba
    from numba import njit, prange

    from minigrad_nn.kernels.cpu.tile import ROWS, VECTORS, product_tile

    @njit(parallel=True, nogil=True)
    def multiply(a: Any, b: Any, c: Any, times: int) -> None:
        for thread in prange(len(c)):
            for _ in range(times):
                product_tile(ROWS, VECTORS, a, 0, 64, 1, b, 0, 64, 64, c[thread], 0, 64, False)

    @njit(parallel=True, nogil=True)
    def copy(a: Any, b: Any) -> None:
        for piece in prange(64):
            size = len(a) // 64
            source, target = (
                a[piece * size : (piece + 1) * size],
                b[piece * size : (piece + 1) * size],
            )
            for i in range(size):
                target[i] = source[i]

    from minigrad_nn.kernels.cpu.tile import VECTOR_BYTES

    threads = numba.get_num_threads()
    a, b = normal(4096), normal(64 * 64 + 256)
    c = np.zeros((threads, 4096), np.float32)
    columns = VECTORS * VECTOR_BYTES // 4
    operations = 2.0 * threads * 20_000 * ROWS * columns * 64
    large = normal(32 * 2**20), np.zeros(32 * 2**20, np.float32)
    best = [math.inf, math.inf]
    for _ in range(5):
        for i, run in enumerate((lambda: multiply(a, b, c, 20_000), lambda: copy(*large))):
            start = time.perf_counter()
            run()
            best[i] = min(best[i], time.perf_counter() - start)
    return operations / best[0], 2 * large[0].nbytes / best[1]


# --- PyTorch --------------------------------------------------------------------------------------


def torch_call(case: Case) -> Callable[[], Any]:
    """One call of PyTorch's."""
    import torch
    from torch.nn import functional as F

    def of(*shape: int) -> Any:
        return torch.from_numpy(normal(*shape))

    sizes, part = case.sizes, case.sizes[-1]
    aten = torch.ops.aten
    if case.kind == "conv":
        images, *c, _ = sizes
        conv = Conv(*c)
        x = of(images, conv.given, conv.size, conv.size)
        w = of(conv.made, conv.given // conv.groups, conv.kernel, conv.kernel)
        padding, groups = conv.kernel // 2, conv.groups
        y = F.conv2d(x, w, None, conv.stride, padding, 1, groups)
        if part == "forward":
            return lambda: F.conv2d(x, w, None, conv.stride, padding, 1, groups)
        g, mask = of(*y.shape), [part == "input", part == "weight", False]
        settings = ([conv.stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups, mask)
        return lambda: aten.convolution_backward(g, x, w, None, *settings)
    if case.kind in ("max_pool", "average_pool"):
        images, channels, size, window, stride, padding, _ = sizes
        x = of(images, channels, size, size)
        settings = ([window] * 2, [stride] * 2, [padding] * 2)
        if case.kind == "average_pool":
            g = of(*F.avg_pool2d(x, *settings).shape)
            if part == "forward":
                return lambda: F.avg_pool2d(x, *settings)
            return lambda: aten.avg_pool2d_backward(g, x, *settings, False, True, None)
        y, indices = F.max_pool2d(x, *settings, return_indices=True)
        if part == "forward":
            return lambda: F.max_pool2d(x, *settings, return_indices=True)
        g, more = of(*y.shape), ([1, 1], False, indices)
        return lambda: aten.max_pool2d_with_indices_backward(g, x, *settings, *more)
    if case.kind == "batch_norm":
        x, gamma, beta = of(*sizes[0]), of(sizes[0][1]), of(sizes[0][1])
        if part == "forward":
            return lambda: aten.native_batch_norm(x, gamma, beta, None, None, True, 0.1, 1e-5)
        _, mean, std = aten.native_batch_norm(x, gamma, beta, None, None, True, 0.1, 1e-5)
        g, more = of(*sizes[0]), (None, None, mean, std, True, 1e-5, [True] * 3)
        return lambda: aten.native_batch_norm_backward(g, x, gamma, *more)
    if case.kind == "cross_entropy":
        x, shape = of(*sizes[0]), (sizes[0][0], *sizes[0][2:])
        target = np.random.default_rng(0).integers(0, sizes[0][1], shape)
        x.requires_grad_(part == "backward")
        labels = torch.from_numpy(target)
        loss = F.cross_entropy(x, labels, reduction="none")
        if part == "forward":
            return lambda: F.cross_entropy(x, labels, reduction="none")
        g = of(*shape)
        return lambda: torch.autograd.grad(loss, x, g, retain_graph=True)
    if case.kind in ("rnn", "lstm", "gru"):
        return _torch_steps(case, of)
    return _torch_update(case)


def _torch_steps(case: Case, of: Callable[..., Any]) -> Callable[[], Any]:
    """The layer has a product with its inputs, too: its input is one number wide, to add little."""
    import torch

    steps, count, size, part = case.sizes
    kind = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[case.kind]
    layer, x = kind(1, size), of(steps, count, 1)
    if part == "forward":

        def forward() -> Any:
            with torch.no_grad():
                return layer(x)

        return forward
    y, parameters, g = layer(x)[0], list(layer.parameters()), of(steps, count, size)
    return lambda: torch.autograd.grad(y, parameters, g, retain_graph=True)


def _torch_update(case: Case) -> Callable[[], Any]:
    import torch

    from minigrad_nn import models

    made = {"resnet18": models.resnet18, "lenet5": models.LeNet5}[case.sizes[0]]()
    parameters = [torch.nn.Parameter(torch.from_numpy(p.numpy().copy())) for p in made.parameters()]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
    if case.kind == "sgd":
        return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9).step
    return torch.optim.Adam(parameters, lr=1e-3).step


# --- taking turns ---------------------------------------------------------------------------------


def work(peer: str, cases: list[Case]) -> None:
    """The process of one peer: a number makes that case ready, an empty line asks for a turn."""
    if peer == "minigrad":
        from minigrad_nn import kernels

        keep: Any = kernels.reuse_memory()  # as training does
        keep.__enter__()
        print(json.dumps(peaks()), flush=True)
    else:
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        print("null", flush=True)
    call: Callable[[], Any] = int
    times = 1
    for line in sys.stdin:
        if line.strip():
            call = (our_call if peer == "minigrad" else torch_call)(cases[int(line)])
            call()
            start = time.perf_counter()
            call()
            times = max(1, math.ceil(TURN / max(time.perf_counter() - start, 1e-7)))
            print("0", flush=True)
            continue
        # First untimed: the other's threads may still spin, and our own sleep.
        for _ in range(times):
            call()
        start = time.perf_counter()
        for _ in range(times):
            call()
        print((time.perf_counter() - start) / times, flush=True)


class Peer:
    """The process of one peer, seen from outside."""

    def __init__(self, peer: str, arguments: list[str], threads: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--work", peer, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(threads),
        )
        self.said = self.ask()

    def ask(self, line: str | None = None) -> Any:
        """Send a line, and read what comes back."""
        assert self._process.stdin is not None and self._process.stdout is not None
        if line is not None:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("a process ended before its time")
        return json.loads(answer)

    def end(self) -> None:
        """Let the process end."""
        self._process.communicate()


def measure(cases: list[Case], arguments: list[str], given: argparse.Namespace) -> dict[str, Any]:
    """The peaks, and a row for each case."""
    ours = Peer("minigrad", arguments, given.threads)
    theirs = None if given.alone else Peer("torch", arguments, given.threads)
    operations, moved = ours.said
    print(f"peak: {operations / 1e9:.0f} GF/s, {moved / 1e9:.1f} GB/s copied\n")
    print(f"{'kernel':58} {'ms':>9} {'':>11} {'of peak':>8} {'ratio':>6}")
    rows = []
    for number, case in enumerate(cases):
        peers = [ours] if theirs is None else [ours, theirs]
        for peer in peers:
            peer.ask(str(number))
        seconds: list[list[float]] = [[] for _ in peers]
        for turn in range(given.turns):
            for i in sorted(range(len(peers)), key=lambda i: (i + turn) % len(peers)):
                seconds[i].append(peers[i].ask(""))
        middle = statistics.median(seconds[0])
        rate = (case.work or case.nbytes) / middle
        row: dict[str, Any] = {
            "kernel": case.name,
            "milliseconds": round(1e3 * middle, 4),
            "gflops" if case.work else "gbytes": round(rate / 1e9, 2),
            "share": round(rate / (operations if case.work else moved), 3),
        }
        shown = f"{rate / 1e9:6.1f} {'GF/s' if case.work else 'GB/s'}"
        text = f"{case.name:58} {1e3 * middle:9.3f} {shown} {100 * row['share']:6.0f} %"
        if theirs is not None:
            pairs = [b / a for a, b in zip(*seconds, strict=True)]
            row["ratio"] = round(statistics.median(pairs), 3)
            text += f" {row['ratio']:6.2f}"
        print(text, flush=True)
        rows.append(row)
    for peer in (ours, theirs):
        if peer is not None:
            peer.end()
    return {"peak_gflops": operations / 1e9, "peak_gbytes": moved / 1e9, "kernels": rows}


def main() -> None:
    """Measure, print a table, and write JSON."""
    options = parser(__doc__, turns=9)
    options.add_argument("--only", nargs="+", default=[], help="parts of names")
    options.add_argument("--quick", action="store_true", help="small sizes: whether it runs")
    options.add_argument("--alone", action="store_true", help="without PyTorch")
    options.add_argument("--work", help=argparse.SUPPRESS)
    given = options.parse_args()
    cases = quick() if given.quick else [*convolutions(), *others()]
    if given.only:
        cases = [case for case in cases if any(part in case.name for part in given.only)]
    if not cases:
        options.error(f"no kernel's name has any of {', '.join(given.only)} in it")
    if given.work:
        work(given.work, cases)
        return
    print(f"{given.threads} threads, median of {given.turns} turns; ratio: theirs / ours")
    arguments = [*["--quick"] * given.quick, *(["--only", *given.only] if given.only else [])]
    found = measure(cases, arguments, given)
    write(given.json, about(threads=given.threads, turns=given.turns), found)


if __name__ == "__main__":
    main()
