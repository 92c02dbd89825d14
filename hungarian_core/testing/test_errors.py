"""What a user is told: every message says what came and what was expected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing.driver import Driver

COST = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
Y = np.zeros((2, 3, 4), np.float32)


def _bool(*shape: int) -> np.ndarray:
    return np.ones(shape, bool)


ASSIGN: tuple[tuple[str, np.ndarray, dict[str, Any], str], ...] = (
    ("one_axis", COST[0, 0], {}, r"cost has shape \(4,\); expected \(\.\.\., n, m\)"),
    ("row_mask_shape", COST, {"row_mask": _bool(2, 4)}, r"row_mask has shape \(2, 4\).*\(2, 3\)"),
    ("col_mask_shape", COST, {"col_mask": _bool(4)}, r"col_mask has shape \(4,\).*\(2, 4\)"),
    ("row_mask_0_1", COST, {"row_mask": np.ones((2, 3), np.int32)}, "expected bool.*mask != 0"),
    (
        "row_mask_one",
        COST,
        {"row_mask": _bool(1, 3)},
        r"expected \(2, 3\).*masks are not broadcast",
    ),
    ("row_mask_none", COST, {"row_mask": _bool()}, r"row_mask has shape \(\); expected \(2, 3\)"),
    ("row_mask_dtype", COST, {"row_mask": Y[:, :, 0]}, "row_mask has dtype .*expected bool"),
    ("unmatched_shape", COST, {"unmatched_cost": Y[0, :, 0]}, r"unmatched_cost has shape \(3,\)"),
    ("nan", COST, {"nan": "ignore"}, "nan is 'ignore'; expected one of 'raise', 'worst', 'forbid'"),
    ("solver", COST, {"solver": 3}, "solver is 3; expected the name of a solver"),
)


@pytest.mark.parametrize(("name", "cost", "options", "message"), ASSIGN, ids=[a[0] for a in ASSIGN])
def test_assign(
    driver: Driver, name: str, cost: np.ndarray, options: dict[str, Any], message: str
) -> None:
    options = {
        key: driver.from_numpy(x) if isinstance(x, np.ndarray) else x for key, x in options.items()
    }
    with pytest.raises(ValueError, match=message):
        hc.assign(driver.from_numpy(cost), **options, backend=driver.backend)


def _eager(driver: Driver, x: Any) -> bool:
    """Say whether a call outside of any program raises for bad values, here."""
    backend = driver.resolve(x)
    return backend.readable(x)


@pytest.mark.parametrize("value", [np.nan, -np.inf], ids=["nan", "minus_inf"])
def test_first_bad_sample_is_named(driver: Driver, value: float) -> None:
    cost = np.stack([COST, COST, COST])
    cost[1, 1, 0, 2] = cost[2, 0, 0, 0] = value
    x = driver.from_numpy(cost)
    if not _eager(driver, x):
        assert np.isnan(driver.to_numpy(hc.assign(x, backend=driver.backend).cost)[1, 1])
        return
    message = r"matrix contains invalid numeric entries.*\(first at batch index \(1, 1\)\)"
    with pytest.raises(ValueError, match=message):
        hc.assign(x, backend=driver.backend)


def test_first_infeasible_sample_is_named(driver: Driver) -> None:
    cost = COST.copy()
    cost[1, 2] = np.inf
    x = driver.from_numpy(cost)
    if not _eager(driver, x):
        assert np.isnan(driver.to_numpy(hc.assign(x, backend=driver.backend).cost)[1])
        return
    with pytest.raises(ValueError, match=r"cost matrix is infeasible.*batch index 1"):
        hc.assign(x, backend=driver.backend)


def test_linear_sum_assignment_messages(driver: Driver) -> None:
    """SciPy's words, which programs look for."""
    with pytest.raises(ValueError, match=r"expected a matrix \(2-D array\), got shape \(2, 3, 4\)"):
        hc.linear_sum_assignment(driver.from_numpy(COST), backend=driver.backend)
    for value, message in ((np.nan, "invalid numeric entries"), (np.inf, "is infeasible")):
        x = driver.from_numpy(np.full((2, 2), value, np.float32))
        if _eager(driver, x):
            with pytest.raises(ValueError, match=message):
                hc.linear_sum_assignment(x, backend=driver.backend)


LOSS: tuple[tuple[str, np.ndarray, np.ndarray, dict[str, Any], str], ...] = (
    ("true_axes", Y[0], Y, {}, r"y_true has shape \(3, 4\); expected \(batch_size, num_objects"),
    ("pred_axes", Y, Y[0], {}, r"y_pred has shape \(3, 4\)"),
    ("one_sample", Y[0], Y, {}, r"for one sample pass y_true\[None, \.\.\.\]"),
    ("swapped", Y.swapaxes(1, 2), Y, {}, "are num_objects and num_features swapped in one of them"),
    ("mask_0_1", Y, Y, {"mask": np.ones((2, 3), np.int32)}, "mask has dtype .*expected bool.*!= 0"),
    ("batches", Y[:1], Y, {}, r"y_true has shape \(1, 3, 4\) and y_pred \(2, 3, 4\)"),
    ("features", Y[:, :, :2], Y, {}, "expected equal batch_size and num_features"),
    ("mask_shape", Y, Y, {"mask": _bool(2, 4)}, r"mask has shape \(2, 4\); expected \(2, 3\)"),
    ("mask_dtype", Y, Y, {"mask": Y[:, :, 0]}, "mask has dtype .*expected bool"),
    ("reduction", Y, Y, {"reduction": "median"}, "reduction is 'median'; expected one of 'mean'"),
    ("cost", Y, Y, {"cost": "manhattan"}, "cost is 'manhattan'; expected one of 'euclidean'"),
    ("pair_loss", Y, Y, {"pair_loss": "mse"}, "pair_loss is 'mse'; expected one of"),
    ("pair_result", Y, Y, {"pair_loss": lambda xp, a, b: a - b}, "pair_loss returned shape"),
    ("cost_result", Y, Y, {"cost": lambda xp, a, b: (a - b)[:, :, :, 0:1]}, "cost returned"),
)


@pytest.mark.parametrize(
    ("name", "y_true", "y_pred", "options", "message"), LOSS, ids=[a[0] for a in LOSS]
)
def test_loss(
    driver: Driver,
    name: str,
    y_true: np.ndarray,
    y_pred: np.ndarray,
    options: dict[str, Any],
    message: str,
) -> None:
    options = {
        key: driver.from_numpy(x) if isinstance(x, np.ndarray) else x for key, x in options.items()
    }
    with pytest.raises(ValueError, match=message):
        hc.loss(
            driver.from_numpy(y_true), driver.from_numpy(y_pred), **options, backend=driver.backend
        )


# A function that takes or returns something else, and what the message says of it.
FUNCTIONS: tuple[tuple[str, Any, str], ...] = (
    ("cost", lambda a, b: abs(a - b), r"cost is a function \(a, b\); expected \(xp, a, b\), which"),
    ("cost", lambda a, b, eps=1: a - b, r"cost is a function \(a, b, eps=1\); expected \(xp, a, b"),
    ("cost", lambda xp, a, b: 1.0, "cost returned a float; expected an array"),
    ("pair_loss", lambda a, b: a - b, r"pair_loss is a function \(a, b\); expected \(xp, a, b"),
    ("metric", lambda a, b: a - b, r"metric is a function \(a, b\); expected \(xp, a, b"),
    (
        "compute_cost_matrix_fn",
        lambda xp, a, b: a,
        r"is a function \(xp, a, b\); expected \(a, b\) ",
    ),
    ("compute_cost_matrix_fn", lambda a, b: None, "compute_cost_matrix_fn returned a NoneType"),
)


@pytest.mark.parametrize(("name", "function", "message"), FUNCTIONS)
def test_functions(driver: Driver, name: str, function: Any, message: str) -> None:
    y = driver.from_numpy(Y)
    options: dict[str, Any] = {name: function, "backend": driver.backend}
    loss: Any = {"metric": hc.pit_loss}.get(name, hc.loss)
    if name == "compute_cost_matrix_fn":
        loss, options = hc.HungarianLoss([4], **options), {}
    with pytest.raises(TypeError, match=message):
        loss(y, y, **options)


def test_errors_of_functions_are_their_own(driver: Driver) -> None:
    def cost(xp: Any, a: Any, b: Any) -> Any:
        raise TypeError("mine")

    with pytest.raises(TypeError, match=r"^mine$"):
        hc.loss(driver.from_numpy(Y), driver.from_numpy(Y), cost=cost, backend=driver.backend)


@pytest.mark.parametrize("at", [0, 1], ids=["truth", "prediction"])
@pytest.mark.parametrize(
    ("given", "came"),
    [(None, "None"), ({"boxes": Y}, "a dict with the keys 'boxes'"), ("boxes", "a str")],
    ids=["none", "dict", "str"],
)
def test_what_is_no_array(driver: Driver, at: int, given: Any, came: str) -> None:
    y = driver.from_numpy(Y)
    pair = [given, y] if at == 0 else [y, given]
    functions: tuple[tuple[str, Any], ...] = (
        ("y_true y_pred", lambda *pair: hc.loss(*pair, backend=driver.backend)),
        ("y_true y_pred", hc.HungarianLoss([4], backend=driver.backend)),
        ("estimates references", lambda *pair: hc.pit_loss(*pair, backend=driver.backend)),
    )
    for names, function in functions:
        with pytest.raises(TypeError, match=f"{names.split()[at]} is {came}; expected an array"):
            function(*pair)


SLICES: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("none", {}, r"slices is None; expected a list of sizes such as \[4, 10\]"),
    ("both", {"slices": [4], "slice_sizes": [4]}, "two names of one argument"),
    ("zero", {"slices": [4, 0]}, r"slices is \[4, 0\]; expected positive integers"),
    ("index", {"slices": [4], "slice_index_to_compute_assignment": 1}, "expected an index into"),
    ("losses", {"slices": [2, 2], "slice_losses_fn": [abs]}, "slice_losses_fn is .*one entry for"),
    ("weights", {"slices": [4], "slice_weights": [1.0, 2.0]}, "slice_weights is .*one entry for"),
    ("not_callable", {"slices": [4], "slice_losses_fn": ["mse"]}, r"slice_losses_fn\[0\] is 'mse'"),
    ("cost", {"slices": [4], "compute_cost_matrix_fn": 3}, "compute_cost_matrix_fn is 3"),
    ("cost_name", {"slices": [4], "compute_cost_matrix_fn": "l3"}, "expected one of 'euclidean'"),
    ("reduction", {"slices": [4], "reduction": "avg"}, "reduction is 'avg'"),
)


@pytest.mark.parametrize(("name", "options", "message"), SLICES, ids=[a[0] for a in SLICES])
def test_hungarian_loss(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hc.HungarianLoss(**options)


def test_slices_must_cover_the_features(driver: Driver) -> None:
    criterion = hc.HungarianLoss([2, 3], backend=driver.backend)
    with pytest.raises(ValueError, match="4"):
        criterion(driver.from_numpy(Y), driver.from_numpy(Y))
