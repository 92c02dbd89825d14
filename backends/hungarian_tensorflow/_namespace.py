"""The Array API standard (2024.12) over TensorFlow, which array-api-compat has not.

Here is what `hungarian_core` and its costs call; the rest of the standard is in `_standard`.
"""

from __future__ import annotations

import builtins
from typing import Any

import ml_dtypes
import tensorflow as tf

from hungarian_tensorflow import _standard
from hungarian_tensorflow._arrays import align as _align
from hungarian_tensorflow._arrays import count_dtype as _count_dtype
from hungarian_tensorflow._arrays import extents as _extents
from hungarian_tensorflow._arrays import take_of_rows as _take_of_rows
from hungarian_tensorflow._arrays import unwatched

# Names of the standard shadow builtins here.
# ruff: noqa: A001, A002

float16, bfloat16, float32, float64 = tf.float16, tf.bfloat16, tf.float32, tf.float64
int8, int16, int32, int64 = tf.int8, tf.int16, tf.int32, tf.int64
uint8, bool = tf.uint8, tf.bool
inf, nan, pi, e = float("inf"), float("nan"), 3.141592653589793, 2.718281828459045
newaxis = None

_FLOATS = {"float32": tf.float32, "float64": tf.float64}
_KINDS = {
    "bool": lambda d: d.is_bool,
    "integral": lambda d: d.is_integer,
    "signed integer": lambda d: d.is_integer and not d.is_unsigned,
    "unsigned integer": lambda d: d.is_integer and d.is_unsigned,
    "real floating": lambda d: d.is_floating,
    "complex floating": lambda d: d.is_complex,
    "numeric": lambda d: d.is_integer or d.is_floating or d.is_complex,
}


class __array_namespace_info__:  # noqa: N801  (the standard's name)
    """The inspection functions that the core asks for."""

    def default_dtypes(self, *, device: Any = None) -> dict[str, Any]:
        return {"real floating": tf.float32, "integral": tf.int32, "indexing": tf.int64}

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, Any]:
        return _FLOATS if kind == "real floating" else {**_FLOATS, "bool": tf.bool}


class finfo:  # noqa: N801  (as above)
    """Limits of a floating dtype."""

    def __init__(self, dtype: Any) -> None:
        limits: Any = ml_dtypes.finfo(dtype.as_numpy_dtype)
        self.bits, self.dtype = limits.bits, dtype
        self.max, self.min, self.eps, self.smallest_normal = map(
            float, (limits.max, limits.min, limits.eps, limits.smallest_normal)
        )


class iinfo:  # noqa: N801  (as above)
    """Limits of an integer dtype."""

    def __init__(self, dtype: Any) -> None:
        self.bits, self.max, self.min, self.dtype = dtype.size * 8, dtype.max, dtype.min, dtype


def isdtype(dtype: Any, kind: Any) -> builtins.bool:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return builtins.any(_KINDS[k](dtype) if isinstance(k, str) else dtype == k for k in kinds)


def astype(x: Any, dtype: Any, /, *, copy: builtins.bool = True) -> Any:
    return tf.cast(x, dtype)


def abs(x: Any, /) -> Any:
    return tf.abs(x)


def all(x: Any, /, *, axis: Any = None, keepdims: builtins.bool = False) -> Any:
    return tf.reduce_all(tf.cast(x, tf.bool), axis=axis, keepdims=keepdims)


def any(x: Any, /, *, axis: Any = None, keepdims: builtins.bool = False) -> Any:
    return tf.reduce_any(tf.cast(x, tf.bool), axis=axis, keepdims=keepdims)


def argmax(x: Any, /, *, axis: Any = None, keepdims: builtins.bool = False) -> Any:
    return _place(tf.argmax, x, axis, keepdims)


def argmin(x: Any, /, *, axis: Any = None, keepdims: builtins.bool = False) -> Any:
    return _place(tf.argmin, x, axis, keepdims)


def _place(function: Any, x: Any, axis: Any, keepdims: builtins.bool) -> Any:
    if axis is None:
        found = function(tf.reshape(x, [-1]), axis=0, output_type=tf.int64)
        return tf.reshape(found, [1] * x.shape.rank) if keepdims else found
    found = function(x, axis=axis, output_type=tf.int64)
    return tf.expand_dims(found, axis) if keepdims else found


def argsort(
    x: Any, /, *, axis: int = -1, descending: builtins.bool = False, stable: builtins.bool = True
) -> Any:
    direction = "DESCENDING" if descending else "ASCENDING"
    return tf.cast(tf.argsort(x, axis=axis, direction=direction, stable=stable), tf.int64)


def atan(x: Any, /) -> Any:
    return tf.atan(x)


def atan2(x: Any, y: Any, /) -> Any:
    return tf.atan2(x, y)


def bitwise_and(x: Any, y: Any, /) -> Any:
    return tf.bitwise.bitwise_and(*_align(x, y))


def bitwise_left_shift(x: Any, y: Any, /) -> Any:
    return tf.bitwise.left_shift(*_align(x, y))


def bitwise_or(x: Any, y: Any, /) -> Any:
    return tf.bitwise.bitwise_or(*_align(x, y))


def bitwise_right_shift(x: Any, y: Any, /) -> Any:
    return tf.bitwise.right_shift(*_align(x, y))


def bitwise_xor(x: Any, y: Any, /) -> Any:
    return tf.bitwise.bitwise_xor(*_align(x, y))


def broadcast_to(x: Any, /, shape: Any) -> Any:
    return tf.broadcast_to(x, _extents(shape))


def concat(arrays: Any, /, *, axis: int | None = 0) -> Any:
    if axis is None:
        return tf.concat([tf.reshape(x, [-1]) for x in arrays], axis=0)
    return tf.concat(arrays, axis=axis)


def cos(x: Any, /) -> Any:
    return tf.cos(x)


def cumulative_sum(
    x: Any, /, *, axis: Any = None, dtype: Any = None, include_initial: builtins.bool = False
) -> Any:
    axis = 0 if axis is None else axis
    found = tf.cumsum(tf.cast(x, _count_dtype(x, dtype)), axis=axis)
    if not include_initial:
        return found
    first = tf.zeros_like(tf.reduce_sum(found, axis=axis, keepdims=True))
    return tf.concat([first, found], axis=axis)


def exp(x: Any, /) -> Any:
    return tf.exp(x)


def floor(x: Any, /) -> Any:
    return x if x.dtype.is_integer else tf.floor(x)


def round(x: Any, /) -> Any:
    return x if x.dtype.is_integer else tf.round(x)


def isfinite(x: Any, /) -> Any:
    return tf.math.is_finite(x)


def isnan(x: Any, /) -> Any:
    return tf.math.is_nan(x)


def log(x: Any, /) -> Any:
    return tf.math.log(x)


def log1p(x: Any, /) -> Any:
    return tf.math.log1p(x)


def matmul(x: Any, y: Any, /) -> Any:
    """Multiply in float64, and so do the gradients.

    TensorFlow has no argument for the precision of a product. TF32 on GPUs, bfloat16 by oneDNN, and
    rewriters of graphs to half precision take float32 for theirs, and where a graph will run is not
    known when it is traced.
    """
    if x.dtype != tf.float32 or y.dtype != tf.float32:
        return _matmul(x, y)
    return tf.cast(_matmul(tf.cast(x, tf.float64), tf.cast(y, tf.float64)), tf.float32)


def _matmul(x: Any, y: Any) -> Any:
    if x.shape.rank > 1 and y.shape.rank > 1:
        return tf.matmul(x, y)
    product = tf.matmul(
        x[None, :] if x.shape.rank == 1 else x, y[:, None] if y.shape.rank == 1 else y
    )
    axes = [k for k, z in ((-2, x), (-1, y)) if z.shape.rank == 1]
    return tf.squeeze(product, axes)


def max(x: Any, /, *, axis: Any = None, keepdims: builtins.bool = False) -> Any:
    with unwatched():
        return tf.reduce_max(x, axis=axis, keepdims=keepdims)


def maximum(x: Any, y: Any, /) -> Any:
    return tf.maximum(*_align(x, y))


def mean(x: Any, /, *, axis: Any = None, keepdims: builtins.bool = False) -> Any:
    return tf.reduce_mean(x, axis=axis, keepdims=keepdims)


def min(x: Any, /, *, axis: Any = None, keepdims: builtins.bool = False) -> Any:
    with unwatched():
        return tf.reduce_min(x, axis=axis, keepdims=keepdims)


def minimum(x: Any, y: Any, /) -> Any:
    return tf.minimum(*_align(x, y))


def nonzero(x: Any, /) -> tuple[Any, ...]:
    return tuple(tf.unstack(tf.where(x), num=x.shape.rank, axis=1))


def ones_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Any:
    return tf.ones_like(x, dtype=dtype)


def permute_dims(x: Any, /, axes: Any) -> Any:
    return tf.transpose(x, axes)


def reshape(x: Any, /, shape: Any) -> Any:
    return tf.reshape(x, _extents(shape))


def sin(x: Any, /) -> Any:
    return tf.sin(x)


def sqrt(x: Any, /) -> Any:
    return tf.sqrt(x)


def stack(arrays: Any, /, *, axis: int = 0) -> Any:
    return tf.stack(arrays, axis=axis)


def sum(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: builtins.bool = False) -> Any:
    return tf.reduce_sum(tf.cast(x, _count_dtype(x, dtype)), axis=axis, keepdims=keepdims)


def take(x: Any, indices: Any, /, *, axis: int = 0) -> Any:
    return tf.gather(x, indices, axis=axis)


def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> Any:
    rank = x.shape.rank
    axis %= rank
    lead = zip(x.shape[:axis], indices.shape[:axis], strict=True)
    stretched = builtins.any((a == 1) != (b == 1) for a, b in lead)
    if not stretched and builtins.all(extent == 1 for extent in indices.shape[axis + 1 :]):
        if x.shape.is_fully_defined() and indices.shape.is_fully_defined():
            return _take_of_rows(x, indices, axis)
        flat = tf.reshape(indices, tf.shape(indices)[: axis + 1])
        return tf.gather(x, flat, axis=axis, batch_dims=axis)
    order = [*(k for k in range(rank) if k != axis), axis]
    x, indices = tf.transpose(x, order), tf.transpose(indices, order)
    lead = tf.broadcast_dynamic_shape(tf.shape(x)[:-1], tf.shape(indices)[:-1])
    x = tf.broadcast_to(x, tf.concat([lead, tf.shape(x)[-1:]], 0))
    indices = tf.broadcast_to(indices, tf.concat([lead, tf.shape(indices)[-1:]], 0))
    found = tf.gather(x, indices, batch_dims=rank - 1)
    return tf.transpose(found, [order.index(k) for k in range(rank)])


def tanh(x: Any, /) -> Any:
    return tf.tanh(x)


def where(condition: Any, x: Any, y: Any, /) -> Any:
    x, y = _align(x, y)
    with unwatched():
        return tf.where(condition, x, y)


def zeros_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Any:
    return tf.zeros_like(x, dtype=dtype)


def clip(x: Any, /, min: Any = None, max: Any = None) -> Any:
    x = x if min is None else maximum(x, min)
    return x if max is None else minimum(x, max)


def expand_dims(x: Any, /, *, axis: int = 0) -> Any:
    return tf.expand_dims(x, axis)


def pow(x: Any, y: Any, /) -> Any:
    return tf.pow(*_align(x, y))


def square(x: Any, /) -> Any:
    return tf.square(x)


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name in _standard.MISSING or not hasattr(_standard, name):
        raise AttributeError(
            f"{name!r} is not in the namespace that hungarian_core gives TensorFlow, which has "
            "functions of the Array API standard; call TensorFlow's own"
        )
    return getattr(_standard, name)
