"""The losses of all logits, and their slopes.

Every query has a loss for its classes. The logits of all queries are most of what a detection loss
reads, so the losses here take the `LogitStats` that the matching needed already, and return with
the loss `[N, Q]` its slope `[N, Q, C]` by every logit in closed form: no framework records the
steps and goes through them once more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hungarian_core._backend import Array, Namespace
from hungarian_core._gradient import with_constant_gradient
from hungarian_core.costs.classes import LogitStats, as_index, power, times
from hungarian_core.terms.class_losses import ClassLoss
from hungarian_core.terms.matches import Matches


class QueryTargets(NamedTuple):
    """What the queries are to predict."""

    matched: Array  # [N, Q] bool
    label: Array  # [N, Q] index; where not matched "no object", or any class if there is no such
    quality: Array | None  # [N, Q] IoU with the truth, for the losses that need it


def cross_entropies(
    stats: LogitStats, targets: QueryTargets, classes: Array, xp: Namespace
) -> tuple[Array, Array]:
    """Return ``-log p`` of the labels by softmax, `[N, Q]`, and the slopes `[N, Q, C]`.

    Args:
        stats: The statistics of the logits.
        targets: The labels, of every query.
        classes: `[1, 1, C]` index, 0 to C - 1.
        xp: The namespace.
    """
    p, label = stats.probability, targets.label[..., None]
    own = xp.take_along_axis(stats.logits, label, axis=-1)
    return (stats.log_normaliser - own)[..., 0], xp.where(classes == label, p - 1, p)


def smoothed_cross_entropies(
    stats: LogitStats,
    targets: QueryTargets,
    label_weights: Array,
    classes: Array,
    weights: Array,
    smoothing: float,
    xp: Namespace,
) -> tuple[Array, Array]:
    """Return weighted cross entropies with the targets ``(1 - e) onehot + e / C``.

    The first part has the weight of the label, the second that of each class, as in PyTorch.

    Args:
        stats: The statistics of the logits.
        targets: The labels, of every query.
        label_weights: `[N, Q]`, the weights of the labels.
        classes: `[1, 1, C]` index, 0 to C - 1.
        weights: `[1, 1, C]`, the weights of the classes.
        smoothing: e, from 0 to 1.
        xp: The namespace.
    """
    nll, slope = cross_entropies(stats, targets, classes, xp)
    share = smoothing / weights.shape[-1]  # known where the extents of the logits are not
    spread = xp.sum(times(weights, stats.log_normaliser - stats.logits, xp), axis=-1)
    weight = (1 - smoothing) * label_weights
    even = xp.sum(weights) * stats.probability - weights
    return times(weight, nll, xp) + share * spread, weight[..., None] * slope + share * even


def sigmoid_losses(
    loss: ClassLoss,
    stats: LogitStats,
    targets: QueryTargets,
    classes: Array,
    weights: Array | None,
    alpha: float,
    gamma: float,
    xp: Namespace,
) -> tuple[Array, Array]:
    """Return losses of independent classes, in units of `ClassLoss.scale`, and their slopes.

    Logits may be infinite: values and slopes are the limits, see `hungarian_core.DetrLoss`.

    Args:
        loss: Which one.
        stats: The statistics of the logits.
        targets: The labels and IoU, where there is a match.
        classes: `[1, 1, C]` index, 0 to C - 1.
        weights: `[1, 1, C]`, the weights of the classes, or None for 1.
        alpha: As for the loss.
        gamma: As for the loss.
        xp: The namespace.
    """
    assert loss.label is not None
    scale = loss.scale(alpha)
    if loss.other_loss is None:
        others, slopes = _focused_losses(loss, stats, weights, alpha, gamma, xp)
    else:
        others, slopes = loss.other_loss(stats, alpha, gamma, xp)
        if weights is not None:
            others, slopes = times(weights, others, xp), weights * slopes

    # Where there is no label, nothing is computed of what the first class or object holds.
    label = xp.where(targets.matched, targets.label, 0)[..., None]
    x = xp.take_along_axis(stats.logits, label, axis=-1)[..., 0]
    x = xp.where(targets.matched, x, 0)
    quality = None if targets.quality is None else xp.where(targets.matched, targets.quality, 0)
    own, own_slope = loss.label(x, quality, alpha, gamma, xp)
    share = xp.where(targets.matched, 1 / scale, xp.zeros_like(own))
    if weights is not None:
        share = share * weights_of(weights, label[..., 0], xp)
    right = targets.matched[..., None] & (classes == label)
    losses = xp.sum(xp.where(right, 0, others), axis=-1) + times(share, own, xp)
    return losses, xp.where(right, (share * own_slope)[..., None], slopes)


def token_losses(
    loss: ClassLoss,
    stats: LogitStats,
    positive: Array,
    quality: Array | None,
    alpha: float,
    gamma: float,
    xp: Namespace,
) -> tuple[Array, Array]:
    """Return the sums `[N, Q]` of the losses of independent classes, any of them labels.

    Args:
        loss: Which one.
        stats: The statistics of the logits.
        positive: `[N, Q, C]` bool, which of them are labels.
        quality: `[N, Q]`, the IoU of the queries, for a loss that needs it.
        alpha: As for the loss.
        gamma: As for the loss.
        xp: The namespace.

    Returns:
        The losses, and their slopes `[N, Q, C]`.
    """
    assert loss.label is not None
    scale = loss.scale(alpha)
    if loss.other_loss is None:
        others, slopes = _focused_losses(loss, stats, None, alpha, gamma, xp)
        others, slopes = scale * others, scale * slopes
    else:
        others, slopes = loss.other_loss(stats, alpha, gamma, xp)
    # Where there is no label, nothing is computed of what a logit holds.
    x = xp.where(positive, stats.logits, 0)
    own, own_slopes = loss.label(
        x, None if quality is None else quality[..., None], alpha, gamma, xp
    )
    each, slopes = xp.where(positive, own, others), xp.where(positive, own_slopes, slopes)
    return xp.sum(each, axis=-1), slopes


def map_losses(stats: LogitStats, shares: Array, xp: Namespace) -> tuple[Array, Array]:
    """Return cross entropies `[N, Q]` of a softmax with shares `[N, Q, C]`, and the slopes."""
    value = xp.sum(times(shares, stats.log_normaliser - stats.logits, xp), axis=-1)
    return value, xp.sum(shares, axis=-1, keepdims=True) * stats.probability - shares


def _focused_losses(
    loss: ClassLoss,
    stats: LogitStats,
    weights: Array | None,
    alpha: float,
    gamma: float,
    xp: Namespace,
) -> tuple[Array, Array]:
    """Return what all logits lose that are no label, and their slopes."""
    p, softplus = stats.probability, stats.log_normaliser
    focus, weight, scale = power(p, gamma), loss.others(alpha), loss.scale(alpha)
    if weight != scale:
        focus = focus * weight
    if weights is not None:
        focus = focus * weights
    plain = weights is None and weight == scale
    others = focus * softplus if plain else times(focus, softplus, xp)
    slopes = focus * p
    if not loss.constant_focus:
        # p**gamma has the slope gamma p**gamma (1 - p), and softplus the slope p. At infinity
        # (1 - p) vanishes faster than the loss grows.
        slopes = slopes + xp.where(p < 1, others, 0) * (1 - p) * gamma
    return others, slopes


def class_indices(logits: Array, xp: Namespace) -> Array:
    """Return the numbers of the classes of `[N, Q, C]`, `[1, 1, C]`, written out to broadcast."""
    # Of one axis first: TensorFlow compares what may not broadcast into an array of unknown rank.
    line = xp.sum(xp.zeros_like(logits[:1, :1, :]), axis=(0, 1))
    return as_index(xp.cumulative_sum(xp.ones_like(line), axis=0) - 1, xp)[None, None, :]


def weights_of(weights: Array, label: Array, xp: Namespace) -> Array:
    """Return the weights `[N, Q]` of labels, of `[1, 1, C]`."""
    return xp.take_along_axis(weights, label[..., None], axis=-1)[..., 0]


def learned(
    logits: Array,
    value: Array,
    slope: Array,
    weigh: Callable[[Array], Array],
    matches: Matches,
) -> Array:
    """Return losses `[N, Q]` with a gradient: weighed by object, 0 for objects to be ignored.

    Args:
        logits: `[N, Q, C]`.
        value: The losses.
        slope: `[N, Q, C]`, their slopes.
        weigh: What is done to them before they are weighed by object.
        matches: Who was matched with whom.
    """
    problems, xp = matches.problems, matches.problems.xp
    ignored = None
    if problems.ignore is not None:
        ignored = matches.query_matched & matches.of_queries(problems.ignore)
        slope = xp.where(ignored[..., None], 0, slope)
    losses = weigh(with_constant_gradient(logits, value, slope, problems.backend))
    if problems.weights is not None:
        of_object = matches.of_queries(problems.weights)
        losses = times(xp.where(matches.query_matched, of_object, 1), losses, xp)
    return losses if ignored is None else xp.where(ignored, 0, losses)
