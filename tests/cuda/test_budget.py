"""Every kernel compiles for three generations of cards, without a card, and keeps to its budget.

Registers and shared memory decide how many threads a card keeps at work; a spilled register is
memory traffic in the innermost loop.  `budget.json` is what each kernel may take.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cuda import compiling

ROOT = Path(__file__).parent.parent.parent
TABLE = json.loads(compiling.TABLE.read_text())
# In a process of its own: numba-cuda takes the place of numba.cuda, and is not needed elsewhere.
SCRIPT = """
import json, sys
from tests.cuda import compiling
from tests.cuda.compiling import ARCHITECTURES, OLDEST, compiled, kernels, measured, ptxas
full = sys.argv[1] == "full"
capabilities = [OLDEST] if sys.argv[1] == "oldest" else ARCHITECTURES
found = {}
for kernel in kernels(full):
    assert kernel.name not in found, f"two kernels are named {kernel.name}"
    if ptxas():
        found[kernel.name] = measured(kernel, capabilities)._asdict()
    else:
        for signature in kernel.signatures:
            assert ".entry" in compiled(kernel, signature, capabilities[0])
        found[kernel.name] = None
print(json.dumps(found))
"""


def measure(share: str) -> dict:
    reason = compiling.why_not()
    if reason:
        if os.environ.get("MINIGRAD_REQUIRE_CUDA") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, share],
        cwd=ROOT,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "0", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def faults(found: dict, table: dict) -> list[str]:
    """What is wrong with kernels that were measured, against a table of budgets."""
    wrong = []
    for name, needs in found.items():
        if name not in table:
            wrong.append(f"{name} has no budget: run python -m tests.cuda.compiling")
        elif needs is not None:
            if needs["spilled"]:
                wrong.append(f"{name} spills {needs['spilled']} bytes of registers")
            for what in "registers", "shared":
                if needs[what] > table[name][what]:
                    wrong.append(f"{name}: {needs[what]} {what}, its budget is {table[name][what]}")
    return wrong


def test_kernels_keep_to_their_budget():
    found = measure("some")
    assert len(found) >= 20
    assert faults(found, TABLE) == []


@pytest.mark.full
def test_all_kernels_compile_without_spills():
    found = measure("full")
    assert set(TABLE) <= set(found), "kernels that are gone: run python -m tests.cuda.compiling"
    assert faults(found, TABLE | {n: {"registers": 255, "shared": 2**17} for n in found}) == []


@pytest.mark.full
def test_kernels_compile_for_the_oldest_cards():
    if not compiling.why_not() and compiling.toolkit() != 12:
        pytest.skip("CUDA 13 has dropped sm_70: pip install 'numba-cuda[cu12]'")
    found = measure("oldest")
    assert set(TABLE) <= set(found)
    assert faults(found, {name: {"registers": 255, "shared": 2**17} for name in found}) == []


def test_who_leaves_a_budget_is_named():
    table = {"a": {"registers": 20, "shared": 0}}
    assert faults({"a": {"registers": 20, "shared": 0, "spilled": 0}}, table) == []
    (found,) = faults({"a": {"registers": 21, "shared": 0, "spilled": 0}}, table)
    assert found == "a: 21 registers, its budget is 20"
    (found,) = faults({"a": {"registers": 1, "shared": 0, "spilled": 8}}, table)
    assert found == "a spills 8 bytes of registers"
    (found,) = faults({"b": {"registers": 1, "shared": 0, "spilled": 0}}, table)
    assert "b has no budget" in found
