"""Terms of queries that are graded: a score says how good each is for its object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hungarian_core import _checks
from hungarian_core import boxes as measures
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core.boxes import distributions
from hungarian_core.boxes.axis_aligned import Format
from hungarian_core.costs.classes import times
from hungarian_core.terms.classes import Classes
from hungarian_core.terms.matches import Matches
from hungarian_core.terms.problems import MatchingProblems
from hungarian_core.terms.term import QueryLosses, Term


class GradedInputs(NamedTuple):
    """What `ClassInputs` has, and the scores."""

    logits: Array  # [N, Q, C]
    labels: Array  # [N, M] index
    unlabelled: Array | None  # [N, M] bool
    failed: Array | None  # [N] bool
    scores: Array  # [N, Q], 0 where there is no query


class GradedClasses(Classes):
    """The binary cross entropy of all classes, with the score as the target of the label.

    The sum is divided by the sum of the scores, 1 at least.

    Args:
        num_classes: The number of classes.
        weight: The weight in the loss.
    """

    def __init__(self, num_classes: int, *, weight: float = 0.5) -> None:
        # Quality focal loss without a focus is the cross entropy with the quality.
        super().__init__(num_classes, loss="qfl", gamma=0.0, weight=weight, cost_weight=0.0)
        self.outputs = {**self.outputs, "scores": ()}
        self.needs_iou = False

    def read(
        self, outputs: Mapping[str, Array], fields: Mapping[str, Array], problems: MatchingProblems
    ) -> Any:
        """Lay out what the classes are and the scores."""
        inputs = super().read(outputs, fields, problems)
        scores = problems.backend.stop_gradient(problems.of_queries(outputs["scores"]))
        return GradedInputs(inputs.logits, inputs.labels, inputs.unlabelled, inputs.failed, scores)

    def query_losses(
        self,
        problems: MatchingProblems,
        inputs: Any,
        summaries: Any,
        matches: Matches,
        iou: Array | None,
    ) -> QueryLosses:
        """The cross entropy of every query."""
        found = super().query_losses(problems, inputs, summaries, matches, inputs.scores)
        return QueryLosses(found.losses, shares(inputs.scores, matches), weighed=True)


class EdgeInputs(NamedTuple):
    """The edges of queries, from where they are measured, and the boxes of objects."""

    edges: Array  # [N, Q, 4, K]
    points: Array  # [N, Q, 2]
    strides: Array  # [N, Q]
    scores: Array  # [N, Q]
    truth: Array  # [N, M, 4]


class GradedEdges(Term):
    """Boxes by distributions of the distances of their edges from a point, weighed by the score.

    ``"ciou"`` is one less the complete IoU of the box of mean distances, ``"dfl"`` the
    distribution focal loss, both times the score. The sums are divided by the sum of the scores, 1
    at least. Nothing is matched by them.

    Args:
        bins: K, the number of distances, from 0 to K - 1 strides.
        format: The format of true boxes.
        ciou_weight: The weight in the loss.
        dfl_weight: Likewise.
    """

    def __init__(
        self,
        *,
        bins: int = 16,
        format: Format = "cxcywh",  # noqa: A002  (the field's word)
        ciou_weight: float = 7.5,
        dfl_weight: float = 1.5,
    ) -> None:
        self.bins = _checks.whole("bins", bins, 2, "how many distances there are")
        _checks.one_of("format", format, ("cxcywh", "xyxy", "xywh"))
        self.format = format
        self.outputs = {"edges": (4, self.bins), "points": (2,), "strides": (), "scores": ()}
        self.fields = {"boxes": (4,)}
        self.weights = {
            "ciou": _checks.weight("ciou_weight", ciou_weight),
            "dfl": _checks.weight("dfl_weight", dfl_weight),
        }

    def read(
        self, outputs: Mapping[str, Array], fields: Mapping[str, Array], problems: MatchingProblems
    ) -> EdgeInputs:
        """Lay out the edges."""
        for name in self.outputs:
            _checks.real(name, outputs[name], problems.xp)
        stop = problems.backend.stop_gradient
        points, strides, scores = (
            stop(problems.of_queries(outputs[name])) for name in ("points", "strides", "scores")
        )
        truth = problems.of_truth(fields["boxes"])
        truth = measures.convert(truth, self.format, "xyxy", backend=problems.backend)
        return EdgeInputs(problems.of_queries(outputs["edges"]), points, strides, scores, truth)

    def query_losses(
        self,
        problems: MatchingProblems,
        inputs: EdgeInputs,
        summaries: Any,
        matches: Matches,
        iou: Array | None,
    ) -> QueryLosses:
        """The overlap and the cross entropies of queries that have an object."""
        backend, xp = problems.backend, problems.xp
        there = matches.query_matched
        if problems.ignore is not None:
            there = there & ~matches.of_queries(problems.ignore)
        # No gradient is to meet what a query without an object holds.
        edges = xp.where(there[..., None, None], inputs.edges, xp.zeros_like(inputs.edges))
        strides = xp.where(there, inputs.strides, 1)[..., None]
        points = xp.where(there[..., None], inputs.points, 0)
        truth = matches.of_queries(inputs.truth)
        boxes = decode(edges, points, strides[..., 0], self.bins, backend, xp)
        overlap = measures.ciou(boxes, truth, format="xyxy", backend=backend)
        apart = xp.concat([points - truth[..., :2], truth[..., 2:] - points], axis=-1) / strides
        # As published: no distance is a whole number of strides at the far end.
        apart = xp.where(apart < 0, 0, apart)
        apart = xp.where(apart > self.bins - 1.01, self.bins - 1.01, apart)
        steps = _steps(apart, self.bins, backend, xp)
        between = 1 - xp.abs(apart[..., None] - steps)
        wanted = xp.where(between > 0, between, 0)
        entropy = distributions.cross_entropy(edges, wanted, backend=backend)
        losses = {"ciou": 1 - overlap, "dfl": xp.mean(entropy, axis=-1)}
        losses = {
            name: xp.where(there, times(inputs.scores, x, xp), 0) for name, x in losses.items()
        }
        return QueryLosses(losses, shares(inputs.scores, matches))


def decode(
    edges: Array, points: Array, strides: Array, bins: int, backend: Backend, xp: Namespace
) -> Array:
    """Return the boxes `(..., 4)` in xyxy whose edges have the mean distances.

    Args:
        edges: `(..., 4, K)`, logits of the distances 0 to K - 1 of the left, upper, right and lower
            edge.
        points: `(..., 2)`.
        strides: `(...)`, the unit of the distances.
        bins: K.
        backend: The backend.
        xp: The namespace.
    """
    likely = xp.exp(edges - xp.max(backend.stop_gradient(edges), axis=-1, keepdims=True))
    steps = _steps(edges[..., 0], bins, backend, xp)
    mean = xp.sum(likely * steps, axis=-1) / xp.sum(likely, axis=-1)
    mean = mean * strides[..., None]
    return xp.concat([points - mean[..., :2], points + mean[..., 2:]], axis=-1)


def _steps(like: Array, bins: int, backend: Backend, xp: Namespace) -> Array:
    """Return 0 to ``bins - 1`` with as many axes before as `like` has."""
    steps = xp.astype(backend.asarray(list(range(bins)), like=like), like.dtype)
    return steps[(*(None,) * like.ndim, ...)]


def shares(scores: Array, matches: Matches) -> Array:
    """Return scores `[N, Q]` whose sum over a layer is 1 at least, if there are any."""
    problems, xp = matches.problems, matches.problems.xp
    counted = xp.where(matches.query_matched, scores, 0)
    if problems.ignore is not None:
        counted = xp.where(matches.of_queries(problems.ignore), 0, counted)
    total = problems.per_layer(counted)
    few = xp.where((total > 0) & (total < 1), total, 1)
    layers, images, groups = problems.batch_axes
    few = xp.broadcast_to(few[:, None], (layers, images * groups))
    return counted / xp.reshape(few, (problems.size, 1))
