"""Which dtypes things are computed in and counted by, in any framework."""

from __future__ import annotations

from hungarian_core._backend import Array, DType, Namespace


def solving_dtype(dtype: DType, xp: Namespace) -> DType:
    """Return the dtype to solve costs of `dtype` in: float32, or float64 for wider and integers.

    Integers become float64, which holds them exactly up to 2**53; where a framework
    has no float64, float32, exact up to 2**24.
    """
    if dtype == xp.float32 or dtype == xp.float64:
        return dtype
    if xp.isdtype(dtype, "real floating") and xp.finfo(dtype).bits < 32:
        return xp.float32
    floats = xp.__array_namespace_info__().dtypes(kind="real floating")
    return floats.get("float64", floats["float32"])


def common_dtype(a: Array, b: Array, xp: Namespace) -> DType:
    """Return the dtype to compute in: the wider of both, where integers adapt to floats."""
    floats = [x.dtype for x in (a, b) if xp.isdtype(x.dtype, "real floating")]
    dtypes = [solving_dtype(dtype, xp) for dtype in floats or (a.dtype,)]
    return dtypes[0] if dtypes[0] == dtypes[-1] else xp.float64


def index_dtype(xp: Namespace) -> DType:
    """Return the dtype that the framework indexes with: signed, of 32 or 64 bits."""
    return xp.__array_namespace_info__().default_dtypes()["indexing"]
