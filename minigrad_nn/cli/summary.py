"""`minigrad summary`: the layers of a network of the lectures, with what they cost."""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import inspect
import json
from typing import Any

from ..module import Module
from .errors import InputError

__all__ = ["run"]


def run(given: argparse.Namespace) -> int:
    """Print the table, or its data.

    Raises:
        CommandError: there is no such network, or it does not take these settings or inputs.
    """
    from ..inspect import summary

    measured = given.time or given.backward
    model = _build(given.model, _settings(given.settings), draw=measured)
    try:
        found = summary(
            model,
            given.input,
            batch=given.batch,
            dtype=given.dtype,
            depth=given.depth,
            layout=given.layout,
            time=given.time,
            backward=given.backward,
        )
    except (ValueError, TypeError) as error:
        raise InputError(f"{given.model} on --input {_words(given.input)}: {error}") from error
    print(json.dumps(found.as_dict(), indent=1) if given.json else found)
    return 0


def _words(shapes: list[tuple[int, ...]]) -> str:
    return " --input ".join(",".join(map(str, shape)) for shape in shapes)


def _settings(words: list[str]) -> dict[str, Any]:
    """`classes=10 stride_on=1x1` as arguments: Python's literals, and any other word as it is."""
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"{word!r} is no setting NAME=VALUE, such as classes=10")
        if name in settings:
            raise InputError(f"{name} is given twice")
        try:
            settings[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            settings[name] = text
    return settings


def _makers() -> dict[str, Any]:
    """What makes a network, by its name in lower case."""
    from .. import models

    def makes(thing: Any) -> bool:
        if inspect.isfunction(thing):
            thing = getattr(models, str(inspect.signature(thing).return_annotation), None)
        return inspect.isclass(thing) and issubclass(thing, Module)

    named = {name: getattr(models, name) for name in models.__all__}
    # Where a function and its class differ only in their capitals, the function has the settings.
    ordered = sorted(named.items(), key=lambda pair: inspect.isfunction(pair[1]))
    return {name.lower(): thing for name, thing in ordered if makes(thing)}


def _build(name: str, settings: dict[str, Any], draw: bool) -> Module:
    from .. import init

    makers = _makers()
    if name.lower() not in makers:
        near = difflib.get_close_matches(name.lower(), makers, n=1)
        advice = f", did you mean {near[0]}?" if near else "."
        raise InputError(f"there is no network {name!r}{advice} There are {', '.join(makers)}")
    try:
        # Weights decide nothing that is counted, and drawing them takes seconds.
        with contextlib.nullcontext() if draw else init.without_drawing():
            model: Module = makers[name.lower()](**settings)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} cannot be built with these settings: {error}") from error
    return model
