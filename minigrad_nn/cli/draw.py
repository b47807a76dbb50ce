"""`minigrad draw`: a formula or a model as a picture of its graph."""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np

from minigrad.draw import Drawing, DrawingError, draw

from .errors import CommandError, InputError
from .expression import compute
from .options import MODELS

__all__ = ["run"]


def run(given: argparse.Namespace) -> int:
    """Draw, and save or print.

    Raises:
        CommandError: the formula, a value or the file name cannot be used, or drawing failed.
    """
    values = _values(given.values)
    options = dict(digits=min(given.digits, 17), title=given.title, engine=given.engine)
    if given.what in MODELS:
        if values:
            raise InputError(f"{given.what} is a model: it takes no values")
        drawing = _draw_model(given.forward, options)
    else:
        root = compute(given.what, values)
        if not given.forward:
            root.backward()
        drawing = draw(root, **options)
    try:
        if given.out is None:
            print(drawing.text(), end="")
        else:
            _save(drawing, given.out)
    except DrawingError as error:
        raise CommandError(str(error)) from error
    return 0


def _save(drawing: Drawing, path: str) -> None:
    try:
        saved = drawing.save(path)
    except (ValueError, OSError) as error:
        raise InputError(f"cannot write {path}: {error}") from error
    by = f", placed by {drawing.layout.engine}" if saved.suffix in (".svg", ".png", ".html") else ""
    print(f"{saved}: {len(drawing.graph.nodes)} nodes, {len(drawing.graph.edges)} edges{by}")


def _values(words: list[str]) -> dict[str, float]:
    values: dict[str, float] = {}
    for word in words:
        name, equals, text = word.partition("=")
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not equals or not name.isidentifier() or math.isnan(number):
            raise InputError(f"{word!r} is no NAME=NUMBER, such as x=-2")
        if name in values:
            raise InputError(f"{name} is given twice")
        values[name] = number
    return values


def _draw_model(forward: bool, options: dict[str, Any]) -> Drawing:
    """The loss of a fresh LeNet-5 on four pictures of noise."""
    import minigrad

    from ..models import LeNet5
    from ..train.pictures import model_graph

    minigrad.random.manual_seed(0)
    pictures = minigrad.random.normal((4, 1, 28, 28))
    return model_graph(LeNet5(), pictures, np.arange(4), backward=not forward, **options)
