"""A function with a gradient of its own, as PyTorch takes it."""

from typing import Any

import torch
from torch import Tensor


class WithGradient(torch.autograd.Function):
    """Run `forward(*xs) -> (out, residuals)`; differentiate by `backward(residuals, g)`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(forward: Any, backward: Any, *xs: Tensor) -> tuple[Tensor, ...]:
        out, residuals = forward(*xs)
        # An input may not be saved as an output, but a view of it may.
        return out, *(r.view_as(r) if any(r is x for x in xs) else r for r in residuals)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, ...]) -> None:
        ctx.rule = inputs[1]
        ctx.save_for_backward(*output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Any) -> Any:
        return None, None, *ctx.rule(ctx.saved_tensors, g)
