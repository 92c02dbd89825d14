"""What the functions of the namespace share."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager.context import context
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

# Tensors without one shape and a value for each entry, and what to do.
_DENSE = {
    "SparseTensor": "tf.sparse.to_dense(x), with +inf, not 0, where a pair is forbidden",
    "RaggedTensor": "x.to_tensor(), and which entries are valid as a mask",
}


def dense(x: Any) -> Any:
    """Return `x`, a tensor of an ordinary kind."""
    if instead := _DENSE.get(type(x).__name__):
        raise ValueError(f"a {type(x).__name__} came; expected a dense one: pass {instead}")
    return x


@contextlib.contextmanager
def unwatched() -> Iterator[None]:
    """Run operations unseen by callbacks, such as those of `tf.debugging.enable_check_numerics`.

    An infinity that marks what cannot be chosen is none that a check should find. What is computed
    from the user's numbers stays watched.
    """
    state: Any = context()
    callbacks = tuple(state.op_callbacks)
    for callback in callbacks:
        state.remove_op_callback(callback)
    try:
        yield
    finally:
        for callback in callbacks:
            state.add_op_callback(callback)


def align(x: Any, y: Any) -> tuple[Any, Any]:
    """Give a Python scalar the dtype of the other operand."""
    if tf.is_tensor(x) and tf.is_tensor(y):
        return x, y
    with unwatched():
        if not tf.is_tensor(x):
            x = tf.convert_to_tensor(x, y.dtype if tf.is_tensor(y) else None)
        return x, y if tf.is_tensor(y) else tf.convert_to_tensor(y, x.dtype)


def count_dtype(x: Any, dtype: Any = None) -> Any:
    """Return the dtype that sums and products of `x` have."""
    if dtype is not None:
        return dtype
    return tf.int64 if x.dtype.is_integer and x.dtype.size < 8 else x.dtype


def extents(shape: Any) -> Any:
    """Return a shape of ints and scalar tensors as TensorFlow takes it."""
    shape = (shape,) if isinstance(shape, int) else shape
    if all(isinstance(extent, int) for extent in shape):
        return shape
    return tf.stack([tf.cast(extent, tf.int64) for extent in shape])


def shape(x: tf.Tensor) -> tuple[Any, ...]:
    """Return the shape of a tensor, with a scalar tensor for each extent that is unknown."""
    if x.shape.is_fully_defined():
        return tuple(x.shape)
    if x.shape.rank is None:
        raise ValueError(f"a tensor of unknown rank came ({x}); set its rank with ensure_shape")
    dynamic = tf.shape(x, out_type=tf.int64)
    return tuple(dynamic[k] if s is None else s for k, s in enumerate(x.shape))


def in_xla() -> bool:
    """Say whether the graph that is being made is for XLA."""
    return bool(GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


def require_equal(what: str, came: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    """Have a graph fail when it runs if extents differ; see `Backend.require_equal`.

    A graph runs an assertion although nothing comes of it. XLA leaves it out, but not what it
    asserts, and knows all extents when it compiles: there a reshape that does not fit is an error,
    which says no more than the name of its node.
    """
    a, b = (tf.cast(extents(side), tf.int32) for side in (came, expected))
    fits = tf.reduce_all(tf.equal(a, b))
    if in_xla():
        name = "expected_equal_" + re.sub(r"\W+", "_", what)
        for x, y in zip(tf.unstack(a), tf.unstack(b), strict=True):
            fits = fits & tf.reduce_all(tf.reshape(tf.fill([x], True), [y], name=name))
    tf.debugging.Assert(fits, [f"hungarian_core: {what}: the extents", a, "came; expected", b])


def take_of_rows(x: tf.Tensor, indices: tf.Tensor, axis: int) -> tf.Tensor:
    """Take along an axis of known extents, by one index into all rows.

    The gradient of that is one sum, and of `tf.gather(batch_dims=...)` a score of operations on
    shapes.
    """
    lead, extent, rest = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    rows = math.prod(lead)
    first = tf.constant(np.arange(rows)[:, None] * extent, indices.dtype)
    flat = tf.reshape(tf.reshape(indices, [rows, -1]) + first, [-1])
    found = tf.gather(tf.reshape(x, [rows * extent, *rest]), flat)
    return tf.reshape(found, [*lead, indices.shape[axis], *rest])
