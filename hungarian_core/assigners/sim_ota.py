"""SimOTA: as many queries of least cost for an object as their overlaps add up to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from hungarian_core import _checks as core_checks
from hungarian_core._backend import Array, Backend
from hungarian_core._settings import Configured
from hungarian_core._tracing import skip_autograph
from hungarian_core.assigners.dense import Assigned, Batch, best, least, read, several
from hungarian_core.costs.classes import as_index, sigmoid
from hungarian_core.terms.targets import TargetForms

# Logarithms of probabilities are cut off there, as in PyTorch's binary cross entropy.
_LOWEST = -100.0


@skip_autograph
class SimOTA(Configured):
    """The queries of least ``BCE + 3 * (-log IoU)``, as many as the overlaps of the best add up to.

    Candidates are the points inside of any box or near any centre. An object takes the candidates
    of least cost, those that lie inside of its box and near its centre before all others. Their
    number is the sum of its `top_k` greatest IoUs, rounded down, 1 at least. A query that several
    objects have taken goes to the one of least cost, of all objects. `Assigned.score` is the IoU.

    The cost of classes is the binary cross entropy of all classes with the object's; where outputs
    have ``"objectness"``, of the root of its product with the class's probability, as YOLOX. The
    published cost of being outside, 1e5, is what puts these behind; here it is an order, without a
    number that rounds the rest.

    Args:
        top_k: How many IoUs are added up.
        radius: How near to a centre is near, in strides along each axis: 2.5 in YOLOX.
        class_weight: What the binary cross entropy is multiplied by.
        iou_weight: What ``-log IoU`` is multiplied by.
        format: ``"cxcywh"``, ``"xyxy"`` or ``"xywh"``, of true and predicted boxes.
        backend: A backend's name or instance, by default the one of the arrays.

    Raises:
        ValueError: An option is unknown or out of range.

    Reference:
        Ge et al., YOLOX: Exceeding YOLO Series in 2021, section 2.2, by its first code.

    Examples:
        >>> y, x = np.divmod(np.arange(16.0), 4)
        >>> outputs = {"points": np.stack([x, y], axis=-1) * 8 + 4, "strides": np.full(16, 8.0)}
        >>> outputs["boxes"] = np.concatenate([outputs["points"], np.full((16, 2), 16.0)], -1)[None]
        >>> outputs["logits"] = np.zeros((1, 16, 3))
        >>> targets = [{"labels": np.array([2]), "boxes": np.array([[13.0, 12.0, 17.0, 17.0]])}]
        >>> hc.assigners.SimOTA()(outputs, targets).row4col.reshape(4, 4)  # IoUs add up to 2.8
        array([[-1, -1, -1, -1],
               [-1,  0,  0, -1],
               [-1, -1, -1, -1],
               [-1, -1, -1, -1]])
    """

    def __init__(
        self,
        top_k: int = 10,
        *,
        radius: float = 2.5,
        class_weight: float = 1.0,
        iou_weight: float = 3.0,
        format: Literal["cxcywh", "xyxy", "xywh"] = "cxcywh",  # noqa: A002  (the field's word)
        backend: str | Backend | None = None,
    ) -> None:
        self.top_k = core_checks.whole("top_k", top_k, 1, "how many IoUs are added up")
        core_checks.positive("radius", radius)
        self.radius = core_checks.plain(radius)
        self.class_weight = core_checks.weight("class_weight", class_weight)
        self.iou_weight = core_checks.weight("iou_weight", iou_weight)
        core_checks.one_of("format", format, ("cxcywh", "xyxy", "xywh"))
        self.format, self.backend = format, backend

    def __call__(
        self,
        outputs: Mapping[str, Array],
        targets: TargetForms,
        *,
        query_mask: Array | None = None,
    ) -> Assigned:
        """Return which object each query is to learn.

        Args:
            outputs: ``"logits"`` `(B, Q, C)`, ``"boxes"`` `(B, Q, 4)`, ``"points"`` `(Q, 2)`,
                ``"strides"`` `(Q,)`, and where wanted ``"objectness"`` `(B, Q)`, logits.
            targets: As for `TaskAligned`.
            query_mask: As for `TaskAligned`.

        Raises:
            ValueError: As for `TaskAligned`.
        """
        wanted: dict[str, tuple[Any, ...]] = {
            "logits": ("B", "Q", "C"), "boxes": ("B", "Q", 4), "points": ("Q", 2),
            "strides": ("Q",),
        }  # fmt: skip
        if isinstance(outputs, Mapping) and outputs.get("objectness") is not None:
            wanted = {**wanted, "objectness": ("B", "Q")}
        batch = read(outputs, targets, query_mask, wanted, self.backend)
        xp = batch.xp
        points, boxes = batch.outputs["points"], batch.outputs["boxes"]
        low, high = batch.corners(batch.truth, self.format)
        inside = batch.pairs & batch.inside(points, low, high)
        reach = self.radius * batch.outputs["strides"][None, None, :, None]
        middle = ((low + high) * 0.5)[:, :, None, :]
        offset = xp.abs(points[None, None, :, :] - middle)
        near = batch.pairs & xp.all(offset < reach, axis=-1)

        overlap = batch.overlaps(boxes, self.format)
        cost = self.class_weight * self._entropies(batch)
        cost = cost - self.iou_weight * xp.log(overlap + 1e-8)
        # What is not a number cannot be compared.
        candidate = xp.any(inside | near, axis=1, keepdims=True) & batch.pairs & (cost == cost)
        first, then = candidate & inside & near, candidate & ~(inside & near)

        greatest = least(-overlap, self.top_k, self.top_k, candidate, xp)
        count = as_index(xp.floor(xp.sum(xp.where(greatest, overlap, 0), axis=-1)), xp)
        count = xp.where(count < 1, 1, count)
        chosen = least(cost, count, self.top_k, first, xp)
        rest = count - as_index(xp.sum(as_index(chosen, xp), axis=-1), xp)
        chosen = chosen | least(cost, rest, self.top_k, then, xp)
        # Of the objects of a query those come first in which it lies near the centre.
        among = xp.where(xp.any(first, axis=1, keepdims=True), first, candidate)
        chosen = xp.where(several(chosen, xp), best(-cost, among, xp), chosen)
        return batch.assigned(chosen, overlap)

    def _entropies(self, batch: Batch) -> Array:
        """Return the binary cross entropies `[B, M, Q]` of all classes with the objects'."""
        xp, logits = batch.xp, batch.outputs["logits"]
        (right, wrong), (rest, lack) = sigmoid(logits, xp), sigmoid(-logits, xp)
        no, yes = -wrong, -lack  # log(1 - p), log p
        if "objectness" in batch.outputs:
            logits = batch.outputs["objectness"][..., None]
            (sure, _), (unsure, doubt) = sigmoid(logits, xp), sigmoid(-logits, xp)
            yes = (yes - doubt) * 0.5
            # log(1 - root(a)) is log(1 - a) - log(1 + root(a)), and 1 - a what is left of both.
            left = rest + right * unsure
            gone = left == 0
            no = xp.log(xp.where(gone, 1, left)) - xp.log1p(xp.sqrt(right * sure))
            no = xp.where(gone, _LOWEST, no)
        yes, no = (xp.where(x < _LOWEST, _LOWEST, x) for x in (yes, no))
        return batch.of_labels(no - yes) - xp.sum(no, axis=-1)[:, None, :]
