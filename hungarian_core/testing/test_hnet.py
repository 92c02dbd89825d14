"""The learned network against the same one written as loops, on every backend."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver

FAR = 20.0


def _params(seed: int = 0, width: int = 5, layers: int = 3) -> dict[str, np.ndarray]:
    """Return parameters of which each has a part in the result."""
    rng = np.random.default_rng(seed)
    params = hc.hnet.init_params(width=width, layers=layers, seed=seed)
    return {
        name: (x + rng.uniform(-0.2, 0.2, x.shape)).astype(np.float32) for name, x in params.items()
    }


def _distance(*shape: int, seed: int = 0) -> np.ndarray:
    """Return distances as of directions, of which a fifth are far."""
    rng = np.random.default_rng([*shape, seed])
    return np.where(rng.random(shape) < 0.2, rng.uniform(5, 300, shape), rng.uniform(0, 2, shape))


def _best_other(x: np.ndarray, i: int, j: int, axis: int, least: float) -> float:
    line, at = (x[:, j], i) if axis == 0 else (x[i], j)
    return max([*np.delete(line, at), least])


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _scores(d: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the scores of one problem, all of whose rows and columns are valid, pair by pair."""
    p = {name: x.astype(float) for name, x in params.items()}
    n, m = d.shape
    d = d.astype(float)
    gate, hidden, inputs = np.zeros((n, m)), {}, {}
    room = 4 - d.clip(0, 4)
    for i, j in np.ndindex(n, m):
        x = max(float(d[i, j]), 0.0)
        leads = [room[i, j] - _best_other(room, i, j, axis, 0) for axis in (1, 0)]
        features = [min(x, 4), math.exp(-x), math.log1p(x), math.log(x + 0.001), *leads]
        inputs[i, j] = np.array(features)
        hidden[i, j] = (inputs[i, j] @ p["input.weight"] + p["input.bias"]).clip(0)
    for i, j in np.ndindex(n, m):
        row = np.array([hidden[i, k] for k in range(m)])
        col = np.array([hidden[k, j] for k in range(n)])
        seen = [inputs[i, j], hidden[i, j]]
        seen += [row.mean(axis=0), row.max(axis=0), col.mean(axis=0), col.max(axis=0)]
        inner = (np.concatenate(seen) @ p["gate.weight"] + p["gate.bias"]).clip(0)
        gate[i, j] = inner @ p["gate.out"] + p["gate.offset"]

    real = np.vectorize(_sigmoid)(gate)
    lead = real.max(axis=0).sum() - real.max(axis=1).sum()  # of columns over rows
    of_rows = -FAR * _sigmoid(p["side.slope"] * (lead + 0.5))
    of_cols = -FAR * _sigmoid(p["side.slope"] * (0.5 - lead))
    gain = -p["cost.scale"] * d - p["cost.gate"] * (np.logaddexp(0, -gate) - 0.01).clip(0)
    gain = gain.clip(-2 * FAR)
    of_row, of_col = gain.copy(), gain.copy()
    for row_momentum, col_momentum in p["layers.momentum"]:
        before = of_row.copy()
        for i, j in np.ndindex(n, m):
            elsewhere = max(_best_other(of_col, i, j, 1, -FAR), of_rows)
            of_row[i, j] = gain[i, j] - elsewhere + row_momentum * (before[i, j] - gain[i, j])
        before = of_col.copy()
        for i, j in np.ndindex(n, m):
            elsewhere = max(_best_other(of_row, i, j, 0, -FAR), of_cols)
            of_col[i, j] = gain[i, j] - elsewhere + col_momentum * (before[i, j] - gain[i, j])
    lead = p["score.scale"] * (of_row + of_col - gain) + p["score.offset"]
    return -np.logaddexp(-lead, -p["score.gate"] * gate)


def _association(scores: np.ndarray) -> np.ndarray:
    """Return the smaller of two softmaxes, over a row and none, and over a column and none."""
    matrix = np.zeros(scores.shape)
    for i, j in np.ndindex(*scores.shape):
        norms = [np.logaddexp.reduce([*line, 0]) for line in (scores[i], scores[:, j])]
        matrix[i, j] = math.exp(scores[i, j] - max(norms))
    return matrix


def _loss(scores: np.ndarray, association: np.ndarray) -> float:
    """Return the mean negative log-likelihood of what rows and columns chose."""
    total = 0.0
    for lines, truth in ((scores, association), (scores.T, association.T)):
        for line, chosen in zip(lines, truth, strict=True):
            choices = np.array([*line, 0])
            weights = np.array([*chosen, 1 - chosen.sum()])
            total += (weights * (np.logaddexp.reduce(choices) - choices)).sum()
    return total / sum(scores.shape) if sum(scores.shape) else 0.0


def _each(
    d: np.ndarray, rows: np.ndarray | None, cols: np.ndarray | None, params: Mapping[str, Any]
) -> tuple[np.ndarray, list[tuple[tuple[Any, ...], np.ndarray]]]:
    """Return the expected matrices, and for each sample its valid part and the scores there."""
    matrix, parts = np.zeros(d.shape), []
    for at in np.ndindex(*d.shape[:-2]):
        i = np.flatnonzero(rows[at]) if rows is not None else np.arange(d.shape[-2])
        j = np.flatnonzero(cols[at]) if cols is not None else np.arange(d.shape[-1])
        inside = (*at, *np.ix_(i, j))
        scores = _scores(d[inside], params) if len(i) and len(j) else np.zeros((len(i), len(j)))
        matrix[inside] = _association(scores)
        parts.append((inside, scores))
    return matrix, parts


def _program(driver: Driver, params: Mapping[str, Any], names: tuple[str, ...] = ()) -> Any:
    # A compiler of programs wants parameters in arrays of its own.
    params = {name: driver.from_numpy(x) for name, x in params.items()}

    def run(distance: Any, *masks: Any) -> Any:
        named = dict(zip(names, masks, strict=True))
        return hc.hnet.associate(distance, params, **named, backend=driver.backend)

    return driver.trace(run)


MASKS = {
    "row_mask": np.array([[True, False, True, True], [False] * 4, [True] * 4]),
    "col_mask": np.array([[True, True, False], [True, True, True], [False, True, False]]),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "masks"),
    [((2, 4, 4), ()), ((3, 4, 3), ("row_mask", "col_mask")), ((1, 3), ()), ((2, 3, 1), ())],
    ids=["square", "masked", "one row", "one column"],
)
def test_associate(
    driver: Driver, shape: tuple[int, ...], masks: tuple[str, ...], dtype: str
) -> None:
    """Padding may hold anything."""
    checks.need(driver, dtype)
    if not masks or dtype != "float32":
        checks.skip_long(driver)
    params, d = _params(), _distance(*shape)
    given = [MASKS[name] for name in masks]
    rows, cols = given if masks else (None, None)
    expected, _ = _each(d.astype(dtype), rows, cols, params)
    if masks:
        assert rows is not None
        assert cols is not None
        d = np.where(rows[:, :, None] & cols[:, None, :], d, np.nan)
    arrays = [driver.from_numpy(d, dtype), *(driver.from_numpy(x) for x in given)]
    found = _program(driver, params, masks)(*arrays)
    assert driver.dtype(found) == dtype
    values = driver.to_numpy(found)
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-5 if dtype == "float32" else 1e-12)
    assert (values.sum(axis=-1) <= 1 + 1e-6).all()
    assert (values.sum(axis=-2) <= 1 + 1e-6).all()
    if masks:
        assert rows is not None
        assert cols is not None
        assert (values[~(rows[:, :, None] & cols[:, None, :])] == 0).all()


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_loss(driver: Driver, reduction: Any, masked: bool) -> None:
    if (reduction, masked) != ("mean", True):
        checks.skip_long(driver)
    params, d = _params(), _distance(3, 4, 3)
    rows, cols = MASKS.values() if masked else (None, None)
    _, parts = _each(d.astype(np.float32), rows, cols, params)
    arrays = {name: driver.from_numpy(x) for name, x in params.items()}
    truth = np.zeros(d.shape, bool)
    for inside, scores in parts:
        truth[inside] = np.eye(scores.shape[0], scores.shape[1], 1, dtype=bool)
    each = [_loss(scores, truth[inside]) for inside, scores in parts]
    expected = {"mean": np.mean(each), "sum": np.sum(each), "none": each}[reduction]

    def run(distance: Any, association: Any, *masks: Any) -> Any:
        return hc.hnet.association_loss(
            distance, association, arrays, **dict(zip(MASKS, masks, strict=False)),
            reduction=reduction, backend=driver.backend,
        )  # fmt: skip

    given = [driver.from_numpy(x) for x in (MASKS.values() if masked else ())]
    found = driver.trace(run)(driver.from_numpy(d, "float32"), driver.from_numpy(truth), *given)
    np.testing.assert_allclose(driver.to_numpy(found), expected, rtol=1e-5)


@pytest.mark.parametrize("function", ["associate", "loss"])
def test_gradients(driver: Driver, function: str) -> None:
    """By distances and by parameters, with an upstream gradient, against finite differences."""
    if not driver.differentiable:
        pytest.skip(f"{driver.name} is not differentiable")
    if function == "associate":
        checks.skip_long(driver)
    checks.need(driver, "float64")
    if not driver.static_shapes:
        pytest.skip("the shapes of parameters have to be known: they are the architecture")
    params = {name: x.astype(float) for name, x in _params(0, 3, 2).items()}
    association = driver.from_numpy(np.stack([np.eye(3, 4, dtype=bool)] * 2))
    params["side.slope"] /= 8  # so that neither side is certain
    names, d = list(params), _distance(2, 3, 4, seed=1)
    d = np.where(d > 4, 4 + d / 40, d)  # far, but not so far that nothing depends on them
    upstream = np.random.default_rng(3).normal(size=d.shape if function == "associate" else 2)

    def run(distance: Any, *arrays: Any) -> Any:
        given = dict(zip(names, arrays, strict=True))
        if function == "associate":
            return hc.hnet.associate(distance, given, backend=driver.backend)
        return hc.hnet.association_loss(
            distance, association, given, reduction="none", backend=driver.backend
        )

    def value(arrays: list[np.ndarray]) -> float:
        given = dict(zip(names, arrays[1:], strict=True))
        scores = [_scores(x, given) for x in arrays[0]]
        if function == "associate":
            return float(
                sum((_association(s) * g).sum() for s, g in zip(scores, upstream, strict=True))
            )
        return float(sum(_loss(s, np.eye(3, 4)) * g for s, g in zip(scores, upstream, strict=True)))

    inputs = [d, *params.values()]
    arrays = [driver.from_numpy(x) for x in inputs]
    found = driver.value_and_grad(run, arrays, driver.from_numpy(upstream))[1]
    rng = np.random.default_rng(4)
    for k, (x, gradient) in enumerate(zip(inputs, found, strict=True)):
        # Along one direction of each input; the step stays within a smooth piece.
        direction, step = rng.normal(size=x.shape), 1e-6
        ends = [
            value([*inputs[:k], x + sign * step * direction, *inputs[k + 1 :]]) for sign in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / (2 * step)
        along = (driver.to_numpy(gradient) * direction).sum()
        assert along == pytest.approx(slope, rel=1e-4, abs=1e-6), ["distance", *names][k]
    idle = [name for name, x in zip(names, found[1:], strict=True) if not driver.to_numpy(x).any()]
    assert idle == []


def test_order_does_not_matter(driver: Driver) -> None:
    checks.skip_long(driver)
    rng = np.random.default_rng(0)
    params, d = _params(), _distance(2, 5, 4).astype(np.float32)
    rows, cols = rng.permutation(5), rng.permutation(4)
    run = _program(driver, params)
    plain, permuted = (
        driver.to_numpy(run(driver.from_numpy(x))) for x in (d, d[:, rows][:, :, cols])
    )
    np.testing.assert_allclose(permuted, plain[:, rows][:, :, cols], atol=1e-5)


def test_half_precision(driver: Driver) -> None:
    """It is computed in float32."""
    checks.skip_long(driver)
    checks.need(driver, "float16")
    params, d = _params(), _distance(3, 3).astype(np.float16)
    found = _program(driver, params)(driver.from_numpy(d))
    assert driver.dtype(found) == "float16"
    expected, _ = _each(d, None, None, params)
    np.testing.assert_allclose(driver.to_numpy(found), expected, atol=1e-3)


@pytest.mark.parametrize("shape", [(0, 3), (2, 2, 0), (0, 0), (0, 2, 2)])
def test_empty(driver: Driver, shape: tuple[int, ...]) -> None:
    checks.skip_long(driver)
    d = driver.from_numpy(np.zeros(shape, np.float32))
    assert driver.to_numpy(_program(driver, _params())(d)).shape == shape


@pytest.mark.parametrize("max_len", [2, 10])
def test_pretrained(driver: Driver, max_len: int) -> None:
    """What is shipped says the same everywhere, and finds most matchings of its data."""
    if max_len != 2:
        checks.skip_long(driver)
    params = hc.hnet.load_pretrained(max_len)
    samples = hc.hnet.data.generate(max_len, samples=22, resolutions=(1, 10), seed=99)
    d = samples.distance[:40]
    found = driver.to_numpy(_program(driver, params)(driver.from_numpy(d)))
    # In float32 too: what is shipped is sharp, and rounds at 0.5 as much as frameworks may differ.
    expected = hc.hnet.associate(d, params)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert hc.hnet.metrics.exact(samples.association[:40], found) > 0.8


def test_parameters_are_converted(driver: Driver) -> None:
    """Eagerly, NumPy's will do, and a result has the dtype of the distances."""
    checks.skip_slow(driver)
    if not driver.raises and "device" not in driver.name:
        pytest.skip("one conversion for all programs")
    params, d = _params(), driver.from_numpy(_distance(3, 3), "float32")
    found = hc.hnet.associate(d, params, backend=driver.backend)
    expected = _program(driver, params)(d)
    assert driver.dtype(found) == "float32"
    assert driver.device(found) == driver.device(d)
    np.testing.assert_array_equal(driver.to_numpy(found), driver.to_numpy(expected))


def test_pretrained_in_arrays_of_a_backend(driver: Driver) -> None:
    x = driver.from_numpy(np.ones((2, 2), np.float32))
    params = hc.hnet.load_pretrained(2, backend=driver.resolve(x))
    for name, value in hc.hnet.load_pretrained(2).items():
        assert type(params[name]) is type(x) or driver.name == "numpy"
        np.testing.assert_array_equal(driver.to_numpy(params[name]), value)
