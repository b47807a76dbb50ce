"""The tables behind lines: no tile reaches beyond what is packed, no row lies over another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad_nn.kernels.cpu import plan as plans
from minigrad_nn.kernels.cpu.tile import lanes
from tests.kernels.draws import geometries


@pytest.mark.parametrize("make", [plans.forward, plans.backward])
@given(geometry=geometries(), channels=st.integers(1, 3), itemsize=st.sampled_from((4, 8)))
def test_lines_stay_inside_the_packed_image(make, geometry, channels, itemsize):
    plan = make(geometry, channels, itemsize)
    written = np.zeros(tuple(plan.write_size), int)
    entries = 0
    for row in plan.passes:
        first, count, length = row[:3]
        counts, starts = row[3:6], row[6:9]
        reads = plan.offsets[first : first + count]
        entries += count
        assert length % lanes(itemsize) == 0 and length <= plan.line
        if count:
            assert reads.min() >= 0 and reads.max() + length <= plan.packed
        # Rows of a pass lie behind one another in its line, and end within it.
        assert (counts[1:] <= plan.q[1:]).all()
        last = ((counts[0] - 1) * plan.q[1] + counts[1] - 1) * plan.q[2] + counts[2]
        assert last <= length
        where = tuple(
            slice(a, a + (n - 1) * s + 1, s)
            for a, n, s in zip(starts, counts, plan.write_step, strict=True)
        )
        assert min(starts) >= 0
        written[where] += 1
    assert (written == 1).all(), "every place is written once"
    # Backward leaves out a tap that only ever met the padding.
    assert entries == len(plan.offsets) <= channels * geometry.taps
    assert entries == channels * geometry.taps or make is plans.backward
    pairs = set(zip(plan.channel.tolist(), plan.tap.tolist(), strict=True))
    assert len(pairs) == entries, "no tap of a channel is used twice"
    assert 0 < plan.useful <= 1


@given(geometries(), st.sampled_from((4, 8)))
def test_the_mask_marks_the_places_of_the_output(geometry, itemsize):
    mask, plan = plans.mask(geometry, itemsize), plans.forward(geometry, 1, itemsize)
    expected = np.zeros(plan.line, np.int8)
    for d, h, w in np.ndindex(geometry.volume.output):
        expected[(d * plan.q[1] + h) * plan.q[2] + w] = 1
    assert np.array_equal(mask, expected)
