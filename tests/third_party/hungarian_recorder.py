"""A solver on the host, as a stranger would write one: it notes how long the native one takes.

It is called by its name, ``assign(cost, solver="recorder")``, from any framework.
"""

import time
from typing import Any, NamedTuple

import numpy as np

from hungarian_core import Solution, host_solver


class Record(NamedTuple):
    """One call: the shape of the costs and the seconds that it took."""

    shape: tuple[int, ...]
    seconds: float


records: list[Record] = []


def solve(cost: np.ndarray, *fields: Any) -> Solution:
    """Solve the problem of these fields of a `hungarian_core.Problem`, in NumPy arrays."""
    native: Any = host_solver("native")
    started = time.perf_counter()
    solution = native(cost, *fields)
    records.append(Record(cost.shape, time.perf_counter() - started))
    return solution
