"""An error in a layer names the layer by its path in the model."""

import pytest

import minigrad
import minigrad_nn as nn
from minigrad_nn import models


def notes(call):
    with pytest.raises(Exception, match=r".") as caught:
        call()
    return getattr(caught.value, "__notes__", [])


def test_a_wrong_shape_names_the_layer_by_its_path():
    model = models.resnet20()
    model.layer2[1].conv2 = nn.Conv2d(7, 32, 3, padding=1)
    found = notes(lambda: model(minigrad.zeros((1, 3, 32, 32))))
    assert len(found) == 1
    assert found[0].startswith("In layer2.1.conv2, a Conv2d(7, 32, ")
    assert found[0].endswith(", of CifarResNet.")


def test_any_depth_and_a_layer_on_its_own():
    inner = nn.Sequential(nn.ReLU(), nn.Linear(3, 4))
    x = minigrad.zeros((2, 5))
    assert notes(lambda: nn.Linear(3, 4)(x)) == [
        "In Linear(in_features=3, out_features=4, bias=True)."
    ]
    assert notes(lambda: inner(x)) == [
        "In 1, a Linear(in_features=3, out_features=4, bias=True), of Sequential."
    ]
    assert notes(lambda: nn.Sequential(inner)(x)) == [
        "In 0.1, a Linear(in_features=3, out_features=4, bias=True), of Sequential."
    ]


def test_a_module_that_is_no_part_keeps_its_own_words():
    other = nn.Linear(3, 4)

    class Borrows(nn.Module):
        def forward(self, x):
            return (lambda: other)()(x)

    assert notes(lambda: Borrows()(minigrad.zeros((2, 5)))) == [
        "In Linear(in_features=3, out_features=4, bias=True)."
    ]


def test_the_error_itself_is_the_same():
    layer = nn.Linear(3, 4)
    x = minigrad.zeros((2, 5))
    with pytest.raises(ValueError) as plain:
        layer.forward(x)
    with pytest.raises(ValueError) as called:
        nn.Sequential(layer)(x)
    assert str(plain.value) == str(called.value)


def test_an_error_that_is_caught_and_raised_again_is_noted_once():
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = nn.Linear(3, 4)

        def forward(self, x):
            try:
                return self.part(x)
            except ValueError as error:
                raise RuntimeError("lost") from error

    found = notes(lambda: Again()(minigrad.zeros((2, 5))))
    assert found == ["In Again."]
