"""The grid detector: which cell answers for what, what its loss pulls at, and back to boxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn.data import Scenes
from minigrad_nn.metrics import mean_detection_ap
from minigrad_nn.models import GridDetector
from minigrad_nn.models.detector import assign_cells, box_numbers, boxes_of

GRID, STRIDE, ANCHOR = (4, 6), 8, 20.0


def detector(classes=10):
    mg.random.manual_seed(0)
    return GridDetector(nn.Conv2d(1, 4, 8, stride=8), 4, classes, STRIDE, ANCHOR)


@given(
    st.lists(
        st.tuples(
            *(st.floats(0, 47), st.floats(0, 31), st.floats(0.5, 40), st.floats(0.5, 40)),
        ),
        max_size=5,
    )
)
def test_numbers_are_boxes_again(drawn):
    """Whatever cell a box is seen from."""
    boxes = np.array([(x - w, y - h, x + w, y + h) for x, y, w, h in drawn]).reshape(-1, 4)
    rows, columns = np.arange(len(boxes)) % 4, np.arange(len(boxes)) % 3
    numbers = box_numbers(boxes, rows, columns, STRIDE, ANCHOR)
    np.testing.assert_allclose(boxes_of(numbers, rows, columns, STRIDE, ANCHOR), boxes, atol=1e-9)


def test_the_formula_of_the_paper():
    # Centre (14, 10), 10 wide and 20 high, seen from the cell with centre (12, 12).
    numbers = box_numbers([[9, 0, 19, 20]], [1], [1], 8, 20.0)
    np.testing.assert_allclose(numbers, [[2 / 8, -2 / 8, np.log(0.5), 0.0]])


def test_the_cell_of_the_centre_answers():
    boxes = np.zeros((2, 3, 4))
    boxes[0, :2] = [[0, 0, 10, 10], [36, 24, 48, 32]]
    boxes[1, 0] = [7, 7, 9, 9]  # the centre lies on a corner of cells: the later one has it
    classes = np.array([[3, 0, -1], [5, -1, -1]])
    found = assign_cells(boxes, classes, GRID, STRIDE, ANCHOR)
    assert np.argwhere(found.present).tolist() == [[0, 0, 0], [0, 3, 5], [1, 1, 1]]
    assert [found.classes[tuple(i)] for i in np.argwhere(found.present)] == [3, 0, 5]
    assert (found.classes == -1).sum() == found.classes.size - 3
    assert not found.numbers.transpose(0, 2, 3, 1)[found.present == 0].any()


def test_of_two_in_a_cell_the_nearer_one_stays_and_of_as_near_the_one_in_front():
    near, far, front = [0, 0, 8, 8], [1, 1, 9, 11], [1, 1, 7, 7]
    for boxes, wanted in (([near, far], 4), ([far, near], 6), ([near, front], 6)):
        found = assign_cells([boxes], [[4, 6]], GRID, STRIDE, ANCHOR)
        assert found.classes[0, 0, 0] == wanted
        width = boxes[0 if wanted == 4 else 1][2] - boxes[0 if wanted == 4 else 1][0]
        assert found.numbers[0, 2, 0, 0] == np.float32(np.log(width / ANCHOR))


def test_the_cells_around_a_centre_answer_together():
    # The centre (11, 22) lies between the middles of four cells: rows 2 and 3, columns 0 and 1.
    box = np.array([[[6, 12, 16, 32]]])
    found = assign_cells(box, [[4]], GRID, STRIDE, ANCHOR, reach=1.0)
    cells = np.argwhere(found.present)[:, 1:]
    assert cells.tolist() == [[2, 0], [2, 1], [3, 0], [3, 1]]
    numbers = found.numbers[0][:, cells[:, 0], cells[:, 1]].T
    np.testing.assert_allclose(boxes_of(numbers, *cells.T, STRIDE, ANCHOR), box[0].repeat(4, 0))
    # At the edge there are fewer; and with another thing near, each cell has the nearer one.
    corner = assign_cells([[[0, 0, 4, 4]]], [[4]], GRID, STRIDE, ANCHOR, reach=1.0)
    assert np.argwhere(corner.present).tolist() == [[0, 0, 0]]
    both = np.concatenate([box, box - [[[0, 8, 0, 8]]]], axis=1)
    for order in ([0, 1], [1, 0]):
        found = assign_cells(both[:, order], [order], GRID, STRIDE, ANCHOR, reach=1.0)
        assert found.classes[0, :, 0].tolist() == [-1, 1, 0, 0]


def perfect(boxes, classes):
    """Answers that say the truth, sure of it."""
    wanted = assign_cells(boxes, classes, (8, 8), STRIDE, ANCHOR, reach=1.0)
    answers = np.zeros((len(wanted.present), 15, 8, 8))
    answers[:, 0] = np.where(wanted.present > 0, 20.0, -20.0)
    answers[:, 1:5] = wanted.numbers
    n, row, column = np.nonzero(wanted.present)
    answers[n, 5 + wanted.classes[n, row, column], row, column] = 20.0
    return answers


def test_true_answers_cost_nothing_and_are_found():
    scenes = Scenes(length=20, digits=(1, 3), hidden=0.0, source="digits", seed=3)
    _, classes, boxes = scenes[:]
    answers = perfect(boxes, classes)
    assert 0 <= detector().loss(mg.tensor(answers), boxes, classes).item() < 1e-6
    found = detector().detect(answers)
    truths = [(b[c >= 0], c[c >= 0]) for b, c in zip(boxes, classes, strict=True)]
    assert mean_detection_ap(found, truths, 10, 0.99) == 1.0
    for (places, scores, names), (true_places, true_names) in zip(found, truths, strict=True):
        assert len(places) == len(true_places)
        assert (scores > 0.99).all()
        assert sorted(names) == sorted(true_names)


def test_each_wrong_answer_costs():
    _, classes, boxes = Scenes(length=4, digits=(2, 2), source="digits")[:]
    answers = perfect(boxes, classes)
    n, row, column = (i[0] for i in np.nonzero(answers[:, 0] > 0))
    for place in (0, 1, 2, 3, 4, 5 + int(answers[n, 5:, row, column].argmax())):
        wrong = answers.copy()
        wrong[n, place, row, column] -= 25.0
        assert detector().loss(mg.tensor(wrong), boxes, classes).item() > 0.1
    # A box or a class told by a cell in which nothing is does not matter; a yes does.
    n, row, column = (i[0] for i in np.nonzero(answers[:, 0] < 0))
    answers[n, 1:, row, column] = 9.0
    assert detector().loss(mg.tensor(answers), boxes, classes).item() < 1e-6
    answers[n, 0, row, column] = 20.0
    assert detector().loss(mg.tensor(answers), boxes, classes).item() > 0.1


def test_neighbours_that_mean_the_same_are_suppressed():
    answers = perfect(np.array([[[10, 10, 30, 30]]]), np.array([[7]]))  # centre in cell 2, 2
    answers[0, 0] = -20.0
    answers[0, 0, 2, 2:4] = 20.0, 3.0  # the second is less sure
    assert [len(boxes) for boxes, _, _ in detector().detect(answers)] == [1]
    (boxes, scores, names) = detector().detect(answers, iou_threshold=1.0)[0]
    np.testing.assert_allclose(boxes, [[10, 10, 30, 30]] * 2)
    assert scores[0] > scores[1] == pytest.approx(1 / (1 + np.exp(-3.0)), rel=1e-6)
    assert names.tolist() == [7, 7]
    assert len(detector().detect(answers, threshold=0.99, iou_threshold=1.0)[0][0]) == 1


def test_before_training_it_says_no():
    pictures = mg.tensor(Scenes(length=2, source="digits")[:][0])
    answers = detector()(pictures)
    assert answers.shape == (2, 15, 8, 8)
    assert float(1 / (1 + np.exp(-answers.numpy()[:, 0])).mean()) == pytest.approx(0.05, abs=0.01)
    assert detector().detect(answers, threshold=0.5)[0][0].shape == (0, 4)


def test_the_loss_of_empty_pictures_asks_for_a_no():
    answers = mg.tensor(np.zeros((1, 15, 4, 4)), requires_grad=True)
    detector().loss(answers, np.zeros((1, 2, 4)), np.full((1, 2), -1)).backward()
    grad = answers.grad.numpy()
    assert (grad[:, 0] > 0).all() and not grad[:, 1:].any()


def test_gradients():
    boxes, classes = np.array([[[2, 2, 15, 20], [17, 4, 30, 30]]]), np.array([[1, 0]])
    model = detector(2)

    def loss(answers):
        return model.loss(answers, boxes, classes)

    answers = mg.random.Generator(0).normal((1, 7, 4, 4), dtype=np.float64)
    mg.check_gradients(loss, mg.tensor(answers))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: assign_cells(np.zeros((1, 4)), [0], GRID, 8, 9.0), r"got \(1, 4\)"),
        (lambda: assign_cells([[[4, 4, 9, 9]]], [[0]], GRID, 8, 9.0, reach=0.4), "reach"),
        (lambda: assign_cells([[[4, 4, 4, 9]]], [[0]], GRID, 8, 9.0), "empty"),
        (lambda: assign_cells([[[44, 2, 54, 9]]], [[0]], GRID, 8, 9.0), "outside of 4x6"),
        (lambda: GridDetector(nn.Identity(), 1, 0, 8, 9.0), "at least 1"),
        (lambda: GridDetector(nn.Identity(), 1, 1, 8, 9.0)(mg.zeros((1, 1, 16, 16))), "2x2 cells"),
    ],
)
def test_wrong_use_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
