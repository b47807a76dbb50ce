"""Gradient descent on a function of two scalars, with and without momentum, as a picture.

The function is a long valley: its slope across is steep, along it is gentle.  Plain descent takes
the step that the steep side allows and creeps along the other; momentum adds up what all steps
agree on.  The picture is `gradient_descent.png` (needs matplotlib, extra `plot`).
"""

import numpy as np
from matplotlib.figure import Figure

import minigrad


def valley(x, y):
    """Smallest, 0, at (1, 1)."""
    return 0.5 * (x - 1) ** 2 + 10 * (y - 0.5 * x - 0.5) ** 2


def descend(lr, momentum, steps=60):
    """The points that are visited from (-1.5, 1.5) on."""
    x, y = minigrad.scalar(-1.5, name="x"), minigrad.scalar(1.5, name="y")
    velocity = [0.0, 0.0]
    path = [(x.data, y.data)]
    for _ in range(steps):
        x.zero_grad()
        y.zero_grad()
        valley(x, y).backward()
        for i, parameter in enumerate((x, y)):
            velocity[i] = momentum * velocity[i] + parameter.grad
            parameter.data -= lr * velocity[i]
        path.append((x.data, y.data))
    return np.array(path)


paths = {
    "plain, step 0.03": descend(lr=0.03, momentum=0.0),
    "momentum 0.8, step 0.03": descend(lr=0.03, momentum=0.8),
}
for label, path in paths.items():
    print(f"{label}: ends at ({path[-1, 0]:.3f}, {path[-1, 1]:.3f})")

figure = Figure(figsize=(8, 4.5), dpi=110, layout="constrained")
axes = figure.subplots()
xs, ys = np.meshgrid(np.linspace(-2, 2.2, 200), np.linspace(-1.1, 2.1, 200))
axes.contour(xs, ys, valley(xs, ys), np.geomspace(0.02, 40, 14), colors="#b8c4d6", linewidths=0.8)
for (label, path), color in zip(paths.items(), ("#1f5fa8", "#c2410c"), strict=True):
    axes.plot(path[:, 0], path[:, 1], "o-", color=color, ms=3, lw=1.2, label=label)
axes.plot(1, 1, "k*", ms=12, label="minimum")
axes.set(xlabel="x", ylabel="y", title="60 steps of gradient descent down a long valley")
axes.legend(frameon=False, loc="lower right")
figure.savefig("gradient_descent.png")
