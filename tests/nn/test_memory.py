"""How much memory a training step takes, counted in bytes of arrays, beside what it has to hold."""

import json
import subprocess
import sys

import pytest

# In a process of its own: the heap is one for all.
STEPS = """
import json
import numpy as np
import minigrad as mg, minigrad_nn as nn
from minigrad_nn import functional as F
from minigrad_nn.kernels import blas, reuse_memory
from minigrad_nn.kernels.cpu import arena, arrays, memory

rng = np.random.default_rng(0)
state = memory.pool().state
heap = []
with reuse_memory():
    model = nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 16 * 16, 512), nn.ReLU()),
        nn.Linear(512, 10),
    )
    optimizer = nn.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x = mg.tensor(rng.standard_normal((64, 3, 32, 32), dtype=np.float32))
    target = rng.integers(0, 10, 64)

    def train():
        loss = F.cross_entropy(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def look():
        with mg.no_grad():
            model.eval()(x)
        model.train()

    found = {}
    for name, step in ("inference", look), ("training", train):
        step()
        step()
        mg.empty_memory()  # the peak counts from here
        for _ in range(5):
            step()
        found[name] = mg.memory_stats().peak
        found[name + " heap"] = [int(state[arena.TOP] - state[arena.START])]
        for _ in range(15):
            step()
        found[name + " heap"].append(int(state[arena.TOP] - state[arena.START]))
    spaces = [arrays._local.workspace, getattr(blas._local, "workspace", None)]
    found["scratch"] = sum(space.nbytes for space in spaces if space is not None)
    found["weights"] = sum(p.numpy().nbytes for p in model.parameters())
    found["pooled"] = memory.pool() is not None
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


PLANES = 64 * 32 * 32 * 32 * 4  # bytes of what a convolution here makes
INPUT = 64 * 3 * 32 * 32 * 4


def test_inference_holds_two_layers(found):
    """Weights, scratch memory, the input, and the activations that one layer reads and writes."""
    least = found["weights"] + found["scratch"] + INPUT + 2 * PLANES
    assert found["inference"] <= 1.05 * least


def test_training_holds_what_the_backward_pass_reads(found):
    """Weights, gradients and momentum; each layer's output, the pool's positions; two gradients."""
    activations = PLANES + PLANES + PLANES // 4 + PLANES // 4
    least = 3 * found["weights"] + found["scratch"] + INPUT + activations + 2 * PLANES
    assert found["training"] <= 1.1 * least


@pytest.mark.parametrize("what", ["inference", "training"])
def test_the_heap_is_hardly_larger_than_what_was_alive_and_does_not_grow(found, what):
    if not found["pooled"]:
        pytest.skip("nothing is pooled without Python's global lock")
    after_5, after_20 = found[what + " heap"]
    assert after_5 == after_20 <= 1.2 * found[what]
