"""The launcher's functions, which lie in the library of the native solver."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from hungarian_core import host_solver

ABI = 2  # HUNGARIAN_CUDA_ABI of src/hungarian_cuda.h
KINDS = {np.dtype(np.float32): 0, np.dtype(np.float64): 1}

_BAD_ARGUMENT = -1  # HUNGARIAN_BAD_ARGUMENT of hungarian.h


def symbol(name: str) -> Any:
    """Return a function of the launcher.

    Raises:
        ImportError: The library does not load, or was built without the launcher.
    """
    found = getattr(host_solver("native"), "symbol", lambda _: None)(name)
    if found is None:
        raise ImportError("The native library was built without the kernel for CUDA devices")
    return found


def function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """Return a function of the launcher, typed."""
    found: Any = symbol(name)
    found.restype, found.argtypes = result, arguments
    return found


message = function("hungarian_cuda_message", ctypes.c_char_p)


def check(error: int) -> None:
    """Raise if there was an error.

    Raises:
        RuntimeError: The driver refuses.
        ValueError: An argument is out of range.
    """
    if error:
        said = message().decode()
        raise ValueError(said) if error == _BAD_ARGUMENT else RuntimeError(said)
