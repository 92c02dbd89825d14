"""NumPy: the functions of `hungarian_core` with this backend, and its losses.

Every function converts what it is given to NumPy arrays; signatures and documentation are
those of `hungarian_core`.
"""

import hungarian_core as _core
from hungarian_core import Assignment, Relaxation, Targets, bind
from hungarian_numpy._backend import backend
from hungarian_numpy._lap import lapjv

__version__ = _core.__version__  # trackers ask for that of lap, in whose place this package is

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


class HungarianLoss(_core.HungarianLoss):
    """`hungarian_core.HungarianLoss` on NumPy arrays.

    Examples:
        >>> y_true = np.array([[[0.0, 0.0], [1.0, 1.0]]])
        >>> y_pred = np.array([[[1.0, 1.0], [0.0, 0.5], [9.0, 9.0]]])
        >>> float(hn.HungarianLoss([2])(y_true, y_pred))
        0.0625
    """

    default_backend = backend


class DetrLoss(_core.DetrLoss):
    """`hungarian_core.DetrLoss` on NumPy arrays.

    Examples:
        >>> logits = np.array([[[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]]])
        >>> boxes = np.array([[[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.2, 0.2]]])
        >>> targets = [{"labels": np.array([1]), "boxes": np.array([[0.7, 0.7, 0.2, 0.2]])}]
        >>> hn.DetrLoss(num_classes=2)(logits, boxes, targets).assignment.col4row
        array([[1]])
    """

    default_backend = backend


class AlignedDetrLoss(_core.AlignedDetrLoss):
    """`hungarian_core.AlignedDetrLoss` on NumPy arrays.

    Examples:
        >>> logits = np.array([[[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]]])
        >>> boxes = np.array([[[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.2, 0.2]]])
        >>> targets = [{"labels": np.array([1]), "boxes": np.array([[0.7, 0.7, 0.2, 0.2]])}]
        >>> hn.AlignedDetrLoss(num_classes=2)(logits, boxes, targets).assignment.col4row
        array([[1]])
    """

    default_backend = backend


class SetLoss(_core.SetLoss):
    """`hungarian_core.SetLoss` on NumPy arrays.

    Examples:
        >>> outputs = {"boxes": np.array([[[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.2, 0.2]]])}
        >>> targets = [{"boxes": np.array([[0.7, 0.7, 0.2, 0.2]])}]
        >>> losses = hn.SetLoss([hc.terms.Boxes()])(outputs, targets)
        >>> losses.assignment.col4row
        array([[1]])
    """

    default_backend = backend


__all__ = [
    "AlignedDetrLoss",
    "Assignment",
    "DetrLoss",
    "HungarianLoss",
    "Relaxation",
    "SetLoss",
    "Targets",
    "assign",
    "assign_many",
    "assignment_cost",
    "assignment_matrix",
    "backend",
    "compute_euclidean_distance",
    "count_invalid",
    "fenchel_young_loss",
    "lapjv",
    "linear_sum_assignment",
    "loss",
    "pad_targets",
    "pit_loss",
]
__dir__ = __all__.copy
