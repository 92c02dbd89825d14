"""What a term of a set loss is: the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hungarian_core._backend import Array
from hungarian_core._settings import Configured
from hungarian_core.terms.matches import Matches
from hungarian_core.terms.problems import MatchingProblems, Tile
from hungarian_core.terms.targets import Extents


class QueryLosses(NamedTuple):
    """The losses of all queries by a term."""

    losses: dict[str, Array]  # [N, Q] by name, without the weight of the term
    # [N, Q], what each counts in the number that the sum is divided by; None divides by the number
    # of objects.
    label_weights: Array | None = None
    # Whether the weights of objects are in the losses already, and objects to be ignored are out.
    # The library's own say so: a slope in closed form has to know.
    weighed: bool = False


class Term(Configured):
    """One term of a `hungarian_core.SetLoss`, to be derived from.

    A term says what it costs to match a query to an object, and what pairs or queries add to the
    loss once they are matched. In what follows N counts matching problems (decoder layers times
    images times groups of queries), M true objects, Q queries, and P pairs. `read` lays the arrays
    of a call out in this way; the other methods get what it returned as `inputs`. All but the
    attributes and `read` has a default: nothing.

    Attributes:
        outputs: The keys of the model's outputs that it reads, with what each has behind `(B, Q)`
            or `(L, B, Q)`: extents, or letters where any extent will do, such as ``("H", "W")``.
        fields: The keys of the targets that it reads, with what each has behind `(B, M)`.
        optional: The keys of outputs that it reads if they are there.
        weights: The weights in the loss of what it adds, by name.
        tiled: Whether `costs` can make a piece of the matrix. Eagerly, pieces fit into a
            processor's cache.
        decides_dtype: Whether its outputs have a say in the dtype to compute in, which is float64
            if any of them is, else float32. Arrays for every pixel have none.
        needs_iou: Whether `query_losses` is to know the IoU of matched boxes, which another term
            has to tell.

    Examples:
        >>> class Silence(hc.terms.Term):
        ...     # Queries without an object should say nothing: the square of what they say.
        ...     outputs, fields, weights = {"volume": ()}, {}, {"silence": 1.0}
        ...     def read(self, outputs, fields, problems):
        ...         return problems.of_queries(outputs["volume"])  # [N, Q]
        ...     def query_losses(self, problems, inputs, summaries, matches, iou):
        ...         wrong = problems.xp.where(matches.query_matched, 0, inputs)
        ...         return hc.terms.QueryLosses({"silence": wrong**2})
        >>> criterion = hc.SetLoss([hc.terms.Pairs("pitch", "l1"), Silence()])
        >>> outputs = {"pitch": np.array([[[1.0], [5.0]]]), "volume": np.array([[3.0, 2.0]])}
        >>> float(criterion(outputs, [{"pitch": np.array([[1.0]])}]).total)
        4.0
    """

    outputs: Mapping[str, Extents]
    fields: Mapping[str, Extents]
    weights: Mapping[str, float]
    optional: tuple[str, ...] = ()
    tiled: bool = True
    decides_dtype: bool = True
    needs_iou: bool = False

    def alignable(self) -> bool:
        """Say whether what a match changes of the loss is known before the match."""
        return False

    def read(
        self, outputs: Mapping[str, Array], fields: Mapping[str, Array], problems: MatchingProblems
    ) -> Any:
        """Check the arrays of a call and lay them out.

        Args:
            outputs: The outputs of the model by key, as given.
            fields: The targets by key, `(B, M, ...)`.
            problems: Who is matched with whom, and how that lies.
        """
        raise NotImplementedError(f"{type(self).__name__} says nothing of how its arrays are read")

    def width(self, problems: MatchingProblems, inputs: Any) -> Any:
        """Return how many numbers per query the largest temporary array of `costs` has."""
        return problems.objects

    def failed(self, inputs: Any) -> Array | None:
        """Return which problems `[N]` have input that is wrong, where that cannot be raised."""
        return None

    def summarise(self, problems: MatchingProblems, inputs: Any, tile: Tile) -> Any:
        """Return what both the matching and the losses are to know of the queries in a tile."""
        return None

    def costs(
        self, problems: MatchingProblems, inputs: Any, tile: Tile, summary: Any
    ) -> dict[str, Array]:
        """Return the weighted matching costs `[n, M, q]` of a tile, by name."""
        return {}

    def loss_changes(
        self, problems: MatchingProblems, inputs: Any, tile: Tile, summary: Any
    ) -> dict[str, Array]:
        """Return by how much each match would change the loss, `[n, M, q]`, by name.

        That is what ``match_by="loss"`` minimises, of terms that are `alignable`. The weights of
        objects count.
        """
        return {}

    def pair_losses(
        self, problems: MatchingProblems, inputs: Any, matches: Matches
    ) -> dict[str, Array]:
        """Return the losses `[N, P]` of the pairs by name, without weights.

        Pairs that are not `counted` may have any value, but no gradient.
        """
        return {}

    def tells_iou(self) -> bool:
        """Say whether `iou` tells anything."""
        return type(self).iou is not Term.iou

    def iou(self, problems: MatchingProblems, inputs: Any, matches: Matches) -> Array | None:
        """Return the IoU `[N, P]` of the pairs, a constant, if the term has boxes."""
        return None

    def query_losses(
        self,
        problems: MatchingProblems,
        inputs: Any,
        summaries: Any,
        matches: Matches,
        iou: Array | None,
    ) -> QueryLosses:
        """Return the losses `[N, Q]` of the queries, without weights.

        Args:
            problems: As above.
            inputs: As above.
            summaries: The tiles, each with its summary; see `hungarian_core.terms.tiles.joined`.
            matches: Who was matched with whom.
            iou: `[N, Q]`, if `needs_iou`.
        """
        return QueryLosses({})

    def unmatched_losses(
        self, problems: MatchingProblems, inputs: Any, summaries: Any
    ) -> dict[str, Array]:
        """Return the losses `[N, Q]` that queries without an object have, constants."""
        return {}

    def logs(
        self, problems: MatchingProblems, inputs: Any, summaries: Any, matches: Matches
    ) -> dict[str, Array]:
        """Return numbers `[L]` for logging, by name."""
        return {}

    def native(self) -> tuple[str, dict[str, Any] | None]:
        """Return as what the native library knows the term, and its options.

        ``("", None)`` if it does not know it, which goes for all but classes and boxes.
        """
        return "", None
