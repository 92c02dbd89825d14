"""Products of matrices that are as exact as their dtype, whatever PyTorch is set to around them.

Inside `torch.autocast` PyTorch multiplies float32 in half precision, and with TF32, or a float32
matmul precision below "highest", in some 11 bits. Neither concerns float64: so there, float32 is
multiplied in float64, and rounded once. No global setting is touched, so threads do not meet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat.torch as compat
import torch
from torch import Tensor
from torch.autograd import forward_ad

_setting = getattr(torch._C, "_get_fp32_precision_getter", None)  # since PyTorch 2.9


@torch.compiler.assume_constant_result
def _rounds(device: str) -> bool:
    """Say whether the factors of products in float32 may be rounded on a type of device."""
    if _setting is None:
        highest = torch.get_float32_matmul_precision() == "highest"
        return not highest or torch.backends.cuda.matmul.allow_tf32
    kind = "mkldnn" if device == "cpu" else "cuda"
    return _setting(kind, "matmul") not in ("ieee", "none")


@torch.compiler.assume_constant_result  # of which Dynamo of PyTorch 2.8 makes no constant
def _has_autocast(device: str) -> bool:
    return torch.amp.is_autocast_available(device)


def _in_danger(x: Tensor) -> bool:
    kind = x.device.type
    autocast = _has_autocast(kind) and torch.is_autocast_enabled(kind)
    return autocast or _rounds(kind)


def _exactly(function: Callable[..., Tensor], x1: Tensor, x2: Tensor) -> Tensor:
    """Return `function(x1, x2)`, a product, with float32 computed as such at the least."""
    if torch.float32 not in (x1.dtype, x2.dtype) or not _in_danger(x1):
        return function(x1, x2)
    if x1.device.type == "mps":  # which has neither float64 nor TF32
        with torch.autocast("mps", enabled=False):
            return function(x1, x2)
    dtype = torch.promote_types(x1.dtype, x2.dtype)
    return function(x1.double(), x2.double()).to(dtype)


def _product(x1: Tensor, x2: Tensor) -> Tensor:
    return _exactly(compat.matmul, x1, x2)


class _Recorded(torch.autograd.Function):
    """A product of matrices whose gradients, taken wherever, are such products too."""

    @staticmethod
    def forward(ctx: Any, x1: Tensor, x2: Tensor) -> Tensor:
        ctx.save_for_backward(x1, x2)
        return _product(x1, x2)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x1, x2 = ctx.saved_tensors
        by_x1, by_x2 = ctx.needs_input_grad
        return (
            matmul(g, x2.mT).sum_to_size(x1.shape).to(x1.dtype) if by_x1 else None,
            matmul(x1.mT, g).sum_to_size(x2.shape).to(x2.dtype) if by_x2 else None,
        )


def matmul(x1: Tensor, x2: Tensor, /) -> Tensor:
    """Return the product of matrices, broadcast over leading axes."""
    recorded = torch.is_grad_enabled() and (x1.requires_grad or x2.requires_grad)
    if (
        not recorded
        or min(x1.dim(), x2.dim()) < 2
        # A program and a transform have their gradients taken where their values are.
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch.jit.is_tracing()
    ):
        return _product(x1, x2)
    result: Tensor = _Recorded.apply(x1, x2)
    return result


def vecdot(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """Return the sums of the products along an axis."""
    return _exactly(lambda a, b: compat.vecdot(a, b, axis=axis), x1, x2)


def tensordot(
    x1: Tensor, x2: Tensor, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2
) -> Tensor:
    """Return the sums of the products along several axes."""
    return _exactly(lambda a, b: compat.tensordot(a, b, axes=axes), x1, x2)
