"""Arrays on a card compute as NumPy's: types, broadcasting, reductions, indices, views."""

import operator
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn.kernels.cuda import elementwise, protocol, reduce
from minigrad_nn.kernels.cuda.scalars import SCALARS

KINDS = "fdli?e"
TOLERANCE = {"e": 4e-3, "f": 2e-6}


def drawn(rng, shape, kind):
    x = (rng.normal(size=shape) * 1.5).astype(kind)
    if kind in "fd" and x.size > 3:
        x.reshape(-1)[:3] = 0.0, np.nan, np.inf
    return x


def same(found, wanted, tolerance=1e-12):
    array = found.to_numpy()
    assert array.shape == np.shape(wanted) and array.dtype == wanted.dtype
    np.testing.assert_allclose(
        array.astype("d"), np.asarray(wanted).astype("d"), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("ufunc", SCALARS, ids=lambda ufunc: ufunc.__name__)
def test_ufuncs_give_numpys_values_and_types(ufunc, card):
    rng = np.random.default_rng(1)
    tried = 0
    for kind in KINDS:
        values = [drawn(rng, (2, 1, 3), kind), drawn(rng, (2, 1), kind)][: ufunc.nin]
        if ufunc is np.power and kind in "li":
            values[1] = abs(values[1])
        with np.errstate(all="ignore"):
            try:
                wanted = ufunc(*values)
            except TypeError:
                with pytest.raises(TypeError):
                    ufunc(*map(card.from_numpy, values))
                continue
        tried += 1
        same(ufunc(*map(card.from_numpy, values)), wanted, TOLERANCE.get(wanted.dtype.char, 1e-12))
    assert tried


@pytest.mark.parametrize("ufunc", reduce.JOINS, ids=lambda ufunc: ufunc.__name__)
@pytest.mark.parametrize("axis", [0, -1, (0, 2), None], ids=str)
def test_reductions_in_chunks_and_without(ufunc, axis, card, monkeypatch):
    rng = np.random.default_rng(2)
    for kind, chunks in zip("fl?e", (4, 100, 3, 5), strict=True):
        monkeypatch.setattr(reduce, "ROWS_CHUNK", chunks)
        monkeypatch.setattr(reduce, "COLUMNS_CHUNK", chunks)
        x = rng.normal(size=(3, 2, 5)).astype(kind)
        view = card.from_numpy(x)[:, ::-1]
        wanted = ufunc.reduce(x[:, ::-1], axis=axis, keepdims=True)
        same(ufunc.reduce(view, axis=axis, keepdims=True), wanted, 2e-2 if kind == "e" else 1e-5)


@pytest.mark.parametrize("name", ["argmax", "argmin", "cumsum", "cumprod"])
def test_positions_and_running_sums(name, card):
    x = np.array([[3.0, np.nan, 1.0], [2.0, 2.0, -1.0], [5.0, 5.0, 0.5]], np.float32)
    for axis in (0, 1, None):
        same(
            getattr(np, name)(card.from_numpy(x), axis=axis), getattr(np, name)(x, axis=axis), 1e-6
        )


def test_a_sum_has_the_same_bits_each_time_and_nan_travels(card):
    x = np.random.default_rng(3).normal(size=(40,)).astype("f")
    there = card.from_numpy(x)
    assert np.add.reduce(there).to_numpy().tobytes() == np.add.reduce(there).to_numpy().tobytes()
    x[7] = np.nan
    assert np.isnan(np.max(card.from_numpy(x)).item()) and np.isnan(card.from_numpy(x).sum().item())


def test_empty_reductions(card):
    empty = card.from_numpy(np.zeros((0, 2), "f"))
    same(np.add.reduce(empty, axis=0), np.zeros(2, "f"))
    same(np.max(empty, axis=0, initial=-np.inf), np.full(2, -np.inf, "f"))
    with pytest.raises(ValueError, match="zero-size"):
        np.max(empty, axis=0)


PLACES = np.array([0, 2, -1])
COLUMN = np.array([[1], [3]])
MASK = np.array([True, False, True])
INDICES = {
    "integers": PLACES,
    "two": (PLACES, COLUMN),
    "apart": (PLACES, slice(1, 3), PLACES),
    "behind": (slice(None), PLACES),
    "number": (0, PLACES),
    "number apart": (0, slice(None), PLACES),
    "mask": np.arange(60).reshape(3, 4, 5) % 7 < 3,
    "mask of rows": MASK,
    "mask and integers": (MASK, np.array([0, 3])),
    "new axis": (PLACES, None, slice(None), PLACES),
    "backwards": (slice(None, None, -1), slice(1, None, 2), COLUMN),
    "dots": (Ellipsis, PLACES),
    "list": [0, 1],
    "none": np.zeros(0, int),
    "slices": (slice(1, 3), 0),
    "one": (1, 2, 3),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_reading_writing_and_adding_at_indices(index, card):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(3, 4, 5)).astype("f")
    there = card.from_numpy(x)
    same(there[index], x[index])
    values = rng.normal(size=x[index].shape).astype("f")
    x[index] = values
    there[index] = card.from_numpy(values)
    same(there, x)
    np.add.at(x, index, values)
    np.add.at(there, index, card.from_numpy(values))
    same(there, x, 1e-6)
    x[index] = 2.5
    there[index] = 2.5
    same(there, x, 1e-6)


def test_a_place_named_twice_keeps_the_last_and_adds_all(card):
    places = np.array([1, 1, 0, 1])
    values = np.arange(12.0).reshape(4, 3)
    x = np.zeros((2, 3))
    there = card.from_numpy(x)
    x[places] = values
    there[places] = card.from_numpy(values)
    same(there, x)
    np.add.at(x, places, values)
    np.add.at(there, places, card.from_numpy(values))
    same(there, x)


@pytest.mark.parametrize(
    "index, words",
    [(7, "out of bounds"), (PLACES + 2, "out of bounds"), ((0, 0, 0, 0), "too many"),
     (MASK[:2], "boolean index did not match")],
)  # fmt: skip
def test_a_wrong_index_is_told(index, words, card):
    with pytest.raises(IndexError, match=words):
        card.from_numpy(np.zeros((3, 4, 5)))[index]


def test_views_share_memory_and_copies_do_not(card):
    x = card.from_numpy(np.arange(6.0).reshape(2, 3))
    view = x.T[1:]
    assert view.base is x and np.may_share_memory(view, x)
    view[...] = 0.0
    assert x.tolist() == [[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]]
    copy = x.copy()
    copy[0, 0] = 9.0
    assert x.tolist()[0][0] == 0.0 and not np.may_share_memory(copy, x)


def test_a_result_over_its_own_argument_is_right(card):
    x = np.arange(12.0).reshape(3, 4)
    there = card.from_numpy(x)
    there[:, 1:] += there[:, :-1]
    x[:, 1:] = x[:, 1:] + x[:, :-1]
    same(there, x)


def test_views_of_eight_axes(card):
    x = np.arange(2**8, dtype="f").reshape((2,) * 8).transpose((7, 0, 6, 1, 5, 2, 4, 3))
    same(card.from_numpy(x.base.reshape((2,) * 8)).transpose((7, 0, 6, 1, 5, 2, 4, 3)) + 1, x + 1)


FORMULAS = ["abc,abd->acd", "abc->b", "abc,dbc->ad", "abc->cab", "abc,abc->", "ab,bc,cd->ad"]


@pytest.mark.parametrize("formula", FORMULAS)
def test_einsum(formula, card):
    rng = np.random.default_rng(5)
    size = dict(a=3, b=4, c=2, d=5)
    terms = formula.split("->")[0].split(",")
    values = [rng.normal(size=[size[n] for n in term]) for term in terms]
    same(np.einsum(formula, *map(card.from_numpy, values)), np.einsum(formula, *values), 1e-10)


def test_joining_and_filling(card):
    x = np.arange(12.0, dtype="f").reshape(3, 4)
    there = card.from_numpy(x)
    same(np.concatenate([there, there[:1]]), np.concatenate([x, x[:1]]))
    same(np.stack([there, there], -1), np.stack([x, x], -1))
    same(np.pad(there, ((1, 0), (0, 2)), constant_values=3.0),
         np.pad(x, ((1, 0), (0, 2)), constant_values=3.0))  # fmt: skip
    same(np.roll(there, (1, -1), (0, 1)), np.roll(x, (1, -1), (0, 1)))
    same(np.where(there > 3, there, 0.0), np.where(x > 3, x, 0.0))
    same(np.clip(there, 2, 5), np.clip(x, 2, 5))
    same(np.zeros((2,), "i4", like=there), np.zeros((2,), "i4"))


def test_what_is_not_there_says_what_to_do(card):
    x = card.from_numpy(np.ones(3))
    for refused in (np.median, np.fft.fft, np.cbrt):
        with pytest.raises(NotImplementedError, match="compute it on the CPU"):
            refused(x)
    with pytest.raises(TypeError, match="does not become a NumPy array by itself"):
        np.asarray(x)
    with pytest.raises(TypeError, match="do not mix"):
        operator.add(x, np.ones(3))


# What would be computed wrongly if an argument were passed over, and what there is not.
REFUSED = {
    "a mask of a sum": lambda x: np.add.reduce(x, axis=0, where=x > 1),
    "a mask of numpy.sum": lambda x: np.sum(x, where=x > 1),
    "a mask of numpy.mean": lambda x: np.mean(x, where=x > 1),
    "a mask of an element": lambda x: np.add(x, 1, where=x > 1),
    "a mask of numpy.max": lambda x: np.max(x, where=x > 1, initial=0.0),
    "columns first": lambda x: np.reshape(x, (3, 2), order="F"),
    "columns first, ravelled": lambda x: np.ravel(x, "F"),
    "a type of the whole": lambda x: np.concatenate([x, x], dtype="d"),
    "other edges": lambda x: np.pad(x, 1, mode="edge"),
    "another casting": lambda x: np.add(x, 1, casting="no"),
    "reduceat": lambda x: np.add.reduceat(x, [0, 1]),
    "outer": lambda x: np.add.outer(x, x),
    "another at": lambda x: np.subtract.at(x, 0, 1.0),
    "another reduction": lambda x: np.subtract.reduce(x),
    "another accumulation": lambda x: np.subtract.accumulate(x),
    "a remainder": lambda x: x % 2,
    "shifts": lambda x: x.astype("i4") << 1,
    "a product of integers": lambda x: x.astype(int) @ x.T.astype(int),
    "a dot with three axes": lambda x: np.dot(x, np.ones((1, 3, 2), like=x)),
    "qr": lambda x: np.linalg.qr(x),
    "eigh": lambda x: np.linalg.eigh(x[:, :2]),
    "norm": lambda x: np.linalg.norm(x),
    "unique": lambda x: np.unique(x),
    "nonzero": lambda x: np.nonzero(x),
    "var": lambda x: np.var(x),
}


@pytest.mark.parametrize("function", REFUSED.values(), ids=REFUSED)
def test_nothing_is_passed_over_in_silence(function, card):
    x = card.from_numpy(np.arange(6.0).reshape(2, 3))
    with pytest.raises(NotImplementedError, match=r"is not written for CUDA: .* \.to\(\"cpu\"\)"):
        function(x)


@pytest.mark.parametrize("order", ["C", "c", None])
def test_arrays_are_made_full_of_a_value(card, order):
    x = np.arange(6, dtype="i4").reshape(2, 3)
    there = card.from_numpy(x)
    for name, given in (("zeros", ()), ("ones", ()), ("full", (2.5,))):
        make, alike = getattr(np, name), getattr(np, f"{name}_like")
        for dtype in (None, "f", bool):
            found = make((2, 0, 3), *given, dtype=dtype, order=order, like=there)
            same(found, make((2, 0, 3), *given, dtype=dtype))
            same(alike(there, *given, dtype=dtype, order=order), alike(x, *given, dtype=dtype))
        for either in ("K", "A"):
            same(alike(there.T, *given, order=either), alike(x.T, *given))
        same(alike(there, *given, shape=(4,)), alike(x, *given, shape=(4,)))
    same(np.full(2, fill_value=3, like=there), np.full(2, fill_value=3))
    found = np.empty_like(there.T, "f", order=order), np.empty((3, 2), order=order, like=there)
    assert [(a.shape, a.dtype) for a in found] == [((3, 2), np.float32), ((3, 2), np.float64)]


@pytest.mark.parametrize("name", ["empty", "zeros", "ones", "full"])
def test_arrays_are_not_made_columns_first(card, name):
    there = card.from_numpy(np.ones((2, 3), "f"))
    given = (7.0,) if name == "full" else ()
    for order in ("F", "f"):
        told = f"with order '{order}' is not written for CUDA: compute it on the CPU"
        with pytest.raises(NotImplementedError, match=f"^numpy.{name} {told}"):
            getattr(np, name)((3, 2), *given, order=order, like=there)
        with pytest.raises(NotImplementedError, match=f"^numpy.{name}_like {told}"):
            getattr(np, f"{name}_like")(there, *given, order=order)


def test_results_go_where_they_are_wanted(card):
    x = np.arange(6.0, dtype="f").reshape(2, 3)
    there = card.from_numpy(x)
    for compute, shape, dtype in (
        (lambda a, out: np.argmax(a, 0, out=out), 3, "i8"),
        (lambda a, out: np.argmin(a, 1, out=out), 2, "i8"),
        (lambda a, out: np.einsum("ij->j", a, out=out), 3, "f"),
        (lambda a, out: np.add.accumulate(a, 1, out=out), (2, 3), "f"),
        (lambda a, out: np.mean(a, 0, out=out), 3, "f"),
    ):
        wanted, out = np.zeros(shape, dtype), card.empty(shape, dtype)
        compute(x, wanted)
        compute(there, out)
        same(out, wanted, 1e-6)


def test_the_page_lists_what_there_is():
    page = Path(__file__).parents[3] / "docs" / "api" / "cuda.md"
    rows = dict(re.findall(r"^\| ([a-z][^|]*?) *\| (.*?) *\|$", page.read_text(), re.MULTILINE))
    listed = {kind: set(re.findall(r"`([\w.]+)`", names)) for kind, names in rows.items()}

    def names(functions):
        return {f"{f.__module__}.{f.__name__}".removeprefix("numpy.") for f in functions}

    hosted, views = names(protocol.HOSTED), names(protocol.VIEWS)
    assert listed["elements"] == {ufunc.__name__ for ufunc in SCALARS}
    assert listed["reductions"] == {
        f"{ufunc.__name__}.{way}" for ufunc in reduce.JOINS for way in ("reduce", "accumulate")
    }
    assert listed["on the host"] == hosted
    assert views <= listed["views and shapes"]
    others = set().union(*(listed[k] for k in listed if k not in ("elements", "on the host")))
    functions = {name for name in others if not name.endswith((".reduce", ".accumulate", ".at"))}
    assert functions - {"matmul"} == names(protocol.FUNCTIONS) - hosted


def test_arrays_survive_pickling(card):
    x = card.from_numpy(np.arange(3.0))
    same(pickle.loads(pickle.dumps(x)), np.arange(3.0))


def test_positions_of_64_bits(card):
    """As for arrays of more than 2**31 elements, which no test can hold."""
    x = card.from_numpy(np.arange(6.0).reshape(2, 3))
    wide = elementwise._WIDE
    try:
        elementwise._WIDE = 0
        same(x.T * 2, np.arange(6.0).reshape(2, 3).T * 2)
    finally:
        elementwise._WIDE = wide


def test_mixing_devices_names_both_tensors(card):
    here, there = mg.tensor([1.0], name="here"), mg.tensor([1.0]).to("cuda").detach()
    there.name = "there"
    with pytest.raises(TypeError, match="argument 0 'here' on cpu, argument 1 'there' on cuda:0"):
        here + there


def test_layers_are_made_where_it_is_said(card):
    with mg.device("cuda"):
        layers = nn.Conv2d(1, 2, 3), nn.Linear(3, 4), nn.BatchNorm1d(2), nn.RNN(2, 3)
    for layer in layers:
        held = [*layer.parameters(), *layer.buffers()]
        assert {value.device for value in held} == {"cuda:0"}, layer
    assert nn.Linear(3, 4).weight.device == "cpu"


def test_tensors_are_made_where_it_is_said(card):
    with mg.device("cuda"):
        assert mg.zeros(2).device == mg.tensor([1.0]).device == "cuda:0"
    assert mg.zeros(2).device == "cpu"
