"""Tables for notebooks: an explanation, and an assignment that nobody has explained yet."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from hungarian_core._backend import Backend
from hungarian_core._registry import backend_of
from hungarian_core.assignment import Assignment
from hungarian_core.inspection import _text
from hungarian_core.inspection._explanation import Explanation
from hungarian_core.inspection._host import to_host

_STYLES = {"dim": "opacity: 0.6", "yellow": "font-weight: bold"}


def of_explanation(explanation: Explanation, limit: int = 20, samples: int = 8) -> str:
    """Return the tables of `Explanation.text` in HTML; close decisions are bold."""
    views, rest = _text.views_of(explanation, limit, samples)
    parts = [
        _table(view.title, view.headers, view.lines, view.styles, view.notes) for view in views
    ]
    return _block([*parts, *map(_line, rest)])


def of_assignment(assignment: Assignment, limit: int = 20, samples: int = 4) -> str | None:
    """Return the pairs of an assignment in HTML, or None where its values cannot be read.

    Args:
        assignment: Any assignment.
        limit: Show so many pairs of a problem.
        samples: Show so many problems; no others are read.
    """
    backend = backend_of(assignment.col4row)
    if any(backend.is_traced(x) for x in assignment):
        return None
    *batch, n = backend.shape(assignment.col4row)
    m = backend.shape(assignment.row4col)[-1]
    count = int(np.prod(batch))
    parts = []
    if batch:
        what = f"{count} problems of shape ({n}, {m}), batch shape {tuple(batch)}"
        parts.append(_line(f"Assignment of {what}, in {backend.name}"))
    for at in itertools.islice(np.ndindex(*batch), samples):
        parts.append(_problem(Assignment(*(x[at] for x in assignment)), at, limit, backend))
    if count > samples:
        parts.append(_line(f"... and {count - samples} more: index the fields"))
    return _block(parts)


def _problem(one: Assignment, at: tuple[int, ...], limit: int, backend: Backend) -> str:
    """Return the table of one problem."""
    col4row, row4col, cost, gap = (
        to_host("assignment", x, backend) for x in (one.col4row, one.row4col, one.cost, one.gap())
    )
    rows = np.flatnonzero(col4row >= 0)
    title = f"{_text.named(_text.place_of(at))}: " if at else ""
    if np.isnan(cost):
        return _line(title + "no matching: costs are invalid, or it is infeasible")
    pairs = "1 pair" if len(rows) == 1 else f"{len(rows)} pairs"
    title += f"{pairs}, cost {float(cost):.6g}, duality gap {float(gap):.2g}"
    lines = [[str(row), str(col4row[row])] for row in rows[:limit]]
    notes = [f"{len(rows) - limit} more pairs"] if len(rows) > limit else []
    for what, free in (("rows", col4row < 0), ("columns", row4col < 0)):
        if free.any():
            notes.append(f"{what} without a pair: {_text.ranges(np.flatnonzero(free))}")
    return _table(title, ["row", "column"], lines, [""] * len(lines), notes)


def _table(
    title: str,
    headers: Sequence[str],
    lines: Sequence[Sequence[str]],
    styles: Sequence[str],
    notes: Iterable[str],
) -> str:
    head = _cells("th", headers)
    body = "".join(
        f'<tr style="{_STYLES.get(style, "")}">{_cells("td", line)}</tr>'
        if style
        else f"<tr>{_cells('td', line)}</tr>"
        for line, style in zip(lines, styles, strict=True)
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if lines else ""
    return f"<div><b>{html.escape(title)}</b></div>{table}{''.join(map(_line, notes))}"


def _cells(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)


def _line(text: str) -> str:
    return f"<div>{html.escape(text)}</div>"


def _block(parts: Iterable[str]) -> str:
    return f"<div>{''.join(parts)}</div>"
