"""The messages about boxes."""

from __future__ import annotations

from typing import Any

from hungarian_core._checks import FORMS, one_of, positive, whole
from hungarian_core._extents import require_equal, same

FORMATS = {  # with how many axes their boxes have
    "cxcywh": 2, "xyxy": 2, "xywh": 2, "cxw": 1, "xx": 1, "cxcyczwhd": 3, "xyzxyz": 3,
}  # fmt: skip


def options(format: str, form: str) -> None:  # noqa: A002  (the field's word)
    """Check how boxes are written, and how they are compared."""
    one_of("format", format, tuple(FORMATS))
    one_of("form", form, FORMS)


def formats(source: str, target: str) -> None:
    """Check that boxes in one format can be written in another."""
    one_of("source", source, tuple(FORMATS))
    one_of("target", target, tuple(FORMATS))
    if FORMATS[source] != FORMATS[target]:
        as_many = [repr(name) for name, axes in FORMATS.items() if axes == FORMATS[source]]
        raise ValueError(
            f"target is {target!r} and source {source!r}, whose boxes have another number of axes; "
            f"expected one of {', '.join(as_many)}"
        )


def planar(format: str) -> None:  # noqa: A002  (the field's word)
    """Check that boxes have two sides, which is what an aspect ratio is of."""
    one_of("format", format, [name for name, axes in FORMATS.items() if axes == 2], "for ciou")


def boxes(name: str, shape: tuple[Any, ...], size: int) -> None:
    """Check that the last axis of an array holds boxes, of so many numbers each."""
    if not shape or not same(shape[-1], size):
        raise ValueError(
            f"{name} has shape {shape}; expected (..., {size}): one box on the last axis"
        )
    require_equal(f"the last axis of {name}", shape[-1:], (size,))


def paired(a: tuple[Any, ...], b: tuple[Any, ...], size: int, pairwise: bool) -> None:
    """Check that boxes of the shapes a and b can be compared."""
    if pairwise and (len(a) < 2 or len(b) < 2):
        raise ValueError(
            f"a has shape {a} and b {b}; expected (..., n, {size}) and (..., m, {size}) with "
            "pairwise=True"
        )
    kept = -2 if pairwise else -1
    for extent, other in zip(reversed(a[:kept]), reversed(b[:kept]), strict=False):
        if not (same(extent, other) or extent == 1 or other == 1):
            hint = "" if pairwise else "; pass pairwise=True to compare every box with every other"
            raise ValueError(
                f"a has shape {a} and b {b}; expected shapes that broadcast against each "
                f"other{' before the last two axes' if pairwise else ''}{hint}"
            )


def weighting(bins: int, up: float, reg_scale: float) -> int:
    """Check the options of the offsets of edges, and return how many bins there are."""
    expected = "an even number of bins, 4 or more"
    bins = whole("bins", bins, 4, expected)
    if bins % 2:
        raise ValueError(f"bins is {bins}; expected {expected}")
    positive("up", up)
    positive("reg_scale", reg_scale)
    return bins


def edges(name: str, shape: tuple[Any, ...], bins: int) -> None:
    """Check that the last two axes of an array hold distributions of a box's edges."""
    expected = (4, bins + 1)
    if len(shape) < 2 or not all(map(same, shape[-2:], expected)):
        raise ValueError(
            f"{name} has shape {shape}; expected (..., 4, {bins + 1}): left, top, right and "
            f"bottom, for bins={bins}"
        )
    require_equal(f"the last axes of {name}", shape[-2:], expected)


def spreads(name: str, shape: tuple[Any, ...], other: str, whole: tuple[Any, ...]) -> None:
    """Check that an array broadcasts to the shape of another."""
    pairs = zip(reversed(shape), reversed(whole), strict=False)
    one = [isinstance(a, int) and a == 1 for a in reversed(shape)]
    fits = all(same(a, b) or few for (a, b), few in zip(pairs, one, strict=False))
    if not shape or len(shape) > len(whole) or not fits:
        raise ValueError(
            f"{name} has shape {shape} and {other} {whole}; expected one that broadcasts to that"
        )
