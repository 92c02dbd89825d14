"""A picture of held-out scenes: true and predicted boxes, joined by their matches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from hungarian_demo.measure import iou, match
from hungarian_demo.scenes import MOST, SIDE, Scenes

# Blue, green, vermilion and grey of Okabe and Ito, told apart by colour-blind readers too.
TRUE, RIGHT, WRONG, UNMATCHED = "#0072B2", "#009E73", "#D55E00", "#999999"


def save(scenes: Scenes, predictions: dict[str, NDArray[np.float32]], path: Path) -> None:
    """Draw the first scene of each number of digits, a row for each model's predictions."""
    counts = np.sum(scenes.mask, axis=1)
    chosen = [int(np.argmax(counts == k)) for k in range(1, MOST + 1) if np.any(counts == k)]
    shown = Scenes(scenes.images[chosen], scenes.truths[chosen])

    rows, columns = len(predictions), len(chosen)
    figure = Figure(figsize=(3.1 * columns, 3.45 * rows + 0.7), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes_row, (name, everything) in zip(grid, predictions.items(), strict=True):
        predicted = everything[chosen]
        col4row = match(shown, predicted)
        axes_row[0].set_ylabel(name, fontsize=14)
        for k, axes in enumerate(axes_row):
            _draw(axes, shown.images[k, ..., 0], shown.truths[k], predicted[k], col4row[k])
    figure.legend(
        handles=[
            Line2D([], [], color=TRUE, lw=1.8, label="true box"),
            Line2D([], [], color=RIGHT, lw=1.8, ls="--", label="prediction, class right"),
            Line2D([], [], color=WRONG, lw=1.8, ls="--", label="prediction, class wrong"),
            Line2D([], [], color="black", lw=1.5, marker="o", ms=4, label="match"),
            Line2D(
                [], [], ls="", marker="$1→1$", ms=24, color=RIGHT, label="true class → predicted"
            ),
            Line2D([], [], color=UNMATCHED, lw=1, ls=":", label="prediction without a match"),
        ],
        loc="outside lower center",
        ncols=6,
        frameon=False,
        fontsize=11,
    )
    figure.savefig(path, dpi=110, format="png")


def _draw(
    axes: Any,
    image: NDArray[np.uint8],
    truths: NDArray[np.float32],
    predicted: NDArray[np.float32],
    col4row: NDArray[np.int64],
) -> None:
    """Draw a scene: truths `(MOST, FEATURES)`, predictions `(SLOTS, FEATURES)`."""
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=400, extent=(0, SIDE, SIDE, 0))
    axes.set(xlim=(-1, SIDE + 1), ylim=(SIDE + 1, -4), xticks=[], yticks=[])
    axes.spines[:].set_color("#cccccc")
    for slot in set(range(len(predicted))) - set(col4row.tolist()):
        _box(axes, predicted[slot], UNMATCHED, lw=1, ls=":", alpha=0.6)
    overlaps = []
    for truth, slot in zip(truths, col4row, strict=True):
        if slot < 0:
            continue
        prediction = predicted[slot]
        overlaps.append(float(iou(truth[:4], prediction[:4])))
        came, expected = int(prediction[4:].argmax()), int(truth[4:].argmax())
        color = RIGHT if came == expected else WRONG
        _box(axes, truth, TRUE, lw=1.8)
        _box(axes, prediction, color, lw=1.8, ls="--")
        axes.plot(*zip(SIDE * truth[:2], SIDE * prediction[:2], strict=True), color="black", lw=1.5)
        axes.plot(*(SIDE * truth[:2]), "o", color=TRUE, ms=4)
        axes.plot(*(SIDE * prediction[:2]), "o", color=color, ms=4)
        left, top = SIDE * (truth[:2] - truth[2:4] / 2)
        axes.annotate(
            f"{expected}→{came}",
            (left, top),
            (0, 2),
            textcoords="offset points",
            color=color,
            fontsize=11,
            fontweight="bold",
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )
    axes.set_title(f"mean IoU {np.mean(overlaps):.2f}", fontsize=11)


def _box(axes: Any, row: NDArray[np.float32], color: str, **line: Any) -> None:
    x, y, width, height = (SIDE * row[:4]).tolist()
    corner = x - width / 2, y - height / 2
    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=color, **line))
