"""What is read: examples with their boxes, and what is wrong in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Example(NamedTuple):
    """An image with its n objects.

    Attributes:
        path: The image.
        width: Its width in pixels, as it is stored; a turn by its Exif data is not made.
        height: Its height in pixels.
        boxes: Box of each object, cxcywh relative to the image, `[n, 4]` float32.
        labels: Class of each object, an index of `Dataset.classes`, `[n]` int64.
        crowd: True for objects that are difficult (PASCAL VOC) or a crowd (COCO), which
            evaluations leave out; `[n]` bool.
    """

    path: Path
    width: int
    height: int
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray


class Dataset(NamedTuple):
    """Classes and examples.

    Attributes:
        classes: The names of the classes: in PASCAL VOC all that the folder annotates, sorted,
            whatever the split; in COCO all categories by their ids.
        examples: An example per image, sorted by the names of the files.
    """

    classes: tuple[str, ...]
    examples: tuple[Example, ...]


class Problem(NamedTuple):
    """What is wrong, or worth knowing, and where.

    Attributes:
        path: The file.
        entry: The place in the file, or "" for all of it.
        what: What came, and what was expected.
    """

    path: Path
    entry: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}{self.entry and ', '}{self.entry}: {self.what}"


class DataError(ValueError):
    """A folder that is no data set, or data that cannot be used: says which, and what to do.

    Example:
        >>> import hungarian_data
        >>> hungarian_data.read("nowhere")
        Traceback (most recent call last):
        ...
        hungarian_data.dataset.DataError: nowhere is no folder and no .json file
    """
