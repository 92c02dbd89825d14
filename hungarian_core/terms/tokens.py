"""The term of tokens: which words of a text name a query's object."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array
from hungarian_core.costs.classes import (
    ClassCost,
    infinite,
    power,
    sigmoid,
    table,
    times,
    transposed,
)
from hungarian_core.terms import _checks as shape_checks
from hungarian_core.terms import _class_checks as checks
from hungarian_core.terms import _target_checks as target_checks
from hungarian_core.terms.class_inputs import LogitSummary, cardinality_error, summarise_logits
from hungarian_core.terms.class_losses import ClassLoss, ClassLossName, class_loss
from hungarian_core.terms.logit_losses import class_indices, learned, map_losses, token_losses
from hungarian_core.terms.matches import Matches
from hungarian_core.terms.problems import MatchingProblems, Tile
from hungarian_core.terms.term import QueryLosses, Term
from hungarian_core.terms.tiles import joined

TokenCost = Literal["focal", "focal_published", "binary_focal", "softmax"]


class TokenInputs(NamedTuple):
    """The logits of queries and the maps of objects."""

    logits: Array  # [N, Q, C], -inf where the text has no such token
    maps: Array  # [N, M, C], 0 where it has none, or where there is no object


class Tokens(Term):
    """The term of tokens: each query says of every token of a text whether it names its object.

    The loss of every query is called ``"token"``. By a sigmoid loss it is the sum over the tokens
    that there are: each that the map of the query's object is positive at is a label, every other
    one is not, and of a query without an object none is. With ``"softmax"``, as in MDETR, it is
    the cross entropy of the distribution over all tokens with the map, which is made to sum to 1;
    of a query without an object with the last token, which stands for "no object". The loss is
    divided by the number of objects.

    The cost of a query and an object is ``"focal"``, the focal cost of every token, or
    ``"softmax"``, minus its probability, each as the mean over the tokens of the object by its
    map; or ``"binary_focal"``, the focal loss of all tokens with the map as the target.

    Args:
        loss: ``"softmax"`` or a sigmoid loss, as for `Classes`.
        cost: The matching cost, ``"softmax"`` for that loss, else ``"focal"`` by default. With
            ``"focal_published"`` there is an epsilon of 1e-8 in the logarithms.
        weight: The weight in the loss.
        cost_weight: The weight in the matching cost, by default `weight`.
        no_object_weight: The weight of queries without an object, for ``"softmax"``.
        alpha, gamma: The parameters of the sigmoid losses.
        cost_alpha, cost_gamma: Those of the focal costs; `cost_gamma` is `gamma` by default.
        check_targets: Raise if a map is negative or not finite, where it can be read.
        on: The pair of keys (of the maps in the targets, `(..., C)`, of any kind of number or bool;
            of the logits in the outputs, `(..., C)`).
        mask: The key of the outputs under which there may be flags `(B, C)` bool, True where the
            text of an image has a token. Elsewhere logits may hold anything.

    Raises:
        ValueError: An option is unknown, or options do not fit each other.

    Reference:
        Liu et al., Grounding DINO: Marrying DINO with Grounded Pre-Training for Open-Set Object
        Detection, ECCV 2024, section 3.4. Kamath et al., MDETR: Modulated Detection for
        End-to-End Multi-Modal Understanding, ICCV 2021, section 3.2.

    Examples:
        >>> criterion = hc.SetLoss([hc.terms.Tokens()])
        >>> logits = np.array([[[-3.0, -2.0, -4.0], [2.0, 3.0, -3.0]]])  # (B, Q, C)
        >>> outputs = {"logits": logits, "token_mask": np.array([[True, True, True]])}
        >>> losses = criterion(outputs, [{"token_maps": np.array([[1, 1, 0]])}])
        >>> losses.assignment.col4row
        array([[1]])
        >>> round(float(losses.total), 3)
        0.002
    """

    def __init__(
        self,
        *,
        loss: ClassLossName | ClassLoss = "focal",
        cost: TokenCost | None = None,
        weight: float = 1.0,
        cost_weight: float | None = None,
        no_object_weight: float = 0.1,
        alpha: float = 0.25,
        gamma: float = 2.0,
        cost_alpha: float = 0.25,
        cost_gamma: float | None = None,
        check_targets: bool = True,
        on: tuple[str, str] = ("token_maps", "logits"),
        mask: str = "token_mask",
    ) -> None:
        self.loss = class_loss("loss", loss)
        self.softmax = self.loss.activation == "softmax"
        costs = ("softmax",) if self.softmax else ("focal", "focal_published", "binary_focal")
        self.cost: str = cost or costs[0]
        cost_gamma = gamma if cost_gamma is None else cost_gamma
        _checks.one_of("cost", self.cost, costs, f"with loss={self.loss.name!r}")
        checks.exponents(self.loss, alpha, gamma, cost_gamma)
        self.weight = _checks.weight("weight", weight)
        self.cost_weight = _checks.weight(
            "cost_weight", self.weight if cost_weight is None else cost_weight
        )
        self.no_object_weight = float(no_object_weight)
        self.alpha, self.gamma = map(_checks.plain, (alpha, gamma))
        self.cost_alpha, self.cost_gamma = map(_checks.plain, (cost_alpha, cost_gamma))
        self.check_targets, self.on = check_targets, _checks.pair_of_keys(on)
        self.mask = _checks.key("mask", mask)
        (of_truth, of_queries), self.optional = self.on, (mask,)
        self.outputs, self.fields = {of_queries: ("C",)}, {of_truth: ("C",)}
        self.weights = {"token": self.weight}
        self.needs_iou = self.loss.needs_iou

    def read(
        self, outputs: Mapping[str, Array], fields: Mapping[str, Array], problems: MatchingProblems
    ) -> TokenInputs:
        """Check the maps and lay them out, without tokens that there are not."""
        xp = problems.xp
        logits, maps, there = read_tokens(
            self.on, self.mask, outputs, fields, problems, self.check_targets
        )
        if there is None:
            return TokenInputs(logits, maps)
        if self.softmax:  # the last one stands for no object
            classes = class_indices(logits, xp)
            there = there | (classes == xp.max(classes, axis=-1, keepdims=True))
        # A token of probability 0 loses nothing, and nothing is learned from it.
        return TokenInputs(xp.where(there, logits, -math.inf), xp.where(there, maps, 0))

    def width(self, problems: MatchingProblems, inputs: TokenInputs) -> Any:
        """All tokens are looked at, and all objects."""
        _, objects, tokens = problems.backend.shape(inputs.maps)
        known = isinstance(objects, int) and isinstance(tokens, int)
        return max(objects, tokens) if known else objects

    def summarise(
        self, problems: MatchingProblems, inputs: TokenInputs, tile: Tile
    ) -> LogitSummary:
        """Take the exponentials of all logits of a tile, once for all that needs them."""
        return summarise_logits(problems, inputs.logits, tile, self.loss.activation)

    def costs(
        self, problems: MatchingProblems, inputs: TokenInputs, tile: Tile, summary: LogitSummary
    ) -> dict[str, Array]:
        """The cost of the tokens of every object for every query."""
        if not self.cost_weight:
            return {}
        xp, stats, maps = problems.xp, summary.stats, inputs.maps[tile[0], ...]
        if self.cost == "binary_focal":
            chosen = xp.astype(maps > 0, problems.dtype)
            wrong, right = self._focal_parts(summary, problems)
            cost = self._sums(chosen, wrong, problems) + self._sums(1 - chosen, right, problems)
        elif self.cost == "focal":
            shares = shares_of(maps, xp)
            wrong, right = self._focal_parts(summary, problems)
            cost = self._sums(shares, wrong, problems) - self._sums(shares, right, problems)
        else:
            kind: ClassCost = "softmax" if self.softmax else "focal_published"
            each = table(kind, stats, self.cost_alpha, self.cost_gamma, xp)
            cost = xp.matmul(shares_of(maps, xp), transposed(each, 3, xp))
        return {"token": self.cost_weight * cost}

    def _focal_parts(
        self, summary: LogitSummary, problems: MatchingProblems
    ) -> tuple[Array, Array]:
        """Return the focal losses of every token as a label and as none, `[n, q, C]`."""
        xp, stats, a, gamma = problems.xp, summary.stats, self.cost_alpha, self.cost_gamma
        q, wrong = sigmoid(-stats.logits, xp)
        right = power(stats.probability, gamma) * stats.log_normaliser
        return times(a, power(q, gamma) * wrong, xp), times(1 - a, right, xp)

    @staticmethod
    def _sums(weights: Array, costs: Array, problems: MatchingProblems) -> Array:
        """Return the sums `[n, M, q]` of costs `[n, q, C]`, 0 or more, by weights `[n, M, C]`.

        In a product of matrices, infinity would be NaN where a weight is 0.
        """
        xp = problems.xp
        endless = infinite(costs, xp)
        if problems.backend.readable(endless) and not xp.any(endless):
            return xp.matmul(weights, transposed(costs, 3, xp))
        finite = xp.matmul(weights, transposed(xp.where(endless, 0, costs), 3, xp))
        ends = xp.matmul(weights, transposed(xp.astype(endless, problems.dtype), 3, xp))
        return xp.where(ends > 0, math.inf, finite)

    def query_losses(
        self,
        problems: MatchingProblems,
        inputs: TokenInputs,
        summaries: Any,
        matches: Matches,
        iou: Array | None,
    ) -> QueryLosses:
        """The loss of every query, for its object's tokens or for none."""
        xp, matched = problems.xp, matches.query_matched
        maps = xp.where(matched[..., None], matches.of_queries(inputs.maps), 0)
        if self.softmax:
            classes = class_indices(maps, xp)
            nothing = xp.astype(classes == xp.max(classes, axis=-1, keepdims=True), maps.dtype)
            maps = xp.where(matched[..., None], shares_of(maps, xp), nothing)

        def losses(summary: LogitSummary) -> tuple[Array, Array]:
            n, q = summary.tile
            if self.softmax:
                return map_losses(summary.stats, maps[n, q, ...], xp)
            quality = None if iou is None else xp.where(matched, iou, 0)[n, q]
            return token_losses(
                self.loss, summary.stats, maps[n, q, ...] > 0, quality, self.alpha, self.gamma, xp
            )

        value, slope = joined(losses, summaries, (1, 1), xp)

        def weighed(x: Array) -> Array:
            if not self.softmax:
                return x
            ones = xp.ones_like(x)
            return times(xp.where(matched, ones, self.no_object_weight), x, xp)

        losses = learned(inputs.logits, value, slope, weighed, matches)
        return QueryLosses({"token": losses}, weighed=True)

    def logs(
        self, problems: MatchingProblems, inputs: TokenInputs, summaries: Any, matches: Matches
    ) -> dict[str, Array]:
        """By how many objects the images' queries are off."""
        (claims,) = joined(lambda x: (x.claims_object,), summaries, (1,), problems.xp)
        return {"cardinality_error": cardinality_error(problems, claims)}


def shares_of(maps: Array, xp: Any) -> Array:
    """Return maps `[..., C]` that sum to 1, or to 0 where there is no token."""
    total = xp.sum(maps, axis=-1, keepdims=True)
    return maps / xp.where(total > 0, total, xp.ones_like(total))


def read_tokens(
    on: tuple[str, str],
    mask: str,
    outputs: Mapping[str, Array],
    fields: Mapping[str, Array],
    problems: MatchingProblems,
    check_targets: bool,
) -> tuple[Array, Array, Array | None]:
    """Check what queries say of tokens and the maps of objects, and lay them out.

    Returns:
        `[N, Q, C]`, `[N, M, C]`, and where there are flags, `[N, 1, C]` bool.
    """
    backend, xp = problems.backend, problems.xp
    x, maps, flags = outputs[on[1]], fields[on[0]], outputs.get(mask)
    shapes = backend.shape(x), backend.shape(maps)
    shape_checks.letters({on[1]: (shapes[0], ("C",))}, {on[0]: (shapes[1], ("C",))})
    _checks.real(on[1], x, xp)
    if check_targets:
        # NumPy has no bfloat16.
        both = problems.objects_mask, xp.astype(maps, problems.dtype, copy=False)
        if all(backend.readable(a) for a in both):
            check = target_checks.possible(_impossible, (on[0],))
            backend.host_call(check, *both, like=())
    x, maps = problems.of_queries(x), problems.of_truth(maps)
    if flags is None:
        return x, maps, None
    checks.token_mask(mask, flags, (shapes[1][0], shapes[0][-1]), backend, xp)
    return x, maps, problems.of_images(flags)[:, None, :]


def _impossible(truths: Mapping[str, Any]) -> tuple[Any, str]:
    """Maps that are negative or not finite."""
    (maps,) = truths.values()
    return ~((maps >= 0) & (maps < math.inf)).all(-1), "numbers from 0 on, one per token"
