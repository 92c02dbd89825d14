"""`DetrLoss` beside the published losses: those of transformers, term by term."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

import hungarian_core as hc

torch: Any = pytest.importorskip("torch", reason="transformers is for PyTorch")
pytest.importorskip("transformers", reason="it is the peer")

pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
CLASSES = 7
TERMS = ("class_", "bbox", "giou")
UNUSED: Any = {"allow_unused": True, "materialize_grads": True}


class Peer(NamedTuple):
    """A published loss, its settings, and the names and weights of its terms."""

    module: str
    function: str
    matcher: str
    config: dict[str, Any]
    names: tuple[str, str, str]
    weights: tuple[float, float, float]
    weighted: bool  # the terms as it reports them


def settings(class_cost: float, **more: Any) -> dict[str, Any]:
    """Return a configuration as DETR and most after it name its fields."""
    loss = {"bbox_loss_coefficient": 5, "giou_loss_coefficient": 2, "class_loss_coefficient": 1}
    cost = {"class_cost": class_cost, "bbox_cost": 5, "giou_cost": 2}
    return {"num_labels": CLASSES, **cost, **loss, "eos_coefficient": 0.1, **more}


OF_RT_DETR = {
    **{"num_labels": CLASSES, "eos_coefficient": 1e-4, "use_focal_loss": True},
    **{"matcher_class_cost": 2, "matcher_bbox_cost": 5, "matcher_giou_cost": 2},
    **{"matcher_alpha": 0.25, "matcher_gamma": 2.0},
    **{"focal_loss_alpha": 0.75, "focal_loss_gamma": 2.0},
    **{"weight_loss_vfl": 1, "weight_loss_bbox": 5, "weight_loss_giou": 2},
}
CE, VFL = ("loss_ce", "loss_bbox", "loss_giou"), ("loss_vfl", "loss_bbox", "loss_giou")
PEERS = {
    "detr": Peer(
        "loss_for_object_detection", "ForObjectDetectionLoss", "HungarianMatcher",
        settings(1), CE, (1, 5, 2), False,
    ),
    "hf_deformable": Peer(
        "loss_deformable_detr", "DeformableDetrForObjectDetectionLoss",
        "DeformableDetrHungarianMatcher", settings(1, focal_alpha=0.25), CE, (1, 5, 2), False,
    ),
    "lw_detr": Peer(
        "loss_lw_detr", "LwDetrForObjectDetectionLoss", "LwDetrHungarianMatcher",
        settings(2, focal_alpha=0.25, group_detr=1), CE, (1, 5, 2), False,
    ),
    "rt_detr": Peer(
        "loss_rt_detr", "RTDetrForObjectDetectionLoss", "RTDetrHungarianMatcher",
        OF_RT_DETR, VFL, (1, 5, 2), True,
    ),
}  # fmt: skip
# Images with their numbers of objects, for 12 queries.
COUNTS = {
    "full": (3, 5, 4),
    "an image without": (3, 0, 5),
    "a batch without": (0, 0),
    "more than queries": (17, 2, 12),
}


@pytest.fixture(params=sorted(TOLERANCE))
def dtype(request: pytest.FixtureRequest) -> Iterator[str]:
    """Compute in a dtype, in which the published losses also keep their constants."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, request.param))
    yield request.param
    torch.set_default_dtype(before)


def scenes(
    counts: tuple[int, ...], layers: int, logits: int, scale: float = 2.0, queries: int = 12
) -> tuple[Any, Any, list[dict[str, Any]]]:
    """Return logits and boxes with a layer axis, and targets."""
    rng = np.random.default_rng(len(counts) + layers + sum(counts))
    shape = (layers, len(counts), queries)
    x = scale * rng.normal(size=(*shape, logits))
    corners = np.sort(rng.random((*shape, 2, 2)), axis=-2)
    truth = [np.sort(rng.random((n, 2, 2)), axis=-2) for n in counts]
    targets = [
        {
            "class_labels": torch.asarray(rng.integers(CLASSES, size=len(t))),
            "boxes": torch.asarray(_boxes(t), dtype=torch.get_default_dtype()),
        }
        for t in truth
    ]
    arrays = (torch.asarray(a, dtype=torch.get_default_dtype()) for a in (x, _boxes(corners)))
    return *arrays, targets


def _boxes(corners: np.ndarray) -> np.ndarray:
    """Return boxes in cxcywh, none without area, of sorted corners `[..., 2, 2]`."""
    low, high = corners[..., 0, :], corners[..., 1, :] + 0.05
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def published(
    peer: Peer, logits: Any, boxes: Any, targets: list[dict[str, Any]], **config: Any
) -> tuple[Any, dict[str, Any], Any]:
    """Return what the published loss reports: the total, weighted terms by layer, cardinality."""
    module = import_module(f"transformers.loss.{peer.module}")
    layers = len(logits)
    settings = SimpleNamespace(
        **{**peer.config, "auxiliary_loss": layers > 1, "decoder_layers": layers, **config}
    )
    call = [logits[-1], targets, logits.device, boxes[-1], settings]
    suffixes = [f"_{k}" for k in range(layers - 1)]
    more = {}
    if peer.weighted and layers > 1:
        # The last but one comes from the encoder; the others are of images first.
        decoder = [*range(layers - 2), layers - 1]
        call += [x[decoder].transpose(0, 1) for x in (logits, boxes)]
        more = {"enc_topk_logits": logits[-2], "enc_topk_bboxes": boxes[-2]}
        suffixes = [f"_aux_{k}" for k in range(layers - 1)]
    elif peer.function.startswith("LwDetr"):
        decoder = [*range(layers - 2), layers - 1]
        settings.auxiliary_loss = len(decoder) > 1
        call += [logits[decoder], boxes[decoder], logits[-2], boxes[-2]]
        suffixes[-1] = "_enc"
    elif layers > 1:
        call += [logits, boxes]
    total, found, _ = getattr(module, peer.function)(*call, **more)
    suffixes.append("")
    scales = (1, 1, 1) if peer.weighted else peer.weights
    terms = {
        term: torch.stack([scale * found[name + suffix] for suffix in suffixes])
        for term, name, scale in zip(TERMS, peer.names, scales, strict=True)
    }
    counted = None
    if not peer.weighted:
        counted = torch.stack([found["cardinality_error" + suffix] for suffix in suffixes])
    return total, terms, counted


def close(found: Any, expected: Any, dtype: str) -> None:
    """Compare relative to the largest there is."""
    found, expected = (x.detach().numpy() for x in (found, expected))
    assert found.dtype.name == expected.dtype.name == dtype
    scale = max(np.abs(expected).max(), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype] * scale)


def assert_equal(
    name: str, data: tuple[Any, Any, Any], dtype: str, groups: int = 1, **options: Any
) -> None:
    """Compare totals, terms, and the gradients of every term with weights for its layers."""
    logits, boxes, targets = data
    criterion = hc.DetrLoss.preset(name, CLASSES, groups=groups, **options)
    ours = [x.clone().requires_grad_() for x in (logits, boxes)]
    theirs = [x.clone().requires_grad_() for x in (logits, boxes)]
    found = criterion(*ours, targets)
    config = {"group_detr": groups} if groups > 1 else {}
    total, terms, counted = published(PEERS[name], *theirs, targets, **config)
    close(found.total, total, dtype)
    if counted is not None and groups == 1:
        # They count in float32 whatever they are given.
        np.testing.assert_allclose(found.cardinality_error, counted, rtol=1e-6)
    upstream = torch.linspace(-0.5, 3.0, len(logits) + 1)[1:]
    for term in TERMS:
        close(getattr(found, term), terms[term], dtype)
        values = (getattr(found, term), terms[term])
        grads = [
            torch.autograd.grad((value * upstream).sum(), leaves, retain_graph=True, **UNUSED)
            for value, leaves in zip(values, (ours, theirs), strict=True)
        ]
        for x, y in zip(*grads, strict=True):
            close(x, y, dtype)


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("name", PEERS)
def test_equal(name: str, counts: str, dtype: str) -> None:
    assert_equal(name, scenes(COUNTS[counts], 3, CLASSES + (name == "detr")), dtype)


@pytest.mark.parametrize("name", ["detr", "hf_deformable", "rt_detr"])
def test_equal_without_auxiliary_layers(name: str, dtype: str) -> None:
    assert_equal(name, scenes(COUNTS["full"], 1, CLASSES + (name == "detr")), dtype)


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("groups", [2, 3])
def test_equal_in_groups(groups: int, counts: str, dtype: str) -> None:
    """In training, groups of queries are matched each for itself.

    The published cardinality error sets the claims of all groups against one set of objects, and
    is left out here: ours has the objects once per group.
    """
    data = scenes(COUNTS[counts], 2, CLASSES, queries=12 * groups)
    assert_equal("lw_detr", data, dtype, groups)


# Of LW-DETR's published loss, saturated logits make NaN.
@pytest.mark.parametrize("name", ["detr", "hf_deformable", "rt_detr"])
def test_equal_with_saturated_logits(name: str, dtype: str) -> None:
    """With the cost as published, whose epsilon decides where probabilities are 0 or 1."""
    logits, boxes, targets = scenes(COUNTS["full"], 2, CLASSES + (name == "detr"))
    logits[:, :, ::2] *= 15
    options = {} if name == "detr" else {"class_cost_form": "focal_published"}
    assert_equal(name, (logits, boxes, targets), dtype, **options)


def test_finite_where_the_published_is_not() -> None:
    logits, boxes, targets = scenes(COUNTS["full"], 2, CLASSES)
    logits *= 40
    _, terms, _ = published(PEERS["lw_detr"], logits, boxes, targets)
    assert not torch.isfinite(terms["class_"]).all()
    assert torch.isfinite(hc.DetrLoss.preset("lw_detr", CLASSES)(logits, boxes, targets).total)


@pytest.mark.parametrize("counts", ["full", "an image without", "more than queries"])
@pytest.mark.parametrize("term", ["class", "bbox", "giou"])
@pytest.mark.parametrize("name", ["detr", "hf_deformable", "rt_detr", "lw_detr"])
def test_costs(
    name: str, term: str, counts: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every term is the block of an image, of the matrix that the published matcher cuts up."""
    logits, boxes, targets = scenes(COUNTS[counts], 1, CLASSES + (name == "detr"))
    form = {} if name == "detr" else {"class_cost_form": "focal_published"}
    found = hc.DetrLoss.preset(name, CLASSES, **form).costs(logits[0], boxes[0], targets)[term]
    # LW-DETR measures boxes in float32 whatever it is given.
    coarse = name == "lw_detr" and term != "class"
    tolerance = 10 * TOLERANCE["float32" if coarse else dtype]
    blocks = published_costs(name, term, logits[0], boxes[0], targets, monkeypatch)
    assert len(blocks) == len(targets)
    for image, block in enumerate(blocks):
        ours = found[image, : block.shape[1]].numpy().T
        np.testing.assert_allclose(ours, block, rtol=0, atol=tolerance)


def published_costs(
    name: str, term: str, logits: Any, boxes: Any, targets: Any, monkeypatch: pytest.MonkeyPatch
) -> list[np.ndarray]:
    """Return the matrices `[Q, n]` of one term that the published matcher would solve."""
    peer, blocks = PEERS[name], []
    module = import_module(f"transformers.loss.{peer.module}")

    def solve(block: Any) -> tuple[np.ndarray, np.ndarray]:
        blocks.append(block.numpy())
        return np.zeros(0, np.int64), np.zeros(0, np.int64)

    monkeypatch.setattr(module, "linear_sum_assignment", solve)
    prefix = "matcher_" if name == "rt_detr" else ""
    keys = [f"{prefix}{key}_cost" for key in ("class", "bbox", "giou")]
    only = {key: peer.config[key] * (key == f"{prefix}{term}_cost") for key in keys}
    kind = getattr(module, peer.matcher)
    matcher = kind(SimpleNamespace(**{**peer.config, **only})) if prefix else kind(**only)
    groups = (1,) if name == "lw_detr" else ()
    matcher({"logits": logits, "pred_boxes": boxes}, targets, *groups)
    return blocks
