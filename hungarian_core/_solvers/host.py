"""Solvers in host memory: SciPy's, and entry points of the group ``hungarian_core.solvers``.

A host solver is a function ``solve(cost, row_mask, col_mask, unmatched_cost, maximize, nan)``
of the fields of a `Problem` as NumPy arrays, that returns a `Solution` of NumPy arrays.
Ours, ``native``, comes in by the same door as a stranger's would.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from hungarian_core._backend import Problem, Solution
from hungarian_core._forks import loading
from hungarian_core._options import host_solvers, solver
from hungarian_core._solvers import scipy
from hungarian_core._tracing import trace_as_constant

HostSolver = Callable[..., Solution]

_found: dict[str, HostSolver | None] = {}


def host_solver(name: str = "auto") -> HostSolver | None:
    """Return the host solver that a solver's name stands for.

    Args:
        name: ``"auto"`` stands for the first that there is of ``"native"`` and ``"scipy"``. A name
            that is not ours is that of an entry point.

    Returns:
        The solver, or None where it is the core's algorithm, which runs in every framework.

    Raises:
        ImportError: A solver asked for by name is not installed or does not load.

    Examples:
        >>> hc.host_solver("core") is None
        True
    """
    if name not in _found:
        _find(name)
    return _found[name]


@trace_as_constant
def _find(name: str) -> None:
    """Note in `_found` what `name` stands for."""
    with loading():
        if name == "auto":
            _found[name] = _first()
        elif name == "core":
            _found[name] = None
        elif name == "scipy":
            _found[name] = scipy.load()
        else:
            solver(name)
            try:
                _found[name] = _load(name)
            except ImportError as error:
                raise ImportError(f"solver={name!r} does not load. {error}") from error


def call_host_solver(host: HostSolver, problem: Problem) -> tuple[tuple[np.ndarray, ...], bool]:
    """Return a host solver's solution, the status never None, and whether all are solved."""
    *found, status = host(*problem)
    if status is not None:
        return (*found, status), not status.any()
    return (*found, np.zeros(problem.cost.shape[:-2], np.uint8)), True


def _first() -> HostSolver | None:
    """Return the native solver, or, with a warning, what stands in for it."""
    try:
        return _load("native")
    except ImportError as error:
        fallback = scipy.load() if scipy.available() else None
        _found["auto"] = fallback
        instead = "the core's algorithm" if fallback is None else "SciPy"
        warnings.warn(
            f"the native solver does not load; {instead} solves instead, and slower. {error}",
            RuntimeWarning,
            stacklevel=6,
        )
        return fallback


def _load(name: str) -> HostSolver:
    entries = host_solvers()
    if name not in entries:
        raise ImportError(
            f"No entry point {name!r} of the group 'hungarian_core.solvers' is installed. Install "
            "hungarian-core again (pip install .)"
        )
    loaded: HostSolver = entries[name].load()
    return loaded
