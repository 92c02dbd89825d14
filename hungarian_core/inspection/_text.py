"""The tables of an explanation, as plain text and for rich."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from hungarian_core.inspection._explanation import Explanation

_RANGES = 12  # of unmatched indices, until they are cut short


class _View(NamedTuple):
    """What is shown of one sample."""

    title: str
    headers: list[str]
    lines: list[list[str]]
    styles: list[str]  # of the lines, for rich
    notes: list[str]


def plain(explanation: Explanation, limit: int | None, samples: int | None) -> str:
    """Return what `Explanation.text` does."""
    views, rest = views_of(explanation, limit, samples)
    blocks = []
    for view in views:
        table = [view.headers, *view.lines] if view.lines else []
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ("  ".join(map(str.rjust, line, widths)) for line in table)
        blocks.append("\n".join([view.title, *lines, *view.notes]))
    return "\n\n".join([*blocks, *rest])


def rich(explanation: Explanation, limit: int | None, samples: int | None) -> Any:
    """Return what `Explanation.rich` does."""
    try:
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text
    except ModuleNotFoundError as error:
        if error.name != "rich":
            raise
        raise ImportError(
            'coloured tables need rich: pip install "hungarian-core[plot]"; text() does not'
        ) from error
    views, rest = views_of(explanation, limit, samples)
    shown: list[Any] = []
    for view in views:
        shown.append(Text(view.title, style="bold"))
        if view.lines:
            table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
            for header in view.headers:
                table.add_column(Text(header), justify="right", overflow="fold")
            for line, style in zip(view.lines, view.styles, strict=True):
                table.add_row(*map(Text, line), style=style)
            shown.append(table)
        shown.append(Text("".join(f"{note}\n" for note in view.notes)))
    return Group(*shown, *map(Text, rest))


def views_of(
    explanation: Explanation, limit: int | None, samples: int | None
) -> tuple[list[_View], list[str]]:
    """Return what is shown of the first samples, and a line about the others."""
    batch = explanation.total.shape
    places = list(itertools.islice(np.ndindex(batch), samples))
    rest = explanation.total.size - len(places)
    others = [f"... and {rest} more samples: index the explanation, or text(samples=None)"]
    if not batch:
        return [_view(explanation, limit)], []
    return [_view(explanation[at], limit) for at in places], others[: rest > 0]


def _view(one: Explanation, limit: int | None) -> _View:
    """Return what is shown of the explanation of one sample."""
    rows = np.flatnonzero(one.rows & ~one.failed)
    notes = []
    if limit is not None and len(rows) > limit:
        # NaN, of unmatched rows, comes last.
        rows = rows[np.argsort(one.margin[rows], kind="stable")]
        rows, hidden = rows[:limit], rows[limit:]
        notes.append(f"{len(hidden)} more rows, with {_least(one.margin[hidden])}")
    free_rows, free_cols = np.flatnonzero(one.unmatched_rows), np.flatnonzero(one.unmatched_cols)
    for what, free, valid in (("rows", free_rows, one.rows), ("columns", free_cols, one.cols)):
        if len(free):
            notes.append(f"unmatched {what}: {len(free)} of {valid.sum()}: {ranges(free)}")
    headers = ["row", "column", "cost", *one.terms, "runner-up", "its cost", "margin"]
    lines = [_line(one, int(row)) for row in rows]
    close = one.margin[rows] <= 1e-6 * np.abs(one.cost[rows])
    styles = np.where(one.col4row[rows] < 0, "dim", np.where(close, "yellow", ""))
    return _View(_title(one), headers, lines, styles.tolist(), notes)


def _title(one: Explanation) -> str:
    """Return the line above a table."""
    place = named(one.place())
    if one.failed:
        what = "no matching: costs are NaN or -inf, or it is infeasible"
    elif not one.rows.any():
        what = "no rows to match"
    else:
        pairs = int((one.col4row >= 0).sum())
        what = (
            f"{pairs} {'pair' if pairs == 1 else 'pairs'}, "
            f"cost {_number(one.total)}, duality gap {one.gap:.2g}"
        )
    return f"{place}: {what}" if place else what


def _line(one: Explanation, row: int) -> list[str]:
    """Return the cells of a row."""
    col, other, margin = int(one.col4row[row]), int(one.runner_up[row]), one.margin[row]
    instead = _index(other, one.col_names) if math.isfinite(margin) else "-"
    return [
        _index(row, one.row_names),
        _index(col, one.col_names),
        _number(one.cost[row]),
        *(_number(term[row]) for term in one.terms.values()),
        instead,
        _number(one.runner_up_cost[row]),
        _number(margin),
    ]


def _index(k: int, names: Any) -> str:
    if k < 0:
        return "unmatched"
    return str(k) if names is None or not names[k] else f"{k} {names[k]}"


def _number(x: Any) -> str:
    return "-" if math.isnan(x) else f"{x:.4g}"


def _least(margins: np.ndarray) -> str:
    """Say what is left of sorted margins."""
    if np.isnan(margins[0]):
        return "no pair"
    return f"margins from {_number(margins[0])}"


def place_of(index: Sequence[int]) -> dict[str, int]:
    """Return the place of a sample by the names of the batch axes, as in `Explanation.records`."""
    others = [f"axis_{k}" for k in range(len(index) - 2)]
    return dict(zip([*others, *("layer", "sample")[-len(index) :]], index, strict=False))


def named(place: Mapping[str, int]) -> str:
    """Return a place in words."""
    return ", ".join(f"{name} {at}" for name, at in place.items())


def ranges(indices: np.ndarray) -> str:
    """Return sorted indices such as 0, 1, 2, 5 as "0-2, 5"."""
    ends = np.flatnonzero(np.diff(indices) != 1)
    pieces = [
        str(first) if first == last else f"{first}-{last}"
        for first, last in zip(
            indices[[0, *(ends + 1)]].tolist(), indices[[*ends, -1]].tolist(), strict=True
        )
    ]
    return ", ".join(pieces[:_RANGES]) + ", ..." * (len(pieces) > _RANGES)
