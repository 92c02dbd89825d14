"""The loss of a detector of two heads, beside its formulas in float64 and complex steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks, test_assigners
from hungarian_core.testing.driver import Driver

CLASSES, BINS, STEP = 3, 6, 1e-20
MASK = np.array([[True, True, True], [True, False, False], [False] * 3])
IGNORE = np.array([[False, False, True], [False] * 3, [False] * 3])
HEADS = ("one_to_many", "one_to_one")
WEIGHTS = {"class": 0.5, "ciou": 7.5, "dfl": 1.5}


def _maps() -> tuple[np.ndarray, np.ndarray]:
    points, strides = [], []
    for stride, side in ((8, 5), (16, 3)):
        y, x = np.divmod(np.arange(side**2), side)
        points.append((np.stack([x, y], axis=-1) + 0.5) * stride)
        strides.append(np.full(side**2, stride))
    return np.concatenate(points).astype(np.float32), np.concatenate(strides).astype(np.float32)


POINTS, STRIDES = _maps()
QUERIES = len(POINTS)


def _scene(dtype: str, spread: float = 1.0) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Return logits and edges of both heads, which guess at the objects, and the targets."""
    rng = np.random.default_rng(5)
    truth = np.concatenate(
        [rng.uniform(12, 28, (*MASK.shape, 2)), rng.uniform(14, 30, (*MASK.shape, 2))], axis=-1
    )
    arrays = []
    for _ in HEADS:
        arrays.append(rng.normal(size=(len(MASK), QUERIES, CLASSES)))
        guess = rng.integers(0, MASK.shape[1], (len(MASK), QUERIES))
        box = np.take_along_axis(truth, guess[..., None], axis=1)
        low, high = box[..., :2] - box[..., 2:] / 2, box[..., :2] + box[..., 2:] / 2
        apart = np.concatenate([POINTS - low, high - POINTS], axis=-1) / STRIDES[:, None]
        apart = apart + rng.normal(0, 0.3, apart.shape)
        edges = -spread * (apart[..., None] - np.arange(BINS)) ** 2
        arrays.append(edges + rng.normal(0, 0.3, edges.shape))
    fields = {
        "labels": np.where(MASK, rng.integers(0, CLASSES, MASK.shape), -7),
        "boxes": np.where(MASK[..., None], truth, np.nan).astype(np.float32).astype(dtype),
        "mask": MASK, "ignore": IGNORE,
        "weights": rng.uniform(0.5, 2, MASK.shape).astype(np.float32).astype(dtype),
    }  # fmt: skip
    return [x.astype(np.float32).astype(dtype) for x in arrays], fields


def _boxes(edges: np.ndarray) -> np.ndarray:
    """Return the corners of boxes `(B, Q, 4)`, real or complex."""
    likely = np.exp(edges)
    mean = (likely * np.arange(BINS)).sum(-1) / likely.sum(-1) * STRIDES[:, None]
    return np.concatenate([POINTS - mean[..., :2], POINTS + mean[..., 2:]], axis=-1)


def _where_less(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(a.real < b.real, a, b)


def _ciou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the complete IoU of corners, with a constant alpha."""
    sides = _where_less(a[..., 2:], b[..., 2:]) + _where_less(-a[..., :2], -b[..., :2])
    sides = np.where(sides.real > 0, sides, 0)
    hull = -_where_less(-a[..., 2:], -b[..., 2:]) - _where_less(a[..., :2], b[..., :2])
    common = sides[..., 0] * sides[..., 1]
    (wa, ha), (wb, hb) = (np.moveaxis(x[..., 2:] - x[..., :2], -1, 0) for x in (a, b))
    iou = common / (wa * ha + wb * hb - common)
    offset = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    v = 4 / np.pi**2 * (np.arctan(wb / hb) - np.arctan(wa / ha)) ** 2
    alpha = (v / (1 - iou + v)).real
    return iou - (offset**2).sum(-1) / (hull**2).sum(-1) - alpha * v


def _assigned(logits: np.ndarray, edges: np.ndarray, fields: Any, top_k: int) -> Any:
    corners = _boxes(edges)
    low, high = corners[..., :2], corners[..., 2:]
    boxes = np.concatenate([(low + high) / 2, high - low], axis=-1)
    rows, scores = [], []
    for b, mask in enumerate(MASK):
        at = np.flatnonzero(mask)
        one = {"points": POINTS.astype(float), "boxes": boxes[b], "logits": logits[b]}
        found, score = test_assigners.task_aligned(
            one, fields["labels"][b, at], fields["boxes"][b, at].astype(float), top_k
        )
        rows.append(np.where(found >= 0, np.append(at, -1)[found], -1))
        scores.append(score)
    return np.array(rows), np.array(scores)


def _of_queries(
    logits: np.ndarray, edges: np.ndarray, rows: np.ndarray, scores: np.ndarray, fields: Any
) -> dict[str, np.ndarray]:
    """Return the losses `(B, Q)` by name, real or complex, without weights."""
    matched, at = rows >= 0, np.maximum(rows, 0)
    label = np.take_along_axis(fields["labels"], at, axis=1)
    wanted = np.where(matched, scores, 0)[..., None] * (np.arange(CLASSES) == label[..., None])
    found = {"class": (np.log(1 + np.exp(logits)) - wanted * logits).sum(-1)}
    truth = np.take_along_axis(fields["boxes"].astype(float), at[..., None], axis=1)
    truth = np.where(matched[..., None], truth, 1)
    low, high = truth[..., :2] - truth[..., 2:] / 2, truth[..., :2] + truth[..., 2:] / 2
    corners = np.concatenate([low, high], axis=-1)
    found["ciou"] = scores * (1 - _ciou(_boxes(edges), corners))
    apart = np.concatenate([POINTS - low, high - POINTS], axis=-1) / STRIDES[:, None]
    apart = np.clip(apart, 0, BINS - 1 - 0.01)
    left = apart.astype(int)
    share = apart - left
    log_q = edges - np.log(np.exp(edges).sum(-1, keepdims=True))
    below, above = (
        np.take_along_axis(log_q, k[..., None], axis=-1)[..., 0] for k in (left, left + 1)
    )
    found["dfl"] = -scores * ((1 - share) * below + share * above).mean(-1)
    counted = np.where(matched, np.take_along_axis(fields["weights"], at, axis=1), 1)
    counted = np.where(matched & np.take_along_axis(IGNORE, at, axis=1), 0, counted)
    own = np.where(matched, counted, 0)
    return {k: x * (counted if k == "class" else own) for k, x in found.items()}


def _expected(arrays: list[np.ndarray], fields: Any) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Return losses and matchings by name, and the slopes of the total by the arrays."""
    want: dict[str, Any] = {}
    slopes = []
    for k, (head, top_k) in enumerate(zip(HEADS, (10, 1), strict=True)):
        logits, edges = both = [x.astype(float) for x in arrays[2 * k : 2 * k + 2]]
        rows, scores = _assigned(logits, edges, fields, top_k)
        ignored = (rows >= 0) & np.take_along_axis(IGNORE, np.maximum(rows, 0), axis=1)
        divisor = max(scores[~ignored].sum(), 1)
        found = _of_queries(logits, edges, rows, scores, fields)
        want |= {f"{head}_{n}": WEIGHTS[n] * x.sum() / divisor for n, x in found.items()}
        want |= {f"rows of {head}": rows, f"sum of {head}": scores[~ignored].sum()}
        for place, x in enumerate(both):
            slope = np.zeros(x.shape)
            for at in np.ndindex(*x.shape[2:]):
                moved = [y.astype(complex) for y in both]
                moved[place][(..., *at)] += STEP * 1j
                # A query's loss depends on its own numbers only, and scores are constants.
                losses = _of_queries(moved[0], moved[1], rows, scores, fields)
                each = sum(WEIGHTS[n] * np.imag(y) for n, y in losses.items())
                slope[(..., *at)] = each / STEP / divisor
            slopes.append(slope)
    return want, slopes


def _call(criterion: Any, driver: Driver, arrays: Any, fields: Any) -> Any:
    heads = {
        head: {"logits": arrays[2 * k], "edges": arrays[2 * k + 1]} for k, head in enumerate(HEADS)
    }
    dtype = driver.dtype(arrays[0])
    maps = {
        "points": driver.from_numpy(POINTS, dtype),
        "strides": driver.from_numpy(STRIDES, dtype),
    }  # fmt: skip
    return criterion({**heads, **maps}, fields)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_by_the_formulas(driver: Driver, dtype: str) -> None:
    """Losses, matchings and, by an upstream of 1.7, slopes, in one program."""
    if dtype != "float32":
        checks.skip_programs(driver)
    checks.need(driver, dtype)
    checks.skip_lengthy(driver)
    arrays, targets = _scene(dtype)
    criterion = hc.criteria.yolo_dual(CLASSES, bins=BINS, backend=driver.backend)
    want, slopes = _expected(arrays, targets)
    names = [f"{head}_{name}" for head in HEADS for name in WEIGHTS]
    fields = {name: driver.from_numpy(x) for name, x in targets.items()}

    def program(*given: Any) -> Any:
        out = _call(criterion, driver, given, fields)
        xp = driver.resolve(given[0]).namespace(given[0])
        found = [out.total, *(out.losses[name] for name in names)]
        found += [xp.astype(getattr(out, head).row4col, out.total.dtype) for head in HEADS]
        return xp.concat([xp.reshape(x, (-1,)) for x in found])

    inputs = [driver.from_numpy(x) for x in arrays]
    wanted = [np.array([sum(want[name] for name in names)]), *(want[name] for name in names)]
    wanted += [want[f"rows of {head}"] for head in HEADS]
    whole = np.concatenate([np.reshape(x, -1) for x in wanted])
    if driver.differentiable:
        above = np.zeros(len(whole))
        above[0] = 1.7
        value, grads = driver.value_and_grad(program, inputs, driver.from_numpy(above, dtype))
    else:
        value, grads = driver.trace(program)(*inputs), ()
    tolerance = 2e-5 if dtype == "float32" else 1e-9
    np.testing.assert_allclose(driver.to_numpy(value), whole, rtol=tolerance, atol=tolerance)
    for grad, slope in zip(grads, slopes, strict=bool(grads)):
        scale = np.abs(slope).max()
        assert scale > 0
        np.testing.assert_allclose(
            driver.to_numpy(grad), 1.7 * slope, rtol=0, atol=10 * tolerance * scale
        )


def test_little_is_divided_by_one(driver: Driver) -> None:
    """Where boxes are far off the scores add up to less than 1."""
    checks.skip_programs(driver)
    arrays, targets = _scene("float32", spread=-0.1)
    targets |= {"weights": np.ones_like(targets["weights"])}
    want, _ = _expected(arrays, targets)
    assert 0 < want["sum of one_to_one"] < 1
    criterion = hc.criteria.yolo_dual(CLASSES, bins=BINS, backend=driver.backend)
    fields = {name: driver.from_numpy(x) for name, x in targets.items()}
    out = _call(criterion, driver, [driver.from_numpy(x) for x in arrays], fields)
    for name, x in out.losses.items():
        np.testing.assert_allclose(driver.to_numpy(x), want[name], rtol=1e-4, err_msg=name)


def test_nothing_to_learn(driver: Driver) -> None:
    """Without objects classes lose alone; what queries without an object hold is not met."""
    checks.skip_programs(driver)
    arrays, targets = _scene("float32")
    want, _ = _expected(arrays, targets)
    for k, head in enumerate(HEADS):
        arrays[2 * k + 1][want[f"rows of {head}"] < 0] = np.nan
    fields = {name: driver.from_numpy(x) for name, x in targets.items()}
    criterion = hc.criteria.yolo_dual(CLASSES, bins=BINS, backend=driver.backend)
    inputs = [driver.from_numpy(x) for x in arrays]
    if driver.differentiable:
        _, grads = driver.value_and_grad(
            lambda *xs: _call(criterion, driver, xs, fields).total, inputs,
            driver.from_numpy(np.array(1.7, np.float32)),
        )  # fmt: skip
        assert all(np.isfinite(driver.to_numpy(grad)).all() for grad in grads)
    out = _call(criterion, driver, inputs, fields)
    for name, x in out.losses.items():
        np.testing.assert_allclose(driver.to_numpy(x), want[name], rtol=1e-4, err_msg=name)
    empty = {k: driver.from_numpy(x[:, :0]) for k, x in targets.items()}
    out = _call(criterion, driver, [driver.from_numpy(x) for x in _scene("float32")[0]], empty)
    for name, x in out.losses.items():
        assert (driver.to_numpy(x) > 0) == name.endswith("class")


def test_what_is_wrong_is_told(driver: Driver) -> None:
    if not driver.raises:
        pytest.skip("values are not read")
    checks.skip_programs(driver)
    arrays, targets = _scene("float32")
    fields = {name: driver.from_numpy(x) for name, x in targets.items()}
    inputs = [driver.from_numpy(x) for x in arrays]
    criterion = hc.criteria.yolo_dual(CLASSES, bins=BINS + 1, backend=driver.backend)
    with pytest.raises(ValueError, match=r"edges has shape .*; expected \(3, 34, 4, 7\)"):
        _call(criterion, driver, inputs, fields)
    with pytest.raises(ValueError, match="expected 'one_to_many'"):
        criterion({"points": inputs[0], "strides": inputs[0]}, fields)
    with pytest.raises(ValueError, match="top_k is 3; expected two numbers"):
        hc.criteria.DualLoss(CLASSES, top_k=3)  # type: ignore[arg-type]  # the mistake under test
