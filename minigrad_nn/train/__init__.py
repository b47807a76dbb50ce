"""Training: a loop that can be read, and what happens around it.

Start at `loop.py` (`fit` and `evaluate`), then `run.py` (what a run knows of itself, and saves) and
`callbacks.py` (logs, progress, checkpoints, schedules).  `recipes.py` has the settings that are
known to work, and `pictures.py` shows what was learned.
"""

from .callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    LearningRate,
    MetricsLog,
    ProgressBar,
)
from .loop import evaluate, fit
from .run import NonFiniteLossError, Run

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "LearningRate",
    "MetricsLog",
    "NonFiniteLossError",
    "ProgressBar",
    "Run",
    "evaluate",
    "fit",
]
