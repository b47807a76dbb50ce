"""Indexing: reading and functional writing as NumPy does, with gradients."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.testing import arrays, indices, shapes, views


@st.composite
def an_array_and_an_index(draw):
    size = draw(shapes(min_side=1))
    return draw(views(size)), draw(indices(size))


def counts(shape, index, weights):
    """The adjoint of reading: each element's weight, added up where it was read."""
    total = np.zeros(shape)
    np.add.at(total, index, weights)
    return total


@given(an_array_and_an_index())
def test_reading_equals_numpy_and_its_gradient_counts(drawn):
    view, index = drawn
    x = mg.tensor(view.array, requires_grad=True)
    y = x[index]
    wanted = view.array[index]
    np.testing.assert_array_equal(y.numpy(), wanted)
    assert y.shape == np.shape(wanted) and y.dtype == np.float64
    weights = np.arange(1.0, y.size + 1).reshape(y.shape)
    y.backward(weights)
    np.testing.assert_allclose(x.grad.numpy(), counts(x.shape, index, weights))


def as_tensors(index):
    if isinstance(index, tuple):
        return tuple(as_tensors(part) for part in index)
    return mg.tensor(index) if isinstance(index, np.ndarray) else index


@given(an_array_and_an_index())
def test_tensors_index_as_their_arrays_do(drawn):
    view, index = drawn
    x = mg.tensor(view.array)
    np.testing.assert_array_equal(x[as_tensors(index)].numpy(), view.array[index])


@given(an_array_and_an_index(), st.sampled_from(["set", "add", "multiply"]), st.data())
def test_functional_writes_equal_numpys_in_place(drawn, how, data):
    view, index = drawn
    array = view.array
    target = array[index]
    values = data.draw(arrays(np.shape(target)))
    wanted = np.array(array)
    if how == "set":
        wanted[index] = values
    elif how == "add":
        np.add.at(wanted, index, values)
    else:
        wanted[index] = target * values
    x = mg.tensor(array)
    found = getattr(x.at[index], how)(mg.tensor(values))
    np.testing.assert_array_equal(found.numpy(), wanted)
    np.testing.assert_array_equal(x.numpy(), array)  # and the original is as it was
    assert not np.shares_memory(found.numpy(), x.numpy())


@given(an_array_and_an_index(), st.sampled_from(["set", "add", "multiply"]), st.data())
def test_gradients_of_functional_writes(drawn, how, data):
    view, index = drawn
    values = data.draw(arrays(np.shape(view.array[index])))
    mg.check_gradients(
        lambda x, v: getattr(x.at[index], how)(v), view.array, values, order=2, directions=2
    )


def test_repeated_places_add_up_and_the_last_write_wins():
    x = mg.tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
    v = mg.tensor(np.array([10.0, 20.0, 30.0]), requires_grad=True)
    places = np.array([0, 0, 2])
    added = x.at[places].add(v)
    np.testing.assert_array_equal(added.numpy(), [31.0, 2.0, 33.0])
    added.backward(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(x.grad.numpy(), [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(v.grad.numpy(), [1.0, 1.0, 3.0])
    x.zero_grad()
    v.zero_grad()
    written = x.at[places].set(v)
    np.testing.assert_array_equal(written.numpy(), [20.0, 2.0, 30.0])
    written.backward(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(x.grad.numpy(), [0.0, 2.0, 0.0])
    np.testing.assert_array_equal(v.grad.numpy(), [0.0, 1.0, 3.0])


def test_repeated_places_of_several_axes_and_masks():
    x = mg.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    y = x[np.array([0, 0, 1]), np.array([1, 1, 2])]
    y.backward(np.array([1.0, 10.0, 100.0]))
    np.testing.assert_array_equal(x.grad.numpy(), [[0, 11, 0], [0, 0, 100]])
    x.zero_grad()
    x[x > 2].sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[0, 0, 0], [1, 1, 1]])


def test_many_reads_of_one_tensor_share_one_buffer():
    """A sequence that is read step by step costs memory once, not once a step."""
    import tracemalloc

    n, width = 200, 1000
    x = mg.tensor(np.ones((n, width)), requires_grad=True)
    total = x[0]
    for i in range(1, n):
        total = total + x[i] * float(i)
    tracemalloc.start()
    total.sum().backward()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * x.numpy().nbytes
    np.testing.assert_array_equal(x.grad.numpy()[:, 0], [1.0, *range(1, n)])


def test_assignment_by_index_is_told_what_to_write_instead():
    x = mg.tensor([1.0, 2.0])
    with pytest.raises(TypeError, match=r"t = t.at\[index\].set\(values\)"):
        x[0] = 3.0


def test_the_assignment_that_is_told_works_on_the_graph():
    t = x = mg.tensor(np.array([1.0, 2.0]), requires_grad=True)
    v = mg.tensor(np.array(5.0), requires_grad=True)
    t = t * 2.0
    t = t.at[0].set(v * v)
    t.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0.0, 2.0])
    assert v.grad.item() == 10.0


@pytest.mark.parametrize(
    "index, kind, words",
    [
        (7, IndexError, r"getitem of shapes \(2, 3\): index 7 is out of bounds"),
        ((0, 0, 0), IndexError, "too many indices"),
        (0.5, IndexError, "only integers"),
        (np.array([0.5]), TypeError, "must be of integers or booleans, not float64"),
        (np.array([True]), IndexError, "boolean index did not match"),
    ],
)
def test_wrong_indices_are_told(index, kind, words):
    x = mg.tensor(np.ones((2, 3)))
    with pytest.raises(kind, match=words):
        x[index]
    with pytest.raises(kind):
        x.at[index].set(1.0)


def test_a_float_tensor_is_no_index():
    with pytest.raises(TypeError, match="integers or booleans, not float32"):
        mg.tensor([1.0, 2.0])[mg.tensor([0.0])]


def test_values_that_do_not_fit_are_told():
    x = mg.tensor([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"at_set of shapes \(3,\), \(2,\)"):
        x.at[:].set([1.0, 2.0])
    whole = mg.tensor(np.arange(3))
    assert whole.at[0].set(5).dtype == np.int64
    assert whole.at[[0, 1]].set([7, 8]).tolist() == [7, 8, 2]
    with pytest.raises(TypeError, match="a tensor of int64 would cut off"):
        whole.at[0].set(1.5)
    with pytest.raises(TypeError, match="the values require a gradient"):
        whole.at[0].set(mg.tensor(1.0, requires_grad=True))


def test_tensors_of_integers_index_other_things():
    i = mg.tensor(np.array(1))
    assert [10, 20, 30][i] == 20
    assert list(range(3))[i] == 1
    with pytest.raises(TypeError, match="only an integer tensor"):
        [1, 2][mg.tensor(1.0)]


@given(arrays(shapes(1, 3, 1)))
def test_iterating_and_unpacking_stay_on_the_graph(array):
    x = mg.tensor(array, requires_grad=True)
    assert len(x) == len(array)
    rows = list(x)
    for row, wanted in zip(rows, array, strict=True):
        np.testing.assert_array_equal(row.numpy(), wanted)
    rows[0].sum().backward()
    assert x.grad.numpy()[0].sum() == rows[0].size


def test_a_tensor_without_axes_has_no_length():
    with pytest.raises(TypeError, match="without axes"):
        len(mg.tensor(1.0))
    with pytest.raises(TypeError):
        list(mg.tensor(1.0))
