"""JAX: the functions of `hungarian_core` with this backend, and its losses.

Every function converts what it is given to JAX arrays; signatures and documentation are
those of `hungarian_core`.
"""

import hungarian_core as _core
from hungarian_core import (
    AlignedLosses,
    Assignment,
    DetectionLosses,
    ManyAssignment,
    Relaxation,
    SetLosses,
    Targets,
    bind,
)
from hungarian_core.assigners import Assigned
from hungarian_core.denoising import Denoised, DenoisingQueries
from hungarian_core.losses.criteria import DualLosses
from hungarian_jax._backend import JaxBackend, backend

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

# So that an exported program may take and return them. Up to JAX 0.6.0, `jax.export` needs absl,
# which JAX does not bring: where it is missing, nothing is exported.
try:
    from jax import export as _export
except ModuleNotFoundError as _error:
    if _error.name != "absl":
        raise
else:
    _KINDS = (AlignedLosses, Assignment, DetectionLosses, DenoisingQueries, ManyAssignment)
    for _kind in (*_KINDS, Assigned, Denoised, DualLosses, Relaxation, SetLosses, Targets):
        _export.register_namedtuple_serialization(
            _kind, serialized_name=f"hungarian_core.{_kind.__name__}"
        )


class HungarianLoss(_core.HungarianLoss):
    """`hungarian_core.HungarianLoss` on JAX arrays.

    Examples:
        >>> y_true = jnp.asarray([[[0.0, 0.0], [1.0, 1.0]]])
        >>> y_pred = jnp.asarray([[[1.0, 1.0], [0.0, 0.5], [9.0, 9.0]]])
        >>> criterion = hj.HungarianLoss([2])
        >>> value, gradient = jax.value_and_grad(criterion, argnums=1)(y_true, y_pred)
        >>> float(value), gradient.shape
        (0.0625, (1, 3, 2))
    """

    default_backend = backend


class DetrLoss(_core.DetrLoss):
    """`hungarian_core.DetrLoss` on JAX arrays.

    Examples:
        >>> logits = jnp.asarray([[[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]]])
        >>> boxes = jnp.asarray([[[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.2, 0.2]]])
        >>> targets = [{"labels": jnp.asarray([1]), "boxes": jnp.asarray([[0.7, 0.7, 0.2, 0.2]])}]
        >>> losses = hj.DetrLoss(num_classes=2)(logits, boxes, targets)
        >>> losses.assignment.col4row.tolist()
        [[1]]
    """

    default_backend = backend


class AlignedDetrLoss(_core.AlignedDetrLoss):
    """`hungarian_core.AlignedDetrLoss` on JAX arrays.

    Examples:
        >>> logits = jnp.asarray([[[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]]])
        >>> boxes = jnp.asarray([[[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.2, 0.2]]])
        >>> targets = [{"labels": jnp.asarray([1]), "boxes": jnp.asarray([[0.7, 0.7, 0.2, 0.2]])}]
        >>> losses = hj.AlignedDetrLoss(num_classes=2)(logits, boxes, targets)
        >>> losses.assignment.col4row.tolist()
        [[1]]
    """

    default_backend = backend


class SetLoss(_core.SetLoss):
    """`hungarian_core.SetLoss` on JAX arrays.

    Examples:
        >>> outputs = {"boxes": jnp.asarray([[[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.2, 0.2]]])}
        >>> targets = [{"boxes": jnp.asarray([[0.7, 0.7, 0.2, 0.2]])}]
        >>> losses = hj.SetLoss([hc.terms.Boxes()])(outputs, targets)
        >>> losses.assignment.col4row.tolist()
        [[1]]
    """

    default_backend = backend


__all__ = [
    "AlignedDetrLoss",
    "Assignment",
    "DetrLoss",
    "HungarianLoss",
    "JaxBackend",
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
    "linear_sum_assignment",
    "loss",
    "pad_targets",
    "pit_loss",
]
__dir__ = __all__.copy
