"""What it saves and costs to take a matching for several layers, or for several epochs.

    python benchmarks/reuse.py [--repeats 2] [--only TEXT] [--json FILE]

A small detector in PyTorch, a transformer with three decoder layers and 20 queries, learns 256
images of coloured rectangles, by `SetLoss` with the weights of Deformable DETR. Ways differ in
which matching the layers learn by, and in nothing else:

- own: each layer by its own, of every step;
- last: all layers by that of the last one, ``assignment=criterion.match(...).row4col``;
- together: all layers by the one of least cost over all of them;
- every k epochs: each layer by its own, which an image keeps for k epochs.

Figures are means over as many seeds as there are repeats: the milliseconds of processor time that
a step spends on costs, matchings and losses, forward; the share of objects whose query in the last
layer changes from one epoch to the next, over the second half of training, by `StabilityMeter`;
and on 256 other images the loss of the last layer, by its own matching, and the IoU of matched
boxes, with the standard deviation over seeds.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch
from timing import arguments, save

import hungarian_core as hc

IMAGES, BATCH, EPOCHS, LAYERS, QUERIES, CLASSES, GRID, MOST = 256, 32, 40, 3, 20, 4, 8, 6
WAYS = ("own", "last", "together", "every 2 epochs", "every 5 epochs", "every 10 epochs")


def scenes(seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return images `(N, cells, channels)` of rectangles with some noise, and what is there."""
    rng = np.random.default_rng(seed)
    mask = np.arange(MOST) < rng.integers(1, MOST + 1, IMAGES)[:, None]
    sides = rng.uniform(0.15, 0.4, (IMAGES, MOST, 2))
    centres = rng.uniform(sides / 2, 1 - sides / 2)
    labels = rng.integers(0, CLASSES, mask.shape)
    steps = (np.arange(GRID) + 0.5) / GRID
    y, x = (z.reshape(-1) for z in np.meshgrid(steps, steps, indexing="ij"))
    at = np.stack([x, y], axis=-1)
    apart = np.abs(at[None, None] - centres[:, :, None, :])
    inside = (apart < sides[:, :, None, :] / 2).all(-1) & mask[..., None]
    colours = np.eye(CLASSES)[labels]
    shown = np.einsum("nmp,nmc->npc", inside.astype(float), colours)
    shown = np.minimum(shown, 1) + rng.normal(0, 0.1, shown.shape)
    place = np.broadcast_to(at * 2 - 1, (IMAGES, *at.shape))
    images = torch.tensor(np.concatenate([shown, place], axis=-1), dtype=torch.float32)
    boxes = torch.tensor(np.concatenate([centres, sides], axis=-1), dtype=torch.float32)
    return images, {"labels": torch.tensor(labels), "boxes": boxes, "mask": torch.tensor(mask)}


class Detector(torch.nn.Module):
    """A transformer whose decoder layers each say what there is."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embed = torch.nn.Linear(CLASSES + 2, width)
        options: Any = {"dim_feedforward": 2 * width, "dropout": 0.0, "batch_first": True}
        self.encoder = torch.nn.TransformerEncoderLayer(width, 4, **options)
        self.layers = torch.nn.ModuleList(
            torch.nn.TransformerDecoderLayer(width, 4, **options) for _ in range(LAYERS)
        )
        self.queries = torch.nn.Parameter(torch.randn(QUERIES, width))
        self.classes = torch.nn.Linear(width, CLASSES)
        self.classes.bias.data.fill_(-3.0)
        self.boxes = torch.nn.Sequential(
            torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 4)
        )

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return logits and boxes `(L, B, Q, ...)`."""
        memory = self.encoder(self.embed(images))
        x = self.queries.expand(len(images), -1, -1)
        said = []
        for layer in self.layers:
            x = layer(x, memory)
            said.append(x)
        found = torch.stack(said)
        return {"logits": self.classes(found), "boxes": self.boxes(found).sigmoid()}


def matching(
    way: str, criterion: hc.SetLoss, outputs: Any, targets: Any, kept: torch.Tensor, epoch: int
) -> torch.Tensor:
    """Return the object of each query, `(L, B, Q)`, in this way."""
    if way == "last":
        last = {name: x[-1] for name, x in outputs.items()}
        return criterion.match(last, targets).row4col.expand(LAYERS, -1, -1)
    if way == "together":
        cost = sum(criterion.costs(outputs, targets).values()).sum(0)
        found = hc.assign(cost, row_mask=targets["mask"])
        return found.row4col.expand(LAYERS, -1, -1)
    if way.startswith("every") and epoch % int(way.split()[1]):
        return kept
    return criterion.match(outputs, targets).row4col


def trained(way: str, seed: int) -> dict[str, float]:
    """Train one way with one seed and return its figures."""
    torch.manual_seed(seed)
    images, truth = scenes(2 * seed)
    others, other_truth = scenes(2 * seed + 1)
    model = Detector()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    criterion = hc.SetLoss(
        [hc.terms.Classes(CLASSES, loss="focal", weight=2.0), hc.terms.Boxes()], log=False
    )
    meter = hc.StabilityMeter(QUERIES)
    kept = torch.full((LAYERS, IMAGES, QUERIES), -1)
    order = torch.Generator().manual_seed(seed)
    spent, changed = [], []
    for epoch in range(EPOCHS):
        for at in torch.randperm(IMAGES, generator=order).split(BATCH):
            targets = {name: x[at] for name, x in truth.items()}
            outputs = model(images[at])
            start = time.process_time()
            with torch.no_grad():
                kept[:, at] = matching(way, criterion, outputs, targets, kept[:, at], epoch)
            losses = criterion(outputs, targets, assignment=kept[:, at])
            spent.append(time.process_time() - start)
            optimizer.zero_grad()
            losses.total.backward()
            optimizer.step()
        objects = (kept[-1][:, None, :] == torch.arange(MOST)[None, :, None]).float()
        there = objects.any(-1)
        found = torch.where(there, objects.argmax(-1), -1)
        share = meter.update(found, row_mask=truth["mask"])
        if epoch > EPOCHS // 2:
            changed.append(share)
    with torch.no_grad():
        last = {name: x[-1] for name, x in model(others).items()}
        out = criterion(last, other_truth)
        at = out.assignment.col4row.clamp(min=0)[..., None].expand(-1, -1, 4)
        overlap = hc.boxes.iou(last["boxes"].gather(1, at), other_truth["boxes"], format="cxcywh")[
            other_truth["mask"]
        ].mean()
    return {
        "ms": 1e3 * statistics.median(spent), "changed": statistics.mean(changed),
        "loss": float(out.total), "iou": float(overlap),
    }  # fmt: skip


def main() -> None:
    """Print and save the figures."""
    options = arguments(__doc__, repeats=2, only="ways whose names contain this")
    torch.set_num_threads(1)
    rows = []
    print("| matching | ms per step | changed | loss | IoU |\n|---|---:|---:|---:|---:|")
    for way in WAYS:
        if options.only not in way:
            continue
        each = [trained(way, seed) for seed in range(options.repeats)]
        row: dict[str, Any] = {"name": way}
        for name in each[0]:
            values = [x[name] for x in each]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            row |= {name: statistics.mean(values), f"{name}_spread": spread}
        rows.append(row)
        print(
            f"| {way} | {row['ms']:.1f} | {100 * row['changed']:.0f} % | {row['loss']:.2f} ± "
            f"{row['loss_spread']:.2f} | {row['iou']:.3f} ± {row['iou_spread']:.3f} |",
            flush=True,
        )
    save(options.json, rows)


if __name__ == "__main__":
    main()
