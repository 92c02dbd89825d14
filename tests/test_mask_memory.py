"""How much memory masks take: those of pairs, where there are many queries without an object."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

B, M, Q, SIZE = 2, 3, 300, 32


@pytest.mark.parametrize("several", [False, True], ids=["one query each", "several"])
def test_a_given_matching_compares_pairs_alone(several: bool) -> None:
    """Masks of all queries would take fourteen times what the predicted ones do."""
    rng = np.random.default_rng(0)
    masks = rng.normal(size=(B, Q, SIZE, SIZE)).astype(np.float32)
    targets = {"masks": rng.integers(0, 2, (B, M, SIZE, SIZE)).astype(np.float32)}
    at = np.full((B, Q), -1)
    at[:, 5 : 5 + M] = range(M)
    given: Any = at
    if several:
        at[0, 100 : 100 + M] = range(M)
    else:
        given = hc.SetLoss([hc.terms.Masks(mask_cost=1.0)]).match({"masks": masks}, targets)
    criterion = hc.SetLoss([hc.terms.Masks()])
    criterion({"masks": masks}, targets, assignment=given)  # what is made once
    tracemalloc.start()
    criterion({"masks": masks}, targets, assignment=given)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < masks.nbytes / 2
