"""A function with a gradient of its own, as PyTorch takes it.

The rule is that of reverse mode, a linear map of the upstream gradient. Forward mode is its
transpose, so tangents come from the same rule. It holds once: what the rule keeps is a constant.
"""

from __future__ import annotations

import inspect
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

_is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor
_transformed = torch._C._are_functorch_transforms_active

# Set while a rule is transposed, when what has no derivative must not count as a constant.
transposing: ContextVar[bool] = ContextVar("transposing", default=False)

_NO_TANGENT = (
    "forward mode (torch.func.jvp, torch.autograd.forward_ad) does not go through this function, "
    "whose gradient is another matching or an iteration; use reverse mode: torch.func.vjp, "
    "torch.autograd.grad or backward()"
)
_ONCE = (
    "this function can be differentiated once only: its gradient is a formula, not a program; "
    "take second derivatives by differences of gradients"
)


def refuse_transposed() -> None:
    """Refuse to go on where a rule is being transposed that is not linear, or that iterates."""
    if not torch.compiler.is_compiling() and transposing.get():
        raise NotImplementedError(_NO_TANGENT)


def apply(forward: Any, backward: Any, *xs: Tensor) -> Tensor:
    """Return the result of `forward(*xs) -> (out, residuals)`, whose gradient is `backward`'s."""
    if torch.compiler.is_compiling():
        if not any(x.requires_grad for x in xs):
            # Dynamo (2.13) passes a context to `forward` where nothing is to be differentiated.
            out: Tensor = forward(*xs)[0]
            return out
        return WithGradient.apply(forward, backward, 0, *xs)[0]
    forwards = forward_ad._current_level >= 0
    # An entry of each input tells a second derivative that its way would lead back to it.
    ways = [
        x[(slice(0, 1),) * x.dim()].clone()
        for x in xs
        if x.is_floating_point() and x.numel() and (x.requires_grad or forwards or _is_wrapped(x))
    ]
    kind: Any = WithTangent if forwards else WithGradient if _transformed() else Eagerly
    return kind.apply(forward, backward, len(ways), *ways, *xs)[0]


class WithGradient(torch.autograd.Function):
    """Run `forward(*xs) -> (out, residuals)`; differentiate by `backward(residuals, g)`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(forward: Any, backward: Any, ways: int, *inputs: Tensor) -> tuple[Tensor, ...]:
        xs = inputs[ways:]
        out, residuals = forward(*xs)
        # An input may not be saved as an output, but a view of it may.
        return out, *(r.view_as(r) if any(r is x for x in xs) else r for r in residuals)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, ...]) -> None:
        _, ctx.rule, ctx.ways, *rest = inputs
        ctx.save_for_backward(*rest[: ctx.ways], *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Any) -> Any:
        ways, residuals = ctx.saved_tensors[: ctx.ways], ctx.saved_tensors[ctx.ways :]
        slopes = ctx.rule(residuals, g)
        if ways and torch.is_grad_enabled():
            slopes = [s if s is None else _Once.apply(s, *ways) for s in slopes]
        return (None,) * (3 + ctx.ways) + tuple(slopes)


# PyTorch binds the arguments of `forward` at every call, and would make its signature each time.
_forward: Any = WithGradient.forward
_forward.__signature__ = inspect.signature(_forward)


class Eagerly(torch.autograd.Function):
    """The same outside of transforms, where one method will do, whose arguments are not bound."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        output = WithGradient.forward(*inputs)
        WithGradient.setup_context(ctx, inputs, output)
        return output

    backward = WithGradient.backward


class WithTangent(WithGradient):
    """The same where forward mode is on; Dynamo takes no function that has a rule for it."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, ...]) -> None:
        WithGradient.setup_context(ctx, inputs, output)
        ctx.save_for_forward(*inputs[3 : 3 + ctx.ways], *output)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        ways, (out, *residuals) = ctx.saved_tensors[: ctx.ways], ctx.saved_tensors[ctx.ways :]

        def pulled(g: Tensor) -> Tensor:
            slopes = ctx.rule(tuple(residuals), g)
            pairs = zip(slopes, tangents[3 + ctx.ways :], strict=True)
            parts = [torch.sum(s * t) for s, t in pairs if s is not None and t is not None]
            return torch.stack(parts).sum() if parts else torch.sum(g * 0)

        token = transposing.set(True)
        try:
            tangent = torch.func.grad(pulled)(torch.zeros_like(out))
        finally:
            transposing.reset(token)
        if any(_is_wrapped(x) for x in ways):  # a transform lies around this one
            tangent = _Once.apply(tangent, *ways)
        return tangent, *(None for _ in residuals)


class _Once(torch.autograd.Function):
    """Pass a gradient on, and refuse to differentiate it by what it was taken at."""

    generate_vmap_rule = True

    @staticmethod
    def forward(slope: Tensor, *ways: Tensor) -> Tensor:
        return slope.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError(_ONCE)

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError(_ONCE)
