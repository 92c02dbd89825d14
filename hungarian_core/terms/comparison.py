"""Terms that compare what each query has with what each object has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend
from hungarian_core._dtypes import solving_dtype
from hungarian_core.costs import CostFunction
from hungarian_core.costs._functions import cost_function, pair_losses
from hungarian_core.costs.classes import times
from hungarian_core.terms import _checks as checks
from hungarian_core.terms import _target_checks as target_checks
from hungarian_core.terms.matches import Matches
from hungarian_core.terms.problems import MatchingProblems, Tile
from hungarian_core.terms.term import Term

Arrays = Mapping[str, Array]
Compare = Callable[[Arrays, Arrays, tuple[str, ...], Backend], dict[str, Array]]


class ComparisonInputs(NamedTuple):
    """What queries and objects have, by key."""

    predictions: dict[str, Array]  # [N, Q, ...]
    truths: dict[str, Array]  # [N, M, ...]


class Comparison(Term):
    """A term that compares what each query has with what each object has, to be derived from.

    A derived class says in `compare` how unlike two of them are. That is the loss of matched pairs
    and, for all pairs, the matching cost, unless `compare_for_matching` says otherwise.

    Attributes:
        outputs, fields, weights: As for `Term`. An extent of one letter is the same wherever the
            letter stands.
        cost_weights: The weights in the matching cost, by name. What has none is not matched by.
        check_targets: Whether to look for `impossible` objects.

    Example::

        >>> import numpy as np
        >>> import hungarian_core as hc
        >>> class Depths(hc.terms.Comparison):
        ...     outputs = fields = {"depth": ()}  # one number for each query, and for each object
        ...     weights, cost_weights = {"depth": 1.0}, {"depth": 0.5}
        ...     def compare(self, predictions, truths, names, backend):
        ...         xp = backend.namespace(predictions["depth"])
        ...         return {"depth": xp.abs(xp.log(predictions["depth"] / truths["depth"]))}
        >>> outputs = {"depth": np.array([[0.5, 4.0, 9.0]])}  # (B, Q)
        >>> losses = hc.SetLoss([Depths()])(outputs, [{"depth": np.array([8.0, 2.0])}])
        >>> losses.assignment.col4row
        array([[2, 1]])
    """

    cost_weights: Mapping[str, float]
    check_targets: bool = True

    def compare(
        self, predictions: Arrays, truths: Arrays, names: tuple[str, ...], backend: Backend
    ) -> dict[str, Array]:
        """Return the losses of pairs by name, without weights.

        Args:
            predictions: What the queries of the pairs have, by the keys of `outputs`. The axes
                before those of a query broadcast against those of `truths`.
            truths: What the objects have, by the keys of `fields`, constants.
            names: Which losses are wanted.
            backend: The backend.

        Returns:
            For each of `names` the broadcast axes, what a query has being reduced.
        """
        raise NotImplementedError(f"{type(self).__name__} says nothing of how pairs are compared")

    def compare_for_matching(
        self, predictions: Arrays, truths: Arrays, names: tuple[str, ...], backend: Backend
    ) -> dict[str, Array]:
        """Return the matching costs of pairs by name, where they are not the losses."""
        return self.compare(predictions, truths, names, backend)

    def overlaps(self, predictions: Arrays, truths: Arrays, backend: Backend) -> Array | None:
        """Return the IoU of pairs, for other terms to know; arguments as for `compare`."""
        return None

    def impossible(self, truths: Arrays) -> tuple[Array, str]:
        """Return which objects `(B, M)` cannot be, and what an object is expected to be.

        Asked on the host and with arrays of NumPy only, where the targets can be read.

        Args:
            truths: What objects have, `(B, M, ...)`, by the keys of `fields`.
        """
        raise NotImplementedError

    def read(self, outputs: Arrays, fields: Arrays, problems: MatchingProblems) -> ComparisonInputs:
        """Lay out what is compared, and look for objects that cannot be."""
        shape = problems.backend.shape
        checks.letters(
            {name: (shape(outputs[name]), extents) for name, extents in self.outputs.items()},
            {name: (shape(fields[name]), extents) for name, extents in self.fields.items()},
        )
        for name, x in (*outputs.items(), *fields.items()):
            if name in self.outputs or name in self.fields:
                _checks.real(name, x, problems.xp)
        if self.check_targets and type(self).impossible is not Comparison.impossible:
            self._check_truths(fields, problems)
        return ComparisonInputs(
            {name: problems.of_queries(outputs[name]) for name in self.outputs},
            {name: problems.of_truth(fields[name]) for name in self.fields},
        )

    def width(self, problems: MatchingProblems, inputs: ComparisonInputs) -> Any:
        """A comparison looks at all that two of them have at once."""
        shape = problems.backend.shape
        return problems.objects * max(prod(shape(x)[2:]) for x in inputs.truths.values())

    def costs(
        self, problems: MatchingProblems, inputs: ComparisonInputs, tile: Tile, summary: None
    ) -> dict[str, Array]:
        """The cost of every pair."""
        weights = {name: weight for name, weight in self.cost_weights.items() if weight}
        return self._of_all(self.compare_for_matching, "cost", weights, problems, inputs, tile)

    def alignable(self) -> bool:
        """A pair's loss is known."""
        return True

    def loss_changes(
        self, problems: MatchingProblems, inputs: ComparisonInputs, tile: Tile, summary: None
    ) -> dict[str, Array]:
        """The loss of every pair: unmatched ones have none."""
        changes = self._of_all(self.compare, "loss", self.weights, problems, inputs, tile)
        if problems.weights is None:
            return changes
        weights = problems.weights[tile[0], :, None]
        return {name: times(weights, x, problems.xp) for name, x in changes.items()}

    def pair_losses(
        self, problems: MatchingProblems, inputs: ComparisonInputs, matches: Matches
    ) -> dict[str, Array]:
        """The loss of the matched pairs."""
        shape = problems.backend.shape
        predictions = {name: self._chosen(x, matches) for name, x in inputs.predictions.items()}
        truths = {name: matches.truths(x) for name, x in inputs.truths.items()}
        each = self.compare(predictions, truths, tuple(self.weights), problems.backend)
        for name in self.weights:
            pair_losses(f"the loss of {name!r}", shape(each[name]), shape(matches.counted))
        return {name: each[name] for name in self.weights}

    def tells_iou(self) -> bool:
        """A comparison has overlaps or has none."""
        return type(self).overlaps is not Comparison.overlaps

    def iou(
        self, problems: MatchingProblems, inputs: ComparisonInputs, matches: Matches
    ) -> Array | None:
        """The overlap of matched pairs."""
        stop = problems.backend.stop_gradient
        predictions = {
            name: self._chosen(stop(x), matches) for name, x in inputs.predictions.items()
        }
        truths = {name: matches.truths(x) for name, x in inputs.truths.items()}
        return self.overlaps(predictions, truths, problems.backend)

    def _check_truths(self, fields: Arrays, problems: MatchingProblems) -> None:
        """Raise if an object cannot be, where it can be read."""
        backend, xp = problems.backend, problems.xp
        # NumPy has no bfloat16.
        truths = {
            name: xp.astype(x, solving_dtype(x.dtype, xp), copy=False)
            for name, x in fields.items()
            if name in self.fields
        }
        arrays = (problems.objects_mask, *truths.values())
        if all(backend.readable(x) for x in arrays):
            check = target_checks.possible(self.impossible, tuple(truths))
            backend.host_call(check, *arrays, like=())

    @staticmethod
    def _chosen(x: Array, matches: Matches) -> Array:
        """Return what the pairs have of `[N, Q, ...]`, where they are to be compared."""
        chosen, xp = matches.predictions(x), matches.problems.xp
        counted = matches.counted[(..., *(None,) * (chosen.ndim - 2))]
        # What is not matched may hold anything, and no gradient is to meet it.
        return xp.where(counted, chosen, xp.zeros_like(chosen))

    def _of_all(
        self,
        compare: Compare,
        what: str,
        weights: Mapping[str, float],
        problems: MatchingProblems,
        inputs: ComparisonInputs,
        tile: Tile,
    ) -> dict[str, Array]:
        """Return what all pairs of a tile are compared to, weighted, `[n, M, q]`."""
        if not weights:
            return {}
        backend, shape, (n, q) = problems.backend, problems.backend.shape, tile
        predictions = {
            name: backend.stop_gradient(x[n, q, ...])[:, None, ...]
            for name, x in inputs.predictions.items()
        }
        truths = {name: x[n, ...][:, :, None, ...] for name, x in inputs.truths.items()}
        each = compare(predictions, truths, tuple(weights), backend)
        (size, _, queries), objects = shape(next(iter(predictions.values())))[:3], problems.mask
        for name in weights:
            _checks.returned(
                f"the {what} of {name!r}", shape(each[name]), (size, shape(objects)[1], queries)
            )
        return {name: times(x, each[name], problems.xp) for name, x in weights.items()}


class Pairs(Comparison):
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
        self.name = _checks.key("name", name)
        loss = cost if loss is None else loss
        if loss is None:
            raise ValueError(f"the term {name!r} has neither a cost nor a loss; expected one")
        self.cost, self.loss = cost, loss
        self.weight = _checks.weight("weight", weight)
        self.cost_weight = (
            self.weight if cost_weight is None else _checks.weight("cost_weight", cost_weight)
        )
        self.on = _checks.pair_of_keys(name if on is None else on)
        for what, function in (("cost", cost), ("loss", loss)):
            if function is not None:
                cost_function(f"the {what} of {name!r}", function)
        self.outputs, self.fields = {self.on[1]: ("d",)}, {self.on[0]: ("d",)}
        self.weights = {name: self.weight}
        self.cost_weights = {} if cost is None else {name: self.cost_weight}

    def read(self, outputs: Arrays, fields: Arrays, problems: MatchingProblems) -> ComparisonInputs:
        """Lay out the vectors."""
        shape = problems.backend.shape
        checks.vectors(self.on, shape(fields[self.on[0]]), shape(outputs[self.on[1]]))
        return super().read(outputs, fields, problems)

    def compare(
        self, predictions: Arrays, truths: Arrays, names: tuple[str, ...], backend: Backend
    ) -> dict[str, Array]:
        """The loss of pairs."""
        return self._compared("loss", self.loss, predictions, truths, backend)

    def compare_for_matching(
        self, predictions: Arrays, truths: Arrays, names: tuple[str, ...], backend: Backend
    ) -> dict[str, Array]:
        """The cost of pairs."""
        assert self.cost is not None
        return self._compared("cost", self.cost, predictions, truths, backend)

    def _compared(
        self,
        what: str,
        function: str | CostFunction,
        predictions: Arrays,
        truths: Arrays,
        backend: Backend,
    ) -> dict[str, Array]:
        truth, prediction = truths[self.on[0]], predictions[self.on[1]]
        compare = cost_function(f"the {what} of {self.name!r}", function)
        return {self.name: compare(backend.namespace(prediction), truth, prediction)}
