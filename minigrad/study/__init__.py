"""Backprop that can be questioned."""

from minigrad.study.anomaly import Anomaly, AnomalyError, anomalies
from minigrad.study.contributions import Amount, Contribution, Contributions, contributions
from minigrad.study.diagnose import Diagnosis, diagnose
from minigrad.study.diff import Diff, Divergence, diff
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
from minigrad.study.trace import Trace, TraceNode, trace
from minigrad.study.zoom import Cell, Zoom, register_zoom, zoom

__all__ = [
    "FAULTS",
    "NOT_RECORDED",
    "Amount",
    "Anomaly",
    "AnomalyError",
    "Cell",
    "Contribution",
    "Contributions",
    "Derivation",
    "DerivationStep",
    "Diagnosis",
    "Diff",
    "Divergence",
    "Fault",
    "Origin",
    "Override",
    "Path",
    "Paths",
    "Recording",
    "Step",
    "Stepping",
    "Trace",
    "TraceNode",
    "Zoom",
    "anomalies",
    "contributions",
    "deconvnet",
    "diagnose",
    "diff",
    "explain",
    "gradient_reversal",
    "guided_backprop",
    "origin",
    "override_backward",
    "paths",
    "recording",
    "register_zoom",
    "sabotage",
    "stepping",
    "straight_through",
    "trace",
    "where",
    "zoom",
]
