"""Queries for denoising beside those of transformers' RT-DETR, and the loss of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

import hungarian_core as hc

torch: Any = pytest.importorskip("torch", reason="transformers is for PyTorch")
pytest.importorskip("transformers", reason="it is the peer", exc_type=ImportError)

from transformers.loss.loss_rt_detr import RTDetrLoss  # noqa: E402  # after the skips
from transformers.models.rt_detr.modeling_rt_detr import (  # noqa: E402
    get_contrastive_denoising_training_group as theirs,
)

CLASSES = 6


def _targets(counts: Any, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "class_labels": torch.from_numpy(rng.integers(0, CLASSES, n)),
            "boxes": torch.from_numpy(rng.uniform(0.2, 0.5, (n, 4)).astype(np.float32)),
        }
        for n in counts
    ]


@pytest.mark.parametrize("queries", [1, 7, 20, 100])
@pytest.mark.parametrize("counts", [(3, 1, 0, 5), (1,), (2, 2), (120, 4)])
def test_structure(counts: tuple[int, ...], queries: int) -> None:
    """Shapes, order, attention and positions, without any noise in labels."""
    targets = _targets(counts)
    labels, boxes, mask, meta = theirs(targets, CLASSES, 9, lambda x: x, queries, 0.0, 1.0)
    found = hc.denoising.contrastive_queries(
        targets, CLASSES, seed=1, queries=queries, label_noise_ratio=0.0
    )
    assert found.labels.tolist() == labels.tolist()
    assert found.boxes.shape == boxes.shape
    assert (found.attention_mask(9) == (mask == 0)).all()
    assert int(found.group.max()) + 1 == meta["dn_num_group"]
    assert meta["dn_num_split"] == [found.labels.shape[1], 9]
    matches = RTDetrLoss.get_cdn_matched_indices(meta, targets)
    for row, (at, objects) in zip(found.assignment, matches, strict=True):
        positive = (row >= 0).nonzero()[:, 0]
        assert positive.tolist() == at.tolist()
        assert row[positive].tolist() == objects.tolist()


def test_distribution() -> None:
    """Of 25,000 queries of each: labels, and the coordinates of near and of far boxes.

    For one object in 250 images and 100 groups; a sound generator fails with a
    probability of 1e-3 in each of the comparisons.
    """
    torch.manual_seed(0)
    targets = [{"class_labels": torch.tensor([2]), "boxes": torch.tensor([[0.5, 0.4, 0.3, 0.5]])}]
    targets = targets * 250
    labels, boxes, _, _ = theirs(targets, CLASSES, 1, lambda x: x, 100, 0.7, 0.9)
    options: Any = {"label_noise_ratio": 0.7, "box_noise_scale": 0.9}
    found = hc.denoising.contrastive_queries(targets, CLASSES, seed=5, queries=100, **options)
    mine = hc.denoising.inverse_sigmoid(found.boxes)
    counts = np.stack(
        [np.bincount(x.flatten().numpy(), minlength=CLASSES) for x in (labels, found.labels)]
    )
    assert stats.chi2_contingency(counts).pvalue > 1e-3
    assert counts[1][2] / counts[1].sum() == pytest.approx(1 - 0.35 * 5 / 6, abs=0.01)
    for kind in range(2):
        near, other = (x.reshape(-1, 2, 4)[:, kind].numpy() for x in (mine, boxes))
        for k in range(4):
            assert stats.ks_2samp(near[:, k], other[:, k]).pvalue > 1e-3
        # How coordinates hang together, too: a centre and a side come of the same corners.
        between = [np.corrcoef(x.T.astype(np.float64)) for x in (near, other)]
        np.testing.assert_allclose(*between, atol=0.03)


def test_moves_are_uniform() -> None:
    """Of near and far corners inside of the image, by their known law; and signs are fair."""
    box = np.array([[[0.5, 0.5, 0.2, 0.2]]])
    found = hc.denoising.contrastive_queries(
        {"labels": np.array([[0]]), "boxes": box}, 3, seed=9, groups=20_000
    )
    corners = hc.boxes.convert(found.boxes, "cxcywh", "xyxy").reshape(-1, 2, 4)
    moves = (corners - hc.boxes.convert(box, "cxcywh", "xyxy")) / 0.1
    for k in range(4):
        assert stats.kstest(np.abs(moves[:, 0, k]), "uniform").pvalue > 1e-3
        assert stats.binomtest(int((moves[:, 0, k] > 0).sum()), len(moves)).pvalue > 1e-3
    assert np.abs(np.corrcoef(moves[:, 0].T) - np.eye(4)).max() < 4.5 / np.sqrt(len(moves))
    plain = hc.denoising.denoising_queries(
        {"labels": np.array([[0]]), "boxes": box}, 3, seed=9, groups=20_000, box_noise_scale=1.0
    )
    shifts = (plain.boxes[0] - box[0]) / np.array([0.1, 0.1, 0.2, 0.2])
    for k in range(4):
        assert stats.kstest(shifts[:, k], "uniform", (-1, 2)).pvalue > 1e-3


def test_loss_of_rt_detr() -> None:
    """Of two layers, the terms that it has for its queries for denoising."""
    settings = SimpleNamespace(
        num_labels=CLASSES, matcher_class_cost=2.0, matcher_bbox_cost=5.0, matcher_giou_cost=2.0,
        use_focal_loss=True, matcher_alpha=0.25, matcher_gamma=2.0, weight_loss_vfl=1.0,
        weight_loss_bbox=5.0, weight_loss_giou=2.0, eos_coefficient=1e-4, focal_loss_alpha=0.75,
        focal_loss_gamma=2.0,
    )  # fmt: skip
    targets = _targets((3, 1, 0, 5))
    _, _, _, meta = theirs(targets, CLASSES, 9, lambda x: x, 20)
    made = hc.denoising.contrastive_queries(targets, CLASSES, seed=0, queries=20)
    queries = made.labels.shape[1]
    rng = np.random.default_rng(1)
    logits = torch.from_numpy(rng.normal(size=(2, 4, queries, CLASSES)))
    boxes = torch.from_numpy(rng.uniform(0.2, 0.6, (2, 4, queries, 4)))
    targets = [{**t, "boxes": t["boxes"].double()} for t in targets]
    layers = [{"logits": x, "pred_boxes": y} for x, y in zip(logits, boxes, strict=True)]
    published = RTDetrLoss(settings)(
        {**layers[0], "dn_auxiliary_outputs": layers, "denoising_meta_values": meta}, targets
    )
    criterion = hc.DetrLoss.preset("rt_detr", num_classes=CLASSES)
    denoised = hc.denoising.Denoised(made, {"logits": logits, "boxes": boxes})
    found = criterion(logits, boxes, targets, denoising=denoised).denoising
    for name, of_theirs in (("class", "vfl"), ("bbox", "bbox"), ("giou", "giou")):
        for layer in range(2):
            wanted = float(published[f"loss_{of_theirs}_dn_{layer}"])
            assert float(found[name][layer]) == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("counts", [(1, 2), (0, 0)])
def test_workers_ask_each_other_once(
    counts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a worker has objects, or queries for denoising, or not; DINO's number of objects.

    Three workers stand for what all have together: 9 objects more than this one.
    """
    targets, rng = _targets(counts), np.random.default_rng(1)
    made = hc.denoising.contrastive_queries(targets, CLASSES, seed=0, groups=4)

    def outputs(queries: int) -> dict[str, Any]:
        boxes = torch.from_numpy(rng.uniform(0.2, 0.6, (2, 2, queries, 4)))
        return {"logits": torch.zeros(2, 2, queries, CLASSES).double(), "boxes": boxes}

    own, denoised = outputs(9), hc.denoising.Denoised(made, outputs(made.group.shape[0]))
    terms: Any = [hc.terms.Classes(CLASSES, loss="focal")], [hc.terms.Boxes()]
    loss = hc.SetLoss([*terms[0], *terms[1]])
    alone = loss(own, targets, denoising=denoised)
    asked: list[Any] = []

    def all_reduce(self: Any, x: Any) -> Any:
        asked.append(x)
        return x + torch.tensor([9.0, 2.0]) if len(x) == 2 else 3 * x

    monkeypatch.setattr(type(hc.get_backend("torch")), "all_reduce", all_reduce)
    loss(own, targets)
    found = loss(own, targets, denoising=denoised)
    assert len(asked) == 2
    share = max(sum(counts), 1) / max((sum(counts) + 9) / 3, 1)
    for name, x in alone.losses.items():
        torch.testing.assert_close(found.losses[name], x * share, msg=name)
    union, numbers = hc.criteria.UnionLoss(*terms), []
    for given in (None, denoised):
        asked.clear()
        union(own, targets, denoising=given)
        numbers.append([x.shape for x in asked])
    assert numbers[0] == numbers[1]
