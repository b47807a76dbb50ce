"""Average precision against scikit-learn, where it is installed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad_nn.metrics import average_precision, mean_average_precision

sklearn = pytest.importorskip("sklearn.metrics")


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_average_precision(pairs):
    scores, targets = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs])
    found = average_precision(scores, targets)
    if not targets.any():
        assert np.isnan(found)
        return
    assert found == pytest.approx(sklearn.average_precision_score(targets, scores))


def test_mean_over_classes():
    rng = np.random.default_rng(0)
    scores, targets = rng.standard_normal((40, 3)), rng.integers(0, 2, (40, 3))
    wanted = sklearn.average_precision_score(targets, scores, average="macro")
    assert mean_average_precision(scores, targets) == pytest.approx(wanted)
    one = rng.integers(0, 3, 40)
    wanted = sklearn.average_precision_score(np.eye(3)[one], scores, average="macro")
    assert mean_average_precision(scores, one) == pytest.approx(wanted)
