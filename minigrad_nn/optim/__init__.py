"""Optimisers, gradient clipping and averages of weights; what PyTorch's of the same name compute.

Start with `base` (groups and state) and `sgd`; `adam` and `adaptive` divide by the size of the
gradients, `clip` limits them, and `average` keeps a slowly moving copy of the weights.
"""

from minigrad_nn.optim.adam import Adam, AdamW
from minigrad_nn.optim.adaptive import Adagrad, RMSprop
from minigrad_nn.optim.average import ExponentialMovingAverage
from minigrad_nn.optim.base import Optimizer
from minigrad_nn.optim.clip import clip_grad_norm_, clip_grad_value_
from minigrad_nn.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "ExponentialMovingAverage",
    "Optimizer",
    "RMSprop",
    "clip_grad_norm_",
    "clip_grad_value_",
]
