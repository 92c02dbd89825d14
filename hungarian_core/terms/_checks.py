"""Every message that a user of detection losses can cause, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._checks import one_of, whole
from hungarian_core._extents import require_equal, same

Extents = tuple[int | str, ...]


def tile_bytes(size: Any) -> None:
    """Check how large a tile may be."""
    if size is not None:
        whole("tile_bytes", size, 1, "a number of bytes, 1 or more, or None")


def mask_options(gamma: Any, num_points: Any, importance_ratio: Any) -> None:
    """Check the numbers among the options of a term of masks."""
    if not gamma >= 0:
        raise ValueError(f"gamma is {gamma!r}; expected a number, 0 or more")
    if num_points is not None:
        whole("num_points", num_points, 1, "a positive integer, or None")
    if not 0 <= importance_ratio <= 1:
        raise ValueError(f"importance_ratio is {importance_ratio!r}; expected a number from 0 to 1")


def points_alignable(points: Any, pixels: str) -> None:
    """Check that what masks cost at points is what they lose there."""
    if points is not None and pixels == "focal":
        raise ValueError(
            "points came with match_by='loss' and pixels='focal', whose cost and loss differ where "
            "a truth is between 0 and 1, as it is between pixels; expected pixels='bce', or no "
            "points"
        )


def weights_of_call(weights: Mapping[str, Any], known: Mapping[str, Any], match_by: str) -> None:
    """Check that weights of a call are those of losses that there are, and not matched by."""
    if match_by == "loss":
        raise ValueError(
            "weights came with match_by='loss', which matches by the terms' own; expected None"
        )
    for name, weight in weights.items():
        one_of("the name of a weight", name, tuple(known))
        if isinstance(weight, (int, float)) and not isinstance(weight, bool):
            continue
        shape, dtype = getattr(weight, "shape", None), getattr(weight, "dtype", None)
        if shape is None or len(shape) or "complex" in str(dtype):
            raise ValueError(
                f"the weight {name!r} is {brief(weight)}; expected a number, or an array () of one"
            )


def outputs_there(outputs: Any, wanted: Mapping[str, Extents], *lead: str) -> None:
    """Check that a model's outputs are a mapping with all that is read, `lead` before extents."""
    if not isinstance(outputs, Mapping):
        raise TypeError(
            f"outputs is {brief(outputs)}; expected a mapping with {', '.join(map(repr, wanted))}"
        )
    for name, extents in wanted.items():
        if outputs.get(name) is None:
            raise ValueError(
                f"outputs has the keys {sorted(map(str, outputs))}; expected {name!r} "
                f"{_text(*lead, *extents)} among them"
            )


def output_shapes(
    shapes: Mapping[str, tuple[Any, ...]], wanted: Mapping[str, Extents], groups: int, least: int
) -> tuple[Any, ...]:
    """Check what a model returns, and return its shape up to the queries, `least` at least."""
    (first, extents), *_ = wanted.items()
    shape = shapes[first]
    front = shape[: len(shape) - len(extents)]
    if len(front) not in (2, 3) or not _fits(shape, (*front, *extents)):
        raise ValueError(
            f"{first} has shape {shape}; expected {_text('B', 'Q', *extents)}, or "
            f"{_text('L', 'B', 'Q', *extents)} for decoder layers"
        )
    for name, extents in wanted.items():
        # Masks of the last layer may stand beside other outputs of all layers.
        fronts = (front, front[1:]) if len(extents) > 1 and len(front) == 3 else (front,)
        if not any(_fits(shapes[name], (*x, *extents)) for x in fronts):
            raise ValueError(
                f"{name} has shape {shapes[name]}; expected {_text(*front, *extents)}"
                + (f", or {_text(*front[1:], *extents)} of the last layer" if fronts[1:] else "")
                + f", as {first} has {shape}"
            )
        rank = len(shapes[name]) - len(extents)
        _require(name, shapes[name], (*front[len(front) - rank :], *extents))
    queries = front[-1]
    if isinstance(queries, int) and (queries % groups or queries < least):
        raise ValueError(
            f"{first} has shape {shape}, with {queries} queries; expected groups={groups} of equal "
            "size, of one query at least"
        )
    require_equal("queries left over by groups", (queries % groups,), (0,))
    return front


def _fits(shape: tuple[Any, ...], expected: tuple[Any, ...]) -> bool:
    """Say whether a shape is as expected; a letter stands for any extent."""
    if len(shape) != len(expected):
        return False
    for a, b in zip(shape, expected, strict=True):
        if a is not b and not isinstance(b, str) and not same(a, b):
            return False
    return True


def _require(what: str, shape: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    """Have a program compare, when it runs, what `_fits` could not."""
    if all(type(extent) is int for extent in shape):
        return
    known = [k for k, extent in enumerate(expected) if not isinstance(extent, str)]
    require_equal(what, tuple(shape[k] for k in known), tuple(expected[k] for k in known))


def _text(*extents: Any) -> str:
    return f"({', '.join(map(str, extents))})"


def field_shapes(
    shapes: Mapping[str, tuple[Any, ...]], wanted: Mapping[str, Extents], images: Any
) -> None:
    """Check the shapes of padded targets against each other and the number of images."""
    (first, extents), *_ = wanted.items()
    shape = shapes[first]
    if not _fits(shape, ("B", "M", *extents)) or not same(shape[0], images):
        raise ValueError(
            f"{first} has shape {shape}; expected {_text('B', 'M', *extents)} with B = {images}, "
            "the number of images"
        )
    require_equal(f"images of {first} and of the outputs", shape[:1], (images,))
    for name, extents in wanted.items():
        expected = (*shape[:2], *extents)
        if name not in shapes:
            continue
        if not _fits(shapes[name], expected):
            raise ValueError(
                f"targets: {name} has shape {shapes[name]}; expected "
                f"{_text('B', 'M', *extents)}, as {first} has {shape}"
            )
        _require(f"targets: {name}", shapes[name], expected)


def fields_wanted(wanted: Mapping[str, Extents]) -> None:
    """Check that a list of images has something that tells how many objects there are."""
    if not wanted:
        raise ValueError(
            "no term reads anything of the targets, so a list does not say how many objects there "
            "are; expected a mapping with 'mask' (B, M)"
        )


def fields_there(fields: Mapping[str, Any], wanted: Mapping[str, Extents]) -> None:
    """Check that the targets have all that terms read."""
    for name, extents in wanted.items():
        if name not in fields:
            if name == "boxes":
                raise ValueError(
                    "boxes came, and the targets have none; expected true boxes (B, M, 4)"
                )
            raise ValueError(
                f"the targets have no {name!r}, only {', '.join(map(repr, fields)) or 'nothing'}; "
                f"expected {_text('B', 'M', *extents)}"
            )


def vectors(names: tuple[str, str], truth: tuple[Any, ...], prediction: tuple[Any, ...]) -> None:
    """Check that what is compared has equally many features."""
    if not same(truth[-1], prediction[-1]):
        raise ValueError(
            f"{names[0]} of the targets has shape {truth} and {names[1]} of the outputs "
            f"{prediction}; expected equally many features, the last axis"
        )
    require_equal(f"features of {names[0]} and {names[1]}", truth[-1:], prediction[-1:])


def letters(*sides: Mapping[str, tuple[tuple[Any, ...], Extents]]) -> None:
    """Check that an extent of one letter is the same wherever the letter stands.

    Args:
        sides: Of the outputs and of the targets, by key, a shape and what it ends in.
    """
    seen: dict[str, tuple[str, tuple[Any, ...], Any]] = {}
    for side in sides:
        for name, (shape, extents) in side.items():
            for letter, extent in zip(extents, shape[len(shape) - len(extents) :], strict=True):
                if not isinstance(letter, str):
                    continue
                other, came, first = seen.setdefault(letter, (name, shape, extent))
                if not same(extent, first):
                    raise ValueError(
                        f"{name} of the targets has shape {shape} and {other} of the outputs "
                        f"{came}; expected an equal {letter} in (..., {_text(*extents)[1:]}"
                    )
                require_equal(f"{letter} of {name} and {other}", (extent,), (first,))


def edges(
    shapes: Mapping[str, tuple[Any, ...]], bins: int, layered: bool, front: tuple[Any, ...]
) -> None:
    """Check the shapes of distributions of edges and of their references.

    Args:
        shapes: Those of both, by key.
        bins: One less than the number of places.
        layered: Whether other outputs have an axis of layers, of which edges may have fewer.
        front: `(L, B, Q)`.
    """
    (name, shape), (other, of_other) = shapes.items()
    layers = shape[:1] if layered and len(shape) == 5 else ()
    expected = (*layers, *front[1:], 4, bins + 1)
    few = all(x <= y for x, y in zip(layers, front, strict=False) if isinstance(x + y, int))
    if not _fits(shape, expected) or not few:
        more = f", or of the last layers, {front[0]} at most" if layered else ""
        raise ValueError(
            f"{name} has shape {shape}; expected {_text(*expected[len(layers) :])}{more}, with "
            f"bins={bins}"
        )
    _require(name, shape, expected)
    expected = expected[:-1] if len(of_other) == len(shape) - 1 else (*front[1:], 4)
    if not _fits(of_other, expected):
        raise ValueError(
            f"{other} has shape {of_other}; expected {_text(*front[1:], 4)}, or "
            f"{_text(*shape[:-1])} as {name}"
        )
    _require(other, of_other, expected)


def balance(name: str, shape: tuple[Any, ...]) -> None:
    """Check how much matched and other queries count."""
    if len(shape) != 1 or not same(shape[0], 2):
        raise ValueError(f"{name} has shape {shape}; expected (2,): of matched and other queries")
    require_equal(name, shape, (2,))


def layers_of_matchings(shape: tuple[Any, ...]) -> None:
    """Check that matchings, the objects of queries, have an axis of layers."""
    if len(shape) not in (3, 4):
        raise ValueError(
            f"assignment has the objects of queries in the shape {shape}; expected (L, B, Q), or "
            "(L, B, groups, Q): matchings of decoder layers"
        )


def keypoints(name: str, shape: tuple[Any, ...], count: int) -> None:
    """Check that there is a sigma for every keypoint of `(..., K, 2)`."""
    if not same(shape[-2], count):
        raise ValueError(
            f"{name} has shape {shape}, with {shape[-2]} keypoints, and there are {count} sigmas; "
            "expected one for each"
        )
    require_equal("keypoints and sigmas", (shape[-2],), (count,))


def permutations(name: str, orders: Any, count: int) -> tuple[tuple[int, ...], ...]:
    """Return orders of so many things, checked."""
    found = tuple(tuple(whole(name, x, 0, "whole numbers") for x in order) for order in orders)
    for order in found:
        if sorted(order) != [*range(count)]:
            raise ValueError(f"{name} has {brief(order)}; expected each of 0 to {count - 1} once")
    return found


def ignored(x: Array, shape: tuple[Any, ...], backend: Backend, xp: Namespace) -> None:
    """Check the flags of the objects to ignore."""
    came = backend.shape(x)
    if not xp.isdtype(x.dtype, "bool") or len(came) != len(shape):
        raise ValueError(
            f"ignore has dtype {x.dtype} and shape {came}; expected bool {shape}, True for an "
            "object that costs and gains nothing"
        )


def query_mask(x: Array, shape: tuple[Any, ...], backend: Backend, xp: Namespace) -> None:
    """Check the flags of queries against the shape of outputs, `(B, Q)` or `(L, B, Q)`."""
    came = backend.shape(x)
    if not xp.isdtype(x.dtype, "bool") or not any(
        _fits(came, expected) for expected in (shape[-2:], shape)
    ):
        raise ValueError(
            f"query_mask has dtype {x.dtype} and shape {came}; expected bool {shape[-2:]}"
            + (f" or {shape}" if len(shape) > 2 else "")
            + ", True where there is a query"
        )
    require_equal("query_mask", came, shape[len(shape) - len(came) :])


def objects_of_queries(
    x: Array, expected: tuple[tuple[Any, ...], ...], backend: Backend, xp: Namespace
) -> None:
    """Check the form of a matching that was given against the shapes that it may have."""
    came = backend.shape(x)
    if not xp.isdtype(x.dtype, "integral") or not any(_fits(came, shape) for shape in expected):
        raise ValueError(
            f"assignment has dtype {x.dtype} and shape {came}; expected integers "
            f"{' or '.join(map(str, dict.fromkeys(expected)))}: the object of each query, or -1"
        )
    require_equal("assignment", came, next(x for x in expected if len(x) == len(came)))


def objects_there(wrong: Array, at: Array, objects: Any, xp: Namespace) -> None:
    """Check, where values can be read, that queries were given objects that there are."""
    if bool(xp.any(wrong)):
        raise ValueError(
            f"assignment names objects that there are not, such as "
            f"{int(xp.max(xp.where(wrong, at, -2)))}; expected 0 to {objects - 1}, of objects that "
            "are no padding, or -1 for none"
        )


def no_boxes(class_loss: str) -> ValueError:
    """Return the error of a loss of classes that cannot do without boxes."""
    return ValueError(
        f"boxes is None with class_loss={class_loss!r}, which grades classes by the IoU of boxes; "
        "expected boxes, or class_loss='softmax' or 'focal'"
    )


def list_length(length: int, images: Any) -> None:
    """Check that a list of targets has one mapping per image."""
    if not same(length, images):
        raise ValueError(f"targets is a list of {length}, and the outputs are of {images} images")
    require_equal("images of the targets and of the outputs", (length,), (images,))


def extra_cost(came: tuple[Any, ...], shape: tuple[Any, ...]) -> None:
    """Check the shape of a user's matching cost against (L, B, groups, M, Q)."""
    layers, images, _, objects, queries = shape
    for expected in ((images, objects, queries), (layers, images, objects, queries), shape):
        if len(came) == len(expected) and all(map(same, came, expected)):
            require_equal("extra_cost", came, expected)
            return
    raise ValueError(
        f"extra_cost has shape {came}; expected (B, M, Q), (L, B, M, Q) or (L, B, groups, M, Q), "
        f"which are {shape}"
    )


def image_weights(came: tuple[Any, ...], images: Any) -> None:
    """Check the shape of the weights of images."""
    if len(came) != 1 or not same(came[0], images):
        raise ValueError(f"image_weights has shape {came}; expected ({images},), one per image")
    require_equal("image_weights", came, (images,))


def mask_arguments(loss: Any, masks: Any) -> None:
    """Check that masks came if, and only if, there is a term of masks."""
    if loss is None and masks is not None:
        raise ValueError(
            "masks came, and the loss has none; expected DetrLoss(..., masks=MaskLoss())"
        )
    if loss is not None and masks is None:
        raise ValueError("the loss has masks=MaskLoss(...); expected masks= in the call too")


def candidates_alignable(candidates: Any) -> None:
    """Check that masks that are matched by their loss are compared at the same points."""
    if candidates is not None:
        raise ValueError(
            "candidates came with match_by='loss', and of them each pair takes others; expected "
            "points, or none for all pixels"
        )


def candidates_given(given: bool) -> None:
    """Check that points for every object do not meet a matching with many queries for one."""
    if given:
        raise ValueError(
            "candidates has points for every object, and assignment gives queries their objects; "
            "expected candidates (B, 1, R, 2)"
        )


def mask_shapes(masks: tuple[Any, ...], truth: tuple[Any, ...], dense: bool) -> None:
    """Check that masks compared pixel by pixel are of one size."""
    if dense and not all(map(same, masks[-2:], truth[-2:])):
        raise ValueError(
            f"masks has shape {masks} and the masks of the targets {truth}; expected equal height "
            "and width: resize one, pass points=, or choose resize='bilinear'"
        )
    if dense:
        require_equal("the size of masks and of those of targets", masks[-2:], truth[-2:])


def brief(x: Any) -> str:
    """Return what something is, in a line."""
    text = " ".join(repr(x).split())
    return text if len(text) <= 60 else text[:57] + "..."
