"""The cost of object keypoints, by the similarity with which COCO rates them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from hungarian_core import _checks
from hungarian_core._backend import Array, Namespace
from hungarian_core._extents import features
from hungarian_core._settings import changed, written
from hungarian_core._tracing import skip_autograph
from hungarian_core.costs.vectors import CostFunction

# How far annotators differ about each keypoint, in units of the square root of the object's area:
# nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles.
COCO_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062,
    0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
)  # fmt: skip

_FAR = 28  # exp(-28**2) is 0 in float64


def keypoint_distance(
    sigmas: Sequence[float] = COCO_SIGMAS, *, visibility: bool = True, area: float | None = None
) -> CostFunction:
    """Return a cost ``1 - OKS``, in [0, 1], for K keypoints of an object.

    The object keypoint similarity is the mean of ``exp(-d**2 / (8 * sigma**2 * area))`` over the
    labelled keypoints, where d is the distance of the prediction. An object without any labelled
    keypoint is at the distance 1 of everything, with gradient 0.

    Args:
        sigmas: K numbers, for each keypoint the spread that counts as small, in units of the
            square root of the area; by default those of COCO's 17.
        visibility: Whether objects are ``(x1, y1, v1, x2, y2, v2, ...)``. A keypoint is labelled
            if v > 0 in the true object; its coordinates may be anything if not. Without it
            objects are ``(x1, y1, x2, y2, ...)``, all labelled.
        area: The area of every object, in the unit of the coordinates, squared. By default the
            true object has its own as one more number at the end.

    Returns:
        A function ``cost(xp, a, b)`` of true objects `a` and predicted ones `b`, with as many
        numbers each. What stands for visibility and area in `b` is not read.

    Raises:
        ValueError: `sigmas` or `area` are not positive; from the function, vectors are not of
            the length that all this makes.

    Reference:
        COCO, keypoint evaluation. Its evaluation adds 2.2e-16 to areas, and so does this.

    Examples:
        >>> cost = hc.costs.keypoint_distance([0.1, 0.1], visibility=False, area=1.0)
        >>> cost(np, np.array([[0.0, 0.0, 1.0, 1.0]]), np.array([[0.0, 0.1, 1.0, 1.0]])).round(4)
        array([0.0588])
    """
    _checks.positive("sigmas", *sigmas)
    if area is not None:
        _checks.positive("area", area)
        area = _checks.number("area", area)
    spread = tuple(_checks.number("sigmas", sigma) for sigma in sigmas)
    return KeypointDistance(spread, bool(visibility), area)


@skip_autograph
@dataclasses.dataclass(frozen=True, repr=False)
class KeypointDistance:
    """What `keypoint_distance` returns: a function that compares by value and can be pickled.

    Attributes:
        sigmas: The spread of each keypoint.
        visibility: Whether objects say which keypoints are labelled.
        area: The area of every object, or None where each has its own.
    """

    sigmas: tuple[float, ...]
    visibility: bool
    area: float | None

    def __repr__(self) -> str:
        arguments = changed(keypoint_distance, vars(self))
        return f"{keypoint_distance.__name__}({written(arguments)})"

    def __call__(self, xp: Namespace, a: Array, b: Array) -> Array:
        """Return ``1 - OKS`` of true objects `a` and predicted ones `b`, along the last axis."""
        count, step, area = len(self.sigmas), 3 if self.visibility else 2, self.area
        extent = step * count + (area is None)
        what = f"{'x, y and v' if self.visibility else 'x and y'} of {count} keypoints" + (
            ", and the area" if area is None else ""
        )
        _checks.numbers("keypoint_distance", features(a), extent, what)
        size = a[..., extent - 1] if area is None else area
        total, labelled = 0, 0 if self.visibility else count
        # One keypoint after the other: nothing here is K times as large as the result.
        for k, sigma in enumerate(self.sigmas):
            x, y = (a[..., step * k + axis] - b[..., step * k + axis] for axis in (0, 1))
            if self.visibility:
                seen = a[..., step * k + 2] > 0
                labelled = labelled + xp.astype(seen, x.dtype)
                x, y = xp.where(seen, x, 0), xp.where(seen, y, 0)
            similar = similarity(xp, x, y, sigma, size)
            total = total + (xp.where(seen, similar, 0) if self.visibility else similar)
        return 1 - total / (xp.where(labelled > 0, labelled, 1) if self.visibility else labelled)


def similarity(
    xp: Namespace, x: Array, y: Array, sigma: float | Array, area: float | Array
) -> Array:
    """Return how similar keypoints are that are (x, y) apart, from 0 to 1.

    Reference:
        COCO, keypoint evaluation, which adds 2.2e-16 to areas.
    """
    squared = 8 * sigma**2 * (area + math.ulp(1.0))
    spread = math.sqrt(squared) if isinstance(squared, float) else xp.sqrt(squared)
    # Beyond it the similarity is 0 in every dtype, and squares could overflow.
    x, y = (xp.where(z > _FAR * spread, _FAR * spread, z) for z in (x, y))
    x, y = (xp.where(z < -_FAR * spread, -_FAR * spread, z) / spread for z in (x, y))
    return xp.exp(-(x * x + y * y))
