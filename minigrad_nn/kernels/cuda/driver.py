"""What is asked of CUDA's driver, through Numba: cards, memory, streams, and views of memory.

All else of this package speaks to a `Driver`, so that its allocator and its arrays can be tried
with a driver that has little memory, or none.  Numba's simulator (NUMBA_ENABLE_CUDASIM=1) is a
driver too: its memory is NumPy's, and its threads are Python's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np

from . import simulator


class Limits(NamedTuple):
    """What a card can do, as far as launches need to know it.

    Attributes:
        name: what the maker calls it.
        capability: compute capability, such as (8, 0).
        processors: how many multiprocessors it has.
        block_threads: the most threads of one block.
        processor_threads: the most threads that are resident on one multiprocessor.
        shared_bytes: shared memory of one block.
    """

    name: str
    capability: tuple[int, int]
    processors: int
    block_threads: int
    processor_threads: int
    shared_bytes: int


class Driver(Protocol):
    """One card's memory and streams.  Every call is made for just this card."""

    limits: Limits
    stream: Any
    """The stream that all work of a card goes to, unless it is told another."""

    def __enter__(self) -> None:
        """Make it the card of this thread."""

    def __exit__(self, *failure: Any) -> None:
        """Give the thread its former card back."""

    def reserve(self, nbytes: int) -> Any:
        """A segment of memory that the card has not handed out before.

        Raises:
            MemoryError: there is not as much.
        """

    def view(self, segment: Any, offset: int, layout: np.ndarray) -> Any:
        """A part of a segment as Numba's array, of the shape, strides and dtype of `layout`."""

    def address(self, segment: Any) -> int:
        """Where the segment begins, in the card's memory."""

    def adopt(self, address: int, nbytes: int, owner: Any) -> Any:
        """Memory of somebody else as a segment, which holds its owner."""

    def memory(self) -> tuple[int, int]:
        """Bytes of the card that are free, and all that it has."""

    def synchronise(self) -> None:
        """Wait until the card has done all that it was asked to do."""

    def new_stream(self) -> Any:
        """A stream whose work runs beside that of other streams."""

    def mark(self, stream: Any) -> Any:
        """An event: it is past (`query()`) when all that the stream was asked before is done."""

    def wait(self, stream: Any, event: Any) -> None:
        """Let what the stream is asked from here on wait for an event."""

    def pinned(self, nbytes: int) -> np.ndarray:
        """Host memory that copies need not stage: `(nbytes,)` of uint8."""

    def submit(self, work: Callable[[], Any]) -> None:
        """Ask for a launch, or for a copy within the card's memory, on a stream."""

    def begin_graph(self) -> Any:
        """From here on, what this thread submits on the stream that is returned is only noted.

        One graph is noted at a time; what other threads submit is done as ever.
        """

    def end_graph(self) -> Any:
        """What was noted, ready to be launched; nothing of it was done yet."""

    def abandon_graph(self) -> None:
        """Note no more, and forget what was noted; this never fails."""

    def launch_graph(self, graph: Any) -> None:
        """Do what was noted, on the card's own stream, with what the memory holds then."""

    def forget_graph(self, graph: Any) -> None:
        """Let the card forget a graph; one that is running comes to its end."""


def simulated() -> bool:
    """Whether Numba simulates CUDA in this process."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


@cache
def numba_cuda() -> Any:
    """Numba's CUDA, imported when it is first needed.

    Raises:
        ImportError: it is not installed; the message says how to have it.
    """
    try:
        from numba import cuda
    except ImportError as error:
        raise ImportError(
            f"Numba has no CUDA here ({error}); install it with: pip install 'minigrad[cuda]'"
        ) from error
    return cuda


@cache
def why_unavailable() -> str | None:
    """Why no card can be used here; None where one can."""
    try:
        cuda = numba_cuda()
    except ImportError as error:
        return str(error)
    if simulated():
        return None
    from numba.cuda.cudadrv import driver

    if not driver.driver.is_available:
        told = " ".join(str(driver.driver.initialization_error).split())
        return f"CUDA's driver cannot be used: {told}"
    try:
        if not len(cuda.gpus):
            return "CUDA's driver finds no card"
    except driver.CudaAPIError as error:
        return f"CUDA's driver cannot be used: {error}"
    return None


def count() -> int:
    """How many cards there are."""
    return 0 if why_unavailable() else len(numba_cuda().gpus)


@cache
def open_driver(index: int) -> Driver:
    """The driver of one card.

    Raises:
        RuntimeError: no card can be used here; the message says why.
        ValueError: there are not as many cards.
    """
    reason = why_unavailable()
    if reason:
        raise RuntimeError(f"no CUDA card can be used: {reason}")
    if not 0 <= index < count():
        raise ValueError(f"no card cuda:{index}: there are {count()}, cuda:0 to {count() - 1}")
    return SimulatedDriver() if simulated() else CardDriver(index)


def _bindings() -> tuple[Any, Any, int]:
    """The driver's functions as Numba calls them, checked, and how streams are captured.

    In the relaxed mode memory may be taken from the card meanwhile, which is no part of a graph.
    The stream that is captured does not wait for the default one, so that others may use that.
    """
    from numba.cuda.cudadrv import driver

    mode = driver.binding.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    return driver.driver, mode, int(driver.binding.CUstream_flags.CU_STREAM_NON_BLOCKING)


class CardDriver:
    """A real card."""

    def __init__(self, index: int) -> None:
        """Open the card of this number."""
        self._noting = threading.RLock()
        self._captured: Any = None
        self._held = contextlib.ExitStack()
        self._cuda = numba_cuda()
        self._context = self._cuda.gpus[index]
        with self._context:
            device = self._cuda.get_current_device()
            self.limits = Limits(
                device.name.decode() if isinstance(device.name, bytes) else device.name,
                tuple(device.compute_capability),
                device.MULTIPROCESSOR_COUNT,
                device.MAX_THREADS_PER_BLOCK,
                device.MAX_THREADS_PER_MULTI_PROCESSOR,
                device.MAX_SHARED_MEMORY_PER_BLOCK,
            )
            self.stream = self._cuda.stream()

    def __enter__(self) -> None:
        """Make it the card of this thread."""
        self._context.__enter__()

    def __exit__(self, *failure: Any) -> None:
        """Give the thread its former card back."""
        self._context.__exit__(*failure)

    def reserve(self, nbytes: int) -> Any:
        """A fresh segment."""
        from numba.cuda.cudadrv.driver import CudaAPIError

        with self._context:
            try:
                return self._cuda.current_context().memalloc(nbytes)
            except CudaAPIError as error:
                if "OUT_OF_MEMORY" not in str(error):
                    raise
                raise MemoryError(str(error)) from None

    def view(self, segment: Any, offset: int, layout: np.ndarray) -> Any:
        """A part of a segment as Numba's array."""
        from numba.cuda.cudadrv.devicearray import DeviceNDArray

        with self._context:
            memory = segment.view(offset) if layout.size else None
            return DeviceNDArray(layout.shape, layout.strides, layout.dtype, self.stream, memory)

    def address(self, segment: Any) -> int:
        """Where the segment begins."""
        return int(segment.device_pointer_value or 0)

    def adopt(self, address: int, nbytes: int, owner: Any) -> Any:
        """Memory of another library."""
        from numba.cuda.cudadrv.driver import MemoryPointer

        with self._context:
            context = weakref.proxy(self._cuda.current_context())
            return MemoryPointer(context, ctypes.c_void_p(address), nbytes, owner=owner)

    def memory(self) -> tuple[int, int]:
        """Free bytes and all bytes."""
        with self._context:
            free, total = self._cuda.current_context().get_memory_info()
        return int(free), int(total)

    def synchronise(self) -> None:
        """Wait for all streams, and before that for a graph that another thread has noted."""
        with self._noting, self._context:
            self._cuda.synchronize()

    def new_stream(self) -> Any:
        """A stream of its own."""
        with self._context:
            return self._cuda.stream()

    def mark(self, stream: Any) -> Any:
        """An event after all that was asked of the stream."""
        with self._context:
            event = self._cuda.event(timing=False)
            event.record(stream)
        return event

    def wait(self, stream: Any, event: Any) -> None:
        """Let the stream wait for an event."""
        with self._context:
            event.wait(stream)

    def pinned(self, nbytes: int) -> np.ndarray:
        """Pinned host memory."""
        with self._context:
            return self._cuda.pinned_array(nbytes, np.uint8)

    def submit(self, work: Callable[[], Any]) -> None:
        """Do it: where a graph is noted, CUDA notes what its stream is asked."""
        work()

    def begin_graph(self) -> Any:
        """Begin to capture a stream of its own."""
        self._noting.acquire()
        try:
            with self._context:
                api, mode, flags = _bindings()
                if self._captured is None:
                    self._captured = self._cuda.external_stream(int(api.cuStreamCreate(flags)))
                # Numba must not free what waits to be freed while the stream is captured.
                self._held.enter_context(self._cuda.defer_cleanup())
                api.cuStreamBeginCapture(int(self._captured), mode)
        except BaseException:
            self._end_noting()
            raise
        return self._captured

    def end_graph(self) -> Any:
        """End the capture, and make what can be launched of it."""
        try:
            with self._context:
                api = _bindings()[0]
                try:
                    graph = api.cuStreamEndCapture(int(self._captured))
                except BaseException:
                    self._captured = None  # who knows in which state
                    raise
                try:
                    return api.cuGraphInstantiate(graph, 0)
                finally:
                    api.cuGraphDestroy(graph)
        finally:
            self._end_noting()

    def abandon_graph(self) -> None:
        """End the capture; what was captured, and the stream, are not used again."""
        try:
            with self._context, contextlib.suppress(Exception):
                api = _bindings()[0]
                graph = api.cuStreamEndCapture(int(self._captured))
                if int(graph):
                    api.cuGraphDestroy(graph)
        finally:
            self._captured = None
            self._end_noting()

    def _end_noting(self) -> None:
        self._held.close()
        self._noting.release()

    def launch_graph(self, graph: Any) -> None:
        """Launch it on the card's stream."""
        with self._context:
            _bindings()[0].cuGraphLaunch(graph, int(self.stream))

    def forget_graph(self, graph: Any) -> None:
        """Destroy what was instantiated; CUDA waits with it until it has run."""
        with self._context, contextlib.suppress(Exception):  # the card may be gone already
            _bindings()[0].cuGraphExecDestroy(graph)


class _Past:
    """An event of the simulator, where everything is done when it was asked for."""

    def query(self) -> bool:
        """Whether it has come."""
        return True


class SimulatedDriver:
    """Numba's simulator: one small card, whose memory is NumPy's.

    Its capability is that of the first cards whose tensor cores the kernels can use.
    """

    limits = Limits("Numba's simulator", (8, 0), 1, 64, 64, 48 * 1024)
    stream = 0

    def __init__(self) -> None:
        """Mend the simulator before its first kernel."""
        simulator.mend()
        self._noting = threading.RLock()
        self._noted: tuple[int, list[Callable[[], Any]]] | None = None

    def __enter__(self) -> None:
        """There is one card only."""

    def __exit__(self, *failure: Any) -> None:
        """There is one card only."""

    def reserve(self, nbytes: int) -> np.ndarray:
        """Fresh memory, of which nothing is known: it is full of NaN, so that who reads it sees."""
        return np.full(nbytes, 0xFF, np.uint8)

    def view(self, segment: np.ndarray, offset: int, layout: np.ndarray) -> Any:
        """A part of a segment as the simulator's array."""
        from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

        part: np.ndarray = np.ndarray(
            layout.shape, layout.dtype, segment.data, offset, layout.strides
        )
        return FakeCUDAArray(part)

    def address(self, segment: np.ndarray) -> int:
        """Where the segment begins, in the host's memory."""
        return segment.ctypes.data

    def adopt(self, address: int, nbytes: int, owner: Any) -> np.ndarray:
        """Memory at an address of the host."""
        return np.frombuffer(memoryview((ctypes.c_uint8 * nbytes).from_address(address)), np.uint8)

    def memory(self) -> tuple[int, int]:
        """There is as much as anyone asks for."""
        return 2**40, 2**40

    def synchronise(self) -> None:
        """Nothing is ever left to wait for."""

    def new_stream(self) -> int:
        """There is one stream only."""
        return 0

    def mark(self, stream: Any) -> _Past:
        """An event that is past at once."""
        return _Past()

    def wait(self, stream: Any, event: Any) -> None:
        """Nothing is ever left to wait for."""

    def pinned(self, nbytes: int) -> np.ndarray:
        """Plain memory."""
        return np.empty(nbytes, np.uint8)

    def submit(self, work: Callable[[], Any]) -> None:
        """Do it, or note it where this thread notes a graph: then nothing is done, as on a card."""
        noted = self._noted
        if noted is not None and noted[0] == threading.get_ident():
            noted[1].append(work)
        else:
            work()

    def begin_graph(self) -> int:
        """Begin a list."""
        self._noting.acquire()
        self._noted = threading.get_ident(), []
        return self.stream

    def end_graph(self) -> list[Callable[[], Any]]:
        """The list."""
        noted = self._noted
        self.abandon_graph()
        return noted[1] if noted else []

    def abandon_graph(self) -> None:
        """Note no more."""
        self._noted = None
        self._noting.release()

    def launch_graph(self, graph: list[Callable[[], Any]]) -> None:
        """Do all that is in the list."""
        for work in graph:
            work()

    def forget_graph(self, graph: list[Callable[[], Any]]) -> None:
        """Empty the list."""
        graph.clear()
