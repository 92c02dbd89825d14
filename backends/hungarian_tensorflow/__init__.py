"""TensorFlow: the functions of `hungarian_core` with this backend, and its losses for Keras."""

from typing import Any

import hungarian_core as _core
from hungarian_core import Assignment, Relaxation, Targets, bind
from hungarian_tensorflow._backend import backend

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


class DetrLoss(_core.DetrLoss):
    """`hungarian_core.DetrLoss` on tensors.

    Examples:
        >>> logits = tf.constant([[[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]]])
        >>> boxes = tf.constant([[[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.2, 0.2]]])
        >>> targets = [{"labels": tf.constant([1]), "boxes": tf.constant([[0.7, 0.7, 0.2, 0.2]])}]
        >>> losses = htf.DetrLoss(num_classes=2)(logits, boxes, targets)
        >>> losses.assignment.col4row.numpy()
        array([[1]])
    """

    default_backend = backend


class AlignedDetrLoss(_core.AlignedDetrLoss):
    """`hungarian_core.AlignedDetrLoss` on tensors.

    Examples:
        >>> logits = tf.constant([[[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]]])
        >>> boxes = tf.constant([[[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.2, 0.2]]])
        >>> targets = [{"labels": tf.constant([1]), "boxes": tf.constant([[0.7, 0.7, 0.2, 0.2]])}]
        >>> losses = htf.AlignedDetrLoss(num_classes=2)(logits, boxes, targets)
        >>> losses.assignment.col4row.numpy()
        array([[1]])
    """

    default_backend = backend


class SetLoss(_core.SetLoss):
    """`hungarian_core.SetLoss` on tensors.

    Examples:
        >>> outputs = {"boxes": tf.constant([[[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.2, 0.2]]])}
        >>> targets = [{"boxes": tf.constant([[0.7, 0.7, 0.2, 0.2]])}]
        >>> losses = htf.SetLoss([hc.terms.Boxes()])(outputs, targets)
        >>> losses.assignment.col4row.numpy()
        array([[1]])
    """

    default_backend = backend


def __getattr__(name: str) -> Any:
    # Keras takes seconds to import, and tensors need none of it: only its losses ask for it.
    if name in ("HNet", "HungarianLoss", "PITLoss", "hungarian_loss"):
        import hungarian_keras

        return getattr(hungarian_keras, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "AlignedDetrLoss",
    "Assignment",
    "DetrLoss",
    "HNet",
    "HungarianLoss",
    "PITLoss",
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
    "hungarian_loss",
    "linear_sum_assignment",
    "loss",
    "pad_targets",
    "pit_loss",
]
__dir__ = __all__.copy
