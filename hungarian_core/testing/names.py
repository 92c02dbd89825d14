"""The names of the Array API standard that `hungarian_core` calls: a namespace's checklist."""

NAMES = (
    "__array_namespace_info__", "abs", "all", "any", "argmax", "argmin", "argsort", "astype",
    "atan", "atan2", "bitwise_and", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift",
    "bitwise_xor", "bool", "broadcast_to", "concat", "cos", "cumulative_sum", "exp", "finfo",
    "float32", "float64", "floor", "int8", "int32", "isdtype", "isfinite", "isnan", "log", "log1p",
    "matmul", "max", "mean", "min", "minimum", "nonzero", "ones_like", "permute_dims", "reshape",
    "sin", "sqrt", "stack", "sum", "take", "take_along_axis", "tanh", "uint8", "where",
    "zeros_like",
)  # fmt: skip
