"""Modules: finding parameters, names, state, modes, and what wrong use is told."""

import copy
import pickle

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))

    def forward(self, x):
        return self.head(nn.functional.relu(self.norm(self.conv(x))))


def snapshot(module):
    return {name: value.copy() for name, value in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)


def test_names_are_those_of_pytorch():
    net = Net()
    assert list(net.state_dict()) == [
        "conv.weight",
        "conv.bias",
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
        "head.1.weight",
        "head.1.bias",
    ]
    assert [name for name, _ in net.named_parameters()] == [
        "conv.weight",
        "conv.bias",
        "norm.weight",
        "norm.bias",
        "head.1.weight",
        "head.1.bias",
    ]
    assert [name for name, _ in net.named_modules()] == [
        "",
        "conv",
        "norm",
        "head",
        "head.0",
        "head.1",
    ]
    assert [name for name, _ in net.named_children()] == ["conv", "norm", "head"]
    assert next(name for name, _ in net.named_buffers()) == "norm.running_mean"
    assert net.state_dict()["norm.num_batches_tracked"].dtype == np.int64
    assert net.conv.weight.name == "weight"


def test_state_is_copied_both_ways():
    net = Net()
    state = net.state_dict()
    state["conv.bias"][:] = 7
    assert not (net.conv.bias.data == 7).any()
    net.load_state_dict(state)
    assert (net.conv.bias.data == 7).all()
    state["conv.bias"][:] = 8
    assert (net.conv.bias.data == 7).all()


def test_state_round_trip_gives_the_same_function():
    mg.manual_seed(0)
    a, b = Net(), Net()
    x = mg.tensor(np.random.default_rng(0).standard_normal((2, 1, 4, 4)).astype("f"))
    a(x)
    assert (a.eval()(x).data != b.eval()(x).data).any()
    assert b.load_state_dict(a.state_dict()) == ([], [])
    assert (a(x).data == b(x).data).all()


def test_everything_wrong_is_told_at_once_and_nothing_is_changed():
    net = Net()
    before = snapshot(net)
    state = {name: value + 1 for name, value in net.state_dict().items()}
    state["conv.weight"] = np.zeros((2, 1, 5, 5))
    state["conv.wieght"] = np.zeros(3)
    state["head.1.bias"] = np.array(["a", "b", "c"])
    del state["norm.weight"]
    with pytest.raises(ValueError) as caught:
        net.load_state_dict(state)
    text = str(caught.value)
    for part in (
        "nothing was loaded",
        "conv.weight: shape (2, 1, 5, 5) given, (2, 1, 3, 3) wanted",
        "head.1.bias: dtype <U1 given",
        "norm.weight: missing",
        "conv.wieght: unexpected",
    ):
        assert part in text
    assert same(snapshot(net), before)
    # Shapes must fit even where names need not.
    with pytest.raises(ValueError, match="conv.weight"):
        net.load_state_dict(state, strict=False)
    assert same(snapshot(net), before)


def test_a_buffer_that_cannot_be_written_is_told_before_anything_is_changed():
    net = nn.Linear(2, 2)
    net.register_buffer("view", mg.arange(4.0).reshape(2, 2))
    before = snapshot(net)
    with pytest.raises(ValueError, match="view: a computed tensor or a view"):
        net.load_state_dict({name: value + 1 for name, value in before.items()})
    assert same(snapshot(net), before)


def test_an_unexpected_name_suggests_the_missing_one():
    net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"unexpected \(is it weight\?\)"):
        net.load_state_dict({"wieght": np.zeros((2, 2)), "bias": np.zeros(2)})


def test_loading_without_strict_tells_what_it_passed_over():
    net = nn.Linear(2, 2)
    result = net.load_state_dict({"bias": np.ones(2), "more": 1}, strict=False)
    assert result.missing == ["weight"] and result.unexpected == ["more"]
    assert net.bias.tolist() == [1, 1]
    with pytest.raises(TypeError, match="map names"):
        net.load_state_dict([1, 2])


def test_loading_converts_and_keeps_the_parameters_themselves():
    net = nn.Linear(2, 1)
    weight = net.weight
    net.load_state_dict({"weight": mg.tensor([[1, 2]]), "bias": np.array([3], np.int16)})
    assert net.weight is weight and weight.dtype == np.float32 and weight.requires_grad
    assert net(mg.tensor([[10.0, 1.0]])).item() == 15


def test_a_backward_pass_over_loaded_weights_is_told():
    net = nn.Linear(2, 1)
    y = net(mg.ones((1, 2), requires_grad=True)).sum()
    net.load_state_dict(net.state_dict())
    with pytest.raises(mg.GraphError, match="load_state_dict"):
        y.backward()


def test_a_shared_parameter_appears_once_but_stands_in_the_state_under_both_names():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    net[2].weight = net[0].weight
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "2.bias"]
    assert len(list(net.parameters())) == 3
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    twin = copy.deepcopy(net)
    assert twin[0].weight is twin[2].weight and twin[0].weight is not net[0].weight
    layer = nn.ReLU()
    assert len(list(nn.Sequential(layer, layer).modules())) == 2


def test_typos_are_told():
    net = Net()
    with pytest.raises(AttributeError, match="Net has no attribute 'haed'; did you mean 'head'"):
        net.haed  # noqa: B018
    with pytest.raises(AttributeError, match="did you mean 'weight'"):
        net.conv.wieght  # noqa: B018
    with pytest.raises(AttributeError, match="did you mean 'parameters'"):
        net.paramters()
    with pytest.raises(AttributeError, match="no attribute 'zzz'$"):
        net.zzz  # noqa: B018
    assert not hasattr(net, "zzz") and getattr(net, "zzz", 5) == 5


def test_parts_before_the_module_is_set_up_are_told():
    class Early(nn.Module):
        def __init__(self, part):
            self.part = part
            super().__init__()

    for part in (nn.ReLU(), nn.Parameter([1.0])):
        with pytest.raises(AttributeError, match=r"super\(\).__init__\(\) first in Early"):
            Early(part)
    assert Early(3).part == 3

    class Never(nn.Module):
        def __init__(self):
            self.size = 3

        def forward(self, x):
            return x

    with pytest.raises(AttributeError, match=r"super\(\).__init__\(\)"):
        Never()(1)


def test_assignments_that_would_lose_a_part_are_told():
    net = Net()
    with pytest.raises(TypeError, match="is a parameter and cannot become a Tensor"):
        net.conv.weight = mg.zeros((2, 1, 3, 3))
    with pytest.raises(TypeError, match="is a module and cannot become"):
        net.conv = mg.relu
    with pytest.raises(TypeError, match="is a buffer"):
        net.norm.running_mean = np.zeros(2)
    for parts in ([nn.ReLU()], (nn.Parameter([1.0]),), {"a": nn.ReLU()}):
        with pytest.raises(TypeError, match="ModuleList"):
            net.parts = parts
    net.sizes = [1, 2]
    net.conv.bias = None
    net.norm.running_mean = mg.ones(2)
    assert "conv.bias" not in net.state_dict()
    assert net.state_dict()["norm.running_mean"].tolist() == [1, 1]
    net.conv.weight = nn.Parameter(np.ones((2, 1, 3, 3), "f"))
    assert next(iter(net.state_dict())) == "conv.weight"


def test_removing_and_buffers():
    net = nn.Module()
    net.register_buffer("mean", mg.ones(2))
    net.register_buffer("cache", mg.zeros(3), persistent=False)
    net.register_buffer("nothing", None)
    assert list(net.state_dict()) == ["mean"]
    assert [name for name, _ in net.named_buffers()] == ["mean", "cache"]
    assert list(net.parameters()) == []
    del net.mean
    assert list(net.state_dict()) == []
    with pytest.raises(AttributeError):
        net.mean  # noqa: B018
    with pytest.raises(TypeError, match="must be a tensor"):
        net.register_buffer("mean", [1.0])


def test_modes_and_gradients():
    net = Net()
    assert net.training and net.eval() is net and not net.norm.training
    assert net.train() is net and net.head[1].training
    net(mg.ones((2, 1, 4, 4))).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.conv.requires_grad_(False)
    assert [n for n, p in net.named_parameters() if not p.requires_grad] == [
        "conv.weight",
        "conv.bias",
    ]
    net(mg.ones((2, 1, 4, 4))).sum().backward()
    assert net.conv.weight.grad is None and net.norm.weight.grad is not None
    net.requires_grad_()
    assert all(p.requires_grad for p in net.parameters())


def test_conversion_of_elements_and_device():
    net = Net()
    net(mg.ones((2, 1, 4, 4))).sum().backward()
    assert net.to("cpu") is net
    with pytest.raises(ValueError, match="unknown device 'nowhere'"):
        net.to("nowhere")
    weight = net.conv.weight
    assert net.astype(mg.float64) is net and net.conv.weight is weight
    assert weight.dtype == np.float64 and weight.grad.dtype == np.float64
    assert net.norm.num_batches_tracked.dtype == np.int64
    assert weight.name == "weight"
    net.zero_grad()
    x = mg.tensor(np.ones((2, 1, 4, 4)))
    net(x).sum().backward()
    assert weight.grad.dtype == np.float64
    with pytest.raises(TypeError, match="float type"):
        net.astype(int)


def test_copies_are_independent():
    net = Net()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert type(twin.conv.weight) is nn.Parameter and twin.conv.weight.requires_grad
        assert same(snapshot(net), snapshot(twin))
        nn.init.ones_(twin.conv.weight)
        assert not (net.conv.weight.data == 1).all()
        twin(mg.ones((2, 1, 4, 4))).sum().backward()
        assert twin.conv.weight.grad is not None and net.conv.weight.grad is None


def test_repr_is_a_tree():
    assert repr(Net()) == (
        "Net(\n"
        "  (conv): Conv2d(1, 2, kernel_size=(3, 3), stride=1, padding=1)\n"
        "  (norm): BatchNorm2d(2, eps=1e-05, momentum=0.1, affine=True, "
        "track_running_stats=True)\n"
        "  (head): Sequential(\n"
        "    (0): Flatten(start_dim=1, end_dim=-1)\n"
        "    (1): Linear(in_features=32, out_features=3, bias=True)\n"
        "  )\n"
        ")"
    )
    assert repr(nn.Parameter([1.0], name="w")).startswith("Parameter([1.]")


def test_sequential_and_list():
    a, b, c = nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)
    net = nn.Sequential(a, b, c)
    assert len(net) == 3 and net[0] is a and net[-1] is c and list(net) == [a, b, c]
    tail = net[1:]
    assert isinstance(tail, nn.Sequential) and [n for n, _ in tail.named_children()] == ["1", "2"]
    assert list(net.append(nn.Tanh()).state_dict())[-1] == "2.bias"
    named = nn.Sequential({"first": a, "second": c})
    assert next(iter(named.state_dict())) == "first.weight" and named.first is a
    parts = nn.ModuleList([a, b])
    parts.append(c)
    assert list(parts) == [a, b, c] and list(parts[1:]) == [b, c]
    assert len(list(parts.parameters())) == 4
    with pytest.raises(TypeError, match="must be a Module"):
        nn.Sequential(a, mg.relu)
    with pytest.raises(NotImplementedError, match="ModuleList"):
        parts(1)


def test_forward_hooks():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    seen = []
    remove = net[0].register_forward_hook(lambda m, args, out: seen.append((m, args, out)))
    x = mg.ones((1, 2))
    y = net(x)
    assert len(seen) == 1 and seen[0][0] is net[0] and seen[0][1][0] is x
    remove()
    net(x)
    assert len(seen) == 1
    net[1].register_forward_hook(lambda m, args, out: out * 2)
    assert net(x).tolist() == (y * 2).tolist()


def test_apply_reaches_every_module():
    net = Net()
    seen = []
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert sorted(seen) == ["BatchNorm2d", "Conv2d", "Flatten", "Linear", "Net", "Sequential"]
    assert seen[-1] == "Net"


def test_a_module_is_no_part_of_itself():
    inner = nn.Sequential(nn.Linear(2, 2))
    outer = nn.Sequential(inner)
    for place in inner, outer:
        with pytest.raises(ValueError, match="me: a module cannot be a part of itself"):
            place.me = outer if place is inner else place
    assert len(list(outer.parameters())) == 2


def test_a_module_that_holds_an_op_is_copied():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = mg.relu
            self.linear = nn.Linear(2, 2)

    assert copy.deepcopy(Layer()).act is mg.relu


def test_a_parameter_of_zeros_owns_its_memory_and_is_learned():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter.zeros((2, 3), np.float64)

    model = Scale()
    (name, factor), = model.named_parameters()  # fmt: skip
    assert (name, factor.name, factor.shape, factor.dtype) == ("factor", "factor", (2, 3), "f8")
    assert type(factor) is nn.Parameter and factor.requires_grad and factor.is_leaf
    (factor * 2.0).sum().backward()
    assert factor.grad.tolist() == [[2.0] * 3] * 2
    factor.assign(1.0)
    assert model.state_dict()["factor"].tolist() == [[1.0] * 3] * 2
