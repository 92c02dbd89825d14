"""The ways of running each framework that the conformance suite covers.

Each framework is imported only when its drivers are asked for: `--driver tests/drivers.py:torch`.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from hungarian_core import Backend, host_solver
from hungarian_core.testing import Driver

# Elsewhere the suite skips what is not there; in this project the native solver has to be.
host_solver("native")

Function = Callable[..., Any]
# What NumPy has no name for; it travels as float32, which holds it exactly.
HALF = {"bfloat16": "float32"}


def numpy() -> list[Driver]:
    """Return the drivers of NumPy: as it is, and with no name but those of the checklist."""
    from hungarian_core.testing.names import NAMES  # half a second of reading the core

    class Checklist(Backend):
        def namespace(self, *arrays: Any) -> Any:
            xp = super().namespace(*arrays)
            return SimpleNamespace(**{name: getattr(xp, name) for name in NAMES})

        def host_call(self, function: Function, *arrays: Any, like: Any) -> Any:
            results = function(*arrays)
            return tuple(np.asarray(x, dtype) for x, (_, dtype) in zip(results, like, strict=True))

    class Named(Driver):
        name = "numpy-checklist"
        backend = Checklist()

    return [Driver(), Named()]


def torch() -> list[Driver]:
    """Return the drivers of PyTorch: eager, in `torch.func` transforms, and compiled."""
    import torch

    class Torch(Driver):
        name = "torch"
        differentiable = True
        dtypes = Driver.dtypes | {"bfloat16"}

        def __init__(self, device: str = "cpu") -> None:
            self.place = device
            if device != "cpu":
                self.name, self.raises = f"torch-{device}", False

        def from_numpy(self, x: np.ndarray, dtype: str | None = None) -> torch.Tensor:
            kind = getattr(torch, dtype or np.asarray(x).dtype.name)
            return torch.asarray(np.array(x), dtype=kind, device=self.place)

        def to_numpy(self, x: torch.Tensor) -> np.ndarray:
            x = x.detach().cpu()
            return (x.float() if x.dtype == torch.bfloat16 else x).numpy()

        def value_and_grad(
            self, function: Function, arrays: Sequence[torch.Tensor], upstream: torch.Tensor
        ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
            leaves = [x.detach().clone().requires_grad_() for x in arrays]
            value = self.trace(function)(*leaves)
            return value, torch.autograd.grad(value, leaves, upstream)

    class TorchFunc(Torch):
        name = "torch-func"
        raises = False
        host_calls = loops = False  # inside, solving is one opaque operator

        def trace(self, function: Function) -> Function:
            def mapped(*arrays: torch.Tensor) -> Any:
                lanes = [torch.stack([_other(x, torch.flip), x]) for x in arrays]
                return _pick(torch.func.vmap(function)(*lanes))

            return mapped

        def value_and_grad(
            self, function: Function, arrays: Sequence[torch.Tensor], upstream: torch.Tensor
        ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
            grad = torch.func.grad(
                lambda *xs: torch.sum(upstream * function(*xs)), argnums=tuple(range(len(arrays)))
            )
            return self.trace(function)(*arrays), grad(*arrays)

    class TorchCompile(Torch):
        name = "torch-compile"
        raises = False
        host_calls = loops = False  # as above
        thorough = thorough_native = False

        def trace(self, function: Function) -> Function:
            # The graph is captured as always; only the code generator, which takes ten seconds
            # per program, is left out here. tests/test_frameworks.py has it.
            return torch.compile(function, fullgraph=True, backend="eager")

        def value_and_grad(
            self, function: Function, arrays: Sequence[torch.Tensor], upstream: torch.Tensor
        ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
            # Only here AOTAutograd has something to add: graphs of both ways, made at once.
            compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
            leaves = [x.detach().clone().requires_grad_() for x in arrays]
            value = compiled(*leaves)
            return value, torch.autograd.grad(value, leaves, upstream)

        @contextlib.contextmanager
        def context(self) -> Any:
            torch.compiler.reset()
            yield

    drivers = [Torch(), TorchFunc(), TorchCompile()]
    return [*drivers, Torch("cuda")] if torch.cuda.is_available() else drivers


def _other(x: Any, flip: Function) -> Any:
    """Return another input of the same shape, for the neighbour in a mapped batch."""
    return flip(x, (0,)) if x.ndim else x


def _pick(result: Any) -> Any:
    """Return the second lane of a mapped result."""
    if isinstance(result, tuple):
        picked = [_pick(x) for x in result]
        return type(result)(*picked) if hasattr(result, "_fields") else tuple(picked)
    if isinstance(result, dict):
        return {name: _pick(x) for name, x in result.items()}
    return result[1]


def jax() -> list[Driver]:
    """Return the drivers of JAX: eager, jit, jit without 64 bits, and vmap."""
    import jax
    import jax.experimental
    import jax.numpy as jnp

    # The session asks XLA to compile in haste (noxfile.py). The driver `jax-jit` has its programs
    # compiled as for everybody nevertheless: these are XLA's defaults.
    hasty = "--xla_cpu_use_fusion_emitters=false" in os.environ.get("XLA_FLAGS", "")
    defaults = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}
    options = {"compiler_options": defaults} if hasty else {}

    # It moved in JAX 0.8.
    enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64

    class Jax(Driver):
        name = "jax"
        differentiable = True
        thorough_lengthy = thorough_eager = False  # `JaxJit` is, with fewer programs
        dtypes = Driver.dtypes | {"bfloat16"}

        @contextlib.contextmanager
        def context(self) -> Any:
            # Not JAX's default: whoever asks for it gets no broadcast that is not written out.
            with enable_x64("float64" in self.dtypes), jax.numpy_rank_promotion("raise"):
                yield

        def from_numpy(self, x: np.ndarray, dtype: str | None = None) -> jax.Array:
            return jnp.asarray(np.asarray(x), dtype)

        def to_numpy(self, x: jax.Array) -> np.ndarray:
            return np.asarray(x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x)

        def value_and_grad(
            self, function: Function, arrays: Sequence[jax.Array], upstream: jax.Array
        ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
            def both(*xs: jax.Array) -> Any:
                value, pull = jax.vjp(function, *xs)
                return value, pull(upstream)

            return self.trace(both)(*arrays)

    class JaxJit(Jax):
        name = "jax-jit"
        raises = False
        thorough = False  # the eager driver compiles the core for every case already
        thorough_lengthy = True

        def trace(self, function: Function) -> Function:
            return jax.jit(function, **options)

    class JaxJit32(Jax):
        name = "jax-jit-x32"
        raises = thorough = thorough_lengthy = False
        dtypes = Jax.dtypes - {"float64", "int64"}

        def trace(self, function: Function) -> Function:
            return jax.jit(function)

    class JaxVmap(Jax):
        name = "jax-vmap"
        raises = False
        thorough = False

        def trace(self, function: Function) -> Function:
            mapped = jax.jit(jax.vmap(function))

            def run(*arrays: jax.Array) -> Any:
                return _pick(mapped(*(jnp.stack([_other(x, jnp.flip), x]) for x in arrays)))

            return run

    return [Jax(), JaxJit(), JaxJit32(), JaxVmap()]


def tensorflow() -> list[Driver]:
    """Return the drivers of TensorFlow: eager, functions of known and unknown shape, and XLA."""
    import tensorflow as tf

    class TensorFlow(Driver):
        name = "tensorflow"
        differentiable = True
        dtypes = Driver.dtypes | {"bfloat16"}

        def from_numpy(self, x: np.ndarray, dtype: str | None = None) -> tf.Tensor:
            kind = dtype or np.asarray(x).dtype.name
            return tf.cast(tf.constant(np.asarray(x, HALF.get(kind, kind))), kind)

        def to_numpy(self, x: tf.Tensor) -> np.ndarray:
            return (tf.cast(x, tf.float32) if x.dtype == tf.bfloat16 else x).numpy()

        def dtype(self, x: tf.Tensor) -> str:
            return x.dtype.name

        def value_and_grad(
            self, function: Function, arrays: Sequence[tf.Tensor], upstream: tf.Tensor
        ) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
            def both(*xs: tf.Tensor) -> Any:
                with tf.GradientTape() as tape:
                    tape.watch(xs)
                    value = function(*xs)
                return value, tuple(tape.gradient(value, xs, output_gradients=upstream))

            return self.trace(both)(*arrays)

    class TensorFlowFunction(TensorFlow):
        name = "tensorflow-function"
        raises = False
        thorough = thorough_native = False

        def trace(self, function: Function) -> Function:
            return tf.function(function)

    class TensorFlowUnknown(TensorFlowFunction):
        name = "tensorflow-unknown"
        static_shapes = False
        thorough = thorough_native = True  # one program serves all shapes
        # Long losses are traced anew for each option; test_tensorflow_extents.py has them as well.
        thorough_eager = False

        def trace(self, function: Function) -> Function:
            @functools.cache
            def concrete(*kinds: tuple[int, Any]) -> Function:
                signature = [tf.TensorSpec([None] * rank, dtype) for rank, dtype in kinds]
                return tf.function(function, input_signature=signature)

            return lambda *arrays: concrete(*((x.shape.rank, x.dtype) for x in arrays))(*arrays)

    class TensorFlowXla(TensorFlowFunction):
        name = "tensorflow-xla"
        host_calls = host_solvers = False

        def trace(self, function: Function) -> Function:
            return tf.function(function, jit_compile=True)

    return [TensorFlow(), TensorFlowFunction(), TensorFlowUnknown(), TensorFlowXla()]


def array_api_strict() -> list[Driver]:
    """Return the drivers of array_api_strict: its strictest flags, and a device of its own."""
    import array_api_strict as xp

    from hungarian_core import host_array

    class StrictBackend(Backend):
        name = "array_api_strict"

        def asarray(self, x: Any, like: Any = None) -> Any:
            if hasattr(x, "__array_namespace__") and type(x).__module__.startswith(self.name):
                return x
            x = host_array(x, like, self)
            return xp.asarray(x, device=None if like is None else like.device)

        def host_call(self, function: Any, *arrays: Any, like: Any) -> Any:
            cpu = xp.Device("CPU_DEVICE")
            results = function(*(np.asarray(x.to_device(cpu)) for x in arrays))
            device = arrays[0].device
            return tuple(
                xp.asarray(r, dtype=dtype, device=device)
                for r, (_, dtype) in zip(results, like, strict=True)
            )

    class Strict(Driver):
        name = "strict"
        backend = StrictBackend()
        dtypes = Driver.dtypes - {"float16"}
        place = xp.Device("CPU_DEVICE")

        def trace(self, function: Function) -> Function:
            def strict(*arrays: Any) -> Any:
                with xp.ArrayAPIStrictFlags(
                    boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
                ):
                    return function(*arrays)

            return strict

        def from_numpy(self, x: np.ndarray, dtype: str | None = None) -> Any:
            kind = getattr(xp, dtype or np.asarray(x).dtype.name)
            return xp.asarray(np.asarray(x), dtype=kind, device=self.place)

        def to_numpy(self, x: Any) -> np.ndarray:
            return np.asarray(x.to_device(xp.Device("CPU_DEVICE")))

    class StrictDevice(Strict):
        name = "strict-device1"
        place = xp.Device("device1")

    return [Strict(), StrictDevice()]


def third_party() -> list[Driver]:
    """Return the driver of the example in tests/third_party."""
    import tapegrad

    class Tapegrad(Driver):
        name = "tapegrad"
        differentiable = True

        def from_numpy(self, x: np.ndarray, dtype: str | None = None) -> tapegrad.Tensor:
            return tapegrad.asarray(np.array(x, dtype))

        def to_numpy(self, x: tapegrad.Tensor) -> np.ndarray:
            return x.data

        def value_and_grad(
            self, function: Function, arrays: Sequence[tapegrad.Tensor], upstream: tapegrad.Tensor
        ) -> tuple[tapegrad.Tensor, tuple[tapegrad.Tensor, ...]]:
            leaves = [tapegrad.Tensor(x.data) for x in arrays]
            value = function(*leaves)
            grads = tapegrad.gradients(value, leaves, upstream.data)
            return value, tuple(tapegrad.Tensor(g) for g in grads)

    return [Tapegrad()]
