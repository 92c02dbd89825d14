"""What the programs beside this file compute on one device and on two: scenes, losses, a record.

`tests/test_distributed.py` starts the programs and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import hungarian_core as hc

WORKERS = 2
LAYERS, IMAGES, QUERIES, LOGITS, OBJECTS = 2, 4, 4, 4, 5

# How many objects the images have; the first half of the images is the first worker's.
COUNTS = {
    "uneven": (5, 3, 1, 2),
    "one_without": (0, 0, 4, 1),
    "fewer_than_workers": (0, 1, 0, 0),
    "none": (0, 0, 0, 0),
    "ignored_on_one": (5, 5, 2, 1),
}
LOSSES: dict[str, Any] = {
    "softmax": hc.DetrLoss(LOGITS - 1, class_denominator="global"),
    "focal": hc.DetrLoss(LOGITS, class_loss="focal", class_denominator="global"),
    "varifocal": hc.DetrLoss.preset("rt_detr", LOGITS, class_denominator="global"),
    "pairs": hc.loss,
    "softmax_as_published": hc.DetrLoss(LOGITS - 1),
    "focal_as_published": hc.DetrLoss(LOGITS, class_loss="focal"),
    "aligned": hc.AlignedDetrLoss(LOGITS - 1, normalize="boxes"),
}
COMPILED = list(LOSSES)[:4]  # where a loss more takes seconds; what the others have is the same
LAYERED = {"softmax", "softmax_as_published", "varifocal"}

Arrays = tuple[Any, ...]
# Takes the name of a loss and arrays of `scenes`; returns what `losses` does, of every worker if
# there are several, and the gradients by the first two arrays.
Step = Callable[[str, Arrays], tuple[dict[str, Any], tuple[Any, ...]]]


def scenes(which: str) -> Arrays:
    """Return logits `[B, L, Q, C]`, boxes `[B, L, Q, 4]`; labels, boxes, mask and ignore of truths.

    Where one worker's objects are ignored, they are more than its queries.
    """
    counts = COUNTS[which]
    rng = np.random.default_rng(sum(counts))
    truths = (IMAGES, OBJECTS)
    first = np.arange(IMAGES) < IMAGES // WORKERS
    return (
        rng.normal(size=(IMAGES, LAYERS, QUERIES, LOGITS)).astype(np.float32),
        rng.uniform(0.2, 0.8, size=(IMAGES, LAYERS, QUERIES, 4)).astype(np.float32),
        rng.integers(LOGITS - 1, size=truths),
        rng.uniform(0.2, 0.8, size=(*truths, 4)).astype(np.float32),
        np.arange(OBJECTS) < np.array(counts)[:, None],
        np.tile(first[:, None] & (which == "ignored_on_one"), (1, OBJECTS)),
    )


def losses(name: str, arrays: Arrays, backend: Any = None) -> dict[str, Any]:
    """Return the total of a loss and, for cross entropy, the part of the classes."""
    logits, boxes, labels, true_boxes, mask, ignore = arrays
    if name == "pairs":
        predicted = boxes[:, 0, ...] + logits[:, 0, ...]
        return {"total": hc.loss(true_boxes, predicted, mask=mask, backend=backend)}
    loss = LOSSES[name]
    loss.backend = backend
    if name in LAYERED:
        xp = hc.get_backend(backend, logits=logits).namespace(logits)
        logits, boxes = (xp.permute_dims(x, (1, 0, 2, 3)) for x in (logits, boxes))
    else:
        logits, boxes = logits[:, 0, ...], boxes[:, 0, ...]
    found = loss(logits, boxes, hc.Targets(labels, true_boxes, mask, ignore=ignore))
    classes = {"classes": found.class_} if "softmax" in name else {}
    return {"total": found.total, **classes}


def watch(backend: Any) -> list[Any]:
    """Return a list that gets the argument of every reduction; none may be differentiated."""
    reduce, seen = backend.all_reduce, []

    def backward(residuals: Any, g: Any) -> Any:
        raise AssertionError("a count was differentiated")

    def all_reduce(x: Any) -> Any:
        seen.append(x)
        return backend.custom_vjp(lambda x: (reduce(x), ()), backward)(x)

    backend.all_reduce = all_reduce
    return seen


def results(who: str, step: Step, names: Iterable[str] = LOSSES) -> dict[str, np.ndarray]:
    """Return what a step gives for losses and all counts, by `loss/counts/who/quantity`."""
    found = {}
    for name in names:
        for which in COUNTS:
            found |= named(f"{name}/{which}/{who}", *step(name, scenes(which)))
    return found


def named(prefix: str, values: dict[str, Any], gradients: Any) -> dict[str, np.ndarray]:
    """Return what a step returned by `prefix/quantity`."""
    quantities = {**values, "by_logits": gradients[0], "by_boxes": gradients[1]}
    return {f"{prefix}/{k}": np.asarray(x) for k, x in quantities.items()}


def halves() -> dict[str, np.ndarray]:
    """Return what cross entropy is for each worker's images alone, in NumPy."""
    name, found = "softmax_as_published", {}
    for which in COUNTS:
        parts = zip(*(np.split(x, WORKERS) for x in scenes(which)), strict=True)
        classes = [losses(name, part)["classes"] for part in parts]
        found[f"{name}/{which}/halves/classes"] = np.stack(classes)
    return found
