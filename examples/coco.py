"""The evaluation of COCO on scenes of digits, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from typing import Any, NamedTuple

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hungarian_demo.scenes import CLASSES, SIDE, Scenes


class Precision(NamedTuple):
    """Average precisions: over IoU thresholds from 0.5 to 0.95, and at two of them."""

    ap: float
    ap50: float
    ap75: float


class Judge:
    """Says how good a detector is on held-out scenes."""

    def __init__(self, held_out: Scenes, images: torch.Tensor) -> None:
        self.images = images
        found = zip(*np.nonzero(held_out.mask), strict=True)
        truths = ((image, held_out.truths[image, k]) for image, k in found)
        self.truth = _dataset(
            len(images),
            [
                {**_annotation(image, truth[:4], int(truth[4:].argmax())), "iscrowd": 0}
                for image, truth in truths
            ],
        )

    @torch.no_grad()
    def __call__(self, model: torch.nn.Module) -> Precision:
        """Return the precision of a model; a query predicts its likeliest class, as in DETR."""
        logits, boxes = model.eval()(self.images)
        model.train()
        scores, labels = torch.softmax(logits, dim=-1)[..., :-1].max(dim=-1)
        predicted = [
            {**_annotation(b, boxes[b, q].numpy(), int(labels[b, q])), "score": float(scores[b, q])}
            for b, q in np.ndindex(tuple(scores.shape))
        ]
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
            result = COCOeval(self.truth, _dataset(len(boxes), predicted), "bbox")
            result.params.areaRng, result.params.areaRngLbl = [[0, 1e10]], ["all"]
            result.params.maxDets = [100]
            result.evaluate()
            result.accumulate()
        precision = result.eval["precision"][..., 0, 0]  # [thresholds, recalls, classes]
        precision = np.where(precision < 0, np.nan, precision)  # -1: a class that is not there
        return Precision(*(float(np.nanmean(precision[k])) for k in (slice(None), 0, 5)))


def _annotation(image: int, box: np.ndarray, label: int) -> dict[str, Any]:
    """Return a box, cxcywh relative to the image, as COCO writes it."""
    (x, y), (w, h) = SIDE * (box[:2] - box[2:] / 2), SIDE * box[2:]
    corner = [float(value) for value in (x, y, w, h)]
    return {"image_id": int(image), "category_id": label, "bbox": corner, "area": float(w * h)}


def _dataset(images: int, annotations: list[dict[str, Any]]) -> COCO:
    dataset = COCO()
    dataset.dataset = {
        "images": [{"id": k} for k in range(images)],
        "categories": [{"id": k} for k in range(CLASSES)],
        "annotations": [{"id": k + 1, **each} for k, each in enumerate(annotations)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        dataset.createIndex()
    return dataset
