"""The true objects of a batch of images, padded to one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._registry import get_backend
from hungarian_core.costs.classes import as_index
from hungarian_core.terms import _checks as checks

_OPTIONAL = ("boxes", "weights", "ignore", "masks")


class Targets(NamedTuple):
    """The true objects of B images, at most M in each.

    Attributes:
        labels: `(B, M)` integer, the classes.
        boxes: `(B, M, 4)` in cxcywh, relative to the image, or None where only masks are used.
        mask: `(B, M)` bool, True where there is an object; the rest may hold anything. None if
            there is an object everywhere.
        weights: `(B, M)`, what the loss of each object is multiplied by, by default 1.
        ignore: `(B, M)` bool, objects that cost and gain nothing: see `DetrLoss`.
        masks: `(B, M, H, W)`, the segmentation of each object, 0 or 1.
    """

    labels: Array
    boxes: Array | None
    mask: Array | None
    weights: Array | None = None
    ignore: Array | None = None
    masks: Array | None = None


# The forms that losses take: padded, the first fields of it, or one mapping per image.
TargetForms = Targets | tuple[Array, Array, Array | None] | Sequence[Mapping[str, Array]]


def pad_targets(
    targets: Sequence[Mapping[str, Array]],
    *,
    size: int | None = None,
    like: Array | None = None,
    backend: str | Backend | None = None,
) -> Targets:
    """Return the true objects of images, which differ in number, as arrays of one shape.

    Args:
        targets: One mapping per image, with ``"labels"`` or ``"class_labels"`` `(n,)`, ``"boxes"``
            `(n, 4)`, and where wanted ``"weights"`` `(n,)`, ``"ignore"`` `(n,)` bool and
            ``"masks"`` `(n, H, W)`. Other keys are left alone.
        size: M, the number of objects to pad to, by default the greatest there is. A fixed size
            spares a compiled program from being compiled again.
        like: An array that says on which device the result shall lie.
        backend: A backend's name or instance, by default the one of the arrays.

    Returns:
        `Targets`, padded with zeros.

    Raises:
        ValueError: Images have different keys, arrays do not fit, or `size` is too small.
    """
    return _padded(targets, _OPTIONAL, size, like, backend)


def _padded(
    targets: Sequence[Mapping[str, Array]],
    optional: tuple[str, ...],
    size: int | None,
    like: Array | None,
    backend: str | Backend | None,
) -> Targets:
    """Return what `pad_targets` does, of the labels and the optional keys named."""
    checks.target_list(targets, optional)
    label = "labels" if "labels" in targets[0] else "class_labels"
    if backend is None and like is not None:
        backend = get_backend(None, like=like)
    backend = get_backend(backend, labels=targets[0][label])
    names = [name for name in (label, *optional) if name in targets[0]]
    given = {
        name: _alike([backend.asarray(t[name], like=like) for t in targets], name, backend)
        for name in names
    }
    shapes = {name: [backend.shape(x) for x in parts] for name, parts in given.items()}
    size = checks.target_shapes(shapes, label, size)
    counts = [shape[0] for shape in shapes[label]]

    first = given[label][0]
    xp = backend.namespace(first)
    if backend.is_traced(first):  # a program may serve other numbers of objects
        ones = [xp.ones_like(as_index(x, xp)) for x in given[label]]
        count = xp.stack([xp.sum(x) for x in ones])
        line = xp.broadcast_to(xp.ones_like(as_index(blank(first, 0, xp), xp)), (size,))
    else:
        count = as_index(backend.asarray(counts, like=first), xp)
        line = as_index(backend.asarray([1] * size, like=first), xp)
    place = xp.cumulative_sum(line)[None, :] - 1
    end = xp.cumulative_sum(count)
    mask = place < count[:, None]
    # Padding is one more object, all zeros, behind the others.
    at = xp.where(mask, (end - count)[:, None] + place, xp.sum(count))
    at = as_index(xp.reshape(at, (-1,)), xp)

    def padded(parts: list[Array]) -> Array:
        every = xp.concat([*parts, blank(parts[0], 0, xp)], axis=0)
        extents = backend.shape(every)[1:]
        return xp.reshape(xp.take(every, at, axis=0), (len(counts), size, *extents))

    fields = {name: padded(parts) for name, parts in given.items()}
    return Targets(fields.pop(label), fields.pop("boxes", None), mask, **fields)


def _alike(parts: list[Array], name: str, backend: Backend) -> list[Array]:
    """Return arrays of images, those of images without objects like the others.

    An empty list, or a tensor made of one, has one axis and is floating, whatever it stands for.
    """
    empty = [backend.shape(x) == (0,) for x in parts]
    if not any(empty):
        return parts
    xp = backend.namespace(*parts)
    full = [x for x, is_empty in zip(parts, empty, strict=True) if not is_empty]
    if full:
        shape, dtype = (0, *backend.shape(full[0])[1:]), full[0].dtype
    else:
        shape = (0, 4) if name == "boxes" else (0,)
        dtype = as_index(parts[0], xp).dtype if "labels" in name else parts[0].dtype
    return [
        xp.astype(xp.reshape(x, shape), dtype, copy=False) if is_empty else x
        for x, is_empty in zip(parts, empty, strict=True)
    ]


def blank(x: Array, axis: int, xp: Namespace) -> Array:
    """Return one more entry of `x` along an axis, zeros, even where there is none to look at."""
    sums = xp.sum(xp.astype(x, xp.float32, copy=False), axis=axis, keepdims=True)
    return xp.zeros_like(sums, dtype=x.dtype)


def as_targets(
    targets: TargetForms, like: Array, backend: Backend, *, boxes: bool = True, masks: bool = True
) -> Targets:
    """Return targets in any of the forms that `DetrLoss` takes, as arrays where `like` lies.

    Boxes and masks that nobody is to read are left alone: they may have any shape or none.
    """
    read = {"boxes": boxes, "masks": masks}
    if isinstance(targets, Targets):
        given = targets
    elif isinstance(targets, tuple) and len(targets) == 3 and not isinstance(targets[0], Mapping):
        given = Targets(*targets)
    else:
        names = tuple(name for name in _OPTIONAL if read.get(name, True))
        return _padded(targets, names, None, like, backend)
    # Field by field: Dynamo of PyTorch 2.6 follows no method of a named tuple.
    fields: dict[str, Any] = {
        name: None if x is None or not read.get(name, True) else backend.asarray(x, like=like)
        for name, x in zip(Targets._fields, given, strict=True)
    }
    if fields["mask"] is None:
        xp = backend.namespace(fields["labels"])
        fields["mask"] = xp.ones_like(fields["labels"], dtype=xp.bool)
    return Targets(**fields)
