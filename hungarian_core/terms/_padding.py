"""Where padded objects lie, counted on the host: a framework would launch a dozen operations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def places(counts: list[int], size: int) -> tuple[np.ndarray, np.ndarray, int | None]:
    """Return where the objects of B images, laid end to end, go in an array of `size` for each.

    Args:
        counts: How many objects each image has.
        size: M, the number of places of an image.

    Returns:
        Which places have an object, `(B, M)` bool; the object of each place, `(B, M)`, behind the
        last where there is none; and the number of an image that has objects, None if none has.
    """
    known, line = np.asarray(counts), np.arange(size)
    there, start = line < known[:, None], np.cumsum(known) - known
    full = int(known.argmax()) if known.any() else None
    return there, np.where(there, start[:, None] + line, known.sum()), full


def padded_on_host(
    arrays: Sequence[np.ndarray], shapes: Sequence[tuple[int, ...]], counts: list[int]
) -> tuple[np.ndarray, ...]:
    """Return which of M places have an object, `(B, M)` bool, and the fields of all images.

    Args:
        arrays: Those of the first field for each image, `(n, ...)`, then those of the next.
        shapes: What the fields are padded to, `(B, M, ...)`.
        counts: How many objects each image has.
    """
    images = len(counts)
    found = [np.arange(shapes[0][1]) < np.asarray(counts)[:, None]]
    for k, shape in enumerate(shapes):
        parts = arrays[k * images : (k + 1) * images]
        padded = np.zeros(shape, parts[0].dtype)
        for image, x in enumerate(parts):
            # What lies behind the axis of objects may differ in size: masks.
            place = (slice(len(x)),) if x.shape[1:] == shape[2:] else tuple(map(slice, x.shape))
            padded[(image, *place)] = x
        found.append(padded)
    return tuple(found)
