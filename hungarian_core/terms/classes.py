"""The term of classes: what every query says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hungarian_core import _checks
from hungarian_core._backend import Array
from hungarian_core.costs.classes import ClassCost, pick, table, times, transposed
from hungarian_core.terms import _class_checks as checks
from hungarian_core.terms.class_inputs import (
    ClassInputs,
    LogitSummary,
    label_logs,
    read_labels,
    summarise_logits,
)
from hungarian_core.terms.class_losses import (
    CLASS_LOSSES,
    ClassLoss,
    ClassLossName,
    class_loss,
)
from hungarian_core.terms.logit_losses import (
    QueryTargets,
    class_indices,
    cross_entropies,
    learned,
    sigmoid_losses,
    smoothed_cross_entropies,
    weights_of,
)
from hungarian_core.terms.matches import Matches
from hungarian_core.terms.native import NativeSummary, class_losses
from hungarian_core.terms.problems import MatchingProblems, Tile
from hungarian_core.terms.term import QueryLosses, Term
from hungarian_core.terms.tiles import joined


class Classes(Term):
    """The term of classes.

    The loss of every query, called ``"class"``, is that of its object's label, or of "no object".
    See `hungarian_core.DetrLoss`, whose arguments most of these are.

    Args:
        num_classes: The number of classes, without "no object".
        loss: ``"softmax"`` or the name of another class loss, of which `hungarian_core.DetrLoss`
            has a list, or a `ClassLoss` of your own.
        cost: The matching cost, `class_cost_form` of `hungarian_core.DetrLoss`.
        weight: The weight in the loss.
        cost_weight: The weight in the matching cost, by default `weight`.
        no_object_weight: The weight of the last class in the cross entropy.
        class_weights: As for `hungarian_core.DetrLoss`.
        label_smoothing: As for `hungarian_core.DetrLoss`.
        alpha, gamma: The parameters of the sigmoid losses.
        cost_alpha, cost_gamma: Those of the focal cost; `cost_gamma` is `gamma` by default.
        normalize: What the sum over queries is divided by: ``"labels"``, the sum of the weights of
            what they are to say, which a cross entropy has and which it is by default for it,
            ``"objects"``, the number of objects, or ``"queries"``, the number of queries.
        on: The pair of keys (of the labels in the targets, of the logits in the outputs).

    Raises:
        ValueError: An option is unknown, or options do not fit each other.

    Examples:
        >>> criterion = hc.SetLoss([hc.terms.Classes(2, loss="focal")])
        >>> logits = np.array([[[4.0, -4.0], [-4.0, 4.0], [-4.0, -4.0]]])  # (B, Q, C)
        >>> losses = criterion({"logits": logits}, [{"labels": np.array([1])}])
        >>> losses.assignment.col4row
        array([[1]])
        >>> round(float(losses.total), 2)  # the first query claims an object that is not there
        2.91
    """

    loss_name = "class"

    def __init__(
        self,
        num_classes: int,
        *,
        loss: ClassLossName | ClassLoss = "softmax",
        cost: ClassCost | None = None,
        weight: float = 1.0,
        cost_weight: float | None = None,
        no_object_weight: float = 0.1,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
        cost_alpha: float = 0.25,
        cost_gamma: float | None = None,
        normalize: str | None = None,
        on: tuple[str, str] = ("labels", "logits"),
    ) -> None:
        loss = class_loss("loss", loss)
        softmax = loss.activation == "softmax"
        cost = cost or loss.costs[0]
        cost_gamma = gamma if cost_gamma is None else cost_gamma
        num_classes = checks.class_options(
            num_classes, loss, cost, class_weights, label_smoothing, alpha, gamma, cost_gamma
        )
        normalizers = ("labels", "objects", "queries") if softmax else ("objects", "queries")
        normalize = normalize or normalizers[0]
        _checks.one_of("normalize", normalize, normalizers, f"with loss={loss.name!r}")
        self.no_object_weight = float(no_object_weight)
        self.class_weights: tuple[float, ...] | None = None  # one per logit, where not all are 1
        if class_weights is not None:
            nothing = (self.no_object_weight,) if softmax else ()
            self.class_weights = (*map(float, class_weights), *nothing)
        self.num_classes, self.loss, self.cost = num_classes, loss, cost
        self.weight = _checks.weight("weight", weight)
        self.cost_weight = _checks.weight(
            "cost_weight", self.weight if cost_weight is None else cost_weight
        )
        self.alpha, self.gamma = map(_checks.plain, (alpha, gamma))
        self.cost_alpha, self.cost_gamma = map(_checks.plain, (cost_alpha, cost_gamma))
        self.label_smoothing = _checks.plain(label_smoothing)
        self.normalize, self.on = normalize, _checks.pair_of_keys(on)
        self.outputs, self.fields = {self.on[1]: ("C",)}, {self.on[0]: ()}
        self.weights = {self.loss_name: self.weight}
        self.needs_iou = loss.needs_iou

    @property
    def softmax(self) -> bool:
        """Whether the classes exclude each other, and the last one is "no object"."""
        return self.loss.activation == "softmax"

    @property
    def num_logits(self) -> int:
        """The number of logits of a query."""
        return self.num_classes + self.softmax

    def read(
        self, outputs: Mapping[str, Array], fields: Mapping[str, Array], problems: MatchingProblems
    ) -> ClassInputs:
        """Check the labels and lay both out."""
        logits = outputs[self.on[1]]
        checks.logit_shape(problems.backend.shape(logits), self.num_logits, self.softmax)
        _checks.real("logits", logits, problems.xp)
        labels = read_labels(fields[self.on[0]], fields.get("ignore"), self.num_classes, problems)
        return ClassInputs(problems.of_queries(logits), *labels)

    def width(self, problems: MatchingProblems, inputs: ClassInputs) -> Any:
        """A table has all classes; what is picked from it all objects."""
        objects = problems.backend.shape(inputs.labels)[1]
        known = isinstance(objects, int)
        return max(objects, self.num_logits) if known else objects

    def failed(self, inputs: ClassInputs) -> Array | None:
        """Problems with labels out of range."""
        return inputs.failed

    def summarise(
        self, problems: MatchingProblems, inputs: ClassInputs, tile: Tile
    ) -> LogitSummary:
        """Take the exponentials of all logits of a tile, once for all that needs them."""
        return summarise_logits(problems, inputs.logits, tile, self.loss.activation)

    def costs(
        self, problems: MatchingProblems, inputs: ClassInputs, tile: Tile, summary: LogitSummary
    ) -> dict[str, Array]:
        """The cost of the label of every object for every query."""
        if not self.cost_weight:
            return {}
        xp = problems.xp
        costs = table(self.cost, summary.stats, self.cost_alpha, self.cost_gamma, xp)
        picked = self.cost_weight * self._picked(costs, problems, inputs, tile)
        return {self.loss_name: transposed(picked, 3, xp)}

    def alignable(self) -> bool:
        """A cross entropy is known for every label; sigmoid losses may need the IoU."""
        return self.softmax and not self.label_smoothing

    def loss_changes(
        self, problems: MatchingProblems, inputs: ClassInputs, tile: Tile, summary: LogitSummary
    ) -> dict[str, Array]:
        """What a query loses by its object's class, less what it loses by "no object"."""
        if not self.weight:
            return {}
        xp = problems.xp
        costs = table("nll", summary.stats, 0.0, 0.0, xp)
        nothing = times(self.no_object_weight, costs[..., -1:], xp)
        if self.class_weights is not None:
            costs = times(self._class_weights(problems, costs), costs, xp)
        picked = self._picked(costs, problems, inputs, tile)
        if problems.weights is not None:
            picked = times(problems.weights[tile[0], None, :], picked, xp)
        picked = self.weight * (picked - nothing)
        return {self.loss_name: transposed(picked, 3, xp)}

    def _picked(
        self, costs: Array, problems: MatchingProblems, inputs: ClassInputs, tile: Tile
    ) -> Array:
        n = tile[0]
        picked = pick(costs, inputs.labels[n, ...], problems.xp)
        if inputs.unlabelled is None:
            return picked
        return problems.xp.where(inputs.unlabelled[n, None, :], 0, picked)

    def query_losses(
        self,
        problems: MatchingProblems,
        inputs: ClassInputs,
        summaries: Any,
        matches: Matches,
        iou: Array | None,
    ) -> QueryLosses:
        """The loss of every query, for its object's label or for none."""
        xp = problems.xp
        label, label_weights = matches.of_queries(inputs.labels), None
        if self.softmax:
            label = xp.where(matches.query_matched, label, self.num_logits - 1)
            label_weights = self._label_weights(problems, inputs.logits, label, matches)
        targets = QueryTargets(matches.query_matched, label, iou)
        value, slope = self.values_and_slopes(problems, inputs, summaries, targets, label_weights)

        def weighed(losses: Array) -> Array:
            if label_weights is None:
                return losses * self.loss.scale(self.alpha)
            if self.label_smoothing:  # with it, they are weighted already
                return losses
            some_are_0 = 0 in (self.no_object_weight, *(self.class_weights or ()))
            return times(label_weights, losses, xp) if some_are_0 else label_weights * losses

        losses = learned(inputs.logits, value, slope, weighed, matches)
        if self.normalize == "queries":
            return QueryLosses({self.loss_name: losses}, xp.ones_like(losses), weighed=True)
        if label_weights is None or self.normalize != "labels":
            return QueryLosses({self.loss_name: losses}, weighed=True)
        return QueryLosses({self.loss_name: losses}, label_weights, weighed=True)

    def values_and_slopes(
        self,
        problems: MatchingProblems,
        inputs: ClassInputs,
        summaries: Any,
        targets: QueryTargets,
        label_weights: Array | None,
    ) -> tuple[Array, Array]:
        """Return losses `[N, Q]` and their slopes `[N, Q, C]` by the logits, as constants.

        In units of `ClassLoss.scale`, and cross entropies without smoothing are still to be
        weighted.
        """
        if isinstance(summaries, NativeSummary):
            return self._native_losses(problems, inputs, summaries, targets)
        xp = problems.xp
        classes = class_indices(inputs.logits, xp)
        weights = None
        if self.class_weights is not None or self.label_smoothing:
            weights = self._class_weights(problems, inputs.logits)

        def losses(summary: LogitSummary) -> tuple[Array, Array]:
            n, q = summary.tile
            part = QueryTargets(*[None if x is None else x[n, q] for x in targets])
            if not self.softmax:
                return sigmoid_losses(
                    self.loss, summary.stats, part, classes, weights, self.alpha, self.gamma, xp
                )
            if not self.label_smoothing:
                return cross_entropies(summary.stats, part, classes, xp)
            assert label_weights is not None
            return smoothed_cross_entropies(
                summary.stats, part, label_weights[n, q], classes, weights,
                self.label_smoothing, xp,
            )  # fmt: skip

        value, slope = joined(losses, summaries, (1, 1), xp)
        return value, slope

    def unmatched_losses(
        self, problems: MatchingProblems, inputs: ClassInputs, summaries: list[list[LogitSummary]]
    ) -> dict[str, Array]:
        """What every query loses by "no object"."""
        (nll,) = joined(
            lambda summary: (
                summary.stats.log_normaliser[..., 0] - summary.stats.logits[..., -1],
            ),
            summaries, (1,), problems.xp,
        )  # fmt: skip
        return {self.loss_name: times(self.no_object_weight, nll, problems.xp)}

    def native(self) -> tuple[str, dict[str, Any] | None]:
        """Return what the native library is to know; None if it has not all of it."""
        # A record made of one of ours is another loss, whatever it says of native code; a copy of
        # one, as of a criterion that was pickled, is equal to it in all that it says.
        ours = self.loss in CLASS_LOSSES.values()
        if type(self) is not Classes or not ours or self.loss.native is None:
            return "classes", None
        if self.softmax:
            known = not self.label_smoothing
        else:
            known = (
                self.gamma == self.cost_gamma == 2
                and self.cost_alpha not in (0, 1)
                and self.class_weights is None
                and self.loss.scale(self.alpha) == self.loss.others(self.alpha)
            )
        options = {
            "softmax": self.softmax, "class_cost_form": self.cost, "class_cost": self.cost_weight,
            "alpha": self.cost_alpha,
        }  # fmt: skip
        return "classes", options if known else None

    def _native_losses(
        self,
        problems: MatchingProblems,
        inputs: ClassInputs,
        summary: NativeSummary,
        targets: QueryTargets,
    ) -> tuple[Array, Array]:
        label = targets.label
        if not self.softmax:
            label = problems.xp.where(targets.matched, label, -1)
        assert self.loss.native is not None
        return class_losses(
            self.loss.native, self.alpha, inputs.logits, targets, label, summary, problems
        )

    def logs(
        self, problems: MatchingProblems, inputs: ClassInputs, summaries: Any, matches: Matches
    ) -> dict[str, Array]:
        """By how many objects the images' queries are off, and how many name another class."""
        max_logit, claims = self.largest_and_claims(problems, summaries)
        return label_logs(problems, inputs, matches, max_logit, claims)

    def largest_and_claims(self, problems: MatchingProblems, summaries: Any) -> tuple[Array, Array]:
        """Return the largest logits `[N, Q]` and which queries claim an object."""
        if isinstance(summaries, NativeSummary):
            return summaries.max_logit, summaries.claims_object
        largest, claims = joined(
            lambda summary: (summary.stats.max_logit, summary.claims_object),
            summaries, (1, 1), problems.xp,
        )  # fmt: skip
        return largest, claims

    def _class_weights(self, problems: MatchingProblems, like: Array) -> Array:
        """Return the weights of the logits, `[1, 1, C]`."""
        weights = self.class_weights or (*(1.0,) * self.num_classes, self.no_object_weight)
        weights = problems.backend.asarray([[list(weights)]], like=like)
        return problems.xp.astype(weights, problems.dtype, copy=False)

    def _label_weights(
        self, problems: MatchingProblems, like: Array, label: Array, matches: Matches
    ) -> Array:
        """Return the weights `[N, Q]` of what the queries are to say."""
        xp = problems.xp
        if self.class_weights is not None:
            return weights_of(self._class_weights(problems, like), label, xp)
        ones = xp.ones_like(label, dtype=problems.dtype)
        return xp.where(matches.query_matched, ones, self.no_object_weight)
