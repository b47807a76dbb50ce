"""`minigrad warmup`: compile the kernels before they are needed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import Progress

from .. import kernels
from ..kernels import registry

__all__ = ["compile_kernels", "run"]


def run(given: argparse.Namespace) -> int:
    """Compile all kernels of the element types that were asked for."""
    console = Console()
    seconds = compile_kernels(console, None, given.dtype)
    console.print(f"all kernels of {', '.join(given.dtype)} are ready after {seconds:.1f} s")
    return 0


def compile_kernels(
    console: Console,
    names: Iterable[str] | None,
    dtypes: Iterable[str] = ("float32",),
    like: Any = None,
) -> float:
    """Compile kernels, or load them, with a bar where the output is a terminal.

    Args:
        console: where the bar is drawn.
        names: of kernels; None for all.
        dtypes: element types.
        like: a raw array on the device that will compute; the CPU if it is None.

    Returns:
        The seconds that it took.
    """
    start = time.perf_counter()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("compiling kernels", total=None)

        def show(warmed: kernels.Warmed) -> None:
            bar.update(
                task,
                completed=warmed.done,
                total=warmed.total,
                description=f"compiling kernels: {warmed.kernel}",
            )

        device = None if like is None else registry.device_of("warmup", like)
        kernels.warmup(names, tuple(dtypes), show, device)
    return time.perf_counter() - start
