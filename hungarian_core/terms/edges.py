"""The term of distributions of box edges: fine-grained localisation and its distillation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hungarian_core import _checks
from hungarian_core import boxes as measures
from hungarian_core._backend import Array
from hungarian_core.boxes import Form, distributions
from hungarian_core.costs.classes import sigmoid, times
from hungarian_core.terms import _checks as checks
from hungarian_core.terms.matches import Matches
from hungarian_core.terms.problems import MatchingProblems
from hungarian_core.terms.term import QueryLosses, Term


class EdgeInputs(NamedTuple):
    """What the last layers say of edges, of which there are n problems, the last ones of all N."""

    edges: Array  # [n, Q, 4, K]
    references: Array  # [n, Q, 4], constant
    boxes: Array  # [n, Q, 4], constant
    truth: Array  # [n, M, 4]
    confidence: Array | None  # [b, Q] of the problems of the last layer, constant
    balance: Array | None  # [2], of matched and of other queries
    layers: Any  # n / b
    skipped: Any  # N - n


class EdgeDistributions(Term):
    """The term of distributions of box edges, as D-FINE refines boxes by.

    Each query says for each edge of its box, by logits, how likely it is to lie at which distance
    from that of a reference box, see :mod:`hungarian_core.boxes.distributions`. Two losses:

    - ``"fgl"``, fine-grained localisation, of matched pairs: the cross entropy with the true
      distances, summed over edges, times the IoU of the query's box with its object;
    - ``"ddf"``, decoupled distillation focal, of all queries: how far the distributions of a
      layer, softened by a temperature, diverge from those of the last layer, the mean over edges.
      A matched query counts by its IoU, any other by the largest probability of its classes in the
      last layer. The loss of a layer is the sum over queries with the weights ``n**-0.5``, divided
      by the sum of these, where n is the number of matched queries for those that are, and of the
      others for the others. The last layer learns nothing of itself.

    IoU, probabilities, references and the last layer's distributions are constants. Nothing is
    matched by it. Queries of ignored objects have no share in either.

    Outputs are ``"edges"`` `(B, Q, 4, bins + 1)` or `(L, B, Q, 4, bins + 1)`, logits for left, top,
    right and bottom; ``"references"`` `(B, Q, 4)`, for all layers, or `(L, B, Q, 4)`; ``"boxes"``
    and ``"logits"`` as for `Boxes` and `Classes` with a sigmoid loss. Edges may be of fewer layers
    than the boxes: then they are of the last ones, and earlier layers, such as an encoder's
    proposals, have losses of 0. ``"balance"`` `(2,)`, if it is there, says in the place of the two
    n how much matched and other queries count in all: D-FINE has these numbers of its ordinary
    queries for those of denoising too.

    Args:
        fgl_weight, ddf_weight: The weights in the loss. With ``ddf_weight=0`` there is no ``"ddf"``
            and no logits are read.
        bins, up, reg_scale: As for `hungarian_core.boxes.distributions.offsets`.
        temperature: What logits are divided by before distributions are compared.
        form: As for `hungarian_core.DetrLoss`, of the IoU.
        on: The key of the boxes in both outputs and targets.
        edges, references, logits, balance: The keys of these in the outputs.

    Raises:
        ValueError: An option is out of range.

    Reference:
        Peng et al., D-FINE: Redefine Regression Task of DETRs as Fine-grained Distribution
        Refinement, ICLR 2025, sections 4.1 and 4.2, as its code has them.

    Examples:
        >>> criterion = hc.SetLoss([hc.terms.Boxes(), hc.terms.EdgeDistributions(ddf_weight=0)])
        >>> box = np.array([[[0.5, 0.5, 0.4, 0.2]]])  # (B, Q, 4), and (B, M, 4)
        >>> outputs = {"boxes": box, "references": box, "edges": np.zeros((1, 1, 4, 33))}
        >>> losses = criterion(outputs, {"boxes": box}).losses
        >>> round(float(losses["fgl"]), 4)  # 0.15 times 4 ln 33: it knows nothing
        2.0979
    """

    def __init__(
        self,
        *,
        fgl_weight: float = 0.15,
        ddf_weight: float = 1.5,
        bins: int = 32,
        up: float = 0.5,
        reg_scale: float = 4.0,
        temperature: float = 5.0,
        form: Form = "safe",
        on: str = "boxes",
        edges: str = "edges",
        references: str = "references",
        logits: str = "logits",
        balance: str = "balance",
    ) -> None:
        self.weights = {"fgl": _checks.weight("fgl_weight", fgl_weight)}
        ddf_weight = _checks.weight("ddf_weight", ddf_weight)
        distributions.offsets(bins, up=up, reg_scale=reg_scale)
        _checks.positive("temperature", temperature)
        _checks.one_of("form", form, _checks.FORMS)
        self.bins, self.up, self.reg_scale = bins, up, reg_scale
        self.temperature, self.form = _checks.plain(temperature), form
        self.on, self.edges, self.references, self.logits = (
            _checks.key(name, x)
            for name, x in (
                ("on", on), ("edges", edges), ("references", references), ("logits", logits),
            )
        )  # fmt: skip
        self.outputs, self.fields = {on: (4,)}, {on: (4,)}
        self.balance = balance
        self.optional = (edges, references, balance)  # the first two may be of fewer layers
        if ddf_weight:
            self.weights = {**self.weights, "ddf": ddf_weight}
            self.outputs = {**self.outputs, logits: ("C",)}

    def read(
        self, outputs: Mapping[str, Array], fields: Mapping[str, Array], problems: MatchingProblems
    ) -> EdgeInputs:
        """Check the edges and lay out what they are compared with."""
        backend, xp = problems.backend, problems.xp
        wanted = {self.edges: (4, self.bins + 1), self.references: (4,)}
        checks.outputs_there(outputs, wanted, "B", "Q")
        edges, references = outputs[self.edges], outputs[self.references]
        for name, x in ((self.edges, edges), (self.references, references)):
            _checks.real(name, x, xp)
        shape = backend.shape(edges)
        front = shape[:-3] if problems.layered and len(shape) == 5 else (1,)
        layers, (_, images, groups) = front[0], problems.batch_axes
        each = images * groups
        checks.edges(
            {self.edges: shape, self.references: backend.shape(references)}, self.bins,
            problems.layered, (*problems.batch_axes[:2], problems.queries * groups),
        )  # fmt: skip
        skipped = problems.size - layers * each
        ahead = (layers, images, groups * problems.queries, 4)
        references = xp.broadcast_to(references, ahead)

        def of_last(x: Array, *features: Any) -> Array:
            x = xp.reshape(x, (layers * each, problems.queries, *features))
            x = xp.astype(x, problems.dtype, copy=False)
            if problems.query_mask is None:
                return x
            there = problems.query_mask[skipped:, ...][(..., *(None,) * len(features))]
            return xp.where(there, x, xp.zeros_like(x))

        boxes = backend.stop_gradient(problems.of_queries(outputs[self.on]))
        confidence = balance = None
        if "ddf" in self.weights:
            logits = problems.of_queries(outputs[self.logits])[problems.size - each :, ...]
            confidence, _ = sigmoid(xp.max(backend.stop_gradient(logits), axis=-1), xp)
            balance = outputs.get(self.balance)
        if balance is not None:
            checks.balance(self.balance, backend.shape(balance))
            _checks.real(self.balance, balance, xp)
            balance = backend.stop_gradient(xp.astype(balance, problems.dtype, copy=False))
        return EdgeInputs(
            of_last(edges, 4, self.bins + 1), backend.stop_gradient(of_last(references, 4)),
            boxes[skipped:, ...], problems.of_truth(fields[self.on])[skipped:, ...], confidence,
            balance, layers, skipped,
        )  # fmt: skip

    def pair_losses(
        self, problems: MatchingProblems, inputs: EdgeInputs, matches: Matches
    ) -> dict[str, Array]:
        """The cross entropy with the true distances."""
        xp, last = problems.xp, _of_last(matches, inputs.skipped)
        references, truth = last.compared(inputs.references, inputs.truth)
        chosen = last.predictions(inputs.edges)
        # What is not matched may hold anything, and no gradient is to meet it.
        chosen = xp.where(last.counted[..., None, None], chosen, xp.zeros_like(chosen))
        wanted = distributions.encode(
            truth, references, bins=self.bins, up=self.up, reg_scale=self.reg_scale,
            backend=problems.backend,
        )  # fmt: skip
        each = distributions.cross_entropy(chosen, wanted, backend=problems.backend)
        losses = times(self._iou(problems, inputs, last), xp.sum(each, axis=-1), xp)
        return {"fgl": _with_first(losses, matches.counted, inputs.skipped, problems)}

    def query_losses(
        self,
        problems: MatchingProblems,
        inputs: EdgeInputs,
        summaries: Any,
        matches: Matches,
        iou: Array | None,
    ) -> QueryLosses:
        """How far distributions diverge from those of the last layer."""
        if inputs.confidence is None:
            return QueryLosses({})
        xp, shape = problems.xp, problems.backend.shape
        last = _of_last(matches, inputs.skipped)
        each, queries = shape(inputs.confidence)
        size, layers = (inputs.layers, each, queries), inputs.layers
        matched = counted = xp.reshape(last.query_matched, size)
        others = ~matched
        if problems.query_mask is not None:
            others = others & xp.reshape(problems.query_mask[inputs.skipped :, ...], size)
        edges = xp.reshape(inputs.edges, (*size, 4, self.bins + 1))
        teacher = edges[-1:, ...]
        if problems.ignore is not None:
            ignored = matches.of_queries(problems.ignore)[inputs.skipped :, ...]
            counted = matched & ~xp.reshape(ignored, size)
            # No gradient is to meet what an ignored query holds.
            edges = xp.where((counted | others)[..., None, None], edges, xp.zeros_like(edges))
        each_edge = distributions.divergence(
            edges, teacher, temperature=self.temperature, backend=problems.backend
        )
        losses = 0.25 * xp.sum(each_edge, axis=-1)
        overlap = last.from_pairs(self._iou(problems, inputs, last))
        certain = xp.broadcast_to(inputs.confidence[None, ...], size)
        losses = times(xp.where(matched, xp.reshape(overlap, size), certain), losses, xp)
        share = _shares((counted, others), inputs.balance, problems)
        losses = xp.where(share > 0, times(share, losses, xp), 0)
        losses, share = (
            _with_first(
                xp.reshape(x, (layers * each, queries)), matches.query_matched, inputs.skipped,
                problems,
            )
            for x in (losses, share)
        )  # fmt: skip
        return QueryLosses({"ddf": losses}, share)

    def _iou(self, problems: MatchingProblems, inputs: EdgeInputs, last: Matches) -> Array:
        """Return the IoU `[n, P]` of matched boxes."""
        prediction, truth = last.compared(inputs.boxes, inputs.truth)
        return measures.iou(
            prediction, truth, format="cxcywh", form=self.form, backend=problems.backend
        )


def _of_last(matches: Matches, skipped: Any) -> Matches:
    """Return a matching of the last problems only."""
    if isinstance(skipped, int) and not skipped:
        return matches

    def cut(x: Array | None) -> Any:
        return None if x is None else x[skipped:, ...]

    return Matches(
        matches.problems, cut(matches.query_of_pair), cut(matches.object_of_pair),
        cut(matches.matched), cut(matches.counted), cut(matches.object_of_query),
        cut(matches.query_matched), None, matches.given,
    )  # fmt: skip


def _with_first(losses: Array, like: Array, skipped: Any, problems: MatchingProblems) -> Array:
    """Return losses of all problems, 0 of those before the last, of which `like` has all."""
    if isinstance(skipped, int) and not skipped:
        return losses
    first = problems.xp.zeros_like(like[:skipped, ...], dtype=losses.dtype)
    return problems.xp.concat([first, losses], axis=0)


def _shares(parts: tuple[Array, Array], balance: Array | None, problems: MatchingProblems) -> Array:
    """Return what the queries of two parts `[L, b, Q]` count: of a part of n, the root of n in all.

    Or the root of what `balance` has in the place of n.
    """
    xp, found = problems.xp, []
    for k, part in enumerate(parts):
        number = xp.sum(xp.astype(part, problems.dtype), axis=(1, 2), keepdims=True)
        number = xp.where(number > 0, number, 1)
        count = number if balance is None else xp.reshape(balance[k], (1, 1, 1))
        found.append(xp.where(part, xp.sqrt(count) / number, 0))
    return found[0] + found[1]
