"""What users pass that is no array of a framework: numbers, lists, and NumPy's arrays of any kind.

An adapter's `asarray` calls `host_array` first. So a number means the same in every framework,
whatever its default dtype: a Python float has 53 bits, and keeps those that its partner has.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from math import prod
from types import ModuleType
from typing import Any

import numpy as np

from hungarian_core._backend import NATIVE, Array, Backend


def host_array(
    x: Any, like: Array | None, backend: Backend, default: Any = np.float64
) -> np.ndarray:
    """Return numbers, lists of numbers or a foreign array as an array of NumPy, in native order.

    Python numbers adapt: floats are rounded once, to the dtype that `like` is computed in, or,
    where it is not floating, to `default`. Both are float32 at least, so neither a default dtype
    nor a partner of half precision makes a number infinite. An array keeps its dtype, but for long
    double, which becomes float64. Arrays of objects that are numbers count as lists of them.

    Args:
        x: What the user passed.
        like: An array of the backend that `x` goes with, or None.
        backend: The backend of `like`.
        default: NumPy's float32 or float64, by what the framework makes of numbers alone.

    Raises:
        TypeError: `x` does not hold numbers.
        ValueError: A list is ragged, an array has masked entries or is sparse, a number is too
            large for its partner, or an array of another framework requires a gradient, lies on a
            device or is a symbol in a program.

    Examples:
        >>> hc.host_array([0.1, 0.2], np.ones(2, np.float32), hc.get_backend("numpy"))
        array([0.1, 0.2], dtype=float32)
    """
    if type(x) is np.ndarray and x.dtype in NATIVE:
        return x
    said = no_array(x)
    if said is not None:
        raise TypeError(said)
    _dense(x)
    adapts = isinstance(x, (bool, int, float, list, tuple)) and not isinstance(x, np.generic)
    try:
        array = np.asarray(x)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ValueError(_RAGGED) from error
    except (RuntimeError, TypeError) as error:  # of frameworks whose arrays NumPy cannot read
        said = _unreadable(x)
        if said is None:
            raise
        raise ValueError(said) from error
    if array.dtype.kind == "O":
        array, adapts = _of_objects(array), True
    # What ml_dtypes has, bfloat16 among them, is of kind V, as records are.
    if array.dtype.kind not in "biufcV" or array.dtype.type is np.void:
        # SciPy's words, as far as they go.
        raise TypeError(f"expected numerical entries, got {array.dtype}: pass an array of numbers")
    if array.dtype.kind == "f":
        if adapts:
            array = _rounded(array, _kind(like, backend, default))
        elif array.dtype.itemsize > 8:  # long double, which NumPy alone has
            array = array.astype(np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def counted(n: int, like: Array, backend: Backend) -> Array:
    """Return the indices from 0 to n - 1 where `like` lies, known to be in host memory."""
    return backend.asarray(np.arange(n, dtype=np.intp), like=like)


def index_pairs(col4row: Array, backend: Backend) -> list[tuple[Array, Array]]:
    """Return for each problem of `(..., n)` the rows that have a column, and these columns."""
    if backend.is_traced(col4row):
        raise ValueError(
            "pairs() has arrays whose length depends on values, and the matching is a symbol in a "
            "program; expected a call outside, or padded_indices() in it"
        )
    found: list[tuple[Array, Array]] = []

    def of_problems(columns: np.ndarray) -> tuple[()]:
        *batch, n = columns.shape
        columns = columns.reshape(prod(batch), n)
        problem, row = np.nonzero(columns >= 0)
        column = columns[problem, row]
        begin = 0
        for end in np.cumsum(np.bincount(problem, minlength=len(columns))).tolist():
            pair = (row[begin:end], column[begin:end])
            found.append(tuple(backend.asarray(x, like=col4row) for x in pair))
            begin = end
        return ()

    backend.host_call(of_problems, col4row, like=())
    return found


def no_array(x: Any) -> str | None:
    """Say what is wrong with something that stands for no array at all, or return None."""
    if hasattr(x, "__array__") or isinstance(x, (bool, int, float, complex, list, tuple)):
        return None
    wanted = "expected an array, a number or a list of numbers"
    if x is None:
        return f"None came; {wanted}"
    if isinstance(x, Mapping):
        keys = ", ".join(repr(key) for key in list(x)[:4]) or "none"
        return f"a {type(x).__name__} came, with keys ({keys}); {wanted}: pass one of its values"
    if isinstance(x, ModuleType):
        return f"the module {x.__name__!r} came; {wanted}"
    if isinstance(x, (str, bytes)):
        return f"the text {x!r} came; {wanted}"
    if isinstance(x, type) or (callable(x) and not hasattr(x, "shape")):
        name = getattr(x, "__qualname__", None) or type(x).__name__
        return f"{name}, which can be called, came; {wanted}: pass what it returns"
    if isinstance(x, (set, frozenset)) or hasattr(x, "__next__"):
        return f"a {type(x).__name__} came; {wanted}: pass list(...) of it, in the order meant"
    return None


def foreign(x: Any) -> str | None:
    """Say how to convert an array of a type that no backend knows, where that is known."""
    if _is_sparse(x):
        return "it is sparse: pass x.toarray(), with +inf, not 0, where a pair is forbidden"
    if hasattr(x, "to_numpy"):
        return "pass x.to_numpy()"
    return None


_RAGGED = (
    "a list whose parts differ in length came; expected one shape: pad the parts, and say "
    "with a mask which entries are valid"
)


def _is_sparse(x: Any) -> bool:
    return hasattr(x, "toarray") and hasattr(x, "nnz")


def _dense(x: Any) -> None:
    """Refuse arrays that would lose what they say of their entries, also inside of lists."""
    if isinstance(x, np.ma.MaskedArray):
        if np.ma.is_masked(x):
            raise ValueError(
                f"a masked array came, with {int(np.ma.count_masked(x))} masked entries, of which "
                "nobody would know; pass x.filled(value), and the mask as an argument of its own"
            )
    elif isinstance(x, (list, tuple)):
        for y in x:
            if not isinstance(y, (float, int)):
                _dense(y)
    elif _is_sparse(x):
        raise ValueError(
            f"a sparse {type(x).__name__} came; expected a dense array: pass x.toarray(), with "
            "+inf, not 0, where a pair is forbidden"
        )


def _unreadable(x: Any) -> str | None:
    """Say why NumPy cannot read an array of a framework, or one in a list, if that is known."""
    from hungarian_core._registry import backend_of  # which imports this module

    if isinstance(x, (list, tuple)):
        return next(filter(None, map(_unreadable, x)), None)
    own, kind = backend_of(x), type(x).__name__
    if type(own).asarray is Backend.asarray:  # of NumPy, or of no framework
        return None
    if getattr(x, "requires_grad", False):
        return (
            f"a {kind} that requires a gradient came where arrays are converted, and with it the "
            f"gradient would end; pass x.detach() if it may, else choose backend={own.name!r}"
        )
    if own.is_traced(x):
        return (
            f"a {kind} came, a symbol in a program of {own.name}, which has no values to convert; "
            f"choose backend={own.name!r}, or call this outside of the program"
        )
    x = own.asarray(x)  # refuses in words what is sparse, nested, quantised or has no values
    if not own.on_host(x):
        return f"a {kind} on {x.device} came; expected one in host memory: copy it there first"
    return (
        f"a {kind} of {x.dtype} came, which NumPy does not have; convert it to float32 first, or "
        f"choose backend={own.name!r}"
    )


def _of_objects(array: np.ndarray) -> np.ndarray:
    """Return an array of objects, which have to be numbers, as one of numbers."""
    for x in array.flat:
        if isinstance(x, (list, tuple, np.ndarray)):
            raise ValueError(_RAGGED)
        # Decimal is a Number, and not Real.
        if not isinstance(x, (numbers.Number, np.bool_)):
            raise TypeError(
                f"expected numerical entries, got object, with {x!r} of type {type(x).__name__}: "
                "pass an array of numbers"
            )
    plain = np.asarray(array.tolist())
    # Fractions, decimals, and integers of more than 64 bits.
    return plain if plain.dtype.kind != "O" else array.astype(np.float64)


def _kind(like: Array | None, backend: Backend, default: Any) -> Any:
    """Return NumPy's float32 or float64, by what `like` is computed in."""
    if like is not None:
        xp = backend.namespace(like)
        if xp.isdtype(like.dtype, "real floating"):
            return np.float64 if xp.finfo(like.dtype).bits > 32 else np.float32
    return default


def _rounded(array: np.ndarray, kind: Any) -> np.ndarray:
    if array.dtype == kind:
        return array
    with np.errstate(over="ignore"):
        rounded = array.astype(kind)
    too_large = np.isinf(rounded) & ~np.isinf(array)
    if too_large.any():
        raise ValueError(
            f"{array[too_large].flat[0]} does not fit into {np.dtype(kind)}, in which the arrays "
            "beside it are computed; pass a smaller number, inf, or arrays in float64"
        )
    return rounded
