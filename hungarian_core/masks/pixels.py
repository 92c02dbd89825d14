"""What predicted masks cost, each with every true one, and the losses of pairs."""

from __future__ import annotations

import math
from typing import Any

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import solving_dtype
from hungarian_core._registry import get_backend
from hungarian_core.costs import classes
from hungarian_core.costs.classes import power, times, transposed
from hungarian_core.masks import _checks as checks
from hungarian_core.masks.points import padded


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

    Examples:
        >>> targets = np.array([[[1.0, 0.0], [0.0, 0.0]]])
        >>> logits = np.array([[[4.0, -4.0], [-4.0, -4.0]], [[-4.0, 4.0], [-4.0, -4.0]]])
        >>> hc.masks.pairwise_bce(targets, logits).round(4)
        array([[0.0181, 2.0181]])
    """
    targets, logits, backend, xp = flattened(targets, logits, axes, True, backend)
    finite, infinite = _parted(logits, backend, xp)
    return _mean_product(targets, _finite_entropies(finite, xp), infinite, (1, 1), xp)


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

    Examples:
        >>> targets = np.array([[[1.0, 0.0], [0.0, 0.0]]])
        >>> logits = np.array([[[4.0, -4.0], [-4.0, -4.0]], [[-4.0, 4.0], [-4.0, -4.0]]])
        >>> hc.masks.pairwise_focal(targets, logits).round(4)
        array([[0.    , 0.9687]])
    """
    targets, logits, backend, xp = flattened(targets, logits, axes, True, backend)
    weights = (1, 1) if alpha is None else (alpha, 1 - alpha)
    finite, infinite = _parted(logits, backend, xp)
    inside, outside = _finite_entropies(finite, xp)
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

    Examples:
        >>> targets = np.array([[[1.0, 0.0], [0.0, 0.0]]])
        >>> logits = np.array([[[4.0, -4.0], [-4.0, -4.0]], [[-4.0, 4.0], [-4.0, -4.0]]])
        >>> hc.masks.pairwise_dice(targets, logits).round(4)
        array([[0.0237, 0.6588]])
    """
    targets, logits, _, xp = flattened(targets, logits, axes, True, backend)
    probabilities = sigmoid(logits, xp)
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

    Examples:
        >>> targets = np.array([[[1.0, 0.0], [0.0, 0.0]]])
        >>> logits = np.array([[[4.0, -4.0], [-4.0, -4.0]], [[-4.0, 4.0], [-4.0, -4.0]]])
        >>> hc.masks.bce(targets, logits).round(4)
        array([0.0181, 2.0181])
    """
    targets, logits, _, xp = flattened(targets, logits, axes, False, backend)
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

    Examples:
        >>> targets = np.array([[[1.0, 0.0], [0.0, 0.0]]])
        >>> logits = np.array([[[4.0, -4.0], [-4.0, -4.0]], [[-4.0, 4.0], [-4.0, -4.0]]])
        >>> hc.masks.focal(targets, logits).round(4)
        array([0.    , 0.9687])
    """
    targets, logits, backend, xp = flattened(targets, logits, axes, False, backend)
    rest = 1 - targets
    weight: Any = 1 if alpha is None else alpha * targets + (1 - alpha) * rest
    if gamma:
        wrong = sigmoid(logits, xp) * rest + sigmoid(-logits, xp) * targets
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

    Examples:
        >>> targets = np.array([[[1.0, 0.0], [0.0, 0.0]]])
        >>> logits = np.array([[[4.0, -4.0], [-4.0, -4.0]], [[-4.0, 4.0], [-4.0, -4.0]]])
        >>> hc.masks.dice(targets, logits).round(4)
        array([0.0237, 0.6588])
    """
    targets, logits, _, xp = flattened(targets, logits, axes, False, backend)
    p = sigmoid(logits, xp)
    common = 2 * xp.sum(p * targets, axis=-1)
    return 1 - (common + 1) / (xp.sum(p, axis=-1) + xp.sum(targets, axis=-1) + 1)


def flattened(
    targets: Array, logits: Array, axes: int, pairwise: bool, backend: str | Backend | None
) -> tuple[Array, Array, Backend, Namespace]:
    """Return checked masks in the dtype to compute in, each of one axis, backend and namespace."""
    backend = get_backend(backend, targets=targets, logits=logits)
    logits = backend.asarray(logits)
    targets = backend.asarray(targets, like=logits)
    xp = backend.namespace(targets, logits)
    axes = checks.masks(backend.shape(targets), backend.shape(logits), axes, pairwise)
    _checks.real("targets", targets, xp)
    _checks.real("logits", logits, xp)
    dtype = solving_dtype(logits.dtype, xp)

    def flat(x: Array) -> Array:
        shape = backend.shape(x)
        x = xp.reshape(x, (*shape[:-axes], math.prod(shape[-axes:])))
        return xp.astype(x, dtype, copy=False)

    targets, logits = flat(targets), flat(logits)
    return (
        padded(targets, logits.ndim - targets.ndim),
        padded(logits, targets.ndim - logits.ndim),
        backend,
        xp,
    )


def cross_entropies(x: Array, xp: Namespace) -> tuple[Array, Array]:
    """Return ``-log p`` and ``-log(1 - p)`` of logits."""
    negative, tail = _tail(x, xp)
    return tail - xp.where(negative, x, 0), tail + xp.where(negative, 0, x)


def _finite_entropies(x: Array, xp: Namespace) -> tuple[Array, Array]:
    """Return what `cross_entropies` does, of finite logits, in sums and no branches.

    Whatever slope a framework gives the absolute value at 0, it cancels.
    """
    size = xp.abs(x)
    lower = 0.5 * x - 0.5 * size  # x or 0
    tail = xp.log1p(xp.exp(-size))
    return tail - lower, tail + (x - lower)


def _cross_entropy(targets: Array, x: Array, xp: Namespace) -> Array:
    inside, outside = cross_entropies(x, xp)
    return times(targets, inside, xp) + times(1 - targets, outside, xp)


def _tail(x: Array, xp: Namespace) -> tuple[Array, Array]:
    """Return where a logit is negative, and ``log(1 + exp(-|x|))``.

    The absolute value is spelled out: its slope at 0, about which frameworks differ, has to go
    with the branch that is taken there.
    """
    negative = x < 0
    return negative, xp.log1p(xp.exp(xp.where(negative, x, -x)))


def sigmoid(x: Array, xp: Namespace) -> Array:
    """Return ``1 / (1 + exp(-x))`` to a rounding of 1, in few passes and without an overflow."""
    return 0.5 * xp.tanh(0.5 * x) + 0.5


def _product(a: Array, b: Array, xp: Namespace) -> Array:
    """Return the sums of products `(..., n, m)` of `a[..., n, P]` and `b[..., m, P]`."""
    return xp.matmul(a, transposed(b, b.ndim, xp))


def all_finite(x: Array, backend: Backend, xp: Namespace) -> bool:
    """Say whether all of `x` is known to be finite, in two passes."""
    if not backend.readable(x) or 0 in backend.shape(x):
        return False
    return bool(xp.max(xp.abs(backend.stop_gradient(x))) < math.inf)


def _parted(x: Array, backend: Backend, xp: Namespace) -> tuple[Array, tuple[Array, Array] | None]:
    """Return logits with 0 for infinite ones, and where -inf and +inf were; None for nowhere."""
    if all_finite(x, backend, xp):
        return x, None
    infinite = classes.infinite(x, xp)
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
