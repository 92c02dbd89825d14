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


TOKENS, TEXT = 9, (9, 6)  # of the two texts


def phrases(counts: tuple[int, int], dtype: Any) -> tuple[Any, ...]:
    """Return logits and boxes of three layers, flags of tokens, maps of labels and targets."""
    rng = np.random.default_rng(sum(counts))
    there = torch.arange(TOKENS) < torch.tensor(TEXT)[:, None]
    logits = torch.asarray(2 * rng.normal(size=(3, 2, 12, TOKENS)), dtype=dtype)
    logits = logits.masked_fill(~there[:, None, :], -torch.inf)
    corners = np.sort(rng.random((3, 2, 12, 2, 2)), axis=-2)
    low, high = corners[..., 0, :], corners[..., 1, :] + 0.05
    boxes = torch.asarray(np.concatenate([(low + high) / 2, high - low], axis=-1), dtype=dtype)
    # Four labels for each text, of one token or more: their offsets in the peer's list are alike.
    maps = torch.zeros((2, 4, TOKENS), dtype=dtype)
    for at in range(4):
        maps[0, at, at * 2 : at * 2 + 1 + at % 2] = 1
        maps[1, at, at : at + 1 + at % 2] = 1
    targets = [
        {
            "class_labels": torch.asarray(rng.integers(4, size=n)),
            "boxes": torch.asarray(rng.uniform(0.2, 0.5, (n, 4)), dtype=dtype),
        }
        for n in counts
    ]
    return logits, boxes, there, maps, targets


def of_tokens(maps: Any, targets: Any) -> list[dict[str, Any]]:
    """Return the targets with the maps of the objects' tokens."""
    return [
        {"token_maps": m[t["class_labels"]].bool(), "boxes": t["boxes"]}
        for m, t in zip(maps, targets, strict=True)
    ]


@pytest.mark.parametrize("counts", [(3, 4), (5, 0), (0, 0)])
@pytest.mark.parametrize("model", ["GroundingDino", "MMGroundingDino"])
def test_grounding_dino(model: str, counts: tuple[int, int], monkeypatch: Any) -> None:
    """Total, losses by layer, matchings and gradients, with the configuration's weights."""
    import transformers
    from transformers.loss import loss_grounding_dino as published
    from transformers.loss.loss_utils import LOSS_MAPPING

    dtype = torch.float64
    logits, boxes, there, maps, targets = phrases(counts, dtype)
    config = getattr(transformers, f"{model}Config")(auxiliary_loss=True, decoder_layers=3)
    config.two_stage = False
    matchings: list[Any] = []
    match = published.GroundingDinoHungarianMatcher.forward

    def noting(self: Any, *args: Any) -> Any:
        matchings.append(match(self, *args))
        return matchings[-1]

    monkeypatch.setattr(published.GroundingDinoHungarianMatcher, "forward", noting)
    ours, theirs = ([x.clone().requires_grad_() for x in (logits, boxes)] for _ in range(2))
    loss = LOSS_MAPPING[f"{model}ForObjectDetection"]
    total, parts, _ = loss(
        theirs[0][-1], targets, logits.device, theirs[1][-1], config, tuple(maps),
        there[:, None, :].expand(logits.shape[1:]), theirs[0], theirs[1],
    )  # fmt: skip
    outputs = {"logits": ours[0], "boxes": ours[1], "token_mask": there}
    found = hc.criteria.grounding_dino()(outputs, of_tokens(maps, targets))
    # Of targets in float32, their binary cross entropy is no more exact than that.
    torch.testing.assert_close(found.total, total, rtol=2e-8, atol=0)
    weights = {"token": ("loss_ce", 2.0), "bbox": ("loss_bbox", 5.0), "giou": ("loss_giou", 2.0)}
    for name, (key, weight) in weights.items():
        each = torch.stack([weight * parts[key + end] for end in ("_0", "_1", "")])
        torch.testing.assert_close(found.losses[name], each.to(dtype), rtol=2e-8, atol=1e-12)
    counted = torch.stack([parts["cardinality_error" + end] for end in ("_0", "_1", "")])
    torch.testing.assert_close(found.logs["cardinality_error"], counted.to(dtype))
    for layer, pairs in enumerate([*matchings[1:], matchings[0]]):
        for image, (queries, objects) in enumerate(pairs):
            expected = dict(zip(objects.tolist(), queries.tolist(), strict=True))
            col4row = found.assignment.col4row[layer, image].tolist()
            assert {k: v for k, v in enumerate(col4row) if v >= 0} == expected
    for x in (found.total, total):
        (UPSTREAM * x).backward()
    for x, y in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("counts", [(3, 4), (5, 0)])
def test_mm_grounding_dino(counts: tuple[int, int]) -> None:
    """As mmdetection writes it, image by image: its matching, value and gradient."""
    from scipy.optimize import linear_sum_assignment

    logits, boxes, there, maps, targets = phrases(counts, torch.float64)
    ours, theirs = ([x.clone().requires_grad_() for x in (logits, boxes)] for _ in range(2))
    outputs = {"logits": ours[0], "boxes": ours[1], "token_mask": there}
    found = hc.criteria.mm_grounding_dino()(outputs, of_tokens(maps, targets))
    total, count = torch.zeros((), dtype=torch.float64), max(sum(counts), 1)
    for layer in range(3):
        for image, target in enumerate(targets):
            x, box = theirs[0][layer, image][:, there[image]], theirs[1][layer, image]
            wanted = maps[image][target["class_labels"]][:, there[image]].double()
            p = x.sigmoid()
            positive, negative = -p.log() * 0.25 * (1 - p) ** 2, -(1 - p).log() * 0.75 * p**2
            distance = (box[:, None] - target["boxes"]).abs().sum(-1)
            overlap = hc.boxes.giou(box[:, None], target["boxes"], format="cxcywh")
            cost = 2 * (positive @ wanted.T + negative @ (1 - wanted).T)
            cost = cost + 5 * distance - 2 * overlap
            i, j = map(torch.as_tensor, linear_sum_assignment(cost.detach().numpy()))
            assert found.assignment.col4row[layer, image][j].tolist() == i.tolist()
            label = torch.zeros_like(x)
            label[i] = wanted[j]
            total = total + torch.where(label > 0, positive, negative).sum() / count
            pairs = 5 * distance[i, j] + 2 * (1 - overlap[i, j])
            total = total + pairs.sum() / count
    torch.testing.assert_close(found.total, total, rtol=1e-10, atol=0)
    for value in (found.total, total):
        (UPSTREAM * value).backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-8, atol=1e-12)


def test_mdetr() -> None:
    """As its repository writes it, image by image, but for an epsilon: value and gradient."""
    from scipy.optimize import linear_sum_assignment

    counts = (3, 4)
    logits, boxes, _, maps, targets = phrases(counts, torch.float64)
    logits = logits.nan_to_num(neginf=-1.0)[-1]
    similarities = torch.tanh(logits.flip(-1))
    ours, theirs = (
        [x.clone().requires_grad_() for x in (logits, boxes[-1], similarities)] for _ in range(2)
    )
    outputs = dict(zip(("logits", "boxes", "similarities"), ours, strict=True))
    found = hc.criteria.mdetr()(outputs, of_tokens(maps, targets))
    total, count = torch.zeros((), dtype=torch.float64), sum(counts)
    for image, target in enumerate(targets):
        x, box, alike = (a[image] for a in theirs)
        wanted = maps[image][target["class_labels"]]
        share = wanted / wanted.sum(-1, keepdim=True)
        distance = (box[:, None] - target["boxes"]).abs().sum(-1)
        overlap = hc.boxes.giou(box[:, None], target["boxes"], format="cxcywh")
        cost = 5 * distance - x.softmax(-1) @ share.T - 2 * overlap
        i, j = map(torch.as_tensor, linear_sum_assignment(cost.detach().numpy()))
        assert found.assignment.col4row[image][j].tolist() == i.tolist()
        similar, weight = torch.zeros_like(x), torch.full((len(x),), 0.1, dtype=torch.float64)
        similar[:, -1] = 1
        similar[i], weight[i] = share[j], 1.0
        total = total - (weight * (x.log_softmax(-1) * similar).sum(-1)).sum() / count
        total = total + (5 * distance[i, j] + 2 * (1 - overlap[i, j])).sum() / count
        named, scaled = torch.zeros_like(x, dtype=torch.bool), alike / 0.07
        named[i] = wanted[j] > 0
        for axis in (1, 0):
            positive = (scaled * named).sum(axis) / named.sum(axis).clamp(min=1)
            each = (scaled.logsumexp(axis) - positive).masked_fill(~named.any(axis), 0)
            total = total + each.sum() / 2 / count
    torch.testing.assert_close(found.total, total, rtol=1e-10, atol=0)
    for value in (found.total, total):
        (UPSTREAM * value).backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-8, atol=1e-12)
