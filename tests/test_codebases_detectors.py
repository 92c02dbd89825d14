"""The losses of ultralytics and rfdetr, and what docs/coming-from says that they are here."""

from __future__ import annotations

from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="their codebases are for PyTorch")
ht: Any = pytest.importorskip("hungarian_torch", reason="for PyTorch")
pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES, QUERIES = 5, 26


def layers(count: int, images: int, queries: int = QUERIES) -> tuple[Any, Any]:
    """Return logits and boxes of layers, that have gradients."""
    noise = torch.Generator().manual_seed(count)
    logits = 2 * torch.randn(count, images, queries, CLASSES, generator=noise)
    boxes = torch.rand(count, images, queries, 4, generator=noise) * 0.4 + 0.3
    return logits.requires_grad_(), boxes.requires_grad_()


def objects(counts: list[int]) -> list[dict[str, Any]]:
    """Return the objects of images."""
    noise = torch.Generator().manual_seed(9)
    return [
        {
            "labels": torch.randint(CLASSES, (n,), generator=noise),
            "boxes": torch.rand(n, 4, generator=noise) * 0.4 + 0.3,
        }
        for n in counts
    ]


def assert_same(ours: Any, theirs: Any, inputs: tuple[Any, ...]) -> None:
    """Compare values, and gradients by an upstream gradient."""
    torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=0)
    found, expected = (
        torch.autograd.grad(1.7 * x, inputs, retain_graph=True) for x in (ours, theirs)
    )
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-5 * float(y.abs().max()))


@pytest.fixture(scope="module")
def rt_detr(load: Any) -> Any:
    """The losses of RT-DETR in ultralytics."""
    return load("ultralytics.models.utils.loss", without=("cv2", "torchvision"))


@pytest.mark.parametrize("counts", [[4, 0, 2], [30, 1, 3]], ids=["few", "more than queries"])
def test_ultralytics(rt_detr: Any, counts: list[int]) -> None:
    """The loss, and its gradient through the weight of the varifocal loss."""
    (logits, boxes), targets = layers(3, 3), objects(counts)
    flat = {
        "cls": torch.cat([t["labels"] for t in targets]),
        "bboxes": torch.cat([t["boxes"] for t in targets]),
        "gt_groups": counts,
    }
    theirs = rt_detr.RTDETRDetectionLoss(nc=CLASSES, use_vfl=True)((boxes, logits), flat)
    criterion = ht.DetrLoss.preset(
        "rt_detr", CLASSES, class_loss="varifocal_differentiated", alpha=0.25, gamma=1.5,
        cost_gamma=2.0,
    )  # fmt: skip
    split = zip(flat["cls"].split(counts), flat["bboxes"].split(counts), strict=True)
    split = [{"labels": c, "boxes": b} for c, b in split]
    # There it is the number of pairs that losses are divided by.
    pairs = torch.tensor(float(sum(min(n, QUERIES) for n in counts)))
    out = criterion(logits, boxes, split, num_objects=pairs)
    assert_same(out.total, sum(theirs.values()), (logits, boxes))
    terms = {"class": out.class_, "bbox": out.bbox, "giou": out.giou}
    for name, x in terms.items():
        torch.testing.assert_close(x[-1], theirs[f"loss_{name}"], rtol=2e-6, atol=0)
        torch.testing.assert_close(x[:-1].sum(), theirs[f"loss_{name}_aux"], rtol=2e-6, atol=0)


def test_denoising_of_ultralytics(rt_detr: Any) -> None:
    """Queries that know their objects, in three groups, half of which become nothing."""
    counts, groups = [3, 0, 2], 3
    (logits, boxes), (logits_dn, boxes_dn) = layers(2, 3), layers(3, 3, 2 * 3 * groups)
    targets, first = objects(counts), [0, 3, 3]
    size = 2 * max(counts)
    places = [torch.arange(n) + size * torch.arange(groups)[:, None] for n in counts]
    meta = {
        "dn_pos_idx": [x.flatten() for x in places], "dn_num_group": groups,
        "dn_gt_idx": [k + torch.arange(n) for k, n in zip(first, counts, strict=True)],
    }  # fmt: skip
    flat = {
        "cls": torch.cat([t["labels"] for t in targets]),
        "bboxes": torch.cat([t["boxes"] for t in targets]),
        "gt_groups": counts,
    }
    published = rt_detr.RTDETRDetectionLoss(nc=CLASSES, use_vfl=True)
    theirs = published((boxes, logits), flat, boxes_dn, logits_dn, meta)
    expected = sum(x for name, x in theirs.items() if name.endswith("_dn"))
    criterion = ht.DetrLoss.preset(
        "rt_detr", CLASSES, class_loss="varifocal_differentiated", alpha=0.25, gamma=1.5
    )
    given = torch.full((3, size * groups), -1)
    for row, place, n in zip(given, places, counts, strict=True):
        row[place] = torch.arange(n)
    found = criterion(logits_dn, boxes_dn, targets, assignment=given).total
    assert_same(found, expected, (logits_dn, boxes_dn))


@pytest.fixture(scope="module")
def rfdetr(load: Any) -> Any:
    """The criterion of RF-DETR, which takes the areas of boxes from torchvision."""
    without = ("torchvision", "torchvision.ops", "torchvision.ops.boxes")
    found = load("rfdetr.models.criterion", without=without)
    found.box_ops.box_area = lambda x: (x[:, 2:] - x[:, :2]).prod(-1)
    return found


@pytest.mark.parametrize("form", ["masks", "features"])
@pytest.mark.parametrize("counts", [[4, 0, 2], [0, 0, 0]])
def test_masks_of_rfdetr(
    rfdetr: Any, counts: list[int], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of layers and proposals, at points that both are given, in 13 groups."""
    logits, boxes = layers(3, 3)
    noise = torch.Generator().manual_seed(4)
    features = 2 * torch.randn(3, 3, 4, 8, 6, generator=noise).requires_grad_()
    queries = torch.randn(3, 3, QUERIES, 4, generator=noise).requires_grad_()
    bias = torch.randn(1, generator=noise).requires_grad_()
    whole = torch.einsum("lbchw,lbqc->lbqhw", features, queries) + bias
    targets = objects(counts)
    for target, n in zip(targets, counts, strict=True):
        target["masks"] = torch.rand(n, 24, 20, generator=noise) > 0.6
    each = [
        {
            "pred_logits": logits[k], "pred_boxes": boxes[k],
            "pred_masks": whole[k] if form == "masks" else {
                "spatial_features": features[k], "query_features": queries[k], "bias": bias,
            },
        }
        for k in range(3)
    ]  # fmt: skip
    outputs = {**each[0], "aux_outputs": [each[1]], "enc_outputs": each[2]}

    def rand(*shape: Any, device: Any) -> Any:
        *front, points, _ = shape if len(shape) > 1 else shape[0]
        drawn = torch.empty(points, 2).uniform_(generator=torch.Generator().manual_seed(points))
        return drawn.expand(*front, -1, -1).clone()

    monkeypatch.setattr(torch, "rand", rand)
    losses, weights = ["labels", "boxes", "masks"], {"cost_mask_ce": 5, "cost_mask_dice": 3}
    matcher = rfdetr.HungarianMatcher(2, 5, 2, mask_point_sample_ratio=4, **weights)
    options = {"group_detr": 13, "mask_point_sample_ratio": 4}
    expected = rfdetr.SetCriterion(
        CLASSES, matcher, {}, 0.25, losses, ia_bce_loss=True, **options
    )(outputs, targets)  # fmt: skip
    ours = ht.HungarianMatcher(
        2, 5, 2, mask_cost=5, dice_cost=3, class_cost_form="logsigmoid", mask_point_sample_ratio=4
    )
    found = ht.SetCriterion(CLASSES, ours, losses=losses, class_loss="ia_bce", **options)(
        outputs, targets
    )
    assert set(found) == set(expected)
    for name, x in expected.items():
        torch.testing.assert_close(found[name].float(), x.float(), rtol=1e-5, atol=1e-6, msg=name)
    assert (found["loss_mask_dice_enc"] > 0) == any(counts)
    learnt = [name for name in expected if name.startswith("loss")]
    inputs = (logits, boxes, features, queries, bias)
    assert_same(sum(found[x] for x in learnt), sum(expected[x] for x in learnt), inputs)


@pytest.mark.parametrize("counts", [[4, 0, 2], [3, 1, 5]])
def test_rfdetr(rfdetr: Any, counts: list[int]) -> None:
    """Its criterion, with layers, proposals, and 13 groups of queries in training."""
    (logits, boxes), targets = layers(3, 3), objects(counts)
    each = [
        {"pred_logits": x, "pred_boxes": y}
        for x, y in zip(logits.unbind(), boxes.unbind(), strict=True)
    ]
    outputs = {**each[0], "aux_outputs": [each[1]], "enc_outputs": each[2]}
    matcher = rfdetr.HungarianMatcher(2, 5, 2)
    losses = ["labels", "boxes", "cardinality"]
    options = {"group_detr": 13, "ia_bce_loss": True}
    published = rfdetr.SetCriterion(CLASSES, matcher, {}, 0.25, losses, **options)
    ours = ht.HungarianMatcher(2, 5, 2, class_cost_form="logsigmoid")
    criterion = ht.SetCriterion(CLASSES, ours, class_loss="ia_bce", group_detr=13)
    for training in (True, False):
        expected = published.train(training)(outputs, targets)
        found = criterion.train(training)(outputs, targets)
        assert set(found) == set(expected)
        for name, x in expected.items():
            torch.testing.assert_close(found[name].float(), x.float(), rtol=1e-5, atol=0, msg=name)
        learnt = [name for name in expected if name.startswith("loss")]
        assert_same(
            sum(found[x] for x in learnt), sum(expected[x] for x in learnt), (logits, boxes)
        )
    for groups in (1, 13):
        pairs = zip(ours(each[0], targets, groups), matcher(each[0], targets, groups), strict=True)
        for found, expected in pairs:
            assert all(map(torch.equal, found, expected))
