"""Every op of the engine on a card: values, dtypes and first derivatives equal those of the CPU."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

import minigrad as mg
from minigrad.testing import View
from tests.engine.samples import SAMPLES

few = settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def computed(sample, arguments, params, device):
    """Results and gradients, as NumPy arrays, of a sample computed on a device."""
    leaves, values = [], []
    for argument in arguments:
        base = argument.base if isinstance(argument, View) else argument
        if not isinstance(base, np.ndarray):
            values.append(argument)
            continue
        leaf = mg.tensor(base).to(device)
        if sample.order and base.dtype.kind == "f":
            leaf.requires_grad_()
            leaves.append(leaf)
        values.append(argument.apply(leaf) if isinstance(argument, View) else leaf)
    params = {
        name: mg.tensor(p).to(device) if isinstance(p, np.ndarray) and p.dtype.kind == "f" else p
        for name, p in params.items()
    }
    with np.errstate(all="ignore"):
        found = sample.function(*values, **params)
        parts = [found] if isinstance(found, mg.Tensor) else list(found)
        assert all(part.device == mg.backend.get_device(device).name for part in parts)
        results = [part.numpy() for part in parts]
        live = [part for part in parts if part.requires_grad]
        rng = np.random.default_rng(0)
        for part in live:
            g = rng.normal(size=part.shape).astype(part.dtype)
            part.backward(mg.tensor(g).to(device), retain_graph=True)
    for leaf in leaves:
        if leaf.grad is not None:
            assert leaf.grad.device == leaf.device
            results.append(leaf.grad.numpy())
    return results


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_op_equals_the_cpu(sample):
    @few
    @given(sample.arguments)
    def run(drawn):
        arguments, params = drawn
        wanted = computed(sample, arguments, params, "cpu")
        found = computed(sample, arguments, params, "cuda")
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert one.shape == other.shape and one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)

    run()
