"""Measure how much a matching changes from one step, or one layer, to the next."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend
from hungarian_core._settings import Configured
from hungarian_core.assignment import Assignment
from hungarian_core.inspection import _inputs
from hungarian_core.inspection._host import mask_to_host, to_host

Ints = NDArray[np.int64]


class StabilityMeter(Configured):
    """Measures how stable a matching is over training, and which predictions are never used.

    `update` compares matchings with earlier ones of the same samples, `update_layers` those of
    consecutive layers of a decoder. Each pair of matchings of a sample is compared by two
    measures:

    - changed: of the rows that are matched in either, the share whose column differs, in [0, 1];
    - instability: the number of columns whose row differs, matched or not, which is the
      instability of DN-DETR. A truth that moves from one query to another changes two queries.

    A sample that could not be matched (NaN cost) is left out. Everything is kept on the host and
    counts for this process only, in a distributed run too.

    Args:
        num_cols: The number of columns (queries), if `update` gets `col4row` only, which does
            not tell; by default that of the assignments.
        max_samples: With `ids`, the last matching of so many samples is kept, a few hundred bytes
            each; beyond that, the one that was updated longest ago is forgotten.
        max_history: How many values `history` keeps.

    Attributes:
        changed: The share of the last call of `update`; NaN if it had nothing to compare.
        instability: The mean over the samples of the last call of `update`, likewise.
        history: `changed` of the last `max_history` calls of `update`, the oldest first.

    Reference:
        Li et al., DN-DETR: Accelerate DETR Training by Introducing Query DeNoising, CVPR 2022,
        section 3.

    Examples:
        >>> meter = hc.StabilityMeter(num_cols=4)
        >>> _ = meter.update(np.array([[0, 1]]))
        >>> meter.update(np.array([[0, 2]]))
        0.5
        >>> meter.never_matched.tolist()
        [3]
    """

    def __init__(
        self,
        num_cols: int | None = None,
        *,
        max_samples: int = 200_000,
        max_history: int = 10_000,
    ) -> None:
        super().__init__()
        expected = "a number of them"
        self.num_cols = None
        if num_cols is not None:
            self.num_cols = _checks.whole("num_cols", num_cols, 0, expected)
        self.max_samples = _checks.whole("max_samples", max_samples, 0, expected)
        self.max_history = _checks.whole("max_history", max_history, 0, expected)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.changed = self.instability = float("nan")
        self.history: deque[float] = deque(maxlen=self.max_history)
        self._last: dict[Hashable, Ints] = {}
        self._matched = np.zeros(self.num_cols or 0, np.bool_)
        self._updates = 0
        self._all = _Counts()
        self._layers: list[_Counts] = []

    def update(
        self,
        assignment: Assignment | Array,
        ids: Any = None,
        *,
        row_mask: Array | None = None,
        backend: str | Backend | None = None,
    ) -> float:
        """Take in the matching of a batch, and return `changed` against the earlier ones.

        Args:
            assignment: An `Assignment` or its `col4row` `(..., n)`, of any framework.
            ids: What identifies each sample, such as the id of its image: a hashable value for
                each entry of the last batch axis. A matching is then compared with the last one
                of the same sample (and layer, if there is an axis before). Without ids it is
                compared with the update before, position by position, which is right for a
                batch that stays the same.
            row_mask: `(..., n)` bool, True = valid; leading axes may be missing or 1. With it a
                sample whose number of valid rows has changed is taken as new; without, rows that
                one of two matchings lacks count as unmatched there. Rows have to keep their
                order.
            backend: A backend's name or instance, by default that of the arrays.

        Raises:
            ValueError: Shapes do not fit, or an array is being traced.
        """
        col4row, failed, width = _matching(assignment, backend)
        rows = mask_to_host("row_mask", row_mask, col4row.shape, backend)
        keys = _keys(ids, col4row.shape[:-1])
        counts = _Counts()
        for at, key in keys.items():
            if failed[at]:
                continue
            now = col4row[at][rows[at]]
            before = self._last.pop(key, None)
            self._last[key] = now  # the latest comes last
            if before is not None and (row_mask is None or len(before) == len(now)):
                counts.compare(before, now)
        self._forget(None if ids is not None else set(keys.values()))
        self._see(col4row, width)
        self._all.add(counts)
        self._updates += 1
        self.changed, self.instability = counts.changed, counts.instability
        self.history.append(self.changed)
        return self.changed

    def update_layers(
        self, assignment: Assignment | Array, *, backend: str | Backend | None = None
    ) -> list[float]:
        """Compare the matchings of consecutive layers, and return `changed` for each two.

        It stands apart from `update`: it adds to ``summary()["layers"]`` only.

        Args:
            assignment: An `Assignment` or its `col4row`, with a leading layer axis `(L, ..., n)`.
            backend: As for `update`.

        Returns:
            L - 1 shares, the first from layer 0 to layer 1.

        Raises:
            ValueError: There is no layer axis, or an array is being traced.
        """
        col4row, failed, _ = _matching(assignment, backend)
        _inputs.layers(col4row.shape)
        found = [_Counts() for _ in col4row[1:]]
        for counts, (k, now) in zip(found, enumerate(col4row[1:]), strict=True):
            for at in np.ndindex(now.shape[:-1]):
                if not (failed[k][at] or failed[k + 1][at]):
                    counts.compare(col4row[k][at], now[at])
        self._layers += [_Counts() for _ in found[len(self._layers) :]]
        for total, counts in zip(self._layers, found, strict=False):
            total.add(counts)
        return [counts.changed for counts in found]

    @property
    def mean(self) -> float:
        """The share of changed pairs over all calls of `update`, each pair weighing the same."""
        return self._all.changed

    @property
    def never_matched(self) -> Ints:
        """The columns that no call of `update` saw matched, in order."""
        return np.flatnonzero(~self._matched)

    def summary(self) -> dict[str, Any]:
        """Return what was measured, as plain Python values.

        The keys are ``changed`` and ``instability`` of the last update, ``mean_changed`` and
        ``mean_instability`` over all since the start, ``never_matched``, the number of such
        columns, ``num_cols``, ``updates``, ``compared``, the number of matchings compared, and
        after `update_layers` ``layers``, the shares from layer to layer over all calls.
        """
        return {
            "changed": self.changed,
            "instability": self.instability,
            "mean_changed": self._all.changed,
            "mean_instability": self._all.instability,
            "never_matched": len(self.never_matched),
            "num_cols": len(self._matched),
            "updates": self._updates,
            "compared": self._all.samples,
            **({"layers": [layer.changed for layer in self._layers]} if self._layers else {}),
        }

    def _see(self, col4row: Ints, width: int) -> None:
        """Note which columns are matched; there may turn out to be more of them."""
        width = max(width, int(col4row.max(initial=-1)) + 1)
        self._matched = np.pad(self._matched, (0, max(width - len(self._matched), 0)))
        self._matched[col4row[col4row >= 0]] = True

    def _forget(self, present: set[Hashable] | None) -> None:
        """Drop what is not present, or what was updated longest ago."""
        if present is not None:
            self._last = {key: x for key, x in self._last.items() if key in present}
        surplus = max(len(self._last) - self.max_samples, 0)
        for key in list(itertools.islice(self._last, surplus)):
            del self._last[key]


class _Counts:
    """Sums over matchings that were compared."""

    def __init__(self) -> None:
        self.samples = self.rows = self.moved = self.columns = 0

    def compare(self, before: Ints, now: Ints) -> None:
        """Add the difference of two matchings `col4row[n]` of one sample."""
        n = max(len(before), len(now))
        before, now = (np.pad(x, (0, n - len(x)), constant_values=-1) for x in (before, now))
        moved = before != now
        columns = np.concatenate([before[moved], now[moved]])
        self.samples += 1
        self.rows += int(((before >= 0) | (now >= 0)).sum())
        self.moved += int(moved.sum())
        self.columns += len(np.unique(columns[columns >= 0]))

    def add(self, other: _Counts) -> None:
        """Add what another one counted."""
        self.samples += other.samples
        self.rows += other.rows
        self.moved += other.moved
        self.columns += other.columns

    @property
    def changed(self) -> float:
        """The share of rows whose column changed; NaN without any."""
        return self.moved / self.rows if self.rows else float("nan")

    @property
    def instability(self) -> float:
        """The number of columns whose row changed, per sample; NaN without any."""
        return self.columns / self.samples if self.samples else float("nan")


def _matching(
    assignment: Assignment | Array, backend: str | Backend | None
) -> tuple[Ints, NDArray[np.bool_], int]:
    """Return `col4row`, which samples failed, and the number of columns as far as known."""
    if not isinstance(assignment, Assignment):
        col4row = _columns(to_host("col4row", assignment, backend))
        return col4row, np.zeros(col4row.shape[:-1], np.bool_), 0
    col4row = _columns(to_host("assignment.col4row", assignment.col4row, backend))
    failed = np.asarray(np.isnan(to_host("assignment.cost", assignment.cost, backend)))
    return col4row, failed, int(assignment.row4col.shape[-1])


def _columns(col4row: np.ndarray) -> Ints:
    _inputs.matches("col4row", col4row.dtype, int(col4row.min(initial=0)))
    return col4row.astype(np.int64)


def _keys(ids: Any, batch: tuple[int, ...]) -> dict[tuple[int, ...], Hashable]:
    """Return what each sample is known by."""
    places = list(np.ndindex(batch))
    if ids is None:
        return {at: at for at in places}
    if not batch:
        return {(): (ids,)}
    if hasattr(ids, "shape") and not isinstance(ids, np.ndarray):
        ids = to_host("ids", ids)
    named = _inputs.entries("ids", ids, "values, one for each sample")
    _inputs.ids(named, batch)
    return {at: (*at[:-1], named[at[-1]]) for at in places}
