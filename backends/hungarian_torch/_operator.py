"""Loops as operators, which compilers and transforms of PyTorch take as a whole.

`torch.compile` sees shapes only (the fake), `torch.func.vmap` adds its axis to those of the batch.
The operators have no gradient: a matching is a constant.
"""

import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hungarian_core import Problem, get_backend, solve

Six = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

# What an exported program may ask to have run: the library's own loops, and nothing else. What is
# run by a program's name, found by import, would be whatever the program's author likes.
_RUNS = (
    "hungarian_core.relaxations.entropic:_solved",
    "hungarian_core.relaxations.euclidean:_solved",
    "hungarian_core.relaxations.implicit:_solve_closely",
)
# What this process has put into programs itself, by name: a user's own functions.
_given: dict[str, Callable[..., Any]] = {}


def _operator(name: str, **options: Any) -> Callable[..., Any]:
    """Return a decorator that makes an operator, which may copy to the host and wait."""
    unsafe = getattr(torch.Tag, "cudagraph_unsafe", None)  # since PyTorch 2.8
    if unsafe is not None and "tags" in inspect.signature(torch.library.custom_op).parameters:
        options["tags"] = (unsafe,)
    return torch.library.custom_op(f"hungarian_core::{name}", mutates_args=(), **options)


@_operator("solve")
def solve_opaquely(
    cost: Tensor,
    row_mask: Tensor | None,
    col_mask: Tensor | None,
    unmatched_cost: Tensor | None,
    maximize: bool,
    nan: str,
    solver: str,
) -> Six:
    """Solve as an eager call would, on the tensors at hand."""
    problem = Problem(cost, row_mask, col_mask, unmatched_cost, maximize, nan)
    *found, status = solve(problem, solver=solver, backend=get_backend("torch"))
    if status is None:
        status = cost.new_zeros(cost.shape[:-2], dtype=torch.uint8)
    return (*found, status)


@solve_opaquely.register_fake
def forms(cost: Tensor, *_: Any) -> Six:
    """Return tensors of the shapes and dtypes that the fields of a solution have."""
    batch, rows = cost.shape[:-2], cost.shape[:-1]
    cols = (*batch, cost.shape[-1])
    return (
        cost.new_empty(rows, dtype=torch.int64), cost.new_empty(cols, dtype=torch.int64),
        cost.new_empty(batch), cost.new_empty(rows), cost.new_empty(cols),
        cost.new_empty(batch, dtype=torch.uint8),
    )  # fmt: skip


@solve_opaquely.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
    fields = mapped(info.batch_size, in_dims[:4], arguments[:4])
    return solve_opaquely(*fields, *arguments[4:]), (0,) * 6


def mapped(size: int, dims: Any, arrays: Any) -> list[Tensor | None]:
    """Return arrays with the axis that `vmap` maps as their first."""
    whole = []
    for x, dim in zip(arrays, dims, strict=True):
        if x is not None:
            x = x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
        whole.append(x)
    return whole


def run_opaquely(
    function: Callable[..., Any], arrays: Any, like: Any, options: Any
) -> tuple[Tensor, ...]:
    """Run a function of a module as `Backend.run` does."""
    name = f"{function.__module__}:{function.__name__}"
    _note(name, function)
    # No gradient goes through, not even one that an upstream gradient asks for.
    arrays = [x.detach() for x in arrays]
    return tuple(_run(name, arrays, list(like), [float(x) for x in options]))


@torch.compiler.assume_constant_result
def _note(name: str, function: Callable[..., Any]) -> None:
    _given[name] = function


def _known(name: str) -> Callable[..., Any]:
    """Return a function that programs may run."""
    if name in _given:
        return _given[name]
    if name not in _RUNS:
        raise ValueError(
            f"a program asks hungarian_core::run for {name!r}; expected one of {', '.join(_RUNS)}. "
            "It was written by another version of hungarian-core, or is not to be trusted; a "
            "function of your own is known once your code has called it in this process"
        )
    function: Callable[..., Any] = pkgutil.resolve_name(name)
    return function


# PyTorch 2.6 cannot infer it from `list[...]`.
_RUN = "(str name, Tensor[] arrays, int[] like, float[] options) -> Tensor[]"


@_operator("run", schema=_RUN)
def _run(name: str, arrays: list[Tensor], like: list[int], options: list[float]) -> list[Tensor]:
    function = _known(name)
    return list(function(get_backend("torch"), *arrays, *options))


@_run.register_fake
def _(name: str, arrays: list[Tensor], like: list[int], options: list[float]) -> list[Tensor]:
    return [arrays[k].new_empty(arrays[k].shape) for k in like]


@_run.register_vmap
def _(info: Any, in_dims: Any, name: str, arrays: Any, like: Any, options: Any) -> Any:
    whole = mapped(info.batch_size, in_dims[1], arrays)
    return _run(name, whole, like, options), [0] * len(like)
