"""Loads the packages whose functions are named as their files, before pytest imports a file alone.

Otherwise the doctests of `minigrad/study/explain.py`, when collected first, would put the module in
the place of the function `minigrad.study.explain`.
"""

import minigrad.check
import minigrad.draw
import minigrad.study  # noqa: F401 - loading them is the point
import minigrad_nn.models  # noqa: F401
