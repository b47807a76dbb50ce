"""Scenes of digits: everything told of a scene is held against its pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad_nn.data import MNIST, Digits, Loader, Pictures, captions
from minigrad_nn.data.scenes import BACKGROUND, INK, PAINT, TARGETS, Scenes


def small(split="train", **options):
    return Scenes(split, **{"length": 20, "size": 48, "source": "digits", **options})


SETTINGS = [
    {},
    {"digits": (3, 6), "hidden": 0.4},
    {"digits": (1, 1), "clutter": 6, "noise": 0.1},
    {"digits": (2, 3), "colour": True, "hidden": 0.0},
    {"sides": (8, 8), "digits": (5, 5)},
]


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_boxes_and_maps_agree(options):
    scenes = small(**options)
    for number in range(12):
        scene = scenes.scene(number)
        n = len(scene.classes)
        assert 1 <= n <= scenes.most
        assert scene.instance_map.min() >= -1
        for k in range(n):
            mask = scene.instance_map == k
            # Tight: the outermost rows and columns of the box hold pixels, none lies outside.
            x0, y0, x1, y1 = scene.boxes[k].astype(int)
            inside = mask[y0:y1, x0:x1]
            assert inside.sum() == mask.sum() > 0
            assert inside[0].any() and inside[-1].any()
            assert inside[:, 0].any() and inside[:, -1].any()
            assert (scene.class_map[mask] == scene.classes[k]).all()
        assert ((scene.class_map == BACKGROUND) == (scene.instance_map == -1)).all()
        assert set(np.unique(scene.instance_map)) - {-1} == set(range(n))


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_captions_are_true(options):
    scenes = small(**options, targets=("caption", "classes", "boxes", "colours", "counts"))
    for _, tokens, classes, boxes, colours, count in zip(*scenes[:12], strict=True):
        words = captions.decode(tokens)
        coloured = colours[:count] if scenes.colour else None
        assert captions.holds(words, classes[:count], boxes[:count], coloured)
        assert len(captions.parse(words)[0]) == count
        assert (classes[count:] == -1).all() and (boxes[count:] == 0).all()
        assert (classes[:count] >= 0).all()


def test_ink_is_where_the_maps_say():
    scenes = small(digits=(2, 3), hidden=0.0)
    for number in range(8):
        scene = scenes.scene(number)
        grey = scene.picture[0]
        assert (grey[scene.instance_map >= 0] >= 0.7 * INK - 1e-6).all()
        assert grey[scene.instance_map < 0].max() < 0.75
        # Far from all digits there is nothing.
        outside = np.ones_like(grey, bool)
        for x0, y0, x1, y1 in scene.boxes.astype(int):
            outside[max(y0 - 3, 0) : y1 + 3, max(x0 - 3, 0) : x1 + 3] = False
        assert not grey[outside].any()


def test_colours_are_those_of_the_digits():
    scenes = small(colour=True, hidden=0.0)
    for number in range(8):
        scene = scenes.scene(number)
        for k, colour in enumerate(scene.colours):
            seen = scene.picture[:, scene.instance_map == k]
            brightest = seen[:, seen.sum(0) > 0.95 * seen.sum(0).max()].mean(1)
            assert np.abs(PAINT - brightest).sum(1).argmin() == colour
            assert captions.COLOURS[colour] in scene.words


class Watched(Scenes):
    """Scenes that remember how many pixels each digit had when it was painted."""

    def _paint(self, canvas, ink, spot, generator):
        self.whole.append(int((ink >= INK).sum()))
        return super()._paint(canvas, ink, spot, generator)


@pytest.mark.parametrize("hidden", [0.0, 0.3])
def test_no_more_is_hidden_than_allowed(hidden):
    scenes = Watched(size=48, source="digits", digits=(6, 6), hidden=hidden)
    shares = []
    for number in range(10):
        scenes.whole = []
        scene = scenes.scene(number)
        seen = [(scene.instance_map == k).sum() for k in range(len(scene.classes))]
        shares += [1 - s / w for s, w in zip(seen, scenes.whole, strict=True)]
    assert max(shares) <= hidden
    assert (max(shares) > 0.1) == (hidden > 0.1)


@settings(max_examples=20)
@given(st.integers(0, 10**9), st.integers(0, 2**64 - 1))
def test_a_scene_is_a_function_of_its_number(number, seed):
    options = {"digits": (2, 3), "clutter": 2, "noise": 0.1, "colour": True, "seed": seed}
    first, again = small(**options), small(length=3, **options)
    again.scene(7)  # nothing drawn before matters
    a, b = first.scene(number), again.scene(number)
    for name in ("picture", "classes", "boxes", "colours", "class_map", "instance_map"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.words == b.words


def test_seeds_numbers_and_splits_give_other_scenes():
    base = small().scene(0).picture
    others = [small(seed=1).scene(0), small().scene(1), small("test").scene(0)]
    assert not any(np.array_equal(base, other.picture) for other in others)


def test_training_and_test_show_other_digits():
    train, test = small("train").source, small("test").source
    assert isinstance(train, Digits) and (train.split, test.split) == ("train", "test")
    rows = {row.tobytes() for row in train.pixels}
    assert not any(row.tobytes() in rows for row in test.pixels)


def test_pictures_of_ones_own_are_shown():
    """Bars of different lengths, so that the proportions of a box tell which one was drawn."""
    pixels = np.zeros((10, 1, 12, 12), np.uint8)
    for k in range(10):
        pixels[k, 0, : k + 2, 1] = 255
    scenes = small(source=Pictures(pixels, np.arange(10)), sides=(20, 20), digits=(1, 1))
    drawn = [scenes.scene(i) for i in range(60)]
    assert {int(scene.classes[0]) for scene in drawn} == set(range(10))
    for scene in drawn:
        x0, y0, x1, y1 = scene.boxes[0]
        assert y1 - y0 == 20
        assert abs((x1 - x0) - 20 / (scene.classes[0] + 2)) <= 0.5


@pytest.mark.mnist
def test_mnist_is_taken_where_it_is(mnist_folder):
    train, test = Scenes("train", 4), Scenes("test", 4)
    assert isinstance(train.source, MNIST) and isinstance(test.source, MNIST)
    assert (len(train.source), len(test.source)) == (60_000, 10_000)
    assert train[:4][0].shape == (4, 1, 64, 64)


def test_without_mnist_the_digits_are_taken(monkeypatch, tmp_path):
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)
    assert isinstance(Scenes().source, Digits)
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    assert isinstance(Scenes().source, Digits)


def test_indices_are_those_of_a_dataset():
    scenes = small(targets=TARGETS)
    batch = scenes[np.array([3, 0, -1])]
    assert len(batch) == 1 + len(TARGETS)
    assert [array.shape for array in batch] == [
        *((3, 1, 48, 48), (3, 4), (3, 4, 4), (3,), (3, 4), (3, 48, 48), (3, 48, 48)),
        (3, captions.longest(4, False)),
    ]
    assert batch[0].dtype == batch[2].dtype == np.float32
    assert {array.dtype for array in (batch[1], *batch[3:])} == {np.dtype(np.int64)}
    for one, many in zip(scenes[19], batch, strict=True):
        np.testing.assert_array_equal(one, many[2])
    for one, many in zip(scenes[3:5], scenes[np.array([3, 4])], strict=True):
        np.testing.assert_array_equal(one, many)
    assert [array.shape[0] for array in scenes[:0]] == [0] * 8
    with pytest.raises(IndexError):
        scenes[20]


def test_a_loader_gives_batches():
    loader = Loader(small(length=5, targets=("caption",)), batch_size=2, shuffle=True, seed=0)
    assert [len(pictures) for pictures, _ in loader] == [2, 2, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "all"}, "split"),
        ({"targets": "boxes"}, "sequence of names"),
        ({"targets": ("masks",)}, "masks"),
        ({"length": -1}, "length"),
        ({"size": 4}, "size"),
        ({"clutter": 1.5}, "clutter"),
        ({"digits": (0, 2)}, "fewest"),
        ({"sides": (16, 47)}, "4 to 46"),
        ({"sides": (20, 16)}, "sides"),
        ({"hidden": 1.0}, "hidden"),
        ({"noise": -0.1}, "noise"),
        ({"noise": float("nan")}, "noise"),
        ({"source": "cifar"}, "'cifar'"),
    ],
)
def test_wrong_use_is_told(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_a_source_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="Pictures"):
        small(source=3)
    with pytest.raises(ValueError, match="from 0"):
        small().scene(-1)
