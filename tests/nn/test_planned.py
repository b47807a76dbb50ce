"""Replays on the CPU by calls: what of a network stays on the step's own way, and whose memory."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad import capture
from minigrad_nn import functional as F
from minigrad_nn import models, optim
from minigrad_nn.kernels.cpu import arrays, winograd
from minigrad_nn.kernels.cpu.compile import known

CALLS = 7
"""Two recordings, a rehearsal, a replay that is noted, and replays by calls."""


class Letters(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(5, 4)
        self.head = nn.Linear(4, 10)

    def forward(self, x):
        return self.head(self.rnn(x)[0].reshape(-1, 4))


NETWORKS = {
    "LeNet5": (models.LeNet5, (16, 1, 28, 28)),
    "plain": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * 4 * 4, 10),
        ),
        (8, 1, 16, 16),
    ),
    "separable": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 1),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.GlobalAvgPool(),
            nn.Linear(8, 10),
        ),
        (8, 1, 16, 16),
    ),
    "RNN": (Letters, (3, 4, 5)),
}
# What looks at Python's state, or checks values, is called by each replay.
CALLED = {"_own", "_counting", "decide", "zero_grad", "_check_classes", "hand", "step"}
STATISTICS = {"_count", "_follow"}


def trained(name, change=lambda i, x: x):
    """A captured step after some calls, what it gave, and what the step itself gives."""
    make, shape = NETWORKS[name]
    found, captured = [], None
    for wrap in (capture, lambda step: step):
        mg.manual_seed(0)
        model = make()
        optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

        def step(x, y, model=model, optimizer=optimizer):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        step, losses, rng = wrap(step), [], np.random.default_rng(1)
        captured = captured or step
        for i in range(CALLS):
            x = rng.standard_normal(shape, dtype=np.float32)
            y = rng.integers(0, 10, 12 if name == "RNN" else len(x))
            x = change(i, x)
            losses.append(step(x if step is captured else mg.tensor(x), y).item())
        found.append(losses)
    assert found[0] == found[1]
    return captured


def calls_of(captured):
    (program,) = captured.programs
    return [call for run in program._parts._steps for call in getattr(run, "calls", ())]


def arrays_in(value):
    if isinstance(value, np.ndarray):
        yield value
    elif type(value) in (tuple, dict):
        for part in value.values() if type(value) is dict else value:
            yield from arrays_in(part)


@pytest.mark.parametrize("name", NETWORKS)
def test_of_a_network_only_what_looks_at_python_is_called(name):
    captured = trained(name)
    (program,) = captured.programs
    called = {p.entry.name.split(".")[-1] for p in program._parts._pieces if not p.work}
    assert called <= CALLED | STATISTICS
    assert program.noted >= 10


@pytest.mark.parametrize("name", NETWORKS)
def test_scratch_memory_of_a_thread_is_not_kept(name):
    for call in calls_of(trained(name)):
        for array in arrays_in((call.args, call.keywords)):
            assert not np.may_share_memory(array, arrays._local.workspace._block)


def test_read_only_pictures_compile_nothing_anew():
    def signatures():
        return {
            (kernel.__name__, parallel): len(variant.signatures)
            for kernel in known
            for parallel, variant in kernel._variants.items()
        }

    def locked(i, x):
        if i >= CALLS - 2:
            x.setflags(write=False)
        return x

    trained("plain")
    before = signatures()
    trained("plain", locked)
    assert signatures() == before


def test_a_switch_of_the_kernels_is_seen(monkeypatch):
    def switch(i, x):
        monkeypatch.setattr(winograd, "enabled", i % 2 == 0 if i >= CALLS - 2 else True)
        return x

    trained("plain", switch)


def test_other_numbers_of_threads_give_the_same():
    before = mg.get_num_threads()

    def switch(i, x):
        mg.set_num_threads(1 if i == CALLS - 2 else before)
        return x

    try:
        for name in NETWORKS:
            trained(name, switch)
    finally:
        mg.set_num_threads(before)
