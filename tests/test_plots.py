"""Pictures of matchings, by what is drawn on their axes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

matplotlib = pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
matplotlib.use("agg")
from matplotlib import pyplot  # noqa: E402  (after the choice of a canvas)
from matplotlib.collections import LineCollection, PathCollection  # noqa: E402

TRUE, MATCHED = (matplotlib.colors.to_rgba(color) for color in ("#0072B2", "#D55E00"))


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    pyplot.close("all")


def scene(n: int, m: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return costs, true boxes and predicted boxes."""
    rng = np.random.default_rng(seed)
    truths, preds = (
        np.concatenate([rng.uniform(0.2, 0.8, (k, 2)), rng.uniform(0.05, 0.2, (k, 2))], axis=-1)
        for k in (n, m)
    )
    return np.abs(truths[:, None] - preds).sum(-1), truths, preds


def marks(axes: Any) -> set[tuple[int, int]]:
    """Return the (row, column) places that are marked on a heat map."""
    (points,) = (c for c in axes.collections if isinstance(c, PathCollection))
    return {(round(y), round(x)) for x, y in points.get_offsets().tolist()}


def outlines(axes: Any) -> dict[str, np.ndarray]:
    """Return the lines of each kind by the words of the legend, links by ""."""
    found = {}
    for lines in axes.collections:
        if isinstance(lines, LineCollection):
            label = str(lines.get_label())
            name = "" if label.startswith("_") or not label else label.partition(" (")[0]
            found[name] = np.array(lines.get_segments())
    return found


def drawn(axes: Any) -> None:
    """Draw for real: that is when matplotlib formats ticks and lays out."""
    axes.figure.canvas.draw()


def test_the_heat_map_marks_the_pairs() -> None:
    cost, _, _ = scene(4, 9)
    assignment = hc.assign(cost)
    axes = hc.plot_matches(assignment, cost, row_names=["cat", "dog", "car", "bus"])
    drawn(axes)
    assert marks(axes) == set(enumerate(assignment.col4row.tolist()))
    np.testing.assert_allclose(axes.images[0].get_array(), cost)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["0 cat", "1 dog", "2 car", "3 bus"]
    assert [t.get_text() for t in axes.get_xticklabels()] == [str(k) for k in range(9)]
    assert axes.get_title() == f"4 pairs, cost {float(assignment.cost):.4g}"


def test_invalid_rows_and_columns_are_left_out() -> None:
    cost, _, _ = scene(4, 6)
    rows, cols = (
        np.array([True, False, True, True]),
        np.array([False, True, True, True, True, True]),
    )
    assignment = hc.assign(cost, row_mask=rows, col_mask=cols)
    axes = hc.plot_matches(assignment, cost, row_mask=rows, col_mask=cols)
    drawn(axes)
    assert axes.images[0].get_array().shape == (3, 5)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["0", "2", "3"]
    expected = {(k, assignment.col4row[row] - 1) for k, row in enumerate((0, 2, 3))}
    assert marks(axes) == expected


def test_forbidden_pairs_are_masked_and_terms_are_added() -> None:
    cost, _, _ = scene(2, 3)
    terms = {"class": cost, "bbox": np.where(np.eye(2, 3) > 0, np.inf, 1.0)}
    axes = hc.plot_matches(hc.assign(terms["class"] + terms["bbox"]), terms)
    drawn(axes)
    shown = axes.images[0].get_array()
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), np.eye(2, 3) > 0)
    assert shown[0, 1] == pytest.approx(cost[0, 1] + 1)


def test_sorted_pairs_lie_on_the_diagonal() -> None:
    cost, _, _ = scene(60, 300)
    assignment = hc.assign(cost)
    axes = hc.plot_matches(assignment, cost, sort=True)
    drawn(axes)
    assert marks(axes) == {(k, k) for k in range(60)}
    shown = axes.images[0].get_array()
    np.testing.assert_allclose(np.diagonal(shown), cost[np.arange(60), assignment.col4row])
    assert (np.diff(shown[:, 60:].min(axis=0)) >= 0).all()
    labels = [t.get_text() for t in axes.get_xticklabels() if t.get_text()]
    assert labels[0] == str(assignment.col4row[0])
    assert len(labels) <= 11
    tall = hc.plot_matches(hc.assign(cost.T), cost.T, sort=True)
    assert marks(tall) == {(k, k) for k in range(60)}


def test_boxes_and_links() -> None:
    cost, truths, preds = scene(3, 7)
    assignment = hc.assign(cost)
    axes = hc.plot_matches(assignment, true_boxes=truths, pred_boxes=preds)
    drawn(axes)
    found = outlines(axes)
    matched = assignment.col4row
    corners = hc.boxes.convert(truths, "cxcywh", "xyxy")
    np.testing.assert_allclose(found["true box"].min(axis=1), corners[:, :2])
    np.testing.assert_allclose(found["true box"].max(axis=1), corners[:, 2:])
    corners = hc.boxes.convert(preds[matched], "cxcywh", "xyxy")
    np.testing.assert_allclose(found["matched prediction"].max(axis=1), corners[:, 2:])
    np.testing.assert_allclose(found[""][:, 0], truths[:, :2])
    np.testing.assert_allclose(found[""][:, 1], preds[matched, :2])
    assert len(found["unmatched prediction"]) == 4
    colors = {str(c.get_label()).partition(" (")[0]: c.get_edgecolor()[0] for c in axes.collections}
    assert tuple(colors["true box"]) == TRUE
    assert tuple(colors["matched prediction"]) == MATCHED
    assert colors["unmatched prediction"][3] < 1
    assert [t.get_text() for t in axes.texts] == ["0", "1", "2"]
    words = [t.get_text() for t in axes.get_legend().get_texts()]
    assert words == ["unmatched prediction (4)", "matched prediction (3)", "true box (3)"]
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left < 0.05
    assert right > 0.95
    assert bottom > top, "y points downwards, as in images"
    assert axes.get_aspect() == 1


def test_a_crowded_scene_has_no_numbers_and_fainter_predictions() -> None:
    cost, truths, preds = scene(60, 300)
    pair = hc.plot_matches(hc.assign(cost), cost, true_boxes=truths, pred_boxes=preds)
    drawn(pair[0])
    assert len(pair) == 2
    assert len(marks(pair[0])) == 60
    assert not pair[1].texts
    (free,) = (c for c in pair[1].collections if "unmatched" in str(c.get_label()))
    assert free.get_edgecolor()[0, 3] < 0.5
    assert len(free.get_segments()) == 240


def test_an_empty_scene() -> None:
    cost, truths, preds = scene(0, 100)
    heat_map, boxes = hc.plot_matches(hc.assign(cost), cost, true_boxes=truths, pred_boxes=preds)
    drawn(heat_map)
    assert [t.get_text() for t in heat_map.texts] == ["no valid rows"]
    assert heat_map.get_title() == "0 pairs, cost 0"
    assert set(outlines(boxes)) == {"unmatched prediction"}
    nothing = hc.plot_matches(hc.assign(cost[:, :0]), true_boxes=truths, pred_boxes=preds[:0])
    drawn(nothing)
    assert nothing.get_legend() is None
    drawn(hc.plot_matches(hc.assign(cost.T), cost.T))


def test_more_truths_than_predictions_and_a_failed_sample() -> None:
    cost, truths, preds = scene(5, 3)
    axes = hc.plot_matches(hc.assign(cost), true_boxes=truths, pred_boxes=preds)
    drawn(axes)
    assert len(outlines(axes)["true box, unmatched"]) == 2
    lost = np.where(np.eye(5, 3) > 0, np.nan, cost)
    found = hc.solve(hc.Problem(lost[None]), backend=hc.get_backend("numpy"))
    pair = hc.plot_matches(
        hc.Assignment(*found[:5]), lost[None], true_boxes=truths, pred_boxes=preds
    )
    drawn(pair[0])
    assert pair[0].get_title() == "sample 0: no matching"
    assert marks(pair[0]) == set()
    assert len(outlines(pair[1])["true box, unmatched"]) == 5


@pytest.mark.parametrize("layout", ["hw", "hwc", "chw"])
def test_boxes_on_an_image(layout: str) -> None:
    cost, truths, preds = scene(2, 3)
    pixels = np.random.default_rng(0).normal(size={"hw": (24, 32)}.get(layout, (24, 32, 3)))
    image = np.moveaxis(pixels, 2, 0) if layout == "chw" else pixels
    axes = hc.plot_matches(hc.assign(cost), true_boxes=truths, pred_boxes=preds, image=image)
    drawn(axes)
    assert axes.images[0].get_array().shape[:2] == (24, 32)
    assert axes.get_xlim() == (0, 32)
    assert axes.get_ylim() == (24, 0)
    np.testing.assert_allclose(outlines(axes)[""][:, 0], truths[:, :2] * [32, 24])
    in_pixels = truths * [32, 24, 32, 24], preds * [32, 24, 32, 24]
    axes = hc.plot_matches(
        hc.assign(cost),
        true_boxes=in_pixels[0],
        pred_boxes=in_pixels[1],
        image=image,
        normalized=False,
    )
    np.testing.assert_allclose(outlines(axes)[""][:, 0], truths[:, :2] * [32, 24])


def test_far_and_broken_predictions_do_not_spoil_the_picture() -> None:
    cost, truths, preds = scene(3, 8)
    assignment = hc.assign(cost)
    free = np.setdiff1d(np.arange(8), assignment.col4row)
    preds[free[0]], preds[free[1]] = 1e4, np.nan
    axes = hc.plot_matches(assignment, true_boxes=truths, pred_boxes=preds)
    drawn(axes)
    assert axes.get_xlim()[1] < 2
    assert len(outlines(axes)["unmatched prediction"]) == 4
    pixels = hc.plot_matches(assignment, true_boxes=truths * 500, pred_boxes=preds * 500)
    assert 100 < pixels.get_xlim()[1] < 1000


@pytest.mark.parametrize("form", ["xyxy", "xywh"])
def test_formats(form: Any) -> None:
    cost, truths, preds = scene(2, 3)
    boxes = [hc.boxes.convert(x, "cxcywh", form) for x in (truths, preds)]
    axes = hc.plot_matches(hc.assign(cost), true_boxes=boxes[0], pred_boxes=boxes[1], format=form)
    np.testing.assert_allclose(outlines(axes)[""][:, 0], truths[:, :2])


def test_samples_of_a_batch_and_axes_of_the_user() -> None:
    scenes = [scene(3, 5, seed) for seed in range(4)]
    cost, truths, preds = (np.stack(x) for x in zip(*scenes, strict=True))
    layers = np.stack([cost, cost + 1])
    assignment = hc.assign(layers)
    figure, (left, right) = pyplot.subplots(1, 2)
    pair = hc.plot_matches(
        assignment, layers, true_boxes=truths, pred_boxes=preds, sample=(1, -1), axes=(left, right)
    )
    drawn(left)
    assert pair == (left, right)
    assert left.get_title() == "sample (1, 3): 3 pairs, cost " + f"{assignment.cost[1, 3]:.4g}"
    np.testing.assert_allclose(left.images[0].get_array(), layers[1, 3])
    np.testing.assert_allclose(outlines(right)[""][:, 0], truths[3, :, :2])
    one = pyplot.figure().subplots()
    assert hc.plot_matches(hc.assign(cost[:1]), cost[:1], axes=one) is one
    assert len(figure.axes) == 3, "two, and the colour bar"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "pass cost, or both true_boxes and pred_boxes"),
        ({"true_boxes": np.zeros((2, 3, 4))}, "pass cost, or both"),
        ({"cost": np.zeros((2, 3, 5))}, "sample is None, and the assignment is a batch of shape"),
        ({"cost": np.zeros((2, 3, 5)), "sample": 2}, "sample is 2"),
        ({"cost": np.zeros((2, 3, 5)), "sample": (0, 0)}, r"sample is \(0, 0\)"),
        ({"cost": np.zeros((2, 5, 3)), "sample": 0}, r"cost has shape \(2, 5, 3\)"),
        ({"cost": np.zeros((2, 3, 5)), "sample": 0, "axes": [1, 2]}, "axes holds 2; expected 1"),
        (
            {"true_boxes": np.zeros((2, 5, 4)), "pred_boxes": np.zeros((2, 5, 4)), "sample": 0},
            r"true_boxes has shape \(2, 5, 4\); expected \(2, 3, 4\)",
        ),
        (
            {
                "true_boxes": np.zeros((3, 4)),
                "pred_boxes": np.zeros((5, 4)),
                "sample": 0,
                "image": np.zeros((8, 8, 7)),
            },
            r"image has shape \(8, 8, 7\); expected \(H, W\)",
        ),
        ({"cost": np.zeros((2, 3, 5)), "sample": 0, "format": "yolo"}, "format is 'yolo'"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    assignment = hc.assign(np.zeros((2, 3, 5)))
    with pytest.raises(ValueError, match=message):
        hc.plot_matches(assignment, **options)
