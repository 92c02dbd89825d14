"""A matching as terms see it: pairs of a query and an object, by the one or by the other."""

from __future__ import annotations

from typing import NamedTuple

from hungarian_core._backend import Array
from hungarian_core.assignment import Assignment
from hungarian_core.terms.problems import MatchingProblems


class Matches(NamedTuple):
    """P pairs in each of N problems.

    Of a matching that was solved there are as many pairs as objects, which are fewer than queries.
    Of one that was given there are as many as queries, since an object may have several.

    A term of your own mostly needs `compared` or `predictions` and `truths`, and `counted` and
    `query_matched`; where a problem failed, these say that nothing is matched, and the criterion
    makes its losses NaN.
    """

    problems: MatchingProblems
    query_of_pair: Array | None  # [N, P] index, 0 where not matched; None: pair p has query p
    object_of_pair: Array | None  # [N, P] likewise; None: pair p has object p
    matched: Array  # [N, P] bool
    counted: Array  # [N, P] bool: those of them whose object is not to be ignored
    object_of_query: Array  # [N, Q] index, 0 where not matched
    query_matched: Array  # [N, Q] bool
    failed: Array | None  # [N] bool: there is no matching; None: all have one, which was seen
    given: bool
    # Whether no object can have several queries: losses are divided by objects then, not by pairs.
    exclusive: bool = True

    def predictions(self, x: Array) -> Array:
        """Return what the pairs have of `[N, Q, ...]`, `[N, P, ...]`."""
        return self._taken(x, self.query_of_pair)

    def truths(self, x: Array) -> Array:
        """Return what the pairs have of `[N, M, ...]`, `[N, P, ...]`."""
        return self._taken(x, self.object_of_pair)

    def of_queries(self, x: Array) -> Array:
        """Return what the objects of queries have of `[N, M, ...]`, `[N, Q, ...]`."""
        return self._taken(x, self.object_of_query)

    def from_pairs(self, x: Array) -> Array:
        """Return for each query what its pair has of `[N, P]`, `[N, Q]`."""
        return x if self.given else self.of_queries(x)

    def compared(self, predictions: Array, truths: Array) -> tuple[Array, Array]:
        """Return the pairs `[N, P, ...]` of `[N, Q, ...]` and `[N, M, ...]`.

        Where nothing is to be compared, the truth stands beside itself: a constant, so whatever a
        loss does there, no gradient reaches an input.
        """
        chosen, truths = self.predictions(predictions), self.truths(truths)
        counted = self.counted[(..., *(None,) * (truths.ndim - 2))]
        return self.problems.xp.where(counted, chosen, truths), truths

    def _taken(self, x: Array, at: Array | None) -> Array:
        if at is None:
            return x
        at = at[(..., *(None,) * (x.ndim - 2))]
        return self.problems.xp.take_along_axis(x, at, axis=1)


def matches_of(problems: MatchingProblems, assignment: Assignment, solved: bool) -> Matches:
    """Return the pairs of a matching of N problems, of one query and one object each.

    Args:
        problems: What was matched.
        assignment: The matching.
        solved: Whether all problems are known to have one.
    """
    xp, (col4row, row4col, cost, _, _) = problems.xp, assignment
    matched, taken = col4row >= 0, row4col >= 0
    return Matches(
        problems,
        query_of_pair=xp.where(matched, col4row, 0),
        object_of_pair=None,
        matched=matched,
        counted=matched if problems.ignore is None else matched & ~problems.ignore,
        object_of_query=xp.where(taken, row4col, 0),
        query_matched=taken,
        failed=None if solved else xp.isnan(cost),
        given=False,
    )


def matches_given(
    problems: MatchingProblems, row4col: Array, failed: Array, exclusive: bool
) -> Matches:
    """Return the pairs of a matching that was given, in which an object may have many queries.

    Args:
        problems: What was matched.
        row4col: `[N, Q]`, the object of each query, -1 for none.
        failed: `[N]` bool.
        exclusive: Whether it is known that no object has several queries.
    """
    xp = problems.xp
    matched = row4col >= 0
    at = xp.where(matched, row4col, 0)
    counted = matched
    if problems.ignore is not None:
        counted = matched & ~xp.take_along_axis(problems.ignore, at, axis=1)
    return Matches(problems, None, at, matched, counted, at, matched, failed, True, exclusive)
