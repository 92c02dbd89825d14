"""The arrays of a call of a set loss: check them and lay them out for its terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._registry import get_backend
from hungarian_core.assignment import Assignment
from hungarian_core.capacities import ManyAssignment
from hungarian_core.costs.classes import as_index
from hungarian_core.denoising.queries import Denoised, DenoisingQueries
from hungarian_core.losses.pairs import warn_if_swapped
from hungarian_core.terms import _checks as checks
from hungarian_core.terms import _contract
from hungarian_core.terms.matches import Matches, matches_given
from hungarian_core.terms.problems import MatchingProblems, as_problems, compute_dtype
from hungarian_core.terms.targets import TargetForms, as_fields, blank
from hungarian_core.terms.term import Term

Outputs = Mapping[str, Array]
_WEIGHING: dict[str, checks.Extents] = {"mask": (), "weights": (), "ignore": ()}


class Call(NamedTuple):
    """The arrays of a call, checked and laid out."""

    problems: MatchingProblems
    inputs: list[Any]  # of the terms
    extra_cost: Array | None  # [N, M, Q]
    failed: Array | None  # [N] bool: an input is wrong, and that could not be raised


class Wanted(NamedTuple):
    """What all terms read, with what arrays end in: see `Term`."""

    outputs: dict[str, checks.Extents]
    fields: dict[str, checks.Extents]


def wanted_by(terms: Sequence[Term]) -> Wanted:
    """Return what terms read, together."""
    return Wanted(
        _contract.read_together("outputs", [term.outputs for term in terms]),
        _contract.read_together("targets", [term.fields for term in terms]),
    )


def read_call(
    terms: Sequence[Term],
    wanted: Wanted,
    outputs: Outputs,
    targets: TargetForms,
    query_mask: Array | None,
    extra_cost: Array | None,
    repeat: int,
    groups: int,
    backend: str | Backend | None,
    least_queries: int = 1,
) -> Call:
    """Check the arrays of a call and lay them out; other arguments are those of `SetLoss`."""
    checks.outputs_there(outputs, wanted.outputs, "B", "Q")
    backend = get_backend(backend, **{name: outputs[name] for name in wanted.outputs})
    main = next(iter(wanted.outputs))
    first = backend.asarray(outputs[main])
    read = {*wanted.outputs, *(name for term in terms for name in term.optional)} - {main}
    others = {
        name: backend.asarray(outputs[name], like=first)
        for name in sorted(read)
        if outputs.get(name) is not None
    }
    given = {main: first, **others}
    fields = as_fields(targets, first, backend, wanted.fields)
    xp, traced = backend.namespace(first), backend.is_traced(first)
    if not traced:
        for name in wanted.fields:
            warn_if_swapped(fields[name], given.get(name, first), ("targets", name))
    shape = checks.output_shapes(
        {k: backend.shape(given[k]) for k in wanted.outputs}, wanted.outputs, groups,
        least_queries,
    )  # fmt: skip
    if isinstance(targets, (list, tuple)) and all(isinstance(x, Mapping) for x in targets):
        checks.list_length(len(targets), shape[-2])
    shapes = {name: backend.shape(x) for name, x in fields.items()}
    for name in ("weights", *wanted.fields):
        if name in fields:
            _checks.real(f"{name} of the targets", fields[name], xp)
    checks.field_shapes(shapes, {**wanted.fields, **_WEIGHING}, shape[-2])
    _checks.mask("mask", fields["mask"], shapes["mask"], backend, xp)
    if "ignore" in fields:
        checks.ignored(fields["ignore"], shapes["mask"], backend, xp)
    if query_mask is not None:
        query_mask = backend.asarray(query_mask, like=first)
        checks.query_mask(query_mask, shape, backend, xp)
    deciding = [given[name] for term in terms if term.decides_dtype for name in term.outputs]
    problems = as_problems(
        shape, fields, compute_dtype(deciding or [first], xp), traced, query_mask, repeat, groups,
        backend, xp,
    )  # fmt: skip
    inputs = [term.read(given, fields, problems) for term in terms]
    failed = None
    for term, arrays in zip(terms, inputs, strict=True):
        wrong = term.failed(arrays)
        if wrong is not None:
            failed = wrong if failed is None else failed | wrong
    if extra_cost is not None:
        extra_cost = flat_extra_cost(extra_cost, first, problems)
    return Call(problems, inputs, extra_cost, failed)


def flat_extra_cost(cost: Array, like: Array, problems: MatchingProblems) -> Array:
    """Return the user's cost as `[N, M, Q]`."""
    backend, xp = problems.backend, problems.xp
    cost = backend.stop_gradient(backend.asarray(cost, like=like))
    # Of each object that the targets have, however often it is to be matched.
    front, objects = problems.batch_axes, backend.shape(problems.objects_mask)[1]
    shape = (*front, objects, problems.queries)
    came = backend.shape(cost)
    checks.extra_cost(came, shape)
    if len(came) < 5:
        cost = cost[..., None, :, :]
    cost = xp.broadcast_to(xp.astype(cost, problems.dtype, copy=False), shape)
    cost = problems.repeated(cost, 3)
    cost = xp.reshape(cost, (problems.size, problems.objects, problems.queries))
    return xp.concat([cost, blank(cost, 1, xp)], axis=1) if problems.surplus else cost


def image_column(weights: Array, problems: MatchingProblems) -> Array:
    """Return the weights `(B,)` of images as `[N, 1]`."""
    backend, xp = problems.backend, problems.xp
    # Numbers are rounded to the dtype of what they go with, which a mask has not.
    weights = backend.asarray(weights, like=xp.astype(problems.mask, problems.dtype))
    _, images, _ = problems.batch_axes
    checks.image_weights(backend.shape(weights), images)
    weights = xp.astype(weights, problems.dtype, copy=False)[None, :, None]
    return xp.reshape(xp.broadcast_to(weights, problems.batch_axes), (problems.size, 1))


def given_matches(assignment: Assignment | Array, call: Call) -> Matches:
    """Return the pairs of a matching that the user gave, as `SetLoss` takes it."""
    problems = call.problems
    backend, xp = problems.backend, problems.xp
    layers, images, groups = problems.batch_axes
    solved = isinstance(assignment, (Assignment, ManyAssignment))
    at = backend.asarray(assignment.row4col if solved else assignment, like=problems.mask)
    front = (layers, images) if problems.layered else (images,)
    if solved:
        axes = (*front, *((groups,) if groups > 1 else ()), problems.queries)
        checks.objects_of_queries(at, (axes,), backend, xp)
        failed = xp.reshape(xp.isnan(backend.asarray(assignment.cost)), (problems.size,))
    else:
        whole = (*front, problems.queries * groups)
        checks.objects_of_queries(at, (whole, whole[-2:]), backend, xp)
        at = xp.broadcast_to(at, whole)
        failed = xp.zeros_like(problems.mask[:, 0])
    at = as_index(xp.reshape(at, (problems.size, problems.queries)), xp)
    if problems.query_mask is not None:
        at = xp.where(problems.query_mask, at, -1)
    # What is padding is no object either.
    inside = (at >= 0) & (at < problems.objects)
    there = xp.take_along_axis(problems.mask, xp.where(inside, at, 0), axis=1)
    wrong = (at != -1) & ~(inside & there)
    if backend.readable(wrong):
        checks.objects_there(wrong, at, problems.objects, xp)
    else:
        failed = failed | xp.any(wrong, axis=1)
    if call.failed is not None:
        failed = failed | call.failed
    at = xp.where(wrong | failed[:, None], -1, at)
    return matches_given(problems, at, failed, isinstance(assignment, Assignment))


def object_count(number: float | Array, normalize: str | None, problems: MatchingProblems) -> Array:
    """Return the number of objects that the user gave as `[1]`."""
    backend, xp = problems.backend, problems.xp
    if normalize != "objects":
        raise ValueError(
            f"num_objects came with normalize={normalize!r}; expected it with 'objects' alone"
        )
    number = backend.asarray(number, like=xp.astype(problems.mask, problems.dtype))
    _checks.real("num_objects", number, xp)
    if backend.shape(number) != ():
        raise ValueError(f"num_objects has shape {backend.shape(number)}; expected one number")
    if backend.readable(number) and not (xp.isfinite(number) and number > 0):
        raise ValueError(f"num_objects is {float(number)}; expected a finite number above 0")
    number = xp.where(xp.isfinite(number) & (number > 0), number, float("nan"))
    return xp.astype(backend.stop_gradient(number), problems.dtype, copy=False)[None]


def denoised(given: Denoised, wanted: Wanted, backend: Backend) -> Denoised:
    """Check that what should be the outputs for queries for denoising is such."""
    if isinstance(given, Denoised) and isinstance(given.queries, DenoisingQueries):
        shape = backend.shape(given.queries.assignment)
        for name, extents in wanted.outputs.items():
            if given.outputs.get(name) is None:
                raise ValueError(
                    f"denoising has the outputs {sorted(given.outputs)}; expected {name!r} too"
                )
            came = backend.shape(given.outputs[name])
            axes = came[: len(came) - len(extents)][-2:]
            if len(axes) < 2 or not all(map(checks.same, axes, shape)):
                raise ValueError(
                    f"{name} of denoising has shape {came}; expected it to be of {shape[0]} images "
                    f"and {shape[1]} queries, as its queries are"
                )
        return given
    came = type(given.queries if isinstance(given, Denoised) else given).__name__
    raise TypeError(
        f"denoising has a {came}; expected hungarian_core.denoising.Denoised(queries, outputs), "
        "with queries as contrastive_queries returns them and a mapping of outputs"
    )


def names_apart(losses: Mapping[str, Array], denoised: Mapping[str, Array]) -> None:
    """Check that no loss of a term has the name of one of queries for denoising."""
    both = sorted(set(losses) & set(denoised))
    if both:
        raise ValueError(
            f"losses of terms are called {both}, as are those of queries for denoising; expected "
            "other names, as `hungarian_core.terms.Prefixed` gives"
        )


def group_count(queries: DenoisingQueries, problems: MatchingProblems) -> Array:
    """Return how many groups queries for denoising come in, `[1]`: 1 where there are no queries."""
    backend, xp = problems.backend, problems.xp
    group = as_index(backend.asarray(queries.group, like=problems.mask), xp)
    # From 0 on, one after another.
    last = xp.max(xp.concat([group, xp.zeros_like(problems.mask[:1, 0], dtype=group.dtype)]))
    return xp.astype(last + 1, problems.dtype)[None]


def without_failed(assignment: Assignment, failed: Array, xp: Namespace) -> Assignment:
    """Return an assignment without the samples that have failed."""
    nothing, rows = float("nan"), failed[:, None]
    return Assignment(
        xp.where(rows, -1, assignment.col4row),
        xp.where(rows, -1, assignment.row4col),
        xp.where(failed, nothing, assignment.cost),
        xp.where(rows, nothing, assignment.u),
        xp.where(rows, nothing, assignment.v),
    )
