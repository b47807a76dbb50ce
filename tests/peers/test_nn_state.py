"""Weights carry over: a PyTorch model's state in ours gives its outputs and gradients."""

import numpy as np
import pytest
import torch

import minigrad as mg
import minigrad_nn as nn


def lenet(nn, flatten):
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
        flatten(),
        nn.Linear(400, 120),
        nn.Sigmoid(),
        nn.Linear(120, 10),
    )


def residual(nn, flatten):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(4)
            self.conv2 = nn.Conv2d(4, 4, 3, padding=1, groups=2)
            self.bn2 = nn.BatchNorm2d(4, affine=False)
            self.down = nn.Sequential(
                nn.Conv2d(3, 4, 1, stride=2), nn.BatchNorm2d(4, momentum=None)
            )
            self.relu = nn.ReLU()
            self.flatten = flatten()
            self.fc = nn.Linear(64, 3)

        def forward(self, x):
            y = self.relu(self.bn1(self.conv1(x)))
            y = self.relu(self.bn2(self.conv2(y)) + self.down(x))
            return self.fc(self.flatten(y))

    return Block()


def volumes(nn, flatten):
    return nn.Sequential(
        nn.Conv3d(1, 2, 2, dilation=2),
        nn.BatchNorm3d(2),
        nn.MaxPool3d(2, stride=1),
        flatten(),
        nn.Linear(2 * 27, 3),
    )


def signals(nn, flatten):
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, padding="same"),
        nn.BatchNorm1d(4),
        nn.AvgPool1d(3, 2, 1),
        flatten(),
        nn.Linear(4 * 4, 3),
        nn.BatchNorm1d(3),
    )


@pytest.mark.parametrize(
    "build, shape",
    [
        (lenet, (3, 1, 28, 28)),
        (residual, (4, 3, 8, 8)),
        (volumes, (2, 1, 6, 6, 6)),
        (signals, (5, 2, 8)),
    ],
)
def test_state_outputs_and_gradients(build, shape):
    torch.manual_seed(0)
    theirs = build(torch.nn, torch.nn.Flatten).double()
    for _ in range(2):  # running statistics that differ from the start
        theirs(torch.randn(shape, dtype=torch.float64) * 2 + 1)
    ours = build(nn, nn.Flatten).astype(mg.float64)
    state = theirs.state_dict()
    own = ours.state_dict()
    assert [(k, v.shape) for k, v in own.items()] == [(k, tuple(v.shape)) for k, v in state.items()]
    assert own.keys() == state.keys()
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    ours.load_state_dict(state)

    rng = np.random.default_rng(0)
    data, target = rng.standard_normal(shape), rng.integers(0, 3, shape[0])
    for mode in (False, True):
        ours.train(mode)
        theirs.train(mode)
        x, t = mg.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
        y, ty = ours(x), theirs(t)
        np.testing.assert_allclose(y.data, ty.detach().numpy(), rtol=1e-9, atol=1e-11)
        ours.zero_grad()
        theirs.zero_grad()
        nn.functional.cross_entropy(y, target).backward()
        torch.nn.functional.cross_entropy(ty, torch.tensor(target)).backward()
        np.testing.assert_allclose(x.grad.data, t.grad.numpy(), rtol=1e-7, atol=1e-10)
        gradients = dict(theirs.named_parameters())
        for name, p in ours.named_parameters():
            wanted = gradients[name].grad.numpy()
            np.testing.assert_allclose(p.grad.data, wanted, rtol=1e-7, atol=1e-10, err_msg=name)
    # The running statistics moved alike, and go back to PyTorch as they are.
    moved = {k: torch.tensor(v) for k, v in ours.state_dict().items()}
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(moved[name].numpy(), value.numpy(), rtol=1e-10, err_msg=name)
    theirs.load_state_dict(moved)


def test_float32_agrees_to_its_precision():
    torch.manual_seed(1)
    theirs, ours = lenet(torch.nn, torch.nn.Flatten), lenet(nn, nn.Flatten)
    ours.load_state_dict(theirs.state_dict())
    data = np.random.default_rng(1).standard_normal((8, 1, 28, 28)).astype(np.float32)
    y, ty = ours(mg.tensor(data)), theirs(torch.tensor(data))
    np.testing.assert_allclose(y.data, ty.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_default_weights_have_the_spread_of_pytorchs():
    mg.manual_seed(0)
    torch.manual_seed(0)
    for make in (lambda n: n.Linear(200, 300), lambda n: n.Conv2d(16, 32, 5, groups=2)):
        a, b = make(nn), make(torch.nn)
        for name in ("weight", "bias"):
            found = getattr(a, name).data
            wanted = getattr(b, name).detach().numpy()
            assert np.abs(found).max() == pytest.approx(np.abs(wanted).max(), rel=0.1)
            if name == "weight":
                assert found.std() == pytest.approx(wanted.std(), rel=0.03)


def test_gains_are_pytorchs():
    for name in ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "conv2d"):
        assert nn.init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
