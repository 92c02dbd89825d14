"""Checks of what is to be looked at, and their messages."""

from __future__ import annotations

from typing import Any

import numpy as np

from hungarian_core.assignment import Assignment
from hungarian_core.capacities import ManyAssignment


def concrete(name: str, traced: bool) -> None:
    """Check that an array has values."""
    if traced:
        raise ValueError(
            f"{name} is a symbol in a program being traced and has no values to look at; return "
            "it from the compiled function and look at what comes out"
        )


def assignment(x: Any) -> None:
    """Check that something is an assignment, or the tuple of its fields."""
    fields = len(Assignment._fields)
    if not isinstance(x, tuple) or len(x) != fields or isinstance(x, ManyAssignment):
        raise TypeError(
            f"assignment is a {type(x).__name__}; expected an Assignment, which assign returns, as "
            "the first argument, and the costs as the second"
        )


def matches(name: str, dtype: Any, least: int) -> None:
    """Check that an array holds columns, or -1 for none."""
    if dtype.kind not in "iu":
        raise ValueError(
            f"{name} has dtype {dtype}; expected an Assignment, or its col4row: integers, one "
            "column per row"
        )
    if least < -1:
        raise ValueError(f"{name} holds {least}; expected columns, or -1 for an unmatched row")


def entries(option: str, given: Any, what: str) -> list[Any]:
    """Return names or ids as a list, those of an array as Python's."""
    if hasattr(given, "to_numpy"):  # of pandas
        given = given.to_numpy()
    if isinstance(given, np.ndarray):
        return given.tolist() if given.ndim else [given.item()]
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise TypeError(f"{option} is {given!r}; expected a list of {what}")
    return list(given)


def explained(name: str, came: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    """Check the shape of costs against that of an assignment."""
    if came != expected:
        raise ValueError(
            f"{name} has shape {came}; expected {expected}, the rows and columns of the assignment"
        )


def pairs(
    at: tuple[int, ...], came: int, valid: bool, extents: tuple[int, int], priced: bool
) -> None:
    """Check the pairs of a matching to explain against the numbers of valid rows and columns."""
    expected = min(extents)
    if not valid or came > expected or (came < expected and not priced):
        what = f"{came} pairs" if valid else "pairs of invalid rows or columns"
        raise ValueError(
            f"the assignment has {what}{_at(at)}, where {extents[0]} valid rows and {extents[1]} "
            f"valid columns make {expected} pairs; pass row_mask, col_mask and unmatched_cost as "
            "the assignment had them; of a partial one, row_mask=match.col4row >= 0"
        )


def sound(at: tuple[int, ...], unsound: bool, nan: str) -> None:
    """Check that costs are some that a matching could have been made of."""
    if unsound:
        raise ValueError(
            f"the costs{_at(at)} hold NaN or -inf (+inf with maximize) among valid pairs, where "
            f"assign with nan={nan!r} finds no matching; pass the costs that the assignment was "
            "made from, and nan= and the masks as it had them"
        )


def total(at: tuple[int, ...], came: float, expected: float, scale: float) -> None:
    """Check the cost of an explained matching; terms may be rounded, to bfloat16 at the worst."""
    if not abs(came - expected) <= 0.02 * scale:
        raise ValueError(
            f"the pairs cost {came:g}{_at(at)} by these terms and {expected:g} by the assignment; "
            "pass the weighted terms that it was made from, and maximize, nan and unmatched_cost "
            "as it had them"
        )


def names(
    option: str, lengths: list[int], nested: bool, samples: tuple[int, ...], extent: int
) -> None:
    """Check the numbers of names of rows or columns."""
    if nested and len(lengths) != samples[0]:
        raise ValueError(
            f"{option} has lists of names for {len(lengths)} samples; expected {samples[0]}"
        )
    if max(lengths, default=0) > extent or (not nested and lengths[0] != extent):
        raise ValueError(
            f"{option} has {max(lengths)} names; expected {'at most ' * nested}{extent}"
        )


def layers(shape: tuple[int, ...]) -> None:
    """Check that a matching has an axis of layers."""
    if len(shape) < 2:
        raise ValueError(f"col4row has shape {shape}; expected (L, ..., n), a leading layer axis")


def ids(named: list[Any], batch: tuple[int, ...]) -> None:
    """Check the ids of samples."""
    count = len(named)
    for name in named:
        try:
            hash(name)
        except TypeError:
            raise TypeError(
                f"ids holds {name!r}, which cannot be looked up; expected numbers, text or tuples"
            ) from None
    if count != batch[-1]:
        raise ValueError(
            f"ids has {count} entries; expected {batch[-1]}, one for each sample of the batch"
        )


def drawable(cost: bool, true_boxes: bool, pred_boxes: bool) -> None:
    """Check that there is something to plot."""
    if true_boxes != pred_boxes or not (cost or true_boxes):
        raise ValueError("pass cost, or both true_boxes and pred_boxes, or all three, to plot")


def sample(chosen: Any, batch: tuple[int, ...]) -> tuple[int, ...]:
    """Return the place of one sample of a batch, checked."""
    at: tuple[Any, ...] = (chosen,)
    if chosen is None or isinstance(chosen, (tuple, list)) or getattr(chosen, "ndim", 0) == 1:
        at = () if chosen is None else tuple(chosen)
    if chosen is None and all(extent == 1 for extent in batch):
        return (0,) * len(batch)
    if len(at) != len(batch) or any(
        not hasattr(k, "__index__") or not -extent <= k < extent
        for k, extent in zip(at, batch, strict=True)
    ):
        raise ValueError(
            f"sample is {chosen!r}, and the assignment is a batch of shape {batch}; expected "
            f"{'an index' if len(batch) == 1 else 'an index for each batch axis'}"
        )
    return tuple(int(k) % extent for k, extent in zip(at, batch, strict=True))


def panels(came: int, expected: int) -> None:
    """Check the number of axes to plot on."""
    if came != expected:
        raise ValueError(
            f"axes holds {came}; expected {expected}: one for the costs, one for the boxes"
        )


def axes(given: list[Any]) -> None:
    """Check that there is something to draw on."""
    for x in given:
        if not hasattr(x, "imshow"):
            raise TypeError(f"axes holds {x!r}; expected axes of matplotlib, or a pair of them")


def image(shape: tuple[int, ...]) -> None:
    """Check the shape of an image."""
    channels = (1, 3, 4)
    if len(shape) != 2 and not (len(shape) == 3 and (shape[2] in channels or shape[0] in channels)):
        raise ValueError(f"image has shape {shape}; expected (H, W), (H, W, C) or (C, H, W)")


def extends(came: tuple[int, ...], expected: tuple[int, ...], kept: int) -> bool:
    """Say whether axes before the last `kept` ones are all that an array lacks, if anything."""
    given = (1,) * (len(expected) - len(came)) + came
    return (
        len(given) == len(expected)
        and given[-kept:] == expected[-kept:]
        and all(a in (b, 1) for a, b in zip(given[:-kept], expected[:-kept], strict=True))
    )


def drawn_boxes(name: str, came: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Check the shape of boxes against an assignment."""
    if not extends(came, expected, 2):
        raise ValueError(
            f"{name} has shape {came}; expected {expected}, with as many boxes as the assignment "
            "has rows or columns"
        )


def _at(at: tuple[int, ...]) -> str:
    """Say which sample is meant."""
    return f" at batch index {at[0] if len(at) == 1 else at}" if at else ""
