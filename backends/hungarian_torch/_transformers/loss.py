"""The losses of models of `transformers`, by the names that the models have for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from hungarian_core import DetrLoss
from hungarian_core._options import one_of
from hungarian_core._settings import Configured, passing_on
from hungarian_torch._transformers import _checks, detection, segmentation, settings, tokens
from hungarian_torch._transformers.layers import Result


class TransformersLoss(Configured):
    """The loss of a detector or segmenter of `transformers`, in the place of its own.

    ``model.loss_function = TransformersLoss.for_model(model)`` is all. The settings are those of
    the model's configuration, and the loss, the keys and values of `loss_dict` and the
    `auxiliary_outputs` those of the model's own loss, with these exceptions:

    - boxes without area have a finite loss and gradient; ``form="published"`` undoes it;
    - with several processes, the number of objects is averaged over them, once, for every model,
      and that of queries for denoising is this number times their groups;
    - LW-DETR and RF-DETR are evaluated in one group, not in as many as they are trained in, and
      their `cardinality_error` has each true object once per group;
    - Grounding DINO's objects are named by the text of their own image, where its own loss takes
      other images' from the third on, and from the second on where texts differ in the number of
      classes;
    - where DEIMv2's layers match a query to two objects equally often, it is the first;
    - RF-DETR's masks have a loss of 0 in a batch without objects, where their own is no number.

    Points at which masks are compared are drawn as the model's own loss draws them, so after the
    same seed they are the same. Labels may also have ``"weights"`` and ``"ignore"`` for their
    objects, see `DetrLoss`. `num_items_in_batch`, which some models hand on from a `Trainer`, makes
    no difference, as it makes none to their own losses.

    Args:
        loss_type: ``"ForObjectDetection"`` (DETR, YOLOS, Table Transformer) or
            ``"<Model>ForObjectDetection"``, where <Model> is DeformableDetr, ConditionalDetr,
            DabDetr, RTDetr, RTDetrV2, LwDetr, RfDetr, DFine, Deimv2, GroundingDino or
            MMGroundingDino; ``"ForSegmentation"`` (DETR), ``"ConditionalDetrForSegmentation"``
            or ``"RfDetrForInstanceSegmentation"``.
        **changes: Arguments of `DetrLoss` to set otherwise than the configuration does. Where
            tokens stand in the place of classes, those of classes are the tokens'.

    Raises:
        ValueError: There is no such type, or, when called, the configuration asks for what
            `DetrLoss` does not have.

    Examples:
        >>> ht.TransformersLoss("ForObjectDetection", giou_cost=4.0)
        TransformersLoss(loss_type='ForObjectDetection', giou_cost=4.0)
    """

    @passing_on(DetrLoss, "num_classes", "backend", "reduction", "masks", defaults=False)
    def __init__(self, loss_type: str, **changes: Any) -> None:
        super().__init__()
        one_of("loss_type", loss_type, _EVALUATE, "(for another model, call DetrLoss)")
        self.loss_type = loss_type
        self.changes = changes

    @classmethod
    def for_model(cls, model: Any, **changes: Any) -> TransformersLoss:
        """Return the loss of a model, with `changes` as for the class.

        Raises:
            ValueError: The model is none of transformers, never calls its `loss_function`, or has
                a loss of another type.
        """
        _checks.asks_for_its_loss(model)
        return cls(model.loss_type, **changes)

    def __call__(self, *args: Any, **options: Any) -> Result:
        """Return the loss, `loss_dict` and `auxiliary_outputs`; models call it."""
        return _EVALUATE[self.loss_type](self.changes, *args, **options)


_DEFORMABLE = partial(detection.evaluate, settings.deformable_detr)
_LW_DETR = partial(detection.evaluate, settings.lw_detr)
_RT_DETR = partial(detection.evaluate_denoising, settings.rt_detr)
_GROUNDING = partial(tokens.evaluate, settings.grounding_dino)
_EVALUATE: dict[str, Callable[..., Result]] = {
    "ForObjectDetection": partial(detection.evaluate, settings.detr),
    "DeformableDetrForObjectDetection": _DEFORMABLE,
    "ConditionalDetrForObjectDetection": _DEFORMABLE,
    "DabDetrForObjectDetection": _DEFORMABLE,
    "RTDetrForObjectDetection": _RT_DETR,
    "RTDetrV2ForObjectDetection": _RT_DETR,
    "DFineForObjectDetection": partial(detection.evaluate_edges, settings.rt_detr),
    "Deimv2ForObjectDetection": partial(detection.evaluate_edges, settings.deimv2),
    "LwDetrForObjectDetection": _LW_DETR,
    "RfDetrForObjectDetection": _LW_DETR,
    "ForSegmentation": partial(segmentation.evaluate, settings.detr),
    "ConditionalDetrForSegmentation": partial(segmentation.evaluate, settings.deformable_detr),
    "RfDetrForInstanceSegmentation": partial(segmentation.evaluate_at_points, settings.lw_detr),
    "GroundingDinoForObjectDetection": _GROUNDING,
    "MMGroundingDinoForObjectDetection": _GROUNDING,
}
