"""Messages about masks, their sizes and points in them."""

from __future__ import annotations

from typing import Any

from hungarian_core._extents import broadcastable, require_equal, same
from hungarian_core._options import number, whole


def masks(targets: tuple[Any, ...], logits: tuple[Any, ...], axes: Any, pairwise: bool) -> int:
    """Check the shapes of masks against each other; return how many axes one has."""
    axes = whole("axes", axes, 1, "how many axes a mask has, such as 1 or 2")
    kept = axes + pairwise
    if (
        min(len(targets), len(logits)) < kept
        or not all(same(a, b) for a, b in zip(targets[-axes:], logits[-axes:], strict=True))
        or not broadcastable(targets[:-kept], logits[:-kept])
    ):
        extents = {1: "P", 2: "H, W"}.get(axes, f"[{axes} axes]")
        rows, columns = (f"n, {extents}", f"m, {extents}") if pairwise else (extents, extents)
        raise ValueError(
            f"targets has shape {targets} and logits {logits}; expected (..., {rows}) and "
            f"(..., {columns}) with masks of one size and axes before them that broadcast; "
            f"axes={axes} says that the last {axes} are a mask"
        )
    require_equal("the size of masks in targets and logits", targets[-axes:], logits[-axes:])
    return axes


def sampled(masks: tuple[Any, ...], points: tuple[Any, ...]) -> None:
    """Check the shapes of masks and of points to read them at."""
    if (
        len(masks) < 3
        or len(points) < 2
        or not same(points[-1], 2)
        or not broadcastable(masks[:-3], points[:-2])
    ):
        raise ValueError(
            f"masks has shape {masks} and points {points}; expected (..., K, H, W) and "
            "(..., P, 2) with axes before them that broadcast"
        )
    require_equal("the last axis of points", points[-1:], (2,))


def resized(masks: tuple[Any, ...], size: Any) -> tuple[Any, ...]:
    """Check the shape of masks and the size to bring them to; return the shape."""
    if len(masks) < 2:
        raise ValueError(f"masks has shape {masks}; expected (..., H, W)")
    if len(size) != 2 or any(isinstance(extent, int) and extent < 1 for extent in size):
        raise ValueError(f"size is {size}; expected a height and a width, 1 or more")
    return masks


def chosen(count: Any, ratio: Any, candidates: tuple[Any, ...]) -> tuple[int, float]:
    """Check how many of the candidates are to be chosen; return that and the ratio."""
    if len(candidates) < 2:
        raise ValueError(f"candidates has shape {candidates}; expected (..., K, R, 2)")
    count = whole("count", count, 0, "the number of points to return")
    if isinstance(candidates[-2], int) and count > candidates[-2]:
        raise ValueError(
            f"count is {count} and there are {candidates[-2]} candidates; draw at least as many"
        )
    share = number("importance_ratio", ratio, "a number from 0 to 1")
    if not 0 <= share <= 1:
        raise ValueError(f"importance_ratio is {ratio!r}; expected a number from 0 to 1")
    return count, share


def points_of(candidates: Any, importance_ratio: float) -> int:
    """Return for how many points so many candidates are drawn: three for each, and what is left."""
    number = 0
    if isinstance(candidates, int):
        number = int(candidates / (4 - importance_ratio))
        number -= 4 * number - int(importance_ratio * number) > candidates
    if number < 1:
        raise ValueError(
            f"num_points is None, and there are {candidates} candidates; expected as many as are "
            f"drawn for n points, 4 n - int({importance_ratio} n), a number that is known"
        )
    return number
