"""Overlaps, suppression, average precision of finds, and sentences: by counting, and by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad_nn import metrics

SIDE = 12


def painted(boxes):
    """Boxes of whole pixels as masks: their overlap can be counted."""
    masks = np.zeros((len(boxes), SIDE, SIDE), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


corner = st.integers(0, SIDE)
boxes = st.lists(st.tuples(corner, corner, corner, corner), max_size=6)


@given(boxes, boxes)
def test_overlap_is_what_counting_pixels_gives(a, b):
    found = metrics.box_iou(a, b)
    assert found.shape == (len(a), len(b))
    np.testing.assert_allclose(found, metrics.mask_iou(painted(a), painted(b)), atol=1e-12)
    for (i, first), (j, second) in itertools.product(enumerate(painted(a)), enumerate(painted(b))):
        union = (first | second).sum()
        wanted = (first & second).sum() / union if union else 0.0
        assert found[i, j] == pytest.approx(wanted)
    if len(a) == len(b):
        np.testing.assert_array_equal(metrics.paired_box_iou(a, b), np.diag(found))


def test_overlap_of_tensors_and_fractions():
    a = mg.tensor([[0.0, 0.0, 1.5, 1.0]])
    assert metrics.box_iou(a, [[1.0, 0.0, 2.5, 1.0]])[0, 0] == pytest.approx(0.2)


@settings(max_examples=50)
@given(boxes, st.floats(0.05, 0.95), st.booleans(), st.randoms())
def test_suppression_keeps_what_no_better_one_covers(places, threshold, by_class, random):
    scores = [random.choice([0.1, 0.2, 0.5, 0.9]) for _ in places]
    kinds = [random.randrange(2) for _ in places]
    kept = metrics.nms(places, scores, threshold, kinds if by_class else None).tolist()
    iou = metrics.box_iou(places, places)

    def rivals(i):
        """Those that come before i and overlap it too much."""
        return [
            j
            for j in range(len(places))
            if (scores[j], -j) > (scores[i], -i)
            and iou[i, j] > threshold
            and not (by_class and kinds[i] != kinds[j])
        ]

    # What stays and what goes follows from those before; this is the definition itself.
    stays = {}
    for i in sorted(range(len(places)), key=lambda i: (-scores[i], i)):
        stays[i] = not any(stays[j] for j in rivals(i))
    assert kept == [i for i in stays if stays[i]]


def slow_ap(found, truths, threshold, overlap):
    """Average precision of class 0, by counting anew at each score that a find has."""
    positives = sum((np.asarray(names) == 0).sum() for _, names in truths)
    if not positives:
        return math.nan
    pairs = [pair for _, *columns in found for pair in zip(*columns, strict=True)]
    levels = sorted({score for score, name in pairs if name == 0})
    points = []
    for level in levels:
        right = wrong = 0
        for (places, scores, names), (true_places, true_names) in zip(found, truths, strict=True):
            left = [i for i, n in enumerate(true_names) if n == 0]
            mine = [i for i, n in enumerate(names) if n == 0 and scores[i] >= level]
            for i in sorted(mine, key=lambda i: -scores[i]):
                near = [
                    (overlap(places[i : i + 1], true_places[j : j + 1])[0, 0], -j) for j in left
                ]
                if near and max(near)[0] >= threshold:
                    left.remove(-max(near)[1])
                    right += 1
                else:
                    wrong += 1
        points.append((right / positives, right / (right + wrong)))
    area, before = 0.0, 0.0
    for recall in sorted({r for r, _ in points}):
        area += (recall - before) * max(p for r, p in points if r >= recall)
        before = recall
    return area


@st.composite
def pictures(draw):
    place = st.builds(
        lambda x, y, w, h: (x, y, x + w, y + h),
        *(st.integers(0, 3), st.integers(0, 3), st.integers(3, 8), st.integers(3, 8)),
    )
    found, truths = [], []
    for _ in range(draw(st.integers(1, 3))):
        finds = draw(st.lists(place, max_size=5))
        n = len(finds)
        scores = draw(st.lists(st.sampled_from([0.1, 0.3, 0.6, 0.9]), min_size=n, max_size=n))
        names = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
        things = draw(st.lists(place, max_size=4))
        kinds = draw(st.lists(st.integers(0, 1), min_size=len(things), max_size=len(things)))
        found.append((np.reshape(finds, (-1, 4)), scores, names))
        truths.append((np.reshape(things, (-1, 4)), kinds))
    return found, truths


@settings(max_examples=60, deadline=None)
@given(pictures(), st.sampled_from([0.3, 0.5, 0.75]))
def test_average_precision_is_the_counted_one(drawn, threshold):
    found, truths = drawn
    value = metrics.detection_ap(found, truths, 2, threshold)[0]
    wanted = slow_ap(found, truths, threshold, metrics.box_iou)
    assert value == pytest.approx(wanted, nan_ok=True)
    # The same places as masks give the same number.
    found = [(painted(places), s, n) for places, s, n in found]
    truths = [(painted(places), n) for places, n in truths]
    masks = metrics.detection_ap(found, truths, 2, threshold, metrics.mask_iou)[0]
    assert masks == pytest.approx(wanted, nan_ok=True)


def test_average_precision_by_hand():
    one, two = [0, 0, 10, 10], [20, 0, 30, 10]
    truths = [([one, two], [0, 0]), ([one], [0])]
    perfect = [([two, one], [0.2, 0.9], [0, 0]), ([one], [0.5], [0])]
    assert metrics.detection_ap(perfect, truths, 1).tolist() == [1.0]
    # A second find of the same thing is wrong, and one of three is missed: 1/3 at precision 1,
    # then 1/3 at precision 2/3.
    twice = [([one, one], [0.9, 0.8], [0, 0]), ([one], [0.5], [0])]
    assert metrics.detection_ap(twice, truths, 1)[0] == pytest.approx(1 / 3 + 2 / 9)
    # The same place in another picture is another place.
    wrong = [([], [], []), ([two], [0.9], [0])]
    assert metrics.detection_ap(wrong, truths, 1)[0] == 0.0
    # Classes without a thing do not count, those without a find do.
    values = metrics.detection_ap(perfect, [*truths[:1], ([one], [2])], 4)
    np.testing.assert_allclose(values, [2 / 2 * 0.5 + 0.5 * 2 / 3, np.nan, 0.0, np.nan])
    assert metrics.mean_detection_ap(perfect, truths, 3) == 1.0
    assert math.isnan(metrics.mean_detection_ap([([], [], [])], [([], [])], 3))


def test_thresholds_are_averaged():
    truths = [([[0, 0, 10, 10]], [0])]
    found = [([[0, 0, 10, 7]], [0.5], [0])]  # overlaps by 0.7
    assert metrics.mean_detection_ap(found, truths, 1, 0.7) == 1.0
    assert metrics.mean_detection_ap(found, truths, 1, 0.71) == 0.0
    assert metrics.mean_detection_ap(found, truths, 1, [0.5, 0.6, 0.8, 0.9]) == 0.5


# --- sentences ---------------------------------------------------------------------------------

# Papineni and others, "BLEU", 2002, example 1.
FIRST = (
    "it is a guide to action which ensures that the military always obeys the commands of the party"
)
SECOND = "it is to insure the troops forever hearing the activity guidebook that party direct"
WANTED = [
    "it is a guide to action that ensures that the military will forever heed party commands",
    "it is the guiding principle which guarantees the military forces always being under the "
    "command of the party",
    "it is the practical guide for the army always to heed the directions of the party",
]


def test_the_examples_of_the_paper():
    references = [[text.split() for text in WANTED]]
    counts = [
        metrics.ngram_precision([text.split()], references, n)
        for n in (1, 2)
        for text in (FIRST, SECOND)
    ]
    assert counts == [(17, 18), (8, 14), (10, 17), (1, 13)]


def slow_bleu(candidate, references, order):
    """One sentence, each run of words looked for by itself."""
    logs = 0.0
    for n in range(1, order + 1):
        runs = [tuple(candidate[i : i + n]) for i in range(len(candidate) - n + 1)]
        texts = [[tuple(r[i : i + n]) for i in range(len(r) - n + 1)] for r in references]
        right = sum(min(runs.count(u), max(t.count(u) for t in texts)) for u in set(runs))
        if not right:
            return 0.0
        logs += math.log(right / len(runs)) / order
    near = sorted((abs(len(r) - len(candidate)), len(r)) for r in references)[0][1]
    return math.exp(logs + min(0.0, 1 - near / len(candidate)))


words = st.lists(st.sampled_from("abc"), min_size=1, max_size=8)


@given(words, st.lists(words, min_size=1, max_size=3), st.integers(1, 4))
def test_bleu_of_a_sentence(candidate, references, order):
    found = metrics.bleu([candidate], [references], order)
    assert found == pytest.approx(slow_bleu(candidate, references, order))
    assert 0.0 <= found <= 1.0
    if len(candidate) >= order:
        assert metrics.bleu([candidate], [[candidate, *references]], order) == pytest.approx(1.0)


def test_bleu_of_a_text_counts_all_sentences_together():
    candidates, references = [list("ab"), list("cdef")], [[list("abc")], [list("cdxf")]]
    # 1-grams 5 of 6, 2-grams 2 of 4; 6 words where 7 are wanted.
    wanted = math.sqrt(5 / 6 * 2 / 4) * math.exp(1 - 7 / 6)
    assert metrics.bleu(candidates, references, 2) == pytest.approx(wanted)


def test_words_at_their_places():
    assert metrics.word_accuracy([list("abc"), list("xy")], [list("abd"), list("xyz")]) == 4 / 6
    assert metrics.word_accuracy([list("abc")], [list("a")]) == 1 / 3
    assert metrics.exact_match([list("ab"), list("a")], [("a", "b"), ("b",)]) == 0.5
    assert math.isnan(metrics.exact_match([], [])) and math.isnan(metrics.word_accuracy([], []))


BOX = [[0, 0, 1, 1]]
WRONG = [
    (lambda: metrics.box_iou([[0, 0, 1]], BOX), r"\(1, 3\)"),
    (lambda: metrics.box_iou(BOX, [[0, 0, math.nan, 1]]), "NaN"),
    (lambda: metrics.paired_box_iou(BOX, BOX * 2), "got 1 and 2"),
    (lambda: metrics.nms(BOX, [0.5, 0.5]), r"must be \(1,\)"),
    (lambda: metrics.nms(BOX, [0.5], classes=[1, 2]), r"must be \(1,\)"),
    (lambda: metrics.nms(BOX, [math.nan]), "NaN"),
    (lambda: metrics.nms(BOX, [0.5], 1.5), "from 0 to 1"),
    (lambda: metrics.mask_iou(np.ones((1, 2), bool), np.ones((1, 3), bool)), r"\(1, 3\)"),
    (lambda: metrics.detection_ap([], [(BOX, [0])], 1), "of 0 pictures"),
    (lambda: metrics.detection_ap([], [], 1, 0.0), "above 0"),
    (lambda: metrics.detection_ap([(BOX, [0.5], [0])], [(BOX, [-1])], 1), "leave padding out"),
    (lambda: metrics.detection_ap([(BOX, [0.5], [0.0])], [(BOX, [0])], 1), "float64"),
    (lambda: metrics.detection_ap([(BOX, [0.5, 0.1], [0])], [(BOX, [0])], 1), "1 places"),
    (lambda: metrics.detection_ap([(BOX, [math.nan], [0])], [(BOX, [0])], 1), "NaN"),
    (lambda: metrics.mean_detection_ap([], [], 1, []), "at least one"),
    (lambda: metrics.exact_match([["a"]], []), "got 0 and 1"),
    (lambda: metrics.bleu([["a"]], [[]]), "one or more"),
    (lambda: metrics.bleu([["a"]], [["a"]]), "each a list of words"),
    (lambda: metrics.bleu([["a"]], [[["a"]]], 0), "order"),
    (lambda: metrics.ngram_precision([["a"]], [[["a"]]], 0), "n must be"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=[message for _, message in WRONG])
def test_wrong_use_is_told(wrong):
    call, message = wrong
    with pytest.raises(ValueError, match=message):
        call()


def test_wrong_types_are_told():
    with pytest.raises(TypeError, match="booleans"):
        metrics.mask_iou([[0, 1]], [[True, False]])
    with pytest.raises(TypeError, match="split 'a b'"):
        metrics.word_accuracy(["a b"], ["a b"])
