"""Datasets and transforms for the tests of workers, which a fresh interpreter can import."""

import os
import signal
import time

import numpy as np

from minigrad_nn.data import ArrayDataset


def jitter(batch, generator):
    """Draws, changes a batch in place, and changes its type."""
    batch[0][...] += generator.random(batch[0].shape, dtype=np.float64).astype(batch[0].dtype)
    return batch[0].astype(np.float32), *batch[1:]


class Wide(ArrayDataset):
    """Samples of `width` float64 numbers and their index."""

    def __init__(self, size, width):
        super().__init__(np.arange(size * width, dtype=np.float64).reshape(size, width),
                         np.arange(size))  # fmt: skip


class Growing:
    """Batches of very different sizes and kinds, among them no bytes at all."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        index = np.asarray(index)
        width = int(index[0]) ** 3 * 50
        wide = np.asfortranarray(index[:, None] * np.arange(width, dtype=np.int32))
        return wide, index, np.zeros((len(index), 0)), np.float64(index.sum()), {"a": [index]}


class Failing(ArrayDataset):
    """Fails for one sample, in one of several ways."""

    def __init__(self, size, bad, way="error"):
        super().__init__(np.arange(size))
        self.bad, self.way = bad, way

    def source(self, index):
        return f"the file {index}.png"

    def __getitem__(self, index):
        if self.bad in np.atleast_1d(index):
            if self.way == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.way == "exit":
                os._exit(3)
            if self.way == "unpicklable":
                raise Odd("odd", lambda: None)
            if self.way == "unpicklable batch":
                return (lambda: None,)
            if self.way == "slow":
                time.sleep(60)
            raise KeyError(f"no {self.bad}")
        return super().__getitem__(index)


class Odd(Exception):
    """Cannot be pickled: it holds a function."""


class FailingToLoad(ArrayDataset):
    """Cannot be rebuilt in another process."""

    def __init__(self):
        super().__init__(np.arange(3))

    def __setstate__(self, state):
        raise OSError("no such database")


class Noting(ArrayDataset):
    """Writes what is asked for into a folder, as processes share no memory."""

    def __init__(self, size, folder):
        super().__init__(np.arange(size))
        self.folder = folder

    def __getitem__(self, index):
        (self.folder / f"{index[0]}").write_text(str(os.getpid()))
        return super().__getitem__(index)


def failing_transform(batch, generator):
    raise ZeroDivisionError("by design")
