"""Scripts of benchmarks/ run, and name what they say they name; what they measure is not tested."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

import pytest

from minigrad_nn import models
from minigrad_nn.layers import Conv2d

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def shared(monkeypatch):
    """What scripts share is found beside them: a script's folder is where Python looks first."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


def loaded(name):
    spec = importlib.util.spec_from_file_location(f"bench_{name}", ROOT / f"benchmarks/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # classes look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "networks", [["resnet18", "resnet50"], ["vgg11", "vgg16"], ["mobilenet_v1"]]
)
def test_the_kernel_table_names_every_convolution(networks):
    """By channels, filter, stride and groups; the table writes a shape under its first network."""
    wanted = set()
    for name in networks:
        for module in getattr(models, name)().modules():
            if isinstance(module, Conv2d):
                made, given, kernel, _ = module.weight.shape
                stride, groups = module.stride, module.groups
                stride = stride if isinstance(stride, int) else stride[0]
                wanted.add((given * groups, made, kernel, stride, groups))
    found = set()
    for network in networks:
        found |= {tuple(conv[1:]) for conv in loaded("kernels").CONVOLUTIONS[network][1]}
    assert found == wanted


def test_a_record_says_where_and_with_what_it_was_measured(tmp_path, monkeypatch):
    common = loaded("common")
    head = common.about(threads=2, turns=3)
    assert list(head) == ["date", "cpu", "versions", "python", "machine", "threads", "turns"]
    date.fromisoformat(head["date"])
    assert re.fullmatch(r".+, \d+ logical cores", head["cpu"])
    assert {"numpy", "numba", "llvmlite"} <= set(head["versions"])
    assert all(version(name) == found for name, found in head["versions"].items())
    common.write(str(tmp_path / "a.json"), head, {"rows": [1.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {**head, "rows": [1.5]}
    common.write(None, head, {})  # nobody asked for a record

    def no_list(*args, **more):
        raise FileNotFoundError("/proc/cpuinfo")

    monkeypatch.setattr(common, "open", no_list, raising=False)
    monkeypatch.setattr(common.platform, "processor", lambda: "")
    assert common.about()["cpu"].startswith("unknown processor, ")


@pytest.mark.parametrize(("threads", "many"), [(1, "false"), (3, "true")])
def test_the_process_of_a_peer_is_told_its_threads(monkeypatch, threads, many):
    monkeypatch.setenv("MINE", "kept")
    found = loaded("common").environment(threads)
    assert found["MINE"] == "kept"
    for library in ("NUMBA", "OMP", "OPENBLAS"):
        assert found[f"{library}_NUM_THREADS"] == str(threads)
    assert found["XLA_FLAGS"].endswith(f"={many}")


SHARING = ("engine", "kernels", "scaling", "startup", "study", "time_to_accuracy", "train_step")


@pytest.mark.parametrize("name", SHARING)
def test_a_script_says_what_it_is_for_and_where_its_record_goes(name):
    done = subprocess.run(
        [sys.executable, str(ROOT / f"benchmarks/{name}.py"), "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert "--json" in done.stdout and loaded(name).__doc__.split()[0] in done.stdout


def test_the_kernel_table_runs(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "benchmarks/kernels.py"), "--quick", "--alone"),
            *("--turns", "1", "--only", "conv", "pool", "cross_entropy", "sgd"),
            *("--json", str(tmp_path / "found.json")),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["peak_gflops"] > 0 and found["peak_gbytes"] > 0
    names = [row["kernel"] for row in found["kernels"]]
    assert {"conv forward", "conv input", "conv weight", "max_pool backward", "sgd"} <= set(names)
    assert all(row["milliseconds"] > 0 and row["share"] >= 0 for row in found["kernels"])
    assert all(name in done.stdout for name in names)


def test_a_name_that_no_kernel_has_is_refused():
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/kernels.py"), "--only", "nothing"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 2 and "no kernel's name has any of nothing" in done.stderr


@pytest.mark.skipif("MINIGRAD_DATA" not in os.environ, reason="needs MNIST")
def test_the_time_to_an_accuracy_is_told(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "benchmarks/time_to_accuracy.py"), "--alone"),
            *("--samples", "512", "--epochs", "2", "--goal", "0.99", "--seeds", "3"),
            *("--json", str(tmp_path / "found.json")),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    (run,) = json.loads((tmp_path / "found.json").read_text())["runs"]["minigrad"]
    assert not run["reached"] and len(run["accuracies"]) == 2 and run["seconds"] > 0
    assert "the goal was not reached" in done.stdout


def test_how_time_grows_is_drawn(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "benchmarks/scaling.py"), "--quick", "--alone"),
            *("--turns", "1", "--json", str(tmp_path / "found.json")),
            *("--picture", str(tmp_path / "found.png")),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    sweeps = json.loads((tmp_path / "found.json").read_text())["sweeps"]
    assert set(sweeps) == {"batch", "picture", "channels", "sequence"}
    for rows in sweeps.values():
        assert len(rows["seconds"]["minigrad"]) == len(rows["sizes"]) == 3
        assert min(rows["seconds"]["minigrad"]) > 0
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
