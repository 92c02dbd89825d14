"""Gradients through a matching: each formula again in NumPy and SciPy, in float64."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from scipy.stats import norm

import hungarian_core as hc
from hungarian_core.relaxations import exact
from hungarian_core.relaxations.noise import noise_like
from hungarian_core.testing import checks, examples, reference
from hungarian_core.testing.driver import Driver

INF, NAN = float("inf"), float("nan")
RELATIVE = {"float32": 1e-5, "float64": 1e-12}
STEP = 4.0  # λ, a power of two: gradients of `blackbox` are exact
SAMPLES, HEAT, SEED = 5, 0.5, 11
NUMPY = hc.get_backend("numpy")
KINDS: tuple[Literal["gaussian", "gumbel"], ...] = ("gaussian", "gumbel")


ALL = pytest.mark.parametrize("example", examples.EXAMPLES, ids=str)


def _prepare(driver: Driver, example: examples.Example, essential: bool) -> None:
    checks.need(driver, example.dtype)
    if not essential:
        checks.skip_long(driver)


def _given(
    driver: Driver, example: examples.Example, **options: Any
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the costs, and the masks and other options of a call."""
    cost, rows, cols = example.data()
    masks = {"row_mask": rows, "col_mask": cols}
    given = {name: driver.from_numpy(x) for name, x in masks.items() if x is not None}
    return cost, {**given, "maximize": example.maximize, "backend": driver.backend, **options}


def _close(found: list[np.ndarray], *expected: np.ndarray, relative: float) -> None:
    for x, y in zip(found, expected[: len(found)], strict=True):
        assert x.shape == y.shape
        scale = np.abs(y[np.isfinite(y)]).max(initial=0.0)
        np.testing.assert_allclose(x, y, rtol=0, atol=relative * scale)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_noise_is_the_same_everywhere(driver: Driver, dtype: str) -> None:
    """Of one seed, but for the rounding of logarithms; seeds are numbers or arrays."""
    checks.need(driver, dtype)
    cost = np.zeros((3, 2, 5), dtype)

    def program(x: Any, seed: Any) -> Any:
        backend = driver.resolve(x)
        gaussian = noise_like(x, 3, seed, "gaussian", backend)
        return gaussian, noise_like(x, 2, SEED, "gumbel", backend)

    arrays = [driver.from_numpy(x) for x in (cost, np.asarray(SEED, np.int32))]
    for found, kind in zip(driver.trace(program)(*arrays), KINDS, strict=True):
        expected = noise_like(cost, len(driver.to_numpy(found)), SEED, kind, NUMPY)
        assert driver.dtype(found) == dtype
        assert driver.device(found) == driver.device(arrays[0])
        # The log1p of XLA is off by 120 eps in float64.
        ulps = 256 if (kind, dtype) == ("gumbel", "float64") else 8
        tolerance = ulps * float(np.finfo(dtype).eps)
        np.testing.assert_allclose(driver.to_numpy(found), expected, rtol=tolerance, atol=tolerance)


# The total


@ALL
def test_cost(driver: Driver, example: examples.Example) -> None:
    """The value is exactly that of `assign`; the gradient is the matching."""
    _prepare(driver, example, example.name == "masked")
    cost, options = _given(driver, example)
    upstream = examples.upstream(cost.shape[:-2], example.dtype)

    def both(cost: Any) -> Any:
        return hc.assignment_cost(cost, **options), hc.assign(cost, **options).cost

    value, exact = driver.trace(both)(driver.from_numpy(cost))
    assert driver.device(value) == driver.device(driver.from_numpy(cost))
    np.testing.assert_array_equal(driver.to_numpy(value), driver.to_numpy(exact))
    found = examples.run(driver, lambda x: hc.assignment_cost(x, **options), upstream, cost)
    assert {x.dtype.name for x in found} == {example.dtype}
    sign = -1 if example.maximize else 1
    matching = examples.match(sign * cost, *example.data()[1:])
    total = np.where(matching > 0, cost.astype(np.float64), 0).sum((-2, -1))
    _close(found, total, upstream[..., None, None] * matching, relative=1e-6)


def test_cost_of_a_partial_matching(driver: Driver) -> None:
    """The gradient is 1 at as many pairs as there can be, which have the least total."""
    checks.skip_slow(driver)
    rng = np.random.default_rng(5)
    cost = rng.integers(-9, 20, (4, 4, 5)).astype(np.float32)
    cost[1:] = np.where(rng.uniform(size=cost[1:].shape) < 0.7, INF, cost[1:])
    cost[2] = INF
    upstream = examples.upstream((4,))
    value, *slopes = examples.run(
        driver,
        lambda x: hc.assignment_cost(x, partial=True, backend=driver.backend),
        upstream,
        cost,
    )
    for b, one in enumerate(cost):
        pairs, total = reference.partial(one)
        assert value[b] == total
        for slope in slopes:  # of frameworks that have gradients
            mask = slope[b] == upstream[b]
            assert (slope[b][~mask] == 0).all()
            assert mask.sum() == mask.any(0).sum() == mask.any(1).sum() == pairs
            assert one[mask].sum() == total


@pytest.mark.parametrize("per", ["sample", "row"])
def test_cost_of_unmatched_rows(driver: Driver, per: str) -> None:
    """A row that pays passes the gradient to its price, and none to its costs."""
    if per == "sample":
        checks.skip_slow(driver)
    cost, rows, _ = examples.Example("", (3, 5, 6), masked=True).data()
    assert rows is not None
    cost = np.nan_to_num(cost, nan=0.0)
    price = np.array([0.5, -1.0, -4.0], np.float32)
    if per == "row":
        price = price[:, None] + np.linspace(0, 1, 5, dtype=np.float32)
    mask = driver.from_numpy(rows)

    def program(cost: Any, price: Any) -> Any:
        return hc.assignment_cost(cost, row_mask=mask, unmatched_cost=price, backend=driver.backend)

    prices = np.broadcast_to(price if per == "row" else price[:, None], (3, 5))
    ways_out = np.concatenate([cost, np.full((3, 5, 5), INF)], axis=2)
    ways_out[:, range(5), range(6, 11)] = prices
    matching = examples.match(ways_out, rows)
    paid = matching[:, :, 6:].sum(2)
    assert 0 < paid.sum() < rows.sum()
    upstream = examples.upstream((3,))
    total = np.where(matching > 0, ways_out, 0).sum((1, 2))
    by_price = upstream[:, None] * paid
    expected = upstream[:, None, None] * matching[:, :, :6]
    found = examples.run(driver, program, upstream, cost, price)
    _close(found, total, expected, by_price if per == "row" else by_price.sum(1), relative=1e-6)


def test_cost_of_replaced_entries(driver: Driver) -> None:
    """What `nan="worst"` put there is a constant, also where it is matched."""
    checks.skip_slow(driver)
    cost, *_ = examples.Example("", (2, 3, 3)).data()
    cost[0, 1] = NAN
    cost[1, 2, 0] = -INF
    repaired = cost.copy()
    repaired[0, 1] = np.nanmax(cost[0])
    repaired[1, 2, 0] = cost[1][np.isfinite(cost[1])].min()
    matching = examples.match(repaired)
    assert (matching * ~np.isfinite(cost)).sum() > 0
    upstream = examples.upstream((2,))
    expected = np.where(np.isfinite(cost), upstream[:, None, None] * matching, 0)
    program = examples.programs(driver, nan="worst")["assignment_cost"]
    found = examples.run(driver, program, upstream, cost)
    _close(found, (repaired * matching).sum((1, 2)), expected, relative=1e-6)


def test_cost_is_as_large_as_it_gets(driver: Driver) -> None:
    """Where the sum overflows, the total is that of `assign`, and the gradient the matching."""
    checks.skip_slow(driver)
    cost = np.full((1, 2, 2), 3e38, np.float32)
    upstream = examples.upstream((1,))
    value, *grads = examples.run(
        driver, examples.programs(driver)["assignment_cost"], upstream, cost
    )
    assert value == INF
    for grad in grads:
        np.testing.assert_array_equal(grad, upstream[:, None, None] * np.eye(2, dtype=np.float32))


# Matrices


@ALL
def test_blackbox(driver: Driver, example: examples.Example) -> None:
    """The gradient is the difference to the matching at costs moved by the upstream gradient."""
    _prepare(driver, example, example.name == "masked")
    cost, options = _given(driver, example, interpolation=STEP)
    _, rows, cols = example.data()
    upstream = examples.upstream(cost.shape, example.dtype)
    found = examples.run(
        driver, lambda x: hc.assignment_matrix(x, "blackbox", **options), upstream, cost
    )
    assert {x.dtype.name for x in found} == {example.dtype}
    sign = -1 if example.maximize else 1
    cost = sign * cost
    matching = examples.match(cost, rows, cols)
    with np.errstate(invalid="ignore"):
        other = examples.match(np.where(np.isnan(cost), INF, cost + STEP * upstream), rows, cols)
    assert (other != matching).any()
    np.testing.assert_array_equal(found[0], matching)
    for grad in found[1:]:
        np.testing.assert_array_equal(grad, sign * (other - matching) / STEP)


def test_blackbox_solves_twice(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once going forth and once going back."""
    checks.skip_lengthy(driver)
    if not driver.differentiable or driver.name == "tapegrad":
        pytest.skip(f"{driver.name} has no gradients, or goes back once for each input")
    calls = []
    solve = exact.solve

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return solve(*args, **options)

    monkeypatch.setattr(exact, "solve", counted)
    cost = driver.from_numpy(examples.Example("").data()[0])
    program = examples.programs(driver)["blackbox"]
    traces = 2 if driver.name == "torch-func" else 1  # of which one goes forth only
    driver.value_and_grad(program, [cost], driver.from_numpy(examples.upstream(cost.shape)))
    assert len(calls) == 1 + traces


def test_blackbox_of_a_broken_upstream_gradient(driver: Driver) -> None:
    """NaN from above gives NaN in its sample, and never an error in a backward pass."""
    checks.skip_slow(driver)
    if not driver.differentiable:
        pytest.skip(f"{driver.name} has no gradients")
    cost, *_ = examples.Example("").data()
    upstream = examples.upstream(cost.shape)
    upstream[0, 1, 2], upstream[1, 0, 0] = NAN, INF
    program = examples.programs(driver, interpolation=STEP)["blackbox"]
    _, grad = examples.run(driver, program, upstream, cost)
    assert np.isnan(grad[:2]).all()
    expected = (examples.match(cost[2] + STEP * upstream[2]) - examples.match(cost[2])) / STEP
    np.testing.assert_array_equal(grad[2], expected)


def _noise(cost: np.ndarray, samples: int, kind: Any, seed: int = SEED) -> np.ndarray:
    return noise_like(cost, samples, seed, kind, NUMPY).astype(np.float64)


@pytest.mark.parametrize("noise", KINDS)
@ALL
def test_perturbed(driver: Driver, example: examples.Example, noise: str) -> None:
    """The mean over samples, and the covariance of scores with the slopes of the noise."""
    _prepare(driver, example, (example.name, noise) == ("masked", "gumbel"))
    cost, options = _given(driver, example, noise=noise, samples=SAMPLES)
    _, rows, cols = example.data()
    # Numbers and arrays are both good.
    options["seed"] = driver.from_numpy(np.asarray(SEED, np.int32)) if example.masked else SEED
    heat = driver.from_numpy(np.asarray(HEAT, np.float32)) if example.forbidden else HEAT
    options["temperature"] = heat
    upstream = examples.upstream(cost.shape, example.dtype)
    found = examples.run(
        driver, lambda x: hc.assignment_matrix(x, "perturbed", **options), upstream, cost
    )
    assert {x.dtype.name for x in found} == {example.dtype}

    sign, z = -1 if example.maximize else 1, _noise(cost, SAMPLES, noise)
    matchings = np.stack([examples.match(sign * cost - HEAT * x, rows, cols) for x in z])
    slopes = z if noise == "gaussian" else 1 - np.exp(-z)
    scores = (upstream * matchings).sum((-2, -1))
    scores = (scores - scores.mean(0)) / (SAMPLES - 1)
    grad = -(scores[..., None, None] * slopes).sum(0) / HEAT
    read = np.isfinite(cost)
    assert np.abs(grad[read]).max() > 0
    _close(
        found, matchings.mean(0), np.where(read, sign * grad, 0), relative=RELATIVE[example.dtype]
    )


def _smooth_pair(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how probable the diagonal of `cost[2, 2]` is under Gaussian noise, and its slopes.

    The sum of four costs, two of them negative, has the standard deviation 2 T.
    """
    signs = np.array([[-1.0, 1.0], [1.0, -1.0]])
    x = (signs * cost).sum() / (2 * HEAT)
    return norm.cdf(x), norm.pdf(x) * signs / (2 * HEAT)


def test_perturbed_by_gaussian_noise(driver: Driver) -> None:
    """Many samples come close to the probabilities and their slopes, which two by two have."""
    checks.skip_long(driver)
    samples = 20_000
    cost = np.array([[0.3, 0.1], [-0.2, 0.4]], np.float32)
    weight = np.array([[1.0, 0.5], [-0.5, 2.0]], np.float32)
    options = {"temperature": HEAT, "samples": samples, "seed": SEED}
    program = examples.programs(driver, **options)["perturbed"]
    value, *grads = examples.run(driver, program, weight, cost)
    p, slopes = _smooth_pair(cost.astype(np.float64))
    assert value[0, 0] == pytest.approx(p, abs=4 / np.sqrt(samples) / 2)
    stake = np.trace(weight) - np.trace(weight[::-1])  # on the diagonal rather than beside it
    for grad in grads:
        np.testing.assert_allclose(grad, stake * slopes, atol=4 * 3 / HEAT / np.sqrt(samples))
        assert np.abs(stake * slopes).min() > 0.3  # many times that


def test_perturbed_by_gumbel_noise(driver: Driver) -> None:
    """The choice of one row follows the softmax."""
    checks.skip_long(driver)
    samples = 20_000
    cost = np.array([[0.3, 0.1, -0.4]], np.float32)
    weight = np.array([[1.0, 0.5, 4.0]], np.float32)
    options = {"temperature": HEAT, "samples": samples, "seed": SEED, "noise": "gumbel"}
    program = examples.programs(driver, **options)["perturbed"]
    value, *grads = examples.run(driver, program, weight, cost)
    p = np.exp(-cost.astype(np.float64) / HEAT)
    p /= p.sum()
    np.testing.assert_allclose(value, p, atol=4 / np.sqrt(samples) / 2)
    expected = -p * (weight - (p * weight).sum()) / HEAT
    for grad in grads:
        np.testing.assert_allclose(grad, expected, atol=4 * 2.5 / HEAT / np.sqrt(samples))
        assert np.abs(expected).max() > 0.8


def test_temperature_and_seed_of_a_step(driver: Driver) -> None:
    """Both may be arrays of a program: one program serves all steps."""
    cost, *_ = examples.Example("").data()
    options: Any = {"samples": SAMPLES, "backend": driver.backend}

    def program(cost: Any, temperature: Any, seed: Any) -> Any:
        return hc.assignment_matrix(
            cost, "perturbed", temperature=temperature, seed=seed, **options
        )

    traced = driver.trace(program)
    for heat, seed in ((0.5, 3), (2.0, 4)):
        scalars = np.asarray(heat, np.float32), np.asarray(seed, np.int32)
        found = driver.to_numpy(traced(*(driver.from_numpy(x) for x in (cost, *scalars))))
        z = _noise(cost, SAMPLES, "gaussian", seed)
        expected = np.mean([examples.match(cost - heat * x) for x in z], axis=0)
        np.testing.assert_allclose(found, expected, atol=1e-6)


# The loss


@pytest.mark.parametrize("noise", KINDS)
@ALL
def test_fenchel_young(driver: Driver, example: examples.Example, noise: str) -> None:
    """Its gradient is the target less the mean matching; nothing is read outside the masks."""
    _prepare(driver, example, (example.name, noise) == ("wide_forbidden", "gaussian"))
    cost, options = _given(
        driver, example, noise=noise, samples=SAMPLES, temperature=HEAT, seed=SEED
    )
    _, rows, cols = example.data()
    sign = -1 if example.maximize else 1
    with np.errstate(invalid="ignore"):
        target = examples.match(np.where(np.isfinite(cost), 0.0, INF), rows, cols).astype(
            example.dtype
        )
    soft = 0.75 * target  # a target need not be a matching
    shown = np.where(np.isnan(cost), NAN, soft)
    truth = driver.from_numpy(shown)
    upstream = examples.upstream(cost.shape[:-2], example.dtype)
    found = examples.run(
        driver, lambda x: hc.fenchel_young_loss(x, truth, **options), upstream, cost
    )
    assert {x.dtype.name for x in found} == {example.dtype}
    many = [sign * cost - HEAT * z for z in _noise(cost, SAMPLES, noise)]
    matchings = np.stack([examples.match(x, rows, cols) for x in many])
    least = np.where(matchings > 0, np.stack(many), 0).sum((-2, -1)).mean(0)
    value = np.where(soft > 0, sign * cost, 0).sum((-2, -1), where=soft > 0) * 0.75 - least
    grad = upstream[..., None, None] * sign * (soft - matchings.mean(0))
    _close(found, value, grad, relative=RELATIVE[example.dtype])


def test_fenchel_young_of_a_forbidden_target(driver: Driver) -> None:
    """No costs make it likely."""
    checks.skip_slow(driver)
    cost = np.array([[INF, 1.0], [1.0, 1.0]], np.float32)
    target = driver.from_numpy(np.eye(2, dtype=np.float32))
    value, *grads = examples.run(
        driver,
        lambda x: hc.fenchel_young_loss(x, target, backend=driver.backend),
        np.array(1.0, np.float32),
        cost,
    )
    assert value == INF
    assert np.isfinite(grads).all()
