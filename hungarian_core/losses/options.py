"""Check options of losses where they are given, for front doors that pass them on later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hungarian_core import _checks
from hungarian_core.costs import COSTS
from hungarian_core.losses.permutation import METRICS

_NAMED: Mapping[str, tuple[str, ...]] = {
    "reduction": _checks.REDUCTIONS,
    "nan": _checks.NAN_POLICIES,
}
_FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "cost": tuple(COSTS),
    "pair_loss": tuple(COSTS),
    "metric": METRICS,
}


def check_options(given: Mapping[str, Any]) -> None:
    """Check the values of options that `loss` or `pit_loss` is going to be called with.

    Raises:
        ValueError: A value is not one that the option has.
        ImportError: No solver of the name is installed.
    """
    for name, value in given.items():
        if name in _NAMED:
            _checks.one_of(name, value, _NAMED[name])
        elif name == "solver":
            _checks.solver(value)
        elif name in _FUNCTIONS and not callable(value) and (name, value) != ("pair_loss", None):
            _checks.one_of(name, value, _FUNCTIONS[name], "or a function (xp, a, b)")
