"""AlexNet, ZFNet, VGG and GoogLeNet: the lecture's volumes and parameters, names, errors."""

import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad_nn import layers, models
from minigrad_nn.data import ArrayDataset, Loader
from minigrad_nn.functional import cross_entropy
from minigrad_nn.init import without_drawing
from minigrad_nn.metrics import accuracy
from minigrad_nn.module import Sequential
from minigrad_nn.optim import Adam
from minigrad_nn.train import fit


def undrawn(make, *args, **settings):
    """A network whose weights are 0: big ones are made at once."""
    with without_drawing():
        return make(*args, **settings).eval()


def parameters(model):
    return sum(p.size for p in model.parameters())


def shapes(model, x):
    """The shape of what each part gives, by its path, without the batch."""
    found = {}

    def keep(path):
        def hook(module, args, output):
            found.setdefault(path, output.shape[1:])

        return hook

    for path, module in model.named_modules():
        module.register_forward_hook(keep(path))
    with mg.no_grad():
        model(x)
    return found


ALEXNET = {
    "conv1": (96, 55, 55),
    "pool1": (96, 27, 27),
    "norm1": (96, 27, 27),
    "conv2": (256, 27, 27),
    "pool2": (256, 13, 13),
    "norm2": (256, 13, 13),
    "conv3": (384, 13, 13),
    "conv4": (384, 13, 13),
    "conv5": (256, 13, 13),
    "pool3": (256, 6, 6),
    "fc6": (4096,),
    "fc7": (4096,),
    "fc8": (1000,),
}


def test_alexnet_has_the_volumes_and_units_of_the_lecture():
    model = undrawn(models.AlexNet)
    found = shapes(model, mg.zeros((1, 3, 227, 227)))
    wanted = dict(ALEXNET)
    assert {path: shape for path, shape in found.items() if path in wanted} == wanted
    assert set(found) == {"", *wanted, "relu", "dropout"}
    learned = [p for p, m in model.named_modules() if isinstance(m, layers.Conv2d | layers.Linear)]
    assert sum(np.prod(found[path]) for path in learned) == 659_272


@pytest.mark.parametrize(
    "make, settings, count",
    [
        (models.AlexNet, {}, 60_965_224),
        (models.AlexNet, {"groups": 1}, 62_378_344),
        (models.alexnet, {}, 61_100_840),
        (models.ZFNet, {}, 107_627_624),
        (models.ZFNet, {"widths": (384, 384, 256)}, 62_357_608),
        (models.VGG, {"configuration": "A"}, 132_863_336),
        (models.VGG, {"configuration": "A-LRN"}, 132_863_336),
        (models.VGG, {"configuration": "B"}, 133_047_848),
        (models.VGG, {"configuration": "C"}, 133_638_952),
        (models.VGG, {"configuration": "D"}, 138_357_544),
        (models.VGG, {"configuration": "E"}, 143_667_240),
        (models.vgg11, {}, 132_863_336),
        (models.vgg13, {}, 133_047_848),
        (models.vgg16, {}, 138_357_544),
        (models.vgg19, {}, 143_667_240),
        # Two numbers for each channel that is normalised.
        (models.vgg11_bn, {}, 132_863_336 + 2 * 2752),
        (models.vgg13_bn, {}, 133_047_848 + 2 * 2944),
        (models.vgg16_bn, {}, 138_357_544 + 2 * 4224),
        (models.vgg19_bn, {}, 143_667_240 + 2 * 5504),
        (models.googlenet, {}, 13_004_888),
        (models.googlenet, {"aux_logits": False}, 6_624_904),
    ],
)
def test_parameters_are_those_of_the_lecture_and_of_torchvision(make, settings, count):
    assert parameters(undrawn(make, **settings)) == count


@pytest.mark.parametrize(
    "make, count",
    [
        (models.alexnet, 16),
        (models.vgg11, 22),
        (models.vgg19, 38),
        (models.vgg11_bn, 22 + 8 * 5),
        (models.vgg19_bn, 38 + 16 * 5),
        (models.googlenet, 364),
    ],
)
def test_states_have_as_many_names_as_torchvisions(make, count):
    model = undrawn(make)
    names = [name for name, _ in model._tensors()]
    assert len(names) == count
    norms = [name for name in names if name.endswith("num_batches_tracked")]
    assert len(norms) == sum(isinstance(m, layers.BatchNorm2d) for m in model.modules())


def test_the_table_of_alexnets_docstring_is_right():
    model = undrawn(models.AlexNet)
    for name, part in model.named_children():
        if parameters(part):
            (line,) = (s for s in models.AlexNet.__doc__.splitlines() if s.strip().startswith(name))
            assert line.split()[-1] == f"{parameters(part):,}"
            assert f"(N, {', '.join(map(str, ALEXNET[name]))})" in line


def test_zfnet_halves_in_conv2_and_keeps_alexnets_13_by_13():
    model = undrawn(models.ZFNet)
    assert model.conv1.kernel_size == (7, 7) and model.conv1.stride == 2
    found = shapes(model, mg.zeros((1, 3, 224, 224)))
    for name, part in model.named_children():
        lines = [s for s in models.ZFNet.__doc__.splitlines() if s.strip().startswith(name + " ")]
        if name in found and lines:
            assert f"(N, {', '.join(map(str, found[name]))})" in lines[0]
            assert not parameters(part) or lines[0].split()[-1] == f"{parameters(part):,}"
    assert found["conv2"] == (256, 26, 26)
    assert found["conv5"] == (512, 13, 13)
    with pytest.raises(ValueError, match="widths must be three numbers"):
        models.ZFNet(widths=(1, 2))


@pytest.mark.parametrize(
    "configuration, count",
    [("A", 11), ("A-LRN", 11), ("B", 13), ("C", 16), ("D", 16), ("E", 19)],
)
def test_vgg_has_the_layers_that_its_name_counts(configuration, count):
    model = undrawn(models.VGG, configuration)
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(layers.Conv2d) + kinds.count(layers.Linear) == count
    assert kinds.count(layers.MaxPool2d) == 5
    assert kinds.count(layers.LocalResponseNorm) == (configuration == "A-LRN")
    ones = [m for m in model.modules() if isinstance(m, layers.Conv2d) and m.kernel_size == (1, 1)]
    assert len(ones) == 3 * (configuration == "C")
    for path, shape in shapes(model, mg.zeros((1, 3, 32, 32))).items():
        if isinstance(dict(model.named_modules())[path], layers.Conv2d):
            assert shape[1] in (32, 16, 8, 4, 2)
        if path == "avgpool":
            assert shape == (512, 7, 7)


def test_vgg_a_lrn_normalises_behind_its_first_relu():
    kinds = [type(module) for module in undrawn(models.VGG, "A-LRN").features]
    assert kinds[:4] == [layers.Conv2d, layers.ReLU, layers.LocalResponseNorm, layers.MaxPool2d]


def test_the_normalisation_is_that_of_the_paper():
    x = np.random.default_rng(0).standard_normal((2, 7, 3, 3)).astype(np.float32)
    found = undrawn(models.AlexNet).norm1(mg.tensor(x)).numpy()
    squares = np.pad(np.square(x), ((0, 0), (2, 2), (0, 0), (0, 0)))
    near = sum(squares[:, i : i + 7] for i in range(5))
    np.testing.assert_allclose(found, x / (2 + 1e-4 * near) ** 0.75, rtol=1e-6)


GOOGLENET = {
    "maxpool1": (64, 56, 56),
    "maxpool2": (192, 28, 28),
    "inception3a": (256, 28, 28),
    "inception3b": (480, 28, 28),
    "maxpool3": (480, 14, 14),
    "inception4a": (512, 14, 14),
    "inception4b": (512, 14, 14),
    "inception4c": (512, 14, 14),
    "inception4d": (528, 14, 14),
    "inception4e": (832, 14, 14),
    "maxpool4": (832, 7, 7),
    "inception5a": (832, 7, 7),
    "inception5b": (1024, 7, 7),
    "avgpool": (1024,),
    "fc": (1000,),
}


@pytest.mark.parametrize("third_filter", [3, 5])
def test_googlenet_has_the_volumes_of_its_table(third_filter):
    model = undrawn(models.googlenet, third_filter=third_filter)
    found = shapes(model, mg.zeros((1, 3, 224, 224)))
    assert {name: found[name] for name in GOOGLENET} == GOOGLENET
    assert model.inception3a.branch3[1].conv.kernel_size == (third_filter, third_filter)
    assert model.conv1.bn.eps == 0.001


@pytest.fixture(scope="module")
def googlenet():
    mg.manual_seed(0)
    return models.googlenet(classes=4, dropout=0.0, dropout_aux=0.0)


def pictures(count=2, side=48):
    return np.random.default_rng(1).standard_normal((count, 3, side, side)).astype(np.float32)


def test_googlenet_returns_three_heads_while_training_and_one_after(googlenet):
    x, labels = mg.tensor(pictures()), np.array([1, 3])
    output = googlenet.train()(x)
    assert isinstance(output, models.GoogLeNetOutput)
    assert [head.shape for head in output] == [(2, 4)] * 3
    parts = [cross_entropy(head, labels).item() for head in output]
    found = models.auxiliary_cross_entropy(output, labels)
    assert found.item() == pytest.approx(parts[0] + 0.3 * (parts[1] + parts[2]), rel=1e-6)
    none = models.auxiliary_cross_entropy(output, labels, weight=0.0).item()
    assert none == pytest.approx(parts[0], rel=1e-6)

    found.backward()
    gradients = {name: p.grad for name, p in googlenet.named_parameters()}
    assert all(g is not None and np.abs(g.numpy()).max() > 0 for g in gradients.values())
    googlenet.zero_grad()
    googlenet.eval()
    logits = googlenet(x)
    assert logits.shape == (2, 4)
    alone = models.auxiliary_cross_entropy(logits, labels).item()
    assert alone == pytest.approx(cross_entropy(logits, labels).item())
    without = models.googlenet(classes=4, aux_logits=False)
    assert without.aux1 is None and without.train()(x).shape == (2, 4)


def test_googlenet_is_trained_by_its_three_heads():
    mg.manual_seed(0)
    model = models.googlenet(classes=2, dropout=0.0, dropout_aux=0.0)
    labels = np.arange(8) % 2
    data = pictures(8, 32) + labels.reshape(-1, 1, 1, 1).astype(np.float32)
    loader = Loader(ArrayDataset(data, labels), batch_size=8)
    run = fit(
        model,
        loader,
        Adam(model.parameters(), lr=1e-3),
        epochs=3,
        loss=models.auxiliary_cross_entropy,
        metrics={"accuracy": lambda y, t: accuracy(models.main_logits(y), t)},
        validation=loader,
    )
    assert run.history[-1]["loss"] < 0.5 * run.history[0]["loss"]
    assert set(run.history[0]) >= {"accuracy", "validation_accuracy"}


def test_googlenet_transforms_what_imagenet_normalised(googlenet):
    mean, deviation = (
        np.array(v).reshape(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    raw = np.random.default_rng(2).random((2, 3, 48, 48))
    other = models.googlenet(classes=4, transform_input=True).eval()
    other.load_state_dict(googlenet.state_dict())
    googlenet.eval()
    wanted = googlenet(mg.tensor(((raw - 0.5) / 0.5).astype(np.float32))).numpy()
    found = other(mg.tensor(((raw - mean) / deviation).astype(np.float32))).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)
    assert list(other.state_dict()) == list(googlenet.state_dict())
    with pytest.raises(ValueError, match="3 channels, got 1"):
        models.googlenet(transform_input=True, in_channels=1)
    with pytest.raises(ValueError, match="third_filter must be odd"):
        models.googlenet(third_filter=4)


def test_pictures_that_do_not_fit_are_told_by_the_networks_name():
    nets = {
        "AlexNet": undrawn(models.AlexNet, 2),
        "alexnet": undrawn(models.alexnet, 2),
        "ZFNet": undrawn(models.ZFNet, 2),
        "VGG": undrawn(models.vgg11, 2),
        "GoogLeNet": undrawn(models.googlenet, 2),
    }
    for name, model in nets.items():
        for shape, said in (
            ((3, 224, 224), r"must be \(N, 3, H, W\), got shape \(3, 224, 224\); add the batch"),
            ((1, 1, 224, 224), rf"got shape \(1, 1, 224, 224\); {name}\(in_channels=1\)"),
        ):
            with pytest.raises(ValueError, match=f"^{name}: pictures .*{said}"):
                model(mg.zeros(shape))
    with pytest.raises(
        ValueError, match=r"^AlexNet: .* \(N, 3, 227, 227\), got .*224, 224\): crop"
    ):
        nets["AlexNet"](mg.zeros((1, 3, 224, 224)))
    with pytest.raises(ValueError, match=r"^ZFNet: .*3, 224, 224\), got .*227, 227\): crop"):
        nets["ZFNet"](mg.zeros((1, 3, 227, 227)))
    with pytest.raises(ValueError, match="A, A-LRN, B, C, D, E, got 'F'"):
        models.VGG("F")
    assert undrawn(models.AlexNet, 2, in_channels=1)(mg.zeros((1, 1, 227, 227))).shape == (1, 2)


@pytest.mark.parametrize(
    "make, smallest, room", [("alexnet", 63, ""), ("vgg11", 32, ""), ("googlenet", 31, "SMALLEST")]
)
def test_the_smallest_pictures_are_the_smallest(make, smallest, room, monkeypatch):
    model = undrawn(getattr(models, make), 2)
    assert model(mg.zeros((1, 3, smallest, smallest))).shape == (1, 2)
    less = mg.zeros((1, 3, smallest, smallest - 1))
    with pytest.raises(ValueError, match=f"at least {smallest} pixels high and wide"):
        model(less)
    # Without the check, a layer far inside refuses.
    if room:
        monkeypatch.setattr(sys.modules[type(model).__module__], room, 1)
    with pytest.raises(ValueError, match="larger than its padded input"):
        (model if room else model.features)(less)


def small(model, *names):
    """The network with few weights in its fully connected layers, drawn anew."""
    for name in names:
        setattr(model, name, layers.Linear(3, 3))
    model.reset_parameters()
    return model


@pytest.mark.parametrize("make", [models.AlexNet, models.ZFNet])
def test_weights_start_as_the_papers_say(make):
    model = small(undrawn(make), "fc6", "fc7", "fc8")
    for module in (model.conv1, model.conv2, model.conv3, model.conv4, model.conv5):
        assert module.weight.numpy().std() == pytest.approx(0.01, rel=0.05)
    assert model.fc8.weight.numpy().any()
    ones = {name for name, p in model.named_parameters() if (p.numpy() == 1).all()}
    zeros = {name for name, p in model.named_parameters() if (p.numpy() == 0).all()}
    opened = ("conv2", "conv4", "conv5", "fc6", "fc7") if make is models.AlexNet else ()
    assert ones == {f"{name}.bias" for name in opened}
    assert ones | zeros == {name for name, _ in model.named_parameters() if "bias" in name}


def test_other_weights_start_as_torchvisions(googlenet):
    model = undrawn(models.VGG, "A", batch_norm=True)
    model.classifier = Sequential(layers.Linear(100, 100))
    model.reset_parameters()
    for module in model.features:
        if isinstance(module, layers.Conv2d):
            scale = np.sqrt(2 / (module.out_channels * 9))
            assert module.weight.numpy().std() == pytest.approx(scale, rel=0.1)
            assert not module.bias.numpy().any()
    last = model.classifier[0]
    assert last.weight.numpy().std() == pytest.approx(0.01, rel=0.05) and not last.bias.data.any()

    fresh = googlenet.inception4e.branch1.conv.weight.numpy()
    assert fresh.std() == pytest.approx(0.01, rel=0.02)
    assert googlenet.aux1.fc1.weight.numpy().std() == pytest.approx(0.01, rel=0.01)
    assert 0 < np.abs(googlenet.aux1.fc1.bias.numpy()).max() <= 1 / np.sqrt(2048)

    model = undrawn(models.alexnet)
    model.classifier = Sequential(layers.Linear(100, 100))
    model.reset_parameters()
    for module in model.modules():
        if isinstance(module, layers.Conv2d | layers.Linear):
            bound = 1 / np.sqrt(np.prod(module.weight.shape[1:]))
            assert 0.95 * bound < np.abs(module.weight.numpy()).max() <= bound
            assert 0 < np.abs(module.bias.numpy()).max() <= bound


def test_the_same_seed_gives_the_same_weights():
    mg.manual_seed(0)
    again = models.googlenet(classes=4).state_dict()
    mg.manual_seed(1)
    other = models.googlenet(classes=4).state_dict()
    mg.manual_seed(0)
    first = models.googlenet(classes=4, dropout=0.0).state_dict()
    assert all((again[name] == value).all() for name, value in first.items())
    assert (other["fc.weight"] != first["fc.weight"]).any()


def test_dropout_is_what_was_asked_for():
    def rates(model):
        return [m.p for m in model.modules() if isinstance(m, layers.Dropout)]

    assert rates(undrawn(models.AlexNet, 2)) == [0.5]
    assert rates(undrawn(models.alexnet, 2, dropout=0.1)) == [0.1, 0.1]
    assert rates(undrawn(models.vgg11, 2)) == [0.5, 0.5]
    assert rates(undrawn(models.googlenet, 2)) == [0.7, 0.7, 0.2]
    assert rates(undrawn(models.googlenet, 2, dropout=0.4, dropout_aux=0.6)) == [0.6, 0.6, 0.4]
