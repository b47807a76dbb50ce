"""What a worker process does: it prepares a batch for each job that it is sent.

`processes.py` is its counterpart.  A job is `(slot, name, Job)`: the batch goes into the shared
memory of that name, where it fits, else through the pipe.
"""

from __future__ import annotations

import contextlib
import pickle
import queue
import signal
import threading
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from .dataset import Dataset, Transform
from .pickling import bytes_of, segments_of, sizes_of
from .workers import prepare

__all__ = ["serve"]


def serve(jobs: Connection, batches: Connection) -> None:
    """What a process does: it prepares a batch for each job, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends us
    with contextlib.suppress(BrokenPipeError):  # the main process has gone
        try:
            dataset, transform = _received(jobs)
        except EOFError:
            return
        except Exception as error:
            batches.send(_error(error))
            return
        batches.send(("ready",))
        waiting: Any = _Mailbox(jobs)
        slots: dict[int, SharedMemory] = {}
        while (message := waiting.next()) is not None:
            slot, name, job = message
            try:
                segments = segments_of(prepare(dataset, transform, job))
            except Exception as error:
                batches.send(_error(error))
                continue
            sizes = sizes_of(segments)
            block = _attached(slots, slot, name)
            if block is None or block.size < sum(sizes):
                batches.send(("pipe", sizes))
                for segment in segments:
                    batches.send_bytes(segment)
                continue
            start = 0
            for segment, size in zip(segments, sizes, strict=True):
                bytes_of(block)[start : start + size] = segment
                start += size
            batches.send(("slot", sizes))


def _received(jobs: Connection) -> tuple[Dataset, Transform | None]:
    """The dataset and the transform; the arrays in them are this process's own."""
    segments = [np.empty(size, np.uint8) for size in jobs.recv()]
    for segment in segments:
        jobs.recv_bytes_into(segment.data)
    dataset, transform = pickle.loads(segments[0].data, buffers=segments[1:])
    return dataset, transform


def _attached(slots: dict[int, SharedMemory], slot: int, name: str | None) -> SharedMemory | None:
    """The shared memory of a slot, which may have been replaced."""
    known = slots.get(slot)
    if known is not None and known.name != name:
        slots.pop(slot).close()
        known = None
    if known is None and name is not None:
        known = slots[slot] = SharedMemory(name)
    return known


def _error(error: Exception) -> tuple[str, bytes | None, str]:
    """An error as a message: pickled, if it can be, and as text."""
    import traceback

    text = "".join(traceback.format_exception(error)).rstrip()
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)
    except Exception:  # of classes that cannot be pickled, or not be made again, the text is left
        return "error", None, text
    return "error", pickled, text


class _Mailbox:
    """Takes jobs out of the pipe at once, so that the main process never waits to send one."""

    def __init__(self, jobs: Connection) -> None:
        self._jobs = jobs
        self._arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._ended = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while True:
                self._arrived.put(self._jobs.recv())
        except (EOFError, OSError):  # the main process has closed the pipe, or is gone
            self._ended = True
            self._arrived.put(None)

    def next(self) -> Any:
        """The next job, or None at the end; what has not been begun then is not wanted."""
        message = self._arrived.get()
        return None if self._ended else message
