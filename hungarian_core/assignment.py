"""The assignment problem: `assign`, its result, and SciPy's `linear_sum_assignment`."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Problem
from hungarian_core._conversion import counted, index_pairs
from hungarian_core._dtypes import index_dtype, solving_dtype
from hungarian_core._inputs import checked_masks, unmatched_cost_of, valid_pairs, warn_if_rounded
from hungarian_core._registry import backend_of, get_backend, without_gradient
from hungarian_core._solvers.dispatch import solve
from hungarian_core._solvers.partial import solve_partial
from hungarian_core._solvers.policies import among_valid, is_invalid
from hungarian_core._tracing import skip_autograph

Nan = Literal["raise", "worst", "forbid"]
# Or the name of an installed entry point of the group hungarian_core.solvers.
Solver = Literal["auto", "native", "scipy", "core", "cuda"] | str


class Assignment(NamedTuple):
    """An optimal matching of rows to columns, with the duals that prove it.

    A tuple of arrays of the framework that computed it, hence a pytree.

    Attributes:
        col4row: `(..., n)` index, the column matched to each row, -1 = unmatched.
        row4col: `(..., m)` index, the row matched to each column, -1 = unmatched.
        cost: `(...)`, the total: costs of matched pairs plus, where `unmatched_cost` is
            given, the price of each valid row left unmatched. NaN where there is no matching.
        u: `(..., n)`, the row duals.
        v: `(..., m)`, the column duals; ``u + v <= cost`` on every valid pair
            (>= with ``maximize=True``), with equality on matched pairs. Rows and columns that
            stay unmatched have the dual 0; a row that left at its price, that price.

    Examples:
        >>> match = hc.assign(np.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0]]))
        >>> match.col4row
        array([1, 0])
        >>> match.row4col
        array([ 1,  0, -1])
        >>> match.mask()
        array([[False,  True, False],
               [ True, False, False]])
        >>> rows, cols = match.indices()
        >>> rows, cols
        (array([0, 1]), array([1, 0]))
        >>> match.padded_indices()
        (array([0, 1]), array([1, 0]))
        >>> len(match.pairs())  # of a batch, one for each problem
        1
        >>> float(match.gap())
        0.0
    """

    col4row: Array
    row4col: Array
    cost: Array
    u: Array
    v: Array

    def mask(self) -> Array:
        """Return the matching as a boolean array `(..., n, m)`."""
        xp = backend_of(self.col4row).namespace(self.col4row)
        columns = xp.cumulative_sum(xp.ones_like(self.row4col), axis=-1) - 1
        return self.col4row[..., :, None] == columns[..., None, :]

    def indices(self) -> tuple[Array, Array]:
        """Return ``(row_ind, col_ind)`` of one problem as SciPy does: rows sorted.

        Raises:
            ValueError: This is a batch; its problems may have different numbers of pairs.
        """
        backend = backend_of(self.col4row)
        xp = backend.namespace(self.col4row)
        shape = backend.shape(self.col4row)
        if len(shape) != 1:
            raise ValueError(
                f"indices() is for one problem, and this is a batch of shape {shape[:-1]}; "
                "use col4row, or mask()"
            )
        (row_ind,) = xp.nonzero(self.col4row >= 0)
        return row_ind, xp.take(self.col4row, row_ind, axis=0)

    def pairs(self) -> list[tuple[Array, Array]]:
        """Return ``(row_ind, col_ind)`` of each problem, in a list.

        Batch axes of any number are one after the other in it, the last one fastest. Each pair of
        index arrays is as that of `indices`: rows ascending, as long as there are matches.

        Raises:
            ValueError: The matching is a symbol in a program; see `padded_indices`.
        """
        return index_pairs(self.col4row, backend_of(self.col4row))

    def padded_indices(self) -> tuple[Array, Array]:
        """Return ``(row_ind, col_ind)`` of any batch in arrays of one shape, in programs too.

        Returns:
            Two index arrays `(..., min(n, m))`: of each problem first the matches, rows ascending,
            then -1 in both.
        """
        backend = backend_of(self.col4row)
        xp = backend.namespace(self.col4row)
        n, m = (backend.shape(x)[-1] for x in (self.col4row, self.row4col))
        row = xp.cumulative_sum(xp.ones_like(self.col4row), axis=-1) - 1
        # Of unknown extents the slice ends where the rows do, if there are fewer of them.
        most = min(n, m) if isinstance(n, int) and isinstance(m, int) else m
        row_ind = xp.argsort(xp.where(self.col4row < 0, n + row, row), axis=-1)[..., :most]
        row_ind = xp.astype(row_ind, self.col4row.dtype, copy=False)
        col_ind = xp.take_along_axis(self.col4row, row_ind, axis=-1)
        return xp.where(col_ind < 0, -1, row_ind), col_ind

    def gap(self) -> Array:
        """Return the duality gap `(...)`, cost - sum(u) - sum(v).

        The duals are feasible, so a gap of 0 (a few ulps of the largest cost per
        row, in floating point) certifies the optimum. By weak duality no
        matching can cost less than the sum of the duals. NaN where there is no matching.
        """
        xp = backend_of(self.cost).namespace(self.cost)
        return self.cost - (xp.sum(self.u, axis=-1) + xp.sum(self.v, axis=-1))

    def _repr_html_(self) -> str | None:
        # For notebooks. Looking at a matching is rare: an import for training goes without it.
        from hungarian_core.inspection import _html

        return _html.of_assignment(self)


@skip_autograph
def assign(
    cost: Array,
    *,
    row_mask: Array | None = None,
    col_mask: Array | None = None,
    maximize: bool = False,
    unmatched_cost: Array | float | None = None,
    partial: bool = False,
    nan: Nan = "raise",
    solver: Solver = "auto",
    backend: str | Backend | None = None,
) -> Assignment:
    """Match rows to columns one to one at least total cost, exactly, for a whole batch.

    Each problem matches min(n, m) pairs, counting valid rows and columns only. The result is
    a constant for differentiation. Equal inputs give equal matchings whatever their place
    in the batch; a constant matrix gives the identity.

    Args:
        cost: `(..., n, m)`, real. Half precision is solved in float32, integers and
            booleans in the widest float there is. +inf forbids a pair.
        row_mask: `(..., n)` bool, True = valid. What invalid entries hold is never read.
        col_mask: `(..., m)` bool, True = valid.
        maximize: Match at the greatest total instead; -inf then forbids a pair.
        unmatched_cost: A row may stay unmatched at this price: a scalar, one value per
            sample `(...)` or per row `(..., n)`, in the unit and sense of `cost`. With it a
            matching always exists, except where the price is +inf.
        partial: Where forbidden pairs leave no complete matching, match as many pairs as there can
            be, and of such matchings take one of least total: exactly, with no price that stands
            for "as many". Rows and columns left over have -1. A complete matching, where there is
            one, is found as without it. Not together with `unmatched_cost`.
        nan: What NaN and -inf do. ``"raise"``: an error. ``"worst"``: NaN counts as the
            worst, -inf as the best finite cost of its matrix. ``"forbid"``: NaN
            forbids the pair, -inf is an error. `count_invalid` counts them.
        solver: ``"native"`` is the library's C++ solver, on the host, ``"scipy"`` SciPy's
            there, ``"core"`` the library's algorithm on the array's device. ``"auto"`` takes the
            native solver, except in programs for accelerators and where JAX computes on one; if it
            does not load, with a warning, SciPy's, if it is installed, else the core. ``"cuda"`` is
            a kernel on a CUDA device, for tensors of PyTorch and arrays of JAX there. Any other
            name is that of a solver on the host that somebody installed, an entry point of the
            group ``hungarian_core.solvers``. Solvers may differ among equally good matchings.
        backend: A backend's name or instance, to which other arrays are converted;
            by default the one of the arrays.

    Returns:
        An `Assignment`. Nothing can raise while tracing or on an accelerator; there a problem
        with invalid entries or without a finite matching gets matches of -1 and NaN
        cost and duals. With `partial` the duals prove that no matching of as many pairs costs less:
        `gap` is 0, and ``u + v <= cost`` on all pairs that such a matching may have.

    Raises:
        TypeError: What came does not hold numbers: text, objects, a dictionary, None.
        ValueError: Shapes or dtypes do not fit; for concrete arrays on the host also
            "matrix contains invalid numeric entries" and "cost matrix is infeasible", and that
            the dtype of `cost` does not hold a price.
        ImportError: The solver asked for by name is not installed or does not load.

    Warns:
        UserWarning: Integers are too large for the floats that they are solved in, 2**53 in
            float64 and 2**24 in float32: results may be off by their rounding. Said for concrete
            arrays on the host, of entries that are valid.

    Reference:
        Jonker and Volgenant, A shortest augmenting path algorithm for dense and sparse
        linear assignment problems, Computing 38, 1987. Crouse, On implementing 2D
        rectangular assignment algorithms, IEEE TAES 52(4), 2016.

    Examples:
        >>> cost = np.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]])
        >>> match = hc.assign(cost)
        >>> match.col4row
        array([1, 0, 2])
        >>> float(match.cost)
        5.0
        >>> batch = np.stack([cost, -cost])
        >>> hc.assign(batch, row_mask=np.array([[True, True, True], [True, False, True]])).col4row
        array([[ 1,  0,  2],
               [ 0, -1,  1]])
        >>> gated = np.array([[1.0, 2.0, 9.0], [3.0, np.inf, np.inf], [2.0, np.inf, np.inf]])
        >>> hc.assign(gated, partial=True).col4row
        array([ 1, -1,  0])
    """
    if cost is None:
        _checks.array("cost", cost)
    backend = get_backend(
        backend, cost=cost, row_mask=row_mask, col_mask=col_mask, unmatched_cost=unmatched_cost
    )
    cost = backend.asarray(without_gradient(cost, backend))
    shape = backend.shape(cost)
    found, _ = _assigned(
        cost, shape, row_mask, col_mask, maximize, unmatched_cost, partial, nan, solver, backend
    )
    return found


def _assigned(
    cost: Array,
    shape: tuple[Any, ...],
    row_mask: Array | None,
    col_mask: Array | None,
    maximize: bool,
    unmatched_cost: Array | float | None,
    partial: bool,
    nan: Nan,
    solver: Solver,
    backend: Backend,
) -> tuple[Assignment, bool]:
    """Match the rows and columns of an array of the backend; all else is still to be checked.

    Returns:
        The matching, and whether it is known that all problems are solved: then nothing is traced.
    """
    # A small problem is solved in the time of a dozen calls: what is as it mostly is, is not looked
    # at by a function.
    if type(nan) is not str or nan != "raise":
        _checks.one_of("nan", nan, _checks.NAN_POLICIES)
    if type(solver) is not str or solver != "auto":
        _checks.solver(solver)
    if type(maximize) is not bool:
        maximize = _checks.flag("maximize", maximize)
    if partial is not False:
        partial = _checks.partial(partial, unmatched_cost)
    if len(shape) < 2:
        _checks.cost_shape(shape)
    cost = backend.stop_gradient(cost)
    xp = backend.namespace(cost)
    dtype = cost.dtype
    if dtype != xp.float32 and dtype != xp.float64:
        _checks.real("cost", cost, xp)
        cost = xp.astype(cost, solving_dtype(dtype, xp))
    rows = cols = unmatched = None
    if row_mask is not None or col_mask is not None:
        rows, cols = checked_masks(row_mask, col_mask, cost, backend, xp)
    if unmatched_cost is not None:
        unmatched = unmatched_cost_of(unmatched_cost, shape, cost, rows, backend, xp)
    if dtype != cost.dtype and xp.isdtype(dtype, "integral"):
        warn_if_rounded("cost", dtype, cost, valid_pairs(rows, cols, cost, xp), backend, xp)
    problem = Problem(cost, rows, cols, unmatched, maximize, nan)
    solution = None if partial else backend.solve(problem, solver=solver)
    if partial:
        solution = solve_partial(problem, solver=solver, backend=backend)
    elif solution is None:
        solution = solve(problem, solver=solver, backend=backend, use_hook=False)
    col4row, row4col, total, u, v, status = solution  # a slice of the tuple stops old Dynamos
    if status is not None:
        _checks.raise_unless_solved(
            status, nan, backend, xp, unmatched_cost=unmatched, rows=rows, maximize=maximize
        )
    return Assignment(col4row, row4col, total, u, v), status is None


def linear_sum_assignment(
    cost_matrix: Array,
    maximize: bool = False,
    *,
    partial: bool = False,
    solver: Solver = "auto",
    backend: str | Backend | None = None,
) -> tuple[Array, Array]:
    """Solve one assignment problem by SciPy's contract, in any framework.

    Args:
        cost_matrix: `(n, m)`, real; +inf (-inf with `maximize`) forbids a pair.
        maximize: Match at the greatest total instead.
        partial: As for `assign`: the pairs that there can be, where SciPy raises.
        solver: As for `assign`.
        backend: As for `assign`.

    Returns:
        ``(row_ind, col_ind)``, each `(min(n, m),)` index, rows sorted; with `partial` maybe fewer.
        Where nothing can raise, in a program or on an accelerator, a problem without a solution has
        -1 throughout, and with `partial` there is -1 in both, at the end, for each missing pair.

    Raises:
        TypeError: What came does not hold numbers.
        ValueError: "expected a matrix (2-D array)", "matrix contains invalid numeric
            entries", or "cost matrix is infeasible".

    Reference:
        ``scipy.optimize.linear_sum_assignment``.

    Examples:
        >>> cost = np.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]])
        >>> rows, cols = hc.linear_sum_assignment(cost)
        >>> rows, cols
        (array([0, 1, 2]), array([1, 0, 2]))
        >>> float(cost[rows, cols].sum())
        5.0
    """
    if cost_matrix is None:
        _checks.array("cost_matrix", cost_matrix)
    backend = get_backend(backend, cost_matrix=cost_matrix)
    cost_matrix = backend.asarray(without_gradient(cost_matrix, backend))
    shape = backend.shape(cost_matrix)
    if len(shape) != 2:
        raise ValueError(
            f"expected a matrix (2-D array), got shape {shape}; use assign for a batch"
        )
    found, solved = _assigned(
        cost_matrix, shape, None, None, maximize, None, partial, "raise", solver, backend
    )
    n, m = shape
    if solved and n <= m:  # all rows are matched, so no column has to be looked up
        return counted(n, found.col4row, backend), found.col4row
    if backend.readable(found.col4row):
        return found.indices()
    if partial or not (isinstance(n, int) and isinstance(m, int)):
        return found.padded_indices()
    # All of the smaller side are matched, so no length depends on values.
    xp = backend.namespace(found.col4row)
    if n <= m:
        rows = xp.cumulative_sum(xp.ones_like(found.col4row), axis=0) - 1
        return xp.where(found.col4row < 0, -1, rows), found.col4row
    cols = xp.astype(xp.argsort(found.row4col), found.row4col.dtype)
    rows = xp.take(found.row4col, cols, axis=0)
    return rows, xp.where(rows < 0, -1, cols)


def count_invalid(
    cost: Array,
    *,
    row_mask: Array | None = None,
    col_mask: Array | None = None,
    maximize: bool = False,
    backend: str | Backend | None = None,
) -> Array:
    """Count the entries that `assign` has to treat by its `nan` policy.

    Args:
        cost: `(..., n, m)`, real.
        row_mask: `(..., n)` bool, True = valid.
        col_mask: `(..., m)` bool, True = valid.
        maximize: Whether +inf rather than -inf is invalid.
        backend: As for `assign`.

    Returns:
        `(...)` index: per problem, how many valid entries are NaN or -inf.

    Examples:
        >>> int(hc.count_invalid(np.array([[np.nan, 1.0], [np.inf, -np.inf]])))
        2
    """
    _checks.array("cost", cost)
    backend = get_backend(backend, cost=cost, row_mask=row_mask, col_mask=col_mask)
    cost = backend.stop_gradient(backend.asarray(without_gradient(cost, backend)))
    xp = backend.namespace(cost)
    _checks.real("cost", cost, xp)
    _checks.cost_shape(backend.shape(cost))
    table = xp.astype(cost, solving_dtype(cost.dtype, xp), copy=False)
    rows, cols = checked_masks(row_mask, col_mask, cost, backend, xp)
    invalid = among_valid(is_invalid(-table if maximize else table, xp), rows, cols)
    return xp.sum(xp.astype(invalid, index_dtype(xp)), axis=(-2, -1))
