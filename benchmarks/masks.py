"""What masks take in time and memory, in PyTorch, forward and backward, on one thread.

    python benchmarks/masks.py [--repeats 3] [--only TEXT] [--json FILE]

Each line is a process of its own, and the lines of a pair take turns:

- all resized, matched resized: one image of 800 x 1064 pixels, 100 queries whose masks have a
  quarter of its height and width, and 8 objects. Either the predictions are brought to the size of
  the truth before the loss, or ``resize="bilinear"`` brings those that are matched. The matchings
  differ where the small masks decide otherwise; the numbers are those of a loss;
- one cloud, a cloud each: 100 masks of 128 x 128 pixels at the same 12544 points, as they are
  matched by, and 22 at points of their own, as losses have them, by `grid_sample` of PyTorch and
  by `hungarian_core.masks.sample`, which have been compared;
- Mask2Former: its loss in transformers and ours in its place, of the masks that
  `losses_of_transformers.py` draws.

Memory is by how much the process has grown at its largest, from the moment when the inputs are
there. Without ``--only`` the figures go to `benchmarks/results/masks.md` too.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from timing import arguments, made_by, save

HEIGHT, WIDTH, QUERIES, OBJECTS, CLASSES = 800, 1064, 100, 8, 20
PAIRS = (
    ("all resized", "matched resized"),
    ("one cloud, grid_sample", "one cloud, masks.sample"),
    ("a cloud each, grid_sample", "a cloud each, masks.sample"),
    ("Mask2Former, transformers", "Mask2Former, ours"),
)
TURNS = 3  # of each way, of which the fastest counts
Step = Callable[[], object]


def resized(way: str) -> tuple[Step, Step]:
    """Return a small step, to load what is loaded on first use, and the step to measure."""
    import torch

    import hungarian_core as hc

    logits = torch.randn(1, QUERIES, CLASSES + 1)
    masks = torch.randn(1, QUERIES, HEIGHT // 4, WIDTH // 4, requires_grad=True)
    truth = (torch.rand(1, OBJECTS, HEIGHT, WIDTH) > 0.5).float()
    targets = {"labels": torch.arange(OBJECTS)[None], "masks": truth}
    resize = None if way == "all resized" else "bilinear"
    term = hc.terms.Masks("focal", 20.0, 1.0, 20.0, 1.0, resize=resize)
    criterion = hc.SetLoss([hc.terms.Classes(CLASSES), term])

    def step() -> None:
        given = masks
        if resize is None:
            given = torch.nn.functional.interpolate(masks, (HEIGHT, WIDTH), mode="bilinear")
        criterion({"logits": logits, "masks": given}, targets).total.backward()

    def small() -> None:
        few = {**targets, "masks": torch.nn.functional.interpolate(truth, (8, 8))}
        given = torch.randn(1, QUERIES, 8, 8, requires_grad=True)
        criterion({"logits": logits, "masks": given}, few).total.backward()

    return small, step


def sampled(way: str) -> tuple[Step, Step]:
    """Return the same, of masks at points."""
    import torch

    import hungarian_core as hc

    shared, published = way.startswith("one"), way.endswith("grid_sample")

    def step(count: int, points: int) -> Step:
        masks = torch.randn(1, count, 128, 128, requires_grad=True)
        places = torch.rand(1 if shared else count, points, 2)

        def by_grid_sample() -> torch.Tensor:
            grid = 2 * places[:, :, None] - 1
            given = masks if shared else masks[0, :, None]
            sample = torch.nn.functional.grid_sample
            return sample(given, grid, align_corners=False).reshape(count, points)

        def by_ours() -> torch.Tensor:
            given = masks if shared else masks[0, :, None]
            return hc.masks.sample(given, places).reshape(count, points)

        if count < 9:  # the small ones: what is compared takes memory
            torch.testing.assert_close(by_grid_sample(), by_ours())
        chosen = by_grid_sample if published else by_ours
        return lambda: (chosen() ** 2).sum().backward()

    return step(2, 9), step(100 if shared else 22, 112 * 112)


def whole(way: str) -> tuple[Step, Step]:
    """Return the same, of a whole loss."""
    import losses_of_transformers as losses

    who, large = way.partition(", ")[2], dict(losses.MASKS)
    losses.MASKS.update(logits=8, truth=16, layers=2)
    small = losses.criteria("Mask2Former")[who]
    losses.MASKS.update(large)
    return small, losses.criteria("Mask2Former")[who]


def measured(way: str, repeats: int) -> dict[str, float]:
    """Return the seconds and MiB of one way, in this process."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    make = resized if "resized" in way else whole if way.startswith("Mask2") else sampled
    small, step = make(way)
    small()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return {"ms": 1e3 * min(seconds), "mib": grown}


def main() -> None:
    """Print and save the figures."""
    if sys.argv[1:2] == ["--way"]:
        print(json.dumps(measured(sys.argv[2], int(sys.argv[3]))))
        return
    options = arguments(__doc__, repeats=3, only="ways whose names contain this")
    rows: list[dict[str, Any]] = []
    print(f"{'way':28}{'ms':>10}{'MiB':>8}")
    for pair in PAIRS:
        ways, turns = [way for way in pair if options.only in way], []
        for way in ways * TURNS:
            command = [sys.executable, __file__, "--way", way, str(options.repeats)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            turns.append({"name": way, **json.loads(done.stdout)})
        for way in ways:
            of_way = [x for x in turns if x["name"] == way]
            rows.append({"name": way, **{k: min(x[k] for x in of_way) for k in ("ms", "mib")}})
            print(f"{way:28}{rows[-1]['ms']:10.1f}{rows[-1]['mib']:8.0f}", flush=True)
    save(options.json, rows)
    if options.only:
        return
    lines = ["| | ms | MiB |", "|---|---|---|"]
    lines += [f"| {x['name']} | {x['ms']:.0f} | {x['mib']:.0f} |" for x in rows]
    lines += ["", made_by("python benchmarks/masks.py", 1)]
    place = Path(__file__).parent / "results" / "masks.md"
    place.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
