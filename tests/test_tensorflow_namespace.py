"""The namespace that TensorFlow needs: what each function computes is what NumPy does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf: Any = pytest.importorskip("tensorflow", reason="for TensorFlow")
hf: Any = pytest.importorskip("hungarian_tensorflow", reason="for TensorFlow")

COST = np.random.default_rng(0).uniform(size=(2, 3, 5))
X = np.array([[1.5, -2.5, 0.0], [2.5, -0.5, 3.0]])
Y = np.array([[2.0, 0.5, -1.0], [-1.0, 3.0, 2.5]])
K = np.array([[7, -7, 0], [2, 2, -5]])
UNIT, POSITIVE = X / 4, np.abs(X) + 0.25

# name: the arguments, and options; NumPy has the same function, or the one that follows.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(
        ["abs", "ceil", "cos", "cosh", "exp", "expm1", "floor", "negative", "positive", "round"],
        (X,),
    ),
    **dict.fromkeys(["sign", "signbit", "sin", "sinh", "square", "tan", "tanh", "trunc"], (X,)),
    **dict.fromkeys(["acos", "asin", "atan", "atanh"], (UNIT,)),
    **dict.fromkeys(["asinh", "isfinite", "isinf", "isnan"], (X,)),
    **dict.fromkeys(["log", "log10", "log1p", "log2", "reciprocal", "sqrt"], (POSITIVE,)),
    "acosh": (POSITIVE + 1,),
    "bitwise_invert": (K,),
    **dict.fromkeys(["add", "atan2", "copysign", "divide", "floor_divide", "hypot"], (X, Y)),
    **dict.fromkeys(["logaddexp", "maximum", "minimum", "multiply", "nextafter"], (X, Y)),
    **dict.fromkeys(["remainder", "subtract"], (X, Y)),
    **dict.fromkeys(["equal", "greater", "greater_equal", "less", "less_equal"], (K, 2)),
    "not_equal": (K, 2),
    **dict.fromkeys(["logical_and", "logical_or", "logical_xor"], (X > 0, Y > 0)),
    "logical_not": (X > 0,),
    "pow": (POSITIVE, Y),
    "clip": (X, -1.0, 2.0),
    "where": (X > 0, X, Y),
    "broadcast_arrays": (X, Y[:1]),
    "concat": ([X, Y], {"axis": 1}),
    "expand_dims": (X, {"axis": 1}),
    "flip": (X, {"axis": -1}),
    "moveaxis": (COST, 0, -1),
    "permute_dims": (COST, (2, 0, 1)),
    "repeat": (X, 2, {"axis": 1}),
    "roll": (X, 1, {"axis": 1}),
    "squeeze": (X[:, None], 1),
    "stack": ([X, Y], {"axis": 1}),
    "tile": (X, (2, 1, 2)),
    "unstack": (X, {"axis": 1}),
    "argsort": (X, {"axis": 1}),
    "sort": (X, {"axis": 1}),
    "argmax": (X,),
    "argmin": (X, {"axis": 1, "keepdims": True}),
    "count_nonzero": (X, {"axis": 1}),
    "nonzero": (X,),
    "searchsorted": (np.sort(X[0]), Y),
    "take": (X, np.array([1, 0]), {"axis": 1}),
    "take_along_axis": (X, np.array([[1], [0]]), {"axis": 1}),
    "unique_counts": (K,),
    "unique_inverse": (K,),
    "unique_all": (K,),
    "cumulative_prod": (X, {"axis": 1}),
    "cumulative_sum": (X, {"axis": 1, "include_initial": True}),
    "max": (X, {"axis": 1}),
    "mean": (X, {"axis": 0}),
    "min": (X,),
    "prod": (X, {"axis": 1}),
    "std": (X, {"axis": 1}),
    "sum": (K, {"axis": 1, "keepdims": True}),
    "var": (X,),
    "all": (X > -1, {"axis": 1}),
    "any": (X > 2, {"axis": 1}),
    "diff": (X, {"axis": 1}),
    "matmul": (X, Y.T),
    "matrix_transpose": (COST,),
    "tensordot": (X, Y.T, {"axes": 1}),
    "vecdot": (X, Y),
    "arange": (2, 9, 3),
    "eye": (3, 4, {"k": 1}),
    "full": ((2, 3), 1.5),
    "full_like": (X, 2.5),
    "linspace": (0.0, 1.0, 5),
    "meshgrid": (X[0], Y[:, 0]),
    "ones": ((2, 3),),
    "ones_like": (X,),
    "tril": (X,),
    "triu": (COST, {"k": 1}),
    "zeros": ((2,),),
    "zeros_like": (X,),
}


def _tensors(x: Any) -> Any:
    if isinstance(x, list):
        return [_tensors(y) for y in x]
    return tf.constant(x) if isinstance(x, np.ndarray) else x


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_namespace_is_that_of_numpy(name: str) -> None:
    xp = hf.backend.namespace()
    *arguments, options = (
        FUNCTIONS[name] if isinstance(FUNCTIONS[name][-1], dict) else (*FUNCTIONS[name], {})
    )
    expected = getattr(np, name)(*arguments, **options)
    eager = getattr(xp, name)(*map(_tensors, arguments), **options)
    traced = tf.function(lambda: getattr(xp, name)(*map(_tensors, arguments), **options))()
    for found in (eager, traced):
        many = isinstance(expected, (tuple, list))
        pairs = zip(found, expected, strict=True) if many else ((found, expected),)
        for a, b in pairs:
            assert tuple(a.shape) == np.shape(b)
            kinds = np.asarray(a).dtype.kind, np.asarray(b).dtype.kind
            assert kinds[0] == kinds[1]
            np.testing.assert_allclose(np.asarray(a), b, rtol=1e-6, atol=1e-12)


def test_every_function_of_the_namespace_is_tested() -> None:
    from hungarian_tensorflow import _standard

    own = {x for x in vars(_standard) if not x.startswith("_") and callable(getattr(_standard, x))}
    untested = {
        "unique_values",
        "asarray",
        "conj",
        "empty",
        "empty_like",
        "imag",
        "real",
        "result_type",
    }
    assert {
        x for x in own if not isinstance(getattr(_standard, x), tf.DType)
    } - _standard.MISSING - untested <= set(FUNCTIONS)


def test_a_missing_name_is_told() -> None:
    xp = hf.backend.namespace()
    with pytest.raises(AttributeError, match="'isin' is not in the namespace"):
        xp.isin  # noqa: B018  (what looking it up does)
    assert not hasattr(xp, "math")
