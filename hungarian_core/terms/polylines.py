"""The term of polylines, polygons and lanes: points in the nearest of their equivalent orders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend
from hungarian_core.polylines.distances import chamfer_distance, direction_loss
from hungarian_core.polylines.orders import (
    REDUCTIONS,
    Reduce,
    align,
    distance,
    distances,
    nearest_of,
    of_orders,
)
from hungarian_core.terms.comparison import Arrays, Comparison, ComparisonInputs
from hungarian_core.terms.problems import MatchingProblems


class Polylines(Comparison):
    """The term of polylines, polygons and lanes of K points, such as the elements of a map.

    Of the equivalent orders of an object's points that one counts in which they are nearest to
    those of the query, for matching and for learning, see :mod:`hungarian_core.polylines`. The
    loss of a matched pair is ``point_weight * L1 + direction_weight * (1 - cos)``, called
    ``"points"`` and ``"direction"``: over the points, and over the edges between them. With
    `chamfer_weight` there is the Chamfer distance too, ``"chamfer"``. Matching costs the same with
    weights of its own. What has the weight 0 is not computed.

    Args:
        point_weight, direction_weight, chamfer_weight: The weights in the loss.
        point_cost, direction_cost, chamfer_cost: The weights in the matching cost; of points and
            of the Chamfer distance by default those in the loss.
        closed: Whether the objects are closed: for all, or the key of the targets that says so of
            each, `(B, M)` bool, such as ``"closed"``.
        repeated: Whether the last point of closed objects repeats the first, as in MapTR.
        directed: Whether objects have a direction, as lanes have.
        given: Whether targets hold the equivalent orders themselves, `(..., O, K, d)`, of which
            each stands for the object. Who has fewer than O repeats one of them. `closed`
            then says only whether there is an edge from the last point to the first.
        scale: The units of the coordinates, d numbers, for the directions of edges, as for
            `hungarian_core.polylines.direction_loss`.
        reduce: ``"sum"`` or ``"mean"``, over points and over edges.
        check_targets: Raise if a true point is not finite, or the last point of a closed object
            does not repeat the first though it is `repeated`, where it can be read.
        on: The key of both outputs and targets, ``(..., K, d)`` each.

    Raises:
        ValueError: An option is unknown, or options do not fit each other.

    Reference:
        Liao et al., MapTR: Structured Modeling and Learning for Online Vectorized HD Map
        Construction, ICLR 2023, equations 1 to 6, whose weights are the defaults.

    Example::

        >>> import numpy as np
        >>> import hungarian_core as hc
        >>> square = np.array([[0.2, 0.2], [0.4, 0.2], [0.4, 0.4], [0.2, 0.4]])
        >>> criterion = hc.SetLoss([hc.terms.Polylines(closed=True)])
        >>> outputs = {"points": np.stack([square + 0.3, square])[None]}  # (B, Q, K, d)
        >>> losses = criterion(outputs, [{"points": square[None, [3, 2, 1, 0]]}])
        >>> losses.assignment.col4row
        array([[1]])
        >>> round(float(losses.total), 6)
        0.0
    """

    def __init__(
        self,
        *,
        point_weight: float = 5.0,
        direction_weight: float = 0.005,
        chamfer_weight: float = 0.0,
        point_cost: float | None = None,
        direction_cost: float = 0.0,
        chamfer_cost: float | None = None,
        closed: bool | str = False,
        repeated: bool = False,
        directed: bool = False,
        given: bool = False,
        scale: Sequence[float] | None = None,
        reduce: Reduce = "sum",
        check_targets: bool = True,
        on: str = "points",
    ) -> None:
        _checks.one_of("reduce", reduce, REDUCTIONS)
        weights = {
            "points": _checks.weight("point_weight", point_weight),
            "direction": _checks.weight("direction_weight", direction_weight),
            "chamfer": _checks.weight("chamfer_weight", chamfer_weight),
        }
        self.weights = {name: x for name, x in weights.items() if not _nothing(x)}
        self.cost_weights = {
            "points": _checks.weight(
                "point_cost", point_weight if point_cost is None else point_cost
            ),
            "direction": _checks.weight("direction_cost", direction_cost),
            "chamfer": _checks.weight(
                "chamfer_cost", chamfer_weight if chamfer_cost is None else chamfer_cost
            ),
        }
        self.closed = closed if isinstance(closed, str) else _checks.flag("closed", closed)
        self.repeated = _checks.flag("repeated", repeated)
        self.directed = _checks.flag("directed", directed)
        self.given = _checks.flag("given", given)
        if self.given and self.directed:
            raise ValueError(
                "directed is True with given=True, where the targets say which orders there are; "
                "expected one of the two"
            )
        if scale is not None:
            _checks.positive("scale", *scale)
        self.scale = None if scale is None else tuple(_checks.number("scale", x) for x in scale)
        self.reduce, self.check_targets, self.on = reduce, check_targets, _checks.key("on", on)
        self.outputs = {on: ("K", "d")}
        self.fields = {on: ("O", "K", "d") if self.given else ("K", "d")}
        if isinstance(self.closed, str):
            self.fields = {**self.fields, self.closed: ()}

    def width(self, problems: MatchingProblems, inputs: ComparisonInputs) -> Any:
        """Every pair is compared in all orders."""
        *_, count, coordinates = problems.backend.shape(inputs.predictions[self.on])
        if self.given:
            orders = problems.backend.shape(inputs.truths[self.on])[2]
        else:
            orders = (1 if self.closed is False else count) * (1 if self.directed else 2)
        if not _nothing(self.cost_weights["chamfer"]):
            orders = orders + count
        return problems.objects * orders * count * coordinates

    def compare(
        self, predictions: Arrays, truths: Arrays, names: tuple[str, ...], backend: Backend
    ) -> dict[str, Array]:
        """The distances of points and of directions in the nearest order, and Chamfer's."""
        prediction, truth = predictions[self.on], truths[self.on]
        xp, closed = backend.namespace(prediction), self._closed(truths)
        found = {}
        if "chamfer" in names:
            any_order = truth[..., 0, :, :] if self.given else truth
            found["chamfer"] = chamfer_distance(prediction, any_order, backend=backend)
        if "points" not in names and "direction" not in names:
            return found
        if self.given:
            points = nearest_of(prediction, truth, backend, xp)
        else:
            points = align(
                prediction, truth, closed=closed, repeated=self.repeated, directed=self.directed,
                backend=backend,
            ).points  # fmt: skip
        if "points" in names:
            found["points"] = distance(prediction, points, self.reduce, xp)
        if "direction" in names:
            found["direction"] = direction_loss(
                prediction, points, closed=False if self.repeated else closed, scale=self.scale,
                reduce=self.reduce, backend=backend,
            )  # fmt: skip
        return found

    def compare_for_matching(
        self, predictions: Arrays, truths: Arrays, names: tuple[str, ...], backend: Backend
    ) -> dict[str, Array]:
        """The same; of points alone the least distance says all, whatever order it is."""
        if names != ("points",):
            return self.compare(predictions, truths, names, backend)
        prediction, truth = predictions[self.on], truths[self.on]
        xp = backend.namespace(prediction)
        if self.given:
            apart = distances(prediction, truth, self.reduce, xp)
        else:
            apart, _ = of_orders(
                prediction, truth, self._closed(truths), self.repeated, self.directed, self.reduce,
                backend, xp,
            )  # fmt: skip
        return {"points": xp.min(apart, axis=-1)}

    def impossible(self, truths: Arrays) -> tuple[Array, str]:
        """Lines that are not finite, or do not repeat the point that they are said to."""
        points = truths[self.on]
        axes = tuple(range(2, points.ndim))
        bad, expected = ~(abs(points) < math.inf).all(axes), "finite points"
        if self.repeated and self.closed and not self.given:
            gap = abs(points[..., 0, :] - points[..., -1, :]).max(-1)
            gaps = (gap > 1e-3 * abs(points).max(axes)) & self._closed(truths)
            bad, expected = bad | gaps, "finite points, the last of a closed line as its first"
        return bad, expected

    def _closed(self, truths: Arrays) -> Any:
        """Return which objects are closed: for all, or bool for each."""
        return truths[self.closed] > 0 if isinstance(self.closed, str) else self.closed


def _nothing(weight: Any) -> bool:
    """Say whether a weight is the number 0; one that is learnt is not known."""
    return isinstance(weight, float) and weight == 0
