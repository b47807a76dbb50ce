"""Freezing, learning rates by layer, new heads, features, and the lecture's three cases."""

import numpy as np
import pytest

import minigrad
import minigrad_nn as nn
from minigrad_nn import functional as F
from minigrad_nn import models
from minigrad_nn.transfer import (
    features,
    freeze,
    layerwise_groups,
    replace_head,
    transfer,
    unfreeze,
)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3)
        self.body = nn.Sequential(
            nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        )
        self.pool = nn.GlobalAvgPool()
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        return self.fc(self.pool(self.body(self.stem(x))))


def learning(model):
    return [name for name, p in model.named_parameters() if p.requires_grad]


def picture(n=4):
    rng = np.random.default_rng(0)
    return minigrad.tensor(rng.standard_normal((n, 1, 8, 8)).astype(np.float32))


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (("stem",), ["body.0", "body.3", "body.4", "fc"]),
        (("body",), ["stem", "fc"]),
        (("body.*",), ["stem", "fc"]),
        (("body.?", "fc"), ["stem"]),
        (("*.bias",), None),
        ((), []),
    ],
)
def test_patterns_name_parameters_and_modules(patterns, left):
    model = Net()
    frozen = freeze(model, *patterns)
    if left is None:
        assert learning(model) == [n for n, _ in model.named_parameters() if not n.endswith("bias")]
    else:
        assert list(dict.fromkeys(n.rpartition(".")[0] for n in learning(model))) == left
    assert sorted(frozen + learning(model)) == sorted(n for n, _ in model.named_parameters())
    assert unfreeze(model, *patterns) == frozen
    assert len(learning(model)) == len(list(model.parameters()))
    assert not any(m.frozen for m in model.modules())


def test_a_pattern_that_nothing_matches_is_refused_before_anything_changes():
    model = Net()
    with pytest.raises(ValueError, match=r"'bodi'; near are .*body"):
        freeze(model, "stem", "bodi")
    assert len(learning(model)) == len(list(model.parameters()))


def test_what_is_frozen_keeps_weights_and_statistics_while_the_rest_learns():
    model = Net()
    freeze(model, "stem", "body")
    before = model.state_dict()
    optimizer = nn.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        model.train()
        assert model.training and model.fc.training and not model.body[0].training
        assert not model.body[2].training, "dropout in a frozen part is off"
        loss = F.cross_entropy(model(picture()), [0, 1, 2, 3])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = model.state_dict()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"fc.weight", "fc.bias"}
    unfreeze(model, "body")
    model.train()
    assert model.body[0].training and model.body[2].training
    model(picture())
    assert not np.array_equal(
        model.state_dict()["body.0.running_mean"], after["body.0.running_mean"]
    )


def test_layers_learn_slower_the_earlier_they_come():
    model = Net()
    groups = layerwise_groups(model, 1.0, decay=0.1)
    assert [round(g["lr"], 6) for g in groups] == [0.01, 0.1, 1.0]
    assert [len(g["params"]) for g in groups] == [2, 6, 2]
    freeze(model, "stem")
    groups = layerwise_groups(model, 1.0, decay=0.1)
    assert [round(g["lr"], 6) for g in groups] == [0.1, 1.0]
    groups = layerwise_groups(model, 1.0, 0.5, layers=["stem", "body.0", "body", "fc"])
    assert [g["lr"] for g in groups] == [0.25, 0.5, 1.0]
    assert [len(g["params"]) for g in groups] == [2, 4, 2]
    nn.optim.SGD(groups, lr=0.1)
    with pytest.raises(ValueError, match=r"no layer has body.0.weight"):
        layerwise_groups(model, 1.0, layers=["stem", "fc"])
    for settings in ({"lr": 0.0}, {"lr": 1.0, "decay": 0.0}, {"lr": 1.0, "decay": 1.1}):
        with pytest.raises(ValueError, match=r"layerwise_groups: "):
            layerwise_groups(model, **settings)


def test_a_new_head_keeps_everything_else_and_its_place():
    model = Net().eval()
    before = model.state_dict()
    assert replace_head(model, 9) == ["fc"]
    after = model.state_dict()
    assert list(after) == list(before)
    for name in before:
        assert name.startswith("fc") or np.array_equal(before[name], after[name])
    assert after["fc.weight"].shape == (9, 4) and not model.fc.training
    assert model(picture()).shape == (4, 9)


@pytest.mark.parametrize(
    ("make", "heads"),
    [
        (lambda: models.resnet20(), ["fc"]),
        (lambda: models.LeNet5(), ["output"]),
        (lambda: models.mobilenet_v1(width_mult=0.25), None),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 7, 1)), ["2"]),
    ],
)
def test_heads_are_found(make, heads):
    model = make()
    found = replace_head(model, 3)
    assert heads is None or found == heads
    assert [p.shape[0] for n, p in model.named_parameters() if n.startswith(found[-1])] == [3, 3]


def test_googlenets_three_heads_are_found():
    assert set(models.GoogLeNet.heads) == {"aux1.fc2", "aux2.fc2", "fc"}


def test_a_head_that_cannot_be_replaced_is_refused():
    ends_in_norm = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match=r"is BatchNorm1d.*head='path'"):
        replace_head(ends_in_norm, 4)
    assert replace_head(ends_in_norm, 4, head="0") == ["0"]
    with pytest.raises(ValueError, match=r"'9' is nothing; the last ones are 0"):
        replace_head(ends_in_norm, 4, head="9")
    with pytest.raises(ValueError, match=r"own head"):
        replace_head(nn.Linear(2, 3), 4)
    with pytest.raises(ValueError, match=r"classes must be"):
        replace_head(Net(), 0)


def test_features_are_what_the_head_reads():
    model = Net().eval()
    x = picture()
    found = features(model, x)
    assert found.shape == (4, 4)
    assert np.array_equal(model.fc(found).numpy(), model(x).numpy())
    assert features(model, x, "body.3").shape == (4, 3, 6, 6)
    assert not model.fc._hooks
    with pytest.raises(ValueError, match=r"no module 'bodi'"):
        features(model, x, "bodi")
    model.unused = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"did not call 'unused'"):
        features(model, x, "unused")


@pytest.mark.parametrize(
    ("labels", "case", "first"),
    [
        (1, "tiny", "fc.weight"),
        (499, "tiny", "fc.weight"),
        (500, "small", "body.3.weight"),
        (1000, "small", "body.3.weight"),
        (1001, "large", "stem.weight"),
    ],
)
def test_the_three_cases_of_the_lecture(labels, case, first):
    for settings in ({"labels_per_class": labels}, {"case": case}):
        model = Net()
        freeze(model, "stem")
        done = transfer(model, 3, **settings, last=1)
        assert done.case == case and done.heads == ["fc"]
        assert done.learning == learning(model) and done.learning[0] == first
        names = [name for name, _ in model.named_parameters()]
        assert done.frozen + done.learning == names
        assert model.fc.weight.shape == (3, 4)


def test_transfer_refuses_what_it_cannot_do():
    for settings in (
        {},
        {"labels_per_class": 3, "case": "tiny"},
        {"labels_per_class": 0},
        {"case": "huge"},
        {"case": "small", "last": 0},
    ):
        with pytest.raises(ValueError, match=r"transfer: "):
            transfer(Net(), 3, **settings)
    with pytest.raises(ValueError, match=r"no convolutional layer"):
        transfer(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), 3, case="small")
