"""What an option may be: one of some names, a number of any kind, a list; and what was meant."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import math
import numbers
import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from hungarian_core._conversion import no_array
from hungarian_core._tracing import trace_as_constant

SOLVERS = "hungarian_core.solvers"  # the group of entry points
OURS = ("auto", "native", "scipy", "core")

_installed: set[str] = set()


def one_of(name: str, value: Any, allowed: Iterable[str], otherwise: str = "") -> None:
    """Check that an option has one of its values; `otherwise` says what else it may be."""
    allowed = tuple(allowed)
    if not isinstance(value, str) or value not in allowed:
        choices = ", ".join(repr(a) for a in allowed)
        raise ValueError(
            f"{name} is {value!r}; expected one of {choices}{otherwise and ' '}{otherwise}"
            f"{meant(value, allowed)}"
        )


def meant(value: Any, allowed: Iterable[str]) -> str:
    """Return the question after a name that is nearly one of those allowed."""
    known = {name.casefold(): name for name in allowed}
    close = difflib.get_close_matches(str(value).casefold(), known, n=1) if known else []
    return f". Did you mean {known[close[0]]!r}?" if close else ""


def options(who: str, function: Callable[..., Any], given: Iterable[str]) -> None:
    """Check that names are those of arguments of `function`, but its first.

    Args:
        who: What the user called.
        function: A function, or the `__init__` of a class.
        given: The names that came.

    Raises:
        TypeError: One is none, as a call of Python would say at once.
    """
    parameters = list(inspect.signature(function).parameters.values())[1:]
    known = [p.name for p in parameters]
    for name in given:
        if name not in known:
            raise TypeError(
                f"{who} has no option {name!r}; it has {', '.join(known)}{meant(name, known)}"
            )


def takes(name: str, function: Callable[..., Any], count: int, form: str) -> None:
    """Check that a function can be called with so many arguments by position, if it tells.

    Raises:
        TypeError: It cannot; `form` says with which.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # builtins have none
        return
    try:
        signature.bind(*range(count))
    except TypeError as error:
        named = getattr(function, "__name__", type(function).__name__)
        raise TypeError(
            f"{name} is {named}{signature}; expected one that is called with {form}"
        ) from error


def solver(name: Any) -> None:
    """Check the name of a solver, before anything is loaded.

    Raises:
        ValueError: It is no name.
        ImportError: It is neither one of ours nor that of an installed solver.
    """
    if not isinstance(name, str):
        raise ValueError(f"solver is {name!r}; expected the name of a solver, such as 'auto'")
    if name not in OURS:
        _look_for(name)


@trace_as_constant
def _look_for(name: str) -> None:
    """Raise if there is no solver of this name; what there is, is noted in `_installed`."""
    if name in _installed:
        return
    if name not in host_solvers():
        known = (*OURS, *sorted(set(host_solvers()) - set(OURS)))
        raise ImportError(
            f"solver is {name!r}; expected one of {', '.join(map(repr, known))}, or the name of an "
            f"installed entry point of the group {SOLVERS!r}{meant(name, known)}"
        )
    _installed.add(name)


def host_solvers() -> dict[str, Any]:
    """Return the entry points of solvers on the host, by name."""
    import importlib.metadata  # slow; see _registry.py

    return {e.name: e for e in importlib.metadata.entry_points(group=SOLVERS)}


def array(name: str, x: Any) -> None:
    """Check that an argument is an array or stands for one; whether it holds numbers is seen later.

    Raises:
        TypeError: It is None, a dictionary, a module, ...
    """
    if not isinstance(x, (bool, int, float)) and not hasattr(x, "__array__"):
        said = no_array(x)  # no walrus here: AutoGraph warns of what it cannot rewrite
        if said is not None:
            raise TypeError(f"{name}: {said}")


def whole(name: str, value: Any, least: int, expected: str) -> int:
    """Return an option that is a whole number: of Python, of NumPy, or an array () of integers.

    Raises:
        ValueError: It is another thing, or less than `least`.
    """
    number = value if type(value) is int else None  # first what tracers can follow
    # Booleans are integers in Python, and never meant.
    if number is None and not isinstance(value, bool) and "bool" not in _dtype(value):
        with contextlib.suppress(TypeError, ValueError):
            number = operator.index(value)
    if number is None or number < least:
        raise ValueError(f"{name} is {value!r}; expected {expected}")
    return number


def number(name: str, value: Any, expected: str = "a number") -> float:
    """Return an option that is a real number: of Python, of NumPy, or an array () of one.

    Raises:
        ValueError: It is another thing, or NaN.
    """
    if type(value) in (int, float):  # what tracers can follow
        found = float(value)
    else:
        found = math.nan
        if is_number(value) or (
            getattr(value, "shape", None) == () and "bool" not in _dtype(value)
        ):
            with contextlib.suppress(TypeError, ValueError):
                found = float(value)
    if found != found:  # what tracers can follow, where they take an option as a variable
        raise ValueError(f"{name} is {value!r}; expected {expected}")
    return found


def weight(name: str, value: Any) -> Any:
    """Return a weight: a number as Python's, which spreads no dtype; an array () as it is.

    Raises:
        ValueError: It is neither, or NaN.
    """
    if getattr(value, "shape", None) == () and not isinstance(value, np.generic):
        return value  # learnt maybe
    return number(name, value)


def flag(name: str, value: Any) -> bool:
    """Return an option that is True or False, of Python or NumPy, or 0 or 1.

    Raises:
        ValueError: It is another thing.
    """
    if isinstance(value, (bool, np.bool_)) or (is_whole(value) and value in (0, 1)):
        return bool(value)
    raise ValueError(f"{name} is {value!r}; expected True or False")


def _dtype(x: Any) -> str:
    return str(getattr(x, "dtype", ""))


def sequence(x: Any) -> bool:
    """Say whether something has entries in an order: a list, a tuple, an array with an axis."""
    if isinstance(x, (list, tuple)):
        return True
    return len(getattr(x, "shape", ())) == 1


def plain(x: Any) -> Any:
    """Return a number as Python's, which has no dtype to spread; an array, learnt maybe, as it is.

    NumPy's scalars have a dtype: times one of float64, float32 arrays would become float64.
    """
    return float(x) if isinstance(x, numbers.Real) else x


def python_numbers(x: Any) -> Any:
    """Return the numbers of NumPy as Python's, in lists and arrays too."""
    if isinstance(x, (np.ndarray, np.generic)):
        return x.tolist()
    return [python_numbers(y) for y in x] if isinstance(x, (list, tuple)) else x


def is_number(x: Any, kind: type = numbers.Real) -> bool:
    """Say whether something is a number of Python or NumPy, of a kind; booleans are none."""
    return isinstance(x, kind) and not isinstance(x, bool)


def is_whole(x: Any) -> bool:
    """Say whether something is a whole number of Python or NumPy."""
    return is_number(x, numbers.Integral)
