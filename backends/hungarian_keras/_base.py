"""What the losses for Keras share: how arrays and masks come in, and how values are reduced."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras.src import backend as _keras_backend  # masks have no public door

import hungarian_core as _core
from hungarian_core._settings import Configured
from hungarian_keras import _checks


class Sets(NamedTuple):
    """What a loss gets, in float32 or wider."""

    true: Any
    pred: Any
    mask: Any  # (batch_size, n) bool, True = a true object; None = all are
    # (batch_size, m) or (batch_size, L, m) bool, True = a prediction; None = all are.
    pred_mask: Any


class SetLoss(Configured, keras.losses.Loss):
    """A loss of sets, with one value per sample, which Keras weighs and reduces.

    `keras.losses.Loss` casts what comes to the dtype of the loss, and multiplies values by the
    mask that predictions carry. Here everything is computed in float32 or wider, and the mask of
    the predictions says which there are: `call` reads it.
    """

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the loss in the dtype of this loss, reduced as it says.

        Args:
            y_true: The truths, see the class.
            y_pred: The predictions, see the class. A Keras mask that they carry says which rows
                are predictions, `(batch_size, m)`: the others are not matched and have no loss.
            sample_weight: `(batch_size,)`, what the loss of each sample is multiplied by.
        """
        wide = self._wide
        y_true, y_pred = _tensor("y_true", y_true, wide), _tensor("y_pred", y_pred, wide)
        if sample_weight is not None:
            _checks.sample_weight(tuple(getattr(sample_weight, "shape", np.shape(sample_weight))))
        with keras.name_scope(self.name):
            return self.reduced(self.call(y_true, y_pred), sample_weight)

    def reduced(self, values: Any, sample_weight: Any = None) -> Any:
        """Return values `(batch_size,)` weighed and reduced, in the dtype of the loss."""
        reduced = _Values("reduced", self.reduction, self._wide)
        return keras.ops.cast(reduced(values, values, sample_weight), self.dtype)

    @property
    def _wide(self) -> str:
        return "float64" if self.dtype == "float64" else "float32"

    def sets(self, y_true: Any, y_pred: Any, mask_value: float | None = None) -> Sets:
        """Return truths and predictions to compute with, and which of them there are.

        Args:
            y_true: `(batch_size, n, d)`.
            y_pred: `(batch_size, m, d)`, or `(batch_size, L, m, d)`.
            mask_value: Rows of `y_true` that hold it throughout are none.
        """
        masks = []
        for name, x in (("y_true", y_true), ("y_pred", y_pred)):
            mask = mask_of(x)
            if mask is not None:
                _checks.carried(name, tuple(mask.shape), tuple(x.shape))
            masks.append(mask)
        if mask_value is not None:
            rows = _rows(keras.ops.convert_to_tensor(y_true), mask_value)
            masks[0] = rows if masks[0] is None else keras.ops.logical_and(masks[0], rows)
        wide = (keras.ops.convert_to_tensor(x, self._wide) for x in (y_true, y_pred))
        return Sets(*wide, *masks)


class _Values(keras.losses.Loss):
    """The reduction of Keras, of values that are there."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the values."""
        return y_pred


def mask_of(x: Any) -> Any:
    """Return the Keras mask that a tensor carries, as bool, or None."""
    mask = _keras_backend.get_keras_mask(x)
    return None if mask is None else keras.ops.cast(mask, "bool")


def _tensor(name: str, x: Any, wide: str) -> Any:
    """Return a tensor; one that is there stays as it is, with its mask."""
    _checks.given(name, x)
    if not keras.ops.is_tensor(x):
        leaves = keras.tree.flatten(x)
        if not any(keras.ops.is_tensor(leaf) for leaf in leaves):  # Keras would take its floatx
            x = _core.host_array(x, None, _core.Backend(), np.dtype(wide).type)
        x = keras.ops.convert_to_tensor(x)
    _checks.numerical(name, x)
    return x


def _rows(y_true: Any, value: float) -> Any:
    """Say which rows hold something else than a value, which is rounded as they are."""
    if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(y_true.dtype)):
        y_true = keras.ops.cast(y_true, "float32")
    if math.isnan(value):
        other = keras.ops.logical_not(keras.ops.isnan(y_true))
    else:
        other = keras.ops.not_equal(y_true, keras.ops.convert_to_tensor(value, y_true.dtype))
    return keras.ops.any(other, axis=-1)


def plain(x: Any) -> Any:
    """Return options as JSON has them: arrays as lists, NumPy's numbers as Python's."""
    if isinstance(x, Mapping):
        return {key: plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [plain(value) for value in x]
    if isinstance(x, (np.ndarray, np.generic)):
        return x.tolist()
    return keras.ops.convert_to_numpy(x).tolist() if keras.ops.is_tensor(x) else x
