"""A callback for Lightning that watches the matching while a model trains.

It needs ``pip install lightning`` or ``pytorch_lightning``. Nothing else in `hungarian_torch` does.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch

import hungarian_core as _core
from hungarian_core import Assignment

Match = Callable[[Any, Any], Assignment]


def _lightning() -> Any:
    """Return Lightning, which comes as two packages, alike but for the name."""
    for name, module in (
        ("lightning", "lightning.pytorch"),
        ("pytorch_lightning", "pytorch_lightning"),
    ):
        if importlib.util.find_spec(name) is not None:
            return importlib.import_module(module)
    raise ImportError("hungarian_torch.lightning needs Lightning: pip install lightning")


_Callback: Any = _lightning().Callback


class MatchingStability(_Callback):
    """Measures how stable the matching of one batch is from epoch to epoch.

    At the end of each training epoch, or after every so many batches, `match` runs the module on
    the same batch, in evaluation mode, without gradient and in the precision of the trainer. Its
    matching is compared with the one before. Logged are

    - ``matching_changed``: the share of pairs that changed, NaN the first time;
    - ``matching_never_matched``: the number of predictions that were matched at no time so far.

    Each process of a distributed run measures for itself; with the same batch all find the same.

    Args:
        batch: The batch, which stays the same for the whole training. The module's
            `transfer_batch_to_device` brings it to its device.
        match: ``match(module, batch)`` returns an `Assignment`.
        every: Measure after so many batches, by default at the end of each epoch.
        name: Stands before the underscore in the names of the logs.

    Attributes:
        meter: The `hungarian_core.StabilityMeter`, for more; ``meter.reset()`` starts anew.
    """

    def __init__(
        self, batch: Any, match: Match, *, every: int | None = None, name: str = "matching"
    ) -> None:
        super().__init__()
        self.batch = batch
        self.match = match
        self.every = every
        self.name = name
        self.meter = _core.StabilityMeter()
        self._batches = 0

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure and log after every so many batches."""
        self._batches += 1
        if self.every is not None and self._batches % self.every == 0:
            self._measure(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure and log, unless batches are counted."""
        if self.every is None:
            self._measure(trainer, pl_module)

    def _measure(self, trainer: Any, module: Any) -> None:
        batch = module.transfer_batch_to_device(self.batch, module.device, 0)
        # One by one: a part that is frozen in evaluation mode stays there.
        modes = [(part, part.training) for part in module.modules()]
        module.eval()
        try:
            with torch.no_grad(), trainer.precision_plugin.forward_context():
                assignment = self.match(module, batch)
        finally:
            for part, training in modes:
                part.training = training
        self.meter.update(assignment)
        module.log(f"{self.name}_changed", self.meter.changed, batch_size=1)
        never_matched = float(len(self.meter.never_matched))
        module.log(f"{self.name}_never_matched", never_matched, batch_size=1)


__all__ = ["MatchingStability"]
__dir__ = __all__.copy
