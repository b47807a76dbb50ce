"""Everything that only a CUDA card can show, in one call of at most 8 minutes.

    python benchmarks/gpu.py [--json FILE] [--only PART ...] [--seconds N] [--rehearse]

The parts, in this order: `kernels` (each with TFLOP/s or GB/s against ceilings that are measured
beside it: a large copy and large matrix products of each precision), `steps` (the training steps of
benchmarks/train_step.py in float32, TF32 and bfloat16, beside PyTorch's, both eager and as CUDA
graphs), `tests` (those of tests/cuda/device, on the card, among them the kernels in red zones),
`sanitizer` (the kernels under compute-sanitizer, where that is installed). Each part is processes
of its own with a limit of their own, so that one that hangs or dies takes nothing from the others;
what they found is in the JSON file as soon as they say it. A short table comes last.

Needs numpy, numba, numba-cuda, pytest and hypothesis; PyTorch is compared with where it is (of
torchvision it needs nothing), CuPy measures ceilings where PyTorch is not. No network. The exit
code is 0, 1 where something failed, and 2 where no card can be used. `--rehearse` runs the parts
that can run in Numba's simulator, on tiny arrays: it says whether the script works, and nothing
about speed.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
# Seconds for each part; the last one has what is left of all.
LIMITS = {"kernels": 90, "steps": 200, "tests": 110, "sanitizer": 90}
TOTAL = 470
# A process that says nothing for so long hangs: compiling the kernels of a network takes less.
SILENCE = 100
NETWORKS = ("lenet5", "rnn", "resnet18_cifar", "resnet18", "vgg11", "mobilenet_v1")
PRECISIONS = {"float32": "float32", "tf32": "TF32", "bfloat16": "bfloat16"}
SHARDS = 8
BROKEN = 3
"""The exit code of a process that told what failed, and leaves the rest to a fresh one."""


def report(**found: Any) -> None:
    """One result, as a line that the process above reads."""
    print(json.dumps(found), flush=True)


def told(error: BaseException) -> str:
    """An error on one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


# --- kernels --------------------------------------------------------------------------------------


def seconds(run: Callable[[], Any], wait: Callable[[], Any], least: float) -> float:
    """The median time of a call, of 5 rounds that take some time each; of 1 where that is none."""
    run()
    wait()
    start = time.perf_counter()
    run()
    wait()
    once = max(time.perf_counter() - start, 1e-6)
    count = max(1, int(least / once))
    rounds = []
    for _ in range(5 if least else 1):
        start = time.perf_counter()
        for _ in range(count):
            run()
        wait()
        rounds.append((time.perf_counter() - start) / count)
    return statistics.median(rounds)


def _torch() -> Any:
    """PyTorch where it is installed and has a card; None elsewhere, which is reported."""
    if importlib.util.find_spec("torch") is None:
        report(note="PyTorch is not installed: nothing is compared with it")
        return None
    try:
        import torch
    except Exception as error:
        report(note=f"PyTorch cannot be imported: {told(error)}")
        return None
    if not torch.cuda.is_available():
        report(note="this PyTorch has no card: nothing is compared with it")
        return None
    return torch


def _torch_precision(torch: Any, precision: str) -> None:
    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32


def ceilings(tiny: bool) -> None:
    """What the card can do: a large copy, and large matrix products by the maker's library."""
    least, size, length = (0.0, 8, 64) if tiny else (0.02, 8192, 1 << 28)

    def show(run: Callable[[], Any], wait: Callable[[], Any], name: str, **work: float) -> None:
        found = seconds(run, wait, least)
        rates = {kind: amount / found for kind, amount in work.items()}
        report(kernel=f"ceiling: {name}", **rates)

    flops = 2 * size**3 / 1e12
    torch = None if tiny else _torch()
    if torch is not None:
        wait = torch.cuda.synchronize
        x = torch.empty(length, device="cuda")
        y = torch.empty_like(x)
        show(lambda: y.copy_(x), wait, "copy", gbs=2 * x.nbytes / 1e9)
        del x, y
        a, b = (torch.randn(size, size, device="cuda") for _ in range(2))
        for precision, name in PRECISIONS.items():
            _torch_precision(torch, precision)
            if precision == "bfloat16":
                a, b = a.bfloat16(), b.bfloat16()
            show(lambda a=a, b=b: a @ b, wait, f"product, {name}", tflops=flops)
        return
    if importlib.util.find_spec("cupy") is None or tiny:
        report(note="neither PyTorch nor CuPy measures the ceilings")
        return
    import cupy

    def wait() -> None:
        cupy.cuda.Device().synchronize()

    x = cupy.empty(length, np.float32)
    y = cupy.empty_like(x)
    show(lambda: cupy.copyto(y, x), wait, "copy", gbs=2 * x.nbytes / 1e9)
    a, b = (cupy.ones((size, size), np.float32) for _ in range(2))
    show(lambda: a @ b, wait, "product, float32", tflops=flops)


WITH_PRECISIONS = ("3x3 56", "1x1 28", "3x3")
"""The convolutions that are shown in each precision."""


def kernel_table(tiny: bool) -> None:
    """Each family of kernels on shapes of real networks."""
    from minigrad_nn import kernels
    from minigrad_nn.kernels import Geometry
    from minigrad_nn.kernels.cuda.card import card as open_card
    from minigrad_nn.kernels.cuda.precision import set_precision
    from minigrad_nn.kernels.cuda.product import matmul

    card = open_card(0)
    rng = np.random.default_rng(0)

    def make(*shape: int) -> Any:
        return card.from_numpy(rng.standard_normal(shape).astype(np.float32))

    def show(
        name: str,
        run: Callable[[], Any],
        flops: float,
        nbytes: float,
        precisions: tuple[str, ...] = ("float32",),
    ) -> None:
        for precision in precisions:
            also = "" if precision == "float32" else f" {PRECISIONS[precision]}"
            set_precision(precision)
            try:
                found = seconds(run, card.synchronise, 0.0 if tiny else 0.01)
            except Exception as error:
                report(kernel=name + also, failed=told(error))
                continue
            finally:
                set_precision("float32")
            report(
                kernel=name + also,
                precision=precision,
                milliseconds=1e3 * found,
                tflops=flops / found / 1e12,
                gbs=nbytes / found / 1e9,
            )

    for size in (8,) if tiny else (512, 1024, 4096, 8192):
        a, b = make(size, size), make(size, size)
        show(
            f"product {size}",
            lambda a=a, b=b: matmul(a, b),
            2 * size**3,
            3 * a.nbytes,
            tuple(PRECISIONS),
        )
    shapes = (
        # images, channels, filters, size, taps, stride, groups
        ("7x7/2", 32, 3, 64, 224, 7, 2, 1),
        ("3x3 56", 32, 64, 64, 56, 3, 1, 1),
        ("3x3/2 28", 32, 128, 256, 28, 3, 2, 1),
        ("3x3 7", 32, 512, 512, 7, 3, 1, 1),
        ("1x1 28", 32, 256, 512, 28, 1, 1, 1),
        ("depthwise 56", 32, 128, 128, 56, 3, 1, 128),
    )
    if tiny:
        shapes = (("3x3", 1, 2, 3, 4, 3, 1, 1), ("depthwise", 1, 2, 2, 4, 3, 1, 2))
    for name, images, channels, filters, size, taps, stride, groups in shapes:
        geometry = Geometry.of((size, size), taps, stride, taps // 2, groups=groups)
        x, w = make(images, channels, size, size), make(filters, channels // groups, taps, taps)
        g = make(images, filters, *geometry.output)
        flops = 2 * g.size * (channels // groups) * taps * taps
        for kernel, a, b, other in (
            (kernels.conv, x, w, g),
            (kernels.conv_input, g, w, x),
            (kernels.conv_weight, x, g, w),
        ):
            show(
                f"{kernel.__name__} {name}",
                lambda kernel=kernel, a=a, b=b, q=geometry: kernel(a, b, q),
                flops,
                a.nbytes + b.nbytes + other.nbytes,
                tuple(PRECISIONS) if name in WITH_PRECISIONS else ("float32",),
            )
    others(tiny, make, show)


def others(tiny: bool, make: Callable[..., Any], show: Callable[..., None]) -> None:
    """The kernels that are no products: memory is what they wait for, or the step before."""
    from minigrad_nn import kernels
    from minigrad_nn.kernels import Geometry

    x = make(1, 2, 4, 4) if tiny else make(32, 64, 112, 112)
    vector = make(x.shape[1])
    pool = Geometry.of(x.shape[2:], 3, 2, 1)
    made = kernels.max_pool(x, pool)
    g = make(*made.values.shape)
    sequence = make(2, 2, 3) if tiny else make(64, 64, 256)
    h, w = make(*sequence.shape[1:]), make(sequence.shape[2], sequence.shape[2])
    weights = [abs(make(5) if tiny else make(1 << 24)) for _ in range(4)]
    steps = 2 * sequence.size * sequence.shape[2]
    four = make(*sequence.shape[:2], 4 * sequence.shape[2])
    w4 = make(4 * w.shape[0], w.shape[0])
    lstm = kernels.lstm(four, h, h, w4)
    three, w3 = four[..., : 3 * w.shape[0]].copy(), w4[: 3 * w.shape[0]].copy()
    scores = make(4, 5) if tiny else make(4096, 1000)
    classes = type(scores).from_numpy(np.arange(len(scores)) % scores.shape[1])
    for name, run, flops, nbytes in (
        ("max_pool", lambda: kernels.max_pool(x, pool), 0, x.nbytes + 2 * g.nbytes),
        (
            "max_pool_input",
            lambda: kernels.max_pool_input(g, made.indices, pool),
            0,
            x.nbytes + 2 * g.nbytes,
        ),
        ("batch_norm", lambda: kernels.batch_norm(x, vector, vector), 0, 3 * x.nbytes),
        (
            "batch_norm_backward",
            lambda: kernels.batch_norm_backward(x, x, vector, vector, vector),
            0,
            5 * x.nbytes,
        ),
        ("relu", lambda: kernels.relu(x), 0, 2 * x.nbytes),
        ("rnn", lambda: kernels.rnn(sequence, h, w), steps, 2 * sequence.nbytes),
        (
            "rnn_backward",
            lambda: kernels.rnn_backward(sequence, sequence, h, w),
            2 * steps,
            4 * sequence.nbytes,
        ),
        ("lstm", lambda: kernels.lstm(four, h, h, w4), 4 * steps, 2 * four.nbytes),
        (
            "lstm_backward",
            lambda: kernels.lstm_backward(
                sequence, sequence, lstm.y, lstm.memory, lstm.gates, h, h, w4
            ),
            8 * steps,
            2 * four.nbytes,
        ),
        ("gru", lambda: kernels.gru(three, h, w3, w3[:, 0].copy()), 3 * steps, 2 * three.nbytes),
        ("cross_entropy", lambda: kernels.cross_entropy(scores, classes), 0, scores.nbytes),
        ("add", lambda: np.add(x, x), 0, 3 * x.nbytes),
        ("sum of all", lambda: np.add.reduce(x, axis=None), 0, x.nbytes),
        ("sum of rows", lambda: np.add.reduce(x, axis=-1), 0, x.nbytes),
        (
            "adam_update",
            lambda: kernels.adam_update(
                weights[:1], weights[1:2], weights[2:3], weights[3:], step=9, lr=0.0
            ),
            0,
            7 * weights[0].nbytes,
        ),
        (
            "sgd_update",
            lambda: kernels.sgd_update(
                weights[:1], weights[1:2], weights[2:3], lr=0.0, momentum=0.9
            ),
            0,
            5 * weights[0].nbytes,
        ),
    ):
        show(name, run, flops, nbytes)


# --- training steps -------------------------------------------------------------------------------


def _torch_graph(step: Callable[[], None]) -> Callable[[], None]:
    """PyTorch's step as a CUDA graph: one replay a step."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _without_torchvision() -> None:
    """Stand in for the two networks that benchmarks/train_step.py takes of torchvision."""
    if importlib.util.find_spec("torchvision") is not None:
        return
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, given: int, made: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(given, made, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(made)
            self.conv2 = nn.Conv2d(made, made, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(made)
            self.relu = nn.ReLU(inplace=True)
            self.downsample = None
            if stride != 1:
                convolution = nn.Conv2d(given, made, 1, stride, bias=False)
                self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(made))

        def forward(self, x: Any) -> Any:
            short = x if self.downsample is None else self.downsample(x)
            x = self.relu(self.bn1(self.conv1(x)))
            return self.relu(self.bn2(self.conv2(x)) + short)

    class ResNet18(nn.Module):
        def __init__(self, num_classes: int = 1000) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
            self.bn1, self.relu = nn.BatchNorm2d(64), nn.ReLU(inplace=True)
            self.maxpool = nn.MaxPool2d(3, 2, 1)
            layers: list[Any] = []
            for given, made in ((64, 64), (64, 128), (128, 256), (256, 512)):
                layers += [Block(given, made, made // given), Block(made, made, 1)]
            self.layers = nn.Sequential(*layers)
            self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(512, num_classes)

        def forward(self, x: Any) -> Any:
            x = self.layers(self.maxpool(self.relu(self.bn1(self.conv1(x)))))
            return self.fc(torch.flatten(self.avgpool(x), 1))

    def vgg11() -> Any:
        layers: list[Any] = []
        given = 3
        for made in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
            if made:
                layers += [nn.Conv2d(given, made, 3, padding=1), nn.ReLU(inplace=True)]
                given = made
            else:
                layers += [nn.MaxPool2d(2, 2)]
        layers += [nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(512 * 49, 4096)]
        layers += [nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4096, 4096)]
        return nn.Sequential(*layers, nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4096, 1000))

    module: Any = ModuleType("torchvision")
    module.models = SimpleNamespace(resnet18=ResNet18, vgg11=vgg11)
    sys.modules["torchvision"] = module


def our_steps(name: str, tiny: bool) -> Iterator[dict[str, Any]]:
    """One network of ours in each precision, eager and captured, which makes CUDA graphs of it."""
    import minigrad
    from benchmarks import train_step

    for precision, kind in PRECISIONS.items():
        minigrad.cuda.set_matmul_precision(precision)
        for way in ("", "graph "):
            peer = f"minigrad {way}{kind}"
            minigrad.cuda.reset_peak_memory()
            try:
                step = train_step.minigrad_step(name, False, "cuda", captured=bool(way))
                with warnings.catch_warnings():
                    warnings.filterwarnings("error", "this step is replayed without graphs")
                    # Twice recorded, and replayed until graphs are made.
                    for _ in range(4 if way else 0):
                        step()
                    found = seconds(step, minigrad.cuda.synchronize, 0.0 if tiny else LEAST)
                memory = minigrad.cuda.memory_stats().peak_reserved / 1e6
                yield dict(peer=peer, milliseconds=1e3 * found, memory_mb=memory)
            except Exception as error:
                traceback.print_exc()
                yield dict(peer=peer, failed=told(error))
            step = None
            minigrad.cuda.empty_cache()


def torch_steps(name: str, tiny: bool) -> Iterator[dict[str, Any]]:
    """One network of PyTorch's in each precision, eager and as a CUDA graph."""
    from benchmarks import train_step

    torch = None if tiny else _torch()
    if torch is None:
        return
    _without_torchvision()
    for precision, kind in PRECISIONS.items():
        _torch_precision(torch, precision)
        for way in ("eager", "graph"):
            peer = f"torch {way} {kind}"
            try:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
                plain = train_step.torch_step(name, False, False, "cuda")

                def step(plain: Any = plain, precision: str = precision) -> None:
                    # The cache of casts does not go with graphs.
                    with torch.autocast(
                        "cuda", torch.bfloat16, precision == "bfloat16", cache_enabled=False
                    ):
                        plain()

                run = step if way == "eager" else _torch_graph(step)
                found = seconds(run, torch.cuda.synchronize, LEAST)
                memory = torch.cuda.max_memory_reserved() / 1e6
                yield dict(peer=peer, milliseconds=1e3 * found, memory_mb=memory)
            except Exception as error:
                traceback.print_exc()
                yield dict(peer=peer, failed=told(error))
            plain = run = step = None


LEAST = 0.15
"""Seconds that a round of steps takes at least."""


def step_times(jobs: list[str], tiny: bool) -> int:
    """Networks one after the other, such as "ours:rnn" or "torch:rnn".

    The kernels that are compiled for one serve the next.
    """
    sys.path.insert(0, str(ROOT))
    from benchmarks import train_step

    for job in jobs:
        whose, _, name = job.partition(":")
        if tiny:
            train_step.SHAPES[name], train_step.CLASSES[name], train_step.HIDDEN = (2, 1), 3, 4
        report(begun=job)
        broken = False
        for found in (our_steps if whose == "ours" else torch_steps)(name, tiny):
            report(network=name, **found)
            broken |= "failed" in found
        report(ended=job)
        if broken:  # what went wrong on a card may stay with the process
            return BROKEN
    return 0


# --- processes ------------------------------------------------------------------------------------


STAND_INS: list[str] = []
"""Folders of modules for those that are not installed."""

THREADPOOLCTL = '''"""Stands in for threadpoolctl, for benchmarks/gpu.py: no library."""


class ThreadpoolController:
    lib_controllers = ()

    def select(self, **_):
        return self
'''


@contextlib.contextmanager
def standing_in() -> Iterator[list[str]]:
    """Let a machine without threadpoolctl, which only the CPU's products need, run all this."""
    if importlib.util.find_spec("threadpoolctl") is not None:
        yield []
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "threadpoolctl.py").write_text(THREADPOOLCTL, encoding="utf-8")
        STAND_INS.append(folder)
        try:
            yield ["threadpoolctl is not installed: BLAS keeps its threads"]
        finally:
            STAND_INS.remove(folder)


_running: set[Any] = set()


def _stop(number: int, frame: Any) -> None:
    """Asked to end: with all processes, which have sessions of their own and would go on."""
    for process in list(_running):
        _end(process)
    raise SystemExit(128 + number)


def _end(process: Any) -> None:
    """End a process and all that it started: they would go on using the card."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def parsed(line: str) -> dict[str, Any] | None:
    """A result, if the line is one; the last line before a process was ended may be half of one."""
    if not line.startswith("{"):
        return None
    try:
        found = json.loads(line)
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def child(
    arguments: list[Any],
    limit: float,
    environment: dict[str, str],
    tell: Callable[[dict[str, Any]], None] | None = None,
    silence: float | None = None,
) -> tuple[int, str, str]:
    """Run a process for so many seconds at most; 124 stands for one that took longer.

    Args:
        arguments: the command.
        limit: seconds; the process and all that it started end then.
        environment: variables beside those of this process.
        tell: called with each result as soon as the process reports it.
        silence: seconds without a line after which the process is taken to hang.
    """
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")]), *STAND_INS]
    late = threading.Event()
    done = threading.Event()
    out: list[str] = []
    end = time.monotonic() + max(1.0, limit)
    heard = [time.monotonic()]
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            [str(a) for a in arguments],
            cwd=ROOT,
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
            start_new_session=True,
        )

        def watch() -> None:
            while not done.wait(0.1):
                now = time.monotonic()
                if now > end or (silence is not None and now > heard[0] + silence):
                    late.set()
                    _end(process)
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        _running.add(process)
        assert process.stdout is not None
        try:
            for line in process.stdout:
                heard[0] = time.monotonic()
                out.append(line)
                found = parsed(line)
                if found is not None and tell is not None:
                    tell(found)
            code = process.wait()
        finally:
            done.set()
            _end(process)
            _running.discard(process)
            process.stdout.close()
            process.wait()
            watcher.join()
        errors.seek(0)
        return (124 if late.is_set() else code), "".join(out), errors.read()


def why(code: int, error: str, out: str = "") -> str:
    """Why a process failed, on one line."""
    if code == 124:
        return "took too long"
    if code < 0:
        return f"ended by signal {-code}"
    last = (error.strip() or out.strip()).splitlines() or [f"exit {code}"]
    return last[-1][:300]


def run_kernels(
    limit: float, environment: dict[str, str], tell: Callable[[dict[str, Any]], None], tiny: bool
) -> None:
    """The table of kernels; ceilings in a process of their own, whose fault is not ours."""
    end = time.monotonic() + limit
    for part, share in (("ceilings", 0.4), ("kernels", 1.0)):
        command = [sys.executable, __file__, *["--rehearse"] * tiny, "--part", part]
        left = (end - time.monotonic()) * share
        code, out, error = child(command, left, environment, tell, SILENCE)
        if code:
            tell({"failed": f"{part}: {why(code, error, out)}"})


def run_steps(
    limit: float, environment: dict[str, str], tell: Callable[[dict[str, Any]], None], tiny: bool
) -> None:
    """Training steps: ours, then PyTorch's; a process that dies costs the network it was at."""
    end = time.monotonic() + limit
    networks = ("rnn",) if tiny else NETWORKS
    for whose, share in (("ours", 0.65), ("torch", 1.0)):
        jobs = [f"{whose}:{name}" for name in networks]
        until = time.monotonic() + (end - time.monotonic()) * share
        while jobs:
            left = until - time.monotonic()
            if left < 5:
                for job in jobs:
                    name = job.partition(":")[2]
                    tell({"network": name, "peer": whose, "failed": "no time was left"})
                break
            open_jobs = list(jobs)

            def heard(found: dict[str, Any], jobs: list[str] = jobs) -> None:
                if "ended" in found and found["ended"] in jobs:
                    jobs.remove(found["ended"])
                elif "begun" not in found:
                    tell(found)

            command = [sys.executable, __file__, *["--rehearse"] * tiny, "--part", "steps", *jobs]
            code, out, error = child(command, left, environment, heard, SILENCE)
            if code and (code != BROKEN or jobs == open_jobs):
                begun = [f["begun"] for f in map(parsed, out.splitlines()) if f and "begun" in f]
                name = begun[-1].partition(":")[2] if begun else ""
                tell({"network": name, "peer": whose, "failed": why(code, error, out)})
                if jobs:
                    jobs.remove(begun[-1] if begun and begun[-1] in jobs else jobs[0])
            elif not code:
                break


def missing(*names: str) -> str | None:
    """What is not installed of what a part needs, as a sentence."""
    gone = [name for name in names if importlib.util.find_spec(name) is None]
    return f"not run: {' and '.join(gone)} not installed" if gone else None


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """As a plugin of pytest: keep every n-th test, where MINIGRAD_GPU_SHARD=i/n is set."""
    number, _, count = os.environ.get("MINIGRAD_GPU_SHARD", "0/1").partition("/")
    kept = items[int(number) :: int(count)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def run_tests(limit: float, environment: dict[str, str], tiny: bool) -> dict[str, Any]:
    """The tests of tests/cuda/device, in processes beside each other: compiling takes the time."""
    gone = missing("pytest", "hypothesis")
    if gone:
        return {"ok": False, "summary": gone}
    shards = 2 if tiny else max(1, min(SHARDS, (os.cpu_count() or 2) // 2))
    where = [f"tests/cuda/device/test_{n}.py" for n in ("precision", "random")]

    def one(number: int) -> tuple[int, str, str]:
        return child(
            [
                *(sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider"),
                *("-p", "benchmarks.gpu", *(where if tiny else ["tests/cuda/device"])),
            ],
            limit,
            {**environment, "MINIGRAD_GPU_SHARD": f"{number}/{shards}"},
        )

    with ThreadPoolExecutor(shards) as pool:
        found = list(pool.map(one, range(shards)))
    counts: dict[str, int] = {}
    failed: list[str] = []
    for number, (code, out, error) in enumerate(found):
        last = [x for x in out.splitlines() if re.search(r"\d+ (passed|failed|error|skipped)", x)]
        for count, kind in re.findall(
            r"(\d+) (passed|failed|error|skipped|xfailed)", last[-1] if last else ""
        ):
            counts[kind] = counts.get(kind, 0) + int(count)
        failed += [x for x in out.splitlines() if x.startswith(("FAILED", "ERROR"))]
        if code not in (0, 1):
            failed.append(f"process {number} of {shards}: {why(code, error, out)}")
    summary = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "no test ran"
    late = sum(code == 124 for code, _, _ in found)
    if late:
        summary += f"; {late} of {shards} processes not finished in {limit:.0f} s"
    return {
        "ok": not failed and not counts.get("failed") and bool(counts.get("passed")),
        "summary": summary,
        "failed": failed,
        "tails": [out[-2000:] + error[-1000:] for code, out, error in found if code],
    }


def sanitizer() -> str | None:
    """Where compute-sanitizer is, if it is."""
    homes = [os.environ.get("CUDA_HOME", ""), os.environ.get("CUDA_PATH", "")]
    places = [f"{home}/bin" for home in homes if home]
    places += ["/opt/cuda/bin", *sorted(glob.glob("/usr/local/cuda*/bin"), reverse=True)]
    places += [f"{p}/../compute-sanitizer" for p in places]
    places += glob.glob(f"{sys.prefix}/lib/python*/site-packages/nvidia/*/bin")
    path = os.pathsep.join([os.environ.get("PATH", ""), *places])
    return shutil.which("compute-sanitizer", path=path)


FAULT = re.compile(
    r"========= +(Invalid|Out-of-range|Misaligned|Program hit|Error|Race|Potential|Uninit)"
)


def run_sanitizer(limit: float) -> list[dict[str, Any]]:
    """Kernels in red zones under compute-sanitizer: wild accesses, then races in shared memory."""
    tool = sanitizer()
    if tool is None:
        return [{"ok": None, "summary": "compute-sanitizer is not installed"}]
    gone = missing("pytest", "hypothesis")
    if gone:
        return [{"ok": None, "summary": gone}]
    end = time.monotonic() + limit
    files = [f"tests/cuda/device/test_{n}.py" for n in ("convolution", "kernels", "precision")]
    results = []
    for check, share in (("memcheck", 0.6), ("racecheck", 1.0)):
        left = (end - time.monotonic()) * share
        code, out, error = child(
            [
                *(tool, "--tool", check, "--error-exitcode", "86", "--target-processes", "all"),
                *(sys.executable, "-m", "pytest", "-q", "-x", "-s", "-p", "no:cacheprovider"),
                *files,
            ],
            left,
            {},
        )
        text = out + error
        faults = [line.strip() for line in text.splitlines() if FAULT.search(line)]
        last = [x.strip("= ") for x in text.splitlines() if "SUMMARY" in x]
        passed = [x for x in text.splitlines() if re.search(r"\d+ (passed|failed)", x)]
        if code == 124:
            summary = f"not finished in {left:.0f} s, {len(faults)} faults until then"
        else:
            summary = "; ".join([*last[-1:], *passed[-1:]]) or why(code, error, out)
        results.append(
            {
                "tool": check,
                "ok": None if code == 124 and not faults else code == 0 and not faults,
                "summary": f"{check}: {summary}",
                "faults": faults[:20],
                "tail": text[-2000:] if code else "",
            }
        )
    return results


def about() -> dict[str, Any]:
    """The card, its driver, and versions."""
    found: dict[str, Any] = {"date": date.today().isoformat(), "python": platform.python_version()}
    found["processors"] = os.cpu_count()
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        with contextlib.suppress(subprocess.TimeoutExpired, OSError):
            done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=20)
            found["card"] = done.stdout.strip()
    for name in (
        *("numpy", "numba", "numba-cuda", "pytest", "hypothesis", "torch", "torchvision"),
        *("cupy-cuda12x", "cupy-cuda13x"),
    ):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


# --- the whole ------------------------------------------------------------------------------------


def table(results: dict[str, Any]) -> None:
    """The short table."""
    ceiling = {r["kernel"]: r for r in results.get("kernels", []) if "kernel" in r}
    copy = ceiling.get("ceiling: copy", {}).get("gbs")
    for r in results.get("kernels", []):
        if "note" in r:
            print(f"kernels: {r['note']}")
            continue
        if "failed" in r:
            print(f"{r.get('kernel', 'kernels'):26} failed: {r['failed'][:90]}")
            continue
        line = f"{r['kernel']:26}"
        if "milliseconds" in r:
            line += f" {r['milliseconds']:9.3f} ms"
        if r.get("tflops"):
            most = ceiling.get(f"ceiling: product, {PRECISIONS[r.get('precision', 'float32')]}", {})
            part = f" {r['tflops'] / most['tflops']:5.0%}" if most.get("tflops") else ""
            line += f" {r['tflops']:8.2f} TFLOP/s{part}"
        if r.get("gbs"):
            part = f" {r['gbs'] / copy:5.0%}" if copy else ""
            line += f" {r['gbs']:8.1f} GB/s{part}"
        print(line)
    ours = {
        (r["network"], r["peer"]): r["milliseconds"]
        for r in results.get("steps", [])
        if r.get("peer", "").startswith("minigrad") and "milliseconds" in r
    }
    notes = dict.fromkeys(r["note"] for r in results.get("steps", []) if "note" in r)
    for r in results.get("steps", []):
        if "note" in r:
            continue
        if "failed" in r:
            print(f"{r.get('network', 'steps'):16} {r.get('peer', ''):24} {r['failed'][:90]}")
        else:
            whose, *way, kind = r["peer"].split()
            # Graphs of PyTorch beside ours, and all else beside what is not captured.
            own = ours.get((r["network"], f"minigrad {kind}"))
            if whose != "minigrad" and way == ["graph"]:
                own = ours.get((r["network"], f"minigrad graph {kind}"), own)
            ratio = f"ratio {r['milliseconds'] / own:6.2f}" if own else ""
            print(
                f"{r['network']:16} {r['peer']:24} {r['milliseconds']:9.3f} ms "
                f"{r['memory_mb']:7.0f} MB {ratio}"
            )
    for note in notes:
        print(f"steps: {note}")
    if "tests" in results:
        print(f"tests: {results['tests']['summary']}")
        for line in results["tests"].get("failed", [])[:20]:
            print(f"  {line[:150]}")
    for found in results.get("sanitizer", []):
        print(f"sanitizer: {found['summary']}")
        for line in found.get("faults", [])[:5]:
            print(f"  {line[:150]}")
    for note in results.get("notes", []):
        print(f"note: {note}")
    for part, error in results.get("broken", {}).items():
        print(f"{part}: {error}")


class Results(dict[str, Any]):
    """What was found, written to a file at each change: a run that is cut short loses nothing."""

    def __init__(self, path: Path, **first: Any) -> None:
        """Write the first of it.

        Raises:
            OSError: the file cannot be written.
        """
        super().__init__(first)
        self._path = path
        self.write()

    def write(self) -> None:
        """The file, whole or as it was."""
        beside = self._path.with_name(f"{self._path.name}.part")
        beside.write_text(json.dumps(self, indent=1) + "\n", encoding="utf-8")
        beside.replace(self._path)

    def add(self, part: str, found: dict[str, Any]) -> None:
        """One more row of a part."""
        self.setdefault(part, []).append(found)
        self.write()

    def failed(self) -> bool:
        """Whether something is wrong; what could not be run at all is not."""
        rows = [r for part in ("kernels", "steps") for r in self.get(part, []) if "failed" in r]
        checks = [self.get("tests", {}).get("ok"), *(r["ok"] for r in self.get("sanitizer", []))]
        return bool(rows) or False in checks or bool(self.get("broken"))


def run_parts(
    results: Results, parts: list[str], total: float, environment: dict[str, str], tiny: bool
) -> None:
    """The parts in their order; a part whose fault is this script's own takes no other along."""
    end = time.monotonic() + total

    def run(part: str) -> None:
        left = end - time.monotonic()
        limit = left if part == "sanitizer" else min(LIMITS[part], left)
        if limit < 5:
            raise TimeoutError("no time was left")
        if part == "kernels":
            run_kernels(limit, environment, lambda r: results.add("kernels", r), tiny)
        elif part == "steps":
            run_steps(limit, environment, lambda r: results.add("steps", r), tiny)
        elif part == "tests":
            results["tests"] = run_tests(limit, environment, tiny)
        elif not tiny:
            results["sanitizer"] = run_sanitizer(limit)

    for part in LIMITS:
        if part not in parts:
            continue
        print(f"{part} ...", file=sys.stderr, flush=True)
        start = time.monotonic()
        try:
            run(part)
        except Exception as error:
            traceback.print_exc()
            results.setdefault("broken", {})[part] = told(error)
        results.setdefault("seconds", {})[part] = round(time.monotonic() - start, 1)
        results.write()


def main() -> int:
    """Run the parts, print the table, write JSON; 1 where something failed, 2 without a card."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", default="gpu.json", help="where all numbers go (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=LIMITS, default=list(LIMITS))
    parser.add_argument("--seconds", type=float, default=TOTAL, help="for all (%(default)s)")
    parser.add_argument("--rehearse", action="store_true", help="in the simulator, on tiny arrays")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        sys.path.insert(0, str(ROOT))
        if given.part[0] == "steps":
            return step_times(given.part[1:], given.rehearse)
        (ceilings if given.part[0] == "ceilings" else kernel_table)(given.rehearse)
        return 0
    for name in "SIGTERM", "SIGINT":
        signal.signal(getattr(signal, name), _stop)
    start = time.monotonic()
    try:
        results = Results(Path(given.json), about=about(), rehearsal=given.rehearse)
    except OSError as error:
        parser.error(f"--json: {error}")
    with standing_in() as notes:
        results.update(notes=notes)
        return measure(results, given, start)


def measure(results: Results, given: argparse.Namespace, start: float) -> int:
    """All that was asked for, if there is a card; gives the exit code."""
    environment = {"NUMBA_ENABLE_CUDASIM": "1"} if given.rehearse else {}
    code, out, error = child(
        [sys.executable, "-c", "import minigrad; print(minigrad.cuda.is_available())"],
        min(60.0, given.seconds),
        environment,
    )
    if code or out.strip() != "True":
        reason = why(code, error, out) if code else out.strip()
        print(f"no card can be used here: {reason}")
        results["unavailable"] = reason
        results.write()
        return 2
    left = given.seconds - (time.monotonic() - start)
    run_parts(results, given.only, left, environment, given.rehearse)
    table(results)
    return int(results.failed())


if __name__ == "__main__":
    sys.exit(main())
