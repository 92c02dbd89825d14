"""Every message that a user of detection losses can cause, in one place."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._checks import one_of, same, whole
from hungarian_core._tracing import level_of_caller

CLASS_LOSSES = ("softmax", "focal", "varifocal", "ia_bce")


def detection_options(
    num_classes: Any,
    class_loss: str,
    class_cost_form: Any,
    class_weights: Any,
    label_smoothing: float,
    repeat: Any,
    groups: Any,
    alpha: float = 0.0,
    gamma: float = 0.0,
) -> tuple[int, int, int]:
    """Check the options of a detection loss against each other.

    Returns:
        The numbers of classes, of repeats and of groups, as Python has them.
    """
    counts = ("num_classes", num_classes), ("repeat", repeat), ("groups", groups)
    num_classes, repeat, groups = (whole(*given, 1, "a positive integer") for given in counts)
    softmax = class_loss == "softmax"
    allowed = ("softmax", "nll") if softmax else ("focal", "focal_parity", "nll")
    one_of("class_cost_form", class_cost_form, allowed, f"with class_loss={class_loss!r}")
    if class_weights is not None and len(class_weights) != num_classes:
        raise ValueError(
            f"class_weights has {len(class_weights)} entries; expected num_classes={num_classes}"
            + ("; the weight of the last class is no_object_weight" if softmax else "")
        )
    if label_smoothing and not softmax:
        raise ValueError(
            f"label_smoothing is {label_smoothing} with class_loss={class_loss!r}; it is defined "
            "for class_loss='softmax' only"
        )
    if not softmax:
        most = math.inf if class_loss == "varifocal" else 1.0
        for option, value, end in (("alpha", alpha, most), ("gamma", gamma, math.inf)):
            if not 0 <= value <= end:
                interval = " from 0 to 1" if end == 1 else ", 0 or more"
                raise ValueError(f"{option} is {value!r}; expected a number{interval}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; expected a number from 0 to 1")
    return num_classes, repeat, groups


def detections(
    logits: tuple[Any, ...],
    boxes: tuple[Any, ...] | None,
    classes: int,
    softmax: bool,
    groups: int,
) -> None:
    """Check the shapes of what a detector returns."""
    if len(logits) not in (3, 4):
        raise ValueError(
            f"logits has shape {logits}; expected (B, Q, C), or (L, B, Q, C) for decoder layers"
        )
    if not same(logits[-1], classes):
        kind = "num_classes + 1, the last for no object" if softmax else "num_classes"
        raise ValueError(
            f"logits has shape {logits}, with {logits[-1]} classes; expected {classes}: {kind}"
        )
    expected = (*logits[:-1], 4)
    if boxes is not None and (len(boxes) != len(expected) or not all(map(same, boxes, expected))):
        raise ValueError(f"boxes has shape {boxes}; expected {expected}, as logits has {logits}")
    queries = logits[-2]
    if isinstance(queries, int) and (queries % groups or not queries):
        raise ValueError(
            f"logits has shape {logits}, with {queries} queries; expected groups={groups} of equal "
            "size, of one query at least"
        )


def targets(shapes: Mapping[str, tuple[Any, ...]], images: Any, with_boxes: bool) -> None:
    """Check the shapes of padded targets against each other and the number of images."""
    labels = shapes["labels"]
    if with_boxes and "boxes" not in shapes:
        raise ValueError("boxes came, and the targets have none; expected true boxes (B, M, 4)")
    if len(labels) != 2 or not same(labels[0], images):
        raise ValueError(
            f"labels has shape {labels}; expected (B, M) with B = {images}, the number of images"
        )
    ranks = {"boxes": 3, "mask": 2, "weights": 2, "ignore": 2, "masks": 4}
    for name, rank in ranks.items():
        shape = shapes.get(name)
        if shape is None:
            continue
        if (
            len(shape) != rank
            or not all(map(same, shape[:2], labels))
            or (name == "boxes" and not same(shape[2], 4))
        ):
            more = {"boxes": ", 4", "masks": ", H, W"}.get(name, "")
            raise ValueError(
                f"targets: {name} has shape {shape}; expected (B, M{more}), as labels has {labels}"
            )


def ignored(x: Array, shape: tuple[Any, ...], backend: Backend, xp: Namespace) -> None:
    """Check the flags of the objects to ignore."""
    came = backend.shape(x)
    if not xp.isdtype(x.dtype, "bool") or len(came) != len(shape):
        raise ValueError(
            f"ignore has dtype {x.dtype} and shape {came}; expected bool {shape}, True for an "
            "object that costs and gains nothing"
        )


def query_mask(x: Array, logits: tuple[Any, ...], backend: Backend, xp: Namespace) -> None:
    """Check the flags of queries against the shape of the logits."""
    *front, queries, _ = logits
    came = backend.shape(x)
    fits = (
        len(came) == len(expected) and all(map(same, came, expected))
        for expected in ((front[-1], queries), (*front, queries))
    )
    if not xp.isdtype(x.dtype, "bool") or not any(fits):
        raise ValueError(
            f"query_mask has dtype {x.dtype} and shape {came}; expected bool "
            f"{(front[-1], queries)}"
            + (f" or {(*front, queries)}" if len(front) > 1 else "")
            + ", True where there is a query"
        )


# Boxes reach out of the image where augmentation does not clip them: a zoom by 5 about any point
# keeps what is seen within these bounds. Numbers of pixels are far outside.
_MIDDLES, _REACH = (0.5, 2.5), 2.5  # of centres and of sides
# Corners taken for centre and sides have sides beyond the centres, which hardly so many boxes have.
_MANY = 12
_warned: list[str] = []


def true_boxes(boxes: np.ndarray, mask: np.ndarray) -> tuple[()]:
    """Raise if a true box `(B, M, 4)` cannot be one in cxcywh, relative; on the host.

    In NumPy, whatever the framework: so it looks at constants inside of a program too, and takes
    microseconds where a framework would launch a dozen operations.
    """
    centres, sides = boxes[..., :2], boxes[..., 2:]
    fits = (abs(centres - _MIDDLES[0]) <= _REACH) & (abs(sides - _MIDDLES[1]) <= _REACH)
    bad = mask & ~fits.all(axis=-1)
    if bad.any():
        image, k = np.argwhere(bad)[0]
        raise ValueError(
            f"boxes of the targets holds ({', '.join(f'{x:.4g}' for x in boxes[image, k])}) (image "
            f"{image}, object {k}); expected cxcywh relative to the image: centres from 0 to 1, or "
            "-2 to 3 at most, and sides from 0 to 1, or to 5 at most. "
            f"{_CONVERT}; check_targets=False takes boxes as they are"
        )
    if len(_warned) == 0 and mask.sum() >= _MANY:
        _corners(centres[mask], sides[mask])
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


def no_boxes(class_loss: str) -> None:
    """Say that a loss of classes cannot do without boxes."""
    raise ValueError(
        f"boxes is None with class_loss={class_loss!r}, which grades classes by the IoU of boxes; "
        "expected boxes, or class_loss='softmax' or 'focal'"
    )


def extra_cost(came: tuple[Any, ...], shape: tuple[Any, ...]) -> None:
    """Check the shape of a user's matching cost against (L, B, groups, M, Q)."""
    layers, images, _, objects, queries = shape
    for expected in ((images, objects, queries), (layers, images, objects, queries), shape):
        if len(came) == len(expected) and all(map(same, came, expected)):
            return
    raise ValueError(
        f"extra_cost has shape {came}; expected (B, M, Q), (L, B, M, Q) or (L, B, groups, M, Q), "
        f"which are {shape}"
    )


def image_weights(came: tuple[Any, ...], images: Any) -> None:
    """Check the shape of the weights of images."""
    if len(came) != 1 or not same(came[0], images):
        raise ValueError(f"image_weights has shape {came}; expected ({images},), one per image")


def mask_arguments(loss: Any, masks: Any, true_masks: Any, groups: Any) -> None:
    """Check that what masks need is all there."""
    if loss is None:
        raise ValueError(
            "masks came, and the loss has none; expected DetrLoss(..., masks=MaskLoss())"
        )
    if masks is None or true_masks is None:
        what = "masks=" if masks is None else "the masks of the targets"
        raise ValueError(f"the loss has masks=MaskLoss(...); expected {what} in the call too")
    if groups != 1:
        raise ValueError(f"groups is {groups}; expected 1 with masks")


def mask_shapes(
    masks: tuple[Any, ...],
    truth: tuple[Any, ...],
    lead: tuple[Any, ...],
    dense: bool,
) -> None:
    """Check the shapes of predicted and true masks; `lead` is (L, B, Q)."""
    layers, images, queries = lead
    expected = (*lead, "H", "W") if len(masks) == 5 else (images, queries, "H", "W")
    known = len(expected) - 2
    if len(masks) != len(expected) or not all(map(same, masks[:known], expected[:known])):
        raise ValueError(
            f"masks has shape {masks}; expected ({images}, {queries}, H, W), or with a leading "
            f"axis of {layers} layers"
        )
    if dense and not all(map(same, masks[-2:], truth[-2:])):
        raise ValueError(
            f"masks has shape {masks} and the masks of the targets {truth}; expected equal height "
            "and width: resize one, or pass points="
        )


def target_list(targets: Any, optional: tuple[str, ...]) -> None:
    """Check the form of a list of targets."""
    forms = (
        "expected a list with one mapping per image, such as {'labels': ..., 'boxes': ...}, "
        "Targets, or a tuple (labels, boxes, mask) of padded arrays"
    )
    if not isinstance(targets, (list, tuple)) or not targets:
        raise ValueError(f"targets is {type(targets).__name__} {_brief(targets)}; {forms}")
    for k, target in enumerate(targets):
        if not isinstance(target, Mapping):
            raise ValueError(f"targets[{k}] is a {type(target).__name__}; {forms}")
        if "labels" not in target and "class_labels" not in target:
            raise ValueError(
                f"targets[{k}] has the keys {sorted(map(str, target))}; expected 'labels' or "
                "'class_labels' among them"
            )
        read = {"labels", "class_labels", *optional}
        other = set(targets[0]).symmetric_difference(target) & read
        if other:
            raise ValueError(
                f"targets[{k}] and targets[0] differ in {sorted(other)}; expected all images to "
                "have the same keys"
            )


def _brief(x: Any) -> str:
    text = repr(x)
    return text if len(text) <= 60 else text[:57] + "..."


def target_shapes(shapes: Mapping[str, list[tuple[Any, ...]]], label: str, size: int | None) -> int:
    """Check the shapes of the targets of images and return the number to pad to."""
    ranks = {label: 1, "boxes": 2, "weights": 1, "ignore": 1, "masks": 3}
    for name, of_images in shapes.items():
        for k, (shape, first) in enumerate(zip(of_images, shapes[label], strict=True)):
            if not all(isinstance(extent, int) for extent in shape):
                raise ValueError(
                    f"targets[{k}][{name!r}] has the unknown shape {shape}; expected a known "
                    "one: pad before the program and pass (labels, boxes, mask)"
                )
            if len(shape) != ranks[name] or shape[0] != first[0] or shape[1:] != of_images[0][1:]:
                raise ValueError(
                    f"targets[{k}][{name!r}] has shape {shape}, with {first} labels and shape "
                    f"{of_images[0]} in the first image; expected one entry per object"
                )
    greatest = max(shape[0] for shape in shapes[label])
    if size is not None and size < greatest:
        raise ValueError(f"size is {size}, and an image has {greatest} objects; expected as many")
    return max(greatest, 1) if size is None else size
