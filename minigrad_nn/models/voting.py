"""Single things from maps of pixels: each pixel points to the centre of the thing it belongs to.

A network that names the class of each pixel cannot tell two touching threes apart.  So it also
draws a bump at the centre of each thing, and for each pixel the way to its own centre: pixels that
point to one bump are one thing.

Sources: A. Kendall, Y. Gal, R. Cipolla, "Multi-task learning using uncertainty to weigh losses",
2018, for pixels that vote; B. Cheng and others, "Panoptic-DeepLab", 2020, for centres as bumps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import functional as F
from ..metrics.arrays import plain

__all__ = ["Votes", "group_votes", "vote_targets", "voting_loss"]


class Votes(NamedTuple):
    """What the pixels of pictures should say.

    Attributes:
        bumps: (N, H, W), float32, 1 at the centre of a thing and less around it.
        ways: (N, 2, H, W), float32, pixels down and to the right to the centre of its thing; 0
            where nothing is.
        things: (N, H, W), whether a pixel belongs to a thing.
    """

    bumps: NDArray[np.float32]
    ways: NDArray[np.float32]
    things: NDArray[np.bool_]


def vote_targets(instance_map: Any, width: float = 2.0) -> Votes:
    """Bumps at the centres of things, and the way from each pixel to its own.

    The centre is the mean place of the pixels that are seen.

    Args:
        instance_map: (N, H, W), the number of the thing at each pixel, from 0; negative for none.
        width: standard deviation of a bump, in pixels.

    Raises:
        ValueError: another shape, or a width that is not above 0.

    >>> votes = vote_targets([[[0, 0, -1, -1], [0, 0, -1, 1]]])
    >>> votes.ways[0, 1].tolist()
    [[0.5, -0.5, 0.0, 0.0], [0.5, -0.5, 0.0, 0.0]]
    """
    numbers = plain(instance_map)
    if numbers.ndim != 3 or numbers.dtype.kind not in "iu":
        raise ValueError(
            f"vote_targets: instance_map must be integers (N, H, W), got {numbers.dtype} "
            f"{numbers.shape}"
        )
    if not width > 0:
        raise ValueError(f"vote_targets: width must be above 0, got {width}")
    rows, columns = np.indices(numbers.shape[1:])
    bumps = np.zeros(numbers.shape, np.float32)
    ways = np.zeros((len(numbers), 2, *numbers.shape[1:]), np.float32)
    for picture, bump, way in zip(numbers, bumps, ways, strict=True):
        for k in np.unique(picture[picture >= 0]):
            y, x = np.nonzero(picture == k)
            down, right = y.mean(), x.mean()
            away = (rows - down) ** 2 + (columns - right) ** 2
            np.maximum(bump, np.exp(-away / (2 * width**2)), out=bump)
            way[:, y, x] = down - y, right - x
    return Votes(bumps, ways, numbers >= 0)


def voting_loss(answers: Any, class_map: Any, votes: Votes, unit: float = 16.0) -> Any:
    """Cross-entropy of classes, plus errors of bumps and of ways, each a mean over its pixels.

    Args:
        answers: (N, classes + 3, H, W): logits of the classes, then the logit of a bump, then two
            numbers: the way, in units.
        class_map: (N, H, W), class numbers.
        votes: of `vote_targets`.
        unit: how many pixels a way of 1 means.

    Raises:
        ValueError: shapes that do not belong together.
    """
    classes = answers.shape[1] - 3
    if classes < 1 or votes.ways.shape != (answers.shape[0], 2, *answers.shape[2:]):
        raise ValueError(
            "voting_loss: answers must be (N, classes + 3, H, W), and votes of the same pictures, "
            f"got {answers.shape} and ways {votes.ways.shape}"
        )
    what = F.cross_entropy(answers[:, :classes], class_map)
    # The bumps are few and small; those of other places may be near 0, and cost little there.
    bump = F.binary_cross_entropy_with_logits(answers[:, classes], votes.bumps)
    seen = votes.things[:, None]
    way = F.smooth_l1_loss(
        answers[:, classes + 1 :] * seen, votes.ways / unit * seen, reduction="sum", beta=0.1
    )
    return what + 10.0 * bump + way / max(1.0, float(seen.sum()))


def group_votes(
    answers: Any, unit: float = 16.0, threshold: float = 0.2, radius: int = 3, smallest: int = 4
) -> list[tuple[NDArray[np.bool_], NDArray[Any], NDArray[np.int64]]]:
    """The things that answers speak of: masks, one for each bump that pixels point to.

    A bump counts where its probability is the highest within `radius` pixels along both axes.
    Pixels whose likeliest class is not the last, which is the background, go to the bump that is
    nearest to where they point.  The class of a thing is the one that its pixels find likeliest
    together, and its score is the mean probability of that class over its pixels, times that of
    the bump.

    Args:
        answers: (N, classes + 3, H, W), as for `voting_loss`.
        unit: how many pixels a way of 1 means; 0 lets each pixel point to itself.
        threshold: the least probability of a bump.
        radius: how near two bumps may not be.
        smallest: things of fewer pixels are not told.

    Returns:
        For each picture masks (n, H, W), scores (n,) and classes (n,), by falling score.

    Raises:
        ValueError: no such answers.
    """
    values = plain(answers)
    if values.ndim != 4 or values.shape[1] < 5:
        raise ValueError(
            "group_votes: answers must be (N, classes + 3, H, W) with a class and a background at "
            f"least, got {values.shape}"
        )
    return [_group(picture, unit, threshold, radius, smallest) for picture in values]


def _group(
    answers: NDArray[Any], unit: float, threshold: float, radius: int, smallest: int
) -> tuple[NDArray[np.bool_], NDArray[Any], NDArray[np.int64]]:
    likely = F.softmax(answers[:-3].astype(np.float64), 0)
    bumps = F.sigmoid(answers[-3].astype(np.float64))
    shape = bumps.shape
    peaks = _peaks(bumps, threshold, radius)
    pixels = np.argwhere(likely.argmax(0) < len(likely) - 1)
    masks, scores, classes = [], [], []
    if len(peaks):
        pointed = pixels + unit * answers[-2:, pixels[:, 0], pixels[:, 1]].T
        owner = ((pointed[:, None] - peaks) ** 2).sum(2).argmin(1)
        for k, (row, column) in enumerate(peaks):
            mine = pixels[owner == k]
            if len(mine) < smallest:
                continue
            mask = np.zeros(shape, bool)
            mask[mine[:, 0], mine[:, 1]] = True
            mean = likely[:-1, mask].mean(1)
            masks.append(mask)
            classes.append(int(mean.argmax()))
            scores.append(float(mean.max() * bumps[row, column]))
    order = np.argsort(-np.array(scores), kind="stable") if scores else np.zeros(0, np.int64)
    found = np.array(masks, bool).reshape(-1, *shape)
    return found[order], np.array(scores)[order], np.array(classes, np.int64)[order]


def _peaks(bumps: NDArray[Any], threshold: float, radius: int) -> NDArray[np.int64]:
    """Rows and columns, (n, 2), of what is highest near it, the highest first; of equals one."""
    highest = bumps
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (radius, radius)
        padded = np.pad(highest, pad, constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis)
        highest = windows.max(-1)
    places = np.argwhere((bumps == highest) & (bumps >= threshold))
    order = np.argsort(-bumps[places[:, 0], places[:, 1]], kind="stable")
    kept: list[NDArray[np.int64]] = []
    for place in places[order]:
        if all(np.abs(place - other).max() > radius for other in kept):
            kept.append(place)
    return np.array(kept, np.int64).reshape(-1, 2)
