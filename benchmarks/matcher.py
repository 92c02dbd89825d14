"""The matchers of DETR and Deformable DETR by themselves, against transformers', on one thread.

    python benchmarks/matcher.py [--repeats 60] [--only TEXT] [--json FILE]

Both get what a criterion gives them, logits and boxes of a batch and a mapping for each image, and
return pairs of indices on the CPU, which are compared first. 92 logits: for a softmax, as in DETR,
those of 91 classes and of "no object"; for a sigmoid, as in Deformable DETR, of 92 classes.
"""

from __future__ import annotations

import itertools
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
    from transformers.loss import loss_deformable_detr, loss_for_object_detection

    from hungarian_torch import HungarianMatcher

    torch.set_num_threads(1)
    options = arguments(__doc__, repeats=60, only="batches whose names contain this")
    matchers: dict[str, tuple[Any, Any]] = {
        "softmax": (
            loss_for_object_detection.HungarianMatcher(1, 5, 2),
            HungarianMatcher(1, 5, 2),
        ),
        "sigmoid": (
            loss_deformable_detr.DeformableDetrHungarianMatcher(2, 5, 2),
            HungarianMatcher(2, 5, 2, class_cost_form="sigmoid"),
        ),
    }
    found: dict[str, Any] = {}
    print(f"{'batch':32}{'transformers':>14}{'ours':>10}{'ratio':>8}")
    for (size, of_batch), form in itertools.product(BATCHES.items(), matchers):
        name, (theirs, ours) = f"{form}, {size}", matchers[form]
        if options.only not in name:
            continue
        given = batch(*of_batch)
        for pair, wanted in zip(ours(*given), theirs(*given), strict=True):
            assert all(map(torch.equal, pair, wanted)), name
        times = fastest(
            {
                "transformers": Contender(lambda given=given, theirs=theirs: theirs(*given)),
                "ours": Contender(lambda given=given, ours=ours: ours(*given)),
            },
            options.repeats,
        )
        found[name] = times
        ratio = times["transformers"] / times["ours"]
        print(
            f"{name:32}{1e3 * times['transformers']:>11.3f} ms{1e3 * times['ours']:>7.3f} ms"
            f"{ratio:>8.2f}"
        )
    save(options.json, found)


if __name__ == "__main__":
    main()
