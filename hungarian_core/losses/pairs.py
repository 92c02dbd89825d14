"""What every loss of matched pairs does before and after the matching.

Before: check the two sets and bring them to the dtype to compute in. After: gather the matched
predictions, which is the only way back for gradients, and reduce the losses of the pairs.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import solving_dtype
from hungarian_core._tracing import level_of_caller
from hungarian_core.assignment import Assignment

Reduction = Literal["mean", "sum", "none", "sample"]

AXES = ("batch_size", "num_objects", "num_features")


class Sets(NamedTuple):
    """Two sets, checked and in the dtype to compute in."""

    true: Array  # [B, n, d]
    pred: Array  # [B, m, d]
    mask: Array | None  # [B, n] bool
    pred_mask: Array | None  # [B, m] bool
    dtype: Any  # of the result


def checked_sets(
    y_true: Array,
    y_pred: Array,
    mask: Array | None,
    pred_mask: Array | None,
    backend: Backend,
    *,
    names: tuple[str, str, str] = ("y_true", "y_pred", "pred_mask"),
    axes: tuple[str, str, str] = AXES,
) -> Sets:
    """Return the checked inputs in the dtype to compute in, and the dtype of the result.

    `names` are what the user calls the two sets and the mask of the predictions, and `axes` those
    of the sets, for messages.
    """
    y_pred = backend.asarray(y_pred)
    y_true = backend.asarray(y_true, like=y_pred)
    xp = backend.namespace(y_true, y_pred)
    shape_true, shape_pred = backend.shape(y_true), backend.shape(y_pred)
    _checks.sets(shape_true, shape_pred, names[:2], axes)
    _checks.real(names[0], y_true, xp)
    _checks.real(names[1], y_pred, xp)
    if not backend.is_traced(y_pred):
        warn_if_swapped(y_true, y_pred, names[:2])
    if mask is not None:
        mask = backend.asarray(mask, like=y_pred)
        _checks.mask("mask", mask, shape_true[:2], backend, xp)
    if pred_mask is not None:
        pred_mask = backend.asarray(pred_mask, like=y_pred)
        _checks.mask(names[2], pred_mask, shape_pred[:2], backend, xp)
    compute_dtype = solving_dtype(y_pred.dtype, xp)
    dtype = y_pred.dtype if xp.isdtype(y_pred.dtype, "real floating") else compute_dtype
    y_true, y_pred = (xp.astype(x, compute_dtype, copy=False) for x in (y_true, y_pred))
    # What is masked may hold anything. Chosen before any arithmetic, so that no gradient meets it.
    if mask is not None:
        y_true = xp.where(mask[:, :, None], y_true, 0)
    if pred_mask is not None:
        y_pred = xp.where(pred_mask[:, :, None], y_pred, 0)
    return Sets(y_true, y_pred, mask, pred_mask, dtype)


_warned: list[tuple[str, str]] = []


def warn_if_swapped(truth: Array, prediction: Array, names: tuple[str, str]) -> None:
    """Warn, once, if what is given as truth needs a gradient and the prediction does not.

    Only arrays that know whether a gradient is wanted, as PyTorch's do, can show it. For eager
    calls.

    Args:
        truth: An array, or anything.
        prediction: The same.
        names: What the user calls them.
    """
    if _warned or getattr(prediction, "requires_grad", False):
        return
    if getattr(truth, "requires_grad", False):
        _warned.append(names)
        warnings.warn(
            f"{names[0]} needs a gradient and {names[1]} does not: are the two arguments swapped? "
            f"What is learned is {names[1]}",
            UserWarning,
            stacklevel=level_of_caller(),
        )


def gather(
    y_true: Array, y_pred: Array, assignment: Assignment, backend: Backend, xp: Namespace
) -> tuple[Array, Array, Array]:
    """Return truths and their predictions `[B, n, d]`, and which are matched, `[B, n]`.

    An unmatched truth is paired with itself, as a constant: whatever a loss does
    there, no gradient of it reaches an input.
    """
    matched = assignment.col4row >= 0
    n, m = backend.shape(y_true)[1], backend.shape(y_pred)[1]
    y_true = xp.where(matched[:, :, None], y_true, backend.stop_gradient(y_true))
    if any(isinstance(extent, int) and extent == 0 for extent in (n, m)):
        # Nothing to gather; the sum of nothing keeps the prediction in the graph.
        nothing = xp.sum(y_pred, axis=1, keepdims=True) * 0
        return y_true, backend.stop_gradient(y_true) + nothing, matched
    if not isinstance(m, int):  # it may turn out to be 0, and a gather needs an entry
        y_pred = xp.concat([y_pred, xp.zeros_like(xp.sum(y_pred, axis=1, keepdims=True))], axis=1)
    at = xp.where(matched, assignment.col4row, 0)[:, :, None]
    gathered = xp.take_along_axis(y_pred, at, axis=1)
    return y_true, xp.where(matched[:, :, None], gathered, backend.stop_gradient(y_true)), matched


def mask_losses(each: Array, matched: Array, assignment: Assignment, xp: Namespace) -> Array:
    """Return the losses of pairs, 0 where unmatched and NaN in samples without a matching."""
    each = xp.where(matched, each, 0)
    return xp.where(xp.isnan(assignment.cost)[:, None], float("nan"), each)


def reduce(each: Array, matched: Array, reduction: str, backend: Backend, xp: Namespace) -> Array:
    """Return the masked losses of pairs `[B, n]`, reduced as for `hungarian_core.loss`."""
    if reduction == "none":
        return each
    count = xp.astype(matched, each.dtype)
    if reduction == "sample":
        pairs = xp.sum(count, axis=1)
        return xp.sum(each, axis=1) / xp.where(pairs > 0, pairs, 1)
    total = xp.sum(each)
    if reduction == "sum":
        return total
    return total / per_worker(xp.sum(count)[None], None, backend, xp)[0][0]


def per_worker(
    counts: Array,
    sums: Array | None,
    backend: Backend,
    xp: Namespace,
    *,
    published: bool = False,
) -> tuple[Array, Array | None]:
    """Return what a worker divides its losses by: counts `[K]`, at least 1, and sums `[J]`.

    Workers average their gradients, so each divides by the mean over all workers. The counts of
    all are made 1 before they are divided by their number; in DETR's published code after it, so
    that a batch of fewer objects than workers has another loss than on one device.
    """
    (k,) = backend.shape(counts)
    each = [counts, xp.ones_like(counts[:1])]
    own = xp.concat(each if sums is None else [*each, sums])
    totals = backend.all_reduce(own)
    if totals is own:  # there is one worker, and nothing to be taken apart
        return xp.where(counts > 1, counts, 1), sums
    found, workers = totals[:k], totals[k]
    if published:
        found = found / workers
        counts = xp.where(found > 1, found, 1)
    else:
        counts = xp.where(found > 1, found, 1) / workers
    return counts, None if sums is None else totals[k + 1 :] / workers
