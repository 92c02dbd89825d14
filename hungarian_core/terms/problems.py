"""Images, decoder layers and groups of queries as one batch of matching problems.

A decoder layer is matched for itself, and so is a group of queries: for the matching they are
more images with the same truth. `MatchingProblems` has one axis N for all of these, in the order
layer, image, group, so that one batched solve serves them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hungarian_core._backend import Array, Backend, DType, Namespace
from hungarian_core._dtypes import solving_dtype
from hungarian_core.assignment import Assignment
from hungarian_core.terms.targets import blank

Tile = tuple[slice, slice]  # of the axes N and Q


class MatchingProblems(NamedTuple):
    """N matching problems of M true objects and Q queries each: how they lie, and who takes part.

    What queries and objects are like is not here: terms lay that out by `of_queries` and
    `of_objects`.
    """

    mask: Array  # [N, M] bool: there is an object
    ignore: Array | None  # [N, M] bool
    weights: Array | None  # [N, M], 0 where there is no object
    query_mask: Array | None  # [N, Q] bool: there is a query
    batch_axes: tuple[Any, ...]  # the axes that N stands for: (L, B, groups)
    layered: bool  # the caller's arrays have an axis of layers
    size: Any  # N
    queries: Any  # Q
    objects: Any  # M without what was added
    surplus: bool  # one object was added, to gather from
    repeat: int  # how many times each true object is there
    objects_mask: Array  # (B, M) bool, as the targets have it
    dtype: DType  # to compute in, float32 or wider
    traced: bool  # the outputs are symbols in a program
    backend: Backend
    xp: Namespace

    def of_queries(self, x: Array) -> Array:
        """Return `[N, Q, ...]` of `(B, Q, ...)` or `(L, B, Q, ...)`, 0 where there is no query."""
        features = self.backend.shape(x)[3 if self.layered else 2 :]
        x = self.xp.reshape(x, (self.size, self.queries, *features))
        x = self.xp.astype(x, self.dtype, copy=False)
        if self.query_mask is None:
            return x
        # Chosen before any arithmetic: what is masked may hold anything.
        there = self.query_mask[(..., *(None,) * len(features))]
        return self.xp.where(there, x, self.xp.zeros_like(x))

    def of_objects(self, x: Array) -> Array:
        """Return `[N, M, ...]` of `(B, M, ...)`."""
        layers, images, groups = self.batch_axes
        x = self.repeated(x, 1)
        if self.surplus:
            x = self.xp.concat([x, blank(x, 1, self.xp)], axis=1)
        _, *rest = self.backend.shape(x)
        if not (isinstance(layers, int) and layers * groups == 1):
            x = self.xp.broadcast_to(x[None, :, None, ...], (layers, images, groups, *rest))
        return self.xp.reshape(x, (self.size, *rest))

    def of_images(self, x: Array) -> Array:
        """Return `[N, ...]` of what each image has, `(B, ...)`."""
        layers, images, groups = self.batch_axes
        _, *rest = self.backend.shape(x)
        x = self.xp.broadcast_to(x[None, :, None, ...], (layers, images, groups, *rest))
        return self.xp.reshape(x, (self.size, *rest))

    def of_truth(self, x: Array) -> Array:
        """Return `[N, M, ...]` of floating `(B, M, ...)`, a constant, 0 where there is none."""
        x = self.xp.astype(x, self.dtype, copy=False)
        there = self.objects_mask[(..., *(None,) * (x.ndim - 2))]
        # Chosen before any arithmetic: padding may hold anything.
        return self.of_objects(self.backend.stop_gradient(self.xp.where(there, x, 0)))

    def repeated(self, x: Array, axis: int) -> Array:
        """Return each object as many times as it is to be matched."""
        return self.xp.concat([x] * self.repeat, axis=axis) if self.repeat > 1 else x

    def per_layer(self, x: Array) -> Array:
        """Return the sums `[L]` of `[N, ...]`, which has two axes."""
        layers, images, groups = self.batch_axes
        shape = (layers, images * groups, self.backend.shape(x)[1])
        return self.xp.sum(self.xp.reshape(x, shape), axis=(1, 2))

    def per_image(self, x: Array) -> Array:
        """Return the sums `[L, B]` of `[N, ...]`, which has two axes."""
        shape = (*self.batch_axes, self.backend.shape(x)[1])
        return self.xp.sum(self.xp.reshape(x, shape), axis=(2, 3))

    def unflatten(self, x: Array) -> Array:
        """Return `[N, ...]` with the batch axes that the caller gave."""
        layers, images, groups = self.batch_axes
        axes = (
            *((layers,) if self.layered else ()), images, *((groups,) if groups > 1 else ()),
        )  # fmt: skip
        return self.xp.reshape(x, (*axes, *self.backend.shape(x)[1:]))

    def unflatten_assignment(self, assignment: Assignment) -> Assignment:
        """Return the matching with the axes that the caller gave, without what was added."""
        rows, cols, cost, u, v = assignment
        if self.surplus:
            rows, u = rows[:, : self.objects], u[:, : self.objects]
        return Assignment(*[self.unflatten(x) for x in (rows, cols, cost, u, v)])


def as_problems(
    shape: tuple[Any, ...],
    fields: Mapping[str, Array],
    dtype: DType,
    traced: bool,
    query_mask: Array | None,
    repeat: int,
    groups: int,
    backend: Backend,
    xp: Namespace,
) -> MatchingProblems:
    """Lay out the problems of a call.

    Args:
        shape: `(B, Q)` or `(L, B, Q)`, of the outputs.
        fields: Arrays `(B, M, ...)` of the targets, with ``"mask"``.
        dtype: The dtype to compute in.
        traced: Whether the outputs are symbols in a program.
        query_mask: `(B, Q)` or `(L, B, Q)` bool, or None.
        repeat: How many times each true object is there.
        groups: Into how many groups the queries fall.
        backend: The backend of the arrays.
        xp: Its namespace.
    """
    *front, queries = shape
    layers, images = front if len(front) == 2 else (1, front[0])
    size, each = layers * images * groups, queries // groups
    if query_mask is not None:
        query_mask = xp.reshape(xp.broadcast_to(query_mask, shape), (size, each))
    mask = fields["mask"]
    # To gather from objects there has to be one.
    objects = backend.shape(mask)[1]
    surplus = not (isinstance(objects, int) and objects > 0)

    def problems(mask: Array, ignore: Array | None, weights: Array | None) -> MatchingProblems:
        return MatchingProblems(
            mask, ignore, weights, query_mask, (layers, images, groups), len(front) == 2, size,
            each, objects * repeat, surplus, repeat, fields["mask"], dtype, traced, backend,
            xp,
        )  # fmt: skip

    ignore, weights = fields.get("ignore"), fields.get("weights")
    if ignore is not None:
        ignore = ignore & mask
    if weights is not None:
        weights = xp.where(mask, xp.astype(weights, dtype, copy=False), 0)
    layout = problems(mask, ignore, weights).of_objects
    return problems(*[None if x is None else layout(x) for x in (mask, ignore, weights)])


def compute_dtype(arrays: list[Array], xp: Namespace) -> DType:
    """Return the dtype to compute in: float32, or float64 if any array is."""
    dtypes = [solving_dtype(x.dtype, xp) for x in arrays]
    return dtypes[0] if all(dtype == dtypes[0] for dtype in dtypes) else xp.float64
