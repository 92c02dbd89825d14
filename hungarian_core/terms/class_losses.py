"""The losses of classes, one record each: all that there is to know of a loss is in its record.

To add a loss is to add a record, here or as the `loss` of `hungarian_core.terms.Classes`. A formula
returns the loss with its slope in closed form; `logit_losses` adds up what it says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hungarian_core._backend import Array, Namespace
from hungarian_core._options import one_of
from hungarian_core.costs.classes import Activation, ClassCost, power, sigmoid, times

ClassLossName = Literal["softmax", "focal", "varifocal", "ia_bce"]

# ``label(x, quality, alpha, gamma, xp)`` returns the loss and its slope by the logit x, `[N, Q]`
# each, of the label's own class; `quality` is the IoU with the matched box, or None.
LabelLoss = Callable[[Array, Array, float, float, Namespace], tuple[Array, Array]]


def _one(alpha: float) -> float:
    return 1.0


def _rest(alpha: float) -> float:
    return 1 - alpha


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
