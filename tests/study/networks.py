"""A network that goes round in a loop, to be looked at."""

import minigrad
import minigrad_nn as nn


class Recurrent(nn.Module):
    """h = tanh(Whh h + Wxh x), and y = Why h of the last one."""

    def __init__(self):
        super().__init__()
        self.wxh = nn.Linear(3, 8)
        self.whh = nn.Linear(8, 8)
        self.why = nn.Linear(8, 2)

    def forward(self, x):
        h = minigrad.zeros((x.shape[0], 8))
        for t in range(x.shape[1]):
            h = minigrad.tanh(self.wxh(x[:, t]) + self.whh(h))
        return self.why(h)
