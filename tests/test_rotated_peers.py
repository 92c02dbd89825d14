"""Rotated boxes beside polygons of shapely, random points, and roots of matrices of SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

sqrtm: Any = pytest.importorskip("scipy.linalg", exc_type=ImportError).sqrtm
rotated = hc.boxes.rotated


def _boxes(seed: int, count: int, snap: bool) -> np.ndarray:
    """Return boxes, some of them on a grid, so that edges and corners coincide."""
    rng = np.random.default_rng(seed)
    centres, sides = rng.normal(size=(count, 2)), rng.uniform(0.1, 3, (count, 2))
    angles = rng.uniform(-7, 7, (count, 1))
    if snap:
        centres, sides = np.round(2 * centres) / 2, np.ceil(2 * sides) / 2
        angles = np.round(angles / (np.pi / 4)) * (np.pi / 4)
    return np.concatenate([centres, sides, angles], axis=1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("snap", [False, True], ids=["apart", "on a grid"])
def test_polygons(snap: bool, dtype: str) -> None:
    shapely: Any = pytest.importorskip("shapely", exc_type=ImportError)
    a, b = (_boxes(seed, 100, snap).astype(dtype) for seed in (0, 1))
    of_a, of_b = (shapely.polygons(rotated.corners(x.astype(np.float64))) for x in (a, b))
    common = shapely.area(shapely.intersection(of_a[:, None], of_b[None, :]))
    both = shapely.union(of_a[:, None], of_b[None, :])
    union, hull = shapely.area(both), shapely.area(shapely.convex_hull(both))
    iou = common / union
    atol = 1e-13 if dtype == "float64" else 2e-6
    found = rotated.iou(a, b, pairwise=True)
    np.testing.assert_allclose(found, iou, rtol=0, atol=atol)
    found = rotated.giou(a, b, pairwise=True)
    np.testing.assert_allclose(found, iou - (hull - union) / hull, rtol=0, atol=atol)


def test_random_points() -> None:
    """Which share of random points lies in both boxes of those that lie in one."""
    rng = np.random.default_rng(2)
    a, b = _boxes(3, 20, False), _boxes(4, 20, False)
    a[:, :2], b[:, :2] = a[:, :2] * 0.2, b[:, :2] * 0.2
    points = rng.uniform(-4, 4, (100_000, 2))

    def inside(box: np.ndarray) -> np.ndarray:
        x, y = (points - box[:2]).T
        cos, sin = np.cos(box[4]), np.sin(box[4])
        right, up = x * cos + y * sin, y * cos - x * sin
        return (np.abs(right) <= box[2] / 2) & (np.abs(up) <= box[3] / 2)

    for one, other in zip(a, b, strict=True):
        in_a, in_b = inside(one), inside(other)
        share = (in_a & in_b).sum() / (in_a | in_b).sum()
        error = 4 * np.sqrt(share * (1 - share) / (in_a | in_b).sum())
        assert abs(rotated.iou(one, other) - share) <= error + 1e-3


def _covariance(box: np.ndarray, share: float) -> np.ndarray:
    cos, sin = np.cos(box[4]), np.sin(box[4])
    turn = np.array([[cos, -sin], [sin, cos]])
    return turn @ np.diag(box[2:4] ** 2 * share) @ turn.T


def test_roots_of_matrices() -> None:
    for a, b in zip(_boxes(5, 20, False), _boxes(6, 20, False), strict=True):
        d, of_a, of_b = a[:2] - b[:2], _covariance(a, 1 / 4), _covariance(b, 1 / 4)
        root = sqrtm(of_a)
        squared = d @ d + np.trace(of_a + of_b - 2 * sqrtm(root @ of_b @ root)).real
        assert rotated.gwd(a, b) == pytest.approx(np.sqrt(squared), rel=1e-9)
        mean = (a[2] * a[3] * b[2] * b[3]) ** 0.25
        found = rotated.gwd(a, b, normalize=True)
        assert found == pytest.approx(np.sqrt(squared) / mean, rel=1e-9)


def test_gaussians_by_integration() -> None:
    """The divergence and the Hellinger distance, by sums over a grid."""
    axis = np.linspace(-12, 12, 601)
    x, y = np.meshgrid(axis, axis, indexing="ij")
    points, cell = np.stack([x, y], axis=-1), (axis[1] - axis[0]) ** 2
    a, b = np.array([0.3, 0.1, 3.0, 2.0, 0.4]), np.array([-0.2, 0.4, 2.5, 3.5, 1.3])

    def log_density(box: np.ndarray, share: float) -> Any:
        apart, covariance = points - box[:2], _covariance(box, share)
        squares = np.einsum("xyi,ij,xyj->xy", apart, np.linalg.inv(covariance), apart)
        return -squares / 2 - np.log(2 * np.pi * np.sqrt(np.linalg.det(covariance)))

    p, q = log_density(a, 1 / 4), log_density(b, 1 / 4)
    assert rotated.kld(a, b) == pytest.approx((np.exp(p) * (p - q)).sum() * cell, rel=1e-6)
    p, q = log_density(a, 1 / 12), log_density(b, 1 / 12)
    coefficient = np.exp((p + q) / 2).sum() * cell
    assert rotated.probiou(a, b) == pytest.approx(1 - np.sqrt(1 - coefficient), rel=1e-6)
