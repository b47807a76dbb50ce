"""Looking inside networks: a picture of the modules, and what `minigrad.study` needs to know.

`overview` draws a whole network, module by module; `HealthMonitor` watches gradients while it is
trained; `zoom` says how one output element of each
network operation is computed, for `minigrad.study.zoom`.
"""

from .monitor import HealthMonitor, HealthRow
from .overview import Overview, overview

__all__ = ["HealthMonitor", "HealthRow", "Overview", "overview"]
