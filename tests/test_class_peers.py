"""Losses of classes beside published ones, those of transformers."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

torch: Any = pytest.importorskip("torch", reason="transformers is for PyTorch")
pytest.importorskip("transformers", reason="it is the peer")

CLASSES = 5
UPSTREAM = 1.7


def scene(rng: np.random.Generator, counts: tuple[int, ...], queries: int = 9) -> tuple[Any, ...]:
    """Return logits, boxes, and the labels and boxes of images, in float64."""
    shape = (len(counts), queries)
    logits = torch.asarray(2 * rng.normal(size=(*shape, CLASSES)))
    boxes = torch.asarray(rng.uniform(0.2, 0.6, (*shape, 4)))
    targets = [
        {
            "class_labels": torch.asarray(rng.integers(CLASSES, size=n)),
            "boxes": torch.asarray(rng.uniform(0.2, 0.6, (n, 4))),
        }
        for n in counts
    ]
    return logits, boxes, targets


@pytest.mark.parametrize("alpha", [None, 0.6])
def test_matchability_aware(alpha: float | None) -> None:
    """Value and gradient of MAL are those of DEIMv2, for the matching found."""
    from transformers.loss.loss_deimv2 import Deimv2Loss

    logits, boxes, targets = scene(np.random.default_rng(0), (3, 0, 2))
    # Its constructor wants the settings of all terms; the method reads these.
    peer = SimpleNamespace(gamma=1.5, mal_alpha=alpha, num_classes=CLASSES)
    peer._get_source_permutation_idx = lambda at: Deimv2Loss._get_source_permutation_idx(peer, at)
    mal = hc.terms.CLASS_LOSSES["mal"]
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    loss = hc.DetrLoss(
        CLASSES, class_loss=mal if alpha is None else dataclasses.replace(mal, others=float),
        gamma=1.5, cost_gamma=2.0, alpha=alpha or 0.25, class_cost=2.0,
    )  # fmt: skip
    found = loss(ours, boxes, targets)
    pairs = [
        (cols[cols >= 0], torch.arange(len(cols))[cols >= 0]) for cols in found.assignment.col4row
    ]
    outputs = {"logits": theirs, "pred_boxes": boxes}
    published = Deimv2Loss.loss_labels_mal(peer, outputs, targets, pairs, 5)["loss_mal"]
    torch.testing.assert_close(found.class_, published, rtol=1e-12, atol=0)
    for x in (found.class_, published):
        (UPSTREAM * x).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-14)
