"""The published settings of `DetrLoss`."""

from __future__ import annotations

from typing import Any

from hungarian_core.terms.masks import Masks

# Carion et al., End-to-End Object Detection with Transformers, ECCV 2020, and models after it.
_DETR = {"class_loss": "softmax", "class_cost": 1.0, "bbox_cost": 5.0, "giou_cost": 2.0}
# Zhu et al., Deformable DETR, ICLR 2021.
_FOCAL = {"class_loss": "focal", "class_cost": 2.0, "bbox_cost": 5.0, "giou_cost": 2.0}

PRESETS: dict[str, dict[str, Any]] = {
    "detr": _DETR,
    "yolos": _DETR,
    "table_transformer": _DETR,
    "deformable": {**_FOCAL, "class_weight": 2.0},
    "conditional": {**_FOCAL, "class_weight": 2.0},
    "dab": _FOCAL,
    "dino": _FOCAL,
    "rt_detr": {**_FOCAL, "class_loss": "varifocal", "alpha": 0.75},
    "lw_detr": {**_FOCAL, "class_loss": "ia_bce"},
    "rf_detr": {**_FOCAL, "class_loss": "ia_bce"},
    # Masks are compared at points: for the matching, as many as a sixteenth of the pixels.
    "rf_detr_seg": {
        **_FOCAL,
        "class_loss": "ia_bce",
        "class_weight": 5.0,
        "masks": Masks("bce", 5.0, 5.0, 5.0, 5.0, num_points=None, truth_sampling="nearest"),
    },
    "hf_deformable": {**_FOCAL, "class_cost": 1.0},
    # Without boxes: what they would cost and lose has no say.
    "maskformer": {**_DETR, "masks": Masks("focal", 20.0, 1.0, 20.0, 1.0)},
    "mask2former": {
        **_DETR,
        "class_cost": 2.0,
        "class_weight": 2.0,
        "masks": Masks("bce", 5.0, 5.0, 5.0, 5.0),
    },
}
