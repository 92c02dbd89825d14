"""PyTorch: the losses as modules, and the functions of `hungarian_core` with this backend."""

import hungarian_core as _core
from hungarian_core import Assignment, Relaxation, Targets, bind
from hungarian_torch._backend import backend
from hungarian_torch._criterion import SetCriterion
from hungarian_torch._hnet import HNet
from hungarian_torch._losses import (
    AlignedDetrLoss,
    DetrLoss,
    HungarianLoss,
    MatchedLoss,
    PITLoss,
    SetLoss,
)
from hungarian_torch._matcher import HungarianMatcher
from hungarian_torch._transformers import TransformersCriterion, TransformersLoss

assign = bind(_core.assign, backend)
assign_many = bind(_core.assign_many, backend)
assignment_cost = bind(_core.assignment_cost, backend)
assignment_matrix = bind(_core.assignment_matrix, backend)
count_invalid = bind(_core.count_invalid, backend)
fenchel_young_loss = bind(_core.fenchel_young_loss, backend)
linear_sum_assignment = bind(_core.linear_sum_assignment, backend)
loss = bind(_core.loss, backend)
pad_targets = bind(_core.pad_targets, backend)
pit_loss = bind(_core.pit_loss, backend)
compute_euclidean_distance = _core.compute_euclidean_distance

__all__ = [
    "AlignedDetrLoss",
    "Assignment",
    "DetrLoss",
    "HNet",
    "HungarianLoss",
    "HungarianMatcher",
    "MatchedLoss",
    "PITLoss",
    "Relaxation",
    "SetCriterion",
    "SetLoss",
    "Targets",
    "TransformersCriterion",
    "TransformersLoss",
    "assign",
    "assign_many",
    "assignment_cost",
    "assignment_matrix",
    "backend",
    "compute_euclidean_distance",
    "count_invalid",
    "fenchel_young_loss",
    "linear_sum_assignment",
    "loss",
    "pad_targets",
    "pit_loss",
]
__dir__ = __all__.copy
