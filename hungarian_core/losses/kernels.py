"""The passes over all queries: what matching costs, and what the terms' losses are to know of it.

And the losses of the matched pairs, which the native library has of boxes.

`choose_kernels` decides who makes them. `Tiled` computes with the framework's operations, tile by
tile, and thereby says what the results are. `Native` gives classes and boxes to the library of the
native solver, where these are in host memory and values can be read, or on a device by a backend's
`passes`. Both keep what the matching found out about the queries for their losses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from hungarian_core._backend import Array, Namespace
from hungarian_core.assignment import Nan, Solver
from hungarian_core.costs.classes import infinite
from hungarian_core.costs.weighted import sum_of
from hungarian_core.terms import _contract
from hungarian_core.terms.matches import Matches
from hungarian_core.terms.native import (
    NativeSummary,
    NativeTerms,
    box_losses,
    matching_costs,
    native_terms,
)
from hungarian_core.terms.problems import MatchingProblems, Tile
from hungarian_core.terms.term import Term
from hungarian_core.terms.tiles import WHOLE, joined, tiles

MatchBy = Literal["cost", "loss"]


class Kernels(Protocol):
    """The passes over the queries of some problems."""

    def matching_cost(self, extra_cost: Array | None) -> Array:
        """Return what matching costs, `[N, M, Q]`, with an extra cost `[N, M, Q]`."""

    def summaries(self, place: int) -> Any:
        """Return what is known of the queries by the term at a place, for its losses."""

    def pair_losses(self, place: int, matches: Matches) -> dict[str, Array]:
        """Return the losses `[N, P]` of the pairs by the term at a place, by name."""


def choose_kernels(
    terms: Sequence[Term],
    inputs: Sequence[Any],
    problems: MatchingProblems,
    extra_cost: Array | None,
    *,
    match_by: MatchBy,
    nan: Nan,
    solver: Solver,
    tile_bytes: int | None,
) -> Kernels:
    """Return who makes the passes: the native library, where it can, or the framework."""
    framework = Tiled(terms, inputs, problems, match_by, nan, tile_bytes)
    if match_by == "cost":
        native = native_terms(terms, inputs, problems, solver, extra_cost)
        if native is not None:
            return Native(native, framework)
    return framework


class Tiled:
    """The passes in the operations of the framework."""

    def __init__(
        self,
        terms: Sequence[Term],
        inputs: Sequence[Any],
        problems: MatchingProblems,
        match_by: MatchBy,
        nan: Nan,
        tile_bytes: int | None,
    ) -> None:
        self.terms, self.inputs, self.problems = terms, inputs, problems
        self.match_by, self.nan, self.tile_bytes = match_by, nan, tile_bytes
        self._summaries: dict[int, list[list[Any]]] = {}

    def matching_cost(self, extra_cost: Array | None) -> Array:
        """Sum what matching costs by every term."""
        places = [k for k, term in enumerate(self.terms) if term.tiled]
        whole = self.whole_cost([k for k in range(len(self.terms)) if k not in places])
        if whole is not None:
            extra_cost = whole if extra_cost is None else extra_cost + whole
        parts = [
            [self._tile(places, tile, extra_cost) for tile in row] for row in self._rows(places)
        ]
        for at, k in enumerate(places):
            self._keep(k, [[summaries[at] for _, summaries in row] for row in parts])
        (cost,) = joined(lambda part: part[:1], parts, (2,), self.problems.xp)
        return cost

    def whole_cost(self, places: Sequence[int]) -> Array | None:
        """Return what matching costs by some terms, not in tiles; None for nothing."""
        found: dict[str, Array] = {}
        for k in places:
            summary = self.terms[k].summarise(self.problems, self.inputs[k], WHOLE)
            self._keep(k, [[summary]])
            found.update(self._of_term(k, WHOLE, summary, found))
        return self._checked(sum_of(found)) if found else None

    def by_name(self) -> dict[str, Array]:
        """Return the weighted terms `[N, M, Q]` of the matching cost."""
        found: dict[str, Array] = {}
        for k, term in enumerate(self.terms):
            summary = term.summarise(self.problems, self.inputs[k], WHOLE)
            found.update(self._of_term(k, WHOLE, summary, found))
        return found

    def summaries(self, place: int) -> list[list[Any]]:
        """Return the summaries of the term's tiles, which the matching made, or make them."""
        if place not in self._summaries:
            term, given = self.terms[place], self.inputs[place]
            rows = self._rows([place])
            self._keep(
                place,
                [[term.summarise(self.problems, given, tile) for tile in row] for row in rows],
            )
        return self._summaries[place]

    def pair_losses(self, place: int, matches: Matches) -> dict[str, Array]:
        """Ask the term."""
        return self.terms[place].pair_losses(self.problems, self.inputs[place], matches)

    def _keep(self, place: int, summaries: list[list[Any]]) -> None:
        self._summaries.update({place: summaries})

    def _rows(self, places: Sequence[int]) -> list[list[Tile]]:
        """Return the tiles in which the terms at some places are computed."""
        widths = [self.terms[k].width(self.problems, self.inputs[k]) for k in places]
        return tiles(self.problems, widths, self.tile_bytes)

    def _tile(
        self, places: Sequence[int], tile: Tile, extra_cost: Array | None
    ) -> tuple[Array, list[Any]]:
        """Return what matching costs in a tile, and the summaries of the terms."""
        found: dict[str, Array] = {}
        summaries = []
        for k in places:
            summary = self.terms[k].summarise(self.problems, self.inputs[k], tile)
            summaries.append(summary)
            found.update(self._of_term(k, tile, summary, found))
        cost = self._checked(sum_of(found)) if found else self._nothing(tile)
        n, q = tile
        return cost if extra_cost is None else cost + extra_cost[n, :, q], summaries

    def _of_term(
        self, k: int, tile: Tile, summary: Any, before: dict[str, Array]
    ) -> dict[str, Array]:
        """Return what matching costs by a term, whose names are not those of terms before."""
        term, problems = self.terms[k], self.problems
        costs: Callable[..., dict[str, Array]] = (
            term.costs if self.match_by == "cost" else term.loss_changes
        )
        found = costs(problems, self.inputs[k], tile, summary)
        extents = (problems.size, problems.queries)
        size, queries = (
            extent if piece == slice(None) else piece.stop - piece.start
            for extent, piece in zip(extents, tile, strict=True)
        )
        shape = (size, problems.backend.shape(problems.mask)[1], queries)
        _contract.returned(term, costs.__name__, found, shape, problems.backend)
        _contract.distinct(term, found, before)
        return found

    def _checked(self, cost: Array) -> Array:
        return invalid(cost, self.problems.xp) if self.nan == "worst" else cost

    def _nothing(self, tile: Tile) -> Array:
        """Return a cost of 0 for all pairs, where no term has one."""
        xp, problems = self.problems.xp, self.problems
        n, q = tile
        of_objects = xp.zeros_like(problems.mask[n, :, None], dtype=problems.dtype)
        shape = (*problems.backend.shape(of_objects)[:2], problems.queries)
        return xp.broadcast_to(of_objects, shape)[:, :, q]


class Native:
    """The passes of classes and boxes in the native library, those of other terms as in `Tiled`."""

    def __init__(self, native: NativeTerms, framework: Tiled) -> None:
        self.native, self.framework = native, framework
        self._summary: NativeSummary | None = None

    def matching_cost(self, extra_cost: Array | None) -> Array:
        """Let the library look at all problems."""
        framework = self.framework
        ours = (self.native.classes, self.native.boxes)
        others = framework.whole_cost([k for k in range(len(framework.terms)) if k not in ours])
        cost, self._summary = matching_costs(
            self.native, framework.problems, framework.nan == "worst"
        )
        for more in (others, extra_cost):
            if more is not None:
                cost = cost + more
        return cost

    def summaries(self, place: int) -> Any:
        """Return what the library found out, or the summaries of another term."""
        if place == self.native.classes and self._summary is not None:
            return self._summary
        return self.framework.summaries(place)

    def pair_losses(self, place: int, matches: Matches) -> dict[str, Array]:
        """Let the library compare matched boxes, unless a transform maps over the matching."""
        problems, geometry = self.framework.problems, self.native.geometry
        if place == self.native.boxes and geometry is not None:
            pairs = matches.compared(geometry.prediction, geometry.truth)
            found = box_losses(self.native, *pairs, problems)
            if found is not None:
                return found
        return self.framework.pair_losses(place, matches)


def invalid(cost: Array, xp: Namespace) -> Array:
    """Return a matching cost in which +inf is NaN, hence as bad as any, but allowed.

    It comes of an infinite coordinate or a class of probability 0, and is nobody's wish to forbid
    a pair. Of -inf, `assign` makes the best there is.
    """
    return xp.where(infinite(cost, xp) & (cost > 0), float("nan"), cost)
