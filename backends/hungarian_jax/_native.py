"""Solving in JAX: natively by a handler of XLA's FFI, without a callback, else by the core."""

from __future__ import annotations

import ctypes
import functools
import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from hungarian_core import Backend, Problem, Solution, host_solver, solve
from hungarian_jax import _program

TARGET = "hungarian_core_native"
TARGET_ON_DEVICE = "hungarian_core_cuda"
NAN = ("raise", "worst", "forbid")  # in the order of the handler's numbers


@functools.cache
def registered(solver: str) -> bool:
    """Say whether the handler is there and registered: the library may be built without it.

    Raises:
        ImportError: `solver` is ``"native"``, and the library does not load.
    """
    return loads(solver) and _register()


def loads(solver: str) -> bool:
    """Say whether the native solver is what `solver` stands for."""
    return hasattr(host_solver(solver), "symbol")


@functools.cache  # JAX refuses to register a name twice
def _register() -> bool:
    native: Any = host_solver("native")
    return _registers(native, "HungarianJax", TARGET, "cpu")


@functools.cache
def registered_on_device() -> bool:
    """Say the same of the handler for CUDA devices.

    Raises:
        ImportError: The solver for them does not load.
    """
    return _registers(host_solver("cuda"), "HungarianCudaJax", TARGET_ON_DEVICE, "CUDA")


def _registers(solver: Any, name: str, target: str, platform: str) -> bool:
    handler, built_for = solver.symbol(name), solver.symbol("hungarian_jaxlib")
    if handler is None:
        return False
    built_for.restype = ctypes.c_char_p
    if _version(jaxlib.__version__) < _version(built_for().decode()):
        return False  # XLA refuses handlers that are newer than itself, and does not start
    jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(handler), platform=platform)
    return True


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def in_program(problem: Problem, solver: str, backend: Backend) -> Solution | None:
    """Solve natively where the program will run on a CPU of this process or on a CUDA device.

    Its compiler finds where that is.
    """
    if solver not in ("auto", "native", "cuda"):
        return None
    if solver == "cuda":
        if not registered_on_device():
            raise ValueError(
                f"solver='cuda' has no handler for jaxlib {jaxlib.__version__}: hungarian-core was "
                "built without jaxlib, or with a newer one; install it again, or choose "
                "solver='auto'"
            )
        return _node(problem, solver, backend)
    if not registered(solver) and (solver == "native" or not loads(solver)):
        return None
    return _node(problem, solver, backend)


def _node(problem: Problem, solver: str, backend: Backend) -> Solution:
    arrays = [x for x in problem[:4] if x is not None]
    return Solution(*varying_as(arrays, _program.bind(problem, solver, backend)))


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def compiled_core(*fields: Any) -> Solution:
    """Solve eagerly; compiled once per shape, since a bare loop would compile at every call."""
    *problem, backend = fields
    return solve(Problem(*problem), solver="core", backend=backend, use_hook=False)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def compiled_run(function: Any, backend: Any, options: Any, arrays: Any) -> Any:
    """Run a function with loops eagerly; compiled once per shape, for the same reason."""
    return function(backend, *arrays, *options)


def call(problem: Problem, *, on_device: bool = False) -> Solution:
    """Return the solution as a node of the program; batch axes that `vmap` adds are merged."""
    cost = problem.cost
    forms = _program.forms(cost)
    options = {"maximize": np.int64(problem.maximize), "nan": np.int64(NAN.index(problem.nan))}
    target = TARGET
    if on_device:
        device: Any = host_solver("cuda")
        *batch, n, m = cost.shape
        target, room = TARGET_ON_DEVICE, device.workspace((1, n, m), np.dtype(cost.dtype))
        forms.insert(0, jax.ShapeDtypeStruct((*batch, room), np.uint8))
    else:
        options["threads"] = np.int64(0)
    absent: tuple[Any, ...] = (jnp.zeros(0, bool), jnp.zeros(0, bool), jnp.zeros(0, cost.dtype))
    others = (a if x is None else x for x, a in zip(problem[1:4], absent, strict=True))
    solve = jax.ffi.ffi_call(target, forms, vmap_method="broadcast_all")
    arrays = (cost, *others)
    found = solve(*arrays, **options)
    return Solution(*varying_as(arrays, found[-len(Solution._fields) :]))


def varying_as(arrays: Sequence[jax.Array], results: Iterable[jax.Array]) -> tuple[jax.Array, ...]:
    """Return results that differ between devices if any of the arrays does.

    `jax.shard_map` keeps account of that, cannot see it of a call out of the program, and wants
    it the same before and after a step of a loop. The choice between a thing and itself, which
    says it, vanishes when the program is compiled.
    """
    never = functools.reduce(operator.or_, (jnp.zeros_like(x, bool, shape=()) for x in arrays))
    return tuple(jnp.where(never, r, r) for r in results)


@functools.partial(jax.jit, static_argnums=(4, 5))
def compiled(*fields: Any) -> Solution:
    """Return the solution of the problem of these fields: much faster than by way of NumPy."""
    return call(Problem(*fields))
