"""Where there is no derivative: each documented choice, and gates that are closed."""

import itertools

import numpy as np
import pytest

import minigrad as mg
from minigrad.core import Op
from minigrad.ops import elementwise

INF = np.inf


def slope(f, *values, dtype=np.float64):
    """Gradients of the summed output, by tensors with these values."""
    inputs = [mg.tensor(np.asarray(v, dtype), requires_grad=True) for v in values]
    with np.errstate(all="ignore"):
        y = f(*inputs).sum()
    y.backward()
    found = [x.grad.numpy() for x in inputs]
    return found[0] if len(found) == 1 else found


def scalar_slope(f, *values):
    inputs = [mg.scalar(v) for v in values]
    f(*inputs).backward()
    found = [x.grad for x in inputs]
    return found[0] if len(found) == 1 else found


def recorded_slope(f, x):
    """The gradient as a recorded backward pass computes it, and the second derivative."""
    t = mg.tensor(np.asarray(x, float), requires_grad=True)
    with np.errstate(all="ignore"):
        y = f(t).sum()
    (g,) = mg.gradients(y, [t], create_graph=True)
    h = mg.gradients(g.sum(), [t])[0] if g.requires_grad else mg.zeros_like(t)
    return g.numpy(), h.numpy()


def equal(found, wanted):
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("f", [mg.abs, mg.relu, mg.sign, mg.floor, mg.ceil])
def test_zero_at_the_kink(f):
    equal(slope(f, [0.0, -0.0]), [0.0, 0.0])
    assert scalar_slope(f, 0.0) == 0.0


def test_maximum_and_minimum_share_a_tie():
    for f in (mg.maximum, mg.minimum):
        equal(slope(f, [1.0, 1.0], [1.0, 2.0])[0][0], 0.5)
        equal(slope(f, [1.0], [1.0]), [[0.5], [0.5]])
        assert scalar_slope(f, 1.0, 1.0) == [0.5, 0.5]
    equal(slope(mg.maximum, [1.0, 3.0], [2.0, 2.0]), [[0.0, 1.0], [1.0, 0.0]])
    equal(slope(mg.minimum, [1.0, 3.0], [2.0, 2.0]), [[1.0, 0.0], [0.0, 1.0]])
    # With itself, the shares add up to the whole.
    equal(slope(lambda x: mg.maximum(x, x), [1.0]), [1.0])
    equal(slope(mg.maximum, [INF], [INF]), [[0.5], [0.5]])


def test_max_and_min_share_among_all_that_attain_them():
    x = [[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]
    equal(slope(lambda t: mg.max(t, 1), x), [[0, 0.5, 0.5], [1 / 3] * 3])
    equal(slope(mg.max, x), [[0, 0.5, 0.5], [0, 0, 0]])
    equal(slope(lambda t: mg.min(t, 0), x), [[1, 0, 0], [0, 1, 1]])
    assert slope(mg.max, np.ones(4), dtype=np.float32).dtype == np.float32


def test_argmax_names_the_first_of_equals():
    x = mg.tensor([1.0, 3.0, 3.0])
    assert mg.argmax(x).item() == 1 and mg.argmin(mg.tensor([2.0, 1.0, 1.0])).item() == 1


def test_sort_is_stable_and_each_gradient_returns_to_its_value():
    weights = mg.tensor(np.array([1.0, 10.0, 100.0]))
    equal(slope(lambda t: mg.sort(t) * weights, [2.0, 1.0, 2.0]), [10.0, 1.0, 100.0])


def test_sqrt_is_infinitely_steep_at_0():
    equal(slope(mg.sqrt, [0.0, 4.0]), [INF, 0.25])
    assert scalar_slope(mg.sqrt, 0.0) == INF


def test_norms_have_gradient_0_at_0():
    zero = np.zeros((2, 3))
    equal(slope(mg.norm, zero), zero)
    for order in (1, 2, 3, 1.5, INF):
        equal(slope(lambda t, p=order: mg.norm(t, p, axis=1), zero), zero)
    row = np.array([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(slope(lambda t: mg.norm(t, axis=1), row), [[0, 0], [0.6, 0.8]])
    g, _ = recorded_slope(lambda t: mg.norm(t, axis=1), row)
    np.testing.assert_allclose(g, [[0, 0], [0.6, 0.8]])


def test_std_has_gradient_0_where_all_are_equal():
    equal(slope(mg.std, np.full(4, 2.0)), np.zeros(4))
    equal(slope(lambda t: mg.std(t, 1), np.full((2, 3), 0.1)), np.zeros((2, 3)))


def test_power_zero_has_slope_0_everywhere():
    equal(slope(lambda x: x**0, [0.0, 2.0, -3.0]), [0.0, 0.0, 0.0])
    equal(slope(lambda x: x**0.0, [0.0]), [0.0])
    equal(slope(lambda x: x ** mg.tensor([0.0, 0.0]), [0.0, 2.0]), [0.0, 0.0])
    assert scalar_slope(lambda x: x**0, 0.0) == 0.0
    assert scalar_slope(lambda x: x ** mg.scalar(0.0), 0.0) == 0.0
    equal(recorded_slope(lambda x: x**0, [0.0, 2.0]), [[0, 0], [0, 0]])


def test_powers_at_base_0():
    equal(slope(lambda x: x**1, [0.0]), [1.0])
    equal(slope(lambda x: x**2, [0.0]), [0.0])
    equal(slope(lambda x: x**0.5, [0.0]), [INF])
    equal(recorded_slope(lambda x: x**2, [0.0]), [[0.0], [2.0]])
    equal(recorded_slope(lambda x: x**3, [0.0]), [[0.0], [0.0]])
    equal(recorded_slope(lambda x: x**1, [0.0]), [[1.0], [0.0]])
    # In the exponent: 0**b is flat for b > 0, and by choice at b = 0.
    base, exponent = slope(mg.power, [0.0, 0.0, 0.0], [2.0, 1.0, 0.0])
    equal(base, [0.0, 1.0, 0.0])
    equal(exponent, [0.0, 0.0, 0.0])
    for b, wanted in ((2.0, (0.0, 0.0)), (1.0, (1.0, 0.0)), (0.0, (0.0, 0.0))):
        assert tuple(scalar_slope(lambda x, y: x**y, 0.0, b)) == wanted
    equal(slope(lambda x: x**2, [-3.0]), [-6.0])
    equal(slope(lambda x: x**-1, [-2.0]), [-0.25])


def test_clip_has_slope_1_at_both_bounds():
    equal(slope(lambda x: mg.clip(x, -1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0]), [0, 1, 1, 1, 0])
    equal(slope(lambda x: mg.clip(x, None, 1), [-9.0, 1.0, 2.0]), [1, 1, 0])
    equal(slope(lambda x: mg.clip(x, -1, None), [-9.0, -1.0, 2.0]), [0, 1, 1])
    equal(slope(lambda x: mg.clip(x, 2.0, 2.0), [1.0, 2.0, 3.0]), [0, 1, 0])


def test_logaddexp_and_logsumexp_of_infinities_are_no_nan():
    equal(slope(mg.logaddexp, [-INF, -INF, INF], [0.0, -INF, 0.0]), [[0, 0.5, 1], [1, 0.5, 0]])
    equal(slope(mg.logsumexp, [-INF, 0.0]), [0.0, 1.0])
    equal(slope(mg.logsumexp, [-INF, -INF]), [0.0, 0.0])
    assert scalar_slope(mg.logaddexp, -np.inf, 0.0) == [0.0, 1.0]


# --- closed gates --------------------------------------------------------------------------------

# Each elementwise op at points where its value or slope is infinite or NaN, one argument a time.
STEEP = {
    "divide": [(1.0, 0.0), (0.0, 0.0), (INF, INF), (1.0, INF)],
    "multiply": [(INF, 0.0), (0.0, INF), (INF, INF)],
    "power": [(0.0, -1.0), (-1.0, 0.5), (0.0, 0.5), (INF, 2.0), (2.0, 1e5)],
    "log": [(0.0,), (-1.0,)],
    "log2": [(0.0,), (-1.0,)],
    "log10": [(0.0,), (-1.0,)],
    "log1p": [(-1.0,), (-2.0,)],
    "sqrt": [(0.0,), (-1.0,)],
    "exp": [(1e4,), (INF,)],
    "expm1": [(1e4,)],
    "sinh": [(1e4,)],
    "cosh": [(1e4,)],
    "arcsin": [(1.0,), (2.0,)],
    "arccos": [(-1.0,), (2.0,)],
    "arctan2": [(0.0, 0.0), (INF, INF)],
    "sin": [(INF,)],
    "cos": [(INF,)],
    "tan": [(INF,)],
    "square": [(1e300,), (INF,)],
    "logaddexp": [(INF, INF), (np.nan, 0.0)],
    "tanh": [(np.nan,)],
    "sigmoid": [(np.nan,)],
    "abs": [(np.nan,)],
    "arctan": [(np.nan,)],
}
TAME = {"divide": (1.0, 2.0), "log1p": (0.5,), "arctan2": (1.0, 0.5)}


def closing_gates():
    """Ways to leave a value out: each keeps element 1 and closes the gate to element 0."""
    mask = np.array([False, True])
    yield "where", lambda y: mg.where(mask, y, 0.0)
    yield "getitem", lambda y: y[1:]
    yield "integer index", lambda y: y[np.array([1])]
    yield "at set", lambda y: y.at[0].set(0.0)
    yield "take", lambda y: mg.take(y, np.array([1]))


def test_every_elementwise_op_with_a_steep_place_is_listed():
    steep = {op.name for op in vars(elementwise).values() if isinstance(op, Op) and op.elementwise}
    assert steep == set(STEEP)


@pytest.mark.parametrize("name", STEEP)
@pytest.mark.parametrize("gate", [name for name, _ in closing_gates()])
@pytest.mark.parametrize("recorded", [False, True], ids=["plain", "recorded"])
def test_no_nan_comes_through_a_closed_gate(name, gate, recorded):
    op = getattr(mg, name)
    close = dict(closing_gates())[gate]
    for steep in STEEP[name]:
        tame = TAME.get(name, (0.5,) * len(steep))
        inputs = [
            mg.tensor(np.array([s, t]), requires_grad=True)
            for s, t in zip(steep, tame, strict=True)
        ]
        with np.errstate(all="ignore"):
            y = close(op(*inputs)).sum()
        found = mg.gradients(y, inputs, create_graph=recorded)
        for g in found:
            assert g.numpy()[0] == 0.0, f"{name}{steep}: {g.numpy()}"
            assert np.isfinite(g.numpy()[1])
        if recorded:
            live = [g.sum() for g in found if g.requires_grad]
            if live:
                for h in mg.gradients(live, inputs):
                    assert h.numpy()[0] == 0.0, f"second order of {name}{steep}: {h.numpy()}"
                    assert np.isfinite(h.numpy()[1])


@pytest.mark.parametrize(
    "choose",
    [
        lambda x: mg.where(x > 0, mg.log(x), x),
        lambda x: mg.where(x > 0, mg.sqrt(x), 0.0),
        lambda x: mg.where(x != 0, mg.sin(x) / x, 1.0),
        lambda x: mg.maximum(mg.log(x), -5.0),
        lambda x: mg.clip(mg.log(x), -5.0, None),
        lambda x: mg.clip(1.0 / x, -5.0, 5.0),
        lambda x: mg.minimum(1.0 / x, 5.0),
        lambda x: mg.relu(mg.log(x)),
        lambda x: mg.where(x > 0, mg.norm(mg.sqrt(x)[:, None], axis=1), 0.0),
        lambda x: mg.where(x > 0, mg.exp(mg.log(x) * 0.5), 0.0),
        lambda x: mg.where(x > 0, (x**0.5) ** 3.0, 0.0),
    ],
)
def test_common_traps_give_no_nan(choose):
    for f in (slope, lambda f, x: recorded_slope(f, x)[0], lambda f, x: recorded_slope(f, x)[1]):
        found = f(choose, [0.0, 0.5])
        assert np.isfinite(found).all(), found


def test_where_passes_to_the_chosen_side_only():
    mask = np.array([True, False])
    a, b = slope(lambda a, b: mg.where(mask, a, b), [1.0, 2.0], [3.0, 4.0])
    equal(a, [1.0, 0.0])
    equal(b, [0.0, 1.0])
    # And broadcasts like any op.
    a, b = slope(lambda a, b: mg.where(mask, a, b), [1.0], [[3.0], [4.0], [5.0]])
    equal(a, [3.0])
    equal(b, [[1.0]] * 3)


def test_a_nan_that_is_used_is_seen():
    assert np.isnan(slope(mg.log, [np.nan])).all()
    assert np.isnan(slope(lambda x: mg.relu(x) * x, [np.nan])).all()


def test_an_open_gate_keeps_infinite_slopes():
    """Only what nobody uses is replaced."""
    mask = np.array([True, False])
    equal(slope(lambda x: mg.where(mask, mg.sqrt(x), 0.0), [0.0, 0.0]), [INF, 0.0])


def test_scalars_close_gates_too():
    for value, f in itertools.product(
        [0.0], [lambda x: mg.where(x > 0, mg.log(x), 0.0), lambda x: mg.maximum(1.0 / x, INF)]
    ):
        assert not np.isnan(scalar_slope(f, value))
    x = mg.scalar(0.0)
    (g,) = mg.gradients(mg.where(0.0, mg.log(x), x * x), [x], create_graph=True)
    (h,) = mg.gradients(g, [x])
    assert (float(g), float(h)) == (0.0, 2.0)


@pytest.mark.parametrize("f", [mg.maximum, mg.minimum])
def test_nan_wins_in_maximum_and_minimum_as_in_numpy(f):
    for a, b in itertools.product([np.nan, 1.0], repeat=2):
        both = mg.tensor(np.array(a)), mg.tensor(np.array(b))
        assert np.isnan(f(*both).item()) == np.isnan(a + b)
        assert np.isnan(f(mg.scalar(a), mg.scalar(b)).data) == np.isnan(a + b)
