"""What a folder holds and what is wrong in it, in one pass."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hungarian_data import coco, voc
from hungarian_data.dataset import Dataset, Problem
from hungarian_data.gathering import Gathering
from hungarian_data.reading import gather


class Spread(NamedTuple):
    """The least, the middle and the greatest of some numbers; NaN where there is none."""

    least: float
    median: float
    greatest: float


class Report(NamedTuple):
    """What `check` finds.

    Attributes:
        layout: "PASCAL VOC" or "COCO".
        images: How many images can be used.
        annotated: Objects of each class as they are annotated.
        objects: Objects of each class that `read` takes, with `on_error="skip"`.
        splits: Images of each split, by the name that `read` takes.
        objects_per_image: Least, median and greatest number.
        image_sizes: How many images have a width and height, the most frequent first.
        box_widths: Least, median and greatest, in pixels.
        box_heights: The same of heights.
        crowd: How many objects are difficult or a crowd.
        clipped: How many boxes leave their image by at most 2 pixels, and are clipped.
        problems: What cannot be used.
        notes: What is unusual and can be used.
    """

    layout: str
    images: int
    annotated: Mapping[str, int]
    objects: Mapping[str, int]
    splits: Mapping[str, int]
    objects_per_image: Spread
    image_sizes: Mapping[tuple[int, int], int]
    box_widths: Spread
    box_heights: Spread
    crowd: int
    clipped: int
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]


def check(folder: str | os.PathLike[str]) -> Report:
    """Look through all of a folder, and tell what it holds and everything that is wrong.

    Args:
        folder: As for `read`.

    Raises:
        DataError: The folder is no data set.

    Example:
        >>> import json, tempfile, hungarian_data
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (20, 10)).save(folder / "a.png")
        >>> about = {
        ...     "images": [{"id": 7, "file_name": "a.png", "width": 20, "height": 10}],
        ...     "categories": [{"id": 3, "name": "cell"}],
        ...     "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [5, 2, 0, 4]}],
        ... }
        >>> _ = (folder / "all.json").write_text(json.dumps(about))
        >>> report = hungarian_data.check(folder)
        >>> report.images, dict(report.annotated), dict(report.objects)
        (1, {'cell': 1}, {'cell': 0})
        >>> for problem in report.problems:
        ...     print(problem.entry, "|", problem.what)
        annotations[0], id 1 | bbox is [5, 2, 0, 4]: the box has no area
    """
    folder = Path(folder)
    gathering = Gathering(folder, raising=False)
    layout, dataset = gather(folder, None, gathering)
    if layout.name == voc.NAME:
        splits = voc.check_splits(layout.root, layout.annotations, gathering)
    else:
        counts = Counter(gathering.sources.values())
        files = layout.annotations
        splits = {coco.split_name(files, path): count for path, count in counts.items()}
    if not dataset.examples:
        gathering.problem(folder, "", "has no image that can be used")
    return _report(layout.name, dataset, splits, gathering)


def _report(
    layout: str, dataset: Dataset, splits: Mapping[str, int], gathering: Gathering
) -> Report:
    classes, examples = dataset
    counts = [len(x.labels) for x in examples]
    found = np.zeros(len(classes), np.int64)
    for x in examples:
        np.add.at(found, x.labels, 1)
    # Names need not be unique.
    objects = dict.fromkeys(classes, 0)
    for name, count in zip(classes, found.tolist(), strict=True):
        objects[name] += count
    sides = [x.boxes[:, 2:] * [x.width, x.height] for x in examples]
    # Relative boxes are float32, which has no more digits than these.
    widths, heights = np.round(np.concatenate([np.zeros((0, 2)), *sides]), 2).T
    return Report(
        layout,
        len(examples),
        {name: gathering.annotated[name] for name in objects},
        objects,
        splits,
        _spread(np.asarray(counts)),
        dict(Counter((x.width, x.height) for x in examples).most_common()),
        _spread(widths),
        _spread(heights),
        int(sum(x.crowd.sum() for x in examples)),
        gathering.clipped,
        tuple(gathering.problems),
        tuple(gathering.notes),
    )


def _spread(numbers: np.ndarray) -> Spread:
    if not numbers.size:
        return Spread(np.nan, np.nan, np.nan)
    return Spread(float(numbers.min()), float(np.median(numbers)), float(numbers.max()))
