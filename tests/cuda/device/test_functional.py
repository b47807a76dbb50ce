"""Every function of `minigrad_nn.functional` on a card: values and gradients equal the CPU's."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn.functional import recurrent
from tests.nn import samples, test_orders

# Ops behind the public functions, called here with the host's arrays of indices or classes; and
# losses whose targets are the host's: what is public and takes them is among the rest.
WITH_HOST_ARRAYS = {
    *("gather", "scatter", "max_pool_input", "pick", "place"),
    *("read_rows", "add_rows", "batch_norm_given"),
    *("binary_cross_entropy_with_logits", "sigmoid_focal_loss", "instance_norm-1"),
}
ROWS = {
    f"{name}-{i}": row
    for table in (test_orders.SAMPLES, samples.OPS, samples.FUNCTIONS)
    for name, rows in table.items()
    for i, row in enumerate(rows)
    if not {name, f"{name}-{i}"} & WITH_HOST_ARRAYS
}


def computed(function, inputs, device):
    """The results, and the gradients of their sum, by each input."""
    leaves = [mg.tensor(x).to(device).requires_grad_() for x in inputs]
    mg.manual_seed(3)
    with np.errstate(all="ignore"):
        found = function(*leaves)
        parts = [found] if isinstance(found, mg.Tensor) else list(found)
        rng = np.random.default_rng(5)
        for part in parts:
            if part.requires_grad:
                part.backward(rng.standard_normal(part.shape), retain_graph=True)
    assert {part.device for part in parts} == {mg.backend.get_device(device).name}
    gradients = [None if leaf.grad is None else leaf.grad.numpy() for leaf in leaves]
    return [*(part.numpy() for part in parts), *gradients]


# Compiling the CPU's kernels to compare with, and simulating those of the card, takes minutes.
FEW = ("silu-0", "softplus-1", "embedding-0", "pad-1", "log_softmax-0", "norm_depthwise_norm-2")


def test_few_are_there():
    assert set(FEW) <= set(ROWS)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in FEW else [pytest.mark.full]) for n in ROWS]
)
def test_function_equals_the_cpu(name):
    function, *inputs = ROWS[name]
    wanted = computed(function, inputs, "cpu")
    found = computed(function, inputs, "cuda")
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert one.shape == other.shape and one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_sequences_that_end_before_the_last_step_equal_the_cpu(kind, card, monkeypatch):
    """In both directions, by the card's kernels: nothing is unrolled into steps on the graph."""
    x = np.random.default_rng(0).standard_normal((4, 3, 2))

    def stepped(device):
        mg.manual_seed(2)
        layer = getattr(nn, kind)(2, 2, bidirectional=True)
        layer.to(device)
        leaf = mg.tensor(x, dtype=mg.float32).to(device).requires_grad_()
        y, last = layer(leaf, lengths=[4, 0, 2])
        parts = [y, *(last if isinstance(last, tuple) else (last,))]
        sum((part * part).sum() for part in parts).backward()
        assert {part.device for part in parts} == {mg.backend.get_device(device).name}
        gradients = [leaf, *layer.parameters()]
        return [*(part.numpy() for part in parts), *(p.grad.numpy() for p in gradients)]

    wanted = stepped("cpu")
    monkeypatch.setattr(recurrent, "one_by_one", None)
    for one, other in zip(stepped("cuda"), wanted, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)
