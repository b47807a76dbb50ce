"""The loop of training: what it computes, what it tells, how it stops, what it refuses."""

import csv
import json
import math
import os
import signal
import threading

import numpy as np
import pytest
from rich.console import Console

import minigrad
from minigrad_nn import functional as F
from minigrad_nn import layers, optim, schedule
from minigrad_nn.data import ArrayDataset, Loader
from minigrad_nn.module import Sequential
from minigrad_nn.train import (
    Callback,
    Checkpoint,
    EarlyStopping,
    LearningRate,
    MetricsLog,
    NonFiniteLossError,
    ProgressBar,
    evaluate,
    fit,
)
from tests.train.network import make, samples, train


@pytest.fixture(autouse=True)
def same_random_numbers():
    with minigrad.random.preserved():
        minigrad.random.manual_seed(0)
        yield


def line(lr=0.1):
    """y = 2 x + 1 with one unit, its loader and optimiser."""
    x = np.linspace(-1, 1, 12, dtype=np.float32)[:, None]
    model = layers.Linear(1, 1)
    return model, Loader(ArrayDataset(x, 2 * x + 1), 5), optim.SGD(model.parameters(), lr=lr)


def regression(model, loader, optimizer, epochs, **more):
    return fit(model, loader, optimizer, epochs, loss=F.mse_loss, metrics={}, **more)


# --- what it computes ----------------------------------------------------------------------------


def test_fit_is_the_loop_that_one_would_write():
    model, loader, optimizer = line()
    start = model.state_dict()
    run = regression(model, loader, optimizer, 3)

    other, other_loader, other_optimizer = line()
    other.load_state_dict(start)
    means = []
    for _ in range(3):
        total = 0.0
        for x, y in other_loader:
            loss = F.mse_loss(other(minigrad.tensor(x)), y)
            other_optimizer.zero_grad()
            loss.backward()
            other_optimizer.step()
            total += loss.item() * len(x)
        means.append(total / 12)
    np.testing.assert_array_equal(model.weight.numpy(), other.weight.numpy())
    assert [row["loss"] for row in run.history] == pytest.approx(means)
    assert (run.epoch, run.step, len(run.history)) == (3, 9, 3)
    assert run.history[-1]["step"] == 9 and run.history[-1]["lr"] == 0.1


def test_it_learns():
    model, loader, optimizer = line(lr=0.3)
    run = regression(model, loader, optimizer, 40)
    assert run.history[-1]["loss"] < 1e-6
    assert model.weight.item() == pytest.approx(2, abs=1e-3)


def test_every_epoch_learns_in_training_mode():
    """Also the first, whatever the mode was, and those after an evaluation."""
    modes = []

    class Spy(Callback):
        def on_batch(self, run):
            modes.append([module.training for module in run.model.modules()])

    model, loader, optimizer, _ = make()
    fit(model.eval(), loader, optimizer, 2, validation=Loader(samples(3), 3), callbacks=[Spy()])
    assert len(modes) == 10 and all(map(all, modes))


def test_evaluate_weighs_by_samples_and_restores_every_mode():
    model = Sequential(layers.Linear(4, 2), layers.Dropout(0.9))
    model.train()
    model[1].eval()
    loader = Loader(samples(7), 4)
    found = evaluate(model, loader)
    assert model.training and not model[1].training
    x, y = samples(7)[np.arange(7)]
    logits = model[0](minigrad.tensor(x))
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-6)
    assert found["accuracy"] == pytest.approx((logits.numpy().argmax(1) == y).mean())
    assert list(found) == ["loss", "accuracy"]
    assert model[0].weight.grad is None


def test_evaluate_builds_no_graph_and_restores_the_mode_when_it_fails():
    seen = []
    model = layers.Linear(4, 2)

    def loss(prediction, target):
        seen.append(prediction.requires_grad)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        evaluate(model, Loader(samples(3), 3), loss=loss)
    assert seen == [False] and model.training
    with pytest.raises(ValueError, match="no samples"):
        evaluate(model, Loader(ArrayDataset(np.zeros((0, 4), np.float32), np.zeros(0, int)), 3))


def test_validation_has_names():
    model, loader, optimizer, _ = make()
    run = fit(model, loader, optimizer, 1, validation=Loader(samples(5), 2))
    assert {"validation_loss", "validation_accuracy"} <= set(run.history[0])
    assert {"test_loss", "test_accuracy"} <= set(train(1).history[0])


def test_long_gradients_are_shortened():
    model, loader, optimizer = line(lr=1.0)
    before = np.concatenate([p.numpy().ravel() for p in model.parameters()])
    one = Loader(loader.dataset, 12)
    regression(model, one, optimizer, 1, clip_norm=1e-3)
    after = np.concatenate([p.numpy().ravel() for p in model.parameters()])
    assert np.linalg.norm(after - before) == pytest.approx(1e-3, rel=1e-2)


# --- what it refuses -----------------------------------------------------------------------------


def test_wrong_arguments_are_told():
    model, loader, optimizer, _ = make()
    with pytest.raises(TypeError, match="model must be a Module, got a function"):
        fit(lambda x: x, loader, optimizer, 1)
    with pytest.raises(TypeError, match="loader must be a Loader, got a list"):
        fit(model, [], optimizer, 1)
    with pytest.raises(TypeError, match="optimizer must be"):
        fit(model, loader, model, 1)
    for epochs in (-1, 1.5, True, "3"):
        with pytest.raises(ValueError, match="whole number from 0"):
            fit(model, loader, optimizer, epochs)
    with pytest.raises(ValueError, match="no batches"):
        fit(model, Loader(samples(0), 3), optimizer, 1)
    with pytest.raises(TypeError, match=r"put \(\) behind it"):
        fit(model, loader, optimizer, 1, callbacks=[Callback])
    with pytest.raises(ValueError, match="no parameter of the model"):
        fit(layers.Linear(4, 2), loader, optimizer, 1)
    with pytest.raises(ValueError, match="every must be"):
        LearningRate(None, every="day")
    with pytest.raises(ValueError, match="patience"):
        EarlyStopping(patience=0)
    with pytest.raises(ValueError, match="every"):
        Checkpoint("x", every=0)
    with pytest.raises(KeyError, match="'nothing' is not measured"):
        fit(model, loader, optimizer, 1, callbacks=[EarlyStopping("nothing")])


def test_a_loss_that_is_not_finite_is_told_and_not_learned_from(tmp_path):
    model, loader, optimizer = line(lr=1e12)
    with pytest.raises(NonFiniteLossError) as caught, np.errstate(over="ignore", invalid="ignore"):
        regression(model, loader, optimizer, 50, callbacks=[MetricsLog(tmp_path)])
    assert "lower the learning rate (now 1e+12)" in str(caught.value)
    assert all(np.isfinite(p.numpy()).all() for p in model.parameters())
    events = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert events and all(math.isfinite(event["loss"]) for event in events)


def test_inputs_that_are_not_finite_are_found_out():
    x = np.ones((6, 1), np.float32)
    x[4] = np.nan
    model = layers.Linear(1, 1)
    before = model.state_dict()
    loader = Loader(ArrayDataset(x, x), 6)
    with pytest.raises(NonFiniteLossError, match="epoch 1, batch 1 .*inputs holds NaN"):
        regression(model, loader, optim.SGD(model.parameters(), lr=0.1), 1)
    np.testing.assert_array_equal(model.weight.numpy(), before["weight"])


# --- what happens around it ----------------------------------------------------------------------


class Events(Callback):
    """Remembers what it was told."""

    def __init__(self, fail=None):
        self.told = []
        self.fail = fail

    def on_begin(self, run):
        self._note("begin")

    def on_batch(self, run):
        self._note("batch")

    def on_epoch(self, run):
        self._note("epoch")

    def on_end(self, run):
        self._note("end")

    def on_close(self, run):
        self._note("close")

    def _note(self, event):
        self.told.append(event)
        if event == self.fail:
            raise RuntimeError(event)


def test_callbacks_are_told_in_order():
    events = Events()
    train(2, events)
    epoch = ["batch"] * 5 + ["epoch"]
    assert events.told == ["begin", *epoch, *epoch, "end", "close"]


def test_every_callback_is_closed_whatever_happens():
    first, last = Events(fail="close"), Events(fail="batch")
    with pytest.raises(RuntimeError):
        train(2, first, last)
    assert first.told[-1] == last.told[-1] == "close"


def test_checkpoints_come_after_what_they_save(tmp_path):
    """Whatever the order of the callbacks, the schedule's step is in the file."""
    model, loader, optimizer, callbacks = make()
    order = [Checkpoint(tmp_path / "run"), *callbacks]
    run = fit(model, loader, optimizer, 1, callbacks=order)
    assert isinstance(run.callbacks[-1], Checkpoint)
    assert callbacks[0].schedule.last_epoch == 5


def test_an_early_stop_waits_for_its_patience():
    class Script(Callback):
        def on_epoch(self, run):
            run.history[-1]["number"] = [3.0, 2.0, 2.0, 2.5, 9.0][run.epoch - 1]

    stop = EarlyStopping("number", patience=2)
    run = train(5, Script(), stop)
    assert (run.epoch, run.interrupted) == (4, False)
    assert run.stop == "number has not been better than 2 for 2 epochs"
    largest = EarlyStopping("number", patience=3, larger_is_better=True)
    run = train(5, Script(), largest)
    assert (run.epoch, largest.best) == (4, -3.0)


def test_schedules_move_by_epochs_by_batches_and_by_a_number():
    model, loader, optimizer = line(lr=0.08)
    falling = LearningRate(schedule.StepLR(optimizer, 1, 0.5))
    run = regression(model, loader, optimizer, 3, callbacks=[falling])
    assert [row["lr"] for row in run.history] == [0.08, 0.04, 0.02]

    model, loader, optimizer = line(lr=1e-9)
    plateau = schedule.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5, eps=0.0)
    run = regression(model, loader, optimizer, 3, callbacks=[LearningRate(plateau, monitor="loss")])
    assert [row["lr"] for row in run.history] == pytest.approx([1e-9, 1e-9, 1e-10])


def test_the_log_is_a_table_and_a_line_an_event(tmp_path):
    run = train(3, MetricsLog(tmp_path / "new" / "folder"))
    folder = tmp_path / "new" / "folder"
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert rows == run.history
    events = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events] == (["batch"] * 5 + ["epoch"]) * 3
    assert [e["step"] for e in events if e["event"] == "batch"] == list(range(1, 16))


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_leaves_a_line_an_epoch(terminal):
    console = Console(force_terminal=terminal, width=60, record=True, file=open(os.devnull, "w"))
    with console.file:
        train(2, ProgressBar(console))
        text = console.export_text()
    lines = [text for text in text.splitlines() if "training:" in text]
    # On a terminal the bar stands before it, and is taken away by codes that the record lacks.
    assert len(lines) == 2 and "epoch 2/2   training: loss " in lines[1]
    assert ("━" in text) == terminal
    assert "   test: loss " in lines[1] and lines[1].endswith(" s")


# --- Ctrl-C --------------------------------------------------------------------------------------


class PressCtrlC(Callback):
    """Sends this process what Ctrl-C sends, once or twice, during a batch."""

    def __init__(self, step, times=1):
        self.step, self.times = step, times

    def on_batch(self, run):
        if run.step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_after_the_batch_with_a_whole_checkpoint(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    path = tmp_path / "run.safetensors"
    events = Events()
    run = train(4, events, PressCtrlC(7), Checkpoint(path))
    assert run.interrupted and run.stop == "interrupted" and run.step == 7
    assert events.told[-2:] == ["end", "close"]
    assert signal.getsignal(signal.SIGINT) is before
    assert train(4, resume=path).step == 20


def test_a_second_ctrl_c_ends_at_once():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(4, PressCtrlC(3, times=2))
    assert signal.getsignal(signal.SIGINT) is before


def test_training_in_another_thread_leaves_signals_alone():
    found = []
    thread = threading.Thread(target=lambda: found.append(train(1)))
    thread.start()
    thread.join()
    assert found[0].epoch == 1
