"""The criteria of D-FINE and DEIMv2 beside the published losses: those of transformers.

These keep some constants in float32 whatever they are given, so they are compared in it. What the
authors' code has and the port has not is written out here, in float64.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

torch: Any = pytest.importorskip("torch", reason="transformers is for PyTorch")
pytest.importorskip("transformers", reason="it is the peer")

CLASSES, BINS, LAYERS, QUERIES, GROUPS = 5, 32, 4, 12, 2
COUNTS = {"full": (3, 5), "an image without": (4, 0), "a batch without": (0, 0)}
UPSTREAM = 1.7
NAMES = ("class", "bbox", "giou", "fgl", "ddf")
CONFIG = {
    **{"num_labels": CLASSES, "eos_coefficient": 1e-4, "use_focal_loss": True},
    **{"matcher_class_cost": 2, "matcher_bbox_cost": 5, "matcher_giou_cost": 2},
    **{"matcher_alpha": 0.25, "matcher_gamma": 2.0, "focal_loss_alpha": 0.75},
    **{"weight_loss_vfl": 1, "weight_loss_mal": 1, "weight_loss_bbox": 5, "weight_loss_giou": 2},
    **{"weight_loss_fgl": 0.15, "weight_loss_ddf": 1.5, "auxiliary_loss": True},
    **{"max_num_bins": BINS, "reg_scale": 4.0, "up": 0.5, "mal_alpha": None},
}
PEERS = {  # of the configuration, what differs
    "d_fine": ("loss_d_fine", "DFineForObjectDetectionLoss", {"focal_loss_gamma": 2.0}),
    "deimv2": (
        "loss_deimv2", "Deimv2ForObjectDetectionLoss",
        {"focal_loss_gamma": 1.5, "use_dense_one_to_one": True},
    ),
    "deimv2, own": (
        "loss_deimv2", "Deimv2ForObjectDetectionLoss",
        {"focal_loss_gamma": 1.5, "use_dense_one_to_one": False},
    ),
}  # fmt: skip


def criterion(name: str) -> Any:
    """Return the criterion as transformers' port has it."""
    if name == "d_fine":
        return hc.criteria.d_fine(CLASSES, union=False)
    return hc.criteria.deimv2(CLASSES, union=name == "deimv2")


def scene(counts: tuple[int, ...], queries: int, dtype: Any) -> tuple[dict[str, Any], Any]:
    """Return the outputs of an encoder and of decoder layers, in that order, and targets."""
    rng = np.random.default_rng(sum(counts) + queries)

    def boxes(*shape: int) -> Any:
        corners = np.sort(rng.random((*shape, 2, 2)), axis=-2)
        low, high = corners[..., 0, :], np.minimum(corners[..., 1, :] + 0.05, 1)
        return torch.asarray(np.concatenate([(low + high) / 2, high - low], -1), dtype=dtype)

    shape = (LAYERS + 1, len(counts), queries)
    outputs = {
        "logits": torch.asarray(rng.normal(size=(*shape, CLASSES)), dtype=dtype),
        "boxes": boxes(*shape),
        "edges": torch.asarray(2 * rng.normal(size=(LAYERS, *shape[1:], 4, BINS + 1)), dtype=dtype),
        "references": boxes(*shape[1:]),
    }
    targets = [
        {"class_labels": torch.asarray(rng.integers(CLASSES, size=n)), "boxes": boxes(n)}
        for n in counts
    ]
    # Some queries close to an object, in layers that do not all agree.
    for image, target in enumerate(targets):
        for at, box in enumerate(target["boxes"]):
            outputs["boxes"][at % 3 :, image, at] = box * 0.95
            outputs["references"][image, at] = box * 1.05
    outputs["boxes"][1, :, :2] = outputs["boxes"][1].flip(1)[:, -2:]  # the first two exchanged
    return outputs, targets


def leaves(outputs: dict[str, Any]) -> dict[str, Any]:
    return {name: x.clone().requires_grad_() for name, x in outputs.items()}


def denoising(counts: tuple[int, ...]) -> tuple[Any, Any]:
    """Return what a model says of its queries for denoising, and the objects of these queries."""
    most = max(counts)
    given = torch.full((len(counts), 2 * most * GROUPS), -1)
    positive = []
    for image, n in enumerate(counts):
        at = torch.cat([torch.arange(n) + 2 * most * group for group in range(GROUPS)])
        given[image, at] = torch.arange(n).tile(GROUPS)
        positive.append(at)
    split = [2 * most * GROUPS, QUERIES]
    meta = {"dn_positive_idx": positive, "dn_num_group": GROUPS, "dn_num_split": split}
    return meta, given


def published(name: str, ours: dict[str, Any], noised: dict[str, Any] | None, targets: Any,
              meta: Any) -> dict[str, Any]:  # fmt: skip
    """Return the weighted losses of transformers by name."""
    from importlib import import_module

    module, function, config = PEERS[name]
    # Images first; queries for denoising before the others.
    decoder = {
        "logits": ours["logits"][1:], "boxes": ours["boxes"][1:],
        "edges": ours["edges"].flatten(-2),
        "references": ours["references"].expand(LAYERS, *ours["references"].shape),
    }  # fmt: skip
    if noised is not None:
        more = {
            "logits": noised["logits"][1:], "boxes": noised["boxes"][1:],
            "edges": noised["edges"].flatten(-2),
            "references": noised["references"].expand(LAYERS, *noised["references"].shape),
        }  # fmt: skip
        decoder = {key: torch.cat([more[key], x], dim=2) for key, x in decoder.items()}
    decoder = {key: x.transpose(0, 1) for key, x in decoder.items()}
    _, found, _ = getattr(import_module(f"transformers.loss.{module}"), function)(
        decoder["logits"][:, -1], targets, "cpu", decoder["boxes"][:, -1],
        SimpleNamespace(**{**CONFIG, **config}), decoder["logits"], decoder["boxes"],
        ours["logits"][0], ours["boxes"][0], meta, decoder["edges"], decoder["references"],
    )  # fmt: skip
    return found


def compare(found: Any, theirs: dict[str, Any], suffixes: list[str], name: str) -> Any:
    """Compare the losses of layers with those that are there, and return both sums and the names.

    Layer by layer, the names of the published losses end in `suffixes`.
    """
    labels = {key: f"loss_{key}" for key in NAMES}
    labels["class"] = "loss_vfl" if name == "d_fine" else "loss_mal"
    pairs = {
        labels[key] + suffix: found.losses[key][layer]
        for key in NAMES
        for layer, suffix in enumerate(suffixes)
        if labels[key] + suffix in theirs
    }
    expected = {label: torch.as_tensor(theirs[label], dtype=torch.float32) for label in pairs}
    for label, x in pairs.items():
        torch.testing.assert_close(x, expected[label], rtol=2e-5, atol=2e-6, msg=label)
    return sum(pairs.values()), sum(expected.values()), {*pairs}


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("name", PEERS)
def test_transformers(name: str, counts: str) -> None:
    """Losses by layer and gradients: encoder, decoder and, where there are objects, denoising.

    All that transformers has is compared: the last layer has no FGL there.
    """
    number = COUNTS[counts]
    outputs, targets = scene(number, QUERIES, torch.float32)
    loss, (ours, theirs) = criterion(name), (leaves(outputs) for _ in range(2))
    noised, meta, ours_noised, theirs_noised = None, None, {}, None
    if any(number):
        meta, given = denoising(number)
        noised, _ = scene(number, given.shape[1], torch.float32)
        ours_noised, theirs_noised = leaves(noised), leaves(noised)
    expected = published(name, theirs, theirs_noised, targets, meta)
    found = loss(ours, targets)
    decoder = [f"_aux_{k}" for k in range(LAYERS - 1)]
    one, other, seen = compare(found, expected, [f"_aux_{LAYERS - 1}", *decoder, ""], name)
    # But for the encoder's distributions, which it has not, and the last layer's.
    assert not found.losses["fgl"][0].any()
    assert not found.losses["ddf"][[0, -1]].any()
    if noised is not None:
        # The proposals of the encoder have no queries for denoising.
        of_decoder = {k: x[1:] if k in ("logits", "boxes") else x for k, x in ours_noised.items()}
        more = loss(of_decoder, targets, assignment=given)
        of_noised = compare(more, expected, [f"_dn_{k}" for k in range(LAYERS)], name)
        one, other, seen = one + of_noised[0], other + of_noised[1], seen | of_noised[2]
        assert {f"loss_fgl_dn_{LAYERS - 1}", "loss_ddf_dn_0"} < seen
    assert seen == set(expected)
    assert {"loss_fgl_aux_0", "loss_ddf_aux_1"} < seen
    if name == "deimv2" and any(number):  # the layers do not agree
        union = hc.criteria.union_of_layers(found.assignment)
        assert (union >= 0).sum() > sum(number)
    for x in (one, other):
        (UPSTREAM * x).backward()
    pairs = [(ours, theirs)] if noised is None else [(ours, theirs), (ours_noised, theirs_noised)]
    for a, b in pairs:
        for key in ("logits", "boxes", "edges"):
            x, y = a[key].grad, b[key].grad
            scale = y.abs().max().item()
            assert scale > 0 or not any(number), key
            torch.testing.assert_close(x, y, rtol=0, atol=3e-5 * max(scale, 1e-3), msg=key)
        assert a["references"].grad is None or not a["references"].grad.any()


@pytest.mark.parametrize("counts", [(3, 5), (4, 0)])
def test_the_authors(counts: tuple[int, int]) -> None:
    """Value and gradient of D-FINE's own criterion, written out layer by layer in float64.

    With the union, FGL of the last layer, and boxes before refinement beside the encoder's.
    """
    from collections import Counter

    from scipy.optimize import linear_sum_assignment

    outputs, targets = scene(counts, QUERIES, torch.float64)
    outputs["edges"] = outputs["edges"][1:]
    ours, theirs = (leaves(outputs) for _ in range(2))
    found = hc.criteria.d_fine(CLASSES)(ours, targets)
    places = torch.tensor(hc.boxes.distributions.offsets(), dtype=torch.float64)
    own = []
    for logits, boxes in zip(outputs["logits"], outputs["boxes"], strict=True):
        own.append([])
        for x, box, target in zip(logits, boxes, targets, strict=True):
            p = x.sigmoid()[:, target["class_labels"]]
            cost = 0.25 * (1 - p) ** 2 * -p.log() - 0.75 * p**2 * -(1 - p).log()
            distance = (box[:, None] - target["boxes"]).abs().sum(-1)
            overlap = hc.boxes.giou(box[:, None], target["boxes"], format="cxcywh")
            own[-1].append(linear_sum_assignment(2 * cost + 5 * distance - 2 * overlap))
    union = []
    for image in range(2):
        votes = Counter(
            (int(q), int(m)) for layer in own for q, m in zip(*layer[image], strict=True)
        )
        chosen: dict[int, int] = {}
        for (q, m), _ in sorted(votes.items(), key=lambda x: (-x[1], x[0])):
            chosen.setdefault(q, m)
        union.append((list(chosen), list(chosen.values())))
    pairs = sum(len(q) for q, _ in union)
    assert pairs > sum(counts)
    total, teacher = torch.zeros((), dtype=torch.float64), theirs["edges"][-1].detach() / 5
    for layer in range(LAYERS + 1):
        refined = layer - (LAYERS + 1 - len(outputs["edges"]))
        each, matched = [], []
        for image, target in enumerate(targets):
            x, box = theirs["logits"][layer, image], theirs["boxes"][layer, image]
            i, j = map(torch.as_tensor, own[layer][image])
            iou = hc.boxes.iou(box, box * 0, format="cxcywh").detach()
            iou[i] = hc.boxes.iou(box[i].detach(), target["boxes"][j], format="cxcywh")
            label = torch.zeros_like(x)
            label[i, target["class_labels"][j]] = 1
            score, p = iou[:, None] * label, x.sigmoid().detach()
            vfl = torch.nn.functional.binary_cross_entropy_with_logits(
                x, score, weight=0.75 * p**2 * (1 - label) + score, reduction="sum"
            )
            total = total + vfl / sum(counts)
            q, m = map(torch.as_tensor, union[image])
            if len(q):
                truth = target["boxes"][m]
                total = total + 5 * (box[q] - truth).abs().sum() / pairs
                giou = hc.boxes.giou(box[q], truth, format="cxcywh")
                total = total + 2 * (1 - giou).sum() / pairs
            if refined < 0:
                continue
            edges = theirs["edges"][refined, image]
            certain = theirs["logits"][-1, image].detach().sigmoid().max(-1).values
            is_matched = torch.zeros(QUERIES, dtype=torch.bool)
            if len(q):
                iou = hc.boxes.iou(box[q].detach(), truth, format="cxcywh")
                ref = outputs["references"][image][q]
                unit = ref[:, 2:] / 4
                low, high = truth[:, :2] - truth[:, 2:] / 2, truth[:, :2] + truth[:, 2:] / 2
                apart = torch.cat([(ref[:, :2] - low) / unit, (high - ref[:, :2]) / unit], -1) - 2
                left = ((places <= apart[..., None]).sum(-1) - 1).clamp(0, BINS - 1)
                right = (apart - places[left]) / (places[left + 1] - places[left])
                right = right.clamp(0, 1)
                log_p = edges[q].log_softmax(-1)
                nll = [-log_p.gather(-1, at[..., None])[..., 0] for at in (left, left + 1)]
                fgl = (1 - right) * nll[0] + right * nll[1]
                total = total + 0.15 * (iou[:, None] * fgl).sum() / pairs
                certain = certain.clone()
                certain[q], is_matched[q] = iou, True
            kl = torch.nn.functional.kl_div(
                (edges / 5).log_softmax(-1), teacher[image].softmax(-1), reduction="none"
            )
            each.append(certain[:, None] * 25 * kl.sum(-1))
            matched.append(is_matched[:, None].expand(-1, 4))
        if 0 <= refined < len(outputs["edges"]) - 1:
            kl, at = torch.stack(each), torch.stack(matched)
            positive, negative = (x.sum().double() ** 0.5 for x in (at, ~at))
            ddf = kl[at].mean() * positive + kl[~at].mean() * negative
            total = total + 1.5 * ddf / (positive + negative)
    torch.testing.assert_close(found.total, total, rtol=1e-12, atol=0)
    for x in (found.total, total):
        (UPSTREAM * x).backward()
    for key in ("logits", "boxes", "edges"):
        torch.testing.assert_close(ours[key].grad, theirs[key].grad, rtol=1e-9, atol=1e-13, msg=key)


def test_denoising_of_the_authors() -> None:
    """Its DDF is balanced by the queries of the ordinary call: values and slopes, in float64."""
    counts = (3, 5)
    outputs, targets = scene(counts, QUERIES, torch.float64)
    loss = hc.criteria.d_fine(CLASSES)
    union = hc.criteria.union_of_layers(loss(outputs, targets).assignment)
    balance = torch.stack([(union >= 0).sum(), (union < 0).sum()])
    _, given = denoising(counts)
    noised, _ = scene(counts, given.shape[1], torch.float64)
    edges = noised["edges"].clone().requires_grad_()
    of_decoder = {k: x[1:] if k in ("logits", "boxes") else x for k, x in noised.items()}
    found = loss(
        {**of_decoder, "edges": edges, "balance": balance}, targets, assignment=given
    ).losses["ddf"]
    # Of itself it takes the same, beside the losses of the model's own queries.
    made = hc.denoising.contrastive_queries(targets, CLASSES, seed=0, groups=GROUPS)
    assert (made.assignment == given).all()
    both = loss(outputs, targets, denoising=hc.denoising.Denoised(made, of_decoder))
    torch.testing.assert_close(both.losses["ddf_dn"], found.detach(), rtol=1e-12, atol=0)
    plain = loss(outputs, targets)
    assert [*both.losses] == [*plain.losses, *(f"{name}_dn" for name in plain.losses)]
    torch.testing.assert_close(both.total, sum(x.sum() for x in both.losses.values()))
    # The layers' own matchings, given back, have the same union.
    for again in (plain.assignment, plain.assignment.row4col):
        both = loss(
            outputs, targets, assignment=again, denoising=hc.denoising.Denoised(made, of_decoder)
        )
        torch.testing.assert_close(both.losses["ddf_dn"], found.detach(), rtol=1e-12, atol=0)
    theirs = noised["edges"].clone().requires_grad_()
    matched, (positive, negative) = given >= 0, balance.double() ** 0.5
    expected = []
    for layer in range(LAYERS - 1):
        boxes, certain = of_decoder["boxes"][layer], of_decoder["logits"][-1].sigmoid().amax(-1)
        for image, target in enumerate(targets):
            at = matched[image]
            truth = target["boxes"][given[image][at]]
            certain[image, at] = hc.boxes.iou(boxes[image, at], truth, format="cxcywh")
        kl = torch.nn.functional.kl_div(
            (theirs[layer] / 5).log_softmax(-1), (noised["edges"][-1] / 5).softmax(-1),
            reduction="none",
        )  # fmt: skip
        each = certain[..., None] * 25 * kl.sum(-1)
        both = each[matched].mean() * positive + each[~matched].mean() * negative
        expected.append(1.5 * both / (positive + negative))
    torch.testing.assert_close(found[:-1], torch.stack(expected), rtol=1e-12, atol=0)
    for x in (found.sum(), sum(expected)):
        (UPSTREAM * x).backward()
    torch.testing.assert_close(edges.grad, theirs.grad, rtol=1e-9, atol=1e-13)


def test_coding() -> None:
    """Offsets, true distributions and boxes are those of transformers, in float32."""
    from transformers.image_transforms import center_to_corners_format
    from transformers.loss.loss_d_fine import bbox2distance, weighting_function
    from transformers.models.d_fine.modeling_d_fine import DFineIntegral, distance2bbox

    up = torch.tensor([0.5])
    outputs, _ = scene((1, 1), 50, torch.float32)
    references, boxes = outputs["references"].flatten(0, 1), outputs["boxes"][0].flatten(0, 1)
    for bins, scale in ((4, 4.0), (8, 2.0), (32, 8.0)):
        options: Any = {"bins": bins, "reg_scale": scale}
        places = weighting_function(bins, up, scale)
        ours = torch.tensor(hc.boxes.distributions.offsets(**options))
        torch.testing.assert_close(ours, places, rtol=1e-6, atol=1e-6)
        left, right_weight, left_weight = bbox2distance(
            references, center_to_corners_format(boxes), bins, scale, up
        )
        expected = torch.zeros(len(left), bins + 1)
        at = left.long()[:, None]
        expected.scatter_add_(1, at, left_weight[:, None])
        expected.scatter_add_(1, at + 1, right_weight[:, None])
        found = hc.boxes.distributions.encode(boxes, references, **options).flatten(0, 1)
        assert (expected[:, 0] == 1).any()
        assert (expected[:, -1] == 1).any()
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
        logits = torch.randn(1, len(boxes), 4, bins + 1, generator=torch.Generator())
        mean = DFineIntegral(SimpleNamespace(max_num_bins=bins))(logits.flatten(-2), places)
        torch.testing.assert_close(
            hc.boxes.distributions.decode(logits, references[None], **options),
            distance2bbox(references[None], mean, scale), rtol=0, atol=1e-5,
        )  # fmt: skip
