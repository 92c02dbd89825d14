"""Means over seeds with their intervals, and the table of losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit


class Mean(NamedTuple):
    """A mean and the half of its 95 % interval by Student's t, None of less than two values."""

    mean: float
    half: float | None

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.half is None else f" ± {self.half:.3f}")


def mean(values: Sequence[float]) -> Mean:
    """Return the mean of independent values with its interval."""
    count = len(values)
    if count < 2:
        return Mean(float(np.mean(values)), None)
    error = np.std(values, ddof=1) / np.sqrt(count)
    return Mean(float(np.mean(values)), float(stdtrit(count - 1, 0.975) * error))


def differences(found: Mapping[str, Sequence[float]], base: str) -> dict[str, Mean]:
    """Return by how much each loss is ahead of one, paired by seeds; {} if that one is missing."""
    if base not in found:
        return {}
    return {
        name: mean(np.subtract(values, found[base]).tolist())
        for name, values in found.items()
        if name != base
    }


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    text = [f"| {' | '.join(str(cell) for cell in line)} |" for line in lines]
    return "\n".join(text).replace(" --- ", "---") + "\n"
