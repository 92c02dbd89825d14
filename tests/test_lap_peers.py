"""`lapjv` and partial matchings beside lapx and motmetrics, and every matching tried."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
import hungarian_numpy as hn
from hungarian_core.testing import reference

lap: Any = pytest.importorskip("lap", reason="it is the peer")
KINDS = ("uniform", "whole", "float32", "negative", "gated")


def _cost(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    if kind == "whole":  # ties, with each other and with the limit
        return rng.integers(0, 5, shape)
    cost = rng.uniform(size=shape)
    if kind == "float32":
        return cost.astype(np.float32)
    if kind == "negative":
        return cost - 0.5
    return np.where(rng.uniform(size=shape) < 0.5, np.inf, cost) if kind == "gated" else cost


def _is_matching(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Check that both say the same; return the rows that are matched."""
    assert x.dtype == y.dtype == np.int32
    rows = np.flatnonzero(x >= 0)
    np.testing.assert_array_equal(y[x[rows]], rows)
    assert (y >= 0).sum() == len(rows)
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_limit(kind: str) -> None:
    """600 problems of a kind: equal where one matching is best, else as good as any."""
    rng = np.random.default_rng(len(kind))
    for _ in range(600):
        n, m = rng.integers(0, 6, 2)
        cost = _cost(kind, rng, (n, m))
        limit = float(rng.integers(0, 5)) if kind == "whole" else rng.uniform(-0.2, 1)
        limit = limit if rng.uniform() < 0.9 or not cost.size else float(cost.flat[0])
        if limit == np.inf:
            continue
        total, x, y = hn.lapjv(cost, extend_cost=True, cost_limit=limit)
        theirs, x_theirs, y_theirs = lap.lapjv(cost, extend_cost=True, cost_limit=limit)
        assert type(total) is type(theirs) is float
        rows, rows_theirs = _is_matching(x, y), _is_matching(x_theirs, y_theirs)
        wide = cost.astype(np.float64)
        assert total == pytest.approx(wide[rows, x[rows]].sum(), abs=1e-12)
        gain = (wide[rows, x[rows]] - limit).sum()
        best = (wide[rows_theirs, x_theirs[rows_theirs]] - limit).sum()
        assert gain == pytest.approx(best, abs=1e-12)
        every = reference.enumerated(wide, np.ones(n, bool), np.ones(m, bool), np.full(n, limit))
        assert gain == pytest.approx(every.total - n * limit, abs=1e-12)
        if kind in ("uniform", "negative") and limit not in cost:
            assert total == pytest.approx(theirs, abs=1e-12)
            np.testing.assert_array_equal(x, x_theirs)
            np.testing.assert_array_equal(y, y_theirs)


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_without_a_limit(kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    for _ in range(400):
        n, m = rng.integers(0, 7, 2)
        cost = _cost(kind, rng, (n, m))
        options = {"extend_cost": bool(n != m or rng.integers(2))}
        total, x, y = hn.lapjv(cost, **options)
        theirs, x_theirs, y_theirs = lap.lapjv(cost, **options)
        assert total == pytest.approx(theirs, abs=1e-12)
        assert len(_is_matching(x, y)) == min(n, m)
        if kind != "whole" and cost.size:
            np.testing.assert_array_equal(x, x_theirs)
            np.testing.assert_array_equal(y, y_theirs)
        for one, other in zip(hn.lapjv(cost, **options, return_cost=False), (x, y), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_limit_near_a_cost_of_less_precision() -> None:
    """0.8 in float32 is more than 0.8: compared as lapx does, in float64."""
    cost = np.array([[0.8]], np.float32)
    assert lap.lapjv(cost, cost_limit=0.8)[1].tolist() == [-1]
    assert hn.lapjv(cost, cost_limit=0.8)[1].tolist() == [-1]
    assert hn.lapjv(np.array([[0.8]]), cost_limit=0.8)[1].tolist() == [0]


def test_what_must_not_be_is_not() -> None:
    """Where lapx matches a forbidden pair at a total of infinity, both stay unmatched."""
    cost = np.array([[np.inf, 1.0], [np.inf, 2.0]])
    assert lap.lapjv(cost)[0] == np.inf
    total, x, y = hn.lapjv(cost)
    assert (total, x.tolist(), y.tolist()) == (1.0, [1, -1], [-1, 0])


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("options", [{}, {"cost_limit": 0.5}, {"extend_cost": True}], ids=str)
def test_nothing_to_match(shape: tuple[int, int], options: dict[str, Any]) -> None:
    for one, other in zip(
        hn.lapjv(np.zeros(shape), **options), lap.lapjv(np.zeros(shape), **options), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_what_is_refused() -> None:
    wrong = (
        (np.zeros((2, 3)), {}, "shape \\(2, 3\\); expected a square matrix: pass extend_cost"),
        (np.zeros(3), {}, "shape \\(3,\\); expected a matrix"),
        (np.zeros((2, 2)), {"cost_limit": -np.inf}, "cost_limit is -inf"),
        (np.zeros((2, 2)), {"cost_limit": np.nan}, "cost_limit is nan"),
    )
    for cost, options, message in wrong:
        with pytest.raises(ValueError, match=message):
            hn.lapjv(cost, **options)
        with pytest.raises(ValueError, match=r"expected|must be"):
            lap.lapjv(cost, **options)
    for limit in (0.5, np.inf):
        with pytest.raises(ValueError, match="extend_cost is 'yes'; expected True or False"):
            hn.lapjv(np.zeros((2, 2)), extend_cost="yes", cost_limit=limit)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="invalid numeric entries"):
        hn.lapjv(np.array([[np.nan]]))
    with pytest.raises(TypeError, match="cost"):
        hn.lapjv(None)


def test_motmetrics() -> None:
    """Its own solvers of gated problems, where NaN and +inf are no pairs, find as good ones."""
    mm = pytest.importorskip("motmetrics", reason="it is the peer")
    rng = np.random.default_rng(3)

    def solver(cost: np.ndarray) -> Any:
        return hc.assign(cost, partial=True, nan="forbid").indices()

    for _ in range(1500):
        n, m = rng.integers(1, 7, 2)
        cost = rng.uniform(size=(n, m))
        cost[rng.uniform(size=(n, m)) < rng.uniform()] = rng.choice([np.nan, np.inf])
        rows, cols = mm.lap.linear_sum_assignment(cost, solver)
        i, j = mm.lap.linear_sum_assignment(cost, "scipy")
        np.testing.assert_array_equal(rows, i)
        np.testing.assert_array_equal(cols, j)
        pairs, total = reference.partial(np.nan_to_num(cost, nan=np.inf, posinf=np.inf))
        assert len(rows) == pairs
        assert cost[rows, cols].sum() == pytest.approx(total, abs=1e-12)


def test_motmetrics_over_a_sequence() -> None:
    """The metrics of an accumulator, with either solver."""
    mm = pytest.importorskip("motmetrics", reason="it is the peer")
    rng = np.random.default_rng(4)
    frames = [
        (np.sort(rng.permutation(6)[:4]), np.sort(rng.permutation(6)[:5]), rng.uniform(size=(4, 5)))
        for _ in range(30)
    ]
    found = []
    for solver in ("scipy", lambda c: hc.assign(c, partial=True, nan="forbid").indices()):
        with mm.lap.set_default_solver(solver):
            accumulator = mm.MOTAccumulator(auto_id=True)
            for objects, hypotheses, distance in frames:
                gated = np.where(distance > 0.6, np.nan, distance)
                accumulator.update(objects, hypotheses, gated)
            names = ["mota", "motp", "idf1", "num_switches"]
            found.append(mm.metrics.create().compute(accumulator, metrics=names).to_numpy())
    np.testing.assert_array_equal(*found)
