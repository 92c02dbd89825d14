"""The evaluation of COCO, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


class Precision(NamedTuple):
    """Average precisions: over IoU thresholds from 0.5 to 0.95, and at two of them."""

    ap: float
    ap50: float
    ap75: float


class Truth(NamedTuple):
    """The true objects of an image.

    Attributes:
        boxes: `[n, 4]`, cxcywh relative to the image.
        labels: `[n]`.
        crowd: `[n]` bool, objects that are neither asked for nor counted as wrong.
    """

    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray


def softmax(logits: torch.Tensor) -> torch.Tensor:
    """Return the probabilities of the classes without the last one, "no object"."""
    return torch.softmax(logits, dim=-1)[..., :-1]


@torch.no_grad()
def evaluated(model: torch.nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits and boxes of a model in its mode of evaluation, from which it returns."""
    logits, boxes = model.eval()(images)
    model.train()
    return logits, boxes


class Judge:
    """Says how good a detector is on held-out images.

    Args:
        images: `[B, channels, height, width]`, as the detector takes them.
        truths: The true objects of each image.
        classes: The number of classes.
        scores: Makes scores of classes of logits.
        size: Width and height of all images, in the unit that their objects shall be measured in.
    """

    def __init__(
        self,
        images: torch.Tensor,
        truths: Sequence[Truth],
        classes: int,
        *,
        scores: Callable[[torch.Tensor], torch.Tensor] = softmax,
        size: tuple[int, int],
    ) -> None:
        self.images, self.classes, self.scores = images, classes, scores
        self.size = np.array(size, np.float32)
        found = [
            {**self._annotation(image, box, int(label)), "iscrowd": int(crowd)}
            for image, truth in enumerate(truths)
            for box, label, crowd in zip(*truth, strict=True)
        ]
        self.truth = self._dataset(found)

    def __call__(
        self, detect: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    ) -> Precision:
        """Return the precision of what makes logits and boxes of images.

        A query predicts its likeliest class, as in DETR.
        """
        logits, boxes = detect(self.images)
        scores, labels = self.scores(logits).max(dim=-1)
        predicted = [
            {**self._annotation(b, box, int(labels[b, q])), "score": float(scores[b, q])}
            for b, of_image in enumerate(boxes.numpy())
            for q, box in enumerate(of_image)
        ]
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
            result = COCOeval(self.truth, self._dataset(predicted), "bbox")
            result.params.areaRng, result.params.areaRngLbl = [[0, 1e10]], ["all"]
            result.params.maxDets = [100]
            result.evaluate()
            result.accumulate()
        precision = result.eval["precision"][..., 0, 0]  # [thresholds, recalls, classes]
        precision = np.where(precision < 0, np.nan, precision)  # -1: a class that is not there
        return Precision(*(float(np.nanmean(precision[k])) for k in (slice(None), 0, 5)))

    def _annotation(self, image: int, box: np.ndarray, label: int) -> dict[str, Any]:
        """Return a box as COCO writes it."""
        (x, y), (w, h) = self.size * (box[:2] - box[2:] / 2), self.size * box[2:]
        corner = [float(value) for value in (x, y, w, h)]
        return {"image_id": int(image), "category_id": label, "bbox": corner, "area": float(w * h)}

    def _dataset(self, annotations: list[dict[str, Any]]) -> COCO:
        dataset = COCO()
        dataset.dataset = {
            "images": [{"id": k} for k in range(len(self.images))],
            "categories": [{"id": k} for k in range(self.classes)],
            "annotations": [{"id": k + 1, **each} for k, each in enumerate(annotations)],
        }
        with contextlib.redirect_stdout(io.StringIO()):
            dataset.createIndex()
        return dataset
