"""Pictures of a training: how it went, what the first layer looks for, what came out wrong.

They need matplotlib (extra `plot`), which is imported when the first one is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import minigrad

from ..functional import cross_entropy
from ..io import write_atomically
from ..module import Module

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from minigrad.draw import Drawing

__all__ = ["draw_filters", "draw_learning_curve", "draw_mistakes", "model_graph"]

LEARN, TEST, FAINT = "#1f5fa8", "#c2410c", "#a9c4e4"
GREY = "#5b6470"
MOST_POINTS = 1000
SHORT_NAMES = 6
"""So many letters of two classes stand on one line above a picture."""


def _figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that belongs to no window and no global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor="white")


def _save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    content = BytesIO()
    figure.savefig(content, format="png")
    return write_atomically(path, content.getvalue())


def draw_learning_curve(
    path: str | os.PathLike[str],
    history: Sequence[Mapping[str, float]],
    batches: Sequence[tuple[float, float]] = (),
    title: str = "Learning curve",
    note: str = "",
) -> Path:
    """Loss and accuracy over epochs, of the training set and each validation set, as PNG.

    The training curves are means over an epoch, while the network was still learning and saw
    changed pictures: their accuracy may lie below that of the test set.

    Args:
        path: where.
        history: of a `Run`.
        batches: epoch, as a fraction, and loss of each batch, drawn faintly.
        title: a heading.
        note: what readers should know, below the curves.

    Raises:
        ModuleNotFoundError: matplotlib is missing.
    """
    figure = _figure(9, 3.8)
    figure.suptitle(title, fontsize=12)
    if note:
        figure.supxlabel(note, fontsize=8, color=GREY)
    left, right = figure.subplots(1, 2, sharex=True)
    if batches:
        group = -(-len(batches) // MOST_POINTS)
        label = "each batch" if group == 1 else f"means of {group} batches"
        left.plot(*_thinned(batches, group), color=FAINT, lw=0.7, label=label)
    for axes, name in ((left, "loss"), (right, "accuracy")):
        for key in _series(history, name):
            points = [(row["epoch"], row[key]) for row in history if key in row]
            test = key != name
            label = key.removesuffix(f"_{name}") if test else "training"
            scale = 100.0 if name == "accuracy" else 1.0
            axes.plot(
                [x for x, _ in points],
                [scale * y for _, y in points],
                color=TEST if test else LEARN,
                marker="o" if len(points) < 40 else None,
                ms=3,
                lw=1.6,
                label=f"{label} {scale * points[-1][1]:.{1 if scale > 1 else 4}f}",
            )
        axes.set_xlabel("epoch")
        _tidy(axes)
    left.set_xlim(left=0)
    left.set_ylabel("cross-entropy")
    left.set_yscale("log")
    right.set_ylabel("right, %")
    for axes in (left, right):
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize=9, title="at the end", title_fontsize=8)
    return _save(figure, path)


def _thinned(points: Sequence[tuple[float, float]], group: int) -> NDArray[Any]:
    """Coordinates (2, n) of the means of so many neighbours each; a rest is left out."""
    whole = max(1, len(points) // group) * group
    return np.array(points[:whole]).reshape(-1, min(group, len(points)), 2).mean(1).T


def _series(history: Sequence[Mapping[str, float]], name: str) -> list[str]:
    """The names in a history of one kind of number: of training, then of the validation sets."""
    keys = dict.fromkeys(key for row in history for key in row)
    return [key for key in keys if key == name or key.endswith(f"_{name}")]


def _tidy(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e7eb", lw=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=GREY, labelsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def draw_filters(
    path: str | os.PathLike[str],
    weight: NDArray[Any],
    before: NDArray[Any] | None = None,
    title: str = "What the first layer looks for",
) -> Path:
    """The filters of a first convolution, as PNG: red where light excites, blue where it inhibits.

    Args:
        path: where.
        weight: (filters, channels, height, width); channels are averaged.
        before: the same before training, drawn as a second row.
        title: a heading.

    Raises:
        ModuleNotFoundError: matplotlib is missing.
    """
    rows = [("learned", weight)] if before is None else [("at first", before), ("learned", weight)]
    count = len(weight)
    columns = min(count, 16)
    lines = -(-count // columns)
    # Not narrower than the heading.
    figure = _figure(max(0.8 + 1.15 * columns, 3.2), 0.7 + 1.05 * lines * len(rows))
    figure.suptitle(title, fontsize=12)
    grid = figure.subplots(lines * len(rows), columns, squeeze=False)
    limit = max(float(np.abs(w.mean(1)).max()) for _, w in rows) or 1.0
    for axes in grid.flat:
        axes.axis("off")
    for row, (label, filters) in enumerate(rows):
        for number, picture in enumerate(filters.mean(1)):
            axes = grid[row * lines + number // columns, number % columns]
            axes.axis("on")
            axes.set_xticks([])
            axes.set_yticks([])
            shown = axes.imshow(picture, cmap="RdBu_r", vmin=-limit, vmax=limit)
            if number == 0:
                axes.set_ylabel(label, fontsize=10, color=GREY)
            if row == len(rows) - 1:
                axes.set_xlabel(f"filter {number + 1}", fontsize=9, color=GREY)
    figure.colorbar(shown, ax=grid, shrink=0.9, pad=0.02, label="weight")
    return _save(figure, path)


def draw_mistakes(
    path: str | os.PathLike[str],
    pictures: NDArray[Any],
    labels: NDArray[Any],
    probabilities: NDArray[Any],
    classes: Sequence[str] | None = None,
    most: int = 40,
) -> Path:
    """Pictures that were read wrong, the surest first, with the true and the predicted class.

    Where nothing is wrong the least sure ones are shown.

    Args:
        path: where, as PNG.
        pictures: (N, C, H, W) in [0, 1], all that were tested.
        labels: (N,), their true classes.
        probabilities: (N, classes), what the network says.
        classes: names; numbers if it is None.
        most: how many are shown at most.

    Raises:
        ModuleNotFoundError: matplotlib is missing.
    """
    names = classes or [str(number) for number in range(probabilities.shape[1])]
    predicted = probabilities.argmax(1)
    sure = probabilities.max(1)
    wrong = np.flatnonzero(predicted != labels)
    if len(wrong):
        chosen = wrong[np.argsort(-sure[wrong], kind="stable")][:most]
        title = f"{len(wrong)} of {len(labels)} read wrong"
        if len(wrong) > most:
            title += f"; the surest {most}"
    else:
        chosen = np.argsort(sure, kind="stable")[:10]
        title = f"all {len(labels)} read right; the least sure"
    pairs = [(names[labels[i]], names[predicted[i]]) for i in chosen]
    between = ", "
    if any(len(true) + len(read) > SHORT_NAMES for true, read in pairs):
        between = "\n"
    told = [f"{true}{between}read as {read}" for true, read in pairs]
    longest = max((len(line) for text in told for line in text.split("\n")), default=0)
    columns = min(10, max(5, len(chosen)))
    rows = max(1, -(-len(chosen) // columns))
    tall = 1.45 if between == "\n" else 1.3
    figure = _figure(max(1.0, 0.07 * longest) * columns + 0.4, tall * rows + 0.35)
    figure.suptitle(title, fontsize=12)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, i, text in zip(grid.flat, chosen, told, strict=False):
        picture = pictures[i].transpose(1, 2, 0)
        axes.imshow(picture.squeeze(-1) if picture.shape[2] == 1 else picture,
                    cmap="gray_r", vmin=0, vmax=1)  # fmt: skip
        axes.set_title(
            f"{text}\n{100 * sure[i]:.0f} % sure",
            fontsize=8,
            color=TEST if predicted[i] != labels[i] else GREY,
        )
    return _save(figure, path)


def model_graph(
    model: Module,
    pictures: NDArray[Any],
    labels: NDArray[Any],
    backward: bool = True,
    **options: Any,
) -> Drawing:
    """The graph of a model's loss on some samples, with the norms of gradients, as a drawing.

    Parameters have their paths as names, and so have the outputs of the model's own parts.  The
    parameters' gradients are cleared.

    Args:
        model: of classes.
        pictures: (N, C, H, W), normalised.
        labels: (N,).
        backward: whether to compute gradients.
        options: of `minigrad.draw`.
    """
    from minigrad.draw import draw

    named = [(path, p, p.name) for path, p in model.named_parameters()]
    outputs: list[minigrad.Tensor] = []  # held, so that the picture finds their values
    removers = [
        child.register_forward_hook(_namer(name, outputs)) for name, child in model.named_children()
    ]
    try:
        for path, parameter, _ in named:
            parameter.name = path
        model.zero_grad()
        place = next((p.device for _, p, _ in named), "cpu")
        inputs = minigrad.tensor(pictures).to(place)
        inputs.name, inputs.requires_grad = "pictures", True
        loss = cross_entropy(model(inputs), labels)
        loss.name = "loss"
        if backward:
            loss.backward(retain_graph=True)
        return draw(loss, **options)
    finally:
        for remove in removers:
            remove()
        for _, parameter, name in named:
            parameter.name = name
        model.zero_grad()


def _namer(name: str, outputs: list[minigrad.Tensor]) -> Callable[[Any, tuple, Any], None]:
    """A hook that names the outputs of a part, and keeps their gradients."""

    def hook(module: Any, args: tuple, output: Any) -> None:
        if isinstance(output, minigrad.Tensor) and output.requires_grad:
            outputs.append(output.retain_grad())
            if output.name is None:
                output.name = name

    return hook
