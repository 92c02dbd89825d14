"""Noise that is the same in every framework: a function of a seed and of an entry's place.

The generator is Threefry-2x32 with 20 rounds: two words of a key and two of a counter make two
words of noise. There is no state, so noise can be made again where it is needed again, and an
entry's noise depends on neither the device nor the framework, up to the rounding of logarithms.
Words are int32 throughout: additions wrap, and not every framework has more than 32 bits.

Reference: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from hungarian_core._backend import Array, Backend, Namespace

Noise = Literal["gaussian", "gumbel"]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def noise_like(x: Array, count: int, seed: int | Array, kind: Noise, backend: Backend) -> Array:
    """Return independent noise `(count, *x.shape)` in the dtype and on the device of `x`.

    Args:
        x: Of float32 or float64; its values do not matter. In float64 the noise is that of
            float32 with more digits.
        count: How many arrays of noise, at least 1. Fewer are the first of more.
        seed: An int from 0 to 2**64 - 1, or an integer array `()`, which may be traced, and of
            which the lower 32 bits count.
        kind: ``"gaussian"`` of mean 0 and variance 1, or ``"gumbel"``, of the density
            ``exp(-z - exp(-z))``.
        backend: Of `x`.
    """
    xp, shape = backend.namespace(x), backend.shape(x)
    pairs = (count + 1) // 2
    place = xp.cumulative_sum(xp.ones_like(xp.reshape(x, (-1,)), dtype=xp.int32), axis=0) - 1
    place = xp.reshape(xp.astype(place, xp.int32), (1, *shape))
    turn = xp.astype(backend.asarray(list(range(pairs)), like=x), xp.int32)
    turn = xp.reshape(turn, (pairs, *(1 for _ in shape)))
    key = key_of(seed, turn, backend, xp)
    u, v = threefry(key, (place, turn), xp)
    low_u = low_v = None
    if x.dtype == xp.float64:  # the digits that float32 lacks, from counters of their own
        low_u, low_v = threefry(key, (place, turn + -(2**31)), xp)
    u, v = uniform(u, low_u, x.dtype, xp), uniform(v, low_v, x.dtype, xp)
    both = _gaussian(u, v, xp) if kind == "gaussian" else (_gumbel(u, xp), _gumbel(v, xp))
    return xp.reshape(xp.stack(both, axis=1), (2 * pairs, *shape))[:count, ...]


def threefry(
    key: tuple[Array, Array], counter: tuple[Array, Array], xp: Namespace
) -> tuple[Array, Array]:
    """Return two words of noise; words are int32 arrays that broadcast, of one axis at least.

    An array without axes would make NumPy warn of additions that wrap.
    """
    keys = (*key, xp.bitwise_xor(xp.bitwise_xor(*key), _PARITY))
    a, b = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            a = a + b
            b = xp.bitwise_xor(_rotated(b, rotation, xp), a)
        a = a + keys[(group + 1) % 3]
        b = b + keys[(group + 2) % 3] + (group + 1)
    return a, b


def _rotated(x: Array, by: int, xp: Namespace) -> Array:
    """Return words turned to the left; a shift to the right of int32 drags the sign along."""
    fallen = xp.bitwise_and(xp.bitwise_right_shift(x, 32 - by), 2**by - 1)
    return xp.bitwise_or(xp.bitwise_left_shift(x, by), fallen)


def key_of(seed: int | Array, like: Array, backend: Backend, xp: Namespace) -> tuple[Array, Array]:
    """Return the two words of a seed, in the shape of `like`."""
    blank = xp.zeros_like(like)
    if isinstance(seed, int):
        low, high = seed % 2**32, seed // 2**32
        return blank + _signed(low), blank + _signed(high)
    return blank + xp.astype(backend.asarray(seed, like=like), xp.int32), blank


def _signed(word: int) -> int:
    return word - 2**32 if word >= 2**31 else word


def uniform(word: Array, more: Array | None, dtype: Any, xp: Namespace) -> Array:
    """Return numbers above 0 and below 1, small ones to full precision, from 32 or 53 bits."""
    high = xp.bitwise_and(xp.bitwise_right_shift(word, 8), 2**24 - 1)
    u = xp.astype(xp.bitwise_and(word, 2**8 - 1), dtype)
    if more is None:
        u = u + 0.5
    else:
        rest = xp.bitwise_and(xp.bitwise_right_shift(more, 11), 2**21 - 1)
        u = u + (xp.astype(rest, dtype) + 0.5) * 2**-21
    u = xp.astype(high, dtype) * 2**-24 + u * 2**-32
    # The largest ones may have been rounded to 1.
    return xp.where(u < 1, u, 1 - float(xp.finfo(dtype).eps) / 2)


def _gaussian(u: Array, v: Array, xp: Namespace) -> tuple[Array, Array]:
    """Return two Gaussian numbers, by Box and Muller."""
    radius, angle = xp.sqrt(-2 * xp.log(u)), 2 * math.pi * v
    return radius * xp.cos(angle), radius * xp.sin(angle)


def _gumbel(u: Array, xp: Namespace) -> Array:
    """Return Gumbel's numbers; the rare large ones come from small u, which are precise."""
    return -xp.log(-xp.log1p(-u))
