"""Recurrent layers: the lecture's formula, lengths, truncation, modes, and what errors say."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import functional as F

rng = np.random.default_rng(0)


def test_the_formula_of_the_lecture():
    layer = nn.RNN(2, 3, bias=False, dtype=np.float64)
    x = rng.standard_normal((5, 1, 2))
    states, last = layer(mg.tensor(x))
    h = np.zeros(3)
    for t in range(5):
        h = np.tanh(layer.weight_hh_l0.data @ h + layer.weight_ih_l0.data @ x[t, 0])
        np.testing.assert_allclose(states.data[t, 0], h)
    np.testing.assert_allclose(last.data[0, 0], h)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_a_short_sequence_is_as_if_it_were_alone(kind):
    layer = kind(2, 3, num_layers=2, bidirectional=True, dtype=np.float64)
    x = rng.standard_normal((5, 3, 2))
    lengths = np.array([5, 2, 0])
    x[2:, 1] = np.nan  # what stands behind the end is never looked at
    y, last = layer(mg.tensor(x), lengths=lengths)
    alone, end = layer(mg.tensor(x[:2, 1:2]))
    np.testing.assert_allclose(y.data[:2, 1], alone.data[:, 0])
    assert (y.data[2:, 1] == 0).all() and (y.data[:, 2] == 0).all()
    for a, b in zip(*((s if isinstance(s, tuple) else (s,)) for s in (last, end)), strict=True):
        np.testing.assert_allclose(a.data[:, 1], b.data[:, 0])
        assert (a.data[:, 2] == 0).all()


def test_truncation_hands_on_values_but_no_gradients():
    layer = nn.RNN(1, 4, dtype=np.float64)
    x = rng.standard_normal((6, 2, 1))
    whole, _ = layer(mg.tensor(x))
    found = []

    def loss(outputs, start, stop):
        found.append((outputs.data, start, stop))
        return (outputs**2).sum()

    pieces = list(nn.truncated_bptt(layer, mg.tensor(x), loss, steps=4))
    assert [(a, b) for _, a, b in found] == [(0, 4), (4, 6)]
    np.testing.assert_allclose(np.concatenate([y for y, _, _ in found]), whole.data)
    truncated = layer.weight_hh_l0.grad.data.copy()
    # The same by hand: the second piece from a constant state.
    layer.zero_grad()
    y, h = layer(mg.tensor(x[:4]))
    z, _ = layer(mg.tensor(x[4:]), mg.tensor(h.data))
    ((y**2).sum() + (z**2).sum()).backward()
    np.testing.assert_allclose(layer.weight_hh_l0.grad.data, truncated)
    layer.zero_grad()
    (layer(mg.tensor(x))[0] ** 2).sum().backward()
    assert not np.allclose(layer.weight_hh_l0.grad.data, truncated)
    assert sum(value for value, _ in pieces) == pytest.approx((whole.data**2).sum())
    assert not pieces[-1][1].requires_grad
    h, c = nn.detached(nn.LSTM(1, 4)(mg.zeros((2, 1, 1)))[1])
    assert not h.requires_grad and not c.requires_grad


def test_dropout_between_layers_only_while_training():
    layer = nn.GRU(2, 8, num_layers=2, dropout=0.5)
    x = mg.tensor(rng.standard_normal((3, 2, 2)).astype("f"))
    assert (layer(x)[0].data != layer(x)[0].data).any()
    layer.eval()
    assert (layer(x)[0].data == layer(x)[0].data).all()
    assert repr(layer) == "GRU(2, 8, num_layers=2, dropout=0.5)"


def test_it_learns_to_remember_the_first_number():
    mg.manual_seed(0)
    draw = np.random.default_rng(0)
    layer, head = nn.LSTM(1, 16), nn.Linear(16, 2)
    parameters = [*layer.parameters(), *head.parameters()]
    optimizer = nn.optim.Adam(parameters, lr=0.05)
    for _ in range(80):
        bits = draw.integers(0, 2, (5, 32, 1))
        loss = F.cross_entropy(head(layer(mg.tensor(bits.astype("f")))[0][-1]), bits[0, :, 0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


X = mg.zeros((4, 2, 3))
WRONG = [
    (lambda: nn.RNN(3, 5)(mg.zeros((4, 2, 2))), r"RNN: x must be \(T, N, 3\)"),
    (lambda: nn.GRU(3, 5, batch_first=True)(mg.zeros((4, 2))), r"GRU: x must be \(N, T, 3\)"),
    (lambda: nn.LSTM(3, 5)(X, (mg.zeros((1, 2, 4)),) * 2), "the state must have shape"),
    (lambda: nn.RNN(3, 5)(X, lengths=[4]), "2 integers"),
    (lambda: nn.RNN(3, 5)(X, lengths=[4, 5]), "but x has 4 steps"),
    (lambda: nn.RNN(3, 5)(mg.zeros((0, 2, 3))), "has no step"),
    (lambda: nn.RNN(3, 5, nonlinearity="sigmoid"), "nonlinearity"),
    (lambda: nn.RNN(3, 0), "at least 1"),
    (lambda: nn.RNN(3, 5, num_layers=0), "num_layers"),
    (lambda: nn.RNN(3, 5, dropout=2.0), "dropout"),
    (lambda: nn.RNNCell(3, 5)(X), r"x must be \(N, inputs\)"),
    (lambda: nn.RNNCell(3, 5)(mg.zeros((2, 4))), "w_ih must be"),
    (lambda: nn.GRUCell(3, 5)(mg.zeros((2, 3)), mg.zeros((3, 5))), "the state must have shape"),
    (lambda: list(nn.truncated_bptt(nn.RNN(3, 5), X, None, 0)), "steps must be"),
]


@pytest.mark.parametrize("call, message", WRONG)
def test_wrong_use_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
