"""The term of boxes in space: the L1 distance of their codes, and an overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core.boxes import solid
from hungarian_core.boxes._arithmetic import TINY
from hungarian_core.terms.comparison import Arrays, Comparison, ComparisonInputs
from hungarian_core.terms.problems import MatchingProblems

# A logarithm of a side beyond it counts as that: the side is a number, and so is its reciprocal.
_MOST = 80.0


class Boxes3D(Comparison):
    """The term of boxes in space, as DETR3D and models after it code them.

    The loss of a matched pair is ``bbox_weight * L1``, called ``"bbox"``, of ten codes, each with a
    weight: ``cx, cy, log w, log l, cz, log h, sin(yaw), cos(yaw), vx, vy``. Queries say these, and
    targets are ``cx, cy, cz, w, l, h, yaw, vx, vy``: boxes of :mod:`hungarian_core.boxes.solid`
    and the velocity. Matching costs the same with weights of its own. With `overlap`,
    ``overlap_weight * (1 - overlap)`` is added, called by its name. It tells other terms the IoU.

    Args:
        overlap: ``"iou"`` or ``"giou"`` in space, or None for none.
        bbox_weight, overlap_weight: The weights in the loss.
        bbox_cost, overlap_cost: The weights in the matching cost, by default those in the loss.
        velocity: Whether there are velocities; without, codes are 8 numbers and targets 7.
        code_weights: The weights of the codes in the loss, by default 1, and 0.2 for velocities.
        cost_code_weights: Those in the matching cost, by default 1, and 0 for velocities.
        check_targets: Raise if a true box is not finite or has a side that is not positive, where
            it can be read. Where it cannot, a side below 1e-18 counts as that.
        on: The key of outputs ``(..., 10)`` and targets ``(..., 9)``.

    Raises:
        ValueError: An option is unknown, or there are too few or too many weights of codes.

    Reference:
        Wang et al., DETR3D: 3D Object Detection from Multi-view Images via 3D-to-2D Queries, CoRL
        2021, and its code's ``normalize_bbox``.

    Example::

        >>> import numpy as np
        >>> import hungarian_core as hc
        >>> criterion = hc.SetLoss([hc.terms.Boxes3D("giou")])
        >>> car = np.array([9.0, 2.0, 1.0, 2.0, 4.0, 1.5, 0.0, 5.0, 0.0])
        >>> codes = np.array([9.0, 2.0, np.log(2), np.log(4), 1.0, np.log(1.5), 0, 1, 5, 0])
        >>> outputs = {"boxes": np.stack([codes - 1, codes])[None]}
        >>> losses = criterion(outputs, [{"boxes": car[None]}])
        >>> losses.assignment.col4row
        array([[1]])
        >>> sorted(losses.losses)
        ['bbox', 'giou']
    """

    def __init__(
        self,
        overlap: Literal["iou", "giou"] | None = None,
        *,
        bbox_weight: float = 0.25,
        overlap_weight: float = 1.0,
        bbox_cost: float | None = None,
        overlap_cost: float | None = None,
        velocity: bool = True,
        code_weights: Sequence[float] | None = None,
        cost_code_weights: Sequence[float] | None = None,
        check_targets: bool = True,
        on: str = "boxes",
    ) -> None:
        if overlap is not None:
            _checks.one_of("overlap", overlap, ("iou", "giou"))
        self.overlap, self.velocity = overlap, velocity
        moving = 2 if velocity else 0
        self.code_weights = _weights("code_weights", code_weights, moving, 0.2)
        self.cost_code_weights = _weights("cost_code_weights", cost_code_weights, moving, 0.0)
        self.weights = {"bbox": _checks.weight("bbox_weight", bbox_weight)}
        self.cost_weights = {
            "bbox": _checks.weight("bbox_cost", bbox_weight if bbox_cost is None else bbox_cost)
        }
        if overlap is not None:
            cost = overlap_weight if overlap_cost is None else overlap_cost
            self.weights |= {overlap: _checks.weight("overlap_weight", overlap_weight)}
            self.cost_weights |= {overlap: _checks.weight("overlap_cost", cost)}
        self.check_targets, self.on = check_targets, _checks.key("on", on)
        self.outputs, self.fields = {on: (8 + moving,)}, {on: (7 + moving,)}

    def width(self, problems: MatchingProblems, inputs: ComparisonInputs) -> Any:
        """The outlines of two footprints have eight corners."""
        return problems.objects * (1 if self.overlap is None else 8)

    def compare(
        self, predictions: Arrays, truths: Arrays, names: tuple[str, ...], backend: Backend
    ) -> dict[str, Array]:
        """The distance of codes, and one less the overlap."""
        return self._compared(self.code_weights, predictions, truths, names, backend)

    def compare_for_matching(
        self, predictions: Arrays, truths: Arrays, names: tuple[str, ...], backend: Backend
    ) -> dict[str, Array]:
        """The same with other weights of the codes."""
        return self._compared(self.cost_code_weights, predictions, truths, names, backend)

    def overlaps(self, predictions: Arrays, truths: Arrays, backend: Backend) -> Array:
        """The IoU."""
        xp = backend.namespace(predictions[self.on])
        boxes = decoded(predictions[self.on], backend, xp)
        return solid.iou(boxes, truths[self.on][..., :7], backend=backend)

    def impossible(self, truths: Arrays) -> tuple[Array, str]:
        """Boxes that are not finite, or without extent along an axis."""
        boxes = truths[self.on]
        possible = (abs(boxes) < math.inf).all(-1) & (boxes[..., 3:6] > 0).all(-1)
        numbers = ", vx, vy" if self.velocity else ""
        return ~possible, f"(cx, cy, cz, w, l, h, yaw{numbers}), with positive sides"

    def _compared(
        self,
        weights: tuple[float, ...],
        predictions: Arrays,
        truths: Arrays,
        names: tuple[str, ...],
        backend: Backend,
    ) -> dict[str, Array]:
        prediction, truth = predictions[self.on], truths[self.on]
        xp, found = backend.namespace(prediction), {}
        if "bbox" in names:
            moving = (7, 8) if self.velocity else ()
            found["bbox"] = distance(xp, prediction, codes(xp, truth, moving), weights)
        if self.overlap in names:
            measure = solid.giou if self.overlap == "giou" else solid.iou
            boxes = decoded(prediction, backend, xp)
            found |= {self.overlap: 1 - measure(boxes, truth[..., :7], backend=backend)}
        return found


def codes(xp: Namespace, boxes: Array, velocity: tuple[int, ...]) -> list[Array]:
    """Return what queries are to say of boxes, one code after the other; velocities stand where."""
    sides = [boxes[..., k] for k in (3, 4, 5)]
    width, length, height = (xp.log(xp.where(x < TINY, TINY, x)) for x in sides)
    yaw = boxes[..., 6]
    return [
        *(boxes[..., 0], boxes[..., 1], width, length, boxes[..., 2], height),
        *(xp.sin(yaw), xp.cos(yaw)),
        *(boxes[..., k] for k in velocity),
    ]


def decoded(prediction: Array, backend: Backend, xp: Namespace) -> Array:
    """Return the boxes `(..., 7)` that codes stand for; of no direction, the yaw is 0."""
    logarithms = [prediction[..., k] for k in (2, 3, 5)]
    sides = [
        xp.exp(xp.where(x > _MOST, _MOST, xp.where(x < -_MOST, -_MOST, x))) for x in logarithms
    ]
    sin, cos = prediction[..., 6], prediction[..., 7]
    # Only the direction counts: with the larger as unit no square of them vanishes.
    unit = backend.stop_gradient(xp.maximum(xp.abs(sin), xp.abs(cos)))
    none = unit <= TINY
    unit = xp.where(none, 1, unit)
    yaw = xp.atan2(xp.where(none, 0, sin / unit), xp.where(none, 1, cos / unit))
    centre = [prediction[..., k] for k in (0, 1, 4)]
    return xp.stack([*centre, *sides, yaw], axis=-1)


def distance(xp: Namespace, a: Array, b: list[Array], weights: tuple[float, ...]) -> Array:
    """Return the sum of weighted distances of codes, of slope 0 where they are the same."""
    total = xp.zeros_like(a[..., 0] - b[0])
    for k, (code, weight) in enumerate(zip(b, weights, strict=True)):
        if weight:  # what has none may be unknown
            difference = a[..., k] - code
            # JAX gives `abs` the slope 1 at 0.
            total = total + weight * xp.where(difference == 0, 0, xp.abs(difference))
    return total


def _weights(
    name: str, given: Sequence[float] | None, moving: int, of_velocity: float
) -> tuple[float, ...]:
    """Return the weights of the codes."""
    if given is None:
        return (1.0,) * 8 + (of_velocity,) * moving
    if len(given) != 8 + moving:
        raise ValueError(
            f"{name} has {len(given)} numbers; expected {8 + moving}, one for each code"
            + ("" if moving else " with velocity=False")
        )
    return tuple(_checks.plain(x) for x in given)
