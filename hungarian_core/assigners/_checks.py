"""What can be wrong with what an assigner gets, in the words of its user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hungarian_core._checks import whole
from hungarian_core._extents import require_equal, same
from hungarian_core.terms._checks import brief


def extents(
    shapes: Mapping[str, tuple[Any, ...]], wanted: Mapping[str, tuple[Any, ...]]
) -> dict[str, Any]:
    """Check shapes against what is expected, and return what the letters stand for."""
    seen: dict[str, Any] = {}
    for name, expected in wanted.items():
        shape = shapes[name]
        known = tuple(seen.get(x, x) for x in expected)
        if len(shape) != len(expected) or not all(
            isinstance(b, str) or same(a, b) for a, b in zip(shape, known, strict=True)
        ):
            raise ValueError(f"{name} has shape {shape}; expected ({', '.join(map(str, known))})")
        for extent, other, letter in zip(shape, known, expected, strict=True):
            if isinstance(other, str):
                seen[letter] = extent
            else:
                require_equal(f"an extent of {name}", (extent,), (other,))
    if isinstance(seen["Q"], int) and not seen["Q"]:
        name = next(iter(wanted))
        raise ValueError(f"{name} has shape {shapes[name]}; expected one query at least")
    return seen


def levels(given: Any) -> tuple[int, ...]:
    """Check how many anchors the levels have."""
    if isinstance(given, (str, Mapping)) or not isinstance(given, Sequence) or not given:
        raise ValueError(
            f"levels is {brief(given)}; expected the numbers of anchors of the levels, in order"
        )
    return tuple(whole("levels", x, 1, "the numbers of anchors of the levels") for x in given)


def as_many(sizes: tuple[int, ...], anchors: Any) -> None:
    """Check that the levels have as many anchors together as there are."""
    if not same(anchors, sum(sizes)):
        raise ValueError(
            f"there are {anchors} anchors, and levels is {sizes}; expected {sum(sizes)} in all"
        )
    require_equal("anchors, and those of the levels", (anchors,), (sum(sizes),))
