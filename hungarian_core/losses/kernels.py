"""The two passes of a detection loss over the logits: before the matching and after it.

`passes` chooses who makes them. `Tiled` computes with the framework's operations, tile by tile, and
thereby says what the results are; `Native` hands whole arrays in host memory to the library of the
native solver, which writes nothing down in between. Both keep what the first pass found out for the
second.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._solvers.host import host_solver
from hungarian_core.assignment import Nan, Solver
from hungarian_core.boxes import Form
from hungarian_core.costs.boxes import distances_and_overlaps
from hungarian_core.costs.classes import (
    ClassCost,
    Statistics,
    as_index,
    infinite,
    pick,
    statistics,
    table,
    times,
    transposed,
)
from hungarian_core.costs.weighted import sum_of
from hungarian_core.terms import class_losses as classification
from hungarian_core.terms.class_losses import ClassLoss, Wanted
from hungarian_core.terms.problems import Scenes, Tile, by_tiles, tiles


@dataclass(frozen=True)
class Recipe:
    """What is matched by and what is graded; the fields are arguments of `DetrLoss`."""

    class_loss: ClassLoss
    logits: int  # their number: the classes, and for softmax "no object"
    class_cost_form: ClassCost
    class_cost: float
    bbox_cost: float
    giou_cost: float
    class_weights: tuple[float, ...] | None  # one per logit
    aligned: bool  # the cost of a match is what it changes of the loss
    label_smoothing: float
    alpha: float
    cost_alpha: float
    gamma: float
    form: Form
    nan: Nan
    solver: Solver
    tile_bytes: int | None
    check_targets: bool = True

    @property
    def plain(self) -> bool:
        """Whether the native library knows the options."""
        if self.gamma != 2 or self.label_smoothing or self.class_cost_form == "focal_parity":
            return False
        if not self.softmax and (
            self.cost_alpha in (0, 1)
            or classification.unit(self.class_loss, self.alpha)
            != classification.weight_of_others(self.class_loss, self.alpha)
        ):
            return False
        return not self.aligned and (self.softmax or self.class_weights is None)

    @property
    def by_overlap(self) -> bool:
        """Whether the classes are graded by the IoU of matched boxes."""
        return self.class_loss in ("varifocal", "ia_bce")

    @property
    def softmax(self) -> bool:
        """Whether the classes exclude each other, and the last one is "no object"."""
        return self.class_loss == "softmax"


class Looked(NamedTuple):
    """What the first pass found."""

    cost: Array  # [N, M, Q]
    found: Array  # [N, Q] bool: the query says that there is an object
    top: Array  # [N, Q] the largest logit
    nothing: Array | None  # [N, Q] -log p of the last class, where the recipe is aligned


class Passes(Protocol):
    """The two passes over the logits of some scenes."""

    def look(self, extra_cost: Array | None) -> Looked:
        """Return what matching costs, with an extra cost `[N, M, Q]`."""

    def grade(self, wanted: Wanted, label_weights: Array | None) -> tuple[Array, Array]:
        """Return the losses `[N, Q]` and slopes `[N, Q, C]` of `classification`.

        For softmax, queries without an object have the last class for their label.
        """


def passes(recipe: Recipe, scenes: Scenes, extra_cost: Array | None, backend: Backend) -> Passes:
    """Return who makes the passes: the native library, where it can, or the framework."""
    if recipe.solver in ("auto", "native") and recipe.plain:
        # A transform may map any of what decides about the matching.
        arrays = [x for x in (*scenes[:6], extra_cost) if x is not None]
        if all(backend.readable(x) for x in arrays):
            host = host_solver(recipe.solver)
            if hasattr(host, "pairs"):
                return Native(recipe, scenes, host, backend)
    return Tiled(recipe, scenes, backend)


class _Seen(NamedTuple):
    """A tile, looked at."""

    tile: Tile
    known: Statistics
    found: Array  # [n, q] bool
    cost: Array  # [n, M, q]


class Tiled:
    """The passes in the operations of the framework."""

    def __init__(self, recipe: Recipe, scenes: Scenes, backend: Backend) -> None:
        self.recipe, self.scenes, self.backend = recipe, scenes, backend
        self.xp = backend.namespace(scenes.logits)
        self.rows: list[list[_Seen]] = []

    def look(self, extra_cost: Array | None) -> Looked:
        """Look at every tile."""
        _, objects = self.backend.shape(self.scenes.labels)
        widths = (objects, self.recipe.logits)
        self.rows = [
            [self._look(tile, extra_cost) for tile in row]
            for row in tiles(self.scenes, widths, self.recipe.tile_bytes, self.backend)
        ]
        cost, found, top = by_tiles(
            lambda seen: (seen.cost, seen.found, seen.known.top), self.rows, (2, 1, 1), self.xp
        )
        nothing = None
        if self.recipe.aligned:
            (nothing,) = by_tiles(
                lambda seen: (seen.known.norm[..., 0] - seen.known.logits[..., -1],),
                self.rows, (1,), self.xp,
            )  # fmt: skip
        return Looked(cost, found, top, nothing)

    def _look(self, tile: Tile, extra_cost: Array | None) -> _Seen:
        """Take the statistics of a tile, and what matching costs in it."""
        xp, (n, q) = self.xp, tile
        logits = self.backend.stop_gradient(self.scenes.logits[n, q, ...])
        known, found = look_at(logits, self.recipe.softmax, xp)
        cost = sum_of(terms(self.recipe, self.scenes, tile, known, self.backend, xp))
        if self.recipe.nan == "worst":
            cost = invalid(cost, xp)
        if extra_cost is not None:
            cost = cost + extra_cost[n, :, q]
        return _Seen(tile, known, found, cost)

    def grade(self, wanted: Wanted, label_weights: Array | None) -> tuple[Array, Array]:
        """Grade every tile."""
        recipe, xp, logits = self.recipe, self.xp, self.scenes.logits
        classes = class_indices(recipe, logits, self.backend, xp)
        weights = class_weights(recipe, logits, self.backend, xp)

        def grade(seen: _Seen) -> tuple[Array, Array]:
            n, q = seen.tile
            part = Wanted(*(None if x is None else x[n, q] for x in wanted))
            if label_weights is not None:
                return classification.softmax(
                    seen.known, part, label_weights[n, q], classes, weights,
                    recipe.label_smoothing, xp,
                )  # fmt: skip
            return classification.sigmoid(
                recipe.class_loss, seen.known, part, classes, weights, recipe.alpha, recipe.gamma,
                xp,
            )  # fmt: skip

        value, slope = by_tiles(grade, self.rows, (1, 1), xp)
        return value, slope


class Native:
    """The passes in the native library."""

    def __init__(self, recipe: Recipe, scenes: Scenes, host: Any, backend: Backend) -> None:
        self.recipe, self.scenes, self.host, self.backend = recipe, scenes, host, backend
        self.logits = backend.stop_gradient(scenes.logits)
        self.norm: Any = None

    def look(self, extra_cost: Array | None) -> Looked:
        """Look at all scenes."""
        recipe, scenes, backend = self.recipe, self.scenes, self.backend
        xp = backend.namespace(self.logits)
        labels = scenes.labels
        if scenes.classless is not None:
            labels = xp.where(scenes.classless, -1, labels)
        arrays = [self.logits, labels, scenes.mask]
        if scenes.true_boxes is not None:
            arrays += [backend.stop_gradient(scenes.boxes), scenes.true_boxes]
        size, queries, _ = backend.shape(self.logits)
        dtype, each = self.logits.dtype, (size, queries)
        cost, top, self.norm, found = backend.host_call(
            functools.partial(
                self.host.pairs,
                softmax=recipe.softmax,
                class_cost_form=recipe.class_cost_form,
                class_cost=recipe.class_cost,
                bbox_cost=recipe.bbox_cost,
                giou_cost=recipe.giou_cost,
                alpha=recipe.cost_alpha,
                safe=recipe.form == "safe",
                only_finite=recipe.nan == "worst",
            ),
            *arrays,
            like=(
                ((size, backend.shape(labels)[1], queries), dtype),
                (each, dtype), (each, dtype), (each, xp.bool),
            ),
        )  # fmt: skip
        return Looked(cost if extra_cost is None else cost + extra_cost, found, top, None)

    def grade(self, wanted: Wanted, label_weights: Array | None) -> tuple[Array, Array]:
        """Grade all scenes."""
        recipe, backend, dtype = self.recipe, self.backend, self.logits.dtype
        xp = backend.namespace(self.logits)
        label = wanted.label
        if not recipe.softmax:
            label = xp.where(wanted.matched, label, -1)
        arrays = [self.logits, label, self.norm]
        if wanted.quality is not None:
            arrays.append(wanted.quality)
        size, queries, classes = backend.shape(self.logits)
        value, slope = backend.host_call(
            functools.partial(self.host.grades, class_loss=recipe.class_loss, alpha=recipe.alpha),
            *arrays,
            like=(((size, queries), dtype), ((size, queries, classes), dtype)),
        )
        return value, slope


def invalid(cost: Array, xp: Namespace) -> Array:
    """Return a matching cost in which +inf is NaN, hence as bad as any, but allowed.

    It comes of an infinite coordinate or a class of probability 0, and is nobody's wish to forbid
    a pair. Of -inf, `assign` makes the best there is.
    """
    return xp.where(infinite(cost, xp) & (cost > 0), float("nan"), cost)


def look_at(logits: Array, softmax: bool, xp: Namespace) -> tuple[Statistics, Array]:
    """Return the statistics of logits `[n, q, C]`, and where a query claims an object."""
    if softmax:
        objects, nothing = xp.max(logits[..., :-1], axis=-1), logits[..., -1]
        known = statistics(logits, "softmax", xp, xp.maximum(objects, nothing))
        return known, objects >= nothing
    known = statistics(logits, "sigmoid", xp)
    # As published, the rounded probability is compared: logits next to 0 are not above a half.
    half = 1 / (1 + xp.exp(-xp.abs(known.top)))
    return known, (known.top > 0) & (half > 0.5)


def class_indices(recipe: Recipe, like: Array, backend: Backend, xp: Namespace) -> Array:
    """Return the numbers of the classes, `[1, 1, C]`: broadcasts are written out everywhere."""
    return as_index(backend.asarray([[list(range(recipe.logits))]], like=like), xp)


def class_weights(recipe: Recipe, like: Array, backend: Backend, xp: Namespace) -> Array | None:
    """Return the weights of the classes, `[1, 1, C]`, or None if all are 1."""
    if recipe.class_weights is None:
        return None
    classes = class_indices(recipe, like, backend, xp)
    weights = xp.ones_like(classes, dtype=like.dtype)
    for k, weight in enumerate(recipe.class_weights):
        if weight != 1:  # one by one: a list would be rounded to a framework's default dtype
            weights = xp.where(classes == k, weight, weights)
    return weights


def matching_terms(
    recipe: Recipe, scenes: Scenes, backend: Backend, xp: Namespace
) -> dict[str, Array]:
    """Return the weighted terms `[N, M, Q]` of the matching cost, by name."""
    known, _ = look_at(backend.stop_gradient(scenes.logits), recipe.softmax, xp)
    return terms(recipe, scenes, (slice(None), slice(None)), known, backend, xp)


def terms(
    recipe: Recipe, scenes: Scenes, tile: Tile, known: Statistics, backend: Backend, xp: Namespace
) -> dict[str, Array]:
    """Return the weighted terms `[n, M, q]` of the matching cost in a tile, by name."""
    n, q = tile
    parts = {}
    weights = None
    if recipe.aligned and scenes.weights is not None:
        weights = scenes.weights[n, None, :]
    if recipe.class_cost:
        costs = table(recipe.class_cost_form, known, recipe.cost_alpha, recipe.gamma, xp)
        if recipe.aligned:
            costs = times(class_weights(recipe, known.logits, backend, xp), costs, xp)
        picked = pick(costs, scenes.labels[n, ...], xp)
        if scenes.classless is not None:
            picked = xp.where(scenes.classless[n, None, :], 0, picked)
        if recipe.aligned:
            picked = picked if weights is None else times(weights, picked, xp)
            picked = picked - costs[..., -1:]
        parts["class"] = recipe.class_cost * picked
    if scenes.boxes is not None and scenes.true_boxes is not None:
        distance, overlap = distances_and_overlaps(
            backend.stop_gradient(scenes.boxes[n, q, ...]),
            scenes.true_boxes[n, ...],
            recipe.form == "safe",
            xp,
        )
        if recipe.aligned:
            # The loss has 1 - GIoU: what is the same for all queries counts where some objects
            # get none of them.
            overlap = overlap - 1
        if weights is not None:
            distance, overlap = times(weights, distance, xp), overlap * weights
        parts["bbox"] = recipe.bbox_cost * distance
        parts["giou"] = -recipe.giou_cost * overlap
    return {name: transposed(part, 3, xp) for name, part in parts.items()}
