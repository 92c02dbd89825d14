"""An installed wheel solves: ``python smoke.py SOLVER``, with NumPy and SciPy alone."""

import sys

import numpy as np
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc
from hungarian_core.testing.cases import CROWDED

cost = np.random.default_rng(0).random((50, 20, 30))
found = hc.assign(cost, solver=sys.argv[1])
for table, col4row, total in zip(cost, found.col4row, found.cost, strict=True):
    rows, cols = linear_sum_assignment(table)
    np.testing.assert_array_equal(col4row[rows], cols)
    np.testing.assert_allclose(total, table[rows, cols].sum())

# Large enough for the native solver's shortlists; with ties, only the totals are one.
plain, ties, *_ = CROWDED
for cost in (plain.cost, ties.cost):
    found = hc.assign(cost, solver=sys.argv[1])
    for table, u, v, total in zip(cost, found.u, found.v, found.cost, strict=True):
        np.testing.assert_allclose(total, table[linear_sum_assignment(table)].sum())
        np.testing.assert_allclose(u.sum() + v.sum(), total)
        assert (u[:, None] + v <= table + 1e-9).all()
print(f"{sys.argv[1]}: as SciPy")
