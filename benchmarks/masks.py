"""What masks of another size than the truth take: of all predictions, or of the matched ones only.

    python benchmarks/masks.py [--repeats 3] [--only TEXT] [--json FILE]

One image of 800 x 1064 pixels, 100 queries whose masks have a quarter of its height and width, and
8 objects, in PyTorch, forward and backward, in a process of its own each:

- all resized: the predictions are brought to the size of the truth before the loss;
- matched resized: ``resize="bilinear"``, which brings those that are matched.

Memory is by how much the process has grown at its largest, from the moment when the inputs are
there. The matchings differ where the small masks decide otherwise; the numbers are those of a loss.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

from timing import arguments, save

HEIGHT, WIDTH, QUERIES, OBJECTS, CLASSES = 800, 1064, 100, 8, 20
WAYS = ("all resized", "matched resized")


def measured(way: str, repeats: int) -> dict[str, float]:
    """Return the seconds and MiB of one way, in this process."""
    import torch

    import hungarian_core as hc

    torch.manual_seed(0)
    torch.set_num_threads(1)
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

    small = torch.nn.functional.interpolate(truth, (8, 8))
    warm = {"logits": logits, "masks": torch.randn(1, QUERIES, 8, 8, requires_grad=True)}
    criterion(warm, {**targets, "masks": small}).total.backward()  # what is loaded on first use
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
    rows = []
    print(f"{'way':20}{'ms':>10}{'MiB':>8}")
    for way in WAYS:
        if options.only in way:
            command = [sys.executable, __file__, "--way", way, str(options.repeats)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append({"name": way, **json.loads(done.stdout)})
            print(f"{way:20}{rows[-1]['ms']:10.1f}{rows[-1]['mib']:8.0f}")
    save(options.json, rows)


if __name__ == "__main__":
    main()
