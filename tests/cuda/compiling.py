"""Compile kernels for cards that are not here, and ask ptxas what they need.

`python -m tests.cuda.compiling` writes the table of budgets anew, after a change that is meant.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import json
import pkgutil
import re
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import minigrad_nn.kernels.cuda as package

TABLE = Path(__file__).parent / "budget.json"
ARCHITECTURES = ((7, 5), (8, 0), (9, 0))
"""Compute capabilities: the oldest that CUDA 13 knows, and those most in use."""
OLDEST = (7, 0)
"""Of the oldest cards for which kernels are meant; CUDA 12 is the last that knows it."""


class Needs(NamedTuple):
    """What a kernel takes on a card: registers of a thread, shared memory of a block, spills."""

    registers: int
    shared: int
    spilled: int


def why_not() -> str | None:
    """Why nothing can be compiled here; None where it can."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed: pip install 'minigrad[cuda]'"
    if importlib.util.find_spec("nvidia") is None:
        return "NVVM is not installed: pip install 'numba-cuda[cu13]'"
    return None


def toolkit() -> int:
    """The version of CUDA whose compiler is installed."""
    return int(importlib.metadata.version("cuda-bindings").split(".")[0])


@functools.cache
def ptxas() -> str | None:
    """NVIDIA's assembler, where it is installed: that of CUDA 12's own package, or any."""
    try:
        package = importlib.metadata.distribution("nvidia-cuda-nvcc-cu12")
    except importlib.metadata.PackageNotFoundError:
        return shutil.which("ptxas")
    own = package.locate_file("nvidia/cuda_nvcc/bin/ptxas")
    return shutil.which(str(own)) or shutil.which("ptxas")


def kernels(full: bool = False) -> Iterator:
    """Every entry point of the package: the plain ones, and examples of those that are generated.

    A module that generates kernels has `examples(full)`, which gives some, or all that matter.
    """
    from minigrad_nn.kernels.cuda import launch

    modules = [
        importlib.import_module(f"{package.__name__}.{info.name}")
        for info in pkgutil.iter_modules(package.__path__)
    ]
    found = list(launch.known)
    for module in modules:
        if hasattr(module, "examples"):
            found += module.examples(full)
    yield from dict.fromkeys(found)


def compiled(kernel, signature: str, capability: tuple[int, int]) -> str:
    """The PTX of a kernel for one signature and one generation of cards."""
    from numba import cuda
    from numba.cuda import dispatcher
    from numba.cuda.core import sigutils

    arguments, _ = sigutils.normalize_signature(signature)
    # Functions that kernels call ask for the card at hand.
    there = types.SimpleNamespace(compute_capability=capability)
    with mock.patch.object(dispatcher, "get_current_device", lambda: there):
        text, _ = cuda.compile(
            kernel.py_func,
            arguments,
            cc=capability,
            device=False,
            abi="numba",
            output="ptx",
            **{
                k: v
                for k, v in kernel.options.items()
                if k in ("fastmath", "opt", "lineinfo", "launch_bounds")
            },
        )
    return text


def needs(text: str, kernel, capability: tuple[int, int]) -> Needs:
    """What ptxas says of a kernel's PTX.

    Raises:
        RuntimeError: ptxas refuses it.
    """
    extra = []
    if "max_registers" in kernel.options:
        extra = [f"-maxrregcount={kernel.options['max_registers']}"]
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(text)
        file.flush()
        name = f"-arch=sm_{capability[0]}{capability[1]}"
        done = subprocess.run(
            [ptxas(), name, "-v", *extra, "-o", "/dev/null", file.name],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"ptxas: {done.stdout}{done.stderr}")

    def number(pattern: str) -> int:
        return max([0, *map(int, re.findall(pattern, done.stderr))])

    return Needs(
        number(r"Used (\d+) registers"),
        number(r"(\d+) bytes smem"),
        number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"),
    )


def measured(kernel, capabilities: Iterable[tuple[int, int]] = ARCHITECTURES) -> Needs:
    """The most that a kernel needs, over its signatures and some generations of cards."""
    found = [
        needs(compiled(kernel, signature, capability), kernel, capability)
        for signature in kernel.signatures
        for capability in capabilities
    ]
    return Needs(*map(max, zip(*found, strict=True)))


def main() -> None:
    """Write the table: what each kernel needs now is what it may need from here on."""
    table = {}
    for kernel in kernels(full="--full" in sys.argv):
        found = measured(kernel)
        table[kernel.name] = {"registers": found.registers, "shared": found.shared}
        print(f"{kernel.name:48} {found}")
    TABLE.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n")


if __name__ == "__main__":
    main()
