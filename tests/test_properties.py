"""The solver against SciPy, on problems that hypothesis invents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hungarian_core as hc
from hungarian_core.testing import checks, reference
from hungarian_core.testing.cases import PUBLISHED, Case
from hungarian_core.testing.driver import Driver

NUMPY = Driver()
DTYPES = ("float16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool")
SOLVERS = ("core", "native", "scipy")
MAGNITUDES = (1e-30, 1e-10, 1.0, 1e10, 1e30)


@st.composite
def costs(draw: st.DrawFn, batch: int, n: int, m: int, dtype: str) -> np.ndarray:
    """Return costs with ties, infinities, or magnitudes from 1e-30 to 1e30 within one matrix."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (batch, n, m)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.startswith(("int", "uint")):
        low = 0 if dtype == "uint8" else -20
        return rng.integers(low, draw(st.sampled_from((2, 5, 100))), shape).astype(dtype)
    kind = draw(st.sampled_from(("uniform", "ties", "near_ties", "mixed")))
    if kind == "uniform":
        values = rng.uniform(-1, 1, shape)
    elif kind == "ties":
        values = rng.integers(-1, 3, shape).astype(float)
    elif kind == "near_ties":
        values = 1 + rng.integers(0, 4, shape) * np.finfo(dtype).eps
    else:
        exponents = rng.uniform(-30, 30, shape) if dtype != "float16" else rng.uniform(-4, 4, shape)
        values = rng.choice([-1.0, 1.0], shape) * 10**exponents
    if kind in ("uniform", "ties") and dtype != "float16":
        values = values * draw(st.sampled_from(MAGNITUDES))
    share = draw(st.sampled_from((0.0, 0.0, 0.2, 0.6)))
    return np.where(rng.uniform(size=shape) < share, np.inf, values).astype(dtype)


@st.composite
def problems(draw: st.DrawFn) -> Case:
    """Return a batch of problems, with its samples that have no answer."""
    batch, n, m = draw(st.integers(0, 3)), draw(st.integers(0, 7)), draw(st.integers(0, 7))
    dtype = draw(st.sampled_from(DTYPES))
    cost = draw(costs(batch, n, m, dtype))
    maximize = draw(st.booleans())
    if maximize and cost.dtype.kind == "f":
        cost = -cost  # +inf forbids; turned, so does -inf
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = rng.uniform(size=(batch, n)) < 0.7 if draw(st.booleans()) else None
    cols = rng.uniform(size=(batch, m)) < 0.7 if draw(st.booleans()) else None
    price: Any = None
    if draw(st.booleans()):
        finite = np.abs(cost[np.isfinite(cost)].astype(float))
        scale = np.median(finite) if finite.size else 1.0
        shape = draw(st.sampled_from(((), (batch,), (batch, n))))
        # Exact in float32, in which the checks hand it over.
        price = np.asarray(rng.uniform(-1, 1, shape) * scale, np.float32)
        price = price if shape else float(price)
    bad = np.array(
        [np.isnan(_optimum(cost[b], rows, cols, price, maximize, b).total) for b in range(batch)],
        bool,
    )
    return Case(
        "hypothesis", cost, dtype, rows, cols, price, maximize, bad=bad if bad.any() else None
    )


def _optimum(
    cost: np.ndarray, rows: Any, cols: Any, price: Any, maximize: bool, b: int
) -> reference.Optimum:
    n, m = cost.shape
    sign = -1.0 if maximize else 1.0
    if price is not None:
        price = np.asarray(price, float)
        price = sign * np.broadcast_to(price if price.ndim == 0 else price[b], (n,))
    return reference.solve(
        sign * cost.astype(float),
        np.ones(n, bool) if rows is None else rows[b],
        np.ones(m, bool) if cols is None else cols[b],
        price,
    )


@pytest.mark.parametrize("solver", SOLVERS)
@settings(max_examples=400, deadline=None)
@given(case=problems())
def test_optimal_and_certified(solver: str, case: Case) -> None:
    checks.need_solver(NUMPY, solver)
    if case.bad is not None:
        with pytest.raises(ValueError, match="cost matrix is infeasible"):
            checks.run(NUMPY, case, solver)
        return
    cost, found = checks.run(NUMPY, case, solver)
    checks.check(NUMPY, case, cost, found)


@settings(max_examples=100, deadline=None)
@given(case=problems())
def test_solvers_agree_on_the_total(case: Case) -> None:
    if case.bad is None:
        _, core = checks.run(NUMPY, case, "core")
        cost, scipy = checks.run(NUMPY, case, "scipy")
        finite = np.abs(cost[np.isfinite(cost)].astype(float))
        price = 0 if case.unmatched_cost is None else np.abs(case.unmatched_cost).max(initial=0)
        scale = max(finite.max(initial=0), price) * np.finfo(core.cost.dtype).eps
        np.testing.assert_allclose(core.cost, scipy.cost, rtol=0, atol=64 * scale)


def _family(kind: str, n: int, m: int, rng: np.random.Generator) -> np.ndarray:
    """Return costs of a kind that solvers find easy or hard."""
    if kind == "uniform":
        return rng.uniform(size=(n, m))
    if kind == "integers":
        return rng.integers(1, 101, (n, m)).astype(float)
    if kind == "near_ties":
        return 1 + rng.integers(0, 4, (n, m)) * np.finfo(np.float32).eps
    if kind == "low_rank":
        return rng.uniform(size=(n, 2)) @ rng.uniform(size=(2, m))
    if kind == "two_cost":
        return np.where(rng.uniform(size=(n, m)) < 0.1, 0.0, 1.0)
    if kind == "sparse":
        cost = np.where(rng.uniform(size=(n, m)) < 0.9, np.inf, rng.uniform(size=(n, m)))
        np.fill_diagonal(cost, rng.uniform(size=min(n, m)))
        return cost
    if kind == "machol_wien":
        return np.outer(np.arange(1, n + 1), np.arange(1, m + 1)).astype(float)
    assert kind == "geometric"
    return np.linalg.norm(rng.uniform(size=(n, 1, 2)) - rng.uniform(size=(m, 2)), axis=-1)


FAMILIES = (
    "uniform", "integers", "near_ties", "low_rank", "two_cost", "sparse", "machol_wien",
    "geometric",
)  # fmt: skip


@pytest.mark.parametrize("solver", SOLVERS)
@settings(max_examples=300, deadline=None)
@given(
    data=st.data(), n=st.integers(0, 5), m=st.integers(0, 5), dtype=st.sampled_from(DTYPES),
    share=st.sampled_from((0.3, 0.6, 0.8)), masked=st.booleans(), maximize=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_the_most_pairs_then_the_least_cost(
    solver: str, data: st.DataObject, n: int, m: int, dtype: str, share: float, masked: bool,
    maximize: bool, seed: int,
) -> None:  # fmt: skip
    """Against every matching in fractions: of the pairs exactly, of the cost but for rounding."""
    checks.need_solver(NUMPY, solver)
    rng = np.random.default_rng(seed)
    cost = data.draw(costs(3, n, m, dtype))
    if cost.dtype.kind == "f":
        cost = np.where(rng.uniform(size=cost.shape) < share, np.inf, cost).astype(dtype)
        cost = -cost if maximize else cost
    rows = rng.uniform(size=(3, n)) < (0.8 if masked else 2)
    cols = rng.uniform(size=(3, m)) < (0.8 if masked else 2)
    masks = {"row_mask": rows, "col_mask": cols} if masked else {}
    found = hc.assign(cost, **masks, maximize=maximize, partial=True, solver=solver)
    sign = -1.0 if maximize else 1.0
    for b in range(3):
        valid = rows[b][:, None] & cols[b]
        table = np.where(valid, sign * cost[b].astype(float), np.inf)
        pairs, total = reference.partial(table)
        i = np.flatnonzero(found.col4row[b] >= 0)
        assert len(i) == pairs
        scale = np.abs(table[np.isfinite(table)]).max(initial=0)
        near = 8 * n * np.finfo(found.cost.dtype).eps * scale
        if cost.dtype.kind != "f":
            near = 0.0  # whole numbers are not rounded
        assert table[i, found.col4row[b][i]].sum() == pytest.approx(total, rel=0, abs=near)
        assert sign * found.cost[b] == pytest.approx(total, rel=0, abs=near)
        assert found.gap()[b] == pytest.approx(0, abs=2 * near)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", FAMILIES)
@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 70), m=st.integers(1, 70), seed=st.integers(0, 2**32 - 1),
    magnitude=st.sampled_from(MAGNITUDES), maximize=st.booleans(),
)  # fmt: skip
def test_families_natively(
    kind: str, dtype: str, n: int, m: int, seed: int, magnitude: float, maximize: bool
) -> None:
    """Larger than the other problems, so that every phase of the native solver is at work."""
    checks.need_solver(NUMPY, "native")
    rng = np.random.default_rng(seed)
    cost = (np.stack([_family(kind, n, m, rng) for _ in range(3)]) * magnitude).astype(dtype)
    case = Case(kind, -cost if maximize else cost, dtype, maximize=maximize)
    given, found = checks.run(NUMPY, case, "native")
    checks.check(NUMPY, case, given, found)


@settings(max_examples=100, deadline=None)
@given(
    data=st.data(), n=st.integers(0, 3), m=st.integers(0, 4), priced=st.booleans(),
    dtype=st.sampled_from(("float64", "int8")),
)  # fmt: skip
def test_the_reference_itself(
    data: st.DataObject, n: int, m: int, priced: bool, dtype: str
) -> None:
    """Against every matching there is: neither solver could be wrong in the same way."""
    cost = data.draw(costs(1, n, m, dtype))[0].astype(float)
    rows = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    cols = np.array(data.draw(st.lists(st.booleans(), min_size=m, max_size=m)), bool)
    price = np.linspace(-1, 1, n) if priced else None
    found = reference.solve(cost, rows, cols, price)
    expected = reference.enumerated(cost, rows, cols, price)
    assert found.pairs == expected.pairs
    scale = np.abs(cost[np.isfinite(cost)]).max(initial=1)
    assert found.total == pytest.approx(expected.total, rel=0, abs=1e-14 * scale, nan_ok=True)


@pytest.mark.parametrize("kind", ["euclidean", "sqeuclidean", "l1", "cosine"])
def test_the_gradients_of_the_reference(kind: str) -> None:
    """Against finite differences."""
    rng = np.random.default_rng(0)
    a, b, step = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), 1e-6
    _, grad_a, grad_b = reference.pair_loss(kind, a, b)
    for k in range(3):
        move = step * np.eye(3)[k]
        ends = [reference.pair_loss(kind, a + sign * move, b)[0] for sign in (1, -1)]
        np.testing.assert_allclose(grad_a[:, k], (ends[0] - ends[1]) / (2 * step), atol=1e-8)
        ends = [reference.pair_loss(kind, a, b + sign * move)[0] for sign in (1, -1)]
        np.testing.assert_allclose(grad_b[:, k], (ends[0] - ends[1]) / (2 * step), atol=1e-8)


@pytest.mark.parametrize("solver", SOLVERS)
def test_where_the_published_package_fails(solver: str) -> None:
    """hungarian-loss 1.0.2 leaves one of the four objects here without a match."""
    found = hc.assign(PUBLISHED, solver=solver)
    assert sorted(found.col4row.tolist()) == [0, 1, 2, 3]
    assert float(found.cost) == 3.0  # 2 + 1 + 0 + 0
    assert float(found.gap()) == 0.0
