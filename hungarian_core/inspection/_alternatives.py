"""The best matching without a pair, for every pair of an optimal matching at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


def alternatives(
    slack: Floats, col4row: Ints, rows: Bools, cols: Bools, way_out: Floats, release: Floats
) -> tuple[Ints, Floats]:
    """Return what each row takes if its pair is forbidden, and by how much the total rises.

    A matching that is best without the pair (i, s(i)) differs from the optimal matching s by one
    cycle: i takes the column of a row, which takes that of another, and so on, until somebody
    takes s(i). The total rises by the sum of the reduced costs c - u - v of the new pairs, which
    are not negative. So it is the shortest cycle through i in a graph whose nodes are the matched
    rows, with the reduced cost of (a, s(b)) from a to b. One more node stands for all that is
    unmatched: a row goes there by taking a free column or by staying unmatched itself, and
    somebody's column is taken from there by an unmatched row or is left free.

    Args:
        slack: `(n, m)` reduced costs of valid pairs, inf elsewhere.
        col4row: `(n,)` the matching, -1 = unmatched.
        rows: `(n,)` valid rows.
        cols: `(m,)` valid columns.
        way_out: `(n,)` what it costs that a row stays unmatched, less its dual; inf if it may not.
        release: `(m,)` what it costs that a matched column becomes free; inf if it may not.

    Returns:
        `(n,)` the other column, -1 where the row would stay unmatched, and `(n,)` the rise, inf
        where there is no other matching. For rows without a pair: -1 and NaN.
    """
    n, _ = slack.shape
    matched = np.flatnonzero(col4row >= 0)
    taken = col4row[matched]
    k = len(matched)
    free, left = cols.copy(), rows.copy()
    free[taken], left[matched] = False, False
    columns = np.flatnonzero(free)

    length = np.full((k + 1, k + 1), np.inf)
    length[:k, :k] = slack[np.ix_(matched, taken)]
    np.fill_diagonal(length, np.inf)  # the pairs themselves are no alternative
    spare = slack[np.ix_(matched, columns)]
    length[:k, k] = np.minimum(spare.min(axis=1, initial=np.inf), way_out[matched])
    entering = slack[np.ix_(left, taken)].min(axis=0, initial=np.inf)
    length[k, :k] = np.minimum(entering, release[taken])

    # Floyd and Warshall's algorithm, and the first step of each shortest way.
    first = np.broadcast_to(np.arange(k + 1), (k + 1, k + 1))
    for via in range(k + 1):
        detour = length[:, via, None] + length[via]
        shorter = detour < length
        length = np.where(shorter, detour, length)
        first = np.where(shorter, first[:, via, None], first)

    runner_up = np.full(n, -1, np.int64)
    margin = np.full(n, np.nan)
    margin[matched] = np.diagonal(length)[:k]
    for at, row in enumerate(matched):
        step = first[at, at]
        if margin[row] == np.inf:
            continue
        if step < k:
            runner_up[row] = taken[step]
        elif len(columns) and spare[at].min() <= way_out[row]:
            runner_up[row] = columns[spare[at].argmin()]
    return runner_up, margin
