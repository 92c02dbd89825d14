"""Problems to learn matching from: directions on the sphere, and any other distances.

Everything is drawn for all samples at once, with NumPy, and the same seed gives the same samples.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from hungarian_core.assignment import assign
from hungarian_core.costs import COSTS, CostFunction
from hungarian_core.hnet import _checks

Distance = CostFunction
Missing = Literal["published", "masked", "mixed"]

RESOLUTIONS = (1, 2, 3, 4, 5, 10, 15, 20, 30)
_PER_CALL = 1 << 15  # samples that are drawn and solved at once


class Samples(NamedTuple):
    """Problems with their solutions. N samples of L rows and L columns, all of them shuffled.

    Attributes:
        distance: `[N, L, L]` float32, rows are references and columns predictions.
        association: `[N, L, L]` bool, True for a pair of the best matching of real objects.
        rows: `[N]` int64, how many references are real.
        cols: `[N]` int64, how many predictions are real.
        row_mask: `[N, L]` bool, which rows are real.
        col_mask: `[N, L]` bool, which columns are real.
        resolution: `[N]` int64, the angle in degrees between neighbouring directions.
        masked: `[N]` bool, True where objects that are not there are to be masked, False where
            distances of any value stand for them.
    """

    distance: np.ndarray
    association: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    row_mask: np.ndarray
    col_mask: np.ndarray
    resolution: np.ndarray
    masked: np.ndarray


def samples_per_pair(max_len: int, per_association: int = 15_000) -> tuple[int, ...]:
    """Return how many samples a pair of counts gets if 0, 1, 2, ... associations are as frequent.

    Of the ``(max_len + 1)**2`` pairs of counts, ``2 (max_len - k) + 1`` have k associations, which
    share `per_association` samples. For 2 that gives the published numbers, 3000, 5000, 15000.

    Args:
        max_len: The largest count.
        per_association: Samples of each k.

    Examples:
        >>> hc.hnet.data.samples_per_pair(2)
        (3000, 5000, 15000)
    """
    return tuple(round(per_association / (2 * (max_len - k) + 1)) for k in range(max_len + 1))


def generate(
    max_len: int = 2,
    *,
    samples: int | Sequence[int] = 15_000,
    counts: Sequence[tuple[int, int]] | None = None,
    resolutions: Sequence[int] = RESOLUTIONS,
    distance: str | Distance = "euclidean",
    missing: Missing = "published",
    seed: int = 0,
) -> Samples:
    """Draw references and predictions on the unit sphere, and match them.

    The azimuths of a set of directions are drawn without replacement from -180 degrees on in
    steps of the resolution, and its elevations likewise from -90 to 90; where there are fewer
    steps than directions, all are used before one comes again. References and predictions are
    independent. As published, one of the two is shuffled, chosen by chance.

    Args:
        max_len: L, the rows and columns of a sample.
        samples: For each resolution, how many samples have 0, 1, 2, ... associations: one number
            for each of them, shared by the pairs of counts; or a sequence, the samples of a pair
            of counts by its number of associations, as published: ``(3000, 5000, 15000)``.
        counts: The pairs of counts, references and predictions; by default, all from 0 to L.
        resolutions: Degrees between neighbouring directions, from 1 to 90.
        distance: The name of a cost of `loss` that takes vectors, or ``f(xp, a, b)`` that reduces
            the last axis of NumPy arrays `a[N, L, 1, 3]` and `b[N, 1, L, 3]`, float64.
        missing: What stands for objects that are not there. ``"published"``: in half of the
            samples a point (10, 10, 10), in the others random points whose coordinates are
            in [-100, 100] and outside [-1, 1]. ``"masked"``: their distances are 0, to be used
            with the masks. ``"mixed"``: either of these, by chance.
        seed: The same seed gives the same samples.

    Returns:
        The samples in random order.

    Raises:
        ValueError: An option does not fit.

    Examples:
        >>> samples = hc.hnet.data.generate(2, samples=3)
        >>> samples.distance.shape, samples.association.dtype
        ((99, 2, 2), dtype('bool'))
    """
    _checks.generated(max_len, samples, counts, resolutions, missing)
    if isinstance(samples, (int, numbers.Integral)):
        samples = samples_per_pair(max_len, int(samples))
    pairs = [(n, m) for n in range(max_len + 1) for m in range(max_len + 1)]
    pairs = pairs if counts is None else [(int(n), int(m)) for n, m in counts]
    kinds = np.array([(r, n, m) for r in resolutions for n, m in pairs], np.int64).reshape(-1, 3)
    repeats = [samples[min(n, m)] for _, n, m in kinds.tolist()]
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(np.repeat(kinds, repeats, axis=0))
    measure = _measure(distance)
    parts = [
        _draw(kinds[at : at + _PER_CALL], max_len, measure, missing, rng)
        for at in range(0, max(len(kinds), 1), _PER_CALL)
    ]
    return Samples(*(np.concatenate(x) for x in zip(*parts, strict=True)))


def _measure(distance: str | Distance) -> Distance:
    if callable(distance):
        return distance
    _checks.one_of("distance", distance, tuple(COSTS), "or a function (xp, a, b)")
    return COSTS[distance]


def _draw(
    kinds: np.ndarray, max_len: int, measure: Distance, missing: Missing, rng: np.random.Generator
) -> Samples:
    """Draw one sample per row of `kinds`, which holds the resolution and both counts."""
    resolution, rows, cols = kinds.T
    size, place = len(kinds), np.arange(max_len)
    row_mask, col_mask = place < rows[:, None], place < cols[:, None]
    sets = [_directions(resolution, max_len, rng) for _ in range(2)]
    if missing != "masked":
        at_random = rng.random(size) > 0.5
        sets = [
            np.where(there[..., None], real, _absent(at_random, max_len, rng))
            for real, there in zip(sets, (row_mask, col_mask), strict=True)
        ]
    xp = array_namespace(sets[0])
    distance = np.asarray(measure(xp, sets[0][:, :, None, :], sets[1][:, None, :, :]))
    _checks.measured(distance.shape, (size, max_len, max_len))
    real = row_mask[:, :, None] & col_mask[:, None, :]
    found = assign(np.where(real, distance, 0), row_mask=row_mask, col_mask=col_mask)
    association = found.col4row[:, :, None] == place
    masked = rng.random(size) < {"published": 0, "masked": 1, "mixed": 0.5}[missing]
    distance = np.where(real | ~masked[:, None, None], distance, 0)
    order = np.argsort(rng.random((size, max_len)), axis=1)
    of_rows = (rng.random(size) > 0.5)[:, None]
    row_order, col_order = np.where(of_rows, order, place), np.where(of_rows, place, order)

    def shuffled(x: np.ndarray) -> np.ndarray:
        x = np.take_along_axis(x, row_order[:, :, None], axis=1)
        return np.take_along_axis(x, col_order[:, None, :], axis=2)

    return Samples(
        shuffled(distance.astype(np.float32)),
        shuffled(association),
        rows,
        cols,
        np.take_along_axis(row_mask, row_order, axis=1),
        np.take_along_axis(col_mask, col_order, axis=1),
        resolution,
        masked,
    )


def _directions(resolution: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return unit vectors `[N, count, 3]` on grids of so many degrees."""
    azimuth = -180 + resolution[:, None] * _distinct(-(-360 // resolution), count, rng)
    elevation = -90 + resolution[:, None] * _distinct(180 // resolution + 1, count, rng)
    azimuth, elevation = np.deg2rad(azimuth), np.deg2rad(elevation)
    level = np.cos(elevation)
    return np.stack([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)], axis=-1)


def _distinct(available: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return for each sample `count` of the numbers 0 to available - 1, `[N, count]`.

    They are different as long as there are that many; then all may come again.
    """
    drawn = np.empty((len(available), count), np.int64)
    for k in range(count):
        # Those drawn since all of them came, in ascending order; the rest are out of reach.
        used = k % available
        before = np.where(np.arange(k) >= (k - used)[:, None], drawn[:, :k], 1 << 30)
        value = rng.integers(0, available - used)
        for taken in np.sort(before, axis=1).T:
            value = value + (value >= taken)
        drawn[:, k] = value
    return drawn


def _absent(at_random: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `[N, count, 3]` for objects that are not there."""
    points = rng.uniform(-100, 100, (len(at_random), count, 3))
    return np.where(at_random[:, None, None] & (np.abs(points) > 1), points, 10.0)
