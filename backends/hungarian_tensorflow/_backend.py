"""The TensorFlow backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from hungarian_core import Backend, Problem, Solution, host_array, host_solver
from hungarian_tensorflow import _arrays, _gradient, _namespace, _program


class TensorFlowBackend(Backend):
    """TensorFlow, eager, in graphs and in XLA."""

    name = "tensorflow"

    def namespace(self, *arrays: Any) -> Any:
        return _namespace

    def shape(self, x: tf.Tensor) -> tuple[Any, ...]:
        return _arrays.shape(x)

    def require_equal(self, what: str, came: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
        _arrays.require_equal(what, came, expected)

    def asarray(self, x: Any, like: tf.Tensor | None = None) -> tf.Tensor:
        if tf.is_tensor(x) or isinstance(x, tf.Variable):
            return tf.convert_to_tensor(_arrays.dense(x))
        if isinstance(x, (list, tuple)) and any(map(tf.is_tensor, tf.nest.flatten(x))):
            return tf.convert_to_tensor(x)
        return tf.convert_to_tensor(host_array(x, like, self, np.float32))

    def is_traced(self, x: tf.Tensor) -> bool:
        return not tf.executing_eagerly()

    def on_host(self, x: tf.Tensor) -> bool:
        if tf.executing_eagerly():
            return "CPU" in x.device
        return not _arrays.in_xla()

    def stop_gradient(self, x: tf.Tensor) -> tf.Tensor:
        with _arrays.unwatched():  # what is infinite has been seen already, or is meant
            return tf.stop_gradient(x)

    def custom_vjp(
        self, forward: Callable[..., Any], backward: Callable[..., Any]
    ) -> Callable[..., tf.Tensor]:
        return _gradient.custom_vjp(forward, backward)

    def while_loop(self, cond: Any, body: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
        def typed(*state: tf.Tensor) -> tuple[tf.Tensor, ...]:
            after = body(state)
            if not tf.executing_eagerly():  # a graph may lose track of extents that stay fixed
                for x, y in zip(state, after, strict=True):
                    y.set_shape(x.shape)
            return after

        return tuple(tf.while_loop(lambda *state: cond(state), typed, state))

    def host_call(
        self, function: Callable[..., Any], *arrays: tf.Tensor, like: Any
    ) -> tuple[tf.Tensor, ...]:
        def typed(*values: Any) -> tuple[np.ndarray, ...]:
            results = function(*(np.asarray(x) for x in values))
            pairs = zip(results, like, strict=True)
            return tuple(np.asarray(r, dtype.as_numpy_dtype) for r, (_, dtype) in pairs)

        if tf.executing_eagerly():
            return tuple(tf.convert_to_tensor(r) for r in typed(*(x.numpy() for x in arrays)))
        if not self.on_host(arrays[0]):
            raise ValueError(
                "a program compiled by XLA cannot call NumPy; choose solver='core' or 'auto', "
                "or leave out jit_compile=True"
            )
        results = tf.numpy_function(typed, arrays, [dtype for _, dtype in like], stateful=False)
        for result, (shape, _) in zip(results, like, strict=True):
            # Not `tf.ensure_shape`, which is one more operation for each.
            result.set_shape([s if isinstance(s, int) else None for s in shape])
        return tuple(results)

    def solve(self, problem: Problem, *, solver: str) -> Solution | None:
        in_graph = solver == "auto" and not tf.executing_eagerly()
        if solver == "core" or (in_graph and not self.on_host(problem.cost)):
            return _program.by_core(problem, self)
        if in_graph and host_solver() is not None:
            return _program.where_it_runs(problem, self)
        return None

    def all_reduce(self, x: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return x
        return context.all_reduce(tf.distribute.ReduceOp.SUM, x)


backend = TensorFlowBackend()
