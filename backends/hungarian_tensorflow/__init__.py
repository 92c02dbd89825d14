"""TensorFlow: the functions of `hungarian_core` with this backend, and its losses for Keras."""

from typing import Any

import hungarian_core as _core
from hungarian_core import Assignment, bind
from hungarian_tensorflow._backend import backend

assign = bind(_core.assign, backend)
count_invalid = bind(_core.count_invalid, backend)
linear_sum_assignment = bind(_core.linear_sum_assignment, backend)
loss = bind(_core.loss, backend)
compute_euclidean_distance = _core.compute_euclidean_distance


def __getattr__(name: str) -> Any:
    # Keras takes seconds to import, and tensors need none of it: only its losses ask for it.
    if name in ("HungarianLoss", "hungarian_loss"):
        import hungarian_keras

        return getattr(hungarian_keras, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Assignment",
    "HungarianLoss",
    "assign",
    "backend",
    "compute_euclidean_distance",
    "count_invalid",
    "hungarian_loss",
    "linear_sum_assignment",
    "loss",
]
