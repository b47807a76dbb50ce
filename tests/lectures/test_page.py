"""The page `docs/lectures.md` is what running the rows gives; a wrong value is found."""

import importlib.util

import pytest

from . import test_000, test_001, test_002, test_003, test_004, test_systems
from .rows import ROOT, ROWS, SHOWN, Measured, Row, plus, value, written

FILES = (test_000, test_001, test_002, test_003, test_004)


def generator():
    path = ROOT / "docs" / "make_lectures.py"
    spec = importlib.util.spec_from_file_location("make_lectures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_running_the_rows_gives():
    make = generator()
    committed = make.PAGE.read_text(encoding="utf-8")
    assert committed == make.page(), "docs/lectures.md is stale: python docs/make_lectures.py"


def test_every_test_of_a_deck_is_a_row_on_the_page():
    for module in FILES:
        file = module.__name__.rpartition(".")[2]
        names = [name for name in vars(module) if name.startswith("test_")]
        assert names == [name for where, name in ROWS if where == file]
    shown = [name for name in vars(test_systems) if name.startswith("test_")]
    assert shown == list(SHOWN)


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (value("", 36), 37),
        (value("", [[4, 3], [2, 3]]), [[4, 3], [2, 4]]),
        (value("", (28, 28, 6)), (28, 28, 3)),
        (value("", "-0.443"), -0.4436),
        (value("", True), False),
        (value("", "does not fit"), 2),
        (plus("", 100, deck="3", near=(3, 1)), 100),
    ],
)
def test_a_wrong_value_is_found(expected, found):
    with pytest.raises(AssertionError):
        Row(("000",), "", (expected,), lambda: found).check()


def test_values_are_compared_as_they_are_printed():
    for expected, found in (
        (value("", "-0.443"), -0.44349),
        (value("", "1.00"), 1),
        (plus("", 138_357_544, deck="138 M", near=(138e6, 5e5)), 138_357_544),
    ):
        Row(("000",), "", (expected,), lambda found=found: found).check()
    assert written((55, 55, 96)) == "55 × 55 × 96" and written(14_450_688) == "14,450,688"
    assert written([[4, 3], [2, -4]]) == "4 3; 2 −4" and written(True) == "yes"


def test_a_measurement_is_read_from_its_record(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.lectures.rows.RESULTS", tmp_path)
    one = Measured("softmax", 90.23, ("ladder", "softmax"))
    assert one.read() is None and one.text(None) == "not yet measured"
    (tmp_path / "ladder.json").write_text(
        '{"softmax": {"0": {"accuracy": 0.925, "command": "a.py"},'
        ' "1": {"accuracy": 0.927, "command": "a.py"}, "2": {"accuracy": 0.5, "command": "a.py"}}}'
    )
    found = one.read()
    assert one.text(found) == "92.5 % (median of 3), by `a.py`"
    one.check(found)
    with pytest.raises(AssertionError):
        one.check(90.23)
    assert Measured("mlp", 98.0, ("ladder", "mlp")).read() is None
    Measured("faster", 50.0, (), beyond=1.0).check(7.0)
    with pytest.raises(AssertionError, match="errors"):
        Measured("errors", 84.6, (), better="below", beyond=100.0).check(101.0)
