"""Independent answers in float64, from SciPy and NumPy, one problem and one pair at a time."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

Floats = np.ndarray


class Optimum(NamedTuple):
    """What is known of the best matching of one problem."""

    total: float  # NaN if there is none
    pairs: int | None  # None if a price leaves it open


def repaired(cost: Floats, valid: Floats, nan: str) -> Floats:
    """Return `cost[n, m]` after the policy for NaN and -inf, for minimising."""
    if nan == "forbid":
        return np.where(np.isnan(cost), np.inf, cost)
    if nan == "worst":
        finite = cost[valid & np.isfinite(cost)]
        worst, best = (finite.max(), finite.min()) if finite.size else (0.0, 0.0)
        return np.where(np.isnan(cost), worst, np.where(cost == -np.inf, best, cost))
    return cost


def solve(cost: Floats, rows: Floats, cols: Floats, price: Floats | None) -> Optimum:
    """Return the optimum of `cost[n, m]` on the valid `rows[n]` and `cols[m]`, by SciPy."""
    problem = cost[rows][:, cols]
    pairs = None if price is not None else min(problem.shape)
    if price is not None:
        exits = np.full((len(problem),) * 2, np.inf)
        np.fill_diagonal(exits, price[rows])
        problem = np.hstack([problem, exits])
    try:
        i, j = linear_sum_assignment(problem)
    except ValueError:
        return Optimum(np.nan, pairs)
    return Optimum(float(problem[i, j].sum()), pairs)


def enumerated(cost: Floats, rows: Floats, cols: Floats, price: Floats | None) -> Optimum:
    """Return the same as `solve`, by trying every matching: for small problems."""
    i_valid, j_valid = np.flatnonzero(rows), np.flatnonzero(cols)
    pairs = min(len(i_valid), len(j_valid))
    totals = []
    for size in range(0 if price is not None else pairs, pairs + 1):
        for i in itertools.combinations(i_valid, size):
            paid = 0.0 if price is None else price[[k for k in i_valid if k not in i]].sum()
            for j in itertools.permutations(j_valid, size):
                totals.append(cost[list(i), list(j)].sum() + paid)
    best = min(totals)
    return Optimum(best if best < np.inf else np.nan, None if price is not None else pairs)


def partial(cost: Floats) -> tuple[int, float]:
    """Return the most pairs of finite costs, and the least total of so many.

    By trying every matching, in fractions, so that sums of numbers of any size are exact.
    """
    n, m = cost.shape
    best: dict[tuple[int, ...], tuple[int, Fraction]] = {(): (0, Fraction(0))}
    for i in range(n):  # the best of the rows so far that takes exactly these columns
        grown = dict(best)
        for taken, (pairs, total) in best.items():
            for j in range(m):
                if j in taken or not np.isfinite(cost[i, j]):
                    continue
                key = tuple(sorted((*taken, j)))
                new = pairs + 1, total + Fraction(float(cost[i, j]))
                if key not in grown or new[1] < grown[key][1]:
                    grown[key] = new
        best = grown
    pairs, total = min(best.values(), key=lambda x: (-x[0], x[1]))
    return pairs, float(total)


def pair_loss(kind: str, a: Floats, b: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the losses of pairs `a[..., d]`, `b[..., d]` and their gradients by `a` and `b`."""
    difference = b - a
    if kind == "sqeuclidean":
        return (difference**2).sum(-1), -2 * difference, 2 * difference
    if kind == "l1":
        return np.abs(difference).sum(-1), -np.sign(difference), np.sign(difference)
    if kind == "euclidean":
        distance = np.linalg.norm(difference, axis=-1)
        safe = np.where(distance > 0, distance, 1)[..., None]
        return distance, -difference / safe, difference / safe
    if kind == "cosine":
        length_a = np.linalg.norm(a, axis=-1, keepdims=True)
        length_b = np.linalg.norm(b, axis=-1, keepdims=True)
        sound = (length_a > 0) & (length_b > 0)
        length_a, length_b = np.where(sound, length_a, 1), np.where(sound, length_b, 1)
        unit_a, unit_b = np.where(sound, a / length_a, 0), np.where(sound, b / length_b, 0)
        cosine = (unit_a * unit_b).sum(-1, keepdims=True)
        return (
            1 - cosine[..., 0],
            (cosine * unit_a - unit_b) / length_a,
            (cosine * unit_b - unit_a) / length_b,
        )
    if kind in _SMOOTH:
        return _by_steps(_SMOOTH[kind], a, b)
    raise ValueError(f"no reference for {kind!r}")


def _angle(a: Floats, b: Floats) -> Floats:
    lengths = np.sqrt((a * a).sum(-1)) * np.sqrt((b * b).sum(-1))
    return np.arccos((a * b).sum(-1) / lengths)


def _haversine(a: Floats, b: Floats) -> Floats:
    half = (b - a) / 2
    level = np.cos(a[..., 1]) * np.cos(b[..., 1])
    return 2 * np.arcsin(np.sqrt(np.sin(half[..., 1]) ** 2 + level * np.sin(half[..., 0]) ** 2))


def _mean_distance(a: Floats, b: Floats) -> Floats:
    difference = (b - a).reshape(*(b - a).shape[:-1], -1, 2)
    return np.sqrt((difference * difference).sum(-1)).mean(-1)


_SMOOTH = {"angular": _angle, "great_circle": _haversine, "points": _mean_distance}


def _by_steps(function: Any, a: Floats, b: Floats) -> tuple[Floats, Floats, Floats]:
    """Return a function that is smooth where it is asked, and its slopes by an imaginary step."""
    a, b = np.broadcast_arrays(a, b)
    slopes = np.zeros((2, *a.shape))
    for which, k in np.ndindex(2, a.shape[-1]):
        moved = [x.astype(complex) for x in (a, b)]
        moved[which][..., k] += 1e-30j
        slopes[which, ..., k] = function(*moved).imag / 1e-30
    return function(a, b), slopes[0], slopes[1]


class Loss(NamedTuple):
    """A loss, its gradients for an upstream gradient, and the matching."""

    value: Floats
    grad_true: Floats
    grad_pred: Floats
    col4row: Floats


def loss(
    y_true: Floats,
    y_pred: Floats,
    mask: Floats | None = None,
    *,
    pred_mask: Floats | None = None,
    cost: str = "euclidean",
    pair: str | None = None,
    reduction: str = "mean",
    upstream: Any = 1.0,
) -> Loss:
    """Return the loss of `y_true[B, n, d]` and `y_pred[B, m, d]` and ``upstream * gradient``."""
    y_true, y_pred = y_true.astype(np.float64), y_pred.astype(np.float64)
    size, n, _ = y_true.shape
    mask = np.ones((size, n), bool) if mask is None else mask
    pred_mask = np.ones(y_pred.shape[:2], bool) if pred_mask is None else pred_mask
    each = np.zeros((size, n))
    matches = np.full((size, n), -1)
    grads = []
    for b in range(size):
        rows, cols = np.flatnonzero(mask[b]), np.flatnonzero(pred_mask[b])
        table, _, _ = pair_loss(cost, y_true[b][rows, None, :], y_pred[b][None, cols, :])
        i, j = linear_sum_assignment(table)
        i, j = rows[i], cols[j]
        matches[b, i] = j
        each[b, i], grad_a, grad_b = pair_loss(pair or cost, y_true[b, i], y_pred[b, j])
        grads.append((i, j, grad_a, grad_b))

    matched = matches >= 0
    per_sample = np.maximum(matched.sum(1), 1)
    # The weight of each pair in each reduction, and what flows back to it.
    if reduction == "none":
        value, weight = each, np.broadcast_to(upstream, each.shape)
    elif reduction == "sample":
        value = each.sum(1) / per_sample
        weight = np.broadcast_to((upstream / per_sample)[:, None], each.shape)
    else:
        count = max(matched.sum(), 1) if reduction == "mean" else 1
        value, weight = each.sum() / count, np.full(each.shape, upstream / count)
    grad_true, grad_pred = np.zeros_like(y_true), np.zeros_like(y_pred)
    for b, (i, j, grad_a, grad_b) in enumerate(grads):
        grad_true[b, i] = weight[b, i, None] * grad_a
        grad_pred[b, j] = weight[b, i, None] * grad_b
    return Loss(value, grad_true, grad_pred, matches)


def corners(box: Floats, form: str) -> tuple[list[Any], list[Any]]:
    """Return where `box[2 * axes]` in the format `form` begins and ends along each axis."""
    half = len(box) // 2
    first, second = list(box[:half]), list(box[half:])
    if form in ("xyxy", "xx", "xyzxyz"):
        return first, second
    if form == "xywh":
        return first, [p + r for p, r in zip(first, second, strict=True)]
    pairs = list(zip(first, second, strict=True))
    return [c - side / 2 for c, side in pairs], [c + side / 2 for c, side in pairs]


def overlap(kind: str, a: Floats, b: Floats, form: str) -> Any:
    """Return a measure of two boxes `a[2 * axes]` and `b[2 * axes]`, real or complex.

    Comparisons look at real parts, and the `alpha` of CIoU has no other: it is a constant.
    """
    (starts_a, ends_a), (starts_b, ends_b) = corners(a, form), corners(b, form)
    common = hull = size_a = size_b = 1.0
    offset = diagonal = 0.0
    for a1, a2, b1, b2 in zip(starts_a, ends_a, starts_b, ends_b, strict=True):
        first, second, third, last = sorted([a1, a2, b1, b2], key=np.real)
        apart = np.real(a2) <= np.real(b1) or np.real(b2) <= np.real(a1)
        # Of four ends in order, those in the middle bound the intersection, if there is one.
        common = common * (0.0 if apart else third - second)
        hull, size_a, size_b = hull * (last - first), size_a * (a2 - a1), size_b * (b2 - b1)
        offset = offset + ((a1 + a2 - b1 - b2) / 2) ** 2
        diagonal = diagonal + (last - first) ** 2
    joint = size_a + size_b - common
    value = common / joint
    if kind == "iou":
        return value
    if kind == "giou":
        return value + joint / hull - 1
    distance = offset / diagonal
    if kind == "diou":
        return value - distance
    (ax1, ay1), (ax2, ay2), (bx1, by1), (bx2, by2) = starts_a, ends_a, starts_b, ends_b
    turn = np.arctan((ax2 - ax1) / (ay2 - ay1)) - np.arctan((bx2 - bx1) / (by2 - by1))
    v = 4 / np.pi**2 * turn**2
    return value - distance - np.real(v / (1 - value + v)) * v


def overlaps(kind: str, a: Floats, b: Floats, form: str) -> tuple[Floats, Floats, Floats]:
    """Return the measures `[n, m]` of `a[n, d]` and `b[m, d]` and their slopes `[n, m, d]` by each.

    The slopes are differences by an imaginary step, which no cancellation limits.
    """
    step = 1e-30
    values = np.zeros((len(a), len(b)))
    slopes = np.zeros((2, *values.shape, a.shape[1]))
    for i, j in np.ndindex(values.shape):
        pair = np.stack([a[i], b[j]]).astype(complex)
        values[i, j] = overlap(kind, pair[0], pair[1], form).real
        for which, k in np.ndindex(2, a.shape[1]):
            moved = pair.copy()
            moved[which, k] += step * 1j
            slopes[which, i, j, k] = overlap(kind, moved[0], moved[1], form).imag / step
    return values, slopes[0], slopes[1]
