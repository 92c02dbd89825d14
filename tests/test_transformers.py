"""Tiny detectors of transformers, randomly initialised, with our loss in place of theirs."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="transformers is for PyTorch")
hf: Any = pytest.importorskip("transformers", reason="its models are the subject")
TransformersLoss = pytest.importorskip("hungarian_torch", reason="for PyTorch").TransformersLoss

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 64  # of images, in pixels
DECODER = {"num_labels": 3, "decoder_layers": 2, "decoder_ffn_dim": 32, "num_queries": 8}
DECODER |= {"dropout": 0.0, "auxiliary_loss": True}
ENCODER = {"encoder_layers": 1, "encoder_ffn_dim": 32, "encoder_attention_heads": 2}
ENCODER |= {"decoder_attention_heads": 2}
GROUPS = {"group_detr": 2, "projector_scale_factors": [1.0], "d_model": 32}
GROUPS |= {"decoder_self_attention_heads": 2, "decoder_cross_attention_heads": 2}


def resnet(*stages: str) -> Any:
    """Return the configuration of the smallest backbone."""
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 4, 8, 8], "depths": [1, 1, 1, 1]}
    return hf.ResNetConfig(**sizes, layer_type="basic", out_features=list(stages))


def vit(kind: Any, **more: Any) -> Any:
    """Return the configuration of a transformer as a backbone, seen after each of two layers."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return kind(**sizes, image_size=SIZE, patch_size=8, num_windows=4, out_indices=[1, 2], **more)


RT_DETR: dict[str, Any] = {  # and those after it, with what is each one's own
    "RTDetr": {},
    "RTDetrV2": {"decoder_n_levels": 2},
    "DFine": {"lqe_hidden_dim": 8},
    "Deimv2": {"lqe_hidden_dim": 8},
}
GROUNDING = ("GroundingDino", "MMGroundingDino")
# "[CLS] a b . c . d e . [SEP]", of three classes, and padding.
TEXT = [101, 1500, 1501, 1012, 1600, 1012, 1700, 1701, 1012, 102, 0, 0]


def rt_detr() -> dict[str, Any]:
    """Return the configuration of RT-DETR beside those of encoders and decoders."""
    channels = {"encoder_in_channels": [8, 8], "decoder_in_channels": [32, 32]}
    scales = {"num_feature_levels": 2, "feat_strides": [16, 32], "encode_proj_layers": [1]}
    backbone = resnet("stage3", "stage4")
    sizes = {"d_model": 32, "encoder_hidden_dim": 32, "num_denoising": 8}
    return {**sizes, **channels, **scales, "backbone_config": backbone}


def config(name: str) -> dict[str, Any]:
    """Return the configuration of a model of two decoder layers, without dropout."""
    if name in ("DetrForSegmentation", "ConditionalDetrForSegmentation"):
        heads = {"encoder_attention_heads": 8, "decoder_attention_heads": 8, "d_model": 32}
        every = resnet("stage1", "stage2", "stage3", "stage4")
        return {**DECODER, **ENCODER, **heads, "backbone_config": every}
    if name == "RfDetrForInstanceSegmentation":
        return {**config("RfDetr"), "mask_point_sample_ratio": 4}
    width = {"hidden_size" if name == "DabDetr" else "d_model": 32}
    if name == "Yolos":
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        size = {"image_size": [SIZE, SIZE], "intermediate_size": 16, "num_detection_tokens": 8}
        return {**sizes, **size, "num_labels": 3}
    if name == "LwDetr":
        backbone = vit(hf.LwDetrViTConfig, pretrain_image_size=SIZE)
        return {**DECODER, **GROUPS, "backbone_config": backbone}
    if name == "RfDetr":
        return {**DECODER, **GROUPS, "backbone_config": vit(hf.RfDetrDinov2Config)}
    if name in RT_DETR:
        return {**DECODER, **ENCODER, **rt_detr(), **RT_DETR[name]}
    if name in GROUNDING:
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        text = hf.BertConfig(vocab_size=2000, intermediate_size=16, **sizes, **still)
        of_text = {"text_config": text, "max_text_len": 16, "fusion_droppath": 0.0}
        backbone = {"backbone_config": resnet("stage3", "stage4"), "num_feature_levels": 2}
        return {**DECODER, **ENCODER, **width, **backbone, **of_text}
    if name == "DeformableDetr":
        backbone = {"backbone_config": resnet("stage3", "stage4"), "num_feature_levels": 2}
        return {**DECODER, **ENCODER, **width, **backbone}
    offline = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}
    offline = offline if name == "TableTransformer" else {}  # the others do as they are told
    return {**DECODER, **ENCODER, **width, **offline, "backbone_config": resnet("stage4")}


# What tells the terms of a model's layers apart, in the order in which it reports them.
ENDS = {
    **dict.fromkeys(("Detr", "ConditionalDetr", "DabDetr", "TableTransformer"), ("", "_0")),
    **dict.fromkeys(("DetrForSegmentation", "ConditionalDetrForSegmentation"), ("", "_0")),
    "RfDetrForInstanceSegmentation": ("", "_0", "_enc"),
    **{"Yolos": ("",), "DeformableDetr": ("", "_0")},
    **dict.fromkeys(RT_DETR, ("", "_aux_0", "_aux_1", "_dn_0", "_dn_1")),
    **dict.fromkeys(GROUNDING, ("", "_0", "_enc")),
    **dict.fromkeys(("LwDetr", "RfDetr"), ("", "_0", "_enc")),
}
MAIN = (
    "Detr", "DeformableDetr", "RTDetr", "LwDetr", "DFine", "Deimv2", "GroundingDino",
    "DetrForSegmentation", "ConditionalDetrForSegmentation", "RfDetrForInstanceSegmentation",
)  # fmt: skip


def detector(name: str) -> Any:
    """Return a model, in training."""
    torch.manual_seed(0)
    kind = getattr(hf, name if "For" in name else f"{name}ForObjectDetection")
    settings = getattr(hf, f"{name.partition('For')[0]}Config")
    return kind(settings(**config(name))).train()


def batch(counts: tuple[int, ...] = (2, 0, 4)) -> dict[str, Any]:
    """Return images of noise, and labels with what else a processor puts there."""
    noise = torch.Generator().manual_seed(1)
    labels = [
        {
            "class_labels": torch.randint(3, (n,), generator=noise),
            "boxes": 0.2 + 0.3 * torch.rand(n, 4, generator=noise),
            "masks": torch.rand(n, SIZE, SIZE, generator=noise) > 0.7,
            "image_id": torch.tensor([k]),
            "iscrowd": torch.zeros(n, dtype=torch.int64),
        }
        for k, n in enumerate(counts)
    ]
    pixels = torch.randn(len(counts), 3, SIZE, SIZE, generator=noise)
    return {"pixel_values": pixels, "labels": labels}


def text_of(model: Any, data: dict[str, Any]) -> dict[str, Any]:
    """Return the texts of a batch, if the model reads any."""
    if "Grounding" not in type(model).__name__:
        return {}
    ids = torch.tensor([TEXT] * len(data["labels"]))
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def run_forward(model: Any, data: dict[str, Any]) -> Any:
    """Return what the model says, always with the same noise in what it denoises."""
    torch.manual_seed(2)
    return model(**data, **text_of(model, data))


def run(model: Any, data: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Return what the model says and the gradients of its parameters."""
    outputs = run_forward(model, data)
    parameters = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(outputs.loss, parameters, allow_unused=True)
    return outputs, [g for g in grads if g is not None]


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute in float64, where the published losses too keep their constants in it.

    DEIMv2's own loss sorts without saying which of equals comes first; here it is the first.
    """
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # what D-FINE rounds to
    monkeypatch.setattr(torch, "argsort", functools.partial(torch.argsort, stable=True))
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        *((name, (2, 0, 4)) for name in ENDS),
        *((name, (9, 3)) for name in MAIN),
        *((name, (0, 0)) for name in MAIN if name != "RfDetrForInstanceSegmentation"),
    ],
)
def test_in_place_of_theirs(name: str, counts: tuple[int, ...], float64: None) -> None:
    """The loss, what is reported of it under which names, and the gradients of all parameters."""
    model, data = detector(name), batch(counts)
    expected, expected_grads = run(model, data)
    model.loss_function = TransformersLoss.for_model(model)
    found, grads = run(model, data)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-10, atol=0)
    assert list(found.loss_dict) == list(expected.loss_dict)
    ends = {key.partition("giou")[2] for key in found.loss_dict if "giou" in key}
    assert ends == {end for end in ENDS[name] if any(counts) or "_dn_" not in end}
    for key, value in expected.loss_dict.items():
        if not key.startswith("cardinality_error"):
            torch.testing.assert_close(found.loss_dict[key], value, rtol=1e-9, atol=1e-12)
        elif name[:5] not in ("LwDet", "RfDet"):  # there, theirs counts the objects of one group
            assert found.loss_dict[key].item() == pytest.approx(value.item())
    assert (found.auxiliary_outputs is None) == (expected.auxiliary_outputs is None)
    layers = zip(found.auxiliary_outputs or (), expected.auxiliary_outputs or (), strict=True)
    for ours, theirs in layers:
        assert set(ours) == set(theirs)
        for key, x in theirs.items():  # tensors, or a tuple of them
            assert all(map(torch.equal, ours[key], x)), key
    largest = max(g.abs().max() for g in expected_grads)
    for x, y in zip(grads, expected_grads, strict=True):
        assert (x - y).abs().max() <= 1e-9 * largest


@pytest.mark.parametrize("name", ["DeformableDetr", "MMGroundingDino", *MAIN[-6:]])
def test_three_steps(name: str, float64: None, three_steps: Any) -> None:
    """With `Trainer`, a model that is trained by it goes where it goes by its own loss."""
    pytest.importorskip("accelerate", reason="the Trainer needs it")
    found = []
    for kind in (None, TransformersLoss):
        model, data = detector(name), batch()
        if kind is not None:
            model.loss_function = kind.for_model(model)
        found.append(three_steps(model, data | text_of(model, data)))
    for theirs, ours in zip(*found, strict=True):
        assert len(theirs) == 3
        assert theirs[0] != theirs[2]
        assert ours == pytest.approx(theirs, rel=1e-8)


@pytest.mark.parametrize("name", MAIN)
def test_in_float32(name: str) -> None:
    """The loss and its gradients, of what the loss is given."""
    found = []
    for kind in (None, TransformersLoss):
        model, data = detector(name), batch()
        with torch.no_grad():
            for x in model.parameters():  # what queries say is much the same in a new model
                x += 0.1 * torch.randn(x.shape)
        if kind is not None:
            model.loss_function = kind.for_model(model)
        outputs = run_forward(model, data)
        grads = torch.autograd.grad(outputs.loss, [outputs.logits, outputs.pred_boxes])
        found.append([outputs.loss.detach(), *grads])
    for x, y in zip(*found, strict=True):
        torch.testing.assert_close(y, x, rtol=0, atol=1e-5 * float(x.abs().max()))


@pytest.mark.parametrize(
    "changes", [{"use_dense_one_to_one": False}, {"mal_alpha": 0.3, "max_num_bins": 8}]
)
def test_settings_of_deimv2(changes: dict[str, Any], float64: None) -> None:
    torch.manual_seed(0)
    made = hf.Deimv2Config(**config("Deimv2"), **changes)
    model, data = hf.Deimv2ForObjectDetection(made).train(), batch()
    expected, _ = run(model, data)
    model.loss_function = TransformersLoss.for_model(model)
    found, _ = run(model, data)
    assert list(found.loss_dict) == list(expected.loss_dict)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-10, atol=0)


def test_each_image_has_a_text_of_its_own() -> None:
    """Objects have the tokens of their image, whatever texts come before it."""
    model, data = detector("GroundingDino"), batch((2, 2))
    model.loss_function = TransformersLoss.for_model(model)
    one = [101, 1500, 1501, 1012, 102, *(0,) * 7]
    ids = torch.tensor([one, TEXT])
    for label, labels in zip(data["labels"], ([0, 0], [2, 0]), strict=True):
        label["class_labels"] = torch.tensor(labels)
    model.eval()
    both = model(**data, input_ids=ids, attention_mask=(ids > 0).long())
    parts = []
    for k in range(2):
        alone = {"pixel_values": data["pixel_values"][k : k + 1], "labels": [data["labels"][k]]}
        text = {"input_ids": ids[k : k + 1], "attention_mask": (ids[k : k + 1] > 0).long()}
        parts.append(model(**alone, **text).loss)
    torch.testing.assert_close(both.loss, sum(parts) / 2)


@pytest.mark.parametrize("name", MAIN)
def test_trains(name: str) -> None:
    model, data = detector(name), batch()
    model.loss_function = TransformersLoss.for_model(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(20):
        loss = run_forward(model, data).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("name", ["Detr", "RTDetr", "DFine", "Deimv2"])
def test_without_auxiliary_loss(name: str, float64: None) -> None:
    model, data = detector(name).eval(), batch()
    model.config.auxiliary_loss = False
    expected, _ = run(model, data)
    model.loss_function = TransformersLoss.for_model(model)
    found, _ = run(model, data)
    assert list(found.loss_dict) == list(expected.loss_dict)
    assert found.auxiliary_outputs is None
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-10, atol=0)


def test_masks_of_no_object() -> None:
    """The loss that is replaced is no number then."""
    model, data = detector("RfDetrForInstanceSegmentation"), batch((0, 0))
    model.loss_function = TransformersLoss.for_model(model)
    found, grads = run(model, data)
    assert found.loss_dict["loss_mask_ce"] == found.loss_dict["loss_mask_dice_enc"] == 0
    assert found.loss.isfinite()
    assert all(g.isfinite().all() for g in grads)


def test_masks_of_several_sizes_and_weights_of_objects(float64: None) -> None:
    """Smaller masks have nothing at their right and lower edges; weights count in all losses."""
    model, data = detector("DetrForSegmentation"), batch((2, 3))
    small = data["labels"][0]
    small["masks"] = small["masks"][:, : SIZE - 8, : SIZE - 16]
    expected, _ = run(model, data)
    model.loss_function = TransformersLoss.for_model(model)
    found, _ = run(model, data)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-10, atol=0)
    for label in data["labels"]:
        label["weights"] = torch.full((len(label["boxes"]),), 3.0)
    more, _ = run(model, data)
    for key in ("loss_bbox", "loss_mask", "loss_dice"):
        torch.testing.assert_close(more.loss_dict[key], 3 * found.loss_dict[key])
    for label in data["labels"]:
        label["ignore"] = torch.ones(len(label["boxes"]), dtype=torch.bool)
    assert run(model, data)[0].loss_dict["loss_mask"] == 0
    model.loss_function = TransformersLoss.for_model(model, repeat=2)
    with pytest.raises(ValueError, match="repeat is 2; with masks it has to be 1"):
        run_forward(model, data)


def test_evaluates_in_one_group(float64: None) -> None:
    """In evaluation LW-DETR has the queries of one group only, for all of the objects."""
    model, data = detector("LwDetr").eval(), batch()
    groups = model.config.group_detr
    model.config.group_detr = 1
    expected, _ = run(model, data)
    model.config.group_detr = groups
    model.loss_function = TransformersLoss.for_model(model)
    found, _ = run(model, data)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-10, atol=0)
    for key in found.loss_dict:
        torch.testing.assert_close(
            found.loss_dict[key], expected.loss_dict[key], rtol=1e-6, atol=0, check_dtype=False
        )


def test_settings_follow_the_model_and_may_be_changed() -> None:
    model, data = detector("Detr"), batch()
    model.loss_function = TransformersLoss.for_model(model)
    before = run_forward(model, data)
    model.config.bbox_loss_coefficient *= 2
    after = run_forward(model, data)
    bbox = sum(before.loss_dict["loss_bbox" + end] for end in ENDS["Detr"])
    torch.testing.assert_close(after.loss - before.loss, 5 * bbox)
    model.loss_function = TransformersLoss.for_model(model, bbox_weight=0.0)
    torch.testing.assert_close(run_forward(model, data).loss, before.loss - 5 * bbox)


def test_objects_may_be_ignored() -> None:
    model, data = detector("Detr"), batch((3,))
    model.loss_function = TransformersLoss.for_model(model)
    (label,) = data["labels"]
    label["ignore"] = torch.tensor([False, True, True])
    label["weights"] = torch.tensor([0.0, 1.0, 1.0])
    assert run_forward(model, data).loss_dict["loss_bbox"] == 0


def test_a_model_with_it_can_be_copied_and_pickled() -> None:
    model, data = detector("Detr"), batch()
    model.loss_function = TransformersLoss.for_model(model, solver="core")
    expected = run_forward(model, data).loss
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert copied.loss_function.changes == {"solver": "core"}
        assert torch.equal(run_forward(copied, data).loss, expected)


def test_what_it_does_not_have_is_named() -> None:
    with pytest.raises(ValueError, match="loss_type is 'ForCausalLM'; expected one of 'ForObject"):
        TransformersLoss("ForCausalLM")
    model, data = detector("RTDetr"), batch()
    model.loss_function = TransformersLoss.for_model(model)
    model.config.use_focal_loss = False
    with pytest.raises(ValueError, match="use_focal_loss is False; expected True"):
        run_forward(model, data)
