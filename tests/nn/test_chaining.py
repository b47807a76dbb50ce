"""Chains and the operations that they fuse: the same numbers as one after the other, to the bit."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad import backend
from minigrad.check import check_gradients
from minigrad.observing import Interposer, stand
from minigrad.study import override_backward
from minigrad_nn import chaining, models
from minigrad_nn import functional as F
from minigrad_nn.chaining import Plus, chain
from minigrad_nn.functional import norm
from minigrad_nn.layers import BatchNorm2d, Conv2d, Identity, ReLU, ReLU6, Tanh
from minigrad_nn.module import Sequential
from tests.kernels.everything import filter_by_planes

rng = np.random.default_rng(3)
KEYS = list(norm.FUSED)


def ops_of(y):
    """Names of the operations behind a tensor."""
    nodes, found = [y.node], set()
    while nodes:
        node = nodes.pop()
        if node.op is not None and node not in found:
            found.add(node)
            nodes += [source for source in node.inputs if hasattr(source, "op")]
    return {node.op.name for node in found}


@pytest.fixture
def unfused(monkeypatch):
    """Every module called by itself, inside `with unfused():`."""

    def switch(on):
        monkeypatch.setattr(chaining, "_unseen", (lambda stage: False) if on else usual)

    usual = chaining._unseen
    return switch


# --- batch norm with what follows ----------------------------------------------------------------


def normalised(key, statistics):
    given, _, activation = key
    running = [mg.tensor(s) for s in statistics] if given else [None, None]

    def f(x, gamma, beta, residual=None):
        return F.batch_norm(
            *(x, *running, gamma, beta),
            training=not given,
            residual=residual,
            activation=activation,
        )

    def plain(x, gamma, beta, residual=None):
        y = F.batch_norm(x, *running, gamma, beta, training=not given)
        y = y if residual is None else y + residual
        return {None: lambda y: y, "relu": F.relu, "relu6": F.relu6}[activation](y)

    return f, plain


def operands(adds, dtype=np.float64):
    x, residual = (rng.standard_normal((3, 3, 2, 2)).astype(dtype) for _ in range(2))
    gamma, beta = (rng.standard_normal(3).astype(dtype) * 4 for _ in range(2))
    statistics = rng.standard_normal(3).astype(dtype), rng.uniform(0.5, 2, 3).astype(dtype)
    return [x, gamma, beta, *([residual] if adds else [])], statistics


@pytest.mark.parametrize("key", KEYS)
def test_a_fused_batch_norm_at_order_1_and_2(key):
    inputs, statistics = operands(key[1])
    check_gradients(normalised(key, statistics)[0], *inputs)


@pytest.mark.parametrize("key", KEYS)
def test_a_fused_batch_norm_equals_its_composition(key):
    inputs, statistics = operands(key[1], np.float32)
    weights = rng.standard_normal(inputs[0].shape).astype(np.float32)
    found = []
    for f in normalised(key, statistics):
        variables = [mg.tensor(a, requires_grad=True) for a in inputs]
        y = f(*variables)
        found.append([y, *mg.gradients((y * weights).sum(), variables, retain_graph=True)])
    assert norm.FUSED[key].name in ops_of(found[0][0])
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one.numpy(), other.numpy())
    like = norm.FUSED[key].like(
        *inputs[:3],
        *((statistics[0], 1 / np.sqrt(statistics[1] + 1e-5)) if key[0] else ()),
        *inputs[3:],
        **({} if key[0] else {"eps": 1e-5}),
    )
    np.testing.assert_allclose(
        found[0][0].numpy(), like if key[0] else like[0], rtol=1e-5, atol=1e-5
    )


def test_only_what_the_rules_need_is_kept():
    inputs, statistics = operands(True)
    for key, kept in (((False, False, "relu"), 5), ((False, True, "relu"), 7)):
        variables = [mg.tensor(a, requires_grad=True) for a in inputs[: 3 + key[1]]]
        y = normalised(key, statistics)[0](*variables)
        (node,) = y.node.inputs
        assert len(node.saved) == kept  # inputs, mean, inverse_std, and y beside a residual


def test_a_summary_knows_fused_operations_too():
    class Direct(nn.Module):
        def __init__(self, fused):
            super().__init__()
            self.fused = fused
            self.weight = nn.Parameter(rng.standard_normal((4, 2, 3, 3)))
            self.bias = nn.Parameter(np.zeros(4))

        def forward(self, x):
            statistics = mg.zeros(4, np.float64), mg.ones(4, np.float64)
            if self.fused:
                y = F.conv2d(x, self.weight, self.bias, 1, 1, activation="relu")
                return F.batch_norm(y, *statistics, residual=y, activation="relu6")
            y = F.relu(F.conv2d(x, self.weight, self.bias, 1, 1))
            return F.relu6(F.batch_norm(y, *statistics) + y)

    x = mg.zeros((1, 2, 6, 6), np.float64)
    rows = [nn.summary(Direct(fused), inputs=[x]).rows[0] for fused in (True, False)]
    assert rows[0].multiply_adds == rows[1].multiply_adds == 4 * 36 * 18
    assert rows[0].receptive_field == rows[1].receptive_field == (3, 3)


def test_an_unknown_activation_is_told():
    with pytest.raises(ValueError, match="batch_norm: activation must be one of .* got 'tanh'"):
        F.batch_norm(mg.zeros((2, 1)), training=True, activation="tanh")


# --- chains --------------------------------------------------------------------------------------


def block():
    return [Conv2d(2, 2, 3, padding=1), BatchNorm2d(2), ReLU()]


def picture():
    return mg.tensor(rng.standard_normal((2, 2, 4, 4)).astype(np.float32), requires_grad=True)


def test_a_chain_is_fused_while_training_and_gives_the_same_bits(unfused):
    conv, bn, relu = block()
    x = picture()
    results = []
    for on in (False, True):
        unfused(on)
        bn.reset_parameters()
        y = chain(x, conv, bn, Plus(x), relu)
        found = mg.gradients(y.sum(), [x, *conv.parameters(), *bn.parameters()], retain_graph=True)
        assert ("batch_norm_add_relu" in ops_of(y)) is not on
        assert ("relu" in ops_of(y)) is on
        results.append([y, *found, *bn.buffers()])
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize(
    "name, settings",
    [
        ("resnet20", {}),
        ("mobilenet_v1", {"width_mult": 0.25}),
        ("mobilenet_v2", {"width_mult": 0.25, "dropout": 0.0}),
    ],
)
def test_models_train_as_if_each_module_were_called_by_itself(name, settings, unfused, monkeypatch):
    filter_by_planes(monkeypatch)
    model = getattr(models, name)(**settings)
    start = model.state_dict()
    x = mg.tensor(rng.standard_normal((2, 3, 32, 32)).astype(np.float32))
    results = []
    for on in (False, True):
        unfused(on)
        model.load_state_dict(start)
        model.zero_grad()
        y = model(x)
        assert bool({"relu", "relu6"} & ops_of(y)) is on
        y.sum().backward()
        results.append([y, *(p.grad for p in model.parameters()), *model.buffers()])
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("training", [True, False])
def test_a_convolution_takes_a_relu_along(unfused, training):
    layers = Conv2d(2, 3, 3), ReLU()
    x = mg.tensor(rng.standard_normal((2, 2, 5, 5)), requires_grad=True)
    model = Sequential(*layers).astype(np.float64).train(training)
    results = []
    for on in (False, True):
        unfused(on)
        y = model(x)
        assert ("conv_bias_relu" in ops_of(y)) is (training and not on)
        results.append([y, *mg.gradients((y * y).sum(), [x, *model.parameters()])])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-12, atol=1e-12)
    bare = Sequential(Conv2d(2, 3, 3, bias=False), ReLU())
    assert "relu" in ops_of(bare(x.detach().astype(np.float32)))


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("activation", [None, ReLU(), ReLU6(), Tanh()])
def test_in_use_a_batch_norm_writes_over_its_convolution_and_nothing_else(
    adds, activation, unfused
):
    layers = [Conv2d(2, 2, 3, padding=1), BatchNorm2d(2)]
    x = picture()
    before = x.numpy().copy()
    stages = [*layers, *([Plus(x)] if adds else []), *([activation] if activation else [])]
    for _ in range(2):
        chain(x, *layers)  # for running statistics that say something
    Sequential(*layers).eval()
    state = layers[1].state_dict()
    results = []
    for on in (False, True):
        unfused(on)
        made = []
        with mg.no_grad():
            # Of what it is given, a chain writes over nothing.
            given = chain(x, layers[1], *stages[2:]), chain(x, Identity(), layers[1], *stages[2:])
            y = chain(x, *stages)
        results.append([*given, y])
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one.numpy(), other.numpy())
    assert np.array_equal(x.numpy(), before)
    for name, value in layers[1].state_dict().items():
        assert np.array_equal(value, state[name])
    unfused(False)

    def note(proceed, op, args, params):
        made.append(op.name)
        return proceed(op, args, params)

    with mg.no_grad(), backend.interpose(note):
        assert np.array_equal(chain(x, *stages).numpy(), y.numpy())
    assert made[:2] == ["conv_bias", "batch_norm_given"]  # who watches sees both


def test_in_use_no_memory_is_taken_for_a_batch_norm():
    _, bn, relu = (part.eval() for part in block())
    memory = []

    class Telling(Conv2d):
        pass

    telling = Telling(2, 2, 3, padding=1)
    usual = telling._convolved
    telling.__dict__["_convolved"] = lambda *a: memory.append(usual(*a)) or memory[-1]
    with mg.no_grad():
        y = chain(picture(), telling, bn, relu)
        assert y._data is memory[0]._data
        z = chain(picture(), telling, Identity(), bn, relu)
        assert z._data is not memory[1]._data
    y = chain(picture(), telling, bn, relu)
    assert y._data is not memory[2]._data


def test_a_way_of_what_is_added_is_gone_once_and_last():
    calls = []

    class Way(nn.Module):
        def forward(self, x):
            calls.append("way")
            return x * 2.0

    class Step(nn.Module):
        def forward(self, x):
            calls.append("step")
            return x

    x = mg.tensor([1.0, -3.0])
    assert chain(x, Step(), Plus(x, Way()), ReLU()).numpy().tolist() == [3.0, 0.0]
    assert calls == ["step", "way"]
    bn = BatchNorm2d(2)
    y = chain(picture(), bn, Plus(mg.ones((4,)), Way()), ReLU())  # broadcast: nothing to fuse
    assert calls == ["step", "way", "way"] and "batch_norm" in ops_of(y)


def test_a_hook_sees_what_it_waits_for():
    conv, bn, relu = block()
    seen = []
    for module, name in ((bn, "batch_norm"), (relu, "relu")):
        remove = module.register_forward_hook(lambda m, args, y: seen.append((m, args[0], y)))
        y = chain(picture(), conv, bn, relu)
        assert [m for m, _, _ in seen] == [module]
        assert {"batch_norm", "relu"} <= ops_of(y)
        assert name in ops_of(seen[0][2])
        remove()
        seen.clear()
    assert "batch_norm_relu" in ops_of(chain(picture(), conv, bn, relu))


def test_who_watches_sees_each_operation():
    stages = block()
    names = []

    def note(proceed, op, args, params):
        names.append(op.name)
        return proceed(op, args, params)

    with backend.interpose(note):
        chain(picture(), *stages)
    assert names[-1] == "relu"
    with stand(Interposer()):
        assert "relu" in ops_of(chain(picture(), *stages))
    with override_backward("relu", lambda g: g) as override:
        chain(picture(), *stages).sum().backward()
    assert override.count == 1
    assert "batch_norm_relu" in ops_of(chain(picture(), *stages))


def test_a_graph_in_eval_mode_has_all_of_its_operations():
    model = Sequential(*block()).eval()
    assert {"conv_bias", "batch_norm_given", "relu"} <= ops_of(model(picture()))


def test_a_subclass_is_called_by_itself():
    class Doubled(ReLU):
        def forward(self, x):
            return super().forward(x) * 2.0

    class Shifted(BatchNorm2d):
        def forward(self, x):
            return super().forward(x) + 1.0

    x = picture()
    for stages in ([BatchNorm2d(2), Doubled()], [Shifted(2), ReLU()]):
        y = chain(x, *stages)
        assert "relu" in ops_of(y)
        z = stages[1](stages[0](x))
        assert np.array_equal(y.numpy(), z.numpy())
    assert "batch_norm" in ops_of(chain(x, BatchNorm2d(2), Tanh()))


def test_modules_inside_modules_are_fused_across_their_borders():
    inner = Sequential(Identity(), BatchNorm2d(2))
    x = picture()
    assert "batch_norm_add_relu6" in ops_of(chain(x, inner, Plus(x), ReLU6()))
    outer = Sequential(inner, ReLU())
    assert "batch_norm_relu" in ops_of(outer(x))
    remove = inner.register_forward_hook(lambda *_: None)
    assert "relu" in ops_of(outer(x))
    remove()


def test_an_error_says_where_it_arose():
    model = Sequential(Identity(), BatchNorm2d(3), ReLU())
    with pytest.raises(ValueError, match="3 channels") as caught:
        model(picture())
    assert caught.value.__notes__ == [
        "In 1, a BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, "
        "track_running_stats=True), of Sequential."
    ]
