"""Dense detectors of two heads: one that learns several queries for an object, and one of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend
from hungarian_core._dtypes import solving_dtype
from hungarian_core._registry import get_backend
from hungarian_core._tracing import skip_autograph
from hungarian_core.assigners import Assigned, TaskAligned
from hungarian_core.assigners import _checks as dense_checks
from hungarian_core.boxes import convert
from hungarian_core.losses.base import Loss
from hungarian_core.losses.set_loss import SetLoss
from hungarian_core.terms import _checks as checks
from hungarian_core.terms.graded import GradedClasses, GradedEdges, decode
from hungarian_core.terms.targets import TargetForms

HEADS = ("one_to_many", "one_to_one")


class DualLosses(NamedTuple):
    """What `DualLoss` returns: a named tuple, hence a pytree.

    Attributes:
        total: As for `hungarian_core.SetLosses`.
        losses: The weighted losses by name, those of the heads with their names before.
        logs: Numbers for logging, likewise.
        one_to_many: Which object each query of the one head was to learn.
        one_to_one: That of the other.
    """

    total: Array
    losses: dict[str, Array]
    logs: dict[str, Array]
    one_to_many: Assigned
    one_to_one: Assigned


@skip_autograph
class DualLoss(Loss):
    """The loss of a dense detector of two heads with consistent assignments.

    Both heads take the queries of the greatest `hungarian_core.assigners.TaskAligned` metric for
    each object, the one several, the other one, by predictions of its own. Of the queries of each
    head, classes lose the binary cross entropy with the normalised metric as the target, boxes one
    less the complete IoU and the distribution focal loss, times the metric. All sums are divided by
    the sum of the metric over the batch, 1 at least.

    Args:
        num_classes: The number of classes.
        top_k: How many queries an object takes in the one head and in the other.
        alpha, beta: As for `hungarian_core.assigners.TaskAligned`.
        bins: How many distances an edge may have from its point, 0 to ``bins - 1`` strides; called
            `reg_max` elsewhere.
        format: The format of true boxes, ``"cxcywh"``, ``"xyxy"`` or ``"xywh"``, in the unit of
            points and strides, such as pixels.
        class_weight, ciou_weight, dfl_weight: The weights.
        denominator, reduction, log, backend: As for `hungarian_core.SetLoss`.

    Raises:
        ValueError: An option is unknown, or options do not fit each other.

    Examples:
        >>> y, x = np.divmod(np.arange(16.0), 4)
        >>> maps = {"points": np.stack([x, y], axis=-1) * 8 + 4, "strides": np.full(16, 8.0)}
        >>> head = {"logits": np.zeros((1, 16, 3)), "edges": np.zeros((1, 16, 4, 4))}
        >>> outputs = {**maps, "one_to_many": head, "one_to_one": head}
        >>> targets = [{"labels": np.array([2]), "boxes": np.array([[14.0, 14.0, 20.0, 20.0]])}]
        >>> losses = hc.criteria.DualLoss(3, bins=4)(outputs, targets)
        >>> losses.one_to_one.row4col.reshape(4, 4)
        array([[-1, -1, -1, -1],
               [-1,  0, -1, -1],
               [-1, -1, -1, -1],
               [-1, -1, -1, -1]])
        >>> sorted(losses.losses)[:3]
        ['one_to_many_ciou', 'one_to_many_class', 'one_to_many_dfl']
    """

    def __init__(
        self,
        num_classes: int,
        *,
        top_k: tuple[int, int] = (10, 1),
        alpha: float = 0.5,
        beta: float = 6.0,
        bins: int = 16,
        format: Literal["cxcywh", "xyxy", "xywh"] = "cxcywh",  # noqa: A002  (the field's word)
        class_weight: float = 0.5,
        ciou_weight: float = 7.5,
        dfl_weight: float = 1.5,
        denominator: Literal["worker", "global"] = "worker",
        reduction: Literal["mean", "none"] = "mean",
        log: bool = True,
        backend: str | Backend | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(top_k, (tuple, list)) or len(top_k) != len(HEADS):
            raise ValueError(f"top_k is {top_k!r}; expected two numbers, one for each head")
        self.backend = self.default_backend if backend is None else backend
        self.bins, self.format = bins, format
        self.assigners = tuple(
            TaskAligned(k, alpha=alpha, beta=beta, format=format, backend=self.backend)
            for k in top_k
        )
        edges = GradedEdges(
            bins=bins, format=format, ciou_weight=ciou_weight, dfl_weight=dfl_weight
        )
        self.criterion = SetLoss(
            [GradedClasses(num_classes, weight=class_weight), edges], denominator=denominator,
            reduction=reduction, log=log, backend=self.backend,
        )  # fmt: skip

    def __call__(
        self,
        outputs: Mapping[str, Any],
        targets: TargetForms,
        *,
        image_weights: Array | None = None,
        query_mask: Array | None = None,
    ) -> DualLosses:
        """Return the loss of a batch.

        Args:
            outputs: ``"points"`` `(Q, 2)` and ``"strides"`` `(Q,)`, and of each head,
                ``"one_to_many"`` and ``"one_to_one"``, a mapping of ``"logits"`` `(B, Q, C)` and
                ``"edges"`` `(B, Q, 4, bins)`: logits of how many strides the left, upper, right
                and lower edge are away from the point.
            targets: Labels and boxes, as for `hungarian_core.SetLoss`.
            image_weights: As for `hungarian_core.SetLoss`.
            query_mask: `(B, Q)` bool, True where there is a query.

        Raises:
            ValueError: As for `hungarian_core.SetLoss`.
        """
        wanted = {"points": ("Q", 2), "strides": ("Q",)}
        checks.outputs_there(outputs, {**wanted, **dict.fromkeys(HEADS, ())})
        if isinstance(targets, list):
            targets = self.criterion.pad_targets(targets, like=outputs["points"])
        total, assigned = None, []
        losses: dict[str, Array] = {}
        logs: dict[str, Array] = {}
        for head, assigner in zip(HEADS, self.assigners, strict=True):
            given = self._of_head(outputs, head)
            of_map = {**given, "points": outputs["points"]}
            found = assigner(of_map, targets, query_mask=query_mask)
            out = self.criterion(
                {**given, "scores": found.score}, targets, assignment=found.row4col,
                query_mask=query_mask, image_weights=image_weights,
            )  # fmt: skip
            losses.update({f"{head}_{name}": x for name, x in out.losses.items()})
            logs.update({f"{head}_{name}": x for name, x in out.logs.items()})
            total = out.total if total is None else total + out.total
            assigned.append(found)
        many, one = assigned
        return DualLosses(total, losses, logs, many, one)

    def _of_head(self, outputs: Mapping[str, Any], head: str) -> dict[str, Array]:
        """Return the arrays of a head, with its boxes, and points and strides of all images."""
        parts = outputs[head]
        wanted: dict[str, tuple[Any, ...]] = {
            "logits": ("B", "Q", "C"), "edges": ("B", "Q", 4, self.bins), "points": ("Q", 2),
            "strides": ("Q",),
        }  # fmt: skip
        checks.outputs_there(parts, {name: wanted[name] for name in ("logits", "edges")})
        given = {**parts, "points": outputs["points"], "strides": outputs["strides"]}
        backend: Backend = get_backend(self.backend, **{name: given[name] for name in wanted})
        first = backend.asarray(given["logits"])
        xp = backend.namespace(first)
        arrays = {name: backend.asarray(given[name], like=first) for name in wanted}
        extents = dense_checks.extents({k: backend.shape(x) for k, x in arrays.items()}, wanted)
        for name, x in arrays.items():
            _checks.real(name, x, xp)
        dtype = solving_dtype(arrays["edges"].dtype, xp)
        points, strides = (
            xp.broadcast_to(
                xp.astype(arrays[name][None, ...], dtype, copy=False),
                (extents["B"], extents["Q"], *tail),
            )
            for name, tail in (("points", (2,)), ("strides", ()))
        )
        edges = backend.stop_gradient(xp.astype(arrays["edges"], dtype, copy=False))
        boxes = convert(
            decode(edges, points, strides, self.bins, backend, xp),
            "xyxy",
            self.format,
            backend=backend,
        )
        return {
            "logits": arrays["logits"], "edges": arrays["edges"], "boxes": boxes,
            "points": points, "strides": strides,
        }  # fmt: skip


def yolo_dual(num_classes: int, *, bins: int = 16, **options: Any) -> DualLoss:
    """Return the criterion of YOLOv10: consistent dual assignments.

    It is `DualLoss` with ten queries of an object in the one head and one in the other, by the same
    metric, ``p**0.5 * CIoU**6``; classes, CIoU and distribution focal loss weigh 0.5, 7.5 and 1.5,
    as in ultralytics, whose total is this times the number of images of a batch. What is not
    included: the head of YOLO26, which has no distributions, and other weights from step to step;
    its assignment is `hungarian_core.assigners.TaskAligned` with ``top_k=7, keep=1``.

    Args:
        num_classes: The number of classes.
        bins: As for `DualLoss`.
        **options: Those of `DualLoss`.

    Reference:
        Wang et al., YOLOv10: Real-Time End-to-End Object Detection, NeurIPS 2024, section 3.1; the
        losses are those of YOLOv8 as ultralytics has them.

    Examples:
        >>> hc.criteria.yolo_dual(80).assigners
        (TaskAligned(), TaskAligned(top_k=1))
    """
    return DualLoss(num_classes, bins=bins, **options)
