"""Optimisers, schedules, averages and clipping against PyTorch, over 50 steps."""

import math

import numpy as np
import pytest
import torch

import minigrad as mg
from minigrad_nn import optim, schedule

SETTINGS = [
    ("SGD", dict(lr=0.1)),
    ("SGD", dict(lr=0.1, weight_decay=0.05)),
    ("SGD", dict(lr=0.1, momentum=0.9)),
    ("SGD", dict(lr=0.1, momentum=0.9, dampening=0.4, weight_decay=0.05)),
    ("SGD", dict(lr=0.1, momentum=0.9, nesterov=True)),
    ("SGD", dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05)),
    ("Adam", dict(lr=0.05)),
    ("Adam", dict(lr=0.05, betas=(0.8, 0.9), eps=1e-4, weight_decay=0.1)),
    ("AdamW", dict(lr=0.05)),
    ("AdamW", dict(lr=0.05, betas=(0.5, 0.99), weight_decay=0.3)),
    ("RMSprop", dict()),
    ("RMSprop", dict(lr=0.02, alpha=0.9, eps=1e-3, weight_decay=0.1)),
    ("RMSprop", dict(lr=0.02, momentum=0.8)),
    ("RMSprop", dict(lr=0.02, momentum=0.5, centered=True, weight_decay=0.1)),
    ("Adagrad", dict()),
    ("Adagrad", dict(lr=0.1, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.5)),
]


class Pair:
    """The same problem twice: a small curved valley in two parameters."""

    def __init__(self, name, settings, dtype=np.float64):
        rng = np.random.default_rng(0)
        starts = [rng.standard_normal((3, 2)).astype(dtype), rng.standard_normal(3).astype(dtype)]
        self.data = rng.standard_normal((5, 2)).astype(dtype)
        self.ours = [mg.tensor(a, requires_grad=True) for a in starts]
        self.theirs = [torch.tensor(a, requires_grad=True) for a in starts]
        self.optimizers = (
            getattr(optim, name)(self.ours, **settings),
            getattr(torch.optim, name)(self.theirs, **settings),
        )

    def backward(self):
        for o in self.optimizers:
            o.zero_grad()
        w, b = self.ours
        mg.square(mg.tanh(self.data @ w.T) - b).sum().backward()
        w, b = self.theirs
        torch.square(torch.tanh(torch.tensor(self.data) @ w.T) - b).sum().backward()

    def step(self):
        self.backward()
        for o in self.optimizers:
            o.step()

    def compare(self, rtol=1e-10):
        for a, b in zip(self.ours, self.theirs, strict=True):
            np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name, settings", SETTINGS)
def test_optimisers(name, settings):
    pair = Pair(name, settings)
    for _ in range(50):
        pair.step()
        pair.compare()


@pytest.mark.parametrize("name, settings", SETTINGS[3:8:4])
def test_optimisers_in_float32(name, settings):
    pair = Pair(name, settings, np.float32)
    for _ in range(20):
        pair.step()
    pair.compare(1e-4)
    assert pair.ours[0].dtype == np.float32


def test_the_state_of_an_optimiser_is_pytorchs():
    for name, settings in (SETTINGS[2], SETTINGS[6], SETTINGS[13], SETTINGS[15]):
        pair = Pair(name, settings)
        pair.step()
        ours, theirs = (o.state_dict() for o in pair.optimizers)
        assert ours["state"].keys() == theirs["state"].keys()
        for number, state in theirs["state"].items():
            for key, value in state.items():
                if value is not None:
                    np.testing.assert_allclose(
                        ours["state"][number][key], value.numpy(), rtol=1e-12
                    )
        assert ours["param_groups"][0]["params"] == theirs["param_groups"][0]["params"]


@pytest.mark.parametrize(
    "make",
    [
        lambda m, o: m.StepLR(o, 3, 0.5),
        lambda m, o: m.CosineAnnealingLR(o, 8, 0.01),
        lambda m, o: m.CosineAnnealingLR(o, 30),
        lambda m, o: m.MultiStepLR(o, [30, 4, 4, 11], 0.5),
        lambda m, o: m.LinearLR(o),
        lambda m, o: m.LinearLR(o, 0.1, 0.7, 13),
        lambda m, o: m.SequentialLR(
            o, [m.LinearLR(o, 0.1, 1.0, 4), m.CosineAnnealingLR(o, 20), m.StepLR(o, 3)], [4, 24]
        ),
        lambda m, o: m.OneCycleLR(o, 0.3, 50),
        lambda m, o: m.OneCycleLR(
            o, 0.3, epochs=5, steps_per_epoch=11, pct_start=0.4, anneal_strategy="linear"
        ),
        lambda m, o: m.OneCycleLR(o, 0.2, 50, three_phase=True, div_factor=5, max_momentum=0.9),
        lambda m, o: m.OneCycleLR(o, [0.2], 50, cycle_momentum=False, pct_start=0.0),
    ],
)
@pytest.mark.parametrize(
    "name, settings", [("SGD", dict(lr=0.1, momentum=0.9)), ("Adam", dict(lr=0.1))]
)
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
def test_schedules(make, name, settings):
    pair = Pair(name, settings)
    schedules = (
        make(schedule, pair.optimizers[0]),
        make(torch.optim.lr_scheduler, pair.optimizers[1]),
    )
    for _ in range(49):
        pair.step()
        for s in schedules:
            s.step()
        assert schedules[0].get_last_lr() == pytest.approx(schedules[1].get_last_lr(), abs=1e-12)
        for key in ("momentum", "betas"):
            groups = [o.param_groups[0].get(key) for o in pair.optimizers]
            assert groups[0] == pytest.approx(groups[1])
    pair.compare(1e-9)


@pytest.mark.parametrize(
    "settings",
    [
        dict(patience=2),
        dict(patience=0, cooldown=2, factor=0.5, min_lr=0.02),
        dict(mode="max", patience=1, threshold=0.5, threshold_mode="abs"),
        dict(mode="max", patience=1, threshold=0.2),
    ],
)
def test_plateau(settings):
    pair = Pair("SGD", dict(lr=0.1))
    ours = schedule.ReduceLROnPlateau(pair.optimizers[0], **settings)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(pair.optimizers[1], **settings)
    values = np.random.default_rng(3).uniform(0.5, 1.5, 20) * np.linspace(2, 1, 20)
    values[13] = math.nan
    for value in values:
        pair.step()
        ours.step(value)
        theirs.step(value)
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr())
    pair.compare()


@pytest.mark.parametrize("norm", [1.0, 2.0, 3.5, math.inf])
@pytest.mark.parametrize("limit", [0.1, 1e3])
def test_clipping_by_norm(norm, limit):
    pair = Pair("SGD", dict(lr=0.1))
    pair.backward()
    found = optim.clip_grad_norm_(pair.ours, limit, norm)
    wanted = torch.nn.utils.clip_grad_norm_(pair.theirs, limit, norm)
    assert found == pytest.approx(wanted.item(), rel=1e-12)
    for a, b in zip(pair.ours, pair.theirs, strict=True):
        np.testing.assert_allclose(a.grad.data, b.grad.numpy(), rtol=1e-12)


def test_clipping_by_value():
    pair = Pair("SGD", dict(lr=0.1))
    pair.backward()
    optim.clip_grad_value_(pair.ours, 0.3)
    torch.nn.utils.clip_grad_value_(pair.theirs, 0.3)
    for a, b in zip(pair.ours, pair.theirs, strict=True):
        np.testing.assert_array_equal(a.grad.data, b.grad.numpy())


@pytest.mark.parametrize("decay", [0.9, 0.5])
def test_averages_of_weights(decay):
    pair = Pair("SGD", dict(lr=0.1, momentum=0.9))
    model = torch.nn.ParameterList(pair.theirs)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
    )
    pair.theirs = list(model)
    pair.optimizers = (pair.optimizers[0], torch.optim.SGD(pair.theirs, 0.1, momentum=0.9))
    ours = optim.ExponentialMovingAverage(pair.ours, decay)
    for _ in range(50):
        pair.step()
        ours.update()
        average.update_parameters(model)
        for a, b in zip(ours.averages(), average.module, strict=True):
            np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=1e-10)
