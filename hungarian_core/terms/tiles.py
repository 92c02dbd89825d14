"""Cut the pairs of queries and classes or objects into tiles that a processor's cache holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from hungarian_core._backend import Array, Namespace
from hungarian_core.terms.problems import MatchingProblems, Tile

# A temporary of this size stays in a processor's cache. In a program nothing is cut unless it is
# asked for: compilers fuse, each tile is more code, and a program may serve other sizes than these.
EAGER_BYTES = 2**20
# On an accelerator every operation is launched, so tiles only bound what memory is taken.
ACCELERATOR_BYTES = 2**28

WHOLE: Tile = (slice(None), slice(None))


def tiles(problems: MatchingProblems, widths: list[Any], limit: int | None) -> list[list[Tile]]:
    """Return pieces of `[N, Q]`, such that no array `[n, q, width]` is larger than the limit.

    Rows of tiles follow each other along N, the tiles of a row along Q.
    """
    size, queries = problems.size, problems.queries
    known = all(isinstance(extent, int) for extent in (size, queries, *widths))
    if not known or not widths or (limit is None and problems.traced):
        return [[WHOLE]]
    if limit is None:
        on_host = problems.backend.on_host(problems.mask)
        limit = EAGER_BYTES if on_host else ACCELERATOR_BYTES
    line = max(*widths, 1) * problems.xp.finfo(problems.dtype).bits // 8
    of_queries = list(_pieces(queries, max(limit // line, 1)))
    of_problems = _pieces(size, max(limit // (line * max(queries, 1)), 1))
    return [[(n, q) for q in of_queries] for n in of_problems]


def _pieces(extent: int, most: int) -> Iterator[slice]:
    """Cut a range into the fewest pieces of at most `most`, as equal as can be."""
    count = max(math.ceil(extent / most), 1)
    for k in range(count):
        yield slice(extent * k // count, extent * (k + 1) // count)


def joined(
    function: Callable[..., Any], rows: list[list[Any]], axes: tuple[int, ...], xp: Namespace
) -> tuple[Array, ...]:
    """Return the arrays that `function` gives for each tile, put together.

    Args:
        function: ``function(tile) -> arrays``.
        rows: The tiles, or whatever stands for them.
        axes: For each array, the axis of the queries; that of the problems is the first.
        xp: The namespace.
    """
    parts = [[function(tile) for tile in row] for row in rows]

    def together(k: int, axis: int) -> Array:
        lines = [_concat([x[k] for x in row], axis, xp) for row in parts]
        return _concat(lines, 0, xp)

    return tuple(together(k, axis) for k, axis in enumerate(axes))


def _concat(arrays: list[Array], axis: int, xp: Namespace) -> Array:
    return arrays[0] if len(arrays) == 1 else xp.concat(arrays, axis=axis)
