"""Every message that a user of detection losses can cause, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._checks import one_of, place, same

CLASS_LOSSES = ("softmax", "focal", "varifocal", "ia_bce")


def detection_options(
    num_classes: Any,
    class_loss: str,
    class_cost_form: Any,
    class_weights: Any,
    label_smoothing: float,
    repeat: Any,
    groups: Any,
) -> None:
    """Check the options of a detection loss against each other."""
    for name, given in (("num_classes", num_classes), ("repeat", repeat), ("groups", groups)):
        if not isinstance(given, int) or given < 1:
            raise ValueError(f"{name} is {given!r}; expected a positive integer")
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
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; expected a number from 0 to 1")


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


def labels(outside: Array, given: Array, num_classes: int, backend: Backend, xp: Namespace) -> None:
    """Raise if a label is out of range; for concrete arrays only."""
    if bool(xp.any(outside)):
        wrong = xp.where(outside, given, 0)
        low, high = int(xp.min(wrong)), int(xp.max(wrong))
        raise ValueError(
            f"labels holds {low if low < 0 else high}{place(xp.any(outside, axis=1), backend, xp)}"
            f"; expected 0 to {num_classes - 1} with num_classes={num_classes}; labels that begin "
            "with 1 need num_classes to be one more, and an object without a class ignore=True"
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


def target_list(targets: Any) -> None:
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
        if other := set(targets[0]).symmetric_difference(target) & {
            "labels", "class_labels", "boxes", "weights", "ignore", "masks"
        }:  # fmt: skip
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
