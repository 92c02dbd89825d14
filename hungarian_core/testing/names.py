"""The names of the Array API standard that `hungarian_core` calls: a namespace's checklist."""

NAMES = (
    "__array_namespace_info__", "abs", "all", "any", "argmax", "argmin", "argsort", "astype",
    "atan", "bool", "broadcast_to", "concat", "cumulative_sum", "finfo", "float32", "float64",
    "int8", "isdtype", "isfinite", "isnan", "max", "mean", "min", "minimum", "nonzero", "ones_like",
    "permute_dims", "reshape", "sqrt", "stack", "sum", "take", "take_along_axis", "uint8", "where",
    "zeros_like",
)  # fmt: skip
