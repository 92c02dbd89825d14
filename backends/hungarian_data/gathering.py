"""What one pass over a folder gathers: examples, problems and notes."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hungarian_data.dataset import DataError, Example, Problem
from hungarian_data.images import image_size

# Annotators and converters round, and count pixels from 0 or from 1: a box that leaves the image
# by no more than this is cut at its edge.
MARGIN = 2.0
# What is cut off is counted beyond this, in pixels: files give coordinates with two decimals.
ROUNDING = 0.01

NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE)
FLAGS = {"1": True, "true": True, "0": False, "false": False, "none": False, "": False}


class Annotated(NamedTuple):
    """An object as a file has it.

    Attributes:
        entry: What messages call it.
        label: Index of its class.
        name: Name of its class.
        shown: Its coordinates as they were written.
        sides: Width and height by what was written, to tell corners that are reversed.
        edges: Left, top, right, bottom, in pixels from the left upper corner of the image.
        crowd: Whether it is difficult or a crowd.
    """

    entry: str
    label: int
    name: str
    shown: str
    sides: tuple[float, float]
    edges: tuple[float, float, float, float]
    crowd: bool


class Gathering:
    """Gathers what is found; where it is `raising`, it stops at the first problem."""

    def __init__(self, folder: Path, *, raising: bool) -> None:
        self.folder = folder
        self.raising = raising
        self.examples: list[Example] = []
        self.problems: list[Problem] = []
        self.notes: list[Problem] = []
        self.clipped = 0
        self.annotated: Counter[str] = Counter()
        self.sources: dict[Path, Path] = {}

    @property
    def advice(self) -> str:
        """The command that tells everything."""
        return f"`hungarian-core data check {shlex.quote(str(self.folder))}`"

    def problem(self, path: Path, entry: str, what: str) -> None:
        """Take down what cannot be used."""
        found = Problem(path, entry, what)
        if self.raising:
            raise DataError(
                f'{found}. read(..., on_error="skip") leaves out what is broken; '
                f"{self.advice} lists all problems"
            )
        self.problems.append(found)

    def note(self, path: Path, entry: str, what: str) -> None:
        """Take down what is unusual and can be used."""
        self.notes.append(Problem(path, entry, what))

    def add(
        self,
        source: Path,
        entry: str,
        image: Path,
        annotated_size: Sequence[Any],
        objects: Sequence[Annotated],
    ) -> None:
        """Make an example of an image and its objects, unless something is wrong with the image.

        Args:
            source: The file of the annotation.
            entry: Where it speaks of the image.
            image: The image.
            annotated_size: Width and height as annotated: numbers, text or None.
            objects: Its objects.
        """
        if image in self.sources:
            self.problem(source, entry, f"{image.name} is annotated in {self.sources[image]} too")
            return
        self.sources[image] = source
        try:
            size = image_size(image)
        except DataError as error:
            self.problem(image, "", str(error))
            return
        if not self._agrees(source, entry, annotated_size, size):
            return
        kept, boxes = [], []
        for x in objects:
            box, what = self._place(x.edges, x.sides, size)
            if what:
                self.problem(source, x.entry, f"{x.shown}: {what}")
            else:
                kept.append(x)
                boxes.append(box)
        twice = Counter((x.label, x.edges) for x in kept)
        for x in kept:
            if twice[x.label, x.edges] > 1:
                count = twice.pop((x.label, x.edges))
                self.note(source, x.entry, f"{x.shown}: {count} objects of {x.name} have this box")
        left, top, right, bottom = np.reshape(np.asarray(boxes, np.float64), (-1, 4)).T
        relative = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        self.examples.append(
            Example(
                image,
                *size,
                (np.stack(relative, axis=1) / [*size, *size]).astype(np.float32),
                np.asarray([x.label for x in kept], np.int64),
                np.asarray([x.crowd for x in kept], bool),
            )
        )

    def _agrees(
        self, source: Path, entry: str, annotated: Sequence[Any], size: tuple[int, int]
    ) -> bool:
        """Tell whether the annotated size of an image is its own or is not given."""
        shown = " x ".join("nothing" if x in (None, "") else f"{x}".strip() for x in annotated)
        numbers = [0.0 if x in (None, "") else number(x) for x in annotated]
        own = f"{size[0]} x {size[1]}"
        if np.isnan(numbers).any():
            self.problem(source, entry, f"the size is {shown}; expected numbers, {own}")
            return False
        if 0 in numbers:
            self.note(source, entry, f"the size is {shown}; that of the image is taken, {own}")
            return True
        if (*numbers,) == size:
            return True
        turned = " The image may be turned by its Exif data" * ((*numbers,) == size[::-1])
        self.problem(source, entry, f"the size is {shown}, but the image has {own}.{turned}")
        return False

    def _place(
        self,
        edges: tuple[float, float, float, float],
        sides: tuple[float, float],
        size: tuple[int, int],
    ) -> tuple[tuple[float, float, float, float], str]:
        """Return the edges of a box within the image, and what is wrong with it or ""."""
        if not np.isfinite(edges).all():
            return edges, "expected four finite numbers"
        if min(sides) < 0:
            return edges, "the corners are reversed; expected the left upper one first"
        (x0, y0, x1, y1), (width, height) = edges, size
        if x1 <= x0 or y1 <= y0:
            return edges, "the box has no area"
        outside = max(-x0, -y0, x1 - width, y1 - height)
        if outside > MARGIN:
            return edges, f"{outside:g} pixels are outside of the image, {width} x {height}"
        cut = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
        if cut[2] <= cut[0] or cut[3] <= cut[1]:
            return edges, f"the box is outside of the image, {width} x {height}"
        self.clipped += outside > ROUNDING
        return cut, ""


def number(value: object) -> float:
    """Return a number of JSON, or a number in text, as a float; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    if isinstance(value, str) and not NUMBER.fullmatch(value):
        return math.nan  # such as 1_0, which Python alone takes for a number
    try:
        return float(value)
    except OverflowError:
        return math.nan


def flag(value: object) -> bool | None:
    """Return whether an object is difficult or a crowd; False if nothing is said, None for junk."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return FLAGS.get(f"{value}".strip().casefold())
    return None
