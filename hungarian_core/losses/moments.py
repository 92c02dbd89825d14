"""The criterion of moments of a video that a query asks for, and of how salient its clips are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import index_dtype, solving_dtype
from hungarian_core._extents import require_equal, same
from hungarian_core._registry import get_backend
from hungarian_core._tracing import skip_autograph
from hungarian_core.assignment import Nan, Solver
from hungarian_core.costs.classes import as_index
from hungarian_core.losses.base import Loss
from hungarian_core.losses.results import SetLosses
from hungarian_core.losses.set_loss import SetLoss
from hungarian_core.terms.class_inputs import ClassInputs
from hungarian_core.terms.classes import Classes
from hungarian_core.terms.problems import MatchingProblems
from hungarian_core.terms.spans import Spans

_PAIRS = ("saliency_pos", "saliency_neg")


def saliency_loss(
    scores: Array,
    positive: Array,
    negative: Array,
    *,
    margin: float = 0.2,
    backend: str | Backend | None = None,
) -> Array:
    """Return how far salient clips are from scoring higher than others by a margin.

    It is twice the mean of ``max(margin + scores[negative] - scores[positive], 0)`` over the
    batch; its slope is 0 where a pair is apart by the margin.

    Args:
        scores: `(B, T)`, floating, of the T clips of each video.
        positive: `(B, P)` integer, the salient clips of P pairs.
        negative: `(B, P)` integer, the others.
        margin: By how much.
        backend: A backend's name or instance, by default the one of the arrays.

    Returns:
        `()` in the dtype of the scores, or float32 for float16 and bfloat16. An index out of range
        is an error, or NaN where values cannot be read.

    Raises:
        ValueError: Shapes or dtypes do not fit, or an index is out of range.

    Reference:
        Lei et al., QVHighlights: Detecting Moments and Highlights in Videos via Natural Language
        Queries, NeurIPS 2021, section 4.

    Examples:
        >>> scores = np.array([[0.1, 0.9, 0.4]])
        >>> loss = hc.criteria.saliency_loss(scores, np.array([[1, 2]]), np.array([[0, 1]]))
        >>> round(float(loss), 3)
        0.7
    """
    _checks.number("margin", margin)
    backend = get_backend(backend, scores=scores, positive=positive, negative=negative)
    scores = backend.asarray(scores)
    xp = backend.namespace(scores)
    _checks.real("scores", scores, xp)
    scores = xp.astype(scores, solving_dtype(scores.dtype, xp), copy=False)
    of_pairs, wrong = [], None
    for name, given in (("positive", positive), ("negative", negative)):
        at = backend.asarray(given, like=scores)
        _checks.integral(name, at, xp)
        _pairs_fit(name, backend.shape(at), backend.shape(scores))
        at = as_index(at, xp)
        outside = (at < 0) | (at >= backend.shape(scores)[1])
        if backend.readable(outside):
            _clips_there(name, outside, at, backend.shape(scores)[1], xp)
        of_pairs.append(xp.take_along_axis(scores, xp.where(outside, 0, at), axis=1))
        wrong = outside if wrong is None else wrong | outside
    pos, neg = of_pairs
    apart = margin + neg - pos
    apart = xp.where(wrong, float("nan"), xp.where(apart > 0, apart, 0))
    return 2 * xp.mean(apart)


def _pairs_fit(name: str, came: tuple[Any, ...], scores: tuple[Any, ...]) -> None:
    """Check that pairs of clips go with the scores of all clips."""
    if len(scores) != 2:
        raise ValueError(f"scores has shape {scores}; expected (B, T), one for each clip")
    if len(came) != 2 or not same(came[0], scores[0]):
        raise ValueError(
            f"{name} has shape {came}; expected (B, P) with B = {scores[0]}, as scores has {scores}"
        )
    require_equal(f"videos of {name} and of scores", came[:1], scores[:1])


def _clips_there(name: str, outside: Array, at: Array, count: Any, xp: Namespace) -> None:
    """Raise if an index of a clip is out of range."""
    if xp.any(outside):
        found = int(xp.max(xp.where(outside, at, -1)))
        found = found if found >= 0 else int(xp.min(at))
        raise ValueError(f"{name} holds {found}; expected the index of a clip, 0 to {count - 1}")


class _Moment(Classes):
    """Two classes by softmax: a moment that was asked for, or none."""

    def __init__(self) -> None:
        super().__init__(1, weight=4.0, no_object_weight=0.1, normalize="queries")
        self.fields = {}

    def read(
        self, outputs: Mapping[str, Array], fields: Mapping[str, Array], problems: MatchingProblems
    ) -> ClassInputs:
        """All objects are moments."""
        labels = problems.xp.zeros_like(problems.objects_mask, dtype=index_dtype(problems.xp))
        return super().read(outputs, {**fields, "labels": labels}, problems)


@skip_autograph
class MomentLoss(Loss):
    """The loss of Moment-DETR: moments are matched, and clips are told apart by their saliency.

    Args:
        saliency_weight: The weight of the saliency.
        margin: As for `saliency_loss`.
        denominator, groups, nan, solver, log, backend: As for `hungarian_core.SetLoss`.

    Raises:
        ValueError: An option is unknown, or options do not fit each other.

    Examples:
        >>> outputs = {"logits": np.zeros((1, 2, 2)), "saliency": np.array([[0.1, 0.9, 0.4]])}
        >>> outputs["spans"] = np.array([[[0.2, 0.2], [0.6, 0.4]]])
        >>> video = {"spans": np.array([[0.6, 0.2]])}
        >>> video |= {"saliency_pos": np.array([1, 2]), "saliency_neg": np.array([0, 1])}
        >>> losses = hc.criteria.MomentLoss()(outputs, [video])
        >>> losses.assignment.col4row
        array([[1]])
        >>> {name: round(float(x), 3) for name, x in losses.losses.items()}
        {'class': 1.525, 'span': 1.0, 'giou': 0.5, 'saliency': 0.7}
    """

    def __init__(
        self,
        *,
        saliency_weight: float = 1.0,
        margin: float = 0.2,
        denominator: Literal["worker", "global"] = "worker",
        groups: int = 1,
        nan: Nan = "worst",
        solver: Solver = "auto",
        log: bool = True,
        backend: str | Backend | None = None,
    ) -> None:
        super().__init__()
        self.saliency_weight = _checks.weight("saliency_weight", saliency_weight)
        self.margin = _checks.number("margin", margin)
        spans = Spans(span_weight=5.0, span_cost=10.0)
        self.criterion = SetLoss(
            [_Moment(), spans], denominator=denominator, groups=groups, nan=nan, solver=solver,
            log=log, backend=self.default_backend if backend is None else backend,
        )  # fmt: skip

    def __call__(
        self,
        outputs: Mapping[str, Array],
        targets: Any,
        *,
        extra_cost: Array | None = None,
        query_mask: Array | None = None,
        assignment: Any = None,
    ) -> SetLosses:
        """Return the loss of a batch.

        Args:
            outputs: ``"logits"`` `(..., Q, 2)`, of a moment and of none, ``"spans"`` `(..., Q, 2)`
                and where wanted ``"saliency"`` `(B, T)`, the scores of T clips.
            targets: ``"spans"``, in any form that `hungarian_core.SetLoss` takes, and where wanted
                ``"saliency_pos"`` and ``"saliency_neg"`` `(B, P)`, or `(P,)` for each video: the
                clips of P pairs. Without them there is no loss of saliency.
            extra_cost: As for `hungarian_core.SetLoss`.
            query_mask: Likewise.
            assignment: Likewise.

        Returns:
            `hungarian_core.SetLosses`; ``"saliency"`` is that of the last layer, 0 for the others.

        Raises:
            ValueError: As for `hungarian_core.SetLoss`.
        """
        found = self.criterion(
            outputs, targets, extra_cost=extra_cost, query_mask=query_mask, assignment=assignment
        )
        pairs = _pairs(targets, self.criterion.backend)
        if pairs is None or outputs.get("saliency") is None:
            return found
        loss = self.saliency_weight * saliency_loss(
            outputs["saliency"], *pairs, margin=self.margin, backend=self.criterion.backend
        )
        total, own = found.total + loss, found.losses["span"]
        if own.ndim:
            xp = get_backend(self.criterion.backend, loss=loss).namespace(loss)
            before = xp.zeros_like(own[:-1, ...], dtype=loss.dtype)
            loss = xp.concat([before, loss[None]], axis=0)
        return SetLosses(total, {**found.losses, "saliency": loss}, found.logs, found.assignment)


def _pairs(targets: Any, backend: str | Backend | None) -> tuple[Array, Array] | None:
    """Return the salient and the other clips `(B, P)`, if there are any."""
    if isinstance(targets, Mapping):
        positive, negative = (targets.get(name) for name in _PAIRS)
        return None if positive is None or negative is None else (positive, negative)
    if not isinstance(targets, Sequence) or not all(isinstance(x, Mapping) for x in targets):
        return None
    if any(x.get(name) is None for x in targets for name in _PAIRS):
        return None
    found = []
    for name in _PAIRS:
        first = get_backend(backend, **{name: targets[0][name]})
        parts = [first.asarray(x[name]) for x in targets]
        found.append(first.namespace(*parts).stack(parts))
    return found[0], found[1]


def moment_detr(**options: Any) -> MomentLoss:
    """Return the criterion of Moment-DETR.

    Matching costs ``-4 p + 10 * L1 - GIoU``. The loss is 4 times the cross entropy of "moment" and
    "none", the latter weighed 0.1, as a plain mean over all queries; 10 times the mean over both
    numbers of the L1 distance of spans, 1 times one less the GIoU, and 1 times the saliency of the
    last layer, see `MomentLoss`. What is not included: spans as classes of clips, and the
    contrastive alignment, whose published weight is 0. Where no video of a batch has a moment, the
    published losses of spans are NaN; here they are 0.

    Args:
        **options: Those of `MomentLoss`.

    Reference:
        Lei et al., QVHighlights: Detecting Moments and Highlights in Videos via Natural Language
        Queries, NeurIPS 2021, section 4, with the weights of its repository.

    Examples:
        >>> hc.criteria.moment_detr().criterion.terms[1]
        Spans(span_weight=5.0, span_cost=10.0)
    """
    return MomentLoss(**options)
