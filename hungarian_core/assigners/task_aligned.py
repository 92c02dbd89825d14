"""Task-aligned assignment: the queries whose class and box agree best with an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from hungarian_core import _checks as core_checks
from hungarian_core._backend import Array, Backend
from hungarian_core._settings import Configured
from hungarian_core._tracing import skip_autograph
from hungarian_core.assigners.dense import Assigned, best, least, read, several
from hungarian_core.costs.classes import power, sigmoid
from hungarian_core.terms.targets import TargetForms


@skip_autograph
class TaskAligned(Configured):
    """The queries of the greatest ``t = p**alpha * IoU**beta``, of those inside of the object.

    p is the probability of the object's class, by sigmoid. Each object takes the `top_k` points
    inside of its box of the greatest t. A query that several objects have taken goes to the one
    that it overlaps most, whether that has taken it or not, and `keep` may then leave an object
    fewer. A pair without any overlap is never taken. `Assigned.score` is t in proportion: the best
    query of an object has its greatest IoU, and the others as much less as their t is.

    Args:
        top_k: How many queries an object may take: 13 in TOOD, 10 in YOLOv8; 1 for the one-to-one
            head of YOLOv10.
        alpha: The exponent of the probability: 1 in TOOD, 0.5 in YOLOv8.
        beta: The exponent of the overlap.
        keep: How many of them an object keeps once no query has two objects: 1 for the one-to-one
            head of YOLO26, with a `top_k` of 7; None for all.
        overlap: ``"ciou"``, where a negative one counts as 0, as ultralytics does, or ``"iou"``.
        format: ``"cxcywh"``, ``"xyxy"`` or ``"xywh"``, of true and predicted boxes.
        backend: A backend's name or instance, by default the one of the arrays.

    Raises:
        ValueError: An option is unknown or out of range.

    Reference:
        Feng et al., TOOD: Task-aligned One-stage Object Detection, ICCV 2021, section 3.2; Wang et
        al., YOLOv10: Real-Time End-to-End Object Detection, NeurIPS 2024, section 3.1.

    Examples:
        >>> y, x = np.divmod(np.arange(16.0), 4)
        >>> outputs = {"points": np.stack([x, y], axis=-1) * 8 + 4}  # a map of stride 8
        >>> outputs["boxes"] = np.concatenate([outputs["points"], np.full((16, 2), 16.0)], -1)[None]
        >>> outputs["logits"] = np.zeros((1, 16, 3))
        >>> targets = [{"labels": np.array([2]), "boxes": np.array([[12.0, 12.0, 17.0, 17.0]])}]
        >>> hc.assigners.TaskAligned(4)(outputs, targets).row4col.reshape(4, 4)
        array([[-1,  0, -1, -1],
               [ 0,  0,  0, -1],
               [-1, -1, -1, -1],
               [-1, -1, -1, -1]])
    """

    def __init__(
        self,
        top_k: int = 10,
        *,
        alpha: float = 0.5,
        beta: float = 6.0,
        keep: int | None = None,
        overlap: Literal["ciou", "iou"] = "ciou",
        format: Literal["cxcywh", "xyxy", "xywh"] = "cxcywh",  # noqa: A002  (the field's word)
        backend: str | Backend | None = None,
    ) -> None:
        self.top_k = core_checks.whole("top_k", top_k, 1, "how many queries an object takes")
        self.alpha = core_checks.weight("alpha", alpha)
        self.beta = core_checks.weight("beta", beta)
        self.keep = keep
        if keep is not None:
            self.keep = core_checks.whole("keep", keep, 1, "how many an object keeps, or None")
        core_checks.one_of("overlap", overlap, ("ciou", "iou"))
        core_checks.one_of("format", format, ("cxcywh", "xyxy", "xywh"))
        self.overlap, self.format, self.backend = overlap, format, backend

    def __call__(
        self,
        outputs: Mapping[str, Array],
        targets: TargetForms,
        *,
        query_mask: Array | None = None,
    ) -> Assigned:
        """Return which object each query is to learn.

        Args:
            outputs: ``"logits"`` `(B, Q, C)`, ``"boxes"`` `(B, Q, 4)` and ``"points"`` `(Q, 2)`.
            targets: Labels and boxes, as for `hungarian_core.SetLoss`.
            query_mask: `(B, Q)` bool, True where there is a query.

        Raises:
            ValueError: Shapes or dtypes do not fit, or a label is out of range; where that cannot
                be read, there is no such object.
        """
        wanted = {"logits": ("B", "Q", "C"), "boxes": ("B", "Q", 4), "points": ("Q", 2)}
        batch = read(outputs, targets, query_mask, wanted, self.backend)
        xp = batch.xp
        logits, boxes, points = (batch.outputs[name] for name in wanted)
        inside = batch.pairs & batch.inside(points, *batch.corners(batch.truth, self.format))
        overlap = batch.overlaps(boxes, self.format, self.overlap)
        overlap = xp.where(inside & (overlap > 0), overlap, 0)
        probability, _ = sigmoid(batch.of_labels(logits), xp)
        metric = power(probability, self.alpha) * power(overlap, self.beta)
        # Neither what is not a number nor what has no overlap can be learnt.
        among = inside & (overlap > 0) & (metric > 0)
        chosen = least(-metric, self.top_k, self.top_k, among, xp)
        chosen = xp.where(several(chosen, xp), best(overlap, among, xp), chosen)
        if self.keep is not None:
            chosen = least(-metric, self.keep, self.keep, chosen, xp)
        metric = xp.where(chosen, metric, 0)
        most_overlap = xp.max(xp.where(chosen, overlap, 0), axis=-1, keepdims=True)
        most = xp.max(metric, axis=-1, keepdims=True)
        # The published code adds 1e-9, which tells where metrics are as small.
        return batch.assigned(chosen, metric * most_overlap / (most + 1e-9))
