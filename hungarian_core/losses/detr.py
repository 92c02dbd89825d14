"""The loss of detection transformers: DETR and its family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._tracing import skip_autograph
from hungarian_core.assignment import Assignment, Nan, Solver
from hungarian_core.boxes import Form
from hungarian_core.costs.classes import ClassCost, times
from hungarian_core.losses.base import Loss
from hungarian_core.losses.images import (
    costs,
    extra,
    inputs,
    logs,
    of_images,
    per_image,
    per_layer,
    unfolded,
)
from hungarian_core.losses.kernels import Recipe
from hungarian_core.losses.pairs import per_worker
from hungarian_core.losses.presets import PRESETS
from hungarian_core.losses.set_loss import Evaluated, evaluate, weighed
from hungarian_core.terms import _checks as checks
from hungarian_core.terms.class_losses import ClassLoss
from hungarian_core.terms.masks import MaskLoss, segmentation
from hungarian_core.terms.problems import Scenes
from hungarian_core.terms.targets import TargetForms


class DetectionLosses(NamedTuple):
    """What `DetrLoss` returns: a named tuple of arrays, hence a pytree.

    A term has the shape `(L,)` if there are L layers, else `()`; with ``reduction="none"`` the
    axis of the images `(B,)` comes last. Terms are weighted: `total` is their sum, over the layers
    too.

    Attributes:
        total: `()`, what to minimise, or `(B,)` with ``reduction="none"``.
        class_: The loss of the classes, of all queries.
        bbox: The L1 distance of matched boxes.
        giou: One less the GIoU of matched boxes.
        mask: The loss of the pixels of matched masks; 0 without masks.
        dice: The dice loss of matched masks; 0 without masks.
        cardinality_error: For logging: by how many the number of objects that an image's queries
            claim is off, on average over images; `(L,)` or `()`.
        class_error: For logging: of a hundred matched queries, how many say another class; `(L,)`
            or `()`.
        assignment: The matching, with batch axes `(B,)`, or `(L, B)` if there are layers, and
            `groups` behind them if there are several. Rows are true objects, columns are queries.
    """

    total: Array
    class_: Array
    bbox: Array
    giou: Array
    mask: Array
    dice: Array
    cardinality_error: Array
    class_error: Array
    assignment: Assignment


@skip_autograph
class DetrLoss(Loss):
    """The set loss of DETR: match queries to true objects, then grade classes and boxes.

    The matching cost of a query and an object is ``class_cost * C + bbox_cost * L1 + giou_cost *
    (-GIoU)``, with C by `class_cost_form`. The loss is ``class_weight * class + bbox_weight * L1 +
    giou_weight * (1 - GIoU)``, where boxes count for matched pairs only, and

    - ``"softmax"``: the cross entropy of all queries, those without an object having the last
      class, of weight `no_object_weight`; divided by the sum of the weights of what the queries
      are to say;
    - ``"focal"``, ``"varifocal"``, ``"ia_bce"``: the sum over all queries and classes of a
      sigmoid loss, see `hungarian_core.terms.class_losses.sigmoid`.

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
        class_loss: ``"softmax"``, ``"focal"``, ``"varifocal"`` or ``"ia_bce"``.
        class_weight, bbox_weight, giou_weight: The weights in the loss.
        class_cost, bbox_cost, giou_cost: The weights in the matching cost.
        class_cost_form: ``"softmax"``, -p of the label; ``"focal"``; ``"focal_parity"``, the same
            as published, with an epsilon of 1e-8; ``"nll"``, -log p. By default ``"softmax"``
            for ``class_loss="softmax"``, else ``"focal"``.
        no_object_weight: The weight of the last class in the cross entropy.
        class_weights: `num_classes` numbers that multiply the losses of the classes; for softmax
            they also count in what the cross entropy is divided by.
        label_smoothing: For ``"softmax"``: how much of the target is spread over all classes.
        alpha, gamma: The parameters of the sigmoid losses, 0 or more; `alpha` is 1 at most, but
            for ``"varifocal"``. `gamma` is the cost's too.
        cost_alpha: The alpha of the focal cost.
        form: ``"safe"``, or ``"parity"`` for the published GIoU, which is NaN for two boxes
            without area. See :mod:`hungarian_core.boxes`.
        class_denominator: What a cross entropy is divided by in a run of several workers:
            ``"worker"``, the worker's own sum of weights, as published, or ``"global"``, the mean
            of all, with which the result does not depend on how images are spread over workers.
            Where there are fewer objects than workers, their mean number is also made 1 as
            published, or else stays below 1.
            With ``"worker"`` the number of objects is at least 1 for each worker, with
            ``"global"`` for all together, which makes a difference if there are fewer objects
            than workers.
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
        backend: A backend's name or instance, by default the one of the arrays.

    Raises:
        ValueError: An option is unknown, or options do not fit each other.

    Reference:
        Carion et al., End-to-End Object Detection with Transformers, ECCV 2020, equations 1 and
        2. Zhu et al., Deformable DETR, ICLR 2021. Jia et al., DETRs with Hybrid Matching, CVPR
        2023. Chen et al., Group DETR, ICCV 2023.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        class_loss: ClassLoss = "softmax",
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
        form: Form = "safe",
        class_denominator: Literal["worker", "global"] = "worker",
        reduction: Literal["mean", "none"] = "mean",
        masks: MaskLoss | None = None,
        repeat: int = 1,
        groups: int = 1,
        nan: Nan = "worst",
        solver: Solver = "auto",
        tile_bytes: int | None = None,
        check_targets: bool = True,
        backend: str | Backend | None = None,
    ) -> None:
        super().__init__()
        _checks.one_of("class_loss", class_loss, checks.CLASS_LOSSES)
        softmax = class_loss == "softmax"
        class_cost_form = class_cost_form or ("softmax" if softmax else "focal")
        num_classes, repeat, groups = checks.detection_options(
            num_classes, class_loss, class_cost_form, class_weights, label_smoothing, repeat,
            groups, alpha, gamma,
        )  # fmt: skip
        _checks.one_of("form", form, _checks.FORMS)
        _checks.one_of("class_denominator", class_denominator, ("worker", "global"))
        _checks.one_of("reduction", reduction, ("mean", "none"))
        _checks.one_of("nan", nan, _checks.NAN_POLICIES)
        _checks.solver(solver)
        weights = None if class_weights is None else tuple(map(float, class_weights))
        if softmax:
            weights = (*(weights or (1.0,) * num_classes), float(no_object_weight))
        class_cost = _checks.weight("class_cost", class_cost)
        bbox_cost = _checks.weight("bbox_cost", bbox_cost)
        giou_cost = _checks.weight("giou_cost", giou_cost)
        alpha, gamma, cost_alpha = map(_checks.plain, (alpha, gamma, cost_alpha))
        label_smoothing = _checks.plain(label_smoothing)
        self.num_classes = num_classes
        self.class_weight = _checks.weight("class_weight", class_weight)
        self.bbox_weight = _checks.weight("bbox_weight", bbox_weight)
        self.giou_weight = _checks.weight("giou_weight", giou_weight)
        self.class_denominator = class_denominator
        self.reduction = reduction
        self.masks = masks
        self.repeat, self.groups = repeat, groups
        self.backend = self.default_backend if backend is None else backend
        self.recipe = Recipe(
            class_loss, num_classes + softmax, class_cost_form, class_cost, bbox_cost, giou_cost,
            weights, False, label_smoothing, alpha, cost_alpha, gamma, form, nan, solver,
            tile_bytes, check_targets,
        )  # fmt: skip

    @classmethod
    def preset(cls, name: str, num_classes: int, **changes: Any) -> DetrLoss:
        """Return the loss with published settings.

        A preset is what this class has of a model's loss. That is all of it but for two: D-FINE has
        two more terms, fine-grained localisation and its distillation (FGL and DDF), and Grounding
        DINO grades the tokens of a text by a map of positives, where ``"grounding_dino"`` has
        classes.

        Args:
            name: ``"detr"``, ``"yolos"``, ``"table_transformer"``, ``"deformable"``,
                ``"conditional"``, ``"dab"``, ``"dino"``, ``"rt_detr"``, ``"d_fine"``,
                ``"lw_detr"``, ``"rf_detr"``, ``"hf_deformable"``, ``"grounding_dino"``,
                ``"maskformer"`` or ``"mask2former"``.
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
                a pair. With groups, Q is the number of queries of one.
            query_mask: `(B, Q)` or `(L, B, Q)` bool, True where there is a query. Elsewhere there
                is nothing to match and nothing to grade: no loss, no gradient, no share in what
                losses are divided by, whatever logits, boxes and masks hold.

        Returns:
            `DetectionLosses`, differentiable once in `logits` and `boxes`, with the matching held
            constant. Without any object the losses of boxes are 0, still connected to the graph.

        Raises:
            ValueError: Shapes or dtypes do not fit, a label is out of range, a true box cannot be
                one (see `check_targets`), or there is no matching; errors about values as for
                `assign`, elsewhere the losses of the image, and so all sums, are NaN, but boxes
                are taken as they are.
        """
        backend, found, layered, given = inputs(
            self.recipe, logits, boxes, targets, self.repeat, self.groups, self.backend,
            query_mask, self.masks is not None,
        )  # fmt: skip
        xp = backend.namespace(found.logits)
        more = None if extra_cost is None else extra(extra_cost, found, backend, xp)
        of_masks = segmentation(
            self.masks, masks, given, points, candidates, self.repeat, found, backend
        )
        if of_masks is not None and (of_masks.loss.mask_cost or of_masks.loss.dice_cost):
            cost = of_masks.costs(found, self.recipe.nan, backend, xp)
            more = cost if more is None else more + cost
        seen = evaluate(self.recipe, found, more, backend)
        weights = None
        if image_weights is not None:
            weights = of_images(image_weights, found, backend, xp)

        def reduced(x: Array) -> Array:
            x = x if weights is None else times(weights, x, xp)
            together = self.reduction == "mean"
            return per_layer(x, found, backend, xp) if together else per_image(x, found, xp)

        class_ = reduced(seen.classes)
        nothing = xp.zeros_like(class_)
        bbox, giou = (nothing if x is None else reduced(x) for x in (seen.bbox, seen.giou))
        mask = dice = nothing
        if of_masks is not None:
            terms = of_masks.terms(seen.assignment.col4row[:, : found.objects], found, backend, xp)
            mask, dice = (reduced(weighed(x, found, seen.assignment, xp)) for x in terms)
            mask = times(of_masks.loss.mask_weight, mask, xp)
            dice = times(of_masks.loss.dice_weight, dice, xp)
        count, label_weight = self._denominators(seen, found, backend, xp)
        if label_weight is None:
            label_weight = count
        elif self.reduction == "none":
            label_weight = label_weight[:, None]
        class_ = class_ / label_weight
        parts = [
            times(self.class_weight, class_, xp), times(self.bbox_weight, bbox, xp) / count,
            times(self.giou_weight, giou, xp) / count, mask / count, dice / count,
        ]  # fmt: skip
        total = xp.sum(xp.stack(parts), axis=(0, 1))
        logged = logs(seen, found, backend, xp)
        if not layered:
            parts, logged = [x[0, ...] for x in parts], [x[0] for x in logged]
        matching = unfolded(seen.assignment, found, layered, backend, xp)
        return DetectionLosses(*[total, *parts, *logged, matching])

    def costs(self, logits: Array, boxes: Array, targets: TargetForms) -> dict[str, Array]:
        """Return the weighted terms of the matching cost by name, to look at.

        Arguments are those of a call. Each term has the batch axes of `DetectionLosses.assignment`
        and then `(M, Q)`; what is minimised is their sum. Where there is no object, they mean
        nothing.
        """
        return costs(self.recipe, logits, boxes, targets, self.repeat, self.groups, self.backend)

    def _denominators(
        self, seen: Evaluated, found: Scenes, backend: Backend, xp: Namespace
    ) -> tuple[Array, Array | None]:
        """Return the number of objects, at least 1, and for softmax the weights per layer."""
        counted = found.mask if found.ignore is None else found.mask & ~found.ignore
        # Every layer has the same objects.
        count = per_layer(xp.astype(counted, found.logits.dtype), found, backend, xp)[0]
        label_weight = None
        if seen.label_weights is not None:
            label_weight = per_layer(seen.label_weights, found, backend, xp)
        if self.class_denominator == "global":
            count, label_weight = per_worker(count, label_weight, backend, xp)
        else:
            count, _ = per_worker(count, None, backend, xp, published=True)
        if label_weight is not None:  # it is 0 where all queries are ignored, as are the losses
            label_weight = xp.where(label_weight > 0, label_weight, xp.ones_like(label_weight))
        return count, label_weight
