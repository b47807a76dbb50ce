"""Perceptron, MLP, Neocognitron and the LeNets: their counts, their rules, what they learn."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad
from minigrad.random import Generator
from minigrad_nn import functional as F
from minigrad_nn import optim
from minigrad_nn.layers import ReLU, Sigmoid
from minigrad_nn.models import C3_TABLE, H3_TABLE, MLP, LeNet1, LeNet5, Neocognitron, Perceptron
from minigrad_nn.models.lenet1 import ChosenConv2d, Subsampling
from minigrad_nn.models.neocognitron import FUKUSHIMA, CCells, SCells, Stage
from tests.nn.whole import check_model

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_random_numbers():
    with minigrad.random.preserved():
        minigrad.random.manual_seed(0)
        yield


def size(model):
    return sum(p.size for p in model.parameters())


# --- perceptron ----------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), features=st.integers(1, 6), lr=st.sampled_from([1.0, 0.1]))
def test_separable_classes_are_learned_within_the_bound_of_novikoff(seed, features, lr):
    draw = np.random.default_rng(seed)
    plane, bias = draw.standard_normal(features), draw.standard_normal()
    x = draw.standard_normal((40, features))
    margins = (x @ plane + bias) / np.hypot(np.linalg.norm(plane), bias)
    x, margins = x[abs(margins) > 0.1], margins[abs(margins) > 0.1]
    y = (margins > 0).astype(int)
    model = Perceptron(features, dtype=np.float64)
    history = model.learn(x, y, epochs=10_000, lr=lr)
    assert history[-1] == 0 and 0 not in history[:-1]
    assert (model(minigrad.tensor(x)).numpy() == y).all()
    radius = (x**2).sum(1).max(initial=0.0) + 1  # with the 1 that the bias is multiplied with
    assert sum(history) <= radius / (abs(margins).min() if len(x) else 1) ** 2


def test_several_classes_are_learned_too_in_any_order():
    centres = np.array([[0, 4], [4, 0], [-4, -4], [5, 5]])
    y = rng.integers(0, 4, 60)
    x = centres[y] + rng.uniform(-1, 1, (60, 2))
    model = Perceptron(2, classes=4)
    assert model.learn(x, y, epochs=1000, generator=Generator(1))[-1] == 0
    assert (model(minigrad.tensor(x)).numpy() == y).all()
    again = Perceptron(2, classes=4)
    again.learn(x, y, epochs=1000, generator=Generator(1))
    assert (again.weight.numpy() == model.weight.numpy()).all()


def test_what_no_line_separates_is_never_learned():
    model = Perceptron(2)
    x = [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert 0 not in model.learn(minigrad.tensor(x), [0, 1, 1, 0], epochs=50)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_rule_is_a_step_down_the_criterion(classes):
    learner, descender = (Perceptron(3, classes, dtype=np.float64) for _ in range(2))
    start = rng.standard_normal(learner.weight.shape)
    for model in (learner, descender):
        model.weight.assign(start)
    for _ in range(20):
        x, y = rng.standard_normal((1, 3)), rng.integers(0, classes, 1)
        mistakes = learner.learn(x, y, epochs=1, lr=0.5)
        descender.zero_grad()
        loss = descender.criterion(minigrad.tensor(x), y)
        assert (loss.item() > 0) == (mistakes == [1])
        loss.backward()
        optim.SGD(descender.parameters(), lr=0.5).step()
        np.testing.assert_allclose(learner.weight.numpy(), descender.weight.numpy())
        np.testing.assert_allclose(learner.bias.numpy(), descender.bias.numpy())


def test_a_threshold_has_no_gradient_but_the_sums_in_front_of_it_do():
    model = Perceptron(2)
    x = minigrad.tensor([[1.0, 2.0]])
    assert not model(x).requires_grad and model.scores(x).requires_grad
    with pytest.raises(minigrad.GraphError, match="depends on nothing that requires a gradient"):
        (model(x) * 1.0).sum().backward()


def test_what_a_perceptron_cannot_take_is_said():
    with pytest.raises(ValueError, match="Perceptron: needs at least 1 number"):
        Perceptron(0)
    model = Perceptron(4, classes=3)
    assert model(minigrad.zeros((2, 2, 2))).shape == (2,)
    with pytest.raises(ValueError, match=r"Perceptron: samples must be .* 4 numbers .* \(2, 3\)"):
        model(minigrad.zeros((2, 3)))
    with pytest.raises(ValueError, match="Perceptron: y must hold 2 class numbers"):
        model.learn(np.zeros((2, 4)), [0])
    with pytest.raises(ValueError, match="Perceptron: y holds the classes 0 to 3, but there are 3"):
        model.learn(np.zeros((2, 4)), [0, 3])
    with pytest.raises(ValueError, match=r"Perceptron\.learn: lr must be above 0, got 0"):
        model.learn(np.zeros((2, 4)), [0, 1], lr=0)


# --- MLP -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "widths, bias, count",
    [
        ((784, 10), True, 7_850),
        ((784, 256, 256, 10), True, 269_322),
        ((25, 16, 16, 9, 9), False, 881),
    ],
)
def test_an_mlp_has_the_parameters_that_its_docstring_counts(widths, bias, count):
    model = MLP(widths, bias=bias)
    assert size(model) == count and f"{count:,}" in MLP.__doc__ and str(widths) in MLP.__doc__
    assert model(minigrad.zeros((3, 1, widths[0], 1))).shape == (3, widths[-1])


def test_without_hidden_layers_it_is_softmax_regression():
    model = MLP((6, 3))
    x, y = rng.standard_normal((5, 6)), np.array([0, 1, 2, 1, 0])
    loss = F.cross_entropy(model(minigrad.tensor(x.astype("f"))), y)
    loss.backward()
    sums = x @ model.output.weight.numpy().T.astype(float)
    p = np.exp(sums) / np.exp(sums).sum(1, keepdims=True)
    wanted = (p - np.eye(3)[y]).T @ x / 5
    np.testing.assert_allclose(model.output.weight.grad.numpy(), wanted, rtol=1e-4, atol=1e-6)


def test_activation_and_dropout_stand_behind_hidden_layers_only():
    model = MLP((4, 8, 8, 2), activation=Sigmoid, dropout=0.5)
    x = minigrad.tensor(rng.standard_normal((6, 4)).astype("f"))
    assert (model(x).numpy() != model(x).numpy()).any()
    model.eval()
    assert (model(x).numpy() == model(x).numpy()).all()
    h = x
    for layer in model.hidden:
        h = minigrad.sigmoid(layer(h))
    assert (model.output(h).numpy() == model(x).numpy()).all()


def test_the_gradients_of_a_small_mlp():
    model = MLP((3, 4, 2), activation=Sigmoid).astype(np.float64)
    check_model(model, lambda m, x: m(x), rng.standard_normal((2, 3)), order=2)


def test_what_an_mlp_cannot_take_is_said():
    for widths in ((4,), (4, 0, 2), ()):
        with pytest.raises(ValueError, match="MLP: widths must name the inputs"):
            MLP(widths)
    with pytest.raises(ValueError, match=r"MLP: samples must be .* 4 numbers each, got shape"):
        MLP((4, 2))(minigrad.zeros((2, 5)))


# --- LeNet-1, and the options of LeNet-5 ---------------------------------------------------------


def test_lenet1_has_the_units_the_connections_and_the_parameters_of_its_paper():
    model = LeNet1()
    shapes, names = {}, {layer: name for name, layer in model.named_children()}

    def remember(layer, args, output):
        shapes.setdefault(names[layer], output.shape[1:])

    for layer in names:
        layer.register_forward_hook(remember)
    model(minigrad.zeros((1, 1, 28, 28)))
    layers = ("h1", "h2", "h3", "h4", "output")
    assert [shapes[name] for name in layers] == [
        (4, 24, 24), (4, 12, 12), (12, 8, 8), (12, 4, 4), (10,),
    ]  # fmt: skip
    # A unit for each value, the input's and that of the bias.
    assert sum(int(np.prod(shapes[name])) for name in layers) + 28 * 28 + 1 == 4_635
    counts = {name: size(getattr(model, name)) for name in layers}
    assert counts == {"h1": 104, "h2": 8, "h3": 512, "h4": 24, "output": 1_930}
    assert sum(counts.values()) == size(model) == 2_578
    # A connection is a use of a weight: all those of a convolution at each place of its map.
    places = {name: int(np.prod(shapes[name][1:])) for name in ("h1", "h3")}
    connections = {
        "h1": 104 * places["h1"],
        "h2": 4 * 12 * 12 * 5,
        "h3": 512 * places["h3"],
        "h4": 12 * 4 * 4 * 5,
        "output": 1_930,
    }
    assert sum(connections.values()) == 98_442
    for name in layers:
        row = next(r for r in LeNet1.__doc__.splitlines() if r.strip().startswith(name))
        assert row.split()[-2:] == [f"{counts[name]:,}", f"{connections[name]:,}"]
    assert size(LeNet1(table=None)) == 3_278
    assert size(LeNet1(table=None, subsampling=False)) == 3_278 - 32


def test_tables_of_connections_are_those_of_the_papers():
    assert sum(map(len, H3_TABLE)) == 20 and len(H3_TABLE) == 12
    # LeNet-5: each map below is seen as often as any other, and 60 connections are made in all.
    assert [len(row) for row in C3_TABLE] == [3] * 6 + [4] * 9 + [6]
    assert np.bincount(np.concatenate(C3_TABLE)).tolist() == [10] * 6
    assert len({frozenset(row) for row in C3_TABLE}) == 16


def test_lenet5_of_the_paper_has_sixty_thousand_parameters():
    model = LeNet5(table=C3_TABLE, subsampling=True)
    counts = {name: size(layer) for name, layer in model.named_children()}
    assert counts == {
        "c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164, "output": 850,
        "squash": 0,
    }  # fmt: skip
    assert size(model) - 850 == 60_000
    assert model(minigrad.zeros((2, 1, 28, 28))).shape == (2, 10)


def test_a_chosen_convolution_is_a_dense_one_with_holes():
    table = [(0, 2), (1,), (2, 0, 1)]
    layer = ChosenConv2d(3, table, 3)
    x = minigrad.tensor(rng.standard_normal((2, 3, 6, 6)).astype("f"))
    dense = layer.dense().numpy()
    holes = np.array([[below not in row for below in range(3)] for row in table])
    assert (dense[holes] == 0).all() and (dense[~holes] != 0).all()
    np.testing.assert_array_equal(dense[2, 1], layer.weight.numpy()[5])
    found = layer(x).numpy()
    for out, row in enumerate(table):
        alone = sum(F.conv2d(x[:, b : b + 1], minigrad.tensor(dense[out, b][None, None])).numpy()
                    for b in row)  # fmt: skip
        np.testing.assert_allclose(found[:, out : out + 1], alone, rtol=1e-5, atol=1e-5)
    for wrong in ([(0,), ()], [(0, 0)], [(3,)], [(-1,)]):
        with pytest.raises(ValueError, match="ChosenConv2d: row . of the table must name"):
            ChosenConv2d(3, wrong, 3)


def test_subsampling_starts_as_an_average_and_learns():
    pool = Subsampling(2)
    x = minigrad.tensor(rng.standard_normal((1, 2, 4, 4)).astype("f"))
    np.testing.assert_allclose(pool(x).numpy(), F.avg_pool2d(x, 2).numpy(), rtol=1e-5)
    pool.coefficient.assign([1.0, 2.0])
    pool.bias.assign([0.5, -1.0])
    y = pool(x).numpy()[0, 1, 1, 0]
    assert y == pytest.approx(2 * x.numpy()[0, 1, 2:, :2].sum() - 1, rel=1e-5)


def test_the_gradients_of_the_old_layers():
    model = LeNet1(table=[(0, 3), (1, 2)]).astype(np.float64)
    x = rng.standard_normal((1, 1, 28, 28))
    check_model(model, lambda m, x: m(x), x, directions=1)
    parts = (ChosenConv2d(2, [(0,), (0, 1)], 2), Subsampling(2))
    for part in parts:
        part.astype(np.float64)
        check_model(part, lambda m, x: m(x) ** 2, rng.standard_normal((1, 2, 4, 4)), order=2)


def test_lenet1_learns_what_it_is_shown():
    model = LeNet1(classes=3)
    x = minigrad.tensor(rng.standard_normal((6, 1, 28, 28)).astype("f"))
    y = np.array([0, 1, 2, 2, 1, 0])
    optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    before = model.h2.coefficient.numpy().copy()
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 and (model.h2.coefficient.numpy() != before).all()
    with pytest.raises(ValueError, match=r"LeNet1: pictures must be \(N, 1, 28, 28\), got shape"):
        model(minigrad.zeros((1, 1, 32, 32)))


# --- Neocognitron --------------------------------------------------------------------------------


def strokes(name, down=0, right=0):
    """A picture of 16x16 with a simple pattern, moved from the middle."""
    p, r, c = np.zeros((16, 16), np.float32), 4 + down, 4 + right
    if name in ("upright", "cross"):
        p[r : r + 8, c + 4] = 1
    if name in ("level", "cross"):
        p[r + 4, c : c + 8] = 1
    if name == "box":
        p[[r, r + 7], c : c + 8] = 1
        p[r : r + 8, [c, c + 7]] = 1
    if name == "slope":
        p[np.arange(r, r + 8), np.arange(c, c + 8)] = 1
    return p[None]


NAMES = ("upright", "level", "cross", "box", "slope")


@pytest.fixture(scope="module")
def organised():
    model = Neocognitron()
    shown = np.stack([strokes(name) for name in NAMES])
    return model, shown, model.learn(shown, generator=Generator(1))


def test_every_layer_of_the_neocognitron_has_the_size_of_the_figure():
    shapes = [y.shape[1:] for y in Neocognitron().layers(minigrad.zeros((1, 1, 16, 16)))]
    assert shapes == [(24, 16, 16), (24, 10, 10), (24, 8, 8), (24, 6, 6), (24, 2, 2), (24, 1, 1)]
    for shape in shapes:
        assert str(shape) in Neocognitron.__doc__


def test_an_s_cell_answers_if_the_cosine_is_above_what_its_selectivity_asks_for():
    r = 2.0
    cell = SCells(2, 1, 3, selectivity=r, dtype=np.float64)
    near = cell.nearness.numpy()[0]
    assert near.sum() == pytest.approx(1) and near[0, 1, 1] == near.max()
    learned = rng.random((1, 2, 3, 3))
    cell.silence(Generator(0))
    assert cell.learn(minigrad.tensor(learned), speed=1e6, column=1) == [(0, 0, 0)]
    for share in np.linspace(0, 1, 11):
        seen = share * learned + (1 - share) * rng.random((1, 2, 3, 3)) * (rng.random() < 0.7)
        inner = (near * seen * learned).sum()
        cosine = inner / np.sqrt((near * seen**2).sum() * (near * learned**2).sum())
        wanted = max(0.0, (1 + r) * cosine - r)
        answers = [cell(minigrad.tensor(light * seen)).item() for light in (1.0, 5.0)]
        np.testing.assert_allclose(answers, wanted, atol=1e-4)  # much light or little


def test_seeds_are_one_a_plane_and_the_strongest_of_their_columns():
    cells = SCells(1, 3, 1)
    answers = np.zeros((3, 6, 6))
    answers[0, 1, 1], answers[1, 1, 2], answers[0, 5, 5], answers[2, 2, 2] = 3.0, 2.0, 4.0, 1.0
    assert cells.seeds(answers, column=1) == [(0, 5, 5), (1, 1, 2), (2, 2, 2)]
    # In columns of 2x2 plane 1 wins some in which it does not meet the stronger cell of plane 0.
    assert cells.seeds(answers, column=2) == [(0, 5, 5), (1, 1, 2), (2, 2, 2)]
    assert cells.seeds(answers, column=6) == [(0, 5, 5)]
    assert cells.seeds(np.zeros((3, 6, 6)), column=2) == []


def test_learning_reinforces_the_seeds_and_nobody_else():
    cells = SCells(1, 4, 3, padding=1)
    cells.silence(Generator(2))
    a, b = cells.excitatory.numpy().copy(), cells.inhibitory.numpy().copy()
    x = rng.random((1, 1, 5, 5)).astype("f")
    (seed,) = cells.learn(minigrad.tensor(x), speed=2.0, column=5)
    others = [k for k in range(4) if k != seed.plane]
    assert (cells.excitatory.numpy()[others] == a[others]).all()
    assert (cells.inhibitory.numpy()[others] == b[others]).all()
    square = np.pad(x[0, 0], 1)[seed.row : seed.row + 3, seed.column : seed.column + 3]
    near = cells.nearness.numpy()[0, 0]
    gain = cells.excitatory.numpy()[seed.plane, 0] - a[seed.plane, 0]
    np.testing.assert_allclose(gain, 2 * near * square, rtol=1e-4, atol=1e-6)
    strength = np.sqrt((near * square**2).sum())
    assert cells.inhibitory.numpy()[seed.plane] == pytest.approx(strength, rel=1e-4)  # q / 2 = 1


def test_each_kind_of_pattern_gets_a_cell_of_its_own(organised):
    model, shown, learned = organised
    answers = model(minigrad.tensor(shown)).numpy()
    assert len(set(answers.argmax(1))) == 5
    # Nothing told it what is what, and no cell answers to two of them.
    assert (np.sort(answers)[:, -1] > 0.8).all() and (np.sort(answers)[:, -2] < 0.05).all()
    for stage in learned[1:]:
        assert [len(planes) for planes in stage] == [1] * 5
    assert [planes.pop() for planes in map(set, learned[-1])] == answers.argmax(1).tolist()


def test_the_cell_answers_wherever_the_pattern_stands(organised):
    model, shown, _ = organised
    at_home = model(minigrad.tensor(shown)).numpy().argmax(1)
    moves = list(itertools.product(range(-2, 3), repeat=2))
    moved = np.stack([strokes(name, *move) for move in moves for name in NAMES])
    answers = model(minigrad.tensor(moved)).numpy()
    assert (answers.argmax(1).reshape(-1, 5) == at_home).all()
    # The S-cells of the first stage move with the pattern, exactly.
    first = model.s[0](minigrad.tensor(np.stack([strokes("box"), strokes("box", 2, -1)]))).numpy()
    assert first[0].max() > 0.5
    np.testing.assert_allclose(np.roll(first[0], (2, -1), (1, 2)), first[1], atol=1e-6)


def test_c_cells_forgive_shifts_that_s_cells_do_not():
    cells = CCells(5, stride=2, padding=2)
    one = np.zeros((2, 3, 10, 10), np.float32)
    one[0, 0, 4, 4] = one[1, 0, 4, 5] = 1.0
    s, (a, b) = one[:, 0], cells(minigrad.tensor(one)).numpy()[:, 0]
    assert (s[0] * s[1]).sum() == 0
    assert (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()) > 0.7
    # Planes inhibit each other: what all of them have in common is not answered to.
    alike = np.repeat(one[:1, :1], 3, axis=1)
    assert cells(minigrad.tensor(alike)).numpy().max() < 1e-6 < a.max()
    loud = cells(minigrad.tensor(100 * one)).numpy()
    assert loud.max() < 1.0


def test_it_learns_the_same_from_the_same_seed_and_can_go_on():
    shown = np.stack([strokes(name) for name in NAMES[:2]])
    small = [stage._replace(planes=4) for stage in FUKUSHIMA]
    one, two = Neocognitron(small), Neocognitron(small)
    for model in (one, two):
        model.learn(shown, rounds=2, generator=Generator(5))
    for name, value in one.state_dict().items():
        assert (two.state_dict()[name] == value).all()
    before = one.s[0].excitatory.numpy().copy()
    one.learn(shown, rounds=1, fresh=False)
    grown = one.s[0].excitatory.numpy() - before
    assert (grown >= 0).all() and (grown > 0).any()
    two.learn(shown, rounds=0, generator=Generator(5))
    assert (two.s[0].inhibitory.numpy() == 0).all()


def test_the_gradients_of_a_small_neocognitron():
    stages = [
        Stage(3, 3, (1, 1), 1.0, 1.0, 3, 2, (1, 1)),
        Stage(2, 2, (0, 0), 1.0, 1.0, 2, 1, (0, 0)),
    ]
    model = Neocognitron(stages, classes=2, size=5, dtype=np.float64)
    x = rng.random((2, 1, 5, 5))
    check_model(model, lambda m, x: m(x), x, kinks="skip")
    model.zero_grad()
    model(minigrad.zeros((1, 1, 5, 5), np.float64)).sum().backward()  # nothing to be seen
    assert all(np.isfinite(p.grad.numpy()).all() for p in model.parameters())


def test_a_neocognitron_learns_by_backprop_too():
    stages = [stage._replace(planes=8) for stage in FUKUSHIMA]
    model = Neocognitron(stages, classes=5)
    moves = list(itertools.product((-1, 0, 1), repeat=2))
    x = minigrad.tensor(np.stack([strokes(name, *move) for move in moves for name in NAMES]))
    y = np.tile(np.arange(5), len(moves))
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.6
    assert (model(x).numpy().argmax(1) == y).mean() > 0.9


def test_what_a_neocognitron_cannot_take_is_said():
    with pytest.raises(ValueError, match="Neocognitron: needs at least one Stage"):
        Neocognitron([])
    with pytest.raises(ValueError, match="Neocognitron: nothing is left of pictures of 8x8 in st"):
        Neocognitron(size=8)
    with pytest.raises(ValueError, match="Neocognitron: pictures must be 16x16, got shape"):
        Neocognitron()(minigrad.zeros((1, 1, 20, 20)))
    with pytest.raises(ValueError, match=r"Neocognitron: pictures must be \(N, 1, H, W\)"):
        Neocognitron()(minigrad.zeros((1, 3, 16, 16)))
    with pytest.raises(ValueError, match="pixels are amounts of light, at least 0, got -1"):
        Neocognitron().learn(-np.ones((1, 1, 16, 16)))
    with pytest.raises(ValueError, match="SCells: selectivity must be above 0"):
        SCells(1, 1, 3, selectivity=0.0)
    assert isinstance(MLP((2, 2, 2)).activation, ReLU)
