"""What every loss of detected objects does before and after the matching.

Before: check what came and lay it out as `Scenes`. After: add up what the scenes have, by image
and by decoder layer, and give the matching the axes of the caller.
"""

from __future__ import annotations

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import solving_dtype
from hungarian_core._registry import get_backend
from hungarian_core.assignment import Assignment
from hungarian_core.losses.kernels import Recipe, matching_terms
from hungarian_core.losses.pairs import warn_if_swapped
from hungarian_core.losses.set_loss import Evaluated
from hungarian_core.terms import _checks as checks
from hungarian_core.terms.problems import Scenes, scenes
from hungarian_core.terms.targets import TargetForms, Targets, as_targets, blank


def inputs(
    recipe: Recipe,
    logits: Array,
    boxes: Array | None,
    targets: TargetForms,
    repeat: int,
    groups: int,
    backend: str | Backend | None,
    query_mask: Array | None = None,
    with_masks: bool = False,
) -> tuple[Backend, Scenes, bool, Targets]:
    """Check the inputs and lay them out; say whether there is an axis of layers."""
    backend = get_backend(backend, logits=logits, boxes=boxes)
    logits = backend.asarray(logits)
    boxes = None if boxes is None else backend.asarray(boxes, like=logits)
    given = as_targets(targets, logits, backend, boxes=boxes is not None, masks=with_masks)
    if not backend.is_traced(logits):
        warn_if_swapped(given.boxes, logits if boxes is None else boxes, ("targets", "boxes"))
    xp = backend.namespace(logits)
    shape = backend.shape(logits)
    softmax = recipe.class_loss == "softmax"
    if boxes is None and recipe.by_overlap:
        checks.no_boxes(recipe.class_loss)
    of_boxes = None if boxes is None else backend.shape(boxes)
    checks.detections(shape, of_boxes, recipe.logits, softmax, groups)
    _checks.real("logits", logits, xp)
    if boxes is not None:
        _checks.real("boxes", boxes, xp)
    _checks.integral("labels", given.labels, xp)
    shapes = {
        k: backend.shape(x) for k, x in zip(Targets._fields, given, strict=True) if x is not None
    }
    checks.targets(shapes, shape[-3], boxes is not None)
    _checks.mask("mask", given.mask, shapes["labels"], backend, xp)
    if given.ignore is not None:
        checks.ignored(given.ignore, shapes["labels"], backend, xp)
    if query_mask is not None:
        query_mask = backend.asarray(query_mask, like=logits)
        checks.query_mask(query_mask, shape, backend, xp)
    truth = given.boxes
    if truth is not None:
        _checks.real("boxes of the targets", truth, xp)
        if recipe.check_targets:
            # NumPy has no bfloat16.
            truth = xp.astype(truth, solving_dtype(truth.dtype, xp), copy=False)
            both = truth, given.mask
            if all(backend.readable(x) for x in both):
                backend.host_call(checks.true_boxes, *both, like=())
    classes = recipe.logits - softmax
    found = scenes(logits, boxes, given, classes, repeat, groups, query_mask, backend)
    return backend, found, len(shape) == 4, given


def extra(cost: Array, found: Scenes, backend: Backend, xp: Namespace) -> Array:
    """Return the user's cost as `[N, M, Q]`."""
    cost = backend.stop_gradient(backend.asarray(cost, like=found.logits))
    layers, images, groups = found.lead
    size, queries, _ = backend.shape(found.logits)
    shape = (layers, images, groups, found.objects, queries)
    came = backend.shape(cost)
    checks.extra_cost(came, shape)
    if len(came) < 5:
        cost = cost[..., None, :, :]
    cost = xp.broadcast_to(xp.astype(cost, found.logits.dtype, copy=False), shape)
    cost = xp.reshape(cost, (size, found.objects, queries))
    return xp.concat([cost, blank(cost, 1, xp)], axis=1) if found.surplus else cost


def of_images(weights: Array, found: Scenes, backend: Backend, xp: Namespace) -> Array:
    """Return the weights `(B,)` of images as `[N, 1]`."""
    weights = backend.asarray(weights, like=found.logits)
    _, images, _ = found.lead
    checks.image_weights(backend.shape(weights), images)
    weights = xp.astype(weights, found.logits.dtype, copy=False)[None, :, None]
    size = backend.shape(found.logits)[0]
    return xp.reshape(xp.broadcast_to(weights, found.lead), (size, 1))


def per_layer(x: Array, found: Scenes, backend: Backend, xp: Namespace) -> Array:
    """Return the sums `[L]` of `[N, ...]`."""
    layers, images, groups = found.lead
    return xp.sum(xp.reshape(xp.sum(x, axis=1), (layers, images * groups)), axis=1)


def per_image(x: Array, found: Scenes, xp: Namespace) -> Array:
    """Return the sums `[L, B]` of `[N, ...]`."""
    return xp.sum(xp.reshape(xp.sum(x, axis=1), found.lead), axis=2)


def logs(seen: Evaluated, found: Scenes, backend: Backend, xp: Namespace) -> list[Array]:
    """Return the errors of cardinality and of classes, `[L]` each."""
    dtype = found.logits.dtype
    claimed, there = (per_image(xp.astype(x, dtype), found, xp) for x in (seen.found, found.mask))
    cardinality = xp.mean(xp.abs(claimed - there), axis=1)
    right, matched = (
        per_layer(xp.astype(x, dtype), found, backend, xp) for x in (seen.right, seen.matched)
    )
    accuracy = right / xp.where(matched > 0, matched, xp.ones_like(matched))
    return [cardinality, 100 - 100 * accuracy]


def costs(
    recipe: Recipe,
    logits: Array,
    boxes: Array,
    targets: TargetForms,
    repeat: int,
    groups: int,
    backend: str | Backend | None,
) -> dict[str, Array]:
    """Return the weighted terms of the matching cost by name, with the axes of the caller."""
    backend, found, layered, _ = inputs(recipe, logits, boxes, targets, repeat, groups, backend)
    xp = backend.namespace(found.logits)
    terms = matching_terms(recipe, found, backend, xp)
    terms = {name: x[:, : found.objects, :] for name, x in terms.items()}
    return {name: unfold(x, found, layered, backend, xp) for name, x in terms.items()}


def unfolded(
    assignment: Assignment, found: Scenes, layered: bool, backend: Backend, xp: Namespace
) -> Assignment:
    """Return the matching with the axes that the caller gave, without what was added."""
    rows, cols, cost, u, v = assignment
    rows, u = rows[:, : found.objects], u[:, : found.objects]
    parts = (rows, cols, cost, u, v)
    return Assignment(*(unfold(x, found, layered, backend, xp) for x in parts))


def unfold(x: Array, found: Scenes, layered: bool, backend: Backend, xp: Namespace) -> Array:
    """Return `[N, ...]` with the axes that the caller gave."""
    layers, images, groups = found.lead
    lead = (*((layers,) if layered else ()), images, *((groups,) if groups > 1 else ()))
    return xp.reshape(x, (*lead, *backend.shape(x)[1:]))
