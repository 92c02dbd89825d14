"""Train the detector twice, compare the two on held-out scenes, and say what came out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from hungarian_demo import picture, scenes
from hungarian_demo.measure import Score, score
from hungarian_demo.model import detector
from hungarian_keras import HungarianLoss

BATCH = 32


def run(steps: int, held_out: int, seed: int, output: Path) -> None:
    """Train on `steps` batches, print the comparison, and save the picture at `output`."""
    started = time.perf_counter()
    console = Console()
    console.print(
        f"Composing {steps * BATCH} scenes of 1 to {scenes.MOST} real digits to train on, "
        f"and {held_out} of other digits to hold out"
    )
    training, unseen = scenes.make(steps * BATCH, held_out, seed)

    keras.utils.set_random_seed(seed)
    model = detector()
    untrained = model.get_weights()
    predictions: dict[str, NDArray[np.float32]] = {}
    scores = {"before training": score(unseen, predict(model, unseen))}
    with Progress(
        TextColumn("Training, {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.2f}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
    ) as progress:
        for name, cost in (("matched", "euclidean"), ("by position", by_position)):
            model.set_weights(untrained)  # both start from the same weights
            rate = keras.optimizers.schedules.CosineDecay(
                0.0, steps, warmup_target=2e-3, warmup_steps=max(steps // 10, 1)
            )
            model.compile(optimizer=keras.optimizers.Adam(rate), loss=loss(cost))
            model.fit(
                training.images,
                training.truths,
                batch_size=BATCH,
                shuffle=False,
                verbose=0,
                callbacks=[Bar(progress, name, steps)],
            )
            predictions[name] = predict(model, unseen)
            scores[name] = score(unseen, predictions[name])

    titles = {"matched": "trained by matching", "by position": "trained by position"}
    picture.save(unseen, {titles[name]: found for name, found in predictions.items()}, output)
    report(console, scores, held_out)
    seconds = time.perf_counter() - started
    console.print(f"{output} shows some of them. All took {seconds:.0f} s.", soft_wrap=True)


def loss(cost: Any) -> HungarianLoss:
    """Return the loss: boxes are paired by `cost`, and of pairs boxes and classes are compared."""
    return HungarianLoss(
        slices=[4, scenes.CLASSES],
        slice_index_to_compute_assignment=0,
        compute_cost_matrix_fn=cost,
        slice_losses_fn=[
            keras.losses.mean_absolute_error,
            keras.losses.categorical_crossentropy,
        ],
        slice_weights=[10.0, 1.0],
        mask_value=scenes.PADDING,
    )


def by_position(a: Any, b: Any) -> Any:
    """Return costs `[B, n, m]` that pair `a[B, n, d]` and `b[B, m, d]` by their positions."""
    truths, predictions = ops.arange(a.shape[1]), ops.arange(b.shape[1])
    apart = ops.cast(ops.abs(truths[:, None] - predictions), b.dtype)
    return ops.tile(apart[None], (ops.shape(b)[0], 1, 1))


def predict(model: keras.Model, unseen: scenes.Scenes) -> NDArray[np.float32]:
    """Return the objects predicted for scenes, `(count, SLOTS, FEATURES)`."""
    return np.asarray(model.predict(unseen.images, batch_size=100, verbose=0))


def report(console: Console, scores: dict[str, Score], held_out: int) -> None:
    """Print the scores as a table, and what they say as a sentence."""
    table = Table("loss pairs objects", "mean IoU", "class accuracy")
    table.title = f"Matched objects of {held_out} held-out scenes"
    for name, (iou, accuracy) in scores.items():
        table.add_row(name, f"{iou:.3f}", f"{accuracy:.1%}")
    console.print(table)
    matched, position = scores["matched"], scores["by position"]
    console.print(
        "With nothing changed but the pairing inside the loss, matching ends at a mean IoU of "
        f"{matched.iou:.2f} and a class accuracy of {matched.accuracy:.0%}, "
        f"pairing by position at {position.iou:.2f} and {position.accuracy:.0%}.",
        soft_wrap=True,
    )


class Bar(keras.callbacks.Callback):
    """Shows training in a bar of Rich."""

    def __init__(self, progress: Progress, name: str, steps: int) -> None:
        super().__init__()
        self.progress = progress
        self.bar = progress.add_task(f"{name:<11}", total=steps, loss=float("nan"))

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Move on by a step."""
        self.progress.update(self.bar, advance=1, loss=float((logs or {})["loss"]))
