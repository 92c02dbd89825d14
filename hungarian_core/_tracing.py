"""Tell the tracers of frameworks to leave a function alone, without importing any."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])


def skip_autograph(function: F) -> F:
    """Keep TensorFlow's AutoGraph from rewriting `function`, which is traceable as it is.

    AutoGraph calls anything that has this attribute, which it gives to its own output, as is.
    Of a class, it keeps the calls of its instances as they are.
    """
    function.autograph_info__ = {}  # type: ignore[attr-defined]  # functions take attributes
    return function


def trace_as_constant(function: F) -> F:
    """Run `function` in plain Python while a program is traced, once; its result is a constant.

    The attribute is the one that `torch.compiler.assume_constant_result` sets.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]  # as above
    return skip_autograph(function)


def level_of_caller() -> int:
    """Return the `stacklevel` of a warning that is to name the line that called the library."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("hungarian_"):
        level, frame = level + 1, frame.f_back
    return level
