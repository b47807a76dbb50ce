"""What the networks here ask of the pictures that they are given, and how they say so."""

from __future__ import annotations

from typing import Any

__all__ = ["check_pictures"]


def check_pictures(name: str, x: Any, channels: int, smallest: int = 1) -> None:
    """Refuse what are no pictures for this network, before a layer far inside does.

    Args:
        name: of the network, for the message.
        x: what it is called with.
        channels: wanted of pictures `(N, channels, H, W)`.
        smallest: the least H and W that leave something after all strides.

    Raises:
        ValueError: other axes, other channels, or pictures that are too small.
    """
    shape = x.shape
    if len(shape) != 4 or shape[1] != channels:
        advice = "; add the batch axis with x[None]" if len(shape) == 3 else ""
        if len(shape) == 4:
            advice = f"; {name}(in_channels={shape[1]}) takes these"
        raise ValueError(
            f"{name}: pictures must be (N, {channels}, H, W), got shape {shape}{advice}"
        )
    if min(shape[2:]) < smallest:
        raise ValueError(
            f"{name}: pictures must be at least {smallest} pixels high and wide, got shape "
            f"{shape}: nothing would be left after its strides; scale them up"
        )
