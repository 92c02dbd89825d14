"""Masks at points between the pixels, and the points where a prediction is least certain."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, DType, Namespace
from hungarian_core._dtypes import solving_dtype
from hungarian_core._registry import get_backend
from hungarian_core.costs.classes import as_index, times
from hungarian_core.masks import _checks as checks


def sample(
    masks: Array,
    points: Array,
    *,
    mode: Literal["bilinear", "nearest"] = "bilinear",
    backend: str | Backend | None = None,
) -> Array:
    """Return masks at points, and 0 outside.

    Args:
        masks: `(..., K, H, W)` of logits, probabilities, integers or booleans.
        points: `(..., P, 2)`, the same points for the K masks: x from 0 at the left edge of a
            mask to 1 at its right edge, y from 0 at its upper edge to 1 at its lower. Axes before
            these broadcast, so that masks `(..., K, 1, H, W)` have points `(..., K, P, 2)` each
            of their own.
        mode: ``"bilinear"`` between the centres of the pixels, or ``"nearest"``, the pixel in
            which a point lies; on the border of two, the one with an even index.
        backend: As for `pairwise_bce`.

    Returns:
        `(..., K, P)` in the dtype of `masks`, or of `points` if `masks` are not floating, at least
        float32. It is ``grid_sample(masks, 2 * points - 1, mode, align_corners=False)`` of
        PyTorch, differentiable in masks and, bilinear, in points.

    Raises:
        ValueError: Shapes or dtypes do not fit.

    Examples:
        >>> masks = np.arange(4.0).reshape(1, 2, 2)
        >>> hc.masks.sample(masks, np.array([[0.25, 0.25], [0.5, 0.5]]))
        array([[0. , 1.5]])
    """
    _checks.one_of("mode", mode, ("bilinear", "nearest"))
    backend = get_backend(backend, masks=masks, points=points)
    masks = backend.asarray(masks)
    points = backend.asarray(points, like=masks)
    xp = backend.namespace(masks, points)
    shape, came = backend.shape(masks), backend.shape(points)
    checks.sampled(shape, came)
    _checks.real("masks", masks, xp)
    _checks.real("points", points, xp)
    floating = xp.isdtype(masks.dtype, "real floating")
    dtype = solving_dtype((masks if floating else points).dtype, xp)
    points = xp.astype(points, dtype, copy=False)
    found = backend.sample_masks(masks, points, mode=mode)
    return sample_by_gathering(masks, points, mode, backend) if found is None else found


def sample_by_gathering(masks: Array, points: Array, mode: str, backend: Backend) -> Array:
    """Return what `sample` does, of checked arrays, without the hook of the backend."""
    xp = backend.namespace(masks, points)
    shape, came, dtype = backend.shape(masks), backend.shape(points), points.dtype
    *batch, height, width = shape
    flat, missing = xp.reshape(masks, (*batch, height * width)), len(came) - len(shape) + 1
    flat = padded(flat, missing)
    neighbours = _neighbours if mode == "bilinear" else _nearest
    columns = neighbours(points[..., 0], width, backend, xp)
    stride = as_number(width, columns[0].at.dtype, backend, xp)
    total: Any = 0
    for row in neighbours(points[..., 1], height, backend, xp):
        for column in columns:
            at = padded((row.at * stride + column.at)[..., None, :], -missing)
            values = xp.astype(xp.take_along_axis(flat, at, axis=-1), dtype, copy=False)
            weight = padded((row.weight * column.weight)[..., None, :], -missing)
            total = total + times(weight, values, xp)
    return total


def uncertain_points(
    logits: Array,
    candidates: Array,
    count: int,
    *,
    importance_ratio: float = 0.75,
    backend: str | Backend | None = None,
) -> Array:
    """Return points for each predicted mask, most of them where it is least certain.

    The caller draws the candidates, uniformly from [0, 1]; nothing here is random. The last
    ``count - int(importance_ratio * count)`` of them are taken as they are, and of the others
    those where the logit is nearest to 0; equals go in order.

    Args:
        logits: `(..., K, H, W)`.
        candidates: `(..., K, R, 2)`, as the points of `sample`. Axes before the last two
            broadcast: `(R, 2)` are candidates for all masks.
        count: How many points to return, at most R. To draw as Mask2Former does, R is
            ``3 * count`` and those that are taken as they are.
        importance_ratio: The share of points that are chosen, 0 to 1.
        backend: As for `pairwise_bce`.

    Returns:
        `(..., K, count, 2)`, first the chosen ones, in the dtype of `candidates`. They are
        constants for the gradient of the logits.

    Raises:
        ValueError: Shapes, dtypes or options do not fit.

    Reference:
        Kirillov et al., PointRend: Image Segmentation as Rendering, CVPR 2020, section 3.1. Cheng
        et al., CVPR 2022, as for `pairwise_bce`.

    Examples:
        >>> logits = np.array([[[4.0, 0.0], [4.0, 4.0]]])
        >>> candidates = np.array([[[0.25, 0.25], [0.75, 0.25], [0.25, 0.75]]])
        >>> hc.masks.uncertain_points(logits, candidates, 1, importance_ratio=1.0)
        array([[[0.75, 0.25]]])
    """
    backend = get_backend(backend, logits=logits, candidates=candidates)
    logits = backend.stop_gradient(backend.asarray(logits))
    candidates = backend.asarray(candidates, like=logits)
    xp = backend.namespace(logits, candidates)
    shape, came = backend.shape(logits), backend.shape(candidates)
    count, importance_ratio = checks.chosen(count, importance_ratio, came)
    chosen = int(importance_ratio * count)
    drawn = came[-2] - (count - chosen)
    others, rest = candidates[..., :drawn, :], candidates[..., drawn:, :]
    certainty = xp.abs(sample(logits[..., None, :, :], others, backend=backend)[..., 0, :])
    order = xp.argsort(certainty, axis=-1, stable=True)[..., :chosen, None]
    uncertain = xp.take_along_axis(padded(others, len(shape) - len(came)), order, axis=-2)
    rest = xp.broadcast_to(rest, (*backend.shape(order)[:-2], count - chosen, 2))
    return xp.concat([uncertain, rest], axis=-2)


class _Neighbour(NamedTuple):
    """One of the two pixels along an axis that a point lies between, `[..., P]`."""

    at: Array  # its index
    weight: Array  # 0 if it is outside


def _neighbours(
    points: Array, extent: Any, backend: Backend, xp: Namespace
) -> tuple[_Neighbour, _Neighbour]:
    extent = as_number(extent, points.dtype, backend, xp)
    place = points * extent - 0.5
    low = xp.floor(place)
    high, part = low + 1, place - low
    low_inside, high_inside = (low >= 0) & (low < extent), (high >= 0) & (high < extent)
    # A pixel outside reads its neighbour: of anything else, 0 times infinity would be NaN.
    low_at = xp.where(low_inside, low, xp.where(high_inside, high, 0))
    high_at = xp.where(high_inside, high, xp.where(low_inside, low, 0))
    return (
        _Neighbour(as_index(low_at, xp), xp.where(low_inside, 1 - part, 0)),
        _Neighbour(as_index(high_at, xp), xp.where(high_inside, part, 0)),
    )


def _nearest(points: Array, extent: Any, backend: Backend, xp: Namespace) -> tuple[_Neighbour]:
    extent = as_number(extent, points.dtype, backend, xp)
    at = xp.round(points * extent - 0.5)
    inside = (at >= 0) & (at < extent)
    weight = xp.where(inside, xp.ones_like(at), 0)
    return (_Neighbour(as_index(xp.where(inside, at, 0), xp), weight),)


def as_number(extent: Any, dtype: DType, backend: Backend, xp: Namespace) -> Any:
    """Return an extent as something to calculate with in a dtype."""
    return extent if isinstance(extent, int) else xp.astype(backend.asarray(extent), dtype)


def padded(x: Array, axes: int) -> Array:
    """Return `x` with so many new axes in front, if any."""
    return x[(None,) * axes + (...,)] if axes > 0 else x
