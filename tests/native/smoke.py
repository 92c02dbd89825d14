"""An installed wheel solves: ``python smoke.py SOLVER``, with NumPy and SciPy alone."""

import sys

import numpy as np
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc

cost = np.random.default_rng(0).random((50, 20, 30))
found = hc.assign(cost, solver=sys.argv[1])
for table, col4row, total in zip(cost, found.col4row, found.cost, strict=True):
    rows, cols = linear_sum_assignment(table)
    np.testing.assert_array_equal(col4row[rows], cols)
    np.testing.assert_allclose(total, table[rows, cols].sum())
print(f"{sys.argv[1]}: as SciPy")
