"""Families of costs and the instances that are solved, all of them seeded.

Every family is a function of the shape ``(batch, n, m)`` and a generator, and returns float64;
an instance names a family, a shape and the dtype that the solvers get.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Shape = tuple[int, int, int]


def detr(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Return 5 L1 of random boxes minus a class probability: two of DETR's three terms.

    Carion et al., End-to-end object detection with transformers, ECCV 2020, section 3.1.
    """
    size, n, m = shape
    one, other = rng.random((size, n, 1, 4)), rng.random((size, 1, m, 4))
    probability = rng.dirichlet(np.ones(20), shape)[..., 0]
    return 5 * np.abs(one - other).sum(-1) - probability


def uniform(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Return independent uniform costs, the usual random test (Jonker and Volgenant 1987)."""
    return rng.random(shape)


def integers(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Return integers from 1 to 100: many ties (Jonker and Volgenant 1987)."""
    return rng.integers(1, 101, shape).astype(np.float64)


def machol_wien(shape: Shape, _: np.random.Generator) -> np.ndarray:
    """Return i·j with i and j counted from 1, which needs long paths.

    Machol and Wien, A hard assignment problem, Operations Research 24, 1976.
    """
    size, n, m = shape
    return np.tile(np.outer(np.arange(1.0, n + 1), np.arange(1.0, m + 1)), (size, 1, 1))


def geometric(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Return Euclidean distances of random points in the unit square, as in tracking.

    Goldberg and Kennedy, An efficient cost scaling algorithm for the assignment problem,
    Mathematical Programming 71, 1995, have the same family.
    """
    size, n, m = shape
    one, other = rng.random((size, n, 1, 2)), rng.random((size, 1, m, 2))
    return np.sqrt(((one - other) ** 2).sum(-1))


def low_rank(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Return products of random vectors of length 3: rows that compete for the same columns."""
    size, n, m = shape
    return rng.standard_normal((size, n, 3)) @ rng.standard_normal((size, 3, m))


def two_cost(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Return 1 or 2, 1 at three columns a row on average: a maximum matching in disguise.

    Goldberg and Kennedy 1995. At so low a density no perfect matching of ones exists.
    """
    return np.where(rng.random(shape) < 3 / max(shape[1:]), 1.0, 2.0)


def near_tie(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Return 1 plus 0 to 99 ulps of float32; `Instance.cost` makes them ulps of float64 there.

    On such costs bidding without a bound can go on for ever where it rounds (Jonker and
    Volgenant 1987 have no bound).
    """
    return 1 + rng.integers(0, 100, shape) * float(np.finfo(np.float32).eps)


def sparse(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Return uniform costs, 90 % of them +inf, with one matching always left."""
    cost = np.where(rng.random(shape) < 0.1, rng.random(shape), np.inf)
    for problem in cost:
        rows, columns = (rng.permutation(extent)[: min(shape[1:])] for extent in shape[1:])
        problem[rows, columns] = rng.random(len(rows))
    return cost


class Instance(NamedTuple):
    """A family at a shape and in a dtype."""

    family: Callable[[Shape, np.random.Generator], np.ndarray]
    shape: Shape
    dtype: str
    kind: str = ""  # where it differs from the family's name

    @property
    def name(self) -> str:
        """Return, for example, ``uniform 32 x (100 x 100) f64``."""
        size, n, m = self.shape
        return f"{self.label} {size} x ({n} x {m}) {self.dtype.replace('float', 'f')}"

    @property
    def label(self) -> str:
        """Return the family's name."""
        return self.kind or self.family.__name__.replace("_", "-")

    def cost(self, draw: int = 0) -> np.ndarray:
        """Return the costs of a draw, the same ones each time."""
        seed = zlib.crc32(self.name.encode())
        cost = self.family(self.shape, np.random.default_rng([seed, draw]))
        if self.family is near_tie and self.dtype == "float64":
            cost = 1 + (cost - 1) * float(np.finfo(np.float64).eps / np.finfo(np.float32).eps)
        return np.ascontiguousarray(cost, dtype=self.dtype)


INSTANCES = [
    Instance(detr, (96, 100, 20), "float32"),
    Instance(detr, (96, 300, 20), "float32"),
    Instance(detr, (12, 900, 100), "float32"),
    Instance(uniform, (256, 10, 10), "float32"),
    Instance(uniform, (32, 100, 100), "float64"),
    Instance(uniform, (4, 500, 500), "float32"),
    Instance(uniform, (2, 1000, 1000), "float64"),
    Instance(uniform, (1, 3000, 3000), "float32"),
    Instance(integers, (2, 500, 500), "float64"),
    Instance(machol_wien, (2, 200, 200), "float64"),
    Instance(geometric, (2, 1000, 1000), "float32"),
    Instance(low_rank, (4, 300, 300), "float64"),
    Instance(two_cost, (4, 300, 300), "float64"),
    Instance(near_tie, (4, 300, 300), "float32"),
    Instance(near_tie, (4, 300, 300), "float64"),
    Instance(sparse, (4, 300, 300), "float64"),
    Instance(uniform, (8, 2000, 50), "float32", kind="tall"),
    Instance(uniform, (8, 50, 2000), "float32", kind="wide"),
]
