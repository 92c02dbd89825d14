"""What a term of a set loss is: the contract, and the term that is a pair of functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array
from hungarian_core._settings import Configured
from hungarian_core.costs import CostFunction
from hungarian_core.costs._functions import cost_function, pair_losses
from hungarian_core.costs.classes import times
from hungarian_core.terms import _checks as checks
from hungarian_core.terms.matches import Matches
from hungarian_core.terms.problems import MatchingProblems, Tile
from hungarian_core.terms.targets import Extents


class QueryLosses(NamedTuple):
    """The losses of all queries by a term."""

    losses: dict[str, Array]  # [N, Q] by name, without the weight of the term
    # [N, Q], what each counts in the number that the sum is divided by; None divides by the number
    # of objects.
    label_weights: Array | None = None


class Term(Configured):
    """One term of a `hungarian_core.SetLoss`, to be derived from.

    A term says what it costs to match a query to an object, and what pairs or queries add to the
    loss once they are matched. In what follows N counts matching problems (decoder layers times
    images times groups of queries), M true objects, Q queries, and P pairs. `read` lays the arrays
    of a call out in this way; the other methods get what it returned as `inputs`. All but the
    attributes and `read` has a default: nothing.

    Attributes:
        outputs: The keys of the model's outputs that it reads, with what each has behind `(B, Q)`
            or `(L, B, Q)`: extents, or letters where any extent will do, such as ``("H", "W")``.
        fields: The keys of the targets that it reads, with what each has behind `(B, M)`.
        optional: The keys of outputs that it reads if they are there.
        weights: The weights in the loss of what it adds, by name.
        tiled: Whether `costs` can make a piece of the matrix. Eagerly, pieces fit into a
            processor's cache.
        decides_dtype: Whether its outputs have a say in the dtype to compute in, which is float64
            if any of them is, else float32. Arrays for every pixel have none.
        needs_iou: Whether `query_losses` is to know the IoU of matched boxes, which another term
            has to tell.
    """

    outputs: Mapping[str, Extents]
    fields: Mapping[str, Extents]
    weights: Mapping[str, float]
    optional: tuple[str, ...] = ()
    tiled: bool = True
    decides_dtype: bool = True
    needs_iou: bool = False

    def alignable(self) -> bool:
        """Say whether what a match changes of the loss is known before the match."""
        return False

    def read(
        self, outputs: Mapping[str, Array], fields: Mapping[str, Array], problems: MatchingProblems
    ) -> Any:
        """Check the arrays of a call and lay them out.

        Args:
            outputs: The outputs of the model by key, as given.
            fields: The targets by key, `(B, M, ...)`.
            problems: Who is matched with whom, and how that lies.
        """
        raise NotImplementedError(f"{type(self).__name__} says nothing of how its arrays are read")

    def width(self, problems: MatchingProblems, inputs: Any) -> Any:
        """Return how many numbers per query the largest temporary array of `costs` has."""
        return problems.objects

    def failed(self, inputs: Any) -> Array | None:
        """Return which problems `[N]` have input that is wrong, where that cannot be raised."""
        return None

    def summarise(self, problems: MatchingProblems, inputs: Any, tile: Tile) -> Any:
        """Return what both the matching and the losses are to know of the queries in a tile."""
        return None

    def costs(
        self, problems: MatchingProblems, inputs: Any, tile: Tile, summary: Any
    ) -> dict[str, Array]:
        """Return the weighted matching costs `[n, M, q]` of a tile, by name."""
        return {}

    def loss_changes(
        self, problems: MatchingProblems, inputs: Any, tile: Tile, summary: Any
    ) -> dict[str, Array]:
        """Return by how much each match would change the loss, `[n, M, q]`, by name.

        That is what ``match_by="loss"`` minimises, of terms that are `alignable`. The weights of
        objects count.
        """
        return {}

    def pair_losses(
        self, problems: MatchingProblems, inputs: Any, matches: Matches
    ) -> dict[str, Array]:
        """Return the losses `[N, P]` of the pairs by name, without weights.

        Pairs that are not `counted` may have any value, but no gradient.
        """
        return {}

    def iou(self, problems: MatchingProblems, inputs: Any, matches: Matches) -> Array | None:
        """Return the IoU `[N, P]` of the pairs, a constant, if the term has boxes."""
        return None

    def query_losses(
        self,
        problems: MatchingProblems,
        inputs: Any,
        summaries: Any,
        matches: Matches,
        iou: Array | None,
    ) -> QueryLosses:
        """Return the losses `[N, Q]` of the queries, without weights.

        Args:
            problems: As above.
            inputs: As above.
            summaries: The tiles, each with its summary; see `hungarian_core.terms.tiles.joined`.
            matches: Who was matched with whom.
            iou: `[N, Q]`, if `needs_iou`.
        """
        return QueryLosses({})

    def unmatched_losses(
        self, problems: MatchingProblems, inputs: Any, summaries: Any
    ) -> dict[str, Array]:
        """Return the losses `[N, Q]` that queries without an object have, constants."""
        return {}

    def logs(
        self, problems: MatchingProblems, inputs: Any, summaries: Any, matches: Matches
    ) -> dict[str, Array]:
        """Return numbers `[L]` for logging, by name."""
        return {}

    def native(self) -> tuple[str, dict[str, Any] | None]:
        """Return as what the native library knows the term, and its options.

        ``("", None)`` if it does not know it, which goes for all but classes and boxes.
        """
        return "", None


class PairInputs(NamedTuple):
    """What queries and objects have, to be compared."""

    prediction: Array  # [N, Q, d]
    truth: Array  # [N, M, d]


class Pairs(Term):
    """A term that compares a vector of each query with one of each object.

    Args:
        name: What its loss is called.
        cost: What matching costs: a name or a function ``cost(xp, a, b)`` as for
            `hungarian_core.loss`, which reduces the last axis of two arrays broadcast against each
            other; None for a term that is not matched by.
        loss: The loss of matched pairs, in the same form; by default the cost itself.
        weight: The weight in the loss.
        cost_weight: The weight in the matching cost, by default `weight`.
        on: The key of both the outputs and the targets, by default `name`, or the pair of keys
            (of the targets, of the outputs) if they are named differently.

    Raises:
        ValueError: A name is unknown, or there is neither a cost nor a loss.

    Example::

        >>> import numpy as np
        >>> import hungarian_core as hc
        >>> criterion = hc.SetLoss([hc.terms.Pairs("centres", "l1", weight=2.0)])
        >>> outputs = {"centres": np.array([[[0.0, 1.0], [4.0, 4.0]]])}  # (B, Q, d)
        >>> targets = [{"centres": np.array([[4.0, 5.0]])}]
        >>> losses = criterion(outputs, targets)
        >>> losses.assignment.col4row
        array([[1]])
        >>> float(losses.total)
        2.0
    """

    def __init__(
        self,
        name: str,
        cost: str | CostFunction | None = "l1",
        loss: str | CostFunction | None = None,
        *,
        weight: float = 1.0,
        cost_weight: float | None = None,
        on: str | tuple[str, str] | None = None,
    ) -> None:
        self.name = name
        loss = cost if loss is None else loss
        if loss is None:
            raise ValueError(f"the term {name!r} has neither a cost nor a loss; expected one")
        self.cost, self.loss = cost, loss
        self.weight = _checks.weight("weight", weight)
        self.cost_weight = (
            self.weight if cost_weight is None else _checks.weight("cost_weight", cost_weight)
        )
        self.on = (on, on) if isinstance(on, str) else on or (name, name)
        for what, function in (("cost", cost), ("loss", loss)):
            if function is not None:
                cost_function(f"the {what} of {name!r}", function)
        self.outputs, self.fields = {self.on[1]: ("d",)}, {self.on[0]: ("d",)}
        self.weights = {name: self.weight}

    def read(
        self, outputs: Mapping[str, Array], fields: Mapping[str, Array], problems: MatchingProblems
    ) -> PairInputs:
        """Lay out the vectors."""
        truth, prediction = fields[self.on[0]], outputs[self.on[1]]
        shape = problems.backend.shape
        checks.vectors(self.on, shape(truth), shape(prediction))
        return PairInputs(problems.of_queries(prediction), problems.of_truth(truth))

    def width(self, problems: MatchingProblems, inputs: PairInputs) -> Any:
        """A cost looks at all features of all pairs at once."""
        return problems.objects * problems.backend.shape(inputs.truth)[-1]

    def costs(
        self, problems: MatchingProblems, inputs: PairInputs, tile: Tile, summary: None
    ) -> dict[str, Array]:
        """The cost of every pair."""
        if self.cost is None or not self.cost_weight:
            return {}
        each = self._pairwise("cost", self.cost, problems, inputs, tile)
        return {self.name: times(self.cost_weight, each, problems.xp)}

    def alignable(self) -> bool:
        """A pair's loss is known."""
        return True

    def loss_changes(
        self, problems: MatchingProblems, inputs: PairInputs, tile: Tile, summary: None
    ) -> dict[str, Array]:
        """The loss of every pair: unmatched ones have none."""
        each = self._pairwise("loss", self.loss, problems, inputs, tile)
        each = times(self.weight, each, problems.xp)
        if problems.weights is not None:
            each = times(problems.weights[tile[0], :, None], each, problems.xp)
        return {self.name: each}

    def pair_losses(
        self, problems: MatchingProblems, inputs: PairInputs, matches: Matches
    ) -> dict[str, Array]:
        """The loss of the matched pairs."""
        prediction, truth = matches.compared(inputs.prediction, inputs.truth)
        name = f"the loss of {self.name!r}"
        each = cost_function(name, self.loss)(problems.xp, truth, prediction)
        shape = problems.backend.shape
        pair_losses(name, shape(each), shape(matches.counted))
        return {self.name: each}

    def _pairwise(
        self,
        what: str,
        function: str | CostFunction,
        problems: MatchingProblems,
        inputs: PairInputs,
        tile: Tile,
    ) -> Array:
        """Return what a function says of all pairs of a tile, `[n, M, q]`."""
        (n, q), shape = tile, problems.backend.shape
        prediction = problems.backend.stop_gradient(inputs.prediction[n, q, :])
        truth, name = inputs.truth[n, ...], f"the {what} of {self.name!r}"
        each = cost_function(name, function)(
            problems.xp, truth[:, :, None, :], prediction[:, None, :, :]
        )
        _checks.returned(name, shape(each), (*shape(truth)[:2], shape(prediction)[1]))
        return each
