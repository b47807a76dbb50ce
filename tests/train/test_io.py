"""Checkpoint files: what is saved comes back bit for bit, and nothing else ever comes in."""

import errno
import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad.random
from minigrad_nn import io, layers
from minigrad_nn.data import ArrayDataset, Loader
from minigrad_nn.io import CheckpointError, atomic, container
from minigrad_nn.io.tree import pack, unpack

ROOT = Path(__file__).parent.parent.parent
ARRAYS = hnp.arrays(
    st.sampled_from(["float32", "float64", "float16", "int64", "uint8", "bool", ">f4"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=5)
    | ARRAYS
)
KEYS = st.text(st.characters(codec="utf-8"), max_size=4) | st.integers(-3, 10)
STATES = st.dictionaries(
    st.text("ab/$~", max_size=3),
    st.recursive(
        LEAVES,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(KEYS, inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=3,
)


def same(a, b):
    """Equal in type and bits, NaN included."""
    if isinstance(a, np.ndarray):
        little = a.dtype.newbyteorder("<")
        return (
            isinstance(b, np.ndarray)
            and (b.dtype, b.shape) == (little, a.shape)
            and a.astype(little).tobytes() == b.tobytes()
        )
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or (a != a and b != b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@given(STATES)
def test_any_state_comes_back_with_its_types_and_bits(tmp_path_factory, state):
    path = tmp_path_factory.mktemp("io") / "file.safetensors"
    wanted = {f"_{key}": value for key, value in state.items()}
    io.save_checkpoint(path, **wanted)
    found = io.read_checkpoint(path)
    del found["random"]
    assert same(wanted, found)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "a object cannot be saved"),
        ({1.5: 0}, "key 1.5"),
        (np.array(["text"]), "dtype <U4"),
        (np.array([None]), "dtype object"),
        ({"deep": {b"key": 1}}, "part/deep: key b'key'"),
    ],
)
def test_what_is_no_data_is_refused_by_its_place(tmp_path, value, said):
    with pytest.raises(TypeError, match=said):
        io.save_checkpoint(tmp_path / "file", part=value)
    assert not list(tmp_path.iterdir())


def test_endless_nesting_is_refused_in_both_directions():
    loop = []
    loop.append(loop)
    with pytest.raises(ValueError, match="nested deeper"):
        pack({"loop": loop})
    for text in ('{"a": ' + "[" * 500 + "]" * 500 + "}", "[" * 100_000):
        with pytest.raises(CheckpointError):
            unpack({}, text)


# --- files that nobody should trust --------------------------------------------------------------


class Part:
    """Something with a state that checks what it is given."""

    def __init__(self, value):
        self.value = np.asarray(value, dtype=np.float32)

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        if state["value"].shape != self.value.shape:
            raise ValueError(f"value has shape {state['value'].shape}, wanted {self.value.shape}")
        self.value = state["value"]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The bytes of a checkpoint."""
    path = tmp_path_factory.mktemp("good") / "run.safetensors"
    loader = Loader(ArrayDataset(np.arange(6)), 2, shuffle=True, seed=3)
    io.save_checkpoint(path, model=Part([1.0, 2.0]), loader=loader, step=7)
    return path.read_bytes()


def refused(path, content):
    """Loading raises CheckpointError, and neither the part nor the random state is touched."""
    path.write_bytes(content)
    part, before = Part([5.0, 6.0]), minigrad.random.get_state()
    with pytest.raises(CheckpointError) as caught:
        io.load_checkpoint(path, model=part)
    assert part.value.tolist() == [5.0, 6.0]
    assert minigrad.random.get_state() == before
    return str(caught.value)


@given(st.data())
def test_every_truncation_is_told(tmp_path_factory, good, data):
    length = data.draw(st.integers(0, len(good) - 1))
    refused(tmp_path_factory.mktemp("cut") / "run.safetensors", good[:length])


@given(st.data())
def test_every_flipped_bit_is_told(tmp_path_factory, good, data):
    place = data.draw(st.integers(0, len(good) - 1))
    broken = bytearray(good)
    broken[place] ^= 1 << data.draw(st.integers(0, 7))
    header = 8 + struct.unpack("<Q", good[:8])[0]
    path = tmp_path_factory.mktemp("flip") / "run.safetensors"
    try:
        refused(path, bytes(broken))
    except pytest.fail.Exception:
        # Only white space that pads the header may differ and say the same.
        assert place < header
        assert json.loads(broken[8:header]) == json.loads(good[8:header])


def test_our_own_files_need_their_checksum(tmp_path, good):
    """A name that was hit by an error must not pass for a file of another program."""
    said = refused(tmp_path / "run.safetensors", good.replace(b'"sha256"', b'"sha257"'))
    assert "checksum" in said


@given(st.binary(max_size=200))
def test_noise_is_no_checkpoint(tmp_path_factory, noise):
    path = tmp_path_factory.mktemp("noise") / "run.safetensors"
    refused(path, noise)
    refused(path, struct.pack("<Q", len(noise)) + noise)


def test_a_pickle_is_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "trapped"),))

    refused(tmp_path / "run.safetensors", pickle.dumps(Trap()))
    assert not (tmp_path / "trapped").exists()


def crafted(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 99_999_999) + b"{}",
        crafted([]),
        crafted({"__metadata__": 3}),
        crafted({"__metadata__": {"minigrad": 1}}),
        crafted({"__metadata__": {"minigrad": "checkpoint"}}),
        crafted({"a": {**TENSOR, "shape": [2**62, 2**62]}}, bytes(8)),
        crafted({"a": {**TENSOR, "shape": [-1]}}, bytes(8)),
        crafted({"a": {**TENSOR, "data_offsets": [8, 0]}}, bytes(8)),
        crafted({"a": {**TENSOR, "data_offsets": [0, 2**40]}}, bytes(8)),
        crafted({"a": {**TENSOR, "dtype": "OBJECT"}}, bytes(8)),
        crafted({"a": TENSOR}, bytes(7)),
        crafted({"a": TENSOR, "b": TENSOR}, bytes(8)),
        struct.pack("<Q", 50_000) + b"[" * 50_000,
    ],
)
def test_headers_that_lie_are_told(tmp_path, content):
    refused(tmp_path / "run.safetensors", content)


def with_texts(**texts):
    return {"minigrad": "checkpoint", "version": "1", "state": "{}", **texts}


@pytest.mark.parametrize(
    ("arrays", "texts", "said"),
    [
        ({}, with_texts(version="2"), "install a newer one"),
        ({}, with_texts(version="²"), "format version"),
        ({}, with_texts(minigrad="weights"), "no checkpoint"),
        ({}, with_texts(), "random generator is missing"),
        ({}, with_texts(state='{"a": NaN}'), "no JSON"),
        ({}, with_texts(state="[]"), "wanted a mapping"),
        ({}, with_texts(state='{"a": {"$array": "b"}}'), "damaged entry"),
        ({}, with_texts(state='{"a": {"$call": "b"}}'), "damaged entry"),
        ({}, with_texts(state='{"a": {"$items": [[1, 2, 3]]}}'), "damaged pair"),
        ({}, with_texts(state='{"a": {"$items": [[1, 2], [1, 3]]}}'), "damaged pair"),
        ({"nan": np.zeros(1)}, with_texts(), "does not mention the arrays"),
    ],
)
def test_states_that_lie_are_told(tmp_path, arrays, texts, said):
    path = container.write_file(tmp_path / "run.safetensors", arrays, texts)
    assert said in refused(path, path.read_bytes())


def test_a_folder_or_pipe_is_no_checkpoint(tmp_path):
    with pytest.raises(OSError):
        io.read_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError):
        io.read_checkpoint(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="no ordinary file"):
        io.read_checkpoint(os.devnull)


# --- all or nothing ------------------------------------------------------------------------------


def test_a_part_that_does_not_fit_leaves_every_part_as_it_was(tmp_path):
    path = io.save_checkpoint(tmp_path / "run", first=Part([1, 2]), second=Part([3]), note="x")
    first, second = Part([8, 9]), Part([0, 0])
    before = minigrad.random.get_state()
    with pytest.raises(CheckpointError, match="second: value has shape"):
        io.load_checkpoint(path, first=first, second=second)
    assert first.value.tolist() == [8, 9]
    assert second.value.tolist() == [0, 0]
    assert minigrad.random.get_state() == before
    with pytest.raises(CheckpointError, match="holds no third, but first, second, note"):
        io.load_checkpoint(path, first=first, third=second)
    assert first.value.tolist() == [8, 9]
    with pytest.raises(TypeError, match="no state to load into"):
        io.load_checkpoint(path, note="a string")


def test_the_random_generator_goes_on_from_where_it_was(tmp_path):
    with minigrad.random.preserved():
        minigrad.random.manual_seed(11)
        minigrad.random.random(3)
        path = io.save_checkpoint(tmp_path / "run")
        expected = minigrad.random.random(5)
        minigrad.random.manual_seed(0)
        io.load_checkpoint(path, restore_random=False)
        assert minigrad.random.get_state()["words"] == 0
        io.load_checkpoint(path)
        np.testing.assert_array_equal(minigrad.random.random(5), expected)
    with pytest.raises(ValueError, match="'random' is taken"):
        io.save_checkpoint(path, random=3)


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_a_crash_while_writing_leaves_the_old_file_whole(tmp_path, monkeypatch, broken):
    path = tmp_path / "run.safetensors"
    io.save_checkpoint(path, step=1)
    old = path.read_bytes()

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    if broken == "write":

        def chunks():
            yield b"half"
            full()

        with pytest.raises(OSError, match="No space"):
            io.write_atomically(path, chunks())
    else:
        monkeypatch.setattr(atomic.os, broken, full)
        with pytest.raises(OSError, match="No space"):
            io.save_checkpoint(path, step=2)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_never_sees_half_a_file(tmp_path, monkeypatch):
    """At the moment when the new file takes the name, its content is complete and on the disk."""
    path = tmp_path / "run.safetensors"
    io.save_checkpoint(path, step=1)
    synced, seen = [], []
    real_replace, real_fsync = os.replace, os.fsync
    monkeypatch.setattr(atomic.os, "fsync", lambda f: (synced.append(f), real_fsync(f))[1])

    def replace(source, target):
        seen.append((io.read_checkpoint(source)["step"], io.read_checkpoint(target)["step"]))
        assert synced
        real_replace(source, target)

    monkeypatch.setattr(atomic.os, "replace", replace)
    io.save_checkpoint(path, step=2)
    assert seen == [(2, 1)]
    assert io.read_checkpoint(path)["step"] == 2


def test_a_process_that_is_killed_while_saving_leaves_a_whole_checkpoint(tmp_path):
    path = tmp_path / "run.safetensors"
    program = (
        "import sys, itertools, numpy as np; from minigrad_nn import io\n"
        "for step in itertools.count():\n"
        "    io.save_checkpoint(sys.argv[1], step=step, array=np.full(300_000, step))\n"
        "    print(step, flush=True)"
    )
    for wanted in (3, 20):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for line in process.stdout:
            if int(line) == wanted:
                break
        process.kill()
        process.communicate()
        found = io.read_checkpoint(path)
        assert found["step"] >= wanted
        assert (found["array"] == found["step"]).all()


def test_folders_are_made_and_modes_are_those_of_the_user(tmp_path):
    path = io.save_checkpoint(tmp_path / "a" / "b" / "run")
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert Path(path).stat().st_mode == plain.stat().st_mode


# --- weights alone -------------------------------------------------------------------------------


def test_weights_go_round_and_tell_what_does_not_fit(tmp_path):
    model, other = layers.Linear(3, 2), layers.Linear(3, 2)
    path = io.save_weights(tmp_path / "weights.safetensors", model)
    assert io.load_weights(path, other) == {"missing": [], "unexpected": []}
    np.testing.assert_array_equal(other.weight.numpy(), model.weight.numpy())

    wider = layers.Linear(4, 2)
    before = wider.state_dict()
    with pytest.raises(CheckpointError, match=r"weight: shape \(2, 3\) given, \(2, 4\) wanted"):
        io.load_weights(path, wider)
    np.testing.assert_array_equal(wider.weight.numpy(), before["weight"])

    without = layers.Linear(3, 2, bias=False)
    with pytest.raises(CheckpointError, match="bias: unexpected"):
        io.load_weights(path, without)
    assert io.load_weights(path, without, strict=False)["unexpected"] == ["bias"]
    with pytest.raises(CheckpointError, match="no checkpoint of a training run"):
        io.load_checkpoint(path, model=other)


def test_weights_are_found_in_checkpoints(tmp_path):
    model, other = layers.Linear(3, 2), layers.Linear(3, 2)
    path = io.save_checkpoint(tmp_path / "run.safetensors", model=model, other=3)
    io.load_weights(path, other)
    np.testing.assert_array_equal(other.weight.numpy(), model.weight.numpy())
    with pytest.raises(CheckpointError, match="without a model"):
        io.read_weights(io.save_checkpoint(tmp_path / "empty.safetensors"))
