"""Matchings in which a row may have several columns: `assign_many` and its result."""

from __future__ import annotations

from typing import NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import index_dtype, solving_dtype
from hungarian_core._extents import broadcastable
from hungarian_core._inputs import checked_masks, unmatched_cost_of
from hungarian_core._registry import backend_of, get_backend, without_gradient
from hungarian_core._tracing import skip_autograph
from hungarian_core.assignment import Nan, Solver, assign


class ManyAssignment(NamedTuple):
    """An optimal matching in which each row has K places for columns, with duals that prove it.

    A tuple of arrays of the framework that computed it, hence a pytree.

    Attributes:
        cols4row: `(..., n, K)` index, the columns of each row in ascending order, behind them -1
            for each place that is free or that the row does not have.
        row4col: `(..., m)` index, the row of each column, -1 = unmatched: what `SetLoss` and
            `DetrLoss` take as ``assignment=``, as they take the whole.
        cost: `(...)`, the total: costs of matched pairs plus, where `unmatched_cost` is given, its
            price for each place left free. NaN where there is no matching.
        u: `(..., n, K)`, the duals of the places; all places of a row that are matched have one.
        v: `(..., m)`, the column duals; ``u + v <= cost`` on every valid pair (>= with
            ``maximize=True``), with equality on matched pairs.

    Examples:
        >>> match = hc.assign_many(np.array([[1.0, 2.0, 9.0], [3.0, 1.0, 4.0]]), capacity=2)
        >>> match.cols4row
        array([[ 0, -1],
               [ 1,  2]])
        >>> match.row4col
        array([0, 1, 1])
        >>> match.mask()
        array([[ True, False, False],
               [False,  True,  True]])
        >>> float(match.gap())
        0.0
    """

    cols4row: Array
    row4col: Array
    cost: Array
    u: Array
    v: Array

    def mask(self) -> Array:
        """Return the matching as a boolean array `(..., n, m)`."""
        xp = backend_of(self.row4col).namespace(self.row4col)
        ones = xp.ones_like(xp.sum(self.cols4row, axis=-1), dtype=self.row4col.dtype)
        rows = xp.cumulative_sum(ones, axis=-1) - 1
        return self.row4col[..., None, :] == rows[..., :, None]

    def gap(self) -> Array:
        """Return the duality gap `(...)`, which certifies the optimum as that of `Assignment`."""
        xp = backend_of(self.cost).namespace(self.cost)
        return self.cost - (xp.sum(self.u, axis=(-2, -1)) + xp.sum(self.v, axis=-1))


@skip_autograph
def assign_many(
    cost: Array,
    capacity: int | Array,
    *,
    max_capacity: int | None = None,
    row_mask: Array | None = None,
    col_mask: Array | None = None,
    maximize: bool = False,
    unmatched_cost: Array | float | None = None,
    partial: bool = False,
    nan: Nan = "raise",
    solver: Solver = "auto",
    backend: str | Backend | None = None,
) -> ManyAssignment:
    """Match each row to as many columns as it has places, at least total cost, exactly.

    A column has one row at most. Each problem matches as many pairs as there are valid columns, or
    places of valid rows if these are fewer: a b-matching, solved as `assign` solves, with a row for
    each place. With `unmatched_cost` a place may stay free at a price, so that a row has *up to*
    `capacity` columns.

    Args:
        cost: `(..., n, m)`, real, as for `assign`.
        capacity: How many places a row has: an integer for all, or integers of a shape that
            broadcasts to `(..., n)`; 0 for none.
        max_capacity: K, the greatest capacity that there can be, where `capacity` is an array: the
            shape of the result. By default the greatest that came, which a program cannot read.
        row_mask: As for `assign`.
        col_mask: As for `assign`.
        maximize: As for `assign`.
        unmatched_cost: The price of each place that is left free, of a form as for `assign`: a
            scalar, one per sample `(...)`, or per row `(..., n)`.
        partial: As for `assign`: where forbidden pairs leave no complete matching, the most pairs
            that there can be, and of such matchings one of least total.
        nan: As for `assign`.
        solver: As for `assign`.
        backend: As for `assign`.

    Returns:
        A `ManyAssignment`. Where nothing can raise, a problem with invalid entries or without a
        finite matching gets matches of -1 and NaN cost and duals.

    Raises:
        TypeError: What came does not hold numbers.
        ValueError: As for `assign`; also that a capacity is negative or above `max_capacity`, where
            that can be read. Elsewhere it counts as the nearer end.

    Reference:
        Ahuja, Magnanti and Orlin, Network Flows, 1993, section 12.5; in detection Jia et al.,
        DETRs with Hybrid Matching, CVPR 2023, section 3, repeat the objects in this way.

    Examples:
        >>> cost = np.array([[1.0, 2.0, 3.0, 9.0], [2.0, 1.0, 1.0, 5.0]])
        >>> hc.assign_many(cost, capacity=2).cols4row
        array([[0, 1],
               [2, 3]])
        >>> hc.assign_many(cost, capacity=np.array([1, 3])).row4col
        array([0, 1, 1, 1])
        >>> hc.assign_many(cost, capacity=3, unmatched_cost=2.5).row4col
        array([ 0,  1,  1, -1])
        >>> gated = np.where(cost > 2.5, np.inf, cost)
        >>> hc.assign_many(gated, capacity=2, partial=True).cols4row
        array([[ 0, -1],
               [ 1,  2]])
    """
    if cost is None:
        _checks.array("cost", cost)
    backend = get_backend(
        backend, cost=cost, row_mask=row_mask, col_mask=col_mask, unmatched_cost=unmatched_cost
    )
    cost = backend.stop_gradient(backend.asarray(without_gradient(cost, backend)))
    xp, shape = backend.namespace(cost), backend.shape(cost)
    _checks.real("cost", cost, xp)
    _checks.cost_shape(shape)
    *batch, n, m = shape
    rows, cols = checked_masks(row_mask, col_mask, cost, backend, xp)
    places, each = _places(capacity, max_capacity, cost, rows, backend, xp)
    of_places = (*batch, n * each)

    def repeated(x: Array) -> Array:
        """Return `[..., n K]` of `[..., n]`."""
        return xp.reshape(xp.broadcast_to(x[..., None], (*batch, n, each)), of_places)

    if places is None and rows is not None:
        places = repeated(rows)
    elif places is not None:
        places = xp.reshape(places, of_places)
    price = None
    if unmatched_cost is not None:
        solved = xp.astype(cost, solving_dtype(cost.dtype, xp), copy=False)
        price = repeated(unmatched_cost_of(unmatched_cost, shape, solved, rows, backend, xp))
    if each != 1:
        cost = xp.broadcast_to(cost[..., :, None, :], (*batch, n, each, m))
        cost = xp.reshape(cost, (*of_places, m))
    found = assign(
        cost, row_mask=places, col_mask=cols, maximize=maximize, unmatched_cost=price,
        partial=partial, nan=nan, solver=solver, backend=backend,
    )  # fmt: skip
    row4col = xp.where(found.row4col < 0, -1, found.row4col // each)
    cols4row = xp.reshape(found.col4row, (*batch, n, each))
    u = xp.reshape(found.u, (*batch, n, each))
    if each != 1:
        # The places of a row are alike: whatever solves, its columns are in order.
        order = xp.argsort(xp.where(cols4row < 0, m, cols4row), axis=-1)
        cols4row, u = (xp.take_along_axis(x, order, axis=-1) for x in (cols4row, u))
    return ManyAssignment(cols4row, row4col, found.cost, u, found.v)


def _places(
    capacity: int | Array,
    max_capacity: int | None,
    cost: Array,
    rows: Array | None,
    backend: Backend,
    xp: Namespace,
) -> tuple[Array | None, int]:
    """Return which places there are, `[..., n, K]` bool or None for all valid rows', and K."""
    *batch, n, _ = backend.shape(cost)
    if _checks.is_whole(capacity):
        each = _checks.whole("capacity", capacity, 0, "how many columns a row may have")
        if each > 0:
            return None, each
        # No row has a place: one, which is not valid, so that no axis is empty.
        there = xp.astype(xp.zeros_like(xp.sum(cost, axis=-1)), xp.bool)
        return there[..., None], 1
    given = backend.stop_gradient(backend.asarray(capacity, like=cost))
    came = backend.shape(given)
    fits = len(came) < len(backend.shape(cost)) and broadcastable(came, (*batch, n))
    if not xp.isdtype(given.dtype, "integral") or not fits:
        raise ValueError(
            f"capacity has dtype {given.dtype} and shape {came}; expected an integer, or integers "
            f"of a shape that broadcasts to {(*batch, n)}, one per row"
        )
    given = xp.astype(xp.broadcast_to(given, (*batch, n)), index_dtype(xp), copy=False)
    if rows is not None:
        given = xp.where(rows, given, 0)
    each = _greatest(given, max_capacity, backend, xp)
    line = backend.asarray(list(range(each)), like=cost)
    line = xp.astype(line, index_dtype(xp))[(*(None,) * given.ndim, ...)]
    return line < given[..., None], each


def _greatest(capacity: Array, given: int | None, backend: Backend, xp: Namespace) -> int:
    """Return K, at least 1, after a check of all capacities where they can be read."""
    expected = "the greatest capacity there can be"
    if backend.is_traced(capacity):
        if given is None:
            raise ValueError(
                "max_capacity is None, and capacity is an array in a program, of which the "
                "greatest cannot be read; pass the greatest that there can be"
            )
        return max(_checks.whole("max_capacity", given, 0, expected), 1)
    least, most = 0, 0
    if all(backend.shape(capacity)):
        least, most = int(xp.min(capacity)), int(xp.max(capacity))
    limit = most if given is None else _checks.whole("max_capacity", given, 0, expected)
    if least < 0 or most > limit:
        wanted = "0 or more" if given is None else f"0 to max_capacity, {limit}"
        raise ValueError(
            f"capacity holds {least if least < 0 else most}; expected {wanted} for each row"
        )
    return max(limit, 1)
