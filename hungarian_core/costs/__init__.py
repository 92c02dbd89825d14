"""Pairwise matching costs: of features, of classes, of boxes, and weighted sums of any."""

from hungarian_core.costs.boxes import giou
from hungarian_core.costs.classes import focal, nll, softmax
from hungarian_core.costs.keypoints import COCO_SIGMAS, keypoint_distance
from hungarian_core.costs.vectors import (
    COSTS,
    CostFunction,
    angular,
    cosine,
    euclidean,
    great_circle,
    l1,
    points,
    sqeuclidean,
)
from hungarian_core.costs.weighted import WeightedSum

__all__ = [
    "COCO_SIGMAS",
    "COSTS",
    "CostFunction",
    "WeightedSum",
    "angular",
    "cosine",
    "euclidean",
    "focal",
    "giou",
    "great_circle",
    "keypoint_distance",
    "l1",
    "nll",
    "points",
    "softmax",
    "sqeuclidean",
]
__dir__ = __all__.copy
