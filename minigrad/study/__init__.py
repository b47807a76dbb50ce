"""Backprop that can be questioned."""

from minigrad.study.anomaly import Anomaly, AnomalyError, anomalies
from minigrad.study.contributions import Amount, Contribution, Contributions, contributions
from minigrad.study.diagnose import Diagnosis, diagnose
from minigrad.study.explain import Derivation, DerivationStep, explain
from minigrad.study.paths import Path, Paths, paths
from minigrad.study.record import NOT_RECORDED, Origin, Recording, origin, recording, where
from minigrad.study.sabotage import FAULTS, Fault, sabotage
from minigrad.study.stepping import Step, Stepping, stepping
from minigrad.study.surgery import (
    Override,
    deconvnet,
    gradient_reversal,
    guided_backprop,
    override_backward,
    straight_through,
)

__all__ = [
    "FAULTS",
    "NOT_RECORDED",
    "Amount",
    "Anomaly",
    "AnomalyError",
    "Contribution",
    "Contributions",
    "Derivation",
    "DerivationStep",
    "Diagnosis",
    "Fault",
    "Origin",
    "Override",
    "Path",
    "Paths",
    "Recording",
    "Step",
    "Stepping",
    "anomalies",
    "contributions",
    "deconvnet",
    "diagnose",
    "explain",
    "gradient_reversal",
    "guided_backprop",
    "origin",
    "override_backward",
    "paths",
    "recording",
    "sabotage",
    "stepping",
    "straight_through",
    "where",
]
