"""`hungarian-core hnet plot`: what a network does, how often it is right, how it was trained."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hungarian_hnet import evaluation, files
from hungarian_hnet.errors import UserError
from hungarian_hnet.evaluation import Found
from hungarian_hnet.problems import Problems

# Blue, vermilion and grey of Okabe and Ito, told apart by colour-blind readers too.
NETWORK, SOLVER, FAINT = "#0072B2", "#D55E00", "#999999"
SHOWN = 5  # problems


def run(given: argparse.Namespace) -> None:
    """Write the pictures."""
    files.check_writable(given.output, folder=True)
    epochs = read_log(given.log) if given.log else []
    network, unseen = evaluation.load(given)
    found = evaluation.find(network, unseen)
    figures = evaluation.measure(unseen, found)
    pictures = {
        "associations.png": associations(unseen, found),
        "accuracy_by_n.png": by_n(figures["by_n"]),
        "accuracy_by_gap.png": by_gap(figures["by_gap"]),
    }
    if epochs:
        pictures["training.png"] = training(epochs)
    for name, figure in pictures.items():
        path = given.output / name
        with files.replaced(path) as unfinished:
            figure.savefig(unfinished, dpi=120, format="png")
        print(path)


def read_log(path: Path) -> list[dict[str, float]]:
    """Return the rows of a log of training, the last one of each epoch.

    Raises:
        UserError: There is no such file, or it is another one.
    """
    try:
        with path.open(newline="") as file:
            rows = [{k: float(x) for k, x in row.items()} for row in csv.DictReader(file)]
        epochs = {row["epoch"]: row for row in rows if row["weighted_f"] + row["val_loss"]}
    except FileNotFoundError as error:
        raise UserError(f"--log {path}: there is no such file") from error
    except (ValueError, TypeError, KeyError, AttributeError, csv.Error) as error:
        raise UserError(f"--log {path}: this is no metrics.csv of `hnet train`") from error
    if not epochs:
        raise UserError(f"--log {path}: no epoch of training is in it")
    return [epochs[key] for key in sorted(epochs)]


def associations(unseen: Problems, found: Found) -> Figure:
    """Draw distances, true and predicted associations of some problems, a mistake among them."""
    samples = unseen.samples
    right = np.all((found.network > 0.5) == samples.association, axis=(1, 2))
    objects = np.minimum(samples.rows, samples.cols)
    chosen = _spread(objects, right)
    figure = _figure(2.1 * len(chosen) + 0.9, 6.2)
    grid = figure.subplots(3, len(chosen), squeeze=False)
    for column, k in zip(grid.T, chosen, strict=True):
        real = samples.row_mask[k, :, None] & samples.col_mask[k]
        distance = np.where(real, samples.distance[k], np.nan)
        shown = [
            (distance, "viridis_r", None, samples.distance[k]),
            (samples.association[k], "Blues", 1, None),
            (found.network[k], "Blues", 1, found.network[k]),
        ]
        for axes, (matrix, colors, top, numbers) in zip(column, shown, strict=True):
            axes.imshow(matrix, cmap=colors, vmin=0, vmax=top)
            axes.set_facecolor("#eeeeee")  # of what is missing
            axes.set(xticks=[], yticks=[])
            if numbers is not None and len(matrix) <= 4:
                _write(axes, numbers, dark=matrix > (top or np.nanmax([*distance.flat, 0])) / 2)
        pairs, said = objects[k], "right" if right[k] else "wrong"
        column[0].set_title(f"{pairs} pair{'' if pairs == 1 else 's'}, {said}", fontsize=11)
    for axes, name in zip(grid[:, 0], ("distance", "true", "predicted"), strict=True):
        axes.set_ylabel(name, fontsize=12)
    return figure


def _spread(objects: np.ndarray, right: np.ndarray) -> list[int]:
    """Choose problems of many sizes, the largest first, the last one a mistake if there is one."""
    wrong = np.flatnonzero(~right)
    wanted = SHOWN - bool(len(wrong))
    sizes = np.unique(objects[right])[::-1]
    chosen: list[int] = []
    for turn in range(wanted):
        for size in sizes:
            of_size = np.flatnonzero(right & (objects == size))
            if len(chosen) < wanted and turn < len(of_size):
                chosen.append(int(of_size[turn]))
    chosen.sort(key=lambda k: -int(objects[k]))
    return [*chosen, *wrong[np.argsort(-objects[wrong], kind="stable")][:1].tolist()]


def _write(axes: Any, numbers: np.ndarray, dark: np.ndarray) -> None:
    """Write the numbers of a small matrix into its cells."""
    for (row, column), number in np.ndenumerate(numbers):
        color = "white" if dark[row, column] else "black"
        text = f"{number:.2f}" if number < 10 else f"{number:.0f}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=9)


def by_n(parts: list[dict[str, Any]]) -> Figure:
    """Draw the accuracy against the number of objects."""
    figure = _figure(6.4, 4)
    axes = figure.subplots()
    _lines(axes, parts, [str(part["n"]) for part in parts])
    axes.set_xlabel("objects, the larger of both counts")
    return figure


def by_gap(parts: list[dict[str, Any]]) -> Figure:
    """Draw the accuracy against the gap between the best and the second-best matching."""
    figure = _figure(8, 4.2)
    axes = figure.subplots()
    _lines(axes, parts, [evaluation.label(part).replace(" to ", "\nto ") for part in parts])
    axes.set_xlabel("cost of the second-best matching above that of the best one")
    return figure


def _lines(axes: Any, parts: list[dict[str, Any]], names: list[str]) -> None:
    at = np.arange(len(parts))
    lowest = 1.0
    for who, title, color, mark in (
        ("network", "network", NETWORK, "o-"),
        ("solver", "exact solver on admissible pairs", SOLVER, "s--"),
    ):
        values = [part[who]["accuracy"] for part in parts]
        lowest = min(lowest, *values)
        axes.plot(at, values, mark, color=color, label=title, lw=1.8, ms=5)
    room = max(1 - lowest, 0.005)
    axes.set(xticks=at, xticklabels=names)
    axes.set_ylim(1 - 1.25 * room, 1 + 0.08 * room)
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 1])
    axes.set_ylim(1 - 1.25 * room, 1 + 0.08 * room)
    axes.set_ylabel("share of matrices that are exact")
    for x, part in zip(at, parts, strict=True):
        axes.annotate(
            f"{part['problems']}", (x, 0), (0, 4), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="center", color=FAINT, fontsize=8,
        )  # fmt: skip
    axes.legend(frameon=False, loc="best")
    _plain(axes)


def training(epochs: list[dict[str, float]]) -> Figure:
    """Draw losses and mistakes against epochs."""
    figure = _figure(9, 3.8)
    left, right = figure.subplots(1, 2)
    at = [row["epoch"] for row in epochs]
    for axes, lines, title in (
        (left, {"train_loss": "training", "val_loss": "validation"}, "loss"),
        (right, {"weighted_f": "1 - weighted F-score", "accuracy": "1 - accuracy"}, "mistakes"),
    ):
        for (name, text), color in zip(lines.items(), (NETWORK, SOLVER), strict=True):
            values = np.array([row[name] for row in epochs])
            values = values if axes is left else np.where(values < 1, 1 - values, np.nan)
            axes.plot(at, values, "o-", color=color, label=text, lw=1.8, ms=3.5)
        axes.set(yscale="log", xlabel="epoch", title=title)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
        _plain(axes)
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    return figure


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", lw=0.8)
    axes.set_axisbelow(True)
