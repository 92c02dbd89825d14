"""Polylines, polygons and lanes, beside every order tried."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.terms import Polylines
from hungarian_core.testing import checks, comparisons
from hungarian_core.testing.driver import Driver


def _orders(line: Any, closed: Any, repeated: bool = False, directed: bool = False) -> list[Any]:
    """Return a line in all its orders, in the order of their numbers; None where there is none."""
    count = len(line)
    found: list[Any] = []
    for way in (line,) if directed else (line, line[::-1]):
        for shift in range(count):
            if not closed and shift:
                found.append(None)
            elif repeated and closed:
                ring = np.roll(way[:-1], -shift, axis=0)
                found.append(np.concatenate([ring, ring[:1]]))
            else:
                found.append(np.roll(way, -shift, axis=0))
    return found


def _l1(a: Any, b: Any) -> Any:
    return ((a - b) * np.sign((a - b).real)).sum()


def _turns(a: Any, b: Any, ring: Any, scale: Any = 1.0) -> Any:
    """Return one less the cosine for each edge, of numbers that may be complex."""
    a, b = (np.concatenate([x, x[:1]]) if ring else x for x in (a * scale, b * scale))
    a, b = np.diff(a, axis=0), np.diff(b, axis=0)
    return 1 - (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


def _chamfer(a: Any, b: Any) -> Any:
    apart = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    first, second = apart.real.argmin(1), apart.real.argmin(0)
    forth, back = apart[np.arange(len(a)), first], apart[second, np.arange(len(b))]
    return (forth.mean() + back.mean()) / 2


def pair_losses(
    closed: Any, mean: bool = False, scale: Any = 1.0, chamfer: bool = False, **options: Any
) -> Any:
    def losses(query: Any, truth: Any) -> dict[str, Any]:
        a, b = query["points"], truth["points"]
        ring = truth["closed"] > 0 if closed == "field" else closed
        orders = list(b) if b.ndim == 3 else _orders(b, ring, **options)
        orders = [x for x in orders if x is not None]
        points = min(orders, key=lambda x: _l1(a, x).real)
        turns = _turns(a, points, ring and not options.get("repeated"), scale)
        found = {
            "points": _l1(a, points) / (len(a) if mean else 1),
            "direction": turns.mean() if mean else turns.sum(),
        }
        return {**found, "chamfer": _chamfer(a, points)} if chamfer else found

    return losses


def _points(*extents: int) -> Any:
    return lambda rng, shape: {"points": rng.uniform(0, 1, (*shape, *extents))}


def _flagged(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    closed = np.arange(np.prod(shape)).reshape(shape) % 3 == 0
    return {"points": rng.uniform(0, 1, (*shape, 4, 3)), "closed": closed}


def _rings(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    points = rng.uniform(0, 1, (*shape, 5, 2))
    points[..., -1, :] = points[..., 0, :]
    return {"points": points}


EXAMPLES = (
    comparisons.Example(
        "mixed",
        lambda: Polylines(
            point_weight=2.0, direction_weight=3.0, chamfer_weight=0.5, direction_cost=0.7,
            chamfer_cost=4.0, closed="closed", scale=(1.0, 3.0, 2.0), reduce="mean",
        ),
        _points(4, 3), _flagged, pair_losses("field", True, np.array([1.0, 3.0, 2.0]), True),
        {"points": 2.0, "direction": 0.7, "chamfer": 4.0},
    ),
    comparisons.Example(
        "lines", Polylines, _points(4, 2), _points(4, 2), pair_losses(False), {"points": 5.0}
    ),
    comparisons.Example(
        "lanes", lambda: Polylines(directed=True, point_cost=2.0), _points(4, 2), _points(4, 2),
        pair_losses(False, directed=True), {"points": 2.0},
    ),
    comparisons.Example(
        "polygons", lambda: Polylines(closed=True), _points(4, 2), _points(4, 2), pair_losses(True),
        {"points": 5.0},
    ),
    comparisons.Example(
        "rings", lambda: Polylines(closed=True, repeated=True, direction_weight=2.0),
        _points(5, 2), _rings, pair_losses(True, repeated=True), {"points": 5.0},
    ),
    comparisons.Example(
        "given", lambda: Polylines(given=True, reduce="mean"), _points(4, 2), _points(3, 4, 2),
        pair_losses(False, True), {"points": 5.0},
    ),
)  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_by_a_loop(driver: Driver, example: comparisons.Example, dtype: str) -> None:
    if (str(example), dtype) != ("mixed", "float32"):
        checks.skip_slow(driver)
    if str(example) != "mixed":
        checks.skip_programs(driver)
    comparisons.check(driver, example, dtype)


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("directed", [False, True])
def test_every_order(driver: Driver, directed: bool, repeated: bool) -> None:
    """Of 20 points, as MapTR has them: the distance, the order and the points."""
    checks.skip_long(driver)
    rng = np.random.default_rng(1)
    b = rng.uniform(0, 1, (3, 4, 20, 2)).astype(np.float32)
    closed = np.array([[True, False, True, False]] * 3)
    if repeated:
        b[closed, -1] = b[closed, 0]
    lines = zip(b.reshape(-1, 20, 2), closed.reshape(-1), strict=True)
    orders = [_orders(line, ring, repeated, directed) for line, ring in lines]
    kept = [[k for k, x in enumerate(every) if x is not None] for every in orders]
    wanted = np.array([rng.choice(numbers) for numbers in kept])
    # The same line in some order, and noise less than what orders differ by.
    a = np.stack([every[k] for every, k in zip(orders, wanted, strict=True)]).reshape(b.shape)
    a = a + rng.normal(0, 0.01, a.shape).astype(np.float32)
    arrays = [driver.from_numpy(x) for x in (a, b, closed)]
    found = hc.polylines.align(
        *arrays[:2], closed=arrays[2], repeated=repeated, directed=directed, backend=driver.backend
    )
    order = driver.to_numpy(found.order)
    if repeated:  # begun at the last point, which is the first
        wanted = np.where(wanted % 20 == 19, wanted - 19, wanted)
    assert (order.reshape(-1) == wanted).all()
    best = [
        min(_l1(x, y) for y in every if y is not None)
        for x, every in zip(a.reshape(-1, 20, 2).astype(float), orders, strict=True)
    ]
    np.testing.assert_allclose(driver.to_numpy(found.distance).reshape(-1), best, rtol=1e-5)
    taken = zip(orders, order.reshape(-1), strict=True)
    points = np.stack([every[k] for every, k in taken]).reshape(b.shape)
    assert (driver.to_numpy(found.points) == points).all()
    again = hc.polylines.reorder(arrays[1], found.order, repeated=repeated, backend=driver.backend)
    assert (driver.to_numpy(again) == points).all()


def test_gradients_of_both(driver: Driver) -> None:
    """By both lines, of which the second is broadcast, from an upstream gradient of 1.7."""
    if not driver.differentiable:
        pytest.skip("no gradients")
    checks.skip_lengthy(driver)
    rng = np.random.default_rng(2)
    a, b = rng.uniform(0, 1, (2, 5, 2)), rng.uniform(0, 1, (1, 5, 2))
    a, b = a.astype(np.float32), b.astype(np.float32)

    def program(a: Any, b: Any) -> Any:
        found = hc.polylines.align(a, b, closed=True, backend=driver.backend)
        turns = hc.polylines.direction_loss(a, found.points, closed=True, backend=driver.backend)
        apart = hc.polylines.chamfer_distance(a[..., :4, :], b, backend=driver.backend)
        return found.distance + turns * 3 + apart * 2

    def reference(a: Any, b: Any) -> Any:
        points = min(_orders(b, True), key=lambda x: _l1(a, x).real)
        return _l1(a, points) + 3 * _turns(a, points, True).sum() + 2 * _chamfer(a[:4], b)

    wanted = np.array([reference(x, b[0].astype(float)) for x in a.astype(float)])
    slopes = [np.zeros(x.shape) for x in (a, b)]
    for k, side, *at in np.ndindex(2, 2, 5, 2):
        moved = [a[k].astype(complex), b[0].astype(complex)]
        moved[side][tuple(at)] += 1e-30j
        slopes[side][(0 if side else k, *at)] += 1.7e30 * reference(*moved).imag
    above = driver.from_numpy(np.full(2, 1.7, np.float32))
    inputs = [driver.from_numpy(x) for x in (a, b)]
    value, grads = driver.value_and_grad(program, inputs, above)
    np.testing.assert_allclose(driver.to_numpy(value), wanted, rtol=1e-5)
    for grad, slope in zip(grads, slopes, strict=True):
        np.testing.assert_allclose(driver.to_numpy(grad), slope, rtol=1e-4, atol=1e-4)


def test_degenerate(driver: Driver) -> None:
    """Points at one place, the same line, huge and tiny ones."""
    line = np.array([[0.1, 0.2], [0.4, 0.2], [0.4, 0.7]])
    lines = [line * 0 + 0.3, line, line[::-1], line * 1e30, line * 1e-30, line * 1e-42, line * 0]
    truth = [line, line, line, line, line * 1e-30, line * 3e-42, line * 0]
    outputs = {"points": np.stack(lines).astype(np.float32)}
    fields = {"points": np.stack(truth).astype(np.float32), "closed": np.arange(7) % 2 == 0}
    term = comparisons.Example(
        "degenerate", lambda: Polylines(chamfer_weight=1.0, closed="closed"), _points(), _points(),
        pair_losses(True), {},
    )  # fmt: skip
    comparisons.check_finite(driver, term, outputs, fields)


def test_nan_stays(driver: Driver) -> None:
    checks.skip_long(driver)
    line = np.array([[0.1, 0.2], [0.4, 0.2], [0.4, 0.7]], np.float32)
    bad = line.copy()
    bad[1, 0] = np.nan
    for a, b in ((line, bad), (bad, line)):
        a, b = driver.from_numpy(a), driver.from_numpy(b)
        found = (
            hc.polylines.align(a, b, closed=True, backend=driver.backend).distance,
            hc.polylines.direction_loss(a, b, backend=driver.backend),
            hc.polylines.chamfer_distance(a, b, backend=driver.backend),
        )
        assert all(np.isnan(driver.to_numpy(x)) for x in found)


@pytest.mark.parametrize(
    ("options", "point", "message"),
    [({}, np.inf, "finite points"), ({"repeated": True}, 0.4, "as its first")],
    ids=["infinite", "not repeated"],
)
def test_impossible_truth(driver: Driver, options: Any, point: float, message: str) -> None:
    if not driver.raises or not driver.static_shapes:
        pytest.skip("values are not read")
    checks.skip_programs(driver)
    criterion = hc.SetLoss([Polylines(closed="closed", **options)], backend=driver.backend)
    truth = np.full((1, 2, 3, 2), 0.5, np.float32)
    truth[0, 1, 0, 1] = point
    fields = {
        "points": driver.from_numpy(truth),
        "closed": driver.from_numpy(np.ones((1, 2), bool)),
    }
    outputs = {"points": driver.from_numpy(np.full((1, 2, 3, 2), 0.5, np.float32))}
    with pytest.raises(ValueError, match=f"image 0, object 1.*{message}.*check_targets=False"):
        criterion(outputs, fields)


def test_map_tr(driver: Driver) -> None:
    """Its terms by their published formulas, for a matching that is plain."""
    checks.skip_programs(driver)
    rng = np.random.default_rng(3)
    truth, labels = rng.uniform(0, 1, (2, 5, 2)), np.array([1, 0])
    truth[0, -1] = truth[0, 0]
    closed = np.array([True, False])
    points, logits = rng.uniform(2, 3, (4, 5, 2)), rng.normal(0, 0.3, (4, 2))
    ring = _orders(truth[0], True, repeated=True)[7]
    points[2], points[1] = ring + rng.normal(0, 0.02, (5, 2)), truth[1, ::-1] + 0.01
    arrays = (
        {"points": points[None].astype(np.float32), "logits": logits[None].astype(np.float32)},
        {"points": truth[None].astype(np.float32), "labels": labels[None], "closed": closed[None]},
    )
    given = [{name: driver.from_numpy(x) for name, x in side.items()} for side in arrays]
    found = hc.criteria.map_tr(2, backend=driver.backend)(*given)
    assert driver.to_numpy(found.assignment.col4row).tolist() == [[2, 1]]
    target = np.zeros((4, 2))
    target[[2, 1], labels] = 1
    p = 1 / (1 + np.exp(-logits))
    right, wrong = -0.25 * (1 - p) ** 2 * np.log(p), -0.75 * p**2 * np.log(1 - p)
    pairs = ((points[2], ring), (points[1], truth[1, ::-1]))
    wanted = {
        "class": 2 * np.where(target == 1, right, wrong).sum() / 2,
        "points": 5 * sum(_l1(a, b) for a, b in pairs) / 2,
        "direction": 0.005 * sum(_turns(a, b, False, [30, 60]).sum() for a, b in pairs) / 2,
    }
    for name, x in wanted.items():
        np.testing.assert_allclose(driver.to_numpy(found.losses[name]), x, rtol=1e-4, err_msg=name)
