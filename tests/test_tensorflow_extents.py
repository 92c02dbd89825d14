"""Extents that a `tf.function` does not know while it is traced are compared when it runs.

Most of what does not fit here would otherwise be broadcast, or cut off, without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

tf: Any = pytest.importorskip("tensorflow", reason="for TensorFlow")
hf: Any = pytest.importorskip("hungarian_tensorflow", reason="for TensorFlow")

B, M, Q, C, H, W, T, L = 3, 2, 5, 4, 6, 7, 8, 2
RNG = np.random.default_rng(0)
INF = np.inf


def _array(kind: str, *shape: int) -> np.ndarray:
    if kind == "b":
        return np.ones(shape, bool)
    return np.zeros(shape, "i8") if kind == "i" else RNG.uniform(0.2, 0.6, shape).astype("f4")


def _assign(x: dict[str, Any]) -> Any:
    cost, masks = x["cost"], {"row_mask": x["rows"], "col_mask": x["cols"]}
    count = tf.cast(hf.count_invalid(cost, **masks), tf.int64)
    return hf.assign(cost, **masks, unmatched_cost=x["price"]).col4row + count[:, None]


def _loss(x: dict[str, Any]) -> Any:
    masks = {"mask": x["mask"], "pred_mask": x["pred_mask"]}
    return hc.HungarianLoss([1, 3])(x["true"], x["pred"], **masks)


def _own(x: dict[str, Any]) -> Any:
    """Return a loss by functions of one's own, which may return too few columns, or pairs."""

    def cost(xp: Any, a: Any, b: Any) -> Any:
        return xp.sum(xp.abs(a - b), axis=-1)[:, :, : tf.size(x["columns"])]

    def pair_loss(xp: Any, a: Any, b: Any) -> Any:
        return xp.sum(xp.abs(a - b), axis=-1)[:, : tf.size(x["pairs"])]

    return hf.loss(x["true"], x["pred"], cost=cost, pair_loss=pair_loss)


def _angles(x: dict[str, Any]) -> Any:
    keypoints = hc.costs.keypoint_distance([0.1], area=0.5, visibility=False)
    costs: tuple[Any, ...] = ("great_circle", "points", keypoints)
    return sum(hf.loss(y, y + 0.1, cost=c) for c, y in zip(costs, x.values(), strict=True))


def _pit(x: dict[str, Any]) -> Any:
    return hf.pit_loss(x["pred"], x["true"], estimate_mask=x["mask"])


def _parts(x: dict[str, Any]) -> Any:
    boxes = hc.boxes.convert(x["boxes"], "cxcywh", "xyxy")
    named = hc.costs.WeightedSum({"box": (1.0, "l1", "boxes")})
    terms = named({"boxes": x["true"]}, {"boxes": boxes})
    classes = hc.costs.softmax(x["labels"], x["logits"])
    dice = hc.masks.dice(x["masks"], x["true_masks"])
    points = hc.masks.sample(x["masks"], x["points"])
    return sum(tf.reduce_sum(y) for y in (terms, classes, dice, points))


def _matrix(x: dict[str, Any]) -> Any:
    score = hc.hnet.associate(x["cost"], hc.hnet.load_pretrained(), row_mask=x["rows"])
    return hf.fenchel_young_loss(x["cost"], x["target"]) + tf.reduce_sum(score)


def _detr(loss: Any) -> Callable[..., Any]:
    fields = ("labels", "true", "mask", "weights", "ignore", "true_masks")
    others = ("masks", "image_weights", "extra_cost", "query_mask")

    def total(x: dict[str, Any]) -> Any:
        targets = hc.Targets(*(x.get(name) for name in fields))
        return loss(x["logits"], x["boxes"], targets, **{k: x[k] for k in others if k in x}).total

    return total


_OPTIONS = {"class_loss": "focal", "check_targets": False}
_TARGETS = {
    "logits": ("f", B, Q, C),
    "boxes": ("f", B, Q, 4),
    "labels": ("i", B, M),
    "true": ("f", B, M, 4),
}

# A function of named arrays, what these are, and shapes of one of them that do not fit the others.
PROGRAMS: dict[str, tuple[Any, dict[str, Any], list[tuple[Any, ...]]]] = {
    "assign": (
        _assign,
        {"cost": ("f", B, M, Q), "rows": ("b", B, M), "cols": ("b", B, Q), "price": ("f", B, M)},
        [("rows", 1, M), ("rows", B, 1), ("cols", B, 1), ("cols", 1, Q), ("price", B, M + 1)],
    ),
    "HungarianLoss": (
        _loss,
        {"true": ("f", B, M, 4), "pred": ("f", B, Q, 4), "mask": ("b", B, M),
         "pred_mask": ("b", B, Q)},
        [("true", 1, M, 4), ("true", B, M, 1), ("pred", B, Q, 5), ("mask", B, 1),
         ("pred_mask", 1, Q)],
    ),
    "functions of one's own": (
        _own,
        {"true": ("f", B, M, 4), "pred": ("f", B, Q, 4), "columns": ("f", Q), "pairs": ("f", M)},
        [("columns", 1), ("pairs", 1)],
    ),
    "costs that read features": (
        _angles,
        {"angles": ("f", B, M, 2), "points": ("f", B, M, 4), "keypoints": ("f", B, M, 2)},
        [("angles", B, M, 3), ("points", B, M, 5), ("keypoints", B, M, 3)],
    ),
    "pit_loss": (
        _pit,
        {"true": ("f", B, M, T), "pred": ("f", B, Q, T), "mask": ("b", B, Q)},
        [("true", B, M, 1), ("mask", 1, Q)],
    ),
    "parts": (
        _parts,
        {**_TARGETS, "masks": ("f", B, H, W), "true_masks": ("f", B, H, W), "points": ("f", T, 2)},
        [("boxes", B, Q, 6), ("true", B, M, 1), ("labels", 1, M), ("true_masks", B, 1, W),
         ("points", T, 3)],
    ),
    "matrix": (
        _matrix,
        {"cost": ("f", B, M, Q), "rows": ("b", B, M), "target": ("f", B, M, Q)},
        [("rows", 1, M), ("target", 1, M, Q)],
    ),
    "DetrLoss": (
        _detr(hf.DetrLoss(C, groups=5, **_OPTIONS)),
        {**_TARGETS, "mask": ("b", B, M), "weights": ("f", B, M), "ignore": ("b", B, M),
         "image_weights": ("f", B), "extra_cost": ("f", B, M, 1), "query_mask": ("b", B, Q)},
        [("logits", B, Q, C + 1), ("boxes", B, 1, 4), ("boxes", 1, Q, 4), ("boxes", B, Q, 5),
         ("labels", B, 1), ("true", B, 1, 4), ("true", B, M, 5), ("mask", B, 1), ("mask", 1, M),
         ("weights", B, 1), ("ignore", 1, M), ("image_weights", 1), ("extra_cost", 1, M, 1),
         ("query_mask", 1, Q)],
    ),
    "layers and masks": (
        _detr(hf.DetrLoss(C, masks=hc.MaskLoss(), **_OPTIONS)),
        {**_TARGETS, "logits": ("f", L, B, Q, C), "boxes": ("f", L, B, Q, 4),
         "extra_cost": ("f", L, B, M, Q), "query_mask": ("b", L, B, Q),
         "masks": ("f", B, Q, H, W), "true_masks": ("f", B, M, H, W)},
        [("boxes", 1, B, Q, 4), ("extra_cost", L, B, 1, Q), ("query_mask", 1, B, Q),
         ("masks", B, 1, H, W), ("masks", B, Q, H, 1), ("true_masks", B, 1, H, W)],
    ),
    "AlignedDetrLoss": (
        _detr(hf.AlignedDetrLoss(C - 1, check_targets=False)), _TARGETS, [("boxes", B, 1, 4)]
    ),
}  # fmt: skip


def _program(function: Any, kinds: dict[str, Any], **options: Any) -> tuple[Any, dict[str, Any]]:
    """Return a program of named arrays of which it knows no extent, and arrays that fit."""
    arrays = {name: _array(*kind) for name, kind in kinds.items()}
    unknown = {name: tf.TensorSpec([None] * x.ndim, x.dtype) for name, x in arrays.items()}
    program = tf.function(function, input_signature=[unknown], **options)
    return program, {name: tf.constant(x) for name, x in arrays.items()}


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_does_not_fit_is_an_error(name: str) -> None:
    function, kinds, misfits = PROGRAMS[name]
    program, fit = _program(function, kinds, autograph=False)
    np.testing.assert_allclose(program(fit), function(fit), rtol=1e-5, atol=1e-6)
    for changed, *shape in misfits:
        misfit = {**fit, changed: tf.constant(_array(kinds[changed][0], *shape))}
        with pytest.raises(tf.errors.InvalidArgumentError):
            program(misfit)


SETS = {"true": ("f", B, M, 4), "pred": ("f", B, Q, 4)}


def _short(x: dict[str, Any]) -> Any:
    return hf.loss(x["true"], x["pred"], cost="l1", solver="core")


def _misfit(fit: dict[str, Any]) -> dict[str, Any]:
    return {**fit, "true": fit["true"][:1]}


def test_the_error_says_what_does_not_fit() -> None:
    program, fit = _program(_short, SETS)
    words = r"batch_size and num_features of y_true and y_pred: the extents\] \[1 4\].*\[3 4\]"
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        program(_misfit(fit))


def test_a_program_of_xla() -> None:
    program, fit = _program(_short, SETS, jit_compile=True)
    np.testing.assert_allclose(program(fit), _short(fit), rtol=1e-5)
    words = "expected_equal_batch_size_and_num_features_of_y_true_and_y_pred"
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        program(_misfit(fit))


def test_a_saved_program(tmp_path: Path) -> None:
    module = tf.Module()
    module.loss, fit = _program(_short, SETS)
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path)).loss
    np.testing.assert_allclose(loaded(fit), _short(fit), rtol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="y_true and y_pred"):
        loaded(_misfit(fit))


def test_a_gradient_looks_too() -> None:
    def gradient(x: dict[str, Any]) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x["pred"])
            value = _short(x)
        return tape.gradient(value, x["pred"])

    program, fit = _program(gradient, SETS)
    np.testing.assert_allclose(program(fit), gradient(fit), rtol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="y_true and y_pred"):
        program(_misfit(fit))


# Each with the pairs of its one best matching; without `partial` where it is complete.
MATRICES: list[tuple[Any, list[int], list[int]]] = [
    ([[4, 1, 3, 9], [2, 0, 5, 9], [3, 2, 2, 9]], [0, 1, 2], [1, 0, 2]),
    ([[INF, 1, 2, INF], [INF, INF, INF, INF], [3, INF, 1, INF]], [0, 2], [1, 2]),
    ([[INF, INF, INF, INF]] * 3, [], []),
    ([[2, 1], [INF, 5], [1, 4]], [0, 2], [1, 0]),
    ([[2, INF], [1, INF], [3, INF]], [1], [0]),
    (np.zeros((0, 4)), [], []),
    (np.zeros((4, 0)), [], []),
]


@pytest.mark.parametrize("partial", [False, True], ids=["complete", "partial"])
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "XLA"])
def test_linear_sum_assignment_keeps_missing_pairs(jit: bool, partial: bool) -> None:
    program = tf.function(
        lambda cost: hf.linear_sum_assignment(cost, partial=partial),
        input_signature=[tf.TensorSpec([None, None])], jit_compile=jit, autograph=False,
    )  # fmt: skip
    for matrix, *pairs in MATRICES:
        cost = np.array(matrix, np.float32)
        most = min(cost.shape)
        for found, expected in zip(program(tf.constant(cost)), pairs, strict=True):
            there = expected if partial or len(expected) == most else []
            np.testing.assert_array_equal(found, there + [-1] * (most - len(there)))


def test_known_extents_cost_nothing() -> None:
    shapes = {name: tf.TensorSpec(shape, tf.float32) for name, (_, *shape) in SETS.items()}
    graph = tf.function(_short, input_signature=[shapes]).get_concrete_function().graph
    assert not [op for op in graph.get_operations() if op.type == "Assert"]


def test_queries_for_denoising_of_extents_that_are_not_known() -> None:
    """As many objects as there are when it runs, none too, made and graded in one program."""
    fields = [
        tf.TensorSpec(x, y) for x, y in (((None, None), tf.int64), ((None, None, 4), tf.float32))
    ]
    criterion = hc.DetrLoss(C, class_loss="focal")
    own = tf.zeros((B, Q, C)), tf.fill((B, Q, 4), 0.5)

    def loss(labels: Any, boxes: Any) -> Any:
        targets = {"labels": labels, "boxes": boxes}
        queries = hc.denoising.contrastive_queries(targets, C, seed=5, groups=2)
        outputs = {"logits": tf.one_hot(queries.labels, C), "boxes": queries.boxes + 0.1}
        return criterion(*own, targets, denoising=hc.denoising.Denoised(queries, outputs)).total

    program = tf.function(loss, input_signature=fields)
    for objects in (M, 0, 4):
        labels, boxes = tf.zeros((B, objects), tf.int64), tf.fill((B, objects, 4), 0.4)
        np.testing.assert_allclose(program(labels, boxes), loss(labels, boxes), rtol=1e-6)
