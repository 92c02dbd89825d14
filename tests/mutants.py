"""Backends with a planted mistake, to show that the checks find it.

They are built on the made-up framework of tests/third_party, which has gradients, and on
array_api_strict, which has a second device. Each function returns the drivers of one mutant.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Any

import hungarian_tapegrad
import numpy as np
import tapegrad

from hungarian_core import Backend, Problem, Solution, solve
from hungarian_core.testing import Driver

_drivers = run_path(str(Path(__file__).with_name("drivers.py")))
Healthy = hungarian_tapegrad.TapegradBackend


def _driver(backend: Backend) -> list[Driver]:
    (driver,) = _drivers["third_party"]()
    driver.backend = backend
    return [driver]


def _core(problem: Problem) -> Solution:
    """Return the right answer, to be spoilt."""
    return solve(problem, solver="core", backend=Healthy())


def healthy() -> list[Driver]:
    """No mistake: the checks must pass."""
    return _driver(Healthy())


def halved_gradient() -> list[Driver]:
    """The surrogate gradient is off by a factor."""

    class Mutant(Healthy):
        def custom_vjp(self, forward: Any, backward: Any) -> Callable[..., Any]:
            def half(residuals: Any, g: Any) -> Any:
                return tuple(x if x is None else x * 0.5 for x in backward(residuals, g))

            return super().custom_vjp(forward, half)

    return _driver(Mutant())


def dropped_upstream() -> list[Driver]:
    """The gradient from above is taken to be 1, which a test of a bare loss cannot see."""

    class Mutant(Healthy):
        def custom_vjp(self, forward: Any, backward: Any) -> Callable[..., Any]:
            return super().custom_vjp(forward, lambda r, g: backward(r, tapegrad.ones_like(g)))

    return _driver(Mutant())


def halved_gather() -> list[Driver]:
    """The only path of the loss's gradient, the gather of matched predictions, loses half of it."""

    def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> Any:
        found = tapegrad.take_along_axis(x, indices, axis=axis)
        return tapegrad.Tensor(found.data, (found, lambda g: g * 0.5))

    return _driver(_with_namespace(take_along_axis=take_along_axis))


def nan_at_zero_distance() -> list[Driver]:
    """The square root of the framework hides the gradient 0 from `where`."""

    def where(condition: Any, x: Any, y: Any, /) -> Any:
        holds, x, y = condition.data, _as(x), _as(y)
        return tapegrad.Tensor(
            np.where(holds, x.data, y.data),
            (x, lambda g: np.where(holds, g, np.nan)),
            (y, lambda g: np.where(holds, 0, g)),
        )

    return _driver(_with_namespace(where=where))


def _as(x: Any) -> Any:
    return x if isinstance(x, tapegrad.Tensor) else tapegrad.Tensor(np.float32(x))


def _with_namespace(**functions: Any) -> Backend:
    names = {k: v for k, v in vars(tapegrad).items() if k != "__builtins__"}

    class Mutant(Healthy):
        def namespace(self, *arrays: Any) -> Any:
            return SimpleNamespace(**{**names, **functions})

    return Mutant()


def leaking_stop_gradient() -> list[Driver]:
    """Constants pass gradients."""

    class Mutant(Healthy):
        def stop_gradient(self, x: Any) -> Any:
            return x

    return _driver(Mutant())


def greedy_matcher() -> list[Driver]:
    """Each row takes the cheapest column left; the duals are made up so that the gap is 0."""

    class Mutant(Healthy):
        def solve(self, problem: Problem, *, solver: str) -> Any:
            right = _core(problem)
            if problem[1:] != Problem(None)[1:] or problem.cost.data.ndim != 3:
                return right
            table, (size, n, m) = problem.cost.data.copy(), problem.cost.shape
            col4row, row4col = np.full((size, n), -1), np.full((size, m), -1)
            u = np.zeros((size, n), table.dtype)
            for b in range(size):
                for i in range(min(n, m)):
                    j = table[b, i].argmin()
                    col4row[b, i], row4col[b, j], u[b, i] = j, i, table[b, i, j]
                    table[b, :, j] = np.inf
            v, total = np.zeros((size, m), table.dtype), u.sum(1)
            spoilt = (tapegrad.asarray(x) for x in (col4row, row4col, total, u, v))
            return Solution(*spoilt, right.status)

    return _driver(Mutant())


def wrong_duals() -> list[Driver]:
    """The matching is right, and its proof out of order."""

    class Mutant(Healthy):
        def solve(self, problem: Problem, *, solver: str) -> Any:
            found = _core(problem)
            return found._replace(u=tapegrad.asarray(np.flip(found.u.data, -1).copy()))

    return _driver(Mutant())


def wrong_index_dtype() -> list[Driver]:
    """Indices come in the dtype of another convention."""

    class Mutant(Healthy):
        def solve(self, problem: Problem, *, solver: str) -> Any:
            found = _core(problem)
            return found._replace(
                col4row=tapegrad.astype(found.col4row, tapegrad.int32),
                row4col=tapegrad.astype(found.row4col, tapegrad.int32),
            )

    return _driver(Mutant())


def wrong_float_dtype() -> list[Driver]:
    """What comes from the host stays in float64."""

    class Mutant(Healthy):
        def host_call(self, function: Any, *arrays: Any, like: Any) -> Any:
            results = super().host_call(function, *arrays, like=like)
            return tuple(
                tapegrad.astype(x, tapegrad.float64) if x.dtype.kind == "f" else x for x in results
            )

    return _driver(Mutant())


def neighbours_matter() -> list[Driver]:
    """Among equally good matchings, the choice depends on the place in the batch."""

    class Mutant(Healthy):
        def solve(self, problem: Problem, *, solver: str) -> Any:
            cost = problem.cost
            plain = _core(problem)
            if problem[1:] != Problem(None)[1:] or cost.data.ndim != 3:
                return plain
            turned = _core(Problem(tapegrad.asarray(cost.data[:, :, ::-1].copy())))
            m, odd = cost.shape[2], np.arange(cost.shape[0]) % 2 == 1
            col4row = np.where(turned.col4row.data >= 0, m - 1 - turned.col4row.data, -1)
            other = plain._replace(
                col4row=tapegrad.asarray(col4row),
                row4col=tapegrad.asarray(turned.row4col.data[:, ::-1]),
                u=turned.u,
                v=tapegrad.asarray(turned.v.data[:, ::-1]),
            )
            mixed = []
            for a, b in zip(plain, other, strict=True):
                chosen = odd[:, None] if a.data.ndim > 1 else odd
                mixed.append(tapegrad.asarray(np.where(chosen, b.data, a.data)))
            return Solution(*mixed)

    return _driver(Mutant())


def early_loop() -> list[Driver]:
    """The loop runs its body before it asks."""

    class Mutant(Healthy):
        def while_loop(self, cond: Any, body: Any, state: Any) -> Any:
            return super().while_loop(cond, body, body(state))

    return _driver(Mutant())


def silent() -> list[Driver]:
    """Bad values give NaN where they should raise."""

    class Mutant(Healthy):
        def on_host(self, x: Any) -> bool:
            return False

    return _driver(Mutant())


def counted_twice() -> list[Driver]:
    """A run of one worker is taken for one of two."""

    class Mutant(Healthy):
        def all_reduce(self, x: Any) -> Any:
            return x * 2

    return _driver(Mutant())


def wrong_device() -> list[Driver]:
    """Results of the host stay there."""
    import array_api_strict as xp

    cpu = xp.Device("CPU_DEVICE")
    _, driver = _drivers["array_api_strict"]()

    class Mutant(type(driver.backend)):  # type: ignore[misc]  # a class made in a function
        def host_call(self, function: Any, *arrays: Any, like: Any) -> Any:
            results = super().host_call(function, *arrays, like=like)
            return tuple(x.to_device(cpu) for x in results)

    driver.backend = Mutant()
    return [driver]


def silent_status() -> list[Driver]:
    """A solver of its own says that all is well whatever came."""

    class Mutant(Healthy):
        def solve(self, problem: Problem, *, solver: str) -> Any:
            return _core(problem)._replace(status=None)

    return _driver(Mutant())


def forgotten_sense() -> list[Driver]:
    """A solver of its own minimises, whatever the problem asks."""

    class Mutant(Healthy):
        def solve(self, problem: Problem, *, solver: str) -> Any:
            return _core(problem._replace(maximize=False))

    return _driver(Mutant())
