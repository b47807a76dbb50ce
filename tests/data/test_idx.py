"""The IDX reader: every type and shape round-trips, and no damaged or hostile file gets through."""

import gzip
import hashlib
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minigrad_nn.data import IdxError, read_idx
from minigrad_nn.data.idx import DTYPES

CODES = {dtype.newbyteorder("="): code for code, dtype in DTYPES.items()}


def idx_bytes(array: np.ndarray) -> bytes:
    """The file that holds an array, from the format's description and not from the reader."""
    header = struct.pack(f">2xBB{array.ndim}I", CODES[array.dtype], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(tmp_path_factory, content: bytes):
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(content)
    return path


shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)
arrays = st.sampled_from(sorted(CODES, key=str)).flatmap(lambda kind: hnp.arrays(kind, shapes))
GOOD = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@given(arrays, st.booleans())
def test_round_trip(tmp_path_factory, array, packed):
    content = idx_bytes(array)
    path = write(tmp_path_factory, gzip.compress(content) if packed else content)
    found = read_idx(path, sha256=hashlib.sha256(content).hexdigest())
    assert found.dtype == array.dtype and found.dtype.isnative
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()
    assert found.flags.writeable


@given(st.integers(0, len(idx_bytes(GOOD)) - 1))
def test_every_truncation_is_found(tmp_path_factory, length):
    path = write(tmp_path_factory, idx_bytes(GOOD)[:length])
    with pytest.raises(IdxError, match="ends after"):
        read_idx(path)


@given(st.data())
def test_every_truncated_archive_is_found(tmp_path_factory, data):
    content = gzip.compress(idx_bytes(GOOD))
    length = data.draw(st.integers(2, len(content) - 1))
    with pytest.raises(IdxError, match="damaged gzip"):
        read_idx(write(tmp_path_factory, content[:length]))


@given(st.data())
def test_every_flipped_bit_of_an_archive_is_found_or_harmless(tmp_path_factory, data):
    content = bytearray(gzip.compress(idx_bytes(GOOD)))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = write(tmp_path_factory, bytes(content))
    try:
        found = read_idx(path)
    except IdxError:
        return
    assert (found == GOOD).all()  # a name or a time in gzip's header may change, no number may


@given(st.binary(max_size=60))
def test_noise_is_refused_or_read_as_what_it_says(tmp_path_factory, content):
    path = write(tmp_path_factory, content)
    try:
        array = read_idx(path)
    except IdxError as error:
        assert str(path) in str(error)
    else:
        assert idx_bytes(array) == content


# Names of tests hold the bytes, so they must not depend on the clock.
PACKED = gzip.compress(idx_bytes(GOOD), mtime=0)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "ends after 0 of 4 bytes of the magic number"),
        (b"\0\0\x08", "ends after 3 of 4"),
        (b"\x89PNG\r\n", "begins with 89 50 4e 47"),
        (b"\0\0\x0a\x01\0\0\0\0", "begins with 00 00 0a 01"),
        (b"\0\0\x08\x00", "declares 0 axes"),
        (b"\0\0\x08\xff", "declares 255 axes"),
        (b"\0\0\x08\x02\0\0\0\1", "ends after 4 of 8 bytes of the sizes"),
        (idx_bytes(GOOD) + b"\0", "goes on after the 24 bytes"),
        (PACKED + b"junk", "damaged gzip"),
        (PACKED + gzip.compress(b"more", mtime=0), "goes on after the 24 bytes"),
        (b"\x1f\x8b", "damaged gzip"),
    ],
)
def test_wrong_files_are_told(tmp_path, content, message):
    path = tmp_path / "wrong"
    path.write_bytes(content)
    with pytest.raises(IdxError, match=message):
        read_idx(path)


def test_a_wrong_sum_of_the_archive_is_found(tmp_path):
    content = bytearray(gzip.compress(idx_bytes(GOOD)))
    content[-8:-4] = struct.pack("<I", zlib.crc32(idx_bytes(GOOD)) ^ 1)
    path = tmp_path / "sum.gz"
    path.write_bytes(content)
    with pytest.raises(IdxError, match="damaged gzip"):
        read_idx(path)


def test_another_file_than_wanted_is_found(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(idx_bytes(GOOD))
    with pytest.raises(IdxError, match="checksum .* wanted 00ff"):
        read_idx(path, sha256="00ff")


@pytest.mark.parametrize("sizes", [(2**31,), (2**32 - 1,) * 4])
def test_a_header_that_promises_too_much_is_refused(tmp_path, sizes):
    path = tmp_path / "huge"
    path.write_bytes(struct.pack(f">2xBB{len(sizes)}I", 8, len(sizes), *sizes))
    with pytest.raises(IdxError, match="more than the limit"):
        read_idx(path)


def peak_memory(path) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(IdxError):
            read_idx(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_promise_that_is_not_kept_costs_no_memory(tmp_path):
    path = tmp_path / "liar"
    path.write_bytes(struct.pack(">2xBBI", 8, 1, 2**29) + b"only this")
    assert peak_memory(path) < 4 << 20


def test_a_small_archive_does_not_unpack_to_much_more_than_its_header_says(tmp_path):
    bomb = struct.pack(">2xBBI", 8, 1, 16) + bytes(64 << 20)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bomb))
    assert path.stat().st_size < 100_000
    assert peak_memory(path) < 4 << 20


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "nothing")
