"""Solving as one node of a program, `solve_p`, which becomes what can run where the program does.

Only the compiler knows where that is. So the choice is made when the node is lowered: on a CPU of
this process the handler of the native solver; in a program for export, which a process without the
handler may run, and on other platforms the core's algorithm. A solver that is asked for by name is
taken: `"cuda"` is the handler for CUDA devices.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from hungarian_core import Backend, Problem, Solution, solve

solve_p = Primitive("hungarian_core_solve")
solve_p.multiple_results = True


def forms(cost: Any) -> list[jax.ShapeDtypeStruct]:
    """Return shapes and dtypes of the fields of a solution."""
    *batch, n, m = cost.shape
    index = jax.dtypes.canonicalize_dtype(np.int64)
    rows, cols, each = (*batch, n), (*batch, m), tuple(batch)
    pairs = (
        (rows, index), (cols, index), (each, cost.dtype), (rows, cost.dtype), (cols, cost.dtype),
        (each, np.dtype(np.uint8)),
    )  # fmt: skip
    return [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in pairs]


def bind(problem: Problem, solver: str, backend: Backend) -> list[jax.Array]:
    """Return the fields of the solution of a problem, as results of one node."""
    arrays = [x for x in problem[:4] if x is not None]
    given = tuple(x is not None for x in problem[1:4])
    found: list[jax.Array] = solve_p.bind(
        *arrays, given=given, maximize=problem.maximize, nan=problem.nan, solver=solver,
        backend=backend,
    )  # fmt: skip
    return found


def _problem(arrays: Any, given: tuple[bool, ...], maximize: bool, nan: str) -> Problem:
    cost, *others = arrays
    rest = iter(others)
    rows, cols, unmatched_cost = (next(rest) if there else None for there in given)
    return Problem(cost, rows, cols, unmatched_cost, maximize, nan)


@solve_p.def_abstract_eval
def _forms(cost: Any, *_: Any, **__: Any) -> list[jax.core.ShapedArray]:
    return [jax.core.ShapedArray(x.shape, x.dtype) for x in forms(cost)]


@functools.partial(jax.jit, static_argnames=("given", "maximize", "nan", "solver", "backend"))
def _compiled(
    *arrays: Any, given: Any, maximize: bool, nan: str, solver: str, backend: Any
) -> list[jax.Array]:
    return bind(_problem(arrays, given, maximize, nan), solver, backend)


@solve_p.def_impl
def _run(*arrays: Any, **options: Any) -> list[jax.Array]:
    with jax.disable_jit(False):  # a node is compiled whatever the setting
        return _compiled(*arrays, **options)


def _mapped(arrays: Any, axes: Any, **options: Any) -> tuple[list[jax.Array], list[int]]:
    """Make a mapped axis the first of the batch axes, of all arrays."""
    (size,) = {x.shape[axis] for x, axis in zip(arrays, axes, strict=True) if axis is not None}
    whole = [
        jnp.broadcast_to(x[None], (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(arrays, axes, strict=True)
    ]
    found = solve_p.bind(*whole, **options)
    return found, [0] * len(found)


def _lowered(ctx: Any, *arrays: Any, platform: str | None = None, **options: Any) -> Any:
    from hungarian_jax import _native  # which imports this module

    solver, backend = options.pop("solver"), options.pop("backend")
    travels = getattr(ctx.module_context.lowering_parameters, "for_export", False)
    here = platform == "cpu" and not (travels and solver == "auto")
    if solver == "cuda" and platform != "cuda":
        raise ValueError(
            f"solver='cuda' came in a program for {platform or 'another platform'}; expected one "
            "for CUDA devices: choose solver='auto'"
        )

    def function(*arrays: Any) -> Solution:
        problem = _problem(arrays, **options)
        if here and _native.registered(solver):
            return _native.call(problem)
        if solver == "cuda":
            return _native.call(problem, on_device=True)
        # Without the handler the native solver is called by way of Python.
        name = "native" if here or solver == "native" else "core"
        return solve(problem, solver=name, backend=backend, use_hook=False)

    # As the node was traced: a program may be lowered where another setting holds.
    with _enable_x64(ctx.avals_out[0].dtype.itemsize == 8):
        return mlir.lower_fun(function)(ctx, *arrays)


# Where it is a context, by the version of JAX.
_enable_x64: Any = (jax if hasattr(jax, "enable_x64") else jax.experimental).enable_x64

batching.primitive_batchers[solve_p] = _mapped
mlir.register_lowering(solve_p, _lowered)
for _platform in ("cpu", "cuda"):
    mlir.register_lowering(
        solve_p, functools.partial(_lowered, platform=_platform), platform=_platform
    )
