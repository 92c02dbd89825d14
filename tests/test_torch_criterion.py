"""`SetCriterion` against the formulas of the criteria whose place it takes, loop by loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", exc_type=ImportError)

from scipy.optimize import linear_sum_assignment  # noqa: E402
from torch.nn import functional as F  # noqa: E402  (as everybody calls it)

import hungarian_torch as ht  # noqa: E402  (after the check that it can be)

CLASSES, QUERIES = 5, 12
COUNTS = {"some": [3, 0, 4], "none": [0, 0, 0], "many": [13, 2, 1]}


def _corners(x: Any) -> Any:
    return torch.cat([x[..., :2] - x[..., 2:] / 2, x[..., :2] + x[..., 2:] / 2], -1)


def _giou(a: Any, b: Any) -> Any:
    """Return the GIoU of all pairs of boxes, by the formula."""
    a, b = _corners(a)[:, None], _corners(b)[None]
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(0)
    outer = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    areas = [(x[..., 2:] - x[..., :2]).prod(-1) for x in (a, b)]
    shared, hull = inner.prod(-1), outer.prod(-1)
    union = areas[0] + areas[1] - shared
    return shared / union - (hull - union) / hull


def _focal(x: Any, y: Any, alpha: float) -> Any:
    """Return the sigmoid focal loss of each entry."""
    p, ce = x.sigmoid(), F.binary_cross_entropy_with_logits(x, y, reduction="none")
    wrong = p * (1 - y) + (1 - p) * y
    return (alpha * y + (1 - alpha) * (1 - y)) * ce * wrong**2


def _cost(logits: Any, boxes: Any, target: Any, softmax: bool) -> Any:
    labels = target["labels"]
    if softmax:
        classes, weight = -logits.softmax(-1)[:, labels], 1.0
    else:
        p = logits.sigmoid()[:, labels]
        classes = 0.25 * (1 - p) ** 2 * -(p + 1e-8).log()
        classes = classes - 0.75 * p**2 * -(1 - p + 1e-8).log()
        weight = 2.0
    distance = (boxes[:, None] - target["boxes"][None]).abs().sum(-1)
    return weight * classes + 5 * distance - 2 * _giou(boxes, target["boxes"])


def _matched(out: Any, targets: Any, softmax: bool, groups: int) -> Any:
    found = []
    for b, target in enumerate(targets):
        pairs: tuple[list[int], list[int]] = ([], [])
        size = out["pred_logits"].shape[1] // groups
        for g in range(groups):
            part = slice(g * size, (g + 1) * size)
            cost = _cost(out["pred_logits"][b, part], out["pred_boxes"][b, part], target, softmax)
            i, j = linear_sum_assignment(cost.detach().numpy())
            pairs[0].extend((i + g * size).tolist())
            pairs[1].extend(j.tolist())
        found.append(pairs)
    return found


def _ia_bce(x: Any, quality: Any, label: Any) -> Any:
    """Return the IoU-aware loss of a query `(C,)` with a label and the IoU of its boxes."""
    p = x.sigmoid()
    t = (p[label].detach() ** 0.25 * quality**0.75).clamp(min=0.01)
    losses = p**2 * F.softplus(x)
    own = t * F.softplus(-x[label]) + (1 - t) * F.softplus(x[label])
    return losses.sum() - losses[label] + own


def _losses(out: Any, targets: Any, pairs: Any, number: float, kind: str, extra: bool) -> Any:
    """Return the losses of one layer: labels, boxes, cardinality."""
    logits, boxes = out["pred_logits"], out["pred_boxes"]
    total: dict[str, Any] = dict.fromkeys(("loss_bbox", "loss_giou", "loss_xy", "loss_hw"), 0.0)
    classes, weights = logits.sum() * 0, 0.0
    for b, (target, (queries, objects)) in enumerate(zip(targets, pairs, strict=True)):
        label = torch.full(logits.shape[1:2], CLASSES)
        label[queries] = target["labels"][objects]
        if kind == "softmax":
            weight = 1 - 0.9 * (label == CLASSES).double()
            classes = classes + (weight * F.cross_entropy(logits[b], label, reduction="none")).sum()
            weights += float(weight.sum())
        elif kind == "focal":
            goal = F.one_hot(label, CLASSES + 1)[:, :CLASSES].to(logits.dtype)
            classes = classes + _focal(logits[b], goal, 0.25).sum()
        else:
            for q in range(logits.shape[1]):
                if q not in queries:
                    x = logits[b, q]
                    classes = classes + (x.sigmoid() ** 2 * F.softplus(x)).sum()
        for i, j in zip(queries, objects, strict=True):
            apart = (boxes[b, i] - target["boxes"][j]).abs()
            giou = _giou(boxes[b, i : i + 1], target["boxes"][j : j + 1])[0, 0]
            total["loss_bbox"] = total["loss_bbox"] + apart.sum() / number
            total["loss_giou"] = total["loss_giou"] + (1 - giou) / number
            total["loss_xy"] = total["loss_xy"] + apart[:2].sum().detach() / number
            total["loss_hw"] = total["loss_hw"] + apart[2:].sum().detach() / number
            if kind == "ia_bce":
                a, t = _corners(boxes[b, i].detach()), _corners(target["boxes"][j])
                inner = (torch.minimum(a[2:], t[2:]) - torch.maximum(a[:2], t[:2])).clamp(0).prod()
                union = boxes[b, i, 2:].prod() + target["boxes"][j, 2:].prod() - inner
                iou = (inner / union).detach()
                classes = classes + _ia_bce(logits[b, i], iou, target["labels"][j])
    total["loss_ce"] = classes / (weights if kind == "softmax" else number)
    there = logits.amax(-1) > 0 if kind == "ia_bce" else logits.argmax(-1) != logits.shape[-1] - 1
    said = there.sum(1).float()
    true = torch.tensor([float(len(t["labels"])) for t in targets])
    total["cardinality_error"] = (said - true).abs().mean()
    if not extra:
        del total["loss_xy"], total["loss_hw"]
    return total


def _reference(outputs: Any, targets: Any, kind: str, groups: int = 1) -> Any:
    softmax, dino = kind == "softmax", "dn_meta" in outputs
    number = max(sum(len(t["labels"]) for t in targets) * groups, 1)
    found: dict[str, Any] = {}

    def add(out: Any, true: Any, suffix: str) -> Any:
        pairs = _matched(out, true, softmax, groups)
        losses = _losses(out, true, pairs, number, kind, dino)
        found.update({f"{name}{suffix}": x for name, x in losses.items()})
        return pairs

    pairs = add(outputs, targets, "")
    for k, out in enumerate(outputs.get("aux_outputs", ())):
        add(out, targets, f"_{k}")
    if "enc_outputs" in outputs:
        bare = [{**t, "labels": torch.zeros_like(t["labels"])} for t in targets]
        add(outputs["enc_outputs"], bare, "_enc")
    if "interm_outputs" in outputs:
        add(outputs["interm_outputs"], targets, "_interm")
    if dino:
        meta = outputs["dn_meta"]
        size = meta["pad_size"] // meta["num_dn_group"]
        groups_of = range(meta["num_dn_group"])
        known = meta["output_known_lbs_bboxes"]
        fixed = []
        for target in targets:
            n = len(target["labels"])
            fixed.append(
                ([g * size + k for g in groups_of for k in range(n)], [*range(n)] * len(groups_of))
            )
        aux = [(x, f"_dn_{k}") for k, x in enumerate(known["aux_outputs"])]
        for out, suffix in ((known, "_dn"), *aux):
            losses = _losses(out, targets, fixed, number * len(groups_of), kind, True)
            found.update({f"{name}{suffix}": x for name, x in losses.items()})
    right = [
        (outputs["pred_logits"][b, i].argmax(-1) == targets[b]["labels"][j]).float()
        for b, (i, j) in enumerate(pairs)
    ]
    matched = torch.cat(right)
    found["class_error"] = 100 - 100 * (matched.mean() if len(matched) else torch.tensor(0.0))
    return found


def _outputs(kind: str, layers: int, seed: int = 0, queries: int = QUERIES) -> Any:
    drawn = {"generator": torch.Generator().manual_seed(seed), "dtype": torch.float64}

    def one() -> Any:
        logits = 2 * torch.randn(3, queries, CLASSES + (kind == "softmax"), **drawn)
        boxes = 0.4 * torch.rand(3, queries, 4, **drawn) + 0.3
        return {"pred_logits": logits.requires_grad_(), "pred_boxes": boxes.requires_grad_()}

    out = one()
    if layers > 1:
        out["aux_outputs"] = [one() for _ in range(layers - 1)]
    return out


def _targets(counts: list[int]) -> Any:
    generator = torch.Generator().manual_seed(9)
    return [
        {
            "labels": torch.randint(0, CLASSES, (n,), generator=generator),
            "boxes": 0.4 * torch.rand(n, 4, generator=generator, dtype=torch.float64) + 0.3,
        }
        for n in counts
    ]


def _leaves(outputs: Any) -> list[Any]:
    if torch.is_tensor(outputs):
        return [outputs] if outputs.requires_grad else []
    values = outputs.values() if isinstance(outputs, dict) else outputs
    if not isinstance(outputs, (dict, list)):
        return []
    return [leaf for x in values for leaf in _leaves(x)]


def _compare(criterion: Any, outputs: Any, targets: Any, expected: Any) -> None:
    """Compare the keys, the values, and the gradient of a weighted sum."""
    found = criterion(outputs, targets)
    assert set(found) == set(expected)
    rng = np.random.default_rng(3)
    weights = {name: rng.uniform(0.5, 2) for name in sorted(expected)}
    for name, x in expected.items():
        ours, wanted = (torch.as_tensor(y).detach().double() for y in (found[name], x))
        near = 1e-6 if "error" in name else 1e-10  # errors are for logs, and in float32
        torch.testing.assert_close(ours, wanted, rtol=near, atol=1e-12, msg=name)
    leaves = _leaves(outputs)
    learnt = [name for name in weights if "loss" in name and "xy" not in name and "hw" not in name]
    grads = [
        torch.autograd.grad(
            sum(weights[name] * losses[name] for name in learnt), leaves, allow_unused=True
        )
        for losses in (found, expected)
    ]
    for x, y in zip(*grads, strict=True):
        zero = torch.zeros((), dtype=torch.float64)
        torch.testing.assert_close(
            zero if x is None else x, torch.zeros_like(x) if y is None else y, rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("kind", ["softmax", "focal"])
def test_layers(kind: str, counts: str) -> None:
    """As DETR and Deformable DETR."""
    outputs, targets = _outputs(kind, 3), _targets(COUNTS[counts])
    alpha = None if kind == "softmax" else 0.25
    criterion = ht.SetCriterion(CLASSES, eos_coef=0.1, focal_alpha=alpha)
    _compare(criterion, outputs, targets, _reference(outputs, targets, kind))


def test_two_stages() -> None:
    """As Deformable DETR: proposals only tell objects from nothing."""
    outputs, targets = _outputs("focal", 2), _targets([3, 0, 4])
    outputs["enc_outputs"] = _outputs("focal", 1, seed=5, queries=30)
    criterion = ht.SetCriterion(CLASSES, focal_alpha=0.25)
    _compare(criterion, outputs, targets, _reference(outputs, targets, "focal"))


def test_denoising() -> None:
    """As DINO, with proposals that have classes."""
    outputs, targets = _outputs("focal", 2), _targets([3, 0, 4])
    outputs["interm_outputs"] = _outputs("focal", 1, seed=5)
    known = _outputs("focal", 2, seed=6, queries=24)
    meta = {"pad_size": 24, "num_dn_group": 3, "output_known_lbs_bboxes": known}
    outputs["dn_meta"] = meta
    criterion = ht.SetCriterion(CLASSES, focal_alpha=0.25)
    expected = _reference(outputs, targets, "focal")
    _compare(criterion, outputs, targets, expected)
    evaluated = criterion.eval()(outputs, targets)
    assert set(evaluated) == set(expected)
    assert not any(float(x) for name, x in evaluated.items() if "_dn" in name)


def test_denoising_without_objects() -> None:
    """There are no denoising queries then, of which DINO's mean is NaN."""
    outputs, targets = _outputs("focal", 2), _targets([0, 0, 0])
    known = _outputs("focal", 2, queries=0)
    meta = {"pad_size": 0, "num_dn_group": 1, "output_known_lbs_bboxes": known}
    criterion = ht.SetCriterion(CLASSES, focal_alpha=0.25)
    without = criterion({**outputs, "dn_meta": None}, targets)
    found = criterion({**outputs, "dn_meta": meta}, targets)
    assert set(found) == set(without)
    assert all(torch.equal(x, without[name]) for name, x in found.items())


@pytest.mark.parametrize("kind", ["ia_bce", "focal"])
@pytest.mark.parametrize("groups", [3, 13])
def test_groups(kind: str, groups: int) -> None:
    """As RF-DETR: groups while it trains, one when it does not, and proposals with classes."""
    queries = 4 * groups
    outputs, targets = _outputs(kind, 2, queries=queries), _targets([3, 0, 5])
    outputs["interm_outputs"] = _outputs(kind, 1, seed=5, queries=queries)
    expected = [_reference(outputs, targets, kind, groups=n) for n in (groups, 1)]
    outputs["enc_outputs"] = outputs.pop("interm_outputs")
    for losses in expected:
        for name in [name for name in losses if name.endswith("_interm")]:
            losses[name.replace("_interm", "_enc")] = losses.pop(name)
    loss = {"class_loss": "ia_bce"} if kind == "ia_bce" else {"focal_alpha": 0.25}
    criterion = ht.SetCriterion(CLASSES, **loss, group_detr=groups)
    _compare(criterion, outputs, targets, expected[0])
    _compare(criterion.eval(), outputs, targets, expected[1])


def test_proposals_with_classes_or_without() -> None:
    outputs, targets = _outputs("focal", 1), _targets([3, 0, 4])
    outputs["enc_outputs"] = _outputs("focal", 1, seed=5)
    named = {**outputs, "interm_outputs": outputs["enc_outputs"]}
    found = ht.SetCriterion(CLASSES, focal_alpha=0.25, enc_classes=True)(named, targets)
    for name in ("loss_ce", "loss_bbox", "loss_giou"):
        assert torch.equal(found[f"{name}_enc"], found[f"{name}_interm"])
    criterion = ht.SetCriterion(
        CLASSES, class_loss="ia_bce", losses=["labels", "boxes"], enc_classes=False
    )
    bare = [{**t, "labels": torch.zeros_like(t["labels"])} for t in targets]
    expected = criterion(outputs["enc_outputs"], bare)["loss_ce"]
    assert torch.equal(criterion(outputs, targets)["loss_ce_enc"], expected)


@pytest.mark.parametrize("sizes", [[(8, 9)] * 3, [(16, 9), (8, 12), (5, 5)]])
def test_masks(sizes: list[tuple[int, int]]) -> None:
    """As DETR: the last layer's, at the size of the true ones, which are padded to one."""
    outputs, targets = _outputs("softmax", 2), _targets([3, 0, 4])
    generator = torch.Generator().manual_seed(4)
    masks = torch.randn(3, QUERIES, 4, 5, generator=generator).double().requires_grad_()
    outputs["pred_masks"] = masks
    for target, size in zip(targets, sizes, strict=True):
        shape = (len(target["labels"]), *size)
        target["masks"] = torch.rand(shape, generator=generator) > 0.5
    whole = [max(x) for x in zip(*sizes, strict=True)]
    expected = _reference(outputs, targets, "softmax")
    pixels = dice = 0.0
    for b, (queries, objects) in enumerate(_matched(outputs, targets, True, 1)):
        for i, j in zip(queries, objects, strict=True):
            x = F.interpolate(masks[b, i][None, None], whole, mode="bilinear")[0, 0]
            y = torch.zeros(whole, dtype=torch.float64)
            y[: sizes[b][0], : sizes[b][1]] = targets[b]["masks"][j]
            pixels = pixels + _focal(x, y, 0.25).mean() / 7
            p = x.sigmoid()
            dice = dice + (1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)) / 7
    expected |= {"loss_mask": pixels, "loss_dice": dice}
    criterion = ht.SetCriterion(
        CLASSES, losses=["labels", "boxes", "masks", "cardinality"], eos_coef=0.1
    )
    _compare(criterion, outputs, targets, expected)


def test_a_matcher_of_somebody_else() -> None:
    outputs, targets = _outputs("softmax", 2), _targets([13, 0, 4])

    def matcher(out: Any, true: Any) -> Any:
        pairs = _matched(out, true, True, 1)
        return [tuple(map(torch.tensor, pair)) for pair in pairs]

    criterion = ht.SetCriterion(CLASSES, matcher, {"loss_ce": 1.0}, eos_coef=0.1)
    assert criterion.weight_dict == {"loss_ce": 1.0}
    _compare(criterion, outputs, targets, _reference(outputs, targets, "softmax"))


@pytest.mark.parametrize("groups", [1, 3])
def test_a_matcher_with_a_forward_of_its_own(groups: int) -> None:
    """It is asked, with the number of groups if there are any, and its pairs are what counts."""

    class Reversed(ht.HungarianMatcher):
        def forward(self, outputs: Any, targets: Any, group_detr: int = 1) -> Any:
            assert group_detr == groups
            flipped = [{name: x.flip(0) for name, x in t.items()} for t in targets]
            found = super().forward(outputs, flipped, group_detr)
            return [(i, len(t["labels"]) - 1 - j) for (i, j), t in zip(found, targets, strict=True)]

    outputs, targets = _outputs("focal", 2), _targets([3, 0, 4])
    matcher = Reversed(2, class_cost_form="sigmoid")
    criterion = ht.SetCriterion(CLASSES, matcher, focal_alpha=0.25, group_detr=groups)
    _compare(criterion, outputs, targets, _reference(outputs, targets, "focal", groups))

    class Nobody(ht.HungarianMatcher):
        def forward(self, outputs: Any, targets: Any, group_detr: int = 1) -> Any:
            none = torch.zeros(0, dtype=torch.int64)
            return [(none, none)] * len(targets)

    found = ht.SetCriterion(CLASSES, Nobody(), focal_alpha=0.25)(outputs, targets)
    assert float(found["loss_bbox"].detach()) == float(found["loss_giou_0"].detach()) == 0


def test_some_of_the_losses() -> None:
    outputs, targets = _outputs("softmax", 1), _targets([3, 0, 4])
    every = ht.SetCriterion(CLASSES)(outputs, targets)
    for losses, names in (
        (["labels"], {"loss_ce", "class_error"}),
        (["boxes"], {"loss_bbox", "loss_giou"}),
    ):
        found = ht.SetCriterion(CLASSES, losses=losses)(outputs, targets)
        assert set(found) == names
        for name, x in found.items():
            torch.testing.assert_close(x, every[name])


def test_errors() -> None:
    with pytest.raises(ValueError, match="a loss is 'label'; expected one of"):
        ht.SetCriterion(CLASSES, losses=["label"])
    with pytest.raises(TypeError, match="matcher is 3; expected a HungarianMatcher"):
        ht.SetCriterion(CLASSES, 3)
    with pytest.raises(ValueError, match="'logits' or 'pred_logits'"):
        ht.SetCriterion(CLASSES)({"pred_boxes": torch.zeros(1, 2, 4)}, [])
    with pytest.raises(ValueError, match=r"class_cost_form='softmax', and the loss .* is 'focal'"):
        ht.SetCriterion(CLASSES, ht.HungarianMatcher(), focal_alpha=0.25)
    with pytest.raises(
        ValueError, match=r"class_cost_form='sigmoid', and the loss .* is 'softmax'"
    ):
        ht.SetCriterion(CLASSES, ht.HungarianMatcher(class_cost_form="sigmoid"))
    with pytest.raises(ValueError, match=r"eos_coef is \['labels'\]; expected a number"):
        ht.SetCriterion(CLASSES, None, {}, ["labels"])
    with pytest.raises(ValueError, match="focal_alpha is 'x'; expected a number"):
        ht.SetCriterion(CLASSES, focal_alpha="x")
    with pytest.raises(ValueError, match="class_loss='softmax'"):
        ht.SetCriterion(CLASSES, class_loss="softmax", focal_alpha=0.5)
