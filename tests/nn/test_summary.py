"""`summary`: its numbers, what it leaves alone, and what it shows; fields against gradients."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn.inspect import summary
from minigrad_nn.inspect.receptive import fields
from minigrad_nn.inspect.trace import trace
from minigrad_nn.models import LeNet5, googlenet, resnet18
from tests.study.networks import Recurrent


def keras():
    """The lecture's model: two convolutions of three filters, and ten classes."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Conv2d(3, 3, 3), nn.Flatten(), nn.Linear(1728, 10)
    )  # fmt: skip


def test_the_table_of_the_lecture():
    found = summary(keras(), (1, 28, 28), layout="channels_last")
    layers = found.rows[1:]
    assert [row.kind for row in layers] == ["Conv2d", "Conv2d", "Flatten", "Linear"]
    assert [row.parameters for row in layers] == [30, 84, 0, 17290]
    assert [row.output_shape for row in layers] == [(26, 26, 3), (24, 24, 3), (1728,), (10,)]
    assert found.totals.parameters == found.totals.trainable == 17404
    text = str(found)
    for number in ("26 × 26 × 3", "24 × 24 × 3", "1728", "17,290", "17,404", "0 frozen"):
        assert number in text


def test_shapes_are_told_as_they_are_computed():
    found = summary(keras(), (1, 28, 28), batch=5)
    assert (found.batch, found.inputs) == (5, ((1, 28, 28),))
    assert [row.output_shape for row in found.rows[1:3]] == [(3, 26, 26), (3, 24, 24)]
    one = summary(keras(), (1, 28, 28)).totals
    assert found.totals.multiply_adds == 5 * one.multiply_adds
    assert found.totals.activation_bytes == 5 * one.activation_bytes
    assert found.totals.parameter_bytes == one.parameter_bytes == 4 * 17404


def test_memory_is_that_of_results_not_of_views():
    found = summary(keras(), (1, 28, 28))
    assert [row.activation_bytes for row in found.rows] == [
        4 * (3 * 26 * 26 + 3 * 24 * 24 + 10), 4 * 3 * 26 * 26, 4 * 3 * 24 * 24, 0, 40,
    ]  # fmt: skip
    assert found.totals.input_bytes == 4 * 28 * 28
    assert summary(nn.BatchNorm2d(3), (3, 2, 2)).totals.buffer_bytes == 2 * 3 * 4 + 8


def test_rows_go_as_deep_as_is_asked_for():
    model = resnet18()
    paths = [row.path for row in summary(model, (3, 32, 32), depth=1).rows]
    assert paths[:3] == ["", "conv1", "bn1"] and "layer1" in paths and "layer1.0" not in paths
    deep = summary(model, (3, 32, 32))
    assert "layer1.0.conv1" in [row.path for row in deep.rows]
    for depth in (0, 1, 2):
        found = summary(model, (3, 32, 32), depth=depth)
        leaves = [row for row in found.rows if row.leaf]
        assert sum(row.parameters for row in leaves) == found.totals.parameters
        assert found.totals == deep.totals and found.warnings == deep.warnings
    assert [row.depth for row in summary(model, (3, 32, 32), depth=0).rows] == [0]


def test_what_is_frozen_is_told_apart():
    model = keras()
    model[0].requires_grad_(False)
    found = summary(model, (1, 28, 28))
    assert (found.row("0").parameters, found.row("0").trainable) == (30, 0)
    assert found.totals.trainable == 17374 and "30 frozen" in str(found)


def test_a_shared_module_counts_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)
            self.again = self.conv

        def forward(self, x):
            x = self.conv(x)
            return self.again(x)

    found = summary(Twice(), (2, 6, 6))
    assert found.totals.parameters == 38
    assert [(r.parameters, r.shared) for r in found.rows[1:]] == [(38, False), (0, True)]
    assert found.totals.multiply_adds == 2 * 2 * 2 * 9 * 36
    assert found.rows[-1].receptive_field == (5, 5) and "shared" in str(found)


def test_weights_that_are_tied_count_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.read = nn.Embedding(7, 4)
            self.write = nn.Linear(4, 7, bias=False)
            self.write.weight = self.read.weight

        def forward(self, x):
            return self.write(self.read(x))

    found = summary(Tied(), (5,), dtype=np.int64)
    assert found.totals.parameters == 28
    assert [row.parameters for row in found.rows[1:]] == [28, 0]
    assert found.row("write").output_shape == (5, 7)
    assert found.totals.multiply_adds == 5 * 4 * 7


def test_parameters_of_parts_that_are_not_called_are_there():
    with nn.init.without_drawing():
        model = googlenet()
    found = summary(model, (3, 224, 224), depth=1)
    assert found.totals.parameters == sum(p.size for p in model.parameters())
    idle = [row for row in found.rows if not row.calls]
    assert idle and all(row.parameters and row.output_shape == () for row in idle)
    assert sum(row.parameters for row in found.rows if row.leaf) == found.totals.parameters
    assert "not called" in str(found)


def test_entries_of_a_list_are_called_one_by_one():
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList([nn.Linear(3, 3) for _ in range(3)])

        def forward(self, x):
            return self.parts[1](self.parts[0](x))

    found = summary(Listed(), (3,))
    assert [(r.path, r.calls) for r in found.rows[1:]] == [
        ("parts.0", 1), ("parts.1", 1), ("parts.2", 0),
    ]  # fmt: skip


def test_a_loop_is_one_row_and_several_outputs_are_told():
    found = summary(Recurrent(), (5, 3))
    assert [(r.path, r.calls) for r in found.rows[1:]] == [("wxh", 5), ("whh", 5), ("why", 1)]
    assert found.totals.multiply_adds == 5 * (24 + 64) + 16
    for _ in range(5):  # also when Python has made the loop faster in the middle of it
        again = summary(Recurrent(), (40, 3))
        assert [(r.path, r.calls) for r in again.rows[1:]] == [("wxh", 40), ("whh", 40), ("why", 1)]
    states = summary(nn.LSTM(3, 4, num_layers=2), inputs=[mg.zeros((6, 2, 3))])
    assert states.batch is None and states.inputs == ((6, 2, 3),)
    assert states.rows[0].outputs == ((6, 2, 4), (2, 2, 4), (2, 2, 4))
    assert states.totals.multiply_adds == 6 * 2 * 16 * (3 + 4 + 4 + 4)
    assert states.rows[0].receptive_field is None and "sees" not in str(states)


@pytest.mark.parametrize(("layer", "gates"), [(nn.RNN, 1), (nn.LSTM, 4), (nn.GRU, 3)])
def test_recurrent_layers_count_each_step(layer, gates):
    found = summary(layer(3, 5, bidirectional=True), inputs=[mg.zeros((6, 2, 3))])
    assert found.totals.multiply_adds == 2 * 6 * 2 * gates * 5 * (3 + 5)
    assert found.totals.parameters == 2 * gates * 5 * (3 + 5 + 2)


def test_several_inputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.see = nn.Conv2d(3, 4, 3)
            self.read = nn.Embedding(10, 4)

        def forward(self, picture, words):
            return self.see(picture).mean(axis=(2, 3)) + self.read(words).mean(axis=1)

    found = summary(Two(), [(3, 8, 8), (6,)], dtype=[np.float32, np.int64], batch=2)
    assert found.inputs == ((3, 8, 8), (6,)) and found.rows[0].output_shape == (4,)
    assert found.rows[0].sees_all and found.row("see").receptive_field == (3, 3)
    with pytest.raises(ValueError, match="dtype has 1 entries for 2 inputs"):
        summary(Two(), [(3, 8, 8), (6,)], dtype=[np.float32])


def test_transposed_convolutions_count_what_the_adjoint_does():
    up, down = nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1), nn.Conv2d(3, 4, 4, 2, 1)
    assert summary(up, (4, 5, 5)).totals.multiply_adds == 4 * 5 * 5 * 3 * 16
    assert summary(down, (3, 10, 10)).totals.multiply_adds == 4 * 5 * 5 * 3 * 16


def test_attention_counts_both_products():
    class Attention(nn.Module):
        def forward(self, x):
            weights = nn.functional.softmax(mg.einsum("bic,bjc->bij", x, x), -1)
            return weights @ x

    assert summary(Attention(), (6, 4)).totals.multiply_adds == 2 * 6 * 6 * 4


def test_the_model_stays_as_it_is():
    class Restless(nn.Module):
        """Draws and counts even in use."""

        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
            self.own = mg.random.Generator(7)
            self.register_buffer("calls", mg.zeros(()))

        def forward(self, x):
            self.calls.assign(self.calls.numpy() + 1)
            noise = mg.random.normal(x.shape[:1]) + self.own.normal(x.shape[:1])
            return self.norm(self.conv(x)) * mg.tensor(noise.reshape(-1, 1, 1, 1))

    model = Restless()
    model.norm.eval()
    model(mg.ones((2, 1, 5, 5))).sum().backward()
    grads = [p.grad for p in model.parameters()]
    values = [g.numpy().copy() for g in grads]
    state, modes = model.state_dict(), [m.training for m in model.modules()]
    streams = mg.random.get_state(), model.own.get_state()
    summary(model, (1, 5, 5), backward=True, repeats=1)
    assert (mg.random.get_state(), model.own.get_state()) == streams
    assert [m.training for m in model.modules()] == modes
    assert all(np.array_equal(state[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is g for p, g in zip(model.parameters(), grads, strict=True))
    assert all(np.array_equal(g.numpy(), v) for g, v in zip(grads, values, strict=True))
    assert all("forward" not in vars(module) for module in model.modules())


def test_an_error_of_the_model_is_told_and_leaves_it_as_it_was():
    model = keras()
    with pytest.raises(ValueError, match="channels"):
        summary(model, (2, 28, 28))
    with pytest.raises(ValueError, match="larger than its padded input"):
        summary(model, (1, 2, 2))
    with pytest.raises(ValueError, match="linear: w must be"):
        summary(model, (1, 30, 30))
    assert model.training and all("forward" not in vars(m) for m in model.modules())


def test_wrong_arguments_are_refused():
    for wrong, message in (
        ({}, "give either input_shape"),
        ({"input_shape": (1, 28, 28), "inputs": [mg.zeros((1, 1, 28, 28))]}, "give either"),
    ):
        with pytest.raises(TypeError, match=message):
            summary(keras(), **wrong)
    for wrong, message in (
        ({"layout": "NCHW"}, "layout must be one of"),
        ({"depth": -1}, "depth must be at least 0"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"repeats": 0}, "repeats must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            summary(keras(), (1, 28, 28), **wrong)
    with pytest.raises(ValueError, match="integers from 0"):
        summary(keras(), [(1, 28.5)])

    class Number(nn.Module):
        def forward(self, x):
            return x.shape[0]

    with pytest.raises(TypeError, match="summary: the model gave no tensor"):
        summary(Number(), (2,))
    with pytest.raises(TypeError, match="summary: give the model's input as a tensor"):
        summary(Number(), inputs=[3])


def test_times_are_measured_on_request():
    found = summary(LeNet5(), (1, 28, 28), backward=True, repeats=2)
    layers = [row for row in found.rows if row.leaf]
    assert all(row.seconds > 0 and row.backward_seconds > 0 for row in layers)
    assert found.totals.seconds > 0 and found.totals.backward_seconds > 0
    assert "forward" in str(found) and "backward" in str(found)
    plain = summary(LeNet5(), (1, 28, 28), time=True, repeats=1)
    assert plain.totals.seconds > 0 and plain.rows[1].backward_seconds is None
    assert summary(LeNet5(), (1, 28, 28)).totals.seconds is None
    with pytest.raises(ValueError, match="no backward pass to measure"):
        summary(LeNet5().requires_grad_(False), (1, 28, 28), backward=True)


def test_nothing_large_is_computed(monkeypatch):
    from minigrad_nn import kernels

    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    for name in ("conv", "conv_input", "max_pool", "average_pool", "batch_norm_given"):
        monkeypatch.setattr(kernels, name, refuse)
    found = summary(resnet18(), (3, 64, 64))
    assert found.rows[0].output_shape == (1000,)


def test_the_dry_pass_sees_what_a_real_one_sees():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2)
            self.up = nn.ConvTranspose2d(2, 1, 2, stride=2)

        def forward(self, x):
            x = self.norm(self.conv(x))
            y, places = nn.functional.max_pool2d(x, 2, 2, return_indices=True)
            y = nn.functional.max_unpool2d(y, places, 2)
            return self.up(nn.functional.avg_pool2d(y, 3, 2, 1)).reshape(-1, 64) @ mg.ones((64, 3))

    x = mg.tensor(mg.random.Generator(0).normal((2, 1, 8, 8)))
    dry, real = (trace(Net(), x, passes=0, dry=dry) for dry in (True, False))
    told = [
        [(m.op, m.shape, m.multiply_adds, m.bytes) for m in one.operations] for one in (dry, real)
    ]
    assert told[0] == told[1] and len(told[0]) > 6


def test_a_row_says_where_a_window_does_not_fit():
    model = nn.Sequential(
        nn.Conv2d(1, 1, 3, stride=2, padding=1), nn.MaxPool2d(2), nn.Conv2d(1, 1, 1, stride=1)
    )
    found = summary(model, (1, 6, 6))
    assert [bool(row.warnings) for row in found.rows] == [False, True, True, False]
    (first,), (second,) = found.rows[1].warnings, found.rows[2].warnings
    assert "= 3.5 places" in first and first.endswith("only padding is left out")
    assert "(3 + 0 + 0 - 2)/2 + 1 = 1.5" in second
    assert second.endswith("the last 1 of an axis lie behind the last window")
    assert found.warnings == (("0", first), ("1", second))
    assert f"does not fit exactly: 0: {first}" in str(found)
    ceil = summary(nn.MaxPool2d(2, ceil_mode=True), (1, 5, 5)).rows[0].warnings
    assert "rounding up gives 3; the last window reaches beyond the input" in ceil[0]
    assert not summary(keras(), (1, 28, 28)).warnings


def test_as_data_and_in_a_notebook():
    found = summary(keras(), (1, 28, 28), time=True, repeats=1)
    data = json.loads(json.dumps(found.as_dict()))
    assert data["totals"]["parameters"] == 17404 and data["inputs"] == [[1, 28, 28]]
    assert [row["path"] for row in data["rows"]] == ["", "0", "1", "2", "3"]
    page = found._repr_html_()
    assert page.count("<tr>") == 6 and "17,290" in page and "forward" in page

    class Odd(nn.Module):
        def forward(self, x):
            return x + 1.0

    Odd.__name__ = "<b>"
    assert "<b>" not in summary(Odd(), (2,))._repr_html_()
    with pytest.raises(KeyError, match="no row of a module at 'fc'"):
        found.row("fc")


def test_a_terminal_shows_it(capsys):
    console = Console(force_terminal=True, width=120)
    console.print(summary(keras(), (1, 28, 28)))
    shown = capsys.readouterr().out
    assert "\x1b[" in shown and "17,290" in shown and "multiply-adds: 82,188" in shown


def test_it_stands_where_it_is_looked_for():
    assert nn.summary is summary


# --- receptive fields ----------------------------------------------------------------------------


def positive(model):
    """Weights of ones, so that every path from a pixel to a result shows in the gradient."""
    for parameter in model.parameters():
        parameter.assign(np.ones(parameter.shape) if parameter.ndim > 1 else 0.0)
    return model


def seen(model, size, place):
    """First pixel and one behind the last along each axis that an element of the result sees."""
    x = mg.ones((1, 1, *size), dtype=np.float64, requires_grad=True)
    positive(model.astype(np.float64))(x)[(0, 0, *place)].backward()
    touched = np.argwhere(x.grad.numpy()[0, 0] != 0)
    return touched.min(0), touched.max(0) + 1


LAYERS = st.sampled_from(
    [
        lambda: nn.Conv2d(1, 1, 3, padding=1),
        lambda: nn.Conv2d(1, 1, (2, 3), stride=(2, 1)),
        lambda: nn.Conv2d(1, 1, 3, padding=2, dilation=2),
        lambda: nn.Conv2d(1, 1, 3, padding=1, padding_mode="replicate"),
        lambda: nn.AvgPool2d(2),
        lambda: nn.AvgPool2d(3, stride=2, padding=1),
        lambda: nn.SumPool2d(2, stride=1),
        lambda: nn.Upsample(scale_factor=2),
        lambda: nn.LocalResponseNorm(3),
        lambda: nn.GroupNorm(1, 1),
        lambda: nn.ReLU(),
        lambda: Split(),
        lambda: Fork(nn.Conv2d(1, 1, 5, stride=2, padding=2), nn.Conv2d(1, 1, 1, stride=2)),
        lambda: Fork(
            nn.Conv2d(1, 1, (1, 3), padding=(0, 1)), nn.Conv2d(1, 1, (3, 1), padding=(1, 0))
        ),
    ]
)


class Fork(nn.Module):
    """The sum of two branches."""

    def __init__(self, one, other):
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x):
        return self.one(x) + self.other(x)


class Split(nn.Module):
    """Rows apart and together again, and each twice."""

    def forward(self, x):
        n, c, h, w = x.shape
        x = x.reshape(n, c, h, w, 1).transpose(0, 1, 2, 4, 3).reshape(n * c, h, w)
        return mg.concatenate([x.reshape(n, c, h, w), x.reshape(n, c, h, w)], axis=1)[:, :1]


@given(st.lists(LAYERS, min_size=1, max_size=3), st.integers(0, 2**32))
def test_the_field_is_where_the_gradient_reaches(layers, seed):
    size = (36, 33)
    model = nn.Sequential(*[make() for make in layers])
    with_norms = trace(model, mg.zeros((1, 1, *size)), passes=0, dry=True)
    field = fields(with_norms)(with_norms.outputs[0])
    # Their statistics do not count, yet gradients flow through them.
    model = nn.Sequential(*[m for m in model.children() if not isinstance(m, nn.GroupNorm)])
    rng = np.random.default_rng(seed)
    for _ in range(2):
        places = [int(rng.integers(n)) for n in with_norms.root.shape[2:]]
        first, end = seen(model, size, places)
        for axis in (0, 1):
            low = field.start[axis] + (field.jump[axis] or 0) * places[axis]
            # A place that is one of several copies is told between them and their neighbours.
            copies = any(isinstance(m, nn.Upsample) for m in model.children())
            slack = 2 * max(field.jump) + 1 if copies else 0
            high = low + field.size[axis]
            assert first[axis] >= low - slack and end[axis] <= high + slack
            if low >= 0 and high <= size[axis]:  # no tap of a dilated filter lies outside
                assert first[axis] <= low + slack and end[axis] >= high - slack


def field_of(model, *shape):
    row = summary(model, shape).rows[0]
    return row.receptive_field, row.jump, row.sees_all


def test_fields_of_the_lectures_stacks():
    def stack(count):
        return nn.Sequential(*[nn.Conv2d(1, 1, 3) for _ in range(count)])

    assert field_of(stack(2), 1, 20, 20) == ((5, 5), (1, 1), False)
    assert field_of(stack(3), 1, 20, 20) == ((7, 7), (1, 1), False)


def test_fields_of_known_networks():
    with nn.init.without_drawing():
        found = summary(resnet18(), (3, 224, 224), depth=1)
    assert found.row("layer4").receptive_field == (435, 435)
    assert found.row("layer4").jump == (32, 32)
    assert found.rows[-1].sees_all and found.rows[0].receptive_field == (224, 224)


def test_what_mixes_all_places_sees_all():
    assert field_of(nn.Sequential(nn.Conv2d(1, 1, 3), nn.GlobalAvgPool()), 1, 9, 9)[2]
    assert field_of(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten()), 1, 9, 9)[2]
    # A row and a column that no window reaches stay unseen.
    lost = nn.Sequential(nn.Conv2d(1, 1, 2, stride=2), nn.Flatten(), nn.Linear(16, 2))
    assert field_of(lost, 1, 9, 9) == ((8, 8), (None, None), False)


class Gate(nn.Module):
    """Channels weighed by their averages (squeeze and excitation)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        x = self.conv(x)
        return x * x.mean(axis=(2, 3), keepdims=True)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (lambda: Gate(), ((9, 9), (None, None), True)),
        (lambda: nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1), ((2, 2), (0.5, 0.5), False)),
        (lambda: nn.Upsample(scale_factor=2), None),
        (lambda: nn.Sequential(nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")),
         ((4, 4), (1, 1), False)),
        (lambda: nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveMaxPool2d(3)),
         ((8, 8), (16 / 3, 16 / 3), False)),
    ],
)  # fmt: skip
def test_fields_of_other_layers(model, expected):
    size = 16 if isinstance(model(), nn.Sequential) else 9
    found = field_of(model(), 1, size, size)
    if expected is None:  # without a window there is no column
        assert found[0] is None
    else:
        assert found[0] == expected[0] and found[2] == expected[2]
        assert found[1] == pytest.approx(expected[1])


def test_fields_in_one_and_three_dimensions():
    assert field_of(nn.Sequential(nn.Conv1d(1, 1, 5), nn.MaxPool1d(2)), 1, 30)[:2] == ((6,), (2,))
    assert field_of(nn.Conv3d(1, 1, (1, 2, 3)), 1, 5, 5, 5)[0] == (1, 2, 3)


def test_an_operation_without_a_rule_is_not_guessed():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)

        def forward(self, x):
            return self.conv(x).at[0, 0, 0].set(1.0)

    found = summary(Odd(), (1, 6, 6))
    assert found.row("conv").receptive_field == (3, 3)
    assert found.rows[0].receptive_field is None and not found.rows[0].sees_all
