"""Compare extents, which a program may not know while it is traced.

`Backend.shape` has an int for an extent that is known and an array for one that is not. What can
be seen while tracing is decided there; the rest a program has to look at when it runs.
"""

from __future__ import annotations

from typing import Any

from hungarian_core._backend import Array
from hungarian_core._registry import backend_of


def same(extent: Any, other: Any) -> bool:
    """Say whether two extents agree, as far as is known while tracing."""
    return not (isinstance(extent, int) and isinstance(other, int)) or extent == other


def features(x: Array) -> Any:
    """Return the extent of the last axis of `x`, as `Backend.shape` has it."""
    return backend_of(x).shape(x)[-1]


def broadcastable(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """Say whether two shapes broadcast against each other, as far as is known while tracing."""
    shared = min(len(a), len(b))  # old Dynamos do not stop a zip at the shorter one
    pairs = zip(a[len(a) - shared :], b[len(b) - shared :], strict=True)
    return all(same(x, y) or x == 1 or y == 1 for x, y in pairs)


def require_equal(what: str, came: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    """Have a program fail when it runs if extents differ of which `same` could not tell.

    Args:
        what: What has these extents, in words.
        came: The extents that came.
        expected: As many that they have to be equal to.
    """
    for extent in (*came, *expected):
        if not isinstance(extent, int):
            backend_of(extent).require_equal(what, tuple(came), tuple(expected))
            return
