"""Scenes of digits, and all that is known of them: boxes, classes, instances and a caption.

Each is composed when it is asked for, the same whenever it is asked for.  Prints the captions of
some and the shapes of a batch, and draws `scenes.png`.
"""

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minigrad_nn.data import Loader, Scenes

TARGETS = ("classes", "boxes", "counts", "class_map", "instance_map", "caption")
scenes = Scenes("test", 1000, targets=TARGETS, digits=(2, 4), colour=True, noise=0.02, seed=1)
batch = next(iter(Loader(scenes, batch_size=32)))
for name, array in zip(("picture", *TARGETS), batch, strict=True):
    print(f"{name:13} {array.dtype.name:8} {array.shape}")

digits = colormaps["tab10"](np.arange(10))[:, :3]
things = colormaps["Set2"](np.arange(scenes.most))[:, :3]
black = np.zeros((1, 3))
figure = Figure(figsize=(10, 8.4), dpi=90, layout="constrained", facecolor="black")
for number, row in enumerate(figure.subfigures(4, 1)):
    scene = scenes.scene(number)
    print(" ".join(scene.words))
    row.set_facecolor("black")
    row.suptitle(" ".join(scene.words), color="white", fontsize=11)
    picture, boxes, classes, instances = row.subplots(1, 4)
    image = np.clip(scene.picture.transpose(1, 2, 0), 0, 1)
    picture.imshow(image)
    boxes.imshow(image * 0.6)
    for (x0, y0, x1, y1), digit in zip(scene.boxes, scene.classes, strict=True):
        place, size = (x0 - 0.5, y0 - 0.5), (x1 - x0, y1 - y0)
        boxes.add_patch(Rectangle(place, *size, fill=False, color=digits[digit], linewidth=2))
        boxes.text(x0, y0 - 2, digit, color=digits[digit], fontsize=10)
    classes.imshow(np.concatenate([digits, black])[scene.class_map])  # 10 is the background
    instances.imshow(np.concatenate([things, black])[scene.instance_map])  # and here -1
    names = ("picture", "boxes", "classes", "instances")
    for axes, name in zip((picture, boxes, classes, instances), names, strict=True):
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel(name, color="gray", fontsize=8, labelpad=2)
figure.savefig("scenes.png")
