"""The messages about targets: their forms, and boxes that cannot be."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hungarian_core._tracing import level_of_caller
from hungarian_core.terms._checks import Extents, brief

# Extents of images, which are padded at the bottom and on the right where they differ.
PIXELS = ("H", "W")


def target_list(targets: Any, wanted: tuple[str, ...], required: tuple[str, ...]) -> None:
    """Check the form of a list of targets, and that it has what is required."""
    names = ", ".join(f"{name!r}: ..." for name in required)
    forms = (
        f"expected a list with one mapping per image, such as {{{names}}}, "
        "Targets, or a tuple (labels, boxes, mask) of padded arrays"
    )
    if not isinstance(targets, (list, tuple)) or not targets:
        raise ValueError(f"targets is {type(targets).__name__} {brief(targets)}; {forms}")
    for k, target in enumerate(targets):
        if not isinstance(target, Mapping):
            raise ValueError(f"targets[{k}] is a {type(target).__name__}; {forms}")
        for name in required:
            if name not in target and not (name == "labels" and "class_labels" in target):
                also = " or 'class_labels'" if name == "labels" else ""
                raise ValueError(
                    f"targets[{k}] has the keys {sorted(map(str, target))}; expected {name!r}"
                    f"{also} among them"
                )
        lead = target.get(required[0], target.get("class_labels"))
        if "mask" in target and "mask" not in wanted and _is_mask_of(target["mask"], lead):
            raise ValueError(
                f"targets[{k}] has a 'mask' of its objects; expected only objects that are there "
                "in a list: leave the others out, or pass padded arrays with 'mask' (B, M)"
            )
        if target.keys() == targets[0].keys():  # as nearly always, and cheaper to see
            other = set()
        else:
            other = set(targets[0]).symmetric_difference(target)
            other &= {*wanted, "labels", "class_labels"}
        if other:
            raise ValueError(
                f"targets[{k}] and targets[0] differ in {sorted(other)}; expected all images to "
                "have the same keys"
            )


def _is_mask_of(mask: Any, lead: Any) -> bool:
    """Say whether a mask says for each object whether it is there."""
    shape, of_lead = getattr(mask, "shape", ()), getattr(lead, "shape", ())
    return len(shape) == 1 and "bool" in str(mask.dtype) and shape[:1] == of_lead[:1]


def target_shapes(
    shapes: Mapping[str, list[tuple[Any, ...]]],
    extents: Mapping[str, Extents],
    lead: str,
    size: int | None,
) -> int:
    """Check the shapes of the targets of images and return the number to pad to.

    Args:
        shapes: Those of the images, by key.
        extents: What each has behind the axis of the objects. Those of pixels may differ.
        lead: The key of which there is one per object for certain.
        size: The number to pad to, by default the greatest there is.
    """
    for name, of_images in shapes.items():
        rank, like = 1 + len(extents[name]), of_images[0][1:]
        for k, (shape, first) in enumerate(zip(of_images, shapes[lead], strict=True)):
            known = set(map(type, shape)) == {int}
            if known and len(shape) == rank and shape[0] == first[0] and shape[1:] == like:
                continue
            if not all(isinstance(extent, int) for extent in shape):
                raise ValueError(
                    f"targets[{k}][{name!r}] has the unknown shape {shape}; expected a known "
                    "one: pad before the program and pass (labels, boxes, mask)"
                )
            came = f"targets[{k}][{name!r}] has shape {shape}"
            if len(shape) != 1 + len(extents[name]):
                text = ", ".join(map(str, ("n", *extents[name])))
                raise ValueError(f"{came}; expected ({text}{',' * (not extents[name])}), n objects")
            if shape[0] != first[0]:
                raise ValueError(
                    f"{came}, and targets[{k}][{lead!r}] has {first[0]} objects; expected one "
                    "entry per object"
                )
            differ = [
                a != b and extent not in PIXELS
                for a, b, extent in zip(shape[1:], of_images[0][1:], extents[name], strict=True)
            ]
            if any(differ):
                raise ValueError(
                    f"{came}, and targets[0][{name!r}] has shape {of_images[0]}; expected shapes "
                    "that differ in the number of objects only"
                )
    greatest = max(shape[0] for shape in shapes[lead])
    if size is not None and size < greatest:
        raise ValueError(f"size is {size}, and an image has {greatest} objects; expected as many")
    return greatest if size is None else size


# Boxes reach out of the image where augmentation does not clip them: a zoom by 5 about any point
# keeps what is seen within these bounds. Numbers of pixels are far outside.
_MIDDLES, _REACH = np.asarray([0.5, 0.5, 2.5, 2.5], np.float32), 2.5  # of centres and of sides
# Corners taken for centre and sides have sides beyond the centres, which hardly so many boxes have.
_MANY = 12
_warned: list[str] = []


def true_boxes(boxes: np.ndarray, mask: np.ndarray) -> tuple[()]:
    """Raise if a true box `(B, M, 4)` cannot be one in cxcywh, relative; on the host.

    In NumPy, whatever the framework: so it looks at constants inside of a program too, and takes
    microseconds where a framework would launch a dozen operations.
    """
    bad = mask & ~(abs(boxes - _MIDDLES) <= _REACH).all(axis=-1)
    if bad.any():
        image, k = np.argwhere(bad)[0]
        raise ValueError(
            f"boxes of the targets holds ({', '.join(f'{x:.4g}' for x in boxes[image, k])}) (image "
            f"{image}, object {k}); expected cxcywh relative to the image: centres from 0 to 1, or "
            "-2 to 3 at most, and sides from 0 to 1, or to 5 at most. "
            f"{_CONVERT}; check_targets=False takes boxes as they are"
        )
    if len(_warned) == 0 and mask.sum() >= _MANY:
        _corners(boxes[mask, :2], boxes[mask, 2:])
    return ()


_CONVERT = (
    'Convert corners with hungarian_core.boxes.convert(boxes, "xyxy", "cxcywh"), and divide pixels '
    "by the width and height of the image"
)


def _corners(centres: np.ndarray, sides: np.ndarray) -> None:
    """Warn once if boxes, all of whose sides are beyond their centres, reach out of the image."""
    if (sides > centres).all() and (centres + sides * 0.5 > 1.05).any():
        _warned.append("corners")
        warnings.warn(
            "the true boxes look like corners, xyxy: all of them have sides beyond their centres "
            f"and some reach out of the image; expected cxcywh. {_CONVERT}",
            stacklevel=level_of_caller(),
        )


def true_masks(masks: np.ndarray) -> tuple[()]:
    """Raise if true masks `(B, M, H, W)` hold other numbers than 0 to 1; on the host."""
    if masks.size and (masks.max() > 1 or masks.min() < 0):
        raise ValueError(
            f"masks of the targets holds numbers from {masks.min()} to {masks.max()}; expected 0 "
            "and 1: pass masks > 0. check_targets=False takes masks as they are"
        )
    return ()


def possible(
    impossible: Callable[[Mapping[str, Any]], tuple[Any, str]], names: tuple[str, ...]
) -> Callable[..., tuple[()]]:
    """Return a function of the mask `(B, M)` and of fields that raises if an object cannot be.

    Args:
        impossible: That of a term that compares.
        names: The names of the fields.
    """

    def check(mask: np.ndarray, *fields: np.ndarray) -> tuple[()]:
        truths = dict(zip(names, fields, strict=True))
        bad, expected = impossible(truths)
        if (mask & bad).any():
            image, k = np.argwhere(mask & bad)[0]
            held = ", ".join(f"{name} {brief(x[image, k].tolist())}" for name, x in truths.items())
            raise ValueError(
                f"the targets hold {held} (image {image}, object {k}); expected {expected}; "
                "check_targets=False takes them as they are"
            )
        return ()

    return check
