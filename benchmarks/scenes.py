"""Batches of predictions and true objects for detection losses, all of them seeded.

Half of the draws are as at the start of training, half as in the midst of it: there many queries
follow some object, several the same one, and each decoder layer does so more closely.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

EMPTY = 3.0  # logit of "no object" over the others'
RARE = -4.6  # logit of a class at first, where each is told apart from the rest: 1 in 100
SURE = 4.0  # how far the logit of the object's class rises in the midst of training


class Batch(NamedTuple):
    """Predictions, and true objects padded to the most that an image may have."""

    logits: np.ndarray  # [layers, size, queries, classes], for softmax one class more
    boxes: np.ndarray  # [layers, size, queries, 4], cxcywh in [0, 1]
    labels: np.ndarray  # [size, most], int64
    true_boxes: np.ndarray  # [size, most, 4]
    mask: np.ndarray  # [size, most], True where there is an object

    @property
    def truth(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return labels, boxes and mask."""
        return self.labels, self.true_boxes, self.mask


class Scene(NamedTuple):
    """A published loss and the extents of what it gets."""

    loss: str  # DETR or Deformable DETR
    layers: int
    size: int
    queries: int
    classes: int
    most: int  # objects in an image
    draws: int
    faster: float  # than the published loss: the least that is to be reached
    memory: float | None = None  # over that of the published loss, at most

    @property
    def softmax(self) -> bool:
        """Return whether "no object" is a class of its own."""
        return self.loss == "DETR"

    @property
    def name(self) -> str:
        """Return, for example, ``DETR L6 B16 Q100 C91 T20``."""
        extents = f"L{self.layers} B{self.size} Q{self.queries} C{self.classes} T{self.most}"
        return f"{self.loss} {extents}"

    def batch(self, draw: int = 0) -> Batch:
        """Return the batch of a draw in float32, the same one each time."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), draw])
        mask = np.arange(self.most) < rng.integers(0, self.most + 1, (self.size, 1))
        labels = rng.integers(0, self.classes, mask.shape)
        extent = np.exp(rng.uniform(np.log(0.03), np.log(0.6), (*mask.shape, 2)))
        centre = extent / 2 + rng.random(extent.shape) * (1 - extent)
        true_boxes = np.concatenate([centre, extent], -1)

        shape = self.layers, self.size, self.queries
        logits = rng.standard_normal((*shape, self.classes + self.softmax))
        if self.softmax:
            logits[..., -1] += EMPTY
        else:
            logits += RARE
        loose = rng.standard_normal((*shape, 4))
        if draw % 2:
            self._follow(rng, logits, loose, labels, true_boxes, mask)
        boxes = 1 / (1 + np.exp(-loose))
        floats = (x.astype(np.float32) for x in (logits, boxes))
        return Batch(*floats, labels, true_boxes.astype(np.float32), mask)

    def _follow(
        self,
        rng: np.random.Generator,
        logits: np.ndarray,
        loose: np.ndarray,
        labels: np.ndarray,
        true_boxes: np.ndarray,
        mask: np.ndarray,
    ) -> None:
        """Let queries follow a random object of their image; without one, they stay."""
        followed = rng.integers(0, self.most, (self.size, self.queries))
        follows = np.take_along_axis(mask, followed, 1)
        label = np.take_along_axis(labels, followed, 1)
        box = np.take_along_axis(true_boxes, followed[..., None], 1)
        spread = 0.5 / np.arange(1, self.layers + 1)[:, None, None, None]
        near = np.log(box / (1 - box)) + spread * loose
        loose[...] = np.where(follows[..., None], near, loose)
        image, query = np.nonzero(follows)
        logits[:, image, query, label[image, query]] += SURE


SCENES = [
    Scene("DETR", 1, 2, 100, 91, 8, draws=4, faster=1),
    Scene("DETR", 6, 16, 100, 91, 20, draws=4, faster=6),
    Scene("Deformable DETR", 6, 16, 300, 80, 40, draws=4, faster=6),
    Scene("Deformable DETR", 1, 32, 300, 80, 100, draws=2, faster=60, memory=1 / 5),
]
