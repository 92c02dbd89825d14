"""How well the objects of held-out scenes are predicted."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import hungarian_core as hc
from hungarian_demo.scenes import Scenes


class Score(NamedTuple):
    """Means over the digits of all scenes, each matched to a prediction."""

    iou: float
    accuracy: float


def match(scenes: Scenes, predictions: NDArray[np.float32]) -> NDArray[np.int64]:
    """Match true boxes to predicted ones at least distance: `(count, MOST)`, -1 = no digit."""
    boxes: Any = (scenes.truths[..., :4], predictions[..., :4])
    _, assignment = hc.loss(*boxes, mask=scenes.mask, return_assignment=True)
    return assignment.col4row


def score(scenes: Scenes, predictions: NDArray[np.float32]) -> Score:
    """Compare the digits of scenes with their matches in `predictions` `(count, m, FEATURES)`."""
    col4row = match(scenes, predictions)
    at, digit = np.nonzero(col4row >= 0)
    truth, prediction = scenes.truths[at, digit], predictions[at, col4row[at, digit]]
    right = truth[:, 4:].argmax(axis=-1) == prediction[:, 4:].argmax(axis=-1)
    return Score(float(np.mean(iou(truth[:, :4], prediction[:, :4]))), float(np.mean(right)))


def iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the intersection over union of boxes `(..., 4)`, cxcywh."""
    low = np.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = np.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    return shared / (np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - shared)
