"""Functions of users' own: call them, and say in words what does not fit.

A function that takes or returns something else than a loss expects fails far from where it was
given, or broadcasts and is wrong without a word.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._checks import one_of
from hungarian_core._extents import require_equal, same
from hungarian_core._registry import backend_of
from hungarian_core.costs.vectors import COSTS, CostFunction

_COST = "(xp, a, b), which reduces the last axis of two arrays broadcast against each other"


def cost_function(name: str, cost: str | CostFunction) -> CostFunction:
    """Return the cost that a name or a function of the user's own stands for."""
    if callable(cost):
        return guarded(name, cost)
    one_of(name, cost, tuple(COSTS), "or a function (xp, a, b)")
    return COSTS[cost]


def guarded(name: str, function: CostFunction) -> CostFunction:
    """Return a cost `function` that says in words if it takes or returns something else.

    Args:
        name: What the user calls the function.
        function: A cost ``(xp, a, b)``.
    """

    def cost(xp: Namespace, a: Array, b: Array) -> Array:
        return called(name, function, _COST, xp, a, b)

    return cost


def called(name: str, function: Callable[..., Any], form: str, *args: Any) -> Array:
    """Return ``function(*args)``, an array of the framework of the last argument.

    Raises:
        TypeError: The function takes other arguments, or returns no such array. What it raises
            itself, it raises.
    """
    try:
        found = function(*args)
    except (AttributeError, TypeError, ValueError) as error:
        # Looked at here only: no tracer can follow, and where all is well none has to.
        signature = _misfit(function, len(args))
        if signature is None:
            raise
        raise TypeError(f"{name} is a function {signature}; expected {form}") from error
    if not (hasattr(found, "shape") and hasattr(found, "dtype")):
        raise TypeError(f"{name} returned a {type(found).__name__}; expected an array, from {form}")
    came, expected = backend_of(found), backend_of(args[-1])
    if came is not expected:
        raise TypeError(
            f"{name} returned a {came.name} array for {expected.name} arrays, which has no "
            "gradient; write it with the functions of the framework, or with xp"
        )
    return found


def _misfit(function: Callable[..., Any], count: int) -> str | None:
    """Return the signature of a function that does not take `count` arguments; None if it does."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # builtins have no signature
        return None
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return str(signature)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = signature.parameters.values()
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return None
    # The last argument would be taken for an option.
    needed = sum(p.kind in positional and p.default is inspect.Parameter.empty for p in parameters)
    return None if needed == count else str(signature)


def pair_losses(name: str, came: tuple[Any, ...], expected: tuple[Any, Any]) -> None:
    """Check the shape `(B, n)` of what a user's loss of pairs returned."""
    if len(came) != 2 or not all(map(same, came, expected)):
        raise ValueError(
            f"{name} returned shape {came} for matched pairs; expected {expected}: one value per "
            "pair, the features reduced"
        )
    require_equal(f"what {name} returned", came, expected)


def per_pair(
    name: str,
    each: Array,
    shape: tuple[Any, Any],
    extent: int,
    why_not: str | None,
    backend: Backend,
    xp: Namespace,
) -> Array:
    """Bring what a slice loss returned to one value per pair, `[B, n]`.

    One value for all pairs stands for each of them, as a mean does.

    Args:
        name: What the user calls the slice loss.
        each: What it returned: `[pairs]`, `[pairs, extent]`, `[pairs, 1]` or `[]`.
        shape: B and n, whose product is the number of pairs.
        extent: The number of features of the slice.
        why_not: Why one value for all pairs will not do, or None if it will.
        backend: The backend.
        xp: Its namespace.

    Raises:
        ValueError: The shape is another, or there is one value where it will not do.
    """
    came = backend.shape(each)
    pairs = shape[0] * shape[1]
    if not came:
        if why_not is not None:
            raise ValueError(
                f"{name} returned one value for all pairs, {why_not}; let it return one value per "
                "pair: reduction='none' (reduction=None in Keras)"
            )
        return xp.broadcast_to(each, shape)
    features = len(came) == 2 and (same(came[1], extent) or came[1] == 1)
    if not same(came[0], pairs) or not (len(came) == 1 or features):
        raise ValueError(
            f"{name} returned shape {came} for {pairs} pairs of {extent} features; expected one "
            f"value per pair ({pairs},) or one per feature ({pairs}, {extent})"
        )
    return xp.reshape(xp.mean(each, axis=1) if features else each, shape)
