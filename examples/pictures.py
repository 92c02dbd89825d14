"""Held-out images with the boxes that a detector predicts, and whom they are matched with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detector import QUERIES, RECIPES, Detector
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from training import Job, load, prepared, read, restored

import hungarian_core as hc

IMAGES = 3


@torch.no_grad()
def matches(jobs: Sequence[Job], checkpoints: Path, path: Path) -> None:
    """Draw a row of test images for each job, from its checkpoint, matched by its own loss."""
    figure = Figure(figsize=(4.2 * IMAGES, 3.3 * len(jobs)), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    panels = figure.subplots(len(jobs), IMAGES, squeeze=False)
    legend: dict[str, Any] = {}  # one for all panels, without the numbers of each
    for row, job in zip(panels, jobs, strict=True):
        split = load(job.folder, "test", job.height, job.width)
        images = split.images[:IMAGES]
        targets = hc.Targets(*(x if x is None else x[:IMAGES] for x in split.targets))
        recipe, classes = RECIPES[job.loss], read(job.folder)["train"].classes
        model = Detector(len(classes), recipe).eval()
        states, _ = restored(checkpoints / f"{job.name}.pt", job)
        model.load_state_dict(states["model"])
        logits, boxes = model(prepared(images))
        if recipe.by_position:
            apart = 1 - torch.eye(targets.mask.shape[1], QUERIES)
            matching = hc.assign(apart.expand(len(images), -1, -1), row_mask=targets.mask)
        else:
            criterion = (recipe.one or recipe.make)(len(classes), job.class_weight)
            matching = criterion.match(logits, boxes, targets)
        for k, (axes, image) in enumerate(zip(row, images, strict=False)):
            hc.plot_matches(
                matching, true_boxes=targets.boxes, pred_boxes=boxes,
                image=image.permute(1, 2, 0), sample=k, row_mask=targets.mask, axes=axes,
                row_names=[[classes[label] for label in labels] for labels in targets.labels],
            )  # fmt: skip
            axes.set_title(recipe.title, fontsize=10, pad=12)
            axes.set_axis_off()
            handles, labels = axes.get_legend_handles_labels()
            legend |= {text.partition(" (")[0]: x for x, text in zip(handles, labels, strict=True)}
            if axes.get_legend():
                axes.get_legend().remove()
        for axes in row[len(images) :]:
            axes.set_axis_off()
    figure.legend(legend.values(), legend, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=80, format="png")
