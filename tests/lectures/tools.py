"""What the tests of several decks need: images by their rows, and summaries of large networks."""

import minigrad as mg
import minigrad_nn as nn


def image(rows):
    """An image or a filter `(1, 1, H, W)`, or `(1, C, H, W)` of several planes."""
    x = mg.tensor(rows)
    return x.reshape(1, *((1,) * (3 - x.ndim)), *x.shape)


def summarised(make, input_shape, layout="channels_first", **settings):
    """The summary of a network that is built without drawing its weights."""
    with nn.init.without_drawing():
        model = make(**settings)
    return nn.summary(model, input_shape, layout=layout)
