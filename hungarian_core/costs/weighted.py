"""A matching cost made of weighted terms, each of which can be looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array
from hungarian_core._inputs import both
from hungarian_core._registry import backend_of, get_backend
from hungarian_core._settings import Configured
from hungarian_core.assignment import Assignment
from hungarian_core.costs.vectors import COSTS

TermFunction = Callable[[Any, Any], Array]


class Term(NamedTuple):
    """One term of a `WeightedSum`.

    Attributes:
        weight: What it is multiplied by.
        function: ``f(truth, prediction) -> (..., n, m)``, or the name of a cost of `loss`, which
            compares features `(..., n, d)` with `(..., m, d)`.
        on: The key of truth and prediction to compare, where these are mappings, or the pair of
            keys if they are named differently; by default all of both.
    """

    weight: float
    function: str | TermFunction
    on: str | tuple[str, str] | None = None


class WeightedSum(Configured):
    """A weighted sum of pairwise costs, which also tells its terms apart.

    Args:
        terms: The terms by name: each a `Term`, or a tuple of its fields.

    Raises:
        TypeError: A function does not take two arguments.
        ValueError: There is no term, or one is not a number and a function. From a call, what
            terms compare is not there, or features do not fit each other.

    Examples:
        >>> terms = {"bbox": (5.0, "l1", "boxes"), "giou": (2.0, hc.costs.giou, "boxes")}
        >>> cost = hc.costs.WeightedSum(terms)
        >>> truth = {"boxes": np.array([[0.5, 0.5, 0.4, 0.4]])}
        >>> prediction = {"boxes": np.array([[0.5, 0.5, 0.4, 0.2], [0.1, 0.1, 0.1, 0.1]])}
        >>> cost(truth, prediction).round(3)
        array([[0.   , 8.195]])
        >>> match = hc.assign(cost(truth, prediction))
        >>> float(cost.of_matches(match, truth, prediction)["bbox"][0])
        1.0
    """

    def __init__(self, terms: Mapping[str, Term | tuple[Any, ...]]) -> None:
        super().__init__()
        _checks.terms(terms, tuple(COSTS))
        self._terms = {
            name: Term(_checks.plain(weight), *others) for name, (weight, *others) in terms.items()
        }

    def __call__(self, truth: Any, prediction: Any) -> Array:
        """Return the cost `(..., n, m)` of every true object with every prediction."""
        return sum_of(self.terms(truth, prediction))

    def terms(self, truth: Any, prediction: Any) -> dict[str, Array]:
        """Return the weighted terms `(..., n, m)` by name; the cost is their sum."""
        return {
            name: term.weight * _compare(name, term, truth, prediction)
            for name, term in self._terms.items()
        }

    def of_matches(self, assignment: Assignment, truth: Any, prediction: Any) -> dict[str, Array]:
        """Return the weighted terms `(..., n)` of each true object's match, 0 without one."""
        return {
            name: of_matches(assignment, term)
            for name, term in self.terms(truth, prediction).items()
        }


def sum_of(terms: Mapping[str, Array]) -> Array:
    """Return the sum of terms."""
    first, *others = terms.values()
    for term in others:
        first = first + term
    return first


def of_matches(assignment: Assignment, cost: Array) -> Array:
    """Return the costs `(..., n)` of the matches, of a matrix `(..., n, m)`; 0 without a match."""
    xp = backend_of(cost).namespace(cost)
    matched = assignment.col4row >= 0
    at = xp.where(matched, assignment.col4row, 0)[..., None]
    return xp.where(matched, xp.take_along_axis(cost, at, axis=-1)[..., 0], 0)


def _compare(name: str, term: Term, truth: Any, prediction: Any) -> Array:
    if term.on is not None:
        of_truth, of_prediction = (term.on,) * 2 if isinstance(term.on, str) else term.on
        _checks.term(name, of_truth, "truth", truth)
        _checks.term(name, of_prediction, "prediction", prediction)
        truth, prediction = truth[of_truth], prediction[of_prediction]
    if not isinstance(term.function, str):
        return term.function(truth, prediction)
    backend = get_backend(None, truth=truth, prediction=prediction)
    truth, prediction = both(truth, prediction, backend)
    xp = backend.namespace(truth, prediction)
    _checks.features_of(name, backend.shape(truth), backend.shape(prediction))
    return COSTS[term.function](xp, truth[..., :, None, :], prediction[..., None, :, :])
