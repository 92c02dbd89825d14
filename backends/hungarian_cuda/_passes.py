"""The passes of detection losses on a device, by addresses: as `hungarian_native` has them.

They take and give what the functions of the same names there do, laid out the same. What is given
is row-major, and so are the results.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from hungarian_cuda._launcher import ABI, KINDS, check, function


class Placed(NamedTuple):
    """An array on a device: its address, shape and dtype."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


# The structs of hungarian.h, field by field.
_pack_costs = struct.Struct("11q4d9q").pack
_pack_losses = struct.Struct("7qd6q").pack
_pack_boxes = struct.Struct("12q").pack
# By whether the last class is "no object", and `class_cost_form` of `hungarian_core.DetrLoss`.
_COSTS = {
    (True, "softmax"): 1, (True, "nll"): 2, (False, "focal"): 3, (False, "nll"): 4,
    (False, "focal_published"): 5,
}  # fmt: skip

_costs, _classes, _boxes = (
    function(f"hungarian_cuda_{name}", ctypes.c_int64, ctypes.c_char_p, ctypes.c_void_p)
    for name in ("matching_cost", "class_loss", "box_loss")
)


def matching_costs(
    given: Sequence[Placed],
    found: Sequence[Placed],
    stream: int,
    *,
    softmax: bool,
    class_cost_form: str,
    class_cost: float,
    alpha: float,
    bbox_cost: float = 0.0,
    giou_cost: float = 0.0,
    safe: bool = True,
    only_finite: bool,
) -> None:
    """Launch what matching costs.

    Args:
        given: The logits, labels and mask, and, if boxes count, the boxes and true boxes.
        found: The costs, largest logits, logarithms of sums, and claims.
        stream: Of the driver; 0 is the default one.
        softmax: These and the rest as for the native function.
        class_cost_form: As there.
        class_cost: As there.
        alpha: As there.
        bbox_cost: As there.
        giou_cost: As there.
        safe: As there.
        only_finite: As there.

    Raises:
        RuntimeError: The driver refuses.
        ValueError: An argument is out of range.
    """
    logits, labels, mask, *both = given
    boxes, true_boxes = (x.address for x in both) if both else (0, 0)
    packed = _pack_costs(
        ABI, KINDS[logits.dtype], *logits.shape[:2], labels.shape[1], logits.shape[2], softmax,
        _COSTS[softmax, class_cost_form] if class_cost else 0, safe, only_finite, 0,
        class_cost, bbox_cost, giou_cost, alpha,
        logits.address, boxes, labels.address, true_boxes, mask.address,
        *(x.address for x in found),
    )  # fmt: skip
    check(_costs(packed, stream))


def class_losses(
    given: Sequence[Placed], found: Sequence[Placed], stream: int, *, loss: int, alpha: float
) -> None:
    """Launch the losses of classes and their slopes.

    Args:
        given: The logits, labels and logarithms of sums, and for some losses the IoU.
        found: The losses and slopes.
        stream: As for `matching_costs`.
        loss: As for the native function.
        alpha: As there.

    Raises:
        RuntimeError: As for `matching_costs`.
        ValueError: As for `matching_costs`.
    """
    logits, labels, log_normaliser, *overlap = given
    packed = _pack_losses(
        ABI, KINDS[logits.dtype], *logits.shape, loss, 0, alpha,
        logits.address, labels.address, overlap[0].address if overlap else 0,
        log_normaliser.address, *(x.address for x in found),
    )  # fmt: skip
    check(_classes(packed, stream))


def box_losses(
    given: Sequence[Placed], found: Sequence[Placed], stream: int, *, safe: bool
) -> None:
    """Launch the losses of pairs of boxes and their slopes.

    Args:
        given: The boxes and true boxes.
        found: Both losses, `[2, N, P]`, and their slopes, `[2, N, P, 4]`.
        stream: As for `matching_costs`.
        safe: As for the native function.

    Raises:
        RuntimeError: As for `matching_costs`.
        ValueError: As for `matching_costs`.
    """
    boxes, truth = given
    halves = []
    for x in found:
        entries = int(np.prod(x.shape[1:])) * x.dtype.itemsize
        halves += [x.address, x.address + entries]
    packed = _pack_boxes(
        ABI, KINDS[boxes.dtype], *boxes.shape[:2], safe, 0, boxes.address, truth.address, *halves
    )
    check(_boxes(packed, stream))


PASSES: dict[str, Callable[..., None]] = {
    "matching_costs": matching_costs, "class_losses": class_losses, "box_losses": box_losses,
}  # fmt: skip
