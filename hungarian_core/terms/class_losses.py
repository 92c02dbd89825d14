"""The losses of classes, one record each: all that there is to know of a loss is in its record.

To add a loss is to add a record, here or as the `loss` of `hungarian_core.terms.Classes`. A formula
returns the loss with its slope in closed form; `logit_losses` adds up what it says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from hungarian_core._backend import Array, Namespace
from hungarian_core._options import one_of
from hungarian_core.costs.classes import Activation, ClassCost, LogitStats, power, sigmoid, times
from hungarian_core.terms import _class_checks as checks

ClassLossName = Literal[
    "softmax", "focal", "varifocal", "varifocal_differentiated", "ia_bce", "mal", "qfl", "asl",
    "bce",
]  # fmt: skip

# ``label(x, quality, alpha, gamma, xp)`` returns the loss and its slope by the logit x, `[N, Q]`
# each, of the label's own class; `quality` is the IoU with the matched box, or None.
LabelLoss = Callable[[Array, Array, float, float, Namespace], tuple[Array, Array]]
# ``other_loss(stats, alpha, gamma, xp)`` returns the loss and its slope of every logit as one that
# is no label, `[N, Q, C]` each.
OtherLoss = Callable[[LogitStats, float, float, Namespace], tuple[Array, Array]]


def _one(alpha: float) -> float:
    return 1.0


def _rest(alpha: float) -> float:
    return 1 - alpha


@dataclass(frozen=True)
class ClassLoss:
    """A loss of the classes of all queries.

    With ``activation="softmax"`` it is the cross entropy, the last class being "no object". With
    ``"sigmoid"`` the classes are independent, and the loss of a query is the sum over classes of
    probability p of ``others(alpha) p**gamma (-log(1 - p))``, or of `other_loss`, but for its
    label, if it has one: there it is `label`.

    The library's, with y the IoU of the label's query with its box and ``H(t, p)`` the cross
    entropy of p with a constant t, are:

    - ``"focal"``: ``alpha (1 - p)**gamma (-log p)``, others ``1 - alpha``;
    - ``"varifocal"``: ``y H(y, p)``, others ``alpha``, `p**gamma` being a constant as in RT-DETR;
      in ``"varifocal_differentiated"`` it is none, as in VarifocalNet's own code and ultralytics;
    - ``"ia_bce"``: ``H(max(p**alpha y**(1 - alpha), 0.01), p)``, others 1;
    - ``"mal"``: ``H(y**gamma, p)``, others 1, `p**gamma` being a constant as in DEIM;
    - ``"qfl"``: ``|p - y|**gamma H(y, p)``, others 1;
    - ``"asl"``: see `asymmetric`;
    - ``"bce"``: ``-log p``, and ``-log(1 - p)`` for the other classes.

    Attributes:
        name: The name by which `Classes` and `DetrLoss` know it.
        activation: ``"softmax"`` or ``"sigmoid"``.
        label: The loss of the label's own logit, and its slope.
        others: The weight of the other classes, a function of alpha.
        constant_focus: Whether `p**gamma` of the other classes counts as a constant.
        other_loss: The loss of the other classes and its slope, where it is another.
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
    other_loss: OtherLoss | None = None
    needs_iou: bool = False
    most_alpha: float = 1.0
    native: int | None = None

    def __post_init__(self) -> None:
        one_of("activation", self.activation, ("softmax", "sigmoid"))
        if self.activation == "sigmoid" and self.label is None:
            raise ValueError(
                f"the class loss {self.name!r} has no label; expected a function "
                "(x, quality, alpha, gamma, xp) that returns the loss and its slope"
            )

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


def _matchable(
    x: Array, quality: Array, alpha: float, gamma: float, xp: Namespace
) -> tuple[Array, Array]:
    """The cross entropy of p with ``IoU**gamma``."""
    return _cross_entropy(x, power(quality, gamma), xp)


def _quality_focal(
    x: Array, quality: Array, alpha: float, gamma: float, xp: Namespace
) -> tuple[Array, Array]:
    """``|p - IoU|**gamma`` times the cross entropy of p with the IoU; at p = IoU of slope 0."""
    p, right = sigmoid(x, xp)
    q, wrong = sigmoid(-x, xp)
    entropy = times(quality, wrong, xp) + times(1 - quality, right, xp)
    apart = p - quality
    focus = power(xp.abs(apart), gamma)
    slope = focus * apart
    if gamma:
        # That of the focus is gamma focus / (p - IoU) times p q, which vanishes at infinity
        # faster than the entropy grows.
        weighed = quality * q * times(p, wrong, xp) + (1 - quality) * p * times(q, right, xp)
        alike = apart == 0
        slope = slope + gamma * focus * xp.where(alike, 0, weighed / xp.where(alike, 1, apart))
    return times(focus, entropy, xp), slope


def _binary(
    x: Array, quality: Array, alpha: float, gamma: float, xp: Namespace
) -> tuple[Array, Array]:
    """``-log p``."""
    q, wrong = sigmoid(-x, xp)
    return wrong, -q


def _binary_other(
    stats: LogitStats, alpha: float, gamma: float, xp: Namespace
) -> tuple[Array, Array]:
    """``-log(1 - p)``."""
    return stats.log_normaliser, stats.probability


def _asymmetric(
    x: Array, quality: Array, alpha: float, gamma: float, xp: Namespace, *, focus: float
) -> tuple[Array, Array]:
    """``(1 - p)**focus (-log p)``."""
    return _focal(x, quality, 1.0, focus, xp)


def _asymmetric_other(
    stats: LogitStats, alpha: float, gamma: float, xp: Namespace, *, focus: float, clip: float
) -> tuple[Array, Array]:
    """``r**focus (-log(1 - r))`` with ``r = max(p - clip, 0)``; at p = clip of slope 0."""
    p = stats.probability
    if not clip:
        weight, loss = power(p, focus), stats.log_normaliser
        finite = xp.where(p < 1, loss, 0)  # (1 - p) vanishes faster than the loss grows
        return weight * loss, weight * (p + focus * (1 - p) * finite)
    clipped = p <= clip
    r = xp.where(clipped, 0, p - clip)
    weight, loss = power(r, focus), -xp.log1p(-r)  # r is 1 - clip at most
    # Of r**focus the slope is focus r**focus / r, and the loss next to r = 0 is r.
    ratio = xp.where(clipped, 1, loss / xp.where(clipped, 1, r))
    slope = weight * (focus * ratio + 1 / (1 - r)) * p * (1 - p)
    return weight * loss, xp.where(clipped, 0, slope)


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
# Of RT-DETR and D-FINE the weight p**gamma is a constant; VarifocalNet's own code, and with it
# mmdetection and ultralytics, differentiates it.
VARIFOCAL_DIFFERENTIATED = replace(
    VARIFOCAL, name="varifocal_differentiated", constant_focus=False, native=None
)
# Cai et al., Align-DETR, 2023, equations 3 to 6.
IA_BCE = ClassLoss("ia_bce", label=_ia_bce, needs_iou=True, native=3)
# Huang et al., DEIM: DETR with Improved Matching for Fast Convergence, CVPR 2025, equation 3.
MAL = ClassLoss("mal", label=_matchable, constant_focus=True, needs_iou=True)
# Li et al., Generalized Focal Loss, NeurIPS 2020, equation 2, whose beta is gamma.
QFL = ClassLoss("qfl", label=_quality_focal, needs_iou=True)
# The plain binary cross entropy, whatever alpha and gamma are.
BCE = ClassLoss("bce", label=_binary, other_loss=_binary_other)


def asymmetric(gamma_pos: float = 0.0, gamma_neg: float = 4.0, clip: float = 0.05) -> ClassLoss:
    """Return the asymmetric loss, ``"asl"`` with parameters of its own.

    It is ``(1 - p)**gamma_pos (-log p)`` for the label's probability p, and for that of another
    class ``r**gamma_neg (-log(1 - r))`` with ``r = max(p - clip, 0)``, both differentiated
    throughout. `alpha` and `gamma` of the term have no say in it.

    Args:
        gamma_pos: The exponent for the label, 0 or more.
        gamma_neg: The exponent for the other classes, 0 or more.
        clip: Which probabilities of another class lose nothing, from 0 to less than 1.

    Raises:
        ValueError: A parameter is out of range.

    Reference:
        Ridnik et al., Asymmetric Loss For Multi-Label Classification, ICCV 2021, equation 7.

    Examples:
        >>> classes = hc.terms.Classes(80, loss=hc.terms.asymmetric(gamma_neg=2.0))
        >>> classes.loss.name
        'asl'
    """
    checks.asymmetric_options(gamma_pos, gamma_neg, clip)
    return ClassLoss(
        "asl",
        label=partial(_asymmetric, focus=gamma_pos),
        other_loss=partial(_asymmetric_other, focus=gamma_neg, clip=clip),
    )


ASL = asymmetric()

CLASS_LOSSES = {
    loss.name: loss
    for loss in (
        SOFTMAX, FOCAL, VARIFOCAL, VARIFOCAL_DIFFERENTIATED, IA_BCE, MAL, QFL, ASL, BCE,
    )
}  # fmt: skip


def class_loss(option: str, loss: ClassLossName | ClassLoss) -> ClassLoss:
    """Return the class loss that an option names, or that it is."""
    if isinstance(loss, ClassLoss):
        return loss
    one_of(option, loss, CLASS_LOSSES)
    return CLASS_LOSSES[loss]
