"""Where padded objects lie, counted on the host: a framework would launch a dozen operations."""

from __future__ import annotations

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
