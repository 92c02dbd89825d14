"""The arguments of `DetrLoss` that the configurations of models stand for."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hungarian_core.terms.class_losses import MAL
from hungarian_torch._transformers.layers import Settings

_FOCAL: Settings = {"class_loss": "focal", "class_cost_form": "focal_published"}


def detr(config: Any) -> Settings:
    """Return those of DETR, YOLOS and Table Transformer."""
    return {
        **_common(config),
        "class_weight": 1.0,
        "no_object_weight": config.eos_coefficient,
    }


def deformable_detr(config: Any) -> Settings:
    """Return those of Deformable, Conditional and DAB-DETR."""
    return {**_common(config), **_FOCAL, "class_weight": 1.0, "alpha": config.focal_alpha}


def lw_detr(config: Any) -> Settings:
    """Return those of LW-DETR and RF-DETR."""
    return {
        **_common(config),
        **_FOCAL,
        "class_loss": "ia_bce",
        "class_weight": config.class_loss_coefficient,
        "alpha": config.focal_alpha,
    }


def grounding_dino(config: Any) -> Settings:
    """Return those of Grounding DINO and MM-Grounding-DINO: of tokens in the place of classes."""
    return {**_common(config), **_FOCAL, "class_weight": 2.0, "alpha": config.focal_alpha}


def rt_detr(config: Any) -> Settings:
    """Return those of RT-DETR, RT-DETRv2 and D-FINE."""
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
        "log": False,
    }


def deimv2(config: Any) -> Settings:
    """Return those of DEIMv2."""
    loss: Any = "mal"
    if config.mal_alpha is not None:
        loss = replace(MAL, others=float, most_alpha=math.inf)
    return {
        **rt_detr(config),
        "class_loss": loss,
        "class_weight": config.weight_loss_mal,
        "alpha": 1.0 if config.mal_alpha is None else config.mal_alpha,
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
