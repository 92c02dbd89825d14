"""Assigners beside loops over images, objects and queries, written from the papers' formulas."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.assigners import ATSS, Assigned, SimOTA, TaskAligned
from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver

CLASSES, STRIDES, SIDE = 3, (8, 16), 64
MASK = np.array([[True, True, True, True], [True, False, True, False], [False] * 4])
LEVELS = tuple((SIDE // stride) ** 2 for stride in STRIDES)
QUERIES = sum(LEVELS)


def _points() -> tuple[np.ndarray, np.ndarray]:
    points, strides = [], []
    for stride in STRIDES:
        steps = (np.arange(SIDE // stride) + 0.5) * stride
        y, x = np.meshgrid(steps, steps, indexing="ij")
        points.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        strides.append(np.full(points[-1].shape[0], float(stride)))
    return np.concatenate(points), np.concatenate(strides)


def scene(dtype: str = "float32") -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return outputs and targets in pixels: objects that overlap, and boxes that guess at them."""
    rng = np.random.default_rng(3)
    points, strides = _points()
    truth = np.concatenate(
        [rng.uniform(18, 46, (*MASK.shape, 2)), rng.uniform(9, 40, (*MASK.shape, 2))], axis=-1
    )
    labels = rng.integers(0, CLASSES, MASK.shape)
    guess = rng.integers(0, MASK.shape[1], (len(MASK), QUERIES))
    boxes = np.take_along_axis(truth, guess[..., None], axis=1)
    boxes = boxes + rng.normal(0, 5, boxes.shape)
    boxes[..., 2:] = np.maximum(boxes[..., 2:], 2)
    anchors = np.concatenate([points, np.stack([strides * 2.5] * 2, axis=-1)], axis=-1)
    outputs = {
        "logits": rng.normal(size=(len(MASK), QUERIES, CLASSES)), "boxes": boxes,
        "objectness": rng.normal(size=(len(MASK), QUERIES)), "points": points,
        "strides": strides, "anchors": anchors,
    }  # fmt: skip
    truth = np.where(MASK[..., None], truth, np.nan)
    outputs = {k: x.astype(np.float32).astype(dtype) for k, x in outputs.items()}
    truth = truth.astype(np.float32).astype(dtype)
    return outputs, {"labels": np.where(MASK, labels, 99), "boxes": truth, "mask": MASK}


def _corners(box: np.ndarray) -> np.ndarray:
    x, y, w, h = box
    return np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    p, q = _corners(a), _corners(b)
    sides = np.minimum(p[2:], q[2:]) - np.maximum(p[:2], q[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def ciou(a: np.ndarray, b: np.ndarray) -> float:
    """Return the complete IoU (Zheng et al., 2020, equations 8 to 12)."""
    p, q, iou = _corners(a), _corners(b), _iou(a, b)
    hull = np.maximum(p[2:], q[2:]) - np.minimum(p[:2], q[:2])
    v = 4 / np.pi**2 * (np.arctan(b[2] / b[3]) - np.arctan(a[2] / a[3])) ** 2
    return iou - ((a[:2] - b[:2]) ** 2).sum() / (hull**2).sum() - v * v / (1 - iou + v)


def _inside(point: np.ndarray, box: np.ndarray) -> bool:
    low, high = _corners(box)[:2], _corners(box)[2:]
    return bool(((point > low) & (point < high)).all())


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _first(keys: dict[int, Any], count: int) -> list[int]:
    """Return the queries of the least keys."""
    return sorted(keys, key=lambda q: (keys[q], q))[:count]


def task_aligned(
    out: dict[str, np.ndarray], labels: np.ndarray, truth: np.ndarray, top_k: int,
    keep: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return the objects of the queries of an image, and their target scores."""
    queries = len(out["points"])
    overlap = np.zeros((len(truth), queries))
    metric = np.zeros_like(overlap)
    for m, box in enumerate(truth):
        for q in range(queries):
            if _inside(out["points"][q], box):
                overlap[m, q] = max(ciou(box, out["boxes"][q]), 0)
                metric[m, q] = _sigmoid(out["logits"][q, labels[m]]) ** 0.5 * overlap[m, q] ** 6
    taken: dict[int, list[int]] = {}
    for m in range(len(truth)):
        for q in _first({q: -x for q, x in enumerate(metric[m]) if x > 0}, top_k):
            taken.setdefault(q, []).append(m)
    found = np.full(queries, -1)
    for q, rows in taken.items():
        found[q] = rows[0] if len(rows) == 1 else int(overlap[:, q].argmax())
    for m in range(len(truth)):
        mine = {int(q): -metric[m, q] for q in np.flatnonzero(found == m)}
        for q in set(mine) - set(_first(mine, queries if keep is None else keep)):
            found[q] = -1
    score = np.zeros(queries)
    for m in range(len(truth)):
        own = np.flatnonzero(found == m)
        for q in map(int, own):
            score[q] = metric[m, q] * overlap[m, own].max() / (metric[m, own].max() + 1e-9)
    return found, score


def sim_ota(
    out: dict[str, np.ndarray], labels: np.ndarray, truth: np.ndarray, objectness: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The same, with the published cost of being outside."""
    near = np.zeros((len(truth), QUERIES), bool)
    inside, cost, overlap = near.copy(), np.zeros(near.shape), np.zeros(near.shape)
    for m, box in enumerate(truth):
        for q in range(QUERIES):
            inside[m, q] = _inside(out["points"][q], box)
            near[m, q] = (abs(out["points"][q] - box[:2]) < 2.5 * out["strides"][q]).all()
            overlap[m, q] = _iou(box, out["boxes"][q])
            p = _sigmoid(out["logits"][q])
            if objectness:
                p = np.sqrt(p * _sigmoid(out["objectness"][q]))
            wanted = np.arange(CLASSES) == labels[m]
            entropy = -(wanted * np.log(p) + ~wanted * np.log(1 - p)).sum()
            cost[m, q] = entropy - 3 * np.log(overlap[m, q] + 1e-8)
    cost += 1e5 * ~(inside & near)
    candidates = np.flatnonzero((inside | near).any(0))
    taken: dict[int, list[int]] = {}
    for m in range(len(truth)):
        count = max(int(np.sort(overlap[m, candidates])[::-1][:10].sum()), 1)
        for q in _first({int(q): cost[m, q] for q in candidates}, count):
            taken.setdefault(q, []).append(m)
    found, score = np.full(QUERIES, -1), np.zeros(QUERIES)
    for q, rows in taken.items():
        found[q] = rows[0] if len(rows) == 1 else int(cost[:, q].argmin())
        score[q] = overlap[found[q], q]
    return found, score


def atss(
    out: dict[str, np.ndarray], labels: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same, from anchors."""
    found, score = np.full(QUERIES, -1), np.zeros(QUERIES)
    for m, box in enumerate(truth):
        near: list[int] = []
        for start, size in zip((0, LEVELS[0]), LEVELS, strict=True):
            apart = {
                start + k: ((out["anchors"][start + k, :2] - box[:2]) ** 2).sum()
                for k in range(size)
            }
            near += _first(apart, 9)
        overlap = {q: _iou(box, out["anchors"][q]) for q in near}
        values = np.array([*overlap.values()])
        bound = values.mean() + values.std(ddof=1)
        for q in near:
            fits = overlap[q] >= bound and _inside(out["anchors"][q, :2], box)
            if fits and overlap[q] > score[q]:
                found[q], score[q] = m, overlap[q]
    return found, score


RULES: tuple[tuple[Any, Any], ...] = (
    (TaskAligned, partial(task_aligned, top_k=10)),
    (partial(TaskAligned, 7, keep=1), partial(task_aligned, top_k=7, keep=1)),
    (SimOTA, partial(sim_ota, objectness=False)),
    (SimOTA, partial(sim_ota, objectness=True)),
    (partial(ATSS, LEVELS), atss),
)


def _expected(rule: Callable[..., Any]) -> Assigned:
    outputs, fields = scene("float64")
    rows, scores = [], []
    for b, mask in enumerate(MASK):
        at = np.flatnonzero(mask)
        whole = ("points", "strides", "anchors")
        one = {k: x if k in whole else x[b] for k, x in outputs.items()}
        found, score = rule(one, fields["labels"][b, at], fields["boxes"][b, at])
        rows.append(np.where(found >= 0, np.append(at, -1)[found], -1))
        scores.append(score)
    return Assigned(np.array(rows), np.array(scores))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_by_loops(driver: Driver, dtype: str) -> None:
    """All of them in one program, or one of each kind, since compiling is most of the time."""
    if dtype != "float32":
        checks.skip_programs(driver)
    checks.need(driver, dtype)
    chosen = range(0, len(RULES), 1 if driver.thorough and driver.thorough_eager else 2)
    outputs, fields = scene(dtype)
    names, keys = tuple(outputs), tuple(fields)

    def program(*arrays: Any) -> tuple[Any, ...]:
        given = dict(zip(names, arrays[: len(names)], strict=True))
        truth = dict(zip(keys, arrays[len(names) :], strict=True))
        bare = {k: x for k, x in given.items() if k != "objectness"}
        found: list[Any] = []
        for k in chosen:
            found += RULES[k][0](backend=driver.backend)(given if k == 3 else bare, truth)
        return tuple(found)

    inputs = [driver.from_numpy(x) for x in (*outputs.values(), *fields.values())]
    found = [driver.to_numpy(x) for x in driver.trace(program)(*inputs)]
    for at, k in enumerate(chosen):
        make, rule = RULES[k]
        want = _expected(rule)
        several = max(np.bincount(row[row >= 0]).max() for row in want.row4col[:2])
        assert several == 1 if k == 1 else several > 2
        rows, score = found[2 * at : 2 * at + 2]
        np.testing.assert_array_equal(rows, want.row4col, err_msg=f"{k}: {make}")
        assert str(score.dtype) == dtype
        np.testing.assert_allclose(score, want.score, rtol=0, atol=2e-5, err_msg=f"{k}: {make}")


def test_the_loss_of_what_they_take(driver: Driver) -> None:
    """An object has several queries, and losses are divided by the pairs."""
    checks.skip_programs(driver)
    outputs, fields = scene()
    given = {name: driver.from_numpy(x) for name, x in outputs.items()}
    truth = {name: driver.from_numpy(x) for name, x in fields.items()}
    found = TaskAligned(backend=driver.backend)(given, truth)
    criterion = hc.SetLoss([hc.terms.Boxes(check_targets=False)], backend=driver.backend)
    out = criterion(given, truth, assignment=found.row4col)
    rows = _expected(RULES[0][1]).row4col
    chosen = np.take_along_axis(fields["boxes"], np.maximum(rows, 0)[..., None], axis=1)
    apart = np.abs(outputs["boxes"] - chosen).sum(-1)[rows >= 0]
    np.testing.assert_allclose(driver.to_numpy(out.losses["bbox"]), 5 * apart.mean(), rtol=1e-5)


def test_what_cannot_be_learnt_is_not_taken(driver: Driver) -> None:
    """Neither queries that are masked nor what is not a number; and no object is taken of none."""
    checks.skip_programs(driver)
    outputs, fields = scene()
    there = np.ones((len(MASK), QUERIES), bool)
    for _, rule in RULES:
        taken = _expected(rule).row4col
        there[:2] &= np.where(np.arange(QUERIES) % 2, True, taken[:2] < 0)
    broken = {**outputs, "logits": np.where(there[..., None], outputs["logits"], np.nan)}
    for k, (make, _) in enumerate(RULES):
        rule = make(backend=driver.backend)
        arrays = [outputs] if k == 4 else [outputs, broken]
        rows = []
        for given, mask in zip(arrays, (there, None), strict=False):
            bare = {k: driver.from_numpy(x) for k, x in given.items()}
            truth = {name: driver.from_numpy(x) for name, x in fields.items()}
            only = None if mask is None else driver.from_numpy(mask)
            rows.append(driver.to_numpy(rule(bare, truth, query_mask=only).row4col))
        assert (rows[0][~there] == -1).all()
        assert (rows[0] >= 0).any()
        np.testing.assert_array_equal(rows[0], rows[-1])
        empty: dict[str, np.ndarray] = {
            "labels": np.zeros((3, 0), np.int64),
            "boxes": np.zeros((3, 0, 4), np.float32),
        }
        bare = {name: driver.from_numpy(x) for name, x in outputs.items()}
        none = rule(bare, {name: driver.from_numpy(x) for name, x in empty.items()})
        assert (driver.to_numpy(none.row4col) == -1).all()
        assert (driver.to_numpy(none.score) == 0).all()


def test_equal_ones_are_taken_in_order(driver: Driver) -> None:
    """Every framework takes the first, as many as there are to take."""
    checks.skip_programs(driver)
    points, strides = _points()
    alike = {
        "points": points, "strides": strides, "logits": np.zeros((1, QUERIES, 1)),
        "boxes": np.full((1, QUERIES, 4), 32.0), "anchors": np.full((QUERIES, 4), 32.0),
    }  # fmt: skip
    fields = {"labels": np.zeros((1, 1), np.int64), "boxes": np.full((1, 1, 4), 32.0)}
    given, truth = (
        {
            name: driver.from_numpy(x.astype(np.float32) if x.dtype == float else x)
            for name, x in of.items()
        }
        for of in (alike, fields)
    )  # fmt: skip
    inside = np.flatnonzero((abs(points - 32) < 16).all(-1))
    near = (abs(points - 32) < 2.5 * strides[:, None]).all(-1)
    first = np.flatnonzero((abs(points - 32) < 16).all(-1) & near)
    options: Any = {"backend": driver.backend}
    for rule, want in (
        (TaskAligned(5, **options), inside[:5]),
        (SimOTA(**options), first[:10]),
        (ATSS(LEVELS, 2, **options), np.array([0, 1, LEVELS[0], LEVELS[0] + 1])),
    ):
        rows = driver.to_numpy(rule(given, truth).row4col)[0]
        assert np.flatnonzero(rows >= 0).tolist() == want.tolist()


def test_what_is_wrong_is_told(driver: Driver) -> None:
    if not driver.raises:
        pytest.skip("values are not read")
    checks.skip_programs(driver)
    outputs, fields = scene()
    fields["labels"] = np.where(MASK, fields["labels"], 0)
    wrong: tuple[tuple[Any, dict[str, Any], dict[str, Any], str], ...] = (
        (TaskAligned, {"points": None}, {}, r"expected 'points' \(Q, 2\) among them"),
        (TaskAligned, {"points": outputs["points"][:-1]}, {}, r"points has shape .* \(80, 2\)"),
        (TaskAligned, {"boxes": outputs["boxes"][..., :3]}, {}, "boxes has shape"),
        (SimOTA, {"strides": outputs["strides"][:-1]}, {}, "strides has shape"),
        (SimOTA, {}, {"labels": fields["labels"] + 3}, "labels"),
        (TaskAligned, {}, {"boxes": fields["boxes"][:2]}, "boxes has shape"),
        (partial(ATSS, [64, 8]), {}, {}, "there are 80 anchors, and levels is"),
    )
    for make, other, truth, message in wrong:
        given = {k: x for k, x in {**outputs, **other}.items() if x is not None}
        arrays = {name: driver.from_numpy(x) for name, x in given.items()}
        targets = {name: driver.from_numpy(x) for name, x in {**fields, **truth}.items()}
        with pytest.raises(ValueError, match=message):
            make(backend=driver.backend)(arrays, targets)
    for make_wrong, message in (
        (lambda: TaskAligned(0), "top_k is 0"),
        (lambda: TaskAligned(keep=0), "keep is 0"),
        (lambda: TaskAligned(overlap="giou"), "overlap is 'giou'"),  # type: ignore[arg-type]  # the mistake under test
        (lambda: SimOTA(radius=0.0), "radius"),
        (lambda: ATSS([]), "levels is"),
        (lambda: ATSS([3, 0]), "levels is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make_wrong()
