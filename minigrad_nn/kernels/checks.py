"""Do the shapes of a kernel's arguments belong together? Asked once here, for every device."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from .epilogue import Epilogue
from .geometry import Geometry

Shape = tuple[int, ...]


def parts(epilogue: Epilogue | None) -> dict[str, Any]:
    """The arrays of an epilogue by name."""
    if epilogue is None:
        return {}
    return {"epilogue_bias": epilogue.bias, "epilogue_residual": epilogue.residual}


def conv(
    kernel: str, geometry: Geometry, *, x: Any = None, w: Any = None, g: Any = None
) -> tuple[int, ...]:
    """Check the two operands of a convolution kernel, and return the shape of the third.

    Exactly two of x `(N, C, *size)`, w `(O, C / groups, *kernel)` and g `(N, O, *output)` are
    given.
    """
    groups = geometry.groups
    if geometry.ceil:
        raise ValueError(f"{kernel}: geometry.ceil is for pools; a convolution rounds down")
    if x is not None:
        _spatial(kernel, "x", x, geometry.size, "size")
        if x.shape[1] % groups:
            raise ValueError(f"{kernel}: {x.shape[1]} channels of x do not split into {groups}")
    if g is not None:
        _spatial(kernel, "g", g, geometry.output, "output")
        if g.shape[1] % groups:
            raise ValueError(f"{kernel}: {g.shape[1]} channels of g do not split into {groups}")
    if w is not None:
        _spatial(kernel, "w", w, geometry.kernel, "kernel")
        if w.shape[0] % groups:
            raise ValueError(f"{kernel}: {w.shape[0]} filters do not split into {groups} groups")
    if w is not None and x is not None:
        if x.shape[1] != w.shape[1] * groups:
            raise ValueError(
                f"{kernel}: w of shape {w.shape} with {groups} groups reads {w.shape[1]}*{groups} "
                f"= {w.shape[1] * groups} channels, but x of shape {x.shape} has {x.shape[1]}"
            )
        return (x.shape[0], w.shape[0], *geometry.output)
    if w is not None:
        if g.shape[1] != w.shape[0]:
            raise ValueError(
                f"{kernel}: w of shape {w.shape} makes {w.shape[0]} channels, but g of shape "
                f"{g.shape} has {g.shape[1]}"
            )
        return (g.shape[0], w.shape[1] * groups, *geometry.size)
    if x.shape[0] != g.shape[0]:
        raise ValueError(
            f"{kernel}: x of shape {x.shape} and g of shape {g.shape} must have one batch size"
        )
    return (g.shape[1], x.shape[1] // groups, *geometry.kernel)


def pool(kernel: str, geometry: Geometry, *, x: Any = None, g: Any = None) -> Shape:
    """Check the operand of a pool `(N, C, *size)` or of its adjoint; return the result's shape."""
    if geometry.groups != 1:
        raise ValueError(f"{kernel}: a pool has no groups, got geometry.groups={geometry.groups}")
    if x is not None:
        _spatial(kernel, "x", x, geometry.size, "size")
        return (*x.shape[:2], *geometry.output)
    _spatial(kernel, "g", g, geometry.output, "output")
    return (*g.shape[:2], *geometry.size)


def covered(kernel: str, geometry: Geometry) -> None:
    """Raise ValueError where a window holds nothing but padding."""
    if geometry.uncovered is not None:
        axis, place = geometry.uncovered
        raise ValueError(
            f"{kernel}: window {place} along spatial axis {axis} holds nothing but padding (size "
            f"{geometry.size[axis]}, kernel {geometry.kernel[axis]}, stride "
            f"{geometry.stride[axis]}, padding {geometry.padding[axis]}, dilation "
            f"{geometry.dilation[axis]}); use less padding"
        )


def channels(kernel: str, name: str, x: Any, **vectors: Any) -> None:
    """Check that x is `(N, C, ...)` and that each vector that is given is `(C,)`."""
    if len(x.shape) < 2:
        raise ValueError(f"{kernel}: {name} must be (N, C, ...), got shape {x.shape}")
    _some_channels(kernel, name, x)
    for vector_name, vector in vectors.items():
        if vector is not None and tuple(vector.shape) != (x.shape[1],):
            raise ValueError(
                f"{kernel}: {vector_name} must have shape {(x.shape[1],)}, one number for each "
                f"channel of {name} of shape {x.shape}, got shape {vector.shape}"
            )


def not_empty(kernel: str, x: Any) -> None:
    """Raise ValueError where a channel of x holds no value, so that it has no statistics."""
    if 0 in x.shape:
        raise ValueError(f"{kernel}: x of shape {x.shape} has no values to take statistics of")


def planes(kernel: str, name: str, x: Any, index: Any) -> Shape:
    """Check indices `(N, C, *output)` into planes of x `(N, C, *size)`; return their shape."""
    if len(x.shape) < 3:
        raise ValueError(f"{kernel}: {name} must be (N, C, *spatial), got shape {x.shape}")
    indices(kernel, "indices", index, None)
    if len(index.shape) < 3 or index.shape[:2] != x.shape[:2]:
        raise ValueError(
            f"{kernel}: indices must be (N, C, *output) with N and C of {name} of shape "
            f"{x.shape}, got shape {index.shape}"
        )
    return tuple(index.shape)


def places(kernel: str, geometry: Geometry) -> None:
    """Raise ValueError where a plane has more places than an int32 can number."""
    if math.prod(geometry.size) >= 2**31:
        raise ValueError(f"{kernel}: a plane of size {geometry.size} has more than 2^31 - 1 places")


def indices(kernel: str, name: str, index: Any, shape: Shape | None, wanted: str = "") -> None:
    """Check the type of indices, and their shape where one is asked for."""
    if str(index.dtype) not in ((wanted,) if wanted else ("int32", "int64")):
        raise TypeError(f"{kernel}: {name} must be {wanted or 'int32 or int64'}, got {index.dtype}")
    if shape is not None and tuple(index.shape) != tuple(shape):
        raise ValueError(f"{kernel}: {name} must have shape {shape}, got {index.shape}")


def same_shape(kernel: str, name: str, a: Any, b: Any, other: str = "indices") -> None:
    """Raise ValueError where two arrays differ in shape; `other` names the second."""
    if other == "indices":
        indices(kernel, other, b, None)
        if len(a.shape) < 3:
            raise ValueError(f"{kernel}: {name} must be (N, C, *spatial), got shape {a.shape}")
    if tuple(a.shape) != tuple(b.shape):
        raise ValueError(
            f"{kernel}: {name} and {other} must have one shape, got {a.shape} and {b.shape}"
        )


def result(
    kernel: str,
    shape: Iterable[int],
    out: Any,
    epilogue: Epilogue | None,
    activations: tuple[str | None, ...] = (None, "relu"),
) -> None:
    """Check `out` and the epilogue's arrays against the result's shape, and its activation."""
    shape = tuple(shape)
    if out is not None:
        if tuple(out.shape) != shape:
            raise ValueError(f"{kernel}: out must have shape {shape}, got {tuple(out.shape)}")
        flags = getattr(out, "flags", None)
        if flags is not None and not flags.writeable:
            raise ValueError(f"{kernel}: out is read-only")
    if epilogue is not None:
        epilogue.check(shape)
        if epilogue.activation not in activations:
            raise ValueError(
                f"{kernel}: epilogue.activation must be one of {activations} here, got "
                f"{epilogue.activation!r}"
            )


def residual_only(kernel: str, epilogue: Epilogue | None) -> None:
    """Raise ValueError where an epilogue holds more than a residual."""
    if epilogue is not None and (epilogue.bias is not None or epilogue.activation is not None):
        raise ValueError(f"{kernel}: the epilogue may hold a residual only, got {epilogue}")


def _spatial(kernel: str, name: str, array: Any, spatial: Shape, field: str) -> None:
    if tuple(array.shape[2:]) != spatial or len(array.shape) < 3:
        letters = "(O, C / groups, *kernel)" if name == "w" else f"(N, channels, *{field})"
        raise ValueError(
            f"{kernel}: {name} must be {letters} with geometry.{field}={spatial}, got shape "
            f"{tuple(array.shape)}"
        )
    _some_channels(kernel, name, array)


def _some_channels(kernel: str, name: str, array: Any) -> None:
    if array.shape[1] == 0 or (name == "w" and array.shape[0] == 0):
        raise ValueError(f"{kernel}: {name} of shape {tuple(array.shape)} has no channels")
