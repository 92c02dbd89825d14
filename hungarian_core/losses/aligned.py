"""The set loss whose matching cost is the loss itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend
from hungarian_core._tracing import skip_autograph
from hungarian_core.assignment import Assignment, Nan, Solver
from hungarian_core.boxes import Form
from hungarian_core.losses.base import Loss, OfCriterion
from hungarian_core.losses.set_loss import SetLoss
from hungarian_core.terms.boxes import Boxes
from hungarian_core.terms.classes import Classes
from hungarian_core.terms.targets import TargetForms


class AlignedLosses(NamedTuple):
    """What `AlignedDetrLoss` returns: a named tuple of arrays, hence a pytree.

    A term has the shape `(L,)` if there are L layers, else `()`; with ``reduction="none"`` the
    axis of the images `(B,)` comes last. Terms are weighted. For each layer ``class_ + bbox +
    giou`` and ``assigned + background`` are two divisions of the same sum.

    Attributes:
        total: `()`, what to minimise, or `(B,)` with ``reduction="none"``; the sum over layers.
        class_: The loss of the classes, of all queries.
        bbox: The L1 distance of matched boxes.
        giou: One less the GIoU of matched boxes.
        assigned: For logging, without gradient: the sum of the costs of the matched pairs, which
            is negative where the class and the box of an object are better than none.
        background: For logging, without gradient: the loss if no query had an object.
        cardinality_error: Mean absolute error of the number of objects predicted per image;
            `(L,)` or `()`. For logging.
        class_error: Percentage of matched queries whose highest-scoring class is wrong; `(L,)` or
            `()`. For logging.
        assignment: The matching, as of `DetectionLosses`.
    """

    total: Array
    class_: Array
    bbox: Array
    giou: Array
    assigned: Array
    background: Array
    cardinality_error: Array
    class_error: Array
    assignment: Assignment


@skip_autograph
class AlignedDetrLoss(Loss):
    """The loss of DETR with a matching that minimises this loss, and no other cost.

    In DETR, queries are matched by a cost that is not the loss: it has the probability of a class
    where the loss has its logarithm, and leaves out what a query loses by giving up "no object".
    Here, with p the softmax of the logits, the loss of an image and a matching s is::

        L = sum over objects j of class_weight w(c_j) (-log p(c_j)) + box(j), at query s(j)
          + sum over all other queries of class_weight w0 (-log p(no object)),

        box(j) = bbox_weight L1 + giou_weight (1 - GIoU),

    with w the `class_weights` and w0 `no_object_weight`. Taken over all queries, the second sum
    does not depend on the matching, and what is left is a sum over matched pairs, of the cost::

        C = class_weight (w(c_j) (-log p(c_j)) - w0 (-log p(no object))) + box(j).

    The matching of least cost is therefore the matching of least loss, and L = assigned +
    background. With the matching held constant, the gradient is a generalised gradient of the
    least loss: matching and descent work on one function.

    The loss is not divided by the number of objects. The authors argue that nothing in the
    likelihood, of which it is the negative logarithm, asks for it, and that a batch with more boxes
    should have more of an impact. It is hence larger than that of DETR, by the number of objects
    in an image and, with ``no_object_weight=1``, by the many queries without one:
    ``normalize="boxes"`` and a smaller `no_object_weight` bring it to the scale of DETR's. The
    matching stays aligned with either.

    Args:
        num_classes: The number of classes, without "no object": there are ``num_classes + 1``
            logits, the last for "no object".
        class_weight, bbox_weight, giou_weight: The weights, in the loss and in the cost.
        no_object_weight: The weight of "no object". It is 1 in the paper and 0.1 in DETR.
        class_weights: `num_classes` numbers that multiply the losses of the classes.
        form: ``"safe"``, or ``"published"`` for the published GIoU, which is NaN for two boxes
            without area. See :mod:`hungarian_core.boxes`.
        reduction: ``"mean"`` over the images of the batch (of all workers, where the backend's
            `all_reduce` spans several), ``"sum"``, or ``"none"`` for the loss of each image.
        normalize: None, or ``"boxes"`` to divide by the number of true objects in the batch, at
            least 1, as DETR does, and not by the number of images. With several workers it is
            the mean over workers.
        repeat: Each true object is there k times.
        groups: The queries fall into k groups of equal size, each matched for itself. The loss of
            an image is the sum over its groups.
        nan: As for `DetrLoss`.
        solver: As for `assign`.
        tile_bytes: As for `DetrLoss`.
        check_targets: As for `DetrLoss`.
        backend: A backend's name or instance, by default the one of the arrays.

    Raises:
        ValueError: An option is unknown, or options do not fit each other.

    Reference:
        Chen et al., How to Backpropagate through Hungarian in Your DETR?, 2022, equations 4 to 9.

    Examples:
        >>> logits = np.array([[[4.0, 0.0, 0.0], [0.0, 0.0, 4.0], [0.0, 4.0, 0.0]]])
        >>> boxes = np.array([[[0.3, 0.3, 0.2, 0.2], [0.5, 0.5, 0.1, 0.1], [0.7, 0.6, 0.2, 0.2]]])
        >>> true_boxes = np.array([[0.7, 0.7, 0.2, 0.2], [0.3, 0.3, 0.2, 0.2]])
        >>> targets = [{"labels": np.array([1, 0]), "boxes": true_boxes}]
        >>> losses = hc.AlignedDetrLoss(num_classes=2)(logits, boxes, targets)
        >>> round(float(losses.total), 4)
        1.9413
        >>> bool(np.isclose(losses.total, losses.assigned + losses.background))
        True
    """

    backend = OfCriterion("backend")
    repeat, groups = OfCriterion("repeat"), OfCriterion("groups")

    def __init__(
        self,
        num_classes: int,
        *,
        class_weight: float = 1.0,
        bbox_weight: float = 5.0,
        giou_weight: float = 2.0,
        no_object_weight: float = 1.0,
        class_weights: Sequence[float] | None = None,
        form: Form = "safe",
        reduction: Literal["mean", "sum", "none"] = "mean",
        normalize: Literal["boxes"] | None = None,
        repeat: int = 1,
        groups: int = 1,
        nan: Nan = "worst",
        solver: Solver = "auto",
        tile_bytes: int | None = None,
        check_targets: bool = True,
        backend: str | Backend | None = None,
    ) -> None:
        super().__init__()
        _checks.one_of("reduction", reduction, ("mean", "sum", "none"))
        if normalize is not None:
            _checks.one_of("normalize", normalize, ("boxes",), "or None")
        divided: Literal["objects", "images"] | None = "objects"
        if normalize is None:
            divided = "images" if reduction == "mean" else None
        class_weight = _checks.weight("class_weight", class_weight)
        self.num_classes = num_classes
        self.criterion = SetLoss(
            [
                Classes(
                    num_classes, cost="nll", weight=class_weight,
                    no_object_weight=no_object_weight, class_weights=class_weights,
                    normalize="objects",
                ),
                Boxes(
                    bbox_weight=bbox_weight, giou_weight=giou_weight, form=form,
                    check_targets=check_targets,
                ),
            ],
            match_by="loss", normalize=divided,
            denominator="global", reduction="none" if reduction == "none" else "mean",
            repeat=repeat, groups=groups, nan=nan, solver=solver, tile_bytes=tile_bytes,
            backend=self.default_backend if backend is None else backend,
        )  # fmt: skip
        self.criteria = [self.criterion]

    def __call__(
        self,
        logits: Array,
        boxes: Array,
        targets: TargetForms,
        *,
        image_weights: Array | None = None,
        extra_cost: Array | None = None,
        query_mask: Array | None = None,
        assignment: Assignment | Array | None = None,
    ) -> AlignedLosses:
        """Return the loss of a batch.

        Arguments and errors are those of a call of `DetrLoss`. The `weights` of objects count in
        the cost as in the loss. An object with `ignore` is matched as others are, for what it
        would cost, and its query has no loss: the matching is that of least loss if it is counted.
        An `extra_cost` moves the matching away from the least loss; +inf, which forbids a pair,
        gives the least loss of those that are allowed.

        Returns:
            `AlignedLosses`, differentiable once in `logits` and `boxes`, with the matching held
            constant. Without any object the losses of boxes are 0, still connected to the graph.
        """
        found = self.criterion(
            {"logits": logits, "boxes": boxes}, targets, image_weights=image_weights,
            extra_cost=extra_cost, query_mask=query_mask, assignment=assignment,
        )  # fmt: skip
        losses, logs = found.losses, found.logs
        return AlignedLosses(
            found.total, losses["class"], losses["bbox"], losses["giou"], logs["assigned"],
            logs["background"], logs["cardinality_error"], logs["class_error"], found.assignment,
        )  # fmt: skip

    @skip_autograph
    def match(
        self,
        logits: Array,
        boxes: Array,
        targets: TargetForms,
        *,
        extra_cost: Array | None = None,
        query_mask: Array | None = None,
    ) -> Assignment:
        """Return the matching alone; arguments and errors are those of a call."""
        return self.criterion.match(
            {"logits": logits, "boxes": boxes}, targets, extra_cost=extra_cost,
            query_mask=query_mask,
        )  # fmt: skip

    @skip_autograph
    def costs(self, logits: Array, boxes: Array, targets: TargetForms) -> dict[str, Array]:
        """Return the weighted terms of the matching cost by name, to look at.

        Arguments are those of a call. Each term has the batch axes of `AlignedLosses.assignment`
        and then `(M, Q)`; their sum is C. Where there is no object, they mean nothing.
        """
        return self.criterion.costs({"logits": logits, "boxes": boxes}, targets)
