"""PyTorch: the losses as modules, and the functions of `hungarian_core` with this backend."""

from typing import Any

from torch import Tensor, nn

import hungarian_core as _core
from hungarian_core import Assignment, Relaxation, Targets, bind
from hungarian_core.losses.options import check_options
from hungarian_torch._backend import backend
from hungarian_torch._detection import AlignedDetrLoss, DetrLoss
from hungarian_torch._hnet import HNet
from hungarian_torch._transformers import TransformersLoss

assign = bind(_core.assign, backend)
assignment_cost = bind(_core.assignment_cost, backend)
assignment_matrix = bind(_core.assignment_matrix, backend)
count_invalid = bind(_core.count_invalid, backend)
fenchel_young_loss = bind(_core.fenchel_young_loss, backend)
linear_sum_assignment = bind(_core.linear_sum_assignment, backend)
loss = bind(_core.loss, backend)
pad_targets = bind(_core.pad_targets, backend)
pit_loss = bind(_core.pit_loss, backend)
compute_euclidean_distance = _core.compute_euclidean_distance


class MatchedLoss(nn.Module):
    """`hungarian_core.loss` as a module; keyword arguments are its options, checked at once."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        check_options("MatchedLoss", _core.loss, options, "mask", "pred_mask")
        self.options = options

    def forward(
        self,
        y_true: Tensor,
        y_pred: Tensor,
        mask: Tensor | None = None,
        pred_mask: Tensor | None = None,
    ) -> Any:
        """Return the loss of `y_pred` `(B, m, d)` against `y_true` `(B, n, d)`."""
        return loss(y_true, y_pred, mask=mask, pred_mask=pred_mask, **self.options)


class HungarianLoss(nn.Module):
    """`hungarian_core.HungarianLoss` as a module, with the same arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.criterion = _core.HungarianLoss(*args, **{"backend": backend, **kwargs})
        losses = self.criterion.slice_losses_fn or ()
        self.slice_losses = nn.ModuleList(f for f in losses if isinstance(f, nn.Module))

    def forward(
        self,
        y_true: Tensor,
        y_pred: Tensor,
        mask: Tensor | None = None,
        return_assignment: bool = False,
        pred_mask: Tensor | None = None,
    ) -> Any:
        """Return the loss of `y_pred` `(B, m, d)` against `y_true` `(B, n, d)`."""
        return self.criterion(
            y_true, y_pred, mask=mask, pred_mask=pred_mask, return_assignment=return_assignment
        )


class PITLoss(nn.Module):
    """`hungarian_core.pit_loss` as a module; keyword arguments are its options, checked at once."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        check_options("PITLoss", _core.pit_loss, options, "mask", "estimate_mask")
        self.options = options

    def forward(
        self,
        estimates: Tensor,
        references: Tensor,
        mask: Tensor | None = None,
        estimate_mask: Tensor | None = None,
    ) -> Any:
        """Return the loss of `estimates` `(B, m, time)` against `references` `(B, n, time)`."""
        options = {"estimate_mask": estimate_mask, **self.options}
        return pit_loss(estimates, references, mask=mask, **options)


__all__ = [
    "AlignedDetrLoss",
    "Assignment",
    "DetrLoss",
    "HNet",
    "HungarianLoss",
    "MatchedLoss",
    "PITLoss",
    "Relaxation",
    "Targets",
    "TransformersLoss",
    "assign",
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
