"""The losses of classes, one record each: all that there is to know of a loss is in its record.

Every query has a loss for its classes. The logits of all queries are most of what a detection loss
reads, so the losses here take the `LogitStats` that the matching needed already, and return with
the loss `[N, Q]` its slope `[N, Q, C]` by every logit in closed form: no framework records the
steps and goes through them once more.

To add a loss is to add a record, here or as the `loss` of `hungarian_core.terms.Classes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._options import one_of
from hungarian_core.costs.classes import (
    Activation,
    ClassCost,
    LogitStats,
    as_index,
    power,
    sigmoid,
    times,
)

ClassLossName = Literal["softmax", "focal", "varifocal", "ia_bce"]

# ``label(x, quality, alpha, gamma, xp)`` returns the loss and its slope by the logit x, `[N, Q]`
# each, of the label's own class; `quality` is the IoU with the matched box, or None.
LabelLoss = Callable[[Array, Array, float, float, Namespace], tuple[Array, Array]]


def _one(alpha: float) -> float:
    return 1.0


def _rest(alpha: float) -> float:
    return 1 - alpha


class QueryTargets(NamedTuple):
    """What the queries are to predict."""

    matched: Array  # [N, Q] bool
    label: Array  # [N, Q] index; where not matched "no object", or any class if there is no such
    quality: Array | None  # [N, Q] IoU with the truth, for the losses that need it


@dataclass(frozen=True)
class ClassLoss:
    """A loss of the classes of all queries.

    With ``activation="softmax"`` it is the cross entropy, the last class being "no object". With
    ``"sigmoid"`` the classes are independent, and the loss of a query is the sum over classes of
    probability p of ``others(alpha) p**gamma (-log(1 - p))``, but for its label, if it has one:
    there it is `label`.

    Attributes:
        name: The name by which `Classes` and `DetrLoss` know it.
        activation: ``"softmax"`` or ``"sigmoid"``.
        label: The loss of the label's own logit, and its slope.
        others: The weight of the other classes, a function of alpha.
        constant_focus: Whether `p**gamma` of the other classes counts as a constant.
        needs_iou: Whether it grades by the IoU of matched boxes.
        most_alpha: The greatest alpha that makes sense.
        native: Its code in `hungarian_class_loss_kind` of the native library, None if the library
            does not have it.

    Examples:
        >>> def squared(x, quality, alpha, gamma, xp):  # (1 - x)**2, whatever the other classes
        ...     return (1 - x) ** 2, 2 * (x - 1)
        >>> loss = hc.terms.ClassLoss("squared", label=squared, others=lambda alpha: 0.0)
        >>> criterion = hc.SetLoss([hc.terms.Classes(2, loss=loss)])
        >>> logits = np.array([[[0.0, 3.0], [9.0, 9.0]]])
        >>> losses = criterion({"logits": logits}, [{"labels": np.array([1])}])
        >>> losses.assignment.col4row, float(losses.total)
        (array([[1]]), 64.0)
    """

    name: str
    activation: Activation = "sigmoid"
    label: LabelLoss | None = None
    others: Callable[[float], float] = _one
    constant_focus: bool = False
    needs_iou: bool = False
    most_alpha: float = 1.0
    native: int | None = None

    @property
    def costs(self) -> tuple[ClassCost, ...]:
        """The matching costs that go with it, its own first."""
        if self.activation == "softmax":
            return ("softmax", "nll")
        return ("focal", "focal_published", "nll")

    def scale(self, alpha: float) -> float:
        """Return what `sigmoid_losses` are to be multiplied by.

        That spares multiplying those of all classes; but nothing is divided by a weight next to 0.
        """
        weight = self.others(alpha)
        return weight if weight >= 1e-3 else 1.0


def _focal(
    x: Array, quality: Array, alpha: float, gamma: float, xp: Namespace
) -> tuple[Array, Array]:
    """``alpha (1 - p)**gamma (-log p)``."""
    p, _ = sigmoid(x, xp)
    q, wrong = sigmoid(-x, xp)  # -log p
    focus = alpha * power(q, gamma)
    return times(focus, wrong, xp), -focus * (gamma * times(p, wrong, xp) + q)


def _varifocal(
    x: Array, quality: Array, alpha: float, gamma: float, xp: Namespace
) -> tuple[Array, Array]:
    """The IoU times the cross entropy of p with the IoU."""
    entropy, slope = _cross_entropy(x, quality, xp)
    return times(quality, entropy, xp), quality * slope


def _ia_bce(
    x: Array, quality: Array, alpha: float, gamma: float, xp: Namespace
) -> tuple[Array, Array]:
    """The cross entropy of p with the constant ``max(p**alpha IoU**(1 - alpha), 0.01)``."""
    p, _ = sigmoid(x, xp)
    target = p**alpha * quality ** (1 - alpha)
    return _cross_entropy(x, xp.where(target < 0.01, 0.01, target), xp)


def _cross_entropy(x: Array, target: Array, xp: Namespace) -> tuple[Array, Array]:
    """Return the cross entropy of a sigmoid with a target from 0 to 1, and its slope."""
    p, right = sigmoid(x, xp)  # -log(1 - p)
    _, wrong = sigmoid(-x, xp)  # -log p
    return times(target, wrong, xp) + times(1 - target, right, xp), p - target


# Carion et al., ECCV 2020, section 3.1.
SOFTMAX = ClassLoss("softmax", activation="softmax", native=0)
# Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 5.
FOCAL = ClassLoss("focal", label=_focal, others=_rest, native=1)
# Zhang et al., VarifocalNet, CVPR 2021, equation 2.
VARIFOCAL = ClassLoss(
    "varifocal",
    label=_varifocal,
    others=float,
    constant_focus=True,
    needs_iou=True,
    most_alpha=math.inf,
    native=2,
)
# Cai et al., Align-DETR, 2023, equations 3 to 6.
IA_BCE = ClassLoss("ia_bce", label=_ia_bce, needs_iou=True, native=3)

CLASS_LOSSES = {loss.name: loss for loss in (SOFTMAX, FOCAL, VARIFOCAL, IA_BCE)}


def class_loss(option: str, loss: ClassLossName | ClassLoss) -> ClassLoss:
    """Return the class loss that an option names, or that it is."""
    if isinstance(loss, ClassLoss):
        return loss
    one_of(option, loss, CLASS_LOSSES)
    return CLASS_LOSSES[loss]


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


def class_indices(logits: Array, xp: Namespace) -> Array:
    """Return the numbers of the classes of `[N, Q, C]`, `[1, 1, C]`, written out to broadcast."""
    return as_index(xp.cumulative_sum(xp.ones_like(logits[:1, :1, :]), axis=2) - 1, xp)


def weights_of(weights: Array, label: Array, xp: Namespace) -> Array:
    """Return the weights `[N, Q]` of labels, of `[1, 1, C]`."""
    return xp.take_along_axis(weights, label[..., None], axis=-1)[..., 0]


def with_constant_gradient(x: Array, value: Array, slope: Array, backend: Backend) -> Array:
    """Return `value` `[N, Q]`, whose gradient by `x` `[N, Q, C]` is the given slope, a constant."""

    def forward(x: Array, value: Array, slope: Array) -> tuple[Array, tuple[Array, ...]]:
        return value * 1, (slope,)

    def backward(residuals: tuple[Array, ...], g: Array) -> tuple[Array | None, ...]:
        return g[..., None] * residuals[0], None, None

    backward.linear = True  # type: ignore[attr-defined]  # in g: forward mode may rely on it
    return backend.custom_vjp(forward, backward)(x, value, slope)
