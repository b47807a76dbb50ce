"""Mistakes that are easily made, and what is said of them instead of computing something else."""

import asyncio
import copy
import math
import pickle

import numpy as np
import pytest

import minigrad as mg


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda a, b: mg.exp(a, b), "exp takes 1 argument.s., x; 2 given"),
        (lambda a, b: mg.maximum(a, a, b), "maximum takes 2 argument.s., a, b; 3 given"),
        (lambda a, b: a.exp(b), "exp takes 1 argument"),
        (lambda a, b: mg.exp(a, out=b.numpy()), "exp has no keyword argument out"),
        (lambda a, b: mg.add(a, b, where=np.array([True, False])), "no keyword argument where"),
        (lambda a, b: mg.where(a > 1), "where takes 3 argument.s., condition, a, b; 1 given"),
        (lambda a, b: mg.add(mg.scalar(1.0)), "add takes 2 argument"),
        (lambda a, b: mg.exp(1.0, 2.0), "exp takes 1 argument"),
    ],
)
def test_an_op_takes_just_its_own_arguments(call, message):
    a, b = mg.tensor([1.0, 2.0]), mg.tensor([7.0, 8.0])
    with pytest.raises(TypeError, match=message):
        call(a, b)
    assert b.tolist() == [7.0, 8.0]


def test_bitwise_operators_are_for_booleans():
    x = mg.tensor([0.5, 2.0])
    assert ((x > 0) & (x < 1)).tolist() == [True, False]
    assert (True | (x < 1)).tolist() == [True, True]
    assert (~(x < 1)).tolist() == [False, True]
    assert ((x < 1) & np.array([True, True])).tolist() == [True, False]
    for wrong in (
        lambda: x & (x < 1),
        lambda: 0 & x,
        lambda: mg.tensor(np.array([5])) & 3,
        lambda: ~mg.tensor(np.array([5])),
        lambda: (x < 1) | 1,
    ):
        with pytest.raises(TypeError, match="joins booleans, got .*brackets"):
            wrong()
    with pytest.raises(TypeError):
        (x < 1) & "no"


def test_gradients_by_one_variable_that_stands_alone():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    (g,) = mg.gradients((x * x).sum(), x)
    assert g.tolist() == [2.0, 4.0]
    (g,) = mg.gradients(x * x, x, mg.tensor([1.0, 10.0]))
    assert g.tolist() == [2.0, 40.0]
    s = mg.scalar(3.0)
    assert mg.gradients(s * s, s)[0].item() == 6.0
    with pytest.raises(TypeError, match="an input is a float"):
        mg.gradients(s * s, [3.0])
    with pytest.raises(ValueError, match="1 output.s., but 2 output_gradients"):
        mg.gradients(x * x, x, [mg.ones(2), mg.ones(2)])


def test_jvp_wants_lists():
    x = mg.tensor([3.0])
    with pytest.raises(TypeError, match="primals must be a list .* write .x."):
        mg.jvp(lambda a: a * a, x, [x])
    with pytest.raises(TypeError, match="tangents must be a list"):
        mg.jvp(lambda a: a * a, [x], x)


@pytest.mark.parametrize("name", ["grad", "value_and_grad", "jacobian", "hessian"])
def test_a_transform_wants_a_function(name):
    x = mg.tensor([1.0], requires_grad=True)
    with pytest.raises(TypeError, match=rf"{name}: needs a function, got Tensor.*{name}\(f\)\(x\)"):
        getattr(mg, name)((x * x).sum(), [x])


def test_a_hook_is_a_function():
    for variable in (mg.tensor([1.0], requires_grad=True), mg.scalar(1.0)):
        with pytest.raises(TypeError, match="register_hook: needs a function, got int"):
            variable.register_hook(3)


def test_jacobian_of_a_constant_array_has_its_shape():
    found = mg.jacobian(lambda x: np.ones((2, 4)))(mg.ones(3))
    assert found.shape == (2, 4, 3) and not found.numpy().any()


def test_a_position_may_be_numpys_integer():
    x, one = mg.tensor([[1.0, 2.0, 3.0]]), np.int64(1)
    for call in (
        lambda n: mg.expand_dims(x, n),
        lambda n: mg.squeeze(x, n - 1),
        lambda n: mg.flip(x, n),
        lambda n: mg.roll(x, n, n),
        lambda n: mg.moveaxis(x, n, n - 1),
        lambda n: mg.tile(x, n),
        lambda n: mg.broadcast_to(mg.ones(1), n),
        lambda n: mg.norm(x, 1, axis=n),
        lambda n: mg.tensordot(x, x.T, n),
        lambda n: mg.grad(lambda a, b: (a * b).sum(), n)(x, x),
    ):
        np.testing.assert_array_equal(call(one).numpy(), call(1).numpy())


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: mg.repeat(x, 2, 5), "repeat: axis 5 is out of bounds"),
        (lambda x: mg.diagonal(x, 0, 0, 5), "diagonal: axis 5 is out of bounds"),
        (lambda x: mg.diagonal(x, 0, 1, -1), "diagonal: axis1 and axis2 are both 1"),
        (lambda x: mg.moveaxis(x, 0, 5), "moveaxis: axis 5 is out of bounds"),
        (lambda x: mg.moveaxis(x, (0, 0), (0, 1)), "moveaxis: source .* each once"),
        (lambda x: mg.sort(x, 4), "sort: axis 4 is out of bounds"),
        (lambda x: mg.pad(x, [1, 2, 3]), r"pad: pad_width must be .* got \[1, 2, 3\]"),
        (lambda x: mg.scatter(x, [0, 1], 9.0, 1), "indices have 1 axes, x has 2"),
    ],
)
def test_a_place_that_is_not_there_is_told_by_the_op(call, message):
    with pytest.raises(ValueError, match=message):
        call(mg.ones((2, 2)))


def test_tensors_hold_real_numbers_only():
    with pytest.raises(TypeError, match="astype: tensors hold real numbers or booleans"):
        mg.ones(2).astype(complex)


def test_the_larger_of_a_number_and_a_scalar():
    x = mg.scalar(1.0)
    assert mg.max(2.0, x).data == 2.0 and mg.min(2.0, x).data == 1.0
    y = mg.max(0.5, x)
    y.backward()
    assert x.grad == 1.0


def test_the_mean_of_half_precision_does_not_overflow():
    x = mg.tensor(np.full(100_000, 2, np.float16), requires_grad=True)
    y = mg.mean(x)
    assert y.dtype == mg.float16 and y.item() == 2.0


def test_functions_take_lists():
    np.testing.assert_allclose(mg.sigmoid([0.0]), [0.5])


def test_an_op_is_copied_as_what_it_is():
    assert copy.deepcopy({"act": mg.relu})["act"] is mg.relu
    assert copy.copy(mg.relu) is mg.relu


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_unpickled_tensor_can_be_written(protocol):
    x = pickle.loads(pickle.dumps(mg.tensor([1.0, 2.0], requires_grad=True), protocol))
    assert x.assign([3.0, 4.0]).tolist() == [3.0, 4.0]


def test_no_grad_decorates_without_brackets():
    @mg.no_grad
    def inside():
        """Its own words."""
        return mg.is_recording()

    assert inside() is False and inside.__doc__ == "Its own words." and mg.is_recording()


def test_no_grad_does_not_decorate_what_it_cannot_hold_for():
    async def later():
        await asyncio.sleep(0)

    with pytest.raises(TypeError, match="no_grad holds for a thread"):
        mg.no_grad()(later)
    with pytest.raises(TypeError, match="no_grad decorates functions, got Tensor"):
        mg.no_grad(mg.ones(1))


@pytest.mark.parametrize("transform", [mg.grad, mg.value_and_grad, mg.jacobian, mg.hessian])
def test_a_function_of_math_is_told_instead_of_a_gradient_of_zero(transform):
    for f, x in (
        (math.exp, 2.0),
        (lambda x: x * math.exp(x), 2.0),
        (lambda x: math.exp(x.sum()), mg.ones(1)),
        (lambda x: x.sum() * int(x.sum()), mg.ones(1)),
    ):
        with pytest.raises(TypeError, match="would become a plain number.*minigrad's functions"):
            transform(f)(x)
    assert math.exp(mg.scalar(0.0)) == 1.0  # elsewhere a number may be taken


def test_a_constant_may_be_taken_inside_of_grad():
    assert mg.grad(lambda x: x * math.exp(x.item()))(0.0) == 1.0
    assert mg.grad(lambda x: x * float(x.detach()))(3.0) == 3.0

    def shown(x):
        y = x * x
        y.backward(create_graph=True)
        return y if f"{x} {y!r} {y.edges()} {x:.1f}" else x

    assert mg.grad(shown)(3.0) == 6.0


def test_what_an_own_op_returns_is_looked_at():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    nothing = mg.op("nothing", lambda x: None, lambda g: g)
    with pytest.raises(TypeError, match="nothing: its forward returned a NoneType"):
        nothing(x)
    word = mg.op("word", lambda x: x * 2, lambda g: "two")
    with pytest.raises(mg.GraphError, match="word: the rule for its argument 0 returned a str"):
        word(x).sum().backward()


def test_checkpoint_takes_functions_of_tensors_alone():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(TypeError, match="checkpoint: .* returned a list"):
        mg.checkpoint(lambda t: [t, t])(x)
