"""How many examples a test on a card draws: few, since a simulated thread costs 0.1 ms."""

import os

import numpy as np
from hypothesis import HealthCheck, Phase, settings

DTYPES = (np.float32, np.float64)

few = settings(
    max_examples=30 if os.environ.get("HYPOTHESIS_PROFILE") == "full" else 3,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
