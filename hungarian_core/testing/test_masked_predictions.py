"""Masks of predictions in `loss`, `HungarianLoss` and `pit_loss`: where there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc
from hungarian_core.testing import checks, reference
from hungarian_core.testing.driver import Driver

# As many predictions as samples: a mask put in a wrong place would broadcast.
SIZE, N, M, D = 4, 3, 4, 3
MASK = np.array([[1, 1, 0], [1, 1, 1], [1, 1, 1], [0, 0, 0]], bool)
# All, fewer than objects, none, some.
PRED_MASK = np.array([[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 1, 1]], bool)
UPSTREAM = np.float32(2.5)


def _data(level: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return truths and predictions; there is NaN where there is none."""
    rng = np.random.default_rng(0)
    true, pred = rng.normal(size=(SIZE, N, D)), rng.normal(size=(SIZE, M, D))
    scale = 64 if level else 1
    pair = [(level + x / scale).astype(np.float32) for x in (true, pred)]
    pair[0][~MASK], pair[1][~PRED_MASK] = np.nan, np.nan
    return pair[0], pair[1]


def _sums(driver: Driver, program: Callable[..., Any]) -> list[np.ndarray]:
    """Return the value of a loss, a sum, and its gradients where there are any."""
    data = [driver.from_numpy(x) for x in _data()]
    if not driver.differentiable:
        return [driver.to_numpy(driver.trace(program)(*data))]
    upstream = driver.from_numpy(np.asarray(UPSTREAM))
    value, grads = driver.value_and_grad(program, data, upstream)
    return [driver.to_numpy(x) for x in (value, *grads)]


def _close(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    for x, y in zip(found, expected[: len(found)], strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=2e-6 * np.abs(y).max())


def _expected(**options: Any) -> reference.Loss:
    return reference.loss(*_data(), MASK, pred_mask=PRED_MASK, **options)


def test_loss(driver: Driver) -> None:
    masks = driver.from_numpy(MASK), driver.from_numpy(PRED_MASK)

    def program(true: Any, pred: Any) -> Any:
        return hc.loss(
            true, pred, mask=masks[0], pred_mask=masks[1], reduction="sum", backend=driver.backend
        )

    expected = _expected(reduction="sum", upstream=UPSTREAM)
    assert np.isfinite(expected.grad_pred).all()
    assert (expected.grad_pred[~PRED_MASK] == 0).all()
    _close(_sums(driver, program), expected)


def test_slices(driver: Driver) -> None:
    """And each sample has the mean of the pairs that it has."""
    checks.skip_lengthy(driver)

    def program(true: Any, pred: Any, mask: Any, pred_mask: Any) -> Any:
        criterion = hc.HungarianLoss([1, 2], 1, reduction="sample", backend=driver.backend)
        options = {"mask": mask, "pred_mask": pred_mask, "return_assignment": True}
        value, found = criterion(true, pred, **options)
        return value, found.col4row

    arrays = [driver.from_numpy(x) for x in (*_data(), MASK, PRED_MASK)]
    value, col4row = (driver.to_numpy(x) for x in driver.trace(program)(*arrays))
    true, pred = _data()
    matches = reference.loss(true[..., 1:], pred[..., 1:], MASK, pred_mask=PRED_MASK).col4row
    np.testing.assert_array_equal(col4row, matches)
    assert (matches >= 0).sum(1).tolist() == [2, 2, 0, 0]
    for b, row in enumerate(matches):
        i = np.flatnonzero(row >= 0)
        squares = (true[b, i].astype(np.float64) - pred[b, row[i]]) ** 2
        each = squares[:, 0] + squares[:, 1:].mean(1)
        assert value[b] == pytest.approx(each.mean() if len(i) else 0, rel=1e-6)


def _signals(true: np.ndarray, pred: np.ndarray) -> list[np.ndarray]:
    """Return the sum of mean squares of the best pairs, its gradients and the matches."""
    value, grads, matches = 0.0, [np.zeros(pred.shape), np.zeros(true.shape)], -np.ones((SIZE, N))
    for b in range(SIZE):
        rows, cols = np.flatnonzero(MASK[b]), np.flatnonzero(PRED_MASK[b])
        difference = true[b][rows][:, None].astype(np.float64) - pred[b][cols][None]
        table = (difference**2).mean(-1)
        for i, j in zip(*linear_sum_assignment(table), strict=True):
            value += table[i, j]
            matches[b, rows[i]] = cols[j]
            grads[0][b, cols[j]] = -2 / D * UPSTREAM * difference[i, j]
            grads[1][b, rows[i]] = 2 / D * UPSTREAM * difference[i, j]
    return [np.array(value), *grads, matches]


def _pit(driver: Driver, **options: Any) -> Callable[..., Any]:
    masks = {"mask": driver.from_numpy(MASK), "estimate_mask": driver.from_numpy(PRED_MASK)}

    def program(true: Any, pred: Any) -> Any:
        return hc.pit_loss(
            pred, true, metric="mse", **masks, reduction="sum", backend=driver.backend, **options
        )

    return program


def test_signals(driver: Driver) -> None:
    value, by_pred, by_true, _ = _signals(*_data())
    _close(_sums(driver, _pit(driver)), [value, by_true, by_pred])


def test_a_level_that_the_signals_share(driver: Driver) -> None:
    """What is not there has no level, with which the products of the others would cancel."""
    checks.skip_lengthy(driver)
    program = driver.trace(_pit(driver, return_assignment=True))
    _, found = program(*(driver.from_numpy(x) for x in _data(300)))
    np.testing.assert_array_equal(driver.to_numpy(found.col4row), _signals(*_data(300))[3])


@pytest.mark.parametrize("name", ["loss", "HungarianLoss", "pit_loss"])
def test_messages(driver: Driver, name: str) -> None:
    true, pred = (driver.from_numpy(np.zeros((2, k, 3), np.float32)) for k in (3, 4))
    functions: dict[str, Callable[..., Any]] = {
        "loss": hc.loss,
        "HungarianLoss": hc.HungarianLoss([3], backend=driver.backend),
        "pit_loss": lambda true, pred, estimate_mask: hc.pit_loss(
            pred, true, estimate_mask=estimate_mask, backend=driver.backend
        ),
    }
    mask = "estimate_mask" if name == "pit_loss" else "pred_mask"
    for given, message in (
        (np.ones((2, 3), bool), rf"{mask} has shape \(2, 3\); expected \(2, 4\)"),
        (np.ones((2, 4), np.float32), f"{mask} has dtype .*expected bool"),
    ):
        options = {"backend": driver.backend} if name == "loss" else {}
        with pytest.raises(ValueError, match=message):
            functions[name](true, pred, **{mask: driver.from_numpy(given)}, **options)
