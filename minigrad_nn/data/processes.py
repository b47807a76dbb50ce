"""Worker processes that prepare batches, where threads would wait for each other's Python code.

Each worker is a fresh interpreter (started by spawn, so nothing of this process is copied but what
is sent) with a copy of the dataset, two pipes of its own and no lock that it shares with another: a
worker that is killed can be told and harms nobody.  Jobs are dealt in turn.  Small batches come
back through the pipe, large ones through shared memory that this process owns.  What a worker does
stands in `worker_process.py`.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
import weakref
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .dataset import Batch, Dataset, Transform
from .pickling import bytes_of, pickled, sizes_of
from .workers import Job, WorkerError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess
    from multiprocessing.shared_memory import SharedMemory
    from types import FrameType

__all__ = ["ProcessWorkers"]

# A pipe takes so much without anyone reading at its other end.
_SMALL = 1 << 15
_PATIENCE = 2.0


@dataclass(eq=False)
class _Worker:
    """One process as this process sees it."""

    process: SpawnProcess
    jobs: Connection
    batches: Connection
    slots: list[SharedMemory | None]
    """Where it puts its batches, in turn."""
    ready: bool = False
    """Whether it has its dataset."""


@dataclass(eq=False)
class _Held:
    """What is to be given back, however the workers come to their end."""

    workers: list[_Worker] = field(default_factory=list)
    owner: int = field(default_factory=os.getpid)


class ProcessWorkers:
    """Processes that prepare batches of a dataset.

    Args:
        dataset, transform: are sent to each process, so they must be picklable.
        workers: how many processes, at least 1.
        prefetch: how many batches each may be ahead, at least 1.

    Raises:
        TypeError: the dataset or the transform cannot be pickled; the message names the part.
        WorkerError: the processes do not begin.
    """

    def __init__(
        self, dataset: Dataset, transform: Transform | None, workers: int, prefetch: int
    ) -> None:
        self.dataset, self.transform, self.prefetch = dataset, transform, prefetch
        self.usable = True
        """Whether another run can begin: no run goes on, was left, or failed."""
        self._shares = True  # until shared memory turns out to be used up
        sent = pickled(dataset, transform)
        self._held = _Held()
        self._finalizer = weakref.finalize(self, _end, self._held)
        try:
            with _no_interrupts():
                for number in range(workers):
                    self._held.workers.append(_start(number, prefetch))
            for number in range(workers):
                self._give(number, sent)
            for number in range(workers):
                self._greet(number)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the processes and wait until they are gone."""
        self.usable = False
        self._finalizer()

    def run(self, jobs: Iterator[Job]) -> Generator[Batch, None, None]:
        """The batches of some jobs in their order.

        Raises:
            WorkerError: a process has ended.
            Exception: what went wrong in the dataset or the transform, with the traceback of the
                worker as a note.
        """
        self.usable = False
        workers = self._held.workers
        ahead: deque[tuple[int, int, Job]] = deque()
        count = 0

        def fill() -> None:
            nonlocal count
            while len(ahead) < len(workers) * self.prefetch:
                job = next(jobs, None)
                if job is None:
                    break
                turn, number = divmod(count, len(workers))
                slot = turn % self.prefetch
                self._send(number, slot, job)
                ahead.append((number, slot, job))
                count += 1

        try:
            fill()
            while ahead:
                batch = self._receive(*ahead.popleft())
                fill()
                self.usable = not ahead
                yield batch
        finally:
            if not self.usable:
                self.close()

    def _give(self, number: int, sent: Sequence[memoryview]) -> None:
        """Send the dataset and the transform to a process that has been started."""
        worker = self._held.workers[number]
        try:
            worker.jobs.send(sizes_of(sent))
            for segment in sent:
                worker.jobs.send_bytes(segment)
        except OSError:
            raise self._died(number, None) from None

    def _greet(self, number: int) -> None:
        """Wait until a process has its dataset and transform."""
        worker = self._held.workers[number]
        kind, *details = self._answer(number, None)
        worker.ready = True
        if kind == "error":
            _, text = details
            raise WorkerError(
                "the dataset or the transform could not be rebuilt in a worker process. What is "
                "defined in a notebook or by `python -c` is not known there: put it into a module, "
                f"or use worker_kind='thread'. In the worker:\n{text}"
            )

    def _send(self, number: int, slot: int, job: Job) -> None:
        worker = self._held.workers[number]
        block = worker.slots[slot]
        try:
            worker.jobs.send((slot, None if block is None else block.name, job))
        except OSError:
            raise self._died(number, job) from None

    def _receive(self, number: int, slot: int, job: Job) -> Batch:
        """The batch of a job, out of the pipe or the shared memory."""
        worker = self._held.workers[number]
        kind, *details = self._answer(number, job)
        if kind == "error":
            packed, text = details
            if packed is None:
                raise WorkerError(f"an error in a worker process:\n{text}")
            error = pickle.loads(packed)
            error.add_note(f"In a worker process:\n{text}")
            raise error
        sizes: list[int] = details[0]
        segments = [np.empty(size, np.uint8) for size in sizes]
        if kind == "slot":
            block = worker.slots[slot]
            assert block is not None  # the worker was told its name
            start = 0
            for segment in segments:
                segment[:] = bytes_of(block)[start : start + len(segment)]
                start += len(segment)
        else:
            try:
                for segment in segments:
                    worker.batches.recv_bytes_into(segment.data)
            except (EOFError, OSError):
                raise self._died(number, job) from None
            if self._shares and sum(sizes) > _SMALL:
                self._widen(worker, slot, sum(sizes))
        batch: Batch = pickle.loads(segments[0].data, buffers=segments[1:])
        return batch

    def _widen(self, worker: _Worker, slot: int, size: int) -> None:
        """Give a worker shared memory for batches of some size, if there is any."""
        if (old := worker.slots[slot]) is not None:
            _release(old)
            worker.slots[slot] = None
        worker.slots[slot] = _block(size + size // 4)
        self._shares = worker.slots[slot] is not None

    def _answer(self, number: int, job: Job | None) -> tuple[Any, ...]:
        """The next message of a process."""
        from multiprocessing.connection import wait

        worker = self._held.workers[number]
        wait([worker.batches, worker.process.sentinel])
        try:
            if not worker.batches.poll():  # only its end has come
                raise EOFError
            answer: tuple[Any, ...] = worker.batches.recv()
            return answer
        except (EOFError, OSError):
            raise self._died(number, job) from None

    def _died(self, number: int, job: Job | None) -> WorkerError:
        """What to say of a process that has ended on its own."""
        process = self._held.workers[number].process
        process.join(_PATIENCE)
        code = process.exitcode
        how = f"ended with exit code {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):  # a signal that Python has no name for
                how = f"was ended by the signal {signal.Signals(-code).name}"
        if job is None:
            when = "before it was ready"
            what = (
                "What it printed stands above. Processes import the main script: what it does must "
                'stand under `if __name__ == "__main__":`'
            )
        else:
            when = "while it prepared batches"
            what = "A machine that runs out of memory ends processes; so does a crash in C code"
        return WorkerError(
            f"worker process {number} of the loader (pid {process.pid}) {how} {when}. {what}. With "
            "worker_kind='thread' or workers=0 the work is done in this process."
        )


def _start(number: int, prefetch: int) -> _Worker:
    """A process that waits for its dataset."""
    import multiprocessing

    from .worker_process import serve  # which loads what only processes need

    context = multiprocessing.get_context("spawn")
    jobs_out, jobs = context.Pipe(duplex=False)
    batches, batches_in = context.Pipe(duplex=False)
    process = context.Process(
        target=serve,
        args=(jobs_out, batches_in),
        name=f"minigrad-loader-{number}",
        daemon=True,
    )
    try:
        process.start()
    except RuntimeError as error:
        if "bootstrapping" not in str(error):
            raise
        raise WorkerError(
            "a worker process of a Loader imports the main script, and the script begins to load "
            "data while it is imported. Put what the script does under "
            '`if __name__ == "__main__":`'
        ) from error
    jobs_out.close()
    batches_in.close()
    return _Worker(process, jobs, batches, [None] * prefetch)


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """What is started inside never sees Ctrl-C; here it comes after the block."""
    from multiprocessing import resource_tracker

    caught: list[tuple[int, FrameType | None]] = []
    handler = signal.getsignal(signal.SIGINT)
    # Only the main thread can put it off.  (None: a handler that was not set from Python.)
    defers = threading.current_thread() is threading.main_thread() and handler is not None
    masks = hasattr(signal, "pthread_sigmask")  # not on Windows
    if defers:
        signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    if masks:  # what is started has the mask of who starts it
        resource_tracker.ensure_running()  # else the first start would do it, and end the mask
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if defers:
            signal.signal(signal.SIGINT, handler)
        if caught and callable(handler):
            handler(*caught[-1])


def _end(held: _Held) -> None:
    """End all processes, politely at first, and give back their memory."""
    if held.owner != os.getpid():  # a fork of the process that they belong to
        return
    workers, held.workers = held.workers, []
    for worker in workers:
        worker.jobs.close()  # it reads the end, and ends
        worker.batches.close()
        if not worker.ready:  # there is nothing that it could leave half done
            worker.process.terminate()
    for worker in workers:
        worker.process.join(_PATIENCE)
        if worker.process.is_alive():
            worker.process.terminate()
            worker.process.join(_PATIENCE)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()
        for block in worker.slots:
            if block is not None:
                _release(block)


def _block(size: int) -> SharedMemory | None:
    """Shared memory of at least some bytes, or None if there is not so much left."""
    from multiprocessing.shared_memory import SharedMemory

    try:
        block = SharedMemory(create=True, size=size)
    except OSError:
        return None
    # Linux promises more than it has: a write beyond would end the process that writes.
    try:
        file = os.open(f"/dev/shm/{block.name}", os.O_RDWR)
    except OSError:  # another system
        return block
    try:
        os.posix_fallocate(file, 0, size)
    except OSError:
        _release(block)
        return None
    finally:
        os.close(file)
    return block


def _release(block: SharedMemory) -> None:
    block.close()
    block.unlink()
