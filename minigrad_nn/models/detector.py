"""A detector in one look: each cell of a coarse grid says whether a thing is centred there.

Sources: J. Redmon and others, "You only look once", 2016, for the grid and its answers; R. Girshick
and others, "Rich feature hierarchies for accurate object detection and semantic segmentation",
2014, appendix C, for the four numbers of a box; Z. Tian and others, "FCOS", 2019, for the cells
around a centre that answer together; T.-Y. Lin and others, "Focal loss for dense object
detection", 2017, for the start of training, at which things are rare.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import functional as F
from .. import init
from ..layers import Conv2d
from ..metrics import nms
from ..metrics.arrays import plain
from ..module import Module

__all__ = ["Assignment", "GridDetector", "assign_cells", "box_numbers", "boxes_of"]

RARE = 0.05
"""How many cells answer yes before anything is learned."""


class Assignment(NamedTuple):
    """What each cell of a grid should answer.

    Attributes:
        present: (N, h, w), 1 where a thing has its centre or near it, else 0; float32.
        numbers: (N, 4, h, w), float32, what `box_numbers` gives there, else 0.
        classes: (N, h, w), its class there, else -1.
    """

    present: NDArray[np.float32]
    numbers: NDArray[np.float32]
    classes: NDArray[np.int64]


def box_numbers(boxes: Any, rows: Any, columns: Any, stride: int, anchor: float) -> NDArray[Any]:
    """Boxes as a cell sees them: how far the centre is from its own, and how large against a guess.

    `dx, dy` in cells and `log(w / anchor), log(h / anchor)`.

    Args:
        boxes: (n, 4), x0, y0, x1, y1 in pixels, not empty.
        rows, columns: (n,), of the cell that each belongs to.
        stride: the side of a cell in pixels.
        anchor: the side of an ordinary box in pixels.

    Returns:
        (n, 4), float64.
    """
    corners = np.asarray(boxes, np.float64)
    centre, size = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    cell = np.stack([columns, rows], axis=1) + 0.5
    return np.concatenate([centre / stride - cell, np.log(size / anchor)], axis=1)


def boxes_of(numbers: Any, rows: Any, columns: Any, stride: int, anchor: float) -> NDArray[Any]:
    """The boxes (n, 4) that `box_numbers` gave these numbers for."""
    values = np.asarray(numbers, np.float64)
    centre = (values[:, :2] + np.stack([columns, rows], axis=1) + 0.5) * stride
    # A size beyond any picture helps nobody, and would overflow before a network has learned.
    half = np.exp(np.minimum(values[:, 2:], 10.0)) * anchor / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def assign_cells(
    boxes: Any,
    classes: Any,
    grid: tuple[int, int],
    stride: int,
    anchor: float,
    reach: float = 0.5,
) -> Assignment:
    """Give each thing to the cells near its centre; a cell near several has the nearest of them.

    Args:
        boxes: (N, most, 4), x0, y0, x1, y1 in pixels.
        classes: (N, most), class numbers; -1 for rows that are padding.
        grid: rows and columns of cells.
        stride: the side of a cell in pixels.
        anchor: the side of an ordinary box in pixels.
        reach: how far, in cells, the middle of a cell may be from the centre along both axes.  With
            0.5 it is the one cell that the centre lies in, with 1 the four around it.

    Raises:
        ValueError: other shapes, an empty box, a centre outside of the grid, or too short a reach.

    >>> found = assign_cells([[[8, 0, 16, 8], [0, 0, 0, 0]]], [[7, -1]], (2, 2), 8, anchor=8)
    >>> found.classes.tolist(), found.numbers[0, :, 0, 1].tolist()
    ([[[-1, 7], [-1, -1]]], [0.0, 0.0, 0.0, 0.0])
    """
    corners, names = plain(boxes).astype(np.float64), plain(classes)
    if corners.ndim != 3 or corners.shape[2] != 4 or names.shape != corners.shape[:2]:
        raise ValueError(
            "assign_cells: boxes must be (N, most, 4) and classes (N, most), got "
            f"{corners.shape} and {names.shape}"
        )
    if not reach >= 0.5:
        raise ValueError(f"assign_cells: reach must be at least 0.5, got {reach}")
    present = np.zeros((len(corners), *grid), np.float32)
    numbers = np.zeros((len(corners), 4, *grid), np.float32)
    kinds = np.full(present.shape, -1, np.int64)
    n, k = np.nonzero(names >= 0)
    corners, names = corners[n, k], names[n, k]
    if (corners[:, 2:] <= corners[:, :2]).any():
        raise ValueError("assign_cells: a box is empty; classes of rows that pad must be -1")
    x, y = (corners[:, :2] + corners[:, 2:]).T / (2 * stride)
    if (np.minimum(x, y) < 0).any() or (y >= grid[0]).any() or (x >= grid[1]).any():
        raise ValueError(
            f"assign_cells: a box has its centre outside of {grid[0]}x{grid[1]} cells of {stride} "
            "pixels"
        )
    down = np.arange(grid[0]) + 0.5 - y[:, None]
    right = np.arange(grid[1]) + 0.5 - x[:, None]
    near = ((-reach < down) & (down <= reach))[:, :, None]
    thing, row, column = np.nonzero(near & ((-reach < right) & (right <= reach))[:, None, :])
    # What is written last stays: the nearest, and of those as near the one in front.
    away = down[thing, row] ** 2 + right[thing, column] ** 2
    order = np.argsort(-away, kind="stable")
    thing, row, column = thing[order], row[order], column[order]
    present[n[thing], row, column] = 1.0
    numbers[n[thing], :, row, column] = box_numbers(corners[thing], row, column, stride, anchor)
    kinds[n[thing], row, column] = names[thing]
    return Assignment(present, numbers, kinds)


class GridDetector(Module):
    """Features of a body, and a 1x1 convolution that answers for each cell.

    Of the `5 + classes` answers of a cell, the first is the logit of a thing's centre in it, then
    come the four of `box_numbers`, then the logits of the classes.

    Args:
        body: maps pictures (N, C, H, W) to features (N, channels, H / stride, W / stride).
        channels: of the features.
        classes: how many kinds of things there are.
        stride: how many pixels a cell has along both axes.
        anchor: the side of an ordinary box in pixels.
        reach: which cells answer for a thing, as for `assign_cells`: with 0.5 one, as in YOLO; with
            1 four, so that no two have to quarrel about a centre between them.

    >>> import minigrad
    >>> from minigrad_nn.layers import Conv2d
    >>> detector = GridDetector(Conv2d(1, 6, 8, stride=8), 6, classes=3, stride=8, anchor=20)
    >>> detector(minigrad.zeros((2, 1, 32, 48))).shape
    (2, 8, 4, 6)
    """

    def __init__(
        self,
        body: Module,
        channels: int,
        classes: int,
        stride: int,
        anchor: float,
        reach: float = 1.0,
    ) -> None:
        super().__init__()
        if classes < 1 or stride < 1 or not anchor > 0:
            raise ValueError(
                "GridDetector: classes and stride must be at least 1 and anchor above 0, got "
                f"{classes}, {stride} and {anchor}"
            )
        self.body = body
        self.head = Conv2d(channels, 5 + classes, 1)
        self.classes, self.stride, self.anchor, self.reach = classes, stride, anchor, reach
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin with ordinary boxes, no opinion on classes, and a no nearly everywhere."""
        init.normal_(self.head.weight, std=0.01)
        if self.head.bias is not None:
            bias = np.zeros(5 + self.classes, np.float32)
            bias[0] = math.log(RARE / (1.0 - RARE))
            self.head.bias.assign(bias, "GridDetector.reset_parameters")

    def forward(self, x: Any) -> Any:
        """Answers (N, 5 + classes, H / stride, W / stride) for pictures (N, C, H, W)."""
        answers = self.head(self.body(x))
        wanted = tuple(n // self.stride for n in x.shape[2:])
        if answers.shape[2:] != wanted:
            raise ValueError(
                f"GridDetector: for pictures {x.shape} and stride {self.stride}, the body should "
                f"give {wanted[0]}x{wanted[1]} cells, but gave {answers.shape[2:]}"
            )
        return answers

    def loss(self, answers: Any, boxes: Any, classes: Any) -> Any:
        """Cross-entropy of yes or no in all cells, plus class and box where there is a thing.

        Each part is a sum over cells, divided by the number of cells that answer for things.

        Args:
            answers: of `forward`.
            boxes: (N, most, 4), x0, y0, x1, y1 in pixels.
            classes: (N, most), class numbers; -1 for rows that are padding.

        Raises:
            ValueError: as `assign_cells`.
        """
        wanted = assign_cells(
            boxes, classes, answers.shape[2:], self.stride, self.anchor, self.reach
        )
        things = max(1.0, float(wanted.present.sum()))
        yes = F.binary_cross_entropy_with_logits(answers[:, 0], wanted.present, reduction="sum")
        n, row, column = np.nonzero(wanted.present)
        if not len(n):
            return yes
        here = answers[n, :, row, column]  # (things, 5 + classes)
        numbers = wanted.numbers[n, :, row, column]
        where = F.smooth_l1_loss(here[:, 1:5], numbers, reduction="sum", beta=0.1)
        what = F.cross_entropy(here[:, 5:], wanted.classes[n, row, column], reduction="sum")
        return (yes + where + what) / things

    def detect(
        self, answers: Any, threshold: float = 0.05, iou_threshold: float = 0.4
    ) -> list[tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]]:
        """What the answers of `forward` mean: boxes, after non-maximum suppression.

        The score of a find is the probability of a thing, times that of its likeliest class.

        Args:
            answers: (N, 5 + classes, h, w).
            threshold: the least score that is told.
            iou_threshold: of two finds that overlap more, whatever their classes, one is dropped.

        Returns:
            For each picture boxes (n, 4) in pixels, scores (n,) and classes (n,), by falling score.
        """
        values = plain(answers).astype(np.float64)
        found = []
        for picture in values:
            rows, columns = (index.ravel() for index in np.indices(picture.shape[1:]))
            cells = picture.reshape(len(picture), -1)
            likely = F.softmax(cells[5:], 0)
            scores = F.sigmoid(cells[0]) * likely.max(0)
            boxes = boxes_of(cells[1:5].T, rows, columns, self.stride, self.anchor)
            told = np.flatnonzero(scores >= threshold)
            told = told[nms(boxes[told], scores[told], iou_threshold)]
            found.append((boxes[told], scores[told], likely.argmax(0)[told]))
        return found

    def extra_repr(self) -> str:
        """Classes, the sizes of cells and boxes, and the reach."""
        sizes = f"stride={self.stride}, anchor={self.anchor}, reach={self.reach}"
        return f"classes={self.classes}, {sizes}"
