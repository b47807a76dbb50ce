"""Recurrent cells and layers against PyTorch: weights carry over, packed sequences, gradients."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import minigrad as mg
import minigrad_nn as nn

KINDS = [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("LSTM", {}), ("GRU", {})]
LENGTHS = np.array([4, 1, 3])


def pair(name, *args, **settings):
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*args, **settings).double()
    ours = getattr(nn, name)(*args, **settings).astype(mg.float64)
    state = theirs.state_dict()
    own = ours.state_dict()
    assert [(k, v.shape) for k, v in own.items()] == [(k, tuple(v.shape)) for k, v in state.items()]
    ours.load_state_dict(state)
    return ours, theirs


def flat(value):
    return [value] if not isinstance(value, tuple) else list(value)


def check(ours, theirs, x, t, found, wanted):
    """Values, and gradients of a weighted sum of all outputs."""
    rng = np.random.default_rng(0)
    total, ttotal = 0.0, 0.0
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=1e-9, atol=1e-12)
        weights = rng.standard_normal(a.shape)
        total = total + (a * a * weights).sum()
        ttotal = ttotal + (b * b * torch.tensor(weights)).sum()
    total.backward()
    ttotal.backward()
    np.testing.assert_allclose(x.grad.data, t.grad.numpy(), rtol=1e-8, atol=1e-11)
    gradients = dict(theirs.named_parameters())
    for name, p in ours.named_parameters():
        np.testing.assert_allclose(
            p.grad.data, gradients[name].grad.numpy(), rtol=1e-8, atol=1e-11, err_msg=name
        )


@pytest.mark.parametrize("name, settings", KINDS)
@pytest.mark.parametrize("layers, both", list(itertools.product((1, 2), (False, True))))
@pytest.mark.parametrize(
    "bias, first, given, packed",
    [
        (True, False, True, False),
        (False, True, False, False),
        (True, True, True, True),
    ],
)
def test_layers(name, settings, layers, both, bias, first, given, packed):
    ours, theirs = pair(
        name, 3, 5, num_layers=layers, bidirectional=both, bias=bias, batch_first=first, **settings
    )
    rng = np.random.default_rng(1)
    data = rng.standard_normal((3, 4, 3) if first else (4, 3, 3))
    x, t = mg.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    count = 2 if name == "LSTM" else 1
    starts = [rng.standard_normal((layers * (1 + both), 3, 5)) for _ in range(count)]
    state, tstate = None, None
    if given:
        state = tuple(map(mg.tensor, starts)) if count == 2 else mg.tensor(starts[0])
        tstate = tuple(map(torch.tensor, starts)) if count == 2 else torch.tensor(starts[0])
    y, last = ours(x, state, LENGTHS if packed else None)
    if packed:
        sequence = pack_padded_sequence(t, torch.tensor(LENGTHS), first, enforce_sorted=False)
        ty, tlast = theirs(sequence, tstate)
        ty, _ = pad_packed_sequence(ty, first)
    else:
        ty, tlast = theirs(t, tstate)
    check(ours, theirs, x, t, [y, *flat(last)], [ty, *flat(tlast)])


@pytest.mark.parametrize("name, settings", KINDS)
@pytest.mark.parametrize("bias", [False, True])
def test_cells(name, settings, bias):
    ours, theirs = pair(f"{name}Cell", 3, 5, bias=bias, **settings)
    data = np.random.default_rng(2).standard_normal((4, 2, 3))
    x, t = mg.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    state, tstate = None, None
    for i in range(4):
        state, tstate = ours(x[i], state), theirs(t[i], tstate)
    check(ours, theirs, x, t, flat(state), flat(tstate))


def test_default_weights_have_the_spread_of_pytorchs():
    ours, theirs = nn.LSTM(20, 30), torch.nn.LSTM(20, 30)
    for name, p in theirs.named_parameters():
        found = np.abs(getattr(ours, name).data).max()
        assert found == pytest.approx(p.abs().max().item(), rel=0.15)
