"""The PyTorch backend."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from hungarian_core import Backend, Problem, Solution
from hungarian_torch import _device, _gradient, _inputs, _namespace, _sampling
from hungarian_torch._native import solve_in_place
from hungarian_torch._operator import run_opaquely, solve_opaquely


class TorchBackend(Backend):
    """PyTorch on any device; under a transform or a compiler, solving is one opaque operator."""

    name = "torch"

    def namespace(self, *arrays: Tensor) -> Any:
        return _namespace

    def asarray(self, x: Any, like: Tensor | None = None) -> Tensor:
        return _inputs.tensor(x, like, self)

    def is_traced(self, x: Tensor) -> bool:
        return _inputs.is_symbol(x)

    def on_host(self, x: Tensor) -> bool:
        return x.device.type == "cpu"

    def readable(self, x: Tensor) -> bool:
        # As by default, in one step: a loss asks some fifty times.
        return x.is_cpu and not _inputs.is_symbol(x)

    def stop_gradient(self, x: Tensor) -> Tensor:
        # Neither a tangent of forward mode nor what a transform wraps shows in `requires_grad`.
        if x.requires_grad or forward_ad._current_level >= 0 or _inputs.is_symbol(x):
            return x.detach()
        return x

    def custom_vjp(
        self, forward: Callable[..., Any], backward: Callable[..., Any]
    ) -> Callable[..., Tensor]:
        return functools.partial(_gradient.apply, forward, backward)

    def run(
        self, function: Callable[..., Any], *arrays: Tensor, like: Any, options: Any = ()
    ) -> tuple[Tensor, ...]:
        _gradient.refuse_transposed()
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
        # Any field may be what a transform maps over. (A slice of the tuple stops Dynamo 2.6.)
        cost, rows, cols, unmatched_cost, *_ = problem
        compiling, symbol = torch.compiler.is_compiling(), _inputs.is_symbol_of_transform
        _gradient.refuse_transposed()
        if (
            compiling
            or symbol(cost)
            or (rows is not None and symbol(rows))
            or (cols is not None and symbol(cols))
            or (unmatched_cost is not None and symbol(unmatched_cost))
        ):
            if _device.serves(cost, solver):
                return Solution(*_device.solve_on_device(*problem))
            return Solution(*solve_opaquely(*problem, solver))
        if cost.is_cpu:
            return solve_in_place(problem, solver)
        return _device.launch(problem) if _device.serves(cost, solver) else None

    def passes(self, solver: str, arrays: Sequence[Tensor]) -> Callable[..., Any] | None:
        return _device.passes(solver, arrays)

    def sample_masks(self, masks: Tensor, points: Tensor, *, mode: str) -> Tensor | None:
        return _sampling.sample(masks, points, mode, self)

    def all_reduce(self, x: Tensor) -> Tensor:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            x = x.detach().clone()
            torch.distributed.all_reduce(x)
        return x


backend = TorchBackend()
