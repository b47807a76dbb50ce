"""`minigrad train`: train a network on pictures, and leave a folder with what it learned."""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import minigrad

from ..data import IdxError, Loader
from ..functional import cross_entropy, softmax
from ..io import CheckpointError, read_checkpoint, write_atomically
from ..kernels import reuse_memory
from ..optim import Adam
from ..train import (
    Callback,
    Checkpoint,
    MetricsLog,
    NonFiniteLossError,
    ProgressBar,
    Run,
    evaluate,
    fit,
)
from ..train.recipes import LENET5, Recipe, Training, prepare_lenet5
from ..train.sources import DataError, Source, open_source
from .errors import CommandError, InputError
from .options import version
from .output import say

__all__ = ["run"]

CHECKPOINT = "checkpoint.safetensors"


@dataclasses.dataclass(frozen=True)
class Config:
    """What a run depends on; it stands in the run folder, and in every checkpoint."""

    model: str
    data: str
    seed: int
    recipe: Recipe

    def as_dict(self) -> dict[str, Any]:
        """As plain data, with the versions that made it."""
        return {
            "model": self.model,
            "data": self.data,
            "seed": self.seed,
            "recipe": self.recipe.as_dict(),
            "versions": {"minigrad": version(), "numpy": np.__version__},
        }

    @classmethod
    def from_dict(cls, given: Any) -> Config:
        """From a file, checked."""
        try:
            recipe = Recipe(**given["recipe"])
            config = cls(given["model"], given["data"], given["seed"], recipe)
        except (TypeError, KeyError) as error:
            raise ValueError(f"no configuration of `minigrad train`: {error!r}") from None
        wanted = [(config.model, str), (config.data, str), (config.seed, int)]
        wanted += [(recipe.epochs, int), (recipe.batch_size, int), (recipe.lr, float)]
        wanted += [(recipe.shift, float)]
        if not all(type(value) is kind for value, kind in wanted):
            raise ValueError("a configuration with values of another type")
        return config


def run(given: argparse.Namespace) -> int:
    """Train, evaluate, and fill the run folder.

    Raises:
        CommandError: the arguments, the data, the checkpoint or the folder cannot be used.
    """
    console = Console()
    checkpoint = _checkpoint(given.resume)
    config = _config(given, checkpoint)
    source = _source(config.data)
    try:
        training = prepare_lenet5(source, config.recipe, config.seed)
    except ValueError as error:
        raise InputError(f"--data {config.data}: {error}") from error
    try:
        training.model.to(given.device)
    except ValueError as error:
        raise InputError(f"--device {given.device}: {error}") from error
    out = _folder(given.out, checkpoint, config, source)
    say(console, f"LeNet-5 on {source.name}: {len(source.train)} pictures to learn from, "
                  f"{len(source.test)} to test on; results in {out}")  # fmt: skip
    with _threads(given.threads):
        seconds = _rehearse(training, source)
        if seconds > 2:
            say(console, f"compiled kernels in {seconds:.1f} s; the next run finds them ready")
        first = training.model.c1.weight.numpy().copy()
        result = _fit(training, config, out, checkpoint, console)
        if result.interrupted:
            say(console, f"stopped after {result.step} steps, in epoch {result.epoch + 1}; go on "
                          f"with: minigrad train {config.model} --resume {out}")  # fmt: skip
            return 130
        _report(training, result, source, out, first, console)
    return 0


# --- before --------------------------------------------------------------------------------------


def _checkpoint(resume: str | None) -> Path | None:
    if resume is None:
        return None
    path = Path(resume).expanduser()
    path = path / CHECKPOINT if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"--resume {resume}: there is no checkpoint {path}")
    return path


def _config(given: argparse.Namespace, checkpoint: Path | None) -> Config:
    """What the command line asks for, on top of the recipe or of what the checkpoint says."""
    changes = {
        name: value
        for name, value in (
            ("epochs", given.epochs), ("batch_size", given.batch_size), ("lr", given.lr)
        )
        if value is not None
    }  # fmt: skip
    if checkpoint is None:
        data = _place(given.data or "digits")
        recipe = dataclasses.replace(LENET5.get(data, LENET5["mnist"]), **changes)
        return Config(given.model, data, given.seed or 0, recipe)
    try:
        old = Config.from_dict(read_checkpoint(checkpoint).get("config"))
    except (CheckpointError, OSError, ValueError) as error:
        raise InputError(f"--resume: {checkpoint}: {error}") from error
    place = None if given.data is None else _place(given.data)
    fixed = {"model": given.model, "data": place, "seed": given.seed}
    fixed |= {name: changes.get(name) for name in ("batch_size", "lr")}
    before = {**old.as_dict(), **old.recipe.as_dict()}
    for name, value in fixed.items():
        if value is not None and value != before[name]:
            raise InputError(
                f"--resume: the checkpoint was made with {name.replace('_', '-')} {before[name]}, "
                f"which cannot become {value}; leave it out, or begin a new run"
            )
    return dataclasses.replace(old, recipe=dataclasses.replace(old.recipe, **changes))


def _place(data: str) -> str:
    """The name of a data set, or a place that is the same wherever a run is resumed."""
    return data if data in LENET5 else str(Path(data).expanduser().resolve())


def _source(data: str) -> Source:
    try:
        return open_source(data)
    except ModuleNotFoundError as error:
        raise CommandError(str(error)) from error
    except (DataError, IdxError, FileNotFoundError) as error:
        raise InputError(f"--data {data}: {error}") from error


def _folder(given: str | None, checkpoint: Path | None, config: Config, source: Source) -> Path:
    """The run folder, made, and not one that holds another run."""
    if given is not None:
        out = Path(given).expanduser()
    elif checkpoint is not None:
        out = checkpoint.parent
    else:
        stem = Path("runs") / f"{config.model}-{source.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        tries = [stem, *(stem.with_name(f"{stem.name}-{n}") for n in range(2, 100))]
        out = next((path for path in tries if not path.exists()), stem)
    continued = checkpoint is not None and out.resolve() == checkpoint.parent.resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not continued:
            raise InputError(
                f"--out {out}: the folder is not empty; choose another one"
                + (f", or go on with --resume {out}" if (out / CHECKPOINT).is_file() else "")
            )
        write_atomically(out / "config.json", json.dumps(config.as_dict(), indent=2).encode())
    except OSError as error:
        raise InputError(f"--out {out}: it cannot be written: {error.strerror}") from error
    return out


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """At most so many processor threads, in kernels and in BLAS."""
    if number is None:
        yield
        return
    before = minigrad.get_num_threads()
    minigrad.set_num_threads(min(number, before))
    try:
        yield
    finally:
        minigrad.set_num_threads(before)


# --- training ------------------------------------------------------------------------------------


def _rehearse(training: Training, source: Source) -> float:
    """Compile what the training will call, by steps of a copy; the seconds that it took."""
    start = time.perf_counter()
    model = copy.deepcopy(training.model)
    optimizer = Adam(model.parameters())
    with reuse_memory():
        for pictures, labels in _blank(training.loader, training, source):
            value = cross_entropy(model(pictures), labels)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        model.eval()
        with minigrad.no_grad():
            for pictures, labels in _blank(training.test, training, source):
                cross_entropy(model(pictures), labels)
    return time.perf_counter() - start


def _blank(
    loader: Loader, training: Training, source: Source
) -> Iterator[tuple[minigrad.Tensor, minigrad.Tensor]]:
    """A batch of each size that a loader gives, since kernels are chosen by it."""
    place = training.model.c1.weight.device
    many, size = len(loader.dataset), loader.batch_size
    shape = source.channels, source.size, source.size
    for number in {min(many, size), many % size} - {0}:
        pictures = minigrad.zeros((number, *shape), dtype=np.float32)
        labels = minigrad.zeros(number, dtype=np.int64)
        yield pictures.to(place), labels.to(place)


class _Stretch(Callback):
    """Lets the cosine end where the `--epochs` of this start ends, also in a resumed run."""

    def __init__(self, training: Training) -> None:
        self.training = training

    def on_begin(self, run: Run) -> None:
        self.training.schedule.T_max = max(1, run.epochs * len(run.loader))


def _fit(
    training: Training, config: Config, out: Path, checkpoint: Path | None, console: Console
) -> Run:
    callbacks = [
        _Stretch(training),
        training.learning_rate,
        MetricsLog(out),
        ProgressBar(console),
        Checkpoint(out / CHECKPOINT, config=config.as_dict()),
    ]
    try:
        # NumPy would warn of numbers that overflow; the loss tells it better, and ends the run.
        with np.errstate(over="ignore", invalid="ignore"):
            return fit(
                training.model,
                training.loader,
                training.optimizer,
                config.recipe.epochs,
                validation={"test": training.test},
                callbacks=callbacks,
                resume=checkpoint,
            )
    except CheckpointError as error:
        raise InputError(f"--resume: {error}") from error
    except NonFiniteLossError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{out} cannot be written: {error}") from error


# --- afterwards ----------------------------------------------------------------------------------


def _report(
    training: Training, result: Run, source: Source, out: Path, first: Any, console: Console
) -> None:
    """Print how good it is, and draw the pictures."""
    found = evaluate(training.model, training.test)
    right = round(found["accuracy"] * len(source.test))
    try:
        _draw_pictures(training, result, source, out, first)
    except ModuleNotFoundError as error:
        say(console, f'no pictures, since {error.name} is missing: pip install "minigrad[plot]"')
    except OSError as error:
        raise CommandError(f"{out} cannot be written: {error}") from error
    say(console, f"{out}: {', '.join(sorted(os.listdir(out)))}")
    say(console, f"test accuracy {found['accuracy']:.4f} ({right} of {len(source.test)}) after "
                  f"{result.epoch} epochs, {result.seconds:.1f} s of training")  # fmt: skip


def _draw_pictures(training: Training, result: Run, source: Source, out: Path, first: Any) -> None:
    from ..train.pictures import draw_filters, draw_learning_curve, draw_mistakes, model_graph

    model = training.model
    pictures, labels = source.test[: min(8, len(source.test))]
    drawing = model_graph(
        model, source.normalize.pictures(pictures), labels, title=f"LeNet-5 on {source.name}"
    )
    drawing.save(out / "graph.svg")
    draw_learning_curve(
        out / "learning_curve.png",
        result.history,
        _batch_losses(out / "metrics.jsonl", len(training.loader)),
        f"LeNet-5 on {source.name}",
        "training: means over an epoch, while the network still learns, on pictures shifted at "
        "random",
    )
    draw_filters(out / "filters.png", model.c1.weight.numpy(), first)
    draw_mistakes(out / "misclassified.png", *_predictions(training, source))


def _predictions(training: Training, source: Source) -> tuple[Any, Any, Any]:
    """Pictures as they are, labels, and probabilities of the whole test set."""
    model = training.model.eval()
    with minigrad.no_grad():
        place = model.c1.weight.device
        found = [
            softmax(model(minigrad.tensor(x).to(place)), axis=1).numpy() for x, _ in training.test
        ]
    pictures, labels = source.test[np.arange(len(source.test))]
    return pictures, labels, np.concatenate(found)


def _batch_losses(path: Path, batches: int) -> list[tuple[float, float]]:
    """Epoch, as a fraction, and loss of each batch, from the log."""
    events: list[Mapping[str, Any]] = [
        json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return [(e["step"] / batches, e["loss"]) for e in events if e["event"] == "batch"]
