"""Masks of queries in groups: the criterion of RF-DETR with masks, each group for itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver

LAYERS, IMAGES, QUERIES, GROUPS, OBJECTS, CLASSES = 2, 2, 4, 2, 2, 3
MASK = np.array([[True, True], [True, False]])
UPSTREAM = 2.5


def _data() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(6)
    front = (LAYERS, IMAGES, GROUPS * QUERIES)
    outputs = {
        "logits": rng.normal(size=(*front, CLASSES)), "boxes": rng.uniform(0.2, 0.6, (*front, 4)),
        "masks": rng.normal(size=(*front, 3, 4)),
    }  # fmt: skip
    truth = {
        "boxes": rng.uniform(0.2, 0.6, (IMAGES, OBJECTS, 4)),
        "masks": rng.integers(0, 2, (IMAGES, OBJECTS, 6, 8)),
        "weights": rng.uniform(0.5, 2, (IMAGES, OBJECTS)),
    }
    found = [
        {name: x.astype(np.float32) for name, x in given.items()} for given in (outputs, truth)
    ]
    labels = {"labels": rng.integers(0, CLASSES, (IMAGES, OBJECTS)), "mask": MASK}
    return found[0], found[1] | labels


@pytest.mark.parametrize("where", ["points", "candidates", "resized", "last_layer", "given"])
def test_each_group_for_itself(driver: Driver, where: str) -> None:
    """Losses are the means of those of the groups, one call for each; slopes are the calls'."""
    if where == "points":
        checks.skip_lengthy(driver)
    else:
        checks.skip_programs(driver)
    data, truth = _data()
    rng = np.random.default_rng(7)
    masks = hc.MaskLoss(
        "bce", 5.0, 5.0, 5.0, 5.0, num_points=None, truth_sampling="nearest",
        resize="bilinear" if where in ("resized", "last_layer") else None,
    )  # fmt: skip
    shared: Any = {"class_loss": "ia_bce", "masks": masks}
    together: Any = hc.DetrLoss(CLASSES, groups=GROUPS, backend=driver.backend, **shared)
    alone: Any = hc.DetrLoss(CLASSES, **shared)
    if where == "last_layer":
        data["masks"] = data["masks"][-1]
    looked: dict[str, Any] = {}
    if where in ("points", "candidates", "given"):
        looked["points"] = rng.random((IMAGES, 9, 2)).astype(np.float32)
    if where == "candidates":
        # 4 points: 13 candidates.
        looked["candidates"] = rng.random((IMAGES, OBJECTS, 13, 2)).astype(np.float32)
    targets = hc.Targets(**{name: driver.from_numpy(x) for name, x in truth.items()})
    more = {name: driver.from_numpy(x) for name, x in looked.items()}

    def of(part: slice) -> tuple[np.ndarray, ...]:
        logits, boxes, masks = data.values()
        return logits[..., part, :], boxes[..., part, :], masks[..., part, :, :]

    def program(logits: Any, boxes: Any, masks: Any) -> Any:
        return together(logits, boxes, targets, masks=masks, **more)

    parts = [slice(k * QUERIES, (k + 1) * QUERIES) for k in range(GROUPS)]
    each = [alone(x, y, hc.Targets(**truth), masks=z, **looked) for x, y, z in map(of, parts)]
    rows = [x.assignment.row4col for x in each]
    if where == "given":
        more["assignment"] = driver.from_numpy(np.concatenate(rows, axis=-1))
    whole = [driver.from_numpy(x) for x in of(slice(None))]
    names = ("total", "class_", "bbox", "giou", "mask", "dice")
    found = driver.trace(lambda *x: tuple(program(*x)[:6]))(*whole)
    for name, x in zip(names, found, strict=True):
        mean = np.mean([getattr(y, name) for y in each], axis=0)
        np.testing.assert_allclose(driver.to_numpy(x), mean, rtol=1e-5, atol=1e-6, err_msg=name)
    if where != "given":
        matched = driver.to_numpy(program(*whole).assignment.row4col)
        np.testing.assert_array_equal(np.moveaxis(matched, 2, 0), rows)
    if not driver.differentiable or where != "points":
        return
    upstream = driver.from_numpy(np.asarray(UPSTREAM, np.float32))
    _, slopes = driver.value_and_grad(lambda *x: program(*x).total, whole, upstream)
    ours: Any = hc.DetrLoss(CLASSES, backend=driver.backend, **shared)
    last = [driver.from_numpy(x) for x in of(parts[-1])]
    _, own = driver.value_and_grad(
        lambda x, y, z: ours(x, y, targets, masks=z, **more).total, last, upstream
    )
    for k, (one, other) in enumerate(zip(slopes, own, strict=True)):
        x = driver.to_numpy(one)
        x = x[..., parts[-1], :, :] if k == 2 else x[..., parts[-1], :]
        np.testing.assert_allclose(x, driver.to_numpy(other) / GROUPS, rtol=1e-4, atol=1e-7)


def test_how_many_points_candidates_are_for() -> None:
    rng = np.random.default_rng(0)
    masks, truth = rng.normal(size=(1, 2, 6, 8)), rng.integers(0, 2, (1, 1, 6, 8)).astype(float)
    for number in (1, 2, 3, 7, 40):
        for ratio in (0.0, 0.3, 0.75, 1.0):
            candidates = rng.random((4 * number - int(ratio * number), 2))
            losses = [
                hc.SetLoss([hc.terms.Masks("bce", num_points=n, importance_ratio=ratio)])(
                    {"masks": masks, "candidates": candidates[None, None]}, {"masks": truth}
                ).total
                for n in (None, number)
            ]
            assert losses[0] == losses[1]
    with pytest.raises(ValueError, match="num_points is None, and there are 3 candidates"):
        hc.SetLoss([hc.terms.Masks(num_points=None)])(
            {"masks": masks, "candidates": candidates[None, None, :3]}, {"masks": truth}
        )
