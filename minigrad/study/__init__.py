"""Backprop that can be questioned."""

from minigrad.study.contributions import Amount, Contribution, Contributions, contributions

__all__ = ["Amount", "Contribution", "Contributions", "contributions"]
