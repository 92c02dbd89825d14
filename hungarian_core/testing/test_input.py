"""What users pass that is no array of the framework: taken exactly, or refused in words."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver

COST = np.array([[0.9, 0.2, 0.5], [0.1, 0.3, 0.8]])


def _alone(driver: Driver) -> hc.Backend:
    """Return the backend of a driver that runs a function as it is; others would say the same."""

    def itself() -> None: ...

    if driver.trace(itself) is not itself:
        pytest.skip("what is refused or warned of outside of any program is the same for all")
    return driver.resolve(driver.from_numpy(COST, "float32"))


# Numbers and lists


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int32"])
@pytest.mark.parametrize(
    "price",
    [0.1, [0.1], np.float64(0.1), np.float32(0.1), np.array(0.1)],
    ids=["number", "list", "scalar", "float32", "array"],
)
def test_a_price_keeps_the_digits_of_the_costs(driver: Driver, dtype: str, price: Any) -> None:
    """In float64 the row is cheaper alone, by less than float32 can tell."""
    checks.need(driver, dtype)
    if not isinstance(price, (float, list)) or dtype != "float64":
        checks.skip_slow(driver)
    value = {"float64": float(np.ravel(price)[0]) + 1e-12, "int32": 1.0}.get(dtype, 0.5)
    x = driver.from_numpy(np.array([[value]]), dtype)

    def run(x: Any) -> Any:
        found = hc.assign(x, unmatched_cost=price, backend=driver.backend)
        return found.col4row, found.cost

    col4row, total = driver.trace(run)(x)
    assert driver.to_numpy(col4row).tolist() == [-1]
    wide = driver.dtype(total) == "float64"
    assert wide or dtype != "float64"
    assert float(driver.to_numpy(total)) == (float(np.ravel(price)[0]) if wide else np.float32(0.1))


def test_a_price_that_only_half_precision_could_not_hold(driver: Driver) -> None:
    checks.need(driver, "float16")
    checks.skip_slow(driver)
    x = driver.from_numpy(np.array([[6e4]]), "float16")
    found = driver.trace(lambda x: hc.assign(x, unmatched_cost=7e4, backend=driver.backend)[0])(x)
    assert driver.to_numpy(found).tolist() == [0]


@pytest.mark.parametrize("temperature", [0.3, np.float32(0.3), np.array(0.3)])
def test_a_temperature_keeps_its_digits(driver: Driver, temperature: Any) -> None:
    checks.need(driver, "float64")
    checks.skip_long(driver)
    even = np.array([[0.2, 0.9], [0.9, 0.2]])  # so symmetric that each row is a softmax

    def run(x: Any) -> Any:
        return hc.assignment_matrix(x, temperature=temperature, backend=driver.backend)

    weights = np.exp(-even / float(temperature))
    found = driver.to_numpy(driver.trace(run)(driver.from_numpy(even, "float64")))
    np.testing.assert_allclose(found, weights / weights.sum(axis=1), rtol=1e-12)


def test_lists_beside_double_precision(driver: Driver) -> None:
    checks.need(driver, "float64")
    checks.skip_slow(driver)
    y_pred = driver.from_numpy(np.zeros((1, 1, 2)), "float64")

    def run(y_pred: Any) -> Any:
        return hc.loss([[[0.1, 0.2]]], y_pred, cost="l1", backend=driver.backend)

    found = float(driver.to_numpy(driver.trace(run)(y_pred)))
    assert found == pytest.approx(0.1 + 0.2, rel=1e-15)


@pytest.mark.parametrize("first", [True, False])
def test_boxes_in_lists_beside_double_precision(driver: Driver, first: bool) -> None:
    checks.need(driver, "float64")
    backend = _alone(driver)
    given = [[0.1, 0.2, 0.3, 0.7]]
    box = driver.from_numpy(np.array(given), "float64")
    pair = (given, box) if first else (box, given)
    found = hc.boxes.iou(*pair, format="cxcywh", backend=backend)
    assert driver.to_numpy(found).tolist() == [1.0]


def test_targets_in_lists(driver: Driver) -> None:
    """Labels, boxes, weights, and no object at all, as lists, are what they are as arrays."""
    checks.need(driver, "float64")
    checks.skip_long(driver)
    backend = _alone(driver)
    rng = np.random.default_rng(0)
    logits, boxes = rng.normal(size=(2, 3, 4)), rng.uniform(0.2, 0.6, (2, 3, 4))
    extra = rng.uniform(size=(2, 1, 3))
    box = [0.1, 0.2, 0.3, 0.4]
    lists: list[dict[str, Any]] = [
        {"labels": [1], "boxes": [box]},
        {"labels": [], "boxes": []},
    ]
    arrays = [
        {"labels": np.array([1]), "boxes": np.array([box])},
        {"labels": np.zeros(0, int), "boxes": np.zeros((0, 4))},
    ]
    options: dict[str, Any] = {"class_weights": [0.1, 0.7, 1.3], "no_object_weight": 0.1}
    expected = hc.DetrLoss(3, **options, backend="numpy")(
        logits, boxes, arrays, image_weights=np.array([0.1, 0.7]), extra_cost=extra
    )
    found = hc.DetrLoss(3, **options, backend=backend)(
        driver.from_numpy(logits, "float64"), driver.from_numpy(boxes, "float64"), lists,
        image_weights=[0.1, 0.7], extra_cost=extra.tolist(),
    )  # fmt: skip
    assert float(driver.to_numpy(found.total)) == pytest.approx(float(expected.total), rel=1e-12)


def test_masks_in_lists(driver: Driver) -> None:
    backend = _alone(driver)
    cost = driver.from_numpy(COST, "float32")
    masks: dict[str, Any] = {"row_mask": [False, True], "col_mask": [False, True, True]}
    found = hc.assign(cost, **masks, backend=backend)
    assert driver.to_numpy(found.col4row).tolist() == [-1, 1]
    total = hc.assignment_cost(cost, **masks, unmatched_cost=[0.2, 0.1], backend=backend)
    assert float(driver.to_numpy(total)) == np.float32(0.1)
    bad = COST.copy()
    bad[0, 0] = bad[1, 2] = np.nan
    count = hc.count_invalid(driver.from_numpy(bad, "float32"), **masks, backend=backend)
    assert int(driver.to_numpy(count)) == 1
    checks.skip_long(driver)
    matrix = hc.assignment_matrix(cost, "blackbox", **masks, backend=backend)
    assert driver.to_numpy(matrix).tolist() == [[0, 0, 0], [0, 1, 0]]
    options: dict[str, Any] = {"samples": np.int64(2), "seed": np.int64(3), "backend": backend}
    target = [[False, False, False], [False, True, False]]
    value = hc.fenchel_young_loss(cost, target, **masks, **options)
    assert np.isfinite(driver.to_numpy(value))


def test_lists_without_entries(driver: Driver) -> None:
    """An empty list of booleans is not told from one of floats."""
    backend = _alone(driver)
    cost = driver.from_numpy(np.zeros((0, 3)), "float32")
    found = hc.assign(cost, row_mask=[], unmatched_cost=[], backend=backend)
    assert driver.to_numpy(found.row4col).tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("given", "col4row"),
    [
        (np.array([[0.9, 0.2, 1], [0.1, 0.3, True]], object), [1, 0]),
        (np.asfortranarray(COST)[::-1, ::-1], [2, 1]),
        (COST.astype(">f4"), [1, 0]),
        (np.ma.masked_greater(COST, 1), [1, 0]),
        ([COST[0], [0.1, 0.3, 0.8]], [1, 0]),
        (range(3), None),
    ],
    ids=["objects", "strides", "byte order", "nothing masked", "a list of both", "range"],
)
def test_foreign_forms_of_numbers(driver: Driver, given: Any, col4row: Any) -> None:
    backend = _alone(driver)
    if col4row is None:
        given, col4row = backend.asarray([given, given]), [0, 1]
    found = hc.assign(given, backend=backend)
    assert sorted(driver.to_numpy(found.col4row).tolist()) == sorted(col4row)
    np.testing.assert_array_equal(driver.to_numpy(found.col4row), col4row)


class _Sparse:
    """As far as a sparse matrix of SciPy is looked at."""

    nnz = 1

    def toarray(self) -> None: ...


REFUSED: tuple[tuple[str, Any, type[Exception], str], ...] = (
    ("none", None, TypeError, "None came; expected an array"),
    ("mapping", {"cost": COST}, TypeError, r"a dict came, with keys \('cost'\).*pass one of its"),
    ("module", np, TypeError, "the module 'numpy' came; expected an array"),
    ("text", "cost", TypeError, "the text 'cost' came; expected an array"),
    ("function", lambda: COST, TypeError, "which can be called, came; .*pass what it returns"),
    ("set", {1.0, 2.0}, TypeError, "a set came; .*in the order meant"),
    ("strings", np.array([["1.0", "2.0"]]), TypeError, "expected numerical entries, got <U3"),
    ("list_of_strings", [["1.0", "2.0"]], TypeError, "expected numerical entries"),
    ("dates", np.array([["2020-01-01"]], "M8[D]"), TypeError, "expected numerical entries, got d"),
    ("records", np.zeros((1, 1), "f4, f4"), TypeError, "expected numerical entries"),
    ("objects", np.array([[1, None]], object), TypeError, "got object, with None of type NoneType"),
    ("masked", np.ma.masked_less(COST, 0.3), ValueError, "a masked array came, with 2 masked"),
    ("masked_row", [np.ma.masked_less(COST[0], 0.3)], ValueError, "a masked array came, with 1"),
    ("ragged", [[1.0, 2.0], [3.0]], ValueError, "a list whose parts differ in length came"),
    ("sparse", _Sparse(), ValueError, r"a sparse _Sparse came; .*x\.toarray\(\)"),
    ("complex", COST * 1j, ValueError, "cost has dtype .*complex.*; expected a real floating"),
)


@pytest.mark.parametrize(
    ("name", "given", "error", "message"), REFUSED, ids=[case[0] for case in REFUSED]
)
def test_what_is_no_cost(
    driver: Driver, name: str, given: Any, error: type[Exception], message: str
) -> None:
    backend = _alone(driver)
    if name == "complex":
        checks.need(driver, "float64")  # where there is complex128 too
    for function in (hc.assign, hc.assignment_cost, hc.assignment_matrix, hc.count_invalid):
        with pytest.raises(error, match=message):
            function(given, backend=backend)
    if name != "complex":
        with pytest.raises(error, match=message):
            hc.linear_sum_assignment(given, backend=backend)


@pytest.mark.parametrize(
    ("name", "given", "error", "message"), REFUSED[1:-1], ids=[case[0] for case in REFUSED[1:-1]]
)
@pytest.mark.parametrize("option", ["row_mask", "unmatched_cost"])
def test_what_is_no_mask_and_no_price(
    driver: Driver, option: str, name: str, given: Any, error: type[Exception], message: str
) -> None:
    backend = _alone(driver)
    with pytest.raises(error, match=message):
        hc.assign(driver.from_numpy(COST, "float32"), **{option: given}, backend=backend)


def test_numbers_that_are_too_large(driver: Driver) -> None:
    backend = _alone(driver)
    cost = driver.from_numpy(COST, "float32")
    for price in (1e300, [0.1, 1e300]):
        with pytest.raises(ValueError, match=r"1e\+300 does not fit into float32.*in float64"):
            hc.assign(cost, unmatched_cost=price, backend=backend)
    found = hc.assign(cost, unmatched_cost=[float("inf")] * 2, backend=backend)
    assert driver.to_numpy(found.col4row).tolist() == [1, 0]


@pytest.mark.parametrize("temperature", [1e300, 1e-60])
def test_temperatures_beyond_single_precision(driver: Driver, temperature: float) -> None:
    backend = _alone(driver)
    cost = driver.from_numpy(COST, "float32")
    forms = [temperature, np.float64(temperature)]
    if "float64" in driver.dtypes and driver.raises:
        forms.append(driver.from_numpy(np.array(temperature), "float64"))
    for form in forms:
        with pytest.raises(ValueError, match=r"temperature is 1e.*does not fit into float32"):
            hc.assignment_matrix(cost, temperature=form, backend=backend)


def test_prices_in_an_array_that_are_too_large(driver: Driver) -> None:
    checks.need(driver, "float64")
    backend = _alone(driver)
    cost = driver.from_numpy(COST, "float32")
    prices = driver.from_numpy(np.array([0.05, 1e300]), "float64")
    # What stands beside an invalid row is not read.
    found = hc.assign(cost, unmatched_cost=prices, row_mask=[True, False], backend=backend)
    assert driver.to_numpy(found.col4row).tolist() == [-1, -1]
    total = hc.assignment_cost(cost, unmatched_cost=prices, row_mask=[True, False], backend=backend)
    assert float(driver.to_numpy(total)) == np.float32(0.05)
    if driver.raises:
        with pytest.raises(ValueError, match=r"unmatched_cost holds finite numbers that do not"):
            hc.assign(cost, unmatched_cost=prices, backend=backend)


@pytest.mark.parametrize("maximize", [False, True], ids=["min", "max"])
@pytest.mark.parametrize("nan", ["raise", "worst", "forbid"])
def test_a_price_that_is_nan_is_named(driver: Driver, nan: Any, maximize: bool) -> None:
    backend = _alone(driver)
    cost = driver.from_numpy(np.stack([COST, COST]), "float32")
    options: dict[str, Any] = {"nan": nan, "maximize": maximize, "backend": backend}
    worst = np.inf if maximize else -np.inf
    for bad in (np.nan, worst):
        price = driver.from_numpy(np.array([[1.0, 1.0], [1.0, bad]]), "float32")
        if not driver.raises:
            total = driver.to_numpy(hc.assign(cost, unmatched_cost=price, **options).cost)
            assert np.isnan(total).tolist() == [False, True]
            continue
        with pytest.raises(ValueError, match=r"unmatched_cost is NaN or.*batch index 1") as caught:
            hc.assign(cost, unmatched_cost=price, **options)
        assert "invalid numeric entries" in str(caught.value)
        assert "worst" not in str(caught.value)


# Integers


def test_integers_that_floats_do_not_hold(driver: Driver) -> None:
    backend = _alone(driver)
    if not driver.raises:
        pytest.skip("nothing is read where that would be a wait")
    small = driver.from_numpy(np.array([[3, 1], [2, 5]]), "int32")
    wide = driver.dtype(hc.assign(small, backend=backend).cost) == "float64"
    limit, dtype = (2**53, "int64") if wide else (2**24, "int32")
    cost = np.array([[limit + 1, 1], [2, 5]])
    for sign in (1, -1):
        with pytest.warns(UserWarning, match=r"cost holds integers of 2\*\*(53|24) or more"):
            hc.assign(driver.from_numpy(sign * cost, dtype), backend=backend)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hc.assign(driver.from_numpy(cost, dtype), row_mask=[False, True], backend=backend)
        hc.assign(driver.from_numpy(np.minimum(cost, limit - 1), dtype), backend=backend)
        hc.assign(driver.from_numpy(cost, "float32"), backend=backend)
    if wide:
        price = driver.from_numpy(np.array([limit + 1, 1]), dtype)
        with pytest.warns(UserWarning, match="unmatched_cost holds integers"):
            hc.assign(driver.from_numpy(COST, "float64"), unmatched_cost=price, backend=backend)
    checks.skip_long(driver)
    with pytest.warns(UserWarning, match="cost holds integers"):
        hc.assignment_matrix(driver.from_numpy(cost, dtype), backend=backend)


# Numbers of every kind


@pytest.mark.parametrize("kind", ["int", "numpy", "array"])
def test_whole_numbers_of_every_kind(driver: Driver, kind: str) -> None:
    backend = _alone(driver)

    def number(x: int) -> Any:
        array = np.array(x)
        return {"int": x, "numpy": array[()]}.get(kind, driver.from_numpy(array, "int32"))

    if not hasattr(number(2), "__index__"):
        pytest.skip("arrays of this framework are no numbers")
    cost = driver.from_numpy(COST, "float32")
    masks = driver.from_numpy(np.ones((2, 3, 3)), "float32")
    expected = hc.masks.dice(masks, masks, axes=2, backend=backend)
    found = hc.masks.dice(masks, masks, axes=number(2), backend=backend)
    np.testing.assert_array_equal(driver.to_numpy(found), driver.to_numpy(expected))
    checks.skip_long(driver)
    options: dict[str, Any] = {"samples": number(2), "seed": number(3), "backend": backend}
    expected = hc.assignment_matrix(cost, "perturbed", samples=2, seed=3, backend=backend)
    found = hc.assignment_matrix(cost, "perturbed", **options)
    np.testing.assert_array_equal(driver.to_numpy(found), driver.to_numpy(expected))
    hc.assignment_matrix(cost, iterations=number(2), backend=backend)


@pytest.mark.parametrize("value", [True, 2.0, "2", None, np.True_], ids=repr)
def test_what_is_no_whole_number(driver: Driver, value: Any) -> None:
    backend = _alone(driver)
    cost = driver.from_numpy(COST, "float32")
    if value is not None:  # the default
        with pytest.raises(ValueError, match=r"samples is .*; expected an integer of at least 2"):
            hc.assignment_matrix(cost, "perturbed", samples=value, backend=backend)
    masks = driver.from_numpy(np.ones((2, 3, 3)), "float32")
    with pytest.raises(ValueError, match=r"axes is .*; expected how many axes a mask has"):
        hc.masks.dice(masks, masks, axes=value, backend=backend)
