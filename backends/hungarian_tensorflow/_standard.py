"""What `hungarian_core` does not call of the Array API standard, for costs that users write.

`_namespace` looks here for a name that it has not. What is missing: `from_dlpack`, `isin`, the
functions of dtypes but `isdtype` and `result_type`, and the extensions `linalg` and `fft`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from hungarian_tensorflow._arrays import align, count_dtype, extents

# Parameters have the standard's names, builtins' among them.


def _whole(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a function that leaves integers alone."""
    return lambda x, /: x if x.dtype.is_integer else function(x)


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda x, y, /: function(*align(x, y))


def _hypot(x: Any, y: Any) -> Any:
    x, y = tf.abs(x), tf.abs(y)
    large, small = tf.maximum(x, y), tf.minimum(x, y)
    ratio = tf.math.divide_no_nan(small, large)
    return tf.where(tf.math.is_inf(large), large, large * tf.sqrt(1 + ratio * ratio))


def _logaddexp(x: Any, y: Any) -> Any:
    top = tf.maximum(x, y)
    return tf.where(x == y, x + math.log(2), top + tf.math.log1p(tf.exp(-tf.abs(x - y))))


def _negative(x: Any, /) -> Any:
    """Return where a number is negative, -0 included."""
    return x < 0 if x.dtype.is_integer else (x < 0) | ((x == 0) & (1 / x < 0))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        name: getattr(tf.math, name)
        for name in (
            "acos", "acosh", "asin", "asinh", "atanh", "conj", "cosh", "expm1", "imag", "real",
            "reciprocal", "sign", "sinh", "tan", "logical_not",
        )
    },
    "isinf": tf.math.is_inf,
    "log2": lambda x, /: tf.math.log(x) / math.log(2),
    "log10": lambda x, /: tf.math.log(x) / math.log(10),
    "negative": lambda x, /: -x,
    "positive": lambda x, /: x,
    "signbit": _negative,
    "bitwise_invert": lambda x, /: ~x,
    "ceil": _whole(tf.math.ceil),
    "trunc": _whole(lambda x: tf.sign(x) * tf.floor(tf.abs(x))),
    **{
        name: _binary(getattr(tf.math, name))
        for name in (
            "add", "subtract", "multiply", "equal", "not_equal", "less", "less_equal", "greater",
            "greater_equal", "logical_and", "logical_or", "logical_xor", "nextafter",
        )
    },
    "divide": _binary(tf.math.truediv),
    "floor_divide": _binary(tf.math.floordiv),
    "remainder": _binary(tf.math.floormod),
    "hypot": _binary(_hypot),
    "logaddexp": _binary(_logaddexp),
    "copysign": _binary(lambda x, y: tf.where(_negative(y), -tf.abs(x), tf.abs(x))),
    "matrix_transpose": tf.linalg.matrix_transpose,
}  # fmt: skip
globals().update(_FUNCTIONS)
MISSING = frozenset(globals()) - frozenset(_FUNCTIONS)  # modules and helpers, which are no part

uint16, uint32, uint64 = tf.uint16, tf.uint32, tf.uint64
complex64, complex128 = tf.complex64, tf.complex128


def arange(
    start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None
) -> Any:
    return (
        tf.range(start, delta=step, dtype=dtype)
        if stop is None
        else tf.range(start, stop, step, dtype)
    )


def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
    return (
        tf.cast(obj, dtype)
        if dtype is not None and tf.is_tensor(obj)
        else tf.convert_to_tensor(obj, dtype)
    )


def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Any:
    return tf.fill(extents(shape), tf.convert_to_tensor(fill_value, dtype))


def zeros(shape: Any, *, dtype: Any = None, device: Any = None) -> Any:
    return tf.zeros(extents(shape), dtype or tf.float32)


def ones(shape: Any, *, dtype: Any = None, device: Any = None) -> Any:
    return tf.ones(extents(shape), dtype or tf.float32)


empty = zeros


def full_like(x: Any, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Any:
    return tf.fill(tf.shape(x), tf.cast(tf.convert_to_tensor(fill_value), dtype or x.dtype))


def empty_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Any:
    return tf.zeros_like(x, dtype=dtype)


def eye(
    n_rows: Any, n_cols: Any = None, /, *, k: int = 0, dtype: Any = None, device: Any = None
) -> Any:
    n_cols = n_rows if n_cols is None else n_cols
    on = tf.range(n_cols)[None, :] == tf.range(n_rows)[:, None] + k
    return tf.cast(on, dtype or tf.float32)


def linspace(
    start: Any, stop: Any, /, num: Any, *, dtype: Any = None, device: Any = None,
    endpoint: bool = True,
) -> Any:  # fmt: skip
    dtype = dtype or tf.float32
    start, stop = tf.cast(start, dtype), tf.cast(stop, dtype)
    return tf.linspace(start, stop, num) if endpoint else tf.linspace(start, stop, num + 1)[:-1]


def meshgrid(*arrays: Any, indexing: str = "xy") -> list[Any]:
    return list(tf.meshgrid(*arrays, indexing=indexing))


def _triangle(x: Any, k: int, lower: bool) -> Any:
    rows, cols = tf.range(tf.shape(x)[-2])[:, None], tf.range(tf.shape(x)[-1])[None, :]
    return tf.where(cols - rows <= k if lower else cols - rows >= k, x, tf.zeros_like(x))


def tril(x: Any, /, *, k: int = 0) -> Any:
    return _triangle(x, k, True)


def triu(x: Any, /, *, k: int = 0) -> Any:
    return _triangle(x, k, False)


def broadcast_arrays(*arrays: Any) -> list[Any]:
    shape = tf.shape(arrays[0])
    for x in arrays[1:]:
        shape = tf.broadcast_dynamic_shape(shape, tf.shape(x))
    return [tf.broadcast_to(x, shape) for x in arrays]


def flip(x: Any, /, *, axis: Any = None) -> Any:
    axes = range(x.shape.rank) if axis is None else axis
    return tf.reverse(x, [axes] if isinstance(axes, int) else list(axes))


def moveaxis(x: Any, source: Any, destination: Any, /) -> Any:
    rank = x.shape.rank
    source, destination = (
        [k % rank for k in ([axes] if isinstance(axes, int) else axes)]
        for axes in (source, destination)
    )
    order = [k for k in range(rank) if k not in source]
    for to, at in sorted(zip(destination, source, strict=True)):
        order.insert(to, at)
    return tf.transpose(x, order)


def repeat(x: Any, repeats: Any, /, *, axis: int | None = None) -> Any:
    return tf.repeat(x, repeats, axis=axis)


def roll(x: Any, /, shift: Any, *, axis: Any = None) -> Any:
    if axis is None:
        return tf.reshape(tf.roll(tf.reshape(x, [-1]), shift, 0), tf.shape(x))
    return tf.roll(x, shift, axis)


def squeeze(x: Any, /, axis: Any) -> Any:
    return tf.squeeze(x, [axis] if isinstance(axis, int) else list(axis))


def tile(x: Any, repetitions: Any, /) -> Any:
    missing = len(repetitions) - x.shape.rank
    x = tf.reshape(x, tf.concat([[1] * missing, tf.shape(x)], 0)) if missing > 0 else x
    return tf.tile(x, [1] * -missing + list(repetitions))


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    return tuple(tf.unstack(x, axis=axis))


def tensordot(x: Any, y: Any, /, *, axes: Any = 2) -> Any:
    exact = tf.cast(x, tf.float64), tf.cast(y, tf.float64)  # as in `matmul`
    return (
        tf.cast(tf.tensordot(*exact, axes), x.dtype)
        if x.dtype.is_floating
        else tf.tensordot(x, y, axes)
    )


def vecdot(x: Any, y: Any, /, *, axis: int = -1) -> Any:
    return tf.reduce_sum(x * y, axis)


def searchsorted(x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> Any:
    x1 = x1 if sorter is None else tf.gather(x1, sorter)
    found = tf.searchsorted(x1, tf.reshape(x2, [-1]), side, tf.int64)
    return tf.reshape(found, tf.shape(x2))


def count_nonzero(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
    return tf.math.count_nonzero(x, axis, keepdims, tf.int64)


def sort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Any:
    return tf.sort(x, axis, "DESCENDING" if descending else "ASCENDING")


class _Unique(NamedTuple):
    values: Any
    indices: Any
    inverse_indices: Any
    counts: Any


class _Counted(NamedTuple):
    values: Any
    counts: Any


class _Inverted(NamedTuple):
    values: Any
    inverse_indices: Any


def unique_all(x: Any, /) -> _Unique:
    flat = tf.reshape(x, [-1])
    values, at, counts = tf.unique_with_counts(flat, tf.int64)
    order = tf.argsort(values, stable=True)
    place = tf.cast(tf.math.invert_permutation(order), tf.int64)
    first = tf.math.unsorted_segment_min(tf.range(tf.size(flat, tf.int64)), at, tf.size(values))
    values, first, counts = (tf.gather(y, order) for y in (values, first, counts))
    return _Unique(values, first, tf.reshape(tf.gather(place, at), tf.shape(x)), counts)


def unique_values(x: Any, /) -> Any:
    return unique_all(x).values


def unique_counts(x: Any, /) -> _Counted:
    return _Counted(unique_all(x).values, unique_all(x).counts)


def unique_inverse(x: Any, /) -> _Inverted:
    return _Inverted(unique_all(x).values, unique_all(x).inverse_indices)


def prod(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    return tf.reduce_prod(tf.cast(x, count_dtype(x, dtype)), axis, keepdims)


def var(x: Any, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    axes = list(range(x.shape.rank)) if axis is None else axis
    size = tf.reduce_prod(tf.gather(tf.shape(x), axes))
    off = x - tf.reduce_mean(x, axes, keepdims=True)
    return tf.reduce_sum(off * off, axes, keepdims) / (tf.cast(size, x.dtype) - correction)


def std(x: Any, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    return tf.sqrt(var(x, axis=axis, correction=correction, keepdims=keepdims))


def cumulative_prod(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Any:
    axis = 0 if axis is None else axis
    found = tf.math.cumprod(tf.cast(x, count_dtype(x, dtype)), axis)
    return (
        tf.concat([tf.ones_like(tf.gather(found, [0], axis=axis)), found], axis)
        if include_initial
        else found
    )


def diff(x: Any, /, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Any:
    x = tf.concat([y for y in (prepend, x, append) if y is not None], axis)
    for _ in range(n):
        at = tf.range(1, tf.shape(x)[axis])
        x = tf.gather(x, at, axis=axis) - tf.gather(x, at - 1, axis=axis)
    return x


def result_type(*arrays_and_dtypes: Any) -> Any:
    kinds = [x.dtype if tf.is_tensor(x) else x for x in arrays_and_dtypes]
    kinds = [x.as_numpy_dtype for x in kinds if isinstance(x, tf.DType)]
    return tf.as_dtype(__import__("numpy").result_type(*kinds))
