"""Looking inside networks: tables and pictures of modules, and what `minigrad.study` needs to know.

`summary` lists the layers with what they cost and how much of the input they see; `overview` draws
a whole network, module by module; `HealthMonitor` watches gradients while it is trained; `zoom`
says how one output element of each network operation is computed, for `minigrad.study.zoom`.
"""

from .monitor import HealthMonitor, HealthRow
from .overview import Overview, overview
from .summary import Row, Summary, Totals, summary

__all__ = [
    "HealthMonitor",
    "HealthRow",
    "Overview",
    "Row",
    "Summary",
    "Totals",
    "overview",
    "summary",
]
