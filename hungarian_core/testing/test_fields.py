"""A criterion of each field of the documentation's table, beside loops in float64.

The project's own tests see that these are the rows of the table, with their terms and criteria.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core import criteria, terms
from hungarian_core.testing import (
    field_losses,
    fields,
    test_permutation,
    test_polylines,
    test_poses,
    test_rotated,
    test_solid,
    test_spans,
    test_tokens,
)
from hungarian_core.testing.driver import Driver
from hungarian_core.testing.field_losses import CLASSES
from hungarian_core.testing.fields import Arrays, Field, composed


def drawn(*parts: Any, **makers: Callable[..., np.ndarray]) -> Any:
    """Return a function that draws arrays of n queries or objects."""

    def make(rng: np.random.Generator, n: int) -> Arrays:
        found: dict[str, np.ndarray] = {}
        for part in parts:
            found |= part(rng, (n,))
        return found | {name: draw(rng, n) for name, draw in makers.items()}

    return make


def normal(*tail: int) -> Any:
    """Return a function that draws numbers around 0."""
    return lambda rng, n: rng.normal(size=(n, *tail))


def uniform(*tail: int, low: float = 0.3, high: float = 0.6) -> Any:
    """Return a function that draws numbers between two, such as boxes that overlap."""
    return lambda rng, n: rng.uniform(low, high, (n, *tail))


def whole(*tail: int, high: int) -> Any:
    """Return a function that draws whole numbers less than one."""
    return lambda rng, n: rng.integers(0, high, (n, *tail))


def layered(draw: Any, count: int = field_losses.LAYERS) -> Any:
    """Return a function that draws an array for each layer."""
    return lambda rng, n: np.stack([draw(rng, n) for _ in range(count)])


def of_image(draw: Any, count: int) -> Any:
    """Return a function that draws an array of an image, whatever its queries are."""
    return lambda rng, n: draw(rng, count)


def lines(rng: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    """Return lines, every other of them closed."""
    points, closed = rng.uniform(0, 1, (*shape, 5, 2)), np.arange(*shape) % 2 == 0
    points[closed, -1] = points[closed, 0]
    return {"points": points, "closed": closed}


def people(rng: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    """Return people with a label of one keypoint at least, and their boxes."""
    return {name: x[0] for name, x in test_poses.random_people(rng, (2, *shape)).items()}


LABELS, BOXES, LOGITS = whole(high=CLASSES), uniform(4), normal(CLASSES)
LOSSES = {"bbox": 5.0, "angle": 5.0, "kld": 2.0}


def phrases(
    name: str, make: Any, options: dict[str, Any], weights: tuple[float, float], *more: str
) -> Field:
    """Return a field of phrases, whose texts have four tokens or more."""
    tokens = test_tokens.TOKENS
    return Field(
        "phrases", name, make,
        drawn(
            logits=normal(tokens), boxes=BOXES,
            token_mask=lambda rng, n: np.arange(tokens) < rng.integers(4, tokens),
            **dict.fromkeys(more, uniform(tokens, low=-0.5)),
        ),
        drawn(
            token_maps=lambda rng, n: (rng.integers(0, 3, (n, tokens)) + np.eye(tokens)[1]) / 2,
            boxes=BOXES,
        ),
        field_losses.phrases(options, *weights, aligned=bool(more)),
        axes={"token_mask": None}, constants=("token_mask",), essential=bool(more),
    )  # fmt: skip


def refined(name: str, make: Any, *loss: Any) -> Field:
    """Return a field of boxes whose edges are refined."""
    return Field(
        "detection, refined edges", name, make,
        drawn(
            logits=layered(LOGITS), boxes=layered(BOXES), references=BOXES,
            edges=layered(normal(4, field_losses.BINS + 1), field_losses.DECODERS),
        ),
        drawn(labels=LABELS, boxes=BOXES), field_losses.refined(*loss),
        axes={"logits": 1, "boxes": 1, "edges": 1}, constants=("references",),
        essential=name == "d_fine",
    )  # fmt: skip


def of_detection(criterion: Any, outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
    """Return what `of_set` does, of a loss whose outputs are arguments."""
    out = criterion(outputs["logits"], outputs.get("boxes"), targets, masks=outputs.get("masks"))
    return out.total, [out.assignment.row4col], [out.assignment.cost]


def of_signals(criterion: Any, outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
    """Return the loss and the matching of estimates of signals."""
    value, match = criterion(outputs["estimates"], targets["references"], mask=targets["mask"])
    return value, [match.row4col], [match.cost]


def of_clouds(criterion: Any, outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
    """Return the distance and the matching of clouds of points."""
    value, match = criterion(targets["points"], outputs["points"], mask=targets["mask"])
    return value, [match.row4col], [match.cost]


def cross_entropy(xp: Any, truth: Any, logits: Any) -> Any:
    """Return the mean binary cross entropy of verbs."""
    return xp.mean(xp.log1p(xp.exp(logits)) - truth * logits, axis=-1)


class Points(terms.Comparison):
    """The squared distance of points."""

    def __init__(self) -> None:
        self.outputs = self.fields = {"points": (3,)}
        self.weights = self.cost_weights = {"points": 1.0}

    def compare(self, predictions: Any, truths: Any, names: Any, backend: Any) -> dict[str, Any]:
        """Return the distances of pairs."""
        apart = predictions["points"] - truths["points"]
        return {"points": backend.namespace(apart).sum(apart * apart, axis=-1)}


def squares(query: Any, truth: Any) -> Any:
    """Return the squared distance of two points."""
    return ((query["points"] - truth["points"]) ** 2).sum()


def classes(**options: Any) -> terms.Classes:
    """Return focal classes of the weight 2."""
    return terms.Classes(CLASSES, loss="focal", weight=2.0, **options)


FIELDS = (
    Field(
        "detection", "preset", lambda x: hc.DetrLoss.preset("detr", CLASSES, backend=x),
        drawn(logits=normal(CLASSES + 1), boxes=BOXES), drawn(labels=LABELS, boxes=BOXES),
        composed(
            field_losses.pair_of_boxes,
            lambda q, t: field_losses.softmax_cost(q, t) + field_losses.cost_of_boxes(q, t),
            field_losses.softmax_loss,
        ),
        of_detection, elsewhere=True,
    ),
    refined(
        "d_fine",
        lambda x: criteria.d_fine(CLASSES, bins=field_losses.BINS, backend=x),
        "varifocal", 0.75, 2.0,
    ),
    refined(
        "deimv2",
        lambda x: criteria.deimv2(CLASSES, bins=field_losses.BINS, backend=x),
        "mal", 0.25, 1.5,
    ),
    Field(
        "dense detection", "yolo_dual",
        lambda x: criteria.yolo_dual(CLASSES, bins=field_losses.DISTANCES, backend=x),
        drawn(
            **{f"{head} logits": LOGITS for head in field_losses.HEADS},
            **{f"{head} edges": normal(4, field_losses.DISTANCES) for head in field_losses.HEADS},
        ),
        drawn(
            labels=LABELS,
            boxes=lambda rng, n: rng.uniform([9, 9, 18, 18], [21, 21, 36, 36], (n, 4)),
        ),
        field_losses.dense, field_losses.of_heads,
        shared={"points": field_losses.POINTS, "strides": field_losses.STRIDES},
        constants=("points", "strides"),
        order=tuple(k ^ 1 for k in range(len(field_losses.POINTS))),
        essential=False,  # the module of this criterion has the program
    ),
    Field(
        "oriented boxes, text", "obb", lambda x: criteria.obb(CLASSES, backend=x),
        drawn(test_rotated.random_boxes, logits=LOGITS),
        drawn(test_rotated.random_boxes, labels=LABELS),
        field_losses.beside_classes(test_rotated.pair_losses("kld", None, 1.0), LOSSES),
    ),
    Field(
        "3-D detection", "detr3d", lambda x: criteria.detr3d(CLASSES, backend=x),
        drawn(test_solid.random_codes, logits=LOGITS),
        drawn(test_solid.random_boxes, labels=LABELS),
        field_losses.beside_classes(
            test_solid.pair_losses(None, test_solid.PUBLISHED), {"bbox": 0.25},
            test_solid.pair_losses(None, test_solid.MATCHED),
        ),
    ),
    Field(
        "maps and lanes", "map_tr", lambda x: criteria.map_tr(CLASSES, backend=x),
        drawn(points=uniform(5, 2, low=0, high=1), logits=LOGITS), drawn(lines, labels=LABELS),
        field_losses.beside_classes(
            test_polylines.pair_losses("field", scale=np.array([30.0, 60.0]), repeated=True),
            {"points": 5.0, "direction": 0.005}, costs={"points": 5.0},
        ),
    ),
    Field(
        "pose", "",
        lambda x: hc.SetLoss(
            [classes(), terms.Boxes(), terms.Poses(sigmas=test_poses.SIGMAS, area=None)], backend=x
        ),
        drawn(keypoints=uniform(4, 2, low=0, high=1), boxes=BOXES, logits=LOGITS),
        drawn(people, labels=LABELS),
        field_losses.beside_classes(
            field_losses.person, {"keypoint": 10.0, "oks": 4.0, "boxes": 1.0},
            constant=2.0,
        ),
    ),
    Field(
        "masks", "preset", lambda x: hc.DetrLoss.preset("maskformer", CLASSES, backend=x),
        drawn(logits=normal(CLASSES + 1), masks=normal(3, 4)),
        drawn(labels=LABELS, masks=lambda rng, n: rng.integers(0, 2, (n, 3, 4)).astype(float)),
        composed(
            field_losses.mask_losses,
            lambda q, t: field_losses.softmax_cost(q, t) + field_losses.mask_losses(q, t),
            field_losses.softmax_loss,
        ),
        of_detection,
    ),
    Field(
        "video moments, actions", "moment_detr", lambda x: criteria.moment_detr(backend=x),
        drawn(
            logits=normal(2), spans=uniform(2, low=0.1), saliency=of_image(normal(), 9)
        ),
        drawn(
            spans=uniform(2, low=0.1), saliency_pos=of_image(whole(high=9), 2),
            saliency_neg=of_image(whole(high=9), 2),
        ),
        field_losses.moments(test_spans.pair_losses("cxw")), axes=field_losses.CLIPS,
        elsewhere=True,
    ),
    phrases("grounding_dino", lambda x: criteria.grounding_dino(backend=x),
            field_losses.FOCAL, (2.0, 1.0)),
    phrases("mm_grounding_dino", lambda x: criteria.mm_grounding_dino(backend=x),
            {**field_losses.FOCAL, "cost": "binary_focal"}, (1.0, 2.0)),
    phrases("mdetr", lambda x: criteria.mdetr(backend=x),
            field_losses.SOFTMAX, (1.0, 1.0), "similarities"),
    Field(
        "human-object interaction, scene graphs", "",
        lambda x: hc.SetLoss(
            [
                classes(), terms.Boxes(on="thing_boxes"),
                terms.Prefixed("person_", terms.Boxes(on="person_boxes")),
                terms.Pairs("verbs", cross_entropy, weight=2.0),
            ],
            backend=x,
        ),
        drawn(thing_boxes=BOXES, person_boxes=BOXES, verbs=normal(3), logits=LOGITS),
        drawn(
            thing_boxes=BOXES, person_boxes=BOXES, labels=LABELS,
            verbs=lambda rng, n: rng.integers(0, 2, (n, 3)).astype(float),
        ),
        field_losses.beside_classes(
            field_losses.interaction, {"boxes": 1.0, "verbs": 2.0}, constant=4.0
        ),
    ),
    Field(
        "audio", "pit_loss", lambda x: partial(hc.pit_loss, backend=x, return_assignment=True),
        drawn(estimates=normal(8)), drawn(references=normal(8)),
        composed(
            lambda q, t: test_permutation.measure(
                "si_sdr", t["references"].astype(float), q["estimates"], 1e-7, zero_mean=False
            )
        ),
        of_signals, elsewhere=True,
    ),
    Field(
        "point clouds", "", lambda x: hc.SetLoss([Points()], backend=x),
        drawn(points=normal(3)), drawn(points=normal(3)), composed(squares),
    ),
    Field(
        "point clouds", "loss", lambda x: partial(hc.loss, backend=x, return_assignment=True),
        drawn(points=normal(3)), drawn(points=normal(3)),
        composed(lambda q, t: np.sqrt(squares(q, t))), of_clouds, essential=False,
    ),
)  # fmt: skip


@pytest.mark.parametrize("field", FIELDS, ids=str)
def test_by_loops(driver: Driver, field: Field) -> None:
    """All that a field says in one program, since compiling one is most of the time."""
    fields.need(driver, field)
    fields.check(driver, field)
