"""Deck 003, Convolutional Neural Network: the numbers that it gives."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import functional as F
from minigrad_nn import models
from minigrad_nn.data import ArrayDataset, Loader, Subset, stratified_folds
from minigrad_nn.kernels.geometry import output_size

from .rows import plus, row, value
from .tools import image, summarised


@row(
    "003",
    "vertical edge: 1 0 −1 three times, on 6×6, left half 10, right half 0",
    value("each row", [0, 30, 30, 0]),
    plus("each row of the true convolution", [0, -30, -30, 0]),
)
def test_a_vertical_edge():
    x, edge = image([[10, 10, 10, 0, 0, 0]] * 6), image([[1, 0, -1]] * 3)
    found = F.conv2d(x, edge).tolist()[0][0], F.convolve2d(x, edge).tolist()[0][0]
    assert all(rows == [rows[0]] * 4 for rows in found)
    return tuple(rows[0] for rows in found)


@row(
    "003",
    "horizontal edge: 1 1 1; 0 0 0; −1 −1 −1, on quarters of 10 and 0",
    value("", [[0] * 4, [30, 10, -10, -30], [30, 10, -10, -30], [0] * 4]),
)
def test_a_horizontal_edge():
    x = image([[10, 10, 10, 0, 0, 0]] * 3 + [[0, 0, 0, 10, 10, 10]] * 3)
    return F.conv2d(x, image([[1, 1, 1], [0, 0, 0], [-1, -1, -1]]))[0, 0]


BLUR = [
    [1, 4, 6, 4, 1],
    [4, 16, 24, 16, 4],
    [6, 24, 36, 24, 6],
    [4, 16, 24, 16, 4],
    [1, 4, 6, 4, 1],
]
SOBEL = [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]


@row(
    "003, 000",
    "blur and Sobel filters on a picture: `examples/filters.py`",
    value("blur: 256 times the kernel is the outer product of 1 4 6 4 1", BLUR),
    plus("blurring twice in one dimension is blurring once in two", True),
    plus("the horizontal Sobel on the picture is the vertical one on its mirror image", True),
)
def test_filters_on_a_picture():
    datasets = pytest.importorskip("sklearn.datasets")
    pytest.importorskip("PIL")
    picture = datasets.load_sample_image("china.jpg")[::4, ::4].mean(axis=2) / 255
    x = image(picture.astype(np.float32))
    line = mg.tensor([1, 4, 6, 4, 1])
    kernel = mg.outer(line, line) / 256
    down, across = line.reshape(1, 1, 5, 1) / 16, line.reshape(1, 1, 1, 5) / 16
    twice = F.conv2d(F.conv2d(x, down), across)
    once = F.conv2d(x, kernel.reshape(1, 1, 5, 5))
    horizontal = image(SOBEL)
    lying = F.conv2d(x, horizontal)
    standing = F.conv2d(x.transpose(0, 1, 3, 2), horizontal.transpose(0, 1, 3, 2))
    mirrored = standing.transpose(0, 1, 3, 2)
    assert np.abs(lying.numpy()).max() > 1.0
    return (
        kernel * 256,
        np.allclose(twice.numpy(), once.numpy(), atol=1e-5),
        np.allclose(lying.numpy(), mirrored.numpy(), atol=1e-5),
    )


@row(
    "003",
    "6×6, 3×3, stride 2, pad 1: 3.5",
    value("rounding down, as layers do", 3),
    value("exactly", "does not fit"),
)
def test_half_a_place():
    layer = nn.Conv2d(1, 1, 3, stride=2, padding=1)
    with pytest.raises(ValueError, match="does not fit.* = 3.5 places") as error:
        output_size(6, 3, 2, 1, exact=True)
    assert "= 3.5 places" in nn.summary(layer, (1, 6, 6)).warnings[0][1]
    return layer(mg.zeros((1, 1, 6, 6))).shape[2], str(error.value).partition(":")[0]


@row(
    "003",
    "the model of Keras on 28×28×1: Conv 3 of 3×3, twice, Flatten, Dense 10",
    value("shape 1", (26, 26, 3)),
    value("parameters 1", 30),
    value("shape 2", (24, 24, 3)),
    value("parameters 2", 84),
    value("flat", (1728,)),
    value("dense", (10,)),
    value("parameters of dense", 17_290),
    value("total", 17_404),
)
def test_the_summary_of_keras():
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(1728, 10), nn.Softmax(),
    )  # fmt: skip
    found = nn.summary(model, (1, 28, 28), layout="channels_last")
    one, two, flat, dense = (found.row(name) for name in "0245")
    return (
        *(one.output_shape, one.parameters, two.output_shape, two.parameters),
        *(flat.output_shape, dense.output_shape, dense.parameters, found.totals.parameters),
    )


@row(
    "003",
    "60,000 samples with a validation split of 0.2, batches of 100",
    value("samples to learn from", 48_000),
    value("iterations an epoch", 480),
)
def test_iterations_of_an_epoch():
    labels = np.arange(60_000) % 10
    dataset = ArrayDataset(np.zeros((60_000, 1, 1, 1), np.float32), labels)
    (learn, _), *_ = stratified_folds(labels, 5, seed=0)
    loader = Loader(Subset(dataset, learn), 100, shuffle=True, seed=0)
    return len(learn), sum(1 for _ in loader)


@row(
    "003",
    "weight decay λ / (2m) · sum of squares; λ = 5e−4, m = 100, w = 3 −4 2",
    plus("value", "0.0000725"),
    value("its gradient is λ w / m", True),
    plus("and what the optimiser's `weight_decay` subtracts", True),
)
def test_weight_decay():
    decay, samples = 5e-4, 100
    w = mg.tensor(np.array([3.0, -4.0, 2.0]), requires_grad=True)
    penalty = F.l2_penalty([w], decay, samples)
    penalty.backward()
    weight = nn.Parameter(w.numpy())
    weight.grad = mg.zeros(3, dtype=np.float64)
    nn.optim.SGD([weight], lr=1.0, weight_decay=decay / samples).step()
    expected = decay * w.numpy() / samples
    return (
        penalty.item(),
        np.allclose(w.grad.numpy(), expected),
        np.allclose(w.numpy() - weight.numpy(), expected),
    )


def largest_step(momentum):
    """Below which step size f = x² / 2 converges, by bisection."""

    def converges(lr):
        x = nn.Parameter(np.array(1.0))
        optimizer = nn.optim.SGD([x], lr=lr, momentum=momentum)
        last = 1.0
        for _ in range(1000):
            x.zero_grad()
            (x * x / 2.0).backward()
            optimizer.step()
            last, now = x.item(), last
            if abs(last) > 1e4 or max(abs(last), abs(now)) < 1e-3:
                break
        return abs(last) < 1.0

    low, high = 1.0, 5.0
    while high - low > 4e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if converges(middle) else (low, middle)
    return low


@row(
    "003",
    "f = x² / 2 converges for step sizes below",
    plus("momentum 0", "2.00"),
    plus("momentum 0.99", "3.98"),
)
def test_the_range_of_step_sizes():
    return largest_step(0.0), largest_step(0.99)


@row(
    "003",
    "softmax: exponentials of −2, −1, 0, 1, 2",
    *(value(str(x).replace("-", "−"), y) for x, y in
      zip(range(-2, 3), ("0.14", "0.37", "1.00", "2.72", "7.39"), strict=True)),
)  # fmt: skip
def test_exponentials():
    logits = mg.tensor(np.arange(-2.0, 3.0))
    exponentials = mg.exp(logits)
    share = exponentials / exponentials.sum()
    assert np.allclose(F.softmax(logits, 0).numpy(), share.numpy())
    return tuple(float(e) for e in exponentials.tolist())


@row("003", "cross-entropy of (0.97, 0.02, 0.01) on the first class", value("", "0.03"))
def test_cross_entropy():
    return F.cross_entropy(mg.log(mg.tensor([[0.97, 0.02, 0.01]])), [0]).item()


@row(
    "003",
    "multiplications for 224×224×3, 64 filters 3×3, no padding",
    value("regular", 85_162_752),
    value("depthwise", 1_330_668),
    value("pointwise", 9_462_528),
    value("both", 10_793_196),
    value("times fewer", "7.9"),
)
def test_depthwise_separable():
    regular = nn.summary(nn.Conv2d(3, 64, 3, bias=False), (3, 224, 224)).totals
    parts = nn.summary(nn.SeparableConv2d(3, 64, 3, bias=False), (3, 224, 224))
    deep, mixed = (row.multiply_adds for row in parts.rows if row.leaf)
    both = parts.totals.multiply_adds
    return regular.multiply_adds, deep, mixed, both, regular.multiply_adds / both


@row(
    "003",
    "MobileNet v1, its last depthwise layer at stride 1, so that 7×7 stays",
    plus("parameters", 4_231_976),
    plus("multiply-adds", 568_740_352),
)
def test_mobilenet():
    totals = summarised(models.mobilenet_v1, (3, 224, 224)).totals
    return totals.parameters, totals.multiply_adds
