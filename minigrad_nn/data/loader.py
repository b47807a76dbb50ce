"""Batches of a dataset, shuffled by seed, from a position that can be saved and restored.

They may be prepared ahead by background workers, which changes no bit of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Generator as GeneratorType
from types import TracebackType
from typing import Any, Self, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from minigrad import backend
from minigrad.random import Generator, as_generator

from .dataset import Batch, Dataset, Transform
from .processes import ProcessWorkers
from .samplers import Sampler, _count
from .workers import Job, prepare, prepare_in_threads

KINDS = ("thread", "process")
FLOATS = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))
Send = Callable[[Any], Callable[[], Any]]

__all__ = ["Loader"]


class Loader:
    """Goes through a dataset in batches; each loop over it is one epoch.

    The order of epoch `e` is a function of the seed and `e` alone, so a position is three small
    values: the generator, the epoch and the number of batches handed out.  `state_dict` gives them
    as plain data for JSON; after `load_state_dict` the next loop goes on with the very batch that
    would have come next, and the loops after it are whole epochs again.  A loop left by `break`
    ends its epoch: the next loop begins the next one.

    Args:
        dataset: gives a tuple of arrays for an array of indices.
        batch_size: samples in a batch, at least 1; the last batch of an epoch may be smaller.
        shuffle: a new random order each epoch; else the dataset's own order.
        sampler: chooses the samples of each epoch and their order, in place of `shuffle`.
        seed: a number or a generator (which is not drawn from, only forked); None forks the
            default generator of `minigrad.random`.
        drop_last: leave out a last batch that is not full.
        transform: done to each batch, with a generator of the batch's own.
        workers: how many background workers prepare batches ahead; 0 prepares each when it is asked
            for.
        worker_kind: `"thread"`: they share the dataset and the transform, which must then be safe
            to use from several threads at a time; best where the work is in NumPy, Pillow or files.
            `"process"`: each has a copy of the dataset and the transform, which must be picklable;
            best where the work is in Python code.  A script then needs
            `if __name__ == "__main__":`.
        prefetch: how many batches each worker may be ahead, at least 1.

    Workers change no batch, no order and no state: what is prepared but not handed out does not
    count.  An error in a worker comes where its batch would have come.  Threads live for one loop.
    Processes stay for the next loop, and end when a loop is left early, when the loader is closed
    (`close`, or `with Loader(...) as loader`) or forgotten, and with the program.

    Raises:
        TypeError, ValueError: a batch size below 1, or one that with `drop_last` leaves no batch; a
            sampler together with `shuffle`; another kind or a wrong number of workers.

    >>> from minigrad_nn.data import ArrayDataset
    >>> loader = Loader(ArrayDataset(np.arange(5)), batch_size=2)
    >>> [x.tolist() for (x,) in loader]
    [[0, 1], [2, 3], [4]]
    >>> loader.epoch
    1
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        shuffle: bool = False,
        sampler: Sampler | None = None,
        seed: Generator | SupportsIndex | None = None,
        drop_last: bool = False,
        transform: Transform | None = None,
        workers: int = 0,
        worker_kind: str = "thread",
        prefetch: int = 2,
    ) -> None:
        self.batch_size = _count("batch_size", batch_size, least=1)
        self.workers = _count("workers", workers)
        self.prefetch = _count("prefetch", prefetch, least=1)
        if worker_kind not in KINDS:
            raise ValueError(f"worker_kind must be one of {', '.join(KINDS)}, got {worker_kind!r}")
        self.worker_kind = worker_kind
        if sampler is not None and shuffle:
            raise ValueError("shuffle and sampler both choose the order; give one of them")
        self.dataset = dataset
        self.shuffle = bool(shuffle)
        self.sampler = sampler
        self.drop_last = bool(drop_last)
        self.transform = transform
        if drop_last and 0 < self._samples() < self.batch_size:
            raise ValueError(
                f"drop_last leaves no batch: an epoch has {self._samples()} samples, a batch "
                f"{self.batch_size}; choose a smaller batch_size"
            )
        self.epoch = 0
        """The epoch that the next batch belongs to."""
        self.batch = 0
        """How many batches of that epoch have been handed out."""
        self._generator = as_generator(seed).fork("loader")
        self._resumed = False
        self._loop: object = None
        self._processes: ProcessWorkers | None = None

    def __len__(self) -> int:
        """How many batches an epoch has."""
        whole, rest = divmod(self._samples(), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def _samples(self) -> int:
        """How many samples an epoch has."""
        return len(self.dataset if self.sampler is None else self.sampler)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The indices of the samples in the order of an epoch, (N,).

        Raises:
            ValueError: the sampler gives something else than as many indices of the dataset as it
                says.
        """
        if self.sampler is not None:
            order = np.asarray(self.sampler.order(self._generator.fork("sampler", epoch)))
            _check_order(order, self.sampler, len(self.dataset))
            return order
        if not self.shuffle:
            return np.arange(len(self.dataset))
        return self._generator.fork("shuffle", epoch).permutation(len(self.dataset))

    def _indices(self, order: NDArray[np.int64], number: int) -> Any:
        """What the dataset is asked for, for a batch of an epoch."""
        return order[number * self.batch_size : (number + 1) * self.batch_size]

    def __iter__(self) -> Iterator[Batch]:
        return self._begin(None)

    def on(self, device: str) -> Iterator[Batch]:
        """A loop over the batches with their arrays of floats on a device.

        Each batch is copied while the one before it is computed with.  Integers, such as classes
        and indices, stay where they are.

        Raises:
            ValueError: there is no such device.
        """
        return self._begin(backend.get_device(device).send)

    def _begin(self, send: Send | None) -> Iterator[Batch]:
        loop = self._loop = object()
        if not self._resumed and self.batch:
            self.epoch, self.batch = self.epoch + 1, 0
        self._resumed = False
        return self._batches(loop, send)

    def _batches(self, loop: object, send: Send | None) -> Iterator[Batch]:
        order = self.order(self.epoch)
        prepared = self._prepared(self._jobs(order, self.epoch, self.batch))
        if send is not None:
            prepared = _sent(prepared, send)
        try:
            while True:
                if self._loop is not loop:
                    raise RuntimeError(
                        "another loop over this Loader has begun, a state was loaded, or it was "
                        "closed, so this loop has lost its place; use one Loader for each loop "
                        "that runs at a time"
                    )
                if self.batch >= len(self):
                    break
                batch = next(prepared)
                self.batch += 1
                yield batch
        finally:
            prepared.close()
        self.epoch, self.batch = self.epoch + 1, 0

    def _jobs(self, order: NDArray[np.int64], epoch: int, first: int) -> Iterator[Job]:
        """What each batch of an epoch is made from, from one on."""
        transforms = self._generator.fork("transform", epoch)
        for number in range(first, len(self)):
            generator = None if self.transform is None else transforms.fork(number)
            yield Job(self._indices(order, number), generator)

    def _prepared(self, jobs: Iterator[Job]) -> GeneratorType[Batch, None, None]:
        """The batches of jobs, prepared now or ahead; closing it ends what goes on behind it."""
        if not self.workers:
            return (prepare(self.dataset, self.transform, job) for job in jobs)
        if self.worker_kind == "thread":
            return prepare_in_threads(
                self.dataset, self.transform, jobs, self.workers, self.prefetch
            )
        return self._running().run(jobs)

    def _running(self) -> ProcessWorkers:
        """The processes of the loop before, if they can go on, else new ones."""
        held = self._processes
        if held is not None and not (
            held.usable and held.dataset is self.dataset and held.transform is self.transform
        ):
            held.close()
            held = None
        if held is None:
            held = ProcessWorkers(self.dataset, self.transform, self.workers, self.prefetch)
        self._processes = held
        return held

    def close(self) -> None:
        """End the worker processes, if there are any; another loop would start new ones."""
        if self._processes is not None:
            self._processes.close()
            self._processes = self._loop = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """The position and what it depends on, as plain data for JSON.

        Taken inside a loop, it says that the current batch has been handed out.
        """
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "generator": self._generator.get_state(),
            **self._settings(),
        }

    def _settings(self) -> dict[str, Any]:
        """What must be the same for a position to mean the same."""
        settings: dict[str, Any] = {
            "samples": self._samples(),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
        }
        if self.sampler is not None:
            settings["sampler"] = type(self.sampler).__name__
        return settings

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a position of `state_dict`, with its order whatever this loader's seed was.

        Raises:
            TypeError, ValueError: not such a state, or one of a loader with other settings; the
                loader is then unchanged.
        """
        settings = self._settings()
        wanted = {"epoch", "batch", "generator", *settings}
        if not isinstance(state, Mapping) or set(state) != wanted:
            raise ValueError(f"state must come from Loader.state_dict() with {sorted(wanted)}")
        for name, value in settings.items():
            if state[name] != value:
                raise ValueError(
                    f"the state is of a loader with {name}={state[name]!r}, this one has "
                    f"{name}={value!r}: the position would mean other samples"
                )
        for name, limit in (("epoch", 2**63), ("batch", len(self))):
            value = state[name]
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit:
                raise ValueError(f"{name} must be an integer from 0 to {limit}, got {value!r}")
        self._generator.set_state(state["generator"])
        self.epoch, self.batch = state["epoch"], state["batch"]
        self._resumed, self._loop = True, None


def _sent(
    prepared: GeneratorType[Batch, None, None], send: Send
) -> GeneratorType[Batch, None, None]:
    """The same batches with floats on a device: the next one is on its way before one is given."""

    def begin(batch: Batch) -> list[Any]:
        return [
            send(array) if getattr(array, "dtype", None) in FLOATS else array for array in batch
        ]

    def arrived(parts: list[Any]) -> Batch:
        return tuple(part() if callable(part) else part for part in parts)

    try:
        ahead: list[Any] | None = None
        for batch in prepared:
            following = begin(batch)
            if ahead is not None:
                yield arrived(ahead)
            ahead = following
        if ahead is not None:
            yield arrived(ahead)
    finally:
        prepared.close()


def _check_order(order: NDArray[Any], sampler: Sampler, size: int) -> None:
    """Raise unless a sampler has given what it promises."""
    name = type(sampler).__name__
    if order.shape != (len(sampler),) or (order.size and order.dtype.kind not in "iu"):
        raise ValueError(
            f"{name}.order must give len(sampler) = {len(sampler)} whole numbers, got "
            f"{order.dtype} of shape {order.shape}"
        )
    if order.size and not (0 <= order.min() and order.max() < size):
        raise ValueError(
            f"{name}.order must give indices of the dataset, from 0 to {size - 1}, got "
            f"{order.min()} to {order.max()}"
        )
