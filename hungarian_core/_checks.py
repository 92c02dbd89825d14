"""Every message that a user can cause, in one place."""

from __future__ import annotations

from typing import Any

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._minimise import INVALID

SOLVERS = ("auto", "native", "scipy", "core")
NAN_POLICIES = ("raise", "worst", "forbid")
REDUCTIONS = ("mean", "sum", "none", "sample")
FORMATS = ("cxcywh", "xyxy", "xywh")
FORMS = ("safe", "parity")


def one_of(name: str, value: Any, allowed: tuple[str, ...], otherwise: str = "") -> None:
    """Check that an option has one of its values; `otherwise` says what else it may be."""
    if not isinstance(value, str) or value not in allowed:
        choices = ", ".join(repr(a) for a in allowed)
        raise ValueError(
            f"{name} is {value!r}; expected one of {choices}{otherwise and ' '}{otherwise}"
        )


def real(name: str, x: Array, xp: Namespace) -> None:
    """Check that an array holds real numbers or booleans."""
    if not xp.isdtype(x.dtype, ("bool", "integral", "real floating")):
        raise ValueError(
            f"{name} has dtype {x.dtype}; expected a real floating, integer or bool dtype"
        )


def same(extent: Any, other: Any) -> bool:
    """Say whether two extents agree, as far as is known while tracing."""
    return not (isinstance(extent, int) and isinstance(other, int)) or extent == other


def cost_shape(shape: tuple[Any, ...]) -> None:
    """Check the number of axes of a cost array."""
    if len(shape) < 2:
        raise ValueError(
            f"cost has shape {shape}; expected (..., n, m): one row per truth, "
            "one column per prediction, any batch dimensions before"
        )


def mask(name: str, x: Array, shape: tuple[Any, ...], backend: Backend, xp: Namespace) -> None:
    """Check that a mask is boolean and has the expected shape."""
    if not xp.isdtype(x.dtype, "bool"):
        raise ValueError(f"{name} has dtype {x.dtype}; expected bool, True = valid")
    came = backend.shape(x)
    if len(came) != len(shape) or not all(same(a, b) for a, b in zip(came, shape, strict=True)):
        raise ValueError(f"{name} has shape {came}; expected {shape}")


def price_shape(came: tuple[Any, ...], shape: tuple[Any, ...]) -> None:
    """Check that unmatched_cost is a scalar, per sample or per row of `shape`."""
    batch, rows = shape[:-2], shape[:-1]
    for expected in ((), batch, rows):
        if len(came) == len(expected) and all(
            same(a, b) or a == 1 for a, b in zip(came, expected, strict=True)
        ):
            return
    raise ValueError(
        f"unmatched_cost has shape {came}; expected a scalar, one value per sample {batch} "
        f"or one value per row {rows}"
    )


def sets(true: tuple[Any, ...], pred: tuple[Any, ...]) -> None:
    """Check the shapes of y_true and y_pred against each other."""
    for name, came in (("y_true", true), ("y_pred", pred)):
        if len(came) != 3:
            raise ValueError(
                f"{name} has shape {came}; expected (batch_size, num_objects, num_features)"
            )
    if not (same(true[0], pred[0]) and same(true[2], pred[2])):
        raise ValueError(
            f"y_true has shape {true} and y_pred {pred}; expected equal batch_size and "
            "num_features (only num_objects may differ)"
        )


def boxes(name: str, shape: tuple[Any, ...]) -> None:
    """Check that the last axis of an array holds boxes."""
    if not shape or not same(shape[-1], 4):
        raise ValueError(
            f"{name} has shape {shape}; expected (..., 4): one box along the last axis"
        )


def paired(a: tuple[Any, ...], b: tuple[Any, ...], pairwise: bool) -> None:
    """Check that boxes of the shapes a and b can be compared."""
    if pairwise and (len(a) < 2 or len(b) < 2):
        raise ValueError(
            f"a has shape {a} and b {b}; expected (..., n, 4) and (..., m, 4) with pairwise=True"
        )
    kept = -2 if pairwise else -1
    for extent, other in zip(reversed(a[:kept]), reversed(b[:kept]), strict=False):
        if not (same(extent, other) or extent == 1 or other == 1):
            hint = "" if pairwise else "; pass pairwise=True to compare every box with every other"
            raise ValueError(
                f"a has shape {a} and b {b}; expected shapes that broadcast against each "
                f"other{' before the last two axes' if pairwise else ''}{hint}"
            )


def returned(name: str, came: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    """Check the shape of what a user's cost function returned."""
    if len(came) != 3 or not all(same(a, b) for a, b in zip(came, expected, strict=True)):
        raise ValueError(
            f"{name} returned shape {came}; expected {expected}: one row per true object, one "
            "column per prediction, the features reduced"
        )


def features(came: Any, slices: list[int]) -> None:
    """Check that the slices make up the last axis."""
    if not same(came, sum(slices)):
        raise ValueError(
            f"y_pred has {came} features and slices {slices} add up to {sum(slices)}; "
            "expected the slices to cover the last axis"
        )


def slices(sizes: Any, chosen: Any, losses: Any, weights: Any) -> None:
    """Check the arguments of HungarianLoss against each other."""
    if not isinstance(sizes, (list, tuple)) or not sizes:
        raise ValueError(
            f"slices is {sizes!r}; expected a list of sizes such as [4, 10] "
            "(4 box coordinates, 10 class scores)"
        )
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(f"slices is {sizes!r}; expected positive integers")
    if not isinstance(chosen, int) or not 0 <= chosen < len(sizes):
        raise ValueError(
            f"slice_index_to_compute_assignment is {chosen!r}; expected an index into "
            f"slices, 0 to {len(sizes) - 1}"
        )
    for name, given in (("slice_losses_fn", losses), ("slice_weights", weights)):
        if given is not None and (not isinstance(given, (list, tuple)) or len(given) != len(sizes)):
            raise ValueError(f"{name} is {given!r}; expected a list, one entry for each of {sizes}")
    for k, function in enumerate(losses or ()):
        if not callable(function):
            raise ValueError(
                f"slice_losses_fn[{k}] is {function!r}; expected a function f(y_true, y_pred)"
            )


def solved(status: Array, nan: str, backend: Backend, xp: Namespace) -> None:
    """Raise if a problem has NaN or -inf costs, or no finite matching; for concrete arrays only."""
    if not bool(xp.any(status != 0)):
        return
    invalid = status == INVALID
    if bool(xp.any(invalid)):
        remedy = (
            'pass nan="worst" to replace such entries'
            if nan == "forbid"
            else 'pass nan="worst" or nan="forbid" to go on without them'
        )
        raise ValueError(
            "matrix contains invalid numeric entries: NaN or -inf (+inf with maximize)"
            f"{_first(invalid, backend, xp)}; look for a diverged model or an overflow in "
            f"half precision, or {remedy}"
        )
    raise ValueError(
        f"cost matrix is infeasible: no complete matching avoids the +inf entries"
        f"{_first(status != 0, backend, xp)}; open some edges, or pass a finite unmatched_cost= "
        "so that rows may stay unmatched"
    )


def _first(flags: Array, backend: Backend, xp: Namespace) -> str:
    """Say which sample is the first where flags[...] holds."""
    batch = backend.shape(flags)
    if not batch:
        return ""
    flat = int(xp.argmax(xp.astype(xp.reshape(flags, (-1,)), xp.int8), axis=0))
    index: list[int] = []
    for extent in reversed(batch):
        flat, at = divmod(flat, extent)
        index.insert(0, at)
    where = index[0] if len(index) == 1 else tuple(index)
    return f" (first at batch index {where})"
