"""Networks that PyTorch's layers make too: character RNNs, SegNet, and FCN's way back to pixels."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import minigrad
from minigrad_nn import functional as F
from minigrad_nn import init, models

rng = np.random.default_rng(0)


def load(theirs, ours):
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})


def same_gradients(ours, theirs, tolerance=1e-5):
    gradients = {name: p.grad.numpy() for name, p in ours.named_parameters() if p.requires_grad}
    found = {name: p.grad.numpy() for name, p in theirs.named_parameters() if p.requires_grad}
    assert gradients.keys() == found.keys()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, found[name], rtol=1e-3, atol=tolerance, err_msg=name)


class TheirCharRNN(nn.Module):
    def __init__(self, kind, words, hidden, layers, embedding):
        super().__init__()
        self.words = words
        self.embedding = None if embedding is None else nn.Embedding(words, embedding)
        self.rnn = getattr(nn, kind)(embedding or words, hidden, layers)
        self.head = nn.Linear(hidden, words)

    def forward(self, x):
        one_hot = self.embedding is None
        vectors = nn.functional.one_hot(x, self.words).float() if one_hot else self.embedding(x)
        return self.head(self.rnn(vectors)[0])


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("embedding", [None, 5])
def test_a_character_rnn_is_that_of_pytorch(kind, embedding):
    ours = models.CharRNN(7, 6, layers=2, kind=kind.lower(), embedding=embedding)
    theirs = TheirCharRNN(kind, 7, 6, 2, embedding)
    load(theirs, ours)
    x, y = rng.integers(0, 7, (5, 3)), rng.integers(0, 7, (5, 3))
    logits = ours(x)[0]
    wanted = theirs(torch.from_numpy(x))
    np.testing.assert_allclose(logits.numpy(), wanted.detach().numpy(), atol=1e-5)
    F.cross_entropy(logits.reshape(-1, 7), y.reshape(-1)).backward()
    nn.functional.cross_entropy(wanted.flatten(0, 1), torch.from_numpy(y).flatten()).backward()
    same_gradients(ours, theirs)


class TheirSegNet(nn.Module):
    def __init__(self, classes, channels, widths, depths):
        super().__init__()

        def stage(given, width, depth, last):
            sizes = [given] + [width] * (depth - 1) + [last]
            parts = []
            for a, b in itertools.pairwise(sizes):
                parts += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
            return nn.Sequential(*parts)

        below = [channels, *widths[:-1]]
        rows = list(zip(below, widths, depths, strict=True))
        self.encoder = nn.ModuleList([stage(a, b, d, b) for a, b, d in rows])
        self.decoder = nn.ModuleList([stage(b, b, d, a) for a, b, d in rows[:0:-1]])
        self.decoder.append(stage(widths[0], widths[0], depths[0] - 1, widths[0]))
        self.classifier = nn.Conv2d(widths[0], classes, 3, padding=1)

    def forward(self, x):
        handed = []
        for stage in self.encoder:
            x = stage(x)
            size = x.shape[2:]
            x, indices = nn.functional.max_pool2d(x, 2, return_indices=True)
            handed.append((indices, size))
        for stage in self.decoder:
            indices, size = handed.pop()
            x = stage(nn.functional.max_unpool2d(x, indices, 2, output_size=size))
        return self.classifier(x)


def test_segnet_is_the_same_network_in_pytorch():
    settings = (4, 1, (3, 5), (2, 3))
    ours, theirs = models.SegNet(*settings), TheirSegNet(*settings)
    load(theirs, ours)
    x = rng.standard_normal((2, 1, 13, 10)).astype("f")
    y = rng.integers(0, 4, (2, 13, 10))
    logits, wanted = ours(minigrad.tensor(x)), theirs(torch.from_numpy(x))
    np.testing.assert_allclose(logits.numpy(), wanted.detach().numpy(), atol=1e-4)
    F.cross_entropy(logits, y).backward()
    nn.functional.cross_entropy(wanted, torch.from_numpy(y)).backward()
    same_gradients(ours, theirs, 1e-4)


def test_fcn_is_the_same_network_in_pytorch():
    """FCN-16s of small widths, cropped by 5 and 27 as the paper does."""
    ours = models.FCN(3, 1, 16, (2, 2, 3, 3, 2), (1, 1, 2, 1, 1), fc_width=4, dropout=0.0)
    for layer in (ours.score, *ours.skips):
        init.normal_(layer.weight)
    weights = {k: torch.from_numpy(v).requires_grad_() for k, v in ours.state_dict().items()}
    conv, up = nn.functional.conv2d, nn.functional.conv_transpose2d

    def layer(name, x, padding=0):
        return conv(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=padding)

    x, y = rng.standard_normal((1, 1, 37, 50)).astype("f"), rng.integers(0, 3, (1, 37, 50))
    h, maps = torch.from_numpy(x), []
    for stage, depth in enumerate((1, 1, 2, 1, 1)):
        for i in range(depth):
            h = layer(f"stages.{stage}.{2 * i}", h, 1 if stage or i else 100).relu()
        h = nn.functional.max_pool2d(h, 2, ceil_mode=True)
        maps.append(h)
    h = layer("score", layer("fc7", layer("fc6", h).relu()).relu())
    h = up(h, weights["up.0.weight"], stride=2)
    skip = layer("skips.0", maps[3])
    h = h + skip[:, :, 5 : 5 + h.shape[2], 5 : 5 + h.shape[3]]
    wanted = up(h, weights["upscore.weight"], stride=16, groups=3)[:, :, 27 : 27 + 37, 27 : 27 + 50]
    logits = ours(minigrad.tensor(x))
    np.testing.assert_allclose(logits.numpy(), wanted.detach().numpy(), atol=1e-4)
    F.cross_entropy(logits, y).backward()
    nn.functional.cross_entropy(wanted, torch.from_numpy(y)).backward()
    for name, parameter in ours.named_parameters():
        if parameter.requires_grad:
            found = weights[name].grad.numpy()
            np.testing.assert_allclose(parameter.grad.numpy(), found, rtol=1e-3, atol=1e-5)
