"""Captured steps as CUDA graphs: the bits of the step itself, and nothing that is held changes."""

import collections
import contextlib
import functools
import gc
import itertools
import threading
import warnings

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad import backend, effects
from minigrad.replay import stretches
from minigrad_nn import functional as F
from minigrad_nn.functional import norm
from minigrad_nn.kernels.cuda import graph as graphs
from minigrad_nn.kernels.cuda import library
from minigrad_nn.kernels.cuda.allocator import Allocator
from minigrad_nn.schedule import StepLR

rng = np.random.default_rng(5)


def drawn(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def there(*values):
    return [mg.tensor(value).to("cuda") for value in values]


def bits(value):
    if isinstance(value, mg.Tensor):
        return value.dtype.name, value.shape, value.to("cpu")._data.tobytes()
    if isinstance(value, (tuple, list)):
        return [bits(part) for part in value]
    if isinstance(value, dict):
        return {name: bits(part) for name, part in value.items()}
    return value


def looked_at(model):
    """Bits of all parameters, gradients and buffers."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: (bits(t), None if t.grad is None else bits(t.grad)) for name, t in named}


WAYS = {
    "eager": lambda step: step,
    "plain": lambda step: mg.capture(step, graphs=False),
    "graphs": mg.capture,
}


def same(make, calls, also=lambda step: None, ways=("eager", "graphs")):
    """Run a step in several ways on the same calls; gives its program, with graphs.

    `make` gives the step and its model; `also` is done after each call.
    """
    found = {}
    for way in ways:
        wrap = WAYS[way]
        mg.manual_seed(3)
        step, model = make()
        model.to("cuda")
        step = wrap(step)
        kept, seen = [], []
        for args in calls:
            kept.append(step(*args()))
            now = [bits(kept), looked_at(model), mg.random.get_state(), also(step)]
            seen.append(now)  # all results so far: later calls must leave them alone
        found[way] = seen
    for way in ways[1:]:
        for i, (one, other) in enumerate(zip(found[way], found["eager"], strict=True)):
            assert one == other, f"{way}, call {i}"
    (program,) = step.programs
    assert program.replays == len(calls) - 2 >= 3 and program.graphs
    return program


def batches(shape, classes, count=6):
    data = [(drawn(*shape), rng.integers(0, classes, shape[0])) for _ in range(count)]
    # At new addresses each time.
    return [lambda x=x, y=y: (*there(x), y) for x, y in data]


def arguments(*shape):
    return [lambda x=x: there(x) for x in [drawn(*shape) for _ in range(6)]]


def training(model, optimizer, also=lambda: None):
    def step(x, y):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        also()
        optimizer.step()
        return loss

    return step, model


@pytest.fixture
def marked(monkeypatch):
    """What the library says, or may say, of its effects."""
    for function in (norm._follow, norm._given):
        monkeypatch.setattr(effects, "writers", {*effects.writers, function.__wrapped__})
    for function in (nn.optim.Optimizer.zero_grad, mg.Tensor.zero_grad):
        monkeypatch.setattr(effects, "asides", {*effects.asides, function.__wrapped__})


class Light(nn.Module):
    """A network whose step takes few launches: the simulator takes long for products."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(np.linspace(-1, 1, 3, dtype=np.float32))
        self.bias = nn.Parameter(np.zeros(3, np.float32))

    def forward(self, x):
        return (x * self.weight + self.bias).tanh()


def light(**settings):
    model = Light()
    optimizer = nn.optim.SGD(model.parameters(), lr=0.1, **settings)

    def step(x, y):
        loss = ((model(x) - y) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, model


def pairs(count=6, rows=2):
    data = [(drawn(rows, 3), drawn(rows, 3)) for _ in range(count)]
    return [lambda both=both: there(*both) for both in data]


# --- the same bits -------------------------------------------------------------------------------


@pytest.mark.full
def test_two_layers(marked):
    def make():
        model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
        return training(model, nn.optim.SGD(model.parameters(), lr=0.1))

    # Checks and labels first, then all in one, gradients and parameters last.
    assert same(make, batches((2, 2), 2)).graphs == 1


def test_sgd_with_momentum(marked):
    make = functools.partial(light, momentum=0.9, nesterov=True)
    program = same(make, pairs(7), ways=tuple(WAYS))
    assert program.graphs == 1
    assert repr(program) == f"<program: 5 replays, 1 graph and {program.calls} others each>"


def test_without_marks_a_graph_ends_at_each_effect(monkeypatch):
    monkeypatch.setattr(effects, "asides", set())
    assert same(light, pairs()).graphs == 2


def test_a_network_of_convolutions_with_adam_and_a_schedule():
    schedules = []

    def make():
        model = nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)
        )
        optimizer = nn.optim.Adam(model.parameters(), lr=0.05, weight_decay=0.01)
        schedules.append(StepLR(optimizer, 2, 0.5))
        return training(model, optimizer)

    same(make, batches((2, 1, 6, 6), 3), also=lambda step: schedules[-1].step())


def test_dropout_draws_anew():
    def make():
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), Light(), nn.Dropout(0.3))

        def step(x):
            loss = (model(x) ** 2).sum()
            loss.backward()
            return loss

        return step, model

    same(make, arguments(2, 3, 1))


def normed():
    model = nn.Sequential(nn.BatchNorm2d(2), nn.ReLU())

    def step(x):
        loss = (model(x) ** 2).sum()
        loss.backward()
        return loss

    return step, model


def test_running_statistics_advance(monkeypatch):
    monkeypatch.setattr(effects, "writers", set())
    same(normed, arguments(2, 2, 2, 1))


def test_running_statistics_are_part_of_a_graph(marked):
    program = same(normed, arguments(2, 2, 2, 1))
    held = {entry.entry.name for entry in program._parts._pieces if entry.work}
    assert "_follow" in held
    step, model = normed()
    model.to("cuda")
    step = mg.capture(step)
    for args in arguments(2, 2, 2, 1):
        before = backend.last_write
        step(*args())
        running = model[0].running_mean._data
        assert backend.writer_since(running, before) == "batch_norm's running statistics"


@pytest.mark.parametrize("kind", [nn.RNN, pytest.param(nn.LSTM, marks=pytest.mark.full)])
def test_recurrent_networks(kind):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = kind(2, 2)

        def forward(self, x):
            return self.rnn(x)[0][-1]

    def make():
        model = Model()
        parameters = list(model.parameters())
        optimizer = nn.optim.SGD(parameters, lr=0.1)
        return training(model, optimizer, lambda: nn.optim.clip_grad_norm_(parameters, 0.5))

    same(make, [lambda x=drawn_one: (*there(x), [1]) for drawn_one in drawn(6, 2, 1, 2)])


def test_numbers_of_words():
    """Rows are read and added at places that the host works out: between two graphs."""

    def make():
        model = nn.Embedding(5, 3)

        def step(x):
            loss = (model(x) ** 2).sum()
            loss.backward()
            return loss

        return step, model

    same(make, [lambda x=x: (x,) for x in rng.integers(0, 5, (6, 2, 3))])


def test_inference():
    def make():
        model = nn.Sequential(Light(), nn.BatchNorm1d(3), nn.ReLU()).eval()

        def step(x):
            with mg.no_grad():
                return model(x)

        return step, model

    same(make, arguments(2, 3))


def test_gradients_that_add_up():
    """What a leaf already has may lie where a graph wrote it: it must stay until it is read."""

    def make():
        model = Light()

        def step(x):
            loss = model(x).sum()
            loss.backward()
            return loss

        held.append((model, itertools.count()))
        return step, model

    def now_and_then(step):
        model, count = held[-1]
        if next(count) in (2, 4):
            model.zero_grad()

    held = collections.deque()
    same(make, [*arguments(2, 3), *arguments(2, 3)[:2]], also=now_and_then)


def test_gradients_inside_of_the_step():
    def make():
        model = nn.ModuleList()
        w = model.weight = nn.Parameter(drawn_once)

        def step(x):
            w.zero_grad()
            ((w * x) ** 2).sum().backward()
            w.assign(w.detach() - w.grad * 0.1)
            return w.grad

        return step, model

    drawn_once = drawn(3)
    same(make, arguments(3))


def test_gradients_of_arguments():
    w = mg.tensor(drawn(3)).to("cuda")

    def make():
        def step(x):
            (mg.tanh(x * w) ** 2).sum().backward()

        return step, nn.Sequential()

    seen = []
    for wrap in WAYS.values():
        step = wrap(make()[0])
        held = []
        for i in range(6):
            x = mg.tensor(np.full(3, 0.1 * i, np.float32)).to("cuda")
            x.requires_grad = True
            step(x)
            held.append(x)
        seen.append([bits(x.grad) for x in held])
    assert seen[0] == seen[1] == seen[2]
    assert step.programs[0].graphs == 1


def test_results_of_every_kind():
    def make():
        model = nn.ModuleList()
        w = model.weight = nn.Parameter(drawn_once)

        def step(x, k):
            y = x * w
            return {"y": y, "t": y.reshape(-1)[1:], "x": x, "k": k, "s": (y.sum(), [y.detach()])}

        return step, model

    drawn_once = drawn(2, 2)
    program = same(make, [lambda call=call: (*call(), "k") for call in arguments(2, 2)])
    assert program.graphs == 1


def test_effects_of_users_get_what_they_may_keep():
    kept, numbers = collections.deque(), itertools.count()

    @effects.effect
    def keep(array):
        kept.append(array)

    @effects.effect
    def number(array):
        return float(next(numbers) % 6)

    def make():
        kept.clear()

        def step(x):
            y = mg.tanh(x * 2.0)
            z = y.reshape(-1)
            keep(y._data)
            keep(z._data)
            return y + z.reshape(y.shape) * number(z._data), x

        return step, nn.Sequential()

    program = same(make, arguments(2, 2), also=lambda step: [array.tolist() for array in kept])
    assert program.graphs == 2


@effects.effect
def doubled(array):
    array *= 2.0
    backend.written(array, "doubled")


def test_an_effect_that_writes_into_a_value_is_replayed_as_before():
    """Whoever has a view of it, or was given it before, sees that too."""

    def step(x):
        y = mg.tanh(x * 2.0)
        doubled(y.reshape(-1)._data)
        return y + 1.0

    captured = mg.capture(step)
    for args in arguments(2, 2):
        assert bits(captured(*args())) == bits(step(*args()))
    assert captured.replays == 4 and captured.programs[0].graphs == 0


def test_an_effect_that_begins_to_write_into_a_value():
    """The first replays did not show it: what it wrote is copied to where graphs will read it."""
    count = itertools.count()

    @effects.effect
    def sometimes(array):
        if next(count) % 6 > 3:
            array *= 2.0
            backend.written(array, "sometimes")

    def make():
        def step(x):
            y = mg.tanh(x * 2.0)
            sometimes(y.reshape(-1)._data)
            return y + 1.0

        return step, nn.Sequential()

    same(make, arguments(2, 2))


def test_an_effect_that_writes_into_an_argument():
    writing = effects.writing(doubled.__wrapped__)

    def make():
        def step(x):
            before = x * 3.0
            writing(x._data)
            return before + x * 2.0

        return step, nn.Sequential()

    given = []

    def call(x):
        given.append(mg.tensor(x).to("cuda"))
        return (given[-1],)

    calls = [lambda x=x: call(x) for x in [drawn(3) for _ in range(5)]]
    same(make, calls, also=lambda step: bits(given[-1]))


def test_arguments_that_share_memory_with_what_the_step_writes():
    models = collections.deque()

    def make():
        model = nn.ModuleList()
        model.total = mg.tensor(np.ones(3, np.float32)).to("cuda")
        models.append(model)

        def step(x, z):
            y = x * 2.0
            model.total.assign(model.total * 0.5 + y)
            doubled(x._data)
            return y + x * model.total + z

        return step, model

    def twice(call):
        (x,) = call()
        return x, x.reshape(1, 3)[0]

    def itself(call):
        return models[-1].total, *call()

    kinds = [twice, twice, twice, twice, twice, twice, itself, itself, twice]
    calls = [functools.partial(kind, call) for kind, call in zip(kinds, arguments(3) * 2)]  # noqa: B905
    same(make, calls)


def test_another_thread_computes_while_a_graph_is_noted(card):
    mine, theirs = there(np.ones(3, np.float32), np.ones(3, np.float32))
    seen = []

    def work():
        thread = threading.Thread(target=lambda: theirs._data.fill(5.0))
        thread.start()
        thread.join()
        mine._data.fill(7.0)
        seen.append(card.watch.launches)

    noted = graphs.Graphs(card).record(work)
    assert seen == [1] and theirs.numpy().tolist() == [5.0] * 3
    assert mine.numpy().tolist() == [1.0] * 3
    theirs._data.fill(6.0)
    noted.launch()
    assert mine.numpy().tolist() == [7.0] * 3 and theirs.numpy().tolist() == [6.0] * 3


# --- when a graph does not hold ------------------------------------------------------------------


def trained(steps=4):
    step, model = light()
    model.to("cuda")
    captured = mg.capture(step)
    for args in pairs(steps):
        captured(*args())
    assert (captured.programs[-1].graphs > 0) is (steps > 3)
    return captured, step, model


def agree(captured, step, model, args):
    """The next call, and the step itself, from the same parameters."""
    held = {name: p.numpy().copy() for name, p in model.named_parameters()}
    found = bits(captured(*args())), looked_at(model)
    for name, p in model.named_parameters():
        p.assign(held[name])
    assert found == (bits(step(*args())), looked_at(model))


def test_replaced_parameters_are_recorded_anew():
    captured, step, model = trained()
    recordings = captured.recordings
    model.weight._data = model.weight._data * 2.0
    for args in pairs():
        agree(captured, step, model, args)
    assert captured.recordings == recordings + 2
    assert captured.programs[-1].graphs
    model.weight.assign(drawn(3))  # in place: the graph reads it
    agree(captured, step, model, pairs(1)[0])
    assert captured.recordings == recordings + 2


def test_programs_of_two_shapes_do_not_disturb_each_other():
    captured, step, model = trained()
    both = zip(pairs(), pairs(rows=3), strict=True)
    held = []
    for pair in both:
        for args in pair:
            agree(captured, step, model, args)
            loss = captured(*args())
            held.append((loss, bits(loss)))
    assert [program.graphs > 0 for program in captured.programs] == [True, True]
    assert all(bits(loss) == was for loss, was in held)


def test_gradients_that_are_held_stay(monkeypatch):
    captured, _, model = trained()
    held, plain = [], []
    plainly = stretches._Turn._plainly
    monkeypatch.setattr(
        stretches._Turn, "_plainly", lambda *args: plain.append(args) or plainly(*args)
    )
    for args in pairs(5):
        captured(*args())
        held += [(p.grad, p.grad.T, bits(p.grad), bits(p.grad.T)) for p in model.parameters()]
        for g, t, was, turned in held:
            assert (bits(g), bits(t)) == (was, turned)
    assert len(plain) == 1  # from then on copies are handed out


def test_a_wrong_label_raises_and_leaves_all_as_it_is():
    def make():
        model = nn.Sequential(Light())
        step, _ = training(model, nn.optim.SGD(model.parameters(), lr=0.1))
        return step, model

    step, model = make()
    model.to("cuda")
    captured = mg.capture(step)
    for i, args in enumerate(batches((2, 3), 3, 6)):
        if i > 1:  # before it is rehearsed, noted and launched
            x, _ = args()
            with pytest.raises(ValueError, match="classes 0 to 2"):
                captured(x, np.array([0, 3]))
        agree(captured, step, model, args)
    assert captured.programs[0].graphs


def refusing(driver):
    def end_graph():
        driver.abandon_graph()
        raise RuntimeError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")

    return end_graph


def test_what_cannot_be_noted_is_replayed_as_before(monkeypatch, card):
    captured, step, model = trained(3)  # two recordings and a replay
    monkeypatch.setattr(card.driver, "end_graph", refusing(card.driver))
    first, *calls = pairs(5)
    with pytest.warns(RuntimeWarning, match="without graphs: CUDA_.*UNSUPPORTED") as told:
        agree(captured, step, model, first)
    assert len(told) == 1 and told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for args in calls:
            agree(captured, step, model, args)
    (program,) = captured.programs
    assert program.graphs == 0 and "nothing noted" in repr(program)
    assert card.watches == {} and card.allocator._within is None


def test_a_graph_that_is_made_and_cannot_be_launched(monkeypatch, card):
    captured, step, model = trained(3)

    def launch_graph(graph):
        raise RuntimeError("CUDA_ERROR_NOT_SUPPORTED")

    monkeypatch.setattr(card.driver, "launch_graph", launch_graph)
    with pytest.warns(RuntimeWarning, match="without graphs: .*NOT_SUPPORTED"):
        agree(captured, step, model, pairs(1)[0])
    agree(captured, step, model, pairs(1)[0])


def test_a_stretch_that_fails_after_others_loses_nothing(monkeypatch, card):
    """The first graph was launched when the second cannot be made."""

    def make():
        model = nn.Sequential(Light(), nn.Dropout(0.5), Light())

        def step(x):
            loss = (model(x) ** 2).sum()
            loss.backward()
            return loss

        return step, model

    calls, seen = arguments(2, 3), []
    real, count = card.driver.end_graph, []

    def second():
        count.append(1)
        return real() if len(count) == 1 else refusing(card.driver)()

    for wrap in WAYS["eager"], WAYS["graphs"]:
        mg.manual_seed(3)
        step, model = make()
        model.to("cuda")
        step = wrap(step)
        monkeypatch.setattr(card.driver, "end_graph", second)
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            seen.append([(bits(step(*args())), looked_at(model)) for args in calls])
    assert len(count) == 2 and seen[0] == seen[1]


def test_an_interrupt_leaves_no_trace(monkeypatch, card):
    captured, step, model = trained(3)

    def interrupted(self, target, array):
        raise KeyboardInterrupt

    first, *calls = pairs(5)
    with monkeypatch.context() as patched:
        patched.setattr(graphs.Graphs, "fill", interrupted)
        with pytest.raises(KeyboardInterrupt):
            captured(*first())
    assert card.watches == {} and card.allocator._within is None
    for args in calls:
        agree(captured, step, model, args)
    assert captured.programs[0].graphs


def test_graphs_can_be_left_out():
    step, model = light()
    model.to("cuda")
    captured = mg.capture(graphs=False)(step)
    for args in pairs(5):
        captured(*args())
    assert captured.replays == 3 and captured.programs[0].graphs == 0


def test_labels_that_lie_on_the_card_are_checked_before_the_graph(marked):
    def make():
        model = nn.Sequential(Light())
        return training(model, nn.optim.SGD(model.parameters(), lr=0.1))

    calls = [lambda call=call: there(*map(as_array, call())) for call in batches((2, 3), 3, 5)]
    assert same(make, calls).graphs == 1


def as_array(value):
    return value.numpy() if isinstance(value, mg.Tensor) else value


def test_the_precision_of_products_is_that_of_the_call():
    step = lambda x, w: x @ w  # noqa: E731
    captured, (x, w) = mg.capture(step), there(drawn(2, 2), drawn(2, 2))
    for _ in range(5):
        captured(x, w)
    assert captured.programs[0].graphs
    exact = bits(captured(x, w))
    try:
        mg.cuda.set_matmul_precision("bfloat16")
        rounded = [bits(captured(x, w)) for _ in range(3)]
        assert rounded == [bits(step(x, w))] * 3 and exact not in rounded
    finally:
        mg.cuda.set_matmul_precision("float32")
    assert bits(captured(x, w)) == exact and captured.recordings == 2


def test_what_another_library_computes_is_no_part_of_a_graph(card, monkeypatch):
    def absent():
        raise ImportError

    monkeypatch.setattr(library, "_cupy", absent)
    (x,) = there(drawn(2, 2))
    noted = graphs.Graphs(card)
    with noted.watching() as watch, pytest.raises(ImportError):
        library.multiply_into(x._data, x._data, x._data)
    assert watch.left == ["is computed by another library"]
    with pytest.raises(backend.NotRecorded, match="another library"):
        noted.record(lambda: library.multiply_into(x._data, x._data, x._data))


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.to_numpy(),
        lambda x: x.from_numpy(np.zeros(3)),
        lambda x: x.card.synchronise(),
        lambda x: x.__dlpack__(),
        lambda x: backend.device_of(x).send(np.zeros(3)),
    ],
)
def test_what_waits_for_the_card_is_not_noted(card, work):
    (x,) = there(drawn(3))
    noted = graphs.Graphs(card)
    with pytest.raises(backend.NotRecorded, match="a CUDA graph cannot hold what"):
        noted.record(lambda: work(x._data))
    assert noted.record(lambda: x._data.fill(2.0)).launches == 1  # and the card is as it was
    work(x._data)


def test_a_noted_graph_does_nothing_until_it_is_launched(card):
    (x,) = there(np.ones(3, np.float32))
    found = graphs.Graphs(card).record(lambda: np.multiply(x._data, 2.0, out=x._data))
    assert x.numpy().tolist() == [1.0] * 3
    found.launch()
    found.launch()
    assert x.numpy().tolist() == [4.0] * 3


def test_two_threads_replay_one_program():
    """The memory is there once: whoever comes second replays without graphs."""
    w = mg.tensor(drawn(3)).to("cuda")
    captured = mg.capture(lambda x: mg.tanh(x * w).sum())
    values = [drawn(3) for _ in range(12)]
    wanted = [bits(mg.tanh(there(x)[0] * w).sum()) for x in values]
    for x in values[:4]:
        captured(*there(x))
    assert captured.programs[0].graphs == 1
    found, start = {}, threading.Barrier(3)

    def replay(part):
        start.wait()
        for i in range(part, 12, 3):
            found[i] = bits(captured(*there(values[i])))

    threads = [threading.Thread(target=replay, args=(part,)) for part in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(12)] == wanted


# --- memory --------------------------------------------------------------------------------------


def test_places_are_used_again_and_hold_nothing(card):
    noted, seen = graphs.Graphs(card), []

    def work():
        first = card.empty((2, 3))
        first.fill(1.0)
        seen.append(noted.again(first))
        seen.append(noted.again(first.T[1:]))
        del first
        second = card.empty((3, 2))  # in the same place
        second.fill(2.0)
        seen.append(noted.again(second))

    held = card.empty(3)
    assert noted.again(held) is held and not noted.owns(held)
    graph = noted.record(work)
    first, part, second = seen
    assert [a.shape for a in seen] == [(2, 3), (2, 2), (3, 2)]
    assert first._block.address == part._block.address == second._block.address
    assert part.base is first and np.may_share_memory(first, part)
    assert all(map(noted.owns, seen))
    graph.launch()
    assert first.tolist() == [[2.0] * 3] * 2


def test_memory_does_not_grow_and_comes_back(card):
    gc.collect()
    before = mg.cuda.memory_stats()
    captured, step, model = trained(5)
    calls = pairs(12)
    for args in calls[:2]:
        captured(*args())
    gc.collect()
    held = mg.cuda.memory_stats()
    gc.disable()
    try:
        for args in calls[2:]:
            captured(*args())
    finally:
        gc.enable()
    now = mg.cuda.memory_stats()
    assert (now.allocated, now.arrays) == (held.allocated, held.arrays)
    assert (now.reserved, now.segments) == (held.reserved, held.segments)
    captured.reset()
    model.zero_grad()
    for parameter in model.parameters():
        parameter.grad = None
    del captured, step, model, args, calls
    gc.collect()
    mg.cuda.empty_cache()
    after = mg.cuda.memory_stats()
    assert after.arrays - before.arrays <= 2  # tables of the optimiser, which are kept
    assert list(card.allocator._streams) == [id(card.driver.stream)]


def test_a_program_takes_its_graphs_with_it(card, monkeypatch):
    forgotten = []
    monkeypatch.setattr(
        card.driver, "forget_graph", lambda graph: forgotten.append(graph), raising=True
    )
    captured, _, _ = trained()
    count = captured.programs[0].graphs
    gc.disable()
    try:
        captured.reset()
        assert len(forgotten) == count
    finally:
        gc.enable()


def test_a_held_gradient_outlives_its_program():
    captured, _, model = trained(6)
    held = model.weight.grad
    was = bits(held)
    del captured
    gc.collect()
    rest = [mg.tensor(np.full(50, 7.0, np.float32)).to("cuda") for _ in range(20)]
    assert bits(held) == was and len(rest) == 20


# --- the tester is tested ------------------------------------------------------------------------


@contextlib.contextmanager
def nowhere(self, pool):
    yield


def skip(*arguments):
    pass


def whoever_holds(self, part, ready=stretches._Turn._ready):
    self._owner._out.clear()
    return ready(self, part)


BROKEN = {
    "arguments are not copied": (graphs.Graphs, "fill", skip),
    "results are not copied": (stretches._Turn, "result", lambda self: self._owner._result(
        self._leaves, *[self._frame[n] for n in self._owner._returned])),
    "memory is everybody's": (Allocator, "within", nowhere),
    "nobody asks who still has a gradient": (stretches._Turn, "_ready", whoever_holds),
    "none": (graphs.Graphs, "fill", graphs.Graphs.fill),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in BROKEN if name != "none"])
def test_a_broken_rule_is_found(name, monkeypatch):
    held = collections.deque()

    def make():
        held.clear()
        step, model = light()
        held.append(model)
        return step, model

    def gradients(step):
        held.append([p.grad for p in held[0].parameters()])
        return [bits(found) for found in list(held)[1:]]

    owner, attribute, wrong = BROKEN[name]
    monkeypatch.setattr(owner, attribute, wrong)
    with pytest.raises(AssertionError, match="graphs, call"):
        same(make, pairs(8), also=gradients)


def test_all_of_that_holds():
    """What the broken ones are tried on passes as it is."""
    with pytest.MonkeyPatch.context() as nothing_broken, pytest.raises(pytest.fail.Exception):
        test_a_broken_rule_is_found("none", nothing_broken)
