"""Set losses of layers whose boxes share a matching: the union of the layers' own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend
from hungarian_core._registry import get_backend
from hungarian_core._settings import passing_on
from hungarian_core._tracing import skip_autograph
from hungarian_core.assignment import Assignment
from hungarian_core.capacities import ManyAssignment
from hungarian_core.costs.classes import as_index
from hungarian_core.denoising.queries import Denoised
from hungarian_core.losses.base import Loss
from hungarian_core.losses.call import Outputs
from hungarian_core.losses.results import DENOISED, SetLosses
from hungarian_core.losses.set_loss import SetLoss
from hungarian_core.terms import _checks as checks
from hungarian_core.terms import _contract
from hungarian_core.terms.edges import EdgeDistributions
from hungarian_core.terms.targets import TargetForms, Targets, blank
from hungarian_core.terms.term import Term


def union_of_layers(
    assignment: Assignment | Array, *, backend: str | Backend | None = None
) -> Array:
    """Return for each query the object that most layers match it to, or -1 if none does.

    This is what D-FINE calls the global optimal matching set. An object may have several queries
    in it. Where as many layers say one object as another, it is the first of them.

    Args:
        assignment: Matchings with the axes `(L, B)`, and `groups` behind them if there are
            several; or for each query the index of its object or -1, integers `(L, B, Q)`.
        backend: A backend's name or instance, by default the one of the arrays.

    Returns:
        `(B, Q)` index, with Q the queries of all groups: what `assignment` of a
        `hungarian_core.SetLoss` takes, for all layers.

    Raises:
        ValueError: There is no axis of layers.

    Reference:
        Peng et al., D-FINE: Redefine Regression Task of DETRs as Fine-grained Distribution
        Refinement, ICLR 2025, section 4.2, as its code has it.

    Examples:
        >>> layers = np.array([[[0, 1, -1, -1]], [[0, -1, 1, -1]], [[1, -1, 0, -1]]])
        >>> hc.criteria.union_of_layers(layers)
        array([[ 0,  1,  0, -1]])
    """
    rows = _rows(assignment)
    backend = get_backend(backend, assignment=rows)
    rows, xp = backend.asarray(rows), backend.namespace(rows)
    shape = backend.shape(rows)
    _checks.integral("assignment", rows, xp)
    checks.layers_of_matchings(shape)
    rows = as_index(rows, xp)
    there = rows >= 0
    agree = (rows[:, None, ...] == rows[None, ...]) & there[:, None, ...]
    votes = as_index(xp.sum(as_index(agree, xp), axis=1), xp)
    chosen = there & (votes == xp.max(votes, axis=0, keepdims=True))
    # Where nobody has an object the largest is -1, and so is the least of these.
    largest = xp.max(rows, axis=0, keepdims=True)
    found = xp.min(xp.where(chosen, rows, largest), axis=0)
    if len(shape) == 4:
        found = xp.reshape(found, (shape[1], shape[2] * shape[3]))
    return found


@skip_autograph
class UnionLoss(Loss):
    """A set loss of decoder layers, of which some terms take the union of the layers' matchings.

    All terms have a say in the matching of each layer, in one solve. The losses of `own` are those
    of a layer's own matching, and the losses of `shared` those of the union of all layers, by
    `union_of_layers`, and divided by the number of its pairs. So a query learns the same box in all
    layers, and its class in those in which it is the best.

    Args:
        own: The terms that take the layers' own matchings, at least one.
        shared: The terms that take their union, at least one.
        **options: Those of `hungarian_core.SetLoss`.

    Raises:
        ValueError: An option is unknown, or options do not fit each other.
        TypeError: A term is none.

    Examples:
        >>> criterion = hc.criteria.UnionLoss([hc.terms.Presence()], [hc.terms.Boxes()])
        >>> boxes = np.array([[0.2, 0.2, 0.1, 0.1], [0.6, 0.6, 0.3, 0.3]])
        >>> outputs = {"boxes": np.stack([boxes, boxes[::-1]])[:, None]}  # two layers disagree
        >>> outputs["presence"] = np.zeros((2, 1, 2))
        >>> losses = criterion(outputs, [{"boxes": boxes[:1]}])
        >>> losses.assignment.row4col.tolist()
        [[[0, -1]], [[-1, 0]]]
        >>> losses.losses["bbox"]  # 5 times the L1 distance, of two pairs in each layer
        array([3., 3.])
    """

    @passing_on(SetLoss, "match_by", "terms")
    def __init__(self, own: Sequence[Term], shared: Sequence[Term], **options: Any) -> None:
        super().__init__()
        _contract.term_list(own)
        _contract.term_list(shared)
        _contract.term_list([*own, *shared])
        self.own, self.shared = tuple(own), tuple(shared)
        if options.get("backend") is None:
            options = {**options, "backend": self.default_backend}
        # Shared terms that cost something are matched by too; their losses there weigh nothing.
        costly = [term for term in shared if type(term).costs is not Term.costs]
        self.of_layers = SetLoss([*own, *costly], **options)
        self.of_union = SetLoss(shared, **options)
        self.of_all = SetLoss([*own, *shared], **options)  # by one matching
        self.muted = dict.fromkeys((name for term in costly for name in term.weights), 0.0)

    def __call__(
        self,
        outputs: Outputs,
        targets: TargetForms,
        *,
        image_weights: Array | None = None,
        extra_cost: Array | None = None,
        query_mask: Array | None = None,
        assignment: Assignment | Array | None = None,
        weights: Mapping[str, float | Array] | None = None,
        denoising: Denoised | None = None,
    ) -> SetLosses:
        """Return the loss of a batch.

        Arguments, result and errors are those of a call of `hungarian_core.SetLoss`, but that there
        is no `num_objects`, as shared terms are divided by the number of pairs. A matching
        that is given, as that of queries for denoising, all terms take as it is. `assignment` of
        the result has the layers' own matchings; `union_of_layers` of it is their union. Edges of
        queries for denoising have the ``"balance"`` of the model's own, unless outputs say another.
        """
        if isinstance(targets, list):
            targets = self.pad_targets(targets, like=self._first(outputs))
        weights = {} if weights is None else weights
        known = [name for term in (*self.own, *self.shared) for name in term.weights]
        checks.weights_of_call(weights, dict.fromkeys(known), "cost")
        of_union = {k: x for k, x in weights.items() if k in _names(self.shared)}
        of_layers = {k: x for k, x in weights.items() if k not in of_union} | self.muted
        common: dict[str, Any] = {"image_weights": image_weights, "query_mask": query_mask}
        own = self.of_layers(
            outputs, targets, extra_cost=extra_cost, assignment=assignment, weights=of_layers,
            denoising=denoising, **common,
        )  # fmt: skip
        union = own.assignment
        if assignment is None and self._layered(union):
            union = union_of_layers(union, backend=self.of_layers.backend)
        if denoising is not None:
            denoising = self._balanced(denoising, union, query_mask, targets)
        shared = self.of_union(
            outputs, targets, assignment=union, weights=of_union, denoising=denoising, **common
        )
        muted = {f"{name}{end}" for name in self.muted for end in ("", DENOISED)}
        every = {name: x for name, x in own.losses.items() if name not in muted} | shared.losses
        # Those of queries for denoising come last.
        losses = {name: every[name] for name in sorted(every, key=lambda x: x.endswith(DENOISED))}
        return SetLosses(
            own.total + shared.total, losses, own.logs | shared.logs,
            own.assignment,
        )  # fmt: skip

    @skip_autograph
    def match(
        self,
        outputs: Outputs,
        targets: TargetForms,
        *,
        extra_cost: Array | None = None,
        query_mask: Array | None = None,
    ) -> Assignment:
        """Return the layers' own matchings alone; arguments and errors are those of a call."""
        return self.of_layers.match(outputs, targets, extra_cost=extra_cost, query_mask=query_mask)

    def pad_targets(
        self,
        targets: Sequence[Mapping[str, Array]],
        *,
        size: int | None = None,
        like: Array | None = None,
    ) -> dict[str, Array]:
        """Return the targets of images as padded arrays, as `hungarian_core.SetLoss` does."""
        return self.of_all.pad_targets(targets, size=size, like=like)

    def _first(self, outputs: Outputs) -> Array | None:
        """Return an output, to say where targets are to lie."""
        name = next(iter(self.own[0].outputs))
        return outputs.get(name) if isinstance(outputs, Mapping) else None

    def _balanced(
        self,
        denoising: Denoised,
        union: Assignment | Array,
        query_mask: Array | None,
        targets: TargetForms,
    ) -> Denoised:
        """Return what a model made of queries for denoising with the balance of its own queries."""
        keys = [term.balance for term in self.shared if isinstance(term, EdgeDistributions)]
        if not keys:
            return denoising
        found = dict.fromkeys(keys, self._balance(union, query_mask, targets))
        given = {key: x for key, x in denoising.outputs.items() if x is not None}
        return Denoised(denoising.queries, found | given, denoising.query_mask)

    def _balance(
        self, union: Assignment | Array, query_mask: Array | None, targets: TargetForms
    ) -> Array:
        """Return how many queries have an object and how many have none, `[2]`, ignored ones not.

        Targets are padded.
        """
        if self._layered(union):  # as one that was given may be
            union = union_of_layers(union, backend=self.of_layers.backend)
        rows = _rows(union)
        backend = get_backend(self.of_layers.backend, assignment=rows)
        rows = backend.asarray(rows)
        xp = backend.namespace(rows)
        shape = backend.shape(rows)
        if len(shape) == 3:
            rows = xp.reshape(rows, (shape[0], shape[1] * shape[2]))
        rows = as_index(rows, xp)
        matched, others = rows >= 0, rows < 0
        if query_mask is not None:
            there = backend.asarray(query_mask, like=rows)
            # Of layers the last, which is what the others are compared with.
            there = there[-1, ...] if len(backend.shape(there)) == 3 else there
            matched, others = matched & there, others & there
        if isinstance(targets, Targets):
            ignore = targets.ignore
        else:
            ignore = targets.get("ignore") if isinstance(targets, Mapping) else None
        if ignore is not None:
            ignore = backend.asarray(ignore, like=rows)
            ignore = xp.concat([ignore, blank(ignore, 1, xp)], axis=1)  # there may be no object
            matched = matched & ~xp.take_along_axis(ignore, xp.where(matched, rows, 0), axis=1)
        return xp.stack([xp.sum(as_index(x, xp)) for x in (matched, others)])

    def _layered(self, assignment: Assignment | Array) -> bool:
        """Tell whether a matching has an axis of layers; groups have one of their own if solved."""
        grouped = isinstance(assignment, (Assignment, ManyAssignment)) and self.of_layers.groups > 1
        return bool(_rows(assignment).ndim == 3 + grouped)


def _rows(assignment: Assignment | ManyAssignment | Array) -> Array:
    """Return the object of each query."""
    solved = isinstance(assignment, (Assignment, ManyAssignment))
    return assignment.row4col if solved else assignment


def _names(terms: Sequence[Term]) -> set[str]:
    return {name for term in terms for name in term.weights}
