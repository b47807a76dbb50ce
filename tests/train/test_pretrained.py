"""Weights of others: what fits is loaded, what does not is listed, and no file is ever run."""

import os
import pickle
import re
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minigrad_nn import io, layers, models
from minigrad_nn.io import CheckpointError, MismatchError, pickles
from minigrad_nn.io.pickles import read_pickle
from minigrad_nn.io.torch_file import KNOWN
from minigrad_nn.module import Sequential
from tests.train.torch_files import (
    EMPTY,
    KINDS,
    MAGIC,
    Call,
    Code,
    Global,
    Refer,
    dumps,
    encode,
    in_a_row,
    in_a_row_of,
    state,
    storage,
    tensor,
    zipped,
)

ROOT = Path(__file__).parent.parent.parent
FLOATS = np.arange(6, dtype=np.float32)
ARRAYS = hnp.arrays(
    st.sampled_from(sorted(KINDS)).map(np.dtype),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)


@st.composite
def strided(draw):
    """An array that may be a transposed or cut view of another."""
    array = draw(ARRAYS)
    array = array.transpose(draw(st.permutations(range(array.ndim))))
    for axis, size in enumerate(array.shape):
        start, step = draw(st.integers(0, size)), draw(st.integers(1, 2))
        array = array[(slice(None),) * axis + (slice(start, None, step),)]
    return array


def write(folder, content, name="file.pth"):
    path = folder / name
    path.write_bytes(content)
    return path


def same(found, wanted):
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        got = found[name]
        assert (got.shape, got.dtype.newbyteorder("=")) == (array.shape, array.dtype), name
        assert got.astype(array.dtype).tobytes() == array.tobytes(), name


# --- what torch.save writes ----------------------------------------------------------------------


@given(st.dictionaries(st.text(max_size=4), strided(), min_size=1, max_size=4), st.booleans())
def test_arrays_come_out_of_both_formats_with_their_types_and_bits(
    tmp_path_factory, arrays, little
):
    folder = tmp_path_factory.mktemp("torch")
    order = "<" if little else ">"
    there = {name: ordered(array, order) for name, array in arrays.items()}
    described, storages = state(there)
    path = write(folder, zipped(described, storages, b"little" if little else b"big"))
    same(io.read_pretrained(path), arrays)
    path = write(folder, in_a_row_of(there, little))
    same(io.read_pretrained(path), arrays)


def ordered(array, order):
    """The same view of the same numbers, whose bytes are in another order."""
    base = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    other = base.astype(base.dtype.newbyteorder(order))
    start = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return np.ndarray(array.shape, other.dtype, other, start if array.size else 0, array.strides)


def test_a_file_without_an_order_of_bytes_is_little_endian(tmp_path):
    described, storages = state({"a": FLOATS})
    same(io.read_pretrained(write(tmp_path, zipped(described, storages, b""))), {"a": FLOATS})


def test_storages_are_shared_and_bfloat16_becomes_float32(tmp_path):
    where = storage("0", 4, "BFloat16Storage")
    value = {
        "whole": tensor(where, 0, (2, 2), (2, 1)),
        "column": tensor(where, 1, (2,), (2,)),
        "wide": tensor(where, 3, (2, 3), (0, 0)),
        "parameter": Call(
            Global("torch._utils", "_rebuild_parameter"),
            (tensor(where, 0, (), ()), True, EMPTY),
        ),
        "old": Call(Global("torch._utils", "_rebuild_tensor"), (where, 2, (1,), (2**70,))),
    }
    bits = np.array([0x3F80, 0xBF80, 0x4049, 0x7F80], "<u2")  # 1, -1, 3.140625, infinity
    wanted = np.array([[1.0, -1.0], [3.140625, np.inf]], np.float32)
    found = io.read_pretrained(write(tmp_path, zipped(value, {"0": bits.tobytes()})))
    np.testing.assert_array_equal(found["whole"], wanted)
    np.testing.assert_array_equal(found["column"], wanted[:, 1])
    np.testing.assert_array_equal(found["wide"], np.full((2, 3), np.inf))
    assert found["parameter"] == 1.0 and found["parameter"].shape == ()
    np.testing.assert_array_equal(found["old"], [3.140625])
    assert np.shares_memory(found["whole"], found["column"])
    assert not found["whole"].flags.writeable


def test_mappings_of_python_2_and_attributes_of_mappings_are_read(tmp_path):
    named = Global("collections", "OrderedDict")
    where = tensor(storage("0", 6), 0, (6,), (1,))
    for value in (
        Call(named, ([["a", where]],)),
        Code(encode(Call(named, ())) + encode("a") + encode(where) + pickle.SETITEM),
        Code(encode({"a": where}) + encode({"_metadata": {"": {"version": 1}}}) + pickle.BUILD),
    ):
        path = write(tmp_path, zipped(value, {"0": FLOATS.tobytes()}))
        same(io.read_pretrained(path), {"a": FLOATS})


def test_a_part_of_a_checkpoint_is_found_or_chosen(tmp_path):
    where = tensor(storage("0", 6), 0, (6,), (1,))
    optimizer = {"state": {0: {"step": 3, "momentum": where}}, "param_groups": [{"lr": 0.1}]}
    files = {"0": FLOATS.tobytes()}
    path = write(tmp_path, zipped({"epoch": 3, "model": {"a": where}, "opt": optimizer}, files))
    same(io.read_pretrained(path), {"a": FLOATS})
    same(io.read_pretrained(path, "model"), {"a": FLOATS})
    with pytest.raises(CheckpointError, match="no part 'ema' with tensors; these have: 'model'"):
        io.read_pretrained(path, "ema")
    path = write(tmp_path, zipped({"model": {"a": where}, "ema": {"b": where}}, files))
    with pytest.raises(CheckpointError, match="several .* choose the key: 'model', 'ema'"):
        io.read_pretrained(path)
    same(io.read_pretrained(path, "ema"), {"b": FLOATS})
    path = write(tmp_path, zipped({"a": where, "epoch": 3}, files))
    with pytest.raises(CheckpointError, match="'epoch' is no named tensor, but 3"):
        io.read_pretrained(path)
    for value, said in (
        ({"epoch": 3}, "it holds no names with tensors"),
        ({}, "it holds no names with tensors"),
        ({str(i): {"a": where} for i in range(12)}, "key: '0', .*'9', \\.\\.\\.$"),
        (where, "a single tensor"),
        ([where], "a list of 1"),
        ({0: where}, "entry 0 is no named tensor"),
    ):
        with pytest.raises(CheckpointError, match=said):
            io.read_pretrained(write(tmp_path, zipped(value, files)))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers(-9, 9), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(PLAIN, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_is_read_as_python_reads_it(value, protocol):
    content = pickle.dumps([value, value], protocol)
    found, end = read_pickle(b"before" + content + b"behind", 6, {}, lambda key: None)
    assert repr(found) == repr([value, value])  # which tells -0.0, NaN, and True from 1
    assert found[0] is found[1] or not isinstance(value, list | dict)
    assert end == 6 + len(content)


def test_long_texts_many_values_and_bytes_are_read():
    value = ["x" * 70_000, *range(2000), b"short", b"y" * 300, 2**3000, -(2**80)]
    for protocol in range(3, pickle.HIGHEST_PROTOCOL + 1):
        assert read_pickle(pickle.dumps(value, protocol), 0, {}, id)[0] == value


# --- files that nobody should trust --------------------------------------------------------------


def refused(path, content, limit=2_000_000):
    """Reading raises CheckpointError, takes little memory, and imports nothing."""
    path.write_bytes(content)
    loaded = set(sys.modules)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as caught:
            io.read_pretrained(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit, f"{peak} bytes were taken"
    # Names in archives are decoded, and Python may load the table for that only now.
    assert {
        name for name in set(sys.modules) - loaded if not name.startswith("encodings.")
    } == set()
    assert len(str(caught.value)) < 400 + len(str(path))
    return str(caught.value)


def traps(folder):
    """Opcodes that make a folder when Python reads them."""
    make, name = encode(Global("os", "mkdir")), encode(str(folder))
    arguments = encode((Code(name),))
    inner = pickle.PROTO + b"\x02" + make + arguments + pickle.REDUCE + pickle.STOP
    return {
        "call": make + arguments + pickle.REDUCE,
        "call by text": encode("os") + encode("mkdir") + pickle.STACK_GLOBAL + arguments + b"R",
        "call from memory": make + b"q\x00" + pickle.POP + b"h\x00" + arguments + b"R",
        "INST": pickle.MARK + name + pickle.INST + b"os\nmkdir\n",
        "OBJ": pickle.MARK + make + name + pickle.OBJ,
        "eval": encode(Call(Global("builtins", "eval"), (f"open({str(folder)!r}, 'w').close()",))),
        "pickle in a pickle": encode(Global("pickle", "loads"))
        + encode((Code(pickle.SHORT_BINBYTES + bytes([len(inner)]) + inner),))
        + pickle.REDUCE,
    }


@pytest.mark.parametrize("kind", sorted(traps("")))
def test_a_trap_that_python_falls_into_is_refused(tmp_path, kind):
    target = tmp_path / "trapped"
    trap = Code(traps(target)[kind])
    for content in (
        zipped(trap, {}),
        zipped({"weight": trap}, {}),
        zipped(Refer(trap), {}),
        in_a_row(trap, {}, {}),
        in_a_row([], {}, {}, magic=trap),
        in_a_row([], {}, {}, little=trap),
        in_a_row([], {}, {}, keys=[trap]),
        dumps(trap),
    ):
        refused(tmp_path / "file.pth", content)
        assert not target.exists()
    pickle.loads(dumps(trap))
    assert target.exists()


WHERE = storage("0", 6)
REBUILD = Global("torch._utils", "_rebuild_tensor_v2")
NAMED = Global("collections", "OrderedDict")
SIZE = encode(Global("torch", "Size"))
LIES = [
    # Names that are no tensors, or nearly are.
    (Call(Global("torch.storage", "_load_from_bytes"), (1,)), "torch.storage._load_from_bytes,"),
    (Global("torch", "load"), "asks for torch.load,"),
    (Global("torch", "ComplexFloatStorage"), "asks for torch.ComplexFloatStorage,"),
    (Global("collections", "OrderedDict.clear"), "asks for collections.OrderedDict.clear,"),
    (Global("__main__", "Model"), "asks for __main__.Model,"),
    (Global("a\x1b[31m", "b"), r"asks for 'a\\x1b\[31m.b',"),
    (Global("a" * 10_000, "b" * 10_000), "asks for aaaaa"),
    (Code(encode(1) + encode("x") + pickle.STACK_GLOBAL), "by what is no text"),
    (Call("text", ()), "calls 'text', which is no known function"),
    (Call(Global("torch", "FloatStorage"), ()), "which is no known function"),
    (Call((REBUILD,), ()), "calls a tuple of 1,"),
    (Call(REBUILD, [WHERE, 0, (), ()]), "which is no known function"),
    # Sizes, offsets and strides that lie.
    (tensor(WHERE, 0, (7,), (1,)), r"of \(7,\) that reaches beyond its storage of 6"),
    (tensor(WHERE, 1, (2, 3), (3, 1)), "reaches beyond its storage of 6"),
    (tensor(WHERE, 0, (2, 2), (2**62, 1)), "reaches beyond its storage of 6"),
    (tensor(WHERE, 0, (1,) * 9 + (7,), (1,) * 10), "of 10 axes that reaches"),
    (tensor(WHERE, 6, (), ()), "reaches beyond its storage of 6"),
    (tensor(storage("0", 0), 0, (), ()), "reaches beyond its storage of 0"),
    (tensor(WHERE, 0, (2,), (-1,)), "offset, size or stride are no sizes"),
    (tensor(WHERE, -1, (2,), (1,)), "offset, size or stride are no sizes"),
    (tensor(WHERE, 0, (-2,), (1,)), "offset, size or stride are no sizes"),
    (tensor(WHERE, True, (2,), (1,)), "offset, size or stride are no sizes"),
    (tensor(WHERE, 0, (2.0,), (1,)), "offset, size or stride are no sizes"),
    (tensor(WHERE, 0, (2, 3), (3,)), "offset, size or stride are no sizes"),
    (tensor(WHERE, 0, (2**40, 2**40), (0, 0)), "more axes or elements"),
    (tensor(WHERE, 0, (0, 2**62), (1, 1)), "more axes or elements"),
    (tensor(WHERE, 0, (1,) * 65, (1,) * 65), "more axes or elements"),
    (tensor(storage("0", 6, "DoubleStorage"), 0, (6,), (1,)), "has 24 bytes instead of 48"),
    (tensor(storage("0", 5), 0, (5,), (1,)), "has 24 bytes instead of 20"),
    (tensor(storage("0", 2**62), 0, (6,), (1,)), "has 24 bytes instead of 18446744073709551616"),
    (tensor(storage("0", -1), 0, (0,), (1,)), "storage of -1 elements"),
    (tensor(storage("0", -(2**1000)), 0, (0,), (1,)), "storage of a huge integer elements"),
    (tensor(storage("0", True), 0, (1,), (1,)), "storage of True elements"),
    (tensor(storage("1", 6), 0, (6,), (1,)), "the storage '1' is missing"),
    (tensor(storage("../data/0", 6), 0, (6,), (1,)), "the storage '../data/0' is missing"),
    # Parts that are of another kind.
    (Call(REBUILD, (WHERE, 0, ())), "a tensor with 3 arguments"),
    (tensor("0", 0, (6,), (1,)), "without storage, size or stride"),
    (tensor(WHERE, 0, [6], [1]), "without storage, size or stride"),
    (tensor(WHERE, 0, (6,), (1,), False, EMPTY, {"neg": True}), "conjugate or negative"),
    (Call(Global("torch._utils", "_rebuild_parameter"), (1, 2, 3)), "without a tensor"),
    (Call(Global("torch", "Size"), (1,)), "a size that is none"),
    (Call(NAMED, (1, 2)), "a mapping that was not written by torch.save"),
    (Call(NAMED, ({},)), "a mapping that was not written by torch.save"),
    (Call(NAMED, ([["a"]],)), "not made of names and values"),
    (Call(NAMED, ([["a", 1], ["a", 2]],)), "the name 'a' twice"),
    (Refer("0"), "something that is no storage"),
    (Refer(("module", 1, "0", "cpu", 1)), "something that is no storage"),
    (Refer(("storage", "FloatStorage", "0", "cpu", 1)), "without a type or a name"),
    (Refer(("storage", Global("torch", "Size"), "0", "cpu", 1)), "without a type or a name"),
    (Refer((*WHERE.identity, ("1", 0, 3))), "a part of a storage"),
    # A machine that is used wrongly.
    (Code(encode("b") + encode(1)), "a key without a value"),
    (Code(encode(1) + pickle.STOP), "does not end with one value"),
    (Code(pickle.MARK + encode(1)), "adds to something that is no dict"),
    (Code(pickle.MARK + pickle.APPEND), "takes a value that is not there"),
    (Code(pickle.MARK + encode(1) + pickle.TUPLE2), "takes a value that is not there"),
    (Code(pickle.TUPLE + pickle.TUPLE + pickle.TUPLE), "a mark that is not there"),
    (Code(pickle.BINGET + b"\x07"), "recalls a value that it did not remember"),
    (Code(pickle.MARK + pickle.BINPUT + b"\x07"), "remembers a value that is not there"),
    (Code(encode(1) + pickle.PUT + b"-1\n"), "remembers a value that is not there"),
    (Code(encode({}) + encode(1) + pickle.APPEND), "adds to something that is no list"),
    (Code(encode(()) + encode({}) + pickle.BUILD), "adds to something that is no dict"),
    (Code(SIZE + encode({}) + pickle.BUILD), "adds to something that is no dict"),
    (Code(encode({}) + encode(1) + pickle.BUILD), "attributes that are no mapping"),
    (Code(encode({}) + encode([]) + encode(1) + pickle.SETITEM), "the key a list of 0,"),
    ({2**64: 1}, "the key a huge integer,"),
    ({1.5: 1}, "the key 1.5,"),
    (Code(encode({"a": 1}) + encode("a") + encode(1) + pickle.SETITEM), "the key 'a' twice"),
    (Code(pickle.INT + b"1x\n"), "no number but b'1x'"),
    (Code(pickle.INT + b"9" * 5000 + b"\n"), "no number but b'999"),
    (Code(pickle.FLOAT + b"e\n"), "no number but b'e'"),
    (Code(pickle.SHORT_BINUNICODE + b"\x01\xff"), "no text but"),
    (Code(pickle.LONG4 + b"\xff" * 4), "an integer of negative length"),
    (Code(pickle.BINSTRING + b"\xff" * 4), "text of negative length"),
    (Code(pickle.PROTO + b"\x06"), "protocol 6"),
    # Lengths that would take all memory, if they were believed.
    (Code(pickle.BINUNICODE8 + b"\xff" * 8), "is cut off"),
    (Code(pickle.BINUNICODE + b"\xff" * 4), "is cut off"),
    (Code(pickle.BINBYTES8 + b"\xff" * 7 + b"\x00"), "is cut off"),
    (Code(pickle.LONG4 + b"\xff\xff\xff\x7f"), "is cut off"),
    (Code(pickle.GLOBAL + b"no line break"), "is cut off"),
    # Opcodes that no tensor needs.
    (Code(pickle.BYTEARRAY8 + b"\xff" * 7 + b"\x00"), "opcode BYTEARRAY8,"),
    (Code(pickle.NEXT_BUFFER), "opcode NEXT_BUFFER,"),
    (Code(pickle.EXT1 + b"\x01"), "opcode EXT1,"),
    (Code(SIZE + encode(()) + pickle.NEWOBJ), "opcode NEWOBJ,"),
    (Code(SIZE + encode(()) + encode({}) + pickle.NEWOBJ_EX), "opcode NEWOBJ_EX,"),
    (Code(pickle.MARK + SIZE + pickle.OBJ), "opcode OBJ,"),
    (Code(pickle.MARK + pickle.INST + b"torch\nSize\n"), "opcode INST,"),
    (Code(pickle.PERSID + b"0\n"), "opcode PERSID,"),
    (Code(encode([]) + pickle.DUP), "opcode DUP,"),
    (Code(pickle.EMPTY_SET), "opcode EMPTY_SET,"),
    (Code(b"\xff"), "opcode 0xff,"),
]


@pytest.mark.parametrize("value, said", LIES, ids=[str(i) for i in range(len(LIES))])
def test_pickles_that_lie_are_told(tmp_path, value, said):
    content = zipped({"a": value}, {"0": FLOATS.tobytes()})
    assert re.search(said, refused(tmp_path / "file.pth", content))


def test_what_was_remembered_far_away_takes_no_memory(tmp_path):
    """Python's own reader makes an array of all places below this one."""
    where = encode(tensor(WHERE, 0, (6,), (1,))) + pickle.LONG_BINPUT + b"\xff" * 4
    path = write(tmp_path, zipped({"a": Code(where)}, {"0": FLOATS.tobytes()}))
    same(io.read_pretrained(path), {"a": FLOATS})


def test_a_pickle_without_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "STEPS", 1000)
    endless = Code(pickle.EMPTY_LIST * 2000)
    assert "more than 1,000 steps" in refused(tmp_path / "file.pth", zipped(endless, {}))


def test_a_mapping_that_holds_itself_is_no_state(tmp_path):
    loop = Code(pickle.EMPTY_DICT + b"q\x00" + encode("a") + b"h\x00" + pickle.SETITEM)
    assert "no names with tensors" in refused(tmp_path / "file.pth", zipped(loop, {}))
    deep = Code(encode("a") + pickle.TUPLE1 * 20_000)
    said = refused(tmp_path / "file.pth", zipped({"a": deep}, {}))
    assert "no names with tensors" in said


def good_arrays():
    return {"a": FLOATS, "b": np.arange(12, dtype=np.int64).reshape(3, 4).T}


def zip_file():
    return zipped(*state(good_arrays()))


def test_every_truncation_is_told(tmp_path):
    for content in (zip_file(), in_a_row_of(good_arrays())):
        last = len(content) - 1
        for length in sorted({*range(0, last, 9), *range(40), *range(last - 40, last), last}):
            (tmp_path / "file.pth").write_bytes(content[:length])
            with pytest.raises(CheckpointError):
                io.read_pretrained(tmp_path / "file.pth")


@given(st.data())
def test_every_flipped_bit_of_a_zip_is_told_or_changes_nothing(tmp_path_factory, data):
    content = bytearray(zip_file())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = write(tmp_path_factory.mktemp("flip"), content)
    try:
        found = io.read_pretrained(path)
    except CheckpointError:
        return
    same(found, good_arrays())  # a time stamp, or the like


@given(st.data())
def test_changed_bytes_of_an_old_file_raise_nothing_else(tmp_path_factory, data):
    content = bytearray(in_a_row_of(good_arrays()))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(2, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = write(tmp_path_factory.mktemp("old"), content)
    try:
        found = io.read_pretrained(path)
    except CheckpointError:
        return
    assert all(array.size <= 18 or 0 in array.strides for array in found.values())


HEADS = st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02\x8a\x0a", b"<html>"])
OPCODES = st.sampled_from(sorted(pickles._STEPS)) | st.binary(min_size=1, max_size=1)
ARGUMENTS = st.binary(max_size=9) | st.sampled_from([b"torch\nSize\n", b"1\n", b"\x00", b""])
PARTS = st.sampled_from(
    [encode(part) for part in (WHERE, REBUILD, NAMED, (), [], {}, "a", 3, (6,), False, EMPTY)]
    + [encode(tensor(WHERE, 0, (6,), (1,)))]
)


@given(st.lists(st.tuples(OPCODES, ARGUMENTS).map(b"".join) | PARTS, max_size=30))
def test_opcodes_in_any_order_raise_nothing_else(parts):
    try:
        read_pickle(b"".join(parts) + pickle.STOP, 0, KNOWN, lambda key: key)
    except CheckpointError:
        pass


@given(st.binary(max_size=200), HEADS)
def test_noise_is_no_file_of_weights(tmp_path_factory, noise, head):
    path = write(tmp_path_factory.mktemp("noise"), head + noise)
    with pytest.raises(CheckpointError):
        io.read_pretrained(path)


# --- archives and old files that lie -------------------------------------------------------------


def patched(content, old, new, count=-1):
    assert old in content and len(old) == len(new)
    return content.replace(old, new, count)


def test_archives_that_lie_are_told(tmp_path):
    path = tmp_path / "file.pth"
    described, storages = state({"a": FLOATS, "b": FLOATS * 2})
    content = zipped(described, storages)

    bomb = zipped({}, {"0": bytes(50_000_000)}, compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    assert "compressed or encrypted" in refused(path, bomb)
    # The flags stand in the directory, 8 bytes behind its signature.
    place = content.index(b"PK\x01\x02") + 8
    locked = content[:place] + b"\x01" + content[place + 1 :]
    assert "compressed or encrypted" in refused(path, locked)

    twice = patched(content, b"archive/data/1", b"archive/data/0")
    assert "there twice" in refused(path, twice)
    missing = patched(content, b"archive/data/1", b"archive/data/7")
    assert "storage '1' is missing" in refused(path, missing)
    changed = patched(content, FLOATS.tobytes(), (FLOATS + 1).tobytes())
    assert "'archive/data/0' does not match its checksum" in refused(path, changed)
    elsewhere = patched(content, b"PK\x03\x04", b"PK\x05\x04", 1)
    assert refused(path, b"PK\x03\x04" + elsewhere[4:][:-1])
    for name, said in (
        ("archive/constants.pkl", "TorchScript"),
        ("other/data.pkl", "not one of torch.save"),
    ):
        assert said in refused(path, zipped(described, storages, extra={name: b"x"}))
    assert "not one of torch.save" in refused(path, patched(content, b"data.pkl", b"data.pkx"))
    assert "in which order" in refused(path, zipped(described, storages, b"middle"))
    behind = Code(encode(described) + pickle.STOP + b"more")
    assert "something behind its pickle" in refused(path, zipped(behind, storages))


def directory(content):
    """A zip archive in parts: members, directory entries, and the place of the directory."""
    end = content.rindex(b"PK\x05\x06")
    size, start = struct.unpack("<II", content[end + 12 : end + 20])
    entries = content[start : start + size].split(b"PK\x01\x02")[1:]
    return content[:start], [b"PK\x01\x02" + entry for entry in entries], start


def with_directory(members, entries, start):
    body = b"".join(entries)
    count = len(entries)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(body), start, 0)
    return members + body + end


def test_members_that_share_their_bytes_are_no_bomb(tmp_path):
    """As a zip bomb that needs no compression: many entries for the same bytes."""
    members, entries, start = directory(zipped({}, {"0": bytes(100_000)}))
    assert with_directory(members, entries, start) == zipped({}, {"0": bytes(100_000)})
    (entry,) = [entry for entry in entries if b"data/0" in entry]
    many = [entry.replace(b"data/0", b"data/%d" % digit) for digit in range(10)]
    said = refused(tmp_path / "file.pth", with_directory(members, entries[:2] + many, start))
    assert "claims to hold more than it has" in said


@pytest.mark.parametrize("field, said", [(20, "is damaged"), (42, "is damaged"), (24, "damaged")])
def test_sizes_and_places_in_the_directory_are_checked(tmp_path, field, said):
    members, entries, start = directory(zip_file())
    for value in (1, 77, 10**6, 2**31, 2**32 - 2):
        changed = [e[:field] + struct.pack("<I", value) + e[field + 4 :] for e in entries[-1:]]
        content = with_directory(members, entries[:-1] + changed, start)
        assert said in refused(tmp_path / "file.pth", content)


def test_old_files_that_lie_are_told(tmp_path):
    path = tmp_path / "file.pth"
    described, storages = state({"a": FLOATS, "b": FLOATS * 2}, None)
    counts = dict.fromkeys(storages, 6)
    same(
        io.read_pretrained(write(tmp_path, in_a_row(described, storages, counts))),
        {"a": FLOATS, "b": FLOATS * 2},
    )
    other = {"a": described["a"], "b": tensor(storage("0", 3, "DoubleStorage"), 0, (3,), (1,))}
    for content, said in (
        (in_a_row(described, storages, counts, magic=MAGIC + 1), "no file of torch.save"),
        (in_a_row(described, storages, counts, little=1), "in which order"),
        (in_a_row(described, storages, {"0": 5, "1": 6}), "another size"),
        (in_a_row(described, storages, {"0": -1, "1": 6}), "another size"),
        (in_a_row(described, storages, counts) + b"x", "something behind"),
        (in_a_row(described, storages, counts, keys=["0", "0"]), "belongs to no tensor"),
        (in_a_row(described, storages, counts, keys=["0", "7"]), "belongs to no tensor"),
        (in_a_row(described, storages, counts, keys="01"), "no list of its storages"),
        (in_a_row(other, storages, counts), "described twice"),
        (in_a_row(described, {"0": storages["0"]}, counts), "the storage '1' is missing"),
    ):
        assert said in refused(path, content)


def test_other_files_are_told_for_what_they_are(tmp_path):
    path = tmp_path / "file.pth"
    assert "neither safetensors nor of torch.save" in refused(path, b"<!DOCTYPE html><html>")
    assert "neither safetensors nor of torch.save" in refused(path, b"")
    assert "no file of torch.save" in refused(path, pickle.dumps({"a": 1}, 2))
    assert "asks for" in refused(path, pickle.dumps(FLOATS, 2))
    saved = io.save_weights(tmp_path / "ours.pth", layers.Linear(2, 2))
    assert sorted(io.read_pretrained(saved)) == ["bias", "weight"]
    with pytest.raises(CheckpointError, match="no parts such as 'model'"):
        io.read_pretrained(saved, "model")
    with pytest.raises(CheckpointError, match="no ordinary file"):
        io.torch_file.read_torch_file(os.devnull)
    with pytest.raises(FileNotFoundError):
        io.read_pretrained(tmp_path / "nothing")


# --- into a model --------------------------------------------------------------------------------


def network(classes=3):
    return Sequential(layers.Conv2d(1, 2, 3), layers.BatchNorm2d(2), layers.Linear(5, classes))


def saved(folder, model, change=lambda name: name, name="file.pth"):
    """A model's state as torch.save would write it, under other names."""
    arrays = {change(n): a for n, a in model.state_dict().items() if change(n) is not None}
    return write(folder, zipped(*state(arrays)), name)


def equal(a, b, names):
    a, b = a.state_dict(), b.state_dict()
    return all((a[name] == b[name]).all() for name in names)


def test_weights_are_loaded_whatever_they_are_kept_in(tmp_path):
    model = network()
    model[1].num_batches_tracked.assign(7)
    names = list(model.state_dict())
    paths = [
        saved(tmp_path, model),
        io.save_weights(tmp_path / "file.safetensors", model),
        io.save_checkpoint(tmp_path / "run.safetensors", model=model, step=3),
        write(tmp_path, in_a_row_of(model.state_dict()), "old.pt"),
    ]
    for path in paths:
        other = network()
        assert io.load_pretrained(other, path) == (names, [], [], [])
        assert equal(other, model, names)
        assert other[1].num_batches_tracked.item() == 7


def test_what_does_not_fit_is_listed_and_nothing_is_loaded(tmp_path):
    path = saved(tmp_path, network(10), lambda n: n.replace("0.bias", "first.bias"))
    model = network()
    before = model.state_dict()
    with pytest.raises(MismatchError) as caught:
        io.load_pretrained(model, path)
    error = caught.value
    assert error.missing == ["0.bias"] and error.unexpected == ["first.bias"]
    assert error.shapes == {"2.weight": ((10, 5), (3, 5)), "2.bias": ((10,), (3,))}
    assert str(error).removeprefix(str(path)) == (
        " does not fit Sequential, and nothing was loaded:\n"
        "  missing in the file (1):\n    0.bias\n"
        "  not in the model (1):\n    first.bias\n"
        "  of another shape (2):\n"
        "    2.weight: (10, 5) in the file, (3, 5) here\n"
        "    2.bias: (10,) in the file, (3,) here\n"
        '  skip=("2.*",) leaves them as they are'
    )
    with pytest.raises(MismatchError) as caught:
        io.load_pretrained(model, path, strict=False)
    assert "missing" not in str(caught.value) and len(caught.value.shapes) == 2
    assert all((before[name] == value).all() for name, value in model.state_dict().items())

    found = io.load_pretrained(model, path, strict=False, skip="2.*")
    assert found.missing == ["0.bias"] and found.unexpected == ["first.bias"]
    assert found.skipped == ["2.bias", "2.weight"] and "0.weight" in found.loaded
    assert (model.state_dict()["2.weight"] == before["2.weight"]).all()


def test_a_head_is_skipped_only_when_that_is_asked_for(tmp_path):
    path, model = saved(tmp_path, network(10)), network()
    with pytest.raises(MismatchError):
        io.load_pretrained(model, path)
    found = io.load_pretrained(model, path, skip=("2.weight", "?.bias"))
    assert found.skipped == ["0.bias", "1.bias", "2.bias", "2.weight"]
    assert found.missing == found.unexpected == []
    with pytest.raises(ValueError, match=r"'head\.\*' fits no name of the model; its parts are 0"):
        io.load_pretrained(model, path, skip="head.*")


def test_names_are_changed_by_their_beginnings_or_by_a_function(tmp_path):
    model = network()
    names = list(model.state_dict())
    path = saved(tmp_path, model, lambda name: f"module.{name}")
    with pytest.raises(MismatchError, match=r'names fit with rename=\{"module\.": ""\}'):
        io.load_pretrained(network(), path)
    for rename in ({"module.": ""}, {"x": "y", "module.0": "0", "module.": "", "": "z"}):
        other = network()
        assert io.load_pretrained(other, path, rename=rename).loaded == names
        assert equal(other, model, names)
    part = Sequential(network())
    with pytest.raises(MismatchError, match=r'rename=\{"": "0\."\}'):
        io.load_pretrained(part, saved(tmp_path, model))
    io.load_pretrained(part, saved(tmp_path, model), rename={"": "0."})
    assert equal(part[0], model, names)

    path = saved(tmp_path, model, lambda name: name.upper())
    other = network()
    found = io.load_pretrained(
        other,
        path,
        strict=False,
        rename=lambda name: name.lower() if name[0] != "2" else None,
    )
    assert found.missing == ["2.weight", "2.bias"] and found.unexpected == []
    assert equal(other, model, names[:2])
    with pytest.raises(CheckpointError, match="rename makes 'same' of several names"):
        io.load_pretrained(other, path, rename=lambda name: "same")
    with pytest.raises(TypeError, match="must become text or None, got 3"):
        io.load_pretrained(other, path, rename=lambda name: 3)
    with pytest.raises(TypeError, match="a mapping or a function, got 'module.'"):
        io.load_pretrained(other, path, rename="module.")


def test_many_names_are_cut_in_the_message_and_whole_in_the_error(tmp_path):
    path = saved(tmp_path, Sequential(*(layers.Linear(1, 1) for _ in range(30))))
    with pytest.raises(MismatchError, match=r"model \(60\):(?s:.*)and 40 more") as caught:
        io.load_pretrained(Sequential(), path)
    assert len(caught.value.unexpected) == 60 and str(caught.value).count("\n") == 22


def test_counts_of_batches_may_be_missing(tmp_path):
    path = saved(tmp_path, network(), lambda n: n if "num_batches" not in n else None)
    model = network()
    model[1].num_batches_tracked.assign(5)
    found = io.load_pretrained(model, path)
    assert found.missing == [] and "1.num_batches_tracked" not in found.loaded
    assert model[1].num_batches_tracked.item() == 5


def test_parameters_keep_their_types(tmp_path):
    model = layers.Linear(2, 1)
    weights = {"weight": np.array([[1.5, -2.0]], np.float16), "bias": np.array([3], np.int64)}
    io.load_pretrained(model, write(tmp_path, zipped(*state(weights))))
    assert model.weight.dtype == np.float32
    assert (model.weight.tolist(), model.bias.tolist()) == ([[1.5, -2.0]], [3.0])
    double = layers.Linear(2, 1, dtype=np.float64)
    io.load_pretrained(double, write(tmp_path, zipped(*state(weights))))
    assert double.weight.dtype == np.float64


def test_a_tensor_that_repeats_one_number_is_compared_before_it_is_filled(tmp_path):
    wide = tensor(storage("0", 1), 0, (2**20, 2**20), (0, 0))
    value = {"weight": wide, "bias": tensor(storage("0", 1), 0, (1,), (1,))}
    path = write(tmp_path, zipped(value, {"0": bytes(4)}))
    with pytest.raises(MismatchError, match=r"weight: \(1048576, 1048576\) in the file"):
        io.load_pretrained(layers.Linear(2, 1), path)


def test_bfloat16_safetensors_are_read(tmp_path):
    header = b'{"weight":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}}'
    content = struct.pack("<Q", len(header)) + header + np.array([0x3F80, 0xC040], "<u2").tobytes()
    found = io.read_pretrained(write(tmp_path, content, "x.safetensors"))["weight"]
    assert found.dtype == np.float32 and found.tolist() == [[1.0, -3.0]]
    strange = content.replace(b'"BF16"', b'"F8_X"')
    with pytest.raises(CheckpointError):
        io.read_pretrained(write(tmp_path, strange, "x.safetensors"))
    eight = header.replace(b'"BF16"', b'"F8_E4M3"').replace(b"[0,4]", b"[0,2]")
    content = struct.pack("<Q", len(eight)) + eight + bytes(2)
    with pytest.raises(CheckpointError, match="weight has numbers of type F8_E4M3"):
        io.read_pretrained(write(tmp_path, content, "x.safetensors"))


def test_reading_needs_no_pytorch(tmp_path):
    """In a process where importing it fails."""
    path = saved(tmp_path, models.LeNet5())
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from minigrad_nn import io, models\n"
        "print(len(io.load_pretrained(models.LeNet5(), sys.argv[1]).loaded))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, text=True
    )
    assert (found.stdout, found.stderr) == ("10\n", "")
