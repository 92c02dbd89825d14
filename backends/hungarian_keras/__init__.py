"""Keras 3, on any of its backends: losses for `model.compile`, a callback for `model.fit`.

The backend is that of the tensors that Keras passes in; there is none of Keras's own.
"""

from __future__ import annotations

from typing import Any

import keras

import hungarian_core as _core
from hungarian_core import compute_euclidean_distance
from hungarian_keras import _checks
from hungarian_keras._base import SetLoss, mask_of, plain
from hungarian_keras._callbacks import MatchingStability
from hungarian_keras._detection import AlignedDetrLoss, DetectionModel, DetrLoss
from hungarian_keras._hnet import HNet

_PACKAGE = "hungarian"
keras.saving.register_keras_serializable(_PACKAGE)(compute_euclidean_distance)


@keras.saving.register_keras_serializable(_PACKAGE)
def hungarian_loss(y_true: Any, y_pred: Any) -> Any:
    """Return the mean Euclidean distance of matched objects, a scalar.

    It has no loss per sample for `sample_weight` to weigh; `HungarianLoss` has. And Keras casts
    what a function gets to `keras.config.floatx()`: where predictions are of another dtype, as
    with mixed precision, their mask is lost on the way. `HungarianLoss` heeds it always.

    Args:
        y_true: `(batch_size, n, num_features)`, the true objects.
        y_pred: `(batch_size, m, num_features)`, the predicted objects. A Keras mask that they
            carry, `(batch_size, m)`, says which there are.

    Examples:
        >>> y_true = np.array([[[0.0, 0.0], [1.0, 1.0]]])
        >>> y_pred = np.array([[[1.0, 1.0], [0.0, 0.5], [9.0, 9.0]]])
        >>> float(hk.hungarian_loss(y_true, y_pred))
        0.25
    """
    mask = mask_of(y_pred)
    y_pred = keras.ops.convert_to_tensor(y_pred)
    if mask is not None:
        _checks.carried("y_pred", tuple(mask.shape), tuple(y_pred.shape))
    return _core.loss(keras.ops.convert_to_tensor(y_true), y_pred, pred_mask=mask)


@keras.saving.register_keras_serializable(_PACKAGE)
class HungarianLoss(SetLoss):
    """`hungarian_core.HungarianLoss` for Keras: one loss per sample, reduced by Keras.

    It is computed in float32 or wider, whatever the dtype of the loss. Where predictions carry a
    Keras mask `(batch_size, m)`, those of False are not matched and have no loss.

    Args:
        slices, slice_index_to_compute_assignment, compute_cost_matrix_fn: As for
            `hungarian_core.HungarianLoss`.
        slice_weights, slice_sizes, nan, solver: The same.
        slice_losses_fn: The same. Of a `keras.losses.Loss` the values before its reduction are
            taken, one per pair; a function must not return one value for all pairs.
        mask_value: Rows of `y_true` that hold this value throughout are padding, as for
            `keras.layers.Masking`; by default no row is. It may be NaN.
        reduction, name, dtype: As for `keras.losses.Loss`.

    Examples:
        >>> y_true = np.array([[[0.0, 0.0], [1.0, 1.0]]])
        >>> y_pred = np.array([[[1.0, 1.0], [0.0, 0.5], [9.0, 9.0]]])
        >>> loss = hk.HungarianLoss([2])
        >>> float(loss(y_true, y_pred))
        0.0625
        >>> loss
        HungarianLoss(slices=[2])
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
        self.mask_value = _checks.mask_value(mask_value)
        self.slice_losses_fn = slice_losses_fn
        if isinstance(slice_losses_fn, (list, tuple)):
            slice_losses_fn = [_per_pair(k, f) for k, f in enumerate(slice_losses_fn)]
        self.criterion = _core.HungarianLoss(
            slices,
            slice_index_to_compute_assignment,
            compute_cost_matrix_fn,
            slice_losses_fn,
            slice_weights,
            slice_sizes=slice_sizes,
            reduction="sample",
            nan=nan,  # type: ignore[arg-type]  # the core checks the value
            solver=solver,
        )

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each sample, `(batch_size,)`."""
        y_true, y_pred, mask, pred_mask = self.sets(y_true, y_pred, self.mask_value)
        return self.criterion(y_true, y_pred, mask=mask, pred_mask=pred_mask)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, functions serialised by Keras."""
        pack = keras.saving.serialize_keras_object
        criterion = self.criterion
        matcher, losses = criterion.compute_cost_matrix_fn, self.slice_losses_fn
        return {
            **super().get_config(),
            "slices": criterion.slices,
            "slice_index_to_compute_assignment": criterion.slice_index_to_compute_assignment,
            "compute_cost_matrix_fn": matcher if isinstance(matcher, str) else pack(matcher),
            "slice_losses_fn": None if losses is None else [pack(f) for f in losses],
            "slice_weights": plain(criterion.slice_weights),
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


def _per_pair(k: int, loss: Any) -> Any:
    """Return the slice loss k without the reduction of Keras, which would mix the samples."""
    if not isinstance(loss, keras.losses.Loss):
        return loss
    if loss.reduction == "sum":
        _checks.summed(k, loss)
    return loss.call


@keras.saving.register_keras_serializable(_PACKAGE)
class PITLoss(SetLoss):
    """`hungarian_core.pit_loss` for Keras: one loss per sample, reduced by Keras.

    `y_true` are the references `(batch_size, n, time)`, `y_pred` the estimates
    `(batch_size, m, time)`. It is computed in float32 or wider, whatever the dtype of the loss.
    Where estimates carry a Keras mask `(batch_size, m)`, those of False are not matched and have no
    loss.

    Args:
        metric, zero_mean, nan, solver: As for `hungarian_core.pit_loss`.
        mask_value: References that hold this value throughout are padding; 0 takes silence for it.
            By default none is. It may be NaN.
        reduction, name, dtype: As for `keras.losses.Loss`.

    Examples:
        >>> references = np.array([[[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]], np.float32)
        >>> float(hk.PITLoss("mse")(references, references[:, ::-1] + 0.5))
        0.25
    """

    def __init__(
        self,
        metric: Any = "si_sdr",
        *,
        zero_mean: bool = False,
        mask_value: float | None = None,
        nan: str = "raise",
        solver: str = "auto",
        reduction: str | None = "sum_over_batch_size",
        name: str = "pit_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.mask_value = _checks.mask_value(mask_value)
        self.options = {"metric": metric, "zero_mean": zero_mean, "nan": nan, "solver": solver}

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each sample, `(batch_size,)`."""
        references, estimates, mask, estimate_mask = self.sets(y_true, y_pred, self.mask_value)
        return _core.pit_loss(
            estimates,
            references,
            mask=mask,
            estimate_mask=estimate_mask,
            reduction="sample",
            **self.options,
        )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, a function serialised by Keras."""
        metric = self.options["metric"]
        packed = metric if isinstance(metric, str) else keras.saving.serialize_keras_object(metric)
        own = {**self.options, "metric": packed, "mask_value": self.mask_value}
        return {**super().get_config(), **own, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PITLoss:
        """Return the loss of a `get_config`."""
        metric = config["metric"]
        if not isinstance(metric, str):
            metric = keras.saving.deserialize_keras_object(metric)
        return cls(**{**config, "metric": metric})


__all__ = [
    "AlignedDetrLoss",
    "DetectionModel",
    "DetrLoss",
    "HNet",
    "HungarianLoss",
    "MatchingStability",
    "PITLoss",
    "compute_euclidean_distance",
    "hungarian_loss",
]
__dir__ = __all__.copy
