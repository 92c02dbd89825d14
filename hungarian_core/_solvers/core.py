"""The batched Hungarian algorithm, written once.

Bidding first (the augmenting row reduction of Jonker & Volgenant 1987), then shortest
augmenting paths (Crouse 2016, the algorithm of SciPy). Each phase is one loop over
the whole batch in which every problem advances on its own row: no problem
waits for a slower one, and none can see another.

The dialect, so that one text runs eagerly and traced: no `if` or `while` on array
values, no writes in place, no boolean-mask indexing, no shape that depends on data.
An update is ``where(ids == at, value, x)``: O(m) a step, which a step costs anyway.
Rows are gathered with `take` from the flattened batch; a one-hot sum over rows
would cost O(n·m) a step.

Notation: `owner[b, j]` is the row that holds column j, -1 for none; `u[b, i]` and
`v[b, j]` are the duals, ``u + v <= cost`` with equality on matched pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hungarian_core._backend import Array, Namespace
from hungarian_core._dtypes import index_dtype
from hungarian_core._solvers.policies import Matching

INF = float("inf")
Loop = Callable[..., tuple[Array, ...]]


def minimise(
    cost: Array,
    row_mask: Array | None,
    col_mask: Array | None,
    unmatched_cost: Array | None,
    *,
    xp: Namespace,
    loop: Loop,
    shape: Callable[[Array], tuple[Any, ...]],
) -> Matching:
    """Minimise `cost[b, n, m]`, without NaN and -inf, in O(b·n·m) memory.

    The extents n and m are static, or at least 1 when the program runs.
    """
    size, n, m = shape(cost)
    static = isinstance(n, int) and isinstance(m, int)
    if static and n > m and unmatched_cost is None:
        # With rows the smaller side, a search ends at the first free column.
        flipped = minimise(
            xp.permute_dims(cost, (0, 2, 1)), col_mask, row_mask, None,
            xp=xp, loop=loop, shape=shape,
        )  # fmt: skip
        return Matching(flipped.row4col, flipped.col4row, flipped.v, flipped.u, flipped.feasible)

    rows, cols, unmatched_cost = row_mask, col_mask, unmatched_cost
    if rows is None:
        rows = xp.all(xp.ones_like(cost, dtype=xp.bool), axis=2)
    if cols is None:
        cols = xp.all(xp.ones_like(cost, dtype=xp.bool), axis=1)
    if row_mask is not None or col_mask is not None:
        cost = xp.where(rows[:, :, None] & cols[:, None, :], cost, INF)
    if static and (n == 0 or m == 0 or (isinstance(size, int) and size == 0)):
        return _without_edges(cost, rows, cols, unmatched_cost, xp=xp)

    index = index_dtype(xp)
    order = xp.cumulative_sum(xp.ones_like(rows, dtype=index), axis=1) - 1
    level = None
    if unmatched_cost is None and col_mask is not None:
        # A problem may have more valid rows than valid columns. Its surplus rows go to
        # slack columns: as many as make it square, at one cost, so that an optimum matches
        # every valid column at least cost. Any cost will do; that of the cheapest pair
        # adds no rounding, and no constant has to stand for "expensive".
        kept = xp.sum(xp.astype(cols, index), axis=1)
        surplus = xp.sum(xp.astype(rows, index), axis=1) - kept
        cheapest = xp.min(cost, axis=(1, 2))
        level = xp.where((surplus > 0) & (cheapest < INF), cheapest, 0)
        opened = (order < surplus[:, None])[:, None, :] & rows[:, :, None]
        cost = xp.concat([xp.where(opened, level[:, None, None], INF), cost], axis=2)
        # Among equals the last rows take the slack, as if the rectangle were transposed.
        rank = xp.cumulative_sum(xp.astype(rows, index), axis=1) - 1
        order = xp.where((surplus > 0)[:, None] & (rank >= kept[:, None]), order - n, order)

    batch = _Batch(cost, unmatched_cost, n, m if level is None else n + m, xp)
    owner, v = _bid(batch, _Queue(rows, order, n, xp), n, xp=xp, loop=loop)
    free = rows & ~xp.any(owner[:, None, :] == batch.row_ids[:, :, None], axis=2)
    owner, v = _search(batch, _Queue(free, order, n, xp), owner, v, xp=xp, loop=loop)
    return _certify(batch, rows, cols, level, owner, v, n, xp=xp)


class _Batch:
    """The problems of a batch, flattened so that each can be asked for its own row."""

    def __init__(
        self, cost: Array, unmatched_cost: Array | None, n: Any, m: Any, xp: Namespace
    ) -> None:
        self.cost, self.unmatched_cost, self.n, self.width, self.xp = cost, unmatched_cost, n, m, xp
        first = cost[:, 0, :]
        self.index = index_dtype(xp)
        # Derived from the input, so that the device follows.
        self.lane = xp.cumulative_sum(xp.ones_like(cost[:, 0, 0], dtype=self.index)) - 1
        self.row_ids = xp.cumulative_sum(xp.ones_like(cost[:1, :, 0], dtype=self.index), axis=1) - 1
        self.col_ids = xp.cumulative_sum(xp.ones_like(first[:1, :], dtype=self.index), axis=1) - 1
        self.lines = xp.reshape(cost, (-1, m))

    def line(self, row: Array) -> Array:
        """Return the costs `[b, m]` of row `row[b]`."""
        return self.xp.take(self.lines, self.lane * self.n + row, axis=0)


def _entry(x: Array, at: Array, xp: Namespace) -> Array:
    """Return `x[b, at[b]]`."""
    return xp.take_along_axis(x, at[:, None], axis=1)[:, 0]


class _Queue:
    """The rows of each problem where `waiting[b, n]`, by `order[b, n]`: row ids, some less n."""

    def __init__(self, waiting: Array, order: Array, n: Any, xp: Namespace) -> None:
        self.waiting, self.order, self.n, self.xp = waiting, order, n, xp
        self.start = xp.min(order, axis=1) - 1

    def after(self, place: Array) -> tuple[Array, Array]:
        """Return the place after `place[b]` and the row there, -1 past the end."""
        xp = self.xp
        ahead = self.waiting & (self.order > place[:, None])
        place = xp.min(xp.where(ahead, self.order, self.n), axis=1)
        row = xp.where(place < 0, place + self.n, place)
        return place, xp.where(place < self.n, row, -1)


def _bid(batch: _Batch, queue: _Queue, n: Any, *, xp: Namespace, loop: Loop) -> tuple[Array, Array]:
    """Match most rows by bidding; return (owner, v) with every match tight.

    A row takes its best column and lowers the dual of that column by the difference to its
    second best; the displaced row bids next. Only columns being assigned get a
    dual below 0, which keeps rectangular problems valid.
    """
    v0 = xp.zeros_like(batch.cost[:, 0, :])
    owner0 = xp.zeros_like(v0, dtype=batch.index) - 1
    zero = xp.zeros_like(batch.lane)

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        tick, v, owner, row, place = state
        at_work = row >= 0
        bidder = xp.where(at_work, row, 0)
        slack = batch.line(bidder) - v
        best = xp.min(slack, axis=1)
        # Faster than argmin where a compiler turns it into a plain minimum.
        j = xp.min(xp.where(slack == best[:, None], batch.col_ids, batch.width), axis=1)
        here = batch.col_ids == j[:, None]
        second = xp.min(xp.where(here, INF, slack), axis=1)
        if batch.unmatched_cost is not None:
            second = xp.minimum(second, _entry(batch.unmatched_cost, bidder, xp))
        # Without a finite second best there is no finite bid, only a free column to take.
        bounded = (best < INF) & (second < INF)
        gain = xp.where(bounded, second, 0) - xp.where(bounded, best, 0)
        holder = _entry(owner, j, xp)
        # A tie against an owner, and a row better left unmatched, are for the search.
        wins = at_work & (best < INF) & ((gain > 0) | ((gain == 0) & (holder < 0)))
        here = here & wins[:, None]
        v = xp.where(here, v - gain[:, None], v)
        owner = xp.where(here, row[:, None], owner)
        displaced = wins & (holder >= 0)
        next_place, next_row = queue.after(place)
        row = xp.where(displaced, holder, next_row)
        place = xp.where(displaced, place, next_place)
        return tick + 1, v, owner, row, place

    # Near-ties can make two rows outbid each other by an ulp for ever: the steps are bounded.
    place, row = queue.after(queue.start)
    state = xp.sum(zero), v0, owner0, row, place
    state = loop(lambda s: xp.any(s[3] >= 0) & (s[0] < 2 * n), step, state)
    return state[2], state[1]


def _search(
    batch: _Batch, queue: _Queue, owner: Array, v: Array, *, xp: Namespace, loop: Loop
) -> tuple[Array, Array]:
    """Match the rows left over along shortest augmenting paths; return (owner, v).

    Each problem is a machine with two states. Scanning: relax all columns from the
    row that holds column `here` (from `root` if `here` is -1), at path length
    `level`, and go on from the nearest column. Walking back (`walk` >= 0): the column
    `walk` passes to the row that held `via[walk]`, until the root has its column.
    """
    none = xp.zeros_like(batch.lane) - 1
    width = batch.width

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        root, place, here, walk, level, v, owner, distance, settled, via, *leaving = state
        scanning = (root >= 0) & (walk < 0)
        at_root = here < 0
        column = xp.where(at_root, 0, here)
        row = xp.where(at_root, root, _entry(owner, column, xp))
        row = xp.where(row < 0, 0, row)
        slack = batch.line(row) - v
        # The dual of a matched row is its slack at its own column; that of a root is 0.
        dual = xp.where(scanning & ~at_root, _entry(slack, column, xp), 0)
        length = slack + (level - dual)[:, None]
        closer = (length < distance) & ~settled & scanning[:, None]
        distance = xp.where(closer, length, distance)
        via = xp.where(closer, here[:, None], via)

        ahead = xp.where(settled, INF, distance)
        nearest = xp.min(ahead, axis=1)
        # Of equally near columns a free one ends the search.
        choice = xp.where(owner < 0, batch.col_ids, batch.col_ids + width)
        choice = xp.min(xp.where(ahead == nearest[:, None], choice, 2 * width), axis=1)
        reached = scanning & (nearest < INF)
        found = reached & (choice < width)
        j = xp.where(choice < width, choice, choice - width)
        stop = nearest
        walk = xp.where(found, j, walk)
        ended = xp.zeros_like(found)
        if batch.unmatched_cost is not None:
            # Every row has a private way out at its price, taken only if strictly cheaper.
            exit_level, exit_from = leaving
            exit_here = level - dual + _entry(batch.unmatched_cost, row, xp)
            better = scanning & (exit_here < exit_level)
            exit_level = xp.where(better, exit_here, exit_level)
            exit_from = xp.where(better, here, exit_from)
            leaves = scanning & (exit_level < nearest)
            reached, found = reached | leaves, (found & ~leaves) | leaves
            stop = xp.where(leaves, exit_level, nearest)
            walk = xp.where(leaves, exit_from, walk)
            ended = leaves & (exit_from < 0)
        stop = xp.where(found, stop, 0)
        passed = settled & found[:, None]
        v = v + xp.where(passed, distance, 0) - xp.where(passed, stop[:, None], 0)
        onward = reached & ~found
        settled = settled | ((batch.col_ids == j[:, None]) & onward[:, None])

        walking = (root >= 0) & (walk >= 0)
        column = xp.where(walking, walk, 0)
        back = _entry(via, column, xp)
        heir = xp.where(back < 0, root, _entry(owner, xp.where(back < 0, 0, back), xp))
        owner = xp.where(
            (batch.col_ids == column[:, None]) & walking[:, None], heir[:, None], owner
        )
        ended = ended | (walking & (back < 0))
        walk = xp.where(walking, back, walk)

        # A row without any way to a free column makes the problem infeasible: it stops.
        failed = scanning & ~reached
        next_place, next_root = queue.after(place)
        root = xp.where(failed, -1, xp.where(ended, next_root, root))
        place = xp.where(ended, next_place, place)
        here = xp.where(ended, -1, xp.where(onward, j, here))
        level = xp.where(ended, 0, xp.where(onward, nearest, level))
        distance = xp.where(ended[:, None], INF, distance)
        settled = settled & ~ended[:, None]
        if batch.unmatched_cost is not None:
            leaving = [xp.where(ended, INF, exit_level), exit_from]
        return root, place, here, walk, level, v, owner, distance, settled, via, *leaving

    place, root = queue.after(queue.start)
    level = xp.zeros_like(v[:, 0])
    state: tuple[Array, ...] = (
        root, place, none, none, level,
        v, owner, xp.zeros_like(v) + INF, xp.zeros_like(v, dtype=xp.bool), xp.zeros_like(owner) - 1,
    )  # fmt: skip
    if batch.unmatched_cost is not None:
        state = (*state, level + INF, none)
    state = loop(lambda s: xp.any(s[0] >= 0), step, state)
    return state[6], state[5]


def _certify(
    batch: _Batch,
    rows: Array,
    cols: Array,
    level: Array | None,
    owner: Array,
    v: Array,
    n: Any,
    *,
    xp: Namespace,
) -> Matching:
    """Return matching and duals; `u` is the largest that `v` allows, so the duals are feasible."""
    held = owner[:, None, :] == batch.row_ids[:, :, None]
    col4row = xp.max(xp.where(held, batch.col_ids[:, None, :], -1), axis=2)
    matched = col4row >= 0
    u = xp.min(batch.cost - v[:, None, :], axis=2)
    settled = matched
    if batch.unmatched_cost is not None:
        u = xp.minimum(u, batch.unmatched_cost)
        settled = matched | (batch.unmatched_cost < INF)
    feasible = xp.all(settled | ~rows, axis=1)
    if level is not None:
        # The open slack columns of a problem share one dual. Moved to the rows, it
        # leaves unmatched rows with the dual 0.
        opened = xp.any(batch.cost[:, :, :n] < INF, axis=1)
        shift = xp.max(xp.where(opened, level[:, None] - v[:, :n], -INF), axis=1)
        shift = xp.where(xp.any(opened, axis=1), shift, 0)
        u, v = u - shift[:, None], v[:, n:] + shift[:, None]
        owner = owner[:, n:]
        col4row = xp.where(col4row >= n, col4row - n, -1)
    # Rows and columns left over have exactly these duals; the sums above round.
    u = xp.where(col4row < 0, 0 if batch.unmatched_cost is None else batch.unmatched_cost, u)
    u, v = xp.where(rows, u, 0), xp.where(cols & (owner >= 0), v, 0)
    return Matching(col4row, owner, u, v, feasible)


def _without_edges(
    cost: Array, rows: Array, cols: Array, unmatched_cost: Array | None, *, xp: Namespace
) -> Matching:
    """Solve no problems, or problems without rows or columns: nothing is matched."""
    index = index_dtype(xp)
    u, v = xp.sum(cost, axis=2), xp.sum(cost, axis=1)  # zeros: an axis is empty
    feasible = xp.all(xp.ones_like(rows), axis=1)
    if unmatched_cost is not None:
        u = xp.where(rows, unmatched_cost, 0)
        feasible = xp.all(u < INF, axis=1)
    none4row = xp.zeros_like(rows, dtype=index) - 1
    none4col = xp.zeros_like(cols, dtype=index) - 1
    return Matching(none4row, none4col, u, v, feasible)
