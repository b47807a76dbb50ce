"""Which of CUDA's functions make a graph, in which order, also where one of them fails."""

import contextlib
import threading

import pytest

from minigrad_nn.kernels.cuda import driver as driver_module
from minigrad_nn.kernels.cuda.driver import CardDriver

GIVES = {"cuStreamCreate": 11, "cuStreamEndCapture": 70, "cuGraphInstantiate": 80}


class Calls:
    """CUDA's driver as Numba shows it; notes what it is asked, and fails where it is told to."""

    def __init__(self, fails=()):
        self.fails, self.told = set(fails), []

    def __getattr__(self, name):
        def call(*args):
            self.told.append((name, *args))
            if name in self.fails:
                raise RuntimeError(f"Call to {name} results in CUDA_ERROR_UNKNOWN")
            return GIVES.get(name)

        return call

    @property
    def names(self):
        return [name for name, *_ in self.told]


class Numba:
    """Numba's CUDA: streams are their numbers, and waiting is noted with the rest."""

    def __init__(self, calls):
        self.calls, self.deferring = calls, 0

    def external_stream(self, handle):
        return handle

    def synchronize(self):
        self.calls.told.append(("synchronize",))

    @contextlib.contextmanager
    def defer_cleanup(self):
        self.deferring += 1
        yield
        self.deferring -= 1


def opened(monkeypatch, *fails):
    calls = Calls(fails)
    monkeypatch.setattr(driver_module, "_bindings", lambda: (calls, "relaxed", 1))
    card = object.__new__(CardDriver)
    card._noting, card._captured = threading.RLock(), None
    card._held, card._context = contextlib.ExitStack(), contextlib.nullcontext()
    card._cuda, card.stream = Numba(calls), 5
    return card, calls


def is_free(card):
    """Nothing is noted any more, another thread may begin, and Numba frees memory again."""
    taken = []

    def take():
        taken.append(card._noting.acquire(blocking=False))
        if taken[0]:
            card._noting.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return taken == [True] and card._cuda.deferring == 0


def test_a_graph_is_captured_instantiated_launched_and_destroyed(monkeypatch):
    card, calls = opened(monkeypatch)
    stream = card.begin_graph()
    assert stream == 11 != card.stream and card._cuda.deferring == 1
    card.submit(lambda: calls.told.append(("launch", stream)))
    graph = card.end_graph()
    assert graph == 80 and is_free(card)
    card.launch_graph(graph)
    card.launch_graph(graph)
    card.forget_graph(graph)
    assert calls.told == [
        ("cuStreamCreate", 1),
        ("cuStreamBeginCapture", 11, "relaxed"),
        ("launch", 11),
        ("cuStreamEndCapture", 11),
        ("cuGraphInstantiate", 70, 0),
        ("cuGraphDestroy", 70),
        ("cuGraphLaunch", 80, 5),
        ("cuGraphLaunch", 80, 5),
        ("cuGraphExecDestroy", 80),
    ]
    del calls.told[:]
    card.begin_graph()
    assert calls.names == ["cuStreamBeginCapture"]  # of the same stream


def test_a_capture_that_does_not_begin(monkeypatch):
    card, calls = opened(monkeypatch, "cuStreamBeginCapture")
    with pytest.raises(RuntimeError, match="cuStreamBeginCapture"):
        card.begin_graph()
    assert calls.names == ["cuStreamCreate", "cuStreamBeginCapture"] and is_free(card)


def test_a_capture_that_became_invalid(monkeypatch):
    card, calls = opened(monkeypatch, "cuStreamEndCapture")
    card.begin_graph()
    with pytest.raises(RuntimeError, match="cuStreamEndCapture"):
        card.end_graph()
    assert calls.names[1:] == ["cuStreamBeginCapture", "cuStreamEndCapture"] and is_free(card)
    assert card._captured is None  # the next capture has a stream of its own


def test_a_graph_that_cannot_be_instantiated(monkeypatch):
    card, calls = opened(monkeypatch, "cuGraphInstantiate")
    card.begin_graph()
    with pytest.raises(RuntimeError, match="cuGraphInstantiate"):
        card.end_graph()
    assert calls.names[2:] == ["cuStreamEndCapture", "cuGraphInstantiate", "cuGraphDestroy"]
    assert is_free(card)


@pytest.mark.parametrize("fails", [(), ("cuStreamEndCapture",), ("cuGraphDestroy",)])
def test_an_abandoned_capture_is_ended(monkeypatch, fails):
    card, calls = opened(monkeypatch, *fails)
    card.begin_graph()
    card.abandon_graph()
    assert calls.names[2] == "cuStreamEndCapture" and is_free(card) and card._captured is None
    assert ("cuGraphDestroy" in calls.names) is ("cuStreamEndCapture" not in fails)


def test_a_graph_is_forgotten_also_when_the_card_is_gone(monkeypatch):
    card, calls = opened(monkeypatch, "cuGraphExecDestroy")
    card.forget_graph(80)
    assert calls.names == ["cuGraphExecDestroy"]


def test_other_threads_wait_for_the_card_only_when_no_capture_runs(monkeypatch):
    """Waiting for the card makes a capture invalid, whichever thread does it."""
    card, calls = opened(monkeypatch)
    card.begin_graph()
    thread = threading.Thread(target=card.synchronise)
    thread.start()
    thread.join(0.1)
    assert thread.is_alive() and "synchronize" not in calls.names
    card.end_graph()
    thread.join(10)
    assert calls.names.index("synchronize") > calls.names.index("cuStreamEndCapture")


def test_the_names_are_those_of_cuda(monkeypatch):
    """Numba passes each call on to NVIDIA's bindings, by name."""
    bindings = pytest.importorskip("cuda.bindings.driver")
    card, calls = opened(monkeypatch)
    card.begin_graph()
    graph = card.end_graph()
    card.launch_graph(graph)
    card.forget_graph(graph)
    for name in calls.names:
        assert callable(getattr(bindings, name))
    assert bindings.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED == 2
    assert bindings.CUstream_flags.CU_STREAM_NON_BLOCKING == 1
