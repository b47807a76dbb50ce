"""What the programs of this folder share: their options, the processes of peers, and records.

A record says where and with what it was measured, so that two of them can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from datetime import date
from typing import Any

PACKAGES = ("numpy", "numba", "llvmlite", "torch", "jax", "autograd", "micrograd")
"""What times depend on; a record has the versions of those that are installed."""


def parser(
    text: str | None, turns: int | None = None, threads: bool = True
) -> argparse.ArgumentParser:
    """The options that programs have in common.

    Args:
        text: a program's docstring, whose first line says what it does.
        turns: how many by default; None where nobody takes turns.
        threads: whether the program says how many threads a process has.
    """
    options = argparse.ArgumentParser(description=(text or "").split("\n")[0])
    if turns is not None:
        options.add_argument("--turns", type=int, default=turns)
    if threads:
        options.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options.add_argument("--json", help="also write the figures to this file")
    return options


def environment(threads: int) -> dict[str, str]:
    """The environment of a peer's process, which is to use so many threads."""
    count = str(threads)
    return {
        **os.environ,
        "NUMBA_NUM_THREADS": count,
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()}",
    }


def about(**settings: Any) -> dict[str, Any]:
    """The head of a record: when, on what and with which versions, then how it was measured."""
    return {
        "date": date.today().isoformat(),
        "cpu": f"{_model()}, {os.cpu_count()} logical cores",
        "versions": _versions(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        **settings,
    }


def write(path: str | None, about: dict[str, Any], results: dict[str, Any]) -> None:
    """Write a record as JSON, if there is somewhere to write it."""
    if path is None:
        return
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**about, **results}, file, indent=1)
        file.write("\n")


def _model() -> str:
    """The processor's name, as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:  # another system
        pass
    return platform.processor() or "unknown processor"


def _versions() -> dict[str, str]:
    # Here, so that processes whose start is measured need not load it.
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
