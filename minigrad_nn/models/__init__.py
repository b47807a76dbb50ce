"""Architectures of the lectures, one file a family; start with `lenet5.py`."""

from .lenet5 import LeNet5

__all__ = ["LeNet5"]
