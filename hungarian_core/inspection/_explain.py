"""Take a matching apart: its pairs, what each costs, and what could have been matched instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend
from hungarian_core.assignment import Assignment, Nan
from hungarian_core.inspection import _inputs
from hungarian_core.inspection._alternatives import alternatives
from hungarian_core.inspection._explanation import Explanation
from hungarian_core.inspection._host import assignment_to_host, mask_to_host, to_host

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Shape = tuple[int, ...]


def explain(
    assignment: Assignment,
    terms: Array | Mapping[str, Array],
    *,
    row_mask: Array | None = None,
    col_mask: Array | None = None,
    maximize: bool = False,
    unmatched_cost: Array | float | None = None,
    nan: Nan = "raise",
    row_names: Iterable[Any] | None = None,
    col_names: Iterable[Any] | None = None,
    backend: str | Backend | None = None,
) -> Explanation:
    """Explain a matching: every pair with what it costs, its runner-up and its margin.

    If a pair were forbidden and everything matched anew at least total cost, its row would get
    another column, the runner-up, and the total would rise by the margin. Both are exact up
    to the rounding of the duals. The runner-up need not be the row's second cheapest column,
    which may be worth more to another row. A margin near 0 is a close decision, which a small
    change of the predictions can turn around.

    Values are read on the host. It takes O(n * m) memory for each term of a sample and O(k**3)
    time for its k pairs.

    Args:
        assignment: The matching, of any framework and any batch axes, on any device.
        terms: The costs `(..., n, m)` that it was made from, or a mapping from names to the
            weighted terms `(..., n, m)` whose sum they are.
        row_mask: `(..., n)` bool, True = valid, as `assign` had it; leading axes, such as that of
            layers, may be missing or 1.
        col_mask: `(..., m)` bool, likewise.
        maximize: As `assign` had it. The margin is then by how much the total would fall.
        unmatched_cost: As `assign` had it. A row may then have no runner-up but this price.
        nan: As `assign` had it.
        row_names: What to call the rows in the tables: n names for all samples, or one list of
            at most n names for each entry of the last batch axis.
        col_names: What to call the columns, likewise.
        backend: A backend's name or instance, by default those of the arrays.

    Raises:
        TypeError: What came is no assignment, or does not hold numbers.
        ValueError: Shapes do not fit, an array is being traced, or terms, masks and options are
            not those that the assignment was made with.

    Reference:
        Murty, An algorithm for ranking all the assignments in order of increasing cost,
        Operations Research 16(3), 1968, which forbids pairs in turn. Chegireddy and Hamacher,
        Algorithms for finding K-best perfect matchings, Discrete Applied Mathematics 18, 1987,
        for shortest cycles in place of solving anew.

    Examples:
        >>> cost = np.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]])
        >>> found = hc.explain(hc.assign(cost), cost)
        >>> found.margin
        array([1., 1., 1.])
        >>> print(found)
        3 pairs, cost 5, duality gap 0
        row  column  cost  runner-up  its cost  margin
          0       1     1          0         4       1
          1       0     2          1         0       1
          2       2     2          0         3       1
    """
    _checks.one_of("nan", nan, _checks.NAN_POLICIES)
    col4row, row4col, total, u, v = assignment_to_host(assignment, backend)
    batch, n, m = col4row.shape[:-1], col4row.shape[-1], row4col.shape[-1]
    weighted, cost = costs_on_host("terms", terms, (*batch, n, m), backend)
    price = _prices(unmatched_cost, (*batch, n, m), backend)
    found = Explanation(
        col4row=col4row.astype(np.int64),
        row4col=row4col.astype(np.int64),
        cost=np.full((*batch, n), np.nan),
        terms={name: np.full((*batch, n), np.nan) for name in weighted},
        runner_up=np.full((*batch, n), -1),
        runner_up_cost=np.full((*batch, n), np.nan),
        margin=np.full((*batch, n), np.nan),
        total=total,
        gap=np.asarray(total - u.sum(axis=-1) - v.sum(axis=-1)),
        failed=np.asarray(np.isnan(total)),
        rows=mask_to_host("row_mask", row_mask, (*batch, n), backend),
        cols=mask_to_host("col_mask", col_mask, (*batch, m), backend),
        index=np.moveaxis(np.indices(batch), 0, -1),
        row_names=names_of("row_names", row_names, batch, n),
        col_names=names_of("col_names", col_names, batch, m),
    )
    for at in np.ndindex(*batch):
        if not found.failed[at]:
            each = {name: term[at] for name, term in weighted.items()}
            prices = None if price is None else price[at]
            _fill(found, at, each, cost[at], prices, (u[at], v[at]), nan, -1.0 if maximize else 1.0)
    return found


def _fill(
    found: Explanation,
    at: Shape,
    terms: dict[str, Floats],
    cost: Floats,
    price: Floats | None,
    duals: tuple[Floats, Floats],
    nan: str,
    sign: float,
) -> None:
    """Fill in one sample; `sign` turns costs into what was minimised."""
    rows, cols, col4row = found.rows[at], found.cols[at], found.col4row[at]
    valid = rows[:, None] & cols
    i = np.flatnonzero(col4row >= 0)
    j = col4row[i]
    _inputs.pairs(at, len(i), bool(valid[i, j].all()), (rows.sum(), cols.sum()), price is not None)

    repaired = _repaired(sign * cost, valid, nan)
    lost = np.isnan(repaired) | (repaired == -np.inf)
    _inputs.sound(at, bool((lost & valid).any()), nan)
    cost = sign * repaired
    found.cost[at][i] = cost[i, j]
    if price is not None:
        found.cost[at][found.unmatched_rows[at]] = price[found.unmatched_rows[at]]
    for name, term in terms.items():
        found.terms[name][at][i] = term[i, j]
    parts = np.nansum([np.abs(term[i, j]) for term in terms.values()] or np.abs(cost[i, j]))
    paid = float(np.nansum(found.cost[at]))
    _inputs.total(at, paid, float(found.total[at]), float(parts) + abs(paid - cost[i, j].sum()))

    u, v = sign * duals[0], sign * duals[1]
    surplus = rows.sum() - cols.sum()
    way_out = np.full(len(rows), 0.0 if surplus > 0 else np.inf) if price is None else sign * price
    release = -v if price is not None or surplus < 0 else np.full(len(cols), np.inf)
    slack = np.where(valid, np.maximum(sign * cost - u[:, None] - v, 0), np.inf)
    other, margin = alternatives(
        slack, col4row, rows, cols, np.maximum(way_out - u, 0), np.maximum(release, 0)
    )
    found.runner_up[at][:], found.margin[at][:] = other, margin
    k = np.flatnonzero(other >= 0)
    found.runner_up_cost[at][k] = cost[k, other[k]]
    if price is not None:
        out = np.isfinite(margin) & (other < 0)
        found.runner_up_cost[at][out] = price[out]


def costs_on_host(
    option: str,
    terms: Array | Mapping[str, Array],
    shape: Shape,
    backend: str | Backend | None,
) -> tuple[dict[str, Floats], Floats]:
    """Return the weighted terms by name, none if they came as one array, and their sum."""
    if not isinstance(terms, Mapping):
        return {}, _cost(option, terms, shape, backend)
    if not terms:
        raise ValueError(f"{option} is empty; pass the costs, or the terms whose sum they are")
    weighted = {
        str(name): _cost(f"{option}[{name!r}]", x, shape, backend) for name, x in terms.items()
    }
    return weighted, np.add.reduce(list(weighted.values()))


def _cost(name: str, x: Array, shape: Shape, backend: str | Backend | None) -> Floats:
    found = to_host(name, x, backend).astype(np.float64)
    _inputs.explained(name, found.shape, shape)
    return found


def _prices(
    price: Array | float | None, shape: Shape, backend: str | Backend | None
) -> Floats | None:
    """Return the price of each row, `(..., n)`."""
    if price is None:
        return None
    found = to_host("unmatched_cost", price, backend).astype(np.float64)
    _checks.unmatched_cost_shape(found.shape, shape)
    if found.ndim == len(shape) - 2:
        found = found[..., None]
    return np.broadcast_to(found, shape[:-1])


def _repaired(cost: Floats, valid: Bools, nan: str) -> Floats:
    """Return `cost[n, m]`, of which the least is best, after the policy for NaN and -inf."""
    if nan == "forbid":
        return np.where(np.isnan(cost), np.inf, cost)
    if nan == "worst":
        finite = cost[valid & np.isfinite(cost)]
        worst, best = (finite.max(), finite.min()) if finite.size else (0.0, 0.0)
        return np.where(np.isnan(cost), worst, np.where(cost == -np.inf, best, cost))
    return cost


def names_of(
    option: str, names: Iterable[Any] | None, batch: Shape, extent: int
) -> NDArray[np.str_] | None:
    """Return names as `(..., extent)`, empty where a sample has fewer."""
    if names is None:
        return None
    entries = _inputs.entries(option, names, "names")
    nested = bool(batch) and any(isinstance(x, (list, tuple)) for x in entries)
    each = entries if nested else [entries]
    _inputs.names(option, [len(x) for x in each], nested, batch[-1:] if nested else (), extent)
    table = np.array([[*map(str, x), *[""] * (extent - len(x))] for x in each])
    return (
        np.broadcast_to(table.reshape(len(each), extent), (*batch, extent)) if batch else table[0]
    )
