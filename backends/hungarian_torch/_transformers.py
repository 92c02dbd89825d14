"""The losses of detection models of `transformers`, with all decoder layers in one solve.

Nothing of `transformers` is imported: a model hands its loss everything there is to know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hungarian_core import DetrLoss, Targets, pad_targets
from hungarian_core._options import one_of
from hungarian_core._settings import Configured, passing_on
from hungarian_torch._backend import backend

Settings = dict[str, Any]
Pair = tuple[Tensor, Tensor]  # logits [B, Q, C] and boxes [B, Q, 4]
Layers = dict[str, Pair]  # by the ends of their names in loss_dict

_WEIGHTS = ("class_weight", "bbox_weight", "giou_weight")


class TransformersLoss(Configured):
    """The loss of a detection model of `transformers`, in the place of its own.

    ``model.loss_function = TransformersLoss.for_model(model)`` is all. The settings are those of
    the model's configuration, and the loss, the keys and values of `loss_dict` and the
    `auxiliary_outputs` those of the model's own loss, with these exceptions:

    - boxes without area have a finite loss and gradient; ``form="published"`` undoes it;
    - with several processes, the number of objects is averaged over them, once, for every model;
    - LW-DETR and RF-DETR are evaluated in one group, not in as many as they are trained in, and
      their `cardinality_error` has each true object once per group.

    Labels may also have ``"weights"`` and ``"ignore"`` for their objects, see `DetrLoss`.

    Args:
        loss_type: ``"ForObjectDetection"`` (DETR, YOLOS, Table Transformer) or
            ``"<Model>ForObjectDetection"``, where <Model> is DeformableDetr, ConditionalDetr,
            DabDetr, RTDetr, RTDetrV2, LwDetr or RfDetr.
        **changes: Arguments of `DetrLoss` to set otherwise than the configuration does.

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
        one_of("loss_type", loss_type, _SETTINGS, "(for another model, call DetrLoss)")
        self.loss_type = loss_type
        self.changes = changes

    @classmethod
    def for_model(cls, model: Any, **changes: Any) -> TransformersLoss:
        """Return the loss of a model, with `changes` as for the class."""
        return cls(model.loss_type, **changes)

    def __call__(
        self,
        logits: Tensor,
        labels: Sequence[Mapping[str, Tensor]],
        device: Any,
        pred_boxes: Tensor,
        config: Any,
        outputs_class: Any = None,
        outputs_coord: Any = None,
        enc_outputs_class: Any = None,
        enc_outputs_coord: Any = None,
        *,
        enc_topk_logits: Any = None,
        enc_topk_bboxes: Any = None,
        denoising_meta_values: Any = None,
        **others: Any,
    ) -> tuple[Tensor, dict[str, Tensor], list[dict[str, Tensor]] | None]:
        """Return the loss, `loss_dict` and `auxiliary_outputs`; models call it."""
        settings = {**_SETTINGS[self.loss_type](config), **self.changes}
        targets = pad_targets([_known(t) for t in labels], like=logits, backend=backend)
        rt_detr = self.loss_type in _OF_RT_DETR
        final = logits, pred_boxes
        decoder: list[Pair] = []
        denoised: list[Pair] = []
        if config.auxiliary_loss:
            axis = 1 if rt_detr else 0  # of the decoder layers
            decoder = [*zip(outputs_class.unbind(axis), outputs_coord.unbind(axis), strict=True)]
        if denoising_meta_values is not None:
            sizes = denoising_meta_values["dn_num_split"]
            denoised, decoder = _parted(decoder, sizes)
            _, (final,) = _parted([final], sizes)
        between = decoder[:-1]
        if rt_detr and config.auxiliary_loss:
            between.append((enc_topk_logits, enc_topk_bboxes))
        layers = {"": final, **_numbered("_aux_" if rt_detr else "_", between)}
        if enc_outputs_class is not None:
            layers["_enc"] = (enc_outputs_class, enc_outputs_coord)
            settings["groups"] = logits.shape[1] // config.num_queries  # 1 in evaluation

        loss, reported = _evaluate(settings, layers, targets, rt_detr)
        if denoised:
            settings["groups"] = denoising_meta_values["dn_num_group"]
            forbidden = _of_denoising(denoising_meta_values, targets, denoised[0][0])
            more, found = _evaluate(
                settings, _numbered("_dn_", denoised), targets, rt_detr, extra_cost=forbidden
            )
            loss, reported = loss + more, reported | found
        auxiliary = [{"logits": x, "pred_boxes": y} for x, y in between]
        return loss, reported, auxiliary if config.auxiliary_loss else None


def _known(target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what `pad_targets` is to take of the labels of an image."""
    names = ("class_labels", "boxes", "weights", "ignore")
    return {name: target[name] for name in names if name in target}


def _numbered(prefix: str, layers: list[Pair]) -> Layers:
    return {f"{prefix}{k}": layer for k, layer in enumerate(layers)}


def _parted(layers: list[Pair], sizes: list[int]) -> tuple[list[Pair], list[Pair]]:
    """Return what layers say of the queries for denoising, and of the others."""
    parts = [[x.split(sizes, dim=1) for x in layer] for layer in layers]
    return [(x[0], y[0]) for x, y in parts], [(x[1], y[1]) for x, y in parts]


def _of_denoising(meta: Mapping[str, Any], targets: Targets, like: Tensor) -> Tensor:
    """Return a cost `[B, M, Q]` that leaves each object only the query that was made from it.

    The groups are made alike: first a query per object, in order, which is to become the object
    again, then queries that are to become nothing. So those of the first group say all.
    """
    groups = meta["dn_num_group"]
    first = [at[: len(at) // groups] for at in meta["dn_positive_idx"]]
    cost = like.new_full((*targets.labels.shape, like.shape[1] // groups), torch.inf)
    return cost.scatter_(2, pad_sequence(first, batch_first=True)[..., None], 0.0)


def _evaluate(
    settings: Settings, layers: Layers, targets: Targets, rt_detr: bool, **options: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of layers, and of each of them what the models report."""
    weights = [settings[name] for name in _WEIGHTS]
    criterion = DetrLoss(**{**settings, **dict.fromkeys(_WEIGHTS, 1.0)}, backend=backend)
    logits, boxes = (torch.stack(x) for x in zip(*layers.values(), strict=True))
    found = criterion(logits, boxes, targets, **options)
    plain = (found.class_, found.bbox, found.giou)
    weighted = [weight * term for weight, term in zip(weights, plain, strict=True)]
    if rt_detr:
        shown = dict(zip(("loss_vfl", "loss_bbox", "loss_giou"), weighted, strict=True))
    else:
        shown = dict(zip(("loss_ce", "loss_bbox", "loss_giou"), plain, strict=True))
        shown["cardinality_error"] = found.cardinality_error
    columns = {name: term.unbind() for name, term in shown.items()}
    reported = {
        name + end: column[k] for k, end in enumerate(layers) for name, column in columns.items()
    }
    return torch.stack(weighted).sum(), reported


def _detr(config: Any) -> Settings:
    return {
        **_common(config),
        "class_weight": 1.0,
        "no_object_weight": config.eos_coefficient,
    }


def _deformable_detr(config: Any) -> Settings:
    return {**_common(config), **_FOCAL, "class_weight": 1.0, "alpha": config.focal_alpha}


def _lw_detr(config: Any) -> Settings:
    return {
        **_common(config),
        **_FOCAL,
        "class_loss": "ia_bce",
        "class_weight": config.class_loss_coefficient,
        "alpha": config.focal_alpha,
    }


def _rt_detr(config: Any) -> Settings:
    if not config.use_focal_loss:
        raise ValueError(f"use_focal_loss is {config.use_focal_loss}; expected True")
    return {
        **_FOCAL,
        "num_classes": config.num_labels,
        "class_cost": config.matcher_class_cost,
        "bbox_cost": config.matcher_bbox_cost,
        "giou_cost": config.matcher_giou_cost,
        "class_loss": "varifocal",
        "class_weight": config.weight_loss_vfl,
        "bbox_weight": config.weight_loss_bbox,
        "giou_weight": config.weight_loss_giou,
        "alpha": config.focal_loss_alpha,
        "cost_alpha": config.matcher_alpha,
        "cost_gamma": config.matcher_gamma,
        "gamma": config.focal_loss_gamma,
    }


def _common(config: Any) -> Settings:
    return {
        "num_classes": config.num_labels,
        "class_cost": config.class_cost,
        "bbox_cost": config.bbox_cost,
        "giou_cost": config.giou_cost,
        "bbox_weight": config.bbox_loss_coefficient,
        "giou_weight": config.giou_loss_coefficient,
    }


_FOCAL: Settings = {"class_loss": "focal", "class_cost_form": "focal_published"}
_OF_RT_DETR = ("RTDetrForObjectDetection", "RTDetrV2ForObjectDetection")
_SETTINGS: dict[str, Callable[[Any], Settings]] = {
    "ForObjectDetection": _detr,
    "DeformableDetrForObjectDetection": _deformable_detr,
    "ConditionalDetrForObjectDetection": _deformable_detr,
    "DabDetrForObjectDetection": _deformable_detr,
    **dict.fromkeys(_OF_RT_DETR, _rt_detr),
    "LwDetrForObjectDetection": _lw_detr,
    "RfDetrForObjectDetection": _lw_detr,
}
