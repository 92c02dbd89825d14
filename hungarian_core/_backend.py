"""What the Array API standard lacks: the hooks that a framework adapter supplies.

``Backend`` is concrete. Its defaults describe an eager Array API library whose
arrays live in host memory, so ``Backend()`` itself runs NumPy, and an adapter for
a similar library overrides one hook or none. Adapters are final: they implement
hooks, and never refine one another.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import array_api_compat
import numpy as np

# Arrays, dtypes and namespaces of any framework; the standard defines no base class.
Array = Any
DType = Any
Namespace = ModuleType | Any


class Solution(NamedTuple):
    """What a solver returns for a batch of problems `cost[b, n, m]`."""

    col4row: Array  # [b, n] index, -1 = unmatched
    row4col: Array  # [b, m] index, -1 = unmatched
    u: Array  # [b, n] row duals
    v: Array  # [b, m] column duals
    feasible: Array  # [b] bool; where False the other fields mean nothing


class Backend:
    """A framework, as the core sees it. Every method is a hook with an eager default.

    Attributes:
        name: The root module of the framework's arrays, for error messages.
    """

    name: str = "numpy"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def namespace(self, *arrays: Array) -> Namespace:
        """Return the Array API namespace of `arrays`."""
        return array_api_compat.array_namespace(*arrays)

    def shape(self, x: Array) -> tuple[Any, ...]:
        """Return the shape of `x`: an int where known, else a scalar index array."""
        return tuple(x.shape)

    def asarray(self, x: Any, like: Array | None = None) -> Array:
        """Turn `x` into an array of this framework, on the device of `like` if given.

        An array that is already one of this framework is returned as it is.
        """
        return np.asarray(x)

    def is_traced(self, x: Array) -> bool:
        """Say whether `x` is a symbol in a program being traced, without a value."""
        return False

    def on_host(self, x: Array) -> bool:
        """Say whether NumPy can read `x` where it lies, without a device transfer.

        For a traced array: whether it will be so, and a call out of the program
        is welcome, when the program runs.
        """
        return True

    def stop_gradient(self, x: Array) -> Array:
        """Return `x` as a constant for differentiation."""
        return x

    def custom_vjp(
        self,
        forward: Callable[..., tuple[Array, Any]],
        backward: Callable[[Any, Array], tuple[Array, ...]],
    ) -> Callable[..., Array]:
        """Return a function of arrays with a gradient of its own.

        Args:
            forward: ``forward(*xs) -> (out, residuals)``; `out` is one array,
                `residuals` a tuple of arrays.
            backward: ``backward(residuals, g) -> grads``, one array per input.
        """
        return lambda *xs: forward(*xs)[0]

    def while_loop(
        self,
        cond: Callable[[tuple[Array, ...]], Array],
        body: Callable[[tuple[Array, ...]], tuple[Array, ...]],
        state: tuple[Array, ...],
    ) -> tuple[Array, ...]:
        """Apply `body` to `state` as long as `cond(state)`; shapes and dtypes stay fixed."""
        while cond(state):
            state = body(state)
        return state

    def host_call(
        self,
        function: Callable[..., tuple[np.ndarray, ...]],
        *arrays: Array,
        like: tuple[tuple[tuple[Any, ...], DType], ...],
    ) -> tuple[Array, ...]:
        """Run a NumPy function on `arrays`.

        `function` takes and returns NumPy arrays and accepts leading batch dimensions.
        Result `k` has the shape and dtype ``like[k]`` and lies where ``arrays[0]`` lies.
        """
        results = function(*(np.asarray(x) for x in arrays))
        xp, pairs = self.namespace(*arrays), zip(results, like, strict=True)
        return tuple(xp.asarray(r, dtype=dtype) for r, (_, dtype) in pairs)

    def solve(
        self,
        cost: Array,
        row_mask: Array | None,
        col_mask: Array | None,
        unmatched_cost: Array | None,
        *,
        solver: str,
    ) -> Solution | None:
        """Solve `cost[b, n, m]` in the framework's own way, or return None to decline.

        `solver` is the solver chosen by name, never ``"auto"``. The arguments are
        those of `hungarian_core.solve`, which does the work when this declines.
        """
        return None

    def all_reduce(self, x: Array) -> Array:
        """Sum `x` over the workers of a distributed run. Never differentiated."""
        return x
