"""Captured training: networks, optimisers and layers, bit for bit what the step itself does."""

import gc
import math
import weakref
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad import CaptureError, capture
from minigrad_nn import functional as F
from minigrad_nn import models, optim, schedule
from tests.nn import samples

STEPS = 6


class Small(nn.Module):
    """A residual block with batch norm, as ResNets have it."""

    def __init__(self, momentum=0.1):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(4, momentum=momentum)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        y = nn.chaining.chain(x, self.conv1, self.norm1, self.relu)
        plus = nn.chaining.Plus(y)
        z = nn.chaining.chain(y, self.conv2, self.norm2, plus, self.relu)
        return self.head(F.global_avg_pool(z))


class Letters(nn.Module):
    """A recurrent network over one-hot letters `(T, N, 5)`."""

    def __init__(self, kind=nn.RNN, unrolled=False):
        super().__init__()
        self.rnn = kind(5, 6, unrolled=unrolled) if unrolled else kind(5, 6)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.rnn(x)[0].reshape(-1, 6))


class Words(nn.Module):
    """An embedding, layer norm and dropout."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 4, padding_idx=0)
        self.norm = nn.LayerNorm(4)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.dropout(self.norm(self.table(x))).mean(1))


def pictures(rng, size=8):
    return rng.standard_normal((6, 1, size, size), dtype=np.float32), rng.integers(0, 3, 6)


def letters(rng):
    return np.eye(5, dtype=np.float32)[rng.integers(0, 5, (4, 3))], rng.integers(0, 5, 12)


def words(rng):
    return rng.integers(0, 7, (5, 4)), rng.integers(0, 3, 5)


NETWORKS = {
    "LeNet5": (models.LeNet5, lambda rng: pictures(rng, 28)),
    "residual": (Small, pictures),
    "cumulative": (lambda: Small(None), pictures),
    "resnet18": (lambda: models.resnet18(3, in_channels=1, stem="cifar"), pictures),
    "dropout": (
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Dropout(0.5), nn.Linear(9, 3)
        ),
        pictures,
    ),
    "words": (Words, words),
    "RNN": (Letters, letters),
    "LSTM": (lambda: Letters(nn.LSTM), letters),
    "GRU": (lambda: Letters(nn.GRU), letters),
}


def seen(model, optimizer=None):
    """Bytes of all that training changes."""
    found = {name: value._data.tobytes() for name, value in model.named_parameters()}
    found |= {name: value._data.tobytes() for name, value in model.named_buffers()}
    found["grads"] = [
        None if p.grad is None else p.grad._data.tobytes() for p in model.parameters()
    ]
    found["random"] = mg.random.get_state()
    if optimizer is not None:
        found["state"] = [
            {k: np.asarray(v).tobytes() for k, v in held.items()}
            for held in optimizer.state_dict()["state"].values()
        ]
    return found


def train(make, batches, captured, optimizer=None, extra=None, steps=STEPS):
    """Losses and what was seen after each step, and the captured step."""
    mg.manual_seed(1)
    model = make()
    optimizer = (optimizer or (lambda p: optim.SGD(p, lr=0.05, momentum=0.9)))(model.parameters())
    more = None if extra is None else extra(model, optimizer)

    def step(x, y):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        found = None if more is None else more()
        optimizer.step()
        return loss, found

    function = capture(step) if captured else step
    rng, history = np.random.default_rng(3), []
    for _ in range(steps):
        x, y = batches(rng)
        loss, found = function(mg.tensor(x), y)
        history.append((loss._data.tobytes(), found, seen(model, optimizer)))
    return history, function, model


def same(make, batches, **options):
    expected, _, _ = train(make, batches, False, **options)
    found, step, _ = train(make, batches, True, **options)
    assert found == expected
    assert step.replays == options.get("steps", STEPS) - 2, step.reasons
    return step


@pytest.mark.parametrize("name", NETWORKS)
def test_training_is_the_same_to_the_bit(name):
    same(*NETWORKS[name])


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda p: optim.Adam(p, lr=0.01),
        lambda p: optim.AdamW(p, lr=0.01),
        lambda p: optim.RMSprop(p, lr=0.01),
        lambda p: optim.Adagrad(p, lr=0.01),
    ],
)
def test_optimisers(make):
    same(*NETWORKS["residual"], optimizer=make)


def test_an_optimiser_of_ones_own():
    class Signs(optim.SGD):
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    p.assign(p - mg.sign(p.grad) * group["lr"])

    same(*NETWORKS["residual"], optimizer=lambda p: Signs(p, lr=0.01))


def test_learning_rates_clipping_and_averages():
    def extra(model, optimizer):
        plan = schedule.StepLR(optimizer, 2, 0.5)
        average = optim.ExponentialMovingAverage(model.parameters(), 0.9)

        def more():
            norm = optim.clip_grad_norm_(model.parameters(), 0.1)
            optim.clip_grad_value_(model.parameters(), 0.02)
            average.update()
            plan.step()
            return norm

        return more

    step = same(*NETWORKS["residual"], extra=extra)
    for name in ("clip_norm", "clip_value", "average.update()", "plan.step()"):
        assert name.split(".")[-1].rstrip("()") in step.code


def test_evaluation_and_the_last_batch_have_programs_of_their_own():
    def run(wrap):
        mg.manual_seed(1)
        model = NETWORKS["residual"][0]()
        optimizer = optim.SGD(model.parameters(), lr=0.05)

        def step(x, y):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        take, look = wrap(step), wrap(lambda x: model(x))
        rng, history = np.random.default_rng(3), []
        for _ in range(4):
            model.train()
            for size in (6, 6, 4):
                x, y = pictures(rng)
                history.append(take(x[:size], y[:size])._data.tobytes())
            model.eval()
            with mg.no_grad():
                for _ in range(3):
                    history.append(look(mg.tensor(pictures(rng)[0]))._data.tobytes())
            history.append(seen(model))
        return history, take, look

    expected, _, _ = run(lambda step: lambda *a: step(*map(mg.tensor, a)))
    found, take, look = run(capture)
    assert found == expected
    assert (take.recordings, take.replays) == (4, 8)
    assert (look.recordings, look.replays) == (2, 10)


def test_changes_of_the_model_are_seen():
    mg.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 9), nn.BatchNorm1d(9), nn.Dropout(0.5), nn.Linear(9, 3)
    )
    x = mg.tensor(pictures(np.random.default_rng(0))[0])
    look = capture(lambda x: model(x))

    def check():
        for _ in range(3):
            state, statistics = mg.random.get_state(), model[2].running_mean.copy()
            found = look(x)
            after = mg.random.get_state(), model[2].running_mean.numpy().tobytes()
            mg.random.set_state(state)
            model[2].running_mean.assign(statistics)
            expected = model(x)
            assert found._data.tobytes() == expected._data.tobytes()
            assert after == (mg.random.get_state(), model[2].running_mean.numpy().tobytes())

    check()
    changes = [
        lambda: model.eval(),
        lambda: model.train(),
        lambda: setattr(model[3], "p", 0.2),
        lambda: model[2].eval(),
        lambda: setattr(model[2], "eps", 0.1),
        lambda: setattr(model, "4", nn.Linear(9, 2)),
        lambda: model[1].requires_grad_(False),
        lambda: model[1].weight.assign(model[1].weight * 2.0),
        lambda: model.load_state_dict(model.state_dict()),
        lambda: setattr(model[2], "weight", None),
        lambda: setattr(model[4], "forward", lambda h: h * 2.0),
    ]
    for change in changes:
        change()
        check()


def test_hooks_are_called_as_ever():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    look, x, calls = capture(lambda x: model(x)), mg.tensor(np.ones((2, 3), np.float32)), []
    for _ in range(3):
        look(x)
    remove = model[0].register_forward_hook(lambda module, args, output: calls.append(1))
    for _ in range(4):
        look(x)
    assert len(calls) == 4 and look.replays == 1
    remove()
    look(x)
    assert len(calls) == 4 and look.replays == 2


def test_a_module_that_keeps_what_it_saw_is_refused():
    class Keeps(nn.Module):
        def forward(self, x):
            self.seen = x * 2.0
            return self.seen

    look, x = capture(Keeps()), mg.tensor([1.0])
    with pytest.raises(CaptureError, match=r"Keeps\.seen is set"):
        for _ in range(3):
            look(x)


def test_labels_are_checked_in_a_replay():
    _, step, model = train(*NETWORKS["LeNet5"], True)
    x, y = pictures(np.random.default_rng(0), 28)
    before, replays = seen(model)["output.weight"], step.replays
    for wrong in (10, -1):
        with pytest.raises(ValueError, match=r"the classes 0 to 9"):
            step(mg.tensor(x), np.where(np.arange(6) == 2, wrong, y))
    assert seen(model)["output.weight"] == before
    step(mg.tensor(x), y)
    assert step.replays == replays + 1

    table = nn.Embedding(4, 2)
    look = capture(lambda x: table(x))
    for _ in range(3):
        look(np.array([0, 3]))
    with pytest.raises(ValueError, match="rows 0 to 3"):
        look(np.array([0, 4]))


@pytest.mark.parametrize("order", [(0, 2, 0, 1, 3, 0, 2, 0), (2, 2, 0, 1, 3, 0, 0, 0)])
def test_ignored_labels_take_their_own_course(order):
    weight = np.array([1.0, 2.0, 0.5], np.float32)

    def step(x, y):
        losses = F.cross_entropy(x, y), F.cross_entropy(x, y, weight=weight), F.nll_loss(x, y)
        sum(losses).backward()
        return losses

    captured, rng = capture(step), np.random.default_rng(0)
    for ignored in order:
        values, y = rng.standard_normal((5, 3)), rng.integers(0, 3, 5)
        y[:ignored] = -100
        runs = []
        for way in (captured, step):
            x = mg.tensor(values, requires_grad=True)
            runs.append([t._data.tobytes() for t in (*way(x, y), x.grad)])
        assert runs[0] == runs[1]
    assert len(captured.programs) == 2 and captured.replays >= 3


def test_lengths_of_sequences():
    rnn = nn.LSTM(3, 4)
    captured = capture(lambda x, lengths: rnn(x, lengths=lengths)[0])
    rng = np.random.default_rng(0)
    for lengths in ([4, 4], [4, 2], [1, 3], [4, 4], [4, 4], [2, 2], [0, 4], [1, 0], [0, 2]):
        x = mg.tensor(rng.standard_normal((4, 2, 3), dtype=np.float32))
        found = captured(x, np.array(lengths))
        expected = rnn(x, lengths=np.array(lengths))[0]
        assert found._data.tobytes() == expected._data.tobytes()
    assert captured.replays >= 2


# Samples whose functions make an array or a generator in each call.
FRESH = {
    *("instance_norm", "dropout", "dropout1d", "dropout2d", "dropout3d", "max_unpool2d"),
    *("max_unpool3d", "binary_cross_entropy_with_logits", "sigmoid_focal_loss"),
}
CASES = [
    (f"{name}-{i}", case)
    for table in (samples.OPS, samples.FUNCTIONS)
    for name, cases in table.items()
    for i, case in enumerate(cases)
]


@pytest.mark.parametrize("name, case", CASES, ids=[name for name, _ in CASES])
def test_every_function_is_replayed_to_the_bit_or_refused(name, case):
    function, *inputs = case

    def step(*args):
        found = function(*args)
        found = found if isinstance(found, (tuple, list)) else (found,)
        found = [one for one in found if isinstance(one, mg.Tensor)]
        sum((one * one).sum() for one in found if one.requires_grad).backward()
        return found

    captured = capture(step)
    try:
        for factor in (1.0, 0.97, 1.01, 0.95, 1.02, 0.98):
            runs = []
            for way in (step, captured):
                mg.manual_seed(5)
                args = [
                    mg.tensor(x * factor, requires_grad=True) if x.dtype.kind == "f" else x
                    for x in map(np.asarray, inputs)
                ]
                values = [one._data.tobytes() for one in way(*args)]
                grads = [
                    x.grad._data.tobytes()
                    for x in args
                    if isinstance(x, mg.Tensor) and x.grad is not None
                ]
                runs.append((values, grads, mg.random.get_state()))
            assert runs[0] == runs[1]
    except CaptureError:
        assert name.split("-")[0] in FRESH
        return
    assert captured.replays == 4


def test_reading_the_loss_in_the_step_is_refused():
    model = nn.Linear(2, 2)

    def step(x):
        loss = (model(x) ** 2).mean()
        if not math.isfinite(loss.item()):
            raise ValueError
        return loss

    with pytest.raises(CaptureError, match=r"test_capture\.py:\d+ .*item\(\)"):
        capture(step)(mg.tensor([[1.0, 2.0]]))


def test_memory_is_given_back():
    _, step, model = train(*NETWORKS["LeNet5"], True, steps=3)
    held = weakref.ref(next(model.parameters()))
    step.reset()
    del step, model
    gc.collect()
    assert held() is None


class Options:
    """What a step's surroundings may look like: settings in places of all kinds."""

    kind = 1.0

    def __init__(self):
        self.own = 1.0
        self.listed = [1.0]


class Slotted:
    __slots__ = ("held",)


class Scaled(nn.Module):
    """A module that reads settings which are no attributes of its own."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.listed = [1.0]
        self.options = Options()

    def forward(self, x):
        return self.linear(x) * self.listed[0] * self.options.own * Options.kind


class Trainer:
    """A step that leaves its work to other methods."""

    def __init__(self):
        self.model = Scaled()
        self.factor = 1.0
        self.slotted = Slotted()
        self.slotted.held = 1.0
        self.options = Options()
        self.more = []
        self.array = np.ones(2)

    @property
    def scale(self):
        return self.factor

    def loss(self, x, options):
        found = (self.model(x) ** 2).sum() * self.scale * self.slotted.held * options.own
        for part in self.more:
            found = found * part
        return found * options.listed[0] * float(self.array[0]) * self.options.kind

    def __call__(self, x, options, extra=(2.0,)):
        self.model.zero_grad()
        loss = self.loss(x, options) * extra[0]
        loss.backward()
        return loss


CHANGES = {
    "read by a helper": lambda t, options: setattr(t, "factor", 2.0),
    "slots": lambda t, options: setattr(t.slotted, "held", 2.0),
    "an argument": lambda t, options: setattr(options, "own", 2.0),
    "a list of an argument": lambda t, options: options.listed.__setitem__(0, 2.0),
    "of a class": lambda t, options: setattr(Options, "kind", 2.0),
    "a longer list": lambda t, options: t.more.append(3.0),
    "an array read in Python": lambda t, options: t.array.__setitem__(0, 3.0),
    "a list of a module": lambda t, options: t.model.listed.__setitem__(0, 2.0),
    "an object of a module": lambda t, options: setattr(t.model.options, "own", 2.0),
    "a default": lambda t, options: setattr(Trainer.__call__, "__defaults__", ((3.0,),)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_settings_are_watched_wherever_they_are(what, monkeypatch):
    def losses(captured):
        monkeypatch.setattr(Options, "kind", 1.0)
        monkeypatch.setattr(Trainer.__call__, "__defaults__", ((2.0,),))
        mg.manual_seed(1)
        trainer, options = Trainer(), Options()
        step = capture(trainer) if captured else trainer
        found = []
        for i in range(7):
            if i == 4:
                CHANGES[what](trainer, options)
            x = mg.tensor(np.random.default_rng(i).standard_normal((4, 3), dtype=np.float32))
            found.append((step(x, options)._data.tobytes(), seen(trainer.model)["grads"]))
        return found, step

    expected, _ = losses(False)
    found, step = losses(True)
    assert found == expected
    assert (step.recordings, step.replays) == (4, 3), step.reasons


def test_a_parameter_is_an_argument_or_read_from_outside_but_not_both():
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1)

    @capture
    def updated(x, y):
        (x * y).sum().backward()
        optimizer.step()

    @capture
    def read(x, y):
        (x * y * w).sum().backward()

    x = np.ones(2, np.float32)
    for step in (updated, read):
        with pytest.raises(CaptureError, match="from outside of it too"):
            step(w, x)
        with pytest.raises(CaptureError, match="passed twice"):
            step(w, w)


def test_named_tuples_hold_arguments():
    @capture
    def step(batch):
        return (batch.x * batch.y).sum()

    for i in range(4):
        batch = Pair(mg.tensor([1.0, i]), np.array([2.0, 3.0], np.float32))
        assert step(batch).item() == 2 + 3 * i
    assert step.replays == 2


def test_frozen_objects_that_hold_tensors_are_refused():
    step = capture(lambda batch: batch.x.sum())
    with pytest.raises(TypeError, match="cannot be told apart"):
        step(Batch(mg.tensor([1.0])))


@dataclass(frozen=True)
class Batch:
    x: object


class Pair(NamedTuple):
    x: object
    y: object


@pytest.mark.parametrize(
    "part",
    [lambda a: a[:2], lambda a: a.reshape(2, 2), lambda a: a.copy(), lambda a: a.astype(float)],
)
def test_parts_of_random_numbers_are_refused(part):
    @capture
    def step(x):
        return x + mg.tensor(part(mg.random.normal((4,)))).sum()

    with pytest.raises(CaptureError, match="random numbers are used in Python"):
        step(mg.tensor([1.0]))


def test_what_a_captured_step_inside_reads_is_watched():
    factor = [1.0]
    inner = capture(lambda x: x.sum() * factor[0])
    step = capture(lambda x: inner(x) * 2)
    for i in range(6):
        factor[0] = 1.0 if i < 4 else 3.0
        assert step(mg.tensor([1.0, i])).item() == 2 * (1 + i) * factor[0]
