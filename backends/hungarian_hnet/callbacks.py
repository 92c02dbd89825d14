"""What goes along with training: a log, a bar, and an orderly end on Ctrl-C."""

from __future__ import annotations

import contextlib
import csv
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import Callback, Checkpoint, RichProgressBar

COLUMNS = ("epoch", "step", "seconds", "rate", "train_loss", "val_loss", "weighted_f", "accuracy")


class InterruptedTrainingError(Exception):
    """Ctrl-C was pressed, and a checkpoint holds the state after the last step."""


class Last(Checkpoint):
    """Saves a checkpoint after each epoch; on Ctrl-C, after the step under way, and then raises.

    Lightning would save whatever there is, in the middle of a step too, from which nobody can go
    on exactly. A second Ctrl-C is none of ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for Ctrl-C, where Python lets us: in the main thread.

        Around Lightning, not within: it puts back the handlers that it found (2.6).
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def note(*_: Any) -> None:
            self.asked = True
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and leave, if asked to; after the last step of an epoch validation comes first."""
        if self.asked and batch_idx + 1 < trainer.num_training_batches:
            trainer.save_checkpoint(self.path)
            raise InterruptedTrainingError

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Save; Lightning's own ``save_last`` leaves out epochs that are no improvement."""
        trainer.save_checkpoint(self.path)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Leave, if asked to in the epoch before, whose checkpoint is there."""
        if self.asked and trainer.current_epoch > 0:
            raise InterruptedTrainingError


class Log(Callback):
    """Appends a row to a CSV after each epoch.

    Lightning's logger would begin a new file where a run is resumed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._started = time.perf_counter()
        self._before = 0.0

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Write what was measured."""
        if trainer.sanity_checking:
            return
        measured = {name: float(x) for name, x in trainer.callback_metrics.items()}
        row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "seconds": round(self._seconds(), 3),
            "rate": trainer.optimizers[0].param_groups[0]["lr"],
            **{name: measured[name] for name in COLUMNS if name in measured},
        }
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if new:
                writer.writeheader()
            writer.writerow(row)

    def _seconds(self) -> float:
        return self._before + time.perf_counter() - self._started

    def state_dict(self) -> dict[str, Any]:
        """Return how long the run took so far."""
        return {"seconds": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._before = state_dict["seconds"]


class Bar(RichProgressBar):
    """Lightning's bar, with what matters here."""

    def get_metrics(self, trainer: Any, pl_module: Any) -> Any:
        """Return what stands beside the bar."""
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        items.pop("val_loss", None)  # with the others there is no room for it
        return {name: f"{x:.4f}" if isinstance(x, float) else x for name, x in items.items()}
