"""Scenes of handwritten digits: real ones, of scikit-learn, at random places and sizes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.datasets import load_digits

SIDE = 36  # pixels of a scene's side
MOST = 5  # digits in a scene
CLASSES = 10
FEATURES = 4 + CLASSES  # a box as cxcywh in [0, 1], then a one-hot class
PADDING = -1.0  # fills the rows of truths beyond the number of digits
HEIGHTS = (9, 13)  # of a digit, in pixels
OVERLAP = 0.1  # of the smaller box, at most


class Scenes(NamedTuple):
    """Images and what is in them.

    Attributes:
        images: `(count, SIDE, SIDE, 1)` uint8.
        truths: `(count, MOST, FEATURES)` float32, rows in the order in which the digits were
            drawn, which has no meaning, and then rows of `PADDING`.
    """

    images: NDArray[np.uint8]
    truths: NDArray[np.float32]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Return which rows of `truths` are digits, `(count, MOST)`."""
        return np.any(self.truths != PADDING, axis=-1)


def make(training: int, held_out: int, seed: int) -> tuple[Scenes, Scenes]:
    """Compose scenes to train on, and held-out scenes of other handwritten digits."""
    digits = load_digits()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(digits.images))
    first, second = order[:1400], order[1400:]
    inks = [_crop(image / 16) for image in digits.images]  # scikit-learn counts ink from 0 to 16
    return (
        _compose([inks[i] for i in first], digits.target[first], training, rng),
        _compose([inks[i] for i in second], digits.target[second], held_out, rng),
    )


def _crop(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut an image down to its ink, so that a box is tight."""
    rows, columns = (np.flatnonzero(image.max(axis) > 0.2) for axis in (1, 0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _compose(
    inks: list[NDArray[np.float64]],
    labels: NDArray[np.int64],
    count: int,
    rng: np.random.Generator,
) -> Scenes:
    images = np.zeros((count, SIDE, SIDE, 1), np.uint8)
    truths = np.full((count, MOST, FEATURES), PADDING, np.float32)
    sized: dict[tuple[int, int], NDArray[np.uint8]] = {}
    for image, truth in zip(images[..., 0], truths, strict=True):
        boxes: list[tuple[int, int, int, int]] = []
        wanted = rng.integers(1, MOST + 1)
        while len(boxes) < wanted:
            which, height = int(rng.integers(len(inks))), int(rng.integers(*HEIGHTS, endpoint=True))
            if (which, height) not in sized:
                zoom = height / inks[which].shape[0]
                ink = ndimage.zoom(inks[which], zoom, order=1, mode="nearest", grid_mode=True)
                sized[which, height] = (255 * np.clip(ink, 0, 1)).astype(np.uint8)
            ink = sized[which, height]
            h, w = ink.shape
            x, y = int(rng.integers(SIDE - w + 1)), int(rng.integers(SIDE - h + 1))
            box = (x, y, x + w, y + h)
            if any(_shared(box, other) > OVERLAP for other in boxes):
                continue  # another digit, another place
            place = image[y : y + h, x : x + w]
            np.maximum(place, ink, out=place)
            row = truth[len(boxes)]
            row[:4] = np.array([x + w / 2, y + h / 2, w, h]) / SIDE
            row[4:] = np.arange(CLASSES) == labels[which]
            boxes.append(box)
    return Scenes(images, truths)


def _shared(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Return the part of the smaller of two boxes, xyxy, that lies in the other."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((q[2] - q[0]) * (q[3] - q[1]) for q in (a, b))
    return max(width, 0) * max(height, 0) / smaller
