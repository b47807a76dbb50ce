"""Residual, dense and mobile networks beside torchvision's: names, logits, every gradient.

Gradients are compared in float64.  While training, batch norm divides by what few values vary by,
and a ReLU whose input is 1e-8 here and -1e-8 there hands on all or nothing: through tens of layers,
rounding in float32 grows into the second digit of gradients, on both sides alike.  In float64 all
but the last digits must agree.
"""

import re

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

import minigrad
from minigrad_nn import functional as F
from minigrad_nn import init, io, models
from minigrad_nn.models import densenet

SOME = ["resnet18", "resnet50", "densenet121", "mobilenet_v2"]
OTHERS = ["resnet34", "resnet101", "resnet152", "densenet169", "densenet201"]
NAMES = [*SOME, *(pytest.param(name, marks=pytest.mark.full) for name in OTHERS)]
CLASSES = 10


def perturbed(theirs):
    """Weights and statistics as after a training, so that every number of the state matters."""
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.3, 0.3)
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
                module.num_batches_tracked.fill_(7)
    return theirs


def torchvisions(name):
    """A network of torchvision with random weights; dropout would differ by chance."""
    torch.manual_seed(0)
    without = {"dropout": 0.0} if name == "mobilenet_v2" else {}
    theirs = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES, **without)
    return perturbed(theirs)


def ours_like(theirs, model, folder):
    """Our network with the weights of theirs, by way of a file: one format for each type."""
    path = folder / "weights"
    if next(theirs.parameters()).dtype == torch.float64:
        torch.save(theirs.state_dict(), path)
        model.astype(np.float64)
    else:
        safetensors.torch.save_file(theirs.state_dict(), path)
    done = io.load_pretrained(model, path)
    assert done == (list(theirs.state_dict()), [], [], [])
    return model


def without_weights(name, **settings):
    """Our network, to be loaded into."""
    if name == "mobilenet_v2":
        settings["dropout"] = 0.0
    with init.without_drawing():
        return getattr(models, name)(CLASSES, **settings)


def compare(theirs, model, train, side=64):
    """Logits, the gradient of every parameter, and the state after a step in this mode."""
    batch = np.random.default_rng(1).standard_normal((2, 3, side, side))
    labels = np.array([3, 1])
    logits = model.train(train)(minigrad.tensor(batch))
    F.cross_entropy(logits, labels).backward()
    wanted = theirs.train(train)(torch.from_numpy(batch))
    nn.functional.cross_entropy(wanted, torch.from_numpy(labels)).backward()

    np.testing.assert_allclose(logits.numpy(), wanted.detach().numpy(), rtol=1e-9, atol=1e-10)
    gradients = {key: p.grad.numpy() for key, p in theirs.named_parameters()}
    found = {key: p.grad.numpy() for key, p in model.named_parameters()}
    assert list(found) == list(gradients)
    # Shifts that the next batch norm takes away have gradients of 0, and so only rounding.
    rounding = 1e-11 * max(np.abs(g).max() for g in gradients.values())
    for key, gradient in gradients.items():
        np.testing.assert_allclose(found[key], gradient, rtol=1e-7, atol=rounding, err_msg=key)
    state = model.state_dict()
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(state[key], value.numpy(), rtol=1e-9, atol=1e-12, err_msg=key)
    return found


@pytest.mark.parametrize("name", [*SOME, *OTHERS])
def test_the_state_has_torchvisions_names_shapes_and_order(name):
    with torch.device("meta"):  # shapes without numbers
        theirs = getattr(torchvision.models, name)(weights=None).state_dict()
    with init.without_drawing():
        ours = getattr(models, name)().state_dict()
    assert [(k, v.shape) for k, v in ours.items()] == [(k, (*v.shape,)) for k, v in theirs.items()]
    assert {k: str(v.dtype) for k, v in ours.items()} == {
        k: str(v.dtype).removeprefix("torch.") for k, v in theirs.items()
    }


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", NAMES)
def test_logits_and_all_gradients_are_torchvisions(name, train, tmp_path):
    theirs = torchvisions(name).double()
    compare(theirs, ours_like(theirs, without_weights(name), tmp_path), train)


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_torchvisions_in_float32(name, tmp_path):
    theirs = torchvisions(name).eval()
    model = ours_like(theirs, without_weights(name), tmp_path).eval()
    batch = np.random.default_rng(2).standard_normal((2, 3, 64, 64)).astype(np.float32)
    with minigrad.no_grad(), torch.no_grad():
        found, wanted = model(minigrad.tensor(batch)).numpy(), theirs(torch.from_numpy(batch))
    np.testing.assert_allclose(found, wanted.numpy(), atol=2e-5 * float(wanted.abs().max()))


def test_the_lectures_stride_is_torchvisions_with_two_strides_exchanged(tmp_path):
    theirs = torchvisions("resnet50").double()
    for stage in (theirs.layer2, theirs.layer3, theirs.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    compare(theirs, ours_like(theirs, without_weights("resnet50", stride_on="1x1"), tmp_path), True)


def test_dense_networks_that_save_memory_have_torchvisions_gradients(tmp_path):
    theirs = torchvisions("densenet121").double()
    model = without_weights("densenet121", save_memory=True)
    compare(theirs, ours_like(theirs, model, tmp_path), True)


def test_the_names_in_torchvisions_files_of_dense_networks_are_understood(tmp_path):
    state = torchvisions("densenet121").state_dict()
    old = {re.sub(r"(layer\d+\.[a-z]+)([12])\.", r"\1.\2.", name): state[name] for name in state}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "densenet121.pth")
    model = without_weights("densenet121")
    with pytest.raises(io.MismatchError):
        io.load_pretrained(model, tmp_path / "densenet121.pth")
    io.load_pretrained(model, tmp_path / "densenet121.pth", rename=densenet.name_today)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[name].numpy(), err_msg=name)


class Zeros(nn.Module):
    """Every second pixel, and as many channels of zeros."""

    def forward(self, x):
        x = x[:, :, ::2, ::2]
        return torch.cat([x, torch.zeros_like(x)], dim=1)


def torch_resnet20():
    """The CIFAR network of torchvision's blocks, with names in the order of ours."""
    block = torchvision.models.resnet.BasicBlock
    stages = [
        nn.Sequential(
            block(below, channels, stride, Zeros() if stride == 2 else None),
            block(channels, channels),
            block(channels, channels),
        )
        for below, channels, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
    ]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES)]
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *stages, *head
    )


def torch_mobilenet(width=0.25):
    """MobileNet of torch's layers, down the table of the lecture."""
    parts = []

    def add(*convolution, **settings):
        parts.extend([nn.Conv2d(*convolution, bias=False, **settings)])
        parts.extend([nn.BatchNorm2d(convolution[1]), nn.ReLU6()])

    widths = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    widths = [int(w * width) for w in widths]
    add(3, widths[0], 3, stride=2, padding=1)
    for given, gives, stride in zip(widths[:-1], widths[1:], strides, strict=True):
        add(given, given, 3, stride=stride, padding=1, groups=given)
        add(given, gives, 1)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], CLASSES)]
    return nn.Sequential(*parts, *head)


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    "twin, name, settings, side",
    [
        (torch_resnet20, "resnet20", {}, 32),
        (torch_mobilenet, "mobilenet_v1", {"width_mult": 0.25}, 64),
    ],
)
def test_networks_that_torchvision_lacks_are_those_of_torchs_layers(
    twin, name, settings, side, train
):
    torch.manual_seed(0)
    theirs = perturbed(twin()).double()
    model = without_weights(name, **settings).astype(np.float64)
    state = theirs.state_dict()
    names = list(model.state_dict())
    assert len(names) == len(state)
    model.load_state_dict(dict(zip(names, (v.numpy() for v in state.values()), strict=True)))
    # Under our names, so that all can be compared by name.
    rename = dict(zip(state, names, strict=True))
    theirs.state_dict = lambda: {rename[k]: v for k, v in nn.Module.state_dict(theirs).items()}
    theirs.named_parameters = lambda: [
        (rename[k], p) for k, p in nn.Module.named_parameters(theirs)
    ]
    compare(theirs, model, train, side)
