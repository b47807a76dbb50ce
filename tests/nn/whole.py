"""Helpers for tests of whole networks."""

import contextlib

import numpy as np

import minigrad


def places(model):
    """Module and attribute of each parameter that is learned; one that is shared has several."""
    return [
        (module, name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, minigrad.Tensor) and value.requires_grad
    ]


@contextlib.contextmanager
def replaced(model, values):
    """The model with other tensors in the places of its learned parameters, in their order."""
    found = places(model)
    new = dict(zip({id(value): None for _, _, value in found}, values, strict=True))
    try:
        for module, name, value in found:
            vars(module)[name] = new[id(value)]
        yield model
    finally:
        for module, name, value in found:
            vars(module)[name] = value


def check_model(model, compute, *inputs, order=1, directions=2, **settings):
    """Check the derivatives of a network by its parameters, and by inputs of floats.

    The network must be in float64.  `compute(model, *inputs)` gives its outputs.
    """
    parameters = [np.array(p.numpy()) for p in {id(p): p for _, _, p in places(model)}.values()]
    assert all(p.dtype == np.float64 for p in parameters)

    def f(*values):
        given, rest = values[: len(parameters)], values[len(parameters) :]
        with replaced(model, given):
            return compute(model, *rest)

    return minigrad.check_gradients(
        f, *parameters, *inputs, order=order, directions=directions, **settings
    )
