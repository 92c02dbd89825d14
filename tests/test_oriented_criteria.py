"""The criteria of boxes with an angle beside their published text, written out in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

solve: Any = pytest.importorskip("scipy.optimize", exc_type=ImportError).linear_sum_assignment
CLASSES, QUERIES = 4, 9
Floats = np.ndarray


def _focal(logits: Floats) -> tuple[Floats, Floats]:
    """Return the focal losses of a logit that is to say yes and of one that is to say no."""
    p = 1 / (1 + np.exp(-logits))
    return -0.25 * (1 - p) ** 2 * np.log(p), -0.75 * p**2 * np.log(1 - p)


def _published(
    logits: Floats,
    labels: list[Floats],
    cost: Callable[[int], Floats],
    loss: Callable[[int, Floats, Floats], dict[str, float]],
) -> tuple[dict[str, float], list[list[int]]]:
    """Return the weighted losses of images and the query of each object.

    Args:
        logits: `(B, Q, C)`.
        labels: Of each image.
        cost: What matching costs less the classes, `(M, Q)`, of an image.
        loss: The losses of an image whose objects have these queries.
    """
    count = sum(map(len, labels))
    losses: dict[str, float] = {"class": 0.0}
    matches = []
    for b, of_image in enumerate(labels):
        yes, no = _focal(logits[b])
        rows, columns = solve(2 * (yes - no)[:, of_image].T + cost(b))
        matches.append(columns.tolist())
        wanted = np.zeros((QUERIES, CLASSES), bool)
        wanted[columns, of_image[rows]] = True
        losses["class"] += 2 * np.where(wanted, yes, no).sum() / count
        for name, x in loss(b, rows, columns).items():
            losses[name] = losses.get(name, 0.0) + x / count
    return losses, matches


def _compare(criterion: Any, outputs: Any, targets: Any, expected: Any) -> None:
    found, (losses, matches) = criterion(outputs, targets), expected
    have = found.assignment.col4row.tolist()
    for row, match in zip(have, matches, strict=True):
        assert row[: len(match)] == match
    assert {*found.losses} == {*losses}
    for name, x in losses.items():
        assert float(found.losses[name]) == pytest.approx(x, rel=1e-9), name


def _covariances(boxes: Floats) -> Floats:
    cos, sin = np.cos(boxes[..., 4]), np.sin(boxes[..., 4])
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    half = boxes[..., 2:4, None] / 2 * np.eye(2)
    return turn @ half**2 @ np.swapaxes(turn, -1, -2)


def _kld(predicted: Floats, true: Floats) -> Floats:
    """Return the loss ``kld``, with the function log1p and tau 1."""
    of_predicted, of_true = _covariances(predicted), _covariances(true)
    inverse, apart = np.linalg.inv(of_predicted), predicted[..., :2] - true[..., :2]
    distance = 0.5 * np.einsum("...i,...ij,...j->...", apart, inverse, apart)
    distance = distance + 0.5 * np.trace(inverse @ of_true, axis1=-2, axis2=-1)
    determinants = np.linalg.det(of_predicted), np.linalg.det(of_true)
    distance = distance + 0.5 * np.log(determinants[0] / determinants[1]) - 1
    return 1 - 1 / (1 + np.log(1 + distance))


def test_rotated_deformable_detr() -> None:
    rng = np.random.default_rng(0)
    spans: Any = [0.2, 0.2, 0.1, 0.05, 0.0], [0.8, 0.8, 0.6, 0.4, np.pi]
    logits, boxes = rng.normal(size=(2, QUERIES, CLASSES)), rng.uniform(*spans, (2, QUERIES, 5))
    labels = [np.array([1, 3, 3]), np.array([0])]
    truth = [rng.uniform(*spans, (len(x), 5)) for x in labels]
    scale = np.array([1, 1, 1, 1, np.pi])

    def cost(b: int) -> Floats:
        predicted, true = boxes[b][None, :], truth[b][:, None]
        return 5 * np.abs((predicted - true) / scale).sum(-1) + 2 * _kld(predicted, true)

    def loss(b: int, rows: Floats, columns: Floats) -> dict[str, float]:
        predicted, true = boxes[b][columns], truth[b][rows]
        apart = 5 * np.abs((predicted - true) / scale)
        sums = {"bbox": apart[:, :4].sum(), "angle": apart[:, 4].sum()}
        return sums | {"kld": 2 * _kld(predicted, true).sum()}

    targets = [{"labels": x, "boxes": y} for x, y in zip(labels, truth, strict=True)]
    expected = _published(logits, labels, cost, loss)
    outputs = {"logits": logits, "boxes": boxes}
    _compare(hc.criteria.obb(CLASSES), outputs, targets, expected)


def test_detr3d() -> None:
    rng = np.random.default_rng(1)
    logits, codes = rng.normal(size=(2, QUERIES, CLASSES)), rng.normal(size=(2, QUERIES, 10))
    labels = [np.array([1, 3, 3]), np.array([0])]
    truth = [rng.uniform(0.5, 3, (len(x), 9)) for x in labels]

    def coded(boxes: Floats) -> Floats:
        x, y, z, w, l, h, yaw, vx, vy = np.moveaxis(boxes, -1, 0)  # noqa: E741  (the field's word)
        sides = np.log(w), np.log(l), np.log(h)
        numbers = [x, y, sides[0], sides[1], z, sides[2], np.sin(yaw), np.cos(yaw), vx, vy]
        return np.stack(numbers, axis=-1)

    def cost(b: int) -> Floats:
        apart = codes[b][None, :, :8] - coded(truth[b])[:, None, :8]
        return 0.25 * np.abs(apart).sum(-1)

    def loss(b: int, rows: Floats, columns: Floats) -> dict[str, float]:
        apart = np.abs(codes[b][columns] - coded(truth[b][rows]))
        return {"bbox": 0.25 * (apart @ [1, 1, 1, 1, 1, 1, 1, 1, 0.2, 0.2]).sum()}

    targets = [{"labels": x, "boxes": y} for x, y in zip(labels, truth, strict=True)]
    expected = _published(logits, labels, cost, loss)
    _compare(hc.criteria.detr3d(CLASSES), {"logits": logits, "boxes": codes}, targets, expected)
