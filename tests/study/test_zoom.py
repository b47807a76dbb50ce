"""One element of a tensor as a scalar graph: its value, its gradients and its receptive field."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad
from minigrad.draw import Drawing
from minigrad.study.zoom import zoom
from minigrad_nn import functional as F
from minigrad_nn.models import LeNet5

rng = np.random.default_rng(5)


def draw_tensor(*shape, positive=False):
    values = rng.normal(size=shape)
    return minigrad.tensor(np.abs(values) + 0.5 if positive else values, requires_grad=True)


def poisoned_field(f, inputs, which, index):
    """Which elements of an input reach the output element: those whose NaN does."""
    arrays = [t.numpy() for t in inputs]
    found = []
    for place in np.ndindex(arrays[which].shape):
        spoiled = [np.array(a) for a in arrays]
        spoiled[which][place] = np.nan
        with warnings.catch_warnings(), np.errstate(all="ignore"), minigrad.no_grad():
            warnings.simplefilter("ignore")
            y = f(*[minigrad.tensor(a) for a in spoiled])
        if np.isnan(y.numpy()[index]):
            found.append(place)
    return found


def check(f, *inputs, index=None, field=True, depth=1):
    """Hold the scalar graph of one element to the tensor's own gradients and to the poison.

    `field` says of which inputs: a weight that meets only padding is not read, though its NaN
    would show.
    """
    y = f(*inputs)
    index = tuple(int(rng.integers(n)) for n in y.shape) if index is None else index
    z = zoom(y, index, depth=depth)
    np.testing.assert_allclose(z.value.data, y.numpy()[index], rtol=1e-12, atol=1e-14)
    seed = np.zeros(y.shape)
    seed[index] = 1.0
    for t in inputs:
        t.zero_grad()
    y.backward(seed, retain_graph=True)
    if z.value.requires_grad:
        z.backward()
    for which, t in enumerate(inputs):
        wanted = np.zeros(t.shape) if t.grad is None else t.grad.numpy()
        np.testing.assert_allclose(z.gradients(t), wanted, rtol=1e-9, atol=1e-13)
        if field is True or (field and which in field):
            assert z.field(t) == poisoned_field(f, inputs, which, index)
    return z


ENGINE = {
    "add, broadcast": (lambda a, b: a + b, [(2, 3), (3,)]),
    "multiply, broadcast": (lambda a, b: a * b, [(2, 1), (1, 3)]),
    "divide": (lambda a, b: a / b, [(3,), (3,)]),
    "power": (lambda a: a**2, [(3,)]),
    "tanh": (minigrad.tanh, [(2, 2)]),
    "maximum": (minigrad.maximum, [(3,), (3,)]),
    "matmul": (lambda a, b: a @ b, [(2, 3), (3, 4)]),
    "matmul of vectors": (lambda a, b: a @ b, [(3,), (3,)]),
    "matmul in batches": (lambda a, b: a @ b, [(2, 1, 2, 3), (3, 3, 2)]),
    "matmul of a vector": (lambda a, b: a @ b, [(3,), (2, 3, 2)]),
    "einsum": (lambda a, b: minigrad.einsum("ij,kj->ki", a, b), [(2, 3), (4, 3)]),
    "sum": (lambda a: a.sum(axis=1), [(2, 3, 2)]),
    "sum, all": (lambda a: a.sum(), [(2, 3)]),
    "mean, kept": (lambda a: a.mean(axis=(0, 2), keepdims=True), [(2, 3, 2)]),
    "max": (lambda a: a.max(axis=0), [(3, 2)]),
    "min": (lambda a: a.min(axis=-1), [(3, 2)]),
    "prod": (lambda a: minigrad.prod(a, axis=0), [(3, 2)]),
    "norm": (lambda a: minigrad.norm(a, axis=1), [(2, 3)]),
    "logsumexp": (lambda a: minigrad.logsumexp(a, axis=0), [(3, 2)]),
    "cumsum": (lambda a: minigrad.cumsum(a, axis=1), [(2, 3)]),
    "reshape": (lambda a: a.reshape(3, 2), [(2, 3)]),
    "transpose": (lambda a: a.T, [(2, 3)]),
    "getitem": (lambda a: a[[0, 1, 1], ::2], [(2, 5)]),
    "concatenate": (lambda a, b: minigrad.concatenate([a, b]), [(2, 2), (1, 2)]),
    "pad": (lambda a: minigrad.pad(a, 1), [(2, 2)]),
    "flip": (lambda a: minigrad.flip(a), [(2, 2)]),
    "roll": (lambda a: minigrad.roll(a, 1, axis=0), [(3,)]),
    "at set": (lambda a, b: a.at[1:].set(b), [(3, 2), (2,)]),
    "at add": (lambda a, b: a.at[[0, 0, 2]].add(b), [(3,), (3,)]),
    "astype": (lambda a: a.astype(np.float64), [(3,)]),
}


@pytest.mark.parametrize("name", ENGINE)
def test_elements_of_the_engines_operations(name):
    f, shapes = ENGINE[name]
    for _ in range(3):
        check(f, *[draw_tensor(*shape, positive=name == "power") for shape in shapes])


def test_every_op_of_the_engine_can_be_zoomed_into_or_says_so():
    from minigrad.core import Op
    from minigrad.ops import elementwise, index, linalg, reduce, shape
    from minigrad.study.zoom import _expansion_of

    without = set()
    for room in (elementwise, index, linalg, reduce, shape):
        for op in vars(room).values():
            if isinstance(op, Op) and any(op.differentiable):
                if _expansion_of(op) is None and op.scalar is None and op.like is None:
                    without.add(op.name)
    assert without == {"inv", "solve", "det", "cholesky"}
    with pytest.raises(ValueError, match=r'register_zoom\("inv"\)'):
        zoom(minigrad.inv(draw_tensor(2, 2)), 0, 0)


@settings(max_examples=15)
@given(st.data())
def test_one_output_pixel_of_a_convolution(data):
    groups = data.draw(st.sampled_from([1, 2]))
    kernel = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    options = dict(
        stride=data.draw(st.integers(1, 2)),
        padding=data.draw(st.integers(0, 2)),
        dilation=data.draw(st.integers(1, 2)),
        groups=groups,
    )
    x, w, b = draw_tensor(2, 2, 5, 6), draw_tensor(2, 2 // groups, *kernel), draw_tensor(2)
    check(lambda x, w, b: F.conv2d(x, w, b, **options), x, w, b, field=[0, 2])


def test_convolutions_in_one_and_three_dimensions_and_their_adjoints():
    check(F.conv1d, draw_tensor(1, 2, 5), draw_tensor(2, 2, 3))
    check(F.conv3d, draw_tensor(1, 1, 3, 3, 3), draw_tensor(1, 1, 2, 2, 2))
    from minigrad_nn.functional.conv import channel_sum, conv_input, conv_weight
    from minigrad_nn.kernels import Geometry

    geometry = Geometry.of((5, 4), (3, 2), stride=(2, 1), padding=1, groups=2)
    size = geometry.output
    h, w, x = draw_tensor(2, 4, *size), draw_tensor(4, 1, 3, 2), draw_tensor(2, 2, 5, 4)
    for _ in range(3):
        check(lambda h, w: conv_input(h, w, geometry=geometry), h, w, field=[0])
        check(lambda x, h: conv_weight(x, h, geometry=geometry), x, h, field=[0])
    check(channel_sum, x)


@pytest.mark.parametrize("pool", [F.max_pool2d, F.avg_pool2d, F.sum_pool2d])
@pytest.mark.parametrize("ceil", [False, True])
def test_one_window_of_a_pool(pool, ceil):
    x = draw_tensor(2, 2, 6, 5)
    for _ in range(3):
        check(lambda x: pool(x, 3, stride=2, padding=1, ceil_mode=ceil), x)


def test_the_window_of_a_max_pool_has_four_leaves_and_one_gets_the_gradient():
    x = minigrad.tensor([[[[1.0, 7.0], [7.0, 2.0]]]], requires_grad=True, name="x")
    z = check(lambda x: F.max_pool2d(x, 2), x, field=False)
    assert z.field(x) == [(0, 0, i, j) for i in (0, 1) for j in (0, 1)]
    assert z.gradients(x).tolist() == [[[[0, 1], [0, 0]]]]  # the first of equals, as the pool


def test_the_picture_has_one_root_also_where_values_are_equal():
    a = minigrad.tensor([[1.0, 1.0]], requires_grad=True)
    z = zoom(a @ minigrad.tensor([[2.0], [0.0]], requires_grad=True), 0, 0)
    assert [node.is_root for node in z.draw().graph.nodes].count(True) == 1


def test_one_batch_norm_value():
    x, gamma, beta = draw_tensor(3, 2, 2, 2), draw_tensor(2), draw_tensor(2)
    z = check(lambda x, g, b: F.batch_norm(x, weight=g, bias=b, training=True), x, gamma, beta)
    channel = z.index[1]
    assert z.field(x) == [i for i in np.ndindex(x.shape) if i[1] == channel]
    assert z.field(gamma) == [(channel,)]


def test_one_softmax_entry_and_the_losses():
    x = draw_tensor(2, 4, 3)
    check(lambda x: F.softmax(x, axis=1), x)
    check(lambda x: F.log_softmax(x, axis=-1), x)
    logits = draw_tensor(3, 4)
    check(lambda x: F.cross_entropy(x, np.array([1, 3, 0])), logits)
    check(
        lambda x: F.cross_entropy(x, np.array([1, 3, 0]), "none", label_smoothing=0.1),
        logits,
    )
    check(lambda x: F.nll_loss(x, np.array([1, 3, 0]), "none"), logits, field=False, depth=2)


def test_a_dense_layer():
    check(F.linear, draw_tensor(2, 3), draw_tensor(4, 3), draw_tensor(4))


def test_several_operations_deep():
    x, w, b = draw_tensor(1, 1, 6, 6), draw_tensor(1, 1, 3, 3), draw_tensor(1)
    h = minigrad.tanh(F.conv2d(x, w, b))
    y = F.avg_pool2d(h, 2)
    assert zoom(y, 0, 0, 1, 1, depth=1).field(y.node.inputs[0]) == [
        (0, 0, i, j) for i in (2, 3) for j in (2, 3)
    ]
    z = zoom(y, 0, 0, 1, 1, depth=None)
    assert z.field(x) == [(0, 0, i, j) for i in range(2, 6) for j in range(2, 6)]
    z.backward()
    seed = np.zeros(y.shape)
    seed[0, 0, 1, 1] = 1.0
    y.backward(seed)
    for t in (x, w, b):
        np.testing.assert_allclose(z.gradients(t), t.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_one_pixel_of_lenet5():
    model = LeNet5(size=28).astype(np.float64)
    x = minigrad.tensor(rng.normal(size=(1, 1, 28, 28)), requires_grad=True, name="picture")
    h = model.c1(x)
    z = zoom(h, 0, 3, 10, 12)
    assert z.field(x) == [(0, 0, i, j) for i in range(8, 13) for j in range(10, 15)]
    assert len(z.leaves) == 25 + 25 + 1
    assert isinstance(z.draw(max_nodes=300), Drawing)
    assert "picture (1 × 1 × 28 × 28): 25 elements, [0, 0, 8:13, 10:15]" in str(z)
    with pytest.raises(ValueError, match="more than 2,000 gates"):
        zoom(model(x), 0, 0, depth=None, max_gates=2000)


def test_weights_that_were_written_before_their_use_are_read():
    model = LeNet5(size=28)
    x = minigrad.zeros((1, 1, 28, 28))
    model.c1.bias.assign(0.25)
    h = model.c1(x)
    assert zoom(h, 0, 3, 10, 12).value.data == 0.25
    model.c1.bias.assign(0.5)
    with pytest.raises(minigrad.GraphError, match="changed in place"):
        zoom(h, 0, 3, 10, 12)


def test_what_cannot_be_zoomed_into_is_told():
    x = draw_tensor(2, 3)
    with pytest.raises(ValueError, match="is a leaf"):
        zoom(x, 0, 0)
    with pytest.raises(TypeError, match="must be a Tensor"):
        zoom(minigrad.scalar(1.0))
    with pytest.raises(ValueError, match="2 indices; got"):
        zoom(x * 2.0, 0)
    with pytest.raises(ValueError, match="index 3 of axis 1"):
        zoom(x * 2.0, 0, 3)
    with pytest.raises(ValueError, match="depth"):
        zoom(x * 2.0, 0, 0, depth=0)
    y = x + np.ones((2, 3))
    with pytest.raises(ValueError, match="were not kept"):
        zoom(y, 0, 0)
    y = x * 2.0
    x.assign(0.0)
    with pytest.raises(minigrad.GraphError, match="changed in place by assign"):
        zoom(y, 0, 0)


def test_values_that_nobody_kept_are_computed_again():
    x = draw_tensor(3)
    y = (x + 1.0) + (x + 2.0)  # sums keep nothing
    z = zoom(y, 1)
    assert z.value.data == y.numpy()[1]
    assert sorted(leaf.data for leaf in z.leaves) == sorted([x.numpy()[1] + 1, x.numpy()[1] + 2])


def test_a_long_chain_is_refused_with_advice():
    y = x = draw_tensor(2)
    for _ in range(500):
        y = y + 1.0
    with pytest.raises(ValueError, match="give depth="):
        zoom(y, 0, depth=None)
    z = zoom(y, 0, depth=20)
    assert len(z.leaves) == 1 and z.leaves[0].data == pytest.approx(x.numpy()[0] + 480.0)


def test_a_wrong_expansion_is_found():
    from minigrad.study.zoom import _expansions, register_zoom

    register_zoom("tanh")(lambda cell: cell.read(0, cell.index) * 1.0)
    try:
        with pytest.raises(AssertionError):
            check(minigrad.tanh, draw_tensor(2))
    finally:
        del _expansions["tanh"]
