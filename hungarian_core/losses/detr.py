"""The loss of detection transformers: DETR and its family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend
from hungarian_core._registry import backend_of
from hungarian_core._tracing import skip_autograph
from hungarian_core.assignment import Assignment, Nan, Solver
from hungarian_core.boxes import Form
from hungarian_core.costs.classes import ClassCost
from hungarian_core.denoising.queries import Denoised
from hungarian_core.losses.base import Loss, OfCriterion
from hungarian_core.losses.presets import PRESETS
from hungarian_core.losses.results import DENOISED, DetectionLosses
from hungarian_core.losses.set_loss import SetLoss
from hungarian_core.terms import _checks as checks
from hungarian_core.terms.boxes import Boxes
from hungarian_core.terms.class_losses import ClassLoss, ClassLossName
from hungarian_core.terms.class_losses import class_loss as checked
from hungarian_core.terms.classes import Classes
from hungarian_core.terms.masks import Masks
from hungarian_core.terms.targets import TargetForms


class MaskLoss(Masks):
    """The term of masks of a `DetrLoss`: `hungarian_core.terms.Masks`, with the same arguments.

    Examples:
        >>> hc.DetrLoss(3, masks=hc.MaskLoss("bce", mask_weight=5.0, dice_weight=5.0)).masks.pixels
        'bce'
    """


@skip_autograph
class DetrLoss(Loss):
    """The set loss of DETR: match queries to true objects, then grade classes and boxes.

    The matching cost of a query and an object is ``class_cost * C + bbox_cost * L1 + giou_cost *
    (-GIoU)``, with C by `class_cost_form`. The loss is ``class_weight * class + bbox_weight * L1 +
    giou_weight * (1 - GIoU)``, where boxes count for matched pairs only, and

    - ``"softmax"``: the cross entropy of all queries, those without an object having the last
      class, of weight `no_object_weight`; divided by the sum of the weights of what the queries
      are to say;
    - ``"focal"``, ``"varifocal"``, ``"varifocal_differentiated"``, ``"ia_bce"``, ``"mal"``,
      ``"qfl"``, ``"asl"``, ``"bce"``: the sum over all queries and classes of a sigmoid loss, see
      `hungarian_core.terms.ClassLoss`.

    What is no ordinary number means the same in every framework and in the native passes:

    - A logit of -inf is a class of probability 0, of +inf (sigmoid losses only) of probability 1:
      values and slopes are the limits. That is a loss of +inf with a finite slope where the label,
      or any class by label smoothing, is given the probability 0. A weight of 0 takes part with
      nothing: 0 times infinity is 0.
    - A query says nothing that has a NaN logit or, for ``"softmax"``, a logit of +inf or none but
      -inf; its loss and slopes are NaN. So are the loss and slopes of a matched pair of boxes with
      a NaN or infinite number. No slope of another query or image is touched.
    - In the matching cost, +inf, as of a class of probability 0 or of an infinite box, is as bad as
      NaN: with ``nan="worst"`` both count as the worst finite cost of the image, and -inf as the
      best. Only an `extra_cost` of +inf forbids a pair.
    - Boxes with negative sides or without area are those of :mod:`hungarian_core.boxes`; a box
      whose area overflows costs NaN.

    All but the cross entropy is divided by the number of true objects in the batch, at least 1;
    of all workers where the backend's `all_reduce` spans several, divided by their number.

    Args:
        num_classes: The number of classes, without "no object": with ``"softmax"`` there are
            ``num_classes + 1`` logits, else `num_classes`.
        class_loss: One of these names, or a `hungarian_core.terms.ClassLoss` of your own.
        class_weight, bbox_weight, giou_weight: The weights in the loss.
        class_cost, bbox_cost, giou_cost: The weights in the matching cost.
        class_cost_form: ``"softmax"``, -p of the label; ``"focal"``; ``"focal_published"``, with
            an epsilon of 1e-8 in the logarithms; ``"nll"``, -log p. By default ``"softmax"`` for
            ``class_loss="softmax"``, else ``"focal"``.
        no_object_weight: The weight of the last class in the cross entropy.
        class_weights: `num_classes` numbers that multiply the losses of the classes; for softmax
            they also count in what the cross entropy is divided by.
        label_smoothing: For ``"softmax"``: how much of the target is spread over all classes.
        alpha, gamma: The parameters of the sigmoid losses, 0 or more; `alpha` is 1 at most, but
            for varifocal losses.
        cost_alpha, cost_gamma: Those of the focal cost; `cost_gamma` is `gamma` by default.
        form: ``"safe"``, or ``"published"`` for the published GIoU, which is NaN for two boxes
            without area. See :mod:`hungarian_core.boxes`.
        class_denominator: What the cross entropy is divided by when several workers train.
            ``"worker"``: each worker's own sum of label weights, as published. ``"global"``: the
            mean over workers, so that the loss does not depend on how images are distributed. The
            number of objects used for boxes is at least 1 per worker with ``"worker"``, over all
            workers with ``"global"``.
        reduction: ``"mean"``, or ``"none"`` to keep the images apart: each has its share, and the
            sum of the shares is what ``"mean"`` gives.
        masks: The terms of masks, if there are to be any: a `MaskLoss`.
        repeat: Each true object is there k times, for one-to-many matching as in H-DETR.
        groups: The queries fall into k groups of equal size, one after another, and each is
            matched for itself, as in Group DETR.
        nan: What NaN and -inf in the matching cost do, as for `assign`. By default they count as
            the worst cost: a step that fails has the loss NaN, and training goes on.
        solver: As for `assign`.
        tile_bytes: The size in bytes of the largest temporary array of pairs. By default 1 MiB,
            which a processor keeps in its cache, and any size in programs, whose compilers fuse.
        check_targets: Whether true boxes that cannot be boxes in cxcywh, relative to the image,
            are an error where values can be read: NaN, negative sides, and numbers so large that
            they must be pixels, centres outside of -2 to 3 or sides beyond 5. Boxes that
            augmentation moved partly out of the image are well within. Objects with `ignore` are
            checked too, since they are matched by their boxes.
        log: Whether to compute `cardinality_error` and `class_error`, which else are None.
        backend: A backend's name or instance, by default the one of the arrays.

    Raises:
        ValueError: An option is unknown, or options do not fit each other.

    Reference:
        Carion et al., End-to-End Object Detection with Transformers, ECCV 2020, equations 1 and
        2. Zhu et al., Deformable DETR, ICLR 2021. Jia et al., DETRs with Hybrid Matching, CVPR
        2023. Chen et al., Group DETR, ICCV 2023.

    Examples:
        >>> logits = np.array([[[4.0, 0.0, 0.0], [0.0, 0.0, 4.0], [0.0, 4.0, 0.0]]])
        >>> boxes = np.array([[[0.3, 0.3, 0.2, 0.2], [0.5, 0.5, 0.1, 0.1], [0.7, 0.6, 0.2, 0.2]]])
        >>> true_boxes = np.array([[0.7, 0.7, 0.2, 0.2], [0.3, 0.3, 0.2, 0.2]])
        >>> targets = [{"labels": np.array([1, 0]), "boxes": true_boxes}]
        >>> criterion = hc.DetrLoss(num_classes=2)
        >>> losses = criterion(logits, boxes, targets)
        >>> round(float(losses.total), 4)
        0.9526
        >>> losses.assignment.col4row
        array([[2, 0]])
        >>> hc.DetrLoss.preset("deformable", num_classes=91)
        DetrLoss(num_classes=91, class_loss='focal', class_weight=2.0, class_cost=2.0)
    """

    backend = OfCriterion("backend")
    class_denominator = OfCriterion("denominator")
    reduction = OfCriterion("reduction")
    repeat, groups = OfCriterion("repeat"), OfCriterion("groups")
    log = OfCriterion("log")

    def __init__(
        self,
        num_classes: int,
        *,
        class_loss: ClassLossName | ClassLoss = "softmax",
        class_weight: float = 1.0,
        bbox_weight: float = 5.0,
        giou_weight: float = 2.0,
        class_cost: float = 1.0,
        bbox_cost: float = 5.0,
        giou_cost: float = 2.0,
        class_cost_form: ClassCost | None = None,
        no_object_weight: float = 0.1,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
        cost_alpha: float = 0.25,
        cost_gamma: float | None = None,
        form: Form = "safe",
        class_denominator: Literal["worker", "global"] = "worker",
        reduction: Literal["mean", "none"] = "mean",
        masks: Masks | None = None,
        repeat: int = 1,
        groups: int = 1,
        nan: Nan = "worst",
        solver: Solver = "auto",
        tile_bytes: int | None = None,
        check_targets: bool = True,
        log: bool = True,
        backend: str | Backend | None = None,
    ) -> None:
        super().__init__()
        self.masks = masks
        # The terms take None for the weight in the loss; here every weight is a number of its own.
        class_weight = _checks.weight("class_weight", class_weight)
        class_cost = _checks.weight("class_cost", class_cost)
        bbox_cost = _checks.weight("bbox_cost", bbox_cost)
        giou_cost = _checks.weight("giou_cost", giou_cost)
        # What `Classes` would say of these, it would say by the names of its own options.
        loss = checked("class_loss", class_loss)
        if class_cost_form is not None:
            given = f"with class_loss={loss.name!r}"
            _checks.one_of("class_cost_form", class_cost_form, loss.costs, given)
        classes = Classes(
            num_classes, loss=class_loss, cost=class_cost_form, weight=class_weight,
            cost_weight=class_cost, no_object_weight=no_object_weight,
            class_weights=class_weights, label_smoothing=label_smoothing, alpha=alpha,
            gamma=gamma, cost_alpha=cost_alpha, cost_gamma=cost_gamma,
        )  # fmt: skip
        boxes = Boxes(
            bbox_weight=bbox_weight, giou_weight=giou_weight, bbox_cost=bbox_cost,
            giou_cost=giou_cost, form=form, check_targets=check_targets,
        )  # fmt: skip
        self.num_classes = classes.num_classes
        # Read at every call: a schedule may set them, and PyTorch's modules may learn them.
        self.class_weight = classes.weight
        self.bbox_weight, self.giou_weight = boxes.bbox_weight, boxes.giou_weight
        _checks.one_of("class_denominator", class_denominator, ("worker", "global"))
        more = () if masks is None else (masks,)
        options: dict[str, Any] = {
            "denominator": class_denominator, "reduction": reduction, "repeat": repeat,
            "groups": groups, "nan": nan, "solver": solver, "tile_bytes": tile_bytes, "log": log,
            "backend": self.default_backend if backend is None else backend,
        }  # fmt: skip
        self.criterion = SetLoss([classes, boxes, *more], **options)
        # For calls without boxes, if classes can do without.
        self._unboxed = None if classes.needs_iou else SetLoss([classes, *more], **options)
        self.criteria = [x for x in (self.criterion, self._unboxed) if x is not None]
        self.class_loss = classes.loss.name

    @classmethod
    def preset(cls, name: str, num_classes: int, **changes: Any) -> DetrLoss:
        """Return the loss with published settings.

        A preset is all of a model's loss, of its queries for denoising too: ``denoising=`` of a
        call. Models whose criteria have other terms, such as D-FINE, are in
        :mod:`hungarian_core.criteria`.

        Args:
            name: ``"detr"``, ``"yolos"``, ``"table_transformer"``, ``"deformable"``,
                ``"conditional"``, ``"dab"``, ``"dino"``, ``"rt_detr"``, ``"lw_detr"``,
                ``"rf_detr"``, ``"rf_detr_seg"``, ``"hf_deformable"``, ``"maskformer"`` or
                ``"mask2former"``.
            num_classes: As for `DetrLoss`.
            **changes: Arguments of `DetrLoss` to set otherwise.

        Raises:
            TypeError: An argument is none of `DetrLoss`.
            ValueError: There is no such preset.
        """
        _checks.one_of("preset", name, tuple(PRESETS))
        _checks.options("DetrLoss.preset", DetrLoss.__init__, changes)
        return cls(num_classes, **{**PRESETS[name], **changes})

    def __call__(
        self,
        logits: Array,
        boxes: Array | None,
        targets: TargetForms,
        *,
        masks: Array | None = None,
        points: Array | None = None,
        candidates: Array | None = None,
        image_weights: Array | None = None,
        extra_cost: Array | None = None,
        query_mask: Array | None = None,
        assignment: Assignment | Array | None = None,
        num_objects: float | Array | None = None,
        denoising: Denoised | None = None,
    ) -> DetectionLosses:
        """Return the loss of a batch.

        Args:
            logits: `(B, Q, C)`, or `(L, B, Q, C)` for L decoder layers, which are matched each
                for itself in one solve. Half precision is computed in float32.
            boxes: `(B, Q, 4)` or `(L, B, Q, 4)`, in cxcywh, relative to the image; None where
                only masks are predicted.
            targets: `Targets`, a tuple of its first fields (labels, boxes, mask), the mask None
                where there is no padding, or a list with
                a mapping of ``"labels"`` or ``"class_labels"`` and ``"boxes"`` per image, as
                `pad_targets` takes it. An object's `weights` multiply the losses of its class
                and box. An object with `ignore` is matched as others are, and its query has no
                loss at all, neither for the class nor for the box; it is not counted, and its
                label may be -1, with which its class costs nothing.
            masks: `(B, Q, H, W)` logits, of the last layer, or `(L, B, Q, H, W)`, for a loss with
                `masks`.
            points: `(B, P, 2)`, the points at which masks are compared, as for
                `hungarian_core.masks.sample`; by default all pixels.
            candidates: `(B, M, R, 2)`, or what broadcasts to it: random points, of which the loss
                takes the `num_points` of `MaskLoss` that are the least certain, instead of
                `points`.
            image_weights: `(B,)`, what the losses of each image are multiplied by.
            extra_cost: `(B, M, Q)` or `(L, B, M, Q)`, to add to the matching cost; +inf forbids
                a pair, with `repeat` each time that the object is there. With groups, Q is the
                number of queries of one, and `(L, B, groups, M, Q)` will do too.
            query_mask: `(B, Q)` or `(L, B, Q)` bool, True where there is a query. Elsewhere there
                is nothing to match and nothing to grade: no loss, no gradient, no share in what
                losses are divided by, whatever logits, boxes and masks hold.
            assignment: A matching to take instead of the one of least cost, as for a call of
                `hungarian_core.SetLoss`: an `Assignment`, or the object of each query.
            num_objects: As for a call of `hungarian_core.SetLoss`: what losses are divided by.
            denoising: What the model made of queries for denoising, with the outputs ``"logits"``
                and ``"boxes"``, and ``"masks"`` for a loss with `masks`, as for a call of
                `hungarian_core.SetLoss`.

        Returns:
            `DetectionLosses`, differentiable once in `logits` and `boxes`, with the matching held
            constant. Without any object the losses of boxes are 0, still connected to the graph.

        Raises:
            ValueError: Shapes or dtypes do not fit, a label is out of range, a true box cannot be
                one (see `check_targets`), or there is no matching; errors about values as for
                `assign`, elsewhere the losses of the image, and so all sums, are NaN, but boxes
                are taken as they are.
        """
        checks.mask_arguments(self.masks, masks)
        outputs = {
            "logits": logits, "boxes": boxes, "masks": masks, "points": points,
            "candidates": candidates,
        }  # fmt: skip
        found = self._for(boxes)(
            outputs, targets, image_weights=image_weights, extra_cost=extra_cost,
            query_mask=query_mask, assignment=assignment, weights=self._weights(boxes),
            num_objects=num_objects, denoising=denoising,
        )  # fmt: skip
        again = {k: x for k, x in found.losses.items() if k.endswith(DENOISED)}
        losses = {k: x for k, x in found.losses.items() if k not in again}
        nothing = None
        if len(losses) < 5:
            xp = backend_of(found.total).namespace(found.total)
            nothing = xp.zeros_like(losses["class"])
        return DetectionLosses(
            found.total, losses["class"], losses.get("bbox", nothing), losses.get("giou", nothing),
            losses.get("mask", nothing), losses.get("dice", nothing),
            found.logs.get("cardinality_error"), found.logs.get("class_error"), found.assignment,
            {k.removesuffix(DENOISED): x for k, x in again.items()},
        )  # fmt: skip

    @skip_autograph
    def match(
        self,
        logits: Array,
        boxes: Array | None,
        targets: TargetForms,
        *,
        masks: Array | None = None,
        points: Array | None = None,
        extra_cost: Array | None = None,
        query_mask: Array | None = None,
    ) -> Assignment:
        """Return the matching alone; arguments and errors are those of a call."""
        checks.mask_arguments(self.masks, masks)
        outputs = {"logits": logits, "boxes": boxes, "masks": masks, "points": points}
        return self._for(boxes).match(
            outputs, targets, extra_cost=extra_cost, query_mask=query_mask
        )

    @skip_autograph
    def costs(
        self,
        logits: Array,
        boxes: Array | None,
        targets: TargetForms,
        *,
        masks: Array | None = None,
        points: Array | None = None,
    ) -> dict[str, Array]:
        """Return the weighted terms of the matching cost by name, to look at.

        Arguments are those of a call. Each term has the batch axes of `DetectionLosses.assignment`
        and then `(M, Q)`; what is minimised is their sum. Where there is no object, they mean
        nothing. Each is computed apart, which takes longer than `match`, of which one pass makes
        the sum.
        """
        checks.mask_arguments(self.masks, masks)
        outputs = {"logits": logits, "boxes": boxes, "masks": masks, "points": points}
        return self._for(boxes).costs(outputs, targets)

    def _weights(self, boxes: Array | None) -> dict[str, Any]:
        """Return the weights of the losses as they are now."""
        if boxes is None:
            return {"class": self.class_weight}
        return {"class": self.class_weight, "bbox": self.bbox_weight, "giou": self.giou_weight}

    def _for(self, boxes: Array | None) -> SetLoss:
        """Return the criterion of calls with boxes or without."""
        if boxes is not None:
            return self.criterion
        if self._unboxed is None:
            raise checks.no_boxes(self.class_loss)
        return self._unboxed
