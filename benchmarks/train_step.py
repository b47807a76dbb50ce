"""Training steps of six networks beside PyTorch's, turn by turn, each in a process of its own.

    python benchmarks/train_step.py [--only NAME ...] [--peers NAME ...] [--turns N]
                                    [--threads N] [--json FILE] [--inference]

A step is forward, loss, backward and SGD with momentum 0.9, in float32.  The processes take turns,
so that a busy machine is busy for all of them; a turn begins with a step that does not count, for
the caches were others', and repeats a short step for a quarter of a second.  The table has the
median time of each, the median of the ratios within a turn, and the memory that each takes above
what it had before its network was made.  Ours appears twice, eager and captured.  `--inference`
times the forward pass in `eval` mode instead.  Needs the extra `bench`, and torchvision as
tests/peers does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from common import about, environment, parser, write

SHAPES: dict[str, tuple[int, ...]] = {
    "lenet5": (128, 1, 28, 28),
    "resnet18_cifar": (32, 3, 32, 32),
    "resnet18": (8, 3, 224, 224),
    "vgg11": (4, 3, 224, 224),
    "mobilenet_v1": (8, 3, 224, 224),
    "rnn": (64, 32),  # steps, streams
}
CLASSES = {"lenet5": 10, "resnet18_cifar": 10, "rnn": 65}
HIDDEN = 256
# Seconds that a turn takes at least: training goes on without a pause, so a short step is repeated.
TURN = 0.25
OURS = ("minigrad", "captured")
PEERS = (*OURS, "torch", "torch.compile", "jax")


def batch(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and class numbers: the same for all."""
    rng = np.random.default_rng(0)
    shape, classes = SHAPES[name], CLASSES.get(name, 1000)
    if name == "rnn":
        letters = rng.integers(0, classes, shape)
        return np.eye(classes, dtype=np.float32)[letters], rng.integers(0, classes, shape).ravel()
    return rng.standard_normal(shape, dtype=np.float32), rng.integers(0, classes, shape[0])


# --- minigrad -------------------------------------------------------------------------------------


def minigrad_step(
    name: str, inference: bool, device: str = "cpu", captured: bool = False
) -> Callable[[], None]:
    """One step of ours; on a card it is only started (`minigrad.cuda.synchronize` waits)."""
    import minigrad
    import minigrad_nn as nn
    from minigrad_nn import functional as F
    from minigrad_nn import models

    class CharacterRNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.RNN(CLASSES["rnn"], HIDDEN)
            self.head = nn.Linear(HIDDEN, CLASSES["rnn"])

        def forward(self, x: Any) -> Any:
            return self.head(self.rnn(x)[0].reshape(-1, HIDDEN))

    made = {
        "lenet5": models.LeNet5,
        "resnet18_cifar": lambda: models.resnet18(classes=10, stem="cifar"),
        "resnet18": models.resnet18,
        "vgg11": models.vgg11,
        "mobilenet_v1": models.mobilenet_v1,
        "rnn": CharacterRNN,
    }
    model = made[name]().to(device)
    optimizer = nn.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    inputs, labels = batch(name)
    x = minigrad.tensor(inputs).to(device)
    target = labels if device == "cpu" else minigrad.tensor(labels).to(device)
    if inference:
        model.eval()

        look = minigrad.capture(model) if captured else model

        def forward() -> None:
            with minigrad.no_grad():
                look(x)

        return forward

    def learn(x: Any, target: Any) -> None:
        loss = F.cross_entropy(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step = minigrad.capture(learn) if captured else learn
    return lambda: step(x, target)


# --- PyTorch --------------------------------------------------------------------------------------


def torch_step(
    name: str, inference: bool, compiled: bool, device: str = "cpu"
) -> Callable[[], None]:
    """One step of PyTorch's, eager or by `torch.compile`."""
    import torch

    model = _torch_model(name).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    inputs, labels = (torch.from_numpy(array).to(device) for array in batch(name))
    if compiled:
        model = torch.compile(model)
    if inference:
        model.eval()

        def forward() -> None:
            with torch.inference_mode():
                model(inputs)

        return forward

    def step() -> None:
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _torch_model(name: str) -> Any:
    import torch
    from torch import nn

    # torchvision registers shape rules for two operators that this build of torch may lack.
    library = torch.library.Library("torchvision", "FRAGMENT")
    if not hasattr(torch.ops.torchvision, "nms"):
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import models

    class CharacterRNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.RNN(CLASSES["rnn"], HIDDEN)
            self.head = nn.Linear(HIDDEN, CLASSES["rnn"])

        def forward(self, x: Any) -> Any:
            return self.head(self.rnn(x)[0].reshape(-1, HIDDEN))

    def lenet5() -> Any:
        return nn.Sequential(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)),
            *(nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten()),
            *(nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)),
        )

    def resnet18_cifar() -> Any:
        model = models.resnet18(num_classes=10)
        model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
        return model

    def mobilenet_v1() -> Any:
        layers: list[Any] = []

        def add(given: int, made: int, size: int, stride: int, groups: int = 1) -> None:
            convolution = nn.Conv2d(given, made, size, stride, size // 2, groups=groups, bias=False)
            layers.extend((convolution, nn.BatchNorm2d(made), nn.ReLU()))

        add(3, 32, 3, 2)
        widths = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
        strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
        for given, made, stride in zip(widths, widths[1:], strides, strict=False):
            add(given, given, 3, stride, given)
            add(given, made, 1, 1)
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000))
        return nn.Sequential(*layers, *head)

    made = {
        "lenet5": lenet5,
        "resnet18_cifar": resnet18_cifar,
        "resnet18": models.resnet18,
        "vgg11": models.vgg11,
        "mobilenet_v1": mobilenet_v1,
        "rnn": CharacterRNN,
    }
    return made[name]()


# --- taking turns ---------------------------------------------------------------------------------


def work(peer: str, name: str, inference: bool) -> None:
    """The process of one peer: a line on standard input asks for a step, seconds come back."""
    if peer in OURS:
        import minigrad_nn.kernels.cpu  # noqa: F401  (what is loaded before memory is measured)
    elif peer == "jax":
        import jax  # noqa: F401
    else:
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kept = contextlib.ExitStack()
    try:
        if peer in OURS:
            from minigrad_nn.kernels import reuse_memory

            kept.enter_context(reuse_memory())  # as `train.fit` does
            step = minigrad_step(name, inference, captured=peer == "captured")
        elif peer == "jax":
            from jax_networks import make_step

            step = make_step(name, *batch(name), inference)
        else:
            step = torch_step(name, inference, peer == "torch.compile")
        for _ in range(3):  # compiles, fills caches, and is recorded
            step()
        start = time.perf_counter()
        step()
        steps = max(1, round(TURN / (time.perf_counter() - start)))
    except Exception as error:
        print(json.dumps({"failed": f"{type(error).__name__}: {error}".splitlines()[0]}))
        return
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        step()  # the others have had the caches, and their threads may not sleep yet
        start = time.perf_counter()
        for _ in range(steps):
            step()
        seconds = (time.perf_counter() - start) / steps
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(json.dumps({"seconds": seconds, "memory": peak * 1024}), flush=True)


class Peer:
    """The process of one peer, seen from outside."""

    def __init__(self, peer: str, name: str, threads: int, inference: bool) -> None:
        self.seconds: list[float] = []
        self.memory = 0
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--work", peer, name, *["--inference"] * inference],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(threads),
        )
        found = self._answer()
        self.failed = found.get("failed")

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"failed": "its process ended"}

    def step(self) -> None:
        """Take a turn."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found = self._answer()
        self.seconds.append(found["seconds"])
        self.memory = max(self.memory, found["memory"])

    def end(self) -> None:
        """Let the process end."""
        self._process.communicate()


def measure(
    name: str, names: list[str], turns: int, threads: int, inference: bool
) -> dict[str, Any]:
    """Times and memory of peers on one network; ratios are theirs over ours."""
    peers = {peer: Peer(peer, name, threads, inference) for peer in names}
    running = {peer: one for peer, one in peers.items() if one.failed is None}
    for turn in range(turns):
        for peer in sorted(running, key=lambda peer: (names.index(peer) + turn) % len(names)):
            running[peer].step()
    ours = peers["minigrad"].seconds
    found: dict[str, Any] = {}
    for peer, one in peers.items():
        one.end()
        if one.failed is not None:
            found[peer] = {"failed": one.failed}
            continue
        ratios = [theirs / own for theirs, own in zip(one.seconds, ours, strict=True)]
        found[peer] = {
            "milliseconds": round(1e3 * statistics.median(one.seconds), 2),
            "ratio": round(statistics.median(ratios), 3),
            "memory_mb": round(one.memory / 1e6),
        }
    return found


def main() -> None:
    """Measure, print a table, and write JSON."""
    options = parser(__doc__, turns=15)
    options.add_argument("--only", nargs="+", choices=SHAPES, default=list(SHAPES))
    options.add_argument("--peers", nargs="+", choices=PEERS[1:], default=list(PEERS[1:]))
    options.add_argument("--inference", action="store_true")
    options.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.work:
        work(*given.work, given.inference)
        return
    what = "forward passes" if given.inference else "training steps"
    print(f"{what}, {given.threads} threads, median of {given.turns} turns; ratio: theirs / ours")
    results = {}
    for name in given.only:
        results[name] = measure(
            name, ["minigrad", *given.peers], given.turns, given.threads, given.inference
        )
        for peer, found in results[name].items():
            if "failed" in found:
                print(f"{name:15} {peer:14} {found['failed'][:80]}")
            else:
                print(
                    f"{name:15} {peer:14} {found['milliseconds']:9.2f} ms   ratio "
                    f"{found['ratio']:6.2f}   {found['memory_mb']:5} MB",
                    flush=True,
                )
    head = about(threads=given.threads, turns=given.turns, inference=given.inference)
    write(given.json, head, {"networks": results})


if __name__ == "__main__":
    main()
