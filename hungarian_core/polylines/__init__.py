"""Polylines, polygons and lanes: points in an order that has equivalents.

A line is K points of d coordinates, the last two axes of an array: `[..., K, d]`. Whoever drew it
began somewhere and went one way, which says nothing of the line. An open line is the same from its
other end; of a closed one every point may be the first, in both directions. So `align` compares two
lines in the order of points in which they are nearest, by the L1 distance of all points, as MapTR
does. The order is found from the values, and what is learnt goes through the order that was taken.

Order ``s`` of a closed line begins with point s; order ``K + s`` is the reverse of the line, begun
s points later. Of an open line there are 0 and K, the line and its reverse. Where two orders are
equally near, the lower number is taken; lines of which one lies wholly to one side of the other,
along each axis, are equally near in all orders, and rounding decides.

- `align`: the nearest order, the distance and the points in this order;
- `reorder`: anything else that points have, in an order that was taken;
- `direction_loss`: one less the cosines of the edges' directions;
- `chamfer_distance`: how near each point is to some point of the other line, whatever the order.

All are differentiable in both lines. Values and gradients are finite for finite points whose
distances are: where two coordinates are equal, the L1 distance has the gradient 0, and so have the
distance of two points at the same place and the direction of an edge without a length. NaN stays
NaN.
"""

from hungarian_core.polylines.distances import chamfer_distance, direction_loss
from hungarian_core.polylines.orders import Alignment, align, reorder

__all__ = ["Alignment", "align", "chamfer_distance", "direction_loss", "reorder"]
__dir__ = __all__.copy
