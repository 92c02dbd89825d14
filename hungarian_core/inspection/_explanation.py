"""What `explain` returns: arrays, records and tables."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hungarian_core.inspection import _text

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """What `explain` found: arrays, records and tables.

    ``explanation[sample]`` is the explanation of one sample or of several; `sample` indexes the
    batch axes. ``str(explanation)`` is a table as text, rich prints it in colour, and a notebook
    shows it. Arrays are NumPy's and hold NaN where a row has no such value.

    Attributes:
        col4row: `(..., n)` int64, the column of each row, -1 = unmatched.
        row4col: `(..., m)` int64, the row of each column, -1 = unmatched.
        cost: `(..., n)` float64, what each pair costs, and the price that an unmatched row paid.
        terms: The same for each weighted term of the pairs, by name; empty if `explain` had
            the costs only.
        runner_up: `(..., n)` int64, the column that a row would get if its pair were forbidden;
            -1 = it would stay unmatched, or the pair has no alternative.
        runner_up_cost: `(..., n)` float64, the cost of the row with its runner-up.
        margin: `(..., n)` float64, by how much the total would then be worse; inf where there is
            no other matching.
        total: `(...)` float64, the cost of the matching; NaN where there is none.
        gap: `(...)` float64, the duality gap: 0, up to rounding, certifies the optimum.
        failed: `(...)` bool, the samples without a matching, because of NaN or -inf among their
            costs or because they are infeasible.
        rows: `(..., n)` bool, the valid rows.
        cols: `(..., m)` bool, the valid columns.
        index: `(..., a)` int64, the place of a sample on the `a` batch axes of the assignment.
        row_names: `(..., n)` str, or None.
        col_names: `(..., m)` str, or None.

    Examples:
        >>> cost = np.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]])
        >>> found = hc.explain(hc.assign(cost), cost)
        >>> found.runner_up
        array([0, 1, 0])
        >>> found.records()[0]["cost"]
        1.0
    """

    col4row: Ints
    row4col: Ints
    cost: Floats
    terms: dict[str, Floats]
    runner_up: Ints
    runner_up_cost: Floats
    margin: Floats
    total: Floats
    gap: Floats
    failed: Bools
    rows: Bools
    cols: Bools
    index: Ints
    row_names: NDArray[np.str_] | None
    col_names: NDArray[np.str_] | None

    @property
    def unmatched_rows(self) -> Bools:
        """The valid rows without a pair, `(..., n)` bool."""
        return self.rows & (self.col4row < 0)

    @property
    def unmatched_cols(self) -> Bools:
        """The valid columns without a pair, predictions that no truth took, `(..., m)` bool."""
        return self.cols & (self.row4col < 0)

    def __getitem__(self, sample: Any) -> Explanation:
        batch, size = self.total.shape, self.total.size
        chosen = np.arange(size).reshape(batch)[sample]

        def pick(x: Any) -> Any:
            if isinstance(x, dict):
                return {name: pick(term) for name, term in x.items()}
            return (
                None if x is None else np.asarray(x.reshape(size, *x.shape[len(batch) :])[chosen])
            )

        fields = [field.name for field in dataclasses.fields(self)]
        return Explanation(**{name: pick(getattr(self, name)) for name in fields})

    def __len__(self) -> int:
        if not self.total.shape:
            raise TypeError("this is the explanation of one sample, which has no length")
        return self.total.shape[0]

    def place(self) -> dict[str, int]:
        """Return the place of one sample by the names of the batch axes, as in `records`."""
        return _text.place_of(self.index.tolist())

    def records(self) -> list[dict[str, Any]]:
        """Return a dictionary of plain Python values for each valid row.

        The keys are the place in the batch, ``row``, ``col``, ``cost``, ``cost_NAME`` for each
        weighted term, ``runner_up``, ``runner_up_cost`` and ``margin``, and with names
        ``row_name`` and ``col_name``. The place is ``sample`` on the last batch axis, ``layer``
        on the one before, and ``axis_0`` and so on for further ones. None stands for what a row
        does not have: a column, if it is unmatched; a margin, if there is no other matching.
        """
        return [
            {**self[at].place(), **self._record(at, int(row))}
            for at in np.ndindex(self.total.shape)
            for row in np.flatnonzero(self.rows[at])
        ]

    def summaries(self) -> list[dict[str, Any]]:
        """Return a dictionary of plain Python values for each sample.

        The keys are the place in the batch, as for `records`, then ``pairs``, ``cost``, ``gap``,
        ``failed``, and ``unmatched_rows`` and ``unmatched_cols``, lists of indices.
        """
        return [
            {
                **self[at].place(),
                "pairs": int((self.col4row[at] >= 0).sum()),
                "cost": _plain(self.total[at]),
                "gap": _plain(self.gap[at]),
                "failed": bool(self.failed[at]),
                "unmatched_rows": np.flatnonzero(self.unmatched_rows[at]).tolist(),
                "unmatched_cols": np.flatnonzero(self.unmatched_cols[at]).tolist(),
            }
            for at in np.ndindex(self.total.shape)
        ]

    def text(self, limit: int | None = 20, samples: int | None = 8) -> str:
        """Return a table for each sample as plain text.

        Args:
            limit: Of a sample with more rows than that, show those of least margin, the least
                first; None shows all. Else rows keep their order.
            samples: Show at most so many samples; None shows all.
        """
        return _text.plain(self, limit, samples)

    def rich(self, limit: int | None = 20, samples: int | None = 8) -> Any:
        """Return the same as an object for rich to print.

        Raises:
            ImportError: rich is not installed.
        """
        return _text.rich(self, limit, samples)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        pairs = int((self.col4row >= 0).sum())
        return f"<Explanation of {pairs} pairs, batch shape {self.total.shape}>"

    def __rich__(self) -> Any:
        return self.rich()

    def _repr_html_(self) -> str:
        from hungarian_core.inspection import _html  # which imports this module

        return _html.of_explanation(self)

    def _record(self, at: tuple[int, ...], row: int) -> dict[str, Any]:
        col, other = int(self.col4row[at][row]), int(self.runner_up[at][row])
        record: dict[str, Any] = {"row": row, "col": None if col < 0 else col}
        if self.row_names is not None:
            record["row_name"] = str(self.row_names[at][row])
        if self.col_names is not None:
            record["col_name"] = None if col < 0 else str(self.col_names[at][col])
        record["cost"] = _plain(self.cost[at][row])
        for name, term in self.terms.items():
            record[f"cost_{name}"] = _plain(term[at][row])
        record["runner_up"] = None if other < 0 else other
        record["runner_up_cost"] = _plain(self.runner_up_cost[at][row])
        record["margin"] = _plain(self.margin[at][row])
        return record


def _plain(x: Any) -> float | None:
    return float(x) if math.isfinite(x) else None
