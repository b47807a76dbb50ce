"""Pictures of a training: they decode, show what they say, and leave the model as it was."""

import numpy as np
import pytest
from PIL import Image

import minigrad
from minigrad_nn.models import LeNet5
from minigrad_nn.train import pictures


def pixels(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def texts(monkeypatch):
    """What the titles of the next figures say."""
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    found = []
    for kind, name in ((Figure, "suptitle"), (Axes, "set_title")):
        real = getattr(kind, name)

        def spy(self, text, *args, real=real, **more):
            found.append(text)
            return real(self, text, *args, **more)

        monkeypatch.setattr(kind, name, spy)
    return found


def probabilities(sure, predicted, classes=3):
    rows = np.full((len(sure), classes), 0.0)
    rows[np.arange(len(sure)), predicted] = sure
    return rows


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, drawn to the end."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    found, real = [], pictures._save

    def spy(figure, path):
        FigureCanvasAgg(figure).draw()
        found.append(figure)
        return real(figure, path)

    monkeypatch.setattr(pictures, "_save", spy)
    return found


def places(figure):
    """Left, bottom, right and top of a figure's headings and labels, in pixels."""
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
    return np.array([t.get_window_extent().extents for t in texts if t.get_text()])


@pytest.mark.parametrize("names", ["0123456789", ["aeroplane", "automobile", *"abcdefgh"]])
@pytest.mark.parametrize("count", [1, 7, 23])
def test_names_above_mistakes_are_not_cut_off_and_leave_each_other_alone(
    tmp_path, drawn, names, count
):
    x = np.random.default_rng(0).random((count, 1, 8, 8), dtype=np.float32)
    wrong = probabilities([0.9] * count, [1] * count, 10)
    pictures.draw_mistakes(tmp_path / "a.png", x, np.zeros(count, int), wrong, names)
    (figure,) = drawn
    heading, *titles = sorted(places(figure).tolist(), key=lambda box: -box[3])
    assert len(titles) == count and heading[1] >= max(top for *_, top in titles)
    for i, (left, bottom, right, top) in enumerate(titles):
        assert left >= 0 and right <= figure.bbox.width and bottom >= 0
        for a, b, c, d in titles[:i]:
            assert right <= a or c <= left or top <= b or d <= bottom


def test_mistakes_are_shown_the_surest_first(tmp_path, monkeypatch):
    said = texts(monkeypatch)
    x = np.random.default_rng(0).random((5, 1, 8, 8), dtype=np.float32)
    labels = np.array([0, 1, 2, 0, 1])
    p = probabilities([0.6, 0.9, 0.7, 0.8, 0.95], [0, 2, 0, 0, 0])
    path = pictures.draw_mistakes(tmp_path / "a.png", x, labels, p, classes=("a", "b", "c"))
    assert said == [
        "3 of 5 read wrong", "b, read as a\n95 % sure", "b, read as c\n90 % sure",
        "c, read as a\n70 % sure",
    ]  # fmt: skip
    assert pixels(path).std() > 10
    said.clear()
    pictures.draw_mistakes(tmp_path / "b.png", x, labels, p, most=1)
    assert said == ["3 of 5 read wrong; the surest 1", "1, read as 0\n95 % sure"]


def test_where_nothing_is_wrong_the_least_sure_are_shown(tmp_path, monkeypatch):
    said = texts(monkeypatch)
    x = np.random.default_rng(0).random((2, 3, 4, 4), dtype=np.float32)
    p = probabilities([0.9, 0.6], [1, 2])
    pictures.draw_mistakes(tmp_path / "a.png", x, np.array([1, 2]), p)
    assert said[0] == "all 2 read right; the least sure"
    assert said[1:] == ["2, read as 2\n60 % sure", "1, read as 1\n90 % sure"]


@pytest.mark.parametrize(("epochs", "batches"), [(0, 0), (0, 3), (1, 1), (60, 0), (3, 5000)])
def test_learning_curves_of_any_length(tmp_path, epochs, batches):
    history = [
        dict(epoch=i + 1, loss=1 / (i + 1), accuracy=1 - 0.5 / (i + 1), test_loss=0.5,
             test_accuracy=0.8)
        for i in range(epochs)
    ]  # fmt: skip
    losses = [(i / 100, 1.0 + i % 3) for i in range(batches)]
    path = pictures.draw_learning_curve(tmp_path / "curve.png", history, losses)
    image = pixels(path)
    test_colour = np.array([0xC2, 0x41, 0x0C])
    assert (np.abs(image - test_colour).sum(-1) < 30).any() == bool(epochs)


@pytest.mark.parametrize("batches", [0, 30])
@pytest.mark.parametrize("epochs", [0, 1, 7, 30])
def test_epochs_are_counted_in_whole_numbers(tmp_path, drawn, epochs, batches):
    history = [dict(epoch=i + 1, loss=1.0, accuracy=0.5) for i in range(epochs)]
    losses = [((i + 1) / 30 * max(epochs, 1), 1.0) for i in range(batches)]
    pictures.draw_learning_curve(tmp_path / "curve.png", history, losses, note="what is shown")
    (figure,) = drawn
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks[0] == low == 0 and ticks[-1] == max(epochs, 1) <= high
        assert all(tick == int(tick) for tick in ticks)
    assert figure.get_supxlabel() == "what is shown"


@pytest.mark.parametrize("count", [1, 2, 6])
@pytest.mark.parametrize("rows", [1, 2])
def test_what_is_said_of_filters_is_not_cut_off(tmp_path, drawn, count, rows):
    weight = np.random.default_rng(0).normal(size=(count, 1, 5, 5))
    pictures.draw_filters(tmp_path / "a.png", weight, weight if rows == 2 else None)
    (figure,) = drawn
    found = places(figure)
    assert (found[:, :2] >= 0).all()
    assert (found[:, 2] <= figure.bbox.width).all() and (found[:, 3] <= figure.bbox.height).all()


@pytest.mark.parametrize(("count", "channels"), [(1, 1), (6, 1), (40, 3)])
def test_filters_of_any_number(tmp_path, count, channels):
    weight = np.random.default_rng(0).normal(size=(count, channels, 5, 5))
    for before in (None, weight * 0.5, weight * 0):
        image = pixels(pictures.draw_filters(tmp_path / "filters.png", weight, before))
        red, blue = image[..., 0] - image[..., 2], image[..., 2] - image[..., 0]
        assert red.max() > 100 and blue.max() > 100
    zeros = pictures.draw_filters(tmp_path / "filters.png", weight * 0)
    assert pixels(zeros).std() > 1


def test_a_graph_has_the_names_of_the_model_and_leaves_it_as_it_was():
    with minigrad.random.preserved():
        model = LeNet5(size=8)
        x = minigrad.random.normal((2, 1, 8, 8))
    before = [(p.name, p.numpy().copy()) for p in model.parameters()]
    for backward in (True, False):
        graph = pictures.model_graph(model, x, np.array([3, 4]), backward, title="t").graph
        names = {node.name for node in graph.nodes}
        assert {"c1.weight", "output.bias", "pictures", "c1", "s4", "f6", "loss"} <= names
        norm = graph.named("c3.weight").gradient_norm
        assert (norm is not None and norm > 0) == backward
    for parameter, (name, values) in zip(model.parameters(), before, strict=True):
        assert parameter.name == name and parameter.grad is None
        np.testing.assert_array_equal(parameter.numpy(), values)
    assert not any(module._hooks for module in model.modules())
    with pytest.raises(ValueError, match="pictures must be"):
        pictures.model_graph(model, x[:, :, :4], np.array([3, 4]))
    assert not any(module._hooks for module in model.modules())
    assert [p.name for p in model.parameters()] == [name for name, _ in before]
