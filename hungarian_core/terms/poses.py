"""The term of poses: keypoints by their L1 distance and COCO's similarity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core.boxes._arithmetic import TINY
from hungarian_core.costs.classes import as_index
from hungarian_core.costs.keypoints import COCO_SIGMAS, similarity
from hungarian_core.polylines.orders import REDUCTIONS
from hungarian_core.terms import _checks as checks
from hungarian_core.terms.comparison import Arrays, Comparison, ComparisonInputs
from hungarian_core.terms.problems import MatchingProblems


class Poses(Comparison):
    """The term of poses of K keypoints, such as people.

    The loss of a matched pair is ``keypoint_weight * L1 + oks_weight * (1 - OKS)``, called
    ``"keypoint"`` and ``"oks"``; matching costs the same with weights of its own. Only keypoints
    that are labelled in the truth count, and their L1 distance is the sum over them. Who has none
    costs and loses nothing. The object keypoint similarity OKS is that of
    `hungarian_core.costs.keypoint_distance`. The default weights go with coordinates relative to
    the image and are those of UniPose.

    Args:
        keypoint_weight, oks_weight: The weights in the loss.
        keypoint_cost, oks_cost: The weights in the matching cost, by default those in the loss.
        sigmas: K numbers, for each keypoint the spread that counts as small, in units of the
            square root of the area; by default those of COCO's 17.
        area: How large objects are, in the unit of the coordinates, squared: the key of the
            targets that says so, `(B, M)`, a number for all, or None for the width times the
            height of their ``"boxes"``, `(B, M, 4)` in cxcywh.
        symmetries: Orders of the keypoints in which a pose is the same, besides the one that it
            has: each is K whole numbers, 0 to K - 1, which truth stands where. Of all orders that
            one counts in which the L1 distance is the least, of equal ones the first.
        reduce: ``"sum"`` of the L1 distances of labelled keypoints, or their ``"mean"``.
        check_targets: Raise if a true pose cannot be, where it can be read: a labelled keypoint
            that is not finite, a visibility other than 0, 1 and 2, an area below 0.
        on: The key of the outputs, ``(..., K, 2)``, and of the targets, ``(..., K, 3)``: x, y and
            COCO's visibility, 0 for a keypoint without a label, whose x and y may be anything, 1
            for a hidden and 2 for a visible one.

    Raises:
        ValueError: An option is unknown, or options do not fit each other.

    Reference:
        COCO, keypoint evaluation; as a loss Shi et al., End-to-End Multi-Person Pose Estimation
        with Transformers, CVPR 2022, section 3.3.

    Example::

        >>> import numpy as np
        >>> import hungarian_core as hc
        >>> criterion = hc.SetLoss([hc.terms.Poses(sigmas=[0.1, 0.1], area=1.0)])
        >>> queries = np.array([[[0.9, 0.9], [0.8, 0.8]], [[0.1, 0.1], [0.5, 0.5]]])
        >>> truth = np.array([[[0.1, 0.2, 2], [0.0, 0.0, 0]]])  # (M, K, 3), one of them labelled
        >>> losses = criterion({"keypoints": queries[None]}, [{"keypoints": truth}])
        >>> losses.assignment.col4row
        array([[1]])
        >>> {name: round(float(x), 4) for name, x in losses.losses.items()}
        {'keypoint': 1.0, 'oks': 0.47}
    """

    def __init__(
        self,
        *,
        keypoint_weight: float = 10.0,
        oks_weight: float = 4.0,
        keypoint_cost: float | None = None,
        oks_cost: float | None = None,
        sigmas: Sequence[float] = COCO_SIGMAS,
        area: str | float | None = "area",
        symmetries: Sequence[Sequence[int]] = (),
        reduce: Literal["sum", "mean"] = "sum",
        check_targets: bool = True,
        on: str = "keypoints",
    ) -> None:
        _checks.one_of("reduce", reduce, REDUCTIONS)
        _checks.positive("sigmas", *sigmas)
        self.sigmas = tuple(_checks.number("sigmas", x) for x in sigmas)
        if area is not None and not isinstance(area, str):
            _checks.positive("area", area)
            area = _checks.number("area", area)
        self.area = area
        self.symmetries = checks.permutations("symmetries", symmetries, len(self.sigmas))
        self.weights = {
            "keypoint": _checks.weight("keypoint_weight", keypoint_weight),
            "oks": _checks.weight("oks_weight", oks_weight),
        }
        self.cost_weights = {
            "keypoint": _checks.weight(
                "keypoint_cost", keypoint_weight if keypoint_cost is None else keypoint_cost
            ),
            "oks": _checks.weight("oks_cost", oks_weight if oks_cost is None else oks_cost),
        }
        self.reduce, self.check_targets, self.on = reduce, check_targets, _checks.key("on", on)
        self.outputs = {on: ("K", 2)}
        self.fields = {on: ("K", 3)}
        if area is None:
            self.fields = {**self.fields, "boxes": (4,)}
        elif isinstance(area, str):
            self.fields = {**self.fields, area: ()}

    def read(self, outputs: Arrays, fields: Arrays, problems: MatchingProblems) -> ComparisonInputs:
        """Check the number of keypoints and lay them out."""
        checks.keypoints(self.on, problems.backend.shape(outputs[self.on]), len(self.sigmas))
        return super().read(outputs, fields, problems)

    def width(self, problems: MatchingProblems, inputs: ComparisonInputs) -> Any:
        """Every pair is compared in all orders."""
        return problems.objects * len(self.sigmas) * 2 * (1 + len(self.symmetries))

    def compare(
        self, predictions: Arrays, truths: Arrays, names: tuple[str, ...], backend: Backend
    ) -> dict[str, Array]:
        """The distance, and one less the similarity."""
        prediction, truth = predictions[self.on], truths[self.on]
        xp = backend.namespace(prediction)
        if self.symmetries:
            truth = self._nearest(prediction, truth, backend, xp)
        apart, seen = _apart(prediction, truth, xp)
        labelled = xp.sum(xp.astype(seen, apart.dtype), axis=-1)
        number = xp.where(labelled > 0, labelled, 1)
        found = {}
        if "keypoint" in names:
            # JAX gives `abs` the slope 1 at 0.
            total = xp.sum(xp.where(apart == 0, 0, xp.abs(apart)), axis=(-2, -1))
            found["keypoint"] = total / number if self.reduce == "mean" else total
        if "oks" in names:
            sigmas = xp.astype(backend.asarray(list(self.sigmas), like=apart), apart.dtype)
            sigmas = sigmas[(*(None,) * (apart.ndim - 2), ...)]
            size = self._size(truths, xp)
            size = size if isinstance(size, float) else size[..., None]
            each = similarity(xp, apart[..., 0], apart[..., 1], sigmas, size)
            oks = xp.sum(xp.where(seen, each, 0), axis=-1) / number
            found["oks"] = xp.where(labelled > 0, 1 - oks, 0)
        return found

    def impossible(self, truths: Arrays) -> tuple[Array, str]:
        """Poses with keypoints nowhere, of an unknown visibility or of an area below 0."""
        keypoints = truths[self.on]
        seen = keypoints[..., 2]
        lost = ~(abs(keypoints[..., :2]) < math.inf).all(-1) & (seen > 0)
        strange = (seen != 0) & (seen != 1) & (seen != 2)
        bad = (lost | strange).any(-1)
        if isinstance(self.area, str):
            area = truths[self.area]
            bad = bad | ~((area >= 0) & (area < math.inf))
        elif self.area is None:
            sides = truths["boxes"][..., 2:]
            bad = bad | ~((sides >= 0) & (sides < math.inf)).all(-1)
        return bad, "finite labelled keypoints, visibility 0, 1 or 2, and an area of 0 or more"

    def _size(self, truths: Arrays, xp: Namespace) -> Any:
        """Return the areas `[...]`, or the one that all have."""
        if isinstance(self.area, float):
            return self.area
        if self.area is None:
            sides = xp.where(truths["boxes"][..., 2:] > 0, truths["boxes"][..., 2:], 0)
            return sides[..., 0] * sides[..., 1]
        area = truths[self.area]
        return xp.where(area > 0, area, 0)

    def _nearest(self, prediction: Array, truth: Array, backend: Backend, xp: Namespace) -> Array:
        """Return the truth in the order in which it is nearest."""
        candidates = [truth]
        for order in self.symmetries:
            at = as_index(backend.asarray(list(order), like=truth), xp)
            candidates.append(xp.take(truth, at, axis=truth.ndim - 2))
        constant = backend.stop_gradient(prediction)
        aparts = [_apart(constant, candidate, xp)[0] for candidate in candidates]
        largest = xp.max(xp.abs(aparts[0]), axis=(-2, -1), keepdims=True)
        for apart in aparts[1:]:
            largest = xp.maximum(largest, xp.max(xp.abs(apart), axis=(-2, -1), keepdims=True))
        # So that no square overflows.
        unit = xp.where(largest <= TINY, 1, largest)
        totals = [xp.sum((apart / unit) ** 2, axis=(-2, -1)) for apart in aparts]
        nearest, least = candidates[0], totals[0]
        for candidate, total in zip(candidates[1:], totals[1:], strict=True):
            nearer = total < least
            nearest = xp.where(nearer[..., None, None], candidate, nearest)
            least = xp.where(nearer, total, least)
        return nearest


def _apart(prediction: Array, truth: Array, xp: Namespace) -> tuple[Array, Array]:
    """Return the differences `[..., K, 2]`, 0 where nothing is labelled, and where it is."""
    seen = truth[..., 2] > 0
    there = seen[..., None]
    # Chosen before any arithmetic: what has no label may be anywhere.
    apart = prediction - xp.where(there, truth[..., :2], 0)
    apart = xp.where(there, apart, 0)
    return apart, seen
