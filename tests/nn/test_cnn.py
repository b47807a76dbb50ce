"""A whole small network: its gradient and a Hessian-vector product against central differences."""

import subprocess
import sys

import numpy as np

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import functional as F

TARGETS = np.array([0, 2, 1, 2])


def network():
    mg.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, dtype=np.float64),
        nn.BatchNorm2d(3, dtype=np.float64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(27, 3, dtype=np.float64),
    )


def test_hessian_vector_product_of_a_small_cnn():
    rng = np.random.default_rng(1)
    x = mg.tensor(rng.standard_normal((4, 1, 6, 6)))
    model = network()
    parameters = list(model.parameters())
    direction = [rng.standard_normal(p.shape) for p in parameters]

    def gradient():
        return mg.gradients(F.cross_entropy(model(x), TARGETS), parameters)

    first = mg.gradients(F.cross_entropy(model(x), TARGETS), parameters, create_graph=True)
    along = sum((g * v).sum() for g, v in zip(first, direction, strict=True))
    found = mg.gradients(along, parameters)

    start = [p.numpy().copy() for p in parameters]
    step = 1e-6

    def at(sign):
        for p, s, v in zip(parameters, start, direction, strict=True):
            p.assign(s + sign * step * v)
        return gradient()

    above, below = at(1.0), at(-1.0)
    for h, a, b, p in zip(found, above, below, parameters, strict=True):
        wanted = (a.data - b.data) / (2 * step)
        scale = max(np.abs(wanted).max(), 1e-3)
        np.testing.assert_allclose(h.data, wanted, atol=1e-6 * scale, err_msg=str(p.shape))
    assert max(np.abs(h.data).max() for h in found) > 0.1

    # The gradient itself, along the same direction.
    slope = sum(float((g.data * v).sum()) for g, v in zip(first, direction, strict=True))
    losses = []
    for sign in (1.0, -1.0):
        for p, s, v in zip(parameters, start, direction, strict=True):
            p.assign(s + sign * step * v)
        losses.append(F.cross_entropy(model(x), TARGETS).item())
    np.testing.assert_allclose(slope, (losses[0] - losses[1]) / (2 * step), rtol=1e-6)


def test_a_small_cnn_learns_what_it_is_shown():
    model = network()
    optimizer = nn.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = mg.tensor(np.random.default_rng(2).standard_normal((4, 1, 6, 6)))
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), TARGETS)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01
    assert nn.metrics.accuracy(model(x), TARGETS) == 1.0


def test_importing_and_building_loads_no_compiler():
    code = (
        "import sys, minigrad, minigrad_nn as nn\n"
        "assert not any(m.startswith('minigrad_nn.') for m in sys.modules)\n"
        "model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())\n"
        "nn.optim.Adam(model.parameters()), nn.functional, nn.schedule, nn.metrics, nn.init\n"
        "assert 'numba' not in sys.modules and 'minigrad_nn.kernels.cpu' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_at_the_top_are_those_of_the_rooms():
    for name in nn.layers.__all__:
        assert getattr(nn, name) is getattr(nn.layers, name)
    for name in nn.module.__all__:
        assert getattr(nn, name) is getattr(nn.module, name)
        assert name in dir(nn)
