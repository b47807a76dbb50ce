"""Pictures from folders: what is read, in which order, and how whatever is wrong is told."""

import os
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.random import Generator
from minigrad_nn.data import CIFAR10JPEG, ImageFolder, Loader, PictureError, read_picture
from minigrad_nn.data import cifar as cifar_module

Image = pytest.importorskip("PIL.Image")


def picture(seed=0, height=6, width=5, channels=3):
    pixels = Generator(seed).integers((height, width, channels), 0, 256, dtype=np.uint8)
    return pixels if channels > 1 else pixels[:, :, 0]


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two classes of PNG pictures, `cat` with 2 and `ant` with 3."""
    root = tmp_path / "pictures"
    for number, name in enumerate(
        ["cat/b.png", "cat/a.PNG", "ant/2.png", "ant/10.png", "ant/1/x.png"]
    ):
        save(root / name, picture(number))
    return root


def test_classes_and_pictures_are_sorted(folder):
    dataset = ImageFolder(folder)
    assert dataset.classes == ("ant", "cat") and len(dataset) == 5
    names = [os.path.relpath(path, folder).replace(os.sep, "/") for path in dataset.paths]
    assert names == ["ant/10.png", "ant/2.png", "ant/1/x.png", "cat/a.PNG", "cat/b.png"]
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1]
    assert dataset.source(4) == dataset.paths[4]
    assert repr(dataset).endswith("5 pictures of 2 classes, (3, 6, 5)")


@pytest.mark.parametrize("in_memory", [False, True])
def test_pictures_are_what_was_saved(folder, in_memory):
    dataset = ImageFolder(folder, in_memory=in_memory)
    wanted = np.stack([picture(seed).transpose(2, 0, 1) for seed in (3, 2, 4, 1, 0)])
    assert (dataset.pixels is not None) == in_memory
    for index in (slice(None), np.array([4, 0, 4]), np.array([], dtype=int), 2, -1, [1, 3]):
        pixels, labels = dataset[index]
        assert pixels.dtype == np.float32 and labels.dtype == np.int64
        assert np.array_equal(pixels, (wanted[index] / 255).astype(np.float32))
        assert np.array_equal(labels, dataset.labels[index])
        assert np.array_equal(dataset.read(index), wanted[index])
    with pytest.raises(IndexError):
        dataset[5]


def test_a_loader_and_a_pickled_copy_give_the_same(folder):
    dataset = ImageFolder(folder)
    copy = pickle.loads(pickle.dumps(dataset))
    batches = [list(Loader(d, 2, shuffle=True, seed=3)) for d in (dataset, copy)]
    for (x, y), (again, labels) in zip(*batches, strict=True):
        assert np.array_equal(x, again) and np.array_equal(y, labels)


def test_what_is_no_picture_by_name_is_left_out(folder):
    for name in ("ant/.hidden.png", "ant/notes.txt", ".git/x.png", "cat/.thumbs/x.png", "read.me"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"nothing")
    assert len(ImageFolder(folder, in_memory=True)) == 5


def test_links_to_pictures_and_classes_are_followed_and_others_not(folder, tmp_path):
    elsewhere = save(tmp_path / "elsewhere" / "y.png", picture(9)).parent
    (folder / "dog").symlink_to(elsewhere, target_is_directory=True)
    (folder / "cat" / "z.png").symlink_to(elsewhere / "y.png")
    (folder / "cat" / "loop").symlink_to(folder, target_is_directory=True)
    dataset = ImageFolder(folder)
    assert dataset.classes == ("ant", "cat", "dog")
    assert np.bincount(dataset.labels).tolist() == [3, 3, 1]
    assert np.array_equal(dataset.read(-1), dataset.read(5))


@pytest.mark.parametrize("kind", ["dangling", "pipe"])
def test_a_link_to_nothing_and_a_pipe_are_told(folder, kind):
    odd = folder / "cat" / "odd.png"
    if kind == "dangling":
        odd.symlink_to(folder / "nowhere.png")
    else:
        os.mkfifo(odd)
    with pytest.raises(PictureError, match=r"odd\.png is a link to nothing, or no regular file"):
        ImageFolder(folder)


@pytest.mark.parametrize("in_memory", [False, True])
def test_differing_sizes_are_told(folder, in_memory):
    save(folder / "cat" / "c.png", picture(height=7))
    with pytest.raises(PictureError, match=r"c\.png has 7 x 5 pixels, but .*10\.png has 6 x 5"):
        ImageFolder(folder, in_memory=in_memory)[np.arange(6)]
    assert ImageFolder(folder, size=6, in_memory=in_memory)[:][0].shape == (6, 3, 6, 6)


def test_a_class_without_pictures_is_told(folder):
    (folder / "bee").mkdir()
    with pytest.raises(PictureError, match=r"bee holds no picture \(\.jpg, \.jpeg, \.png\)\. Each"):
        ImageFolder(folder)
    (folder / "bee" / "x.gif").write_bytes(b"")
    with pytest.raises(PictureError, match=r"1 other files, such as x\.gif"):
        ImageFolder(folder)


def test_folders_that_are_none_are_told(folder, tmp_path):
    with pytest.raises(FileNotFoundError):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError):
        ImageFolder(folder / "cat" / "b.png")
    with pytest.raises(PictureError, match="one sub-folder for each class"):
        ImageFolder(folder / "cat")


def test_classes_can_be_given(folder):
    dataset = ImageFolder(folder, classes=["cat", "bee", "ant"])
    assert dataset.classes == ("cat", "bee", "ant")
    assert dataset.labels.tolist() == [0, 0, 2, 2, 2]
    with pytest.raises(PictureError, match=r"has the folders \['ant'\], which are not in"):
        ImageFolder(folder, classes=["cat"])
    for wrong in ([], ["cat", "cat", "ant"]):
        with pytest.raises(ValueError, match="one or more different names"):
            ImageFolder(folder, classes=wrong)
    (folder.parent / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(PictureError, match="holds no picture of cat, dog"):
        ImageFolder(folder.parent / "empty", classes=["cat", "dog"])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"size": 0}, "each at least 1"),
        ({"size": (3, 4, 5)}, "each at least 1"),
        ({"size": 2.5}, "each at least 1"),
        ({"resize": "pad"}, "one of crop, stretch, got 'pad'"),
        ({"convert": "CMYK"}, "one of RGB, grey, got 'CMYK'"),
    ],
)
def test_wrong_options_are_told(folder, options, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder(folder, **options)
    with pytest.raises(ValueError, match=message):
        read_picture(folder / "cat" / "b.png", **options)


def test_without_pillow_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ModuleNotFoundError, match=r"minigrad\[data\]"):
        ImageFolder(folder)


def test_crop_keeps_the_middle_and_stretch_the_whole(tmp_path):
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 200
    path = save(tmp_path / "wide.png", wide)
    assert (read_picture(path, size=4) == 200).all()
    stretched = read_picture(path, size=(4, 3), resize="stretch")
    assert stretched.shape == (3, 4, 3)
    assert (stretched[:, :, 1] > 120).all() and (stretched[:, :, [0, 2]] < 80).all()
    assert read_picture(path).shape == (3, 4, 12)


def test_every_kind_of_pixel_becomes_rgb_or_grey(tmp_path):
    grey, colour = picture(channels=1), picture()
    kinds = {
        "grey.png": (Image.fromarray(grey), grey),
        "wide.png": (Image.fromarray(grey.astype(np.uint16) * 257), grey),
        "mask.png": (Image.fromarray(grey > 99), np.where(grey > 99, 255, 0)),
        "palette.png": (Image.fromarray(grey).convert("P"), grey),
        "colour.png": (Image.fromarray(colour), colour),
    }
    for name, (image, wanted) in kinds.items():
        image.save(tmp_path / name)
        rgb, flat = read_picture(tmp_path / name), read_picture(tmp_path / name, convert="grey")
        assert rgb.shape == (3, 6, 5) and flat.shape == (1, 6, 5), name
        assert rgb.dtype == flat.dtype == np.uint8 and rgb.flags.c_contiguous
        if wanted.ndim == 2:
            assert (rgb == wanted).all() and (flat == wanted).all(), name
        else:
            assert (rgb == wanted.transpose(2, 0, 1)).all()
            shade = wanted @ [0.299, 0.587, 0.114]
            assert np.abs(flat[0] - shade).max() <= 1


def test_transparent_is_white_and_half_is_mixed(tmp_path):
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = 0, 255, 128
    path = save(tmp_path / "clear.png", pixels)
    assert read_picture(path)[0, 0].tolist() == [255, 0, 127]
    indexed = Image.new("P", (2, 1))
    indexed.putpalette([10, 20, 30, 40, 50, 60])
    indexed.putdata([0, 1])
    indexed.save(tmp_path / "indexed.png", transparency=0)
    assert read_picture(tmp_path / "indexed.png")[:, 0].T.tolist() == [[255] * 3, [40, 50, 60]]


def test_exif_turns_the_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn right by 90 degrees to show"
    path = save(tmp_path / "turned.png", picture(), exif=exif)
    assert np.array_equal(read_picture(path), np.rot90(picture(), -1).transpose(2, 0, 1))


def test_jpeg_is_close_to_what_was_saved(tmp_path):
    smooth = np.broadcast_to(np.arange(0, 160, 10, dtype=np.uint8), (16, 16))
    path = save(tmp_path / "x.jpg", smooth, quality=95)
    assert np.abs(read_picture(path, convert="grey").astype(int) - smooth).max() <= 3


def test_damaged_pictures_are_told_with_their_path(tmp_path):
    for name, options in (("cut.jpg", {"quality": 90}), ("cut.png", {})):
        whole = save(tmp_path / name, picture(height=40, width=40), **options)
        whole.write_bytes(whole.read_bytes()[:-500])
        with pytest.raises(PictureError, match=rf"{name} is a damaged picture \(.*truncated"):
            read_picture(whole)
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(PictureError, match=r"text\.png is not a JPEG or PNG picture"):
        read_picture(tmp_path / "text.png")
    Image.fromarray(picture()).save(tmp_path / "x.gif")
    (tmp_path / "x.gif").rename(tmp_path / "named.png")
    with pytest.raises(PictureError, match=r"named\.png is not a JPEG or PNG"):
        read_picture(tmp_path / "named.png")
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "nowhere.png")


@given(st.sampled_from(["png", "jpg"]), st.binary(max_size=8), st.floats(0, 1), st.booleans())
def test_any_damage_is_a_picture_error_or_none(tmp_path_factory, kind, noise, place, cut):
    """Bytes written over a picture, or in place of its rest: no other error comes out."""
    folder = tmp_path_factory.getbasetemp() / "damage"
    folder.mkdir(exist_ok=True)
    path = save(folder / f"x.{kind}", picture(height=20, width=20))
    content = path.read_bytes()
    start = int(place * len(content))
    rest = b"" if cut else content[start + len(noise) :]
    path.write_bytes(content[:start] + noise + rest)
    try:
        pixels = read_picture(path, max_pixels=10_000)
    except PictureError as error:
        assert str(path) in str(error)
    else:
        assert pixels.dtype == np.uint8 and pixels.shape[0] == 3


def test_decompression_bombs_are_not_decoded(tmp_path, monkeypatch):
    path = save(tmp_path / "bomb.png", np.zeros((300, 400), np.uint8))
    with pytest.raises(
        PictureError, match=r"bomb\.png declares 300 x 400 pixels, more than .*100000"
    ):
        read_picture(path, max_pixels=100_000)
    assert read_picture(path, max_pixels=120_000).shape == (3, 300, 400)
    for limit in (100_000, 50_000):  # Pillow warns above its limit and raises above twice that
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(PictureError, match=r"bomb\.png is refused by Pillow"):
            read_picture(path)


class TestCIFAR10JPEG:
    @pytest.fixture
    def cifar(self, tmp_path, monkeypatch):
        """The real archive, a cache folder of the test's own."""
        root = os.environ.get("MINIGRAD_DATA")
        if root is None or not os.path.isfile(os.path.join(root, f"{cifar_module.NAME}.tar.xz")):
            pytest.skip("MINIGRAD_DATA names no folder with the CIFAR-10 archive")
        monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path / "cache"))
        return tmp_path / "cache"

    @pytest.mark.real
    def test_real_pictures(self, cifar):
        for split, size in (("train", 10_000), ("test", 2_000)):
            dataset = CIFAR10JPEG(split)
            assert dataset.pixels.shape == (size, 3, 32, 32)
            assert np.bincount(dataset.labels).tolist() == [size // 10] * 10
            assert [os.path.basename(os.path.dirname(p)) for p in dataset.paths] == [
                CIFAR10JPEG.classes[label] for label in dataset.labels
            ]
            if split == "train":
                scaled = dataset.pixels / 255
                for axis, stated in (
                    (scaled.mean((0, 2, 3)), dataset.mean),
                    (scaled.std((0, 2, 3)), dataset.std),
                ):
                    assert np.allclose(axis, stated, atol=1e-3)
        victim = next(cifar.glob("archives/*/*/test/cat/*.jpg"))
        victim.unlink()
        with pytest.raises(PictureError, match=r"holds 1999 pictures .* wanted 2000 of 32 x 32"):
            CIFAR10JPEG("test")

    def test_without_the_archive_it_is_told_where_to_put_it(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "given"))
        monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path / "cache"))
        with pytest.raises(FileNotFoundError) as told:
            CIFAR10JPEG()
        for wanted in ("cifar10-jpeg-12k.tar.xz", str(tmp_path / "given"), str(tmp_path / "cache")):
            assert wanted in str(told.value)

    def test_an_unpacked_folder_is_taken(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
        monkeypatch.setitem(cifar_module.SIZES, "test", 10)
        for number, name in enumerate(CIFAR10JPEG.classes):
            save(tmp_path / cifar_module.NAME / "test" / name / "0.jpg", picture(number, 32, 32))
        assert CIFAR10JPEG("test").labels.tolist() == list(range(10))

    def test_wrong_split_is_told(self):
        with pytest.raises(ValueError, match="split must be one of train, test"):
            CIFAR10JPEG("validation")
