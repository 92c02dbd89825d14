"""Keras 3, on any of its backends: losses for `model.compile`.

The backend is that of the tensors that Keras passes in; there is none of Keras's own.
"""

from __future__ import annotations

from typing import Any

import keras

import hungarian_core as _core
from hungarian_core import compute_euclidean_distance

_PACKAGE = "hungarian"
keras.saving.register_keras_serializable(_PACKAGE)(compute_euclidean_distance)


@keras.saving.register_keras_serializable(_PACKAGE)
def hungarian_loss(y_true: Any, y_pred: Any) -> Any:
    """Return the mean Euclidean distance of matched objects, a scalar.

    It has no loss per sample for `sample_weight` to weigh; `HungarianLoss` has.

    Args:
        y_true: `(batch_size, n, num_features)`, the true objects.
        y_pred: `(batch_size, m, num_features)`, the predicted objects.
    """
    y_pred = keras.ops.convert_to_tensor(y_pred)
    return _core.loss(keras.ops.convert_to_tensor(y_true, y_pred.dtype), y_pred)


@keras.saving.register_keras_serializable(_PACKAGE)
class HungarianLoss(keras.losses.Loss):
    """`hungarian_core.HungarianLoss` for Keras: one loss per sample, reduced by Keras.

    Args:
        slices, slice_index_to_compute_assignment, compute_cost_matrix_fn, slice_losses_fn,
            slice_weights, slice_sizes, nan, solver: As for `hungarian_core.HungarianLoss`.
        mask_value: Rows of `y_true` that hold this value throughout are padding, as for
            `keras.layers.Masking`; by default no row is.
        reduction, name, dtype: As for `keras.losses.Loss`.
    """

    def __init__(
        self,
        slices: Any = None,
        slice_index_to_compute_assignment: int = 0,
        compute_cost_matrix_fn: Any = "euclidean",
        slice_losses_fn: Any = None,
        slice_weights: Any = None,
        *,
        slice_sizes: Any = None,
        mask_value: float | None = None,
        nan: str = "raise",
        solver: str = "auto",
        reduction: str | None = "sum_over_batch_size",
        name: str = "hungarian_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.mask_value = mask_value
        self.criterion = _core.HungarianLoss(
            slices,
            slice_index_to_compute_assignment,
            compute_cost_matrix_fn,
            slice_losses_fn,
            slice_weights,
            slice_sizes=slice_sizes,
            reduction="sample",
            nan=nan,  # type: ignore[arg-type]  # the core checks the value
            solver=solver,  # type: ignore[arg-type]  # as above
        )

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each sample, `(batch_size,)`."""
        mask = None
        if self.mask_value is not None:
            mask = keras.ops.any(keras.ops.not_equal(y_true, self.mask_value), axis=-1)
        return self.criterion(y_true, y_pred, mask=mask)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, functions serialised by Keras."""
        pack = keras.saving.serialize_keras_object
        criterion = self.criterion
        matcher, losses = criterion.compute_cost_matrix_fn, criterion.slice_losses_fn
        return {
            **super().get_config(),
            "slices": criterion.slices,
            "slice_index_to_compute_assignment": criterion.slice_index_to_compute_assignment,
            "compute_cost_matrix_fn": matcher if isinstance(matcher, str) else pack(matcher),
            "slice_losses_fn": None if losses is None else [pack(f) for f in losses],
            "slice_weights": criterion.slice_weights,
            "mask_value": self.mask_value,
            "nan": criterion.nan,
            "solver": criterion.solver,
            "dtype": self.dtype,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> HungarianLoss:
        """Return the loss of a `get_config`."""
        unpack = keras.saving.deserialize_keras_object
        config = dict(config)
        matcher, losses = config["compute_cost_matrix_fn"], config["slice_losses_fn"]
        config["compute_cost_matrix_fn"] = matcher if isinstance(matcher, str) else unpack(matcher)
        config["slice_losses_fn"] = losses and [unpack(f) for f in losses]
        return cls(**config)


__all__ = ["HungarianLoss", "compute_euclidean_distance", "hungarian_loss"]
