"""Chains that take a depthwise filter between two batch norms along, bit for bit, or let it be."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad import backend, capture, checkpoint
from minigrad.observing import Interposer, stand
from minigrad_nn import functional as F
from minigrad_nn import models, optim
from minigrad_nn.chaining import chain
from minigrad_nn.layers import BatchNorm1d, BatchNorm2d, BatchNorm3d, Conv2d, ReLU, ReLU6, Tanh
from minigrad_nn.layers.norm import _BatchNorm
from minigrad_nn.models.mobilenet import SeparableBlock
from minigrad_nn.module import Sequential
from tests.kernels.everything import filter_by_planes
from tests.nn.test_chaining import ops_of

rng = np.random.default_rng(5)
OP = "norm_depthwise_norm"


@pytest.fixture
def apart(monkeypatch):
    """`apart(True)`: norms take no filter along; `apart(False)`: they do again."""
    filter_by_planes(monkeypatch)
    usual = _BatchNorm._between_norms

    def switch(on):
        monkeypatch.setattr(_BatchNorm, "_between_norms", (lambda *_: None) if on else usual)

    return switch


def depthwise(channels=2, stride=1, **settings):
    settings = dict(padding=1, bias=False, groups=channels) | settings
    return Conv2d(channels, channels, 3, stride, **settings)


def stages(channels=2, **settings):
    first, second = (BatchNorm2d(channels) for _ in range(2))
    return [first, ReLU6(), depthwise(channels, **settings), second, ReLU()]


def pictures(channels=2, size=6, images=2):
    x = rng.standard_normal((images, channels, size, size)).astype(np.float32)
    return mg.tensor(x, requires_grad=True)


def trained(model, x, steps=2):
    """The bits of all that a few steps leave: results, gradients, statistics, counts."""
    seen = []
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(steps):
        y = model(x)
        optimizer.zero_grad()
        (y * y).sum().backward()
        optimizer.step()
        seen += [y, *(p.grad for p in model.parameters())]
    return [value.numpy().tobytes() for value in (*seen, *model.parameters(), *model.buffers())]


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2"])
def test_networks_train_to_the_same_bits_with_it_and_without(name, momentum, apart):
    settings = {"dropout": 0.0} if name == "mobilenet_v2" else {}
    model = getattr(models, name)(width_mult=0.25, classes=5, **settings)
    norms = [module for module in model.modules() if isinstance(module, BatchNorm2d)]
    for norm in norms:
        norm.momentum = momentum
    start = model.state_dict()
    x = pictures(3, 32)
    results = []
    for on in (False, True):
        apart(on)
        model.load_state_dict(start)
        assert (OP in ops_of(model(x))) is not on
        model.load_state_dict(start)
        results.append(trained(model, x))
    assert results[0] == results[1]
    assert all(norm.num_batches_tracked.item() == 2 for norm in norms)


@pytest.mark.parametrize("second", [None, ReLU(), ReLU6(), Tanh()])
@pytest.mark.parametrize("first", [None, ReLU(), ReLU6()])
@pytest.mark.parametrize("stride", [1, 2])
def test_whatever_activations_follow(first, second, stride, apart):
    made = stages(stride=stride)
    line = [made[0], *filter(None, [first]), *made[2:4], *filter(None, [second])]
    model, x = Sequential(*line), pictures()
    start = model.state_dict()
    results = []
    for on in (False, True):
        apart(on)
        model.load_state_dict(start)
        assert (OP in ops_of(model(x))) is not on
        results.append(trained(model, x))
    assert results[0] == results[1]


def test_norms_without_scale_or_statistics(apart):
    made = stages()
    made[0] = BatchNorm2d(2, affine=False, track_running_stats=False)
    made[3] = BatchNorm2d(2, affine=False)
    model, x, results = Sequential(*made), pictures(), []
    start = model.state_dict()
    for on in (False, True):
        apart(on)
        model.load_state_dict(start)
        assert (OP in ops_of(model(x))) is not on
        results.append(trained(model, x))
    assert results[0] == results[1]


def test_a_norm_that_stands_on_both_sides_counts_twice(apart):
    norm, filters, x = BatchNorm2d(2, momentum=None), depthwise(), pictures()
    results = []
    for on in (False, True):
        apart(on)
        norm.reset_parameters()
        y = chain(x, norm, filters, norm)
        assert (OP in ops_of(y)) is not on and norm.num_batches_tracked.item() == 2
        results.append([y.numpy(), *(b.numpy().copy() for b in norm.buffers())])
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one, other)


def test_what_is_no_such_line_is_computed_part_by_part():
    class Doubled(BatchNorm2d):
        def forward(self, x):
            return super().forward(x) * 2.0

    class Shifted(Conv2d):
        def forward(self, x):
            return super().forward(x) + 1.0

    x = pictures()
    assert OP in ops_of(chain(x, *stages()))
    for place, part in (
        (0, Doubled(2)),
        (3, Doubled(2)),
        (0, BatchNorm2d(2).eval()),
        (3, BatchNorm2d(2).eval()),
        (1, Tanh()),
        (2, depthwise(bias=True)),
        (2, depthwise(padding_mode="circular")),
        (2, depthwise(padding="same")),
        (2, depthwise(dilation=2)),
        (2, Conv2d(2, 2, 3, padding=1, bias=False)),
        (2, Conv2d(2, 2, 5, padding=2, bias=False, groups=2)),
        (2, Shifted(2, 2, 3, padding=1, bias=False, groups=2)),
        (3, ReLU()),
    ):
        line = stages()
        line[place] = part
        assert OP not in ops_of(chain(x, *line)), part
    assert OP not in ops_of(chain(x, *stages()[:3]))
    assert OP not in ops_of(chain(pictures(size=3, images=1), *stages(padding=0)[:2]))


# --- who watches, sees -----------------------------------------------------------------------


@pytest.mark.parametrize("place", range(5))
def test_a_hook_sees_what_its_module_makes(place):
    line, seen = stages(), []
    remove = line[place].register_forward_hook(lambda m, given, y: seen.append((given[0], y)))
    x = pictures()
    y = chain(x, *line)
    ((given, made),) = seen
    assert given.shape == made.shape == x.shape
    # A hook on the last activation takes only that away from what is computed together.
    assert (OP in ops_of(y)) is (place == 4)
    plain = line[0](x)
    for stage in line[1:]:
        plain = stage(plain)
    assert np.array_equal(y.numpy(), plain.numpy())
    remove()
    assert OP in ops_of(chain(x, *line))


def test_a_hook_on_a_block_sees_what_the_block_makes():
    model = Sequential(SeparableBlock(2, 4), SeparableBlock(4, 3), SeparableBlock(3, 2))
    x, seen = pictures(), []
    together = model(x)
    assert OP in ops_of(together)
    remove = model[1].register_forward_hook(lambda m, given, y: seen.append((given[0], y)))
    y = model(x)
    ((given, made),) = seen
    assert given.shape == (2, 4, 6, 6) and made.shape == (2, 3, 6, 6)
    first = model[0](x)
    assert np.array_equal(given.numpy(), first.numpy())
    assert np.array_equal(made.numpy(), model[1](first).numpy())
    assert np.array_equal(y.numpy(), together.numpy())
    assert OP not in ops_of(y)
    remove()


def test_who_watches_sees_each_operation_of_a_network():
    model = models.mobilenet_v1(width_mult=0.25, classes=3)
    x, names = pictures(3, 32), []
    wanted = model(x)

    def note(proceed, op, args, params):
        names.append(op.name)
        return proceed(op, args, params)

    with backend.interpose(note):
        assert np.array_equal(model(x).numpy(), wanted.numpy())
    assert OP not in names and names.count("batch_norm") == 27 and names.count("conv") == 27
    with stand(Interposer()):
        assert OP not in ops_of(model(x))
    called = []
    for path, module in model.named_modules():
        module.register_forward_hook(lambda *_, path=path: called.append(path))
    assert np.array_equal(model(x).numpy(), wanted.numpy())
    assert {path for path, _ in model.named_modules()} == set(called)


def test_a_graph_in_eval_mode_has_all_of_its_operations():
    model = models.mobilenet_v1(width_mult=0.25, classes=3).eval()
    found = ops_of(model(pictures(3, 32)))
    assert OP not in found and {"conv", "batch_norm_given", "relu6"} & found >= {"conv"}
    assert {name for name in found if "batch_norm" in name} == {"batch_norm_given"}


def test_a_summary_tells_the_same_with_it_and_without(apart):
    model = models.mobilenet_v1(width_mult=0.25, classes=3)
    told = []
    for on in (False, True):
        apart(on)
        told.append(str(nn.summary(model, inputs=[mg.zeros((2, 3, 32, 32))])))
    assert told[0] == told[1]


# --- containers ----------------------------------------------------------------------------------


def test_containers_are_opened_unless_they_compute_something_else():
    class Halved(Sequential):
        def forward(self, x):
            return super().forward(x) * 0.5

    class Block(SeparableBlock):
        def forward(self, x):
            return super().forward(x) * 0.5

    line, x = stages(), pictures()
    opened = Sequential(Sequential(line[0], line[1]), Sequential(line[2], Sequential(*line[3:])))
    whole = chain(x, *line)
    assert OP in ops_of(opened(x)) and np.array_equal(opened(x).numpy(), whole.numpy())
    closed = Sequential(Halved(line[0], line[1]), *line[2:])
    assert OP not in ops_of(closed(x))
    plain = chain(line[1](line[0](x)) * 0.5, *line[2:])
    assert np.array_equal(closed(x).numpy(), plain.numpy())
    for kind, fused in ((SeparableBlock, True), (Block, False)):
        y = chain(x, BatchNorm2d(2), kind(2, 3))
        assert (OP in ops_of(y)) is fused
    instance = Sequential(line[2], line[3])
    instance.__dict__["forward"] = lambda x: Sequential.forward(instance, x) * 0.5
    assert OP not in ops_of(chain(x, line[0], instance))


def noted(model, x):
    with pytest.raises((ValueError, TypeError)) as caught:
        model(x)
    (note,) = caught.value.__notes__
    return note


def test_an_error_names_its_module_through_all_that_was_opened():
    inner = Sequential(ReLU(), Sequential(BatchNorm2d(3), ReLU()))
    with pytest.raises(ValueError, match="3 channels") as caught:
        chain(pictures(), ReLU(), inner)
    (note,) = caught.value.__notes__
    assert note.startswith("In 1.0, a BatchNorm2d(3") and note.endswith("of Sequential.")
    model = models.mobilenet_v2(width_mult=0.25, classes=3)
    norm = model.features[3].conv[1][1]
    norm.num_features += 1
    note = noted(model, pictures(3, 32))
    assert note.startswith("In features.3.conv.1.1, a BatchNorm2d(") and "of MobileNetV2" in note
    model = models.mobilenet_v1(width_mult=0.25, classes=3)
    model.blocks[4].bn1 = BatchNorm2d(5)
    note = noted(model, pictures(3, 32))
    assert note.startswith("In blocks.4.bn1, a BatchNorm2d(5") and note.endswith("of MobileNet.")
    model.blocks[4].depthwise = depthwise(5)
    note = noted(model, pictures(3, 32))
    assert note.startswith("In blocks.4.depthwise, a Conv2d(5") and note.endswith("of MobileNet.")


@pytest.mark.parametrize(
    ("place", "part", "kind"),
    [
        (0, BatchNorm1d(2), "BatchNorm1d"),
        (0, BatchNorm2d(3), "BatchNorm2d"),
        (2, depthwise(3), "Conv2d"),
        (2, depthwise(padding=0), "Conv2d"),
        (2, depthwise(dtype=np.float64), "Conv2d"),
        (3, BatchNorm2d(3), "BatchNorm2d"),
        (3, BatchNorm3d(2), "BatchNorm3d"),
    ],
)
def test_what_does_not_fit_is_told_as_if_each_were_called_by_itself(place, part, kind, apart):
    line, told = stages(), []
    line[place] = part
    model, x = Sequential(*line), pictures(size=2)
    for on in (False, True):
        apart(on)
        for norm in (line[0], line[3]):
            norm.reset_running_stats()
        note = noted(model, x)
        assert note.startswith(f"In {place}, a {kind}(")
        told.append([note, *(norm.num_batches_tracked.item() for norm in (line[0], line[3]))])
    assert told[0] == told[1]


def test_a_single_value_a_channel_is_told_by_the_norm_that_gets_it():
    x = pictures(size=3, images=1)
    line = stages(padding=0)
    assert noted(Sequential(*line), x).startswith("In 3, a BatchNorm2d")
    assert noted(Sequential(*stages()), pictures(size=1, images=1)).startswith("In 0, a Batch")


# --- what computes a step in another way ---------------------------------------------------------


def test_a_checkpoint_counts_a_batch_once():
    model = Sequential(*stages())
    start, results = model.state_dict(), []
    for wrap in (lambda f: f, checkpoint):
        model.load_state_dict(start)
        model.zero_grad()
        x = mg.tensor(np.linspace(-1, 2, 144).reshape(2, 2, 6, 6), np.float32, requires_grad=True)
        y = wrap(model)(x)
        (y * y).sum().backward()
        assert [m.num_batches_tracked.item() for m in (model[0], model[3])] == [1, 1]
        results.append([y, x.grad, *(p.grad for p in model.parameters()), *model.buffers()])
    for one, other in zip(*results, strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes()


class Small(nn.Module):
    """A MobileNet of two blocks."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = Conv2d(3, 4, 3, 2, 1, bias=False), BatchNorm2d(4, momentum=None)
        self.blocks = Sequential(SeparableBlock(4, 6), SeparableBlock(6, 6, 2))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(F.global_avg_pool(chain(x, self.conv, self.bn, ReLU6(), self.blocks)))


def test_a_captured_step_has_the_same_bits():
    batches = [
        (rng.standard_normal((4, 3, 12, 12)).astype(np.float32), rng.integers(0, 3, 4))
        for _ in range(5)
    ]
    histories = []
    for captured in (False, True):
        mg.manual_seed(1)
        model = Small()
        optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

        def step(x, y, model=model, optimizer=optimizer):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        function = capture(step) if captured else step
        seen = []
        for x, y in batches:
            seen.append(function(mg.tensor(x), y).numpy().tobytes())
            seen += [value.numpy().tobytes() for value in (*model.parameters(), *model.buffers())]
        histories.append(seen)
    assert function.replays == len(batches) - 2, function.reasons
    assert OP in function.code
    assert histories[0] == histories[1]
