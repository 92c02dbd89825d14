"""What users pass that is no array of a framework: numbers, lists, and NumPy's arrays of any kind.

An adapter's `asarray` calls `host_array` first. So a number means the same in every framework,
whatever its default dtype: a Python float has 53 bits, and keeps those that its partner has.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hungarian_core._backend import Array, Backend


def host_array(
    x: Any, like: Array | None, backend: Backend, default: Any = np.float64
) -> np.ndarray:
    """Return numbers, lists of numbers or a foreign array as an array of NumPy, in native order.

    Python numbers adapt: floats are rounded once, to the dtype that `like` is computed in, or,
    where it is not floating, to `default`. Both are float32 at least, so neither a default dtype
    nor a partner of half precision makes a number infinite. An array keeps its dtype.

    Args:
        x: What the user passed.
        like: An array of the backend that `x` goes with, or None.
        backend: The backend of `like`.
        default: NumPy's float32 or float64, by what the framework makes of numbers alone.

    Raises:
        TypeError: `x` does not hold numbers.
        ValueError: A list is ragged, an array has masked entries or is sparse, or a number is too
            large for its partner.
    """
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise ValueError(
            f"a masked array came, with {int(np.ma.count_masked(x))} masked entries, of which "
            "nobody would know; pass x.filled(value), and the mask as an argument of its own"
        )
    if hasattr(x, "toarray") and hasattr(x, "nnz"):
        raise ValueError(
            f"a sparse {type(x).__name__} came; expected a dense array: pass x.toarray(), with "
            "+inf, not 0, where a pair is forbidden"
        )
    adapts = isinstance(x, (bool, int, float, list, tuple)) and not isinstance(x, np.generic)
    try:
        array = np.asarray(x)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ValueError(
            "a list whose parts differ in length came; expected one shape: pad the parts, and say "
            "with a mask which entries are valid"
        ) from error
    # What ml_dtypes has, bfloat16 among them, is of kind V, as records are.
    if array.dtype.kind not in "biufcV" or array.dtype.type is np.void:
        # SciPy's words, as far as they go.
        raise TypeError(f"expected numerical entries, got {array.dtype}: pass an array of numbers")
    if adapts and array.dtype.kind == "f":
        array = _rounded(array, _kind(like, backend, default))
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


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
    if (too_large := np.isinf(rounded) & ~np.isinf(array)).any():
        raise ValueError(
            f"{array[too_large].flat[0]} does not fit into {np.dtype(kind)}, in which the arrays "
            "beside it are computed; pass a smaller number, inf, or arrays in float64"
        )
    return rounded
