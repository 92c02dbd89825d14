"""The true objects of a batch of images, padded to one shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._registry import get_backend
from hungarian_core.costs.classes import as_index
from hungarian_core.terms import _checks as checks
from hungarian_core.terms import _target_checks as target_checks
from hungarian_core.terms._padding import padded_on_host, places

Extents = checks.Extents  # what each object has behind `(B, M)`; a letter where any will do
_WEIGHING: dict[str, Extents] = {"weights": (), "ignore": ()}
_FIELDS: dict[str, Extents] = {"labels": (), "boxes": (4,), **_WEIGHING, "masks": ("H", "W")}


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

    Examples:
        >>> labels, mask = np.array([[1, 0]]), np.array([[True, False]])
        >>> targets = hc.Targets(labels, np.full((1, 2, 4), 0.5), mask)
        >>> targets.labels.shape, targets.boxes.shape
        ((1, 2), (1, 2, 4))
    """

    labels: Array
    boxes: Array | None
    mask: Array | None
    weights: Array | None = None
    ignore: Array | None = None
    masks: Array | None = None


# The forms that losses take: padded, the first fields of it, a mapping of padded arrays, or one
# mapping per image.
TargetForms = (
    Targets
    | tuple[Array, Array, Array | None]
    | Mapping[str, Array]
    | Sequence[Mapping[str, Array]]
)


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
            ``"masks"`` `(n, H, W)`, which are padded at the bottom and on the right where their
            sizes differ. Other keys are left alone.
        size: M, the number of objects to pad to, by default the greatest there is. A fixed size
            spares a compiled program from being compiled again.
        like: An array that says on which device the result shall lie.
        backend: A backend's name or instance, by default the one of the arrays.

    Returns:
        `Targets`, padded with zeros.

    Raises:
        ValueError: Images have different keys, arrays do not fit, or `size` is too small.

    Examples:
        >>> targets = hc.pad_targets([
        ...     {"labels": np.array([1]), "boxes": np.full((1, 4), 0.5)},
        ...     {"labels": np.array([0, 2]), "boxes": np.full((2, 4), 0.25)},
        ... ])
        >>> targets.labels
        array([[1, 0],
               [0, 2]])
        >>> targets.boxes.shape
        (2, 2, 4)
        >>> targets.mask
        array([[ True, False],
               [ True,  True]])
    """
    fields = _padded(targets, _FIELDS, ("labels",), size, like, backend)
    return Targets(
        fields["labels"], fields.get("boxes"), fields["mask"], fields.get("weights"),
        fields.get("ignore"), fields.get("masks"),
    )  # fmt: skip


def pad_fields(
    targets: Sequence[Mapping[str, Array]],
    wanted: Mapping[str, Extents],
    size: int | None,
    like: Array | None,
    backend: str | Backend | None,
) -> dict[str, Array]:
    """Return the wanted fields of images, all of them required, with mask, weights and ignore."""
    checks.fields_wanted(wanted)
    return _padded(targets, {**wanted, **_WEIGHING}, tuple(wanted), size, like, backend)


def _padded(
    targets: Sequence[Mapping[str, Array]],
    wanted: Mapping[str, Extents],
    required: tuple[str, ...],
    size: int | None,
    like: Array | None,
    backend: str | Backend | None,
) -> dict[str, Array]:
    """Return the wanted fields of images, padded, with their mask; some of them are required."""
    target_checks.target_list(targets, tuple(wanted), required)
    keys = {name: _key(name, targets[0]) for name in wanted}
    keys = {name: key for name, key in keys.items() if key in targets[0]}
    lead = required[0]
    if backend is None and like is not None:
        backend = get_backend(None, like=like)
    backend = get_backend(backend, **{lead: targets[0][keys[lead]]})
    given = {
        name: _alike(
            [backend.asarray(t[key], like=like) for t in targets], name, wanted[name], backend
        )
        for name, key in keys.items()
    }
    shapes = {keys[name]: [backend.shape(x) for x in parts] for name, parts in given.items()}
    extents = {key: wanted[name] for name, key in keys.items()}
    size = target_checks.target_shapes(shapes, extents, keys[lead], size)
    counts = [shape[0] for shape in shapes[keys[lead]]]

    on_host = _on_host(given, counts, size, backend)
    if on_host is not None:
        return on_host
    given = {name: _of_one_size(x, wanted[name], backend) for name, x in given.items()}
    first = given[lead][0]
    if backend.is_traced(first) or backend.on_host(first):
        mask, padded = _by_places(given[lead], counts, size, backend)
    else:
        mask, padded = _end_to_end(given[lead], counts, size, backend)
    return {"mask": mask, **{name: padded(parts) for name, parts in given.items()}}


def _on_host(
    given: dict[str, list[Array]], counts: list[int], size: int, backend: Backend
) -> dict[str, Array] | None:
    """Return the mask and the fields, padded by NumPy, where it can read them; else None.

    It copies each image's objects once: that takes less than the operations of a framework do.
    """
    every = [x for parts in given.values() for x in parts]
    xp, front = backend.namespace(every[0]), (len(counts), size)
    known = (xp.float32, xp.float64, xp.int64, xp.int32, xp.bool)  # NumPy has no bfloat16
    like = [(front, xp.bool)]
    for parts in given.values():
        dtype, shapes = parts[0].dtype, [backend.shape(x)[1:] for x in parts]
        if dtype not in known or any(x.dtype != dtype for x in parts):
            return None
        like.append(((*front, *map(max, *shapes, shapes[0])), dtype))
    if not all(backend.readable(x) for x in every):
        return None
    shapes = [shape for shape, _ in like[1:]]
    found = backend.host_call(
        lambda *arrays: padded_on_host(arrays, shapes, counts), *every, like=tuple(like)
    )
    return dict(zip(("mask", *given), found, strict=True))


def _by_places(
    leading: list[Array], counts: list[int], size: int, backend: Backend
) -> tuple[Array, Callable[[list[Array]], Array]]:
    """Return the mask, and a function that pads a field: it takes each entry from its place."""
    first = leading[0]
    xp = backend.namespace(first)
    # Padding is one more object, all zeros, behind the others.
    full = None  # an image with an object to make zeros of
    if backend.is_traced(first):  # a program may serve other numbers of objects
        count = xp.stack([xp.sum(xp.ones_like(as_index(x, xp))) for x in leading])
        line = xp.broadcast_to(xp.ones_like(as_index(blank(first, 0, xp), xp)), (size,))
        place = xp.cumulative_sum(line)[None, :] - 1
        mask = place < count[:, None]
        begin = xp.cumulative_sum(count) - count
        at = xp.where(mask, begin[:, None] + place, xp.sum(count))
    else:
        there, place, full = places(counts, size)
        mask, at = backend.asarray(there, like=first), backend.asarray(place, like=first)
    at = as_index(xp.reshape(at, (-1,)), xp)

    def padded(parts: list[Array]) -> Array:
        zeros = blank(parts[0], 0, xp) if full is None else xp.zeros_like(parts[full][:1, ...])
        every = xp.concat([*parts, zeros], axis=0)
        extents = backend.shape(every)[1:]
        return xp.reshape(xp.take(every, at, axis=0), (len(leading), size, *extents))

    return mask, padded


def _end_to_end(
    leading: list[Array], counts: list[int], size: int, backend: Backend
) -> tuple[Array, Callable[[list[Array]], Array]]:
    """Return the same, with zeros between the images' own entries.

    No number is sent to a device for it, which would have to wait: but there are more pieces.
    """

    def padded(parts: list[Array]) -> Array:
        xp = backend.namespace(parts[0])
        extents = backend.shape(parts[0])[1:]
        zeros = xp.broadcast_to(blank(parts[0], 0, xp), (size, *extents))
        ends = [
            x for part, k in zip(parts, counts, strict=True) for x in (part, zeros[: size - k, ...])
        ]
        return xp.reshape(xp.concat(ends, axis=0), (len(counts), size, *extents))

    xp = backend.namespace(leading[0])
    line = xp.broadcast_to(xp.zeros_like(blank(leading[0], 0, xp), dtype=xp.bool), (size,))
    return padded([~line[:k] for k in counts]), padded


def _key(name: str, target: Mapping[str, Array]) -> str:
    """Return the key of a field: datasets and `transformers` differ about one."""
    return "class_labels" if name == "labels" and name not in target else name


def _alike(parts: list[Array], name: str, extents: Extents, backend: Backend) -> list[Array]:
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
        shape = (0, *(extent for extent in extents if isinstance(extent, int)))
        dtype = as_index(parts[0], xp).dtype if "labels" in name else parts[0].dtype
    return [
        xp.astype(xp.reshape(x, shape), dtype, copy=False) if is_empty else x
        for x, is_empty in zip(parts, empty, strict=True)
    ]


def _of_one_size(parts: list[Array], extents: Extents, backend: Backend) -> list[Array]:
    """Return arrays of images with zeros at the bottom and on the right of smaller ones."""
    xp = backend.namespace(*parts)
    for axis, extent in enumerate(extents, 1):
        if extent not in target_checks.PIXELS:
            continue
        there = [backend.shape(x)[axis] for x in parts]
        padded = []
        for x, k in zip(parts, there, strict=True):
            if k != max(there):
                front, back = backend.shape(x)[:axis], backend.shape(x)[axis + 1 :]
                zeros = xp.broadcast_to(blank(x, axis, xp), (*front, max(there) - k, *back))
                x = xp.concat([x, zeros], axis=axis)
            padded.append(x)
        parts = padded
    return parts


def blank(x: Array, axis: int, xp: Namespace) -> Array:
    """Return one more entry of `x` along an axis, zeros, even where there is none to look at."""
    sums = xp.sum(xp.astype(x, xp.float32, copy=False), axis=axis, keepdims=True)
    return xp.zeros_like(sums, dtype=x.dtype)


def as_fields(
    targets: TargetForms, like: Array, backend: Backend, wanted: Mapping[str, Extents]
) -> dict[str, Array]:
    """Return the fields of targets by name, in any of the forms that losses take.

    They are arrays `(B, M, ...)` where `like` lies, those that are wanted and there, and
    ``"mask"``. What nobody is to read is left alone: it may have any shape or none.
    """
    if isinstance(targets, Targets):
        # Field by field: Dynamo of PyTorch 2.6 follows no method of a named tuple.
        given: Mapping[str, Any] = dict(zip(Targets._fields, targets, strict=True))
    elif isinstance(targets, tuple) and len(targets) == 3 and not isinstance(targets[0], Mapping):
        given = dict(zip(("labels", "boxes", "mask"), targets, strict=True))
    elif isinstance(targets, Mapping):
        given = targets
    else:
        return pad_fields(targets, wanted, None, like, backend)
    keys = {name: _key(name, given) for name in ("mask", *wanted, *_WEIGHING)}
    fields = {
        name: backend.asarray(given[key], like=like)
        for name, key in keys.items()
        if given.get(key) is not None
    }
    checks.fields_there(fields, wanted or {"mask": ()})
    if "mask" not in fields:
        first = fields[next(iter(wanted))]
        xp = backend.namespace(first)
        index = tuple([slice(None)] * 2 + [0] * (len(backend.shape(first)) - 2))
        fields["mask"] = xp.ones_like(first[index], dtype=xp.bool)
    return fields
