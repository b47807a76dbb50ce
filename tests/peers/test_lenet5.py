"""LeNet-5 beside the same network in PyTorch: logits, gradients, and weights that go both ways."""

import numpy as np
import safetensors.torch
import torch
from torch import nn

import minigrad
from minigrad_nn import functional as F
from minigrad_nn import io, models

TWIN = {
    "c1": nn.Conv2d(1, 6, 5, padding=2),
    "c3": nn.Conv2d(6, 16, 5),
    "c5": nn.Conv2d(16, 120, 5),
    "f6": nn.Linear(120, 84),
    "output": nn.Linear(84, 10),
}


def twin(x):
    x = nn.functional.avg_pool2d(TWIN["c1"](x).tanh(), 2)
    x = nn.functional.avg_pool2d(TWIN["c3"](x).tanh(), 2)
    x = TWIN["c5"](x).tanh().flatten(1)
    return TWIN["output"](TWIN["f6"](x).tanh())


def test_weights_logits_and_gradients_are_those_of_pytorch(tmp_path):
    modules = nn.ModuleDict(TWIN)
    model = models.LeNet5()
    path = tmp_path / "torch.safetensors"
    safetensors.torch.save_file(modules.state_dict(), path)
    found = io.load_weights(path, model)
    assert found == {"missing": [], "unexpected": []}

    x = np.random.default_rng(0).normal(size=(5, 1, 28, 28)).astype(np.float32)
    labels = np.array([3, 1, 4, 1, 5])
    logits = model(minigrad.tensor(x))
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    theirs = twin(torch.from_numpy(x))
    nn.functional.cross_entropy(theirs, torch.from_numpy(labels)).backward()
    np.testing.assert_allclose(logits.numpy(), theirs.detach().numpy(), atol=1e-5)
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters()}
    for name, parameter in modules.named_parameters():
        np.testing.assert_allclose(gradients[name], parameter.grad.numpy(), rtol=1e-3, atol=1e-6)


def test_pytorch_reads_our_weights_and_checkpoints(tmp_path):
    model = models.LeNet5()
    path = io.save_weights(tmp_path / "ours.safetensors", model)
    theirs = safetensors.torch.load_file(path)
    assert list(theirs) and set(theirs) == set(model.state_dict())
    nn.ModuleDict(TWIN).load_state_dict(theirs)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(theirs[name].numpy(), array)
    checkpoint = io.save_checkpoint(tmp_path / "run.safetensors", model=model)
    assert "model/c1.weight" in safetensors.torch.load_file(checkpoint)
