"""`HungarianLoss`: predictions made of slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks, reference
from hungarian_core.testing.driver import Driver

TRUE = np.random.default_rng(1).normal(size=(2, 3, 5)).astype(np.float32)
PRED = np.random.default_rng(2).normal(size=(2, 4, 5)).astype(np.float32)
MASK = np.array([[True, True, False], [True, True, True]])
UPSTREAM = 2.5


def _l1(y_true: Any, y_pred: Any) -> Any:
    return abs(y_pred - y_true)


def _expected(mask: np.ndarray | None, *, upstream: float = 1.0) -> tuple[float, np.ndarray]:
    """Return the loss 2·L1 + 3·MSE of the two slices, matched on the first, and its gradient."""
    size, n, _ = TRUE.shape
    mask = np.ones((size, n), bool) if mask is None else mask
    first = reference.loss(TRUE[..., :2], PRED[..., :2], mask)
    total, grad, count = 0.0, np.zeros(PRED.shape), mask.sum()
    for b, i in zip(*np.nonzero(mask), strict=True):
        j = first.col4row[b, i]
        difference = PRED[b, j].astype(float) - TRUE[b, i]
        total += 2 * np.abs(difference[:2]).mean() + 3 * (difference[2:] ** 2).mean()
        grad[b, j, :2] = 2 * np.sign(difference[:2]) / 2
        grad[b, j, 2:] = 3 * 2 * difference[2:] / 3
    return total / count, grad * upstream / count


def _criterion(driver: Driver, **options: Any) -> hc.HungarianLoss:
    return hc.HungarianLoss(
        **{
            "slices": [2, 3],
            "compute_cost_matrix_fn": hc.compute_euclidean_distance,
            "slice_losses_fn": [_l1, lambda y_true, y_pred: (y_true - y_pred) ** 2],
            "slice_weights": [2.0, 3.0],
            "backend": driver.backend,
            **options,
        }
    )


@pytest.mark.parametrize("mask", [None, MASK], ids=["plain", "masked"])
@pytest.mark.parametrize("sizes", ["slices", "slice_sizes"])
def test_value_and_gradient(driver: Driver, sizes: str, mask: np.ndarray | None) -> None:
    if mask is None or sizes == "slices":
        checks.skip_lengthy(driver)
    true = TRUE if mask is None else np.where(mask[..., None], TRUE, np.float32(np.nan))
    criterion = _criterion(driver, **{"slices": None, sizes: [2, 3]})
    given = None if mask is None else driver.from_numpy(mask)

    def program(y_true: Any, y_pred: Any) -> Any:
        return criterion(y_true, y_pred, mask=given)

    arrays = [driver.from_numpy(true), driver.from_numpy(PRED)]
    value, grad = _expected(mask, upstream=UPSTREAM)
    found = driver.trace(program)(*arrays)
    assert driver.dtype(found) == "float32"
    assert float(driver.to_numpy(found)) == pytest.approx(value, rel=1e-6)
    if driver.differentiable:
        upstream = driver.from_numpy(np.asarray(UPSTREAM), "float32")
        _, (grad_true, grad_pred) = driver.value_and_grad(program, arrays, upstream)
        scale = np.abs(grad).max()
        np.testing.assert_allclose(driver.to_numpy(grad_pred), grad, rtol=0, atol=1e-6 * scale)
        assert np.isfinite(driver.to_numpy(grad_true)).all()


def test_defaults(driver: Driver) -> None:
    """Without losses, each slice counts its mean squared error, once."""
    criterion = hc.HungarianLoss([2, 3], backend=driver.backend)
    found = driver.trace(criterion)(driver.from_numpy(TRUE), driver.from_numpy(PRED))
    col4row = reference.loss(TRUE[..., :2], PRED[..., :2]).col4row
    pairs = np.take_along_axis(PRED.astype(float), col4row[..., None], axis=1)
    squares = (pairs - TRUE) ** 2
    expected = (squares[..., :2].mean(-1) + squares[..., 2:].mean(-1)).mean()
    assert float(driver.to_numpy(found)) == pytest.approx(expected, rel=1e-6)


def test_another_slice_decides(driver: Driver) -> None:
    criterion = hc.HungarianLoss([2, 3], 1, "l1", backend=driver.backend)

    def program(y_true: Any, y_pred: Any) -> Any:
        return criterion(y_true, y_pred, return_assignment=True)[1]

    found = driver.trace(program)(driver.from_numpy(TRUE), driver.from_numpy(PRED))
    expected = reference.loss(TRUE[..., 2:], PRED[..., 2:], cost="l1").col4row
    np.testing.assert_array_equal(driver.to_numpy(found.col4row), expected)


@pytest.mark.parametrize("reduction", ["sum", "none", "sample"])
def test_reductions(driver: Driver, reduction: str) -> None:
    checks.skip_lengthy(driver)
    criterion = _criterion(driver, reduction=reduction)
    found = driver.trace(criterion)(driver.from_numpy(TRUE), driver.from_numpy(PRED))
    values = driver.to_numpy(found)
    mean = _expected(None)[0]
    assert values.shape == {"sum": (), "none": (2, 3), "sample": (2,)}[reduction]
    total = values.sum() / {"sum": 6, "none": 6, "sample": 2}[reduction]
    assert total == pytest.approx(mean, rel=1e-6)


def test_one_value_for_all_pairs(driver: Driver) -> None:
    """Losses that average over the pairs themselves, as those of Keras do by default."""

    def mean_l1(y_true: Any, y_pred: Any) -> Any:
        xp = driver.resolve(y_pred).namespace(y_pred)
        return xp.mean(xp.abs(y_true - y_pred))

    def mean_square(y_true: Any, y_pred: Any) -> Any:
        xp = driver.resolve(y_pred).namespace(y_pred)
        return xp.mean((y_true - y_pred) ** 2)

    if not driver.static_shapes:
        pytest.skip("where extents are unknown, truths may be left unmatched")
    for reduction, pairs in (("mean", 1), ("sum", 6)):
        criterion = _criterion(driver, slice_losses_fn=[mean_l1, mean_square], reduction=reduction)
        found = driver.trace(criterion)(driver.from_numpy(TRUE), driver.from_numpy(PRED))
        expected = pairs * _expected(None)[0]
        assert float(driver.to_numpy(found)) == pytest.approx(expected, rel=1e-6)


def test_one_value_and_unmatched_objects(driver: Driver) -> None:
    criterion = _criterion(driver, slice_losses_fn=[lambda a, b: (a * b)[0, 0]] * 2)
    true, pred = driver.from_numpy(TRUE), driver.from_numpy(PRED)
    pred_mask = driver.from_numpy(np.ones((2, 4), bool))
    for given in ({"mask": driver.from_numpy(MASK)}, {"pred_mask": pred_mask}):
        with pytest.raises(ValueError, match=r"one value for all pairs.*may be unmatched"):
            criterion(true, pred, **given)
    with pytest.raises(ValueError, match=r"one value for all pairs.*may be unmatched"):
        criterion(pred, true)  # more truths than predictions


@pytest.mark.parametrize("reduction", ["none", "sample"])
def test_one_value_where_samples_stay_apart(driver: Driver, reduction: str) -> None:
    """Every sample, even every object, would have the mean of the batch."""
    criterion = _criterion(
        driver, slice_losses_fn=[_l1, lambda a, b: (a * b)[0, 0]], reduction=reduction
    )
    message = rf"slice_losses_fn\[1\] returned one value for all pairs, and reduction='{reduction}'"
    with pytest.raises(ValueError, match=message):
        criterion(driver.from_numpy(TRUE), driver.from_numpy(PRED))


# What a slice loss of 6 pairs, of 2 samples with 3 objects and 2 features, may get wrong.
WRONG: tuple[tuple[str, Any, type[Exception], str], ...] = (
    ("per_sample", lambda a, b: (a - b)[:2, 0], ValueError, r"shape \(2,\) for 6 pairs of 2 feat"),
    ("per_object", lambda a, b: (a - b)[:3, 0], ValueError, r"returned shape \(3,\)"),
    ("per_feature", lambda a, b: (a - b)[0, :], ValueError, r"returned shape \(2,\)"),
    ("of_all", lambda a, b: a[:, :1] - b[:, 0][None, :], ValueError, r"returned shape \(6, 6\)"),
    ("by_sample", lambda a, b: (a - b)[:, :, None], ValueError, r"returned shape \(6, 2, 1\)"),
    ("a_number", lambda a, b: 1.0, TypeError, "returned a float; expected an array"),
    ("nothing", lambda a, b: None, TypeError, "returned a NoneType; expected an array"),
    ("a_cost", lambda xp, a, b: a - b, TypeError, r"a function \(xp, a, b\); expected \(y_true, y"),
)


@pytest.mark.parametrize(("name", "function", "error", "message"), WRONG, ids=[w[0] for w in WRONG])
def test_what_a_slice_loss_returns(
    driver: Driver, name: str, function: Any, error: type[Exception], message: str
) -> None:
    criterion = _criterion(driver, slice_losses_fn=[function, _l1])
    with pytest.raises(error, match=message):
        criterion(driver.from_numpy(TRUE), driver.from_numpy(PRED))


def test_numbers_of_numpy(driver: Driver) -> None:
    """They are numbers, in arrays too."""
    criterion = _criterion(
        driver,
        slices=np.array([2, 3]),
        slice_index_to_compute_assignment=np.int64(0),
        slice_weights=np.array([2.0, 3.0]),
    )
    found = criterion(driver.from_numpy(TRUE), driver.from_numpy(PRED))
    assert driver.dtype(found) == "float32"
    assert float(driver.to_numpy(found)) == pytest.approx(_expected(None)[0], rel=1e-6)
    assert (criterion.slices, criterion.slice_weights) == ([2, 3], [2.0, 3.0])
    assert {type(x) for x in (*criterion.slices, *criterion.slice_weights)} == {int, float}


NAMES = ["true_pred", "input_target", "logits_labels", "y_hat_y", "of_one_known", "of_the_other"]


@pytest.mark.parametrize("names", NAMES)
def test_arguments_go_by_their_names(driver: Driver, names: str) -> None:
    """An asymmetric loss of another library gets its arguments in its own order."""
    functions = {
        "true_pred": lambda y_true, y_pred: y_pred - 3 * y_true,
        "input_target": lambda input, target: input - 3 * target,  # noqa: A006  (as PyTorch has it)
        "logits_labels": lambda logits, labels: logits - 3 * labels,
        "y_hat_y": lambda y_hat, y: y_hat - 3 * y,
        "of_one_known": lambda pred, box: pred - 3 * box,
        "of_the_other": lambda box, target: box - 3 * target,
    }
    criterion = hc.HungarianLoss([5], slice_losses_fn=[functions[names]], backend=driver.backend)
    found = criterion(driver.from_numpy(TRUE), driver.from_numpy(PRED))
    col4row = reference.loss(TRUE, PRED).col4row
    pairs = np.take_along_axis(PRED.astype(float), col4row[..., None], axis=1)
    assert float(driver.to_numpy(found)) == pytest.approx((pairs - 3 * TRUE).mean(), rel=1e-6)
