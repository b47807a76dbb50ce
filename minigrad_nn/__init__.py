"""Everything that trains networks, on top of the engine `minigrad`.

Start with `minigrad_nn.functional` (differentiable functions), then `minigrad_nn.kernels` (the
arithmetic below them, arrays in and arrays out). Importing this package is light: a room such as
`minigrad_nn.kernels` is imported when it is first named.
"""

from __future__ import annotations

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """Import a submodule when it is first asked for (PEP 562)."""
    if not name.startswith("_"):
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            # A missing library inside the submodule is another matter, and is told as it is.
            if error.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
