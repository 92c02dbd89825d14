"""The losses as modules: those of the core that are objects, joined with `torch.nn.Module`.

A loss of the core is called by `__call__`, and a module by `forward`, around which `__call__`
puts hooks and compilation. So each class takes the one for the other.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

import hungarian_core as _core
from hungarian_core import Assignment, Backend
from hungarian_core._settings import Configured, settings, written
from hungarian_core.assignment import Nan, Solver
from hungarian_core.costs import CostFunction
from hungarian_core.losses.base import Loss
from hungarian_core.losses.options import check_options
from hungarian_core.losses.pairs import Reduction
from hungarian_core.losses.permutation import SignalMetric
from hungarian_torch._backend import backend


class _Module(nn.Module):
    """A module that shows the settings of a loss beside what it contains."""

    def extra_repr(self) -> str:
        """Return the settings that are not the defaults."""
        assert isinstance(self, Configured)
        return written(settings(self))


class DetrLoss(_core.DetrLoss, _Module):
    """`hungarian_core.DetrLoss` as a module, on tensors.

    Arguments, those of `forward`, and what comes back are as there.

    Examples:
        >>> logits = torch.tensor([[[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]]])
        >>> boxes = torch.tensor([[[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.2, 0.2]]])
        >>> targets = [{"labels": torch.tensor([1]), "boxes": torch.tensor([[0.7, 0.7, 0.2, 0.2]])}]
        >>> criterion = ht.DetrLoss.preset("detr", num_classes=2)
        >>> losses = criterion(logits.requires_grad_(), boxes, targets)
        >>> losses.assignment.col4row
        tensor([[1]])
        >>> losses.total.backward()
        >>> logits.grad.shape
        torch.Size([1, 2, 3])
    """

    default_backend = backend
    forward = _core.DetrLoss.__call__
    __call__ = nn.Module.__call__
    __repr__ = nn.Module.__repr__


class AlignedDetrLoss(_core.AlignedDetrLoss, _Module):
    """`hungarian_core.AlignedDetrLoss` as a module, on tensors.

    Arguments, those of `forward`, and what comes back are as there.

    Examples:
        >>> logits = torch.tensor([[[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]]])
        >>> boxes = torch.tensor([[[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.2, 0.2]]])
        >>> targets = [{"labels": torch.tensor([1]), "boxes": torch.tensor([[0.7, 0.7, 0.2, 0.2]])}]
        >>> losses = ht.AlignedDetrLoss(num_classes=2)(logits, boxes, targets)
        >>> losses.assignment.col4row
        tensor([[1]])
    """

    default_backend = backend
    forward = _core.AlignedDetrLoss.__call__
    __call__ = nn.Module.__call__
    __repr__ = nn.Module.__repr__


class SetLoss(_core.SetLoss, _Module):
    """`hungarian_core.SetLoss` as a module, on tensors.

    Arguments, those of `forward`, and what comes back are as there.

    Examples:
        >>> outputs = {"boxes": torch.tensor([[[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.2, 0.2]]])}
        >>> targets = [{"boxes": torch.tensor([[0.7, 0.7, 0.2, 0.2]])}]
        >>> losses = ht.SetLoss([hc.terms.Boxes()])(outputs, targets)
        >>> losses.assignment.col4row
        tensor([[1]])
    """

    default_backend = backend
    forward = _core.SetLoss.__call__
    __call__ = nn.Module.__call__
    __repr__ = nn.Module.__repr__


class HungarianLoss(_core.HungarianLoss, _Module):
    """`hungarian_core.HungarianLoss` as a module, on tensors.

    Arguments, those of `forward`, and what comes back are as there. Slice losses that are modules
    are children of this one, `slice_losses`.

    Examples:
        >>> bce = torch.nn.BCEWithLogitsLoss(reduction="none")
        >>> mse = torch.nn.MSELoss(reduction="none")
        >>> criterion = ht.HungarianLoss([2, 1], slice_losses_fn=[mse, bce])
        >>> y_true = torch.tensor([[[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]])
        >>> y_pred = torch.tensor([[[1.0, 1.0, -3.0], [0.0, 0.5, 3.0]]])
        >>> round(criterion(y_true, y_pred).item(), 4)
        0.1111
    """

    default_backend = backend
    forward = _core.HungarianLoss.__call__
    __call__ = nn.Module.__call__
    __repr__ = nn.Module.__repr__

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "slice_losses_fn":
            self.slice_losses = nn.ModuleList(f for f in value or () if isinstance(f, nn.Module))


class MatchedLoss(Loss, _Module):
    """`hungarian_core.loss` as a module, on tensors: its options are given once, and checked then.

    Args:
        cost, pair_loss, reduction, nan, solver, return_assignment, backend: As for
            `hungarian_core.loss`.

    Raises:
        TypeError: An option is none of these.
        ValueError: An option has a value that it cannot have.
        ImportError: No solver of this name is installed.

    Examples:
        >>> y_true = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
        >>> y_pred = torch.tensor([[[1.0, 1.0], [0.0, 0.5], [9.0, 9.0]]])
        >>> criterion = ht.MatchedLoss(cost="l1")
        >>> criterion(y_true, y_pred)
        tensor(0.2500)
        >>> criterion
        MatchedLoss(cost='l1')
    """

    default_backend = backend
    __repr__ = nn.Module.__repr__

    def __init__(
        self,
        *,
        cost: str | CostFunction = "euclidean",
        pair_loss: str | CostFunction | None = None,
        reduction: Reduction = "mean",
        nan: Nan = "raise",
        solver: Solver = "auto",
        return_assignment: bool = False,
        backend: str | Backend | None = None,
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = {
            "cost": cost,
            "pair_loss": pair_loss,
            "reduction": reduction,
            "nan": nan,
            "solver": solver,
            "return_assignment": return_assignment,
            "backend": self.default_backend if backend is None else backend,
        }
        check_options(self.options)

    def forward(
        self,
        y_true: Tensor,
        y_pred: Tensor,
        mask: Tensor | None = None,
        pred_mask: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Assignment]:
        """Return the loss of `y_pred` `(B, m, d)` against `y_true` `(B, n, d)`.

        `mask` `(B, n)` and `pred_mask` `(B, m)` are bool, True where there is an object.
        """
        return _core.loss(y_true, y_pred, mask=mask, pred_mask=pred_mask, **self.options)


class PITLoss(Loss, _Module):
    """`hungarian_core.pit_loss` as a module, on tensors: its options are given once.

    Args:
        metric, reduction, zero_mean, nan, solver, return_assignment, backend: As for
            `hungarian_core.pit_loss`.

    Raises:
        TypeError: An option is none of these.
        ValueError: An option has a value that it cannot have.
        ImportError: No solver of this name is installed.

    Examples:
        >>> frequencies = torch.tensor([2760.0, 4150.0])
        >>> references = torch.sin(torch.outer(frequencies, torch.arange(800) / 8000))[None]
        >>> round(ht.PITLoss(metric="mse")(references.flip(1) + 0.5, references).item(), 4)
        0.25
    """

    default_backend = backend
    __repr__ = nn.Module.__repr__

    def __init__(
        self,
        *,
        metric: SignalMetric | CostFunction = "si_sdr",
        reduction: Reduction = "mean",
        zero_mean: bool = False,
        nan: Nan = "raise",
        solver: Solver = "auto",
        return_assignment: bool = False,
        backend: str | Backend | None = None,
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = {
            "metric": metric,
            "reduction": reduction,
            "zero_mean": zero_mean,
            "nan": nan,
            "solver": solver,
            "return_assignment": return_assignment,
            "backend": self.default_backend if backend is None else backend,
        }
        check_options(self.options)

    def forward(
        self,
        estimates: Tensor,
        references: Tensor,
        mask: Tensor | None = None,
        estimate_mask: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Assignment]:
        """Return the loss of `estimates` `(B, m, time)` against `references` `(B, n, time)`.

        `mask` `(B, n)` and `estimate_mask` `(B, m)` are bool, True where there is a signal.
        """
        return _core.pit_loss(
            estimates, references, mask=mask, estimate_mask=estimate_mask, **self.options
        )
