"""Matchings for the criteria of DETR and its family, solved or asked for, on any input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import hungarian_core as _core
from hungarian_core.terms._checks import brief
from hungarian_torch._outputs import Outputs, Targets

Pairs = list[tuple[Tensor, Tensor]]
Matcher = Callable[..., Sequence[tuple[Any, Any]]]


def solved(criterion: _core.SetLoss, outputs: Outputs, targets: Any) -> Any:
    """Return the objects of queries `(..., Q)` by the least cost, -1 for none.

    A pair whose cost is NaN or infinite is taken only where nothing else is left, which is the
    rule of `transformers`. Hence the criterion forbids such pairs, and they are looked at again
    where an image cannot be matched without them.
    """
    try:
        return criterion.match(outputs, targets).row4col
    except ValueError as error:
        failed = error
    return as_last_resort(criterion, outputs, targets, failed)


def as_last_resort(
    criterion: _core.SetLoss, outputs: Outputs, targets: Any, failed: ValueError
) -> Any:
    """Return the same where costs that are NaN or infinite stood in the way, or raise `failed`.

    As many pairs as possible have a finite cost, at the least sum; the queries that are left take
    the objects that are left, in their order.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # NumPy warns of what is looked for
        # What is wrong with the arrays themselves is told here a second time.
        costs = [*criterion.costs(outputs, targets).values()]
        like = costs[0]
        each = [x.numpy(force=True) if isinstance(x, Tensor) else x for x in costs]
        total = np.sum([x.astype(np.float64) for x in each], axis=0)
    there = _there(outputs, targets, total.shape)
    usual = np.isfinite(total)
    if usual[there].all():
        raise failed
    row4col = _core.assign(
        np.where(usual, total, np.inf), row_mask=there, partial=True, backend="numpy"
    ).row4col
    for found, objects in zip(
        row4col.reshape(-1, row4col.shape[-1]), there.reshape(-1, there.shape[-1]), strict=True
    ):
        left = np.setdiff1d(np.nonzero(objects)[0], found)
        (free,) = np.nonzero(found < 0)
        count = min(len(left), len(free))
        found[free[:count]] = left[:count]
    return torch.as_tensor(row4col, device=like.device) if isinstance(like, Tensor) else row4col


def _there(outputs: Outputs, targets: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return which rows of costs `(..., M, Q)` are objects, `(..., M)`."""
    if isinstance(targets, Mapping):
        mask = targets["mask"]
        mask = mask.numpy(force=True) if isinstance(mask, Tensor) else mask
    else:
        counts = [len(x["labels" if "labels" in x else "class_labels"]) for x in targets]
        mask = np.arange(shape[-2]) < np.asarray(counts)[:, None]
    *front, _, _ = shape
    layered = outputs["logits"].ndim == 4
    # The axis of layers stands before that of images, and that of groups behind it.
    axes = [len(mask) if k == layered else 1 for k in range(len(front))]
    return np.broadcast_to(mask.reshape(*axes, -1), shape[:-1])


def asked(
    matcher: Matcher,
    layers: Sequence[Outputs],
    counts: Sequence[int],
    targets: Targets,
    shape: tuple[int, int, int],
    device: torch.device,
    **options: Any,
) -> Tensor:
    """Return the objects `(L, B, Q)` of queries by somebody else's matcher, layer by layer.

    Args:
        matcher: Called with the outputs of a layer, the targets and `options`.
        layers: The outputs of each layer.
        counts: The number of objects of each image.
        targets: What the matcher is given.
        shape: (L, B, Q).
        device: Where the result shall lie.
        **options: For the matcher.

    Raises:
        ValueError: What the matcher returned is no matching of the queries and objects there are.
    """
    row4col = torch.full(shape, -1)
    for layer, outputs in enumerate(layers):
        pairs = matcher(outputs, targets, **options)
        if len(pairs) != len(counts):
            raise ValueError(
                f"the matcher returned {len(pairs)} pairs of index arrays; expected one for each "
                f"of the {len(counts)} images"
            )
        for image, pair in enumerate(pairs):
            queries, objects = _checked(pair, image, shape[-1], counts[image])
            row4col[layer, image, queries] = objects
    return row4col.to(device)


def _checked(pair: Any, image: int, queries: int, objects: int) -> tuple[Tensor, Tensor]:
    """Return the indices of queries and objects that a matcher gave for an image, on the host."""
    came = f"the matcher returned for image {image} "
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise ValueError(f"{came}{brief(pair)}; expected (queries, objects), two index arrays")
    i, j = (torch.as_tensor(x, device="cpu") for x in pair)
    if i.shape != j.shape or i.dim() != 1:
        raise ValueError(
            f"{came}indices of the shapes {tuple(i.shape)} and {tuple(j.shape)}; expected two of "
            "one length"
        )
    i, j = i.long(), j.long()
    for name, x, extent in (("queries", i, queries), ("objects", j, objects)):
        wrong = x[(x < 0) | (x >= extent)]
        if len(wrong):
            raise ValueError(f"{came}{int(wrong[0])} among the {name}; there are {extent}")
    if len(i.unique()) < len(i):
        raise ValueError(f"{came}a query twice; expected each at most once")
    return i, j
