"""A picture of how precise detectors become, by loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Of Okabe and Ito, told apart by colour-blind readers too; line styles tell the families apart.
COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#D55E00", "#E69F00", "#CC79A7")
Curve = tuple[list[int], list[float], list[float]]


def save(
    found: dict[str, list[Curve]],
    path: Path,
    *,
    images: str = "held-out scenes",
    steps: str = "steps of training",
    top: float | None = 1,
) -> None:
    """Draw AP and AP50 by steps: the mean over seeds as a line, their range as a band.

    Args:
        found: By name, the curves of all seeds: steps, AP, AP50.
        path: Where the PNG goes.
        images: What they are judged on.
        steps: What is counted.
        top: The upper end of the axis, or None to let it fit.
    """
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    panels = figure.subplots(1, 2, sharey=True)
    for axes, title, k in zip(panels, ("AP", "AP50"), (1, 2), strict=True):
        for number, (name, curves) in enumerate(found.items()):
            colour = COLOURS[number % len(COLOURS)]
            x = [0, *curves[0][0]]
            values = np.array([[0.0, *curve[k]] for curve in curves])
            style = "--" if name.startswith("DETR") else "-" if number < len(COLOURS) else ":"
            axes.plot(x, values.mean(0), style, color=colour, lw=2, label=name)
            axes.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
        axes.set(title=f"{title} on {images}", xlabel=steps)
        axes.set_xlim(left=0, right=x[-1])
        axes.grid(alpha=0.3)
    panels[0].set_ylim(0, top)  # of both
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110, format="png")
