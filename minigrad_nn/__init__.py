"""Everything that trains networks, on top of the engine `minigrad`.

>>> import minigrad
>>> import minigrad_nn as nn
>>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
>>> optimizer = nn.optim.SGD(model.parameters(), lr=0.1)
>>> loss = nn.functional.cross_entropy(model(minigrad.ones((2, 4))), [0, 2])
>>> loss.backward()
>>> optimizer.step()

Start with `minigrad_nn.functional` (differentiable functions), then `minigrad_nn.kernels` (the
arithmetic below them, arrays in and arrays out) and `minigrad_nn.module`. Importing this package is
light: a room such as `minigrad_nn.kernels` is imported when it is first named.
"""

from __future__ import annotations

import importlib
from typing import Any

# Names that are used so often that they stand here too, by the room that they come from.
_ROOMS = {
    "chaining": ("Plus", "chain"),
    "ensemble": ("Ensemble", "TestTimeAugmentation"),
    "module": ("LoadResult", "Module", "ModuleList", "Parameter", "Sequential"),
    "layers": (
        *("AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d"),
        *("AdaptiveMaxPool2d", "AdaptiveMaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d"),
        *("BCEWithLogitsLoss", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "ContrastNorm2d"),
        *("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"),
        *("CrossEntropyLoss", "DepthwiseConv1d", "DepthwiseConv2d", "DepthwiseConv3d", "DiceLoss"),
        *("DivisiveNorm2d", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "ELU", "Embedding"),
        *("Flatten", "FocalLoss", "GELU", "GRU", "GRUCell", "GlobalAvgPool", "GroupNorm"),
        *("Hardswish", "Identity", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "L1Loss"),
        *("LSTM", "LSTMCell", "LayerNorm", "LeakyReLU", "Linear", "LocalResponseNorm"),
        *("LogSoftmax", "MSELoss", "MaxPool1d", "MaxPool2d", "MaxPool3d", "MaxUnpool1d"),
        *("MaxUnpool2d", "MaxUnpool3d", "ModuleDict", "NLLLoss", "PReLU", "PointwiseConv1d"),
        *("PointwiseConv2d", "PointwiseConv3d", "RNN", "RNNCell", "ReLU", "ReLU6"),
        *("SeparableConv1d", "SeparableConv2d", "SeparableConv3d", "SiLU", "Sigmoid"),
        *("SigmoidFocalLoss", "SmoothL1Loss", "Softmax", "Softplus", "SubtractiveNorm2d"),
        *("SumPool1d", "SumPool2d", "SumPool3d", "Swish", "Tanh", "Upsample", "detached"),
        *("truncated_bptt",),
    ),
    "inspect": ("summary",),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a room, or a name that stands in one, when it is first asked for (PEP 562)."""
    if name in _HOME:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if not name.startswith("_"):
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            # A missing library inside the room is another matter, and is told as it is.
            if error.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
