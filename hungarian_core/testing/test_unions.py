"""Losses of several layers of which some share one matching, the union of all."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.losses.criteria import UnionLoss, union_of_layers
from hungarian_core.terms import Boxes, Classes, EdgeDistributions
from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver
from hungarian_core.testing.test_edges import BINS, IMAGES, LAYERS, MASK, OBJECTS


def votes(rows: np.ndarray) -> np.ndarray:
    """Return the objects that most layers `(L, B, Q)` say, of equal ones the first."""
    found = np.full(rows.shape[1:], -1)
    for b, q in np.ndindex(found.shape):
        said = Counter(int(x) for x in rows[:, b, q] if x >= 0)
        if said:
            found[b, q] = min(said, key=lambda m: (-said[m], m))
    return found


def test_the_union_of_layers(driver: Driver) -> None:
    """Of matchings at random, by counting."""
    rows = np.random.default_rng(0).integers(-1, 4, size=(5, 3, 40))
    found = driver.trace(lambda x: union_of_layers(x, backend=driver.backend))(
        driver.from_numpy(rows)
    )
    expected = votes(rows)
    assert (expected == -1).any()
    np.testing.assert_array_equal(driver.to_numpy(found), expected)


@pytest.mark.parametrize("groups", [1, 2])
def test_shared_terms_take_the_union(driver: Driver, groups: int) -> None:
    """Losses are those of two set losses, with the own matching and with that of most votes."""
    checks.skip_long(driver)
    rng = np.random.default_rng(1)
    shape = (LAYERS, IMAGES, 10)
    data = {
        "boxes": rng.uniform(0.2, 0.6, (*shape, 4)),
        "logits": rng.normal(size=(*shape, 2)),
        "edges": rng.normal(size=(*shape, 4, BINS + 1)),
        "references": rng.uniform(0.2, 0.6, (*shape[1:], 4)),
    }
    truth: dict[str, np.ndarray] = {
        "boxes": rng.uniform(0.2, 0.6, (IMAGES, OBJECTS, 4)).astype(np.float32),
        "labels": rng.integers(2, size=(IMAGES, OBJECTS)),
        "mask": MASK,
        "weights": rng.uniform(0.5, 2, (IMAGES, OBJECTS)).astype(np.float32),
    }
    outputs = {name: driver.from_numpy(x.astype(np.float32)) for name, x in data.items()}
    fields = {name: driver.from_numpy(x) for name, x in truth.items()}
    options: Any = {"backend": driver.backend, "groups": groups}
    classes, boxes = Classes(2, loss="varifocal"), Boxes()
    edges = EdgeDistributions(bins=BINS)
    criterion = UnionLoss([classes], [boxes, edges], **options)
    found = criterion(outputs, fields)
    own = hc.SetLoss([classes, boxes], **options)(outputs, fields)
    rows = driver.to_numpy(own.assignment.row4col)
    np.testing.assert_array_equal(driver.to_numpy(found.assignment.row4col), rows)
    np.testing.assert_array_equal(driver.to_numpy(criterion.match(outputs, fields).row4col), rows)
    union = votes(rows.reshape(shape))
    assert (union >= 0).sum() > groups * MASK.sum()
    given = driver.from_numpy(union)
    shared = hc.SetLoss([boxes, edges], **options)(outputs, fields, assignment=given)
    expected = {"class": own.losses["class"], **shared.losses}
    assert [*found.losses] == ["class", "bbox", "giou", "fgl", "ddf"]
    assert sorted(found.logs) == sorted(own.logs)
    total = 0.0
    for name, x in found.losses.items():
        wanted = driver.to_numpy(expected[name])
        np.testing.assert_allclose(driver.to_numpy(x), wanted, rtol=1e-5, err_msg=name)
        total += wanted.sum()
    np.testing.assert_allclose(driver.to_numpy(found.total), total, rtol=1e-5)


def test_a_union_needs_layers() -> None:
    with pytest.raises(ValueError, match=r"expected \(L, B, Q\)"):
        union_of_layers(np.zeros((2, 3), int))
