"""What the pages in docs/coming-from say is equal, for codebases that are not installed here.

Each reference is what the codebase computes, written for these tests: an image, a layer and a pair
at a time, by SciPy.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc

torch: Any = pytest.importorskip("torch", reason="their codebases are for PyTorch")
ht: Any = pytest.importorskip("hungarian_torch", reason="for PyTorch")
F = torch.nn.functional
CLASSES, QUERIES = 7, 24


def _scene(
    layers: int, counts: list[int], seed: int, dtype: Any = None
) -> tuple[Any, Any, list[dict[str, Any]]]:
    """Return logits and boxes of layers, and the objects of each image."""
    generator = torch.Generator().manual_seed(seed)
    kind = {"generator": generator, "dtype": dtype or torch.float64}
    logits = torch.randn(layers, len(counts), QUERIES, CLASSES, **kind).requires_grad_()
    boxes = (torch.rand(layers, len(counts), QUERIES, 4, **kind) / 2 + 0.2).requires_grad_()
    targets = [
        {
            "labels": torch.randint(CLASSES, (n,), generator=generator),
            "boxes": torch.rand(n, 4, **kind) / 2 + 0.2,
        }
        for n in counts
    ]
    return logits, boxes, targets


def _corners(boxes: Any) -> Any:
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


def _overlaps(a: Any, b: Any) -> tuple[Any, Any]:
    """Return IoU and GIoU of boxes that broadcast."""
    a, b = _corners(a), _corners(b)
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(0)
    outer = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    of_a, of_b = (torch.prod(x[..., 2:] - x[..., :2], -1) for x in (a, b))
    both, hull = torch.prod(inner, -1), torch.prod(outer, -1)
    union = of_a + of_b - both
    return both / union, both / union - (hull - union) / hull


def _focal_cost(logits: Any, boxes: Any, target: dict[str, Any]) -> np.ndarray:
    """Return the costs of the queries of an image, `(Q, M)`, as Deformable DETR and after it."""
    p = logits.detach().sigmoid()[:, target["labels"]]
    focal = 0.25 * (1 - p) ** 2 * -(p + 1e-8).log() - 0.75 * p**2 * -(1 - p + 1e-8).log()
    a, b = boxes.detach()[:, None], target["boxes"][None]
    found: np.ndarray = (2 * focal + 5 * (a - b).abs().sum(-1) - 2 * _overlaps(a, b)[1]).numpy()
    return found


def _ultralytics(logits: Any, boxes: Any, targets: list[dict[str, Any]]) -> Any:
    """The loss of RT-DETR's layers: the weight of the varifocal loss has a gradient."""
    total, count = 0.0, sum(len(t["labels"]) for t in targets)
    for layer in range(len(logits)):
        for b, target in enumerate(targets):
            i, j = map(
                torch.as_tensor,
                linear_sum_assignment(_focal_cost(logits[layer, b], boxes[layer, b], target)),
            )
            own, true = boxes[layer, b][i], target["boxes"][j]
            iou, giou = _overlaps(own, true)
            label, score = torch.zeros_like(logits[layer, b]), torch.zeros_like(logits[layer, b])
            label[i, target["labels"][j]] = 1
            score[i, target["labels"][j]] = iou.detach()
            weight = 0.25 * logits[layer, b].sigmoid() ** 1.5 * (1 - label) + score * label
            entropy = F.binary_cross_entropy_with_logits(logits[layer, b], score, reduction="none")
            total = total + (entropy * weight).sum() / count
            total = total + 5 * (own - true).abs().sum() / count + 2 * (1 - giou).sum() / count
    return total


@pytest.mark.parametrize("counts", [[4, 0, 2], [30, 1, 3]], ids=["few", "more than queries"])
def test_ultralytics(counts: list[int]) -> None:
    """Value and gradients with an upstream gradient."""
    logits, boxes, targets = _scene(3, counts, seed=1)
    criterion = ht.DetrLoss.preset(
        "rt_detr", CLASSES, class_loss="varifocal_differentiated", alpha=0.25, gamma=1.5,
        cost_gamma=2.0,
    )  # fmt: skip
    ours, theirs = criterion(logits, boxes, targets).total, _ultralytics(logits, boxes, targets)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=0)
    found, expected = (torch.autograd.grad(1.7 * x, (logits, boxes)) for x in (ours, theirs))
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-7, atol=1e-9)


def test_rfdetr() -> None:
    """Each group of queries is matched by itself; indices are those of all queries, ascending."""
    logits, boxes, targets = _scene(1, [4, 0, 2], seed=2)
    criterion = ht.DetrLoss.preset("rf_detr", CLASSES, groups=3)
    rows = criterion.match(logits[0], boxes[0], targets).row4col.flatten(1)
    matcher = ht.HungarianMatcher(2, 5, 2, class_cost_form="sigmoid")
    found = matcher({"pred_logits": logits[0], "pred_boxes": boxes[0]}, targets, group_detr=3)
    size = QUERIES // 3
    for b, target in enumerate(targets):
        expected = []
        for group in range(3):
            part = slice(group * size, (group + 1) * size)
            i, j = linear_sum_assignment(_focal_cost(logits[0, b, part], boxes[0, b, part], target))
            expected += zip((i + group * size).tolist(), j.tolist(), strict=True)
        i = (rows[b] >= 0).nonzero()[:, 0]
        assert list(zip(i.tolist(), rows[b][i].tolist(), strict=True)) == expected
        assert list(zip(*(x.tolist() for x in found[b]), strict=True)) == expected


def test_detr_indices() -> None:
    """Queries ascending, int64, on the CPU; also with more objects than queries."""
    logits, boxes, targets = _scene(1, [3, 0, 30], seed=3)
    logits = torch.cat([logits, torch.zeros_like(logits[..., :1])], -1)[0]
    rows = ht.DetrLoss(CLASSES).match(logits, boxes[0], targets).row4col.cpu()
    indices = [((row >= 0).nonzero()[:, 0], row[row >= 0]) for row in rows]
    for (queries, objects), p, own, target in zip(
        indices, logits.softmax(-1).detach(), boxes[0].detach(), targets, strict=True
    ):
        a, b = own[:, None], target["boxes"][None]
        cost = -p[:, target["labels"]] + 5 * (a - b).abs().sum(-1) - 2 * _overlaps(a, b)[1]
        i, j = map(torch.as_tensor, linear_sum_assignment(cost.numpy()))
        assert torch.equal(queries, i)
        assert torch.equal(objects, j)


def test_mmdet() -> None:
    """`gt_inds` of an AssignResult: 0 for the background, k for the object k - 1."""
    logits, boxes, targets = _scene(1, [3, 0, 30], seed=4)
    found = (
        ht.DetrLoss.preset("deformable", CLASSES).match(logits[0], boxes[0], targets).row4col + 1
    )
    for b, target in enumerate(targets):
        expected = np.zeros(QUERIES, int)
        i, j = linear_sum_assignment(_focal_cost(logits[0, b], boxes[0, b], target))
        expected[i] = j + 1
        assert found[b].tolist() == expected.tolist()


def test_supervision() -> None:
    """Costs above the threshold become a little more than it, and such pairs are dropped."""
    rng = np.random.default_rng(5)
    for _ in range(300):
        cost, limit = rng.uniform(size=rng.integers(1, 9, 2)), rng.uniform(0.1, 0.9)
        i, j = linear_sum_assignment(np.where(cost > limit, limit + 1e-4, cost))
        near = cost[i, j] <= limit
        gated = np.where(cost > limit, np.inf, cost)
        rows, cols = hc.assign(gated, unmatched_cost=limit + 1e-4).indices()
        np.testing.assert_array_equal(rows, i[near])
        np.testing.assert_array_equal(cols, j[near])


@pytest.mark.parametrize("sources", [2, 4])
def test_speechbrain_and_pyannote(sources: int) -> None:
    """Sources last, mean squared differences, every permutation tried."""
    rng = torch.Generator().manual_seed(sources)
    predictions = torch.rand(3, 40, sources, generator=rng)
    targets = torch.rand(3, 40, sources, generator=rng)
    orders = list(itertools.permutations(range(sources)))
    every = torch.stack([((predictions[..., p] - targets) ** 2).mean((1, 2)) for p in orders])
    least, best = every.min(0)
    loss, match = ht.pit_loss(
        predictions.mT, targets.mT, metric="mse", reduction="sample", return_assignment=True
    )
    torch.testing.assert_close(loss, least)
    assert match.col4row.tolist() == [list(orders[k]) for k in best]


@pytest.mark.parametrize("sources", [2, 3])
def test_asteroid(sources: int) -> None:
    """SI-SDR of signals without their means, the mean over the sources and the batch."""
    rng = torch.Generator().manual_seed(sources)
    references = torch.randn(4, sources, 400, generator=rng, dtype=torch.float64)
    noise = torch.randn(4, sources, 400, generator=rng, dtype=torch.float64)
    estimates = 2 * references.flip(1) + noise + 0.3
    x, y = (z - z.mean(-1, keepdim=True) for z in (estimates, references))
    x, y = x[:, None], y[:, :, None]  # (B, references, estimates)
    scaled = (x * y).sum(-1, keepdim=True) * y / (y**2).sum(-1, keepdim=True)
    loss = -10 * torch.log10((scaled**2).sum(-1) / ((x - scaled) ** 2).sum(-1))
    order = list(itertools.permutations(range(sources)))
    every = torch.stack([loss[:, torch.arange(sources), p].mean(-1) for p in map(list, order)])
    ours = ht.pit_loss(estimates, references, zero_mean=True)
    torch.testing.assert_close(ours, every.amin(0).mean(), rtol=1e-9, atol=0)


def test_trackeval() -> None:
    """Scores are maximised; matches without any are dropped."""
    rng = np.random.default_rng(6)
    for _ in range(100):
        score = rng.uniform(size=rng.integers(1, 9, 2)) * (rng.uniform() < 0.9)
        i, j = linear_sum_assignment(-score)
        rows, cols = hc.linear_sum_assignment(score, maximize=True)
        assert score[rows, cols].sum() == pytest.approx(score[i, j].sum())
        if score.any():
            np.testing.assert_array_equal(cols, j)


def test_slot_attention() -> None:
    """The Huber loss of matched properties, summed, over the mean of objects; value and slope."""
    noise = torch.Generator().manual_seed(7)
    properties = torch.rand(4, 6, 9, generator=noise, dtype=torch.float64)
    slots = 2 * torch.rand(4, 7, 9, generator=noise, dtype=torch.float64).requires_grad_()

    def huber(xp: Any, a: Any, b: Any) -> Any:
        distance = xp.abs(a - b)
        return xp.sum(xp.where(distance < 1, distance**2 / 2, distance - 0.5), axis=-1)

    apart = F.huber_loss(
        slots[:, None].expand(-1, 6, -1, -1), properties[:, :, None].expand(-1, -1, 7, -1),
        reduction="none",
    ).sum(-1)  # fmt: skip
    theirs = sum(
        cost[linear_sum_assignment(cost.detach().numpy())].mean() for cost in apart
    ) / len(apart)  # fmt: skip
    ours = ht.loss(properties, slots, cost=huber)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    found, expected = (torch.autograd.grad(1.7 * x, slots)[0] for x in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("classes", [2, 6])
def test_clustering_accuracy(classes: int) -> None:
    """Every way to name the clusters tried."""
    rng = np.random.default_rng(classes)
    truth, cluster = rng.integers(classes, size=(2, 40))
    table = np.zeros((classes, classes), int)
    np.add.at(table, (cluster, truth), 1)
    rows, cols = hc.linear_sum_assignment(table, maximize=True)
    names = map(np.array, itertools.permutations(range(classes)))
    assert table[rows, cols].sum() == max((x[cluster] == truth).sum() for x in names)
