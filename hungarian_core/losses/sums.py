"""Add up the losses of a set: the weights of objects, and what sums are divided by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hungarian_core._backend import Array
from hungarian_core.costs.classes import times
from hungarian_core.losses.pairs import per_worker
from hungarian_core.terms.matches import Matches
from hungarian_core.terms.problems import MatchingProblems


def weighed_pairs(losses: Array, matches: Matches) -> Array:
    """Return losses `[N, P]` of pairs with the weights of the objects, NaN where all failed."""
    problems, xp = matches.problems, matches.problems.xp
    losses = xp.where(matches.counted, losses, 0)
    if problems.weights is not None:
        losses = times(matches.truths(problems.weights), losses, xp)
    return _unless_failed(losses, matches)


def weighed_queries(losses: Array, weighed: bool, matches: Matches) -> Array:
    """Return losses `[N, Q]` of queries with the weights of their objects, if they are not in yet.

    0 where there is no query or its object is ignored, NaN where all failed.
    """
    problems, xp = matches.problems, matches.problems.xp
    losses = there(losses, problems)
    if not weighed and problems.weights is not None:
        of_object = matches.of_queries(problems.weights)
        losses = times(xp.where(matches.query_matched, of_object, 1), losses, xp)
    if not weighed:
        losses = without_ignored(losses, matches)
    return _unless_failed(losses, matches)


def _unless_failed(losses: Array, matches: Matches) -> Array:
    if matches.failed is None:
        return losses
    return matches.problems.xp.where(matches.failed[:, None], float("nan"), losses)


def without_ignored(x: Array, matches: Matches) -> Array:
    """Return `[N, Q]` with 0 for queries whose object is to be ignored."""
    problems = matches.problems
    if problems.ignore is None:
        return x
    ignored = matches.query_matched & matches.of_queries(problems.ignore)
    return problems.xp.where(ignored, 0, x)


def there(x: Array, problems: MatchingProblems) -> Array:
    """Return `[N, Q]` with 0 where there is no query."""
    if problems.query_mask is None:
        return x
    return problems.xp.where(problems.query_mask, x, 0)


class Divisors(NamedTuple):
    """What the losses of a call are divided by."""

    losses: Array | None  # [L] or [1], of all that are not in `labels`
    labels: dict[str, Array]  # [L] by the name of a loss
    objects: Array | None  # [1], the number of objects in images, if losses are divided by such


def divisors(
    normalize: str | None,
    over_all: bool,
    matches: Matches,
    label_weights: Mapping[str, Array],
    number: Array | None = None,
) -> Divisors:
    """Return what sums are divided by.

    Args:
        normalize: As for `SetLoss`.
        over_all: Whether the result does not depend on how images are spread over workers.
        matches: The matching.
        label_weights: By the names of losses `[N, Q]`, what the queries are to say.
        number: `[1]`, what counts as the number of objects or images, if the caller knows it.
    """
    problems = matches.problems
    backend, xp = problems.backend, problems.xp
    if normalize is None:
        return Divisors(None, {}, None)
    if normalize == "images":
        if number is not None:
            return Divisors(number, {}, None)
        _, _, groups = problems.batch_axes
        ones = xp.ones_like(problems.mask[:, :1], dtype=problems.dtype)
        images = problems.per_layer(ones)[:1] / groups
        return Divisors(per_worker(images, None, backend, xp)[0], {}, None)
    sums = {name: problems.per_layer(x) for name, x in label_weights.items()}
    counted = _counted(matches) if number is None else number
    shared = [*sums.values()] if over_all else []
    if number is None or shared:
        together = xp.concat(shared) if shared else None
        found, together = per_worker(counted, together, backend, xp, published=not over_all)
        counted = found if number is None else number
        if together is not None:
            layers, _, _ = problems.batch_axes
            sums = {name: together[k * layers : (k + 1) * layers] for k, name in enumerate(sums)}
    # They are 0 where all queries are ignored, as are the losses.
    sums = {name: xp.where(x > 0, x, xp.ones_like(x)) for name, x in sums.items()}
    apart = number is None and not _is_one_to_one(matches)
    return Divisors(counted[:-1] if apart else counted, sums, counted[-1:])


def _counted(matches: Matches) -> Array:
    """Return the number of objects in the batch, `[1]`.

    If an object may have several queries, what losses are divided by comes before it: the number
    of objects as often as they are to be matched, `[2]`, or of pairs in each layer, `[L + 1]`.
    """
    problems, xp = matches.problems, matches.problems.xp
    objects = problems.mask if problems.ignore is None else problems.mask & ~problems.ignore
    # Every layer has the same objects.
    number = problems.per_layer(xp.astype(objects, problems.dtype))[:1]
    if _is_one_to_one(matches):
        return number
    _, _, groups = problems.batch_axes
    once = number / (groups * problems.repeat)
    if matches.exclusive:
        return xp.concat([number, once])
    pairs = problems.per_layer(xp.astype(matches.counted, problems.dtype))
    return xp.concat([pairs, once])


def _is_one_to_one(matches: Matches) -> bool:
    """Return whether an object has one query, in an image as in a problem."""
    problems = matches.problems
    return matches.exclusive and problems.batch_axes[2] * problems.repeat == 1
