"""Masks: what it costs to take a predicted one for a true one, their losses, and points of them.

A prediction is a mask of logits, and a truth one of numbers in [0, 1], or of booleans. The last
two axes of an array are the height and width of a mask; with ``axes=1`` a mask is one axis of P
points, as `sample` returns them, and with ``axes=3`` a volume.

- `pairwise_bce`, `pairwise_focal` and `pairwise_dice` compare every true mask with every
  predicted one by products of matrices: no array is n times as large as the predictions.
- `bce`, `focal` and `dice` are the losses of pairs.
- `resize` brings masks to another size.
- `sample` reads masks at points between the pixels, and `uncertain_points` chooses the points
  where a prediction is least certain, among random ones that the caller draws.

Everything is computed in the dtype of the logits, or in float32 for float16 and bfloat16, and is
differentiable; nothing overflows for finite logits. An infinite logit is a pixel without doubt: it
costs nothing where it is right, and infinity where it is wrong. Of a true mask that is padding,
NaN comes through to its own row of costs, which the `row_mask` of `assign` takes out, or to its own
loss. Where gradients are taken, set padding to 0 beforehand: 0 times NaN would reach the logits.
"""

from hungarian_core.masks.pixels import (
    bce,
    dice,
    focal,
    pairwise_bce,
    pairwise_dice,
    pairwise_focal,
)
from hungarian_core.masks.points import sample, uncertain_points
from hungarian_core.masks.sizes import resize

__all__ = [
    "bce",
    "dice",
    "focal",
    "pairwise_bce",
    "pairwise_dice",
    "pairwise_focal",
    "resize",
    "sample",
    "uncertain_points",
]
__dir__ = __all__.copy
