"""A card's arrays inside red zones: reading them spoils a result, and writing to them shows."""

import numpy as np

ZONE = 64  # numbers on each side: more than the simulator's widest tile


class Zones:
    """Gives out guarded arrays of a card, and checks all of their zones."""

    def __init__(self, card):
        self.card = card
        self.buffers = []

    def empty(self, shape, dtype):
        dtype = np.dtype(dtype)
        canary = np.nan if dtype.kind == "f" else np.iinfo(dtype).max // 3
        size = int(np.prod(shape))
        buffer = self.card.from_numpy(np.full(size + 2 * ZONE, canary, dtype))
        self.buffers.append((buffer, size, canary))
        return buffer[ZONE : ZONE + size].reshape(shape)

    def copy(self, array):
        if array is None:
            return None
        inside = self.empty(array.shape, array.dtype)
        inside[...] = self.card.from_numpy(array)
        return inside

    def check(self):
        for buffer, size, canary in self.buffers:
            now = buffer.to_numpy()
            for part in now[:ZONE], now[ZONE + size :]:
                assert np.array_equal(part, np.full(ZONE, canary, now.dtype), equal_nan=True)


class GuardedWorkspace:
    """Scratch memory inside red zones, full of NaN: what is read before it is written shows."""

    def __init__(self, zones):
        self.zones = zones

    def begin(self):
        pass

    def take(self, shape, dtype):
        return self.zones.empty(shape, dtype)
