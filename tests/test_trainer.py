"""`Trainer` of transformers with our losses in the place of a model's own: all else is the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hungarian_core as hc

torch: Any = pytest.importorskip("torch", reason="transformers is for PyTorch")
hf: Any = pytest.importorskip("transformers", reason="its Trainer is the subject")
pytest.importorskip("accelerate", reason="the Trainer needs it")
ht: Any = pytest.importorskip("hungarian_torch", reason="for PyTorch")

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE, LABELS, QUERIES = 64, 3, 8
COUNTS = (2, 0, 4, 1, 3, 0, 2, 5)  # of objects in the images
SHARED = {"num_labels": LABELS, "num_queries": QUERIES, "d_model": 32, "dropout": 0.0}
SHARED |= {"encoder_layers": 1, "encoder_ffn_dim": 32, "encoder_attention_heads": 2}
SHARED |= {"decoder_layers": 2, "decoder_ffn_dim": 32, "decoder_attention_heads": 2}
REAL_TIME = {"encoder_hidden_dim": 32, "encoder_in_channels": [8, 8], "feat_strides": [16, 32]}
REAL_TIME |= {"decoder_in_channels": [32, 32], "num_feature_levels": 2, "num_denoising": 8}
MODELS: dict[str, dict[str, Any]] = {
    "Detr": {"auxiliary_loss": True},
    "RTDetr": {**REAL_TIME, "encode_proj_layers": [1]},
    "DFine": {**REAL_TIME, "encode_proj_layers": [1], "lqe_hidden_dim": 8},
    "Deimv2": {**REAL_TIME, "encode_proj_layers": [1], "lqe_hidden_dim": 8},
}
SEGMENTER = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 8}
SEGMENTER |= {"image_size": SIZE, "num_queries": QUERIES, "num_labels": LABELS, "num_blocks": 2}
SEGMENTER |= {"num_upscale_blocks": 1, "train_num_points": 50}
# How often a process asks the others: for the number of objects, for denoising once more where it
# takes another loss, and for that of the pairs in the union of the layers' matchings.
ASKED = {"RTDetr": 1, "DFine": 2, "Deimv2": 3}


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute in float64: in new models queries differ so little that rounding chooses them."""
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # what D-FINE rounds to
    yield
    torch.set_default_dtype(torch.float32)


def detector(name: str) -> Any:
    """Return a small new detector."""
    torch.manual_seed(0)
    stages = ["stage4"] if name == "Detr" else ["stage3", "stage4"]
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 4, 8, 8], "depths": [1, 1, 1, 1]}
    backbone = hf.ResNetConfig(**sizes, layer_type="basic", out_features=stages)
    config = getattr(hf, f"{name}Config")(backbone_config=backbone, **SHARED, **MODELS[name])
    return getattr(hf, f"{name}ForObjectDetection")(config)


def images(counts: tuple[int, ...] = COUNTS) -> list[dict[str, Any]]:
    """Return images of noise with what a detector and a segmenter want to know of them."""
    noise = torch.Generator().manual_seed(1)
    return [
        {
            "pixel_values": torch.randn(3, SIZE, SIZE, generator=noise),
            "class_labels": torch.randint(LABELS, (n,), generator=noise),
            "boxes": 0.2 + 0.3 * torch.rand(n, 4, generator=noise),
            "masks": (torch.rand(n, SIZE, SIZE, generator=noise) > 0.7) * 1.0,
        }
        for n in counts
    ]


def scenes(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a batch for a detector."""
    labels = [{k: x[k] for k in ("class_labels", "boxes")} for x in samples]
    return {"pixel_values": torch.stack([x["pixel_values"] for x in samples]), "labels": labels}


def segments(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a batch for a segmenter."""
    of_model = {"mask_labels": [x["masks"] for x in samples]}
    of_model["class_labels"] = [x["class_labels"] for x in samples]
    return {"pixel_values": scenes(samples)["pixel_values"], **of_model}


def made(model: Any, folder: Path, collate: Any = scenes, **options: Any) -> Any:
    """Return a Trainer of four steps; what it collates is in `trainer.batches`."""
    batches: list[Any] = []

    def kept(samples: list[dict[str, Any]]) -> dict[str, Any]:
        batches.append(collate(samples))
        return batches[-1]

    settings = {
        "max_steps": 4, "per_device_train_batch_size": 2, "per_device_eval_batch_size": 3,
        "logging_steps": 1, "save_strategy": "no", "learning_rate": 1e-3, "seed": 3,
        "use_cpu": True, "report_to": "none", "disable_tqdm": True,
        "remove_unused_columns": False, "dataloader_pin_memory": False, **options,
    }  # fmt: skip
    trainer = hf.Trainer(
        model=model, args=hf.TrainingArguments(output_dir=folder, **settings),
        data_collator=kept, train_dataset=images(), eval_dataset=images(COUNTS[:6]),
    )  # fmt: skip
    trainer.batches = batches
    return trainer


def logged(trainer: Any) -> list[list[float]]:
    """Return the losses of the steps and the norms of their gradients."""
    steps = [x for x in trainer.state.log_history if "grad_norm" in x]
    return [[x["loss"] for x in steps], [x["grad_norm"] for x in steps]]


def assert_same(found: Any, expected: Any) -> None:
    """Two Trainers have been through the same, and their models weigh the same."""
    assert len(logged(expected)[0]) == 4
    assert min(logged(expected)[1]) > 0
    for ours, theirs in zip(logged(found), logged(expected), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-8)
    weights = found.model.state_dict()
    for name, x in expected.model.state_dict().items():
        torch.testing.assert_close(weights[name], x, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Detr", {"gradient_accumulation_steps": 2, "label_names": ["labels"]}),
        ("RTDetr", {}),
        ("DFine", {"gradient_accumulation_steps": 2}),
    ],
)
def test_detectors(name: str, options: dict[str, Any], float64: None, tmp_path: Path) -> None:
    """Losses of steps and weights; the loss of an evaluation, and what metrics are given."""
    trainers = []
    for ours in (False, True):
        model = detector(name)
        if ours:
            model.loss_function = ht.TransformersLoss.for_model(model)
        trainer = made(model, tmp_path, eval_do_concat_batches=False, **options)
        assert trainer.label_names == ["labels"]
        trainer.train()
        trainers.append(trainer)
    theirs, ours = trainers
    assert_same(ours, theirs)
    expected, found = (x.predict(x.eval_dataset) for x in trainers)
    assert found.metrics["test_loss"] == pytest.approx(expected.metrics["test_loss"], rel=1e-8)
    for batch, wanted in zip(found.predictions, expected.predictions, strict=True):
        assert isinstance(batch[0], dict)  # `loss_dict`, before logits and boxes
        torch.testing.assert_close(batch[:3], wanted[:3], rtol=1e-6, atol=1e-9, check_dtype=False)
    shown = [len(label["boxes"]) for batch in found.label_ids for label in batch]
    assert shown == [*COUNTS[:6]]


def test_accumulated_batches_have_a_mean_each(float64: None, tmp_path: Path) -> None:
    """A step is down the mean of the losses of its batches, each divided by its own objects."""
    model, other = detector("Detr"), detector("Detr").train()
    model.loss_function = ht.TransformersLoss.for_model(model)
    trainer = made(
        model, tmp_path, gradient_accumulation_steps=2, optim="sgd", max_grad_norm=0.0,
        lr_scheduler_type="constant",
    )  # fmt: skip
    trainer.train()
    means = []
    for first in range(0, 8, 2):
        losses = [other(**batch).loss for batch in trainer.batches[first : first + 2]]
        mean = sum(losses) / 2
        means.append(mean.item())
        learnt = [p for p in other.parameters() if p.requires_grad]
        for p, slope in zip(learnt, torch.autograd.grad(mean, learnt), strict=True):
            p.data -= 1e-3 * slope
    assert logged(trainer)[0] == pytest.approx(means, rel=1e-8)
    for x, y in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", ASKED)
def test_a_number_of_items_changes_nothing(name: str) -> None:
    """These models hand on what a Trainer may count; their own losses do without it too."""
    model, batch = detector(name).eval(), scenes(images())
    model.loss_function = ht.TransformersLoss.for_model(model)
    with torch.no_grad():
        assert model(**batch, num_items_in_batch=torch.tensor(3)).loss == model(**batch).loss


def test_resuming(float64: None, tmp_path: Path) -> None:
    """A model that is read again gets its loss again, and goes on as if it had never stopped."""
    whole = made(detector("RTDetr"), tmp_path / "whole")
    whole.train()
    model = detector("RTDetr")
    model.loss_function = ht.TransformersLoss.for_model(model)
    made(model, tmp_path, save_strategy="steps", save_steps=2).train()
    folder = str(tmp_path / "checkpoint-2")
    model = hf.RTDetrForObjectDetection.from_pretrained(folder)
    model.loss_function = ht.TransformersLoss.for_model(model)
    resumed = made(model, tmp_path)
    resumed.train(resume_from_checkpoint=folder)
    assert len(resumed.batches) == 2
    assert_same(resumed, whole)


@pytest.mark.parametrize("name", ["Detr", "DFine"])
def test_bfloat16(name: str, tmp_path: Path) -> None:
    """The loss of what a model says in bfloat16 is theirs of the same in float32."""
    model = detector(name)
    theirs, ours, seen = model.loss_function, ht.TransformersLoss.for_model(model), []

    def both(*args: Any, **options: Any) -> Any:
        found = ours(*args, **options)
        with torch.autocast("cpu", enabled=False):
            expected, *_ = theirs(*wide(args), **wide(options))
        seen.append((found[0], expected, args[0].dtype))
        return found

    model.loss_function = both
    made(model, tmp_path, bf16=True, max_steps=2).train()
    for found, expected, dtype in seen:
        assert dtype == torch.bfloat16
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def wide(x: Any) -> Any:
    """Return all that is in `x` with its numbers in float32."""
    if isinstance(x, torch.Tensor):
        return x.detach().float() if x.is_floating_point() else x
    if isinstance(x, dict):
        return {name: wide(value) for name, value in x.items()}
    return type(x)(map(wide, x)) if isinstance(x, list | tuple) else x


def test_segmenters(float64: None, tmp_path: Path) -> None:
    """Those with a criterion of their own, which a checkpoint has the buffers of."""
    trainers = []
    for ours in (False, True):
        torch.manual_seed(0)
        model = hf.EomtForUniversalSegmentation(hf.EomtConfig(**SEGMENTER))
        if ours:
            model.criterion = ht.TransformersCriterion.for_model(model)
        trainer = made(
            model, tmp_path / str(ours), segments, save_strategy="steps", save_steps=4,
            gradient_accumulation_steps=2,
        )  # fmt: skip
        assert trainer.label_names == ["mask_labels", "class_labels"]
        trainer.train()
        trainers.append(trainer)
    theirs, ours = trainers
    assert_same(ours, theirs)
    read = hf.EomtForUniversalSegmentation.from_pretrained(tmp_path / "True" / "checkpoint-4")
    assert torch.equal(read.criterion.empty_weight, theirs.model.criterion.empty_weight)
    evaluated = []
    for trainer in trainers:
        torch.manual_seed(4)  # of the points at which masks are compared
        evaluated.append(trainer.evaluate()["eval_loss"])
    assert evaluated[1] == pytest.approx(evaluated[0], rel=1e-8)


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize(("counts", "others"), [((2, 3), 0), ((0, 0), 5)])
def test_processes_ask_for_the_same(
    name: str, counts: tuple[int, ...], others: int, float64: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those with queries for denoising, and those without an object, which have none.

    The other of two processes stands for the number of objects that it has.
    """
    model, batch = detector(name).train(), scenes(images(counts))
    model.loss_function = ht.TransformersLoss.for_model(model)
    torch.manual_seed(2)
    alone = model(**batch).loss_dict
    asked: list[Any] = []

    def all_reduce(self: Any, x: Any) -> Any:
        asked.append(x)
        return x + torch.tensor([*[others] * (len(x) - 1), 1])

    monkeypatch.setattr(type(hc.get_backend("torch")), "all_reduce", all_reduce)
    torch.manual_seed(2)
    found = model(**batch).loss_dict
    assert len(asked) == ASKED[name]
    assert any("_dn_" in key for key in found) == any(counts)
    share = max(sum(counts), 1) / (5 / 2)
    for key, x in alone.items():
        torch.testing.assert_close(found[key], x * share, rtol=1e-9, atol=0, msg=key)
