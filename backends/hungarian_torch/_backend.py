"""The PyTorch backend."""

from collections.abc import Callable
from typing import Any

import array_api_compat.torch
import numpy as np
import torch
from torch import Tensor

from hungarian_core import Backend, Solution, solve


class TorchBackend(Backend):
    """PyTorch on any device; under a transform or a compiler, solving is one opaque operator."""

    name = "torch"

    def namespace(self, *arrays: Tensor) -> Any:
        return array_api_compat.torch

    def asarray(self, x: Any, like: Tensor | None = None) -> Tensor:
        if isinstance(x, Tensor):
            return x
        x = x if isinstance(x, (list, tuple, int, float)) else np.asarray(x)
        return torch.as_tensor(x, device=None if like is None else like.device)

    def is_traced(self, x: Tensor) -> bool:
        # Inside torch.func a tensor is a wrapper whose values cannot be read.
        return torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(x)

    def on_host(self, x: Tensor) -> bool:
        return x.device.type == "cpu"

    def stop_gradient(self, x: Tensor) -> Tensor:
        return x.detach()

    def custom_vjp(
        self, forward: Callable[..., Any], backward: Callable[..., Any]
    ) -> Callable[..., Tensor]:
        class Function(torch.autograd.Function):
            generate_vmap_rule = True

            @staticmethod
            def forward(*xs: Tensor) -> tuple[Tensor, ...]:
                out, residuals = forward(*xs)
                return out, *residuals

            @staticmethod
            def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, ...]) -> None:
                ctx.save_for_backward(*output[1:])
                ctx.mark_non_differentiable(*output[1:])

            @staticmethod
            def backward(ctx: Any, g: Tensor, *_: Any) -> Any:
                return backward(ctx.saved_tensors, g)

        return lambda *xs: Function.apply(*xs)[0]

    def host_call(
        self, function: Callable[..., Any], *arrays: Tensor, like: Any
    ) -> tuple[Tensor, ...]:
        device = arrays[0].device
        results = function(*(x.detach().cpu().numpy() for x in arrays))
        return tuple(
            torch.as_tensor(r, dtype=dtype, device=device)
            for r, (_, dtype) in zip(results, like, strict=True)
        )

    def solve(
        self, cost: Any, row_mask: Any, col_mask: Any, unmatched_cost: Any, *, solver: str
    ) -> Solution | None:
        if not self.is_traced(cost):
            return None
        return Solution(*_solve(cost, row_mask, col_mask, unmatched_cost, solver))

    def all_reduce(self, x: Tensor) -> Tensor:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            x = x.detach().clone()
            torch.distributed.all_reduce(x)
        return x


backend = TorchBackend()

_Five = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op("hungarian_core::solve", mutates_args=())
def _solve(
    cost: Tensor,
    row_mask: Tensor | None,
    col_mask: Tensor | None,
    unmatched_cost: Tensor | None,
    solver: str,
) -> _Five:
    return tuple(solve(cost, row_mask, col_mask, unmatched_cost, solver=solver, backend=backend))


@_solve.register_fake
def _(cost: Tensor, row_mask: Any, col_mask: Any, unmatched_cost: Any, solver: str) -> _Five:
    size, n, m = cost.shape
    return (
        cost.new_empty((size, n), dtype=torch.int64), cost.new_empty((size, m), dtype=torch.int64),
        cost.new_empty((size, n)), cost.new_empty((size, m)),
        cost.new_empty((size,), dtype=torch.bool),
    )  # fmt: skip


@_solve.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
    *arrays, solver = arguments
    k = info.batch_size
    merged = []
    for x, dim in zip(arrays, in_dims[:4], strict=True):
        if x is not None:
            x = x.unsqueeze(0).expand(k, *x.shape) if dim is None else x.movedim(dim, 0)
            x = x.reshape(k * x.shape[1], *x.shape[2:])
        merged.append(x)
    found = _solve(*merged, solver)
    size = merged[0].shape[0] // k
    return tuple(x.reshape(k, size, *x.shape[1:]) for x in found), (0,) * 5
