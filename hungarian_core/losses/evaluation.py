"""What the terms of a set loss say of a matching."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hungarian_core._backend import Array
from hungarian_core.costs.weighted import sum_of
from hungarian_core.losses.call import Call
from hungarian_core.losses.kernels import Kernels, MatchBy
from hungarian_core.losses.sums import there, weighed_pairs, weighed_queries, without_ignored
from hungarian_core.terms import _contract
from hungarian_core.terms.matches import Matches
from hungarian_core.terms.term import Term


def losses_of_terms(
    terms: Sequence[Term], match_by: MatchBy, call: Call, kernels: Kernels, matches: Matches
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the losses `[N, P]` of pairs or `[N, Q]` of queries by name, weighed by object.

    And of those of queries that have such, the weights `[N, Q]` of what they are to say.
    """
    problems, backend = call.problems, call.problems.backend
    each: dict[str, Array] = {}
    label_weights: dict[str, Array] = {}
    iou = _iou(terms, call, matches)
    for place, (term, read) in enumerate(zip(terms, call.inputs, strict=True)):
        of_pairs = kernels.pair_losses(place, matches)
        shape = backend.shape(matches.counted)
        _contract.returned(term, "pair_losses", of_pairs, shape, backend, term.weights)
        each.update({name: weighed_pairs(x, matches) for name, x in of_pairs.items()})
        if type(term).query_losses is Term.query_losses:
            continue
        found = term.query_losses(
            problems, read, kernels.summaries(place), matches, iou if term.needs_iou else None
        )
        shape = (problems.size, problems.queries)
        _contract.query_losses(term, found, shape, backend)
        for name, x in found.losses.items():
            each.update({name: weighed_queries(x, found.weighed, matches)})
            # A matching is one of least loss only if all losses are divided by one number.
            if found.label_weights is not None and match_by == "cost":
                counted = without_ignored(found.label_weights, matches)
                label_weights.update({name: there(counted, problems)})
    return each, label_weights


def _iou(terms: Sequence[Term], call: Call, matches: Matches) -> Array | None:
    """Return the IoU `[N, Q]` of queries with their objects, if a term needs it."""
    if not any(term.needs_iou for term in terms):
        return None
    for term, read in zip(terms, call.inputs, strict=True):
        iou = term.iou(call.problems, read, matches) if term.tells_iou() else None
        if iou is not None:
            return matches.from_pairs(iou)
    return None


def logs_of_terms(
    terms: Sequence[Term],
    match_by: MatchBy,
    call: Call,
    kernels: Kernels,
    matches: Matches,
    losses: dict[str, Array],
    reduced: Callable[[str, Array], Array],
) -> dict[str, Array]:
    """Return what is for logging, `[L]` or `[L, B]` each."""
    problems = call.problems
    logs: dict[str, Array] = {}
    background = None
    for place, (term, read) in enumerate(zip(terms, call.inputs, strict=True)):
        if type(term).logs is not Term.logs:
            logs.update(term.logs(problems, read, kernels.summaries(place), matches))
        if match_by == "loss":
            alone = term.unmatched_losses(problems, read, kernels.summaries(place))
            _contract.returned(
                term, "unmatched_losses", alone, (problems.size, problems.queries),
                problems.backend, term.weights,
            )  # fmt: skip
            for name, x in alone.items():
                part = reduced(name, there(x, problems))
                background = part if background is None else background + part
    if match_by == "loss":
        if background is None:
            background = problems.backend.stop_gradient(sum_of(losses)) * 0
        together = problems.backend.stop_gradient(sum_of(losses))
        logs.update({"assigned": together - background, "background": background})
    return logs
