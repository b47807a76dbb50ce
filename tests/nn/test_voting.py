"""Things from pixels that vote: targets by definition, and things found again from true votes."""

import numpy as np
import pytest

import minigrad as mg
from minigrad_nn.data import BACKGROUND, Scenes
from minigrad_nn.metrics import mask_iou, mean_detection_ap
from minigrad_nn.models.voting import Votes, group_votes, vote_targets, voting_loss

UNIT = 16.0


@pytest.fixture(scope="module")
def scenes():
    """Pictures of which many digits touch."""
    return Scenes(
        length=12, digits=(3, 5), size=48, hidden=0.3, source="digits",
        targets=("classes", "counts", "class_map", "instance_map"),
    )[:]  # fmt: skip


def test_ways_lead_to_the_mean_place(scenes):
    numbers = scenes[4]
    votes = vote_targets(numbers)
    rows, columns = np.indices(numbers.shape[1:])
    for picture, bumps, ways in zip(numbers, votes.bumps, votes.ways, strict=True):
        assert not ways[:, picture < 0].any()
        for k in range(picture.max() + 1):
            mine = picture == k
            ends = np.stack([rows + ways[0], columns + ways[1]])[:, mine]
            np.testing.assert_allclose(ends - ends[:, :1], 0.0, atol=1e-4)
            centre = np.array([rows[mine].mean(), columns[mine].mean()])
            np.testing.assert_allclose(ends[:, 0], centre, atol=1e-4)
            near = np.round(centre).astype(int)
            away = ((near - centre) ** 2).sum()
            assert bumps[tuple(near)] >= np.float32(np.exp(-away / 8.0)) * 0.9999
        assert bumps.max() <= 1.0
    assert (votes.things == (numbers >= 0)).all()


def perfect(scenes):
    """Answers that say the truth, sure of it."""
    _, _, _, class_map, numbers = scenes
    votes = vote_targets(numbers)
    answers = np.zeros((len(numbers), 14, *numbers.shape[1:]))
    np.put_along_axis(answers[:, :11], class_map[:, None], 20.0, axis=1)
    p = np.clip(votes.bumps.astype(np.float64), 1e-6, 1 - 1e-6)
    answers[:, 11] = np.log(p / (1 - p))
    answers[:, 12:] = votes.ways / UNIT
    return answers, votes


def truths(scenes):
    _, classes, counts, _, numbers = scenes
    return [
        (picture[None] == np.arange(n)[:, None, None], names[:n])
        for picture, names, n in zip(numbers, classes, counts, strict=True)
    ]


def test_true_votes_give_the_things(scenes):
    answers, _ = perfect(scenes)
    found = group_votes(answers, UNIT)
    assert mean_detection_ap(found, truths(scenes), 10, 0.99, mask_iou) == 1.0
    for (masks, scores, _), (wanted, _) in zip(found, truths(scenes), strict=True):
        assert len(masks) == len(wanted)
        assert (np.diff(scores) <= 0).all() and (scores > 0.8).all()


def test_votes_part_what_touches(scenes):
    """Without votes pixels go to the nearest centre, which is another thing's for some."""
    answers, _ = perfect(scenes)
    masks = mean_detection_ap(group_votes(answers, 0.0), truths(scenes), 10, 0.95, mask_iou)
    assert masks < 0.9


def test_the_loss_of_true_votes_is_the_least(scenes):
    answers, votes = perfect(scenes)
    class_map = scenes[3]
    best = voting_loss(mg.tensor(answers), class_map, votes, UNIT).item()
    for channel in (int(class_map[0, 0, 0]), 11, 12, 13):
        wrong = answers.copy()
        wrong[:, channel] += 1.0 if channel > 10 else -25.0
        assert voting_loss(mg.tensor(wrong), class_map, votes, UNIT).item() > best + 0.01
    # Where nothing is, no way is asked for.
    wrong = answers.copy()
    wrong[:, 12:] += 5.0 * (class_map == BACKGROUND)[:, None]
    assert voting_loss(mg.tensor(wrong), class_map, votes, UNIT).item() == pytest.approx(best)


def test_gradients():
    numbers = np.array([[[0, 0, -1], [-1, 1, 1], [-1, 1, 1]]])
    class_map = np.where(numbers < 0, 2, numbers)
    answers = mg.random.Generator(0).normal((1, 6, 3, 3), dtype=np.float64)
    votes = vote_targets(numbers, width=0.7)
    mg.check_gradients(lambda x: voting_loss(x, class_map, votes, 2.0), mg.tensor(answers))


def test_a_plateau_is_one_thing():
    answers = np.zeros((1, 5, 9, 9))  # one class and the background
    answers[0, 1] = 5.0
    answers[0, :2, 2:7, 2:7] = [[[5.0]], [[0.0]]]
    answers[0, 2] = -9.0
    answers[0, 2, 4, 3:6] = 2.0  # three equal peaks side by side
    ((masks, scores, classes),) = group_votes(answers, 0.0)
    assert masks.sum((1, 2)).tolist() == [25] and classes.tolist() == [0]
    sure = 1 / (1 + np.exp(-5.0))
    assert scores[0] == pytest.approx(sure / (1 + np.exp(-2.0)))
    assert len(group_votes(answers, 0.0, radius=0)[0][0]) == 3
    assert len(group_votes(answers, 0.0, smallest=26)[0][0]) == 0


def test_nothing_is_found_where_nothing_is():
    answers = np.zeros((1, 5, 6, 6))
    answers[0, 2] = -9.0
    ((masks, scores, classes),) = group_votes(answers)
    assert masks.shape == (0, 6, 6) and scores.shape == classes.shape == (0,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vote_targets(np.zeros((2, 2), int)), r"\(N, H, W\)"),
        (lambda: vote_targets(np.zeros((1, 2, 2))), "float64"),
        (lambda: vote_targets(np.zeros((1, 2, 2), int), 0.0), "width"),
        (lambda: group_votes(np.zeros((1, 4, 2, 2))), r"\(1, 4, 2, 2\)"),
        (
            lambda: voting_loss(
                mg.zeros((1, 5, 2, 2)),
                np.zeros((1, 2, 2), int),
                Votes(np.zeros((1, 3, 3)), np.zeros((1, 2, 3, 3)), np.zeros((1, 3, 3), bool)),
            ),
            "same pictures",
        ),
    ],
)
def test_wrong_use_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
