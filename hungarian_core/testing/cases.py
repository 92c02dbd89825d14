"""The table of assignment problems, one for all backends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

INF, NAN = float("inf"), float("nan")
INVALID = "matrix contains invalid numeric entries"
INFEASIBLE = "cost matrix is infeasible"


@dataclass(frozen=True, eq=False)
class Case:
    """One call of `assign`.

    Attributes:
        name: Stands in the names of the tests.
        cost: `(..., n, m)`.
        dtype: The dtype to give `cost`, by name.
        row_mask: `(..., n)` bool.
        col_mask: `(..., m)` bool.
        unmatched_cost: As for `assign`.
        maximize: As for `assign`.
        nan: As for `assign`.
        col4row: The answer, where only one is right.
        bad: `(...)` bool, the samples that have no answer.
        error: The message about them.
        essential: Whether slow drivers run it too.
    """

    name: str
    cost: np.ndarray
    dtype: str = "float32"
    row_mask: np.ndarray | None = None
    col_mask: np.ndarray | None = None
    unmatched_cost: float | np.ndarray | None = None
    maximize: bool = False
    nan: str = "raise"
    col4row: np.ndarray | None = None
    bad: np.ndarray | None = None
    error: str = ""
    essential: bool = False

    def __str__(self) -> str:
        return self.name


def _random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([*shape, seed]).uniform(-1, 2, shape)


def _ties(*shape: int) -> np.ndarray:
    return np.random.default_rng([*shape, 1]).integers(0, 3, shape).astype(float)


def _mask(*rows: str) -> np.ndarray:
    """Return a mask from strings such as "110"."""
    return np.array([[flag == "1" for flag in row] for row in rows])


def _with(cost: np.ndarray, value: float, *entries: tuple[Any, ...]) -> np.ndarray:
    cost = cost.copy()
    for entry in entries:
        cost[entry] = value
    return cost


def _crowded(ties: bool) -> np.ndarray:
    """Return `(4, 60, 120)`: rows want the same columns, of which there are not enough.

    So large, and so crowded, that a solver that looks at the few best columns of each row first
    has to see when they no longer are the best. With ties, costs are whole numbers.
    """
    rng, favourites = np.random.default_rng(1), np.arange(120)
    few = np.where(favourites < 12, rng.uniform(0, 16, (60, 120)), rng.uniform(16, 20, (60, 120)))
    many = np.where(favourites < 40, rng.uniform(0, 6, (60, 120)), rng.uniform(6, 12, (60, 120)))
    common = rng.uniform(0, 6, (60, 120)) + rng.uniform(0, 20, 120)
    product = rng.uniform(0, 20, (60, 1)) * rng.uniform(0, 20, 120)
    if ties:
        few, common, product = np.floor(few), np.floor(common), np.floor(product)
        many = np.where(favourites < 40, 0, rng.integers(1, 40, (60, 120)))
    return np.stack([few, many, common, product])


def _identity(batch: int, n: int, m: int) -> np.ndarray:
    row = np.arange(n)
    return np.tile(np.where(row < m, row, -1), (batch, 1))


# Few shapes, so that a compiled program serves many cases.
WIDE, SQUARE, TALL = (3, 4, 6), (3, 5, 5), (3, 6, 4)
ROWS, COLS = _mask("1111", "0110", "1001"), _mask("111111", "011101", "110000")
FEW_COLS = _mask("110000", "000100", "111111")
TALL_ROWS, TALL_COLS = _mask("111111", "110000", "010110"), _mask("1111", "1011", "1000")
NO_ROWS, NO_COLS = _mask("1111", "0000", "1010"), _mask("111111", "101111", "000000")
GARBAGE = np.where(ROWS[:, :, None] & COLS[:, None, :], _random(*WIDE), NAN)
SOME_EDGES = np.where(_random(*WIDE, seed=3) > 0.6, INF, _random(*WIDE))
SOME_EDGES[:, range(4), range(4)] = 1.5  # a matching exists
SHARED = _with(_random(*WIDE), INF, (1, slice(0, 2), slice(1, None)))  # two rows, one column
PRICES = np.array([[0.2, 0.5, -0.3, 1.0], [0.0, INF, 0.1, 0.4], [3.0, 3.0, 3.0, -3.0]])
SECOND = np.array([False, True, False])
PUBLISHED = np.array([[3, 0, 2, 3], [3, 3, 3, 1], [4, 0, 3, 1], [0, 1, 0, 3]], float)
# Its duals lie along a path of several steps, beyond the largest cost; found by hypothesis.
LONG_PATH = np.array([[INF] * 3, [-1, -1, 2], [1, INF, INF], [2, -1, INF], [2, 1, INF]])
# Bounded by what every integer dtype holds, and exact in half precision.
WHOLE = np.random.default_rng(5).integers(0, 100, WIDE).astype(float)

# For the native solver alone: others take no such short cuts, and long for them.
CROWDED = (
    Case("crowded", _crowded(ties=False)),
    Case("crowded_ties", _crowded(ties=True)),
    Case("crowded_priced", _crowded(ties=False), unmatched_cost=14.0),
)
CASES = (
    Case("wide", _random(*WIDE), essential=True),
    Case("square", _random(*SQUARE)),
    Case("tall", _random(*TALL), essential=True),
    Case("one_problem", _random(4, 6)),
    Case("two_batch_axes", _random(2, 3, 3, 5)),
    Case("larger", _random(2, 24, 30)),
    Case("larger_tall_ties", np.round(_random(2, 30, 24) * 3)),
    Case("one_by_one", _random(2, 1, 1)),
    Case("one_row", _random(2, 1, 5)),
    Case("one_column", _random(2, 5, 1)),
    Case("no_rows", np.zeros((2, 0, 5))),
    Case("no_columns", np.zeros((2, 5, 0))),
    Case("no_entries", np.zeros((0, 0))),
    Case("no_samples", np.zeros((0, 3, 4))),
    Case("no_columns_priced", np.zeros((2, 5, 0)), unmatched_cost=0.5),
    Case("published", PUBLISHED),
    Case("float64_wide", _random(*WIDE), "float64", essential=True),
    Case("float64_tall", _random(*TALL), "float64"),
    *(
        Case(f"{dtype}_{'max' if maximize else 'min'}", WHOLE, dtype, maximize=maximize)
        for dtype in ("float16", "bfloat16", "float64", "int8", "int16", "int32", "int64", "uint8")
        for maximize in (False, True)
    ),
    Case("bool", WHOLE > 40, "bool"),
    Case("bool_max", WHOLE > 40, "bool", maximize=True),
    Case("int64_beyond_float32", WHOLE + 2.0**40, "int64"),
    Case("ties_wide", _ties(*WIDE)),
    Case("ties_square", _ties(*SQUARE)),
    Case("ties_tall", _ties(*TALL)),
    Case("zeros", np.zeros(WIDE), col4row=_identity(*WIDE), essential=True),
    Case("constant_wide", np.full(WIDE, 0.1), col4row=_identity(*WIDE)),
    Case("constant_square", np.full(SQUARE, -0.7), col4row=_identity(*SQUARE)),
    Case("constant_tall", np.full(TALL, 0.3), col4row=_identity(*TALL)),
    Case("constant_max", np.full(WIDE, 0.1), maximize=True, col4row=_identity(*WIDE)),
    Case(
        "constant_masked", np.full(WIDE, 0.1), row_mask=ROWS, col_mask=COLS,
        col4row=np.array([[0, 1, 2, 3], [-1, 1, 2, -1], [0, -1, -1, 1]]),
    ),
    Case(
        "constant_surplus_rows", np.full(WIDE, 0.1), col_mask=FEW_COLS,
        col4row=np.array([[0, 1, -1, -1], [3, -1, -1, -1], [0, 1, 2, 3]]),
    ),
    Case(
        "constant_tall_masked", np.full(TALL, 0.1), row_mask=TALL_ROWS, col_mask=TALL_COLS,
        col4row=np.array([[0, 1, 2, 3, -1, -1], [0, 2, -1, -1, -1, -1], [-1, 0, -1, -1, -1, -1]]),
    ),
    Case("constant_priced", np.full(WIDE, 0.1), unmatched_cost=0.5, col4row=_identity(*WIDE)),
    Case("constant_tied_price", np.full(WIDE, 0.5), unmatched_cost=0.5, col4row=_identity(*WIDE)),
    Case("row_mask", _random(*WIDE), row_mask=ROWS),
    Case("col_mask", _random(*WIDE), col_mask=COLS),
    Case("masks", _random(*WIDE), row_mask=ROWS, col_mask=COLS, essential=True),
    Case("masks_float64", _random(*WIDE), "float64", row_mask=ROWS, col_mask=COLS),
    Case("masks_max", _random(*WIDE), row_mask=ROWS, col_mask=COLS, maximize=True),
    Case("masks_ties", _ties(*WIDE), row_mask=ROWS, col_mask=COLS),
    Case("surplus_rows", _random(*WIDE), col_mask=FEW_COLS, essential=True),
    Case("surplus_rows_masked", _random(*WIDE), row_mask=ROWS, col_mask=FEW_COLS),
    Case("surplus_rows_ties", _ties(*WIDE), row_mask=ROWS, col_mask=FEW_COLS),
    Case("surplus_rows_long_path", LONG_PATH),
    Case("masks_tall", _random(*TALL), row_mask=TALL_ROWS, col_mask=TALL_COLS),
    Case("masks_tall_max", _random(*TALL), row_mask=TALL_ROWS, col_mask=TALL_COLS, maximize=True),
    Case("nothing_valid", _random(*WIDE), row_mask=NO_ROWS, col_mask=NO_COLS,
         essential=True),
    Case("nothing_valid_tall", _random(*TALL), row_mask=TALL_ROWS, col_mask=np.zeros((3, 4), bool)),
    Case("masked_garbage", GARBAGE, row_mask=ROWS, col_mask=COLS, essential=True),
    Case("masked_minus_inf", np.nan_to_num(GARBAGE, nan=-INF), row_mask=ROWS, col_mask=COLS),
    Case("maximize", _random(*WIDE), maximize=True, essential=True),
    Case("maximize_tall", _random(*TALL), maximize=True),
    Case("priced", _random(*WIDE), unmatched_cost=0.25, essential=True),
    Case("priced_int", WHOLE, "int32", unmatched_cost=20),
    Case("priced_per_sample", _random(*WIDE), unmatched_cost=np.array([-2.0, 0.1, 5.0])),
    Case("priced_per_row", _random(*WIDE), unmatched_cost=PRICES, essential=True),
    Case("priced_max", _random(*WIDE), unmatched_cost=np.array([-2.0, 0.6, 5.0]), maximize=True),
    Case("priced_tall", _random(*TALL), unmatched_cost=np.array([-2.0, 0.1, 9.0])),
    Case("priced_masks", _random(*WIDE), row_mask=ROWS, col_mask=FEW_COLS, unmatched_cost=PRICES),
    Case("priced_no_edges", np.full(WIDE, INF), unmatched_cost=0.25,
         col4row=np.full((3, 4), -1)),
    Case("priced_nothing_valid", _random(*WIDE), row_mask=NO_ROWS, col_mask=NO_COLS,
         unmatched_cost=np.array([0.0, 1.0, 2.0])),
    Case("edges", SOME_EDGES, essential=True),
    Case("edges_tall", np.swapaxes(SOME_EDGES, 1, 2)),
    Case("edges_masked", SOME_EDGES, row_mask=ROWS, col_mask=_mask("111111", "111101", "111100")),
    Case("edges_max", -SOME_EDGES, maximize=True),
    Case("edges_only_the_identity", np.where(np.eye(5) > 0, _random(*SQUARE), INF),
         col4row=_identity(*SQUARE)),
    Case("infeasible_row", _with(_random(*WIDE), INF, (1, 2)), bad=SECOND, error=INFEASIBLE,
         essential=True),
    Case("infeasible_column", _with(_random(*TALL), INF, (1, slice(None), 2)), bad=SECOND,
         error=INFEASIBLE),
    Case("infeasible_pair_of_rows", SHARED, bad=SECOND, error=INFEASIBLE),
    Case("infeasible_max", -SHARED, maximize=True, bad=SECOND, error=INFEASIBLE),
    Case("infeasible_masked", _with(_random(*WIDE), INF, (1, 2)), row_mask=ROWS, bad=SECOND,
         error=INFEASIBLE),
    Case("feasible_without_masked_row", _with(_random(*WIDE), INF, (1, 0)), row_mask=ROWS),
    Case("infeasible_price", _with(_random(*WIDE), INF, (1, 1)), unmatched_cost=PRICES, bad=SECOND,
         error=INFEASIBLE),
    Case("nan", _with(_random(*WIDE), NAN, (1, 2, 3)), bad=SECOND, error=INVALID, essential=True),
    Case("minus_inf", _with(_random(*WIDE), -INF, (1, 0, 0)), bad=SECOND, error=INVALID),
    Case("nan_tall", _with(_random(*TALL), NAN, (1, 5, 3)), bad=SECOND, error=INVALID),
    Case("plus_inf_max", _with(_random(*WIDE), INF, (1, 0, 0)), maximize=True, bad=SECOND,
         error=INVALID),
    Case("nan_masks", _with(_random(*WIDE), NAN, (1, 1, 1), (0, 0, 0)), row_mask=ROWS,
         col_mask=COLS, bad=np.array([True, True, False]), error=INVALID),
    Case("nan_price", _random(*WIDE), unmatched_cost=np.array([0.0, NAN, 1.0]), bad=SECOND,
         error=INVALID),
    Case("nan_forbid", _with(_random(*WIDE), NAN, (1, 2, 3), (0, 1, slice(0, 3))),
         nan="forbid", essential=True),
    Case("nan_forbid_infeasible", _with(_random(*WIDE), NAN, (1, 2)), nan="forbid", bad=SECOND,
         error=INFEASIBLE),
    Case("nan_forbid_minus_inf", _with(_random(*WIDE), -INF, (1, 2, 1)), nan="forbid", bad=SECOND,
         error=INVALID),
    Case("nan_forbid_max", _with(_random(*WIDE), NAN, (1, 2, 3)), nan="forbid", maximize=True),
    Case("nan_worst", _with(_with(_random(*WIDE), NAN, (1, 2, 3), (0, 1)), -INF, (1, 0, 0), (2, 1)),
         nan="worst", essential=True),
    Case("nan_worst_everywhere", _with(_random(*WIDE), NAN, (1,)), nan="worst"),
    Case("nan_worst_edges", _with(SOME_EDGES, NAN, (1, 2, 3)), nan="worst"),
    Case("nan_worst_max", _with(_with(_random(*WIDE), NAN, (1, 2, 3)), INF, (1, 0, 0)),
         nan="worst", maximize=True),
    Case("nan_worst_masks", _with(GARBAGE, NAN, (1, 1, 1)), row_mask=ROWS, col_mask=COLS,
         nan="worst"),
    Case("tiny", _random(*WIDE) * 1e-30),
    Case("huge", _random(*WIDE) * 1e30),
    Case("huge_offset", _random(*WIDE) + 1e5),
    Case("mixed_magnitudes", np.sign(_random(*SQUARE)) * 10 ** (10 * _random(*SQUARE, seed=7)),
         "float64"),
    Case("mixed_magnitudes_float32", 10 ** (10 * _random(*SQUARE, seed=8))),
)  # fmt: skip
