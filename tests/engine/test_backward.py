"""Backward passes of tensors: arguments, freeing, retained gradients, hooks, writes in place."""

import gc
import warnings
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import GraphError, backend


def leaf(*values, **options):
    return mg.tensor(np.array(values), requires_grad=True, **options)


def values(x):
    return x.numpy().tolist()


# --- arguments -----------------------------------------------------------------------------------


def test_a_single_element_needs_no_gradient():
    for shape in [(), (1,), (1, 1)]:
        x = mg.tensor(np.full(shape, 3.0), requires_grad=True)
        (x * x).backward()
        assert x.grad.shape == shape and x.grad.item() == 6.0


@pytest.mark.parametrize("kind", [np.array, mg.tensor, list, tuple])
def test_the_gradient_that_flows_in_is_given(kind):
    x = leaf(1.0, 2.0)
    (x * x).backward(kind([10.0, 100.0]))
    assert values(x.grad) == [20.0, 400.0]


def test_a_gradient_is_taken_in_the_dtype_of_the_output():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    (x * x).backward(np.array([1, 10]))
    assert x.grad.dtype == mg.float32 and values(x.grad) == [2.0, 40.0]


def test_several_elements_need_a_gradient_of_their_shape():
    y = leaf(1.0, 2.0) * 2.0
    with pytest.raises(ValueError, match=r"shape \(2,\) has 2 elements; pass the gradient.*sum"):
        y.backward()
    with pytest.raises(ValueError, match=r"the gradient has shape \(3,\), the tensor \(2,\)"):
        y.backward(np.ones(3))
    with pytest.raises(ValueError, match=r"shape \(\)"):
        y.backward(1.0)


def test_no_elements_need_a_gradient_too():
    x = mg.tensor(np.zeros((0, 2)), requires_grad=True)
    with pytest.raises(ValueError, match="has 0 elements"):
        (x * 2.0).backward()
    (x * 2.0).backward(np.zeros((0, 2)))
    assert x.grad.shape == (0, 2)
    (x * 2.0).sum().backward()


def test_backward_from_what_needs_no_gradient_is_told():
    for y in (mg.tensor([1.0]), mg.tensor([1.0]) * 2.0, leaf(1.0).detach(), mg.argmax(leaf(1.0))):
        with pytest.raises(GraphError, match="depends on nothing that requires a gradient"):
            y.backward()


def test_backward_from_a_leaf_gives_what_flows_in():
    x = leaf(1.0, 2.0)
    x.backward(np.array([3.0, 4.0]))
    x.backward(np.array([3.0, 4.0]))
    assert values(x.grad) == [6.0, 8.0]


# --- adding up and freeing -----------------------------------------------------------------------


def test_leaves_add_up_over_passes_until_they_forget():
    x = leaf(1.0, 2.0)
    for n in (1, 2, 3):
        (x * x).sum().backward()
        assert values(x.grad) == [2.0 * n, 4.0 * n]
    x.zero_grad()
    assert x.grad is None
    x.grad = np.array([1.0, 1.0])
    (x * x).sum().backward()
    assert values(x.grad) == [3.0, 5.0]


@pytest.mark.parametrize(
    "f",
    [mg.exp, lambda x: x * x, lambda x: x + 1.0, lambda x: mg.reshape(x, -1), lambda x: x[0]],
    ids=["saves its output", "saves inputs", "saves nothing", "view", "index"],
)
def test_a_second_pass_needs_the_graph_retained(f):
    x = leaf(1.0, 2.0)
    y = f(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(GraphError, match=r"walked before .* freed; pass retain_graph=True"):
        y.backward()


def test_create_graph_retains_the_graph():
    x = leaf(2.0)
    y = (x**3).sum()
    y.backward(create_graph=True)
    assert x.grad.requires_grad
    y.backward()
    first = x.grad
    assert values(first) == [24.0]
    x.zero_grad()
    (mg.gradients(first.sum(), [x])[0]).item()


def test_parts_shared_between_two_graphs_are_freed_by_the_first():
    x = leaf(1.0)
    shared = mg.exp(x)
    a, b = shared * 2.0, shared * 3.0
    a.sum().backward()
    with pytest.raises(GraphError, match="through exp"):
        b.sum().backward()


def test_saved_values_are_released_while_the_structure_stays():
    x = mg.tensor(np.ones(1000), requires_grad=True)
    inner = mg.exp(x)
    held = weakref.ref(inner._data)
    y = (inner * inner).sum()
    del inner
    assert held() is not None
    node = y.node
    y.backward()
    assert held() is None
    assert [n.op.name for n in (node, node.inputs[0])] == ["sum", "multiply"]


def test_a_graph_nobody_holds_is_freed_by_counting_references():
    gc.collect()
    gc.disable()
    try:
        x = leaf(1.0, 2.0)
        y = mg.tanh(x * x).sum()
        node = weakref.ref(y._data)
        inner = weakref.ref(y.node.inputs[0].saved[0])
        y.register_hook(lambda g: g)
        y.retain_grad()
        y.backward(retain_graph=True)
        del y
        assert node() is None and inner() is None
    finally:
        gc.enable()


def test_a_pass_that_fails_half_way_changes_no_gradient():
    def fail(g):
        raise RuntimeError("no")

    a, b = leaf(1.0), leaf(2.0)
    (a * b).sum().backward()
    inner = a * 3.0
    inner.register_hook(fail)
    y = (inner * b).sum()
    with pytest.raises(RuntimeError, match="no"):
        y.backward()
    assert values(a.grad) == [2.0] and values(b.grad) == [1.0]


# --- interior gradients --------------------------------------------------------------------------


def test_an_interior_gradient_is_not_kept_and_says_why():
    x = leaf(1.0, 2.0)
    y = mg.exp(x)
    y.sum().backward()
    with pytest.warns(UserWarning, match=r"computed by exp.*call .retain_grad\(\)"):
        assert y.grad is None


def test_retain_grad_keeps_it_and_shows_the_last_one():
    x = leaf(1.0, 2.0)
    y = x * 3.0
    assert y.retain_grad() is y
    z = (y * y).sum()
    z.backward(retain_graph=True)
    assert values(y.grad) == [6.0, 12.0]
    z.backward()
    assert values(y.grad) == [6.0, 12.0]
    assert values(x.grad) == [36.0, 72.0]
    x.retain_grad()  # a leaf keeps its gradient anyway
    with pytest.raises(GraphError, match="requires none"):
        mg.tensor([1.0]).retain_grad()


def test_retain_grad_of_an_output_among_several():
    x = leaf(1.0, 2.0, 3.0, 4.0)
    a, b = mg.split(x, 2)
    a.retain_grad()
    (a * b).sum().backward()
    assert values(a.grad) == [3.0, 4.0] and values(x.grad) == [3.0, 4.0, 1.0, 2.0]


def test_reading_the_gradient_of_a_leaf_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert leaf(1.0).grad is None and mg.tensor([1.0]).grad is None


def test_a_gradient_must_have_the_shape_of_its_tensor():
    with pytest.raises(ValueError, match=r"shape \(3,\) is not the tensor's \(2,\)"):
        leaf(1.0, 2.0).grad = np.ones(3)


# --- hooks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("create_graph", [False, True])
def test_hooks_see_and_replace_the_whole_gradient_in_order(create_graph):
    x = leaf(1.0, 2.0)
    y = x * 2.0
    seen = []
    y.register_hook(lambda g: seen.append(("first", values(g))))
    y.register_hook(lambda g: g * 10.0)
    y.register_hook(lambda g: seen.append(("last", values(g))))
    (y + y * 3.0).sum().backward(create_graph=create_graph)
    assert seen == [("first", [4.0, 4.0]), ("last", [40.0, 40.0])]
    assert values(x.grad) == [80.0, 80.0]


def test_hooks_of_leaves_see_each_pass_before_it_is_added():
    x = leaf(1.0)
    seen = []
    remove = x.register_hook(lambda g: seen.append(g.item()))
    clip = x.register_hook(lambda g: mg.clip(g, -1.0, 1.0))
    for _ in range(2):
        (x * 5.0).sum().backward()
    assert seen == [5.0, 5.0] and x.grad.item() == 2.0
    remove()
    clip()
    (x * 5.0).sum().backward()
    assert seen == [5.0, 5.0] and x.grad.item() == 7.0
    remove()  # a second time does nothing


def test_one_hook_registered_twice_is_removed_once():
    x = leaf(1.0)
    double = lambda g: g * 2.0  # noqa: E731 - the same object twice
    x.register_hook(double)
    remove = x.register_hook(double)
    remove()
    remove()
    x.sum().backward()
    assert x.grad.item() == 2.0


def test_what_a_hook_may_return():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    remove = x.register_hook(lambda g: np.array([5.0, 6.0]))
    x.sum().backward()
    assert values(x.grad) == [5.0, 6.0] and x.grad.dtype == mg.float32
    remove()
    x.register_hook(lambda g: np.ones(3))
    with pytest.raises(ValueError, match=r"a hook returned a gradient of shape \(3,\)"):
        x.sum().backward()
    with pytest.raises(GraphError, match="requires none"):
        mg.tensor([1.0]).register_hook(lambda g: g)


def test_what_a_hook_keeps_is_not_the_gradient():
    x = leaf(1.0, 2.0)
    kept = []
    x.register_hook(lambda g: kept.append(g))
    (x * x + x).sum().backward()
    x.grad.assign(0.0)
    assert values(kept[0]) == [3.0, 5.0]


def test_hooks_work_in_recorded_passes():
    x = leaf(3.0)
    y = x * x
    y.register_hook(lambda g: g * x)
    (g,) = mg.gradients(y.sum(), [x], create_graph=True)
    assert g.item() == 18.0
    assert mg.gradients(g.sum(), [x])[0].item() == 12.0


def test_a_hook_keeps_nothing_alive():
    x = leaf(1.0)
    y = x * 2.0
    held = weakref.ref(y)
    y.register_hook(lambda g: None)
    gc.disable()
    try:
        del y
        assert held() is None
    finally:
        gc.enable()


# --- writes in place -----------------------------------------------------------------------------


def test_assign_writes_a_leaf_in_place_and_says_so():
    x = leaf(1.0, 2.0)
    memory = x._data
    assert x.assign([5.0, 6.0]) is x
    assert x._data is memory and values(x) == [5.0, 6.0]
    x.assign(0.0)
    assert values(x) == [0.0, 0.0]
    x.data = np.array([1, 2])
    assert values(x) == [1.0, 2.0] and x.dtype == mg.float64


@pytest.mark.parametrize(
    "f, name",
    [
        (lambda x: x * x, "multiply"),
        (lambda x: mg.sin(x), "sin"),
        (lambda x: x @ x, "matmul"),
        (lambda x: mg.reshape(x, (2, 1)) * 2.0 * mg.reshape(x, (2, 1)), "multiply"),
        (lambda x: mg.exp(x[::-1]) * x[::-1], "multiply"),
        (lambda x: x.detach() * x, "multiply"),
        (lambda x: mg.prod(x), "prod"),
        (lambda x: mg.einsum("i,i->", x, x), "einsum"),
    ],
)
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_saved_value_that_was_written_is_told(f, name, create_graph):
    x = leaf(1.0, 2.0)
    y = f(x).sum()
    x.assign([3.0, 4.0], writer="SGD.step")
    with pytest.raises(GraphError, match=rf"through {name}: .*changed in place by SGD.step since"):
        y.backward(create_graph=create_graph)
    assert x.grad is None


def test_a_write_that_nobody_saved_does_no_harm():
    x, other = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = (mg.exp(x) + x * 2.0 - other).sum()  # saves the output of exp only
    x.assign(0.0)
    other.assign(0.0)
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), np.exp([1.0, 2.0]) + 2.0)


def test_a_graph_built_after_the_write_is_fresh():
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    x.assign([3.0, 4.0])
    y = (x * x).sum()
    x.zero_grad()
    y.backward()
    assert values(x.grad) == [6.0, 8.0]


def test_writing_to_the_owner_of_a_view_is_found_through_the_view():
    x = mg.tensor(np.ones((2, 3)))
    view = x[0].T[::-1]
    w = leaf(1.0, 2.0, 3.0)
    y = (w * view).sum()
    x.assign(5.0)
    with pytest.raises(GraphError, match=r"multiply: a value of shape \(3,\).*by assign"):
        y.backward()


def test_others_who_write_announce_it():
    """What optimisers and running statistics do: write, then tell the backend."""
    state = mg.tensor(np.ones(2))
    x = leaf(1.0, 2.0)
    y = (x * state).sum()
    np.add(state._data, 1.0, out=state._data)
    backend.written(state._data, "BatchNorm2d running statistics")
    with pytest.raises(GraphError, match="by BatchNorm2d running statistics"):
        y.backward()


def test_records_of_writes_go_with_the_memory():
    before = len(backend._writes)
    x = leaf(1.0, 2.0)
    x.assign(0.0)
    assert len(backend._writes) == before + 1
    x.assign(1.0)
    assert len(backend._writes) == before + 1
    del x
    assert len(backend._writes) == before


@pytest.mark.parametrize(
    "target, value, kind, words",
    [
        (
            lambda: leaf(1.0) * 2.0,
            0.0,
            GraphError,
            r"by multiply; only leaves.*at\[index\]",
        ),
        (lambda: leaf(1.0, 2.0)[:1], 0.0, GraphError, "computed by getitem"),
        (lambda: mg.tensor([1.0, 2.0])[:1], 0.0, ValueError, "shares its memory"),
        (lambda: mg.tensor([1.0, 2.0]).T, 0.0, ValueError, "shares its memory"),
        (lambda: leaf(1.0, 2.0), [1.0, 2.0, 3.0], ValueError, r"shape \(3,\) does not fit"),
        (lambda: leaf(1.0), np.ones((2, 1)), ValueError, r"shape \(2, 1\) does not fit"),
    ],
)
def test_wrong_writes_are_told(target, value, kind, words):
    with pytest.raises(kind, match=words):
        target().assign(value)


def test_views_for_numpy_are_read_only():
    x = leaf(1.0, 2.0)
    for view in (x.numpy(), x.data):
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 5.0
    assert np.shares_memory(x.numpy(), x._data)


def test_augmented_assignment_makes_a_new_value():
    x = leaf(1.0, 2.0)
    y = x
    y += 1.0
    y *= 2.0
    assert values(x) == [1.0, 2.0] and values(y) == [4.0, 6.0]
    y.sum().backward()
    assert values(x.grad) == [2.0, 2.0]


# --- NumPy ---------------------------------------------------------------------------------------


def test_arrays_on_the_left_stay_on_the_graph():
    x = leaf(1.0, 2.0)
    for y in (np.array([3.0, 4.0]) * x, np.float64(3.0) * x, np.ones((2, 2)) @ x):
        assert isinstance(y, mg.Tensor) and y.requires_grad
    assert (np.array([3.0, 4.0]) > x).tolist() == [True, True]


def test_numpy_functions_refuse_what_is_on_the_graph():
    x = leaf(1.0, 2.0)
    with pytest.raises(TypeError, match="NumPy would take this tensor off the graph"):
        np.asarray(x)
    with pytest.raises(TypeError):
        np.sin(x)
    np.testing.assert_array_equal(np.asarray(x.detach()), [1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(x.detach())[0] = 1.0


def test_conditions_need_one_element():
    assert bool(mg.tensor([2.0]) > 1)
    with pytest.raises(ValueError, match=r"truth of a tensor of shape \(2,\)"):
        bool(leaf(1.0, 2.0) > 1)
    with pytest.raises(ValueError, match=r"exactly one element, this tensor has shape \(2,\)"):
        leaf(1.0, 2.0).item()


# --- who owns a gradient --------------------------------------------------------------------------


def _made():
    """An op whose rule gives an array that is remembered by its address alone."""
    seen = []

    def rule(g):
        made = g * 2.0
        seen.append(made.__array_interface__["data"][0])
        return made

    return mg.op("doubled", lambda x: x * 2.0, rule), seen


def _address(tensor):
    return tensor.grad.numpy().__array_interface__["data"][0]


def _fill(tensor, value):
    """Write into the very memory of a tensor, which no user can."""
    array = tensor._data
    array.flags.writeable = True
    array[...] = value


def test_a_gradient_that_nobody_else_holds_is_handed_over_uncopied():
    doubled, seen = _made()
    x = mg.tensor(np.ones(5), requires_grad=True)
    doubled(x).backward(np.ones(5))
    assert seen == [_address(x)]


def test_a_gradient_that_somebody_holds_is_copied():
    x, y = (mg.tensor(np.ones(5), requires_grad=True) for _ in range(2))
    seed = np.ones(5)
    (x + y).backward(seed)  # both rules hand on the very array
    _fill(x.grad, 7.0)
    seed[1] = 7.0
    assert x.grad.tolist() == [7.0] * 5
    assert y.grad.tolist() == [1.0] * 5
    # A view keeps what it looks at.
    x, y = mg.tensor(np.ones(6), requires_grad=True), mg.tensor(np.ones(6), requires_grad=True)
    doubled, _ = _made()
    both = doubled(mg.stack([x, y]))
    both.backward(np.ones((2, 6)))
    _fill(x.grad, 0.0)
    assert y.grad.tolist() == [2.0] * 6
    # So does a hook.
    kept = []
    x, (doubled, _) = mg.tensor(np.ones(3), requires_grad=True), _made()
    x.register_hook(lambda g: kept.append(g.data))
    doubled(x).backward(np.ones(3))
    _fill(x.grad, 0.0)
    assert kept[0].tolist() == [2.0] * 3


def test_saved_values_are_never_handed_over():
    saved = mg.op("saved", lambda x: x * 1.0, lambda g, y: y)
    x = mg.tensor(np.ones(3), requires_grad=True)
    y = saved(x)
    y.backward(np.ones(3), retain_graph=True)
    _fill(x.grad, 5.0)
    assert y.tolist() == [1.0] * 3
