"""Every message that a user can cause, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._extents import broadcastable, require_equal, same
from hungarian_core._options import array as array
from hungarian_core._options import flag as flag
from hungarian_core._options import is_number as is_number
from hungarian_core._options import is_whole as is_whole
from hungarian_core._options import meant, number, sequence, takes, whole
from hungarian_core._options import one_of as one_of
from hungarian_core._options import options as options
from hungarian_core._options import plain as plain
from hungarian_core._options import python_numbers as python_numbers
from hungarian_core._options import solver as solver
from hungarian_core._options import weight as weight
from hungarian_core._solvers.policies import INVALID, is_invalid

NAN_POLICIES = ("raise", "worst", "forbid")
REDUCTIONS = ("mean", "sum", "none", "sample")
FORMS = ("safe", "published")


def real(name: str, x: Array, xp: Namespace) -> None:
    """Check that an array holds real numbers or booleans."""
    if x.dtype == xp.float32:  # as it mostly is; the kinds of others take microseconds to find out
        return
    if not xp.isdtype(x.dtype, ("bool", "integral", "real floating")):
        hint = ": pass abs(...) or the real part" if xp.isdtype(x.dtype, "complex floating") else ""
        raise ValueError(
            f"{name} has dtype {x.dtype}; expected a real floating, integer or bool dtype{hint}"
        )


def integral(name: str, x: Array, xp: Namespace) -> None:
    """Check that an array holds integers."""
    if x.dtype == xp.int64:
        return
    if not xp.isdtype(x.dtype, "integral"):
        raise ValueError(f"{name} has dtype {x.dtype}; expected integers, one class per object")


def truth(name: str, given: Any) -> bool:
    """Return an option that is on or off, checked."""
    if not isinstance(given, bool):
        raise ValueError(f"{name} is {given!r}; expected True or False")
    return given


def key(name: str, given: Any) -> str:
    """Return the key of an array, checked."""
    if not isinstance(given, str) or not given:
        raise ValueError(f"{name} is {given!r}; expected a name, such as 'boxes'")
    return given


def pair_of_keys(given: Any) -> tuple[str, str]:
    """Return the keys of what targets and outputs have, given as two names or as one for both."""
    pair = (given, given) if isinstance(given, str) else given
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and all(pair)) or not all(
        isinstance(name, str) for name in pair
    ):
        raise ValueError(
            f"on is {given!r}; expected two names, (of the targets, of the outputs), or one for "
            "both"
        )
    return pair[0], pair[1]


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
        raise ValueError(
            f"{name} has dtype {x.dtype}; expected bool, True = valid: pass the result of a "
            "comparison, such as mask != 0"
        )
    came = backend.shape(x)
    if len(came) != len(shape) or not all(same(a, b) for a, b in zip(came, shape, strict=True)):
        hint = "; masks are not broadcast" if broadcastable(came, shape) else ""
        raise ValueError(f"{name} has shape {came}; expected {shape}, one entry each{hint}")
    require_equal(name, came, shape)


def unmatched_cost_shape(came: tuple[Any, ...], shape: tuple[Any, ...]) -> None:
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


def partial(came: Any, unmatched_cost: Any) -> bool:
    """Return whether a matching may be partial, which is another thing than one with a price."""
    found = flag("partial", came)
    if found and unmatched_cost is not None:
        raise ValueError(
            "partial is True, and unmatched_cost is given; expected one of them: partial matches "
            "as many pairs as there can be, unmatched_cost only those that cost less than it"
        )
    return found


def fits(name: str, too_large: Array, dtype: Any, xp: Namespace) -> None:
    """Raise if numbers became infinite in the dtype of what they go with; concrete arrays only."""
    if bool(xp.any(too_large)):
        raise ValueError(
            f"{name} holds finite numbers that do not fit into {dtype}, the dtype of cost; pass "
            "costs in float64, or smaller numbers, or inf"
        )


def given(name: str, x: Any, axes: tuple[str, ...]) -> None:
    """Check that what came for an array is none of what is no array and passes for one."""
    if x is None or isinstance(x, (str, bytes, Mapping)):
        came = "None" if x is None else f"a {type(x).__name__}"
        if isinstance(x, Mapping):
            came += f" with the keys {', '.join(sorted(map(repr, x)))}"
        raise TypeError(f"{name} is {came}; expected an array ({', '.join(axes)})")


def sets(
    true: tuple[Any, ...],
    pred: tuple[Any, ...],
    names: tuple[str, str],
    axes: tuple[str, str, str],
) -> None:
    """Check the shapes of two sets against each other; the sets and their axes have names."""
    for name, came in zip(names, (true, pred), strict=True):
        if len(came) != 3:
            hint = f"; for one sample pass {name}[None, ...]" if len(came) == 2 else ""
            raise ValueError(f"{name} has shape {came}; expected ({', '.join(axes)}){hint}")
    if not (same(true[0], pred[0]) and same(true[2], pred[2])):
        swapped = same(true[0], pred[0]) and same(true[1], pred[2]) and same(true[2], pred[1])
        hint = f"; are {axes[1]} and {axes[2]} swapped in one of them?" if swapped else ""
        raise ValueError(
            f"{names[0]} has shape {true} and {names[1]} {pred}; expected equal {axes[0]} and "
            f"{axes[2]} (only {axes[1]} may differ){hint}"
        )
    what = f"{axes[0]} and {axes[2]} of {names[0]} and {names[1]}"
    require_equal(what, (true[0], true[2]), (pred[0], pred[2]))


def classes(labels: tuple[Any, ...], logits: tuple[Any, ...]) -> None:
    """Check the shapes of labels and logits against each other."""
    batches = zip(labels[:-1], logits[:-2], strict=False)
    if len(labels) != len(logits) - 1 or len(logits) < 2 or not all(same(a, b) for a, b in batches):
        raise ValueError(
            f"labels has shape {labels} and logits {logits}; expected (..., n) and (..., m, C) "
            "with equal batch dimensions"
        )
    require_equal("batch dimensions of labels and logits", labels[:-1], logits[:-2])


def labels(outside: Array, given: Array, expected: str, backend: Backend, xp: Namespace) -> None:
    """Raise if a label `(..., n)` is out of range; for concrete arrays only."""
    if bool(xp.any(outside)):
        wrong = xp.where(outside, given, 0)
        low, high = int(xp.min(wrong)), int(xp.max(wrong))
        first = place(xp.any(outside, axis=-1), backend, xp)
        raise ValueError(f"labels holds {low if low < 0 else high}{first}; expected {expected}")


def terms(given: Any, names: tuple[str, ...]) -> None:
    """Check the terms of a weighted sum."""
    if not isinstance(given, Mapping) or not given:
        raise ValueError(
            f"terms is {given!r}; expected a mapping such as {{'bbox': (5.0, 'l1', 'boxes')}}"
        )
    wanted = (
        "expected (weight, function) or (weight, function, key), the function f(truth, prediction) "
        f"or one of {', '.join(map(repr, names))}"
    )
    for name, term in given.items():
        what = f"terms[{name!r}]"
        if not isinstance(term, (tuple, list)) or len(term) not in (2, 3):
            raise ValueError(f"{what} is {term!r}; {wanted}")
        weight, function, *keys = term
        if callable(weight) or isinstance(weight, str):
            raise ValueError(f"{what} is {term!r}; {wanted}")
        number(f"the weight of {what}", weight)
        if isinstance(function, str) and function not in names:
            raise ValueError(f"{what} is {term!r}; {wanted}{meant(function, names)}")
        if not isinstance(function, str) and not callable(function):
            raise ValueError(f"{what} is {term!r}; {wanted}")
        if callable(function):
            takes(f"the function of {what}", function, 2, "(truth, prediction)")
        for key in keys:
            pair = isinstance(key, (tuple, list)) and len(key) == 2
            if not (key is None or isinstance(key, str) or pair):
                raise ValueError(
                    f"the key of {what} is {key!r}; expected a key, a pair of keys or None"
                )


def term(name: str, key: Any, side: str, given: Any) -> None:
    """Check that truth or prediction has what a term of a weighted sum compares."""
    if not hasattr(given, "__getitem__") or hasattr(given, "shape"):
        raise TypeError(
            f"terms[{name!r}] compares {key!r}, and {side} is a {type(given).__name__}; expected a "
            f"mapping with the key {key!r}"
        )
    if isinstance(given, Mapping) and key not in given:
        known = [str(k) for k in given]
        raise ValueError(
            f"terms[{name!r}] compares {key!r}, and {side} has the keys {known}{meant(key, known)}"
        )


def features_of(name: str, truth: tuple[Any, ...], prediction: tuple[Any, ...]) -> None:
    """Check that the features that a term compares by name are as many."""
    if min(len(truth), len(prediction)) < 2 or not same(truth[-1], prediction[-1]):
        raise ValueError(
            f"terms[{name!r}] compares truth of shape {truth} and prediction {prediction}; "
            "expected (..., n, d) and (..., m, d)"
        )
    require_equal(f"features of terms[{name!r}]", truth[-1:], prediction[-1:])


def returned(name: str, came: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    """Check the shape of what a user's cost function returned."""
    if len(came) != 3 or not all(same(a, b) for a, b in zip(came, expected, strict=True)):
        raise ValueError(
            f"{name} returned shape {came}; expected {expected}: one row per true object, one "
            "column per prediction, the features reduced"
        )
    require_equal(f"what {name} returned", came, expected)


def features(came: Any, slices: list[int]) -> None:
    """Check that the slices make up the last axis."""
    if not same(came, sum(slices)):
        raise ValueError(
            f"y_pred has {came} features and slices {slices} add up to {sum(slices)}; "
            "expected the slices to cover the last axis"
        )
    require_equal("features of y_pred and the sum of slices", (came,), (sum(slices),))


def positive(name: str, *values: Any) -> None:
    """Check that an option is a positive number, or some of them."""
    for value in values:
        if number(name, value, "positive numbers") <= 0:
            raise ValueError(f"{name} has {value!r}; expected positive numbers")


def numbers(cost: str, came: Any, expected: int, what: str, times: bool = False) -> None:
    """Check that vectors hold the numbers that a cost reads, or some `times` as many."""
    if isinstance(came, int) and (came % expected if times else came != expected):
        raise ValueError(
            f"the cost {cost!r} got vectors of {came} numbers; expected "
            f"{'a multiple of ' if times else ''}{expected}: {what}"
        )
    wanted = 0 if times else expected
    require_equal(f"numbers of cost {cost!r}", (came % expected if times else came,), (wanted,))


def slices(sizes: Any, chosen: Any, losses: Any, weights: Any) -> None:
    """Check the arguments of HungarianLoss against each other."""
    if not sequence(sizes) or not len(sizes):
        raise ValueError(
            f"slices is {sizes!r}; expected a list of sizes such as [4, 10] "
            "(4 box coordinates, 10 class scores)"
        )
    for size in sizes:
        try:
            whole("slices", size, 1, "positive integers")
        except ValueError:
            raise ValueError(f"slices is {sizes!r}; expected positive integers") from None
    what = f"an index into slices, 0 to {len(sizes) - 1}"
    if whole("slice_index_to_compute_assignment", chosen, 0, what) >= len(sizes):
        raise ValueError(f"slice_index_to_compute_assignment is {chosen!r}; expected {what}")
    for name, given in (("slice_losses_fn", losses), ("slice_weights", weights)):
        if given is not None and (not sequence(given) or len(given) != len(sizes)):
            raise ValueError(f"{name} is {given!r}; expected a list, one entry for each of {sizes}")
    for k, function in enumerate(losses or ()):
        if not callable(function):
            raise ValueError(
                f"slice_losses_fn[{k}] is {function!r}; expected a function f(y_true, y_pred)"
            )
        if getattr(function, "reduction", None) == "sum":
            raise ValueError(
                f"slice_losses_fn[{k}] adds up the losses of all pairs, of which one value is not "
                "that of a pair; make it with reduction='none' (reduction=None in Keras)"
            )


def raise_unless_solved(
    status: Array | None,
    nan: str,
    backend: Backend,
    xp: Namespace,
    *,
    unmatched_cost: Array | None = None,
    rows: Array | None = None,
    maximize: bool = False,
) -> None:
    """Raise if a problem has NaN or -inf costs, or no finite matching, where that can be read.

    A status of None says that all are solved. `unmatched_cost[..., n]`, where there is one, is
    looked at among the valid rows, to tell whether it is at fault.
    """
    if status is None or not backend.readable(status) or not bool(xp.any(status != 0)):
        return
    invalid = status == INVALID
    if bool(xp.any(invalid)):
        if unmatched_cost is not None:
            failed = is_invalid(-unmatched_cost if maximize else unmatched_cost, xp)
            failed = xp.any(failed if rows is None else failed & rows, axis=-1)
            if bool(xp.any(failed)):
                raise ValueError(
                    f"matrix contains invalid numeric entries: unmatched_cost is NaN or "
                    f"{'+' if maximize else '-'}inf{place(failed, backend, xp)}; expected a "
                    f"price for each valid row, {'-' if maximize else '+'}inf for one that must be "
                    "matched; nan= is about costs only"
                )
        remedy = (
            'pass nan="worst" to replace such entries'
            if nan == "forbid"
            else 'pass nan="worst" or nan="forbid" to go on without them'
        )
        raise ValueError(
            "matrix contains invalid numeric entries: NaN or -inf (+inf with maximize)"
            f"{place(invalid, backend, xp)}; look for a diverged model or an overflow in "
            f"half precision, or {remedy}"
        )
    way_out = (
        "look for an overflow, or let rows stay unmatched, as `assign` does at an unmatched_cost= "
        "or, where they have to, with partial=True"
        if unmatched_cost is None
        else "or make unmatched_cost finite, so that rows may stay unmatched"
    )
    raise ValueError(
        f"cost matrix is infeasible: no complete matching avoids the +inf entries"
        f"{place(status != 0, backend, xp)}; open some edges, {way_out}"
    )


def place(flags: Array, backend: Backend, xp: Namespace) -> str:
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
