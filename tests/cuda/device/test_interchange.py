"""Memory that is shared with other libraries, both ways, and copies beside computing."""

import gc

import numpy as np
import pytest

import minigrad as mg
from minigrad_nn.data import ArrayDataset, Loader
from minigrad_nn.kernels.cuda import interchange
from minigrad_nn.kernels.cuda.copies import Sender


@pytest.fixture
def views(card):
    x = np.arange(24.0, dtype="f").reshape(2, 3, 4)
    there = card.from_numpy(x)
    turned = (slice(None, None, -1), slice(None), slice(1, None))
    return [(there, x), (there[turned], x[turned]), (there.T, x.T), (there[1, 2, 3], x[1, 2, 3]),
            (there > 3, x > 3), (there[:0], x[:0])]  # fmt: skip


def test_dlpack_and_the_interface_give_the_same_memory(views):
    for there, x in views:
        for back in (mg.cuda.from_dlpack(there), interchange.from_interface(there)):
            assert back.dtype == x.dtype and back.device_array.shape == np.shape(x)
            np.testing.assert_array_equal(back.to_numpy(), x)


def test_writing_on_one_side_shows_on_the_other(card):
    x = card.from_numpy(np.zeros(3))
    other = mg.cuda.from_dlpack(x)
    other[1] = 5.0
    assert x.tolist() == [0.0, 5.0, 0.0]


def test_memory_lives_as_long_as_somebody_uses_it(card):
    gc.collect()
    lent = len(interchange._lent)
    x = card.from_numpy(np.arange(3.0))
    other = mg.cuda.from_dlpack(x)
    address = x._block.address
    del x
    assert card.from_numpy(np.zeros(3))._block.address != address
    assert other.tolist() == [0.0, 1.0, 2.0]
    del other
    assert len(interchange._lent) == lent
    capsule = card.from_numpy(np.zeros(3)).__dlpack__()  # nobody takes it
    assert len(interchange._lent) == lent + 1
    del capsule
    assert len(interchange._lent) == lent


def test_an_array_of_the_host_is_told(card):
    with pytest.raises(BufferError, match="does not lie on a CUDA card"):
        mg.cuda.from_dlpack(np.zeros(3))


def test_what_is_sent_may_be_changed_at_once(card):
    sender = Sender(card)
    x = np.arange(6.0, dtype="f").reshape(2, 3)
    arrivals = [sender.send(x.T), sender.send(x[:0])]
    wanted = x.T.copy()
    x[...] = 0.0
    np.testing.assert_array_equal(arrivals[0]().to_numpy(), wanted)
    assert arrivals[1]().shape == (0, 3)


def test_a_loader_gives_the_same_batches_there(card):
    rng = np.random.default_rng(0)
    data = ArrayDataset(rng.normal(size=(7, 3)).astype("f"), rng.integers(0, 2, 7))
    here, there = Loader(data, 3, seed=1), Loader(data, 3, seed=1)
    for (x, t), (y, u) in zip(here, there.on("cuda"), strict=True):
        assert mg.tensor(y).device == "cuda:0" and isinstance(u, np.ndarray)
        np.testing.assert_array_equal(y.to_numpy(), x)
        np.testing.assert_array_equal(u, t)
        assert there.batch == here.batch  # what is on its way does not count


def test_memory_does_not_grow(card):
    def step():
        x = mg.ones((2, 3)).to("cuda").requires_grad_()
        (x * x).sum().backward()

    step()
    before = mg.cuda.memory_stats()
    for _ in range(5):
        step()
    after = mg.cuda.memory_stats()
    assert (after.allocated, after.reserved) == (before.allocated, before.reserved)
