"""A term under names of its own, so that a criterion may have two of a kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from hungarian_core._backend import Array
from hungarian_core.terms import _contract
from hungarian_core.terms.matches import Matches
from hungarian_core.terms.problems import MatchingProblems, Tile
from hungarian_core.terms.term import QueryLosses, Term

T = TypeVar("T")


class Prefixed(Term):
    """A term whose losses, costs and logs have a prefix before their names.

    Two terms of a criterion cannot have losses of one name: of the boxes of a person and of a
    thing, say, one is called otherwise. Both need keys of their own too, which terms take as `on`.

    Args:
        prefix: What is put before the names.
        term: The term, which otherwise is as it was.

    Raises:
        TypeError: `term` is no term.

    Examples:
        >>> person = hc.terms.Prefixed("person_", hc.terms.Boxes(on="person_boxes"))
        >>> criterion = hc.SetLoss([person, hc.terms.Boxes()])
        >>> box = np.array([[[0.5, 0.5, 0.2, 0.2]]])
        >>> targets = {"person_boxes": box, "boxes": box}
        >>> sorted(criterion({"person_boxes": box, "boxes": box}, targets).losses)
        ['bbox', 'giou', 'person_bbox', 'person_giou']
    """

    def __init__(self, prefix: str, term: Term) -> None:
        _contract.term("term", term)
        self.prefix, self.term = prefix, term
        self.outputs, self.fields, self.optional = term.outputs, term.fields, term.optional
        self.weights = self._named(term.weights)
        self.tiled, self.decides_dtype = term.tiled, term.decides_dtype
        self.needs_iou = term.needs_iou

    def _named(self, of_term: Mapping[str, T]) -> dict[str, T]:
        return {f"{self.prefix}{name}": x for name, x in of_term.items()}

    def alignable(self) -> bool:
        """As the term."""
        return self.term.alignable()

    def read(
        self, outputs: Mapping[str, Array], fields: Mapping[str, Array], problems: MatchingProblems
    ) -> Any:
        """As the term."""
        return self.term.read(outputs, fields, problems)

    def width(self, problems: MatchingProblems, inputs: Any) -> Any:
        """As the term."""
        return self.term.width(problems, inputs)

    def failed(self, inputs: Any) -> Array | None:
        """As the term."""
        return self.term.failed(inputs)

    def summarise(self, problems: MatchingProblems, inputs: Any, tile: Tile) -> Any:
        """As the term."""
        return self.term.summarise(problems, inputs, tile)

    def costs(
        self, problems: MatchingProblems, inputs: Any, tile: Tile, summary: Any
    ) -> dict[str, Array]:
        """Those of the term."""
        return self._named(self.term.costs(problems, inputs, tile, summary))

    def loss_changes(
        self, problems: MatchingProblems, inputs: Any, tile: Tile, summary: Any
    ) -> dict[str, Array]:
        """Those of the term."""
        return self._named(self.term.loss_changes(problems, inputs, tile, summary))

    def pair_losses(
        self, problems: MatchingProblems, inputs: Any, matches: Matches
    ) -> dict[str, Array]:
        """Those of the term."""
        return self._named(self.term.pair_losses(problems, inputs, matches))

    def tells_iou(self) -> bool:
        """As the term."""
        return self.term.tells_iou()

    def iou(self, problems: MatchingProblems, inputs: Any, matches: Matches) -> Array | None:
        """As the term."""
        return self.term.iou(problems, inputs, matches)

    def query_losses(
        self,
        problems: MatchingProblems,
        inputs: Any,
        summaries: Any,
        matches: Matches,
        iou: Array | None,
    ) -> QueryLosses:
        """Those of the term."""
        losses, label_weights, weighed = self.term.query_losses(
            problems, inputs, summaries, matches, iou
        )
        return QueryLosses(self._named(losses), label_weights, weighed)

    def unmatched_losses(
        self, problems: MatchingProblems, inputs: Any, summaries: Any
    ) -> dict[str, Array]:
        """Those of the term."""
        return self._named(self.term.unmatched_losses(problems, inputs, summaries))

    def logs(
        self, problems: MatchingProblems, inputs: Any, summaries: Any, matches: Matches
    ) -> dict[str, Array]:
        """Those of the term."""
        return self._named(self.term.logs(problems, inputs, summaries, matches))
