"""`HungarianMatcher` against the matchers whose place it takes."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", exc_type=ImportError)
pytest.importorskip("transformers", exc_type=ImportError)

from scipy.optimize import linear_sum_assignment  # noqa: E402
from torch.nn import functional as F  # noqa: E402  (as everybody calls it)
from transformers.loss import (  # noqa: E402
    loss_deformable_detr,
    loss_for_object_detection,
    loss_lw_detr,
    loss_rt_detr,
)
from transformers.models.mask2former import modeling_mask2former  # noqa: E402
from transformers.models.maskformer import modeling_maskformer  # noqa: E402

import hungarian_torch as ht  # noqa: E402  (after the check that it can be)

COUNTS = {"some": [3, 0, 7, 5], "none": [0, 0], "one": [1], "many": [3, 20, 12]}


def _batch(counts: list[int], logits: int, queries: int = 12, seed: int = 0) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(seed)

    def boxes(*front: int) -> Any:
        return torch.rand(*front, 4, generator=generator) * 0.4 + 0.3

    outputs = {
        "logits": torch.randn(len(counts), queries, logits, generator=generator) * 2,
        "pred_boxes": boxes(len(counts), queries),
    }
    targets = [
        {"class_labels": torch.randint(0, logits - 1, (n,), generator=generator), "boxes": boxes(n)}
        for n in counts
    ]
    return outputs, targets


def _assert_equal(found: Any, expected: Any) -> None:
    assert len(found) == len(expected)
    for pair, wanted in zip(found, expected, strict=True):
        for x, y in zip(pair, wanted, strict=True):
            assert x.dtype == torch.int64
            assert torch.equal(x, y)


def _rt_detr(**changes: Any) -> Any:
    config = {
        "matcher_class_cost": 2.0, "matcher_bbox_cost": 5.0, "matcher_giou_cost": 2.0,
        "use_focal_loss": True, "matcher_alpha": 0.25, "matcher_gamma": 2.0,
    }  # fmt: skip
    return loss_rt_detr.RTDetrHungarianMatcher(SimpleNamespace(**config, **changes))


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_to_transformers(counts: str, dtype: Any) -> None:
    detr = loss_for_object_detection.HungarianMatcher(1, 5, 2)
    deformable = loss_deformable_detr.DeformableDetrHungarianMatcher(2, 5, 2)
    sigmoid: Any = {"class_cost_form": "sigmoid"}
    for theirs, ours in (
        (detr, ht.HungarianMatcher(1, 5, 2)),
        (detr, ht.HungarianMatcher(cost_class=1, cost_bbox=5, cost_giou=2)),
        (deformable, ht.HungarianMatcher(2, 5, 2, **sigmoid)),
        (_rt_detr(), ht.HungarianMatcher(2, 5, 2, **sigmoid)),
    ):
        for seed in range(5):
            outputs, targets = _batch(COUNTS[counts], 9, seed=seed)
            outputs = {name: x.to(dtype).requires_grad_() for name, x in outputs.items()}
            targets = [{**t, "boxes": t["boxes"].to(dtype)} for t in targets]
            _assert_equal(ours(outputs, targets), theirs(outputs, targets))


@pytest.mark.parametrize("scale", [2.0, 25.0])
@pytest.mark.parametrize("form", ["sigmoid", "logsigmoid"])
def test_equal_to_the_formulas(form: str, scale: float) -> None:
    """As Deformable DETR and DINO have the focal cost, and RF-DETR, where it is saturated too."""
    matcher = ht.HungarianMatcher(2, 5, 2, class_cost_form=form)
    for seed in range(10):
        outputs, targets = _batch([3, 0, 20, 7], 9, seed=seed)
        outputs["logits"] = outputs["logits"] * scale
        expected = []
        for x, boxes, t in zip(outputs["logits"], outputs["pred_boxes"], targets, strict=True):
            p, no = x.sigmoid(), -x
            wrong, right = (
                [-(p + 1e-8).log(), -(1 - p + 1e-8).log()]
                if form == "sigmoid"
                else [-F.logsigmoid(x), -F.logsigmoid(no)]
            )
            focal = 0.25 * (1 - p) ** 2 * wrong - 0.75 * p**2 * right
            a, b = (torch.cat([y[:, :2] - y[:, 2:] / 2, y[:, :2] + y[:, 2:] / 2], 1) for y in
                    (boxes, t["boxes"]))  # fmt: skip
            cost = 5 * torch.cdist(boxes, t["boxes"], 1) + 2 * focal[:, t["class_labels"]]
            if len(b):
                cost = cost - 2 * loss_for_object_detection.generalized_box_iou(a, b)
            expected.append(tuple(map(torch.as_tensor, linear_sum_assignment(cost))))
        _assert_equal(matcher(outputs, targets), expected)


def test_groups() -> None:
    outputs, targets = _batch([3, 0, 6], 9)
    ours = ht.HungarianMatcher(2, 5, 2, class_cost_form="sigmoid")
    theirs = loss_lw_detr.LwDetrHungarianMatcher(2, 5, 2)
    _assert_equal(ours(outputs, targets, 3), theirs(outputs, targets, 3))


@pytest.mark.parametrize("sizes", [[(16, 16)] * 3, [(16, 12), (8, 8), (20, 24)]])
def test_masks(sizes: list[tuple[int, int]]) -> None:
    """Of points, in the order in which Mask2Former draws them, and of all pixels."""
    outputs, targets = _batch([3, 0, 5], 9)
    generator = torch.Generator().manual_seed(1)
    outputs["masks"] = 3 * torch.randn(3, 12, 8, 8, generator=generator)
    for target, size in zip(targets, sizes, strict=True):
        shape = (len(target["boxes"]), *size)
        target["masks"] = (torch.rand(shape, generator=generator) > 0.5).float()
    arguments = (
        outputs["masks"], outputs["logits"], [t["masks"] for t in targets],
        [t["class_labels"] for t in targets],
    )  # fmt: skip
    theirs = modeling_mask2former.Mask2FormerHungarianMatcher(2.0, 5.0, 5.0, num_points=50)
    ours = ht.HungarianMatcher(
        cost_class=2, bbox_cost=0, giou_cost=0, cost_mask=5, cost_dice=5, num_points=50
    )
    torch.manual_seed(5)
    expected = theirs(*arguments)
    torch.manual_seed(5)
    _assert_equal(ours(outputs, targets), expected)
    theirs = modeling_maskformer.MaskFormerHungarianMatcher(1.0, 20.0, 1.0)
    ours = ht.HungarianMatcher(1, 0, 0, mask_cost=20, dice_cost=1, mask_cost_form="focal")
    _assert_equal(ours(outputs, targets), theirs(*arguments))


def test_names() -> None:
    """The keys of DETR are as good, and what no term reads is left alone."""
    outputs, targets = _batch([3, 2], 9)
    matcher = ht.HungarianMatcher()
    expected = matcher(outputs, targets)
    detr = {"pred_logits": outputs["logits"], "pred_boxes": outputs["pred_boxes"], "hs": None}
    ours = {"logits": outputs["logits"], "boxes": outputs["pred_boxes"]}
    renamed = [{"labels": t["class_labels"], "boxes": t["boxes"]} for t in targets]
    extra = [{**t, "image_id": torch.tensor([k]), "name": "x"} for k, t in enumerate(renamed)]
    for given, true in ((detr, renamed), (ours, targets), (ours, extra)):
        _assert_equal(matcher(given, true), expected)


@pytest.mark.parametrize("name", ["logits", "pred_boxes"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_prediction_that_is_no_number(name: str, value: float) -> None:
    """It is taken last, and the others are matched as in transformers."""
    outputs, targets = _batch([3, 7], 9)
    outputs[name][0, 4] = value
    found = ht.HungarianMatcher(1, 5, 2)(outputs, targets)
    theirs = loss_for_object_detection.HungarianMatcher(1, 5, 2)
    assert 4 not in found[0][0]
    if name == "logits":  # boxes that are no numbers are an error there
        _assert_equal(found, theirs(outputs, targets))
    others = [*range(4), *range(5, 12)]
    outputs = {name: x[:, others] for name, x in outputs.items()}
    (queries, objects), _ = ht.HungarianMatcher(1, 5, 2)(outputs, targets)
    _assert_equal(found[:1], [(torch.tensor(others)[queries], objects)])


def test_half_precision() -> None:
    outputs, targets = _batch([3, 7], 9)
    rounded = {name: x.to(torch.bfloat16) for name, x in outputs.items()}
    matcher = ht.HungarianMatcher()
    _assert_equal(
        matcher(rounded, targets),
        matcher({name: x.float() for name, x in rounded.items()}, targets),
    )


def test_as_a_module() -> None:
    outputs, targets = _batch([3, 7], 9)
    matcher = ht.HungarianMatcher(2, 5, 2, class_cost_form="sigmoid")
    assert "class_cost=2" in repr(matcher)
    again = pickle.loads(pickle.dumps(matcher))
    _assert_equal(again(outputs, targets), matcher(outputs, targets))

    def step(x: Any) -> Any:
        pairs = matcher({"logits": x["logits"] * 1.0, "boxes": x["pred_boxes"]}, targets)
        return sum(x["pred_boxes"][b, i].sum() for b, (i, _) in enumerate(pairs))

    torch.testing.assert_close(torch.compile(step, backend="eager")(outputs), step(outputs))


def test_errors() -> None:
    outputs, targets = _batch([3, 7], 9)
    with pytest.raises(ValueError, match="all weights are 0"):
        ht.HungarianMatcher(0, 0, 0)
    with pytest.raises(ValueError, match=r"class_cost is 3\.0 and cost_class is 2"):
        ht.HungarianMatcher(3.0, cost_class=2)
    with pytest.raises(ValueError, match="class_cost_form is 'focal'; expected one of"):
        ht.HungarianMatcher(class_cost_form="focal")
    with pytest.raises(ValueError, match=r"outputs has .*'logits' or 'pred_logits'"):
        ht.HungarianMatcher()({"pred_boxes": outputs["pred_boxes"]}, targets)
    targets[0]["class_labels"][1] = 8  # "no object"
    with pytest.raises(ValueError, match="label"):
        ht.HungarianMatcher()(outputs, targets)
    with pytest.raises(ValueError, match="gamma is 'x'; expected a number"):
        ht.HungarianMatcher(gamma="x")
    with pytest.raises(ValueError, match="cost_gamma is -1"):
        ht.HungarianMatcher(class_cost_form="sigmoid", gamma=-1)
    with pytest.raises(ValueError, match="num_points is 9 and mask_point_sample_ratio is 16"):
        ht.HungarianMatcher(cost_mask=1, num_points=9, mask_point_sample_ratio=16)
    with pytest.raises(ValueError, match="mask_point_sample_ratio is 0; expected a positive"):
        ht.SetCriterion(8, mask_point_sample_ratio=0)
    with pytest.raises(TypeError, match="class_costs"):
        ht.HungarianMatcher(class_costs=1)
