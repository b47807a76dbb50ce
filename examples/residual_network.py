"""A deep residual network as a picture that can be opened: ResNet-50 in twenty boxes.

It is the network of He and others, "Deep residual learning for image recognition", 2015, with the
stride of a stage on its first 1x1 convolution as in the paper.  Writes `resnet50.svg`, a poster,
and `resnet50.html`, in which boxes open and close and the colour can say multiply-adds, parameters,
bytes or measured time.
"""

import minigrad
from minigrad_nn.inspect import overview
from minigrad_nn.models import resnet50

model = resnet50(stride_on="1x1")
seen = overview(model, minigrad.zeros((1, 3, 224, 224)), title="ResNet-50", passes=1)
stages = [f"layer{i}" for i in (1, 2, 3, 4)]
print(seen.save("resnet50.svg", opened=[*stages, "layer2.0", "layer2.0.downsample"]))
print(seen.save("resnet50.html"))
print(f"{seen.root.parameters:,} parameters, {seen.root.multiply_adds:,} multiply-adds")
