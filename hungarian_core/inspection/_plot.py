"""Draw a matching with matplotlib: its costs as a heat map, its boxes with links."""

# ruff: noqa: A002  (`format` is the field's word)

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hungarian_core import _checks, boxes
from hungarian_core._backend import Array, Backend
from hungarian_core.assignment import Assignment
from hungarian_core.inspection import _inputs
from hungarian_core.inspection._explain import costs_on_host, names_of
from hungarian_core.inspection._host import assignment_to_host, mask_to_host, to_host

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Blue, vermilion and grey of Okabe and Ito, told apart by colour-blind readers too.
TRUE, MATCHED, UNMATCHED = "#0072B2", "#D55E00", "#7F7F7F"
FORBIDDEN = "#BDBDBD"
_FEW = 30  # rows or columns that get a tick each, and boxes that get a number each


def plot_matches(
    assignment: Assignment,
    cost: Array | Mapping[str, Array] | None = None,
    *,
    true_boxes: Array | None = None,
    pred_boxes: Array | None = None,
    format: boxes.Format = "cxcywh",
    image: Array | None = None,
    normalized: bool = True,
    sort: bool = False,
    sample: int | tuple[int, ...] | None = None,
    row_mask: Array | None = None,
    col_mask: Array | None = None,
    row_names: Iterable[Any] | None = None,
    col_names: Iterable[Any] | None = None,
    axes: Any = None,
    backend: str | Backend | None = None,
) -> Any:
    """Draw the matching of one sample: a heat map of the costs, the boxes with links, or both.

    The heat map shows valid rows and columns and marks the pairs; forbidden pairs, of cost
    +inf or NaN, are grey. Boxes are blue if true, vermilion if predicted and matched, and faint
    grey if predicted and unmatched; a line joins the centres of each pair. Boxes that are not
    finite are left out.

    Args:
        assignment: The matching, of any framework and any batch axes, on any device.
        cost: The costs `(..., n, m)`, or the weighted terms by name whose sum they are.
        true_boxes: `(..., n, 4)`; leading axes, such as that of layers, may be missing or 1.
        pred_boxes: `(..., m, 4)`, likewise.
        format: The format of the boxes.
        image: The image of the sample, `(H, W)`, `(H, W, C)` or `(C, H, W)`, to draw the boxes on.
        normalized: Whether boxes are in fractions of the image's width and height, as in DETR,
            and not in pixels.
        sort: Bring the pairs of the heat map to its diagonal. Unmatched rows and columns come
            after them, the cheapest first. In a crowded scene this shows who competes.
        sample: Which sample of the batch: an index, or one for each batch axis. It may be left
            out where there is only one.
        row_mask: `(..., n)` bool, True = valid, as `assign` had it; leading axes may be missing
            or 1.
        col_mask: `(..., m)` bool, likewise.
        row_names: What to call the rows: n names for all samples, or one list of at most n names
            for each entry of the last batch axis.
        col_names: What to call the columns, likewise.
        axes: What to draw on, by default a new figure of pyplot: axes of matplotlib, or, for
            costs and boxes, a pair of them.
        backend: A backend's name or instance, by default those of the arrays.

    Returns:
        The axes, a pair if both costs and boxes were drawn, costs first.

    Raises:
        ValueError: There is nothing to draw, shapes do not fit, the batch has several samples
            and none was chosen, or an array is being traced.
        ImportError: matplotlib is not installed.
    """
    _checks.one_of("format", format, ("cxcywh", "xyxy", "xywh"))
    _inputs.drawable(cost is not None, true_boxes is not None, pred_boxes is not None)
    col4row, row4col, total, _, _ = assignment_to_host(assignment, backend)
    batch, n, m = col4row.shape[:-1], col4row.shape[-1], row4col.shape[-1]
    at = _inputs.sample(sample, batch)
    rows = np.flatnonzero(mask_to_host("row_mask", row_mask, (*batch, n), backend)[at])
    cols = np.flatnonzero(mask_to_host("col_mask", col_mask, (*batch, m), backend)[at])
    row_labels = _labels("row_names", row_names, at, (*batch, n))
    col_labels = _labels("col_names", col_names, at, (*batch, m))
    matched = rows[col4row[at][rows] >= 0]
    pairs = np.stack([matched, col4row[at][matched]], axis=-1)

    panels = _panels(axes, (cost is not None) + (true_boxes is not None))
    if cost is not None:
        table = costs_on_host("cost", cost, (*batch, n, m), backend)[1][at]
        shown = _on_the_diagonal(table, pairs, rows, cols) if sort else (rows, cols)
        _heat_map(panels[0], table, pairs, *shown, (row_labels, col_labels))
    if true_boxes is not None:
        truths = _corners("true_boxes", true_boxes, (*batch, n, 4), format, backend)[at]
        preds = _corners("pred_boxes", pred_boxes, (*batch, m, 4), format, backend)[at]
        scale = _background(panels[-1], image, normalized)
        _scene(panels[-1], truths * scale, preds * scale, pairs, rows, cols, row_labels)
        if image is None:
            _frame(panels[-1], np.concatenate([truths[rows], preds[pairs[:, 1]]]), preds[cols])
    panels[0].set_title(_title(len(pairs), float(total[at]), at))
    return panels[0] if len(panels) == 1 else tuple(panels)


def _panels(axes: Any, count: int) -> list[Any]:
    """Return the axes to draw on."""
    if axes is not None:
        given = list(np.ravel(axes))
        _inputs.panels(len(given), count)
        _inputs.axes(given)
        return given
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise ImportError(
            'plot_matches needs matplotlib: pip install "hungarian-core[plot]"'
        ) from error
    size = (6.4 * count, 5.2)
    _, made = pyplot.subplots(1, count, figsize=size, layout="constrained", squeeze=False)
    return list(made[0])


def _heat_map(
    axes: Any,
    cost: Floats,
    pairs: Ints,
    rows: Ints,
    cols: Ints,
    labels: tuple[list[str], list[str]],
) -> None:
    """Draw the costs of valid rows and columns and mark the pairs."""
    axes.set(xlabel="column (prediction)", ylabel="row (truth)")
    if len(rows) and len(cols):
        axes.set_facecolor(FORBIDDEN)
        shown = np.ma.masked_invalid(cost[np.ix_(rows, cols)])
        drawn = axes.imshow(shown, cmap="viridis", aspect="auto", interpolation="nearest")
        if shown.count():
            axes.figure.colorbar(drawn, ax=axes, label="cost")
    else:
        axes.set(xlim=(-0.5, max(len(cols), 1) - 0.5), ylim=(max(len(rows), 1) - 0.5, -0.5))
        what = "columns" if len(rows) else "rows"
        axes.text(0.5, 0.5, f"no valid {what}", transform=axes.transAxes, ha="center", va="center")
    y, x = _places(pairs[:, 0], rows), _places(pairs[:, 1], cols)
    size = float(np.clip(9 - max(len(rows) / 12, len(cols) / 50), 4, 9)) ** 2
    axes.scatter(x, y, s=size, facecolors=MATCHED, edgecolors="white", label="matched")
    _ticks(axes.xaxis, cols, labels[1])
    _ticks(axes.yaxis, rows, labels[0])


def _on_the_diagonal(cost: Floats, pairs: Ints, rows: Ints, cols: Ints) -> tuple[Ints, Ints]:
    """Return valid rows and columns in an order that brings the pairs to the diagonal."""
    lost, free = np.setdiff1d(rows, pairs[:, 0]), np.setdiff1d(cols, pairs[:, 1])
    lost = lost[np.argsort(cost[np.ix_(lost, cols)].min(axis=1, initial=np.inf))]
    free = free[np.argsort(cost[np.ix_(rows, free)].min(axis=0, initial=np.inf))]
    return np.concatenate([pairs[:, 0], lost]), np.concatenate([pairs[:, 1], free])


def _places(wanted: Ints, shown: Ints) -> Ints:
    """Return where the wanted indices are among those shown."""
    order = np.argsort(shown)
    return order[np.searchsorted(shown, wanted, sorter=order)]


def _ticks(axis: Any, shown: Ints, labels: list[str]) -> None:
    """Label an axis of the heat map by the indices of what it shows, few or many."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    few = len(shown) <= _FEW
    axis.set_major_locator(
        FixedLocator(range(len(shown))) if few else MaxNLocator(10, integer=True)
    )

    def label(position: float, _: Any = None) -> str:
        k = round(position)
        return labels[shown[k]] if 0 <= k < len(shown) else ""

    axis.set_major_formatter(FuncFormatter(label))


def _scene(
    axes: Any,
    truths: Floats,
    preds: Floats,
    pairs: Ints,
    rows: Ints,
    cols: Ints,
    labels: list[str],
) -> None:
    """Draw boxes xyxy, the pairs linked."""
    from matplotlib.collections import LineCollection

    lost, free = np.setdiff1d(rows, pairs[:, 0]), np.setdiff1d(cols, pairs[:, 1])
    ends = np.stack([truths[pairs[:, 0]], preds[pairs[:, 1]]], axis=1)
    centres = (ends[..., :2] + ends[..., 2:]) / 2
    faint = 0.35 if len(free) > _FEW else 0.7
    layers: list[tuple[str, Floats, dict[str, Any]]] = [
        ("unmatched prediction", _outlines(preds[free]), {"color": UNMATCHED, "alpha": faint}),
        ("matched prediction", _outlines(preds[pairs[:, 1]]), {"color": MATCHED, "lw": 1.3}),
        ("true box", _outlines(truths[pairs[:, 0]]), {"color": TRUE, "lw": 1.3}),
        ("true box, unmatched", _outlines(truths[lost]), {"color": TRUE, "lw": 1.3, "ls": "--"}),
        ("", centres, {"color": "black"}),
    ]
    for k, color in enumerate((TRUE, MATCHED)):
        axes.plot(*centres[:, k].T, "o", color=color, ms=3, zorder=3)
    for what, lines, style in layers:
        sound = list(lines[np.isfinite(lines).all(axis=(1, 2))])
        if sound:
            label = f"{what} ({len(sound)})" if what else ""
            axes.add_collection(LineCollection(sound, label=label, **{"lw": 0.8, **style}))
    for row in rows if len(rows) <= _FEW else ():
        _write(axes, labels[row], truths[row])
    axes.set_aspect("equal")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2, frameon=False)


def _outlines(corners: Floats) -> Floats:
    """Return the outlines of boxes xyxy `(k, 4)` as polygons `(k, 5, 2)`."""
    return corners[:, [[0, 1], [2, 1], [2, 3], [0, 3], [0, 1]]]


def _write(axes: Any, text: str, corners: Floats) -> None:
    """Write above the upper left corner of a box."""
    from matplotlib.patheffects import withStroke

    if not np.isfinite(corners).all():
        return
    place = corners[:2].tolist()
    axes.annotate(
        text,
        place,
        (0, 2),
        textcoords="offset points",
        color=TRUE,
        fontsize=8,
        annotation_clip=True,
        path_effects=[withStroke(linewidth=2, foreground="white")],
    )


def _background(axes: Any, image: Array | None, normalized: bool) -> Floats:
    """Draw the image, and return the scale `(4,)` that brings boxes to its pixels."""
    if image is None:
        return np.ones(4)
    pixels = to_host("image", image)
    _inputs.image(pixels.shape)
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4):
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.dtype.kind == "f" and pixels.size and not 0 <= pixels.min() <= pixels.max() <= 1:
        pixels = (pixels - pixels.min()) / max(float(np.ptp(pixels)), 1e-12)  # it was normalised
    height, width = pixels.shape[:2]
    axes.imshow(pixels, cmap="gray", alpha=0.7, extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0))
    return np.array([width, height] * 2 if normalized else [1, 1, 1, 1], np.float64)


def _frame(axes: Any, wanted: Floats, others: Floats) -> None:
    """Set the limits to hold true and matched boxes, y downwards as in images."""
    wanted, others = (x[np.isfinite(x).all(axis=1)] for x in (wanted, others))
    # Far predictions must not make the rest small.
    everything = np.abs(np.concatenate([wanted, others]))
    fractions = not everything.size or np.median(everything) <= 1
    ends = (wanted if len(wanted) or fractions else others).reshape(-1, 2)
    if fractions:
        ends = np.concatenate([ends, [[0, 0], [1, 1]]])
    low, high = ends.min(axis=0), ends.max(axis=0)
    margin = 0.02 * max(*(high - low).tolist(), 1e-6)
    axes.set(
        xlim=(low[0] - margin, high[0] + margin),
        ylim=(high[1] + margin, low[1] - margin),
    )


def _labels(option: str, names: Any, at: tuple[int, ...], shape: tuple[int, ...]) -> list[str]:
    """Return what to call each row or column of the sample: its index, and its name if any."""
    found = names_of(option, names, shape[:-1], shape[-1])
    chosen = [""] * shape[-1] if found is None else found[at].tolist()
    return [f"{k} {name}".rstrip() for k, name in enumerate(chosen)]


def _corners(
    option: str,
    given: Array,
    shape: tuple[int, ...],
    format: boxes.Format,
    backend: str | Backend | None,
) -> Floats:
    """Return boxes xyxy of `shape` on the host."""
    found = to_host(option, given, backend).astype(np.float64)
    _inputs.drawn_boxes(option, found.shape, shape)
    corners: Floats = boxes.convert(np.broadcast_to(found, shape), format, "xyxy")
    return corners


def _title(pairs: int, total: float, at: tuple[int, ...]) -> str:
    place = f"sample {at[0] if len(at) == 1 else at}: " if at else ""
    if np.isnan(total):
        return f"{place}no matching"
    return f"{place}{pairs} {'pair' if pairs == 1 else 'pairs'}, cost {total:.4g}"
