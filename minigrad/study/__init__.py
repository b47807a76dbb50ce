"""Backprop that can be questioned."""

from minigrad.study.contributions import Amount, Contribution, Contributions, contributions
from minigrad.study.record import NOT_RECORDED, Origin, Recording, origin, recording, where

__all__ = ["NOT_RECORDED", "Amount", "Contribution", "Contributions", "Origin", "Recording", "contributions", "origin", "recording", "where"]
