"""RMSprop, Adagrad, averages of weights, more schedules and more metrics: values, state, errors."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad_nn import metrics, optim, schedule


def parameter(value=4.0):
    return mg.tensor(np.array([value]), requires_grad=True)


def optimizer(lr=1.0, **settings):
    return optim.SGD([parameter()], lr, **settings)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.RMSprop(p, lr=0.05, momentum=0.5, centered=True),
        lambda p: optim.Adagrad(p, lr=0.5, lr_decay=0.1),
    ],
)
def test_training_resumes_from_saved_state(make):
    def steps(x, o, n):
        for _ in range(n):
            o.zero_grad()
            (x * x).sum().backward()
            o.step()

    x = parameter()
    straight = make([x])
    steps(x, straight, 6)
    assert abs(x.data[0]) < 4.0
    y = parameter()
    stopped = make([y])
    steps(y, stopped, 3)
    z = mg.tensor(y.data, requires_grad=True)
    resumed = make([z])
    resumed.load_state_dict(stopped.state_dict())
    steps(z, resumed, 3)
    assert z.data[0] == x.data[0]


def test_average_is_applied_and_taken_back():
    w = parameter(1.0)
    average = optim.ExponentialMovingAverage([w], 0.5)
    for value in (1.0, 3.0, 5.0):
        w.assign(value)
        average.update()
    assert average.averages()[0].tolist() == [3.5]  # ((1 + 3) / 2 + 5) / 2
    with pytest.raises(RuntimeError, match="inside"), average.applied():
        assert w.tolist() == [3.5]
        raise RuntimeError("inside")
    assert w.tolist() == [5.0]
    other = optim.ExponentialMovingAverage(w, 0.9)
    other.load_state_dict(average.state_dict())
    w.assign(7.5)
    other.update()
    average.update()
    assert other.averages()[0].tolist() == average.averages()[0].tolist() == [5.5]
    other.copy_to()
    assert w.tolist() == [5.5]
    for state, message in (({}, "fields"), ({**average.state_dict(), "averages": []}, "shapes")):
        with pytest.raises(ValueError, match=message):
            other.load_state_dict(state)


def rates(s, n):
    found = []
    for _ in range(n):
        found.append(s.get_last_lr()[0])
        s.step()
    return found


def test_schedules():
    found = rates(schedule.MultiStepLR(optimizer(), [4, 2], 0.5), 6)
    assert found == [1, 1, 0.5, 0.5, 0.25, 0.25]
    found = rates(schedule.LinearLR(optimizer(2.0), 0.25, total_iters=3), 5)
    assert found == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    o = optimizer()
    parts = [schedule.LinearLR(o, 0.5, total_iters=2), schedule.StepLR(o, 1, 0.1)]
    assert rates(schedule.SequentialLR(o, parts, [2]), 5) == pytest.approx(
        [0.5, 0.75, 1.0, 0.1, 0.01]
    )
    o = optimizer(momentum=0.9)
    one = schedule.OneCycleLR(o, 1.0, 11, pct_start=0.5, anneal_strategy="linear")
    momenta = []
    found = []
    for _ in range(11):
        found.append(o.param_groups[0]["lr"])
        momenta.append(o.param_groups[0]["momentum"])
        one.step()
    # The peak may lie between two steps.
    assert found[0] == pytest.approx(0.04) and 0.9 < max(found) <= 1.0
    assert found[-1] == pytest.approx(4e-6)
    assert momenta[0] == 0.95 and 0.85 <= min(momenta) < 0.87 and momenta[-1] == 0.95
    with pytest.raises(ValueError, match="the cycle has 11"):
        one.step()


@pytest.mark.parametrize(
    "make",
    [
        lambda o: schedule.MultiStepLR(o, [2, 4]),
        lambda o: schedule.LinearLR(o),
        lambda o: schedule.OneCycleLR(o, 0.3, 20),
        lambda o: schedule.SequentialLR(
            o, [schedule.LinearLR(o), schedule.CosineAnnealingLR(o, 9)], [3]
        ),
    ],
)
def test_schedules_resume(make):
    straight = make(optimizer(momentum=0.9))
    rates(straight, 6)
    stopped = make(optimizer(momentum=0.9))
    rates(stopped, 3)
    resumed = make(optimizer(momentum=0.9))
    resumed.load_state_dict(stopped.state_dict())
    rates(resumed, 3)
    assert resumed.get_last_lr() == straight.get_last_lr()
    assert resumed.state_dict() == straight.state_dict()


def test_overlap_of_regions():
    target = np.array([[0, 0, 1], [1, 1, 255]])
    found = np.array([[0, 1, 1], [1, 0, 2]])
    iou = metrics.region_iou(found, target, 4, ignore_index=255)
    np.testing.assert_allclose(iou, [1 / 3, 2 / 4, math.nan, math.nan])
    assert metrics.mean_iou(mg.tensor(found), target, 4, 255) == pytest.approx(5 / 12)
    assert metrics.mean_iou(target[:1], target[:1], 2) == 1.0
    assert math.isnan(metrics.mean_iou(np.zeros(0, int), np.zeros(0, int), 2))


def test_precision():
    assert metrics.average_precision([3, 2, 1], [1, 1, 0]) == 1.0
    assert metrics.average_precision([1, 2, 3], [1, 0, 0]) == pytest.approx(1 / 3)
    # Equal scores are no knowledge: the share of yes.
    assert metrics.average_precision(np.zeros(4), [1, 0, 0, 0]) == 0.25
    assert math.isnan(metrics.average_precision([1.0], [0]))
    assert metrics.mean_average_precision([[3.0, 0.0], [0.0, 2.0]], [0, 1]) == 1.0


WRONG = [
    (lambda: optim.RMSprop([parameter()], alpha=1.0), "alpha"),
    (lambda: optim.RMSprop([parameter()], momentum=-1), "momentum"),
    (lambda: optim.Adagrad([parameter()], lr_decay=-1), "lr_decay"),
    (lambda: optim.ExponentialMovingAverage([]), "no parameters"),
    (lambda: optim.ExponentialMovingAverage([parameter()], 1.5), "decay"),
    (lambda: schedule.MultiStepLR(optimizer(), []), "milestones"),
    (lambda: schedule.LinearLR(optimizer(), 0.0), "start_factor"),
    (lambda: schedule.LinearLR(optimizer(), total_iters=0), "total_iters"),
    (lambda: schedule.OneCycleLR(optimizer(), 1.0), "total_steps"),
    (lambda: schedule.OneCycleLR(optimizer(), 1.0, 1), "at least 2"),
    (lambda: schedule.OneCycleLR(optimizer(), 1.0, 9, pct_start=2), "pct_start"),
    (lambda: schedule.OneCycleLR(optimizer(), 1.0, 9, anneal_strategy="x"), "anneal_strategy"),
    (lambda: schedule.OneCycleLR(optimizer(), [1.0, 2.0], 9), "1 numbers"),
    (lambda: schedule.OneCycleLR(optim.Adagrad([parameter()]), 1.0, 9), "neither momentum"),
    (lambda: schedule.SequentialLR(optimizer(), [], [1]), "milestones"),
    (
        lambda: schedule.SequentialLR(optimizer(), [schedule.LinearLR(optimizer())], []),
        "this optimizer",
    ),
    (lambda: metrics.mean_iou([0, 1], [0], 2), "shape"),
    (lambda: metrics.mean_iou([0, 2], [0, 1], 2), "predictions reach"),
    (lambda: metrics.average_precision([[1.0]], [[1]]), r"\(N,\)"),
    (lambda: metrics.average_precision([math.nan], [1]), "NaN"),
    (lambda: metrics.average_precision([1.0], [2]), "0 and 1"),
    (lambda: metrics.mean_average_precision([1.0], [[1]]), "shapes"),
]


@pytest.mark.parametrize("call, message", WRONG)
def test_wrong_use_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_cycle_stands_alone():
    o = optimizer(momentum=0.9)
    with pytest.raises(ValueError, match="use it alone"):
        schedule.SequentialLR(o, [schedule.OneCycleLR(o, 0.1, 9)], [])
