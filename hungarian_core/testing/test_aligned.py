"""`AlignedDetrLoss`: its definition, the least loss by brute force, and gradients in float64."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver

# The promise across frameworks: float32 to 1e-6 and float64 to 1e-12, relative to the largest.
RELATIVE = {"float32": 1e-6, "float64": 1e-12}
CLASSES = 3
WEIGHTS = {
    "class_weight": 0.75, "bbox_weight": 3.0, "giou_weight": 1.5, "no_object_weight": 0.25,
    "class_weights": [1.0, 2.0, 0.5],
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Example:
    """One call: M objects at most, Q queries, and what else."""

    name: str
    objects: int = 3
    queries: int = 5
    layers: int | None = None
    dtype: str = "float32"
    weighted: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    essential: bool = False

    def __str__(self) -> str:
        return self.name

    def data(self) -> tuple[np.ndarray, ...]:
        """Return logits and boxes, and labels, boxes, mask and weights of three images."""
        rng = np.random.default_rng([self.objects, self.queries])
        lead = (3, self.queries) if self.layers is None else (self.layers, 3, self.queries)
        shape = (3, self.objects)
        labels = rng.integers(0, CLASSES, shape)
        mask = np.arange(self.objects) < np.array([self.objects, 1, 0])[:, None]
        true_boxes, boxes = _boxes(rng, *shape), _boxes(rng, *lead)
        labels[~mask], true_boxes[~mask] = 99, np.nan
        logits = rng.normal(size=(*lead, CLASSES + 1)).astype(np.float32)
        weights = rng.integers(1, 16, shape).astype(np.float32) / 4
        floats = [x.astype(self.dtype) for x in (logits, boxes, true_boxes, weights)]
        return floats[0], floats[1], labels, floats[2], mask, floats[3]


def _boxes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    centre, size = rng.uniform(0.3, 0.7, (*shape, 2)), rng.uniform(0.1, 0.6, (*shape, 2))
    return np.concatenate([centre, size], axis=-1).astype(np.float32)


EXAMPLES = (
    Example("paper", layers=2, essential=True),
    Example("weights", dtype="float64", weighted=True, options={**WEIGHTS, "reduction": "none"},
            essential=True),
    Example("boxes", layers=2, weighted=True, options={**WEIGHTS, "normalize": "boxes"}),
    Example("sum", layers=2, options={"reduction": "sum"}),
    Example("sum_boxes", layers=2, options={"reduction": "sum", "normalize": "boxes"}),
    Example("none_boxes", layers=2, options={"reduction": "none", "normalize": "boxes"}),
    Example("no_class", layers=2, options={"class_weight": 0.0}),
    Example("more_objects", 4, 2, layers=2, weighted=True, options=WEIGHTS),
    Example("no_objects", 0, layers=2),
)  # fmt: skip


class Parts(NamedTuple):
    """The weighted parts of the loss of one image and a matching of it."""

    class_: Any
    bbox: Any
    giou: Any
    assigned: Any
    background: Any


def _log_likelihoods(logits: np.ndarray) -> np.ndarray:
    """Return -log p of softmax; for complex numbers too, as what follows."""
    shifted = logits - logits.real.max(-1, keepdims=True)
    return np.log(np.exp(shifted).sum(-1, keepdims=True)) - shifted


def _l1_and_giou(a: np.ndarray, b: np.ndarray) -> tuple[Any, Any]:
    """Return the L1 distance and the GIoU of two boxes `[4]`, cxcywh, real or complex."""

    def greater(x: Any, y: Any) -> Any:
        return np.where(x.real > y.real, x, y)

    low, high = ([x[:2] + sign * x[2:] / 2 for x in (a, b)] for sign in (-1, 1))
    both = np.prod(greater(-greater(-high[0], -high[1]) - greater(*low), np.zeros(2)))
    hull = np.prod(greater(*high) + greater(-low[0], -low[1]))
    union = np.prod(a[2:]) + np.prod(b[2:]) - both
    difference = a - b
    return (difference * np.sign(difference.real)).sum(), both / union - (hull - union) / hull


def _parts(
    logits: np.ndarray, boxes: np.ndarray, truth: tuple[np.ndarray, ...], pairs: Any, options: Any
) -> Parts:
    """Return the loss of an image by the likelihood of what its queries say.

    Args:
        logits: `[Q, C]`.
        boxes: `[Q, 4]`.
        truth: Labels `[n]`, boxes `[n, 4]` and weights `[n]`.
        pairs: The matching, (object, query) each.
        options: Those of the loss.
    """
    w = {"class_weight": 1.0, "bbox_weight": 5.0, "giou_weight": 2.0, "no_object_weight": 1.0}
    w |= {name: value for name, value in options.items() if name in w}
    of_class = options.get("class_weights", [1.0] * CLASSES)
    nll = _log_likelihoods(logits)
    nothing = w["no_object_weight"] * nll[:, -1]
    class_ = nothing[sorted({*range(len(logits))} - {q for _, q in pairs})].sum()
    bbox = giou = gained = 0
    for j, q in pairs:
        label, box, weight = (x[j] for x in truth)
        said = weight * of_class[label] * nll[q, label]
        distance, overlap = _l1_and_giou(boxes[q], box)
        class_, gained = class_ + said, gained + said - nothing[q]
        bbox, giou = bbox + weight * distance, giou + weight * (1 - overlap)
    scales = (w["class_weight"], w["bbox_weight"], w["giou_weight"])
    class_, bbox, giou = (s * x for s, x in zip(scales, (class_, bbox, giou), strict=True))
    assigned = w["class_weight"] * gained + bbox + giou
    return Parts(class_, bbox, giou, assigned, w["class_weight"] * nothing.sum())


def _least(logits: np.ndarray, boxes: np.ndarray, truth: Any, options: Any) -> Any:
    """Return the pairs of least loss, by trying every matching."""
    n, m = len(truth[0]), len(logits)
    matchings = [
        list(zip(rows, cols, strict=True))
        for rows in itertools.combinations(range(n), min(n, m))
        for cols in itertools.permutations(range(m), min(n, m))
    ]

    def loss(pairs: Any) -> float:
        parts = _parts(logits, boxes, truth, pairs, options)
        # Equation 4 is equation 8.
        value = parts.class_ + parts.bbox + parts.giou
        assert parts.assigned + parts.background == pytest.approx(value, rel=1e-12)
        return value

    return min(matchings, key=loss)


class Answer(NamedTuple):
    """What a call should return, and its gradients for an upstream gradient."""

    total: np.ndarray
    parts: Parts
    grads: tuple[np.ndarray, np.ndarray]
    col4row: np.ndarray


@functools.cache
def _reference(example: Example) -> Answer:
    logits, boxes, labels, true_boxes, mask, weights = example.data()
    options = example.options
    lead = logits.shape[:-2]
    weights = weights if example.weighted else np.ones_like(weights)
    col4row, each = np.full((*lead, example.objects), -1), np.zeros((*lead, len(Parts._fields)))
    slopes = [np.zeros(x.shape) for x in (logits, boxes)]
    for at in np.ndindex(lead):
        b = at[-1]
        truth = tuple(x[b, mask[b]] for x in (labels, true_boxes, weights))
        truth = (truth[0], *(x.astype(np.float64) for x in truth[1:]))
        given: Any = [x[at].astype(np.float64) for x in (logits, boxes)]
        pairs = _least(given[0], given[1], truth, options)
        for j, q in pairs:
            col4row[(*at, j)] = q
        each[at] = _parts(given[0], given[1], truth, pairs, options)
        for which, slope in enumerate(slopes):
            for k in np.ndindex(given[which].shape):
                moved: Any = [x.astype(complex) for x in given]
                moved[which][k] += 1e-30j  # an imaginary step cancels nothing
                parts = _parts(moved[0], moved[1], truth, pairs, options)
                slope[at][k] = (parts.class_ + parts.bbox + parts.giou).imag / 1e-30

    reduction = options.get("reduction", "mean")
    divisor = len(mask) if reduction == "mean" else 1
    each /= max(mask.sum(), 1) if "normalize" in options else divisor
    of_images = np.moveaxis(each, -1, 0)
    parts = Parts(*(of_images if reduction == "none" else of_images.sum(-1)))
    losses = parts.class_ + parts.bbox + parts.giou
    total = losses if example.layers is None else losses.sum(0)
    scale = _upstream(total.shape) / (max(mask.sum(), 1) if "normalize" in options else divisor)
    grads = [slope * np.reshape(scale, (*scale.shape, 1, 1)) for slope in slopes]
    return Answer(total, parts, (grads[0], grads[1]), col4row)


def _upstream(shape: tuple[int, ...]) -> np.ndarray:
    """Return a gradient from above that is not 1, exact in every dtype."""
    return 2.5 + np.arange(np.prod(shape, dtype=int)).reshape(shape) / 4


def _targets(driver: Driver, example: Example) -> hc.Targets:
    _, _, labels, true_boxes, mask, weights = (driver.from_numpy(x) for x in example.data())
    return hc.Targets(labels, true_boxes, mask, weights if example.weighted else None)


def _close(found: np.ndarray, expected: np.ndarray, scale: Any, relative: float) -> None:
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=relative * np.max(scale, initial=0))


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_least_loss(driver: Driver, example: Example) -> None:
    """The matching, by trying all; the parts by definition; gradients by imaginary steps."""
    checks.need(driver, example.dtype)
    if not example.essential:
        checks.skip_lengthy(driver)
    expected = _reference(example)
    criterion = hc.AlignedDetrLoss(CLASSES, backend=driver.backend, **example.options)
    targets, relative = _targets(driver, example), RELATIVE[example.dtype]
    arrays = [driver.from_numpy(x) for x in example.data()[:2]]

    found = driver.trace(lambda x, y: criterion(x, y, targets))(*arrays)
    np.testing.assert_array_equal(driver.to_numpy(found.assignment.col4row), expected.col4row)
    scale = np.abs(expected.parts).sum(0)
    for name, value in expected.parts._asdict().items():
        _close(driver.to_numpy(getattr(found, name)), value, scale, relative)
    assert driver.dtype(found.total) == example.dtype
    assert driver.device(found.total) == driver.device(arrays[0])
    _close(driver.to_numpy(found.total), expected.total, expected.total, relative)
    if not driver.differentiable:
        return

    upstream = driver.from_numpy(_upstream(expected.total.shape), example.dtype)
    total, grads = driver.value_and_grad(
        lambda x, y: criterion(x, y, targets).total, arrays, upstream
    )
    _close(driver.to_numpy(total), expected.total, expected.total, relative)
    for grad, wanted in zip(grads, expected.grads, strict=True):
        _close(driver.to_numpy(grad), wanted, np.abs(wanted), relative)


def test_costs_are_what_is_assigned(driver: Driver) -> None:
    """Term by term, of all pairs; their least total is the assigned part of the loss."""
    checks.skip_lengthy(driver)
    example = Example("", layers=2, weighted=True, options={**WEIGHTS, "reduction": "none"})
    logits, boxes, labels, true_boxes, mask, weights = example.data()
    criterion = hc.AlignedDetrLoss(CLASSES, backend=driver.backend, **example.options)
    targets = _targets(driver, example)
    arrays = [driver.from_numpy(x) for x in (logits, boxes)]
    terms = driver.trace(lambda x, y: tuple(criterion.costs(x, y, targets).values()))(*arrays)
    found = driver.trace(lambda x, y: criterion(x, y, targets))(*arrays)
    assert [x.shape for x in terms] == [(2, 3, 3, 5)] * 3
    cost: Any = sum(driver.to_numpy(x) for x in terms)
    for layer, b, j, q in np.ndindex(cost.shape):
        if mask[b, j]:
            truth = (labels[b], true_boxes[b].astype(float), weights[b].astype(float))
            given = (logits[layer, b].astype(float), boxes[layer, b].astype(float))
            wanted = _parts(*given, truth, [(j, q)], example.options).assigned
            assert cost[layer, b, j, q] == pytest.approx(wanted, abs=1e-5)
    assigned = driver.to_numpy(found.assigned)
    np.testing.assert_allclose(driver.to_numpy(found.assignment.cost), assigned, atol=1e-5)


def test_weights_of_images_and_ignored_objects(driver: Driver) -> None:
    """An image counts twice; the query of an ignored object has no loss, and no class is needed."""
    checks.skip_lengthy(driver)
    logits, boxes, labels, true_boxes, mask, _ = Example("", layers=2).data()
    labels[0, 0] = -1
    ignore = np.zeros_like(mask)
    ignore[0, 0] = True
    arrays = [driver.from_numpy(x) for x in (logits, boxes)]
    image_weights = driver.from_numpy(np.array([1.0, 2.0, 0.5], np.float32))
    fields = (labels, true_boxes, mask, np.ones(mask.shape, np.float32), ignore)
    targets = hc.Targets._make([*(driver.from_numpy(x) for x in fields), None])
    criterion = hc.AlignedDetrLoss(CLASSES, reduction="none", backend=driver.backend)

    def program(logits: Any, boxes: Any) -> Any:
        return criterion(logits, boxes, targets, image_weights=image_weights)

    found = driver.trace(program)(*arrays)
    col4row = driver.to_numpy(found.assignment.col4row)
    losses = np.zeros((2, 3))
    for layer, b in np.ndindex(losses.shape):
        given = logits[layer, b].astype(float), boxes[layer, b].astype(float)
        truth = labels[b], true_boxes[b].astype(float), np.ones(3)
        matched = col4row[layer, b]
        pairs = [(j, q) for j, q in enumerate(matched) if q >= 0 and not ignore[b, j]]
        assert len(pairs) == mask[b].sum() - ignore[b].sum()
        parts = _parts(*given, truth, pairs, {})
        losses[layer, b] = parts.class_ + parts.bbox + parts.giou
        if ignore[b, 0]:
            losses[layer, b] -= _log_likelihoods(given[0])[matched[0], -1]
    wanted = losses.sum(0) * [1, 2, 0.5]
    np.testing.assert_allclose(driver.to_numpy(found.total), wanted, rtol=1e-6)


def test_groups_of_queries(driver: Driver) -> None:
    """Each group has the loss that it would have alone."""
    checks.skip_lengthy(driver)
    example = Example("", queries=10)
    logits, boxes, labels, true_boxes, mask, _ = example.data()
    alone = hc.AlignedDetrLoss(CLASSES, backend="numpy")
    expected = 0.0
    for half in (slice(5), slice(5, 10)):
        part = alone(logits[:, half, :], boxes[:, half, :], (labels, true_boxes, mask))
        expected += float(part.total)
    criterion = hc.AlignedDetrLoss(CLASSES, groups=2, backend=driver.backend)
    targets = _targets(driver, example)
    arrays = [driver.from_numpy(x) for x in (logits, boxes)]
    found = driver.trace(lambda x, y: criterion(x, y, targets).total)(*arrays)
    assert float(driver.to_numpy(found)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "max"}, "reduction is 'max'; expected one of 'mean', 'sum', 'none'"),
        ({"normalize": "images"}, "normalize is 'images'; expected one of 'boxes' or None"),
        ({"class_weights": [1.0]}, "class_weights has 1 entries; expected num_classes=3"),
    ],
)
def test_errors(driver: Driver, options: Any, message: str) -> None:
    checks.skip_slow(driver)
    with pytest.raises(ValueError, match=message):
        hc.AlignedDetrLoss(CLASSES, **options, backend=driver.backend)
