"""Batches of problems whose matchings gradients go through, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc
from hungarian_core.testing.driver import Driver

INF, NAN = float("inf"), float("nan")


@dataclass(frozen=True, eq=False)
class Example:
    """A batch of problems."""

    name: str
    shape: tuple[int, ...] = (3, 4, 4)
    dtype: str = "float32"
    masked: bool = False
    forbidden: bool = False
    maximize: bool = False

    def __str__(self) -> str:
        return self.name

    def data(self) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Return costs and masks, exact in the dtype."""
        *batch, n, m = self.shape
        rng = np.random.default_rng([n, m, self.masked])
        cost = rng.normal(size=self.shape).astype(np.float32)
        rows = cols = None
        if self.forbidden:  # more of it where a row has columns to spare
            cost[..., 0, 0] = cost[..., -1, 1] = -INF if self.maximize else INF
        if self.masked:
            rows, cols = rng.uniform(size=(*batch, n)) > 0.3, rng.uniform(size=(*batch, m)) > 0.3
            rows[1], cols[1] = False, True
            cost[~(rows[..., :, None] & cols[..., None, :])] = NAN
        return cost.astype(self.dtype), rows, cols


EXAMPLES = (
    Example("square"),
    Example("square_float64", dtype="float64"),
    Example("wide_forbidden", (3, 3, 5), forbidden=True),
    Example("tall_float64", (2, 2, 5, 3), "float64"),
    Example("masked", (3, 5, 6), masked=True),
    Example("masked_maximize", (3, 6, 5), masked=True, maximize=True),
    Example("forbidden_maximize", (3, 4, 6), "float64", forbidden=True, maximize=True),
    Example("one_problem", (4, 5)),
)


def upstream(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    """Return a gradient from above of all sizes and both signs."""
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32).astype(dtype)


def match(cost: np.ndarray, rows: Any = None, cols: Any = None) -> np.ndarray:
    """Return the matching of least cost as a matrix, `(..., n, m)`."""
    *batch, n, m = cost.shape
    found = np.zeros(cost.shape)
    for at in np.ndindex(*batch):
        i = np.arange(n) if rows is None else np.flatnonzero(rows[at])
        j = np.arange(m) if cols is None else np.flatnonzero(cols[at])
        pairs = linear_sum_assignment(cost[at].astype(np.float64)[np.ix_(i, j)])
        found[at][i[pairs[0]], j[pairs[1]]] = 1
    return found


def run(
    driver: Driver, program: Callable[..., Any], above: np.ndarray, *data: np.ndarray
) -> list[np.ndarray]:
    """Return the value of a program, and its gradients by `above` where there are any."""
    arrays = [driver.from_numpy(x) for x in data]
    if not driver.differentiable:
        return [driver.to_numpy(driver.trace(program)(*arrays))]
    value, grads = driver.value_and_grad(program, arrays, driver.from_numpy(above))
    return [driver.to_numpy(x) for x in (value, *grads)]


def programs(driver: Driver, **options: Any) -> dict[str, Callable[[Any], Any]]:
    """Return every way through a matching as a function of the cost."""
    options["backend"] = driver.backend
    matrix: Any = hc.assignment_matrix

    def loss(x: Any) -> Any:
        ones = hc.get_backend(driver.backend, x).namespace(x).ones_like(x)
        return hc.fenchel_young_loss(x, ones, **options)

    return {
        "assignment_cost": lambda x: hc.assignment_cost(x, **options),
        "fenchel_young_loss": loss,
        **{k: partial(matrix, method=k, **options) for k in hc.relaxations.METHODS},
    }
