"""The stability of matchings across steps and layers, on matchings that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

import hungarian_core as hc

NAN = float("nan")


def matching(*rows: list[int], width: int = 6) -> hc.Assignment:
    """Return an assignment `(B, n)` with these columns."""
    col4row = np.array(rows)
    row4col = np.full((len(rows), width), -1)
    for b, i in np.ndindex(*col4row.shape):
        if col4row[b, i] >= 0:
            row4col[b, col4row[b, i]] = i
    zeros = np.zeros_like
    return hc.Assignment(
        col4row, row4col, np.zeros(len(rows)), zeros(col4row, float), zeros(row4col, float)
    )


def test_changes_position_by_position() -> None:
    meter = hc.StabilityMeter()
    assert np.isnan(meter.update(matching([0, 1, 2], [3, 4, -1])))
    assert meter.never_matched.tolist() == [5]
    # One of five rows moves to a free column: one pair, and two columns.
    assert meter.update(matching([0, 1, 2], [3, 5, -1])) == 1 / 5
    assert meter.instability == 1.0
    # Two rows swap their columns, and one gets its first: three rows of six, three columns.
    assert meter.update(matching([1, 0, 2], [3, 5, 4])) == 3 / 6
    assert meter.instability == 1.5
    assert meter.update(matching([1, 0, 2], [3, 5, 4])) == 0
    assert list(meter.history)[1:] == [1 / 5, 3 / 6, 0]
    assert meter.mean == 4 / (5 + 6 + 6)
    assert meter.never_matched.tolist() == []
    assert meter.summary() == {
        "changed": 0.0, "instability": 0.0, "mean_changed": 4 / 17, "mean_instability": 5 / 6,
        "never_matched": 0, "num_cols": 6, "updates": 4, "compared": 6,
    }  # fmt: skip
    meter.reset()
    assert np.isnan(meter.update(matching([1, 0, 2])))
    assert len(meter.history) == meter.summary()["updates"] == 1


def test_changes_of_the_same_sample() -> None:
    meter = hc.StabilityMeter()
    meter.update(matching([0, 1], [2, 3], [4, 5]), ids=["a", "b", "c"])
    assert np.isnan(meter.update(matching([0, 1]), ids=["d"]))
    assert meter.update(matching([4, 5], [1, 0]), ids=np.array(["c", "a"])) == 2 / 4
    assert meter.update(matching([2, 0], [0, 1]), ids=["b", "e"]) == 1 / 2
    layers = np.array([[[0, 1]], [[1, 0]]])  # (layer, sample, row): a key for each layer
    assert np.isnan(meter.update(layers, ids=[7]))
    assert meter.update(layers[::-1], ids=[7]) == 1
    assert hc.StabilityMeter().update(layers[0, 0], ids="alone") is not None


def test_what_is_not_compared() -> None:
    meter = hc.StabilityMeter()
    first = matching([0, 1], [2, 3])
    meter.update(first)
    failed = first._replace(cost=np.array([0.0, NAN]), col4row=np.array([[0, 1], [-1, -1]]))
    assert meter.update(failed) == 0  # not a change of both rows
    assert meter.update(first) == 0  # against the last matching there was
    mask = np.array([[True, True], [True, False]])
    assert meter.update(np.array([[0, 1], [9, -1]]), row_mask=mask) == 0  # another number of rows
    assert meter.update(np.array([[0, 1, -1], [9, -1, -1]])) == 0  # wider padding
    assert np.isnan(meter.update(np.zeros((0, 2), int)))


def test_memory_is_bounded() -> None:
    meter = hc.StabilityMeter(max_samples=2, max_history=3)
    for key in ("a", "b", "a", "c"):  # b was updated longest ago
        meter.update(matching([0, 1]), ids=[key])
    assert len(meter._last) == 2
    assert len(meter.history) == 3
    assert meter.update(matching([0, 1]), ids=["a"]) == 0
    assert np.isnan(meter.update(matching([0, 1]), ids=["b"]))
    meter = hc.StabilityMeter()
    meter.update(matching([0], [1], [2]))
    meter.update(matching([0]))
    assert len(meter._last) == 1


def test_columns_known_from_the_start() -> None:
    meter = hc.StabilityMeter(num_cols=4)
    assert meter.never_matched.tolist() == [0, 1, 2, 3]
    meter.update(np.array([[1, 2]]))
    assert meter.never_matched.tolist() == [0, 3]
    meter.update(np.array([[5, -1]]))
    assert meter.never_matched.tolist() == [0, 3, 4]


def test_changes_across_layers() -> None:
    layers = np.array([[[0, 1], [2, -1]], [[0, 1], [3, -1]], [[1, 0], [3, -1]]])
    meter = hc.StabilityMeter()
    assert meter.update_layers(layers) == [1 / 3, 2 / 3]
    assert meter.update_layers(layers[:, 0]) == [0, 1]
    assert meter.summary()["layers"] == [1 / 5, 4 / 5]
    assert meter.summary()["updates"] == 0
    assert meter.never_matched.tolist() == []
    cost = np.random.default_rng(4).uniform(size=(3, 2, 4, 6))
    assignment = hc.assign(cost)
    lost = assignment._replace(cost=np.array([[0, NAN], [0, 0], [0, 0]]))
    shares = meter.update_layers(lost)
    assert shares[0] == (assignment.col4row[0, 0] != assignment.col4row[1, 0]).mean()
    assert shares[1] == (assignment.col4row[1] != assignment.col4row[2]).mean()
    with pytest.raises(ValueError, match=r"expected .*a leading layer axis"):
        meter.update_layers(np.array([0, 1]))


def test_wrong_ids() -> None:
    with pytest.raises(ValueError, match="ids has 2 entries; expected 1"):
        hc.StabilityMeter().update(matching([0, 1]), ids=["a", "b"])
