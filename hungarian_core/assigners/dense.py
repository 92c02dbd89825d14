"""What assigners share: what they read, and how they choose among pairs `[B, M, Q]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from hungarian_core import _checks as core_checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import solving_dtype
from hungarian_core._registry import get_backend
from hungarian_core.assigners import _checks as checks
from hungarian_core.boxes import ciou, convert, iou
from hungarian_core.costs.classes import as_index, pick, transposed
from hungarian_core.terms import _checks as term_checks
from hungarian_core.terms._class_checks import labels_fit
from hungarian_core.terms.targets import TargetForms, as_fields, blank


class Assigned(NamedTuple):
    """Which object each query is to learn: a tuple of arrays, hence a pytree.

    Attributes:
        row4col: `(B, Q)` index, the object of each query, -1 for none: what `SetLoss` and
            `DetrLoss` take as ``assignment=``.
        score: `(B, Q)`, how good the query is for it, from 0 to 1, and 0 for none: the normalised
            metric of `TaskAligned`, the IoU of the others. Models learn it as the probability of
            the class.

    Examples:
        >>> points = np.array([[2.0, 2.0], [6.0, 2.0], [2.0, 6.0], [6.0, 6.0]])
        >>> outputs = {"points": points, "boxes": np.full((1, 4, 4), [4.0, 2.0, 8.0, 4.0])}
        >>> outputs["logits"] = np.array([[[1.0], [2.0], [0.0], [0.0]]])
        >>> targets = {"labels": np.array([[0]]), "boxes": np.array([[[4.0, 2.0, 8.0, 4.0]]])}
        >>> found = hc.assigners.TaskAligned()(outputs, targets)
        >>> found.row4col, found.score.round(2)
        (array([[ 0,  0, -1, -1]]), array([[0.91, 1.  , 0.  , 0.  ]]))
    """

    row4col: Array
    score: Array


class Batch(NamedTuple):
    """The arrays of a call, checked, as constants, in float32 or wider."""

    outputs: dict[str, Array]
    truth: Array  # [B, M, 4], 0 where there is no object
    labels: Array | None  # [B, M] index, 0 where there is no object
    objects: Array  # [B, M] bool
    pairs: Array  # [B, M, Q] bool: both are there
    backend: Backend
    xp: Namespace

    def of_labels(self, logits: Array) -> Array:
        """Return what each query says of each object's class, `[B, M, Q]` of `[B, Q, C]`."""
        return transposed(pick(logits, self.labels, self.xp), 3, self.xp)

    def corners(self, boxes: Array, box_format: Any) -> tuple[Array, Array]:
        """Return the corners of least and greatest coordinates."""
        boxes = convert(boxes, box_format, "xyxy", backend=self.backend)
        return boxes[..., :2], boxes[..., 2:]

    def overlaps(
        self, boxes: Array, box_format: Any, overlap: Literal["iou", "ciou"] = "iou"
    ) -> Array:
        """Return how much each true box overlaps each of the others, `[B, M, Q]`."""
        measure = ciou if overlap == "ciou" else iou
        return measure(self.truth, boxes, format=box_format, pairwise=True, backend=self.backend)

    def inside(self, points: Array, low: Array, high: Array) -> Array:
        """Return which points `[Q, 2]` lie inside of which of the boxes `[B, M, 2]`, `[B, M, Q]`.

        A point on an edge does not.
        """
        xp, points = self.xp, points[None, None, :, :]
        within = (points > low[:, :, None, :]) & (points < high[:, :, None, :])
        return xp.all(within, axis=-1)

    def assigned(self, chosen: Array, quality: Array) -> Assigned:
        """Return pairs `[B, M, Q]`, one at most of each query, with their quality."""
        xp = self.xp
        at = as_index(xp.argmax(as_index(chosen, xp), axis=1), xp)
        score = xp.sum(xp.where(chosen, quality, xp.zeros_like(quality)), axis=1)
        return Assigned(xp.where(xp.any(chosen, axis=1), at, -1), score)


def read(
    outputs: Mapping[str, Array],
    targets: TargetForms,
    query_mask: Array | None,
    wanted: Mapping[str, tuple[Any, ...]],
    backend: str | Backend | None,
    *,
    labelled: bool = True,
) -> Batch:
    """Check the arrays of a call and lay them out.

    Args:
        outputs: The outputs of the model.
        targets: The targets, in any form.
        query_mask: `(B, Q)` bool.
        wanted: What is read of the outputs, with letters for their extents.
        backend: The user's choice.
        labelled: Whether labels are read.
    """
    term_checks.outputs_there(outputs, wanted)
    backend = get_backend(backend, **{name: outputs[name] for name in wanted})
    main = next(iter(wanted))
    first = backend.asarray(outputs[main])
    xp = backend.namespace(first)
    given = {name: backend.asarray(outputs[name], like=first) for name in wanted}
    extents = checks.extents({k: backend.shape(x) for k, x in given.items()}, wanted)
    for name, x in given.items():
        core_checks.real(name, x, xp)
    dtype = solving_dtype(given["boxes" if "boxes" in given else main].dtype, xp)
    truth, labels, objects = _objects(
        targets, first, extents, dtype, backend, xp, labelled=labelled
    )
    given = {
        name: backend.stop_gradient(xp.astype(x, dtype, copy=False)) for name, x in given.items()
    }
    images, rows = backend.shape(objects)
    queries = extents["Q"]
    pairs = xp.broadcast_to(objects[:, :, None], (images, rows, queries))
    if query_mask is not None:
        query_mask = backend.asarray(query_mask, like=first)
        core_checks.mask("query_mask", query_mask, (images, queries), backend, xp)
        pairs = pairs & query_mask[:, None, :]
    return Batch(given, truth, labels, objects, pairs, backend, xp)


def _objects(
    targets: TargetForms,
    like: Array,
    extents: Mapping[str, Any],
    dtype: Any,
    backend: Backend,
    xp: Namespace,
    *,
    labelled: bool,
) -> tuple[Array, Array | None, Array]:
    """Return the true boxes `[B, M, 4]`, labels and which are there `[B, M]`, with M at least 1.

    An object whose label is out of range, where that cannot be an error, is not there.
    """
    wanted: dict[str, term_checks.Extents] = {"boxes": (4,)}
    if labelled:
        wanted = {"labels": (), **wanted}
    fields = as_fields(targets, like, backend, wanted)
    shapes = {name: backend.shape(x) for name, x in fields.items()}
    term_checks.field_shapes(shapes, {**wanted, "mask": ()}, extents.get("B", shapes["boxes"][0]))
    core_checks.real("boxes of the targets", fields["boxes"], xp)
    core_checks.mask("mask", fields["mask"], shapes["mask"], backend, xp)
    fields = {name: _with_one_more(x, shapes["mask"][1], xp) for name, x in fields.items()}
    objects, labels = fields["mask"], None
    if labelled:
        labels = _labels(fields["labels"], objects, extents["C"], backend, xp)
        objects = objects & (labels >= 0)
        labels = xp.where(objects, labels, 0)
    truth = backend.stop_gradient(xp.astype(fields["boxes"], dtype, copy=False))
    return xp.where(objects[..., None], truth, xp.zeros_like(truth)), labels, objects


def _with_one_more(x: Array, objects: Any, xp: Namespace) -> Array:
    """Return objects with one behind them that is none, so that there is one to choose."""
    if isinstance(objects, int) and objects:
        return x
    return xp.concat([x, blank(x, 1, xp)], axis=1)


def _labels(labels: Array, there: Array, classes: Any, backend: Backend, xp: Namespace) -> Array:
    """Return labels, -1 for what is out of range where that cannot be an error."""
    core_checks.integral("labels", labels, xp)
    labels = as_index(labels, xp)
    fits = (labels >= 0) & (labels < classes)
    outside = there & ~fits
    if backend.readable(outside):
        labels_fit(outside, labels, classes, backend, xp)
    return xp.where(fits, labels, -1)


def least(x: Array, count: Array | int, most: int, among: Array, xp: Namespace) -> Array:
    """Return which of the numbers `[..., Q]` are the least, so many in each line, bool.

    Of equal ones the first are taken; what is not `among` them never is.

    Args:
        x: The numbers, finite where `among`.
        count: How many, an array `[...]` or one number for all lines.
        most: The greatest `count` there is, 1 or more.
        among: `[..., Q]` bool.
        xp: The namespace.
    """
    x = xp.where(among, x, float("inf"))
    first = xp.argsort(x, axis=-1, stable=True)[..., :most]
    there = as_index(xp.sum(as_index(among, xp), axis=-1), xp)
    count = xp.where(there < count, there, count)
    last = xp.where(count > 0, count - 1, 0)[..., None]
    bound = xp.take_along_axis(x, xp.take_along_axis(as_index(first, xp), last, axis=-1), axis=-1)
    less, equal = among & (x < bound), among & (x == bound)
    left = count - as_index(xp.sum(as_index(less, xp), axis=-1), xp)
    nth = as_index(xp.cumulative_sum(as_index(equal, xp), axis=-1), xp)
    return (less | (equal & (nth <= left[..., None]))) & (count > 0)[..., None]


def best(x: Array, among: Array, xp: Namespace) -> Array:
    """Return for each query the one object `[B, M, Q]` whose number is the greatest, bool."""
    at = as_index(xp.argmax(xp.where(among, x, float("-inf")), axis=1), xp)
    row = as_index(xp.cumulative_sum(as_index(xp.ones_like(among), xp), axis=1), xp) - 1
    return among & (row == at[:, None, :])


def several(chosen: Array, xp: Namespace) -> Array:
    """Return which queries `[B, 1, Q]` several objects have chosen."""
    return xp.sum(as_index(chosen, xp), axis=1, keepdims=True) > 1
