"""A training step on a card equals the CPU's: loss, gradients, parameters after it."""

import gc

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import functional as F
from minigrad_nn.kernels.cuda.driver import simulated
from minigrad_nn.models import LeNet5
from minigrad_nn.train.pictures import model_graph


def stepped(make, shape, classes, device):
    """One step of SGD with momentum; gives the loss, and gradients and parameters by name."""
    mg.manual_seed(0)
    model = make().to(device)
    optimizer = nn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    x = mg.tensor(np.random.default_rng(0).normal(size=shape).astype("f")).to(device)
    loss = F.cross_entropy(model(x), classes)
    loss.backward()
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters()}
    optimizer.step()
    assert {p.device for p in model.parameters()} == {mg.backend.get_device(device).name}
    return loss.item(), gradients, {name: p.numpy() for name, p in model.named_parameters()}


def agree(*arguments):
    wanted, found = stepped(*arguments, "cpu"), stepped(*arguments, "cuda")
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5)
    for name in wanted[1]:
        for kind in 1, 2:
            np.testing.assert_allclose(
                found[kind][name], wanted[kind][name], rtol=1e-4, atol=2e-6, err_msg=name
            )


def test_two_layers():
    agree(lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), (2, 3), [1, 0])


@pytest.mark.full
def test_lenet5():
    agree(LeNet5, (1, 1, 28, 28), [3])


OPTIMIZERS = {
    "nesterov": lambda p: nn.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adam": lambda p: nn.optim.Adam(p, lr=0.1),
    "adamw": lambda p: nn.optim.AdamW(p, lr=0.1),
    "rmsprop": lambda p: nn.optim.RMSprop(p, lr=0.1, momentum=0.5, centered=True),
    "adagrad": lambda p: nn.optim.Adagrad(p, lr=0.1),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_every_optimizer(make):
    found = []
    for device in "cpu", "cuda":
        weight = nn.Parameter(np.arange(-2.0, 4.0, dtype=np.float32).reshape(2, 3))
        layer = nn.ModuleList()
        layer.weight = weight
        layer.to(device)
        optimizer = make(layer.parameters())
        average = nn.optim.ExponentialMovingAverage(layer.parameters(), 0.5)
        for _ in range(3):
            optimizer.zero_grad()
            (weight**3).sum().backward()
            nn.optim.clip_grad_norm_(layer.parameters(), 5.0)
            optimizer.step()
            average.update()
            optimizer.load_state_dict(optimizer.state_dict())
        assert weight.device == mg.backend.get_device(device).name
        with average.applied():
            found.append((weight.numpy().copy(), weight.grad.numpy()))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [10, pytest.param(300, marks=pytest.mark.full)])
def test_memory_does_not_grow_from_step_to_step(card, steps):
    """Nor with the garbage collector off: nothing of a step waits for it."""
    if not simulated():
        steps *= 100
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5), nn.ReLU()).to("cuda")
    optimizer = nn.optim.Adam(model.parameters(), lr=0.01)
    x = mg.tensor(np.ones((2, 3), np.float32)).to("cuda")

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), [1, 0])
        loss.backward()
        optimizer.step()
        loss.item()

    for _ in range(3):  # tables, states of the optimiser, and memory to hand out again
        step()
    gc.collect()
    before = mg.cuda.memory_stats()
    gc.disable()
    try:
        mg.cuda.reset_peak_memory()
        step()
        peak = mg.cuda.memory_stats().peak_allocated
        for _ in range(steps):
            step()
    finally:
        gc.enable()
    after = mg.cuda.memory_stats()
    assert after.requests > before.requests + 5 * steps
    assert (after.allocated, after.arrays) == (before.allocated, before.arrays)
    assert (after.reserved, after.segments) == (before.reserved, before.segments)
    assert after.peak_allocated == peak


def test_the_graph_of_a_model_is_drawn_where_it_is():
    mg.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).to("cuda")
    graph = model_graph(model, np.ones((2, 1, 2, 2), "f"), np.array([1, 0])).graph
    for name in ("pictures", "1.weight"):
        assert graph.named(name).gradient_norm > 0
