"""What set losses return."""

from __future__ import annotations

from typing import NamedTuple

from hungarian_core._backend import Array
from hungarian_core.assignment import Assignment

DENOISED = "_dn"  # what the names of losses of queries for denoising end in


class SetLosses(NamedTuple):
    """What `SetLoss` returns: a named tuple of arrays and dicts of arrays, hence a pytree.

    A loss has the shape `(L,)` if there are L layers, else `()`; with ``reduction="none"`` the
    axis of the images `(B,)` comes last.

    Attributes:
        total: `()`, what to minimise, or `(B,)` with ``reduction="none"``.
        losses: The weighted losses by name; `total` is their sum, over the layers too. Those of
            queries for denoising, if there were any, are called ``"class_dn"`` and so on.
        logs: Numbers for logging by name, without gradient; of `Classes` ``"cardinality_error"``,
            the mean absolute error of the number of objects predicted per image, and
            ``"class_error"``, the percentage of matched queries whose highest-scoring class is
            wrong. With ``match_by="loss"`` also ``"assigned"``, the sum of the costs of the
            matched pairs, and ``"background"``, the loss if no query had an object.
        assignment: The matching, with batch axes `(B,)`, or `(L, B)` if there are layers, and
            `groups` behind them if there are several. Rows are true objects, columns are queries.
            A matching that was given comes back as it was.
    """

    total: Array
    losses: dict[str, Array]
    logs: dict[str, Array]
    assignment: Assignment | Array


class DetectionLosses(NamedTuple):
    """What `DetrLoss` returns: a named tuple of arrays, hence a pytree.

    A term has the shape `(L,)` if there are L layers, else `()`; with ``reduction="none"`` the
    axis of the images `(B,)` comes last. Terms are weighted: `total` is their sum, over the layers
    too.

    Attributes:
        total: `()`, what to minimise, or `(B,)` with ``reduction="none"``.
        class_: The loss of the classes, of all queries.
        bbox: The L1 distance of matched boxes.
        giou: One less the GIoU of matched boxes.
        mask: The loss of the pixels of matched masks; 0 without masks.
        dice: The dice loss of matched masks; 0 without masks.
        cardinality_error: Mean absolute error of the number of objects predicted per image;
            `(L,)` or `()`. For logging.
        class_error: Percentage of matched queries whose highest-scoring class is wrong; `(L,)` or
            `()`. For logging.
        assignment: The matching, with batch axes `(B,)`, or `(L, B)` if there are layers, and
            `groups` behind them if there are several. Rows are true objects, columns are queries.
        denoising: The losses of queries for denoising by name, ``"class"``, ``"bbox"`` and so on,
            which `total` contains; empty if there were none.
    """

    total: Array
    class_: Array
    bbox: Array
    giou: Array
    mask: Array
    dice: Array
    cardinality_error: Array
    class_error: Array
    assignment: Assignment
    denoising: dict[str, Array]
