"""The criterion of MapTR beside PyTorch's losses, of which the published one is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc

torch = pytest.importorskip("torch", exc_type=ImportError)

POINTS, OBJECTS, QUERIES = 20, 6, 30


def _candidates(line: Any, closed: bool) -> Any:
    """Return all orders of a line, filled up with lines far away as published."""
    many = 2 * (POINTS - 1)
    if closed:
        ring = line[:-1]
        turned = [way.roll(k, 0) for way in (ring, ring.flip(0)) for k in range(POINTS - 1)]
        return torch.stack([torch.cat([x, x[:1]]) for x in turned])
    both = torch.stack([line, line.flip(0)])
    return torch.cat([both, torch.full((many - 2, *line.shape), -10000.0, dtype=line.dtype)])


def test_map_tr() -> None:
    """Matching, losses and gradients, with closed and open elements of 20 points."""
    rng = np.random.default_rng(0)
    truth, closed = rng.uniform(0, 1, (OBJECTS, POINTS, 2)), np.arange(OBJECTS) % 2 == 0
    truth[closed, -1] = truth[closed, 0]
    lines, closed = torch.tensor(truth), torch.tensor(closed)
    labels = torch.tensor(rng.integers(0, 3, OBJECTS))
    logits = torch.tensor(rng.normal(size=(QUERIES, 3)))
    points = torch.tensor(rng.uniform(0, 1, (QUERIES, POINTS, 2)), requires_grad=True)

    candidates = torch.stack([_candidates(*x) for x in zip(lines, closed, strict=True)])
    flat = points.detach().reshape(QUERIES, -1)
    apart = torch.cdist(flat, candidates.reshape(-1, POINTS * 2), p=1)
    least, order = apart.reshape(QUERIES, OBJECTS, -1).min(2)
    p = logits.sigmoid()
    right, wrong = -0.25 * (1 - p) ** 2 * p.log(), -0.75 * p**2 * (1 - p).log()
    cost = 2 * (right - wrong)[:, labels] + 5 * least
    query, row = linear_sum_assignment(cost.numpy())
    chosen = candidates[row, order[query, row]]
    metres = torch.tensor([30.0, 60.0], dtype=points.dtype)
    edges = [(x * metres).diff(dim=1).flatten(0, 1) for x in (points[query], chosen)]
    turns = torch.nn.CosineEmbeddingLoss(reduction="sum")(*edges, torch.ones(len(edges[0])))
    wanted = {
        "points": 5 * (points[query] - chosen).abs().sum() / OBJECTS,
        "direction": 0.005 * turns / OBJECTS,
    }
    (slope,) = torch.autograd.grad(1.7 * sum(wanted.values()), points)

    outputs = {"logits": logits[None], "points": points[None]}
    target = {"labels": labels, "points": lines, "closed": closed}
    found = hc.criteria.map_tr(3)(outputs, [target])
    assert found.assignment.col4row[0][row].tolist() == query.tolist()
    for name, x in wanted.items():
        assert found.losses[name].item() == pytest.approx(x.item(), rel=1e-12)
    (ours,) = torch.autograd.grad(
        1.7 * (found.losses["points"] + found.losses["direction"]), points
    )
    torch.testing.assert_close(ours, slope, rtol=0, atol=1e-12)
