"""The losses of pairs of masks with their slopes in closed form.

What `hungarian_core.masks` computes in some forty operations, each recorded with arrays of the size
of the masks, has a slope that is one array of that size: nothing else is kept for the gradient.
"""

from __future__ import annotations

from typing import Any

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._gradient import with_constant_gradient
from hungarian_core.costs.classes import infinite, power, times
from hungarian_core.masks.pixels import all_finite, cross_entropies, flattened, sigmoid


def mask_losses(
    targets: Array,
    logits: Array,
    focal: bool,
    alpha: float | None,
    gamma: float,
    axes: int,
    backend: Backend,
) -> tuple[Array, Array]:
    """Return the loss of the pixels and the dice loss `(...)` of pairs of masks.

    They are those of `hungarian_core.masks.focal` or `bce`, and `dice`; the truth is a constant.

    Args:
        targets: `(..., H, W)`, or `(..., P)` with ``axes=1``.
        logits: Of the same number of axes, which broadcast before those of a mask.
        focal: Focal, or binary cross entropy.
        alpha: Of the focal loss.
        gamma: Likewise.
        axes: How many axes a mask has.
        backend: The backend.
    """
    targets, logits, _, xp = flattened(targets, logits, axes, False, backend)
    x = backend.stop_gradient(logits)
    p = sigmoid(x, xp)
    if all_finite(x, backend, xp):
        q = 1 - p
        entropy, slope = _entropy(targets, x, xp), p - targets
        pixels = entropy
        if focal:
            pixels, slope = _finite_focal(targets, p, q, entropy, slope, alpha, gamma, xp)
    else:
        q = sigmoid(-x, xp)
        inside, outside = cross_entropies(x, xp)
        entropy = times(targets, inside, xp) + times(1 - targets, outside, xp)
        pixels, slope = entropy, p - targets
        if focal:
            pixels, slope = _focal(targets, x, p, q, entropy, slope, alpha, gamma, xp)
    count = xp.sum(xp.ones_like(x), axis=-1, keepdims=True)
    pixels = with_constant_gradient(logits, xp.mean(pixels, axis=-1), slope / count, backend)
    return pixels, _dice(targets, logits, p, q, backend, xp)


def _entropy(targets: Array, x: Array, xp: Namespace) -> Array:
    """Return the cross entropies of finite logits, in few passes.

    Of a truth of 0 or 1, the first two terms are x or 0, or cancel, without a rounding.
    """
    size = xp.abs(x)
    return (1 - targets) * x + (0.5 * size - 0.5 * x) + xp.log1p(xp.exp(-size))


def _finite_focal(
    targets: Array,
    p: Array,
    q: Array,
    entropy: Array,
    slope: Array,
    alpha: float | None,
    gamma: float,
    xp: Namespace,
) -> tuple[Array, Array]:
    """Return what `_focal` does, of finite logits."""
    weight: Any = 1 if alpha is None else (1 - alpha) + (2 * alpha - 1) * targets
    if not gamma:
        return weight * entropy, weight * slope
    sign = 1 - 2 * targets
    wrong = targets + sign * p
    before = wrong if gamma == 2 else _power_before(wrong, gamma, xp)
    weighed = weight * before  # of the exponent less 1
    focused = weighed * wrong
    slope = focused * slope + weighed * (gamma * (p * q)) * (sign * entropy)
    return focused * entropy, slope


def _power_before(wrong: Array, gamma: float, xp: Namespace) -> Array:
    """Return ``wrong**(gamma - 1)``, 0 where there is no such slope."""
    return xp.where(wrong > 0, power(xp.where(wrong > 0, wrong, 1), gamma - 1), 0)


def _focal(
    targets: Array,
    x: Array,
    p: Array,
    q: Array,
    entropy: Array,
    slope: Array,
    alpha: float | None,
    gamma: float,
    xp: Namespace,
) -> tuple[Array, Array]:
    """Return the focal losses of pixels, and their slopes, of the cross entropies and theirs."""
    rest = 1 - targets
    weight: Any = 1 if alpha is None else alpha * targets + (1 - alpha) * rest
    if not gamma:
        return times(weight, entropy, xp), weight * slope
    wrong = p * rest + q * targets
    focus = power(wrong, gamma)
    # Where it is 0, a power below 1 has no slope, and at infinity no power has one.
    still = infinite(x, xp) | (wrong == 0)
    change = xp.where(still, 0, gamma * power(xp.where(still, 1, wrong), gamma - 1))
    change = change * p * q * (rest - targets)
    slope = weight * (times(change, entropy, xp) + focus * slope)
    return times(weight * focus, entropy, xp), slope


def _dice(
    targets: Array, logits: Array, p: Array, q: Array, backend: Backend, xp: Namespace
) -> Array:
    """Return the dice losses, with the smoothing of 1 of the published code."""
    common = 2 * xp.sum(p * targets, axis=-1, keepdims=True) + 1
    both = xp.sum(p, axis=-1, keepdims=True) + xp.sum(targets, axis=-1, keepdims=True) + 1
    share = common / both
    slope = p * q * (share - 2 * targets) / both
    return with_constant_gradient(logits, 1 - share[..., 0], slope, backend)
