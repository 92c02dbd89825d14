"""Boxes with an angle as polygons, in NumPy and so that the numbers may be complex.

By clipping one polygon by each edge of the other and by wrapping a string around all corners, one
pair at a time: nothing of this is how the library does it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Point = tuple[Any, Any]


def corners(box: Any) -> list[Point]:
    """Return the corners of (cx, cy, w, h, angle), counter-clockwise."""
    cx, cy, w, h, angle = box
    cos, sin = np.cos(angle), np.sin(angle)
    signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    return [
        (
            cx + i * w / 2 * cos - j * h / 2 * sin,
            cy + i * w / 2 * sin + j * h / 2 * cos,
        )
        for i, j in signs
    ]


def area(polygon: list[Point]) -> Any:
    """Return the area of a polygon, counter-clockwise."""
    total = 0.0
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        total = total + (x0 * y1 - x1 * y0) / 2
    return total


def _side(start: Point, end: Point, point: Point) -> Any:
    """Return twice the area of a triangle, positive to the left of the way from start to end."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])


def intersection(a: Any, b: Any) -> Any:
    """Return the area of the intersection, by Sutherland and Hodgman."""
    polygon, edges = corners(a), corners(b)
    for start, end in zip(edges, edges[1:] + edges[:1], strict=True):
        clipped: list[Point] = []
        for k, point in enumerate(polygon):
            before = polygon[k - 1]
            s, t = _side(start, end, before), _side(start, end, point)
            if (np.real(s) < 0) != (np.real(t) < 0):
                share = s / (s - t)
                clipped.append(
                    (
                        before[0] + share * (point[0] - before[0]),
                        before[1] + share * (point[1] - before[1]),
                    )
                )
            if np.real(t) >= 0:
                clipped.append(point)
        polygon = clipped
        if not polygon:
            return 0.0
    return area(polygon)


def hull(a: Any, b: Any) -> Any:
    """Return the area of the smallest convex polygon around both, by Jarvis."""
    points = corners(a) + corners(b)
    found = [min(range(8), key=lambda k: (np.real(points[k][0]), np.real(points[k][1])))]
    while True:
        at = points[found[-1]]
        best = (found[-1] + 1) % 8
        for k in range(8):
            if np.real(_side(at, points[best], points[k])) < 0:
                best = k
        if best == found[0] or len(found) == 8:
            return area([points[k] for k in found])
        found.append(best)


def overlaps(a: Any, b: Any) -> dict[str, Any]:
    """Return the IoU and the GIoU."""
    common, around = intersection(a, b), hull(a, b)
    union = a[2] * a[3] + b[2] * b[3] - common
    return {"iou": common / union, "giou": common / union - (around - union) / around}


def _covariance(box: Any, share: float) -> Any:
    cos, sin = np.cos(box[4]), np.sin(box[4])
    turn = np.array([[cos, -sin], [sin, cos]])
    return turn @ np.diag([box[2] ** 2 * share, box[3] ** 2 * share]) @ turn.T


def gaussians(a: Any, b: Any) -> dict[str, Any]:
    """Return the distances of Gaussians, from their matrices."""
    apart = np.array([a[0] - b[0], a[1] - b[1]])
    of_a, of_b = _covariance(a, 1 / 4), _covariance(b, 1 / 4)
    det, inverse = np.linalg.det, np.linalg.inv
    product = of_a @ of_b
    # The eigenvalues of the product are those of C_a^½ C_b C_a^½; the sum of their roots squared is
    # their sum and twice the root of their product.
    trace = np.sqrt(np.trace(product) + 2 * np.sqrt(det(product)))
    gwd = np.sqrt(apart @ apart + np.trace(of_a) + np.trace(of_b) - 2 * trace)
    kld = (
        apart @ inverse(of_b) @ apart
        + np.trace(inverse(of_b) @ of_a)
        + np.log(det(of_b) / det(of_a))
    ) / 2 - 1
    of_a, of_b = _covariance(a, 1 / 12), _covariance(b, 1 / 12)
    both = (of_a + of_b) / 2
    distance = apart @ inverse(both) @ apart / 8
    distance = distance + np.log(det(both) / np.sqrt(det(of_a) * det(of_b))) / 2
    return {"gwd": gwd, "kld": kld, "probiou": 1 - np.sqrt(1 - np.exp(-distance))}
