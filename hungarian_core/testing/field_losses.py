"""What a field's pairs and queries are to lose and to cost, one after the other, in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from hungarian_core.testing import (
    test_assigners,
    test_detection_masks,
    test_edges,
    test_poses,
    test_tokens,
)
from hungarian_core.testing.detection import label_loss, other_loss
from hungarian_core.testing.fields import IMAGES, MASK, Arrays, Expected, composed, image, matched
from hungarian_core.testing.reference import overlap
from hungarian_core.testing.test_unions import votes

CLASSES = 3


def boxes_apart(a: Any, b: Any) -> Any:
    """Return the L1 distance and the GIoU with DETR's weights."""
    apart = a - b
    distance = (apart * np.sign(apart.real)).sum()
    return 5 * distance + 2 * (1 - overlap("giou", a, b, "cxcywh"))


def pair_of_boxes(query: Any, truth: Any) -> Any:
    """Return the same of a query and an object."""
    return boxes_apart(query["boxes"], truth["boxes"])


def cost_of_boxes(query: Any, truth: Any) -> Any:
    """Return what matching has of it: less the GIoU."""
    return pair_of_boxes(query, truth) - 2


def sigmoid_loss(kind: str, weight: float = 1.0, alpha: float = 0.25, gamma: float = 2.0) -> Any:
    """Return what a query loses by its classes, and that objects are counted."""

    def alone(query: Any, truth: Any) -> tuple[Any, float]:
        label, quality, total = -1, 0.0, 0.0
        if truth is not None:
            label = int(truth["labels"])
        if truth is not None and kind != "focal":
            quality = np.real(overlap("iou", query["boxes"], truth["boxes"], "cxcywh"))
        for c, x in enumerate(query["logits"]):
            own = label_loss(kind, x, quality, alpha, gamma)
            total = total + (own if c == label else other_loss(kind, x, alpha, gamma))
        return weight * total, float(truth is not None)

    return alone


def focal_cost(query: Any, truth: Any) -> Any:
    """Return what a query's probability of a class costs."""
    x = query["logits"][int(truth["labels"])]
    return label_loss("focal", x, 0.0, 0.25, 2.0) - other_loss("focal", x, 0.25, 2.0)


def logs(x: Any) -> Any:
    """Return the logarithms of a softmax."""
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def softmax_loss(query: Any, truth: Any) -> tuple[Any, float]:
    """Return the cross entropy of a query, "no object" weighed 0.1, and its weight."""
    label, weight = (-1, 0.1) if truth is None else (int(truth["labels"]), 1.0)
    return -weight * logs(query["logits"])[label], weight


def softmax_cost(query: Any, truth: Any) -> Any:
    """Return less the probability of the class."""
    return -np.exp(logs(query["logits"])[int(truth["labels"])])


def beside_classes(
    losses: Any, weights: dict[str, float], price: Any = None,
    costs: dict[str, float] | None = None, constant: float = 0.0,
) -> Any:  # fmt: skip
    """Return what focal classes of the weight 2 are to say beside losses of pairs by name.

    `price` and `costs` are losses and weights of matching, where they are others, and `constant` is
    what it leaves out of them.
    """

    def pair(query: Any, truth: Any) -> Any:
        found = losses(query, truth)
        return sum(weight * found[name] for name, weight in weights.items())

    def cost(query: Any, truth: Any) -> Any:
        found = (price or losses)(query, truth)
        of_pair = sum(weight * found[name] for name, weight in (costs or weights).items())
        return of_pair + 2 * focal_cost(query, truth) - constant

    return composed(pair, cost, sigmoid_loss("focal", 2.0))


def mask_losses(query: Any, truth: Any) -> Any:
    """Return the losses of MaskFormer."""
    focal, dice = test_detection_masks.mask_pair_losses("focal", truth["masks"], query["masks"])
    return 20 * focal + dice


def person(query: Any, truth: Any) -> dict[str, Any]:
    """Return the losses of a person's keypoints, and of the box around."""
    found = test_poses.pair_losses()(query, truth)
    return {**found, "boxes": pair_of_boxes(query, truth)}


def interaction(query: Any, truth: Any) -> dict[str, Any]:
    """Return the losses of two boxes and of what is done."""
    apart = [boxes_apart(query[name], truth[name]) for name in ("thing_boxes", "person_boxes")]
    x, y = query["verbs"], truth["verbs"]
    return {"boxes": sum(apart), "verbs": (np.log(1 + np.exp(x)) - y * x).mean()}


def moment(query: Any, truth: Any) -> tuple[Any, float]:
    """Return the cross entropy of a moment or of none; all queries are counted."""
    found = 0.1 * logs(query["logits"])[1] if truth is None else logs(query["logits"])[0]
    return -4 * found, 1.0


def saliency(outputs: Arrays, targets: Arrays, rows: np.ndarray) -> Any:
    """Return twice the mean of what salient clips lack."""
    far = [
        0.2 + outputs["saliency"][b, n] - outputs["saliency"][b, p]
        for b in range(IMAGES)
        for p, n in zip(targets["saliency_pos"][b], targets["saliency_neg"][b], strict=True)
    ]
    return 2 * sum(x for x in far if x.real > 0) / len(far)


def moments(spans: Any) -> Any:
    """Return what moments of the losses of spans are to say, and the saliency of clips."""

    def apart(query: Any, truth: Any, weight: float) -> Any:
        found = spans(query, truth)
        return weight * found["span"] + found["giou"]

    def price(query: Any, truth: Any) -> Any:
        return apart(query, truth, 10.0) - 4 * np.exp(logs(query["logits"])[0])

    return composed(lambda q, t: apart(q, t, 5.0), price, moment, saliency, CLIPS)


CLIPS = dict.fromkeys(("saliency", "saliency_pos", "saliency_neg"))
SOFTMAX: dict[str, Any] = {"loss": "softmax", "no_object_weight": 0.1}
FOCAL: dict[str, Any] = {
    "loss": "focal", "cost": "focal", "alpha": 0.25, "gamma": 2.0, "cost_alpha": 0.25,
    "cost_gamma": 2.0,
}  # fmt: skip


def phrases(options: dict[str, Any], weight: float, cost_weight: float, aligned: bool) -> Any:
    """Return what tokens and boxes are to say, and the alignment of queries and tokens."""
    axes = {"token_mask": None}

    def read(query: Any, truth: Any) -> tuple[Any, ...]:
        there = query["token_mask"] > 0
        if options["loss"] == "softmax":
            there = there | (np.arange(test_tokens.TOKENS) == test_tokens.TOKENS - 1)
        names = there * (0 if truth is None else truth["token_maps"])
        return query["logits"], there, names / (names.sum() or 1), names > 0, options

    def price(query: Any, truth: Any) -> Any:
        tokens = test_tokens.token_cost(*read(query, truth))
        return cost_weight * tokens + cost_of_boxes(query, truth)

    def alone(query: Any, truth: Any) -> tuple[Any, float]:
        return weight * test_tokens.token_loss(*read(query, truth)), float(truth is not None)

    def more(outputs: Arrays, targets: Arrays, rows: np.ndarray) -> Any:
        total: Any = 0.0
        for b in range(IMAGES):
            there, found = outputs["token_mask"][b] > 0, rows[b] >= 0
            named = (targets["token_maps"][b, rows[b]] > 0) & there & found[:, None]
            x = outputs["similarities"][b] / 0.07
            total = total + test_tokens.alignment(x, named, there).sum()
        return total / MASK.sum()

    return composed(pair_of_boxes, price, alone, more if aligned else None, axes)


# ------------------------------------------------ refined edges, and more than one query

LAYERS, DECODERS, BINS = 3, 2, test_edges.BINS


def refined(kind: str, alpha: float, gamma: float) -> Any:
    """Return what boxes, edges and classes are to say, of each layer and of all together."""
    classes = sigmoid_loss(kind, 1.0, alpha, gamma)

    def price(query: Any, truth: Any) -> Any:
        return 2 * focal_cost(query, truth) + cost_of_boxes(query, truth)

    def layer_of(outputs: Arrays, k: int) -> Arrays:
        return {name: outputs[name][k] for name in ("logits", "boxes")}

    def expected(outputs: Arrays, targets: Arrays) -> Expected:
        truths = [image(targets, b, {}) for b in range(IMAGES)]
        found = [
            [
                matched(price, image(layer_of(outputs, k), b, {}), truths[b], MASK[b])
                for b in range(IMAGES)
            ]
            for k in range(LAYERS)
        ]
        rows = np.array([[x for x, _ in layer] for layer in found])
        costs = np.array([[x for _, x in layer] for layer in found])
        union = votes(rows)
        assert (union >= 0).sum() > MASK.sum()  # it is another matching than any layer's

        def total(outputs: Arrays) -> Any:
            found: Any = 0.0
            for k, b, q in np.ndindex(*rows.shape):
                query = image(layer_of(outputs, k), b, {})[q]
                own = truths[b][rows[k, b, q]] if rows[k, b, q] >= 0 else None
                found = found + classes(query, own)[0] / MASK.sum()
                shared = truths[b][union[b, q]] if union[b, q] >= 0 else None
                if shared is not None:
                    pair = pair_of_boxes(query, shared)
                    found = found + pair / (union >= 0).sum()
                if k >= LAYERS - DECODERS:
                    at = k - LAYERS + DECODERS, b, q
                    found = found + edges(outputs, at, query["boxes"], shared, union)
            return found

        return Expected(rows, total, costs)

    return expected


def edges(outputs: Arrays, at: tuple[int, int, int], box: Any, truth: Any, union: Any) -> Any:
    """Return what the distributions of a query's edges lose."""
    _, b, q = at
    x, teacher = outputs["edges"][at], np.real(outputs["edges"][-1, b, q])
    sizes = np.array([(union >= 0).sum(), (union < 0).sum()])
    share = np.sqrt(sizes)[int(truth is None)] / np.sqrt(sizes).sum() / sizes[int(truth is None)]
    certain = 1 / (1 + np.exp(-np.real(outputs["logits"][-1, b, q]).max()))
    found: Any = 0.0
    if truth is not None:
        certain = np.real(overlap("iou", box, truth["boxes"], "cxcywh"))
        apart = test_edges.fgl(x, box, truth["boxes"], outputs["references"][b, q])
        found = 0.15 * apart / sizes[0]
    return found + 1.5 * share * certain * test_edges.ddf(x, teacher)


# A map with two queries at each place, which the second image has the other way round.
SIDE, STRIDE, DISTANCES, HEADS = 5, 6.0, 6, ("one_to_many", "one_to_one")
Y, X = np.divmod(np.arange(SIDE**2).repeat(2), SIDE)
STRIDES = np.full(SIDE**2 * 2, STRIDE, np.float32)
POINTS = ((np.stack([X, Y], axis=-1) + 0.5) * STRIDE).astype(np.float32)


def decoded(distances: Any, point: Any) -> Any:
    """Return the box in cxcywh of the logits of its edges' distances."""
    apart = (np.exp(logs(distances)) * np.arange(DISTANCES)).sum(-1) * STRIDE
    low, high = point - apart[:2], point + apart[2:]
    return np.concatenate([(low + high) / 2, high - low])


def dense(outputs: Arrays, targets: Arrays) -> Expected:
    """Return what both heads of YOLOv10 are to say, of the queries that they take."""
    found: Any = []
    for head, top_k in zip(HEADS, (10, 1), strict=True):
        for b in range(IMAGES):
            there = np.flatnonzero(MASK[b])
            given = {
                "points": POINTS.astype(float), "logits": outputs[f"{head} logits"][b],
                "boxes": np.array([*map(decoded, outputs[f"{head} edges"][b], POINTS)]),
            }  # fmt: skip
            truth = targets["labels"][b, there], targets["boxes"][b, there].astype(float)
            found.append(test_assigners.task_aligned(given, *truth, top_k))
    rows, scores = (np.array(x).reshape(2, IMAGES, -1) for x in zip(*found, strict=True))

    def total(outputs: Arrays) -> Any:
        found: Any = 0.0
        for k, b, q in np.ndindex(*rows.shape):
            x, y = (outputs[f"{HEADS[k]} {name}"][b, q] for name in ("logits", "edges"))
            m, score = rows[k, b, q], scores[k, b, q]
            wanted = score * (np.arange(CLASSES) == targets["labels"][b, m]) * (m >= 0)
            loss = 0.5 * (np.log(1 + np.exp(x)) - wanted * x).sum()
            if m >= 0:
                box = targets["boxes"][b, m].astype(float)
                near = overlap("ciou", decoded(y, POINTS[q]), box, "cxcywh")
                low, high = box[:2] - box[2:] / 2, box[:2] + box[2:] / 2
                apart = np.concatenate([POINTS[q] - low, high - POINTS[q]]) / STRIDE
                apart = np.clip(apart, 0, DISTANCES - 1.01)
                each, left = logs(y), apart.astype(int)
                share, at = apart - left, np.arange(4)
                focal = -((1 - share) * each[at, left] + share * each[at, left + 1]).mean()
                loss = loss + score * (7.5 * (1 - near) + 1.5 * focal)
            found = found + loss / max(scores[k].sum(), 1)
        return found

    return Expected(rows, total)


def of_heads(criterion: Any, outputs: Any, targets: Any) -> Any:
    """Return the total of two heads and their assignments, which cost nothing."""
    heads = {h: {name: outputs[f"{h} {name}"] for name in ("logits", "edges")} for h in HEADS}
    out = criterion({**outputs, **heads}, targets)
    return out.total, [getattr(out, head).row4col for head in HEADS], []
