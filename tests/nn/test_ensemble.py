"""Means of predictions: over networks, and over changed pictures."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad.random import Generator
from minigrad_nn import functional as F
from minigrad_nn.data.augment import RandomAffine, RandomShift, shift
from minigrad_nn.ensemble import (
    FixedChange,
    average_predictions,
    five_crops,
    horizontal_flip,
    identity,
    moved,
)
from minigrad_nn.metrics import accuracy

rng = np.random.default_rng(8)
LOGITS = [rng.normal(0, 3, (5, 4, 2)) for _ in range(3)]


def network(seed=0, inputs=12, classes=3):
    mg.random.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, classes))


def test_the_mean_of_probabilities_comes_back_as_logits():
    found = average_predictions([mg.tensor(a) for a in LOGITS]).data
    exps = [np.exp(a) for a in LOGITS]
    wanted = np.mean([e / e.sum(1, keepdims=True) for e in exps], axis=0)
    np.testing.assert_allclose(np.exp(found), wanted, rtol=1e-12)
    np.testing.assert_allclose(F.softmax(found, 1), wanted, rtol=1e-12)


def test_the_mean_of_logits():
    found = average_predictions([mg.tensor(a) for a in LOGITS], "logits").data
    np.testing.assert_allclose(found, np.mean(LOGITS, axis=0), rtol=1e-12)


def test_the_two_means_can_disagree():
    sure, unsure = mg.tensor([[9.0, 0.0]]), [mg.tensor([[0.0, 2.0]])] * 2
    assert accuracy(average_predictions([sure, *unsure]), [1]) == 1.0
    assert accuracy(average_predictions([sure, *unsure], "logits"), [0]) == 1.0


def test_logits_far_apart_give_no_infinity():
    found = average_predictions([mg.tensor([[1e4, 0.0]]), mg.tensor([[-1e4, 0.0]])]).data
    np.testing.assert_allclose(found, np.log([[0.5, 0.5]]), rtol=1e-6)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_an_ensemble_is_the_mean_of_its_members(average):
    models = [network(seed) for seed in range(3)]
    x = mg.tensor(rng.standard_normal((4, 12)).astype("f"))
    together = nn.Ensemble(models, average)
    wanted = average_predictions([model(x) for model in models], average)
    np.testing.assert_array_equal(together(x).data, wanted.data)
    alone = nn.Ensemble([models[0]] * 3, average)(x)
    np.testing.assert_allclose(F.softmax(alone.data, 1), F.softmax(models[0](x).data, 1), rtol=1e-5)
    assert f"average={average!r}" in repr(together)


def test_the_state_of_an_ensemble_moves():
    first = nn.Ensemble([network(0), network(1)])
    assert list(first.state_dict()) == [
        f"members.{i}.1.{name}" for i in (0, 1) for name in ("weight", "bias")
    ]
    second = nn.Ensemble([network(2), network(3)])
    x = mg.tensor(rng.standard_normal((4, 12)).astype("f"))
    assert not (first(x).data == second(x).data).all()
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(first(x).data, second(x).data)


def test_gradients_reach_all_members():
    models = [network(0), network(1)]
    F.cross_entropy(nn.Ensemble(models)(mg.ones((2, 12))), [0, 1]).backward()
    for model in models:
        assert np.abs(model[1].weight.grad.data).max() > 0


def test_modes_reach_all_members():
    together = nn.Ensemble([nn.Dropout(0.5), nn.Dropout(0.5)]).eval()
    assert not any(module.training for module in together.modules())


def test_wrong_ensembles_are_told():
    with pytest.raises(ValueError, match="at least one model"):
        nn.Ensemble([])
    with pytest.raises(ValueError, match="Ensemble: average must be one of.*'median'"):
        nn.Ensemble([network()], "median")
    with pytest.raises(TypeError, match="must be a Module"):
        nn.Ensemble([np.exp])
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3\), \(2, 4\)"):
        nn.Ensemble([network(), network(classes=4)])(mg.ones((2, 12)))
    with pytest.raises(ValueError, match=r"one shape, got \(3,\)"):
        average_predictions([mg.ones(3)])
    with pytest.raises(ValueError, match="no predictions"):
        average_predictions([])
    with pytest.raises(ValueError, match="average must be"):
        average_predictions([mg.ones((2, 3))], "median")


PICTURES = rng.standard_normal((2, 3, 5, 7))


def test_mirrors_and_moves():
    x = mg.tensor(PICTURES)
    assert identity(x) is x
    np.testing.assert_array_equal(horizontal_flip(x).data, PICTURES[..., ::-1])
    for down, right in ((0, 0), (1, -2), (-3, 0), (0, 4), (5, 7), (-9, 9)):
        wanted = shift(PICTURES, np.full(2, down), np.full(2, right))
        np.testing.assert_array_equal(moved(down, right)(x).data, wanted)


def test_five_crops():
    corners = [(0, 0), (0, 4), (3, 0), (3, 4), (1, 2)]
    for crop, (top, left) in zip(five_crops((2, 3)), corners, strict=True):
        wanted = PICTURES[:, :, top : top + 2, left : left + 3]
        np.testing.assert_array_equal(crop(mg.tensor(PICTURES)).data, wanted)
    assert five_crops(5)[4](mg.tensor(PICTURES)).shape == (2, 3, 5, 5)
    with pytest.raises(ValueError, match="6x6 do not fit into pictures of 5x7"):
        five_crops(6)[0](mg.tensor(PICTURES))


def test_a_fixed_change_is_always_the_same():
    x = mg.tensor(PICTURES)
    change = FixedChange(RandomAffine(30.0), seed=4)
    np.testing.assert_array_equal(change(x).data, change(x).data)
    (wanted,) = RandomAffine(30.0)((PICTURES,), Generator(4))
    np.testing.assert_array_equal(change(PICTURES).data, wanted)
    assert not np.array_equal(change(x).data, FixedChange(RandomAffine(30.0), 5)(x).data)


def test_several_looks_are_averaged():
    model = network(inputs=105)
    changes = [identity, horizontal_flip, moved(1, 0), FixedChange(RandomShift(1.0), 3)]
    x = mg.tensor(PICTURES.astype("f"))
    careful = nn.TestTimeAugmentation(model, changes, "logits")
    wanted = np.mean([model(change(x)).data for change in changes], axis=0)
    np.testing.assert_allclose(careful(x).data, wanted, rtol=1e-5, atol=1e-6)
    assert "4 looks" in repr(careful)
    assert list(careful.state_dict()) == ["model.1.weight", "model.1.bias"]


def test_what_a_mirror_cannot_tell_is_told_the_same_for_both():
    careful = nn.TestTimeAugmentation(network(inputs=105), [identity, horizontal_flip])
    x = mg.tensor(PICTURES.astype("f"))
    np.testing.assert_allclose(careful(x).data, careful(horizontal_flip(x)).data, rtol=1e-6)


def test_wrong_looks_are_told():
    with pytest.raises(ValueError, match="at least one change"):
        nn.TestTimeAugmentation(network(), [])
    with pytest.raises(ValueError, match="TestTimeAugmentation: average"):
        nn.TestTimeAugmentation(network(), [identity], "mean")
