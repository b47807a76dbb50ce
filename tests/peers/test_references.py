"""The references are the ones that the project is checked against."""

import warnings

import pytest
import torch


def test_torch_is_the_pinned_version():
    assert torch.__version__.split("+")[0] == "2.13.0"


def test_torchvision_imports_beside_this_torch_and_builds_the_known_alexnet():
    pytest.importorskip("torchvision")
    from torchvision.models import alexnet

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = alexnet(weights=None).state_dict()
    assert len(state) == 16
    assert sum(value.numel() for value in state.values()) == 61_100_840
