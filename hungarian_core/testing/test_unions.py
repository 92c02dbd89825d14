"""Losses of several layers of which some share one matching, the union of all."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.losses.criteria import UnionLoss, union_of_layers
from hungarian_core.terms import Boxes, Classes, EdgeDistributions
from hungarian_core.testing import checks, reference
from hungarian_core.testing.driver import Driver
from hungarian_core.testing.test_edges import (
    BINS,
    IMAGES,
    LAYERS,
    MASK,
    OBJECTS,
    QUERIES,
    STEP,
    UPSTREAM,
)


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


def test_the_union_in_a_program(driver: Driver) -> None:
    """The gradient is that of the parts, by one program of one more and one less."""
    if not driver.differentiable:
        pytest.skip("there is no gradient")
    checks.skip_lengthy(driver)
    rng = np.random.default_rng(1)
    boxes = rng.uniform(0.2, 0.6, (LAYERS, IMAGES, QUERIES, 4)).astype(np.float32)
    logits = rng.normal(size=(LAYERS, IMAGES, QUERIES, 2)).astype(np.float32)
    fields = {
        "boxes": driver.from_numpy(rng.uniform(0.2, 0.6, (IMAGES, 2, 4)).astype(np.float32)),
        "labels": driver.from_numpy(np.array([[0, 1], [1, 1]])),
    }
    classes = Classes(2, loss="varifocal")
    criterion = UnionLoss([classes], [Boxes()], backend=driver.backend)
    own = hc.SetLoss([classes, Boxes()], backend="numpy")
    truth = {name: driver.to_numpy(x) for name, x in fields.items()}
    rows = own.match({"boxes": boxes, "logits": logits}, truth).row4col
    union = votes(rows)

    def program(boxes: Any, logits: Any) -> Any:
        return criterion({"boxes": boxes, "logits": logits}, fields).total

    inputs = [driver.from_numpy(x) for x in (boxes, logits)]
    above = driver.from_numpy(np.asarray(UPSTREAM, np.float32))
    _, (found, _) = driver.value_and_grad(program, inputs, above)
    # Of the L1 distance and the GIoU of the pairs of the union.
    pairs, expected = (union >= 0).sum(), np.zeros(boxes.shape)
    for layer, b, q in np.ndindex(boxes.shape[:-1]):
        if union[b, q] < 0:
            continue
        y = truth["boxes"][b, union[b, q]].astype(float)
        for k in range(4):
            x = boxes[layer, b, q].astype(complex)
            x[k] += STEP * 1j
            apart = ((x - y) * np.sign((x - y).real)).sum()
            loss = 5 * apart - 2 * reference.overlap("giou", x, y, "cxcywh")
            expected[layer, b, q, k] = UPSTREAM * np.imag(loss) / STEP / pairs
    np.testing.assert_allclose(driver.to_numpy(found), expected, rtol=0, atol=2e-5)


def test_a_union_needs_layers() -> None:
    with pytest.raises(ValueError, match=r"expected \(L, B, Q\)"):
        union_of_layers(np.zeros((2, 3), int))
