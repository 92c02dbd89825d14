"""A callback that watches the matching while a model trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import hungarian_core as _core
from hungarian_core import Assignment

Match = Callable[[Any, Any], Assignment]


def _nearest(y_true: Any, y_pred: Any) -> Assignment:
    """Return the matching of `hungarian_core.loss`."""
    if y_pred.dtype.itemsize < 4:
        y_pred = y_pred.astype(np.float32)  # NumPy has no bfloat16 to compute with
    return _core.loss(np.asarray(y_true, y_pred.dtype), y_pred, return_assignment=True)[1]


class MatchingStability(keras.callbacks.Callback):
    """Measures how stable the matching of one batch is from epoch to epoch.

    At the end of each epoch, or after every so many batches, the model predicts for the same
    inputs, the predictions are matched to the same truths, and the matching is compared with the
    one before. Into the logs, hence into the history and the progress bar, go

    - ``matching_changed``: the share of pairs that changed, NaN the first time;
    - ``matching_never_matched``: the number of predictions that were matched at no time so far.

    Args:
        x: The inputs, as for `predict_on_batch`; they stay the same for the whole training.
        y_true: Their truths.
        match: ``match(y_true, y_pred)`` returns an `Assignment`. It gets `y_true` as it is and
            what the model returns, in NumPy arrays. By default it matches as
            `hungarian_core.loss` does, `y_true` `(B, n, d)` to `y_pred` `(B, m, d)`.
        every: Measure after so many batches, by default at the end of each epoch. Epochs then
            log the last values.
        name: Stands before the underscore in the names of the logs.

    Attributes:
        meter: The `hungarian_core.StabilityMeter`, for more; ``meter.reset()`` starts anew.
    """

    def __init__(
        self,
        x: Any,
        y_true: Any,
        match: Match | None = None,
        *,
        every: int | None = None,
        name: str = "matching",
    ) -> None:
        super().__init__()
        self.x = x
        self.y_true = y_true
        self.match = _nearest if match is None else match
        self.every = every
        self.name = name
        self.meter = _core.StabilityMeter()
        self._batches = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure after every so many batches."""
        self._batches += 1
        if self.every is not None and self._batches % self.every == 0:
            self._measure()
            self._log(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure, unless batches are counted, and log."""
        if self.every is None:
            self._measure()
        self._log(logs)

    def _measure(self) -> None:
        # `self.model` has the weights of the step, which JAX keeps apart during an epoch.
        self.meter.update(self.match(self.y_true, self.model.predict_on_batch(self.x)))

    def _log(self, logs: dict[str, Any] | None) -> None:
        if logs is not None:
            logs[f"{self.name}_changed"] = self.meter.changed
            logs[f"{self.name}_never_matched"] = len(self.meter.never_matched)
