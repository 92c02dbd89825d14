"""An independent detection loss, one scene and one pair at a time, in float64.

Gradients are differences by an imaginary step. What a loss holds constant is computed from real
parts, so that the step does not see it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp

from hungarian_core.testing.reference import Floats, overlap

STEP = 1e-30


@dataclass(frozen=True, eq=False)
class Example:
    """One call of `DetrLoss`: the sizes, what it is given, and its options."""

    name: str
    layers: int = 2
    queries: int = 6
    objects: int = 4
    classes: int = 3
    dtype: str = "float32"
    counts: tuple[int, ...] = (4, 1, 0)  # real objects per image
    weighted: bool = False
    ignoring: bool = False
    image_weights: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    essential: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def softmax(self) -> bool:
        """Whether the last class is "no object"."""
        return self.options.get("class_loss", "softmax") == "softmax"

    def data(self) -> dict[str, Floats]:
        """Return the arrays of the call by name, floats exact in the dtype, padding of NaN."""
        rng = np.random.default_rng([self.layers, self.queries, self.objects])
        images = len(self.counts)
        lead = (self.layers, images) if self.layers else (images,)
        mask = np.arange(self.objects) < np.array(self.counts)[:, None]
        logits = rng.normal(size=(*lead, self.queries, self.classes + self.softmax)) * 2 - 1
        arrays = {
            "logits": logits,
            "boxes": rng.uniform(0.2, 0.6, (*lead, self.queries, 4)),
            "labels": np.where(mask, rng.integers(0, self.classes, mask.shape), -5),
            "true_boxes": np.where(
                mask[..., None], rng.uniform(0.2, 0.6, (*mask.shape, 4)), np.nan
            ),
            "mask": mask,
        }
        if self.weighted:
            arrays["weights"] = np.where(mask, rng.integers(1, 5, mask.shape) / 2, np.nan)
        if self.ignoring:
            arrays["ignore"] = np.arange(self.objects) % 2 == np.array(self.counts)[:, None] % 2
            arrays["labels"][0, 2] = -1  # it is ignored, so it needs no class
        if self.image_weights:
            arrays["image_weights"] = np.arange(images) / 2 + 0.5
        return {
            name: x.astype(np.float32).astype(self.dtype) if x.dtype == np.float64 else x
            for name, x in arrays.items()
        }


class Expected(NamedTuple):
    """What the loss is to be."""

    total: Floats
    class_: Floats
    bbox: Floats
    giou: Floats
    cardinality_error: Floats
    class_error: Floats
    col4row: Floats
    grad_logits: Floats
    grad_boxes: Floats


def expected(example: Example, upstream: float = 1.0) -> Expected:
    """Return the losses of an example, and the gradients for an upstream gradient."""
    o = {
        "class_loss": "softmax", "class_weight": 1.0, "bbox_weight": 5.0, "giou_weight": 2.0,
        "class_cost": 1.0, "bbox_cost": 5.0, "giou_cost": 2.0, "no_object_weight": 0.1,
        "label_smoothing": 0.0, "alpha": 0.25, "gamma": 2.0, "cost_alpha": 0.25, "repeat": 1,
        "groups": 1, "class_cost_form": "softmax" if example.softmax else "focal",
        "class_weights": [1.0] * example.classes,
        **example.options,
    }  # fmt: skip
    o.setdefault("cost_gamma", o["gamma"])
    data = example.data()
    logits, boxes = (data[name].astype(np.float64) for name in ("logits", "boxes"))
    if not example.layers:
        logits, boxes = logits[None], boxes[None]
    layers, images, queries, _ = logits.shape
    k, groups = o["repeat"], o["groups"]
    mask, labels = np.tile(data["mask"], k), np.tile(data["labels"], k)
    truth = np.tile(data["true_boxes"].astype(np.float64), (1, k, 1))
    weights = np.tile(data.get("weights", np.ones(data["mask"].shape)), k)
    ignore = np.tile(data.get("ignore", np.zeros(data["mask"].shape, bool)), k) & mask
    of_image = data.get("image_weights", np.ones(images))
    count = max((mask & ~ignore).sum() * groups, 1)
    size = queries // groups

    col4row = np.full((layers, images, groups, mask.shape[1]), -1)
    grads = np.zeros_like(logits), np.zeros_like(boxes)
    terms, errors = np.zeros((layers, 3)), np.zeros((layers, 2))
    for layer in range(layers):
        scenes = []
        for b in range(images):
            for g in range(groups):
                at = slice(g * size, (g + 1) * size)
                x, box = logits[layer, b, at], boxes[layer, b, at]
                rows = np.flatnonzero(mask[b])
                cost = np.array([_costs(x, box, labels[b, i], truth[b, i], o) for i in rows])
                i, j = linear_sum_assignment(cost) if len(rows) else (rows, rows)
                col4row[layer, b, g, rows[i]] = j
                scenes.append((b, at, x, box, rows[i], j))
        denominator = count
        if example.softmax:
            denominator = sum(
                _label_weights(x, j, labels[b, i], ignore[b, i], o).sum()
                for b, _, x, _, i, j in scenes
            )
        right = pairs = 0
        for b, at, x, box, i, j in scenes:

            def loss(x: Any, box: Any, b: int = b, i: Any = i, j: Any = j) -> Any:
                parts = _scene(x, box, j, labels[b, i], truth[b, i], weights[b, i], ignore[b, i], o)
                scale = np.array([denominator, count, count])  # noqa: B023  (called in the loop)
                factor = np.array([o["class_weight"], o["bbox_weight"], o["giou_weight"]])
                return np.array(parts) * factor * of_image[b] / scale

            terms[layer] += loss(x, box).real
            for grad, which in zip(grads, (0, 1), strict=True):
                grad[layer, b, at] = upstream * _slopes(loss, (x, box), which)
            right += (x[j].argmax(-1) == labels[b, i]).sum()
            pairs += len(j)
        claimed = _claims(logits[layer], example.softmax).sum(1)
        errors[layer] = (
            np.abs(claimed - mask.sum(1) * groups).mean(),
            100 - 100 * right / max(pairs, 1),
        )
    if groups == 1:
        col4row = col4row[:, :, 0]
    if not example.layers:
        terms, errors, col4row = terms[0], errors[0], col4row[0]
        grads = grads[0][0], grads[1][0]
    each = [*np.moveaxis(terms, -1, 0), *np.moveaxis(errors, -1, 0)]
    return Expected._make([terms.sum(), *each, col4row, *grads])


def compare(found: Any, expected: Any, what: str, rtol: float = 2e-5) -> None:
    """Compare two arrays: NaN and infinity where the other has them, else close."""
    with np.errstate(all="ignore"):
        scale = np.abs(expected[np.isfinite(expected)]).max(initial=1e-3)
    np.testing.assert_allclose(
        found, expected, rtol=rtol, atol=2e-6 * min(scale, 100), err_msg=what
    )


def _claims(x: Floats, softmax: bool) -> Floats:
    return x.argmax(-1) != x.shape[-1] - 1 if softmax else x.max(-1) > 0


def _slopes(loss: Any, inputs: tuple[Floats, Floats], which: int) -> Floats:
    """Return the slopes of the summed loss by one of its inputs."""
    slopes = np.zeros_like(inputs[which])
    for at in np.ndindex(slopes.shape):
        moved = [x.astype(complex) for x in inputs]
        moved[which][at] += STEP * 1j
        slopes[at] = loss(*moved).sum().imag / STEP
    return slopes


def costs(example: Example) -> Floats:
    """Return the matching costs `[..., M, Q]` of an example without groups, NaN for padding."""
    data = example.data()
    o = {
        "class_cost": 1.0, "bbox_cost": 5.0, "giou_cost": 2.0, "cost_alpha": 0.25, "gamma": 2.0,
        "class_cost_form": "softmax" if example.softmax else "focal", **example.options,
    }  # fmt: skip
    o.setdefault("cost_gamma", o["gamma"])
    logits, boxes = (data[name].astype(np.float64) for name in ("logits", "boxes"))
    found = np.full((*logits.shape[:-2], example.objects, example.queries), np.nan)
    for at in np.ndindex(logits.shape[:-2]):
        b = at[-1]
        for i in np.flatnonzero(data["mask"][b]):
            truth = data["true_boxes"][b, i].astype(np.float64)
            found[(*at, i)] = _costs(logits[at], boxes[at], data["labels"][b, i], truth, o)
    return found


def _costs(x: Floats, boxes: Floats, label: int, truth: Floats, o: dict[str, Any]) -> Floats:
    """Return the costs of one object with every query."""
    kind, p = o["class_cost_form"], 1 / (1 + np.exp(-x))
    if kind == "softmax":
        classes = -np.exp(x - logsumexp(x, axis=-1, keepdims=True))
    elif kind == "nll" and o.get("class_loss", "softmax") == "softmax":
        classes = logsumexp(x, axis=-1, keepdims=True) - x
    elif kind == "nll":
        classes = -np.log(p)
    else:
        tiny = 1e-8 if kind == "focal_published" else 0
        a, gamma = o["cost_alpha"], o["cost_gamma"]
        positive = a * (1 - p) ** gamma * -np.log(p + tiny)
        classes = positive - (1 - a) * p**gamma * -np.log(1 - p + tiny)
    classes = classes[:, label] if label >= 0 else 0
    giou = np.array([overlap("giou", truth, box, "cxcywh") for box in boxes])
    distance = np.abs(boxes - truth).sum(-1)
    return o["class_cost"] * classes + o["bbox_cost"] * distance - o["giou_cost"] * giou


def _label_weights(x: Floats, j: Floats, labels: Floats, ignore: Floats, o: Any) -> Floats:
    weights = np.full(len(x), o["no_object_weight"], float)
    weights[j] = np.where(ignore, 0, np.array(o["class_weights"])[labels])
    return weights


def _scene(
    x: Any, boxes: Any, j: Any, labels: Any, truth: Any, weights: Any, ignore: Any, o: Any
) -> tuple[Any, Any, Any]:
    """Return the summed losses of classes, distances and overlaps of a scene."""
    quality = [
        np.real(overlap("iou", t, box, "cxcywh")) for t, box in zip(truth, boxes[j], strict=True)
    ]
    classes = 0
    for q in range(len(x)):
        (pair,) = np.flatnonzero(j == q) if q in j else (-1,)
        if pair >= 0 and ignore[pair]:
            continue
        label = labels[pair] if pair >= 0 else -1
        loss = _query(x[q], label, quality[pair] if pair >= 0 else 0.0, o)
        classes = classes + loss * (weights[pair] if pair >= 0 else 1)
    kept = np.where(ignore, 0, weights)
    differences = boxes[j] - truth
    distances = (differences * np.sign(differences.real)).sum(-1)
    overlaps = [
        1 - overlap("giou", t, box, "cxcywh") for t, box in zip(truth, boxes[j], strict=True)
    ]
    return classes, (kept * distances).sum(), (kept * np.array(overlaps)).sum()


def _query(x: Any, label: int, quality: float, o: dict[str, Any]) -> Any:
    """Return the loss of the classes of a query, label -1 for none."""
    alpha, gamma = o["alpha"], o["gamma"]
    if o["class_loss"] == "softmax":
        logs = x - (np.log(np.exp(x - x.real.max()).sum()) + x.real.max())
        weights = np.array([*o["class_weights"], o["no_object_weight"]])
        e = o["label_smoothing"]
        return -(1 - e) * weights[label] * logs[label] - e / len(x) * (weights * logs).sum()
    total = 0
    for c, weight in enumerate(o["class_weights"]):
        if c == label:
            loss = label_loss(o["class_loss"], x[c], quality, alpha, gamma)
        else:
            loss = other_loss(o["class_loss"], x[c], alpha, gamma)
        total = total + weight * loss
    return total


def label_loss(kind: str, x: Any, quality: Any, alpha: float, gamma: float) -> Any:
    """Return the sigmoid loss of the logit of the label."""
    # Accurate on both sides of 0, and with an imaginary step.
    p, wrong, right = 1 / (1 + np.exp(-x)), np.log1p(np.exp(-x)), np.log1p(np.exp(x))
    apart = quality - p
    of_quality = quality * wrong + (1 - quality) * right
    constant = np.maximum(p.real**alpha * quality ** (1 - alpha), 0.01)
    return {
        "focal": alpha * (1 / (1 + np.exp(x))) ** gamma * wrong,
        "varifocal": quality * of_quality,
        "varifocal_differentiated": quality * of_quality,
        "ia_bce": constant * wrong + (1 - constant) * right,
        "mal": quality**gamma * wrong + (1 - quality**gamma) * right,
        "qfl": (apart * np.sign(apart.real)) ** gamma * of_quality,
        "asl": wrong,
        "bce": wrong,
    }[kind]


def other_loss(kind: str, x: Any, alpha: float, gamma: float) -> Any:
    """Return the sigmoid loss of the logit of a class that is not the label's."""
    p, right = 1 / (1 + np.exp(-x)), np.log1p(np.exp(x))
    left = np.where(p.real > 0.05, p - 0.05, 0)
    return {
        "focal": (1 - alpha) * p**gamma * right,
        "varifocal": alpha * p.real**gamma * right,
        "varifocal_differentiated": alpha * p**gamma * right,
        "ia_bce": p**gamma * right,
        "mal": p.real**gamma * right,
        "qfl": p**gamma * right,
        "asl": left**4 * -np.log(1 - left),
        "bce": right,
    }[kind]
