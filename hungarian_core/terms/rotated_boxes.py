"""The term of rotated boxes: L1 distances, of the angle too, and an overlap."""

from __future__ import annotations

import math
from typing import Any, Literal

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core.boxes import rotated
from hungarian_core.costs.vectors import l1
from hungarian_core.terms.comparison import Arrays, Comparison, ComparisonInputs
from hungarian_core.terms.problems import MatchingProblems

OVERLAPS = ("giou", "iou", "gwd", "kld", "probiou")
Overlap = Literal["giou", "iou", "gwd", "kld", "probiou"]


class RotatedBoxes(Comparison):
    """The term of rotated boxes, (cx, cy, w, h, angle) as in :mod:`hungarian_core.boxes.rotated`.

    The loss of a matched pair is ``bbox_weight * L1 + angle_weight * turn + overlap_weight *
    apart``. Matching costs the same with weights of its own. It tells other terms the rotated IoU.

    - ``"bbox"``, the L1 distance of centres and sides.
    - ``"angle"``, the distance of the angles around a circle of half a turn, divided by half a
      turn, from 0 to 1/2: a box is the same after half a turn. Where both ways round are as far,
      the slope is that of one of them. A square is the same after a quarter already, which
      ``period=math.pi / 2`` says for sets of such; and a box with its sides exchanged after a
      quarter is the same too, which neither this nor ``"bbox"`` knows: have the targets keep to
      one, such as the longer side first, or give both a weight of 0.
    - the overlap by its name: ``"giou"``, ``"iou"`` and ``"probiou"`` lose 1 less themselves, the
      last of which is the distance L1 of its paper; ``"gwd"``, normalised, and ``"kld"``, of the
      true box from the predicted one, lose ``1 - 1 / (tau + ln(1 + distance))``.

    Args:
        overlap: Which overlap: ``"giou"``, ``"iou"``, ``"gwd"``, ``"kld"`` or ``"probiou"``.
        bbox_weight, angle_weight, overlap_weight: The weights in the loss.
        bbox_cost, angle_cost, overlap_cost: The weights in the matching cost, by default those in
            the loss.
        period: After which angle a box is the same, or None for angles that are compared as
            numbers, as published criteria do. They are divided by half a turn either way.
        tau: 1 or more, for ``"gwd"`` and ``"kld"``.
        check_targets: Raise if a true box is not finite or has a negative side, where it can be
            read.
        on: The key of both outputs and targets, ``(..., 5)`` each.

    Raises:
        ValueError: An option is unknown, `period` is not positive or `tau` less than 1.

    Reference:
        For the overlaps see :mod:`hungarian_core.boxes.rotated`; the losses of the distances are
        those of Yang et al., ICML 2021 and NeurIPS 2021, as MMRotate has them.

    Example::

        >>> import numpy as np
        >>> import hungarian_core as hc
        >>> criterion = hc.SetLoss([hc.terms.RotatedBoxes()])
        >>> outputs = {"boxes": np.array([[[0.2, 0.2, 0.2, 0.1, 0.0], [0.5, 0.5, 0.4, 0.2, 3.1]]])}
        >>> losses = criterion(outputs, [{"boxes": np.array([[0.5, 0.5, 0.4, 0.2, 0.0]])}])
        >>> losses.assignment.col4row
        array([[1]])
        >>> {name: round(float(x), 3) for name, x in losses.losses.items()}  # weighted
        {'bbox': 0.0, 'angle': 0.066, 'giou': 0.148}
    """

    def __init__(
        self,
        overlap: Overlap = "giou",
        *,
        bbox_weight: float = 5.0,
        angle_weight: float = 5.0,
        overlap_weight: float = 2.0,
        bbox_cost: float | None = None,
        angle_cost: float | None = None,
        overlap_cost: float | None = None,
        period: float | None = math.pi,
        tau: float = 1.0,
        check_targets: bool = True,
        on: str = "boxes",
    ) -> None:
        _checks.one_of("overlap", overlap, OVERLAPS)
        if period is not None:
            _checks.positive("period", period)
        if not tau >= 1:
            raise ValueError(f"tau is {tau!r}; expected 1 or more")
        self.weights = {
            "bbox": _checks.weight("bbox_weight", bbox_weight),
            "angle": _checks.weight("angle_weight", angle_weight),
            overlap: _checks.weight("overlap_weight", overlap_weight),
        }
        costs = {"bbox": bbox_cost, "angle": angle_cost, overlap: overlap_cost}
        self.cost_weights = {
            name: self.weights[name]
            if cost is None
            else _checks.weight(f"the cost of {name}", cost)
            for name, cost in costs.items()
        }
        self.overlap, self.period, self.tau = overlap, period, float(tau)
        self.check_targets, self.on = check_targets, _checks.key("on", on)
        self.outputs = self.fields = {on: (5,)}

    def width(self, problems: MatchingProblems, inputs: ComparisonInputs) -> Any:
        """The outlines of two boxes have eight corners."""
        return 8 * problems.objects

    def compare(
        self, predictions: Arrays, truths: Arrays, names: tuple[str, ...], backend: Backend
    ) -> dict[str, Array]:
        """The distances, and how far apart the overlap says that boxes are."""
        prediction, truth = predictions[self.on], truths[self.on]
        xp, found = backend.namespace(prediction), {}
        if "bbox" in names:
            found["bbox"] = l1(xp, prediction[..., :4], truth[..., :4])
        if "angle" in names:
            found["angle"] = turn(xp, prediction[..., 4], truth[..., 4], self.period)
        if self.overlap in names:
            loss = apart(self.overlap, prediction, truth, self.tau, backend, xp)
            found |= {self.overlap: loss}
        return found

    def overlaps(self, predictions: Arrays, truths: Arrays, backend: Backend) -> Array:
        """The IoU."""
        return rotated.iou(predictions[self.on], truths[self.on], backend=backend)

    def impossible(self, truths: Arrays) -> tuple[Array, str]:
        """Boxes that are not finite or have a negative side."""
        boxes = truths[self.on]
        possible = (abs(boxes) < math.inf).all(-1) & (boxes[..., 2:4] >= 0).all(-1)
        return ~possible, "(cx, cy, w, h, angle), with sides of 0 or more"


def turn(xp: Namespace, a: Array, b: Array, period: float | None) -> Array:
    """Return the distance of two angles over pi, 0 and of slope 0 where they are the same."""
    if period is None:
        difference, scale = a / math.pi - b / math.pi, 1.0
    else:
        # Each to the nearest turn first: what is left is no more than 1, and exact where it was.
        a, b = a / period, b / period
        difference = (a - xp.floor(a + 0.5)) - (b - xp.floor(b + 0.5))
        difference = difference - xp.floor(difference + 0.5)
        scale = period / math.pi
    # JAX gives `abs` the slope 1 at 0.
    return scale * xp.where(difference == 0, 0, xp.abs(difference))


def apart(
    overlap: str, prediction: Array, truth: Array, tau: float, backend: Backend, xp: Namespace
) -> Array:
    """Return the loss of an overlap."""
    if overlap in ("giou", "iou"):
        measure = rotated.giou if overlap == "giou" else rotated.iou
        return 1 - measure(prediction, truth, backend=backend)
    if overlap == "probiou":
        return 1 - rotated.probiou(prediction, truth, backend=backend)
    if overlap == "gwd":
        distance = rotated.gwd(prediction, truth, normalize=True, backend=backend)
    else:
        distance = rotated.kld(truth, prediction, backend=backend)
    return 1 - 1 / (tau + xp.log1p(distance))
