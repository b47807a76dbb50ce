import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad_nn.kernels import Geometry, output_size
from tests.kernels.draws import geometries


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "expected"),
    [
        (7, 3, 1, 0, 5),
        (7, 3, 2, 0, 3),
        (7, 3, 1, 1, 7),
        (7, 3, 1, (3 - 1) // 2, 7),
        (7, 5, 1, (5 - 1) // 2, 7),
        (7, 7, 1, (7 - 1) // 2, 7),
        (10, 3, 1, 0, 8),
        (5, 3, 1, 0, 3),
        (5, 3, 2, 0, 2),
        (5, 3, 1, 2, 7),
        (32, 5, 1, 0, 28),
        (6, 3, 2, 1, 3),
        (227, 11, 4, 0, 55),
    ],
)
def test_sizes_of_the_lectures(size, kernel, stride, padding, expected):
    assert output_size(size, kernel, stride, padding) == expected


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "places"),
    [(7, 3, 3, 0, "2.333"), (6, 3, 2, 1, "3.5"), (224, 11, 4, 0, "54.25")],
)
def test_what_does_not_fit_is_told_with_the_numbers(size, kernel, stride, padding, places):
    rounded = output_size(size, kernel, stride, padding)
    with pytest.raises(ValueError, match="does not fit") as error:
        output_size(size, kernel, stride, padding, exact=True)
    assert f"= {places} places" in str(error.value)
    assert f"rounding down gives {rounded}" in str(error.value)
    with pytest.raises(ValueError, match="spatial axis 1: does not fit"):
        Geometry.of((kernel, size), kernel, stride, ((0, 0), (padding, padding))).check_exact()


@pytest.mark.parametrize("stride", [1, 2])
def test_what_fits_is_exact(stride):
    assert output_size(7, 3, stride, exact=True) == output_size(7, 3, stride)
    Geometry.of((7, 7), 3, stride).check_exact()


@given(
    st.integers(0, 30),
    st.integers(1, 6),
    st.integers(1, 5),
    st.tuples(st.integers(0, 4), st.integers(0, 4)),
    st.integers(1, 3),
    st.booleans(),
)
def test_output_size_counts_windows(size, kernel, stride, padding, dilation, ceil):
    before, after = padding
    extent = dilation * (kernel - 1) + 1
    starts = range(0, size + before + after - extent + 1, stride)
    if len(starts) == 0:
        with pytest.raises(ValueError, match="larger than its padded input"):
            output_size(size, kernel, stride, padding, dilation, ceil=ceil)
        return
    expected = len(starts)
    fits = starts[-1] + extent == size + before + after
    if ceil and not fits and starts[-1] + stride < size + before:
        expected += 1
    assert output_size(size, kernel, stride, padding, dilation, ceil=ceil) == expected


def test_a_filter_that_is_too_large_is_told_with_the_formula():
    with pytest.raises(ValueError, match=r"spatial axis 1: .* covers 5 = 2\*\(3 - 1\) \+ 1") as e:
        Geometry.of((9, 2), 3, padding=1, dilation=2)
    assert "2 + 1 + 1 = 4" in str(e.value)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(stride=0), ValueError, "stride must be at least 1, got 0"),
        (dict(kernel=0), ValueError, "kernel must be at least 1, got 0"),
        (dict(padding=-1), ValueError, "padding before must be at least 0, got -1"),
        (dict(dilation=(1, 0)), ValueError, "dilation must be at least 1, got 0"),
        (dict(groups=0), ValueError, "groups must be at least 1, got 0"),
        (dict(kernel=(3, 3, 3)), ValueError, "one entry for each of the 2 spatial axes"),
        (dict(size=(1, 2, 3, 4)), ValueError, "1, 2 or 3 spatial axes, got 4"),
        (dict(stride=1.5), TypeError, "stride must be an integer, got 1.5"),
        (dict(padding=((1, 2, 3), 1)), ValueError, r"\(before, after\)"),
    ],
)
def test_numbers_out_of_range_are_told(change, error, message):
    with pytest.raises(error, match=message):
        Geometry.of(**{"size": (8, 8), "kernel": 3, **change})


def test_integers_stand_for_every_axis_and_calls_are_cached():
    long = Geometry((8, 9), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))
    short = Geometry.of((8, 9), 3, 2, 1)
    assert short == long and hash(short) == hash(long)
    assert Geometry.of([8, 9], [3, 3], 2, [1, 1]) is short
    assert Geometry.of((8, 9), 3, 2, ((1, 0), (0, 1))).padding == ((1, 0), (0, 1))
    assert pickle.loads(pickle.dumps(short)) == short


@given(geometries())
def test_volume_keeps_the_numbers(geometry):
    volume = geometry.volume
    assert volume.axes == 3 and volume.output[3 - geometry.axes :] == geometry.output
    assert volume.taps == geometry.taps and volume.volume == volume


@given(geometries(ceil=True))
def test_uncovered_finds_windows_of_padding_alone(geometry):
    from tests.kernels.reference import windows

    empty = any(not inside for _, inside, _ in windows(geometry))
    assert (geometry.uncovered is not None) == empty
