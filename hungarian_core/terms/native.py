"""The same natively: the costs of classes and boxes, and their losses.

Eagerly in host memory each is one function of the native library, which reads every problem once
and writes nothing down in between; on a device a backend may have the like. They compute what
`Classes` and `Boxes` do in the operations of the framework; the suite holds the two equal on all
input.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hungarian_core._backend import Array, Backend
from hungarian_core._solvers.host import host_solver
from hungarian_core.terms.logit_losses import QueryTargets
from hungarian_core.terms.problems import MatchingProblems
from hungarian_core.terms.term import Term

if TYPE_CHECKING:
    from hungarian_core.terms.boxes import BoxInputs
    from hungarian_core.terms.classes import ClassInputs


# Calls a pass: by name, with its arrays, `like` as for `Backend.host_call`, and its options.
Passes = Callable[..., tuple[Array, ...]]


class NativeSummary(NamedTuple):
    """What the library found out about the logits of all queries."""

    passes: Passes
    max_logit: Array  # [N, Q]
    log_normaliser: Array  # [N, Q]
    claims_object: Array  # [N, Q] bool


class NativeTerms(NamedTuple):
    """The terms that the library takes, by their places among the terms, and their inputs."""

    passes: Passes
    solver: str  # the user's choice
    classes: int
    boxes: int | None
    options: dict[str, Any]
    labels: ClassInputs
    geometry: BoxInputs | None


def native_terms(
    terms: Sequence[Term],
    inputs: Sequence[Any],
    problems: MatchingProblems,
    solver: str,
    extra_cost: Array | None,
) -> NativeTerms | None:
    """Return what the native library takes of the terms, None if it is not the one to ask.

    It takes one term of classes, and one of boxes if there is one.
    """
    if solver in ("core", "scipy"):
        return None
    named = [(place, *term.native()) for place, term in enumerate(terms)]
    known = [(place, kind, options) for place, kind, options in named if options is not None]
    kinds = [kind for _, kind, _ in known]
    if "classes" not in kinds or len(set(kinds)) < len(kinds):
        return None
    places = {kind: place for place, kind, _ in known}
    options = {name: value for _, _, some in known for name, value in some.items()}
    labels, boxes = inputs[places["classes"]], places.get("boxes")
    geometry = None if boxes is None else inputs[boxes]
    # A transform may map any of what decides about the matching.
    arrays = [labels.logits, labels.labels, labels.unlabelled, problems.mask, extra_cost]
    if geometry is not None:
        arrays += [geometry.prediction, geometry.truth]
    passes = passes_over(arrays, solver, problems.backend)
    if passes is None:
        return None
    return NativeTerms(passes, solver, places["classes"], boxes, options, labels, geometry)


def passes_over(arrays: Sequence[Array | None], solver: str, backend: Backend) -> Passes | None:
    """Return what makes passes over arrays, None if that is for the framework's operations."""
    given = [x for x in arrays if x is not None]
    own = backend.passes(solver, given)
    if own is not None:
        return own
    if solver not in ("auto", "native") or not all(backend.readable(x) for x in given):
        return None
    host = host_solver(solver)
    if not hasattr(host, "matching_costs"):
        return None

    def called(name: str, *arrays: Array, like: Any, **options: Any) -> tuple[Array, ...]:
        function = functools.partial(getattr(host, name), **options)
        return backend.host_call(function, *arrays, like=like)

    return called


def matching_costs(
    native: NativeTerms, problems: MatchingProblems, only_finite: bool
) -> tuple[Array, NativeSummary]:
    """Return what matching costs by classes and boxes, `[N, M, Q]`, and what that tells."""
    backend, xp, (*_, options, given, geometry) = problems.backend, problems.xp, native
    logits, labels = backend.stop_gradient(given.logits), given.labels
    if given.unlabelled is not None:
        labels = xp.where(given.unlabelled, -1, labels)
    arrays = [logits, labels, problems.mask]
    if geometry is not None:
        arrays += [backend.stop_gradient(geometry.prediction), geometry.truth]
    size, queries, _ = backend.shape(logits)
    each, dtype = (size, queries), logits.dtype
    cost, *known = native.passes(
        "matching_costs",
        *arrays,
        like=(
            ((size, backend.shape(labels)[1], queries), dtype),
            (each, dtype), (each, dtype), (each, xp.bool),
        ),
        only_finite=only_finite,
        **options,
    )  # fmt: skip
    return cost, NativeSummary(native.passes, *known)


def class_losses(
    loss: int,
    alpha: float,
    logits: Array,
    targets: QueryTargets,
    label: Array,
    summary: NativeSummary,
    problems: MatchingProblems,
) -> tuple[Array, Array]:
    """Return the losses `[N, Q]` of the classes of queries and their slopes `[N, Q, C]`.

    Args:
        loss: The code of the loss in the library.
        alpha: Its alpha.
        logits: `[N, Q, C]`.
        targets: What the queries are to predict.
        label: `[N, Q]`, as there, but -1 for no label of a sigmoid loss.
        summary: What `matching_costs` found out.
        problems: Who was matched.
    """
    backend = problems.backend
    logits = backend.stop_gradient(logits)
    arrays = [logits, label, summary.log_normaliser]
    if targets.quality is not None:
        arrays.append(targets.quality)
    size, queries, classes = backend.shape(logits)
    value, slope = summary.passes(
        "class_losses",
        *arrays,
        like=(((size, queries), logits.dtype), ((size, queries, classes), logits.dtype)),
        loss=loss,
        alpha=alpha,
    )
    return value, slope


def box_losses(
    native: NativeTerms, prediction: Array, truth: Array, problems: MatchingProblems
) -> dict[str, Array] | None:
    """Return the losses `[N, P]` of pairs of boxes `[N, P, 4]` by name, None if it cannot."""
    backend, xp = problems.backend, problems.xp
    # A transform may map over the matching alone.
    passes = passes_over((prediction, truth), native.solver, backend)
    if passes is None:
        return None
    shape, dtype = backend.shape(prediction), prediction.dtype
    value, slope = passes(
        "box_losses",
        backend.stop_gradient(prediction),
        truth,
        like=(((2, *shape[:-1]), dtype), ((2, *shape), dtype)),
        safe=native.options["safe"],
    )

    def forward(x: Array) -> tuple[Array, tuple[Array, ...]]:
        return value, (slope,)

    def backward(residuals: tuple[Array, ...], g: Array) -> tuple[Array | None, ...]:
        return (xp.sum(g[..., None] * residuals[0], axis=0),)

    backward.linear = True  # type: ignore[attr-defined]  # in g: forward mode may rely on it
    both = backend.custom_vjp(forward, backward)(prediction)
    return {"bbox": both[0, ...], "giou": both[1, ...]}
