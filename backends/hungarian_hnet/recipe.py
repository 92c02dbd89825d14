"""What a run of training is made from: a recipe and a source of problems."""

from __future__ import annotations

import argparse
import dataclasses
import math
from typing import Any

SCHEDULES = ("cosine", "constant")
# Costs of `hungarian_core.loss`, and how far two directions can be apart in them.
DISTANCES = {
    "euclidean": 2.0,
    "sqeuclidean": 4.0,
    "l1": 2 * math.sqrt(3),
    "cosine": 2.0,
    "angular": math.pi,
}
MISSING = ("published", "masked", "mixed")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train which network. Times are in seconds, and None is no limit.

    None for `layers` is a number that is enough for the size of the problems.
    """

    width: int = 16
    layers: int | None = None
    batch_size: int = 256
    learning_rate: float = 1e-2
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: int = 200
    clip: float = 1.0
    epochs: int = 20
    max_time: float | None = None
    patience: int = 10
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Source:
    """Which problems to generate, as by `hungarian_core.hnet.data`, or which files hold them.

    None for `max_len` and `missing` is what the files say, or else 2 and ``"published"``.
    """

    max_len: int | None = None
    samples: int = 15_000
    distance: str = "euclidean"
    missing: str | None = None
    seed: int = 0
    data: str | None = None
    validation: str | None = None


def enough_layers(max_len: int) -> int:
    """Return how many layers a network needs for problems of a size."""
    return max(3, round(1.5 * max_len))


def pick(kind: type[Any], given: argparse.Namespace) -> Any:
    """Return the `Recipe` or `Source` that options on the command line describe."""
    values = {f.name: getattr(given, f.name) for f in dataclasses.fields(kind) if f.name in given}
    return kind(**values)
