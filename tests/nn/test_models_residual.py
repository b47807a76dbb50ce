"""Residual, dense and mobile networks: what they are made of, and what must hold by design."""

import gc
import tracemalloc

import numpy as np
import pytest

import minigrad
import minigrad_nn as nn
from minigrad_nn import functional as F
from minigrad_nn import init, models
from minigrad_nn.inspect import overview
from minigrad_nn.models.densenet import DenseBlock, DenseNet
from minigrad_nn.models.mobilenet_v2 import InvertedResidual
from minigrad_nn.models.resnet import BasicBlock, Bottleneck, PaddedIdentity, ResNet

PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "plain18": 11_515_688,
    "plain34": 21_623_848,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "plain20": 269_722,
    "plain32": 464_154,
    "plain44": 658_586,
    "plain56": 853_018,
    "plain110": 1_727_962,
    "densenet121": 7_978_856,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v2": 3_504_872,
}


def build(name, **settings):
    """A network by its name, with weights of 0: quick to make."""
    with init.without_drawing():
        return getattr(models, name)(**settings)


def size(model):
    return sum(p.size for p in model.parameters())


def pictures(n=2, channels=3, side=32, seed=0):
    values = np.random.default_rng(seed).standard_normal((n, channels, side, side))
    return minigrad.tensor(values.astype(np.float32))


def multiply_adds(model, side):
    shape = (1, model.in_channels, side, side)
    return overview(model, minigrad.zeros(shape), passes=0).root.multiply_adds


@pytest.mark.parametrize("name", PARAMETERS)
def test_number_of_parameters(name):
    assert size(build(name)) == PARAMETERS[name]


@pytest.mark.parametrize(
    "name, settings, side, wanted",
    [
        ("resnet18", {}, 224, 1_814_073_344),
        ("resnet34", {}, 224, 3_663_761_408),
        ("resnet50", {"stride_on": "1x1"}, 224, 3_857_973_248),
        ("resnet50", {"stride_on": "3x3"}, 224, 4_089_184_256),
        pytest.param(
            *("resnet101", {"stride_on": "1x1"}, 224, 7_570_194_432), marks=pytest.mark.full
        ),
        pytest.param(
            *("resnet152", {"stride_on": "1x1"}, 224, 11_282_415_616), marks=pytest.mark.full
        ),
        ("resnet20", {}, 32, 40_551_040),
        ("mobilenet_v1", {}, 224, 568_740_352),
        # Tables 6 and 7 of the MobileNet paper: 325, 149 and 41 million; 290 million.
        ("mobilenet_v1", {"width_mult": 0.75}, 224, 325_400_448),
        ("mobilenet_v1", {"width_mult": 0.5}, 224, 149_497_088),
        ("mobilenet_v1", {"width_mult": 0.25}, 224, 41_030_272),
        ("mobilenet_v1", {}, 160, 290_675_200),
        ("mobilenet_v2", {}, 224, 300_774_272),
    ],
)
def test_multiply_adds(name, settings, side, wanted):
    assert multiply_adds(build(name, **settings), side) == wanted


# --- every network ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, settings",
    [
        ("resnet18", {"in_channels": 1, "dropout": 0.3, "width": 16}),
        ("resnet18", {"stem": "cifar", "zero_init_residual": True, "width": 8}),
        ("plain18", {"width": 8}),
        ("resnet50", {"stride_on": "1x1", "width": 8}),
        ("resnet50", {"shortcut": "padding", "width": 8}),
        ("resnet20", {"shortcut": "projection", "in_channels": 1}),
        ("plain20", {"width": 4}),
        ("densenet121", {"growth": 8, "width": 16, "dropout": 0.1, "in_channels": 4}),
        ("mobilenet_v1", {"width_mult": 0.25, "dropout": 0.2, "activation": nn.ReLU}),
        ("mobilenet_v2", {"width_mult": 0.35, "in_channels": 1}),
    ],
)
def test_it_gives_logits_and_a_gradient_for_each_parameter(name, settings):
    minigrad.manual_seed(1)
    model = getattr(models, name)(classes=7, **settings)
    x = pictures(4, settings.get("in_channels", 3))
    logits = model(x)
    assert logits.shape == (4, 7) and np.isfinite(logits.numpy()).all()
    F.cross_entropy(logits, [0, 1, 2, 3]).backward()
    assert all(p.grad is not None and np.isfinite(p.grad.numpy()).all() for p in model.parameters())
    dead = [n for n, p in model.named_parameters() if not p.grad.numpy().any()]
    # A block that starts as its shortcut hands nothing back before its last scale has moved.
    allowed = (".conv1.", ".conv2.", ".bn1.") if settings.get("zero_init_residual") else ()
    assert [n for n in dead if not any(part in n for part in allowed)] == []

    model.eval()
    with minigrad.no_grad():
        together = model(x).numpy()
        alone = model(x[1:2]).numpy()
    np.testing.assert_allclose(alone, together[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet20", "densenet121", "mobilenet_v1", "mobilenet_v2"])
def test_dropout_drops_while_training_alone(name):
    minigrad.manual_seed(1)
    model = getattr(models, name)(dropout=0.5)
    for module in model.modules():  # which would change with every call
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    x = pictures(4)
    with minigrad.no_grad():
        assert not np.array_equal(model(x).numpy(), model(x).numpy())
        model.eval()
        np.testing.assert_array_equal(model(x).numpy(), model(x).numpy())


@pytest.mark.parametrize("name", ["resnet18", "resnet20", "densenet121", "mobilenet_v1"])
def test_weights_depend_on_the_seed_alone(name):
    states = []
    for seed in (1, 1, 2):
        minigrad.manual_seed(seed)
        states.append(getattr(models, name)(classes=3).state_dict())
    assert all(np.array_equal(states[0][key], states[1][key]) for key in states[0])
    weights = [key for key, value in states[0].items() if value.ndim > 1]
    assert not any(np.array_equal(states[0][key], states[2][key]) for key in weights)


@pytest.mark.parametrize(
    "name, fan", [("resnet20", 1), ("densenet121", 0), ("mobilenet_v1", 0), ("mobilenet_v2", 1)]
)
def test_reset_parameters_starts_anew(name, fan):
    minigrad.manual_seed(3)
    model = getattr(models, name)(classes=300)
    with minigrad.no_grad():
        model(pictures(2))  # moves the running statistics
    for parameter in model.parameters():
        parameter.assign(7.0)
    model.reset_parameters()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            values = (module.weight, module.bias, module.running_mean, module.running_var)
            assert [(v.numpy().min(), v.numpy().max()) for v in values] == [
                (1, 1), (0, 0), (0, 0), (1, 1)
            ]  # fmt: skip
            assert module.num_batches_tracked.item() == 0
        elif isinstance(module, nn.Conv2d) and module.weight.size > 2000:
            # He and others: the variance is 2 / fan, of what goes in or of what comes out.
            scale = np.sqrt(2.0 / init.fans(module.weight)[fan])
            assert module.weight.numpy().std() == pytest.approx(scale, rel=0.1)
        elif isinstance(module, nn.Linear):
            bound = 1.0 / np.sqrt(module.in_features)
            normal = name == "mobilenet_v2"
            wanted = 0.01 if normal else bound / np.sqrt(3.0)
            assert module.weight.numpy().std() == pytest.approx(wanted, rel=0.1)
            has_bias = name not in ("densenet121", "mobilenet_v2")
            assert module.bias.numpy().any() == has_bias and abs(module.bias.numpy()).max() <= bound


@pytest.mark.parametrize(
    "make, shape, message",
    [
        (lambda: build("resnet18"), (3, 32, 32), r"ResNet: pictures must be \(N, 3, H, W\).*x\[No"),
        (lambda: build("resnet18"), (2, 1, 32, 32), r"ResNet\(in_channels=1\) takes these"),
        (lambda: build("resnet20"), (2, 1, 32, 32), r"CifarResNet: pictures.*in_channels=1"),
        (lambda: build("densenet121"), (2, 4, 32, 32), r"DenseNet: .*in_channels=4"),
        (lambda: build("densenet121"), (2, 3, 64, 28), r"DenseNet: .*at least 29 .*\(2, 3, 64, 28"),
        (lambda: build("mobilenet_v1"), (2, 3), r"MobileNet: pictures must be"),
        (lambda: build("mobilenet_v2"), (2, 2, 32, 32), r"MobileNetV2: .*in_channels=2"),
    ],
)  # fmt: skip
def test_pictures_of_another_shape_are_refused_by_the_name_of_the_network(make, shape, message):
    with pytest.raises(ValueError, match=message):
        make()(minigrad.zeros(shape))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: models.resnet18(stem="small"), "ResNet: stem must be one of .*'small'"),
        (lambda: models.resnet50(stride_on="5x5"), "ResNet: stride_on must be one of .*'5x5'"),
        (lambda: models.resnet20(shortcut="B"), "CifarResNet: shortcut must be one of .*'B'"),
        (lambda: models.plain18(zero_init_residual=True), "ResNet: zero_init_residual.*give 0"),
        (lambda: ResNet(BasicBlock, ()), "ResNet: depths .*at least 1"),
        (lambda: ResNet(BasicBlock, (2, 0)), "ResNet: depths .*at least 1"),
        (lambda: models.CifarResNet(18), r"CifarResNet: depth must be 6n \+ 2.*got 18"),
        (lambda: models.CifarResNet(2), r"CifarResNet: depth must be 6n \+ 2.*got 2"),
        (lambda: models.CifarResNet(20.0), r"CifarResNet: depth must be 6n \+ 2.*got 20.0"),
        (lambda: PaddedIdentity(8, 4), "PaddedIdentity: zeros can only add channels.*8 to make 4"),
        (lambda: DenseNet(()), "DenseNet: layers .*at least 1"),
        (lambda: models.mobilenet_v1(width_mult=0), "MobileNet: width_mult must be above 0, got 0"),
        (lambda: models.mobilenet_v2(width_mult=-1), "MobileNetV2: width_mult must be above 0"),
        (lambda: models.resnet18(dropout=1.5), "p must be in"),
    ],
)
def test_arguments_that_make_no_network_are_refused(make, message):
    with init.without_drawing(), pytest.raises(ValueError, match=message):
        make()


# --- residual blocks --------------------------------------------------------------------------


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("shortcut", ["projection", "padding"])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_with_a_last_scale_of_zero_is_its_shortcut(block, shortcut, stride):
    minigrad.manual_seed(0)
    unit = block(8, 8 if block is BasicBlock else 2, stride, shortcut)
    unit.start_as_shortcut()
    x = pictures(2, 8, 7)
    for mode in (True, False):
        unit.train(mode)
        around = x if unit.downsample is None else unit.downsample(x)
        np.testing.assert_array_equal(unit(x).numpy(), np.maximum(around.numpy(), 0.0))
    assert (unit.downsample is None) == (stride == 1)


def test_the_shortcut_without_parameters_takes_every_second_pixel_and_adds_zeros():
    x = pictures(2, 3, 5)
    found = PaddedIdentity(3, 5, stride=2)(x).numpy()
    np.testing.assert_array_equal(found[:, :3], x.numpy()[:, :, ::2, ::2])
    assert found.shape == (2, 5, 3, 3) and not found[:, 3:].any()
    assert not list(PaddedIdentity(3, 5, 2).parameters())
    np.testing.assert_array_equal(PaddedIdentity(3, 3)(x).numpy(), x.numpy())


def test_zero_init_residual_makes_every_block_start_as_its_shortcut():
    minigrad.manual_seed(0)
    usual = models.resnet20()
    minigrad.manual_seed(0)
    model = models.resnet20(zero_init_residual=True)
    blocks = [unit for unit in model.modules() if isinstance(unit, BasicBlock)]
    assert len(blocks) == 9
    for unit in blocks:
        assert not unit.bn2.weight.numpy().any() and (unit.bn1.weight.numpy() == 1).all()
    # So the whole network sees the stem's result, thinned out, with zeros behind.
    x = pictures(4)
    stem = model.relu(model.bn1(model.conv1(x))).numpy()
    pooled = stem[:, :, ::4, ::4].mean(axis=(2, 3))
    wanted = np.pad(pooled, ((0, 0), (0, 48))) @ model.fc.weight.numpy().T + model.fc.bias.numpy()
    np.testing.assert_allclose(model(x).numpy(), wanted, rtol=1e-4, atol=1e-5)
    for (name, mine), (_, other) in zip(
        model.named_parameters(), usual.named_parameters(), strict=True
    ):
        if not name.endswith("bn2.weight"):
            np.testing.assert_array_equal(mine.numpy(), other.numpy(), err_msg=name)
    model.reset_parameters()
    assert not any(unit.bn2.weight.numpy().any() for unit in blocks)


@pytest.mark.parametrize(
    "plain, residual, settings",
    [
        ("plain18", "resnet18", {}),
        ("plain34", "resnet34", {}),
        ("plain20", "resnet20", {"shortcut": "projection"}),
        ("plain110", "resnet110", {"shortcut": "projection"}),
    ],
)
def test_a_plain_network_is_the_residual_one_without_what_leads_around(plain, residual, settings):
    bare, whole = build(plain), build(residual, **settings)
    states = [
        {name: value.shape for name, value in model.state_dict().items()} for model in (bare, whole)
    ]
    assert states[0] == {n: s for n, s in states[1].items() if "downsample" not in n}
    assert states[0] != states[1]
    projections = sum(
        size(unit.downsample)
        for unit in whole.modules()
        if isinstance(unit, BasicBlock) and unit.downsample is not None
    )
    assert size(bare) == size(whole) - projections and projections > 0
    # Layers with weights along the longest way, as the name counts them.
    depth = sum(isinstance(part, (nn.Conv2d, nn.Linear)) for part in bare.modules())
    assert f"plain{depth}" == plain


@pytest.mark.parametrize("shortcut", ["padding", "projection"])
def test_a_plain_network_computes_what_is_left_when_the_shortcuts_are_cut(shortcut):
    minigrad.manual_seed(0)
    model = models.resnet20(shortcut=shortcut, width=4)
    bare = models.plain20(width=4)
    missing, unexpected = bare.load_state_dict(model.state_dict(), strict=False)
    assert missing == [] and all("downsample" in name for name in unexpected)
    x = pictures(2)
    with minigrad.no_grad():
        found = bare(x).numpy()
        assert not np.allclose(found, model(x).numpy(), atol=1e-3)
        for unit in model.modules():
            if isinstance(unit, BasicBlock):
                unit.shortcut = "none"
        model.load_state_dict(bare.state_dict(), strict=False)
        np.testing.assert_array_equal(model(x).numpy(), bare(x).numpy())


def test_the_two_places_of_the_stride_have_the_same_state():
    ours, lecture = build("resnet50"), build("resnet50", stride_on="1x1")
    assert list(ours.state_dict()) == list(lecture.state_dict())
    strides = [[m.layer2[0].conv1.stride, m.layer2[0].conv2.stride] for m in (ours, lecture)]
    assert strides == [[1, 2], [2, 1]]


def test_the_small_stem_keeps_small_pictures_whole():
    model = build("resnet18", classes=10, stem="cifar")
    seen = {}
    model.layer1.register_forward_hook(lambda m, a, y: seen.update(layer1=y.shape))
    model.layer4.register_forward_hook(lambda m, a, y: seen.update(layer4=y.shape))
    model(pictures(1))
    assert seen == {"layer1": (1, 64, 32, 32), "layer4": (1, 512, 4, 4)}
    assert size(model) == 11_173_962


def test_a_residual_network_learns_what_it_is_shown():
    minigrad.manual_seed(0)
    model = models.CifarResNet(8, classes=4, width=4)
    optimizer = nn.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, labels = pictures(8, side=16), np.arange(8) % 4
    for _ in range(25):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


# --- dense networks ---------------------------------------------------------------------------


def test_a_dense_block_hands_on_all_that_its_layers_made():
    minigrad.manual_seed(0)
    block = DenseBlock(6, 3, growth=4)
    x = pictures(2, 6, 5)
    seen = []
    for layer in block.children():
        layer.register_forward_hook(lambda m, given, y: seen.append((given, y)))
    found = block(x).numpy()
    made = [y.numpy() for _, y in seen]
    assert found.shape == (2, 18, 5, 5)
    np.testing.assert_array_equal(found, np.concatenate([x, *made], axis=1))
    assert [[g.shape[1] for g in given] for given, _ in seen] == [[6], [6, 4], [6, 4, 4]]


def dense(save_memory):
    minigrad.manual_seed(0)
    return DenseNet((4, 6, 6), classes=5, growth=8, width=16, dropout=0.2, save_memory=save_memory)


def test_saving_memory_changes_no_bit():
    results = []
    for save_memory in (False, True):
        model = dense(save_memory)
        for seed in (1, 2):  # the second batch sees the running statistics of the first
            x = minigrad.tensor(pictures(3, seed=seed).numpy(), requires_grad=True)
            loss = F.cross_entropy(model(x), [0, 1, 2])
            loss.backward()
        results.append((loss.item(), x.grad.numpy(), model))
    (loss, by_x, model), (other_loss, other_by_x, other) = results
    assert loss == other_loss
    np.testing.assert_array_equal(by_x, other_by_x)
    theirs = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        np.testing.assert_array_equal(parameter.grad.numpy(), theirs[name].grad.numpy(), name)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, other.state_dict()[name], name)


def test_saving_memory_saves_memory():
    x = pictures(4, 16, 16)
    held = []
    for save_memory in (False, True):
        minigrad.manual_seed(0)
        block = DenseBlock(16, 16, growth=8, narrow=1, save_memory=save_memory)
        block(x).sum().backward()  # kernels and scratch memory are made
        gc.collect()
        tracemalloc.start()
        try:
            total = block(x).sum()
            held.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
        total.backward()
    assert held[1] < 0.4 * held[0]


# --- mobile networks --------------------------------------------------------------------------


def test_mobilenet_has_the_sizes_of_its_table():
    model = build("mobilenet_v1")
    shapes = []
    for block in model.blocks:
        block.register_forward_hook(lambda m, given, y: shapes.append((given[0].shape, y.shape)))
    with minigrad.no_grad():
        model.eval()(minigrad.zeros((1, 3, 224, 224)))
    inputs = [shape[2:] + shape[1:2] for shape, _ in shapes]
    assert inputs == [
        (112, 112, 32), (112, 112, 64), (56, 56, 128), (56, 56, 128), (28, 28, 256), (28, 28, 256),
        *[(14, 14, 512)] * 6, (7, 7, 1024),
    ]  # fmt: skip
    assert shapes[-1][1] == (1, 1024, 7, 7)


@pytest.mark.parametrize(
    "width_mult, parameters", [(0.75, 2_585_560), (0.5, 1_331_592), (0.25, 470_072)]
)
def test_mobilenet_of_other_widths(width_mult, parameters):
    # Table 6 of the paper: 2.6, 1.3 and 0.5 million.
    assert size(build("mobilenet_v1", width_mult=width_mult)) == parameters


@pytest.mark.parametrize("width_mult, parameters", [(0.35, 1_677_128), (1.4, 6_108_776)])
def test_mobilenet_v2_of_other_widths(width_mult, parameters):
    model = build("mobilenet_v2", width_mult=width_mult)
    assert size(model) == parameters
    convs = [part for part in model.modules() if isinstance(part, nn.Conv2d)]
    assert all(part.out_channels % 8 == 0 for part in convs)
    assert model.classifier[1].in_features == max(1280, 8 * round(1280 * width_mult / 8))


def test_an_inverted_residual_adds_where_sizes_allow_it():
    x = pictures(2, 8, 6)
    for out_channels, stride, adds in ((8, 1, True), (8, 2, False), (16, 1, False)):
        block = InvertedResidual(8, out_channels, stride, widen=6)
        *_, last = block.conv
        init.zeros_(last.weight)
        found = block(x).numpy()
        assert block.adds == adds
        np.testing.assert_array_equal(found, x.numpy() if adds else np.zeros(found.shape))


def test_mobilenet_stays_within_what_relu6_allows():
    model = models.mobilenet_v1(width_mult=0.25)
    seen = []
    for module in model.modules():
        if isinstance(module, nn.ReLU6):
            module.register_forward_hook(lambda m, given, y: seen.append(y.numpy()))
    model(pictures(2) * 100.0)
    assert len(seen) == 27 and max(y.max() for y in seen) <= 6.0 and min(y.min() for y in seen) == 0
