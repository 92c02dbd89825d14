"""What a user is told about the options of gradients and relaxations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._extents import require_equal, same

NOISES = ("gaussian", "gumbel")
_NUMBERS = {"temperature", "interpolation", "tolerance", "noise_scale"}


def of_method(method: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a method, after a check that no other was given."""
    for name, value in given.items():
        if value is not None and name not in defaults:
            known = ", ".join(f"{k}={v!r}" for k, v in defaults.items())
            raise ValueError(
                f"{name} came, and method={method!r} has no such option; it has {known}"
            )
    options = {k: default if given[k] is None else given[k] for k, default in defaults.items()}
    if "noise" in options:
        _checks.one_of("noise", options["noise"], NOISES)
    if "iterations" in options:
        options |= {"iterations": count("iterations", options["iterations"], 1)}
    if "samples" in options:
        # The gradient of `perturbed` compares each sample with the others.
        least = 2 if method == "perturbed" else 1
        options |= {"samples": count("samples", options["samples"], least)}
    return options


def count(name: str, value: Any, least: int) -> int:
    """Return an option that is a number of things, checked."""
    return _checks.whole(name, value, least, f"an integer of at least {least}")


def numbers(
    options: Mapping[str, Any], like: Array, backend: Backend, xp: Namespace
) -> dict[str, Any]:
    """Check the options that are numbers; return all, arrays among them in the dtype of `like`."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name in _NUMBERS:
            zero = name == "noise_scale"  # no noise is fine
            value = _number(name, value, zero, like, backend, xp)
        elif name == "seed":
            value = seed_of(value, like, backend, xp)
        found |= {name: value}
    return found


def out_of_range(options: Mapping[str, Any], failed: Array, xp: Namespace) -> Array:
    """Return which samples failed, all of them where a number is not what `numbers` expects.

    Where it could not be read nothing was raised: a schedule that oversteps 0 would train on.
    """
    for name in _NUMBERS & set(options):
        x = options[name]
        if not isinstance(x, float):
            right = xp.isfinite(x) & ((x >= 0) if name == "noise_scale" else (x > 0))
            failed = failed | ~right
    return failed


def _number(
    name: str, value: Any, zero: bool, like: Array, backend: Backend, xp: Namespace
) -> float | Array:
    wanted = f"a finite number {'of at least' if zero else 'above'} 0"
    if _checks.is_number(value):
        value = float(value)
        _finite(name, value, zero, wanted, like, xp)
        return value
    x = backend.asarray(value, like=like)
    shape = backend.shape(x)
    if shape or not xp.isdtype(x.dtype, ("integral", "real floating")):
        raise ValueError(
            f"{name} is an array of shape {shape} and dtype {x.dtype}; expected {wanted}, or an "
            "array () of one"
        )
    constant = backend.stop_gradient(x)
    if backend.readable(constant):
        _finite(name, float(constant), zero, wanted, like, xp)
    return xp.astype(x, like.dtype, copy=False)


def _finite(name: str, number: float, zero: bool, wanted: str, like: Array, xp: Namespace) -> None:
    """Check a number, also that it is neither infinite nor 0 in the dtype of `like`."""
    if not (number >= 0 if zero else number > 0) or number == float("inf"):
        raise ValueError(f"{name} is {number!r}; expected {wanted}")
    if number and like.dtype == xp.float32 and not 2.0**-126 <= number < 2.0**128:
        raise ValueError(
            f"{name} is {number!r}, which does not fit into float32, in which cost is computed; "
            f"expected {wanted} that does, or costs in float64"
        )


def seed_of(value: Any, like: Array, backend: Backend, xp: Namespace) -> int | Array:
    """Return a seed, checked: a number, or an array of one."""
    if _checks.is_whole(value):
        value = int(value)
        if not 0 <= value < 2**64:
            raise ValueError(f"seed is {value}; expected an integer from 0 to 2**64 - 1")
        return value
    x = backend.asarray(value, like=like)
    shape = backend.shape(x)
    if shape or not xp.isdtype(x.dtype, "integral"):
        raise ValueError(
            f"seed is an array of shape {shape} and dtype {x.dtype}; expected an integer, or an "
            "integer array ()"
        )
    return x


def network(params: Any) -> None:
    """Check that a network has parameters; what is in them is checked by the network."""
    if not isinstance(params, Mapping):
        raise ValueError(
            f"params is {type(params).__name__}; method='hnet' expects the parameters of a network,"
            " such as hungarian_core.hnet.load_pretrained() returns"
        )


def target(came: tuple[Any, ...], cost: tuple[Any, ...]) -> None:
    """Check the shape of a true association against that of the costs."""
    if len(came) != len(cost) or not all(map(same, came, cost)):
        raise ValueError(
            f"target has shape {came} and cost {cost}; expected equal shapes (..., n, m): an "
            "association matrix, such as Assignment.mask() returns"
        )
    require_equal("target", came, cost)
