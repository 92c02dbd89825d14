"""The row of Keras in the README's table "What runs where": it solves as its backend does.

`tests/test_keras.py` runs this file once per backend.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import hungarian_core as hc
from hungarian_keras import HungarianLoss, compute_euclidean_distance


@pytest.mark.parametrize("solver", ["auto", "core", "native", "scipy"])
def test_the_backend_is_asked_with_its_own_arrays(
    solver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows of the table are ways of one call, of the hook `solve`; it comes unchanged here."""
    name = keras.backend.backend()
    own = type(hc.get_backend(name))
    asked: list[tuple[str, type, bool]] = []
    solve = own.solve

    def hook(self: Any, problem: hc.Problem, *, solver: str) -> Any:
        asked.append((solver, type(self), keras.ops.is_tensor(problem.cost)))
        return solve(self, problem, solver=solver)

    monkeypatch.setattr(own, "solve", hook)
    loss = HungarianLoss(
        slices=[4],
        slice_index_to_compute_assignment=0,
        compute_cost_matrix_fn=compute_euclidean_distance,
        slice_losses_fn=[keras.losses.mean_squared_error],
        slice_weights=[1.0],
        solver=solver,
    )
    y_true, y_pred = np.random.default_rng(0).random((2, 2, 3, 4)).astype(np.float32)
    assert float(loss(y_true, y_pred)) > 0
    assert asked == [(solver, own, True)]
