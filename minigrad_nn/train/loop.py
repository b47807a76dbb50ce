"""`fit` and `evaluate`: the loop of training, written to be read."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

import numpy as np

import minigrad

from ..data import Loader
from ..functional import cross_entropy
from ..kernels import reuse_memory
from ..metrics import accuracy
from ..module import Module
from ..optim import Optimizer, clip_grad_norm_
from .callbacks import Callback
from .run import NonFiniteLossError, Run

__all__ = ["evaluate", "fit"]

Loss = Callable[[Any, Any], Any]
Metrics = Mapping[str, Callable[[Any, Any], float]]


CLASSIFICATION: Metrics = {"accuracy": accuracy}


def fit(
    model: Module,
    loader: Loader,
    optimizer: Optimizer,
    epochs: int,
    *,
    loss: Loss = cross_entropy,
    metrics: Metrics = CLASSIFICATION,
    validation: Loader | Mapping[str, Loader] | None = None,
    clip_norm: float | None = None,
    callbacks: Sequence[Callback] = (),
    resume: str | os.PathLike[str] | None = None,
) -> Run:
    """Train a model until `epochs` epochs are complete.

    Ctrl-C ends the training after the batch at hand, so that a checkpoint made then is whole; a
    second Ctrl-C ends it at once.  Memory of results is kept from step to step
    (`minigrad_nn.kernels.reuse_memory`).

    Args:
        model: maps a batch of inputs to predictions.
        loader: gives batches (inputs, targets).
        optimizer: of the model's parameters.
        epochs: of the whole training, those before a `resume` included.
        loss: maps predictions and targets to one number.
        metrics: more numbers by name, each a mean over the batch; `{}` for none.
        validation: what to evaluate after each epoch: one loader, or several by name.
        clip_norm: the longest gradient, over all parameters, that is not shortened; None for any.
        callbacks: what else happens, in this order.
        resume: a checkpoint of such a training to go on from, bit-exactly.

    Returns:
        The run, with its history.

    Raises:
        TypeError, ValueError: an argument that cannot be trained with.
        NonFiniteLossError: the loss is NaN or infinite; nothing was learned from that batch.
        CheckpointError: `resume` is damaged or belongs to another training.
    """
    _check(model, loader, optimizer, epochs, callbacks)
    watched = _named(validation)
    run = Run(model, loader, optimizer, epochs, _in_order(callbacks))
    if resume is not None:
        run.load(resume)

    with _interruptible(run), _closing(run), _memory(model):
        _tell(run, "on_begin")
        while run.epoch < epochs and not run.stopped():
            started, before = time.perf_counter(), run.seconds
            model.train()
            for inputs, targets in loader.on(_place(model)):
                prediction = model(_tensor(inputs, model))
                value = loss(prediction, targets)
                _check_loss(value, inputs, run)

                optimizer.zero_grad()
                value.backward()
                if clip_norm is not None:
                    clip_grad_norm_(model.parameters(), clip_norm)
                optimizer.step()

                found = {name: metric(prediction, targets) for name, metric in metrics.items()}
                run.count({"loss": value.item(), **found}, len(inputs))
                run.seconds = before + time.perf_counter() - started
                _tell(run, "on_batch")
                if run.stopped():
                    break
            else:
                values = {}
                for name, other in watched.items():
                    for key, number in evaluate(model, other, loss=loss, metrics=metrics).items():
                        values[f"{name}_{key}"] = number
                run.seconds = before + time.perf_counter() - started
                run.close_epoch(values)
                _tell(run, "on_epoch")
        _tell(run, "on_end")
    return run


def evaluate(
    model: Module,
    loader: Loader,
    *,
    loss: Loss = cross_entropy,
    metrics: Metrics = CLASSIFICATION,
) -> dict[str, float]:
    """Mean loss and metrics of a model over all samples, in `eval` mode and without a graph.

    Args:
        model: maps a batch of inputs to predictions; its mode is restored.
        loader: gives batches (inputs, targets); all of them are used once.
        loss: maps predictions and targets to their mean loss.
        metrics: more numbers by name, each a mean over the batch.

    Returns:
        The means by name, `loss` first.

    Raises:
        ValueError: the loader gives no samples.
    """
    modes = [(module, module.training) for module in model.modules()]
    sums: dict[str, float] = {}
    samples = 0
    try:
        model.eval()
        with minigrad.no_grad(), _memory(model):
            for inputs, targets in loader.on(_place(model)):
                prediction = model(_tensor(inputs, model))
                values = {"loss": loss(prediction, targets).item()}
                values |= {name: metric(prediction, targets) for name, metric in metrics.items()}
                for name, value in values.items():
                    sums[name] = sums.get(name, 0.0) + value * len(inputs)
                samples += len(inputs)
    finally:
        for module, mode in modes:
            module.training = mode
    if not samples:
        raise ValueError("evaluate: the loader gives no samples")
    return {name: total / samples for name, total in sums.items()}


def _place(model: Module) -> str:
    """The device of a model's parameters."""
    first = next(model.parameters(), None)
    return minigrad.backend.cpu.name if first is None else first.device


def _tensor(inputs: Any, model: Module) -> minigrad.Tensor:
    """A batch as a tensor where the model's parameters are."""
    return minigrad.tensor(inputs).to(_place(model))


# Parameters from which the memory of results is kept between steps.
MANY = 1 << 14


def _memory(model: Module) -> contextlib.AbstractContextManager[None]:
    """Keep the memory of results for the next step, where they are large."""
    if sum(p.size for p in model.parameters()) < MANY:
        return contextlib.nullcontext()
    return reuse_memory()


def _tell(run: Run, event: str) -> None:
    for callback in run.callbacks:
        getattr(callback, event)(run)


@contextlib.contextmanager
def _closing(run: Run) -> Iterator[None]:
    """Let every callback give back what it holds, however training ends."""
    try:
        yield
    finally:
        with contextlib.ExitStack() as stack:
            for callback in run.callbacks:
                stack.callback(callback.on_close, run)


def _in_order(callbacks: Sequence[Callback]) -> list[Callback]:
    """Those that save what the others did come last."""
    return sorted(callbacks, key=lambda callback: callback.late)


def _named(validation: Loader | Mapping[str, Loader] | None) -> dict[str, Loader]:
    if validation is None:
        return {}
    return dict(validation) if isinstance(validation, Mapping) else {"validation": validation}


def _check(model: Any, loader: Any, optimizer: Any, epochs: Any, callbacks: Sequence[Any]) -> None:
    for name, value, kind in (
        ("model", model, Module), ("loader", loader, Loader), ("optimizer", optimizer, Optimizer)
    ):  # fmt: skip
        if not isinstance(value, kind):
            raise TypeError(f"fit: {name} must be a {kind.__name__}, got a {type(value).__name__}")
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 0:
        raise ValueError(f"fit: epochs must be a whole number from 0, got {epochs!r}")
    if not len(loader):
        raise ValueError("fit: the loader gives no batches: its dataset is empty")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(
                f"fit: callbacks must be Callback objects, got {callback!r}"
                + ("; put () behind it" if isinstance(callback, type) else "")
            )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not held & {id(p) for p in model.parameters() if p.requires_grad}:
        raise ValueError(
            "fit: the optimizer holds no parameter of the model that requires a gradient; make it "
            "with optim.SGD(model.parameters(), ...) of this very model"
        )


def _check_loss(value: Any, inputs: Any, run: Run) -> None:
    number = value.item()
    if math.isfinite(number):
        return
    inputs = minigrad.backend.array_of(inputs)
    finite = bool(np.isfinite(inputs).all()) if inputs.dtype.kind == "f" else True
    advice = (
        f"lower the learning rate (now {run.lr:g}) or clip gradients with clip_norm=1.0"
        if finite
        else "this batch of inputs holds NaN or infinity: clean the data"
    )
    raise NonFiniteLossError(
        f"the loss is {number} in epoch {run.epoch + 1}, batch {run.loader.batch} (after "
        f"{run.step} steps); nothing was learned from that batch. Advice: {advice}"
    )


@contextlib.contextmanager
def _interruptible(run: Run) -> Iterator[None]:
    """Make the first Ctrl-C a wish to stop, which the loop follows between two batches.

    An exception in the middle of a step could leave half of the parameters updated.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return

    def wish(number: int, frame: FrameType | None) -> None:
        if run.interrupted:
            raise KeyboardInterrupt
        run.interrupted, run.stop = True, "interrupted"

    before = signal.signal(signal.SIGINT, wish)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)
