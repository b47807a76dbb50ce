"""LeNet-5: the sizes and counts of figure 2 of its paper, for pictures of several sizes."""

import numpy as np
import pytest

import minigrad
from minigrad_nn.layers import MaxPool2d, ReLU
from minigrad_nn.models import LeNet5


@pytest.fixture(autouse=True)
def same_random_numbers():
    with minigrad.random.preserved():
        minigrad.random.manual_seed(0)
        yield


@pytest.mark.parametrize("size", [28, 32, 8, 16, 10])
def test_every_layer_has_the_size_of_the_figure(size):
    model = LeNet5(size=size)
    seen = {}

    def remember(layer, args, output):
        seen.setdefault(names[layer], output.shape)

    names = {layer: name for name, layer in model.named_children()}
    for layer in names:
        layer.register_forward_hook(remember)
    assert model(minigrad.zeros((2, 1, size, size))).shape == (2, 10)
    assert [seen[name] for name in ("c1", "s2", "c3", "s4", "c5", "f6")] == [
        (2, 6, 28, 28), (2, 6, 14, 14), (2, 16, 10, 10), (2, 16, 5, 5), (2, 120, 1, 1), (2, 84),
    ]  # fmt: skip


def test_it_has_the_parameters_that_its_docstring_counts():
    counts = {}
    for name, parameter in LeNet5().named_parameters():
        layer = name.split(".")[0]
        counts[layer] = counts.get(layer, 0) + parameter.size
    assert counts == {"c1": 156, "c3": 2416, "c5": 48120, "f6": 10164, "output": 850}
    assert sum(counts.values()) == 61706
    for layer, count in counts.items():
        row = next(row for row in LeNet5.__doc__.splitlines() if row.strip().startswith(layer))
        assert row.endswith(f"{count:,}")
    assert "61,706" in LeNet5.__doc__


def test_signals_keep_their_size_at_the_start():
    model = LeNet5()
    sizes = []
    for layer in (model.c1, model.c3, model.c5, model.f6):
        layer.register_forward_hook(lambda m, a, y: sizes.append(float(y.numpy().std())))
    model(minigrad.tensor(minigrad.random.normal((64, 1, 28, 28))))
    assert all(0.2 < size < 2 for size in sizes), sizes
    assert all((p.numpy() == 0).all() for name, p in model.named_parameters() if "bias" in name)


def test_small_pictures_are_those_with_repeated_pixels():
    small, large = LeNet5(size=8), LeNet5(size=32)
    large.load_state_dict(small.state_dict())
    x = minigrad.random.normal((3, 1, 8, 8))
    repeated = np.kron(x, np.ones((4, 4), np.float32))
    a, b = small(minigrad.tensor(x)), large(minigrad.tensor(repeated))
    np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_pictures_of_28_are_padded_with_zeros():
    padded, large = LeNet5(size=28), LeNet5(size=32)
    large.load_state_dict(padded.state_dict())
    x = minigrad.random.normal((2, 1, 28, 28))
    framed = np.pad(x, [(0, 0), (0, 0), (2, 2), (2, 2)])
    a, b = padded(minigrad.tensor(x)), large(minigrad.tensor(framed))
    np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)


def test_its_parts_can_be_chosen():
    model = LeNet5(size=28, classes=3, channels=2, activation=ReLU, pool=MaxPool2d)
    assert isinstance(model.squash, ReLU) and isinstance(model.s4, MaxPool2d)
    assert model(minigrad.zeros((1, 2, 28, 28))).shape == (1, 3)


def test_no_pictures_give_no_logits():
    assert LeNet5()(minigrad.zeros((0, 1, 28, 28))).shape == (0, 10)


@pytest.mark.parametrize("size", [2, 9, 33, 34, 28.0, "28"])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match="even number from 4 to 32"):
        LeNet5(size=size)


def test_pictures_of_another_shape_are_refused():
    for shape in ((1, 28, 28), (1, 1, 32, 32), (1, 3, 28, 28)):
        with pytest.raises(ValueError, match=r"must be \(N, 1, 28, 28\), got shape"):
            LeNet5()(minigrad.zeros(shape))
