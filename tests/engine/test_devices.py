"""Devices: a registry of array types and kernels; a fake device stands in for a real one."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import backend
from tests.devices import keep_registries, register_fake


@pytest.fixture
def fake(monkeypatch):
    """A device `fake:0` with kernels for a few ops; gone again afterwards."""
    keep_registries(monkeypatch)
    return register_fake([mg.multiply, mg.add, mg.exp, mg.negative])


def test_the_cpu_is_always_there():
    assert mg.tensor([1.0]).device == "cpu"
    x = mg.tensor([1.0])
    assert x.to("cpu") is x


def test_an_unknown_device_is_told():
    with pytest.raises(ValueError, match="unknown device 'cuda:7'; known here: cpu"):
        mg.tensor([1.0]).to("cuda:7")


def test_a_tensor_moves_there_and_back(fake):
    x = mg.tensor(np.array([1.0, 2.0]))
    there = x.to(fake)
    assert (there.device, there.shape, there.dtype) == (fake, (2,), mg.float64)
    np.testing.assert_array_equal(there.numpy(), x.numpy())
    np.testing.assert_array_equal(there.to("cpu").numpy(), x.numpy())
    assert there.to("cpu").device == "cpu"


def test_ops_run_where_their_arguments_lie(fake):
    x = mg.tensor(np.array([1.0, 2.0])).to(fake)
    y = mg.exp(x * x) + 1.0
    assert y.device == fake
    np.testing.assert_allclose(y.numpy(), np.exp([1.0, 4.0]) + 1.0)


def test_gradients_flow_across_a_move(fake):
    x = mg.tensor(np.array([1.0, 2.0]), requires_grad=True)
    y = (x.to(fake) * x.to(fake)).to("cpu")
    y.backward(np.ones(2))
    assert x.grad.device == "cpu"
    np.testing.assert_allclose(x.grad.numpy(), [2.0, 4.0])


def test_mixing_devices_is_told(fake):
    x = mg.tensor(np.array([1.0, 2.0]))
    there = x.to(fake)
    wanted = "multiply: argument 0 on cpu, argument 1 on fake:0; move them to one device"
    with pytest.raises(TypeError, match=wanted):
        x * there
    with pytest.raises(TypeError, match="argument 0 on fake:0, argument 1 on cpu"):
        there + np.ones(2)
    with pytest.raises(TypeError, match="argument 0 on cpu, argument 1 on fake:0"):
        mg.add(np.ones(2), there._data)


def test_kernels_can_replace_those_of_the_cpu(fake):
    seen = []

    def kernel(x):
        seen.append(x.shape)
        return np.exp(x)

    backend.register_kernel("exp", "cpu", kernel)
    mg.check_gradients(mg.exp, np.ones(2))
    assert seen and set(seen) == {(2,)}


def test_interposed_wrappers_see_every_computation():
    log = []

    def wrapper(name):
        def wrap(proceed, op, args, params):
            log.append((name, op.name))
            return proceed(op, args, params)

        return wrap

    x = mg.tensor(np.ones(2), requires_grad=True)
    with backend.interpose(wrapper("first")):
        with backend.interpose(wrapper("second")):
            mg.exp(x)
        y = x.sum()
    y.backward()
    # The last one stands outermost.
    assert log == [("second", "exp"), ("first", "exp"), ("first", "sum")]
    with pytest.raises(KeyError), backend.interpose(wrapper("gone")):
        raise KeyError
    mg.exp(x)
    assert len(log) == 3


def test_a_result_can_be_replaced_by_a_wrapper():
    def zeros(proceed, op, args, params):
        return np.zeros_like(proceed(op, args, params))

    with backend.interpose(zeros):
        assert mg.exp(mg.tensor([1.0])).item() == 0.0
