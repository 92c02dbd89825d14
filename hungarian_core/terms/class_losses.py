"""The losses of the classes of all queries, with their slopes in closed form.

The logits of all queries are most of what a detection loss reads. `softmax` and `sigmoid` take
the `Statistics` that the matching needed already and return the loss `[N, Q]` of every query with
its slope `[N, Q, C]` by every logit. `attach` makes that slope the gradient, so that no framework
records the steps and goes through them once more.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core.costs.classes import Statistics, power, times
from hungarian_core.costs.classes import sigmoid as of_logits

ClassLoss = Literal["softmax", "focal", "varifocal", "ia_bce"]


class Wanted(NamedTuple):
    """What the queries are to say, seen from the queries."""

    matched: Array  # [N, Q] bool
    label: Array  # [N, Q] index, of no meaning where not matched
    quality: Array | None  # [N, Q] IoU with the truth, for the losses that ask for it


def softmax(
    known: Statistics,
    wanted: Wanted,
    label_weights: Array,
    classes: Array,
    weights: Array,
    smoothing: float,
    xp: Namespace,
) -> tuple[Array, Array]:
    """Return cross entropies `[N, Q]` and their slopes `[N, Q, C]`.

    With a smoothing of e the target is ``(1 - e) onehot + e / C``, and the losses are weighted:
    the first part by the weight of the label, the second by that of each class, as in PyTorch.
    Without it they are still to be multiplied by `label_weights`.

    Args:
        known: The statistics of the logits.
        wanted: The labels, of every query.
        label_weights: `[N, Q]`, the weights of the labels.
        classes: `[1, 1, C]` index, 0 to C - 1.
        weights: `[1, 1, C]`, the weights of the classes.
        smoothing: e, from 0 to 1.
        xp: The namespace.
    """
    logits, p, norm = known.logits, known.probability, known.norm
    label = wanted.label[..., None]
    nll = (norm - xp.take_along_axis(logits, label, axis=-1))[..., 0]
    slope = xp.where(classes == label, p - 1, p)
    if not smoothing:
        return nll, slope
    share = smoothing / weights.shape[-1]  # known where the extents of the logits are not
    spread = xp.sum(times(weights, norm - logits, xp), axis=-1)
    weight = (1 - smoothing) * label_weights
    even = xp.sum(weights) * p - weights
    return times(weight, nll, xp) + share * spread, weight[..., None] * slope + share * even


def sigmoid(
    kind: ClassLoss,
    known: Statistics,
    wanted: Wanted,
    classes: Array,
    weights: Array | None,
    alpha: float,
    gamma: float,
    xp: Namespace,
) -> tuple[Array, Array]:
    """Return losses of independent classes, in units of `unit`, and their slopes.

    For every class that is not the label, of probability p, ``unit p**gamma (-log(1 - p))``; for
    the label, with the IoU q of the boxes:

    - ``"focal"``: ``alpha (1 - p)**gamma (-log p)``;
    - ``"varifocal"``: q times the cross entropy of p with q; here `p**gamma` is a constant;
    - ``"ia_bce"``: the cross entropy of p with the constant ``max(p**alpha q**(1 - alpha), 0.01)``.

    Logits may be infinite: values and slopes are the limits, see `hungarian_core.DetrLoss`.

    Args:
        kind: One of these names.
        known: The statistics of the logits.
        wanted: The labels and IoU, where there is a match.
        classes: `[1, 1, C]` index, 0 to C - 1.
        weights: `[1, 1, C]`, the weights of the classes, or None for 1.
        alpha: As above.
        gamma: As above.
        xp: The namespace.

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 5. Zhang et al.,
        VarifocalNet, CVPR 2021, equation 2. Cai et al., Align-DETR, 2023, equations 3 to 6.
    """
    p, softplus = known.probability, known.norm
    focus, weight, per = power(p, gamma), weight_of_others(kind, alpha), unit(kind, alpha)
    if weight != per:
        focus = focus * weight
    if weights is not None:
        focus = focus * weights
    plain = weights is None and weight == per
    others = focus * softplus if plain else times(focus, softplus, xp)
    slopes = focus * p
    if kind != "varifocal":
        # p**gamma has the slope gamma p**gamma (1 - p), and softplus the slope p. At infinity
        # (1 - p) vanishes faster than the loss grows.
        slopes = slopes + xp.where(p < 1, others, 0) * (1 - p) * gamma

    # Where there is no label, nothing is computed of what the first class or object holds.
    label = xp.where(wanted.matched, wanted.label, 0)[..., None]
    x = xp.take_along_axis(known.logits, label, axis=-1)[..., 0]
    x = xp.where(wanted.matched, x, 0)
    quality = None if wanted.quality is None else xp.where(wanted.matched, wanted.quality, 0)
    own, own_slope = _of_label_itself(kind, x, quality, alpha, gamma, xp)
    share = xp.where(wanted.matched, 1 / per, xp.zeros_like(own))
    if weights is not None:
        share = share * of_label(weights, label[..., 0], xp)
    right = wanted.matched[..., None] & (classes == label)
    losses = xp.sum(xp.where(right, 0, others), axis=-1) + times(share, own, xp)
    return losses, xp.where(right, (share * own_slope)[..., None], slopes)


def weight_of_others(kind: ClassLoss, alpha: float) -> float:
    """Return the weight of the classes that are not the label."""
    return {"focal": 1 - alpha, "varifocal": alpha, "ia_bce": 1.0}[kind]


def unit(kind: ClassLoss, alpha: float) -> float:
    """Return what the losses of `sigmoid` are to be multiplied by.

    That spares multiplying those of all classes; but nothing is divided by a weight next to 0.
    """
    weight = weight_of_others(kind, alpha)
    return weight if weight >= 1e-3 else 1.0


def _of_label_itself(
    kind: ClassLoss, x: Array, overlap: Array, alpha: float, gamma: float, xp: Namespace
) -> tuple[Array, Array]:
    """Return the losses and slopes `[N, Q]` of the labels' own logits."""
    p, right = of_logits(x, xp)  # -log(1 - p)
    q, wrong = of_logits(-x, xp)  # -log p
    if kind == "focal":
        focus = alpha * power(q, gamma)
        return times(focus, wrong, xp), -focus * (gamma * times(p, wrong, xp) + q)
    if kind == "varifocal":
        target, weight = overlap, overlap
    else:
        target = p**alpha * overlap ** (1 - alpha)
        target, weight = xp.where(target < 0.01, 0.01, target), xp.ones_like(x)
    entropy = times(target, wrong, xp) + times(1 - target, right, xp)
    return times(weight, entropy, xp), weight * (p - target)


def of_label(weights: Array, label: Array, xp: Namespace) -> Array:
    """Return the weights `[N, Q]` of labels, of `[1, 1, C]`."""
    return xp.take_along_axis(weights, label[..., None], axis=-1)[..., 0]


def attach(x: Array, value: Array, slope: Array, backend: Backend) -> Array:
    """Return `value` `[N, Q]`, whose gradient by `x` `[N, Q, C]` is the given slope, a constant."""

    def forward(x: Array, value: Array, slope: Array) -> tuple[Array, tuple[Array, ...]]:
        return value * 1, (slope,)

    def backward(residuals: tuple[Array, ...], g: Array) -> tuple[Array | None, ...]:
        return g[..., None] * residuals[0], None, None

    backward.linear = True  # type: ignore[attr-defined]  # in g: forward mode may rely on it
    return backend.custom_vjp(forward, backward)(x, value, slope)
