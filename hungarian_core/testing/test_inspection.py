"""Explanations and the stability meter take the arrays of every framework, and read them right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks, reference
from hungarian_core.testing.driver import Driver

SHAPE = (2, 3, 4, 6)  # layers, samples, rows, columns
ROWS = np.broadcast_to(
    np.array([[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]], bool), SHAPE[:-1]
).copy()
COLS = np.broadcast_to(
    np.array([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 1], [1, 1, 1, 1, 1, 1]], bool),
    (*SHAPE[:2], SHAPE[3]),
).copy()


def _terms(dtype: str = "float32") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    terms = {"class": -rng.uniform(size=SHAPE), "bbox": 5 * rng.uniform(size=SHAPE)}
    if dtype == "bfloat16":  # exact there, so that all frameworks see the same costs
        return {name: np.round(term * 16) / 16 for name, term in terms.items()}
    return {name: term.astype(np.float32) for name, term in terms.items()}


def _assign(driver: Driver, terms: dict[str, np.ndarray]) -> tuple[Any, Any, dict[str, Any]]:
    """Return the assignment, the terms and the masks in the driver's arrays."""
    masks = {"row_mask": driver.from_numpy(ROWS), "col_mask": driver.from_numpy(COLS)}
    cost = driver.from_numpy(terms["class"] + terms["bbox"], "float32")
    assignment = hc.assign(cost, **masks, backend=driver.backend)
    return assignment, cost, {**masks, "backend": driver.backend}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_explanation(driver: Driver, dtype: str) -> None:
    checks.need(driver, dtype)
    terms = _terms(dtype)
    assignment, _, options = _assign(driver, terms)
    given = {name: driver.from_numpy(term, dtype) for name, term in terms.items()}
    found = hc.explain(assignment, given, **options)
    col4row = driver.to_numpy(assignment.col4row)
    np.testing.assert_array_equal(found.col4row, col4row)
    np.testing.assert_array_equal(found.row4col, driver.to_numpy(assignment.row4col))
    np.testing.assert_allclose(found.gap, 0, atol=1e-5)
    cost = terms["class"].astype(np.float64) + terms["bbox"]
    for at in np.ndindex(SHAPE[:-1]):
        b, row, col = at[:2], at[2], col4row[at]
        if col < 0:
            assert np.isnan([found.cost[at], found.margin[at], found.terms["bbox"][at]]).all()
            continue
        assert found.cost[at] == pytest.approx(cost[at][col], rel=1e-6)
        assert found.terms["bbox"][at] == pytest.approx(terms["bbox"][at][col], rel=1e-6)
        without = cost[b].copy()
        without[row, col] = np.inf
        best, other = (reference.solve(x, ROWS[b], COLS[b], None) for x in (cost[b], without))
        assert found.margin[at] == pytest.approx(other.total - best.total, abs=1e-5)
    assert len(found.records()) == ROWS.sum()
    assert "layer 1, sample 2: no rows to match" in str(found)


def test_explanation_of_costs_with_a_price(driver: Driver) -> None:
    _, cost, options = _assign(driver, _terms())
    price = driver.from_numpy(np.array([[0.5, 1.0, 2.0], [0.1, 0.2, 0.3]]), "float32")
    options["unmatched_cost"] = price
    assignment = hc.assign(cost, **options)
    found = hc.explain(assignment, cost, **options)
    np.testing.assert_allclose(
        np.nansum(found.cost, axis=-1), driver.to_numpy(assignment.cost), rtol=1e-5, atol=1e-6
    )
    assert found.unmatched_rows.any()
    assert (found.margin[found.col4row >= 0] >= 0).all()


def test_a_sample_without_a_matching(driver: Driver) -> None:
    terms = _terms()
    terms["bbox"][0, 0, 1, 2] = np.nan
    cost = driver.from_numpy(terms["class"] + terms["bbox"])
    x = hc.solve(hc.Problem(cost), backend=driver.resolve(cost))
    found = hc.explain(hc.Assignment(*x[:5]), cost, backend=driver.backend)
    assert found.failed.sum() == 1
    assert found.failed[0, 0]
    assert not found[1].failed.any()
    assert "no matching" in str(found[0, 0])


def test_stability(driver: Driver) -> None:
    terms = _terms()
    first, _, options = _assign(driver, terms)
    rows, backend = options["row_mask"], driver.backend
    terms["bbox"] = np.flip(terms["bbox"], axis=-1).copy()
    second, _, _ = _assign(driver, terms)
    before, after = (driver.to_numpy(x.col4row) for x in (first, second))
    moved, matched = before != after, (before >= 0) | (after >= 0)
    assert moved.any()

    meter = hc.StabilityMeter()
    ids = driver.from_numpy(np.array([3, 1, 2]))
    named = {"ids": ids} if backend is None else {"ids": [3, 1, 2]}
    assert np.isnan(meter.update(first, row_mask=rows, backend=backend, **named))
    share = meter.update(second, row_mask=rows, backend=backend, **named)
    assert share == pytest.approx(moved.sum() / matched.sum())
    used = np.unique([before[before >= 0].tolist() + after[after >= 0].tolist()])
    assert meter.never_matched.tolist() == np.setdiff1d(np.arange(6), used).tolist()
    layers = meter.update_layers(second.col4row, backend=backend)
    valid = (after[0] >= 0) | (after[1] >= 0)
    assert layers == [pytest.approx((after[0] != after[1]).sum() / valid.sum())]
