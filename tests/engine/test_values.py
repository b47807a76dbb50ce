"""Tensors as values: how they are made, copied, pickled, printed, and told apart from arrays."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import GraphError
from minigrad.testing import arrays, shapes, views

# --- making --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data, dtype, shape",
    [
        (1, "f4", ()),
        (1.5, "f4", ()),
        ([1, 2], "f4", (2,)),
        ([[1.0], [2.0]], "f4", (2, 1)),
        ((1, 2.5), "f4", (2,)),
        (True, "?", ()),
        ([True, False], "?", (2,)),
        ([], "f4", (0,)),
        (np.arange(3), "i8", (3,)),
        (np.ones(2), "f8", (2,)),
        (np.ones(2, np.float16), "f2", (2,)),
        (np.float64(1.0), "f8", ()),
        (np.int8(1), "i1", ()),
        (range(3), "f4", (3,)),
    ],
)
def test_dtypes_of_what_is_made(data, dtype, shape):
    x = mg.tensor(data)
    assert (x.dtype, x.shape, x.ndim) == (np.dtype(dtype), shape, len(shape))
    assert x.size == int(np.prod(shape)) and x.is_leaf and x.grad is None


def test_a_dtype_can_be_asked_for():
    assert mg.tensor([1, 2], dtype=mg.int64).dtype == np.int64
    assert mg.tensor(np.arange(3), dtype=mg.float32).dtype == np.float32
    assert mg.tensor(mg.tensor([1.5]), dtype="float64").tolist() == [1.5]


def test_tensors_in_lists_are_taken_by_value():
    parts = [mg.tensor([1.0, 2.0]), mg.tensor([3.0, 4.0])]
    assert mg.tensor(parts).tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    "data, words",
    [
        ("abc", "numbers or booleans, got str"),
        (None, "got NoneType"),
        ([1, "a"], "got list"),
        (1j, "got complex"),
        ([[1, 2], [3]], "does not form an array"),
        (np.array(["a"]), "ndarray of dtype <U1"),
        (object(), "got object"),
    ],
)
def test_what_is_not_made_of_numbers_is_told(data, words):
    with pytest.raises(TypeError, match=words):
        mg.tensor(data)


class Foreign:
    """Something else's array, which hands out its own memory."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: a[:], mg.tensor, Foreign])
def test_data_is_copied(wrap):
    array = np.ones(3)
    source = wrap(array)
    x = mg.tensor(source)
    array[0] = 5.0
    assert x.tolist() == [1.0, 1.0, 1.0]
    x.assign(7.0)
    assert array.tolist() == [5.0, 1.0, 1.0]
    if isinstance(source, mg.Tensor):
        assert source.tolist() == [1.0, 1.0, 1.0]


@given(views(shapes()))
def test_copies_of_uncommon_memory_are_plain(view):
    x = mg.tensor(view.array)
    np.testing.assert_array_equal(x.numpy(), view.array)
    assert x.numpy().flags.c_contiguous
    x.assign(0.0)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_creation_functions(requires_grad):
    cases = [
        (mg.zeros((2, 3), requires_grad=requires_grad), np.zeros((2, 3), np.float32)),
        (mg.ones(2, requires_grad=requires_grad), np.ones(2, np.float32)),
        (mg.full((2,), 7, requires_grad=requires_grad), np.full(2, 7, np.float32)),
        (mg.eye(2, 3, 1, requires_grad=requires_grad), np.eye(2, 3, 1, np.float32)),
        (mg.linspace(0, 1, 5, requires_grad=requires_grad), np.linspace(0, 1, 5, dtype="f4")),
        (mg.arange(0.0, 1.0, 0.25, requires_grad=requires_grad), np.arange(0, 1, 0.25, dtype="f4")),
    ]
    for x, wanted in cases:
        assert x.dtype == wanted.dtype == np.float32
        np.testing.assert_array_equal(x.numpy(), wanted)
        assert x.requires_grad is requires_grad
        x.assign(0.0)


def test_creation_functions_take_their_dtype():
    assert mg.arange(3).dtype == np.int64 and mg.arange(1, 7, 2).tolist() == [1, 3, 5]
    assert mg.arange(3, dtype=mg.float32).dtype == np.float32
    for make in (mg.zeros, mg.ones):
        assert make((2,), dtype=mg.int32).dtype == np.int32
    for like in (mg.tensor(np.arange(3)), np.arange(3)):
        assert mg.zeros_like(like).dtype == mg.ones_like(like).dtype == np.int64
        assert mg.full_like(like, 2.0, dtype=mg.float64).tolist() == [2.0] * 3
    assert mg.full((2,), mg.tensor(3.0)).tolist() == [3.0, 3.0]
    x = mg.tensor([1.0], requires_grad=True)
    assert not mg.ones_like(x).requires_grad
    with pytest.raises(TypeError, match="only tensors of floats"):
        mg.arange(3, requires_grad=True)


# --- copies --------------------------------------------------------------------------------------


def trained():
    x = mg.tensor(np.array([1.0, 2.0]), requires_grad=True, name="w")
    (x * x).sum().backward()
    return x


@pytest.mark.parametrize(
    "again",
    [
        copy.deepcopy,
        lambda x: pickle.loads(pickle.dumps(x)),
        lambda x: pickle.loads(pickle.dumps(x, 2)),
    ],
    ids=["deepcopy", "pickle", "old pickle"],
)
def test_deepcopy_and_pickle_give_leaves_of_their_own(again):
    x = trained()
    twin = again(x)
    assert (twin.tolist(), twin.name, twin.requires_grad, twin.is_leaf) == ([1, 2], "w", True, True)
    assert twin.dtype == x.dtype and not np.shares_memory(twin.numpy(), x.numpy())
    twin.assign([5.0, 6.0])
    assert x.tolist() == [1.0, 2.0]
    twin.zero_grad()
    (twin * 3.0).sum().backward()
    assert twin.grad.tolist() == [3.0, 3.0] and x.grad.tolist() == [2.0, 4.0]
    assert not again(mg.tensor([1.0])).requires_grad


def test_deepcopy_takes_the_gradient_along_and_pickle_leaves_it():
    x = trained()
    twin = copy.deepcopy(x)
    assert twin.grad.tolist() == [2.0, 4.0]
    assert not np.shares_memory(twin.grad.numpy(), x.grad.numpy())
    assert pickle.loads(pickle.dumps(x)).grad is None


def test_deepcopy_keeps_shared_weights_shared():
    x = trained()
    a, b = copy.deepcopy([x, x])
    assert a is b


def test_a_computed_tensor_is_not_copied_with_its_graph():
    y = trained() * 2.0
    for again in (copy.deepcopy, pickle.dumps):
        with pytest.raises(GraphError, match=r"only a leaf .* take `.detach\(\)`"):
            again(y)
    assert copy.deepcopy(y.detach()).tolist() == [2.0, 4.0]
    assert y.copy().is_leaf and not y.copy().requires_grad


def test_copy_is_a_leaf_with_memory_of_its_own():
    x = trained()
    twin = x.copy()
    twin.assign(0.0)
    assert x.tolist() == [1.0, 2.0] and not twin.requires_grad


def test_views_of_pickled_and_copied_tensors_are_whole():
    x = mg.tensor(np.arange(6.0).reshape(2, 3)).T
    for again in (copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))):
        assert again(x).tolist() == x.tolist()
        again(x).assign(0.0)


# --- reading -------------------------------------------------------------------------------------


def test_how_tensors_are_printed():
    assert repr(mg.tensor([1.0, 2.5])) == "tensor([1. , 2.5])"
    assert repr(mg.tensor(np.ones(1))) == "tensor([1.], dtype=float64)"
    assert repr(mg.tensor([True])) == "tensor([ True])"
    x = mg.tensor([1.0], requires_grad=True, name="w")
    assert repr(x) == "tensor([1.], name='w', requires_grad=True)"
    assert f"{mg.tensor(1.25):.1f}" == "1.2" and f"{mg.tensor([1.0])}" == "tensor([1.])"


def test_names():
    x = mg.tensor([1.0], name="a", requires_grad=True)
    y = x * 2.0
    y.name = "b"
    x.name = "c"
    assert (x.name, x.node.name, y.name, y.node.name) == ("c", "c", "b", "b")


def test_numbers_out_of_tensors():
    x = mg.tensor([[2.0]])
    assert (x.item(), float(x), int(x)) == (2.0, 2.0, 2)
    assert type(x.item()) is float and type(mg.tensor(np.arange(1)).item()) is int


@given(arrays(shapes()), st.sampled_from(["==", "!=", "<", ">"]))
def test_comparing_is_elementwise_and_keys_are_by_identity(array, operator):
    x, y = mg.tensor(array), mg.tensor(array)
    found = {"==": x == y, "!=": x != y, "<": x < y, ">": x > y}[operator]
    assert found.dtype == np.bool_ and found.shape == array.shape
    assert not found.requires_grad
    assert len({x, y}) == 2 and x in {x}
    assert (x == None) is False and (x != None) is True  # noqa: E711 - elementwise or not at all


def test_strangers_are_declined():
    x = mg.tensor([1.0])
    for other in ("1", None, object(), 1j):
        with pytest.raises(TypeError):
            x + other
        with pytest.raises(TypeError):
            other * x


# --- errors of shapes ----------------------------------------------------------------------------

A, B = mg.ones((2, 3)), mg.ones((2, 4))


@pytest.mark.parametrize(
    "use, kind, words",
    [
        (lambda: A + B, ValueError, r"add of shapes \(2, 3\), \(2, 4\)"),
        (lambda: np.ones((5,)) * A, ValueError, r"multiply of shapes \(5,\), \(2, 3\)"),
        (
            lambda: mg.where(A > 0, A, B),
            ValueError,
            r"where of shapes \(2, 3\), \(2, 3\), \(2, 4\)",
        ),
        (lambda: A @ B, ValueError, r"matmul: shapes \(2, 3\) and \(2, 4\).*inner sizes 3 and 2"),
        (lambda: A @ mg.tensor(1.0), ValueError, "matmul: needs vectors or matrices"),
        (lambda: A.reshape(4, -1), ValueError, r"reshape: shape \(2, 3\) has 6 elements"),
        (lambda: A.sum(2), ValueError, "sum: axis 2 is out of bounds for 2 axes"),
        (lambda: A.mean((0, 0)), ValueError, "mean: axis .* names an axis twice"),
        (lambda: A[:0].max(), ValueError, r"max: no elements to choose from in shape \(0, 3\)"),
        (lambda: A.squeeze(0), ValueError, "squeeze: axis 0 of shape .* has size 2"),
        (lambda: A.squeeze(5), ValueError, "squeeze: axis 5 is out of bounds"),
        (lambda: A.swapaxes(0, 2), ValueError, "swapaxes: axis 2 is out of bounds for 2 axes"),
        (lambda: mg.moveaxis(A, 0, 2), ValueError, "out of bounds"),
        (lambda: mg.expand_dims(A, 5), ValueError, "expand_dims: axis 5"),
        (lambda: mg.broadcast_to(A, (2, 4)), ValueError, r"broadcast_to of shapes \(2, 3\)"),
        (lambda: mg.concatenate([A, B]), ValueError, r"concatenate of shapes \(2, 3\), \(2, 4\)"),
        (lambda: mg.concatenate([]), ValueError, "concatenate: needs at least one"),
        (lambda: mg.stack([A, B]), ValueError, "stack: needs tensors of one shape"),
        (lambda: mg.stack([]), ValueError, "stack: needs tensors of one shape, got none"),
        (lambda: mg.split(A, 2, 1), ValueError, "split: axis 1 of size 3 has no 2 equal sections"),
        (lambda: mg.split(A, 1, 7), ValueError, "split: axis 7"),
        (lambda: mg.pad(A, -1), ValueError, "pad: pad_width must not be negative"),
        (lambda: mg.pad(A, 1, "mirror"), ValueError, "unknown mode 'mirror'; choose"),
        (lambda: mg.take(A, mg.tensor([0.5])), TypeError, "take: indices must be integers"),
        (lambda: mg.take(A, 5, 0), IndexError, "index 5 is out of bounds"),
        (lambda: mg.take_along_axis(A, [0], 1), ValueError, "indices have 1 axes, x has 2"),
        (lambda: mg.tensordot(A, B, 1), ValueError, "tensordot: .* do not have the same sizes"),
        (lambda: mg.tensordot(A, B, 3), ValueError, "tensordot: axes 3, but a has 2"),
        (lambda: mg.einsum("ij,jk", A), ValueError, r"has 2 term\(s\) for 1 operand"),
        (lambda: mg.einsum("ij,ij->ij", A, B), ValueError, "one index of .* has sizes"),
        (lambda: mg.einsum("ij->ik", A), ValueError, "must use each index of a term once"),
        (lambda: mg.einsum("i->i", A), ValueError, "does not fit an operand with 2 axes"),
        (lambda: mg.trace(A[0]), ValueError, "diagonal: needs at least two axes"),
        (lambda: mg.inv(A), ValueError, r"inv: needs square matrices .* got shape \(2, 3\)"),
        (lambda: mg.inv(mg.zeros((2, 2))), np.linalg.LinAlgError, r"inv of shapes \(2, 2\): Sing"),
        (lambda: mg.cholesky(-mg.eye(2)), np.linalg.LinAlgError, "cholesky of shapes"),
        (lambda: mg.det(A), ValueError, "det: needs square"),
        (
            lambda: mg.solve(mg.eye(2), mg.ones(3)),
            ValueError,
            r"solve of shapes \(2, 2\), \(3, 1\)",
        ),
        (lambda: mg.norm(A, 3), ValueError, "norm: ord 3 over axis None"),
        (lambda: mg.norm(A, -1, axis=0), ValueError, "norm: ord -1"),
        (lambda: mg.clip(A, A.detach().requires_grad_()), TypeError, "a_min requires a gradient"),
        (lambda: mg.add(A, [1.0, "a"]), TypeError, "numbers or booleans"),
        (lambda: -mg.tensor([True]), TypeError, "negative"),
    ],
)
def test_wrong_shapes_and_arguments_are_told_by_op(use, kind, words):
    with pytest.raises(kind, match=words):
        use()


def test_reductions_of_nothing():
    empty = mg.tensor(np.zeros((0, 3)))
    assert empty.sum().item() == 0.0 and empty.prod().item() == 1.0
    assert empty.sum(0).tolist() == [0.0] * 3 and empty.sum(1).shape == (0,)
    assert not empty.any().item() and empty.all().item()
    assert np.isnan(empty.mean().item()) and empty.max(1).shape == (0,)
    assert mg.logsumexp(empty).item() == -np.inf and mg.norm(empty).item() == 0.0
    x = mg.tensor(np.zeros((0, 3)), requires_grad=True)
    for f in (mg.sum, mg.prod, mg.logsumexp, mg.norm, mg.mean):
        x.zero_grad()
        f(x).backward()
        assert x.grad.shape == (0, 3)
    mg.check_gradients(lambda t: mg.prod(t, 0), np.zeros((0, 3)), order=3)


def test_arrays_of_the_user_may_change_after_their_use():
    x = mg.tensor(np.ones(3), requires_grad=True)
    factor, places, mask = np.full(3, 2.0), np.array([0, 1]), np.array([True, False, True])
    y = (x * factor).sum() + x[places].sum() + x[mask].sum() + mg.take(x, places).sum()
    y = y + mg.maximum(x, factor).sum() + x.at[places].add(factor[:2]).sum()
    factor[:], places[:], mask[:] = 7.0, 2, False
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [6.0, 5.0, 4.0])


def test_what_a_gate_closes_does_not_depend_on_the_order_of_creation():
    found = []
    with np.errstate(all="ignore"):
        for log_first in (False, True):
            for swapped in (False, True):
                x = mg.tensor(np.array([0.0, 1.0]), requires_grad=True)
                parts = [lambda x: (0.0 * mg.log(x)).sum(), lambda x: mg.relu(x).sum()]
                a, b = (part(x) for part in (parts if log_first else parts[::-1]))
                (b + a if swapped else a + b).backward()
                found.append(x.grad.tolist())
    assert found == [[0.0, 1.0]] * 4


def test_a_list_of_variables_is_not_cut_off_the_graph_silently():
    x = mg.tensor(1.0, requires_grad=True)
    with pytest.raises(mg.GraphError, match=r"minigrad\.stack"):
        mg.tensor([x, x])
    assert mg.tensor([x.detach(), 2.0]).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f4"])
@pytest.mark.parametrize("size", [4095, 4096, 5000])
def test_a_choice_against_zero_is_numpys_to_the_last_bit(dtype, size):
    rng = np.random.default_rng(size)
    values = rng.standard_normal((2, size)).astype(dtype)
    values[:, :6] = [np.inf, -np.inf, np.nan, -0.0, 0.0, 1e-45]
    mask = rng.random((2, size)) < 0.5
    mask[0, :6], mask[1, :6] = True, False
    for x, m, zero in (
        (values[0], mask[0], 0.0),
        (values[0], mask[0], -0.0),
        (values[0], mask[0].astype(int), 0.0),
        (values[1, ::-1], mask[1, ::-1], 0.0),
        (values.T, mask.T, 0.0),
        (values, mask[0], 0.0),
        (values, np.bool_(True), 0.0),
    ):
        found, wanted = mg.where(m, x, zero), np.where(m, x, zero)
        assert found.dtype == wanted.dtype and found.shape == wanted.shape
        assert found.tobytes() == wanted.tobytes()
        assert not np.shares_memory(found, x)
