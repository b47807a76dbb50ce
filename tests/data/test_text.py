"""Text as numbers and back, windows and streams of one text, and many short texts padded."""

import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad_nn.data import (
    Characters,
    DataFileError,
    LabelledTexts,
    Lines,
    Loader,
    Names,
    Shakespeare,
    Streams,
    Text,
    TextPairs,
    Vocabulary,
    Windows,
    Words,
    pad_sequences,
)
from minigrad_nn.data.sequences import IGNORED, SPECIALS

words = st.text("abcdefg", min_size=1, max_size=9)


class TestVocabulary:
    @given(st.text(min_size=1), st.lists(words, max_size=3, unique=True))
    def test_text_comes_back(self, text, names):
        vocabulary = Characters.of(text, [f"<{name}>" for name in names])
        numbers = vocabulary.encode(text)
        assert numbers.dtype == np.int64 and len(numbers) == len(text)
        assert numbers.min() >= len(names) and numbers.max() < len(vocabulary)
        assert vocabulary.decode(numbers) == text
        assert [vocabulary.tokens[number] for number in numbers] == list(text)

    @given(st.lists(words, min_size=1))
    def test_words_come_back(self, texts):
        vocabulary = Words.of(texts)
        text = "  ".join(texts)
        assert vocabulary.decode(vocabulary.encode(text)) == " ".join(texts)
        assert list(vocabulary.tokens) == sorted(set(texts))

    def test_special_tokens_come_first_and_are_not_in_texts(self):
        vocabulary = Words.of("b a", specials=["<pad>", "<end>"])
        assert vocabulary.tokens == ("<pad>", "<end>", "a", "b")
        assert vocabulary.number("<end>") == 1 and vocabulary.number("b") == 3
        assert vocabulary.decode([3, 1, 2, 0]) == "b a"
        with pytest.raises(ValueError, match=r"'<end>' at place 1 of the text"):
            vocabulary.encode("a <end>")

    def test_nothing_is_nothing(self):
        vocabulary = Characters("ab")
        assert vocabulary.encode("").tolist() == [] and vocabulary.decode([]) == ""

    def test_equality_is_of_kind_and_tokens(self):
        assert Characters("ab") == Characters(["a", "b"]) != Characters("ba")
        assert hash(Characters("ab")) == hash(Characters(["a", "b"]))
        assert Characters("ab") != Words("ab") and Characters("ab") != Characters("b", "a")
        assert Characters("ab") != "ab"

    def test_unknown_tokens_are_told_with_their_place(self):
        with pytest.raises(ValueError, match=r"'x' at place 2 of the text .* \(2 unknown tokens"):
            Characters("ab").encode("abxay")
        with pytest.raises(ValueError, match="'x' is not in the vocabulary: Characters of 2 tok"):
            Characters("ab").number("x")

    @pytest.mark.parametrize(
        "numbers, error, message",
        [
            ([0, 2], ValueError, "from 0 to 1, got 0 to 2"),
            ([IGNORED], ValueError, "from 0 to 1, got -100 to -100"),
            ([0.0], TypeError, "float64"),
            ([[0]], TypeError, r"shape \(1, 1\)"),
        ],
    )
    def test_numbers_that_stand_for_nothing_are_told(self, numbers, error, message):
        with pytest.raises(error, match=message):
            Characters("ab").decode(numbers)

    def test_vocabularies_that_are_none_are_told(self):
        with pytest.raises(ValueError, match="different tokens, got none"):
            Characters("")
        with pytest.raises(ValueError, match=r"got \['a'\] more than once"):
            Characters("aba")
        with pytest.raises(ValueError, match=r"single characters, got \['ab'\]"):
            Characters(["ab"])
        with pytest.raises(NotImplementedError, match="use Characters or Words"):
            Vocabulary("ab").encode("ab")


class TestText:
    @given(st.text(min_size=2), st.floats(0, 1))
    def test_parts_share_the_vocabulary_and_make_the_whole(self, text, place):
        whole = Text(text)
        if not 0 < int(len(text) * place) < len(text):
            with pytest.raises(ValueError):
                whole.part(0, place), whole.part(place, 1)
            return
        parts = [whole.part(0, place), whole.part(place, 1)]
        assert "".join(part.text for part in parts) == text
        assert np.concatenate([part.ids for part in parts]).tolist() == whole.ids.tolist()
        assert all(part.vocabulary is whole.vocabulary for part in parts)

    def test_a_text_of_words(self):
        text = Text("to be or not to be", Words.of("to be or not"))
        assert len(text) == 6 and text.part(0.5, 1).text == "not to be"
        assert repr(text) == "Text of 6 tokens, 4 different"

    def test_files_are_read_as_utf8(self, tmp_path):
        path = tmp_path / "text"
        path.write_bytes("naïve".encode())
        assert Text.read(path).text == "naïve"
        path.write_bytes("naïve".encode("latin-1"))
        with pytest.raises(DataFileError, match=r"text is no text in UTF-8"):
            Text.read(path)
        path.write_bytes(b"")
        with pytest.raises(DataFileError, match="text is empty"):
            Text.read(path)
        with pytest.raises(ValueError, match="got an empty one"):
            Text("")

    @pytest.mark.parametrize("start, stop", [(0.5, 0.5), (-0.1, 1), (0, 1.1), (0.6, 0.5)])
    def test_wrong_parts_are_told(self, start, stop):
        with pytest.raises(ValueError, match="0 <= start < stop <= 1"):
            Text("abcdef").part(start, stop)


class TestWindows:
    @given(st.integers(2, 30), st.data())
    def test_targets_are_the_inputs_one_later(self, size, data):
        length = data.draw(st.integers(1, size - 1))
        windows = Windows(np.arange(size) + 100, length)
        assert len(windows) == size - length
        inputs, targets = windows[:]
        assert inputs.tolist() == [
            [100 + i + t for t in range(length)] for i in range(len(windows))
        ]
        assert np.array_equal(targets, inputs + 1)
        one, after = windows[len(windows) - 1]
        assert one.shape == (length,) and after[-1] == 99 + size

    def test_wrong_windows_are_told(self):
        with pytest.raises(ValueError, match="a text of 3 tokens has no 3 with one after them"):
            Windows([1, 2, 3], 3)
        with pytest.raises(ValueError, match="length must be at least 1"):
            Windows([1, 2, 3], 0)
        with pytest.raises(TypeError, match="whole numbers"):
            Windows([1.0, 2.0], 1)


class TestStreams:
    @given(st.integers(2, 60), st.data())
    def test_each_stream_is_read_on_from_batch_to_batch(self, size, data):
        streams = data.draw(st.integers(1, size - 1))
        length = data.draw(st.integers(1, 20))
        loader = Streams(np.arange(size), streams, length)
        batches = list(loader)
        assert len(batches) == len(loader)
        assert all(len(x) == length for x, _ in batches[:-1]) and 0 < len(batches[-1][0]) <= length
        inputs = np.concatenate([x for x, _ in batches])
        targets = np.concatenate([y for _, y in batches])
        steps = (size - 1) // streams
        assert inputs.shape == targets.shape == (steps, streams)
        assert inputs.T.ravel().tolist() == list(range(steps * streams))
        assert np.array_equal(targets, inputs + 1)
        assert size - 1 - inputs.size < streams

    def test_drop_last_leaves_whole_batches(self):
        loader = Streams(np.arange(12), 2, 2, drop_last=True)
        assert [x.shape for x, _ in loader] == [(2, 2)] * 2 and len(loader) == 2
        with pytest.raises(ValueError, match="drop_last leaves no batch: a stream has 5 tokens"):
            Streams(np.arange(12), 2, 6, drop_last=True)

    @given(st.integers(0, 12))
    def test_a_position_is_restored(self, cut):
        def run(loader):
            while loader.epoch < 3:
                for x, y in loader:
                    yield x.tolist(), y.tolist(), json.dumps(loader.state_dict())

        wanted = list(run(Streams(np.arange(40), 3, 4)))
        cut = min(cut, len(wanted) - 1)
        loader = Streams(np.arange(40), 3, 4)
        loader.load_state_dict(json.loads(wanted[cut][2]))
        assert list(run(loader)) == wanted[cut + 1 :]

    def test_a_position_of_other_streams_is_told(self):
        state = Streams(np.arange(40), 3, 4).state_dict()
        for other in (Streams(np.arange(40), 3, 5), Streams(np.arange(40), 2, 4)):
            with pytest.raises(ValueError, match="the position would mean other samples"):
                other.load_state_dict(state)

    def test_batches_are_copies(self):
        loader = Streams(np.arange(9), 2, 3)
        first = [x.tolist() for x, _ in loader]
        for x, y in loader:
            x += 1
            y += 1
        assert [x.tolist() for x, _ in loader] == first

    def test_a_text_that_is_too_short_is_told(self):
        with pytest.raises(ValueError, match="a text of 4 tokens is too short for 4 streams"):
            Streams(np.arange(4), 4, 1)
        for batch_size, length in ((0, 1), (1, 0)):
            with pytest.raises(ValueError, match="must be at least 1"):
                Streams(np.arange(4), batch_size, length)


class TestSequences:
    @given(st.lists(st.lists(st.integers(-5, 5), max_size=6), max_size=5))
    def test_pad_keeps_each_sequence(self, sequences):
        padded, lengths = pad_sequences(sequences, value=9)
        assert padded.shape == (len(sequences), max(map(len, sequences), default=0))
        for row, length, sequence in zip(padded, lengths, sequences, strict=True):
            assert row[:length].tolist() == sequence and (row[length:] == 9).all()

    def test_pad_tells_other_shapes(self):
        with pytest.raises(ValueError, match=r"got shape \(1, 1\)"):
            pad_sequences([[1], [[2]]])

    @given(st.lists(words, min_size=1, max_size=8), st.data())
    def test_lines_are_started_ended_and_padded(self, texts, data):
        lines = Lines(texts, lengths=True)
        chosen = np.array(data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=5)), int)
        inputs, targets, lengths = lines[chosen]
        start, end = lines.vocabulary.number("<start>"), lines.vocabulary.number("<end>")
        longest = max((len(texts[i]) for i in chosen), default=0) + 1
        assert inputs.shape == targets.shape == (len(chosen), longest)
        for i, x, y, length in zip(chosen, inputs, targets, lengths, strict=True):
            ids = lines.vocabulary.encode(texts[i]).tolist()
            assert length == len(ids) + 1 == lines.lengths[i]
            assert x.tolist() == [start, *ids] + [0] * (longest - length)
            assert y.tolist() == [*ids, end] + [IGNORED] * (longest - length)
        assert len(Lines(texts)[chosen]) == 2

    def test_a_single_text(self):
        x, y, length = Lines(["ab", "abcd"], lengths=True)[0]
        assert (x.tolist(), y.tolist(), int(length)) == ([1, 3, 4], [3, 4, 2], 3)
        ids, length, label = LabelledTexts(["ab", ""], [7, 5])[-1]
        assert (ids.tolist(), int(length), int(label)) == ([], 0, 5)
        with pytest.raises(IndexError):
            Lines(["ab"])[1]

    def test_pairs_for_encoder_and_decoder(self):
        pairs = TextPairs(["abc", "a"], ["x", ""], target_vocabulary=Characters("x", SPECIALS))
        sources, lengths, inputs, targets = pairs[np.array([1, 0])]
        assert sources.tolist() == [[3, 0, 0], [3, 4, 5]] and lengths.tolist() == [1, 3]
        assert inputs.tolist() == [[1, 0], [1, 3]] and targets.tolist() == [[2, IGNORED], [3, 2]]
        assert pairs.source(0) == "'abc' -> 'x'"
        with pytest.raises(ValueError, match="2 sources and 1 targets"):
            TextPairs(["a", "b"], ["x"])

    def test_labels_and_vocabularies_that_do_not_fit_are_told(self):
        with pytest.raises(ValueError, match="one class number for each of 2 texts"):
            LabelledTexts(["a", "b"], [0])
        with pytest.raises(ValueError, match="float64"):
            LabelledTexts(["a", "b"], [0.0, 1.0])
        with pytest.raises(ValueError, match=r"\['<end>'\] are missing"):
            Lines(["a"], Characters("a", ["<pad>", "<start>"]))
        with pytest.raises(ValueError, match="'b' at place 1"):
            Lines(["ab"], Characters("a", SPECIALS))

    def test_a_loader_pads_each_batch_to_its_longest(self):
        shapes = [x.shape for x, _ in Loader(Lines(["a", "abc", "ab", "a", "b"]), 2)]
        assert shapes == [(2, 4), (2, 3), (1, 2)]


@pytest.fixture
def corpora():
    root = os.environ.get("MINIGRAD_DATA")
    names = ("tinyshakespeare.txt", "names.txt")
    if root is None or not all(os.path.isfile(os.path.join(root, name)) for name in names):
        pytest.skip("MINIGRAD_DATA names no folder with tinyshakespeare.txt and names.txt")


@pytest.mark.real
def test_shakespeare(corpora):
    parts = [Shakespeare(split) for split in ("train", "validation", "test")]
    whole, most = Shakespeare("all"), Shakespeare("train+validation")
    assert len(whole) == 1_115_394 and len(whole.vocabulary) == 65
    assert "".join(part.text for part in parts) == whole.text
    assert most.text == parts[0].text + parts[1].text
    assert len(parts[2]) == 111_540 and len(most) == 1_003_854
    assert all(part.vocabulary == whole.vocabulary for part in parts)
    assert whole.text.startswith("First Citizen:\nBefore we proceed")
    inputs, targets = next(iter(parts[2].streams(16, 50)))
    assert inputs.shape == (50, 16) and np.array_equal(inputs[1:], targets[:-1])
    assert len(parts[2].windows(100)) == 111_440


@pytest.mark.real
def test_names(corpora):
    parts = [Names(split) for split in ("train", "validation", "test")]
    whole = Names("all", lengths=True)
    assert [len(part) for part in parts] == [23_596, 2_949, 2_949] and len(whole) == 29_494
    assert set(whole.texts) == {name for part in parts for name in part.texts}
    assert len(set(whole.texts)) == len(whole)
    assert whole.vocabulary.tokens == (*SPECIALS, *"abcdefghijklmnopqrstuvwxyz")
    assert all(part.vocabulary == whole.vocabulary for part in parts)
    inputs, _, lengths = whole[:3]
    assert [whole.vocabulary.decode(row) for row in inputs] == ["emma", "olivia", "ava"]
    assert lengths.tolist() == [5, 7, 4] and whole.lengths.max() == 16


@pytest.mark.parametrize("corpus", [Shakespeare, Names])
def test_wrong_split_is_told(corpus):
    with pytest.raises(ValueError, match=r"one of train, validation, test, train\+validation, all"):
        corpus("dev")


@pytest.mark.parametrize("corpus, name", [(Shakespeare, "tinyshakespeare"), (Names, "names")])
def test_a_missing_corpus_is_told(corpus, name, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "given"))
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    with pytest.raises(FileNotFoundError) as told:
        corpus()
    for wanted in (f"{name}.txt is missing", str(tmp_path / "given"), "https://raw.githubuserc"):
        assert wanted in str(told.value)
