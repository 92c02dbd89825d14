"""The loss of a set: match by a sum of terms, then add up what the terms say of the matching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend
from hungarian_core._tracing import skip_autograph
from hungarian_core.assignment import Assignment, Nan, Solver, assign
from hungarian_core.costs.classes import times
from hungarian_core.denoising.queries import Denoised
from hungarian_core.losses.base import Loss
from hungarian_core.losses.call import (
    Call,
    Outputs,
    denoised,
    given_matches,
    group_count,
    image_column,
    names_apart,
    object_count,
    read_call,
    wanted_by,
    without_failed,
)
from hungarian_core.losses.evaluation import logs_of_terms, losses_of_terms
from hungarian_core.losses.kernels import Kernels, MatchBy, Tiled, choose_kernels
from hungarian_core.losses.results import DENOISED, SetLosses
from hungarian_core.losses.sums import Divisors, divisors
from hungarian_core.terms import _checks as checks
from hungarian_core.terms import _contract
from hungarian_core.terms.matches import matches_of
from hungarian_core.terms.targets import TargetForms, pad_fields
from hungarian_core.terms.term import Term


@skip_autograph
class SetLoss(Loss):
    """The loss of a set of predictions, made of terms.

    Queries are matched to true objects by the weighted sum of the terms' costs, with all decoder
    layers, images and groups in one solve. The loss is the weighted sum of what the terms say of
    the matched pairs and of all queries. `hungarian_core.DetrLoss` is this with the terms
    `Classes`, `Boxes` and `Masks`; a term of your own is a `Pairs` of functions or a class derived
    from `Term`, see :mod:`hungarian_core.terms`.

    Args:
        terms: The terms, at least one.
        match_by: ``"cost"``, the terms' matching costs, or ``"loss"``: by how much each match
            changes the loss, so that the matching is the one of least loss. All losses are divided
            by one number then, a cross entropy too, and objects with `ignore` count in the
            matching as if they did in the loss. Terms have to be `Term.alignable`.
        normalize: What losses are divided by: ``"objects"``, the number of true objects in the
            batch, at least 1, or for a cross entropy the weights of what queries are to say;
            ``"images"``, the number of images; None for nothing.
        denominator: As `class_denominator` of `hungarian_core.DetrLoss`.
        reduction: ``"mean"``, or ``"none"`` to keep the images apart: each has its share, and the
            sum of the shares is what ``"mean"`` gives.
        repeat, groups, nan, solver, tile_bytes: As for `hungarian_core.DetrLoss`.
        log: Whether to compute what is for logging.
        backend: A backend's name or instance, by default the one of the arrays.

    Raises:
        ValueError: An option is unknown, or options do not fit each other.
        TypeError: A term is none.

    Example::

        >>> import numpy as np
        >>> import hungarian_core as hc
        >>> criterion = hc.SetLoss([hc.terms.Classes(2, loss="focal"), hc.terms.Boxes()])
        >>> rng = np.random.default_rng(0)
        >>> outputs = {"logits": rng.normal(size=(1, 5, 2)), "boxes": rng.random((1, 5, 4))}
        >>> targets = [{"labels": np.array([1]), "boxes": np.array([[0.5, 0.5, 0.2, 0.2]])}]
        >>> losses = criterion(outputs, targets)
        >>> sorted(losses.losses)
        ['bbox', 'class', 'giou']
    """

    def __init__(
        self,
        terms: Sequence[Term],
        *,
        match_by: MatchBy = "cost",
        normalize: Literal["objects", "images"] | None = "objects",
        denominator: Literal["worker", "global"] = "worker",
        reduction: Literal["mean", "none"] = "mean",
        repeat: int = 1,
        groups: int = 1,
        nan: Nan = "worst",
        solver: Solver = "auto",
        tile_bytes: int | None = None,
        log: bool = True,
        backend: str | Backend | None = None,
    ) -> None:
        super().__init__()
        _contract.term_list(terms)
        checks.tile_bytes(tile_bytes)
        _checks.one_of("match_by", match_by, ("cost", "loss"))
        if normalize is not None:
            _checks.one_of("normalize", normalize, ("objects", "images"), "or None")
        _checks.one_of("denominator", denominator, ("worker", "global"))
        _checks.one_of("reduction", reduction, ("mean", "none"))
        _checks.one_of("nan", nan, _checks.NAN_POLICIES)
        _checks.solver(solver)
        self.terms = tuple(terms)
        self._wanted = wanted_by(terms)
        self.match_by, self.normalize, self.denominator = match_by, normalize, denominator
        self.reduction = reduction
        self.repeat = _checks.whole("repeat", repeat, 1, "a positive integer")
        self.groups = _checks.whole("groups", groups, 1, "a positive integer")
        self.nan, self.solver, self.tile_bytes = nan, solver, tile_bytes
        self.log = _checks.truth("log", log)
        self.backend = self.default_backend if backend is None else backend
        _contract.iou_told(terms)
        if match_by == "loss":
            _contract.alignable(terms)

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
        num_objects: float | Array | None = None,
        denoising: Denoised | None = None,
    ) -> SetLosses:
        """Return the loss of a batch.

        Args:
            outputs: The outputs of the model by key, `(B, Q, ...)` or `(L, B, Q, ...)` for L
                decoder layers, which are matched each for itself. Other keys than the terms read
                are left alone. Half precision is computed in float32.
            targets: `Targets`, a tuple (labels, boxes, mask), a mapping of padded arrays
                `(B, M, ...)` with ``"mask"`` `(B, M)` bool where there is padding, or a list with
                a mapping of arrays `(n, ...)` per image. In any form objects may have
                ``"weights"`` and ``"ignore"``, see `hungarian_core.DetrLoss`.
            image_weights: `(B,)`, what the losses of each image are multiplied by.
            extra_cost: `(B, M, Q)` or `(L, B, M, Q)`, to add to the matching cost; +inf forbids
                a pair, with `repeat` each time that the object is there. With groups, Q is the
                number of queries of one, and `(L, B, groups, M, Q)` will do too.
            query_mask: `(B, Q)` or `(L, B, Q)` bool, True where there is a query.
            assignment: A matching to take instead of the one of least cost: an `Assignment` as
                `match` returns it, a `ManyAssignment` of the same problems, or for each query the
                index of its object or -1, integers `(B, Q)` or `(L, B, Q)`. In the latter two an
                object may have several queries, and losses are divided by the number of pairs
                instead of that of objects.
            weights: By name, weights to take in this call instead of the terms' own, as of a
                schedule or of parameters that are learnt: numbers, or arrays `()`.
            num_objects: A number or an array `()`, what is taken for the number of objects that
                losses are divided by, with ``normalize="objects"``: of all batches that gradients
                are accumulated over, or of one forward pass of several calls. It is taken as it
                is, and no other worker is asked.
            denoising: What the model made of queries for denoising. Each knows its object; layers,
                `repeat` and `groups` are not theirs. What losses are divided by is the number of
                objects, as for the model's own queries, times that of the groups of `denoising`.

        Returns:
            `SetLosses`, differentiable once in the outputs, with the matching held constant.
            Without any object the losses of pairs are 0, still connected to the graph.

        Raises:
            ValueError: Shapes or dtypes do not fit, a value is out of range, or there is no
                matching; errors about values as for `assign`, elsewhere the losses of the image,
                and so all sums, are NaN.
        """
        call = self._read(outputs, targets, query_mask, extra_cost)
        own = {name: weight for term in self.terms for name, weight in term.weights.items()}
        if weights is not None:
            checks.weights_of_call(weights, own, self.match_by)
            own.update(weights)
        if num_objects is not None:
            num_objects = object_count(num_objects, self.normalize, call.problems)
        found, divided = self._evaluate(call, assignment, own, image_weights, num_objects, self.log)
        if denoising is None:
            return found
        denoising = denoised(denoising, self._wanted, call.problems.backend)
        call = self._read(denoising.outputs, targets, denoising.query_mask, None, known=True)
        number = divided.losses
        if divided.objects is not None:
            number = divided.objects * group_count(denoising.queries, call.problems)
        again, _ = self._evaluate(
            call, denoising.queries.assignment, own, image_weights, number, False
        )
        losses = {f"{name}{DENOISED}": x for name, x in again.losses.items()}
        names_apart(found.losses, losses)
        losses = found.losses | losses
        return SetLosses(found.total + again.total, losses, found.logs, found.assignment)

    @skip_autograph
    def match(
        self,
        outputs: Outputs,
        targets: TargetForms,
        *,
        extra_cost: Array | None = None,
        query_mask: Array | None = None,
    ) -> Assignment:
        """Return the matching alone; arguments and errors are those of a call."""
        call = self._read(outputs, targets, query_mask, extra_cost)
        return call.problems.unflatten_assignment(self._solve(call, self._kernels(call)))

    @skip_autograph
    def costs(self, outputs: Outputs, targets: TargetForms) -> dict[str, Array]:
        """Return the weighted terms of the matching cost by name, to look at.

        Arguments are those of a call. Each term has the batch axes of `SetLosses.assignment` and
        then `(M, Q)`; what is minimised is their sum. Where there is no object, they mean nothing.
        Each is computed apart, which takes longer than `match`, of which one pass may make the sum.
        """
        call = self._read(outputs, targets, None, None)
        problems = call.problems
        kernels = Tiled(self.terms, call.inputs, problems, self.match_by, self.nan, None)
        return {
            name: problems.unflatten(cost[:, : problems.objects, :])
            for name, cost in kernels.by_name().items()
        }

    def pad_targets(
        self,
        targets: Sequence[Mapping[str, Array]],
        *,
        size: int | None = None,
        like: Array | None = None,
    ) -> dict[str, Array]:
        """Return the targets of images as padded arrays by key: those that the terms read.

        Args:
            targets: One mapping of arrays `(n, ...)` per image.
            size: M, the number of objects to pad to, by default the greatest there is. A fixed
                size spares a compiled program from being compiled again.
            like: An array that says on which device the result shall lie.

        Raises:
            ValueError: Images have different keys, arrays do not fit, or `size` is too small.
        """
        return pad_fields(targets, self._wanted.fields, size, like, self.backend)

    def _read(
        self,
        outputs: Outputs,
        targets: TargetForms,
        query_mask: Array | None,
        extra_cost: Array | None,
        known: bool = False,
    ) -> Call:
        # Queries for denoising know their objects: each once in an image, and maybe none.
        repeat, groups, least = (1, 1, 0) if known else (self.repeat, self.groups, 1)
        return read_call(
            self.terms, self._wanted, outputs, targets, query_mask, extra_cost, repeat, groups,
            self.backend, least,
        )  # fmt: skip

    def _kernels(self, call: Call) -> Kernels:
        return choose_kernels(
            self.terms, call.inputs, call.problems, call.extra_cost, match_by=self.match_by,
            nan=self.nan, solver=self.solver, tile_bytes=self.tile_bytes,
        )  # fmt: skip

    def _solve(self, call: Call, kernels: Kernels) -> Assignment:
        """Match all problems in one solve."""
        problems = call.problems
        assignment = assign(
            kernels.matching_cost(call.extra_cost), row_mask=problems.mask,
            col_mask=problems.query_mask, nan=self.nan, solver=self.solver,
            backend=problems.backend,
        )  # fmt: skip
        if call.failed is None:
            return assignment
        return without_failed(assignment, call.failed, problems.xp)

    def _evaluate(
        self,
        call: Call,
        assignment: Assignment | Array | None,
        weights: Mapping[str, float | Array],
        image_weights: Array | None,
        number: Array | None,
        log: bool,
    ) -> tuple[SetLosses, Divisors]:
        """Match, if no matching is given, and add up what the terms say.

        `number`, `[1]`: that of objects or images, if it is known.
        """
        problems, kernels = call.problems, self._kernels(call)
        if assignment is None:
            solved = self._solve(call, kernels)
            # Where values can be read, `assign` has raised unless all are solved.
            known = call.failed is None and problems.backend.readable(solved.cost)
            matches = matches_of(problems, solved, known)
            matching: Assignment | Array = problems.unflatten_assignment(solved)
        else:
            matches, matching = given_matches(assignment, call), assignment
        xp = problems.xp
        each, label_weights = losses_of_terms(self.terms, self.match_by, call, kernels, matches)
        of_images = None if image_weights is None else image_column(image_weights, problems)
        divided = divisors(
            self.normalize, self.denominator == "global", matches, label_weights, number
        )
        keep_images = self.reduction == "none"

        def reduced(name: str, x: Array) -> Array:
            """Return what a loss adds to the total, `[L]` or `[L, B]`."""
            x = x if of_images is None else times(of_images, x, xp)
            x = times(
                weights[name], problems.per_image(x) if keep_images else problems.per_layer(x), xp
            )
            divisor = divided.labels.get(name, divided.losses)
            if divisor is None:
                return x
            return x / (divisor[:, None] if keep_images else divisor)

        losses = {name: reduced(name, x) for name, x in each.items()}
        total = xp.sum(xp.stack([*losses.values()]), axis=(0, 1))
        logs = {}
        if log:
            logs = logs_of_terms(self.terms, self.match_by, call, kernels, matches, losses, reduced)
        if not problems.layered:
            losses = {name: x[0, ...] for name, x in losses.items()}
            logs = {name: x[0, ...] for name, x in logs.items()}
        return SetLosses(total, losses, logs, matching), divided
