"""What all detection losses share: match every scene at once, then grade queries and pairs."""

from __future__ import annotations

from typing import NamedTuple

from hungarian_core import boxes as measures
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core.assignment import Assignment, assign
from hungarian_core.costs.classes import times
from hungarian_core.costs.vectors import l1
from hungarian_core.losses.kernels import Passes, Recipe, class_weights, passes
from hungarian_core.terms import class_losses as classification
from hungarian_core.terms.class_losses import Wanted
from hungarian_core.terms.problems import Scenes


class Evaluated(NamedTuple):
    """A matching, and the losses of its parts, not yet summed."""

    assignment: Assignment  # of the N scenes
    classes: Array  # [N, Q] the losses of the queries
    label_weights: Array | None  # [N, Q] those of what the queries are to say, for softmax
    bbox: Array | None  # [N, M] the L1 distances of pairs, 0 where unmatched
    giou: Array | None  # [N, M] one less the GIoU of pairs, 0 where unmatched
    nothing: Array | None  # [N, Q] -log p of no object, if aligned; without gradient
    matched: Array  # [N, M] bool
    found: Array  # [N, Q] bool: the query says that there is an object
    right: Array  # [N, Q] bool: it is matched and says the right class


def evaluate(
    recipe: Recipe, scenes: Scenes, extra_cost: Array | None, backend: Backend
) -> Evaluated:
    """Match all scenes in one solve and grade what came of it."""
    xp = backend.namespace(scenes.logits)
    two = passes(recipe, scenes, extra_cost, backend)
    cost, found, top, nothing = two.look(extra_cost)
    assignment = assign(
        cost, row_mask=scenes.mask, col_mask=scenes.there, nan=recipe.nan, solver=recipe.solver,
        backend=backend,
    )  # fmt: skip
    if scenes.lost is not None:
        assignment = _without(assignment, scenes.lost, xp)
    matched = assignment.col4row >= 0
    bbox = giou = overlap = None
    if scenes.true_boxes is not None:
        bbox, giou, overlap = _pairs(recipe, scenes, assignment, matched, backend, xp)
    wanted = _wanted(scenes, assignment, overlap, xp)
    classes, weights = _grade(recipe, scenes, two, wanted, assignment, backend, xp)
    logits = backend.stop_gradient(scenes.logits)
    chosen = xp.take_along_axis(logits, wanted.label[..., None], axis=-1)[..., 0]
    right = wanted.matched & (chosen >= top)
    if scenes.there is not None:
        found = found & scenes.there
        nothing = None if nothing is None else xp.where(scenes.there, nothing, 0)
    return Evaluated(assignment, classes, weights, bbox, giou, nothing, matched, found, right)


def _without(assignment: Assignment, lost: Array, xp: Namespace) -> Assignment:
    """Return an assignment without the samples that are lost."""
    nothing = float("nan")
    rows, cols, cost, u, v = assignment
    return Assignment(
        xp.where(lost[:, None], -1, rows),
        xp.where(lost[:, None], -1, cols),
        xp.where(lost, nothing, cost),
        xp.where(lost[:, None], nothing, u),
        xp.where(lost[:, None], nothing, v),
    )


def _pairs(
    recipe: Recipe,
    scenes: Scenes,
    assignment: Assignment,
    matched: Array,
    backend: Backend,
    xp: Namespace,
) -> tuple[Array, Array, Array | None]:
    """Return the L1 distances, one less the GIoU, and the IoU if it is asked for, `[N, M]` each."""
    at = xp.where(matched, assignment.col4row, 0)[..., None]
    truth = scenes.true_boxes
    if scenes.ignore is not None:
        matched = matched & ~scenes.ignore
    # Where there is no match to grade, the truth with itself: a constant, of no gradient.
    chosen = xp.where(matched[..., None], xp.take_along_axis(scenes.boxes, at, axis=1), truth)
    overlap = measures.giou(chosen, truth, format="cxcywh", form=recipe.form, backend=backend)
    bbox = xp.where(matched, l1(xp, chosen, truth), 0)
    giou = xp.where(matched, 1 - overlap, 0)
    quality = None
    if recipe.by_overlap:
        quality = measures.iou(
            backend.stop_gradient(chosen), truth, format="cxcywh", form=recipe.form, backend=backend
        )
    bbox, giou = (weighed(x, scenes, assignment, xp) for x in (bbox, giou))
    return bbox, giou, quality


def weighed(losses: Array, scenes: Scenes, assignment: Assignment, xp: Namespace) -> Array:
    """Return losses `[N, M]` of pairs with the weights of the objects, NaN in failed scenes."""
    if scenes.ignore is not None:
        losses = xp.where(scenes.ignore, 0, losses)
    if scenes.weights is not None:
        losses = times(scenes.weights, losses, xp)
    return xp.where(xp.isnan(assignment.cost)[:, None], float("nan"), losses)


def _wanted(scenes: Scenes, assignment: Assignment, overlap: Array | None, xp: Namespace) -> Wanted:
    """Return what the queries are to say."""
    matched = assignment.row4col >= 0
    at = xp.where(matched, assignment.row4col, 0)
    label = xp.take_along_axis(scenes.labels, at, axis=-1)
    quality = None if overlap is None else xp.take_along_axis(overlap, at, axis=-1)
    return Wanted(matched, label, quality)


def _grade(
    recipe: Recipe,
    scenes: Scenes,
    two: Passes,
    wanted: Wanted,
    assignment: Assignment,
    backend: Backend,
    xp: Namespace,
) -> tuple[Array, Array | None]:
    """Return the losses `[N, Q]` of the queries, and the weights of what they are to say."""
    label_weights = None
    graded = wanted
    if recipe.softmax:
        label = xp.where(wanted.matched, wanted.label, recipe.logits - 1)
        graded = Wanted(wanted.matched, label, wanted.quality)
        weights = class_weights(recipe, scenes.logits, backend, xp)
        label_weights = classification.of_label(weights, graded.label, xp)
    value, slope = two.grade(graded, label_weights)
    at = xp.where(wanted.matched, assignment.row4col, 0)
    ignored = None
    if scenes.ignore is not None:
        ignored = wanted.matched & xp.take_along_axis(scenes.ignore, at, axis=-1)
        slope = xp.where(ignored[..., None], 0, slope)
    losses = classification.attach(scenes.logits, value, slope, backend)
    if not recipe.softmax:
        losses = losses * classification.unit(recipe.class_loss, recipe.alpha)
    elif not recipe.label_smoothing:
        losses = times(label_weights, losses, xp)
    if scenes.weights is not None:
        of_object = xp.take_along_axis(scenes.weights, at, axis=-1)
        losses = times(xp.where(wanted.matched, of_object, 1), losses, xp)
    if ignored is not None:
        losses = xp.where(ignored, 0, losses)
        if label_weights is not None:
            label_weights = xp.where(ignored, 0, label_weights)
    if scenes.there is not None:
        losses = xp.where(scenes.there, losses, 0)
        if label_weights is not None:
            label_weights = xp.where(scenes.there, label_weights, 0)
    failed = xp.isnan(assignment.cost)[:, None]
    return xp.where(failed, float("nan"), losses), label_weights
