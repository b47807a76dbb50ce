"""What forward and backward passes execute while nobody observes, instruction by instruction.

    python tests/study/executed.py

It is a process of its own, since it begins before `minigrad.study` was ever imported, and prints
JSON: for each moment and each graph the number of instructions and of calls, and a digest of all
instructions in their order.  No clock is asked.
"""

import gc
import hashlib
import json
import sys
import types
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np

import minigrad
from minigrad import backend, core, observing, recording

WEIGHT = minigrad.tensor(np.full((3, 2), 0.5), requires_grad=True)
BIAS = minigrad.tensor(np.zeros(2), requires_grad=True)
X = minigrad.tensor(np.ones((4, 3)))
W, B = minigrad.scalar(0.5), minigrad.scalar(0.25)


def of_tensors() -> None:
    """A layer and its squared error: several ops, broadcasting, a shared value."""
    WEIGHT.zero_grad()
    BIAS.zero_grad()
    h = minigrad.relu(X @ WEIGHT + BIAS)
    (h * h).mean().backward()


def of_scalars() -> None:
    """A neuron and its weight decay."""
    W.zero_grad()
    B.zero_grad()
    out = (W * 2.0 + B * W).tanh()
    (out * out + 0.1 * W).backward()


def instructions(step: Callable[[], None]) -> list[tuple]:
    """Each bytecode instruction that is executed: which code, and where in it."""
    found: list[tuple] = []

    def look(frame: FrameType, event: str, arg: Any) -> Callable:
        frame.f_trace_opcodes = True
        if event == "opcode":
            code = frame.f_code
            found.append((code.co_filename, code.co_firstlineno, code.co_name, frame.f_lasti))
        return look

    sys.settrace(look)
    step()
    sys.settrace(None)
    return found


def calls(step: Callable[[], None]) -> int:
    """How many functions are called, those in C included."""
    count = 0

    def look(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(look)
    step()
    sys.setprofile(None)
    return count


def executed() -> dict[str, dict[str, Any]]:
    """What both graphs execute now."""
    found = {}
    for step in (of_tensors, of_scalars):
        told = instructions(step)
        digest = hashlib.sha256(repr(told).encode()).hexdigest()
        found[step.__name__] = {"instructions": len(told), "calls": calls(step), "digest": digest}
    return found


def functions() -> dict[str, Any]:
    """Everything of the engine that could be patched: by name, with the code of functions."""
    found: dict[str, Any] = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "minigrad" and not name.startswith("minigrad.study"):
            for key, value in vars(module).items():
                found[f"{name}.{key}"] = value
                if isinstance(value, type):
                    found |= {f"{name}.{key}.{k}": v for k, v in vars(value).items()}
    codes = {k: v.__code__ for k, v in found.items() if isinstance(v, types.FunctionType)}
    return found | {f"{name}'s code": code for name, code in codes.items()}


def changed(before: dict[str, Any]) -> list[str]:
    """Names that mean something else than before; what came with `minigrad.study` aside."""
    now = functions()
    counters = {"minigrad.core.last_set", "minigrad.backend.last_write"}
    return [
        name for name, value in before.items() if now[name] is not value and name not in counters
    ]


def empty() -> bool:
    """Whether every place where somebody could stand is as if nobody ever had."""
    return (
        observing.standing == {}
        and recording.paused == set()
        and backend._interposed == []
        and core.execute is backend.execute
        and observing.passage() is None
    )


def main() -> None:
    """Look at every moment, and print what was seen."""
    gc.disable()
    for _ in range(3):  # rules are compiled when they are first used
        of_tensors()
        of_scalars()
    found: dict[str, Any] = {"before": executed(), "loaded": "minigrad.study" in sys.modules}
    before = functions()

    from minigrad import study

    found["imported"] = executed()
    with study.anomalies():
        found["inside"] = executed()
        found["empty inside"] = empty()
    found["left"] = executed()
    try:
        with study.anomalies():
            minigrad.log(minigrad.tensor([0.0]))
    except study.AnomalyError:
        found["left by an error"] = executed()
    for tool in (study.recording, lambda: study.override_backward("relu", study.guided_backprop)):
        with tool():
            of_tensors()
    found["left by others"] = executed()
    found["empty"] = empty()
    found["changed"] = changed(before)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
