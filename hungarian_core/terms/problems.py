"""Images, decoder layers and groups of queries as one batch of matching problems.

A decoder layer is matched for itself, and so is a group of queries: for the matching they are
more images with the same truth. `Scenes` has one axis N for all of these, in the order layer,
image, group, so that one batched solve serves them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import solving_dtype
from hungarian_core.costs.classes import as_index
from hungarian_core.terms.targets import Targets, blank

# A temporary of this size stays in a processor's cache. In a program nothing is cut unless it is
# asked for: compilers fuse, each tile is more code, and a program may serve other sizes than these.
EAGER_BYTES = 2**20


class Scenes(NamedTuple):
    """N matching problems of M true objects and Q queries each."""

    logits: Array  # [N, Q, C], float32 or wider
    boxes: Array | None  # [N, Q, 4] in the same dtype
    labels: Array  # [N, M] index, 0 where there is no object or no class
    true_boxes: Array | None  # [N, M, 4], 0 where there is no object
    mask: Array  # [N, M] bool
    classless: Array | None  # [N, M] bool: ignored objects of no class
    ignore: Array | None  # [N, M] bool
    weights: Array | None  # [N, M]
    there: Array | None  # [N, Q] bool: there is a query; the others are 0
    lost: Array | None  # [N] bool: labels are out of range, and that could not be raised
    lead: tuple[Any, ...]  # the axes that N stands for: (L, B, groups)
    objects: Any  # M without what was added
    surplus: bool  # one object was added, to gather from


def scenes(
    logits: Array,
    boxes: Array | None,
    targets: Targets,
    num_classes: int,
    repeat: int,
    groups: int,
    query_mask: Array | None,
    backend: Backend,
) -> Scenes:
    """Check the inputs of a detection loss and lay them out.

    Args:
        logits: `(B, Q, C)` or `(L, B, Q, C)`.
        boxes: `(B, Q, 4)` or `(L, B, Q, 4)`, or None.
        targets: Arrays of the backend.
        num_classes: The labels are below it.
        repeat: How many times each true object is there.
        groups: Into how many groups the queries fall.
        query_mask: `(B, Q)` or `(L, B, Q)` bool, or None.
        backend: The backend of the arrays.
    """
    xp = backend.namespace(logits)
    shape = backend.shape(logits)
    *front, queries, _ = shape
    layers, images = front if len(front) == 2 else (1, front[0])
    lead = (layers, images, groups)
    size, wide = layers * images * groups, _wide(logits, boxes, xp)
    # To gather from objects there has to be one.
    objects = backend.shape(targets.labels)[1]
    surplus = not (isinstance(objects, int) and objects > 0)

    there = None
    if query_mask is not None:
        query_mask = xp.broadcast_to(query_mask, shape[:-1])
        there = xp.reshape(query_mask, (size, queries // groups))

    def of_queries(x: Array) -> Array:
        if query_mask is not None:
            # Chosen before any arithmetic: what is masked may hold anything.
            x = xp.where(query_mask[..., None], x, xp.zeros_like(x))
        x = xp.reshape(x, (size, queries // groups, backend.shape(x)[-1]))
        return xp.astype(x, wide, copy=False)

    def of_objects(x: Array) -> Array:
        """Return `[N, M, ...]` of `[B, M, ...]`."""
        x = xp.concat([x] * repeat, axis=1) if repeat > 1 else x
        x = xp.concat([x, blank(x, 1, xp)], axis=1) if surplus else x
        _, *rest = backend.shape(x)
        if groups > 1 or len(front) == 2:
            x = xp.broadcast_to(x[None, :, None, ...], (*lead, *rest))
        return xp.reshape(x, (size, *rest))

    mask = targets.mask
    assert mask is not None  # `as_targets` has made it
    labels, classless, lost = _labels(targets, mask, num_classes, backend, xp)
    true_boxes = None
    if boxes is not None and targets.boxes is not None:
        # Chosen before any arithmetic: padding may hold anything.
        true_boxes = xp.where(mask[..., None], xp.astype(targets.boxes, wide, copy=False), 0)
        true_boxes = of_objects(backend.stop_gradient(true_boxes))
    weights = targets.weights
    if weights is not None:
        weights = of_objects(xp.where(mask, xp.astype(weights, wide, copy=False), 0))
    if lost is not None:
        lost = xp.any(of_objects(lost), axis=1)
    return Scenes(
        of_queries(logits),
        None if true_boxes is None else of_queries(boxes),
        of_objects(labels),
        true_boxes,
        of_objects(mask),
        None if classless is None else of_objects(classless),
        None if targets.ignore is None else of_objects(targets.ignore & mask),
        weights,
        there,
        lost,
        lead,
        objects * repeat,
        surplus,
    )


def _wide(logits: Array, boxes: Array | None, xp: Namespace) -> Any:
    """Return the dtype to compute in: float32, or float64 if there is any."""
    dtypes = [solving_dtype(x.dtype, xp) for x in (logits, boxes) if x is not None]
    return dtypes[0] if dtypes[0] == dtypes[-1] else xp.float64


def _labels(
    targets: Targets, mask: Array, num_classes: int, backend: Backend, xp: Namespace
) -> tuple[Array, Array | None, Array | None]:
    """Return labels in range, which objects have none, and which are wrong if none may raise."""
    labels = as_index(targets.labels, xp)
    outside = mask & ((labels < 0) | (labels >= num_classes))
    classless = None
    if targets.ignore is not None:
        classless = outside & targets.ignore
        outside = outside & ~targets.ignore
    lost: Array | None = outside
    if backend.readable(outside):
        _checks.labels(
            outside, labels, f"0 to {num_classes - 1} with num_classes={num_classes}; labels that "
            "begin with 1 need num_classes to be one more, and an object without a class "
            "ignore=True",
            backend, xp,
        )  # fmt: skip
        lost = None
    fits = (labels >= 0) & (labels < num_classes)
    return xp.where(mask & fits, labels, 0), classless, lost


Tile = tuple[slice, slice]


def tiles(
    found: Scenes, widths: tuple[Any, ...], limit: int | None, backend: Backend
) -> list[list[Tile]]:
    """Return pieces of `[N, Q]`, such that no array `[n, q, width]` is larger than the limit.

    Rows of tiles follow each other along N, the tiles of a row along Q.
    """
    size, queries, _ = backend.shape(found.logits)
    known = all(isinstance(extent, int) for extent in (size, queries, *widths))
    if not known or (limit is None and backend.is_traced(found.logits)):
        return [[(slice(None), slice(None))]]
    limit = EAGER_BYTES if limit is None else limit
    xp = backend.namespace(found.logits)
    line = max(*widths, 1) * xp.finfo(found.logits.dtype).bits // 8
    of_queries = list(_pieces(queries, max(limit // line, 1)))
    of_scenes = _pieces(size, max(limit // (line * max(queries, 1)), 1))
    return [[(n, q) for q in of_queries] for n in of_scenes]


def _pieces(extent: int, most: int) -> Iterator[slice]:
    """Cut a range into the fewest pieces of at most `most`, as equal as can be."""
    count = max(math.ceil(extent / most), 1)
    for k in range(count):
        yield slice(extent * k // count, extent * (k + 1) // count)


def by_tiles(
    function: Callable[..., Any], rows: list[list[Any]], axes: tuple[int, ...], xp: Namespace
) -> tuple[Array, ...]:
    """Return the arrays that `function` gives for each tile, put together.

    Args:
        function: ``function(tile) -> arrays``.
        rows: The tiles, or whatever stands for them.
        axes: For each array, the axis of the queries; that of the scenes is the first.
        xp: The namespace.
    """
    parts = [[function(tile) for tile in row] for row in rows]

    def together(k: int, axis: int) -> Array:
        joined = [_concat([x[k] for x in row], axis, xp) for row in parts]
        return _concat(joined, 0, xp)

    return tuple(together(k, axis) for k, axis in enumerate(axes))


def _concat(arrays: list[Array], axis: int, xp: Namespace) -> Array:
    return arrays[0] if len(arrays) == 1 else xp.concat(arrays, axis=axis)
