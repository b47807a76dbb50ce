"""Character RNN, encoder-decoder and captioners: what they are given, what they give back."""

import itertools

import numpy as np
import pytest

import minigrad
from minigrad.random import Generator
from minigrad_nn import functional as F
from minigrad_nn import optim
from minigrad_nn.layers import Conv2d, Flatten, truncated_bptt
from minigrad_nn.models import (
    AdditiveAttention,
    AttentionCaptioner,
    Captioner,
    CharRNN,
    DotAttention,
    Seq2Seq,
    attention_penalty,
    beam_search,
    draw_words,
    greedy_search,
    small_encoder,
)
from minigrad_nn.models.sequences import in_use
from tests.nn.whole import check_model

rng = np.random.default_rng(0)
KINDS = ("rnn", "lstm", "gru")


@pytest.fixture(autouse=True)
def same_random_numbers():
    with minigrad.random.preserved():
        minigrad.random.manual_seed(0)
        yield


def size(model):
    return sum(p.size for p in model.parameters())


def pictures(count=3, side=16):
    return minigrad.tensor(rng.standard_normal((count, 1, side, side)).astype("f"))


def train(model, loss, steps, lr):
    optimizer = optim.Adam(model.parameters(), lr=lr)
    for number in range(steps):
        optimizer.zero_grad()
        value = loss(number)
        value.backward()
        optim.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    return value.item()


# --- drawing, greedy and beam search, on a machine whose probabilities are known -----------------

START, END = 0, 3


def chain(table):
    """A step whose next words depend on the last two; the state is the word before the last."""

    def step(words, state):
        before = state.numpy()[0, :, 0].astype(int)
        return table[before, words], minigrad.tensor(words[None, :, None].astype("f")), words * 10.0

    return step


def first(count):
    return minigrad.zeros((1, count, 1))


def all_sentences(table, length):
    """Every sentence of at most so many words, and the logarithm of its probability."""
    log_p = np.log(np.exp(table) / np.exp(table).sum(-1, keepdims=True))
    for count in range(length + 1):
        for words in itertools.product(
            [w for w in range(table.shape[-1]) if w != END], repeat=count
        ):
            path = [0, START, *words, END]
            steps = zip(path[:-2], path[1:-1], path[2:], strict=True)
            yield list(words), sum(log_p[step] for step in steps)


@pytest.mark.parametrize("seed", range(8))
def test_a_wide_beam_finds_the_likeliest_of_all_sentences(seed):
    table = np.random.default_rng(seed).normal(size=(4, 4, 4)) * 2.0
    words, score = max(all_sentences(table, 4), key=lambda found: found[1])
    found = beam_search(chain(table), first(1), START, END, width=4**5, length=4)
    assert found.words == words and found.ended
    assert found.score == pytest.approx(score)
    narrow = beam_search(chain(table), first(1), START, END, width=2, length=4)
    assert not narrow.ended or narrow.score <= score + 1e-9


@pytest.mark.parametrize("seed", range(8))
def test_a_beam_of_one_is_greedy(seed):
    table = np.random.default_rng(seed).normal(size=(4, 4, 4)) * 2.0
    several = greedy_search(chain(table), first(3), 3, START, END, 4)
    alone = beam_search(chain(table), first(1), START, END, width=1, length=4)
    for found in several:
        assert found.words == alone.words and found.ended == alone.ended
        assert found.score == pytest.approx(alone.score)
        np.testing.assert_array_equal(found.attention, alone.attention)
    # What was looked at are the words that were fed: the start, and all that were said.
    fed = [START, *alone.words][: len(alone.attention)]
    assert alone.attention.tolist() == [10.0 * word for word in fed]


def test_a_beam_finds_what_the_greedy_way_misses():
    table = np.full((4, 4, 4), -20.0)
    table[0, START, 1], table[0, START, 2] = np.log(0.6), np.log(0.4)
    table[START, 1] = np.log([0.26, 0.24, 0.25, 0.25])  # after the likelier word all is vague
    table[START, 2, END] = 0.0
    greedy = greedy_search(chain(table), first(1), 1, START, END, 5)[0]
    beam = beam_search(chain(table), first(1), START, END, width=2, length=5)
    assert greedy.words[0] == 1
    assert beam.words == [2] and beam.score == pytest.approx(np.log(0.4), abs=1e-3)


def test_a_sentence_that_does_not_end_is_cut_off_and_says_so():
    table = np.zeros((4, 4, 4))
    table[..., 1] = 5.0
    for width in (1, 2):
        found = beam_search(chain(table), first(1), START, END, width, length=3)
        assert found.words == [1, 1, 1] or (width == 2 and found.ended)
    greedy = greedy_search(chain(table), first(2), 2, START, END, 3)[1]
    assert greedy.words == [1, 1, 1] and not greedy.ended
    assert greedy_search(chain(table), first(1), 1, START, END, 0)[0].words == []
    with pytest.raises(ValueError, match="beam_search: width must be at least 1"):
        beam_search(chain(table), first(1), START, END, 0, 3)


def test_words_are_drawn_by_their_probability():
    logits = np.log([[0.1, 0.6, 0.3]]).repeat(20_000, 0)
    for temperature in (0.5, 1.0, 3.0):
        drawn = draw_words(logits, temperature, Generator(0))
        wanted = np.array([0.1, 0.6, 0.3]) ** (1 / temperature)
        np.testing.assert_allclose(
            np.bincount(drawn) / len(drawn), wanted / wanted.sum(), atol=0.015
        )
    assert (draw_words(logits, 0.0) == 1).all()
    certain = np.array([[-np.inf, 0.0, -np.inf]])
    assert draw_words(certain, 1.0, Generator(1)).tolist() == [1]
    with pytest.raises(ValueError, match="draw_words: temperature must be at least 0"):
        draw_words(logits, -1.0)


def test_a_network_in_use_goes_back_to_the_modes_of_its_parts():
    model = CharRNN(5, 4, dropout=0.5)
    model.rnn.eval()
    with in_use(model):
        assert not model.training and not model.dropout.training
        assert not model(np.array([[1]]))[0].requires_grad
    assert model.training and model.dropout.training and not model.rnn.training


# --- character RNN -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("embedding", [None, 3])
def test_a_character_rnn_has_the_shapes_and_parameters_of_its_parts(kind, embedding):
    model = CharRNN(7, hidden=6, layers=2, kind=kind, embedding=embedding)
    logits, state = model(rng.integers(0, 7, (5, 2)))
    assert logits.shape == (5, 2, 7)
    part = state[0] if kind == "lstm" else state
    assert part.shape == (2, 2, 6)
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[kind]
    width = embedding or 7
    rows = gates * 6
    wanted = rows * (width + 6 + 2) + rows * (6 + 6 + 2) + 7 * (6 + 1) + 7 * (embedding or 0)
    assert size(model) == wanted


def test_it_is_the_recurrence_of_the_lecture():
    model = CharRNN(4, hidden=3)
    x = np.array([2, 0, 3, 3])
    logits, _ = model(x[:, None])
    state = {name: value.astype(float) for name, value in model.state_dict().items()}
    h = np.zeros(3)
    for t, character in enumerate(x):
        one_hot = np.eye(4)[character]
        h = np.tanh(
            state["rnn.weight_ih_l0"] @ one_hot
            + state["rnn.weight_hh_l0"] @ h
            + state["rnn.bias_ih_l0"]
            + state["rnn.bias_hh_l0"]
        )
        y = state["head.weight"] @ h + state["head.bias"]
        np.testing.assert_allclose(logits.numpy()[t, 0], y, atol=1e-5)


def test_reading_in_pieces_is_reading_at_once():
    model = CharRNN(6, 5, layers=2, kind="lstm")
    x = rng.integers(0, 6, (8, 3))
    whole, last = model(x)
    first_part, state = model(x[:3])
    rest, end = model(x[3:], state)
    np.testing.assert_allclose(np.concatenate([first_part.numpy(), rest.numpy()]), whole.numpy(),
                               atol=1e-6)  # fmt: skip
    np.testing.assert_allclose(end[1].numpy(), last[1].numpy(), atol=1e-6)
    pieces = truncated_bptt(
        model, x, lambda y, a, b: F.cross_entropy(y.reshape(-1, 6), x[a:b].ravel()), 3
    )
    assert len(list(pieces)) == 3 and all(p.grad is not None for p in model.parameters())


def test_batches_may_come_first_and_texts_may_be_shorter():
    model = CharRNN(6, 5, batch_first=True, embedding=4)
    x = rng.integers(0, 6, (2, 7))
    logits, _ = model(x, lengths=[7, 3])
    alone, _ = model(x[1:, :3])
    np.testing.assert_allclose(logits.numpy()[1, :3], alone.numpy()[0], atol=1e-6)
    turned = CharRNN(6, 5, embedding=4)
    turned.load_state_dict(model.state_dict())
    np.testing.assert_allclose(
        turned(x.T)[0].numpy(), model(x)[0].numpy().swapaxes(0, 1), atol=1e-6
    )
    many, _ = model.generate(x[:, :2], 4, generator=Generator(3))
    other, _ = turned.generate(x[:, :2].T, 4, generator=Generator(3))
    assert many.shape == (2, 4) and (many == other.T).all()


@pytest.mark.parametrize("kind", KINDS)
def test_writing_is_reproducible_and_can_go_on(kind):
    model = CharRNN(9, 8, kind=kind, dropout=0.5)
    once, _ = model.generate([1, 2, 3], 12, generator=Generator(7))
    again, _ = model.generate([1, 2, 3], 12, generator=Generator(7))
    other, _ = model.generate([1, 2, 3], 12, generator=Generator(8))
    assert once.shape == (12,) and (once == again).all() and (once != other).any()
    generator = Generator(7)
    begun, state = model.generate([1, 2, 3], 5, generator=generator)
    rest, _ = model.generate(begun[-1:], 7, generator=generator, state=state)
    assert (np.concatenate([begun, rest]) == once).all()
    assert model.training
    model.eval()
    assert (model.generate([1, 2, 3], 12, generator=Generator(7))[0] == once).all()


def test_writing_without_chance_takes_the_likeliest_character():
    model = CharRNN(9, 8, kind="gru")
    text, _ = model.generate([4], 6, temperature=0.0)
    logits, _ = model(np.array([4, *text[:-1]])[:, None])
    assert (logits.numpy()[:, 0].argmax(1) == text).all()
    stopped, _ = model.generate([4], 6, temperature=0.0, stop=int(text[3]))
    assert (stopped == text[: text.tolist().index(text[3])]).all()
    assert model.generate([4], 0)[0].shape == (0,)


def test_a_character_rnn_learns_a_text_by_heart():
    text = np.array([0, 1, 0, 2, 0, 1, 0, 3] * 4)  # what follows a 0 depends on what was before
    model = CharRNN(4, 12)

    def loss(number):
        return F.cross_entropy(model(text[:-1, None])[0].reshape(-1, 4), text[1:])

    assert train(model, loss, 100, 0.03) < 0.3
    written, _ = model.generate(text[:9], 16, temperature=0.0)
    assert (written == text[9:25]).all()


def test_the_gradients_of_a_small_character_rnn():
    for kind in KINDS:
        model = CharRNN(3, 2, kind=kind, embedding=2).astype(np.float64)
        x = np.array([[0, 2], [1, 1], [2, 0]])
        check_model(model, lambda m, x=x: m(x)[0], order=2)


def test_what_a_character_rnn_cannot_take_is_said():
    with pytest.raises(ValueError, match="CharRNN: kind must be one of rnn, lstm, gru, got 'tree'"):
        CharRNN(5, kind="tree")
    with pytest.raises(ValueError, match="CharRNN: needs at least one character"):
        CharRNN(0)
    with pytest.raises(ValueError, match="CharRNN: a bidirectional network has read"):
        CharRNN(5, bidirectional=True)
    model = CharRNN(5)
    with pytest.raises(ValueError, match=r"CharRNN: x must be \(T, N\), .* got shape \(3,\)"):
        model(np.array([1, 2, 3]))
    with pytest.raises(ValueError, match="CharRNN: x holds 5, but its words are 0 to 4"):
        model(np.array([[5]]))
    with pytest.raises(TypeError, match="CharRNN: x must be numbers of words, integers"):
        model(np.array([[0.5]]))
    with pytest.raises(ValueError, match=r"CharRNN.generate: start must be \(T\), with a word"):
        model.generate([], 3)
    with pytest.raises(ValueError, match="CharRNN.generate: stop is for a single text"):
        model.generate([[1, 2]], 3, stop=0)


# --- attention -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: AdditiveAttention(4, 4, 5), DotAttention])
def test_attention_is_an_average_of_the_places_that_are_there(make):
    layer = make()
    query, keys = (
        minigrad.tensor(rng.standard_normal(s).astype("f")) for s in ((2, 3, 4), (2, 5, 4))
    )
    mask = np.array([[True] * 5, [True, True, False, False, False]])
    seen, weights = layer(query, keys, mask)
    w = weights.numpy()
    assert (w >= 0).all() and (w[1, :, 2:] == 0).all() and (w[0] > 0).all()
    np.testing.assert_allclose(w.sum(-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(seen.numpy(), w @ keys.numpy(), rtol=1e-4, atol=1e-6)
    again, _ = layer(query, keys, mask, layer.remember(keys))
    np.testing.assert_array_equal(seen.numpy(), again.numpy())
    # Each query is answered as if it were alone, and the order of the places does not matter.
    alone, _ = layer(query[:, 1:2], keys, mask)
    np.testing.assert_allclose(alone.numpy()[:, 0], seen.numpy()[:, 1], rtol=1e-4, atol=1e-6)
    turned, _ = layer(query[:1], keys[:1, ::-1], None)
    np.testing.assert_allclose(turned.numpy(), seen.numpy()[:1], rtol=1e-4, atol=1e-6)


def test_the_score_of_bahdanau_and_that_of_luong():
    layer = AdditiveAttention(2, 3, 4)
    query, keys = rng.standard_normal((1, 1, 2)), rng.standard_normal((1, 6, 3))
    _, weights = layer(minigrad.tensor(query.astype("f")), minigrad.tensor(keys.astype("f")))
    w, u = layer.query.weight.numpy(), layer.key.weight.numpy()
    b, v = layer.key.bias.numpy(), layer.score.weight.numpy()[0]
    scores = np.array([v @ np.tanh(w @ query[0, 0] + u @ key + b) for key in keys[0]])
    wanted = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(weights.numpy()[0, 0], wanted, rtol=1e-4)
    _, weights = DotAttention()(minigrad.tensor(keys[:, :1]), minigrad.tensor(keys))
    scores = keys[0] @ keys[0, 0]
    np.testing.assert_allclose(weights.numpy()[0, 0], np.exp(scores) / np.exp(scores).sum())
    check_model(
        AdditiveAttention(2, 3, 2).astype(np.float64), lambda m, q, k: m(q, k), query, keys, order=2
    )


# --- encoder and decoder -------------------------------------------------------------------------

SOURCES = np.array([[3, 4, 5, 0], [6, 3, 4, 5], [7, 0, 0, 0]])
LENGTHS = np.array([3, 4, 1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", [None, "additive", "dot"])
def test_teacher_forcing_is_the_same_word_by_word(kind, attention):
    model = Seq2Seq(8, 9, 6, embedding=5, layers=2, kind=kind, attention=attention)
    words = np.array([[1, 3, 4, 8], [1, 5, 5, 5], [1, 7, 0, 0]])
    whole = model(SOURCES, words, LENGTHS)
    assert whole.shape == (3, 4, 9)
    state, memory = model.begin(SOURCES, LENGTHS)
    for t in range(4):
        logits, state, looked = model.step(words[:, t : t + 1], state, memory)
        np.testing.assert_allclose(logits.numpy()[:, 0], whole.numpy()[:, t], atol=1e-5)
        assert (looked is None) == (attention is None)


@pytest.mark.parametrize("attention", [None, "additive", "dot"])
def test_padding_changes_nothing(attention):
    model = Seq2Seq(8, 9, 6, attention=attention)
    words = np.array([[1, 3, 4, 8]])
    alone = model(SOURCES[:1, :3], words).numpy()
    padded = model(SOURCES, words.repeat(3, 0), LENGTHS).numpy()[:1]
    np.testing.assert_allclose(alone, padded, atol=1e-5)
    later = model(SOURCES[:1], np.array([[1, 3, 4, 2]]), LENGTHS[:1]).numpy()
    np.testing.assert_allclose(later[:, :3], alone[:, :3], atol=1e-5)  # only what was said counts


@pytest.mark.parametrize("attention", [None, "additive", "dot"])
def test_answers_are_decoded_in_batches_as_alone_and_greedily_as_by_a_beam_of_one(attention):
    model = Seq2Seq(8, 9, 6, kind="lstm", attention=attention, dropout=0.5)
    found = model.decode(SOURCES, LENGTHS, length=5)
    again = model.decode(SOURCES, LENGTHS, length=5)
    assert [s.words for s in found] == [s.words for s in again] and model.training
    for row, sentence in enumerate(found):
        alone = SOURCES[row : row + 1, : LENGTHS[row]]
        (other,) = model.decode(alone, length=5)
        assert other.words == sentence.words and other.score == pytest.approx(sentence.score, 1e-4)
        if attention:
            assert sentence.attention.shape == (len(sentence.words) + sentence.ended, 4)
            np.testing.assert_allclose(sentence.attention.sum(1), 1, rtol=1e-5)
            assert (sentence.attention[:, LENGTHS[row] :] == 0).all()
        wide = model.decode(alone, length=5, width=50)[0]
        if sentence.ended:
            assert wide.score >= sentence.score - 1e-6
        # The score is what the network itself gives the sentence.
        if wide.ended:
            model.eval()
            said = np.array([[model.start, *wide.words]])
            log_p = F.log_softmax(model(alone, said), -1).numpy()[0]
            total = log_p[np.arange(said.shape[1]), [*wide.words, model.end]].sum()
            assert wide.score == pytest.approx(total, abs=1e-4)


def test_the_gradients_of_a_small_encoder_and_decoder():
    for attention in (None, "additive", "dot"):
        model = Seq2Seq(8, 4, 2, kind="gru", attention=attention).astype(np.float64)
        words = np.array([[1, 3], [1, 0]])
        check_model(model, lambda m, w=words: m(SOURCES[:2], w, LENGTHS[:2]))


def copies(draw, count, length=4, words=5):
    """Sequences to be said again: sources, what the decoder is given, and what it is to say."""
    x = draw.integers(3, 3 + words, (count, length))
    return x, np.insert(x, 0, 1, axis=1), np.insert(x, length, 2, axis=1)


@pytest.mark.full
@pytest.mark.parametrize("attention", [None, "additive", "dot"])
def test_it_learns_to_say_again_what_it_read(attention):
    model = Seq2Seq(8, 8, 32, attention=attention)
    draw = np.random.default_rng(1)

    def loss(number):
        x, given, wanted = copies(draw, 32)
        return F.cross_entropy(model(x, given).reshape(-1, 8), wanted.reshape(-1))

    train(model, loss, 400, 0.01)
    x, _, _ = copies(draw, 100)
    found = model.decode(x, length=8)
    right = [s.words == row.tolist() and s.ended for s, row in zip(found, x, strict=True)]
    assert np.mean(right) > 0.9


def test_a_tiny_one_learns_a_dictionary():
    model = Seq2Seq(8, 8, 12, attention="dot")
    x = np.array([[3, 4], [4, 3], [5, 6], [6, 6]])
    given, wanted = np.insert(x[:, ::-1], 0, 1, axis=1), np.insert(x[:, ::-1], 2, 2, axis=1)

    def loss(number):
        return F.cross_entropy(model(x, given).reshape(-1, 8), wanted.reshape(-1))

    assert train(model, loss, 60, 0.03) < 0.1
    for width in (1, 3):
        assert [s.words for s in model.decode(x, length=6, width=width)] == x[:, ::-1].tolist()


def test_what_an_encoder_and_decoder_cannot_take_is_said():
    with pytest.raises(ValueError, match="Seq2Seq: attention must be one of .* got 'hard'"):
        Seq2Seq(5, 5, attention="hard")
    with pytest.raises(ValueError, match="Seq2Seq: start and end must be two of the 5 target"):
        Seq2Seq(5, 5, end=5)
    model = Seq2Seq(5, 6)
    with pytest.raises(ValueError, match="Seq2Seq: sources holds 5, but its words are 0 to 4"):
        model([[5]], [[1]])
    with pytest.raises(ValueError, match=r"Seq2Seq: words must be \(N, T\)"):
        model([[4]], [1])
    with pytest.raises(ValueError, match="Seq2Seq.decode: sources must be"):
        model.decode([1, 2])


# --- captions ------------------------------------------------------------------------------------


def captioners(**settings):
    yield Captioner(small_encoder(widths=(4, 6)), 6, 9, 5, 7, **settings)
    yield Captioner(small_encoder(widths=(4, 6)), 6, 9, 5, 7, feed="state", **settings)
    yield AttentionCaptioner(small_encoder(widths=(4, 6)), 6, 9, 5, 7, **settings)


def logits_of(model, *inputs):
    found = model(*inputs)
    return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 2])
def test_captions_with_teacher_forcing_are_those_word_by_word(kind, layers):
    x, words = pictures(), np.array([[1, 3, 4, 8], [1, 5, 5, 5], [1, 7, 0, 0]])
    for model in captioners(kind=kind, layers=layers):
        model.eval()
        whole = logits_of(model, x, words)
        assert whole.shape == (3, 4, 9)
        state, memory = model.begin(x)
        for t in range(4):
            logits, state, _ = model.step(words[:, t], state, memory)
            np.testing.assert_allclose(logits.numpy(), whole.numpy()[:, t], atol=1e-5)
        shorter = logits_of(model, x, words, np.array([4, 4, 2])).numpy()
        np.testing.assert_allclose(shorter[2, :2], whole.numpy()[2, :2], atol=1e-5)
        np.testing.assert_allclose(shorter[:2], whole.numpy()[:2], atol=1e-5)


def test_a_picture_may_be_shown_as_the_first_word():
    model = Captioner(Flatten(), 4, 9, 5, 7).eval()
    x = minigrad.tensor(rng.standard_normal((2, 1, 2, 2)).astype("f"))
    words = np.array([[1, 3], [1, 4]])
    seen = model.norm(model.see(x.reshape(2, 4))).numpy()
    vectors = np.concatenate([seen[None], model.embedding(words.T).numpy()])
    h, _ = model.decoder(minigrad.tensor(vectors))
    wanted = model.output(h[1:]).numpy().swapaxes(0, 1)
    np.testing.assert_allclose(model(x, words).numpy(), wanted, atol=1e-6)


def test_a_picture_may_make_the_first_state():
    x = minigrad.tensor(rng.standard_normal((2, 1, 2, 2)).astype("f"))
    for kind, parts in (("lstm", 2), ("gru", 1)):
        model = Captioner(Flatten(), 4, 9, 5, 3, layers=2, kind=kind, feed="state").eval()
        made = np.tanh(model.norm(model.see(x.reshape(2, 4))).numpy())
        assert made.shape == (2, parts * 2 * 3)
        state, _ = model.begin(x)
        found = [part.numpy() for part in (state if parts == 2 else (state,))]
        for number, part in enumerate(found):  # h of both layers, then c of both
            for layer in range(2):
                at = 3 * (2 * number + layer)
                np.testing.assert_allclose(part[layer], made[:, at : at + 3], atol=1e-6)


def test_attention_is_computed_as_in_its_paper():
    """Equations 4 to 9 of Xu and others, with soft attention, written out."""
    model = AttentionCaptioner(Conv2d(1, 4, 3), 4, 9, 5, 6).eval()
    x, word = pictures(1, side=5), 3
    state = {name: value.astype(float) for name, value in model.state_dict().items()}

    def linear(name, v):
        return state[f"{name}.weight"] @ v + state.get(f"{name}.bias", 0.0)

    def logistic(v):
        return 1 / (1 + np.exp(-v))

    places = model.encoder(x).numpy()[0].reshape(4, 9).T
    start = np.tanh(linear("first", places.mean(0)))
    h, c = start[:6], start[6:]
    hidden = [np.tanh(linear("attention.query", h) + linear("attention.key", a)) for a in places]
    scores = np.array([linear("attention.score", v)[0] for v in hidden])
    alpha = np.exp(scores) / np.exp(scores).sum()
    seen = logistic(linear("gate", h)) * (alpha @ places)
    spoken = state["embedding.weight"][word]
    heard = np.concatenate([spoken, seen])
    i, f, g, o = np.split(
        state["decoder.weight_ih_l0"] @ heard
        + state["decoder.bias_ih_l0"]
        + state["decoder.weight_hh_l0"] @ h
        + state["decoder.bias_hh_l0"],
        4,
    )
    c = logistic(f) * c + logistic(i) * np.tanh(g)
    h = logistic(o) * np.tanh(c)
    logits = linear("output", spoken + linear("from_state", h) + linear("from_seen", seen))
    found, weights = model(x, [[word]])
    np.testing.assert_allclose(found.numpy()[0, 0], logits, atol=1e-5)
    np.testing.assert_allclose(weights.numpy()[0, 0].ravel(), alpha, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_captions_are_decoded_alike_in_batches_and_alone(kind):
    x = pictures()
    for model in captioners(kind=kind, dropout=0.3):
        found = model.decode(x, length=4)
        assert model.training
        for row, sentence in enumerate(found):
            (alone,) = model.decode(x[row : row + 1], length=4)
            assert alone.words == sentence.words
            (wide,) = model.decode(x[row : row + 1], length=4, width=81)
            assert not sentence.ended or wide.score >= sentence.score - 1e-6
            if wide.ended:
                model.eval()
                said = np.array([[model.start, *wide.words]])
                log_p = F.log_softmax(logits_of(model, x[row : row + 1], said), -1).numpy()[0]
                total = log_p[np.arange(said.shape[1]), [*wide.words, model.end]].sum()
                assert wide.score == pytest.approx(total, abs=1e-4)
                model.train()
            if isinstance(model, AttentionCaptioner):
                assert sentence.attention.shape == (len(sentence.words) + sentence.ended, 4, 4)


def test_attention_weights_add_up_for_each_word_and_end_with_the_caption():
    *_, model = captioners()
    x, words = pictures(), np.array([[1, 3, 4], [1, 5, 0], [1, 7, 0]])
    _, weights = model(x, words, np.array([3, 2, 2]))
    assert weights.shape == (3, 3, 4, 4)
    sums = weights.numpy().sum((2, 3))
    np.testing.assert_allclose(sums, [[1, 1, 1], [1, 1, 0], [1, 1, 0]], rtol=1e-5)
    penalty = attention_penalty(weights).item()
    missed = 1 - weights.numpy().sum(1)
    assert penalty == pytest.approx((missed**2).sum() / 3, rel=1e-5)
    even = minigrad.full((2, 16, 4, 4), 1 / 16)
    assert attention_penalty(even).item() == pytest.approx(0.0, abs=1e-9)


def test_the_gradients_of_small_captioners():
    x, words = rng.standard_normal((3, 1, 4, 4)), np.array([[1, 3], [1, 0], [1, 1]])
    for kind in ("input", "state", "attention"):
        encoder = Conv2d(1, 2, 3)
        if kind == "attention":
            model = AttentionCaptioner(encoder, 2, 4, 2, 2)
        else:
            model = Captioner(encoder, 2, 4, 2, 2, feed=kind)
        check_model(model.astype(np.float64), lambda m, x: logits_of(m, x, words), x)


def squares(draw, count):
    """Pictures of a small or a large square somewhere, and captions that say which."""
    x, kinds = np.zeros((count, 1, 16, 16), np.float32), draw.integers(0, 2, count)
    for picture, kind in zip(x, kinds, strict=True):
        (r, c), side = draw.integers(0, 8, 2), 9 if kind else 4
        picture[0, r : r + side, c : c + side] = 1.0
    words = np.stack([np.full(count, 1), np.full(count, 3), 4 + kinds, np.full(count, 2)], 1)
    return minigrad.tensor(x), words


@pytest.mark.full
@pytest.mark.parametrize("number", [0, 1, 2])
def test_captioners_learn_to_say_what_they_see(number):
    model = list(captioners())[number]
    draw = np.random.default_rng(1)

    def loss(step):
        x, words = squares(draw, 16)
        logits = logits_of(model, x, words[:, :-1])
        return F.cross_entropy(logits.reshape(-1, 9), words[:, 1:].reshape(-1))

    train(model, loss, 100, 0.02)
    x, words = squares(draw, 32)
    for width in (1, 3):
        found = [s.words for s in model.decode(x, width=width)]
        right = [said == row[1:-1].tolist() for said, row in zip(found, words, strict=True)]
        assert np.mean(right) > 0.9


def test_what_a_captioner_cannot_take_is_said():
    encoder = small_encoder(widths=(4, 6))
    with pytest.raises(ValueError, match="Captioner: feed must be one of"):
        Captioner(encoder, 6, 9, feed="both")
    with pytest.raises(ValueError, match="AttentionCaptioner: kind must be one of"):
        AttentionCaptioner(encoder, 6, 9, kind="tree")
    for make in (Captioner, AttentionCaptioner):
        name = make.__name__
        with pytest.raises(ValueError, match=f"{name}: start and end must be two of the 9"):
            make(encoder, 6, 9, start=2)
        with pytest.raises(ValueError, match=f"{name}: the encoder must give .* got shape"):
            make(encoder, 5, 9)(pictures(), [[1]] * 3)
        with pytest.raises(ValueError, match=f"{name}: words holds 9"):
            make(encoder, 6, 9)(pictures(), [[9]] * 3)
    with pytest.raises(ValueError, match="AttentionCaptioner: lengths must be 3 integers"):
        AttentionCaptioner(encoder, 6, 9)(pictures(), [[1]] * 3, [1])
