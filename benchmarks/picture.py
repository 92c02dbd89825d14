"""Draw how many times as long SciPy and lapx take, on every family of costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")  # no screen is needed
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

SCIPY, LAPX, INK, FAINT = "#0072b2", "#d55e00", "#333333", "#e4e4e4"  # Okabe and Ito's colours


def draw(rows: list[dict[str, Any]], least: float, means: dict[str, float], path: Path) -> None:
    """Draw one panel for each thread count, one line for each instance, and save it.

    `least` is the target on every instance, `means` the geometric mean over SciPy's by threads.
    """
    names = [row["name"] for row in rows]
    figure, panels = plt.subplots(
        1, 2, sharex=True, sharey=True, figsize=(10, 0.3 * len(rows) + 1.9), layout="constrained"
    )
    places = range(len(rows))
    for axes, threads in zip(panels, ("1", "2"), strict=True):
        mine = [row[threads]["ms"] for row in rows]
        scipy = [row["ms"]["scipy"] / own for row, own in zip(rows, mine, strict=True)]
        lapx = [row[threads]["lapx_ms"] / own for row, own in zip(rows, mine, strict=True)]
        for place, one, other in zip(places, scipy, lapx, strict=True):
            axes.plot(
                [min(1, one, other), max(one, other)], [place] * 2, color=FAINT, lw=2, zorder=1
            )
        axes.scatter(scipy, places, s=42, color=SCIPY, marker="o", label="SciPy", zorder=3)
        axes.scatter(lapx, places, s=42, color=LAPX, marker="D", label="lapx", zorder=3)
        axes.axvline(1, color=INK, lw=1)
        axes.axvline(least, color=INK, lw=1, ls=":")
        mean = means[threads]
        axes.axvline(mean, color=SCIPY, lw=1, ls="--", zorder=0)
        axes.annotate(
            f"SciPy's\nmean {mean:.1f}", (mean, 1), (4, 2), xycoords=("data", "axes fraction"),
            textcoords="offset points", color=SCIPY, fontsize=8, va="bottom", ha="center",
        )  # fmt: skip
        axes.annotate(
            "ours", (1, 1), (-3, 2), xycoords=("data", "axes fraction"),
            textcoords="offset points", color=INK, fontsize=8, va="bottom", ha="right",
        )  # fmt: skip
        axes.annotate(
            f"target {least}", (least, 1), (-2, 2), xycoords=("data", "axes fraction"),
            textcoords="offset points", color=INK, fontsize=8, va="bottom", ha="left",
        )  # fmt: skip
        axes.set_title(
            f"{threads} thread{'s' * (threads != '1')}", loc="left", pad=24, weight="bold"
        )
        axes.set_xlabel("time, as a multiple of ours")
        axes.set_xscale("log")
        axes.tick_params(axis="y", length=0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
    panels[0].set_yticks(places, names)
    panels[0].invert_yaxis()
    low, high = panels[0].get_xlim()
    low, high = min(low, 0.7), 1.2 * high  # room for the word "ours"
    panels[0].set_xlim(low, high)
    ticks = [t for t in (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= t <= high]
    for axes in panels:
        axes.set_xticks(ticks)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower left", ncols=2)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)
