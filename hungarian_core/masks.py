"""Masks: what it costs to take a predicted one for a true one, their losses, and points of them.

A prediction is a mask of logits, and a truth one of numbers in [0, 1], or of booleans. The last
two axes of an array are the height and width of a mask; with ``axes=1`` a mask is one axis of P
points, as `sample` returns them, and with ``axes=3`` a volume.

- `pairwise_bce`, `pairwise_focal` and `pairwise_dice` compare every true mask with every
  predicted one by products of matrices: no array is n times as large as the predictions.
- `bce`, `focal` and `dice` are the losses of pairs.
- `sample` reads masks at points between the pixels, and `uncertain_points` chooses the points
  where a prediction is least certain, among random ones that the caller draws.

Everything is computed in the dtype of the logits, or in float32 for float16 and bfloat16, and is
differentiable; nothing overflows for finite logits. An infinite logit is a pixel without doubt: it
costs nothing where it is right, and infinity where it is wrong. Of a true mask that is padding,
NaN comes through to its own row of costs, which the `row_mask` of `assign` takes out, or to its own
loss. Where gradients are taken, set padding to 0 beforehand: 0 times NaN would reach the logits.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, DType, Namespace
from hungarian_core._dtypes import solving_dtype
from hungarian_core._registry import get_backend
from hungarian_core.costs import classes
from hungarian_core.costs.classes import as_index, power, times, transposed


def pairwise_bce(
    targets: Array, logits: Array, *, axes: int = 2, backend: str | Backend | None = None
) -> Array:
    """Return the mean binary cross entropy of every true mask with every predicted one.

    Args:
        targets: `(..., n, H, W)`, in [0, 1] or boolean.
        logits: `(..., m, H, W)`. Axes before these broadcast.
        axes: How many axes a mask has: 2, or 1 for `(..., n, P)` and `(..., m, P)`.
        backend: A backend's name or instance, to which other arrays are converted; by default
            the one of the arrays.

    Returns:
        `(..., n, m)` in the dtype of `logits`, or float32 for float16 and bfloat16.

    Raises:
        ValueError: Shapes or dtypes do not fit.

    Reference:
        Cheng et al., Masked-attention Mask Transformer for Universal Image Segmentation,
        CVPR 2022.
    """
    targets, logits, backend, xp = _masks(targets, logits, axes, True, backend)
    finite, infinite = _parted(logits, backend, xp)
    return _mean_product(targets, _cross_entropies(finite, xp), infinite, (1, 1), xp)


def pairwise_focal(
    targets: Array,
    logits: Array,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    axes: int = 2,
    backend: str | Backend | None = None,
) -> Array:
    """Return the mean focal cost of every true mask with every predicted one.

    Per pixel it is ``alpha (1 - p)**gamma (-log p)`` where the truth is 1 and ``(1 - alpha)
    p**gamma (-log(1 - p))`` where it is 0, and the mean of both, so weighted, in between.

    Args:
        targets: As for `pairwise_bce`.
        logits: As for `pairwise_bce`.
        alpha: The weight of the object's pixels; None weighs all by 1.
        gamma: The exponent that makes little of what is certain.
        axes: As for `pairwise_bce`.
        backend: As for `pairwise_bce`.

    Returns:
        As `pairwise_bce`, and so are the errors.

    Reference:
        Cheng et al., Per-Pixel Classification is Not All You Need for Semantic Segmentation,
        NeurIPS 2021, for matching. Lin et al., Focal Loss for Dense Object Detection, ICCV 2017,
        equation 5.
    """
    targets, logits, backend, xp = _masks(targets, logits, axes, True, backend)
    weights = (1, 1) if alpha is None else (alpha, 1 - alpha)
    finite, infinite = _parted(logits, backend, xp)
    inside, outside = _cross_entropies(finite, xp)
    if gamma:
        # Of -log(1 - p), a power of 1 - p has a slope for every gamma.
        inside, outside = inside * xp.exp(-gamma * outside), outside * xp.exp(-gamma * inside)
    return _mean_product(targets, (inside, outside), infinite, weights, xp)


def pairwise_dice(
    targets: Array, logits: Array, *, axes: int = 2, backend: str | Backend | None = None
) -> Array:
    """Return the dice cost of every true mask with every predicted one, in [0, 1].

    With the probabilities s of the prediction and the truth t it is
    ``1 - (2 sum(s t) + 1) / (sum(s) + sum(t) + 1)``. Arguments, result, errors and reference are
    those of `pairwise_bce`.
    """
    targets, logits, _, xp = _masks(targets, logits, axes, True, backend)
    probabilities = _sigmoid(logits, xp)
    common = _product(targets, probabilities, xp)
    sizes = xp.sum(targets, axis=-1)[..., :, None] + xp.sum(probabilities, axis=-1)[..., None, :]
    return 1 - (2 * common + 1) / (sizes + 1)


def bce(
    targets: Array, logits: Array, *, axes: int = 2, backend: str | Backend | None = None
) -> Array:
    """Return the mean binary cross entropy of each pair of masks.

    Args:
        targets: `(..., H, W)`, in [0, 1] or boolean.
        logits: `(..., H, W)`. Axes before these broadcast.
        axes: How many axes a mask has: 2, or 1 for `(..., P)`.
        backend: As for `pairwise_bce`.

    Returns:
        `(...)` in the dtype of `logits`, or float32 for float16 and bfloat16.

    Raises:
        ValueError: Shapes or dtypes do not fit.
    """
    targets, logits, _, xp = _masks(targets, logits, axes, False, backend)
    return xp.mean(_cross_entropy(targets, logits, xp), axis=-1)


def focal(
    targets: Array,
    logits: Array,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    axes: int = 2,
    backend: str | Backend | None = None,
) -> Array:
    """Return the mean focal loss of each pair of masks, as in DETR.

    With the probability p and the truth t it is, per pixel, the cross entropy times
    ``(p (1 - t) + (1 - p) t)**gamma`` and ``alpha t + (1 - alpha) (1 - t)``. That is the cost of
    `pairwise_focal` where t is 0 or 1, and less in between. `alpha` and `gamma` are as there;
    other arguments, result and errors are those of `bce`.
    """
    targets, logits, backend, xp = _masks(targets, logits, axes, False, backend)
    rest = 1 - targets
    weight: Any = 1 if alpha is None else alpha * targets + (1 - alpha) * rest
    if gamma:
        wrong = _sigmoid(logits, xp) * rest + _sigmoid(-logits, xp) * targets
        # Where it is 0, a power below 1 has no slope, and at infinity no power has one.
        infinite = classes.infinite(logits, xp)
        still = infinite | (wrong == 0)
        constant = xp.where(infinite, power(backend.stop_gradient(wrong), gamma), 0)
        weight = weight * xp.where(still, constant, power(xp.where(still, 1, wrong), gamma))
    return xp.mean(times(weight, _cross_entropy(targets, logits, xp), xp), axis=-1)


def dice(
    targets: Array, logits: Array, *, axes: int = 2, backend: str | Backend | None = None
) -> Array:
    """Return the dice loss of each pair of masks, by the formula of `pairwise_dice`.

    Arguments, result and errors are those of `bce`.
    """
    targets, logits, _, xp = _masks(targets, logits, axes, False, backend)
    p = _sigmoid(logits, xp)
    common = 2 * xp.sum(p * targets, axis=-1)
    return 1 - (common + 1) / (xp.sum(p, axis=-1) + xp.sum(targets, axis=-1) + 1)


def sample(masks: Array, points: Array, *, backend: str | Backend | None = None) -> Array:
    """Return masks at points, bilinear between the centres of the pixels and 0 outside.

    Args:
        masks: `(..., K, H, W)` of logits, probabilities, integers or booleans.
        points: `(..., P, 2)`, the same points for the K masks: x from 0 at the left edge of a
            mask to 1 at its right edge, y from 0 at its upper edge to 1 at its lower. Axes before
            these broadcast, so that masks `(..., K, 1, H, W)` have points `(..., K, P, 2)` each
            of their own.
        backend: As for `pairwise_bce`.

    Returns:
        `(..., K, P)` in the dtype of `masks`, or of `points` if `masks` are not floating, at least
        float32. It is ``grid_sample(masks, 2 * points - 1, align_corners=False)`` of PyTorch,
        differentiable in masks and points.

    Raises:
        ValueError: Shapes or dtypes do not fit.
    """
    backend = get_backend(backend, masks=masks, points=points)
    masks = backend.asarray(masks)
    points = backend.asarray(points, like=masks)
    xp = backend.namespace(masks, points)
    shape, came = backend.shape(masks), backend.shape(points)
    _checks.sampled(shape, came)
    _checks.real("masks", masks, xp)
    _checks.real("points", points, xp)
    floating = xp.isdtype(masks.dtype, "real floating")
    dtype = solving_dtype((masks if floating else points).dtype, xp)
    points = xp.astype(points, dtype, copy=False)

    *batch, height, width = shape
    flat, missing = xp.reshape(masks, (*batch, height * width)), len(came) - len(shape) + 1
    flat = _padded(flat, missing)
    columns = _neighbours(points[..., 0], width, backend, xp)
    stride = _number(width, columns[0].at.dtype, backend, xp)
    total: Any = 0
    for row in _neighbours(points[..., 1], height, backend, xp):
        for column in columns:
            at = _padded((row.at * stride + column.at)[..., None, :], -missing)
            values = xp.astype(xp.take_along_axis(flat, at, axis=-1), dtype, copy=False)
            weight = _padded((row.weight * column.weight)[..., None, :], -missing)
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
    """
    backend = get_backend(backend, logits=logits, candidates=candidates)
    logits = backend.stop_gradient(backend.asarray(logits))
    candidates = backend.asarray(candidates, like=logits)
    xp = backend.namespace(logits, candidates)
    shape, came = backend.shape(logits), backend.shape(candidates)
    count, importance_ratio = _checks.chosen(count, importance_ratio, came)
    chosen = int(importance_ratio * count)
    drawn = came[-2] - (count - chosen)
    others, rest = candidates[..., :drawn, :], candidates[..., drawn:, :]
    certainty = xp.abs(sample(logits[..., None, :, :], others, backend=backend)[..., 0, :])
    order = xp.argsort(certainty, axis=-1, stable=True)[..., :chosen, None]
    uncertain = xp.take_along_axis(_padded(others, len(shape) - len(came)), order, axis=-2)
    rest = xp.broadcast_to(rest, (*backend.shape(order)[:-2], count - chosen, 2))
    return xp.concat([uncertain, rest], axis=-2)


def _masks(
    targets: Array, logits: Array, axes: int, pairwise: bool, backend: str | Backend | None
) -> tuple[Array, Array, Backend, Namespace]:
    """Return checked masks in the dtype to compute in, each of one axis, backend and namespace."""
    backend = get_backend(backend, targets=targets, logits=logits)
    logits = backend.asarray(logits)
    targets = backend.asarray(targets, like=logits)
    xp = backend.namespace(targets, logits)
    axes = _checks.masks(backend.shape(targets), backend.shape(logits), axes, pairwise)
    _checks.real("targets", targets, xp)
    _checks.real("logits", logits, xp)
    dtype = solving_dtype(logits.dtype, xp)

    def flat(x: Array) -> Array:
        shape = backend.shape(x)
        x = xp.reshape(x, (*shape[:-axes], math.prod(shape[-axes:])))
        return xp.astype(x, dtype, copy=False)

    targets, logits = flat(targets), flat(logits)
    return (
        _padded(targets, logits.ndim - targets.ndim),
        _padded(logits, targets.ndim - logits.ndim),
        backend,
        xp,
    )


def _cross_entropies(x: Array, xp: Namespace) -> tuple[Array, Array]:
    """Return ``-log p`` and ``-log(1 - p)`` of logits."""
    negative, tail = _tail(x, xp)
    return tail - xp.where(negative, x, 0), tail + xp.where(negative, 0, x)


def _cross_entropy(targets: Array, x: Array, xp: Namespace) -> Array:
    inside, outside = _cross_entropies(x, xp)
    return times(targets, inside, xp) + times(1 - targets, outside, xp)


def _tail(x: Array, xp: Namespace) -> tuple[Array, Array]:
    """Return where a logit is negative, and ``log(1 + exp(-|x|))``.

    The absolute value is spelled out: its slope at 0, about which frameworks differ, has to go
    with the branch that is taken there.
    """
    negative = x < 0
    return negative, xp.log1p(xp.exp(xp.where(negative, x, -x)))


def _sigmoid(x: Array, xp: Namespace) -> Array:
    """Return ``1 / (1 + exp(-x))`` to a rounding of 1, in few passes and without an overflow."""
    return 0.5 * xp.tanh(0.5 * x) + 0.5


def _product(a: Array, b: Array, xp: Namespace) -> Array:
    """Return the sums of products `(..., n, m)` of `a[..., n, P]` and `b[..., m, P]`."""
    return xp.matmul(a, transposed(b, b.ndim, xp))


def _parted(x: Array, backend: Backend, xp: Namespace) -> tuple[Array, tuple[Array, Array] | None]:
    """Return logits with 0 for infinite ones, and where -inf and +inf were; None for nowhere."""
    infinite = classes.infinite(x, xp)
    if backend.readable(infinite) and not xp.any(infinite):
        return x, None
    sides = (xp.astype(infinite & side, x.dtype) for side in (x < 0, x > 0))
    return xp.where(infinite, xp.zeros_like(x), x), tuple(sides)


def _mean_product(
    targets: Array,
    costs: tuple[Array, Array],
    infinite: tuple[Array, Array] | None,
    weights: tuple[float, float],
    xp: Namespace,
) -> Array:
    """Return the means over pixels of what a prediction costs inside and outside of a truth.

    In a product, infinity would be NaN where the truth is 0. So infinite logits are counted
    apart: those that are right cost nothing, and one that is wrong costs infinity.
    """
    truths = targets, 1 - targets
    if infinite is not None:
        certain = infinite[0] + infinite[1] > 0
        costs = xp.where(certain, 0, costs[0]), xp.where(certain, 0, costs[1])
    cost: Any = 0
    wrong: Any = 0
    for k, weight in enumerate(weights):
        if weight:
            x = costs[k] if weight == 1 else costs[k] * weight
            cost = cost + _product(truths[k], x, xp)
            wrong = wrong if infinite is None else wrong + _product(truths[k], infinite[k], xp)
    cost = cost / xp.sum(xp.ones_like(targets), axis=-1, keepdims=True)
    return cost if infinite is None else xp.where(wrong > 0, math.inf, cost)


class _Neighbour(NamedTuple):
    """One of the two pixels along an axis that a point lies between, `[..., P]`."""

    at: Array  # its index
    weight: Array  # 0 if it is outside


def _neighbours(
    points: Array, extent: Any, backend: Backend, xp: Namespace
) -> tuple[_Neighbour, _Neighbour]:
    extent = _number(extent, points.dtype, backend, xp)
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


def _number(extent: Any, dtype: DType, backend: Backend, xp: Namespace) -> Any:
    """Return an extent as something to calculate with in a dtype."""
    return extent if isinstance(extent, int) else xp.astype(backend.asarray(extent), dtype)


def _padded(x: Array, axes: int) -> Array:
    """Return `x` with so many new axes in front, if any."""
    return x[(None,) * axes + (...,)] if axes > 0 else x
