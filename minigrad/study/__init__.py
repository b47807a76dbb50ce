"""Backprop that can be questioned: why is this gradient what it is?

Start with `contributions(loss)`: what flows along each edge of a backward pass.  Then ask on:

- which way did it come?  `paths(x, loss)` finds the largest routes of the chain rule
- how is it computed?  `explain(w, loss)` derives one gradient, in symbols and in numbers
- what happens when?  `stepping(loss)` walks back one gate at a time
- what is inside?  `zoom(y, index)` shows one output element as a scalar graph
- where in my code?  Whatever is built under `recording()` knows its line, variable and module
- what if?  `override_backward(selector, rule)` puts another rule at chosen gates
- what changed?  `diff(trace(f), trace(g))` finds the first difference between two runs
- where does the NaN come from?  `anomalies()` stops where it is born
- is it healthy?  `health(loss)` tells where gradients vanish or explode, and why
- is my kernel right, and fast?  `bench_kernel(fn, like)` checks it, and then measures
- what is wrong?  `diagnose(step)` names the mistake; `sabotage(name)` plants one, to learn from

A file of this package holds one of them.  All work on the user's own graph, in the thread that
asks, and cost nothing while nobody does; `minigrad.observing` is where they stand.

>>> import minigrad
>>> from minigrad import study
>>> x, y = minigrad.scalar(4.0, name="x"), minigrad.scalar(-3.0, name="y")
>>> f = x * y
>>> [(flow.gate_gradient, flow.local_gradient, flow.contribution)
...  for flow in study.contributions(f).into(x)]
[(1.0, -3.0, -3.0)]
"""

from minigrad.study.anomaly import Anomaly, AnomalyError, anomalies
from minigrad.study.bench import KernelCheck, KernelReport, KernelTiming, bench_kernel
from minigrad.study.contributions import Amount, Contribution, Contributions, contributions
from minigrad.study.diagnose import Diagnosis, diagnose
from minigrad.study.diff import Diff, Divergence, diff
from minigrad.study.explain import Derivation, DerivationStep, explain
from minigrad.study.health import Finding, Health, health
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
    "Finding",
    "Health",
    "KernelCheck",
    "KernelReport",
    "KernelTiming",
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
    "bench_kernel",
    "contributions",
    "deconvnet",
    "diagnose",
    "diff",
    "explain",
    "gradient_reversal",
    "guided_backprop",
    "health",
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
