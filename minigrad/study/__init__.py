"""Backprop that can be questioned."""

from minigrad.study.contributions import Amount, Contribution, Contributions, contributions
from minigrad.study.paths import Path, Paths, paths
from minigrad.study.record import NOT_RECORDED, Origin, Recording, origin, recording, where

__all__ = [
    "NOT_RECORDED",
    "Amount",
    "Contribution",
    "Contributions",
    "Origin",
    "Path",
    "Paths",
    "Recording",
    "contributions",
    "origin",
    "paths",
    "recording",
    "where",
]
