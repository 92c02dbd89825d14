"""The PyTorch backend."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from hungarian_core import Backend, Problem, Solution, host_array
from hungarian_torch import _namespace
from hungarian_torch._gradient import WithGradient
from hungarian_torch._native import solve_in_place
from hungarian_torch._operator import run_opaquely, solve_opaquely

_is_compiling = torch.compiler.is_compiling
_is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor


def _holds(x: Any, kind: type) -> bool:
    """Say whether there is one of a kind in a list, however deep."""
    return isinstance(x, kind) or (isinstance(x, (list, tuple)) and any(_holds(y, kind) for y in x))


class TorchBackend(Backend):
    """PyTorch on any device; under a transform or a compiler, solving is one opaque operator."""

    name = "torch"

    def namespace(self, *arrays: Tensor) -> Any:
        return _namespace

    def asarray(self, x: Any, like: Tensor | None = None) -> Tensor:
        if isinstance(x, Tensor):
            return x
        device = None if like is None else like.device
        if _is_compiling() or (isinstance(x, (list, tuple)) and _holds(x, Tensor)):
            wide = like is not None and like.dtype == torch.float64 and _holds(x, float)
            return torch.as_tensor(x, dtype=torch.float64 if wide else None, device=device)
        default = np.float64 if torch.get_default_dtype() == torch.float64 else np.float32
        # PyTorch shares memory, and must not share JAX's, which is not to be written to.
        array = np.require(host_array(x, like, self, default), requirements=["C", "W"])
        return torch.as_tensor(array, device=device)

    def is_traced(self, x: Tensor) -> bool:
        # Inside torch.func a tensor is a wrapper whose values cannot be read.
        return _is_compiling() or _is_wrapped(x)

    def on_host(self, x: Tensor) -> bool:
        return x.device.type == "cpu"

    def stop_gradient(self, x: Tensor) -> Tensor:
        # A tangent of forward mode does not show in `requires_grad`.
        return x.detach() if x.requires_grad or forward_ad._current_level >= 0 else x

    def custom_vjp(
        self, forward: Callable[..., Any], backward: Callable[..., Any]
    ) -> Callable[..., Tensor]:
        def function(*xs: Tensor) -> Tensor:
            if torch.compiler.is_compiling() and not any(x.requires_grad for x in xs):
                # Dynamo (2.13) passes a context to `forward` where nothing is to be differentiated.
                return forward(*xs)[0]
            return WithGradient.apply(forward, backward, *xs)[0]

        return function

    def run(
        self, function: Callable[..., Any], *arrays: Tensor, like: Any, options: Any = ()
    ) -> tuple[Tensor, ...]:
        if any(self.is_traced(x) for x in arrays):
            return run_opaquely(function, arrays, like, options)
        with torch.no_grad():
            return function(self, *arrays, *options)

    def host_call(
        self, function: Callable[..., Any], *arrays: Tensor, like: Any
    ) -> tuple[Tensor, ...]:
        device = arrays[0].device
        results = function(*(x.numpy(force=True) for x in arrays))
        return tuple(
            torch.as_tensor(r, dtype=dtype, device=device)
            for r, (_, dtype) in zip(results, like, strict=True)
        )

    def solve(self, problem: Problem, *, solver: str) -> Solution | None:
        cost = problem.cost
        if self.is_traced(cost):
            return Solution(*solve_opaquely(*problem, solver))
        return solve_in_place(problem, solver) if cost.is_cpu else None

    def all_reduce(self, x: Tensor) -> Tensor:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            x = x.detach().clone()
            torch.distributed.all_reduce(x)
        return x


backend = TorchBackend()
