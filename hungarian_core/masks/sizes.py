"""Masks in another size."""

from __future__ import annotations

from typing import Any, Literal

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import solving_dtype
from hungarian_core._registry import get_backend
from hungarian_core.costs.classes import as_index
from hungarian_core.masks import _checks as checks
from hungarian_core.masks.points import as_number

ResizeMode = Literal["bilinear", "nearest"]


def resize(
    masks: Array,
    size: tuple[Any, Any],
    *,
    mode: ResizeMode = "bilinear",
    backend: str | Backend | None = None,
) -> Array:
    """Return masks in another height and width, as ``torch.nn.functional.interpolate`` does.

    One axis after the other, so between them there is one array only, of the new height and the old
    width.

    Args:
        masks: `(..., H, W)` of logits, probabilities, integers or booleans.
        size: The new height and width.
        mode: ``"bilinear"`` between the centres of the pixels (``align_corners=False``, without
            antialiasing), or ``"nearest"``: of a new pixel the old one in which its first corner
            lies.
        backend: A backend's name or instance, by default the one of the array.

    Returns:
        `(..., *size)`, bilinear in the dtype of `masks`, or float32 if that is narrower or not
        floating, and differentiable; nearest in the dtype of `masks`.

    Raises:
        ValueError: `mode` is unknown, a size is less than 1, or `masks` have fewer than two axes.

    Examples:
        >>> hc.masks.resize(np.array([[0.0, 4.0]]), (1, 4))
        array([[0., 1., 3., 4.]])
        >>> hc.masks.resize(np.array([[0.0, 4.0]]), (1, 4), mode="nearest")
        array([[0., 0., 4., 4.]])
    """
    _checks.one_of("mode", mode, ("bilinear", "nearest"))
    backend = get_backend(backend, masks=masks)
    masks = backend.asarray(masks)
    xp = backend.namespace(masks)
    _checks.real("masks", masks, xp)
    *_, height, width = checks.resized(backend.shape(masks), size)
    place = solving_dtype(masks.dtype, xp)
    nothing = xp.astype(xp.sum(xp.astype(masks[..., :0, :0], xp.float32, copy=False)), place)
    for axis, old, new in ((-2, height, size[0]), (-1, width, size[1])):
        # Not `nothing + 1`, which NumPy before 2.0 makes float64.
        line = xp.cumulative_sum(xp.broadcast_to(xp.ones_like(nothing), (new,))) - 1
        masks = _along(masks, axis, line, (old, new), mode, backend, xp)
    return masks


def _along(
    x: Array,
    axis: int,
    line: Array,
    extents: tuple[Any, Any],
    mode: ResizeMode,
    backend: Backend,
    xp: Namespace,
) -> Array:
    """Return `x` with another extent along an axis; `line` counts the new entries."""
    old, new = (as_number(extent, line.dtype, backend, xp) for extent in extents)
    if mode == "nearest":
        # Exact for whole ratios, where `line * (old / new)` might end below a whole number.
        at = xp.floor(line * old / new)
        return xp.take(x, as_index(xp.where(at < old, at, old - 1), xp), axis=axis)
    place = (line + 0.5) * (old / new) - 0.5
    place = xp.where(place > 0, place, 0)
    low = xp.floor(place)
    low = xp.where(low < old, low, old - 1)
    high = xp.where(low + 1 < old, low + 1, low)
    x = xp.astype(x, line.dtype, copy=False)
    part = place - low if axis == -1 else (place - low)[:, None]
    part = part[(*(None,) * (x.ndim - part.ndim), ...)]
    below, above = (xp.take(x, as_index(at, xp), axis=axis) for at in (low, high))
    # What has no weight is not read: 0 times infinity would be NaN.
    return (1 - part) * below + part * xp.where(part > 0, above, 0)
