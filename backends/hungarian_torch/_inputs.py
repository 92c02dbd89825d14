"""What users pass as tensors: which tensors are taken, and which are refused in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hungarian_core import Backend, host_array

_is_compiling = torch.compiler.is_compiling
_is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor
_modes = torch._C._len_torch_dispatch_stack
_trace = torch._C._get_tracing_state
# By the names of their types, as importing them would take seconds.
_FOREIGN = {
    "DTensor": "x.full_tensor(), or x.to_local() for this process's share",
    "MaskedTensor": "x.get_data(), and x.get_mask() as an argument of its own",
}


def is_symbol(x: Tensor) -> bool:
    """Say whether a tensor stands for values that are not there or not the only ones.

    Inside `torch.func` it is a wrapper, under a compiler or `FakeTensorMode` a shape, and under
    `make_fx` and `torch.jit.trace` an example of what a program will be given.
    """
    return _is_compiling() or is_symbol_of_transform(x)


def is_symbol_of_transform(x: Tensor) -> bool:
    """Say the same where it is known that nothing is being compiled."""
    if _is_wrapped(x) or _trace() is not None:
        return True
    if type(x) is not Tensor and type(x).__name__ in ("FakeTensor", "FunctionalTensor"):
        return True
    return _modes() > 0 and _tracing_mode()


def _tracing_mode() -> bool:
    kind = torch._C._TorchDispatchModeKey
    modes = (kind.PROXY, kind.FAKE, kind.FUNCTIONAL)
    return any(torch._C._get_dispatch_mode(mode) is not None for mode in modes)


def tensor(x: Any, like: Tensor | None, backend: Backend) -> Tensor:
    """Return what a user passed as a tensor, on the device of `like`.

    Raises:
        ValueError: It is sparse, nested, quantised, without values or spread over processes; it
            lies on another device than `like`; or as for `hungarian_core.host_array`.
    """
    if isinstance(x, Tensor):
        return _checked(x, like)
    device = None if like is None else like.device
    if _is_compiling():
        return torch.as_tensor(x, dtype=_dtype(x, like), device=device)
    if _holds(x, Tensor):
        return _stacked(x, like, device)
    default = np.float64 if torch.get_default_dtype() == torch.float64 else np.float32
    array = host_array(x, like, backend, default)
    if array.dtype.kind == "V":  # of ml_dtypes, which PyTorch does not take and we solve in float32
        array = array.astype(np.float32)
    # PyTorch shares memory, and must not share JAX's, which is not to be written to.
    array = np.require(array, requirements=["A", "C", "W"])
    return torch.as_tensor(array, device=device)


def _checked(x: Tensor, like: Tensor | None) -> Tensor:
    if x.layout is not torch.strided or x.is_nested or x.is_quantized:
        raise ValueError(_unfit(x))
    if type(x) is not Tensor and type(x).__name__ in _FOREIGN:
        kind = type(x).__name__
        raise ValueError(f"a {kind} came; expected a plain tensor: pass {_FOREIGN[kind]}")
    if like is not None and x.device != like.device:
        if x.dim() == 0 and x.device.type == "cpu":
            return x.to(like.device)  # as PyTorch takes numbers
        raise ValueError(
            f"a {x.dtype} tensor of shape {tuple(x.shape)} lies on {x.device}, and the "
            f"{like.dtype} tensor of shape {tuple(like.shape)} that it goes with on "
            f"{like.device}; expected one device: move one with .to({str(like.device)!r})"
        )
    if _is_compiling() or is_symbol_of_transform(x):
        return x
    if x.is_meta:
        raise ValueError(
            f"a tensor of shape {tuple(x.shape)} on the device 'meta' came, which has no values; "
            "expected one with values: use FakeTensorMode to learn shapes"
        )
    if x.is_cpu and not _is_there(x):
        raise ValueError(
            f"a tensor of shape {tuple(x.shape)} came whose storage was freed or made smaller; "
            "pass it while its memory is there, or a copy"
        )
    return x


def _unfit(x: Tensor) -> str:
    came = f"a tensor of layout {x.layout} came"
    if x.is_nested:
        return (
            "a nested tensor came; expected a dense one: pad with x.to_padded_tensor(0.0), and "
            "say with a mask which entries are valid"
        )
    if x.is_quantized:
        return "a quantised tensor came; expected numbers: pass x.dequantize()"
    if x.layout is torch._mkldnn:  # it has no public name
        return f"{came}; expected a strided one: pass x.to_dense()"
    return (
        f"a sparse {came[2:]}; expected a dense one: pass x.to_dense(), with +inf, not 0, where a "
        "pair is forbidden"
    )


def _is_there(x: Tensor) -> bool:
    """Say whether the storage reaches as far as the tensor does."""
    try:
        bytes_there = x.untyped_storage().nbytes()
    except (NotImplementedError, RuntimeError):  # a subclass that keeps its values otherwise
        return type(x) is not Tensor
    if x.is_contiguous():
        reach = x.nbytes
    else:
        steps = zip(x.shape, x.stride(), strict=True)
        reach = (1 + sum((extent - 1) * step for extent, step in steps)) * x.itemsize
    return not x.numel() or bytes_there >= x.storage_offset() * x.itemsize + reach


def _dtype(x: Any, like: Tensor | None) -> torch.dtype | None:
    """Return what Python numbers become in a program, by the rule of `host_array`."""
    if not _holds(x, (float, torch.SymFloat)):
        return None
    if like is not None and like.is_floating_point():
        return torch.promote_types(like.dtype, torch.float32)
    default = torch.get_default_dtype()
    return torch.float64 if default == torch.float64 else torch.float32


def _holds(x: Any, kind: Any) -> bool:
    """Say whether there is one of a kind in a list, however deep."""
    return isinstance(x, kind) or (isinstance(x, (list, tuple)) and any(_holds(y, kind) for y in x))


def _stacked(x: Any, like: Tensor | None, device: Any) -> Tensor:
    """Return a list that holds tensors, of one value or of one shape, with its numbers exact."""
    dtype = _dtype(x, like)
    parts = [
        y if isinstance(y, Tensor) else _stacked(y, like, device)
        if isinstance(y, (list, tuple)) else torch.as_tensor(y, dtype=dtype)
        for y in x
    ]  # fmt: skip
    if len({y.shape for y in parts}) > 1:
        raise ValueError(
            f"a list of tensors of the shapes {[tuple(y.shape) for y in parts]} came; expected one "
            "shape: pad them, and say with a mask which entries are valid"
        )
    stacked = torch.stack([y.to(device) if device is not None else y for y in parts])
    return stacked if like is None else _checked(stacked, like)
