"""`minigrad warmup`: compile the kernels before they are needed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable

from rich.console import Console
from rich.progress import Progress

from .. import kernels

__all__ = ["run"]


def run(given: argparse.Namespace) -> int:
    """Compile all kernels of the element types that were asked for."""
    console = Console()
    seconds = _compile_kernels(console, given.dtype)
    console.print(f"all kernels of {', '.join(given.dtype)} are ready after {seconds:.1f} s")
    return 0


def _compile_kernels(console: Console, dtypes: Iterable[str]) -> float:
    """Compile all kernels, with a bar where the output is a terminal; the seconds it took."""
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

        kernels.warmup(None, tuple(dtypes), show)
    return time.perf_counter() - start
