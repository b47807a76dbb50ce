"""Backprop that can be questioned."""

from minigrad.study.contributions import Amount, Contribution, Contributions, contributions
from minigrad.study.explain import Derivation, Step, explain
from minigrad.study.paths import Path, Paths, paths
from minigrad.study.record import NOT_RECORDED, Origin, Recording, origin, recording, where

__all__ = [
    "NOT_RECORDED",
    "Amount",
    "Contribution",
    "Contributions",
    "Derivation",
    "Origin",
    "Path",
    "Paths",
    "Recording",
    "Step",
    "contributions",
    "explain",
    "origin",
    "paths",
    "recording",
    "where",
]
