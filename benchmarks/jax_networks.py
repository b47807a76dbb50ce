"""The six networks of `train_step.py` in plain JAX, compiled by `jit`: a peer without a library.

Pictures are (N, H, W, C), which XLA's convolutions prefer on a processor.  Batch norm keeps no
running statistics while it trains, which is a little less work than the others do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Apply = Callable[[Any, Any], Any]


class Network:
    """Parameters in a list, and layers as functions `(parameters, x) -> x` that know their place.

    Attributes:
        parameters: arrays, as layers were added.
        training: whether batch norm and dropout do what they do in training.
    """

    def __init__(self, training: bool) -> None:
        """No layer yet."""
        self.parameters: list[Any] = []
        self.training = training
        self._random = np.random.default_rng(0)

    def add(self, *shape: int, value: float | None = None) -> int:
        """A parameter: normal numbers by He's rule, or one value; returns its place."""
        if value is None:
            scale = np.sqrt(2.0 / max(1, int(np.prod(shape[:-1]))))
            array = (scale * self._random.standard_normal(shape)).astype(np.float32)
        else:
            array = np.full(shape, value, np.float32)
        self.parameters.append(jnp.asarray(array))
        return len(self.parameters) - 1

    def conv(
        self, given: int, made: int, size: int, stride: int = 1, pad: int = 0,
        groups: int = 1, bias: bool = False,
    ) -> Apply:  # fmt: skip
        """A convolution."""
        w = self.add(size, size, given // groups, made)
        b = self.add(made, value=0.0) if bias else None

        def apply(p: Any, x: Any) -> Any:
            x = lax.conv_general_dilated(
                x, p[w], (stride, stride), ((pad, pad), (pad, pad)),
                dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
            )  # fmt: skip
            return x if b is None else x + p[b]

        return apply

    def norm(self, channels: int) -> Apply:
        """Batch norm."""
        gamma, beta = self.add(channels, value=1.0), self.add(channels, value=0.0)

        def apply(p: Any, x: Any) -> Any:
            if not self.training:  # mean 0 and variance 1, as before the first step
                return x * (p[gamma] / np.float32(np.sqrt(1 + 1e-5))) + p[beta]
            mean = x.mean((0, 1, 2))
            variance = jnp.square(x - mean).mean((0, 1, 2))
            return (x - mean) * (lax.rsqrt(variance + 1e-5) * p[gamma]) + p[beta]

        return apply

    def dense(self, given: int, made: int) -> Apply:
        """A linear layer."""
        w, b = self.add(given, made), self.add(made, value=0.0)
        return lambda p, x: x @ p[w] + p[b]


def relu(p: Any, x: Any) -> Any:
    """A layer without parameters."""
    return jax.nn.relu(x)


def tanh(p: Any, x: Any) -> Any:
    """A layer without parameters."""
    return jnp.tanh(x)


def flatten(p: Any, x: Any) -> Any:
    """A layer without parameters."""
    return x.reshape(len(x), -1)


def average(size: int) -> Apply:
    """Average pooling."""
    window = (1, size, size, 1)
    return lambda p, x: lax.reduce_window(x, 0.0, lax.add, window, window, "VALID") / size**2


def maximum(size: int, stride: int, pad: int = 0) -> Apply:
    """Max pooling."""
    edges = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    return lambda p, x: lax.reduce_window(
        x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), edges
    )


def mean(p: Any, x: Any) -> Any:
    """Global average pooling."""
    return x.mean((1, 2))


def chain(*layers: Apply) -> Apply:
    """Layers one after the other."""

    def apply(p: Any, x: Any) -> Any:
        for layer in layers:
            x = layer(p, x)
        return x

    return apply


def lenet5(n: Network) -> Apply:
    """LeNet-5."""
    return chain(
        n.conv(1, 6, 5, pad=2, bias=True), tanh, average(2), n.conv(6, 16, 5, bias=True), tanh,
        average(2), n.conv(16, 120, 5, bias=True), tanh, flatten, n.dense(120, 84), tanh,
        n.dense(84, 10),
    )  # fmt: skip


def _block(n: Network, given: int, made: int, stride: int) -> Apply:
    main = chain(
        n.conv(given, made, 3, stride, 1), n.norm(made), relu, n.conv(made, made, 3, 1, 1),
        n.norm(made),
    )  # fmt: skip
    short: Apply = lambda p, x: x  # noqa: E731
    if stride > 1 or given != made:
        short = chain(n.conv(given, made, 1, stride), n.norm(made))
    return lambda p, x: jax.nn.relu(main(p, x) + short(p, x))


def _resnet18(n: Network, stem: list[Apply], classes: int) -> Apply:
    layers, given = stem, 64
    for made, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first, 1):
            layers.append(_block(n, given, made, stride))
            given = made
    return chain(*layers, mean, n.dense(512, classes))


def resnet18(n: Network) -> Apply:
    """ResNet-18."""
    return _resnet18(n, [n.conv(3, 64, 7, 2, 3), n.norm(64), relu, maximum(3, 2, 1)], 1000)


def resnet18_cifar(n: Network) -> Apply:
    """ResNet-18 with a first layer for pictures of 32x32."""
    return _resnet18(n, [n.conv(3, 64, 3, 1, 1), n.norm(64), relu], 10)


def vgg11(n: Network) -> Apply:
    """VGG A; its dropout keeps one mask for the whole run."""
    layers: list[Apply] = []
    given = 3
    for made in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
        if made:
            layers += [n.conv(given, made, 3, 1, 1, bias=True), relu]
            given = made
        else:
            layers.append(maximum(2, 2))
    mask = jnp.asarray(2.0 * n._random.integers(0, 2, 4096), jnp.float32)
    drop: Apply = lambda p, x: x * mask if n.training else x  # noqa: E731
    head = [flatten, n.dense(25088, 4096), relu, drop, n.dense(4096, 4096), relu, drop]
    return chain(*layers, *head, n.dense(4096, 1000))


def mobilenet_v1(n: Network) -> Apply:
    """MobileNet v1."""
    layers = [n.conv(3, 32, 3, 2, 1), n.norm(32), relu]
    widths = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    for given, made, stride in zip(widths, widths[1:], strides, strict=False):
        layers += [n.conv(given, given, 3, stride, 1, groups=given), n.norm(given), relu]
        layers += [n.conv(given, made, 1), n.norm(made), relu]
    return chain(*layers, mean, n.dense(1024, 1000))


def rnn(n: Network, hidden: int = 256, letters: int = 65) -> Apply:
    """A vanilla RNN over (T, N, letters), and a linear layer at each step."""
    u, w, b = n.add(letters, hidden), n.add(hidden, hidden), n.add(hidden, value=0.0)
    head = n.dense(hidden, letters)

    def apply(p: Any, x: Any) -> Any:
        def step(h: Any, given: Any) -> Any:
            h = jnp.tanh(given + h @ p[w])
            return h, h

        start = jnp.zeros((x.shape[1], hidden), x.dtype)
        _, states = lax.scan(step, start, x @ p[u] + p[b])
        return head(p, states.reshape(-1, hidden))

    return apply


def make_step(name: str, inputs: Any, labels: Any, inference: bool) -> Callable[[], None]:
    """One step of training, or one forward pass, that ends when its result is there."""
    network = Network(training=not inference)
    apply = globals()[name](network)
    x = jnp.asarray(inputs if name == "rnn" else inputs.transpose(0, 2, 3, 1))
    y = jnp.asarray(labels)
    parameters = network.parameters
    if inference:
        forward = jax.jit(apply)
        return lambda: forward(parameters, x).block_until_ready()

    def loss(p: Any) -> Any:
        scores = jax.nn.log_softmax(apply(p, x))
        return -scores[jnp.arange(len(y)), y].mean()

    @jax.jit
    def update(p: Any, v: Any) -> Any:
        value, g = jax.value_and_grad(loss)(p)
        v = [0.9 * a + b for a, b in zip(v, g, strict=True)]
        return value, [a - 1e-3 * b for a, b in zip(p, v, strict=True)], v

    state = [parameters, [jnp.zeros_like(p) for p in parameters]]

    def step() -> None:
        value, *state[:] = update(*state)
        jax.block_until_ready((value, state))

    return step
