"""The filters of the lectures on a picture, as photo editors have them: every one a convolution.

Blur is the outer product of 1 4 6 4 1 with itself over 256; the two Sobel filters answer to
horizontal and to vertical edges, and together they give how steep a place is; the Laplacian answers
to edges of any direction; emboss shows the picture as a relief.  Layers learn filters like these
instead of being given them.  `--quick` takes fewer pixels.  Ends in `filters.png`.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_image

import minigrad
from minigrad_nn import functional as F

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--picture", default="china.jpg", help="china.jpg or flower.jpg")
parser.add_argument("--out", type=Path, default=Path("filters.png"))
parser.add_argument("--quick", action="store_true")
given = parser.parse_args()

line = minigrad.tensor([1, 4, 6, 4, 1])
FILTERS = {
    "blur": minigrad.outer(line, line) / 256,
    "sharpen": minigrad.tensor([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
    "Sobel, horizontal edges": minigrad.tensor([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]),
    "Sobel, vertical edges": minigrad.tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
    "edges (Laplacian)": minigrad.tensor([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]),
    "emboss": minigrad.tensor([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]),
}


def filtered(x, kernel, times=1):
    """Each channel of `(1, C, H, W)` with the same kernel, repeating the border around it."""
    channels, margin = x.shape[1], kernel.shape[0] // 2
    weight = minigrad.broadcast_to(kernel, (channels, 1, *kernel.shape))
    for _ in range(times):
        x = F.depthwise_conv2d(F.pad(x, (margin,) * 4, mode="replicate"), weight)
    return x


def shown(x):
    """`(1, C, H, W)` as a picture; colours beyond black and white are cut off."""
    found = np.clip(x.numpy()[0].transpose(1, 2, 0), 0.0, 1.0)
    return found if found.shape[2] == 3 else found[:, :, 0]


step = 4 if given.quick else 1
pixels = load_sample_image(given.picture)[::step, ::step].transpose(2, 0, 1) / 255.0
colour = minigrad.tensor(pixels[None].astype(np.float32))
grey = colour.mean(axis=1, keepdims=True)
across = filtered(grey, FILTERS["Sobel, horizontal edges"])
down = filtered(grey, FILTERS["Sobel, vertical edges"])

tiles = {
    "the picture": shown(colour),
    "blur, 12 times": shown(filtered(colour, FILTERS["blur"], times=12)),
    "sharpen": shown(filtered(colour, FILTERS["sharpen"])),
    # Dark where it grows darker downwards (or to the right), bright where it grows brighter.
    "Sobel, horizontal edges": shown(across / 4 + 0.5),
    "Sobel, vertical edges": shown(down / 4 + 0.5),
    "how steep": shown(minigrad.sqrt(across * across + down * down) / 2),
    "edges (Laplacian)": shown(filtered(grey, FILTERS["edges (Laplacian)"]).abs() / 2),
    "emboss": shown(filtered(grey, FILTERS["emboss"]) / 4 + 0.5),
}

figure = Figure(figsize=(14, 5.2), dpi=110, layout="constrained")
for place, (name, tile) in zip(figure.subplots(2, 4).flat, tiles.items(), strict=True):
    place.imshow(tile, cmap="gray", vmin=0.0, vmax=1.0)
    place.set_title(name, fontsize=10)
    place.axis("off")
figure.savefig(given.out)
size = " × ".join(map(str, colour.shape[2:]))
print(f"{given.out}: {len(FILTERS)} filters on {given.picture}, {size} pixels")
