"""Tiny segmenters of transformers, randomly initialised, with our criterion in place of theirs."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="transformers is for PyTorch")
hf: Any = pytest.importorskip("transformers", reason="its models are the subject")
ht: Any = pytest.importorskip("hungarian_torch", reason="for PyTorch")

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE, LABELS, QUERIES = 64, 3, 8
SWIN = {"embed_dim": 8, "depths": [1] * 4, "num_heads": [1, 1, 2, 2], "window_size": 2}
SWIN |= {"image_size": SIZE, "patch_size": 4, "drop_path_rate": 0.0}
SWIN |= {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
FORMER = {"hidden_dim": 32, "encoder_feedforward_dim": 32, "dim_feedforward": 32, "dropout": 0.0}
FORMER |= {"num_queries": QUERIES, "encoder_layers": 1, "decoder_layers": 3, "num_labels": LABELS}
FORMER |= {"num_attention_heads": 2, "train_num_points": 50, "use_auxiliary_loss": True}
TEXT = {"hidden_dim": 64, "text_encoder_width": 64, "text_encoder_context_length": 7}
TEXT |= {
    "text_encoder_num_layers": 1,
    "text_encoder_vocab_size": 50,
    "text_encoder_n_ctx": 2,
    "task_seq_len": 7,
}
TEXT |= {"query_dec_layers": 1, "is_training": True, "conv_dim": 64, "mask_dim": 64}
VIT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": SIZE}
VIT |= {"patch_size": 8, "num_queries": QUERIES, "num_blocks": 2, "num_upscale_blocks": 1}
VIT |= {"train_num_points": 50, "num_labels": LABELS}
NAMES = {
    "MaskFormer": "Instance",
    **dict.fromkeys(("Mask2Former", "OneFormer", "Eomt", "EomtDinov3", "Videomt"), "Universal"),
}
# MaskFormer's auxiliary loss fails in the model, VideoMT takes no labels: see `test_criteria`.
TRAINED = [name for name in NAMES if name != "Videomt"]


def config(name: str) -> Any:
    """Return the configuration of a small model."""
    kind = getattr(hf, f"{name}Config")
    if name == "MaskFormer":
        sizes = {"d_model": 32, "decoder_layers": 2, "encoder_layers": 1, "num_queries": QUERIES}
        sizes |= {"decoder_ffn_dim": 32, "encoder_ffn_dim": 32, "dropout": 0.0}
        sizes |= {"decoder_attention_heads": 2, "encoder_attention_heads": 2}
        features = {"fpn_feature_size": 32, "mask_feature_size": 32, "num_labels": LABELS}
        decoder = hf.DetrConfig(**sizes)
        return kind(backbone_config=hf.SwinConfig(**SWIN), decoder_config=decoder, **features)
    if name == "Mask2Former":
        features = {"feature_size": 32, "mask_feature_size": 32}
        return kind(backbone_config=hf.SwinConfig(**SWIN), **FORMER, **features)
    if name == "OneFormer":
        return kind(backbone_config=hf.SwinConfig(**SWIN), **{**FORMER, **TEXT})
    return kind(**VIT, **({} if name == "Eomt" else {"intermediate_size": 32}))


def segmenter(name: str) -> Any:
    """Return a model, in training."""
    torch.manual_seed(0)
    return getattr(hf, f"{name}For{NAMES[name]}Segmentation")(config(name)).train()


def batch(name: str, counts: tuple[int, ...] = (2, 0, 4)) -> dict[str, Any]:
    """Return images of noise, and what is in them."""
    noise = torch.Generator().manual_seed(1)
    masks = [(torch.rand(n, SIZE, SIZE, generator=noise) > 0.7) * 1.0 for n in counts]
    labels = [torch.randint(LABELS, (n,), generator=noise) for n in counts]
    data = {"mask_labels": masks, "class_labels": labels}
    data["pixel_values"] = torch.randn(len(counts), 3, SIZE, SIZE, generator=noise)
    if name == "OneFormer":
        data["task_inputs"] = torch.randint(50, (len(counts), 7), generator=noise)
        data["text_inputs"] = torch.randint(50, (len(counts), 6, 7), generator=noise)
    return data


def run(model: Any, data: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Return the loss and the gradients of all parameters, always after the same seed."""
    torch.manual_seed(2)
    loss = model(**data).loss.squeeze()  # OneFormer's own has one axis
    parameters = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    return loss.detach(), [g for g in grads if g is not None]


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute in float64, where the published criteria too keep their constants in it."""
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(torch, "float", torch.double)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("counts", [(2, 0, 4), (9, 3)])
@pytest.mark.parametrize("name", TRAINED)
def test_in_place_of_theirs(name: str, counts: tuple[int, ...], float64: None) -> None:
    """The loss, and the gradients of all parameters."""
    model, data = segmenter(name), batch(name, counts)
    expected, expected_grads = run(model, data)
    before = list(model.state_dict())
    model.criterion = ht.TransformersCriterion.for_model(model)
    assert list(model.state_dict()) == before
    found, grads = run(model, data)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    largest = max(g.abs().max() for g in expected_grads)
    for x, y in zip(grads, expected_grads, strict=True):
        assert (x - y).abs().max() <= 1e-9 * largest


def predictions(counts: tuple[int, ...], dtype: Any) -> tuple[list[Any], list[Any]]:
    """Return logits of masks and of classes, of three layers each."""
    noise = torch.Generator().manual_seed(3)
    shape = len(counts), QUERIES
    masks = [3 * torch.randn(*shape, 16, 12, generator=noise, dtype=dtype) for _ in range(3)]
    classes = [torch.randn(*shape, LABELS + 1, generator=noise, dtype=dtype) for _ in range(3)]
    return [x.requires_grad_() for x in masks], [x.requires_grad_() for x in classes]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("counts", [(2, 0, 4), (0, 0), (9, 3)])
@pytest.mark.parametrize("name", NAMES)
def test_criteria(
    name: str, counts: tuple[int, ...], dtype: str, request: pytest.FixtureRequest
) -> None:
    """What is reported under which names, with auxiliary layers, and all gradients."""
    if dtype == "float64":
        request.getfixturevalue("float64")
    model, data = segmenter(name), batch(name, counts)
    truth = [x.to(getattr(torch, dtype)) for x in data["mask_labels"]]
    more = {}
    if name == "OneFormer":
        generator = torch.Generator().manual_seed(4)
        texts = [torch.randn(len(counts), 4, 6, generator=generator) for _ in range(2)]
        more = {"contrastive_queries_logits": texts[0], "text_queries": texts[1]}
        more["calculate_contrastive_loss"] = True
    found = []
    for criterion in (model.criterion, ht.TransformersCriterion.for_model(model)):
        masks, classes = predictions(counts, getattr(torch, dtype))
        layers = [
            {"masks_queries_logits": x, "class_queries_logits": y}
            for x, y in zip(masks[1:], classes[1:], strict=True)
        ]
        torch.manual_seed(5)
        losses = criterion(
            masks_queries_logits=masks[0], class_queries_logits=classes[0], mask_labels=truth,
            class_labels=data["class_labels"], auxiliary_predictions=layers, **more,
        )  # fmt: skip
        for x in losses.values():
            x *= 1.7  # as the models weigh them
        total = sum(x.sum() for x in losses.values())
        found.append((losses, torch.autograd.grad(total, [*masks, *classes])))
    (expected, expected_grads), (losses, grads) = found
    assert list(losses) == list(expected)
    assert {"loss_mask", "loss_cross_entropy_1"} < set(losses)
    tolerance = 1e-5 if dtype == "float32" else 1e-10
    for key, x in expected.items():
        torch.testing.assert_close(losses[key], x.squeeze(), rtol=tolerance, atol=1e-12)
    for x, y in zip(grads, expected_grads, strict=True):
        assert (x - y).abs().max() <= tolerance * max(y.abs().max(), 1e-6)


def by_hand(model: Any, data: dict[str, Any]) -> list[list[float]]:
    """Return the losses of three steps, of a model whose list of inputs `Trainer` cannot read."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    torch.manual_seed(2)
    losses = []
    for _ in range(3):
        loss = model(**data).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return [losses]


@pytest.mark.parametrize("name", TRAINED)
def test_three_steps(name: str, float64: None, three_steps: Any) -> None:
    """With `Trainer`, a model that is trained by it goes where it goes by its own criterion."""
    pytest.importorskip("accelerate", reason="the Trainer needs it")
    steps, found = by_hand if name == "OneFormer" else three_steps, []
    for kind in (None, ht.TransformersCriterion):
        model = segmenter(name)
        if kind is not None:
            model.criterion = kind.for_model(model)
        found.append(steps(model, batch(name)))
    for theirs, ours in zip(*found, strict=True):
        assert len(theirs) == 3
        assert theirs[0] != theirs[2]
        assert ours == pytest.approx(theirs, rel=1e-8)


def test_a_model_with_it_can_be_copied_and_pickled() -> None:
    model, data = segmenter("Eomt"), batch("Eomt")
    model.criterion = ht.TransformersCriterion.for_model(model, solver="core")
    expected, _ = run(model, data)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert copied.criterion.changes == {"solver": "core"}
        assert torch.equal(run(copied, data)[0], expected)


def test_settings_follow_the_model_and_may_be_changed() -> None:
    model, data = segmenter("MaskFormer"), batch("MaskFormer")
    masks, classes = predictions((2, 0, 4), torch.float32)
    given = masks[0], classes[0], data["mask_labels"], data["class_labels"]
    criterion = ht.TransformersCriterion.for_model(model)
    before = criterion(*given)["loss_cross_entropy"]
    model.config.no_object_weight = 0.7
    after = criterion(*given)["loss_cross_entropy"]
    assert after != before
    changed = ht.TransformersCriterion.for_model(model, no_object_weight=0.1)
    assert changed(*given)["loss_cross_entropy"] == before
    assert "no_object_weight=0.1" in repr(changed)


def test_what_it_does_not_serve_is_named() -> None:
    with pytest.raises(ValueError, match="model_type is 'detr'; expected one of 'maskformer'"):
        ht.TransformersCriterion("detr", None)
    with pytest.raises(ValueError, match=r"Linear has no criterion; .*TransformersLoss"):
        ht.TransformersCriterion.for_model(torch.nn.Linear(1, 1))
