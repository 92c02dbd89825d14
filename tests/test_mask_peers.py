"""`masks` beside the published functions that it replaces: transformers, and torch's sampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import hungarian_core as hc

torch = pytest.importorskip("torch", reason="the peers are its users")
MASKS: Any = hc.masks
# Relative to the largest.
TOLERANCE = {"float32": 1e-5, "float64": 1e-11}


def _module(name: str) -> Any:
    return pytest.importorskip(f"transformers.{name}", reason="for the published functions")


def _inputs(dtype: str, n: int, m: int) -> list[Any]:
    """Return n true masks of 0 and 1 and m masks of logits, saturated ones among them."""
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(n, 96, generator=generator) > 0.6).to(getattr(torch, dtype))
    logits = torch.randn(m, 96, generator=generator, dtype=torch.float64) * 8
    return [targets, logits.to(targets.dtype)]


def _same(ours: Callable[..., Any], published: Callable[..., Any], inputs: list[Any]) -> None:
    """Compare values and gradients, for an upstream gradient other than 1."""
    found = []
    for function in (ours, published):
        leaves = [x.clone().requires_grad_() for x in inputs]
        value = function(*leaves)
        upstream = torch.linspace(1, 3, value.numel(), dtype=value.dtype).reshape(value.shape)
        found.append([value.detach(), *torch.autograd.grad(value, leaves, upstream)])
    for x, y in zip(*found, strict=True):
        atol = TOLERANCE[str(x.dtype).removeprefix("torch.")] * float(y.abs().max())
        torch.testing.assert_close(x, y, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", sorted(TOLERANCE))
@pytest.mark.parametrize("kind", ["bce", "focal", "dice"])
def test_matching_costs(kind: str, dtype: str) -> None:
    """Of MaskFormer and Mask2Former, whose rows are the predictions."""
    names = {"bce": "pair_wise_sigmoid_cross_entropy_loss", "focal": "pair_wise_sigmoid_focal_loss"}
    model = "maskformer" if kind == "focal" else "mask2former"
    module = _module(f"models.{model}.modeling_{model}")
    published = getattr(module, names.get(kind, "pair_wise_dice_loss"))
    ours = getattr(MASKS, f"pairwise_{kind}")
    _same(lambda t, x: ours(t, x, axes=1), lambda t, x: published(x, t).T, _inputs(dtype, 5, 7))


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [(3, 11), (12, 5), (6, 8), (24, 32), (1, 1)])
def test_resize(size: tuple[int, int], mode: Any) -> None:
    """Of PyTorch, up, down and to the same size."""
    masks = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    options = {"align_corners": False} if mode == "bilinear" else {}
    _same(
        lambda x: MASKS.resize(x, size, mode=mode),
        lambda x: torch.nn.functional.interpolate(x, size, mode=mode, **options),
        [masks],
    )


def test_sample_the_nearest() -> None:
    """Of PyTorch, outside of the masks too."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.randn(2, 3, 6, 8, generator=generator)
    points = torch.rand(2, 500, 2, generator=generator) * 1.4 - 0.2
    _same(
        lambda x: MASKS.sample(x, points, mode="nearest"),
        lambda x: torch.nn.functional.grid_sample(
            x, 2 * points[:, None] - 1, mode="nearest", align_corners=False
        )[:, :, 0],
        [masks],
    )


@pytest.mark.parametrize("dtype", sorted(TOLERANCE))
@pytest.mark.parametrize("kind", ["bce", "focal", "dice"])
def test_losses(kind: str, dtype: str) -> None:
    """Of DETR and Mask2Former, which sum over the pairs and divide by their number."""
    if kind == "bce":
        module = _module("models.mask2former.modeling_mask2former")
        published = module.sigmoid_cross_entropy_loss
    else:
        module = _module("loss.loss_for_object_detection")
        published = module.dice_loss if kind == "dice" else module.sigmoid_focal_loss
    ours = getattr(MASKS, kind)
    _same(
        lambda t, x: ours(t, x, axes=1).sum() / 3, lambda t, x: published(x, t, 3),
        _inputs(dtype, 5, 5),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", sorted(TOLERANCE))
def test_sampling(dtype: str) -> None:
    """`grid_sample`, with points beyond every edge."""
    generator = torch.Generator().manual_seed(1)
    masks = torch.randn(2, 3, 5, 9, generator=generator, dtype=torch.float64)
    points = torch.rand(2, 40, 2, generator=generator, dtype=torch.float64) * 1.6 - 0.3

    def published(masks: Any, points: Any) -> Any:
        grid = 2 * points[:, :, None] - 1
        return torch.nn.functional.grid_sample(masks, grid, align_corners=False)[..., 0]

    inputs = [x.to(getattr(torch, dtype)) for x in (masks, points)]
    _same(MASKS.sample, published, inputs)


@pytest.mark.parametrize("ratio", [0.75, 0.4, 0.0, 1.0])
def test_uncertain_points(ratio: float) -> None:
    """The same points of the same random numbers."""
    module = _module("models.mask2former.modeling_mask2former")
    count = 12
    logits = torch.randn(4, 1, 8, 6, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(3)
    expected = module.Mask2FormerLoss.sample_points_using_uncertainty(
        None, logits, lambda x: -x.abs(), count, 3, ratio
    )
    torch.manual_seed(3)
    drawn = [torch.rand(4, extent, 2) for extent in (3 * count, count - int(ratio * count))]
    candidates = torch.cat(drawn, dim=1)
    found = MASKS.uncertain_points(logits[:, 0], candidates, count, importance_ratio=ratio)
    assert torch.equal(found, expected)


def test_rf_detr_with_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two layers in three groups: matching and losses, at points that both are given."""
    module = _module("loss.loss_rf_detr")
    groups, queries, classes = 3, 6, 4
    # A sixteenth of the numbers of boxes: transformers takes their shape for that of masks.
    points = 3 * groups * queries * 4 // 16
    number, noise = 8, torch.Generator().manual_seed(5)  # of the points of a pair: the height
    drawn = {
        n: torch.rand(1, n, 2, generator=noise)
        for n in (points, 3 * number, number - int(0.75 * number))
    }
    targets = [
        {
            "class_labels": torch.randint(classes, (n,), generator=noise),
            "boxes": torch.rand(n, 4, generator=noise) * 0.3 + 0.2,
            "masks": (torch.rand(n, 16, 12, generator=noise) > 0.5).float(),
        }
        for n in (3, 0, 2)
    ]
    shape = (2, 3, groups * queries)
    logits = torch.randn(*shape, classes, generator=noise)
    boxes = torch.rand(*shape, 4, generator=noise) * 0.3 + 0.2
    masks = torch.randn(*shape, 8, 6, generator=noise) * 3
    matcher = module.RfDetrHungarianMatcher(2.0, 5.0, 2.0, 16, 5.0, 5.0)
    losses = ["labels", "boxes", "masks"]
    published = module.RfDetrImageLoss(matcher, classes, 0.25, losses, groups, 16)
    last, first = (
        {"logits": logits[k], "pred_boxes": boxes[k], "pred_masks": masks[k]} for k in (1, 0)
    )
    with monkeypatch.context() as patched:
        patched.setattr(torch, "rand", lambda *x, device: drawn[x[1]].expand(*x).clone())
        theirs = published({**last, "auxiliary_outputs": [first]}, targets)
    criterion = hc.DetrLoss.preset("rf_detr_seg", classes, groups=groups)
    candidates = torch.cat([drawn[3 * number], drawn[number - int(0.75 * number)]], dim=1)
    ours = criterion(
        logits, boxes, targets, masks=masks, points=drawn[points].expand(3, -1, -1),
        candidates=candidates[None],
    )  # fmt: skip
    weights = {"ce": 5.0, "bbox": 5.0, "giou": 2.0, "mask_ce": 5.0, "mask_dice": 5.0}
    names = {"ce": "class_", "mask_ce": "mask", "mask_dice": "dice"}
    for name, weight in weights.items():
        found = getattr(ours, names.get(name, name))
        for layer, end in enumerate(("_0", "")):
            expected = weight * theirs[f"loss_{name}{end}"]
            torch.testing.assert_close(found[layer], expected, rtol=2e-5, atol=0, msg=name)
