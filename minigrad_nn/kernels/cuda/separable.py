"""A depthwise filter between two batch norms, by the kernels of each.

What lies between is not kept for backward, as on the CPU: that is memory saved, at the price of
computing it again.
"""

from __future__ import annotations

from ..separable import composed as norm_depthwise_norm
from ..separable import composed_backward as norm_depthwise_norm_backward

__all__ = ["norm_depthwise_norm", "norm_depthwise_norm_backward"]
