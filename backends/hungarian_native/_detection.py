"""Detection losses natively: matching costs, and the losses of classes and of matched boxes."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hungarian_native._library import ABI, address_of, check, in_order, library

Floats = NDArray[Any]
_pack_costs = struct.Struct(
    "11q4d9q"
).pack  # hungarian_matching_costs of src/hungarian.h, field by field
_pack_losses = struct.Struct("7qd6q").pack  # hungarian_class_losses likewise
_pack_boxes = struct.Struct("12q").pack  # hungarian_box_losses likewise
_KINDS = {np.dtype(np.float32): 0, np.dtype(np.float64): 1}
_COSTS = {
    (True, "softmax"): 1, (True, "nll"): 2, (False, "focal"): 3, (False, "nll"): 4,
    (False, "focal_published"): 5,
}  # fmt: skip


def matching_costs(
    logits: Floats,
    labels: NDArray[Any],
    mask: NDArray[np.bool_],
    boxes: Floats | None = None,
    true_boxes: Floats | None = None,
    *,
    softmax: bool,
    class_cost_form: str,
    class_cost: float,
    alpha: float,
    bbox_cost: float = 0.0,
    giou_cost: float = 0.0,
    safe: bool = True,
    only_finite: bool,
) -> tuple[NDArray[Any], ...]:
    """Return the matching costs of detection and what the losses need of them.

    Args:
        logits: `[N, Q, C]`, float32 or float64.
        labels: `[N, M]` integer, -1 for an object without a class.
        mask: `[N, M]` bool.
        boxes: `[N, Q, 4]` in cxcywh, in the dtype of `logits`, or None.
        true_boxes: `[N, M, 4]` likewise.
        softmax: Whether the last class is "no object"; else the classes are independent.
        class_cost_form: As for `hungarian_core.DetrLoss`, with gamma = 2.
        class_cost: As there.
        alpha: The alpha of the focal cost.
        bbox_cost: As there.
        giou_cost: As there.
        safe: Whether the GIoU is the safe one.
        only_finite: Whether costs of +inf become NaN.

    Returns:
        The costs `[N, M, Q]`, 0 where there is no object; the largest logits, and for softmax
        the logarithms of the sums of exponentials, `[N, Q]` each; and whether a query says that
        there is an object, `[N, Q]` bool.
    """
    size, queries, classes = logits.shape
    objects, dtype = labels.shape[1], logits.dtype
    given = [
        in_order(x, kind) for x, kind in ((logits, dtype), (labels, np.int64), (mask, np.bool_))
    ]
    if boxes is not None and true_boxes is not None:
        given += [in_order(x, dtype) for x in (boxes, true_boxes)]
    logits_at, labels_at, mask_at, *at = map(address_of, given)
    boxes_at, true_boxes_at = at or (0, 0)
    cost = np.empty((size, objects, queries), dtype)
    max_logit, log_normaliser = np.empty((size, queries), dtype), np.empty((size, queries), dtype)
    claims_object = np.empty((size, queries), np.bool_)
    form = _COSTS[softmax, class_cost_form] if class_cost else 0
    packed = _pack_costs(
        ABI, _KINDS[dtype], size, queries, objects, classes, softmax, form, safe, only_finite, 0,
        class_cost, bbox_cost, giou_cost, alpha,
        logits_at, boxes_at, labels_at, true_boxes_at, mask_at,
        *map(address_of, (cost, max_logit, log_normaliser, claims_object)),
    )  # fmt: skip
    check(library.hungarian_matching_cost(packed))
    return cost, max_logit, log_normaliser, claims_object


def class_losses(
    logits: Floats,
    labels: NDArray[Any],
    log_normaliser: Floats,
    overlap: Floats | None = None,
    *,
    loss: int,
    alpha: float,
) -> tuple[Floats, Floats]:
    """Return the losses `[N, Q]` of the classes of queries, and their slopes `[N, Q, C]`.

    Args:
        logits: `[N, Q, C]`, float32 or float64.
        labels: `[N, Q]` integer, what each query is to say; for sigmoid losses -1 for nothing.
        log_normaliser: `[N, Q]`, as `matching_costs` returns it.
        overlap: `[N, Q]`, the IoU of matched boxes, for losses that ask for it.
        loss: A code of `hungarian_class_loss_kind`, the `native` of a
            `hungarian_core.terms.ClassLoss`, with gamma = 2; in the units of its `scale`.
        alpha: As there.
    """
    size, queries, classes = logits.shape
    dtype = logits.dtype
    given = [
        in_order(x, kind)
        for x, kind in ((logits, dtype), (labels, np.int64), (log_normaliser, dtype))
    ]
    if overlap is not None:
        given.append(in_order(overlap, dtype))
    logits_at, labels_at, log_normaliser_at, *at = map(address_of, given)
    (overlap_at,) = at or (0,)
    value, slope = np.empty((size, queries), dtype), np.empty(logits.shape, dtype)
    packed = _pack_losses(
        ABI, _KINDS[dtype], size, queries, classes, loss, 0, alpha,
        logits_at, labels_at, overlap_at, log_normaliser_at, address_of(value), address_of(slope),
    )  # fmt: skip
    check(library.hungarian_class_loss(packed))
    return value, slope


def box_losses(boxes: Floats, true_boxes: Floats, *, safe: bool) -> tuple[Floats, Floats]:
    """Return the losses of pairs of boxes and their slopes by the predicted boxes.

    Args:
        boxes: `[N, P, 4]` in cxcywh, float32 or float64, the predicted ones.
        true_boxes: `[N, P, 4]` in the same dtype.
        safe: Whether the GIoU is the safe one.

    Returns:
        The L1 distances and one less the GIoUs, `[2, N, P]`, and their slopes `[2, N, P, 4]`.
    """
    dtype, (size, pairs, _) = boxes.dtype, boxes.shape
    boxes, true_boxes = in_order(boxes, dtype), in_order(true_boxes, dtype)
    value, slope = np.empty((2, size, pairs), dtype), np.empty((2, *boxes.shape), dtype)
    value_at, slope_at = address_of(value), address_of(slope)
    packed = _pack_boxes(
        ABI, _KINDS[dtype], size, pairs, safe, 0, address_of(boxes), address_of(true_boxes),
        value_at, value_at + value.nbytes // 2, slope_at, slope_at + slope.nbytes // 2,
    )  # fmt: skip
    check(library.hungarian_box_loss(packed))
    return value, slope
