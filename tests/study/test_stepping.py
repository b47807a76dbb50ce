"""The debugger for backprop: what it does is what `backward()` does, and it can be taken back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad
from minigrad import study
from minigrad.study.stepping import stepping
from minigrad.study.terminal import HELP
from tests.study.programs import scalar_programs, tensor_programs


def bits(value):
    return None if value is None else np.asarray(getattr(value, "data", value)).tobytes()


def state(s):
    """Everything that can be seen of a stepping, in bytes."""
    known = {s.names[node]: bits(g) for node, g in s.known().items()}
    return s.position, known, str(s), [s.complete(node) for node in s.names]


def gradients_after(program, run):
    leaves = program.make_leaves()
    values = program.run(leaves)
    if getattr(values[-1], "requires_grad", False):
        run(values[-1])
    return [bits(leaf.grad) for leaf in leaves], values


def through_stepping(loss):
    with stepping(loss) as s:
        s.step()


@given(scalar_programs())
def test_end_state_of_scalars_is_that_of_backward_to_the_bit(program):
    wanted, values = gradients_after(program, lambda loss: loss.backward())
    found, others = gradients_after(program, through_stepping)
    assert found == wanted
    assert [bits(v.grad) for v in others] == [bits(v.grad) for v in values]


@given(tensor_programs(np.float32))
def test_end_state_of_tensors_is_that_of_backward_to_the_bit(program):
    wanted, _ = gradients_after(program, lambda loss: loss.backward())
    found, _ = gradients_after(program, through_stepping)
    assert found == wanted


@given(st.one_of(scalar_programs(), tensor_programs()), st.data())
def test_back_after_step_is_the_identity(program, data):
    leaves = program.make_leaves()
    loss = program.run(leaves)[-1]
    s = stepping(loss)
    states = [state(s)]
    while s.step():
        states.append(state(s))
    assert len(states) == len(s) + 1
    before = s.position
    for _ in range(4):
        place = data.draw(st.integers(0, len(s)))
        s.go(place)
        assert state(s) == states[place]
        if place < len(s):
            s.step()
            s.back()
            assert state(s) == states[place]
    s.go(0)
    assert state(s) == states[0]
    assert all(leaf.grad is None for leaf in leaves)
    s.go(before)
    assert state(s) == states[-1]


def circuit():
    x, y, z = (minigrad.scalar(v, name=n) for v, n in ((-2.0, "x"), (5.0, "y"), (-4.0, "z")))
    q = x + y
    q.name = "q"
    return x, y, z, q, q * z


def test_gradients_are_handed_over_at_the_end_and_taken_back():
    x, y, z, q, f = circuit()
    x.grad = 100.0
    s = stepping(f)
    s.step()
    assert (x.grad, y.grad, z.grad) == (100.0, None, None)
    assert s.gradient(z) == 3.0 and s.gradient(x) is None
    s.step()
    assert (x.grad, y.grad, z.grad, q.grad) == (96.0, -4.0, 3.0, -4.0)
    s.back()
    assert (x.grad, y.grad, z.grad, q.grad) == (100.0, None, None, None)


def test_a_block_that_fails_changes_no_gradient_and_one_that_ends_well_does():
    x, *_, f = circuit()
    with pytest.raises(KeyError), stepping(f) as s:
        s.step()
        raise KeyError
    assert x.grad is None
    with stepping(f) as s:
        s.step()
        s.back()
    assert x.grad == -4.0
    s.back()  # after the block, this is only looking
    assert x.grad == -4.0 and s.position == 1


def test_contributions_and_totals_of_a_value_that_is_used_twice():
    x = minigrad.scalar(3.0, name="x")
    s = stepping(x * x)
    step = s.step()
    assert [flow.contribution for flow in step.contributions] == [3.0, 3.0]
    assert step.totals == [3.0, 6.0] and step.complete == [x]


def test_values_that_are_equal_are_told_apart():
    x, y = minigrad.scalar(1.0, name="x"), minigrad.scalar(1.0, name="y")
    p = x * 1.0
    q = p * y
    s = stepping(q + p * 3.0 + y)
    s.finish()
    s.go(0)
    done = []
    while (step := s.step()) is not None:
        done += [s.names[node] for node in step.complete]
        assert [s.complete(node) for node in s.names] == [
            name in done or node is s.root for node, name in s.names.items()
        ]
    assert sorted(done) == sorted(name for node, name in s.names.items() if node is not s.root)
    s.go(1)
    assert s._repr_html_().count("#ffd54a") == 1


def test_run_to_op_name_and_not_finite():
    w = minigrad.tensor([1.0, 0.0, 4.0], requires_grad=True, name="w")
    h = minigrad.sqrt(w)
    h.name = "h"
    y = minigrad.tanh(h * 2.0)
    s = stepping(y.sum())
    assert s.run_to(op="tan*").gate is y.node
    assert s.run_to(name="h").gate is h.node
    s.go(0)
    step = s.run_to(nonfinite=True)
    assert step.gate is h.node and not step.finite
    s.go(0)
    assert s.run_to(name="w").complete == [w.node]
    assert s.run_to(op="relu") is None and s.position == len(s)


def test_wrong_requests_are_told():
    *_, f = circuit()
    s = stepping(f)
    with pytest.raises(ValueError, match="give op="):
        s.run_to()
    with pytest.raises(IndexError, match="0 to 2, got 3"):
        s.go(3)
    with pytest.raises(ValueError, match="no gradient from this loss"):
        s.gradient(minigrad.scalar(1.0))
    with pytest.raises(ValueError, match="depends on nothing"):
        stepping(minigrad.scalar(1.0, requires_grad=False) * 2.0)
    with pytest.raises(ValueError, match=r"\.html"):
        s.save("picture.png")


def test_hooks_act_as_in_backward():
    def run(walk):
        x = minigrad.tensor([1.0, 2.0], requires_grad=True)
        h = x * 3.0
        h.register_hook(lambda g: g * 10.0)
        x.register_hook(lambda g: g + 1.0)
        walk((h * h).sum())
        return x.grad.numpy().tolist()

    assert run(through_stepping) == run(lambda loss: loss.backward())


def test_a_gradient_that_was_there_is_added_to_and_interior_ones_are_kept_on_request():
    x = minigrad.tensor([1.0, 2.0], requires_grad=True)
    h = (x * 3.0).retain_grad()
    loss = h.sum()
    for total in (3.0, 6.0):
        with stepping(loss):
            pass
        assert x.grad.numpy().tolist() == [total, total]
        assert h.grad.numpy().tolist() == [1.0, 1.0]


def test_several_outputs_and_indexed_gradients():
    def run(walk):
        from minigrad_nn import functional as F

        rng = np.random.default_rng(0)
        x = minigrad.tensor(rng.normal(size=(2, 1, 4, 4)), requires_grad=True)
        a = F.max_pool2d(x, 2)
        loss = (a[0] * a[1] + a[:, :, 0:1].sum()).sum()
        walk(loss)
        return x.grad.numpy().tobytes()

    assert run(through_stepping) == run(lambda loss: loss.backward())


def test_what_stands_in_the_way_of_a_walk_is_seen():
    x, *_, f = circuit()

    class Double(minigrad.observing.Interposer):
        def pull(self, proceed, node, *args):
            return [None if c is None else 2.0 * c for c in proceed(node, *args)]

    with minigrad.observing.stand(Double()):
        s = stepping(f)
        s.finish()
    assert s.gradient(x) == -16.0


def test_words_say_rule_numbers_and_line():
    with study.recording():
        a = minigrad.scalar(2.0)
        b = minigrad.scalar(-3.0)
        product = a * b
    s = stepping(product)
    assert "product starts with the gradient 1" in str(s)
    s.step()
    text = str(s)
    assert "to a: g × b = 1 × (-3) = -3; a has received -3, complete" in text
    assert "test_stepping.py" in text and "product = a * b" in text
    assert "[" not in text


def test_rich_shows_the_same_words_in_colour():
    console = pytest.importorskip("rich.console").Console(
        record=True, width=200, force_terminal=True
    )
    s = stepping((minigrad.tensor([[1.0, 2.0]], requires_grad=True, name="w")[0, :] * 2.0).sum())
    s.finish()
    console.print(s)
    styled = console.export_text(styles=True, clear=False)
    assert console.export_text().rstrip("\n") == str(s)
    assert "\x1b[31m" in styled


def test_typed_commands():
    x, *_, f = circuit()
    lines = iter(["", "b", "g 2", "p x", "t relu", "n nowhere", "p nothing", "g 9", "help", "q"])
    shown = []
    s = stepping(f)
    s.interact(lambda prompt: next(lines), lambda words: shown.append(str(words)))
    assert s.position == 2 and x.grad == -4.0
    assert "x: -4.0" in shown
    assert any("no node is called 'nothing'" in words for words in shown)
    assert any("positions are 0 to 2" in words for words in shown)
    assert HELP in shown


def test_input_that_ends_ends_the_commands():
    *_, f = circuit()

    def read(prompt):
        raise EOFError

    stepping(f).interact(read, lambda words: None)


def test_a_long_chain_is_stepped_without_recursion():
    x = minigrad.scalar(1.0)
    y = x
    for _ in range(20_000):
        y = y + 0.0
    with stepping(y) as s:
        pass
    assert len(s) == 20_000 and x.grad == 1.0
