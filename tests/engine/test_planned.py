"""Replays on the CPU: calls in planned memory, with the bits of the step, and nothing lost."""

import gc
import threading
import warnings
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import effects, noting
from minigrad.noting import Notebook, Noted, NotRecorded
from minigrad.replay.planned import ALIGNMENT, Planned, offsets
from minigrad.replay.steps import capture

rng = np.random.default_rng(5)

CALLS = 7
"""Two recordings, a rehearsal, a replay that is noted, and replays by calls."""


def drawn(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def program_of(captured):
    (program,) = captured.programs
    assert isinstance(program._parts, Planned)
    return program


def called(program):
    """What a replay calls as the step did, by name."""
    return {piece.entry.name.split(".")[-1] for piece in program._parts._pieces if not piece.work}


# --- places --------------------------------------------------------------------------------------

LIVES = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 30), st.integers(0, 8)).map(
        lambda life: (life[0], life[1], life[1] + life[2])
    ),
    max_size=30,
)


@given(LIVES)
def test_buffers_in_use_together_have_places_of_their_own(lives):
    places, total = offsets(lives)
    spans = [
        (place, place + size, first, last)
        for place, (size, first, last) in zip(places, lives, strict=True)
        if size
    ]
    for i, (start, stop, first, last) in enumerate(spans):
        assert start % ALIGNMENT == 0 and stop <= total
        for other_start, other_stop, other_first, other_last in spans[:i]:
            if first <= other_last and other_first <= last:
                assert stop <= other_start or other_stop <= start


@given(LIVES)
def test_planned_memory_is_between_what_is_needed_at_once_and_all(lives):
    _, total = offsets(lives)
    rounded = [-(-size // ALIGNMENT) * ALIGNMENT for size, _, _ in lives]
    most = max(
        (
            sum(
                size
                for size, (_, first, last) in zip(rounded, lives, strict=True)
                if first <= time <= last
            )
            for time in range(40)
        ),
        default=0,
    )
    assert most <= total <= sum(rounded)


# --- what is noted -------------------------------------------------------------------------------


def noted_in(book, array):
    _, shown = book.give(array)
    return shown.view(Noted)


@pytest.mark.parametrize(
    "read",
    [
        float,
        bool,
        lambda x: x.item(),
        lambda x: x.tolist(),
        lambda x: np.linalg.inv(x),
        lambda x: x[x > 0],
        lambda x: np.sort(x, axis=0) + np.nonzero(x)[0],
        lambda x: x.sort(),
        lambda x: list(x.flat),
        lambda x: x.ctypes.data,
        lambda x: np.add.at(x, 0, 1.0),
        lambda x: x + np.ones(1),  # made elsewhere
        lambda x: np.add(x, [1.0]),
        lambda x: x.sum(0, None, np.ones_like(x)[0]),  # where it writes to is not told
    ],
)
def test_what_calls_cannot_do_again_is_refused(read):
    book = Notebook({})
    with pytest.raises(NotRecorded), book.open():
        read(noted_in(book, np.ones((1, 1))))
    assert not noting.books


OPERATIONS = [
    lambda x, y: x + y * 2.0,
    lambda x, y: np.add.reduce(x, axis=0) - np.maximum(x, y)[1:, ::-1],
    lambda x, y: x.T @ y,
    lambda x, y: np.where(x > y, x, 0.0).sum(axis=1, keepdims=True) / x.size,
    lambda x, y: x.T.reshape(2, 6).copy() + y.reshape(-1)[:6],
    lambda x, y: np.cumsum(x, axis=1)[:, -1:] * np.ones_like(y),
    lambda x, y: np.take(x, np.argmax(y, axis=1), axis=1),
    lambda x, y: np.divmod(x, y)[1],
    lambda x, y: np.broadcast_to(x[:1], (3, 4)) + np.moveaxis(y, 0, 1).T,
    lambda x, y: (
        np.full_like(x, fill_value=2.0)
        + sum(x)
        - np.full_like(x, 3.0)
        - np.zeros_like(y)
        + x.astype(np.float64).mean()
    ),
    lambda x, y: np.einsum("ij,ij->i", x, y),
]


@pytest.mark.parametrize("work", OPERATIONS)
def test_noted_calls_do_the_same_with_other_numbers(work):
    from minigrad.replay import planned

    book = Notebook({})
    first = [drawn(3, 4), drawn(3, 4) + 5.0]
    (a, shown_a), (b, shown_b) = (book.give(array) for array in first)
    with book.open():
        found = work(shown_a.view(Noted), shown_b.view(Noted))
        place = book.place(found)
    np.testing.assert_array_equal(found.view(np.ndarray), work(*first))
    second = [drawn(3, 4), drawn(3, 4) + 5.0]
    bound = dict(zip((a, b), second, strict=True))
    for call in book.calls:
        call.function(*planned._filled(call.args, bound), **planned._filled(call.keywords, bound))
    again = planned._at(place, bound)
    assert again.tobytes() == work(*second).tobytes()
    assert again.dtype == work(*second).dtype


def test_what_is_written_in_place_is_noted():
    book = Notebook({})
    with book.open():
        x = noting.empty((2, 3), np.float64)
        x[...] = 1.0
        x[0] += 2.0
        x.fill(4.0)
        np.copyto(x, 5.0)
        y = noting.zeros(2, np.float32), noting.full(2, 3.0, np.float32)
    assert x.view(np.ndarray).tolist() == [[5.0] * 3] * 2
    assert [part.tolist() for part in map(noting.bare, y)] == [[0.0] * 2, [3.0] * 2]
    assert len(book.calls) == 7  # `x[0] += 2.0` adds, and then sets that


# --- whole steps ---------------------------------------------------------------------------------


def test_a_step_becomes_calls_in_planned_memory():
    w = [mg.tensor(drawn(8, 8), requires_grad=True) for _ in range(6)]

    @capture
    def step(x):
        for p in w:
            p.zero_grad()
            x = mg.tanh(x @ p)
        loss = (x * x).sum()
        loss.backward()
        return loss

    for _ in range(CALLS):
        step(mg.tensor(drawn(4, 8)))
    program = program_of(step)
    assert called(program) == {"zero_grad", "hand"}
    assert program.noted > 20 and program.calls == 7
    made = 4 * 4 * 8 * 3 * 6  # what tanh and both products make, if all of it were kept
    assert 0 < program.nbytes < made
    assert f"{program.noted} noted calls and 7 others each" in repr(program)


def test_what_was_given_out_stays_as_it_is():
    w = mg.tensor(drawn(3), requires_grad=True)

    def step(x):
        w.zero_grad()
        y = w * x
        (y * y).sum().backward()
        return y, y.reshape(3, 1), x

    captured, kept, expected = capture(step), [], []
    for _ in range(CALLS):
        x = mg.tensor(drawn(3))
        for way, where in ((captured, kept), (step, expected)):
            found = [*way(x), w.grad]
            where.append((found, [one._data.copy() for one in found]))
    for (found, then), (_, wanted) in zip(kept, expected, strict=True):
        for one, before, plain in zip(found, then, wanted, strict=True):
            assert one._data.tobytes() == before.tobytes() == plain.tobytes()


def test_gradients_are_not_copied(monkeypatch):
    w = mg.tensor(drawn(50), requires_grad=True)
    copied, copy = [], np.copy
    monkeypatch.setattr(np, "copy", lambda array: copied.append(array.shape) or copy(array))

    @capture
    def step(x):
        w.zero_grad()
        (mg.tanh(w) * x).sum().backward()

    for _ in range(CALLS):
        step(mg.tensor(drawn(50)))
    assert w.grad._data.base is None and not copied


def test_an_effect_may_keep_what_it_is_given():
    kept = []

    @effects.effect
    def keep(array):
        kept.append((array, array.copy()))

    def step(x):
        y = mg.exp(x)
        keep(y._data)
        keep((y * 2.0).reshape(3, 1)._data)
        return y + 1.0

    captured = capture(step)
    for _ in range(CALLS):
        captured(mg.tensor(drawn(3)))
    assert len(kept) == 2 * CALLS
    for array, then in kept:
        assert array.tobytes() == then.tobytes()


def test_an_operation_of_ones_own_is_called():
    def forward(x):
        return x * 2.0 if x.max() > 1.0 else x * 3.0

    doubled = mg.op("doubled", forward, lambda g: g * 2.0)
    captured = capture(lambda x: doubled(mg.tanh(x) * 4.0))
    for i in range(CALLS):
        x = mg.tensor(np.full(3, 0.1 + 0.4 * (i % 2), np.float32))
        expected = forward(np.tanh(x._data) * 4.0)
        assert captured(x)._data.tobytes() == expected.tobytes()
    assert "doubled" in called(program_of(captured))


def test_a_closed_gate_passes_nothing():
    def step(x):
        y = mg.where(x > 0.0, mg.sqrt(x), 0.0).sum()
        y.backward()
        return y

    captured = capture(step)
    for i in range(CALLS):
        numbers = np.array([4.0, 0.0, 1.0 + i, 0.0 if i % 2 else 9.0], np.float32)
        mine, theirs = (mg.tensor(numbers, requires_grad=True) for _ in range(2))
        assert captured(mine).item() == step(theirs).item()
        assert mine.grad._data.tobytes() == theirs.grad._data.tobytes()
        assert np.isfinite(mine.grad._data).all()


@pytest.mark.parametrize("kind", ["turned", "read-only", "part", "parameter"])
def test_arguments_as_they_come(kind):
    w = mg.tensor(drawn(3, 4), requires_grad=True)
    captured = capture(lambda x: (x @ w.T).sum(axis=0))
    for i in range(CALLS + 2):
        x = drawn(3, 4)
        if i >= CALLS - 2:
            if kind == "turned":
                x = np.asfortranarray(x)
            elif kind == "read-only":
                x.setflags(write=False)
            elif kind == "part":
                x = np.concatenate([x, x])[2:5]
            else:
                x = w._data
        found = captured(x)
        assert found._data.tobytes() == (mg.tensor(x) @ w.T).sum(axis=0)._data.tobytes()
    assert captured.replays == CALLS


def test_how_errors_are_told_is_watched():
    captured = capture(lambda x: mg.log(x))
    good, bad = mg.tensor(np.ones(3, np.float32)), mg.tensor(np.zeros(3, np.float32))
    for _ in range(CALLS):
        captured(good)
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        captured(bad)
    for _ in range(CALLS):
        with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
            captured(bad)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with np.errstate(divide="ignore"):
            for _ in range(CALLS):
                assert captured(bad)._data.tolist() == [-np.inf] * 3


def test_kernels_that_are_registered_later_are_used(monkeypatch):
    from minigrad import backend

    captured = capture(lambda x: mg.tanh(x) + 1.0)
    x = mg.tensor(drawn(3))
    for _ in range(CALLS):
        captured(x)
    monkeypatch.setattr(backend, "_cpu_kernels", {**backend._cpu_kernels})
    monkeypatch.setattr(backend, "_kernels", {**backend._kernels})
    backend.register_kernel("tanh", "cpu", lambda x: x * (7.0 if x.max() < 9.0 else 2.0))
    for i in range(CALLS):
        x = mg.tensor(drawn(3) + 9.0 * (i % 2))
        assert captured(x)._data.tobytes() == (mg.tanh(x) + 1.0)._data.tobytes()


def test_threads_that_come_together_go_the_long_way():
    w = mg.tensor(drawn(40, 40))
    captured = capture(lambda x: mg.tanh(mg.tanh(x @ w) @ w))
    inputs = [mg.tensor(drawn(30, 40)) for _ in range(8)]
    for x in inputs:
        captured(x)
    expected = [mg.tanh(mg.tanh(x @ w) @ w)._data.tobytes() for x in inputs]
    wrong = []

    def work(i):
        for _ in range(50):
            if captured(inputs[i])._data.tobytes() != expected[i]:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_its_memory_goes_with_the_program():
    captured = capture(lambda x: mg.tanh(mg.exp(x) + 1.0) * 2.0)
    for _ in range(CALLS):
        captured(mg.tensor(drawn(1000)))
    parts = weakref.ref(program_of(captured)._parts)
    captured.reset()
    gc.collect()
    assert parts() is None


def test_an_error_leaves_the_program_as_it_was():
    asked = []

    @effects.value
    def check(array):
        asked.append(1)
        if array[0] < 0:
            raise ValueError("negative")

    def step(x):
        y = mg.exp(x) * 2.0
        check(x._data)
        return mg.tanh(y)

    for wrong in range(2, CALLS):
        captured = capture(step)
        for i in range(CALLS + 2):
            x = mg.tensor(drawn(3) ** 2)
            if i == wrong:
                with pytest.raises(ValueError, match="negative"):
                    captured(mg.tensor(-(drawn(3) ** 2) - 1.0))
            assert captured(x)._data.tobytes() == mg.tanh(mg.exp(x) * 2.0)._data.tobytes()
