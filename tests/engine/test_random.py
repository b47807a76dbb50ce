"""Random streams: replay, saving through JSON, independence, ranges, errors."""

import copy
import itertools
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import random
from minigrad.random import Generator

seeds = st.integers(0, 2**64 - 1)
keys = st.lists(st.one_of(st.integers(), st.text(max_size=5)), min_size=1, max_size=3)
# Draws of every kind: some take whole words, some half words, some reject and draw again.
DRAWS = {
    "random32": lambda g: g.random(3),
    "random64": lambda g: g.random((2, 2), dtype=np.float64),
    "uniform": lambda g: g.uniform(5, -2, 3),
    "normal": lambda g: g.normal((3,), 1.0, 2.0),
    "normal64": lambda g: g.normal((3,), dtype=np.float64),
    "integers": lambda g: g.integers(3, 0, 1000),
    "integers8": lambda g: g.integers(3, 0, 200, dtype=np.uint8),
    "permutation": lambda g: g.permutation(7),
    "bernoulli": lambda g: g.bernoulli(5, 0.3),
}
GOLDEN = [[3722388696, 3731828633, 2860693082], [1634026619, 344223533, 1254134509]]
draws = st.lists(st.sampled_from(sorted(DRAWS)), max_size=6)


def run(generator, names):
    return [DRAWS[name](generator).tolist() for name in names]


@given(seeds, draws)
def test_same_seed_gives_the_same_numbers(seed, names):
    assert run(Generator(seed), names) == run(Generator(seed), names)


@given(seeds, st.one_of(st.just([]), keys), draws, draws)
def test_state_continues_bit_exactly_through_json(seed, path, before, after):
    generator = Generator(seed).fork(*path) if path else Generator(seed)
    run(generator, before)
    text = json.dumps(generator.get_state())
    wanted = run(generator, after)
    other = Generator(1)
    run(other, ["integers8"])
    other.set_state(json.loads(text))
    assert json.dumps(other.get_state()) == text
    assert run(other, after) == wanted
    assert other.get_state() == generator.get_state()
    assert (other.seed, other.path) == (generator.seed, generator.path)


@given(draws)
def test_copy_and_pickle_continue_from_the_same_place(names):
    generator = Generator(3).fork("a")
    run(generator, names)
    copies = [copy.deepcopy(generator), pickle.loads(pickle.dumps(generator))]
    wanted = generator.random(4).tolist()
    assert [c.random(4).tolist() for c in copies] == [wanted, wanted]


def test_state_counts_words_and_is_not_changed_by_drawing():
    generator = Generator(0)
    state = generator.get_state()
    assert state == {
        "algorithm": "philox4x64-10",
        "seed": 0,
        "path": [],
        "words": 0,
        "half": None,
    }
    generator.random(5, dtype=np.float64)
    assert state["words"] == 0
    assert generator.get_state()["words"] == 5
    generator.random(1)
    state = generator.get_state()
    assert state["words"] == 6 and state["half"] is not None


def test_the_bits_of_a_stream_never_change():
    # The key is a hash of the seed and the path; a change of it would break every saved result.
    assert Generator(0).integers(3, 0, 2**32, dtype=np.uint32).tolist() == GOLDEN[0]
    stream = Generator(7).fork("epoch", 2)
    assert stream.integers(3, 0, 2**32, dtype=np.uint32).tolist() == GOLDEN[1]


@given(seeds, keys, draws)
def test_fork_depends_on_seed_and_keys_only(seed, path, names):
    generator = Generator(seed)
    first = generator.fork(*path)
    run(generator, names)
    second = generator.fork(*path)
    assert first.random(4).tolist() == second.random(4).tolist()


def test_nested_forks_are_paths():
    assert Generator(1).fork("a").fork(2).random(3).tolist() == (
        Generator(1).fork("a", 2).random(3).tolist()
    )
    assert repr(Generator(1).fork("a", 2)) == "Generator(1).fork('a', 2)"
    assert Generator(1).fork(np.int64(2)).path == (2,)


def test_streams_of_other_keys_are_independent():
    root = Generator(5)
    paths = [(0,), (1,), ("0",), ("1",), (0, 0), (0, 1), ("a", "b"), ("a, b",), ("a', 'b",), (-1,)]
    streams = [root, Generator(6), *(root.fork(*path) for path in paths), *Generator(9).spawn(3)]
    rows = np.array([stream.normal(20_000, dtype=np.float64) for stream in streams])
    correlation = np.corrcoef(rows) - np.eye(len(rows))
    # Of 105 pairs, 5.5 standard errors are passed by chance once in a hundred thousand runs.
    assert np.abs(correlation).max() < 5.5 / np.sqrt(20_000)


def test_spawn_is_fork_by_number():
    first, second = Generator(2).spawn(2)
    assert first.path == (0,) and second.path == (1,)
    assert first.random().item() != second.random().item()


def test_fresh_seeds_differ_and_can_be_replayed():
    first, second = Generator(), Generator(None)
    assert first.seed != second.seed
    assert Generator(first.seed).random(3).tolist() == first.random(3).tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_and_ranges(dtype):
    generator = Generator(11)
    n = 200_000
    u = generator.random(n, dtype=dtype)
    assert u.dtype == dtype and u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 5 / np.sqrt(12 * n)
    v = generator.uniform(n, -3.0, 5.0, dtype=dtype)
    assert v.min() >= -3 and v.max() < 5 and abs(v.mean() - 1) < 5 * 8 / np.sqrt(12 * n)
    z = generator.normal(n, 2.0, 3.0, dtype=dtype)
    assert z.dtype == dtype and abs(z.mean() - 2) < 15 / np.sqrt(n)
    assert abs(z.std() - 3) < 15 / np.sqrt(2 * n)
    k = generator.integers(n, -2, 3)
    assert np.abs(np.bincount(k + 2) / n - 0.2).max() < 5 * 0.4 / np.sqrt(n)
    mask = generator.bernoulli(n, 0.3)
    assert mask.dtype == bool and abs(mask.mean() - 0.3) < 5 * 0.46 / np.sqrt(n)


@given(
    st.floats(-1e6, 1e6, width=32),
    st.floats(0, 1, width=32),
    st.sampled_from([np.float32, np.float64]),
)
def test_uniform_never_reaches_high(low, width, dtype):
    low = dtype(low)
    high = low + dtype(width)
    drawn = Generator(0).uniform(200, low, high, dtype=dtype)
    if low == high:
        assert (drawn == low).all()
    else:
        assert drawn.min() >= low and drawn.max() < high


def test_uniform_clamps_where_rounding_would_reach_high():
    low, high = np.float32(1.0), np.nextafter(np.float32(1.0), np.float32(2.0))
    drawn = Generator(0).uniform(100, low, high)
    assert set(drawn.tolist()) == {1.0}


@pytest.mark.parametrize("p, wanted", [(0.0, 0), (1.0, 1000)])
def test_bernoulli_at_its_ends(p, wanted):
    assert Generator(0).bernoulli(1000, p).sum() == wanted


def test_permutation_holds_each_number_once():
    for n in (0, 1, 2, 100):
        order = Generator(n).permutation(n)
        assert order.dtype == np.int64 and sorted(order.tolist()) == list(range(n))
    counts = dict.fromkeys(itertools.permutations(range(3)), 0)
    generator = Generator(0)
    for _ in range(6000):
        counts[tuple(generator.permutation(3).tolist())] += 1
    assert all(abs(count - 1000) < 150 for count in counts.values())


@pytest.mark.parametrize("name", ["random", "uniform", "normal", "bernoulli"])
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "strided"])
def test_out_holds_the_same_numbers_in_any_layout(name, layout):
    dtype = np.float32
    wanted = getattr(Generator(4), name)((3, 4), dtype=dtype)
    out = {
        "contiguous": np.full((3, 4), -7, dtype),
        "transposed": np.full((4, 3), -7, dtype).T,
        "strided": np.full((3, 8), -7, dtype)[:, ::2],
    }[layout]
    assert getattr(Generator(4), name)((3, 4), dtype=dtype, out=out) is out
    assert (out == wanted).all()


def test_default_generator_starts_from_seed_zero_in_every_process():
    root = Path(__file__).parent.parent.parent
    code = "from minigrad import random; print(random.random(3).tolist())"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == str(Generator(0).random(3).tolist())


@pytest.fixture
def default():
    with random.preserved() as generator:
        yield generator


def test_module_functions_draw_from_the_default_generator(default):
    assert random.manual_seed(5) is random.default_generator() is default
    other = Generator(5)
    assert random.random(3).tolist() == other.random(3).tolist()
    assert random.uniform(2, 1, 2).tolist() == other.uniform(2, 1, 2).tolist()
    assert random.normal(2).tolist() == other.normal(2).tolist()
    assert random.integers(2, 0, 9).tolist() == other.integers(2, 0, 9).tolist()
    assert random.permutation(5).tolist() == other.permutation(5).tolist()
    assert random.bernoulli(5).tolist() == other.bernoulli(5).tolist()
    assert random.fork("x").path == ("x",) and random.fork("x").seed == 5
    assert random.get_state() == other.get_state()


def test_preserved_restores_even_when_an_exception_flies(default):
    random.manual_seed(5)
    state = random.get_state()
    random.random(3)
    later = random.get_state()
    with pytest.raises(KeyError), random.preserved(state):
        assert random.get_state() == state
        random.normal(10)
        raise KeyError("flies")
    assert random.get_state() == later


def test_as_generator(default):
    assert random.as_generator(None) is default
    assert random.as_generator(3).seed == 3
    own = Generator(4)
    assert random.as_generator(own) is own


def test_threads_share_one_generator_without_losing_or_repeating_numbers():
    generator = Generator(8)
    with ThreadPoolExecutor(8) as pool:
        parts = pool.map(lambda _: generator.random(500, dtype=np.float64), range(64))
        together = sorted(np.concatenate(list(parts)).tolist())
    assert together == sorted(Generator(8).random(64 * 500, dtype=np.float64).tolist())
    assert generator.get_state()["words"] == 64 * 500


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda g: Generator(-1), ValueError, "seed must be in"),
        (lambda g: Generator(2**64), ValueError, "seed must be in"),
        (lambda g: Generator(1.5), TypeError, "seed must be an integer"),
        (lambda g: g.fork(), ValueError, "at least one key"),
        (lambda g: g.fork(1.0), TypeError, "key of a stream"),
        (lambda g: g.fork(True), TypeError, "key of a stream"),
        (lambda g: g.random(-1), ValueError, "negative size"),
        (lambda g: g.random(1.5), TypeError, "shape must be"),
        (lambda g: g.random(3, dtype=np.int32), TypeError, "float32 or float64, got int32"),
        (lambda g: g.random(3, out=np.zeros(4, np.float32)), ValueError, "out must have shape"),
        (lambda g: g.random(3, out=np.zeros(3)), TypeError, "out must have dtype float32"),
        (lambda g: g.random(3, out=[0, 0, 0]), TypeError, "out must be a NumPy array"),
        (lambda g: g.uniform(3, 2, 1), ValueError, "high must not be below low"),
        (lambda g: g.uniform(3, 0, np.inf), ValueError, "finite"),
        (lambda g: g.uniform(3, -3e38, 3e38), ValueError, "finite"),
        (lambda g: g.normal(3, 0, -1), ValueError, "std >= 0"),
        (lambda g: g.normal(3, np.nan), ValueError, "finite mean"),
        (lambda g: g.integers(3, 2, 2), ValueError, "low < high"),
        (lambda g: g.integers(3, 0, 2, dtype=np.float32), TypeError, "integer type"),
        (lambda g: g.integers(3, 0, 257, dtype=np.uint8), ValueError, "wider dtype"),
        (lambda g: g.bernoulli(3, 1.5), ValueError, r"\[0, 1\]"),
        (lambda g: g.bernoulli(3, np.nan), ValueError, r"\[0, 1\]"),
        (lambda g: g.bernoulli(3, dtype="U3"), TypeError, "number type"),
        (lambda g: g.permutation(-1), ValueError, "negative size"),
        (lambda g: g.set_state(None), TypeError, "mapping"),
        (lambda g: g.set_state({}), ValueError, "missing fields"),
    ],
)
def test_wrong_use_is_told(call, error, message):
    generator = Generator(0)
    with pytest.raises(error, match=message):
        call(generator)
    assert generator.get_state() == Generator(0).get_state()


def test_read_only_out_is_told():
    out = np.zeros(3, np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        Generator(0).random(3, out=out)


@pytest.mark.parametrize(
    "field, value, error",
    [
        ("algorithm", "mt19937", ValueError),
        ("seed", "0", TypeError),
        ("seed", -1, ValueError),
        ("seed", True, TypeError),
        ("path", "a", TypeError),
        ("path", [1.5], TypeError),
        ("words", None, TypeError),
        ("words", 1.0, TypeError),
        ("words", -1, ValueError),
        ("words", 2**300, ValueError),
        ("half", 2**32, ValueError),
        ("half", 0.5, TypeError),
        ("surplus", 0, ValueError),
    ],
)
def test_broken_state_is_told_and_changes_nothing(field, value, error):
    generator = Generator(3)
    generator.random(3)
    before = generator.get_state()
    with pytest.raises(error, match=field if field not in ("path",) else "path|key"):
        generator.set_state({**before, field: value})
    assert generator.get_state() == before
