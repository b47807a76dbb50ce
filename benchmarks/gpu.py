"""Everything that only a CUDA card can show, in one call of at most 8 minutes.

    python benchmarks/gpu.py [--json FILE] [--only PART ...] [--rehearse]

The parts: `tests` (those of tests/cuda/device, on the card), `sanitizer` (the same kernels under
compute-sanitizer, where that is installed), `kernels` (each with TFLOP/s or GB/s against ceilings
that are measured beside it: a large copy and a large matrix product), `steps` (the training steps
of benchmarks/train_step.py beside PyTorch's, eager and as CUDA graphs, in float32 and TF32). Each
part is a process of its own with a limit of its own, so that one that hangs takes nothing from the
others. A short table comes last.

Needs numpy, numba, numba-cuda, pytest and hypothesis; PyTorch is compared with where it is, CuPy
where PyTorch is not. No network. `--rehearse` runs the parts that can run in Numba's simulator, on
tiny arrays: it says whether the script works, and nothing about speed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
# Seconds for each part, and for all of them.
LIMITS = {"tests": 120, "sanitizer": 90, "kernels": 100, "steps": 150}
TOTAL = 470
NETWORKS = ("lenet5", "rnn", "resnet18_cifar", "resnet18", "vgg11", "mobilenet_v1")


def report(**found: Any) -> None:
    """One result, as a line that the process above reads."""
    print(json.dumps(found), flush=True)


# --- kernels --------------------------------------------------------------------------------------


def seconds(run: Callable[[], Any], wait: Callable[[], Any], least: float) -> float:
    """The median time of a call, of 5 rounds that take some time each; of 1 where that is none."""
    run()
    wait()
    start = time.perf_counter()
    run()
    wait()
    once = max(time.perf_counter() - start, 1e-6)
    count = max(1, int(least / once))
    rounds = []
    for _ in range(5 if least else 1):
        start = time.perf_counter()
        for _ in range(count):
            run()
        wait()
        rounds.append((time.perf_counter() - start) / count)
    return statistics.median(rounds)


def ceilings(tiny: bool) -> None:
    """What the card can do: a large copy, and a large matrix product by the maker's library."""
    least = 0.0 if tiny else 0.02
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            x = torch.empty(1 << 28, device="cuda")
            y = torch.empty_like(x)
            found = seconds(lambda: y.copy_(x), torch.cuda.synchronize, least)
            report(kernel="ceiling: copy", gbs=2 * x.nbytes / found / 1e9)
            a, b = (torch.randn(8192, 8192, device="cuda") for _ in range(2))
            for tf32 in (False, True):
                torch.backends.cuda.matmul.allow_tf32 = tf32
                found = seconds(lambda: a @ b, torch.cuda.synchronize, least)
                name = f"ceiling: product, {'TF32' if tf32 else 'float32'}"
                report(kernel=name, tflops=2 * 8192**3 / found / 1e12)
            return
    if importlib.util.find_spec("cupy") is not None and not tiny:
        import cupy

        def wait() -> None:
            cupy.cuda.Device().synchronize()

        x = cupy.empty(1 << 28, np.float32)
        y = cupy.empty_like(x)
        found = seconds(lambda: cupy.copyto(y, x), wait, least)
        report(kernel="ceiling: copy", gbs=2 * x.nbytes / found / 1e9)
        a, b = (cupy.ones((8192, 8192), np.float32) for _ in range(2))
        found = seconds(lambda: a @ b, wait, least)
        report(kernel="ceiling: product, float32", tflops=2 * 8192**3 / found / 1e12)


def kernel_table(tiny: bool) -> None:
    """Each family of kernels on shapes of real networks."""
    from minigrad_nn import kernels
    from minigrad_nn.kernels import Geometry
    from minigrad_nn.kernels.cuda.card import card as open_card
    from minigrad_nn.kernels.cuda.product import matmul
    from minigrad_nn.kernels.cuda.tile import use_tf32

    card = open_card(0)
    rng = np.random.default_rng(0)

    def make(*shape: int) -> Any:
        return card.from_numpy(rng.standard_normal(shape).astype(np.float32))

    def show(name: str, run: Callable[[], Any], flops: float, nbytes: float) -> None:
        found = seconds(run, card.synchronise, 0.0 if tiny else 0.01)
        report(
            kernel=name,
            milliseconds=1e3 * found,
            tflops=flops / found / 1e12,
            gbs=nbytes / found / 1e9,
        )

    for size in (8,) if tiny else (512, 1024, 4096, 8192):
        a, b = make(size, size), make(size, size)
        for kind in ("", " TF32"):
            use_tf32(bool(kind))
            name = f"product {size}{kind}"
            show(name, lambda a=a, b=b: matmul(a, b), 2 * size**3, 3 * a.nbytes)
        use_tf32(False)
    shapes = (
        # images, channels, filters, size, taps, stride, groups
        ("7x7/2", 32, 3, 64, 224, 7, 2, 1),
        ("3x3 56", 32, 64, 64, 56, 3, 1, 1),
        ("3x3/2 28", 32, 128, 256, 28, 3, 2, 1),
        ("3x3 7", 32, 512, 512, 7, 3, 1, 1),
        ("1x1 28", 32, 256, 512, 28, 1, 1, 1),
        ("depthwise 56", 32, 128, 128, 56, 3, 1, 128),
    )
    if tiny:
        shapes = (("3x3", 1, 2, 3, 4, 3, 1, 1), ("depthwise", 1, 2, 2, 4, 3, 1, 2))
    for name, images, channels, filters, size, taps, stride, groups in shapes:
        geometry = Geometry.of((size, size), taps, stride, taps // 2, groups=groups)
        x, w = make(images, channels, size, size), make(filters, channels // groups, taps, taps)
        g = make(images, filters, *geometry.output)
        flops = 2 * g.size * (channels // groups) * taps * taps
        for kernel, a, b, other in (
            (kernels.conv, x, w, g),
            (kernels.conv_input, g, w, x),
            (kernels.conv_weight, x, g, w),
        ):
            show(
                f"{kernel.__name__} {name}",
                lambda kernel=kernel, a=a, b=b, q=geometry: kernel(a, b, q),
                flops,
                a.nbytes + b.nbytes + other.nbytes,
            )
    x = make(1, 2, 4, 4) if tiny else make(32, 64, 112, 112)
    vector = make(x.shape[1])
    pool = Geometry.of(x.shape[2:], 3, 2, 1)
    made = kernels.max_pool(x, pool)
    g = make(*made.values.shape)
    sequence = make(2, 2, 3) if tiny else make(64, 64, 256)
    h, w = make(*sequence.shape[1:]), make(sequence.shape[2], sequence.shape[2])
    weights = [make(5) if tiny else make(1 << 24) for _ in range(3)]
    steps = 2 * sequence.size * sequence.shape[2]
    for name, run, flops, nbytes in (
        ("max_pool", lambda: kernels.max_pool(x, pool), 0, x.nbytes + 2 * g.nbytes),
        (
            "max_pool_input",
            lambda: kernels.max_pool_input(g, made.indices, pool),
            0,
            x.nbytes + 2 * g.nbytes,
        ),
        ("batch_norm", lambda: kernels.batch_norm(x, vector, vector), 0, 3 * x.nbytes),
        (
            "batch_norm_backward",
            lambda: kernels.batch_norm_backward(x, x, vector, vector, vector),
            0,
            5 * x.nbytes,
        ),
        ("relu", lambda: kernels.relu(x), 0, 2 * x.nbytes),
        ("rnn", lambda: kernels.rnn(sequence, h, w), steps, 2 * sequence.nbytes),
        (
            "rnn_backward",
            lambda: kernels.rnn_backward(sequence, sequence, h, w),
            2 * steps,
            4 * sequence.nbytes,
        ),
        (
            "sgd_update",
            lambda: kernels.sgd_update(
                weights[:1], weights[1:2], weights[2:], lr=0.0, momentum=0.9
            ),
            0,
            5 * weights[0].nbytes,
        ),
    ):
        show(name, run, flops, nbytes)


# --- training steps -------------------------------------------------------------------------------


def _torch_graph(step: Callable[[], None]) -> Callable[[], None]:
    """PyTorch's step as a CUDA graph: one replay a step."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def step_times(name: str, tiny: bool) -> None:
    """One network: ours, and PyTorch's, eager and as a graph, in float32 and TF32."""
    sys.path.insert(0, str(ROOT))
    import minigrad
    from benchmarks import train_step
    from minigrad_nn.kernels.cuda.tile import use_tf32

    least = 0.0 if tiny else 0.3
    if tiny:
        train_step.SHAPES[name], train_step.CLASSES[name], train_step.HIDDEN = (2, 1), 3, 4
    for tf32 in (False, True):
        use_tf32(tf32)
        minigrad.cuda.reset_peak_memory()
        step = train_step.minigrad_step(name, False, "cuda")
        found = seconds(step, minigrad.cuda.synchronize, least)
        report(
            network=name,
            peer=f"minigrad {'TF32' if tf32 else 'float32'}",
            milliseconds=1e3 * found,
            memory_mb=minigrad.cuda.memory_stats().peak_reserved / 1e6,
        )
        del step
        minigrad.cuda.empty_cache()
    if tiny or importlib.util.find_spec("torch") is None:
        return
    import torch

    if not torch.cuda.is_available():
        return
    for tf32 in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.cuda.reset_peak_memory_stats()
        step = train_step.torch_step(name, False, False, "cuda")
        kind = "TF32" if tf32 else "float32"
        for way, run in (
            ("eager", lambda step=step: step),
            ("graph", lambda s=step: _torch_graph(s)),
        ):
            try:
                found = seconds(run(), torch.cuda.synchronize, least)
            except Exception as error:
                report(network=name, peer=f"torch {way} {kind}", failed=str(error).split("\n")[0])
                continue
            memory = torch.cuda.max_memory_reserved()
            report(
                network=name,
                peer=f"torch {way} {kind}",
                milliseconds=1e3 * found,
                memory_mb=memory / 1e6,
            )


# --- processes ------------------------------------------------------------------------------------


def child(arguments: list[str], limit: float, environment: dict[str, str]) -> tuple[int, str, str]:
    """Run a process for so many seconds at most; 124 stands for one that took longer."""
    try:
        done = subprocess.run(
            [str(a) for a in arguments],
            cwd=ROOT,
            env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=max(1.0, limit),
            check=False,
        )
    except subprocess.TimeoutExpired as error:

        def text(output: Any) -> str:
            return output.decode(errors="replace") if isinstance(output, bytes) else output or ""

        return 124, text(error.stdout), text(error.stderr)
    return done.returncode, done.stdout, done.stderr


def lines(code: int, out: str, error: str) -> list[dict[str, Any]]:
    """The results that a process reported, and that it failed if it did."""
    found = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    if code:
        why = "took too long" if code == 124 else (error.strip().splitlines() or ["?"])[-1]
        found.append({"failed": why})
    return found


def run_tests(limit: float, environment: dict[str, str]) -> dict[str, Any]:
    """The tests of tests/cuda/device."""
    code, out, _ = child(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/cuda/device"],
        limit,
        environment,
    )
    last = [line for line in out.splitlines() if " passed" in line or " failed" in line]
    return {"ok": code == 0, "summary": last[-1] if last else f"exit {code}", "tail": out[-3000:]}


def run_sanitizer(limit: float) -> dict[str, Any]:
    """Kernels in red zones under compute-sanitizer."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return {"ok": None, "summary": "compute-sanitizer is not installed"}
    code, out, error = child(
        [
            *(tool, "--tool", "memcheck", "--error-exitcode", "86"),
            *(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"),
            *("tests/cuda/device/test_kernels.py", "tests/cuda/device/test_convolution.py"),
        ],
        limit,
        {},
    )
    told = [line for line in (out + error).splitlines() if "ERROR SUMMARY" in line]
    summary = told[-1].strip("= ") if told else f"exit {code}"
    return {"ok": code == 0, "summary": summary, "tail": (out + error)[-3000:]}


def about() -> dict[str, Any]:
    """The card, its driver, and versions."""
    found: dict[str, Any] = {"date": date.today().isoformat(), "python": platform.python_version()}
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        found["card"] = subprocess.run(query, capture_output=True, text=True, check=False).stdout
        found["card"] = found["card"].strip()
    for name in ("numpy", "numba", "numba-cuda", "torch", "cupy-cuda12x", "cupy-cuda13x"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def table(results: dict[str, Any]) -> None:
    """The short table."""
    ceiling = {r["kernel"]: r for r in results.get("kernels", []) if "kernel" in r}
    copy = ceiling.get("ceiling: copy", {}).get("gbs")
    product = ceiling.get("ceiling: product, float32", {}).get("tflops")
    for r in results.get("kernels", []):
        if "kernel" not in r:
            print(f"kernels: {r['failed']}")
            continue
        line = f"{r['kernel']:26}"
        if "milliseconds" in r:
            line += f" {r['milliseconds']:9.3f} ms"
        if r.get("tflops"):
            part = f" {r['tflops'] / product:5.0%}" if product else ""
            line += f" {r['tflops']:8.2f} TFLOP/s{part}"
        if r.get("gbs"):
            part = f" {r['gbs'] / copy:5.0%}" if copy else ""
            line += f" {r['gbs']:8.1f} GB/s{part}"
        print(line)
    ours = {
        r["network"]: r["milliseconds"]
        for r in results.get("steps", [])
        if r.get("peer") == "minigrad float32"
    }
    for r in results.get("steps", []):
        if "failed" in r:
            print(f"{r.get('network', 'steps'):16} {r.get('peer', ''):20} {r['failed'][:60]}")
        else:
            own = ours.get(r["network"])
            ratio = f"ratio {r['milliseconds'] / own:6.2f}" if own else ""
            print(
                f"{r['network']:16} {r['peer']:20} {r['milliseconds']:9.3f} ms "
                f"{r['memory_mb']:7.0f} MB {ratio}"
            )
    for part in ("tests", "sanitizer"):
        if part in results:
            print(f"{part}: {results[part]['summary']}")


def main() -> int:
    """Run the parts, print the table, write JSON; 1 where something failed, 2 without a card."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", default="gpu.json")
    parser.add_argument("--only", nargs="+", choices=LIMITS, default=list(LIMITS))
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        sys.path.insert(0, str(ROOT))
        if given.part[0] == "kernels":
            ceilings(given.rehearse)
            kernel_table(given.rehearse)
        else:
            step_times(given.part[1], given.rehearse)
        return 0
    end = time.monotonic() + TOTAL
    environment = {"NUMBA_ENABLE_CUDASIM": "1"} if given.rehearse else {}
    code, out, _ = child(
        [sys.executable, "-c", "import minigrad; print(minigrad.cuda.is_available())"],
        60,
        environment,
    )
    if code or out.strip() != "True":
        print(f"no card can be used here: {out.strip() or 'minigrad cannot be imported'}")
        return 2

    def room(part: str, most: float | None = None) -> float:
        return min(most or LIMITS[part], end - time.monotonic())

    results: dict[str, Any] = {"about": about(), "rehearsal": given.rehearse}
    rehearse = ["--rehearse"] * given.rehearse
    if "kernels" in given.only:
        part = [sys.executable, __file__, *rehearse, "--part", "kernels"]
        results["kernels"] = lines(*child(part, room("kernels"), environment))
    if "steps" in given.only:
        results["steps"] = []
        start = time.monotonic()
        for name in ("rnn",) if given.rehearse else NETWORKS:
            left = LIMITS["steps"] - (time.monotonic() - start)
            part = [sys.executable, __file__, *rehearse, "--part", "steps", name]
            found = lines(*child(part, room("steps", left), environment))
            results["steps"] += [{"network": name, **r} for r in found]
    if "tests" in given.only:
        results["tests"] = run_tests(room("tests"), environment)
    if "sanitizer" in given.only and not given.rehearse:
        results["sanitizer"] = run_sanitizer(room("sanitizer"))
    Path(given.json).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    table(results)
    failed = [r for part in ("kernels", "steps") for r in results.get(part, []) if "failed" in r]
    checks = [results[p]["ok"] for p in ("tests", "sanitizer") if p in results]
    return int(bool(failed) or False in checks)


if __name__ == "__main__":
    sys.exit(main())
