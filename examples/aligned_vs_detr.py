"""Train one small detector with the loss of DETR and with the aligned loss, and compare them.

    python examples/aligned_vs_detr.py --output FOLDER

The detector, the scenes of handwritten digits, the order of the batches, the optimiser and the
initial weights are the same for every loss; a seed changes all of these but the optimiser. The
folder gets `aligned_vs_detr.png`, the curves, `aligned_vs_detr.json`, every figure, and
`aligned_vs_detr.md`, the table. It needs the extras `torch` and `demo`, and pycocotools.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from coco import Judge, Precision, Truth, evaluated
from curves import save
from torch import nn

import hungarian_core as hc
from hungarian_demo import scenes
from hungarian_demo.scenes import CLASSES, SIDE, Scenes

GRID = 5  # queries along the side of an image
QUERIES = GRID * GRID
WIDTH = 64
BATCH = 32
SCENES = 4000  # to train on, over and over
EVALUATIONS = 5  # in the course of training

# What is compared. A weight of classes is that of their loss and of their matching cost.
LOSSES: dict[str, Callable[[], Any]] = {
    "DETR": lambda: hc.DetrLoss.preset("detr", CLASSES),
    "DETR, class cost -log p": lambda: hc.DetrLoss(CLASSES, class_cost_form="nll"),
    "DETR, class weight 4": lambda: hc.DetrLoss(CLASSES, class_weight=4.0, class_cost=4.0),
    "aligned": lambda: hc.AlignedDetrLoss(CLASSES),
    "aligned, no object 0.1": lambda: hc.AlignedDetrLoss(CLASSES, no_object_weight=0.1),
    "aligned, no object 0.1, per box": lambda: hc.AlignedDetrLoss(
        CLASSES, no_object_weight=0.1, normalize="boxes"
    ),
}


class Detector(nn.Module):
    """Convolutions down to a grid of queries, which then look at each other."""

    def __init__(self) -> None:
        super().__init__()
        layers = (_halved(1, 24, 4), _halved(24, WIDTH, 4), _halved(WIDTH, WIDTH, 3))
        self.stem = nn.Sequential(*itertools.chain(*layers))
        self.positions = nn.Parameter(torch.randn(QUERIES, WIDTH) / 10)
        self.layer = nn.TransformerEncoderLayer(
            WIDTH, nhead=4, dim_feedforward=2 * WIDTH, dropout=0, batch_first=True, norm_first=True
        )
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU())
        self.shift, self.size = nn.Linear(2 * WIDTH, 2), nn.Linear(2 * WIDTH, 2)
        self.classes = nn.Linear(2 * WIDTH, CLASSES + 1)
        middle = (torch.arange(GRID) + 0.5) / GRID
        y, x = torch.meshgrid(middle, middle, indexing="ij")
        self.register_buffer("places", torch.stack([x, y], dim=-1).reshape(QUERIES, 2))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits `[B, QUERIES, CLASSES + 1]` and boxes `[B, QUERIES, 4]` of images."""
        x = self.stem(images).flatten(2).transpose(1, 2)
        x = self.head(self.layer(x + self.positions))
        # The centre of a box is near the place of its query.
        centre = self.places + 0.3 * torch.tanh(self.shift(x))
        return self.classes(x), torch.cat([centre, torch.sigmoid(self.size(x))], dim=-1)


def _halved(channels: int, width: int, size: int) -> Sequence[nn.Module]:
    """Return layers that halve the sides of a feature map."""
    convolution = nn.Conv2d(channels, width, size, stride=2, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(width), nn.ReLU()


class Point(NamedTuple):
    """How good a detector is after some steps."""

    step: int
    precision: Precision


@functools.lru_cache(maxsize=1)
def data(training: int, held_out: int, seed: int) -> tuple[Scenes, Scenes]:
    """Return scenes to train on and held-out ones."""
    return scenes.make(training, held_out, seed)


def tensors(given: Scenes) -> tuple[torch.Tensor, hc.Targets]:
    """Return images in `[0, 1]` and padded targets of scenes."""
    images = torch.tensor(given.images).permute(0, 3, 1, 2) / 255
    truths = torch.tensor(given.truths)
    labels = truths[..., 4:].argmax(-1)
    return images, hc.Targets(labels, truths[..., :4], torch.tensor(given.mask))


def truths(given: Scenes) -> list[Truth]:
    """Return the true objects of each scene."""
    real = [found[mask] for found, mask in zip(given.truths, given.mask, strict=True)]
    return [Truth(x[:, :4], x[:, 4:].argmax(-1), np.zeros(len(x), bool)) for x in real]


def train(name: str, seed: int, steps: int, held_out: int) -> list[Point]:
    """Train a detector with a loss; return how good it is on held-out scenes on the way."""
    torch.set_num_threads(1)  # the work is too small to share; the runs are shared instead
    training, unseen = data(min(SCENES, steps * BATCH), held_out, seed)
    images, targets = tensors(training)
    judge = Judge(tensors(unseen)[0], truths(unseen), CLASSES, size=(SIDE, SIDE))
    criterion = LOSSES[name]()
    torch.manual_seed(seed)
    model = Detector()
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, steps, pct_start=0.1)
    curve = []
    for step in range(steps):
        first = step * BATCH % (len(images) // BATCH * BATCH)
        at = slice(first, first + BATCH)
        logits, boxes = model(images[at])
        batch = hc.Targets(targets.labels[at], targets.boxes[at], targets.mask[at])
        optimizer.zero_grad()
        criterion(logits, boxes, batch).total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)  # as DETR is trained
        optimizer.step()
        schedule.step()
        if (step + 1) * EVALUATIONS // steps > step * EVALUATIONS // steps:
            curve.append(Point(step + 1, judge(functools.partial(evaluated, model))))
    return curve


Curves = dict[str, list[list[Point]]]  # of each loss, those of all seeds


def run(steps: int, seeds: int, held_out: int, workers: int) -> Curves:
    """Train with every loss and every seed, and say how far it is."""
    # By seeds first: the runs of a seed share their scenes.
    jobs = [(name, seed, steps, held_out) for seed in range(seeds) for name in LOSSES]
    found: Curves = {name: [] for name in LOSSES}

    def note(job: tuple[Any, ...], curve: list[Point]) -> None:
        found[job[0]].append(curve)
        print(f"seed {job[1]}  {job[0]:<32} AP {curve[-1].precision.ap:.3f}", flush=True)

    if workers == 1:
        for job in jobs:
            note(job, train(*job))
        return found
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for job, curve in zip(jobs, pool.map(train, *zip(*jobs, strict=True)), strict=True):
            note(job, curve)
    return found


def table(found: Curves) -> str:
    """Return the final precision by loss, in Markdown: the mean and the range over seeds."""
    lines = ["| loss | AP | AP50 | AP75 |", "|---|---|---|---|"]
    for name, curves in found.items():
        last = np.array([curve[-1].precision for curve in curves])
        figures = zip(last.mean(0), last.min(0), last.max(0), strict=True)
        cells = [f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in figures]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the experiment and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=1000, help="of training (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="their number (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path(), help="a folder (the current one)")
    parser.add_argument("--quick", action="store_true", help="20 steps: only see that it runs")
    given = parser.parse_args(argv)
    steps, seeds, held_out = (20, 1, 20) if given.quick else (given.steps, given.seeds, 300)

    given.output.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    found = run(steps, seeds, held_out, given.workers)
    path = given.output / "aligned_vs_detr.png"
    save({name: [_columns(c) for c in curves] for name, curves in found.items()}, path)
    path.with_suffix(".md").write_text(table(found))
    settings = {"steps": steps, "seeds": seeds, "batch": BATCH, "queries": QUERIES,
                "held_out": held_out, "torch": torch.__version__}  # fmt: skip
    everything = {
        name: [[{"step": p.step, **p.precision._asdict()} for p in curve] for curve in curves]
        for name, curves in found.items()
    }
    text = json.dumps({"settings": settings, "curves": everything}, indent=1)
    path.with_suffix(".json").write_text(text + "\n")
    print(f"\n{table(found)}\n{path} shows it. All took {time.perf_counter() - started:.0f} s.")


def _columns(curve: list[Point]) -> tuple[list[int], list[float], list[float]]:
    """Return steps, AP and AP50 of a curve."""
    precisions = [point.precision for point in curve]
    steps = [point.step for point in curve]
    return steps, [p.ap for p in precisions], [p.ap50 for p in precisions]


if __name__ == "__main__":
    main()
