"""The term of alignment: queries and the tokens of a text, embedded in one space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core.costs.classes import times
from hungarian_core.terms.matches import Matches
from hungarian_core.terms.problems import MatchingProblems
from hungarian_core.terms.term import QueryLosses, Term
from hungarian_core.terms.tokens import read_tokens


class AlignmentInputs(NamedTuple):
    """How alike queries and tokens are, and the maps of objects."""

    similarities: Array  # [N, Q, C], 0 where there is no query or no token
    maps: Array  # [N, M, C], 0 where there is no object or no token
    there: Array  # [N, Q, C] bool: there are such a query and such a token


class Alignment(Term):
    """The contrastive alignment of queries with the tokens that name their objects.

    Of the similarities s of all queries with all tokens of a text, divided by the temperature, a
    query that has an object loses ``log sum_c exp(s_c)`` over the tokens, less the mean of s over
    those of its object; and every token that names a matched object loses the same over the
    queries. Half the sum of both is the loss, called ``"alignment"``, divided by the number of
    objects. What a token loses counts with its queries in equal parts, for the weights of their
    objects. Nothing is matched by it.

    Args:
        weight: The weight in the loss.
        temperature: What similarities are divided by.
        check_targets: Raise if a map is negative or not finite, where it can be read.
        on: The pair of keys (of the maps in the targets, `(..., C)`; of the similarities in the
            outputs, `(..., C)`: products of normalised embeddings).
        mask: As for `Tokens`.

    Raises:
        ValueError: The temperature is not positive.

    Reference:
        Kamath et al., MDETR: Modulated Detection for End-to-End Multi-Modal Understanding, ICCV
        2021, equations 1 to 3.

    Examples:
        >>> criterion = hc.SetLoss([hc.terms.Tokens(), hc.terms.Alignment()])
        >>> similarities = np.array([[[0.9, 0.8, -0.5], [0.1, -0.3, 0.2]]])  # (B, Q, C)
        >>> outputs = {"logits": similarities, "similarities": similarities}
        >>> losses = criterion(outputs, [{"token_maps": np.array([[1, 1, 0]])}])
        >>> round(float(losses.losses["alignment"]), 4)
        0.4646
    """

    def __init__(
        self,
        *,
        weight: float = 1.0,
        temperature: float = 0.07,
        check_targets: bool = True,
        on: tuple[str, str] = ("token_maps", "similarities"),
        mask: str = "token_mask",
    ) -> None:
        self.weight = _checks.weight("weight", weight)
        _checks.positive("temperature", temperature)
        self.temperature = _checks.plain(temperature)
        self.check_targets, self.on = check_targets, _checks.pair_of_keys(on)
        self.mask = _checks.key("mask", mask)
        (of_truth, of_queries), self.optional = self.on, (mask,)
        self.outputs, self.fields = {of_queries: ("C",)}, {of_truth: ("C",)}
        self.weights = {"alignment": self.weight}

    def read(
        self, outputs: Mapping[str, Array], fields: Mapping[str, Array], problems: MatchingProblems
    ) -> AlignmentInputs:
        """Check the maps and lay both out."""
        xp = problems.xp
        x, maps, tokens = read_tokens(
            self.on, self.mask, outputs, fields, problems, self.check_targets
        )
        there = xp.ones_like(x, dtype=xp.bool)
        if problems.query_mask is not None:
            there = there & problems.query_mask[..., None]
        if tokens is not None:
            there, maps = there & tokens, xp.where(tokens, maps, 0)
        return AlignmentInputs(xp.where(there, x, 0), maps, there)

    def query_losses(
        self,
        problems: MatchingProblems,
        inputs: AlignmentInputs,
        summaries: Any,
        matches: Matches,
        iou: Array | None,
    ) -> QueryLosses:
        """What matched queries and their tokens lose."""
        xp, counted = problems.xp, matches.query_matched
        if problems.ignore is not None:
            counted = counted & ~matches.of_queries(problems.ignore)
        named = (matches.of_queries(inputs.maps) > 0) & counted[..., None] & inputs.there
        named = xp.astype(named, problems.dtype)
        x = inputs.similarities / self.temperature
        losses = xp.zeros_like(counted, dtype=problems.dtype)
        for axis in (2, 1):  # over the tokens of a query, over the queries of a token
            count = xp.sum(named, axis=axis, keepdims=True)
            share = named / xp.where(count > 0, count, xp.ones_like(count))
            apart = _log_sums(x, inputs.there, axis, problems.backend, xp) - x
            losses = losses + xp.sum(share * xp.where(named > 0, apart, 0), axis=2) / 2
        if problems.weights is not None:
            losses = times(matches.of_queries(problems.weights), losses, xp)
        return QueryLosses({"alignment": losses}, weighed=True)


def _log_sums(x: Array, there: Array, axis: int, backend: Backend, xp: Namespace) -> Array:
    """Return logarithms of sums of exponentials over an axis, which is kept, of what is there."""
    # What is not there is taken for the least, and so is not the greatest.
    constant = backend.stop_gradient(x)
    least = xp.min(constant, axis=axis, keepdims=True)
    greatest = xp.max(xp.where(there, constant, least), axis=axis, keepdims=True)
    each = xp.exp(xp.where(there, x - greatest, 0))
    total = xp.sum(xp.where(there, each, 0), axis=axis, keepdims=True)
    return xp.log(xp.where(total > 0, total, xp.ones_like(total))) + greatest
