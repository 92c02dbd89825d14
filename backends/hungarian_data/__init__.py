"""Read folders of real images with annotated boxes, in the layouts of PASCAL VOC and COCO.

A package of its own, because it touches files, which the core never does. It needs NumPy alone,
and Pillow where pixels are decoded.
"""

from __future__ import annotations

from collections.abc import Sequence

from hungarian_data.dataset import DataError, Dataset, Example, Problem
from hungarian_data.images import pixels
from hungarian_data.reading import read
from hungarian_data.report import Report, Spread, check

__all__ = [
    "DataError",
    "Dataset",
    "Example",
    "Problem",
    "Report",
    "Spread",
    "check",
    "pixels",
    "read",
]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `hungarian-core data` and return the exit code."""
    from hungarian_data.command import run

    return run(argv)
