"""Synthetic languages: right by their rules, the same by seed, and no test text in training."""

import datetime
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.random import Generator
from minigrad_nn.data import Dates, Reversals, Sentiments
from minigrad_nn.data.synthetic import BAD, FORMATS, GOOD, SPLITS, _Draws, sentiment

LANGUAGES = (Reversals, Dates, Sentiments)


def texts(dataset):
    return dataset.texts if isinstance(dataset, Sentiments) else dataset.sources


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_seed_gives_the_texts(language):
    first, again, other = (language("train", 50, seed) for seed in (1, Generator(1), 2))
    assert texts(first) == texts(again) != texts(other)
    assert texts(language("train", 20, 1)) == texts(first)[:20]
    assert len(set(texts(first))) == len(first) == 50
    assert len(language("test", 0)) == 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_splits_share_nothing(language):
    """Not even with other seeds; dates share not even a day written otherwise."""
    keys = {}
    for split in SPLITS:
        found = [language(split, 400, seed) for seed in (0, 5)]
        keys[split] = {key for d in found for key in (d.targets if language is Dates else texts(d))}
    for split, others in (("train", "test"), ("train", "validation"), ("test", "validation")):
        assert not keys[split] & keys[others]


@pytest.mark.parametrize("language", LANGUAGES)
def test_wrong_arguments_are_told(language):
    with pytest.raises(ValueError, match="split must be one of train, validation, test"):
        language("all")
    with pytest.raises(ValueError, match="count must be at least 0"):
        language("train", -1)


@given(st.integers(0, 2**32), st.integers(2, 6), st.integers(1, 4), st.integers(0, 5))
def test_reversals(seed, letters, shortest, more):
    alphabet = "uvwxyz"[:letters]
    lengths = (shortest + 3, shortest + 3 + more)
    pairs = Reversals("train", 5, seed, alphabet=alphabet, lengths=lengths)
    for source, target in zip(pairs.sources, pairs.targets, strict=True):
        assert target == source[::-1] and set(source) <= set(alphabet)
        assert lengths[0] <= len(source) <= lengths[1]
    assert pairs.source_vocabulary == pairs.target_vocabulary
    assert pairs.target_vocabulary.tokens[3:] == tuple(alphabet)


def test_reversals_that_cannot_be_made_are_told():
    with pytest.raises(ValueError, match="only about .* different texts for 'train', and 9 are"):
        Reversals("train", 9, alphabet="ab", lengths=(1, 2))
    for options in ({"alphabet": "a"}, {"alphabet": "aab"}, {"lengths": (3, 2)}):
        with pytest.raises(ValueError, match="Reversals needs lengths"):
            Reversals(**options)
    with pytest.raises(ValueError, match="lengths must be at least 1"):
        Reversals(lengths=(0, 2))


READERS = (
    "%d %B %Y", "%B %d, %Y", "%A, %B %d, %Y", "%A %d %B %Y", "the %d of %B %Y", "%B %d %Y",
    "%a, %d %b %Y", "%d %b %y", "%d-%b-%y", "%m/%d/%Y", "%m/%d/%y", "%d.%m.%Y", "%d.%m.%y",
    "%Y %B %d", "%Y/%m/%d",
)  # fmt: skip


def read(text):
    """The days that Python's own reader finds in a text, a year of two digits from 1950 on."""
    words = text.lower().split()
    words = [w[:-2] if w[0].isdigit() and w[-2:] in ("st", "nd", "rd", "th") else w for w in words]
    for form in READERS:
        try:
            day = datetime.datetime.strptime(" ".join(words), form).date()
        except ValueError:
            continue
        if "%y" in form and not 1950 <= day.year <= 2049:
            day = day.replace(year=day.year - 100 if day.year > 2049 else day.year + 100)
        if "%a" in form.lower() and day.strftime("%a").lower() != words[0][:3]:
            continue  # the reader does not look at the name of the day
        yield day.isoformat()


@given(st.integers(0, 2**32))
def test_dates_mean_one_day(seed):
    pairs = Dates("train", 20, seed)
    for source, target in zip(pairs.sources, pairs.targets, strict=True):
        assert set(read(source)) == {target}, source
        assert "1950-01-01" <= target <= "2049-12-31"


def test_dates_come_in_all_forms_and_letters():
    pairs = Dates("train", 3000)
    ids, lengths, inputs, targets = pairs[:]
    assert inputs.shape == targets.shape == (3000, 11) and ids.shape[1] == lengths.max()
    assert pairs.target_vocabulary.decode(targets[7, :10]) == pairs.targets[7]
    shapes = Counter("".join(c if not c.isalnum() else "" for c in s) for s in pairs.sources)
    assert len(shapes) >= 7 and len(FORMATS) == 15
    for letters in (str.islower, str.isupper, str.istitle):
        assert sum(map(letters, pairs.sources)) > 200


def clauses(sentence):
    return sentence.replace(" but ", " and ").replace(" although ", " and ").split(" and ")


def halves(sentence):
    word = next((w for w in (" but ", " although ") if w in sentence), None)
    return word, [sentence] if word is None else sentence.split(word)


def meaning(clause):
    """Another reader than the generator's: how often the sense turns, from the word on."""
    words = clause.split()
    turns = sum(word in ("not", "never", "hardly") for word in words)
    return (words[-1] in GOOD) ^ (turns % 2)


class TestSentiments:
    sentences = Sentiments("train", 6000)

    def test_clauses_agree_and_halves_oppose(self):
        for text, label in zip(self.sentences.texts, self.sentences.labels, strict=True):
            word, parts = halves(text)
            said = [{meaning(clause) for clause in clauses(part)} for part in parts]
            assert all(len(meanings) == 1 for meanings in said), text
            said = [meanings.pop() for meanings in said]
            assert label == said[-1 if word == " but " else 0] == sentiment(text)
            assert len(said) == 1 or said[0] != said[1]
            assert all(clause.split()[-1] in GOOD + BAD for clause in clauses(text))

    def test_classes_and_forms_are_balanced(self):
        assert abs(self.sentences.labels.mean() - 0.5) < 0.03
        forms = Counter(halves(text)[0] for text in self.sentences.texts)
        assert 0.4 < forms[None] / 6000 < 0.55
        assert min(forms[" but "], forms[" although "]) / 6000 > 0.22

    def test_exchanged_halves_say_the_opposite_in_the_same_words(self):
        for text in self.sentences.texts:
            word, parts = halves(text)
            if word is not None:
                mirrored = f"{parts[1]}{word}{parts[0]}"
                assert sentiment(mirrored) == 1 - sentiment(text)
                assert Counter(mirrored.split()) == Counter(text.split())

    def test_a_bag_of_words_does_not_tell(self):
        """The best rule that a linear classifier finds for words is far from right."""
        vocabulary = self.sentences.vocabulary
        bags = np.zeros((6000, len(vocabulary)))
        ids = self.sentences[:][0]
        np.add.at(bags, (np.arange(6000)[:, None], ids), 1.0)
        bags[:, vocabulary.number("<pad>")] = 1
        signs = self.sentences.labels * 2.0 - 1
        best = np.linalg.lstsq(bags[:3000], signs[:3000], rcond=None)[0]
        assert (np.sign(bags[3000:] @ best) == signs[3000:]).mean() < 0.8


def test_draws_are_even():
    draw = _Draws(Generator(0))
    counts = np.bincount([draw.below(7) for _ in range(14_000)])
    assert len(counts) == 7 and (np.abs(counts - 2000) < 200).all()
