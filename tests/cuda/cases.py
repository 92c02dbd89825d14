"""Batches of all kinds, for solvers to be compared by."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

KINDS = ("uniform", "ties", "low_rank", "largest", "least", "signed")


class Case(NamedTuple):
    """A batch, as a solver takes it."""

    cost: np.ndarray
    row_mask: np.ndarray | None = None
    col_mask: np.ndarray | None = None
    unmatched_cost: np.ndarray | None = None
    maximize: bool = False
    nan: str = "raise"


def random_case(rng: Any, largest: int) -> tuple[Case, str]:
    """Return a batch of two problems of any kind."""
    n, m = (int(x) for x in rng.integers(0, largest, 2))
    kind = KINDS[rng.integers(len(KINDS))]
    dtype = np.float64 if kind in ("largest", "least") else rng.choice([np.float32, np.float64])
    shape = (2, n, m)
    cost = {
        "uniform": lambda: rng.random(shape),
        "ties": lambda: rng.integers(0, 4, shape),
        "low_rank": lambda: rng.normal(size=(2, n, 2)) @ rng.normal(size=(2, 2, m)),
        "largest": lambda: rng.uniform(-1, 1, shape) * 1.7e308,
        "least": lambda: rng.normal(size=shape) * 1e-300,
        "signed": lambda: rng.normal(size=shape),
    }[kind]()
    for value, share in ((np.inf, 0.4), (np.nan, 0.2), (-np.inf, 0.2)):
        if rng.random() < share:
            cost = np.where(rng.random(shape) < rng.random() * 0.5, value, cost)
    cost = cost.astype(dtype)
    if rng.random() < 0.3:
        cost = np.ascontiguousarray(cost.swapaxes(1, 2)).swapaxes(1, 2)
    if rng.random() < 0.2:
        cost = cost[:, ::-1]
    price = None
    if rng.random() < 0.4:
        price = (rng.normal(size=(2, n)) * (1e307 if kind == "largest" else 1)).astype(dtype)
        price[rng.random((2, n)) < 0.1] = rng.choice([np.inf, -np.inf, np.nan, 0.5])
    masks = [rng.random((2, extent)) < 0.8 if rng.random() < 0.5 else None for extent in (n, m)]
    nan = str(rng.choice(["raise", "worst", "forbid"]))
    return Case(cost, *masks, price, bool(rng.integers(2)), nan), kind
