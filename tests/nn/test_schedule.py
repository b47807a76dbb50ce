"""Schedules: values by their formulas, state, and what wrong use is told."""

import math

import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn.optim import SGD
from minigrad_nn.schedule import CosineAnnealingLR, ReduceLROnPlateau, StepLR


def optimizer(lr=1.0):
    return SGD([mg.tensor(0.0, requires_grad=True)], lr)


def run(schedule, epochs):
    found = []
    for _ in range(epochs):
        found.append(schedule.get_last_lr()[0])
        schedule.step()
    return found


def test_steps():
    assert run(StepLR(optimizer(), 3, 0.5), 7) == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_cosine():
    found = run(CosineAnnealingLR(optimizer(2.0), 10, 0.5), 11)
    wanted = [0.5 + 1.5 * (1 + math.cos(math.pi * t / 10)) / 2 for t in range(11)]
    assert found == pytest.approx(wanted)
    assert found[0] == 2.0 and found[10] == pytest.approx(0.5)
    assert run(CosineAnnealingLR(optimizer(0.0), 10), 3) == [0, 0, 0]


def test_plateau():
    target = optimizer()
    schedule = ReduceLROnPlateau(target, factor=0.1, patience=1, cooldown=1, min_lr=0.05)
    values = [5.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 3.0, 3.0, 3.0]
    found = []
    for value in values:
        schedule.step(mg.tensor(value))
        found.append(schedule.get_last_lr()[0])
    assert found == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05])
    assert schedule.best == 3.0


def test_plateau_upwards_and_by_difference():
    schedule = ReduceLROnPlateau(optimizer(), "max", 0.5, 0, 0.1, "abs")
    for value, wanted in ((0.5, 1), (0.55, 0.5), (0.65, 0.5), (math.nan, 0.25)):
        schedule.step(value)
        assert schedule.get_last_lr() == [wanted]


@pytest.mark.parametrize(
    "make",
    [
        lambda o: StepLR(o, 2, 0.5),
        lambda o: CosineAnnealingLR(o, 7),
        lambda o: ReduceLROnPlateau(o, patience=1),
    ],
)
def test_state_resumes(make):
    def step(schedule, n):
        for _ in range(n):
            schedule.step(*([1.0] if isinstance(schedule, ReduceLROnPlateau) else []))

    straight = make(optimizer())
    step(straight, 6)
    stopped = make(optimizer())
    step(stopped, 3)
    target = optimizer()
    resumed = make(target)
    target.load_state_dict(stopped.optimizer.state_dict())
    resumed.load_state_dict(stopped.state_dict())
    step(resumed, 3)
    assert resumed.get_last_lr() == straight.get_last_lr()
    assert resumed.state_dict() == straight.state_dict()
    assert "optimizer" not in straight.state_dict()
    with pytest.raises(ValueError, match="fields"):
        resumed.load_state_dict({"gamma": 1})


def test_wrong_settings_are_told():
    for call, message in (
        (lambda: StepLR(optimizer(), 0), "step_size"),
        (lambda: CosineAnnealingLR(optimizer(), 0), "T_max"),
        (lambda: ReduceLROnPlateau(optimizer(), "least"), "mode"),
        (lambda: ReduceLROnPlateau(optimizer(), factor=1.0), "factor"),
        (lambda: ReduceLROnPlateau(optimizer(), threshold_mode="x"), "threshold_mode"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_schedule_wants_an_optimizer():
    with pytest.raises(TypeError, match="StepLR: needs an optimizer .* got Linear"):
        StepLR(nn.Linear(2, 2), 3)
