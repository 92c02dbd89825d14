"""The hooks of a backend, each by its contract in `hungarian_core.Backend`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from hungarian_core import Backend, boxes
from hungarian_core.masks.points import sample_by_gathering
from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver
from hungarian_core.testing.names import NAMES

X = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]], np.float32)
Y = np.array([[2.0, 0.5, 1.0], [-1.0, 3.0, 2.0]], np.float32)
G = np.array([[3.0, 5.0, -2.0], [0.25, 7.0, 1.5]], np.float32)


def _backend(driver: Driver) -> Backend:
    return driver.resolve(driver.from_numpy(X))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int64"])
def test_missing_dtypes_are_missing(driver: Driver, dtype: str) -> None:
    """What a driver says it cannot hold is not held: no check is skipped for nothing."""
    if dtype in driver.dtypes:
        assert driver.dtype(driver.from_numpy(X, dtype)) == dtype
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # JAX says that it takes another dtype
            held = driver.dtype(driver.from_numpy(X, dtype))
    except (AttributeError, TypeError, ValueError):
        return
    assert held != dtype


def test_round_trip(driver: Driver) -> None:
    """The driver itself: what goes in comes out."""
    for dtype in sorted(driver.dtypes):
        x = driver.from_numpy(np.array([[0, 1], [1, 0]]), dtype)
        assert driver.dtype(x) == dtype
        np.testing.assert_array_equal(driver.to_numpy(x).astype(float), [[0, 1], [1, 0]])


def test_names(driver: Driver) -> None:
    """The namespace has every name that the core calls."""
    xp = _backend(driver).namespace(driver.from_numpy(X))
    assert [name for name in NAMES if not hasattr(xp, name)] == []


def test_shape(driver: Driver) -> None:
    x = driver.from_numpy(X)
    shape = _backend(driver).shape(x)
    assert shape == (2, 3)
    assert all(type(extent) is int for extent in shape)


def test_a_concrete_array_is_not_traced(driver: Driver) -> None:
    backend, x = _backend(driver), driver.from_numpy(X)
    assert backend.is_traced(x) is False
    assert isinstance(backend.on_host(x), bool)


def test_asarray_of_numpy(driver: Driver) -> None:
    like = driver.from_numpy(Y)
    x = _backend(driver).asarray(X, like=like)
    assert type(x) is type(like)
    assert driver.dtype(x) == "float32"
    assert driver.device(x) == driver.device(like)
    np.testing.assert_array_equal(driver.to_numpy(x), X)


def test_asarray_of_a_list(driver: Driver) -> None:
    like = driver.from_numpy(Y)
    x = _backend(driver).asarray([[1.5, 2.0], [3.0, 4.0]], like=like)
    assert type(x) is type(like)
    assert driver.device(x) == driver.device(like)
    np.testing.assert_array_equal(driver.to_numpy(x), [[1.5, 2.0], [3.0, 4.0]])


def test_asarray_keeps_its_own(driver: Driver) -> None:
    x = driver.from_numpy(X)
    np.testing.assert_array_equal(driver.to_numpy(_backend(driver).asarray(x)), X)
    assert driver.device(_backend(driver).asarray(x)) == driver.device(x)


def test_stop_gradient(driver: Driver) -> None:
    backend, x, y = _backend(driver), driver.from_numpy(X), driver.from_numpy(Y)

    def program(x: Any, y: Any) -> Any:
        return x * backend.stop_gradient(x) + backend.stop_gradient(y) + 0 * y

    np.testing.assert_allclose(driver.to_numpy(driver.trace(program)(x, y)), X * X + Y, rtol=1e-6)
    if driver.differentiable:
        _, grads = driver.value_and_grad(program, [x, y], driver.from_numpy(G))
        for found, expected in zip(grads, (G * X, np.zeros_like(Y)), strict=True):
            np.testing.assert_allclose(driver.to_numpy(found), expected, rtol=1e-6)


def test_custom_vjp(driver: Driver) -> None:
    """The gradient is the given one, times the upstream gradient, from the given residuals."""
    backend, x, y = _backend(driver), driver.from_numpy(X), driver.from_numpy(Y)

    def forward(x: Any, y: Any) -> tuple[Any, Any]:
        return x * y, (x + 1, y)

    def backward(residuals: Any, g: Any) -> tuple[Any, Any]:
        x1, y = residuals
        return 3 * g * y, g * x1  # not the true gradient, to see that it is this one

    def program(x: Any, y: Any) -> Any:
        return 2 * backend.custom_vjp(forward, backward)(x, y)

    np.testing.assert_allclose(driver.to_numpy(driver.trace(program)(x, y)), 2 * X * Y, rtol=1e-6)
    if driver.differentiable:
        value, grads = driver.value_and_grad(program, [x, y], driver.from_numpy(G))
        np.testing.assert_allclose(driver.to_numpy(value), 2 * X * Y, rtol=1e-6)
        for found, expected in zip(grads, (6 * G * Y, 2 * G * (X + 1)), strict=True):
            np.testing.assert_allclose(driver.to_numpy(found), expected, rtol=1e-6)


def test_custom_vjp_of_a_constant(driver: Driver) -> None:
    """An input whose gradient is None is taken for a constant."""
    backend, x, y = _backend(driver), driver.from_numpy(X), driver.from_numpy(Y)

    def program(x: Any, y: Any) -> Any:
        def backward(residuals: Any, g: Any) -> tuple[Any, Any]:
            return g * residuals[0], None

        return backend.custom_vjp(lambda x, y: (x * y, (y,)), backward)(x, 3 * y) + y

    np.testing.assert_allclose(
        driver.to_numpy(driver.trace(program)(x, y)), 3 * X * Y + Y, rtol=1e-6
    )
    if driver.differentiable:
        _, grads = driver.value_and_grad(program, [x, y], driver.from_numpy(G))
        for found, expected in zip(grads, (3 * G * Y, G), strict=True):
            np.testing.assert_allclose(driver.to_numpy(found), expected, rtol=1e-6)


def test_while_loop(driver: Driver) -> None:
    """A state of several dtypes; the rows of a batch stop at different times."""
    if not driver.loops:
        pytest.skip(f"{driver.name} has no loops in its programs")
    backend, x = _backend(driver), driver.from_numpy(X)

    def program(x: Any) -> Any:
        xp = backend.namespace(x)
        first = x[:, 0]
        limit = xp.cumulative_sum(xp.ones_like(first)) * 10

        def step(state: tuple[Any, ...]) -> tuple[Any, ...]:
            total, steps, running = state
            total = xp.where(running, total * 2, total)
            return total, steps + xp.astype(running, steps.dtype), running & (total < limit)

        state = first, xp.zeros_like(first, dtype=xp.int8), xp.ones_like(first, dtype=xp.bool)
        return tuple(backend.while_loop(lambda s: xp.any(s[2]), step, state))

    total, steps, running = (driver.to_numpy(z) for z in driver.trace(program)(x))
    np.testing.assert_array_equal(total, [16, 32])
    np.testing.assert_array_equal(steps, [4, 6])
    assert steps.dtype == np.int8
    assert not running.any()


def test_while_loop_without_steps(driver: Driver) -> None:
    if not driver.loops:
        pytest.skip(f"{driver.name} has no loops in its programs")
    backend, x = _backend(driver), driver.from_numpy(X)

    def program(x: Any) -> Any:
        xp = backend.namespace(x)
        state = x, xp.sum(x, axis=1)
        return tuple(
            backend.while_loop(lambda s: xp.any(s[1] > 100), lambda s: (s[0] + 1, s[1]), state)
        )

    found, _ = driver.trace(program)(x)
    np.testing.assert_array_equal(driver.to_numpy(found), X)


def _grown(backend: Any, x: Any, y: Any, like: Any, limit: float) -> tuple[Any, Any]:
    """Double each entry of `x` until it reaches a limit; return that plus y, and it times y."""
    xp = backend.namespace(x)

    def step(state: tuple[Any, ...]) -> tuple[Any, ...]:
        return (xp.where(state[0] < limit, 2 * state[0], state[0]),)

    (x,) = backend.while_loop(lambda s: xp.any(s[0] < limit), step, (x,))
    return x + y, xp.sum(x * y, axis=-1)


def test_run(driver: Driver) -> None:
    """A loop as long as values say, in the programs of every driver."""
    backend, x, y = _backend(driver), driver.from_numpy(X * X), driver.from_numpy(Y)

    def program(x: Any, y: Any) -> Any:
        added, sums = backend.run(_grown, x, y, x[..., 0], like=(0, 2), options=(20.0,))
        return added, sums

    def grown(x: np.ndarray) -> np.ndarray:
        return x * 2.0 ** np.maximum(np.ceil(np.log2(20 / x)), 0)

    added, sums = (driver.to_numpy(z) for z in driver.trace(program)(x, y))
    np.testing.assert_allclose(added, grown(X * X) + Y, rtol=1e-6)
    np.testing.assert_allclose(sums, np.sum(grown(X * X) * Y, axis=-1), rtol=1e-6)


def test_host_call(driver: Driver) -> None:
    """NumPy arrays in and out; results have the dtypes asked for and the device of the input."""
    if not driver.host_calls:
        pytest.skip(f"{driver.name} cannot call NumPy from its programs")
    backend, x, y = _backend(driver), driver.from_numpy(X), driver.from_numpy(Y)

    def on_host(x: np.ndarray, y: np.ndarray) -> tuple[Any, ...]:
        assert type(x) is type(y) is np.ndarray
        assert x.shape[-2:] == (2, 3)
        return (x * y).sum(-1), x.argmax(-1).astype(np.int64), (x > y).all(-1)

    def program(x: Any, y: Any) -> Any:
        info = backend.namespace(x).__array_namespace_info__()
        index, boolean = info.default_dtypes()["indexing"], info.dtypes()["bool"]
        rows = backend.shape(x)[:-1]
        like = ((rows, x.dtype), (rows, index), (rows, boolean))
        return tuple(backend.host_call(on_host, x, y, like=like))

    found = driver.trace(program)(x, y)
    expected = on_host(X, Y)
    for result, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(driver.to_numpy(result), wanted)
        assert driver.device(result) == driver.device(x)
    assert [driver.dtype(z) for z in (found[0], found[2])] == ["float32", "bool"]
    assert driver.dtype(found[1]) == ("int64" if "int64" in driver.dtypes else "int32")


def test_all_reduce_of_one_worker(driver: Driver) -> None:
    """Without a distributed run the sum over workers is the value itself."""
    backend, x = _backend(driver), driver.from_numpy(X)
    found = driver.trace(lambda x: backend.all_reduce(x))(x)
    np.testing.assert_array_equal(driver.to_numpy(found), X)


@pytest.mark.parametrize("form", ["safe", "published"])
def test_passes(driver: Driver, form: boxes.Form) -> None:
    """Unless declined, in the framework, the losses of boxes and slopes of the core's measures."""
    backend = _backend(driver)
    rng = np.random.default_rng(6)
    given = [rng.uniform(0.1, 0.9, (2, 3, 4)) for _ in range(2)]
    arrays = [driver.from_numpy(x, "float32") for x in given]
    passes = backend.passes("auto", arrays)
    if passes is None:
        return
    dtype = arrays[0].dtype
    like = (((2, 2, 3), dtype), ((2, 2, 3, 4), dtype))
    value, slope = passes("box_losses", *arrays, like=like, safe=form == "safe")
    ours, truth = (x.astype(np.float32) for x in given)
    apart = 1 - boxes.giou(ours, truth, format="cxcywh", form=form)
    wanted = [np.abs(ours - truth).sum(axis=-1), apart]
    np.testing.assert_allclose(driver.to_numpy(value), wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(driver.to_numpy(slope)[0], np.sign(ours - truth))
    assert [driver.dtype(x) for x in (value, slope)] == ["float32"] * 2
    assert driver.device(slope) == driver.device(arrays[0])


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_sample_masks(driver: Driver, mode: str) -> None:
    """Unless declined, the same as the core's gathering, beyond the edges too."""
    backend = _backend(driver)
    rng = np.random.default_rng(5)
    given = rng.normal(size=(2, 3, 4, 5)), rng.uniform(-0.3, 1.3, (2, 9, 2))
    masks, points = (driver.from_numpy(x, "float32") for x in given)
    found = backend.sample_masks(masks, points, mode=mode)
    if found is None:
        return
    wanted = driver.to_numpy(sample_by_gathering(masks, points, mode, backend))
    np.testing.assert_allclose(driver.to_numpy(found), wanted, rtol=0, atol=1e-5)
    assert driver.dtype(found) == "float32"
    assert driver.device(found) == driver.device(masks)
    if not driver.differentiable:
        return

    def gathered(masks: Any, points: Any) -> Any:
        return sample_by_gathering(masks, points, mode, backend)

    def sampled(masks: Any, points: Any) -> Any:
        found = backend.sample_masks(masks, points, mode=mode)
        # A program may be declined where arrays are not.
        return gathered(masks, points) if found is None else found

    g = driver.from_numpy(rng.normal(size=(2, 3, 9)), "float32")
    slopes = [driver.value_and_grad(way, [masks, points], g)[1] for way in (sampled, gathered)]
    for ours, theirs in zip(*slopes, strict=True):
        np.testing.assert_allclose(
            driver.to_numpy(ours), driver.to_numpy(theirs), rtol=0, atol=1e-4
        )


@pytest.mark.parametrize("name", ["float32", "float64", "int8", "bool"])
def test_dtypes_of_the_namespace(driver: Driver, name: str) -> None:
    checks.need(driver, name)
    x = driver.from_numpy(X)
    xp = _backend(driver).namespace(x)
    assert driver.dtype(xp.astype(x, getattr(xp, name))) == name
