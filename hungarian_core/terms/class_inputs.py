"""The logits of queries and the labels of objects: read once, and what they tell by themselves."""

from __future__ import annotations

from typing import NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array
from hungarian_core.costs.classes import Activation, LogitStats, as_index, logit_stats
from hungarian_core.terms import _class_checks as checks
from hungarian_core.terms.matches import Matches
from hungarian_core.terms.problems import MatchingProblems, Tile


class ClassInputs(NamedTuple):
    """The logits of queries and the labels of objects."""

    logits: Array  # [N, Q, C]
    labels: Array  # [N, M] index, 0 where there is no object or no class
    unlabelled: Array | None  # [N, M] bool: ignored objects of no class
    failed: Array | None  # [N] bool: labels are out of range, and that could not be raised


class LogitSummary(NamedTuple):
    """What is known of the logits of some queries without any target."""

    tile: Tile
    stats: LogitStats
    claims_object: Array  # [n, q] bool: the query says that there is an object


def read_labels(
    labels: Array, ignore: Array | None, num_classes: int, problems: MatchingProblems
) -> tuple[Array, Array | None, Array | None]:
    """Check the labels `(B, M)` of objects and lay them out, as `ClassInputs` has them."""
    backend, xp = problems.backend, problems.xp
    _checks.integral("labels", labels, xp)
    mask, labels = problems.objects_mask, as_index(labels, xp)
    fits = (labels >= 0) & (labels < num_classes)
    outside, unlabelled = mask & ~fits, None
    if ignore is not None:
        unlabelled = problems.of_objects(outside & ignore)
        outside = outside & ~ignore
    failed = None
    if backend.readable(outside):
        checks.labels_fit(outside, labels, num_classes, backend, xp)
    else:
        failed = xp.any(problems.of_objects(outside), axis=1)
    return problems.of_objects(xp.where(mask & fits, labels, 0)), unlabelled, failed


def summarise_logits(
    problems: MatchingProblems, logits: Array, tile: Tile, activation: Activation
) -> LogitSummary:
    """Take the exponentials of the logits `[N, Q, C]` in a tile, once for all that needs them."""
    xp, (n, q) = problems.xp, tile
    logits = problems.backend.stop_gradient(logits[n, q, ...])
    if activation == "softmax":
        objects, nothing = xp.max(logits[..., :-1], axis=-1), logits[..., -1]
        stats = logit_stats(logits, "softmax", xp, xp.maximum(objects, nothing))
        return LogitSummary(tile, stats, objects >= nothing)
    stats = logit_stats(logits, "sigmoid", xp)
    # As published, the rounded probability is compared: logits next to 0 are not above a half.
    half = 1 / (1 + xp.exp(-xp.abs(stats.max_logit)))
    return LogitSummary(tile, stats, (stats.max_logit > 0) & (half > 0.5))


def label_logs(
    problems: MatchingProblems,
    inputs: ClassInputs,
    matches: Matches,
    max_logit: Array,
    claims: Array,
) -> dict[str, Array]:
    """Return by how many objects images' queries are off, and how many name another class.

    Args:
        problems: Who is matched with whom.
        inputs: The logits and the labels.
        matches: The matching.
        max_logit: `[N, Q]`, the largest logits.
        claims: `[N, Q]` bool, which queries claim an object.
    """
    xp = problems.xp
    label = matches.of_queries(inputs.labels)
    logits = problems.backend.stop_gradient(inputs.logits)
    own = xp.take_along_axis(logits, label[..., None], axis=-1)[..., 0]
    right = matches.query_matched & (own >= max_logit)
    right, matched = (
        problems.per_layer(xp.astype(x, problems.dtype)) for x in (right, matches.matched)
    )
    accuracy = right / xp.where(matched > 0, matched, xp.ones_like(matched))
    return {
        "cardinality_error": cardinality_error(problems, claims),
        "class_error": 100 - 100 * accuracy,
    }


def cardinality_error(problems: MatchingProblems, claims: Array) -> Array:
    """Return by how many objects the images' queries are off, `[L]`, of which claim one."""
    xp = problems.xp
    if problems.query_mask is not None:
        claims = claims & problems.query_mask
    claimed, there = (
        problems.per_image(xp.astype(x, problems.dtype)) for x in (claims, problems.mask)
    )
    return xp.mean(xp.abs(claimed - there), axis=1)
