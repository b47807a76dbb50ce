"""What a picture of coloured digits shows, told in words: "a red three left of a blue seven".

A convolutional network looks; a recurrent one tells, and before each word chooses where to look.
Captions are decoded by beam search, and held against the scene by reading them back.  Prints how
many are right, and draws `scenes_captioning.png`: for each digit named, where the network looked.
"""

import argparse
import time

import numpy as np
from matplotlib.figure import Figure

import minigrad
import minigrad_nn as nn
from minigrad_nn import functional as F
from minigrad_nn.data import Loader, Scenes, captions
from minigrad_nn.metrics import bleu, exact_match, word_accuracy
from minigrad_nn.models import AttentionCaptioner

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
parser.add_argument("--seed", type=int, default=0)
given = parser.parse_args()
TRAIN, TEST, BATCH = (256, 16, 16) if given.quick else (48_000, 1_000, 32)


def block(inputs, outputs, pool=False):
    """A convolution that is normalised, and half the size before it if asked for."""
    parts = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)]
    parts += [nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*([nn.MaxPool2d(2)] if pool else []), *parts)


class Eye(nn.Module):
    """Maps (N, 66, 8, 8) of pictures (N, 3, 64, 64): features, and where each cell lies."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            block(3, 16), block(16, 32, pool=True), block(32, 64, pool=True),
            block(64, 64, pool=True), block(64, 64), block(64, 64),
        )  # fmt: skip
        self.places = np.indices((8, 8), np.float32) / 3.5 - 1.0

    def forward(self, x):
        places = np.broadcast_to(self.places, (len(x), 2, 8, 8))
        return minigrad.concatenate([self.features(x), minigrad.tensor(places)], axis=1)


minigrad.random.manual_seed(given.seed)
options = {"digits": (1, 3), "sides": (16, 28), "colour": True, "seed": given.seed, "noise": 0.03}
train = Loader(Scenes("train", TRAIN, targets=("caption",), **options), BATCH)
scenes = Scenes("test", TEST, **options)
model = AttentionCaptioner(Eye(), 66, len(captions.WORDS), start=captions.START, end=captions.END)
optimizer = nn.optim.Adam(model.parameters())
schedule = nn.schedule.OneCycleLR(optimizer, max_lr=0.003, total_steps=len(train))
started = time.process_time()
for step, (pictures, words) in enumerate(train):
    logits, _ = model(minigrad.tensor(pictures), words[:, :-1])
    loss = F.cross_entropy(logits.swapaxes(1, 2), words[:, 1:], ignore_index=captions.PAD)
    optimizer.zero_grad()
    loss.backward()
    nn.optim.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    if step % (len(train) // 8) == 0:
        print(f"step {step:5}: loss {loss.item():.3f}", flush=True)

tests = [scenes.scene(i) for i in range(TEST)]
pictures = minigrad.tensor(np.stack([scene.picture for scene in tests]))
told = model.eval().decode(pictures, length=scenes.caption_length, width=1 if given.quick else 3)
found = [captions.decode(sentence.words) for sentence in told]
wanted = [scene.words for scene in tests]
true = [captions.holds(f, s.classes, s.boxes, s.colours) for f, s in zip(found, tests, strict=True)]
print(f"right to the last word   {exact_match(found, wanted):.4f}")
print(f"true of the scene        {np.mean(true):.4f}")
print(f"words at their places    {word_accuracy(found, wanted):.4f}")
print(f"BLEU-4                   {bleu(found, [[w] for w in wanted]):.4f}")
for name, share in captions.relation_accuracy(found, wanted).items():
    print(f"{name!r} between its two   {share:.4f}")
print(f"{TRAIN} scenes seen, {TEST} tested, {time.process_time() - started:.0f} s of one core")

figure = Figure(figsize=(9.5, 6.6), dpi=90, layout="constrained", facecolor="black")
for i, block_ in enumerate(figure.subfigures(4, 2).flat):
    block_.set_facecolor("black")
    block_.suptitle(" ".join(found[i]), color="lime" if true[i] else "red", fontsize=9)
    image = np.clip(tests[i].picture.transpose(1, 2, 0), 0, 1)
    named = [k for k, word in enumerate(found[i]) if word in captions.NUMBERS][:3]
    axes = block_.subplots(1, 4)
    axes[0].imshow(image)
    for ax, k in zip(axes[1:], named, strict=False):
        looked = told[i].attention[k].repeat(8, axis=0).repeat(8, axis=1)
        ax.imshow(image * (0.15 + 0.85 * looked / looked.max())[:, :, None])
        ax.set_title(found[i][k], color="white", fontsize=8, pad=2)
    for ax in axes:
        ax.axis("off")
figure.savefig("scenes_captioning.png")
