"""What the checks must know about a framework, and no backend needs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat
import numpy as np

from hungarian_core import Backend, get_backend

Function = Callable[..., Any]


class Driver:
    """One way to run a framework. The defaults describe eager NumPy.

    Attributes:
        name: Stands in the names of the tests.
        backend: What the checks pass as ``backend=``; None leaves the choice to the types of
            the arrays, which is what users do.
        raises: Whether bad values raise, as they do eagerly and in host memory. Elsewhere
            they give matches of -1 and NaN.
        differentiable: Whether `value_and_grad` works.
        dtypes: The dtypes of the framework, by name. Tests of others are skipped, and one test
            checks that those are missing indeed.
        host_calls: Whether a program of this driver may call NumPy while it runs.
        host_solvers: Whether a program of this driver may solve on the host. If not,
            ``solver="native"`` and ``"scipy"`` are not tested.
        loops: Whether a program of this driver may contain the hook `while_loop`. It need not
            where the backend's `solve` is one opaque operator.
        static_shapes: Whether a program of this driver knows the shapes of its arrays.
        thorough: Whether to run every case. Where compiling takes seconds, the essential ones.
        thorough_native: The same for ``solver="native"``, whose programs are small.
        thorough_lengthy: The same for what takes tens of operations; None for what `thorough`
            says. Where each operation is compiled for each shape, as JAX does eagerly, a driver
            that compiles a program whole has done sooner.
        thorough_eager: The same for losses of hundreds of operations, where each of them is
            compiled for each shape, as JAX does eagerly too.
    """

    name: str = "numpy"
    backend: str | Backend | None = None
    raises: bool = True
    differentiable: bool = False
    dtypes: frozenset[str] = frozenset(
        ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
    )
    host_calls: bool = True
    host_solvers: bool = True
    loops: bool = True
    static_shapes: bool = True
    thorough: bool = True
    thorough_native: bool = True
    thorough_lengthy: bool | None = None
    thorough_eager: bool = True

    def __repr__(self) -> str:
        return f"<Driver {self.name}>"

    def context(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context that every test of this driver runs in."""
        return contextlib.nullcontext()

    def from_numpy(self, x: np.ndarray, dtype: str | None = None) -> Any:
        """Return `x` as an array of the framework, on this driver's device.

        Args:
            x: A NumPy array.
            dtype: The dtype by name, by default that of `x`.
        """
        return np.asarray(x, dtype=dtype)

    def to_numpy(self, x: Any) -> np.ndarray:
        """Return an array of the framework as NumPy's; bfloat16, unknown there, as float32."""
        return np.asarray(x)

    def dtype(self, x: Any) -> str:
        """Return the name of the dtype of `x`, such as ``"float32"``."""
        return str(x.dtype).rpartition(".")[2]

    def device(self, x: Any) -> Any:
        """Return where `x` lies, as something that compares equal."""
        return array_api_compat.device(x)  # NumPy's arrays know it since 2.0 only

    def trace(self, function: Function) -> Function:
        """Return `function`, which takes and returns arrays or tuples of them, compiled.

        An eager driver returns it as it is.
        """
        return function

    def value_and_grad(
        self, function: Function, arrays: Sequence[Any], upstream: Any
    ) -> tuple[Any, tuple[Any, ...]]:
        """Return ``function(*arrays)`` and the gradients of ``sum(upstream * function(*arrays))``.

        The gradient must go through this driver's way of running `function`.

        Args:
            function: It returns one array.
            arrays: The arrays to differentiate by.
            upstream: An array of the shape and dtype of the value.
        """
        raise NotImplementedError(f"{self.name} is not differentiable")

    def resolve(self, x: Any) -> Backend:
        """Return the backend under test, for the checks of its hooks."""
        return get_backend(self.backend, x)
