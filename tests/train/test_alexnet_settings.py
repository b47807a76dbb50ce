"""AlexNet's recipe as settings of `fit`."""

import numpy as np
import pytest

import minigrad
import minigrad_nn as nn
from minigrad_nn.data import ArrayDataset, Loader
from minigrad_nn.train import fit
from minigrad_nn.train.recipes import alexnet_settings


def loaders():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    return Loader(ArrayDataset(x, y), 16), Loader(ArrayDataset(x, y), 64)


def test_it_is_the_papers_update():
    """Section 5: v := 0.9 v − 0.0005 ε w − ε ∂L/∂w, w := w + v."""
    layer = nn.Linear(2, 1, bias=False)
    w, v, lr = layer.weight.numpy().copy(), 0.0, 0.01
    optimizer = alexnet_settings(layer)["optimizer"]
    for _ in range(4):
        optimizer.zero_grad()
        layer(minigrad.tensor([[1.0, -2.0]])).sum().backward()
        optimizer.step()
        v = 0.9 * v - 0.0005 * lr * w - lr * np.array([[1.0, -2.0]])
        w = w + v
    assert np.allclose(layer.weight.numpy(), w, rtol=1e-6)


def test_the_rate_is_cut_by_ten_on_a_plateau_and_so_often_at_most():
    train, test = loaders()
    model = nn.Linear(4, 2)
    settings = alexnet_settings(model, lr=0.0001, patience=0, cuts=2, monitor="validation_accuracy")
    run = fit(model, train, epochs=12, validation=test, **settings)
    rates = [row["lr"] for row in run.history]
    assert rates[0] == pytest.approx(1e-4)
    distinct = sorted({round(rate, 12) for rate in rates}, reverse=True)
    assert distinct == pytest.approx([1e-4, 1e-5, 1e-6][: len(distinct)]) and len(distinct) > 1


def test_frozen_parameters_are_left_out_and_bad_numbers_refused():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    groups = alexnet_settings(model)["optimizer"].param_groups
    assert [p.shape for p in groups[0]["params"]] == [(2, 3), (2,)]
    with pytest.raises(ValueError, match=r"cuts must be a whole number"):
        alexnet_settings(model, cuts=-1)
    model[1].requires_grad_(False)
    with pytest.raises(ValueError, match=r"no parameters given"):
        alexnet_settings(model)
