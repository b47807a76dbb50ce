"""Batches prepared ahead by background workers: threads here, processes in `processes.py`.

Workers change when a batch is prepared and nothing else: each is a function of the dataset, its
indices and its own generator, and batches are handed out in their order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minigrad import random

from .dataset import Batch, Dataset, Transform

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Job", "WorkerError", "prepare", "prepare_in_threads"]


class WorkerError(RuntimeError):
    """A background worker could not begin, was ended from outside, or met an error of its own."""


class Job(NamedTuple):
    """What a batch is made from.

    Attributes:
        indices: that the dataset is asked for.
        generator: for the transform; None if there is no transform.
    """

    indices: Any
    generator: random.Generator | None


def prepare(dataset: Dataset, transform: Transform | None, job: Job) -> Batch:
    """A batch; an error in it tells the sample and where that comes from."""
    try:
        batch = dataset[job.indices]
    except Exception as error:
        error.add_note(_reading(dataset, job.indices, type(error)))
        raise
    if transform is not None and job.generator is not None:
        try:
            batch = transform(batch, job.generator)
        except Exception as error:
            error.add_note(f"In the transform {transform!r} of {_samples(job.indices)}.")
            raise
    return batch


def _reading(dataset: Dataset, indices: Any, kind: type[Exception]) -> str:
    """Which sample of a batch cannot be read, found by reading them one by one."""
    source: Any = getattr(dataset, "source", None)
    for place in range(np.size(indices) if np.ndim(indices) == 1 else 0):
        try:
            dataset[indices[place : place + 1]]
        except kind:
            index = int(indices[place])
            told = "" if source is None else f", {source(index)}"
            return f"While reading sample {index}{told}."
    return f"While reading {_samples(indices)}."


def _samples(indices: Any) -> str:
    """The samples of a batch, in words."""
    if np.ndim(indices) == 0:
        return f"batch {indices}"
    shown = ", ".join(map(str, indices[:8])) + (", ..." if len(indices) > 8 else "")
    return f"samples {shown}"


def prepare_in_threads(
    dataset: Dataset,
    transform: Transform | None,
    jobs: Iterator[Job],
    workers: int,
    prefetch: int,
) -> Generator[Batch, None, None]:
    """The batches of some jobs in their order, prepared by threads.

    No more than `workers * prefetch` are prepared ahead.  When the iterator is closed, no further
    one is begun, and the threads end with those at hand.
    """
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(workers, thread_name_prefix="minigrad-loader")
    ahead: deque[Future[Batch]] = deque()

    def fill() -> None:
        while len(ahead) < workers * prefetch and (job := next(jobs, None)) is not None:
            ahead.append(pool.submit(prepare, dataset, transform, job))

    try:
        fill()
        while ahead:
            batch = ahead.popleft().result()
            fill()
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)
