"""`minigrad summary`: the tables of networks by name, as data too, and what wrong use is told."""

import json

import pytest

from minigrad_nn.cli import main


def summary(*words):
    return main(["summary", *words])


def told(capsys, *words):
    """The message of a command that cannot be done."""
    assert summary(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith("minigrad summary: ")
    return error


def test_a_network_by_its_name(capsys):
    assert summary("resnet50", "stride_on=1x1", "--input", "3,224,224", "--depth", "1") == 0
    shown = capsys.readouterr().out
    for number in ("64 × 112 × 112", "25,557,032", "3,857,973,248", "483×483"):
        assert number in shown
    assert "layer1 (Sequential)" in shown and "Bottleneck" not in shown


def test_as_data(capsys):
    assert summary("LeNet5", "classes=3", "--input", "1,28,28", "--batch", "4", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["batch"] == 4 and data["rows"][0]["output_shape"] == [3]
    assert data["rows"][0]["kind"] == "LeNet5"


def test_times_and_layout(capsys):
    words = ("--input", "1,28,28", "--backward", "--layout", "channels_last")
    assert summary("lenet5", *words) == 0
    shown = capsys.readouterr().out
    assert "28 × 28 × 6" in shown and "time: forward" in shown and "backward" in shown


def test_wrong_use_is_told(capsys):
    assert "did you mean resnet50?" in told(capsys, "rsnet50", "--input", "3,8,8")
    assert "'transformer'. There are " in told(capsys, "transformer", "--input", "3,8,8")
    assert "is no setting NAME=VALUE" in told(capsys, "resnet18", "10", "--input", "3,8,8")
    assert "given twice" in told(capsys, "vgg11", "classes=1", "classes=2", "--input", "3,8,8")
    error = told(capsys, "resnet18", "colour=red", "--input", "3,8,8")
    assert "resnet18 cannot be built with these settings" in error and "colour" in error
    error = told(capsys, "lenet5", "--input", "3,28,28")
    assert "lenet5 on --input 3,28,28: LeNet5: pictures must be (N, 1, 28, 28)" in error
    error = told(capsys, "lenet5", "--input", "1,28,28", "--dtype", "int64", "--dtype", "int64")
    assert "dtype has 2 entries for 1 inputs" in error


@pytest.mark.parametrize("shape", ["3,0,3", "a", "3x3", ""])
def test_a_shape_that_is_none(capsys, shape):
    with pytest.raises(SystemExit):
        summary("lenet5", "--input", shape)
    assert "is no shape, such as 3,224,224" in capsys.readouterr().err


def test_functions_that_make_no_network_are_no_networks(capsys):
    assert "there is no network" in told(capsys, "auxiliary_cross_entropy", "--input", "3,8,8")
