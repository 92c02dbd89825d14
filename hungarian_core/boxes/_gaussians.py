"""Two rotated boxes as Gaussians beside each other: how far apart they are.

All is written in sums of what is not negative, so that nothing cancels where boxes are nearly the
same, and in ratios of lengths, so that nothing overflows where they are not.
"""

from __future__ import annotations

from hungarian_core._backend import Array, Namespace
from hungarian_core.boxes._arithmetic import over, positive
from hungarian_core.boxes._polygons import Rotated

# Sides below this share of the largest length there is count as that.
LEAST = 1e-6


def root(xp: Namespace, x: Array) -> Array:
    """Return the square root, of slope 0 at 0."""
    zero = x <= 0
    return xp.where(zero, 0, xp.sqrt(xp.where(zero, 1, x)))


def wasserstein(pair: Rotated) -> Array:
    """Return the 2-Wasserstein distance, in the unit of the pair.

    With C the covariances, its square is ``d**2 + tr(C_a + C_b - 2 (C_a^½ C_b C_a^½)^½)``, and the
    trace of a root of a 2 x 2 matrix is ``sqrt(trace + 2 sqrt(determinant))``.
    """
    xp = pair.xp
    a_wide, b_wide = pair.a_width >= pair.a_height, pair.b_width >= pair.b_height
    a_long = xp.where(a_wide, pair.a_width, pair.a_height)
    a_short = xp.where(a_wide, pair.a_height, pair.a_width)
    b_long = xp.where(b_wide, pair.b_width, pair.b_height)
    b_short = xp.where(b_wide, pair.b_height, pair.b_width)
    # Squares of cosine and sine of the angle between the longer sides.
    aligned = a_wide == b_wide
    cos, sin = xp.where(aligned, pair.cos, pair.sin), xp.where(aligned, pair.sin, pair.cos)
    straight, crossed = a_long * b_long + a_short * b_short, a_long * b_short + a_short * b_long
    trace = root(xp, (cos * straight) ** 2 + (sin * crossed) ** 2)
    # straight - trace, with straight**2 - trace**2 in place of the difference of both.
    excess = (sin * sin) * (a_long - a_short) * (a_long + a_short)
    excess = over(xp, excess * (b_long - b_short) * (b_long + b_short), straight + trace)
    shape = (a_long - b_long) ** 2 + (a_short - b_short) ** 2 + 2 * excess
    return root(xp, pair.x * pair.x + pair.y * pair.y + shape)


def mean_side(pair: Rotated) -> Array:
    """Return the geometric mean of the four sides, in the unit of the pair."""
    aw, ah, bw, bh = _sides(pair)
    return 2 * pair.xp.sqrt(pair.xp.sqrt(aw * ah * bw * bh))


def divergence(pair: Rotated) -> Array:
    """Return the Kullback-Leibler divergence of a from b.

    With C the covariances, it is
    ``(d^T C_b^-1 d + tr(C_b^-1 C_a) + ln(det C_b / det C_a)) / 2 - 1``.
    """
    xp, cos, sin = pair.xp, pair.cos, pair.sin
    aw, ah, bw, bh = _sides(pair)
    squares = (
        (pair.x / bw) ** 2 + (pair.y / bh) ** 2
        + cos * cos * ((aw / bw) ** 2 + (ah / bh) ** 2)
        + sin * sin * ((ah / bw) ** 2 + (aw / bh) ** 2)
    )  # fmt: skip
    return positive(xp, 0.5 * squares - 1 + xp.log(bw / aw) + xp.log(bh / ah))


def hellinger(pair: Rotated) -> Array:
    """Return the Hellinger distance of the Gaussians of uniform boxes, in [0, 1].

    With C the covariances, it is ``sqrt(1 - exp(-B))`` of the Bhattacharyya distance
    ``B = d^T (C_a + C_b)^-1 d / 4 + ln(det(C_a + C_b) / (4 sqrt(det C_a det C_b))) / 2``.
    """
    xp, x, y, cos, sin = pair.xp, pair.x, pair.y, pair.cos, pair.sin
    aw, ah, bw, bh = _sides(pair)
    along, across = x * cos + y * sin, y * cos - x * sin
    # The determinant of the sum over 4 times the root of the product, less 1.
    excess = (
        _off(aw / bw * (ah / bh))
        + cos * cos * _off(ah / bh * (bw / aw))
        + sin * sin * _off(ah / aw * (bh / bw))
    ) * 0.25
    apart = (
        (along / bw) * (along / bh) * (ah / aw) + (across / bw) * (across / bh) * (aw / ah)
        + (x / aw) * (x / ah) * (bh / bw) + (y / aw) * (y / ah) * (bw / bh)
    )  # fmt: skip
    # Of a uniform distribution the variance is a third of the square of half a side.
    half = (3 / 32) * apart / (1 + excess) + 0.25 * xp.log1p(excess)
    # 1 - exp(-2 half), free of cancellation.
    tanh = xp.tanh(half)
    return root(xp, 2 * tanh / (1 + tanh))


def _off(ratio: Array) -> Array:
    """Return ratio + 1 / ratio - 2."""
    return (ratio - 1) * ((ratio - 1) / ratio)


def _sides(pair: Rotated) -> list[Array]:
    """Return half of each side, away from 0."""
    xp = pair.xp
    sides = (pair.a_width, pair.a_height, pair.b_width, pair.b_height)
    return [xp.where(side < LEAST, LEAST, side) for side in sides]
