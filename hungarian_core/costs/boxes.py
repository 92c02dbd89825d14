"""What it costs to take a predicted box for a true one."""

from __future__ import annotations

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core.boxes import Form, Format
from hungarian_core.boxes import giou as _giou
from hungarian_core.boxes._arithmetic import over, positive


def giou(
    true_boxes: Array,
    pred_boxes: Array,
    *,
    format: Format = "cxcywh",  # noqa: A002  (the field's word)
    form: Form = "safe",
    backend: str | Backend | None = None,
) -> Array:
    """Return ``-GIoU`` of every true box with every predicted one, in [-1, 1].

    Args:
        true_boxes: `(..., n, 4)`.
        pred_boxes: `(..., m, 4)`.
        format: The format of both.
        form: ``"safe"`` or ``"published"``, see :mod:`hungarian_core.boxes`.
        backend: A backend's name or instance, by default the one of the arrays.

    Returns:
        `(..., n, m)`, as `hungarian_core.boxes.giou` returns it.

    Raises:
        ValueError: An option is unknown, or shapes or dtypes do not fit.

    Examples:
        >>> a = np.array([[0.5, 0.5, 0.4, 0.4]])
        >>> b = np.array([[0.5, 0.5, 0.4, 0.2], [0.1, 0.1, 0.1, 0.1]])
        >>> hc.costs.giou(a, b).round(4)
        array([[-0.5   ,  0.5976]])
    """
    return -_giou(true_boxes, pred_boxes, format=format, pairwise=True, form=form, backend=backend)


def distances_and_overlaps(
    pred_boxes: Array, true_boxes: Array, safe: bool, xp: Namespace
) -> tuple[Array, Array]:
    """Return the L1 distances and the GIoU, `[..., m, n]` each, for matching.

    In few passes over the pairs. Along an axis, of the distance d of two centres and half the
    sides a and b: the intervals overlap by ``a + b - max(d, |a - b|)``, and together they span
    ``a + b + max(d, |a - b|)``.

    Args:
        pred_boxes: `(..., m, 4)` in cxcywh.
        true_boxes: `(..., n, 4)` in cxcywh.
        safe: Whether a negative side counts as 0, and a ratio to an area of 0 as 0.
        xp: The namespace.
    """
    pred = [pred_boxes[..., :, k, None] for k in range(4)]
    true = [true_boxes[..., None, :, k] for k in range(4)]
    apart = [xp.abs(p - t) for p, t in zip(pred, true, strict=True)]
    distance = apart[0] + apart[1] + apart[2] + apart[3]
    inner, outer = [], []
    for centres, p, t, change in zip(apart[:2], pred[2:], true[2:], apart[2:], strict=True):
        if safe:
            p, t = positive(xp, p), positive(xp, t)
            change = xp.abs(p - t)
        half, longest = (p + t) * 0.5, xp.maximum(centres, change * 0.5)
        inner.append(positive(xp, half - longest))
        outer.append(half + longest)
    if safe:
        pred, true = [positive(xp, p) for p in pred], [positive(xp, t) for t in true]
    intersection, hull = inner[0] * inner[1], outer[0] * outer[1]
    union = pred[2] * pred[3] + true[2] * true[3] - intersection
    if not safe:
        return distance, intersection / union - (hull - union) / hull
    return distance, over(xp, intersection, union) - over(xp, hull - union, hull)
