"""OKS beside that of pycocotools, which rates poses by it."""

from __future__ import annotations

import numpy as np
import pytest

import hungarian_core as hc

cocoeval = pytest.importorskip("pycocotools.cocoeval", exc_type=ImportError)


def _rated(truths: np.ndarray, areas: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return COCO's OKS `(Q, M)` of one image."""
    evaluation = cocoeval.COCOeval(iouType="keypoints")
    objects = [
        {"keypoints": x.reshape(-1).tolist(), "area": float(area), "bbox": [0, 0, 9, 9]}
        for x, area in zip(truths, areas, strict=True)
    ]
    found = [
        {"keypoints": np.c_[x, np.ones(17)].reshape(-1).tolist(), "score": -float(k)}
        for k, x in enumerate(queries)
    ]
    evaluation._gts[1, 1], evaluation._dts[1, 1] = objects, found
    return np.asarray(evaluation.computeOks(1, 1))


def test_the_cost_is_cocos() -> None:
    """Of every person with every query, some keypoints not labelled."""
    rng = np.random.default_rng(0)
    truths = np.concatenate([rng.uniform(0, 400, (5, 17, 2)), np.zeros((5, 17, 1))], axis=-1)
    truths[..., 2] = rng.integers(0, 3, (5, 17))
    truths[:, 0, 2] = 2
    areas = rng.uniform(2e3, 9e4, 5)
    noise = rng.normal(0, 1, (8, 17, 2)) * np.array([1, 3, 9, 20, 40, 2, 5, 100])[:, None, None]
    queries = truths[[0, 1, 2, 3, 4, 0, 1, 2], :, :2] + noise
    term = hc.terms.Poses(oks_weight=1.0, keypoint_weight=0.0)
    costs = hc.SetLoss([term]).costs(
        {"keypoints": queries[None]}, [{"keypoints": truths, "area": areas}]
    )
    rated = _rated(truths, areas, queries)
    assert rated.max() > 0.9
    np.testing.assert_allclose(costs["oks"][0], 1 - rated.T, rtol=0, atol=1e-14)
