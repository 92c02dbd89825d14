"""The messages about polylines."""

from __future__ import annotations

from typing import Any

from hungarian_core._backend import Array, Namespace
from hungarian_core._extents import broadcastable, require_equal, same


def lines(a: tuple[Any, ...], b: tuple[Any, ...], *, equally_many: bool = True) -> None:
    """Check that arrays hold lines that can be compared, of equally many points or of any."""
    for name, shape in (("a", a), ("b", b)):
        if len(shape) < 2:
            raise ValueError(f"{name} has shape {shape}; expected (..., K, d), K points of a line")
    kept = 2 if equally_many else 1
    if not all(same(x, y) for x, y in zip(a[-kept:], b[-kept:], strict=True)):
        wanted = "points and coordinates" if equally_many else "coordinates"
        raise ValueError(f"a has shape {a} and b {b}; expected equally many {wanted}")
    require_equal("points of lines", a[-kept:], b[-kept:])
    if not broadcastable(a[:-2], b[:-2]):
        raise ValueError(
            f"a has shape {a} and b {b}; expected shapes that broadcast against each other before "
            "the last two axes"
        )


def closed(x: Array, shape: tuple[Any, ...], b: tuple[Any, ...], xp: Namespace) -> None:
    """Check the flags of closed lines against the shape of these."""
    fits = len(shape) <= len(b) - 2 and broadcastable(shape, b[:-2])
    if not xp.isdtype(x.dtype, "bool") or not fits:
        raise ValueError(
            f"closed has dtype {x.dtype} and shape {shape}, and the lines {b}; expected bool, True "
            "for a closed line, of a shape that broadcasts against that of the lines"
        )


def order(x: Array, xp: Namespace) -> None:
    """Check the numbers of orders."""
    if not xp.isdtype(x.dtype, "integral"):
        raise ValueError(f"order has dtype {x.dtype}; expected integers, as align returns them")


def scale(values: list[float], coordinates: Any) -> None:
    """Check that there is a unit for every coordinate."""
    if not same(len(values), coordinates):
        raise ValueError(
            f"scale has {len(values)} numbers; expected {coordinates}, one per coordinate"
        )
    require_equal("coordinates and scale", (coordinates,), (len(values),))
