"""A training that goes on from a checkpoint gives the very bits of one that never stopped."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad
from minigrad_nn import layers, optim
from minigrad_nn.data import Loader
from minigrad_nn.io import CheckpointError, read_checkpoint
from minigrad_nn.train import Checkpoint, MetricsLog, fit
from tests.train.network import StopAfter, make, samples, train

ROOT = Path(__file__).parent.parent.parent
# 23 samples in batches of 5: an epoch has 5 steps.
STEPS = 5


def without_time(state):
    """A checkpoint's content but for the clock."""
    state = {**state, "run": dict(state["run"])}
    del state["run"]["seconds"]
    state["run"]["history"] = [
        {k: v for k, v in row.items() if k != "seconds"} for row in state["run"]["history"]
    ]
    return state


def assert_same_bits(a, b, path=""):
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert list(a) == list(b), path
        for key in a:
            assert_same_bits(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_same_bits(*pair, f"{path}/{i}")
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), path
    else:
        assert a == b, path


def same_files(a, b):
    assert_same_bits(without_time(read_checkpoint(a)), without_time(read_checkpoint(b)))


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Checkpoints of trainings that never stopped, by optimiser."""
    paths = {}
    for adam in (True, False):
        path = tmp_path_factory.mktemp("straight") / "run.safetensors"
        train(4, Checkpoint(path), adam=adam)
        paths[adam] = path
    return paths


@given(st.integers(0, 4), st.booleans())
def test_epochs_in_two_parts_are_the_same_bits(tmp_path_factory, straight, first, adam):
    path = tmp_path_factory.mktemp("parts") / "run.safetensors"
    train(first, Checkpoint(path), adam=adam)
    minigrad.random.manual_seed(99)  # what happens between must not matter
    run = train(4, Checkpoint(path), resume=path, seed=77, adam=adam)
    assert run.epoch == 4 and run.step == 4 * STEPS
    same_files(path, straight[adam])


@given(st.lists(st.integers(1, 4 * STEPS), min_size=1, max_size=3, unique=True).map(sorted))
def test_stops_in_the_middle_of_epochs_are_the_same_bits(tmp_path_factory, straight, stops):
    path = tmp_path_factory.mktemp("middle") / "run.safetensors"
    resume = None
    for step in stops:
        run = train(4, Checkpoint(path), StopAfter(step), resume=resume)
        assert (run.step, run.stop) == (step, "enough")
        resume = path
    train(4, Checkpoint(path), resume=path)
    same_files(path, straight[True])


def test_a_new_process_goes_on_with_the_same_bits(tmp_path, straight):
    path = tmp_path / "run.safetensors"
    program = (
        "import sys; from minigrad_nn.train import Checkpoint\n"
        "from tests.train.network import StopAfter, train\n"
        "train(4, Checkpoint(sys.argv[1]), StopAfter(int(sys.argv[2])), resume=sys.argv[3] or None)"
    )
    for step, resume in ((7, ""), (100, path)):
        subprocess.run(
            [sys.executable, "-c", program, str(path), str(step), str(resume)], cwd=ROOT, check=True
        )
    same_files(path, straight[True])


def test_what_a_checkpoint_leaves_out_would_be_missed(tmp_path, straight):
    """The comparison itself is sharp: with another seed, or no optimiser state, bits differ."""
    path = tmp_path / "run.safetensors"
    train(4, Checkpoint(path), seed=2)
    with pytest.raises(AssertionError):
        same_files(path, straight[True])


def test_the_log_of_a_resumed_run_has_no_gap_and_nothing_twice(tmp_path):
    train(4, MetricsLog(tmp_path / "straight"))
    folder, path = tmp_path / "parts", tmp_path / "run.safetensors"
    train(4, MetricsLog(folder), Checkpoint(path), StopAfter(7))
    # The first process dies later than its last checkpoint.
    train(4, MetricsLog(folder), StopAfter(13), resume=path)
    with open(folder / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"event": "ba')
    train(4, MetricsLog(folder), resume=path)

    def lines(where, name):
        text = (tmp_path / where / name).read_text(encoding="utf-8").splitlines()
        return [without_seconds(line) for line in text]

    def without_seconds(line):
        if line.startswith("{"):
            return {k: v for k, v in json.loads(line).items() if k != "seconds"}
        return [part for i, part in enumerate(line.split(",")) if i != 3]

    for name in ("metrics.csv", "metrics.jsonl"):
        assert lines("parts", name) == lines("straight", name)
    assert len(lines("parts", "metrics.jsonl")) == 4 * STEPS + 4


# --- checkpoints that do not fit -----------------------------------------------------------------


def everything(model, loader, optimizer, callbacks):
    parts = [model, loader, optimizer, *callbacks]
    return [part.state_dict() for part in parts] + [minigrad.random.get_state()]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(batch_size=6), "batch_size=5"),
        (dict(adam=False), "optimizer: SGD"),
        (dict(epochs=9), None),
    ],
)
def test_a_checkpoint_of_another_set_up_is_refused_whole(tmp_path, change, said):
    path = tmp_path / "run.safetensors"
    train(2, Checkpoint(path))
    with minigrad.random.preserved():
        model, loader, optimizer, callbacks = make(seed=8, **change)
        before = everything(model, loader, optimizer, callbacks)
        if said is None:
            fit(model, loader, optimizer, 2, callbacks=callbacks, resume=path)
            return
        with pytest.raises(CheckpointError, match=said):
            fit(model, loader, optimizer, 4, callbacks=callbacks, resume=path)
        assert_same_bits(everything(model, loader, optimizer, callbacks), before)


def test_another_network_or_a_missing_callback_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    with minigrad.random.preserved():
        model, loader, optimizer, _ = make()
        fit(model, loader, optimizer, 1, callbacks=[Checkpoint(path)])
        with pytest.raises(CheckpointError, match="without the callback LearningRate"):
            train(4, resume=path)
        other = layers.Linear(4, 2)
        adam = optim.Adam(other.parameters())
        before = other.state_dict()
        with pytest.raises(CheckpointError, match="0.weight: unexpected"):
            fit(other, Loader(samples(), 5, shuffle=True), adam, 2, resume=path)
        assert_same_bits(other.state_dict(), before)


def test_adam_does_not_go_on_as_adamw(tmp_path):
    path = tmp_path / "run.safetensors"
    with minigrad.random.preserved():
        model, loader, optimizer, _ = make()
        fit(model, loader, optimizer, 1, callbacks=[Checkpoint(path)])
        other = optim.AdamW(model.parameters(), weight_decay=0.0)
        with pytest.raises(CheckpointError, match="trained by Adam, this run has AdamW"):
            fit(model, loader, other, 2, resume=path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("epoch", -1), ("epoch", 1.0), ("step", True), ("history", []), ("history", [3]),
     ("sums", {"loss": "x"}), ("seconds", float("nan")), ("optimizer", 3)],
)  # fmt: skip
def test_progress_that_cannot_be_is_refused(field, value):
    run = train(1)
    state = run.state_dict()
    with pytest.raises(ValueError):
        run.load_state_dict({**state, field: value})
    with pytest.raises(ValueError, match="has the fields"):
        run.load_state_dict({k: v for k, v in state.items() if k != field})
    assert run.state_dict() == state
