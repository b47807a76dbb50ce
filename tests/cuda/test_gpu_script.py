"""`benchmarks/gpu.py` says why it does nothing without a card, and can be rehearsed without one."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "benchmarks" / "gpu.py"


@pytest.fixture
def gpu(monkeypatch):
    spec = importlib.util.spec_from_file_location("gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return module


def run(gpu, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpu.py", *map(str, arguments)])
    return gpu.main()


def python(text):
    return [sys.executable, "-c", text]


def test_without_a_card_it_says_why(gpu, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(gpu, "child", lambda *a: (0, "False: there is none\n", ""))
    assert run(gpu, monkeypatch, "--json", tmp_path / "j") == 2
    assert capsys.readouterr().out == "no card can be used here: False: there is none\n"
    found = json.loads((tmp_path / "j").read_text())
    assert found["unavailable"] == "False: there is none" and "numpy" in found["about"]


def test_without_numba_it_says_why(gpu, monkeypatch, capsys, tmp_path):
    error = "Traceback ...\nModuleNotFoundError: No module named 'numba'\n"
    monkeypatch.setattr(gpu, "child", lambda *a: (1, "", error))
    assert run(gpu, monkeypatch, "--json", tmp_path / "j") == 2
    assert "No module named 'numba'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "kernel"], "invalid choice: 'kernel'"),
        (["--json", "/nowhere/at/all.json"], "--json: "),
        (["--seconds", "long"], "invalid float value"),
    ],
)
def test_wrong_arguments_are_told_at_once(gpu, monkeypatch, capsys, arguments, words):
    with pytest.raises(SystemExit):
        run(gpu, monkeypatch, *arguments)
    assert words in capsys.readouterr().err


HANGS = """
import subprocess, sys, time
print('{"a": 1}', flush=True)
there = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print('{"there": %d}' % there.pid)
print('{"half": ', end="", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("limits", [(1.5, None), (60, 1.5)], ids=["late", "silent"])
def test_a_process_that_hangs_is_ended_with_all_that_it_started(gpu, limits):
    told, (limit, silence) = [], limits
    start = time.monotonic()
    code, _, _ = gpu.child(python(HANGS), limit, {}, told.append, silence)
    assert time.monotonic() - start < 30
    assert code == 124 and told[0] == {"a": 1} and len(told) == 2
    assert gpu.why(code, "") == "took too long"
    for _ in range(100):
        state = Path(f"/proc/{told[1]['there']}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("what it started goes on")


def test_a_process_that_dies_says_how(gpu):
    code, out, error = gpu.child(python("import os; os.kill(os.getpid(), 11)"), 60, {})
    assert gpu.why(code, error, out) == "ended by signal 11"
    code, out, error = gpu.child(python("import nothing_of_this_name"), 60, {})
    assert "No module named 'nothing_of_this_name'" in gpu.why(code, error, out)


def test_a_network_that_fails_costs_no_other(gpu, monkeypatch):
    """One raises, one kills its process, one hangs; all that can be measured is."""
    faults = {"rnn": 3, "resnet18": -11, "vgg11": 124}
    asked = []

    def child(command, limit, environment, tell, silence):
        asked.append(command[command.index("steps") + 1 :])
        out = []
        for job in asked[-1]:
            whose, _, name = job.partition(":")
            fault = faults.get(name, 0) if whose == "ours" else 0
            rows = [{"begun": job}]
            if fault in (0, 3):
                row = {"failed": "x"} if fault else {"milliseconds": 1.0, "memory_mb": 1.0}
                rows += [{"network": name, "peer": whose, **row}, {"ended": job}]
            for row in rows:
                tell(row)
                out.append(json.dumps(row))
            if fault:
                return fault, "\n".join(out), ""
        return 0, "\n".join(out), ""

    monkeypatch.setattr(gpu, "child", child)
    found = []
    gpu.run_steps(100, {}, found.append, False)
    assert len(asked) == 5
    told = {(r["peer"], r["network"]): r.get("failed") for r in found}
    assert len(told) == len(found) == 2 * len(gpu.NETWORKS)
    assert {name for (_, name), why in told.items() if why} == set(faults)
    assert told["ours", "resnet18"] == "ended by signal 11"
    assert told["ours", "vgg11"] == "took too long"


def test_where_time_is_out_the_rest_says_so(gpu, monkeypatch):
    monkeypatch.setattr(gpu, "child", lambda *a: (0, "", ""))
    found = []
    gpu.run_steps(1, {}, found.append, False)
    assert {r["failed"] for r in found} == {"no time was left"}
    assert len(found) == 2 * len(gpu.NETWORKS)


def test_a_part_that_breaks_costs_no_other_and_the_file_grows(gpu, monkeypatch, tmp_path, capsys):
    path = tmp_path / "j"
    results = gpu.Results(path, about={})

    def broken(limit, environment, tell, tiny):
        tell({"kernel": "relu", "milliseconds": 1.0, "gbs": 1.0, "tflops": 0.0})
        assert json.loads(path.read_text())["kernels"][0]["kernel"] == "relu"
        raise RuntimeError("out of luck")

    monkeypatch.setattr(gpu, "run_kernels", broken)
    monkeypatch.setattr(gpu, "run_tests", lambda *a: {"ok": True, "summary": "9 passed"})
    gpu.run_parts(results, ["tests", "kernels"], 100, {}, False)
    found = json.loads(path.read_text())
    assert found["tests"]["ok"] and found["broken"] == {"kernels": "RuntimeError: out of luck"}
    assert results.failed()
    gpu.table(results)
    out = capsys.readouterr().out
    assert "relu" in out and "tests: 9 passed" in out and "kernels: RuntimeError" in out


def test_missing_packages_are_named(gpu, monkeypatch):
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: None)
    assert gpu.run_tests(9, {}, True) == {
        "ok": False,
        "summary": "not run: pytest and hypothesis not installed",
    }
    monkeypatch.setattr(gpu, "sanitizer", lambda: None)
    assert gpu.run_sanitizer(9) == [{"ok": None, "summary": "compute-sanitizer is not installed"}]


def test_threadpoolctl_may_be_missing(gpu, monkeypatch):
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: None)
    with gpu.standing_in() as notes:
        (folder,) = gpu.STAND_INS
        text = "from threadpoolctl import ThreadpoolController as T; print(T.__module__)"
        text += "; print(list(T().select(user_api='blas').lib_controllers))"
        done = subprocess.run(
            [sys.executable, "-c", text],
            env={**os.environ, "PYTHONPATH": folder},
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == "threadpoolctl\n[]\n" and "threadpoolctl" in notes[0]
    assert gpu.STAND_INS == [] and not Path(folder).exists()


def test_tests_are_divided_among_processes(gpu, monkeypatch):
    dropped, kept = [], []
    hook = types.SimpleNamespace(pytest_deselected=lambda items: dropped.append(items))
    for number in range(3):
        monkeypatch.setenv("MINIGRAD_GPU_SHARD", f"{number}/3")
        items = list("abcdefgh")
        gpu.pytest_collection_modifyitems(types.SimpleNamespace(hook=hook), items)
        kept += items
    assert sorted(kept) == list("abcdefgh") and kept[:3] == ["a", "d", "g"]


TOOL = """#!{python}
import sys, time
if "racecheck" in sys.argv:
    time.sleep(60)
print("========= Invalid __global__ write of size 4 bytes")
print("========= ERROR SUMMARY: 1 error")
sys.exit(86)
"""


def test_the_sanitizer_is_read(gpu, monkeypatch, tmp_path):
    tool = tmp_path / "compute-sanitizer"
    tool.write_text(TOOL.format(python=sys.executable))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    memory, races = gpu.run_sanitizer(4)
    assert memory["ok"] is False and "1 error" in memory["summary"]
    assert memory["faults"] == ["========= Invalid __global__ write of size 4 bytes"]
    assert races["ok"] is None and "not finished in" in races["summary"]


def test_networks_without_torchvision_are_those_of_torchvision(gpu, monkeypatch):
    torch = pytest.importorskip("torch")
    real = gpu.importlib.util.find_spec
    hidden = lambda name: None if name == "torchvision" else real(name)  # noqa: E731
    monkeypatch.setattr(gpu.importlib.util, "find_spec", hidden)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    gpu._without_torchvision()
    models = sys.modules["torchvision"].models
    with torch.device("meta"):
        for make, parameters in ((models.resnet18, 11_689_512), (models.vgg11, 132_863_336)):
            network = make()
            assert sum(p.numel() for p in network.parameters()) == parameters
            assert network(torch.empty(2, 3, 224, 224)).shape == (2, 1000)
        small = models.resnet18(num_classes=10)
        small.conv1, small.maxpool = torch.nn.Conv2d(3, 64, 3, padding=1), torch.nn.Identity()
        assert small(torch.empty(2, 3, 32, 32)).shape == (2, 10)


def test_the_table_relates_kernels_to_ceilings_and_peers_to_ours(gpu, capsys):
    def step(peer, milliseconds):
        row = dict(network="rnn", peer=peer, memory_mb=1.0)
        return {**row, "milliseconds": milliseconds}

    gpu.table(
        {
            "kernels": [
                {"kernel": "ceiling: copy", "gbs": 2000.0},
                {"kernel": "ceiling: product, float32", "tflops": 50.0},
                {"kernel": "ceiling: product, bfloat16", "tflops": 800.0},
                {"kernel": "relu", "milliseconds": 1.0, "gbs": 1000.0, "tflops": 0.0},
                {
                    "kernel": "product 8 bfloat16",
                    "precision": "bfloat16",
                    "milliseconds": 1.0,
                    "tflops": 200.0,
                },
                {"kernel": "lstm", "failed": "OutOfMemory: none"},
            ],
            "steps": [
                step("minigrad float32", 2.0),
                step("minigrad graph float32", 0.5),
                step("torch graph float32", 1.0),
                step("minigrad TF32", 1.0),
                step("torch eager float32", 3.0),
                step("torch graph TF32", 3.0),
                {"network": "vgg11", "peer": "ours", "failed": "took too long"},
                {"note": "PyTorch is not installed: nothing is compared with it"},
                {"note": "PyTorch is not installed: nothing is compared with it"},
            ],
            "tests": {"ok": True, "summary": "9 passed"},
        }
    )
    out = capsys.readouterr().out
    assert "1000.0 GB/s   50%" in out and "200.00 TFLOP/s   25%" in out
    assert "ratio   1.50" in out and "ratio   3.00" in out and "tests: 9 passed" in out
    assert "ratio   0.25" in out and "ratio   2.00" in out  # graphs: beside eager, and beside ours
    assert "lstm                       failed: OutOfMemory: none" in out
    assert "took too long" in out and out.count("PyTorch is not installed") == 1


@pytest.mark.full
def test_rehearsal(tmp_path):
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip("numba-cuda, which brings the simulator, is not installed")
    done = subprocess.run(
        [sys.executable, SCRIPT, "--rehearse", "--json", tmp_path / "j"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "j").read_text())
    rows = [r for r in found["kernels"] if "kernel" in r]
    assert {r["kernel"].split()[0] for r in rows} >= {"product", "conv", "batch_norm", "lstm"}
    peers = [r["peer"] for r in found["steps"] if "peer" in r]
    kinds = ("float32", "TF32", "bfloat16")
    assert peers == [f"minigrad {way}{kind}" for kind in kinds for way in ("", "graph ")]
    assert not [r for r in found["steps"] if "failed" in r]
    assert found["tests"]["ok"] and "passed" in found["tests"]["summary"]
