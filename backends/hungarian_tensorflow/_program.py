"""Solving in a graph, which another process may run: by way of Python only where this one runs."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from hungarian_core import Backend, Problem, Solution, solve
from hungarian_tensorflow._arrays import unwatched

# The name of a variable that this process has, and one that loads a saved graph has not.
_HERE = "hungarian_core_is_in_this_process"


def by_core(problem: Problem, backend: Backend) -> Solution:
    """Solve by the core's algorithm."""
    with unwatched():
        return solve(problem, solver="core", backend=backend, use_hook=False)


def where_it_runs(problem: Problem, backend: Backend) -> Solution:
    """Solve on the host in this process, and by the core in any other.

    A graph is often traced before anybody saves it, so only running it can tell.
    """
    _mark()
    arrays = [x for x in problem[:4] if x is not None]
    kinds = tuple((x.dtype, x.shape.rank) for x in arrays)
    given = tuple(x is not None for x in problem[1:4])
    options = kinds, given, problem.maximize, problem.nan, backend
    on_host, elsewhere = _program(*options, "auto"), _program(*options, "core")
    *batch, n, m = problem.cost.shape
    shapes = ([*batch, n], [*batch, m], batch, [*batch, n], [*batch, m], batch)
    # Not `tf.cond`, which is lowered to switches: one makes the whole graph around it slower.
    with unwatched():
        found = tf.raw_ops.StatelessIf(
            cond=_is_here(), input=arrays, Tout=[x.dtype for x in on_host.outputs],
            then_branch=on_host, else_branch=elsewhere,
        )  # fmt: skip
    for x, shape in zip(found, shapes, strict=True):
        x.set_shape(shape)
    return Solution(*found)


@functools.cache
def _program(
    kinds: tuple[tuple[Any, int], ...],
    given: tuple[bool, ...],
    maximize: bool,
    nan: str,
    backend: Backend,
    solver: str,
) -> Any:
    """Return a solver as a program of arrays of any extents: traced once."""

    def program(cost: tf.Tensor, *others: tf.Tensor) -> tuple[Any, ...]:
        rest = iter(others)
        rows, cols, unmatched_cost = (next(rest) if there else None for there in given)
        problem = Problem(cost, rows, cols, unmatched_cost, maximize, nan)
        return tuple(solve(problem, solver=solver, backend=backend, use_hook=False))

    signature = [tf.TensorSpec([None] * rank, dtype) for dtype, rank in kinds]
    with tf.init_scope(), unwatched():  # of no graph, and on no device, in particular
        return tf.function(
            program, input_signature=signature, autograph=False
        ).get_concrete_function()


def _handle() -> tf.Tensor:
    with tf.device("CPU:0"):
        return tf.raw_ops.VarHandleOp(dtype=tf.bool, shape=[], shared_name=_HERE, container="")


@functools.cache
def _mark() -> None:
    """Make the variable."""
    with tf.init_scope(), tf.device("CPU:0"):
        tf.raw_ops.AssignVariableOp(resource=_handle(), value=tf.constant(True))


def _is_here() -> tf.Tensor:
    with tf.device("CPU:0"):
        return tf.raw_ops.VarIsInitializedOp(resource=_handle())
