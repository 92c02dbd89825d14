"""The matcher of DETR by itself, against the one of transformers, on one thread.

    python benchmarks/matcher.py [--repeats 60] [--only TEXT] [--json FILE]

Both get what a criterion gives them, logits and boxes of a batch and a mapping for each image, and
return pairs of indices on the CPU, which are compared first. 91 classes and "no object".
"""

from __future__ import annotations

from typing import Any

from timing import Contender, arguments, fastest, save

BATCHES = {
    "2x100, 3 to 7 objects": (2, 100, (3, 7)),
    "2x100, 12 objects": (2, 100, (12,)),
    "16x100, 10 objects": (16, 100, (10,)),
    "16x300, 30 objects": (16, 300, (30,)),
}


def batch(images: int, queries: int, objects: tuple[int, ...]) -> tuple[Any, Any]:
    """Return outputs and targets, image k with objects[k] objects, from the first on again."""
    import torch

    torch.manual_seed(0)
    outputs = {
        "logits": torch.randn(images, queries, 92),
        "pred_boxes": torch.rand(images, queries, 4) * 0.4 + 0.3,
    }
    targets = []
    for k in range(images):
        n = objects[k % len(objects)]
        labels, boxes = torch.randint(0, 91, (n,)), torch.rand(n, 4) * 0.4 + 0.3
        targets.append({"class_labels": labels, "boxes": boxes})
    return outputs, targets


def main() -> None:
    """Time both and print a line for each batch."""
    import torch
    from transformers.loss.loss_for_object_detection import HungarianMatcher

    import hungarian_torch

    torch.set_num_threads(1)
    options = arguments(__doc__, repeats=60, only="batches whose names contain this")
    ours, theirs = hungarian_torch.HungarianMatcher(1, 5, 2), HungarianMatcher(1, 5, 2)
    found: dict[str, Any] = {}
    print(f"{'batch':24}{'transformers':>14}{'ours':>10}{'ratio':>8}")
    for name, (images, queries, objects) in BATCHES.items():
        if options.only not in name:
            continue
        given = batch(images, queries, objects)
        for pair, wanted in zip(ours(*given), theirs(*given), strict=True):
            assert all(map(torch.equal, pair, wanted)), name
        times = fastest(
            {
                "transformers": Contender(lambda given=given: theirs(*given)),
                "ours": Contender(lambda given=given: ours(*given)),
            },
            options.repeats,
        )
        found[name] = times
        ratio = times["transformers"] / times["ours"]
        print(
            f"{name:24}{1e3 * times['transformers']:>11.3f} ms{1e3 * times['ours']:>7.3f} ms"
            f"{ratio:>8.2f}"
        )
    save(options.json, found)


if __name__ == "__main__":
    main()
