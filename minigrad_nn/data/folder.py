"""Pictures from a folder: one sub-folder a class, JPEG and PNG, decoded by Pillow, never trusted.

The size that a file's header declares is checked before anything is decoded, and whatever is wrong
with a file is told with its path.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .dataset import Index
from .errors import DataFileError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageFolder", "PictureError", "read_picture"]

SUFFIXES = (".jpg", ".jpeg", ".png")
FORMATS = ("JPEG", "PNG")
MAX_PIXELS = 50_000_000
# Pillow's mode for each way to convert.
MODES = {"RGB": "RGB", "grey": "L"}
RESIZES = ("crop", "stretch")


class PictureError(DataFileError):
    """A file that is not the picture that it should be, or a folder without; it names the path."""


class ImageFolder:
    """Labelled pictures of a folder with one sub-folder a class, as float32 in [0, 1].

    The classes are the names of the sub-folders, sorted, and the pictures of a class are sorted by
    path, so the order is the same on every machine.  A class may have sub-folders of its own.  What
    is hidden (its name begins with a dot) or has another suffix than .jpg, .jpeg and .png is left
    out.  A link to a picture, or to the folder of a class, is followed; other links to folders are
    not.

    A picture is turned as its EXIF orientation says, and its transparent parts become white.

    Args:
        folder: that holds the folders of the classes.
        size: (height, width) that pictures are brought to, or one number for both; None: they must
            all be of one size.
        resize: how, if their proportions differ: `"crop"` keeps them, and the middle of the
            picture; `"stretch"` keeps the whole picture.
        convert: `"RGB"` for 3 channels or `"grey"` for 1, whatever the files hold.
        classes: the names in the order of their numbers, such as `train.classes` for the folder of
            the test pictures: then a class may be empty or missing, and a folder with another name
            is an error.
        in_memory: decode all pictures now and keep them as bytes in `pixels`; else each is read and
            decoded whenever it is asked for.
        max_pixels: a picture whose header declares more is an error, and is not decoded.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such folder.
        PictureError: no class, a class without pictures, or a file that cannot be read; without
            `in_memory`, that comes when the picture is asked for.
        ModuleNotFoundError: Pillow is missing.
        ValueError: another argument that is wrong.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        size: int | Sequence[int] | None = None,
        resize: str = "crop",
        convert: str = "RGB",
        classes: Sequence[str] | None = None,
        in_memory: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.folder = Path(folder)
        self._options: dict[str, Any] = {
            "size": _height_width(size),
            "resize": resize,
            "convert": convert,
            "max_pixels": max_pixels,
        }
        _check_options(resize, convert)
        names = _class_folders(self.folder)
        if classes is None:
            self.classes = tuple(names)
        else:
            self.classes = tuple(classes)
            _check_classes(self.folder, names, self.classes)
        found = [
            _pictures_in(self.folder / name, may_be_empty=classes is not None)
            for name in self.classes
        ]
        self.paths = tuple(path for paths in found for path in paths)
        """The file of each sample."""
        if not self.paths:
            raise PictureError(f"{self.folder} holds no picture of {', '.join(self.classes)}")
        self.labels = np.repeat(np.arange(len(found)), [len(paths) for paths in found])
        """The class number of each sample, (N,)."""
        first = read_picture(self.paths[0], **self._options)
        self.shape: tuple[int, ...] = first.shape
        """Of one picture: (C, H, W)."""
        self.pixels: NDArray[np.uint8] | None = None
        """All pictures, (N, C, H, W), if they are held in memory."""
        if in_memory:
            pixels = np.empty((len(self), *self.shape), dtype=np.uint8)
            for number in range(len(self)):
                pixels[number] = self._read(number)
            self.pixels = pixels

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return (
            f"ImageFolder({str(self.folder)!r}): {len(self)} pictures of {len(self.classes)} "
            f"classes, {self.shape}"
        )

    def __getitem__(self, index: Index) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Pictures (n, C, H, W) and labels (n,); a single index gives (C, H, W) and a number."""
        return np.divide(self.read(index), 255, dtype=np.float32), self.labels[index]

    def read(self, index: Index) -> NDArray[np.uint8]:
        """Pictures as bytes, (n, C, H, W); a single index gives (C, H, W)."""
        if self.pixels is not None:
            return self.pixels[index]
        chosen = np.arange(len(self))[index]
        pixels = np.empty((chosen.size, *self.shape), dtype=np.uint8)
        for place, number in enumerate(chosen.flat):
            pixels[place] = self._read(int(number))
        return pixels.reshape(*chosen.shape, *self.shape)

    def source(self, index: int) -> str:
        """The path of a sample, for messages about it."""
        return self.paths[index]

    def _read(self, number: int) -> NDArray[np.uint8]:
        picture = read_picture(self.paths[number], **self._options)
        if picture.shape != self.shape:
            raise PictureError(
                f"{self.paths[number]} has {_size(picture.shape)}, but {self.paths[0]} has "
                f"{_size(self.shape)}; give a size=(height, width) that all are brought to"
            )
        return picture


def read_picture(
    path: str | os.PathLike[str],
    *,
    size: int | Sequence[int] | None = None,
    resize: str = "crop",
    convert: str = "RGB",
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """The picture that a JPEG or PNG file holds (told by its content), as bytes (C, H, W).

    Args:
        path: the file.
        size: (height, width) that the picture is brought to, or one number for both; None keeps it.
        resize: `"crop"` keeps the proportions and the middle, `"stretch"` the whole picture.
        convert: `"RGB"` for 3 channels or `"grey"` for 1.
        max_pixels: refuse a picture whose header declares more.  Pillow's own limit,
            `PIL.Image.MAX_IMAGE_PIXELS`, holds too.

    Raises:
        OSError: the file cannot be opened.
        PictureError: it is no picture, a damaged one, or too large.
        ModuleNotFoundError: Pillow is missing.
        ValueError: another argument that is wrong.
    """
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'pictures are read by Pillow, which is not installed: pip install "minigrad[data]"'
        ) from error
    _check_options(resize, convert)
    wanted = _height_width(size)
    with open(path, "rb") as file:
        try:
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise PictureError(
                        f"{path} declares {height} x {width} pixels, more than the limit of "
                        f"{max_pixels}; raise max_pixels if that is right"
                    )
                ImageOps.exif_transpose(image, in_place=True)
                picture = _converted(image, MODES[convert])
        except PictureError:
            raise
        except Image.UnidentifiedImageError:
            raise PictureError(f"{path} is not a JPEG or PNG picture; remove it") from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise PictureError(f"{path} is refused by Pillow: {error}") from error
        except Exception as error:  # a decoder of damaged data may raise anything
            raise PictureError(
                f"{path} is a damaged picture ({error}); remove it, or fetch it again"
            ) from error
    if wanted is not None and picture.size != wanted[::-1]:
        if resize == "crop":
            picture = ImageOps.fit(picture, wanted[::-1], Image.Resampling.BILINEAR)
        else:
            picture = picture.resize(wanted[::-1], Image.Resampling.BILINEAR)
    pixels = np.asarray(picture)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _converted(image: Image, mode: str) -> Image:
    """The picture in another mode of 8 bits a channel, on white where it is transparent."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
        wide = np.asarray(image).astype(np.int64)
        image = Image.fromarray(((wide * 255 + 32767) // 65535).clip(0, 255).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _height_width(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    try:
        height, width = size if isinstance(size, Sequence) else (size, size)
        wanted = operator.index(height), operator.index(width)
    except (TypeError, ValueError):
        wanted = 0, 0
    if min(wanted) < 1:
        raise ValueError(f"size must be (height, width), each at least 1, or None; got {size!r}")
    return wanted


def _check_options(resize: str, convert: str) -> None:
    if resize not in RESIZES:
        raise ValueError(f"resize must be one of {', '.join(RESIZES)}, got {resize!r}")
    if convert not in MODES:
        raise ValueError(f"convert must be one of {', '.join(MODES)}, got {convert!r}")


def _class_folders(folder: Path) -> list[str]:
    """The names of the sub-folders, sorted."""
    names = sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_dir() and not entry.name.startswith(".")
    )
    if not names:
        raise PictureError(
            f"{folder} has no sub-folders; pictures are wanted in one sub-folder for each class"
        )
    return names


def _check_classes(folder: Path, names: list[str], classes: tuple[str, ...]) -> None:
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(f"classes must be one or more different names, got {list(classes)}")
    if others := sorted(set(names) - set(classes)):
        raise PictureError(f"{folder} has the folders {others}, which are not in {list(classes)}")


def _pictures_in(folder: Path, may_be_empty: bool) -> list[str]:
    """The paths of the pictures in and below the folder of a class, sorted."""
    if may_be_empty and not folder.exists():
        return []
    found: list[str] = []
    others: list[str] = []
    for place, folders, files in os.walk(folder, onerror=_tell):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.startswith(".") or not name.lower().endswith(SUFFIXES):
                others.append(name)
                continue
            path = os.path.join(place, name)
            if not os.path.isfile(path):  # opening a pipe would wait for ever
                raise PictureError(f"{path} is a link to nothing, or no regular file; remove it")
            found.append(path)
    if not found and not may_be_empty:
        instead = f"; it has {len(others)} other files, such as {others[0]}" if others else ""
        raise PictureError(
            f"{folder} holds no picture ({', '.join(SUFFIXES)}){instead}. Each sub-folder is a "
            "class and needs at least one"
        )
    return found


def _tell(error: OSError) -> None:
    raise error


def _size(shape: tuple[int, ...]) -> str:
    """Height and width of a picture (C, H, W), in words."""
    return f"{shape[1]} x {shape[2]} pixels"
