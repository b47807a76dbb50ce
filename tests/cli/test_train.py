"""`minigrad train`: a run leaves what it promises, goes on bit-exactly, and tells what is wrong."""

import csv
import gzip
import json
import os
import re
import signal
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from minigrad import random
from minigrad_nn import models
from minigrad_nn.cli import main, train
from minigrad_nn.io import load_weights, read_checkpoint
from minigrad_nn.kernels.cpu import compile
from minigrad_nn.train import fit, sources
from minigrad_nn.train.recipes import Recipe, prepare_lenet5

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "minigrad_nn.cli"]


def minigrad(*words, cwd, **more):
    """The command in a process of its own, in another folder than the sources."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*COMMAND, *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True,
        check=False, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A data set of 60 + 20 pictures of 8x8: bars that lie or stand."""
    path = tmp_path_factory.mktemp("data") / "bars.npz"
    x = np.random.default_rng(0).integers(0, 60, (80, 8, 8), dtype=np.uint8)
    y = np.arange(80) % 2
    x[y == 0, 3:5] += 190
    x[y == 1, :, 3:5] += 190
    np.savez(path, x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    return path


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    """What a run of three epochs printed, and its folder."""
    folder = tmp_path_factory.mktemp("runs")
    done = minigrad(
        "train", "lenet5", "--data", small, "--epochs", 3, "--batch-size", 16, cwd=folder
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, next((folder / "runs").iterdir())


def png_size(path):
    """Width and height, after every chunk of the file has been decoded."""
    from PIL import Image

    with Image.open(path) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("L"))
    assert pixels.std() > 5, "an empty picture"
    return picture.size


def test_the_output_says_how_it_went(finished):
    text, out = finished
    lines = text.splitlines()
    assert re.fullmatch(r"lenet5-bars-\d{8}-\d{6}", out.name)
    assert lines[0] == (
        f"LeNet-5 on bars: 60 pictures to learn from, 20 to test on; results in runs/{out.name}"
    )
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == 3 and "\x1b" not in text
    assert re.fullmatch(
        r"epoch 3/3   training: loss \d\.\d{4}, accuracy [\d.]+ %   test: loss .*   [\d.]+ s",
        epochs[-1],
    )
    assert re.match(r"test accuracy (0\.\d{4}|1\.0000) \(\d+ of 20\) after 3 epochs", lines[-1])


def test_the_run_folder_holds_what_can_be_opened(finished):
    text, out = finished
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoint.safetensors", "config.json", "filters.png", "graph.svg", "learning_curve.png",
        "metrics.csv", "metrics.jsonl", "misclassified.png",
    ]  # fmt: skip
    for name in ("filters", "learning_curve", "misclassified"):
        width, height = png_size(out / f"{name}.png")
        assert 300 < width < 2000 and 150 < height < 2000
    svg = ElementTree.parse(out / "graph.svg").getroot()
    words = " ".join(svg.itertext())
    for name in ("c1.weight", "c5.bias", "pictures", "cross_entropy"):
        assert name in words

    with open(out / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert 0 <= float(rows[-1]["test_accuracy"]) <= 1
    assert f"test accuracy {float(rows[-1]['test_accuracy']):.4f}" in text
    events = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == (["batch"] * 4 + ["epoch"]) * 3

    config = json.loads((out / "config.json").read_text())
    assert config["recipe"]["epochs"] == 3 and config["recipe"]["batch_size"] == 16
    assert read_checkpoint(out / "checkpoint.safetensors")["config"] == config
    model = models.LeNet5(size=8, classes=2)
    load_weights(out / "checkpoint.safetensors", model)


def weights(out):
    model = read_checkpoint(out / "checkpoint.safetensors")["model"]
    return {name: array.tobytes() for name, array in model.items()}


def test_ctrl_c_leaves_a_checkpoint_that_goes_on_with_the_same_bits(small, finished, tmp_path):
    """Stopped at any moment and resumed in a new process, the run ends with the same weights."""
    place = os.path.relpath(small, tmp_path)
    words = ["train", "lenet5", "--data", place, "--epochs", "3", "--batch-size", "16"]
    process = subprocess.Popen(
        [*COMMAND, *words, "--out", "run"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("epoch 1/3"):
            process.send_signal(signal.SIGINT)
            break
    rest, errors = process.communicate(timeout=120)
    text = "".join(lines) + rest
    if "test accuracy" not in text:  # it may have been done before the signal came
        assert (process.returncode, errors) == (130, "")
        assert "go on with: minigrad train lenet5 --resume run\n" in text
        assert not (tmp_path / "run" / "filters.png").exists()
        # From another folder, and with the same data named in another way.
        words = ["train", "lenet5", "--resume", tmp_path / "run", "--data", small]
        done = minigrad(*words, cwd=small.parent)
        assert (done.returncode, done.stderr) == (0, "")
    assert weights(tmp_path / "run") == weights(finished[1])
    with open(tmp_path / "run" / "metrics.csv", encoding="utf-8") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_a_finished_run_can_be_trained_further_into_another_folder(finished, tmp_path, capsys):
    _, out = finished
    before = weights(out)
    more = tmp_path / "more"
    words = ["train", "lenet5", "--resume", str(out / "checkpoint.safetensors")]
    assert main([*words, "--epochs", "4", "--out", str(more), "--threads", "1"]) == 0
    assert "epoch 4/4" in capsys.readouterr().out
    assert weights(out) == before != weights(more)
    rows = (more / "metrics.csv").read_text().splitlines()
    # The cosine now ends after 4 epochs: at its last step the rate is 0.
    assert rows[-1].startswith("4,16,0.0,")


def test_the_seed_is_what_makes_two_runs_differ(small, finished, tmp_path):
    for seed in ("0", "1"):
        words = ["--data", str(small), "--epochs", "3", "--batch-size", "16", "--seed", seed]
        assert main(["train", "lenet5", *words, "--out", str(tmp_path / seed)]) == 0
    assert weights(tmp_path / "0") == weights(finished[1]) != weights(tmp_path / "1")


# --- what is wrong -------------------------------------------------------------------------------


def idx(array):
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()


def test_a_folder_with_idx_files_is_a_data_set(tmp_path):
    pixels = np.arange(3 * 6 * 6, dtype=np.uint8).reshape(3, 6, 6)
    labels = np.array([0, 2, 1], np.uint8)
    folder = tmp_path / "letters"
    folder.mkdir()
    with pytest.raises(sources.DataError, match="holds no train-images-idx3-ubyte; these are"):
        sources.open_source(str(folder))
    for images, names in sources.IDX_FILES.values():
        (folder / images).write_bytes(idx(pixels))
        (folder / f"{names}.gz").write_bytes(gzip.compress(idx(labels)))
    found = sources.open_source(str(folder))
    assert (found.name, found.size, found.channels, found.classes) == ("letters", 6, 1, 3)
    assert found.normalize.mean[0] == pytest.approx(pixels.mean() / 255)
    (folder / "train-images-idx3-ubyte").write_bytes(idx(pixels)[:-1])
    with pytest.raises(sources.DataError, match="train-images"):
        sources.open_source(str(folder))


class Trap:
    """Would leave a trace if it were unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("trap",))


BYTES, LABELS = np.zeros((2, 4, 4), np.uint8), np.array([0, 1])


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (dict(x_train=BYTES), "holds no arrays"),
        (dict(x_train=np.array([Trap()]), y_train=LABELS, x_test=BYTES, y_test=LABELS), "holds no"),
        (dict(x_train=BYTES / 2, y_train=LABELS, x_test=BYTES, y_test=LABELS), "uint8"),
        (dict(x_train=BYTES, y_train=LABELS[:1], x_test=BYTES, y_test=LABELS), "shapes"),
        (dict(x_train=BYTES, y_train=-LABELS, x_test=BYTES, y_test=LABELS), "class numbers"),
        (dict(x_train=BYTES, y_train=LABELS, x_test=BYTES[:, :2], y_test=LABELS), "test pictures"),
        (dict(x_train=BYTES, y_train=LABELS, x_test=BYTES, y_test=LABELS), "are the same"),
    ],
)
def test_arrays_that_are_no_data_set_are_told(arrays, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", **arrays)
    assert main(["train", "lenet5", "--data", "data.npz"]) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lenet6"], "invalid choice"),
        (["lenet5", "--epochs", "0"], "'0' is no whole number from 1"),
        (["lenet5", "--epochs", "two"], "'two' is no whole number from 1"),
        (["lenet5", "--batch-size", "-3"], "'-3' is no whole number"),
        (["lenet5", "--lr", "nan"], "'nan' is no number above 0"),
        (["lenet5", "--seed", "-1"], "is no whole number from 0"),
        ([], "required"),
    ],
)
def test_wrong_options_end_with_code_2(words, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", *words])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_wrong_places_end_with_code_2(tmp_path, monkeypatch, capsys, finished, small):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("text")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").write_text("text")
    run = str(finished[1])
    for words, said in [
        (["--data", "nowhere"], "neither 'digits' nor 'mnist'"),
        (["--data", "file"], "nor an .npz file"),
        (["--data", str(small), "--out", "full"], "the folder is not empty"),
        (["--data", str(small), "--out", "file"], "cannot be written"),
        (["--data", str(small), "--out", run], f"go on with --resume {run}"),
        (["--resume", "nowhere"], "there is no checkpoint nowhere"),
        (["--resume", "full"], "there is no checkpoint full/checkpoint.safetensors"),
        (["--resume", "file"], "no safetensors file"),
        (["--resume", run, "--seed", "5"], "made with seed 0, which cannot become 5"),
        (["--resume", run, "--batch-size", "5"], "made with batch-size 16"),
        (["--resume", run, "--data", "digits"], "which cannot become digits"),
    ]:
        assert main(["train", "lenet5", *words]) == 2, words
        told = capsys.readouterr()
        assert told.err.startswith("minigrad train: ") and said in told.err, told.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]


def test_pictures_that_do_not_fit_lenet5_are_told(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for shape, said in (((2, 4, 6), "square"), ((2, 40, 40), "from 4 to 32")):
        x = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        np.savez("data.npz", x_train=x, y_train=LABELS, x_test=x, y_test=LABELS)
        assert main(["train", "lenet5", "--data", "data.npz"]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_missing_libraries_name_their_extra(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    words = ["train", "lenet5", "--data", str(small), "--epochs", "1", "--out", str(tmp_path / "a")]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "matplotlib" in text and 'pip install "minigrad[plot]"' in text
    assert "test accuracy" in text and (tmp_path / "a" / "graph.svg").exists()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert main(["train", "lenet5", "--out", str(tmp_path / "b")]) == 1
    assert 'pip install "minigrad[data]"' in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_learning_rate_that_explodes_ends_with_advice(small, tmp_path, capsys):
    words = ["--data", str(small), "--lr", "1e37", "--out", str(tmp_path / "run")]
    assert main(["train", "lenet5", *words]) == 1
    assert "the loss is" in (told := capsys.readouterr().err) and "learning rate" in told


def test_the_command_knows_its_version_and_helps(tmp_path):
    done = minigrad("--version", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("minigrad ")
    done = minigrad("train", "--help", cwd=tmp_path)
    assert "--resume" in done.stdout and "examples:" in done.stdout
    done = minigrad(cwd=tmp_path)
    assert done.returncode == 2 and "COMMAND" in done.stderr


def test_help_imports_nothing_heavy():
    program = (
        "import sys; from minigrad_nn.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = ('numba', 'numpy', 'matplotlib', 'rich', 'sklearn')\n"
        "print(*[name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == ""


def test_rehearsal_calls_every_kernel_of_the_training(small, monkeypatch):
    called = set()
    call = compile.Kernel.__call__

    def noting(kernel, *arguments):
        called.add(kernel.__name__)
        return call(kernel, *arguments)

    monkeypatch.setattr(compile.Kernel, "__call__", noting)
    source = sources.open_source(str(small))
    training = prepare_lenet5(source, Recipe(epochs=1, batch_size=16, lr=0.01, shift=0.5))
    # Blank pictures leave the weights of the first layer alone, but not its biases.
    bias, state = training.model.c1.bias.numpy().copy(), random.default_generator().get_state()
    train._rehearse(training, source)
    rehearsed = set(called)
    assert rehearsed
    np.testing.assert_array_equal(bias, training.model.c1.bias.numpy())
    assert random.default_generator().get_state() == state
    called.clear()
    fit(training.model, training.loader, training.optimizer, 1, validation=training.test)
    assert called <= rehearsed
