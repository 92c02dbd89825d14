"""What detectors hand their losses: classes and boxes of decoder layers, and more of some."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hungarian_core.losses.set_loss import SetLoss
from hungarian_core.losses.union import UnionLoss
from hungarian_core.terms.edges import EdgeDistributions
from hungarian_torch._transformers.layers import (
    Criterion,
    Labels,
    Outputs,
    Result,
    Settings,
    auxiliary,
    before_last,
    by_ends,
    criterion,
    joined,
    number_of,
    numbered,
    options_of,
)

OfConfig = Callable[[Any], Settings]
_BOXES = {"bbox": "loss_bbox", "giou": "loss_giou"}
_EDGES = {"fgl": "loss_fgl", "ddf": "loss_ddf"}


def evaluate(
    of_config: OfConfig,
    changes: Settings,
    logits: Tensor,
    labels: Labels,
    device: Any,
    pred_boxes: Tensor,
    config: Any,
    outputs_class: Any = None,
    outputs_coord: Any = None,
    enc_outputs_class: Any = None,
    enc_outputs_coord: Any = None,
    **others: Any,
) -> Result:
    """Evaluate DETR and those after it, whose encoder may have proposals."""
    settings = {**of_config(config), **changes}
    between = before_last(config, outputs_class, outputs_coord)
    layers = by_ends((logits, pred_boxes), between)
    if enc_outputs_class is not None:
        layers["_enc"] = enc_outputs_class, enc_outputs_coord
        settings["groups"] = logits.shape[1] // config.num_queries  # 1 in evaluation
    loss = criterion(settings)
    targets = loss.pad_targets(labels, logits)
    total, reported = loss(joined([*layers.values()], "logits", "boxes"), targets, [*layers])
    return total, reported, auxiliary(config, between, "logits", "pred_boxes")


def evaluate_denoising(
    of_config: OfConfig,
    changes: Settings,
    logits: Tensor,
    labels: Labels,
    device: Any,
    pred_boxes: Tensor,
    config: Any,
    outputs_class: Any = None,
    outputs_coord: Any = None,
    enc_topk_logits: Any = None,
    enc_topk_bboxes: Any = None,
    denoising_meta_values: Any = None,
    **others: Any,
) -> Result:
    """Evaluate RT-DETR and RT-DETRv2, with their queries for denoising."""
    settings = {**of_config(config), **changes}
    names = {"class": "loss_vfl", **_BOXES}
    final, decoder, denoised = _parted(
        (logits, pred_boxes), (outputs_class, outputs_coord), config, denoising_meta_values
    )
    between = decoder[:-1]
    if config.auxiliary_loss:
        between = [*between, (enc_topk_logits, enc_topk_bboxes)]
    ends = ["", *numbered("_aux_", len(between))]
    loss = criterion(settings, names, weighted=True)
    targets = loss.pad_targets(labels, logits)
    number = _number_of(targets, loss)
    total, reported = loss(
        joined([final, *between], "logits", "boxes"), targets, ends, num_objects=number
    )
    if denoised:
        more, found = loss(
            joined(denoised, "logits", "boxes"), targets, numbered("_dn_", len(denoised)),
            **_of_denoising(denoising_meta_values, denoised[0][0], number),
        )  # fmt: skip
        total, reported = total + more, reported | found
    return total, reported, auxiliary(config, between, "logits", "pred_boxes")


def evaluate_edges(
    of_config: OfConfig,
    changes: Settings,
    logits: Tensor,
    labels: Labels,
    device: Any,
    pred_boxes: Tensor,
    config: Any,
    outputs_class: Any = None,
    outputs_coord: Any = None,
    enc_topk_logits: Any = None,
    enc_topk_bboxes: Any = None,
    denoising_meta_values: Any = None,
    predicted_corners: Any = None,
    initial_reference_points: Any = None,
    **others: Any,
) -> Result:
    """Evaluate D-FINE and DEIMv2, which refine boxes by distributions of their edges."""
    settings = {**of_config(config), **changes}
    pred_boxes = pred_boxes.clamp(min=0, max=1)
    if config.auxiliary_loss:
        outputs_coord = outputs_coord.clamp(min=0, max=1)
    final, decoder, denoised = _parted(
        (logits, pred_boxes), (outputs_class, outputs_coord), config, denoising_meta_values
    )
    loss = _refining(settings, config, edges=config.auxiliary_loss)
    targets = loss.pad_targets(labels, logits)
    if not config.auxiliary_loss:
        total, reported = loss(joined([final], "logits", "boxes"), targets, [""])
        return total, reported, None
    corners, corners_denoised = _parted_edges(
        predicted_corners, initial_reference_points, denoising_meta_values
    )
    # There is one layer more of classes and boxes, those before refinement. The published loss
    # counts from it, so each layer's edges go with the boxes before them and the last but one
    # has no loss; and the last layer teaches the others, but learns from denoising only.
    between = decoder[: len(corners) - 1]
    proposed = enc_topk_logits, enc_topk_bboxes.clamp(min=0, max=1)
    ends = numbered("_aux_", len(corners))
    total, reported = loss(
        {
            **joined([proposed, *between, final], "logits", "boxes"),
            **_edges(corners, config),
        },
        targets, [ends[-1], *ends[:-1], ""], ["", *ends], dict.fromkeys(_EDGES, ends[:-1]),
    )  # fmt: skip
    number = _number_of(targets, loss)
    if denoised:
        shares = [*numbered("_dn_", len(corners)), *(None for _ in denoised[len(corners) :])]
        edges = [*corners_denoised, *(corners_denoised[-1:] * (len(denoised) - len(corners)))]
        more, found = _of_one_matching(loss)(
            {**joined(denoised, "logits", "boxes"), **_edges(edges, config)}, targets, shares,
            **_of_denoising(denoising_meta_values, denoised[0][0], number),
        )  # fmt: skip
        total, reported = total + more, reported | found
    teacher = {"teacher_corners": corners[-1][0], "teacher_logits": decoder[-1][0]}
    refined = [(*layer, *edges) for layer, edges in zip(between, corners[:-1], strict=True)]
    names = "logits", "pred_boxes", "pred_corners", "ref_points"
    aux = auxiliary(config, refined, *names, **teacher) or []
    return total, reported, [*aux, {"logits": proposed[0], "pred_boxes": proposed[1]}]


def _parted(
    final: tuple[Tensor, ...], layers: tuple[Any, ...], config: Any, meta: Any
) -> tuple[tuple[Tensor, ...], list[tuple[Tensor, ...]], list[tuple[Tensor, ...]]]:
    """Return the last layer and the decoder's without queries for denoising, and those alone."""
    decoder = [*zip(*(x.unbind(1) for x in layers), strict=True)] if config.auxiliary_loss else []
    if meta is None:
        return final, decoder, []
    denoising, _ = meta["dn_num_split"]
    return (
        tuple(x[:, denoising:] for x in final),
        [tuple(x[:, denoising:] for x in layer) for layer in decoder],
        [tuple(x[:, :denoising] for x in layer) for layer in decoder],
    )


def _parted_edges(edges: Tensor, references: Tensor, meta: Any) -> tuple[list[Any], list[Any]]:
    """Return layers' edges and references without queries for denoising, and those alone."""
    layers = [*zip(edges.unbind(1), references.unbind(1), strict=True)]
    denoising = 0 if meta is None else meta["dn_num_split"][0]
    return (
        [(x[:, denoising:], y[:, denoising:]) for x, y in layers],
        [(x[:, :denoising], y[:, :denoising]) for x, y in layers],
    )


def _number_of(targets: Mapping[str, Tensor], loss: Criterion) -> Tensor:
    """Return the number of objects, as the other losses of a criterion are divided by it.

    A process without objects has no queries for denoising either. If these were counted where
    they are, processes would ask each other for different things, and wait for good.
    """
    of_layers = loss.loss.of_layers if isinstance(loss.loss, UnionLoss) else loss.loss
    return number_of(targets, over_all=of_layers.denominator == "global")


def _of_denoising(meta: Mapping[str, Any], like: Tensor, number: Tensor) -> dict[str, Tensor]:
    """Return the matching of queries for denoising, and how many they count as.

    The matching has the object `[B, Q]` from which each query was made, -1 if it is to become
    nothing.
    """
    groups = meta["dn_num_group"]
    given = torch.full(like.shape[:2], -1, device=like.device)
    for row, at in zip(given, meta["dn_positive_idx"], strict=True):
        row[at] = torch.arange(len(at), device=at.device) % max(len(at) // groups, 1)
    return {"assignment": given, "num_objects": number * groups}


def _of_one_matching(made: Criterion) -> Criterion:
    """Return the criterion of terms that all take a matching that is given."""
    loss = made.loss
    if isinstance(loss, UnionLoss):
        loss = loss.of_all
    return Criterion(loss, made.weights, made.names, made.weighted)


def _refining(settings: Settings, config: Any, edges: bool) -> Criterion:
    """Return the criterion of D-FINE or DEIMv2, with the losses of edges or without."""
    class_name = "loss_mal" if hasattr(config, "weight_loss_mal") else "loss_vfl"
    made = criterion(settings, {"class": class_name, **_BOXES}, weighted=True)
    assert isinstance(made.loss, SetLoss)
    classes, boxes = made.loss.terms
    shared = [boxes]
    if edges:
        shared.append(
            EdgeDistributions(bins=config.max_num_bins, up=config.up, reg_scale=config.reg_scale)
        )
    options = options_of(made.loss)
    if getattr(config, "use_dense_one_to_one", False):
        loss: Any = UnionLoss([classes], shared, **options)
    else:
        loss = SetLoss([classes, *shared], **options)
    weights = {"fgl": config.weight_loss_fgl, "ddf": config.weight_loss_ddf} if edges else {}
    return Criterion(loss, made.weights | weights, {**made.names, **_EDGES}, weighted=True)


def _edges(layers: list[tuple[Tensor, ...]], config: Any) -> Outputs:
    """Return what layers say of edges."""
    edges = joined(layers, "edges", "references")
    edges["edges"] = edges["edges"].unflatten(-1, (4, config.max_num_bins + 1))
    return edges
