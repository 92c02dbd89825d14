"""What an explanation holds, and its forms: records, plain text, tables of rich."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

NAN, INF = float("nan"), float("inf")


def scene() -> tuple[hc.Assignment, dict[str, np.ndarray], np.ndarray]:
    """Return layers of samples, and one mask for all: a full, a padded, an empty, a failed one."""
    rng = np.random.default_rng(1)
    terms = {"class": -rng.uniform(size=(2, 4, 3, 5)), "bbox": 5 * rng.uniform(size=(2, 4, 3, 5))}
    mask = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 0], [1, 1, 1]], bool)
    lost = terms["class"] + terms["bbox"]
    lost[:, 3, 1, 2] = NAN
    # As on an accelerator, where nothing raises.
    found = hc.solve(hc.Problem(lost, np.stack([mask, mask])), backend=hc.get_backend("numpy"))
    return hc.Assignment(*found[:5]), terms, mask


def test_costs_terms_and_gaps() -> None:
    assignment, terms, mask = scene()
    found = hc.explain(assignment, terms, row_mask=mask)
    assert found.failed.tolist() == [[False, False, False, True]] * 2
    total = terms["class"] + terms["bbox"]
    for at in np.ndindex(2, 4, 3):
        col = assignment.col4row[at]
        assert found.col4row[at] == col
        if col < 0:
            assert np.isnan([found.cost[at], found.margin[at], found.terms["class"][at]]).all()
            continue
        assert found.cost[at] == pytest.approx(total[at][col], abs=1e-15)
        for name, term in terms.items():
            assert found.terms[name][at] == term[at][col]
    np.testing.assert_array_equal(found.total, assignment.cost)
    np.testing.assert_allclose(found.gap, assignment.gap(), atol=1e-12)
    np.testing.assert_array_equal(found.unmatched_rows, mask & (assignment.col4row < 0))
    np.testing.assert_array_equal(found.unmatched_cols, assignment.row4col < 0)


def test_the_costs_alone_are_enough() -> None:
    assignment, terms, mask = scene()
    named = hc.explain(assignment, terms, row_mask=mask)
    plain = hc.explain(assignment, terms["class"] + terms["bbox"], row_mask=mask)
    assert plain.terms == {}
    np.testing.assert_array_equal(plain.cost, named.cost)
    np.testing.assert_array_equal(plain.margin, named.margin)


def test_indexing_selects_samples_and_remembers_which() -> None:
    assignment, terms, mask = scene()
    found = hc.explain(assignment, terms, row_mask=mask)
    one = found[1, 0]
    assert one.place() == {"layer": 1, "sample": 0}
    assert one.cost.tolist() == found.cost[1, 0].tolist()
    assert one.terms["bbox"].tolist() == found.terms["bbox"][1, 0].tolist()
    assert found[1][0].records() == one.records() == found[-1, 0].records()
    assert [x.place()["sample"] for x in found[0]] == [0, 1, 2, 3]
    assert [x["layer"] for x in found[:, 1].summaries()] == [0, 1]
    assert len(found) == 2
    with pytest.raises(IndexError):
        found[2]
    with pytest.raises(IndexError):
        one[0]
    with pytest.raises(TypeError, match="no length"):
        len(one)


# Records


def test_records_are_plain_and_complete() -> None:
    assignment, terms, mask = scene()
    found = hc.explain(assignment, terms, row_mask=mask, row_names=[["cat", "dog", "car"]] * 4)
    records = found.records()
    assert len(records) == 2 * mask.sum()
    assert json.loads(json.dumps(records, allow_nan=False)) == records
    assert list(records[0]) == [
        "layer", "sample", "row", "col", "row_name", "cost", "cost_class", "cost_bbox",
        "runner_up", "runner_up_cost", "margin",
    ]  # fmt: skip
    for record in records:
        at = record["layer"], record["sample"], record["row"]
        assert record["row_name"] == ["cat", "dog", "car"][record["row"]]
        if found.failed[at[:2]]:
            assert {record[key] for key in ("col", "cost", "cost_class", "margin")} == {None}
        else:
            assert record["col"] == assignment.col4row[at]
            assert record["cost"] == pytest.approx(record["cost_class"] + record["cost_bbox"])
    summaries = found.summaries()
    assert json.loads(json.dumps(summaries, allow_nan=False)) == summaries
    assert [x["pairs"] for x in summaries] == [3, 2, 0, 0] * 2
    assert [x["failed"] for x in summaries] == [False, False, False, True] * 2
    assert summaries[3]["cost"] is None
    assert summaries[2]["unmatched_cols"] == [0, 1, 2, 3, 4]
    assert summaries[3]["unmatched_rows"] == [0, 1, 2]


def test_batch_axes_have_names() -> None:
    cost = np.zeros((2, 1, 3, 1, 1))
    found = hc.explain(hc.assign(cost), cost)
    assert found[1, 0, 2].place() == {"axis_0": 1, "layer": 0, "sample": 2}
    assert hc.explain(hc.assign(cost[0, 0]), cost[0, 0]).records()[2]["sample"] == 2
    assert "sample" not in hc.explain(hc.assign(cost[0, 0, 0]), cost[0, 0, 0]).records()[0]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], [["a", "b"]] * 3),
        (np.array([7, 8]), [["7", "8"]] * 3),
        ([["a", "b"], ["c"], []], [["a", "b"], ["c", ""], ["", ""]]),
        (np.array([[1, 2], [3, 4], [5, 6]]), [["1", "2"], ["3", "4"], ["5", "6"]]),
    ],
    ids=["for_all", "labels", "ragged", "array"],
)
def test_names(names: Any, expected: list[list[str]]) -> None:
    cost = np.zeros((2, 3, 2, 2))
    found = hc.explain(hc.assign(cost), cost, row_names=names, col_names=names)
    assert found.row_names is not None
    assert found.col_names is not None
    assert found.row_names.tolist() == found.col_names.tolist() == [expected] * 2


# Tables

COST = np.array([[4.0, 1.0, 6.0, 3.5], [2.0, 0.0, 5.0, 5.0]])
TABLE = """\
2 pairs, cost 3, duality gap 0
  row  column  cost  runner-up  its cost  margin
0 cat       1     1          3       3.5     0.5
1 dog       0     2          1         0     0.5
unmatched columns: 2 of 4: 2-3"""


def test_the_table() -> None:
    found = hc.explain(hc.assign(COST), COST, row_names=["cat", "dog"])
    assert str(found) == found.text() == TABLE
    assert "2 pairs" in repr(found)


def test_a_crowded_scene_shows_its_closest_decisions() -> None:
    cost = np.random.default_rng(3).uniform(size=(100, 300))
    found = hc.explain(hc.assign(cost), cost)
    title, _, *lines, rest, columns = found.text(limit=12).splitlines()
    assert title.startswith("100 pairs")
    shown = [int(line.split()[0]) for line in lines]
    order = np.argsort(found.margin, kind="stable")
    assert shown == order[:12].tolist()
    assert rest == f"88 more rows, with margins from {found.margin[order[12]]:.4g}"
    assert columns.startswith("unmatched columns: 200 of 300: ")
    assert columns.endswith(", ...")
    assert len(columns) < 120
    assert len(found.text(limit=None).splitlines()) == 103
    assert len(str(found).splitlines()) == 24


def test_all_kinds_of_samples() -> None:
    assignment, terms, mask = scene()
    found = hc.explain(assignment, terms, row_mask=mask)
    full, padded, empty, failed = (str(found[0, k]) for k in range(4))
    assert full.startswith("layer 0, sample 0: 3 pairs, cost ")
    assert [len(line.split()) for line in full.splitlines()[2:5]] == [8, 8, 8]
    assert [line.split()[0] for line in padded.splitlines()[2:4]] == ["0", "2"]
    assert empty == "layer 0, sample 2: no rows to match\nunmatched columns: 5 of 5: 0-4"
    assert failed.splitlines() == [
        "layer 0, sample 3: no matching: costs are NaN or -inf, or it is infeasible",
        "unmatched rows: 3 of 3: 0-2",
        "unmatched columns: 5 of 5: 0-4",
    ]
    everything = str(found)
    assert everything.count("\n\n") == 7
    few = found.text(samples=3)
    assert few.endswith("\n\n... and 5 more samples: index the explanation, or text(samples=None)")


def test_more_rows_than_columns() -> None:
    found = hc.explain(hc.assign(COST.T), COST.T)
    assert "unmatched rows: 2 of 4: 2-3" in str(found)
    assert "2  unmatched     -          -         -       -" in str(found)
    hidden = found.text(limit=2).splitlines()[-2]
    assert hidden == "2 more rows, with no pair"
    one = hc.explain(hc.assign(COST[:, :1]), COST[:, :1])
    assert one.runner_up.tolist() == [-1, -1]
    assert "1          0     2  unmatched         -       2" in str(one)


def test_no_alternative_is_not_unmatched() -> None:
    cost = np.array([[1.0, INF], [INF, 2.0]])
    found = hc.explain(hc.assign(cost), cost)
    assert found.margin.tolist() == [INF, INF]
    assert found.records()[0]["margin"] is None
    assert str(found).splitlines()[2].split() == ["0", "0", "1", "-", "-", "inf"]


def test_without_rows_columns_or_samples() -> None:
    for shape in ((0, 4), (4, 0), (0, 0), (0, 3, 4), (2, 0, 3), (2, 3, 0)):
        cost = np.zeros(shape)
        found = hc.explain(hc.assign(cost), {"class": cost})
        assert len(found.records()) == found.rows.sum()
        assert isinstance(str(found), str)
    assert str(hc.explain(hc.assign(np.zeros((4, 0))), np.zeros((4, 0)))).endswith("of 4: 0-3")


def test_rich_prints_the_same() -> None:
    rich_console = pytest.importorskip("rich.console", reason="coloured tables are rich's")
    assignment, terms, mask = scene()
    found = hc.explain(assignment, terms, row_mask=mask)

    def printed(x: Any) -> str:
        console = rich_console.Console(file=io.StringIO(), width=120, color_system=None)
        console.print(x)
        return console.file.getvalue()

    words = set(printed(found).replace("─", " ").split())
    assert set(str(found).split()) <= words
    assert len(printed(found.rich(limit=1)).splitlines()) < len(printed(found).splitlines())
    tie = hc.explain(hc.assign(np.ones((2, 2))), np.ones((2, 2)))
    colour = rich_console.Console(file=io.StringIO(), force_terminal=True, color_system="standard")
    colour.print(tie)
    assert "\x1b[33m" in colour.file.getvalue()


@pytest.mark.parametrize(
    ("module", "call", "message"),
    [
        ("rich", "hc.explain(a, c).rich()", 'pip install "hungarian-core[plot]"'),
        ("matplotlib", "hc.plot_matches(a, c)", 'pip install "hungarian-core[plot]"'),
    ],
)
def test_what_is_missing_is_named(module: str, call: str, message: str) -> None:
    code = f"""
import sys
sys.modules[{module!r}] = None
import numpy as np, hungarian_core as hc
c = np.eye(2)
a = hc.assign(c)
print(hc.explain(a, c))
try:
    {call}
except ImportError as error:
    assert {message!r} in str(error), error
else:
    raise SystemExit("no error")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_table_of_the_documentation() -> None:
    """The page shows more lines than its blocks may print."""
    page = (Path(__file__).parents[1] / "docs" / "inspection.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("```python\n")
    code, _, rest = rest.partition("```")
    shown = rest.partition("```text\n")[2].partition("\n```")[0]
    names: dict[str, Any] = {"print": lambda *_: None}
    exec(code, names)
    assert shown == str(names["found"])
