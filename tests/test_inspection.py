"""Who was matched with whom: explanations against brute force, and their errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import reference

NAN, INF = float("nan"), float("inf")


# The runner-up and the margin


def problem(seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Return random costs `(n, m)` and options of `assign`, of every kind."""
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 6, 2)
    cost = rng.uniform(-1, 2, (n, m)) if seed % 3 else rng.integers(0, 4, (n, m)).astype(float)
    forbidden = rng.uniform(size=(n, m)) > 0.6
    options: dict[str, Any] = {}
    if seed % 2:
        options["row_mask"] = rng.uniform(size=n) > 0.3
        options["col_mask"] = rng.uniform(size=m) > 0.2
    if seed % 5 == 0:
        options["unmatched_cost"] = rng.uniform(0, 1, n)
        cost[forbidden] = INF
    elif seed % 2 == 0:
        cost[forbidden & ~np.eye(n, m, dtype=bool)] = INF  # a matching stays open
    if seed % 4 == 1:
        cost, options["maximize"] = -cost, True
        if "unmatched_cost" in options:
            options["unmatched_cost"] = -options["unmatched_cost"]
    return cost, options


def least(cost: np.ndarray, options: dict[str, Any]) -> float:
    """Return the least total there is, by SciPy, in the sense of minimising; inf for none."""
    sign = -1 if options.get("maximize") else 1
    n, m = cost.shape
    rows, cols = (
        options.get("row_mask", np.ones(n, bool)),
        options.get("col_mask", np.ones(m, bool)),
    )
    price = options.get("unmatched_cost")
    found = reference.solve(sign * cost, rows, cols, None if price is None else sign * price)
    return INF if np.isnan(found.total) else found.total


@pytest.mark.parametrize("seed", range(60))
def test_margin_and_runner_up_by_solving_anew(seed: int) -> None:
    cost, options = problem(seed)
    worst = -INF if options.get("maximize") else INF
    found = hc.explain(hc.assign(cost, **options), cost, **options)
    optimum = least(cost, options)
    for row in range(len(cost)):
        col, other = found.col4row[row], found.runner_up[row]
        if col < 0:
            assert np.isnan(found.margin[row])
            assert other == -1
            continue
        without = cost.copy()
        without[row, col] = worst
        margin = least(without, options) - optimum
        assert found.margin[row] == pytest.approx(margin, abs=1e-12)
        if margin == INF:
            assert other == -1
            continue
        # The runner-up attains it: with nothing else open to the row the total is no worse.
        assert other != col
        without[row, np.arange(cost.shape[1]) != other] = worst
        left_out = options
        if other < 0 and "unmatched_cost" not in options:
            rows = options.get("row_mask", np.ones(len(cost), bool))
            left_out = {**options, "row_mask": rows & (np.arange(len(cost)) != row)}
        assert least(without, left_out) - optimum == pytest.approx(margin, abs=1e-12)


def test_margins_of_a_crowded_scene_in_float32() -> None:
    cost = np.random.default_rng(0).uniform(size=(40, 90)).astype(np.float32)
    found = hc.explain(hc.assign(cost), cost)
    optimum = least(cost, {})
    for row in range(0, 40, 5):
        without = cost.astype(float)
        without[row, found.col4row[row]] = INF
        assert found.margin[row] == pytest.approx(least(without, {}) - optimum, abs=1e-6)


def test_the_runner_up_is_not_the_second_cheapest() -> None:
    """Column 1 is second cheapest for row 0, and row 1 needs it more."""
    cost = np.array([[1.0, 2.0, 3.0], [9.0, 1.0, 9.0]])
    found = hc.explain(hc.assign(cost), cost)
    assert found.runner_up.tolist() == [2, 2]
    assert found.runner_up_cost.tolist() == [3, 9]
    assert found.margin.tolist() == [2, 8]


def test_ties_have_no_margin() -> None:
    cost = np.ones((2, 2))
    found = hc.explain(hc.assign(cost), cost)
    assert found.margin.tolist() == [0, 0]
    assert found.runner_up.tolist() == [1, 0]


def test_nan_policies_and_prices_are_those_of_the_matching() -> None:
    rng = np.random.default_rng(2)
    cost = rng.uniform(size=(3, 4))
    cost[0, 1] = cost[2, 2] = NAN
    for nan in ("worst", "forbid"):
        found = hc.explain(hc.assign(cost, nan=nan), cost, nan=nan)  # type: ignore[arg-type]  # a `str` to mypy
        assert np.isfinite(found.cost).all()
    price = np.array([0.2, 0.3, 0.1])
    assignment = hc.assign(cost, nan="forbid", unmatched_cost=price)
    found = hc.explain(assignment, cost, nan="forbid", unmatched_cost=price)
    assert found.cost.sum() == pytest.approx(float(assignment.cost))
    unmatched = found.unmatched_rows
    np.testing.assert_array_equal(found.cost[unmatched], price[unmatched])


# Errors


def _explain(**options: Any) -> hc.Explanation:
    cost = np.arange(24.0).reshape(2, 3, 4)
    mask = np.array([[1, 1, 0], [1, 1, 1]], bool)
    assignment = hc.assign(cost, row_mask=mask)
    return hc.explain(**{"assignment": assignment, "terms": cost, "row_mask": mask, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"terms": np.zeros((2, 4, 3))}, r"terms has shape \(2, 4, 3\); expected \(2, 3, 4\)"),
        ({"terms": {"bbox": np.zeros((3, 4))}}, r"terms\['bbox'\] has shape \(3, 4\)"),
        ({"terms": {}}, "terms is empty"),
        ({"terms": np.ones((2, 3, 4))}, "the pairs cost 2 at batch index 0 by these terms and "),
        ({"row_mask": None}, "2 pairs at batch index 0, where 3 valid rows and 4 valid columns"),
        ({"row_mask": np.ones(2, bool)}, r"row_mask has shape \(2,\); expected \(2, 3\)"),
        ({"row_mask": np.ones((2, 3))}, "row_mask has dtype float64; expected bool"),
        ({"col_mask": np.arange(8).reshape(2, 4) % 4 > 0}, "pairs of invalid rows or columns"),
        ({"unmatched_cost": np.zeros(5)}, r"unmatched_cost has shape \(5,\)"),
        ({"unmatched_cost": 1.0}, None),
        ({"nan": "drop"}, "nan is 'drop'"),
        ({"row_names": ["a"]}, "row_names has 1 names; expected 3"),
        ({"row_names": [["a"], ["b"], ["c"]]}, "row_names has lists of names for 3 samples"),
        ({"col_names": [["a"] * 5, []]}, "col_names has 5 names; expected at most 4"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str | None) -> None:
    if message is None:
        _explain(**options)
        return
    with pytest.raises(ValueError, match=message):
        _explain(**options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"assignment": np.zeros((2, 3), int)}, TypeError, "assignment is a ndarray; expected an"),
        ({"assignment": None}, TypeError, "assignment is a NoneType; expected an Assignment"),
        ({"terms": None}, TypeError, "terms: None came; expected an array"),
        ({"terms": {"bbox": "cost"}}, TypeError, r"terms\['bbox'\]: the text 'cost' came"),
        ({"terms": 1j * np.zeros((2, 3, 4))}, ValueError, "terms has dtype complex128"),
        ({"terms": np.full((2, 3, 4), NAN)}, ValueError, "the costs at batch index 0 hold NaN"),
        ({"terms": np.full((2, 3, 4), -np.inf), "nan": "forbid"}, ValueError, "nan='forbid'"),
        ({"row_names": "abc"}, TypeError, "row_names is 'abc'; expected a list of names"),
        ({"col_names": 4}, TypeError, "col_names is 4; expected a list of names"),
    ],
)
def test_what_cannot_be_explained(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        _explain(**options)


def test_names_in_arrays() -> None:
    found = _explain(row_names=np.array(["a", "b", "c"]), col_names=np.arange(4))
    assert found.row_names is not None
    assert found.row_names.tolist() == [["a", "b", "c"]] * 2


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (None, "sample is None"),
        (1.0, "sample is 1.0"),
        ("1", "sample is '1'"),
        ([], r"sample is \[\]"),
    ],
)
def test_samples_that_are_none(sample: Any, message: str) -> None:
    cost = np.zeros((2, 3, 4))
    with pytest.raises(ValueError, match=f"{message}, and the assignment is a batch"):
        hc.plot_matches(hc.assign(cost), cost, sample=sample)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda meter: meter.update(np.zeros((2, 3, 4))), ValueError, "col4row has dtype float64"),
        (lambda meter: meter.update(np.full((2, 3), -2)), ValueError, "col4row holds -2; expected"),
        (lambda meter: meter.update(None), TypeError, "col4row: None came"),
        (lambda meter: meter.update(np.zeros((2, 3), int), 3), TypeError, "ids is 3; expected"),
        (
            lambda meter: meter.update(np.zeros((2, 3), int), [[1], [2]]),
            TypeError,
            r"ids holds \[1\], which cannot be looked up",
        ),
        (lambda _: hc.StabilityMeter("4"), ValueError, "num_cols is '4'; expected"),
        (lambda _: hc.StabilityMeter(max_history=-1), ValueError, "max_history is -1; expected"),
    ],
)
def test_what_a_meter_refuses(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(hc.StabilityMeter())


def test_ids_in_an_array_of_text() -> None:
    meter = hc.StabilityMeter()
    meter.update(np.array([[0, 1], [1, 0]]), np.array(["a", "b"]))
    assert meter.update(np.array([[1, 0], [1, 0]]), np.array(["b", "a"])) == 0.5


def test_a_price_left_out_is_noticed() -> None:
    cost = np.array([[1.0, 8.0], [2.0, 9.0]])
    with pytest.raises(ValueError, match=r"1 pairs, where 2 valid rows.*unmatched_cost"):
        hc.explain(hc.assign(cost, unmatched_cost=5.0), cost)


def test_a_partial_matching_is_explained_by_its_rows() -> None:
    cost = np.array([[1.0, 3.0, np.inf], [9.0, np.inf, np.inf], [2.0, np.inf, np.inf]])
    match = hc.assign(cost, partial=True)
    with pytest.raises(ValueError, match=r"2 pairs.*of a partial one, row_mask=match.col4row >= 0"):
        hc.explain(match, cost)
    text = str(hc.explain(match, cost, row_mask=match.col4row >= 0))
    assert text.startswith("2 pairs, cost 5, duality gap 0")


def test_traced_arrays_are_refused() -> None:
    jax = pytest.importorskip("jax", reason="its tracers have no values")
    cost = np.eye(3, dtype=np.float32)
    for call in (
        lambda c: hc.explain(hc.assign(c), c),
        lambda c: hc.plot_matches(hc.assign(c), c),
        lambda c: hc.StabilityMeter().update(hc.assign(c)),
    ):
        with pytest.raises(ValueError, match=r"assignment.* is a symbol in a program being traced"):
            jax.jit(call)(cost)


def test_traced_tensors_are_refused() -> None:
    tf = pytest.importorskip("tensorflow", reason="its graphs have no values")

    @tf.function
    def program(cost: Any) -> Any:
        with pytest.raises(ValueError, match="is a symbol in a program being traced"):
            hc.explain(hc.assign(cost), cost)
        return cost

    program(tf.eye(3))


def test_tensors_that_training_goes_on_with() -> None:
    """A gradient does not matter, and what is shown does not change when memory is reused."""
    torch = pytest.importorskip("torch", reason="its tensors share memory with NumPy")
    cost = torch.rand(2, 3, 4, requires_grad=True)
    terms = {"class": cost * 2, "bbox": (cost * 3).to(torch.bfloat16)}
    assignment = hc.assign(terms["class"] + terms["bbox"].float())
    found = hc.explain(assignment, terms, row_names=torch.arange(3))
    meter = hc.StabilityMeter()
    meter.update(assignment)
    before = found.col4row.tolist()
    assignment.col4row.zero_()
    assert found.col4row.tolist() == before
    assert meter.update(torch.tensor(before)) == 0
