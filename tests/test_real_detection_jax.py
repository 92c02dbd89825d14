"""The experiment on real images in JAX: the detector, the training and the loss of PyTorch."""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

pytestmark = pytest.mark.usefixtures("in_haste")


# As in noxfile.py: most of the time would go into compiling what runs for microseconds.
HASTE = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


@pytest.fixture
def in_haste(beside: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the trainer compile in haste, and a decoder less."""
    for need in ("jax", "optax"):
        pytest.importorskip(need, reason=f"{need} is not installed")
    trainer = importlib.import_module("jax_trainer")
    monkeypatch.setattr(trainer, "OPTIONS", trainer.OPTIONS | HASTE)
    monkeypatch.setattr(importlib.import_module("detector"), "DECODERS", 1)


@pytest.fixture
def in_float64() -> Iterator[None]:
    """Let both frameworks compute in float64, where rounding does not hide what differs."""
    import jax
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with jax.enable_x64(True):
        yield
    torch.set_default_dtype(before)


def _batch(recipe: Any, seed: int) -> tuple[Any, hc.Targets, Any]:
    """Return images, objects and queries for denoising, the last if the recipe has them."""
    import torch

    random = torch.Generator().manual_seed(seed)
    images = torch.randn(4, 3, 32, 48, generator=random)
    labels = torch.randint(2, (4, 3), generator=random)
    boxes = torch.rand(4, 3, 4, generator=random) * 0.4 + 0.2
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]]) == 1
    targets = hc.Targets(labels, boxes, mask)
    made = {"seed": seed, "groups": recipe.denoising}
    noised = hc.denoising.contrastive_queries(targets, 2, **made) if recipe.denoising else None
    return images, targets, noised


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize(
    ("loss", "training"),
    # In evaluation, the detector of denoising is that of the focal loss.
    [("focal", True), ("groups", True), ("denoising", True), ("focal", False), ("groups", False)],
)
def test_the_detector_and_its_slopes_are_those_of_pytorch(loss: str, training: bool) -> None:
    import jax
    import jax.numpy as jnp
    import torch

    detector, trainer, layers = (
        importlib.import_module(x) for x in ("detector", "jax_trainer", "jax_layers")
    )
    recipe = detector.RECIPES[loss]
    torch.manual_seed(0)
    model = detector.Detector(2, recipe).train(training)
    for parameter in model.parameters():  # none at 0 or 1, where it may not be seen
        parameter.data += 0.1 * torch.randn_like(parameter)
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer += torch.rand_like(buffer)
    arrays = {name: jnp.asarray(x.numpy().copy()) for name, x in model.state_dict().items()}
    images, _, noised = _batch(recipe, 1)
    given = (images, recipe.groups, noised) if training else (images, 1, None)
    outputs = model(*given)
    upstream = [torch.randn_like(x) for x in outputs]
    torch.autograd.backward(outputs, upstream)
    expected = {name: x.grad for name, x in model.named_parameters() if x.grad is not None}

    @functools.partial(jax.jit, compiler_options=HASTE)
    def found(parameters: Any, upstream: Any) -> Any:
        def function(parameters: Any) -> Any:
            net = layers.Layers(model, arrays | parameters, training=training)
            given = jax.tree.map(jnp.asarray, (images, noised if training else None))
            groups = recipe.groups if training else 1
            return detector.detect(net, trainer.JAX, given[0], groups, given[1]), net.updates

        outputs, pull, updates = jax.vjp(function, parameters, has_aux=True)
        return outputs, pull(upstream)[0], updates

    parameters = {name: arrays[name] for name in expected}
    in_jax, slopes, updates = found(parameters, tuple(jnp.asarray(x.numpy()) for x in upstream))
    for one, other in zip(in_jax, outputs, strict=True):
        np.testing.assert_allclose(one, other.detach(), rtol=1e-12, atol=1e-12)
    for name, slope in expected.items():
        assert float(abs(slope).max()) > 0
        np.testing.assert_allclose(
            slopes[name], slope, rtol=1e-10, atol=1e-12 * float(abs(slope).max()) + 1e-14
        )
    statistics = [x for x in arrays if "running" in x or "batches" in x]
    assert sorted(updates) == (sorted(statistics) if training else [])
    for name, value in updates.items():
        np.testing.assert_allclose(value, model.state_dict()[name], rtol=1e-12)


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("loss", ["position", "denoising"])
def test_three_steps_lead_where_those_of_pytorch_lead(loss: str) -> None:
    training, detector = (importlib.import_module(x) for x in ("training", "detector"))
    job = training.Job("", 32, 48, 4, 3, loss, 5e-3, 2.0, None, 0)
    trainers = [
        importlib.import_module(file).Trainer(job, 2, 3) for file in training.FRAMEWORKS.values()
    ]
    begun = [x.states()["model"] for x in trainers]
    begun[0] = {name: x.clone() for name, x in begun[0].items()}
    for seed in range(3):
        batch = _batch(detector.RECIPES[loss], seed)
        seconds = [trainer.step(*batch) for trainer in trainers]
        assert seconds[0] > 0
        assert seconds[1] is None
    ends = [x.states()["model"] for x in trainers]
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        np.testing.assert_array_equal(begun[1][name], begun[0][name])
        np.testing.assert_allclose(ends[1][name], value, rtol=1e-9, atol=1e-11, err_msg=name)
    assert float(abs(ends[0]["shift.weight"] - begun[0]["shift.weight"]).max()) > 1e-3
    images, _, _ = _batch(detector.RECIPES[loss], 9)
    for one, other in zip(*(x.detect(images) for x in trainers), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


def test_a_run_in_jax_goes_on_to_the_same_bits_and_is_told(
    tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    training, script = (importlib.import_module(x) for x in ("training", "real_detection"))
    job = training.Job(str(photographs), 32, 48, 4, 2, "hybrid", 5e-3, 1.0, None, 0, "jax")
    whole = training.train(job, tmp_path / "whole", resume=False)
    save = training.save

    def cut_off(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "save", cut_off)
    with pytest.raises(KeyboardInterrupt):
        training.train(job, tmp_path / "parts", resume=True)
    monkeypatch.setattr(training, "save", save)
    parts = training.train(job, tmp_path / "parts", resume=True)
    assert (parts.curve, parts.test) == (whole.curve, whole.test)
    found = [
        torch.load(tmp_path / name / f"{job.name}.pt", weights_only=True)["states"]
        for name in ("whole", "parts")
    ]
    for one, other in zip(*(x["optimizer"] for x in found), strict=True):
        assert torch.equal(one, other)
    models = [x["model"] for x in found]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])

    with pytest.raises(training.CheckpointError, match="framework='jax'"):
        training.train(job._replace(framework="torch"), tmp_path / "parts", resume=True)

    # The whole command; the same weight of classes has the same program.
    options = ["--quick", "--losses", "hybrid", "--framework", "jax", "--output", str(tmp_path)]
    script.main([str(photographs), *options, "--weights", "1,1", "--batch", "4", "--size", "48x32"])
    table = (tmp_path / "real_detection.md").read_text()
    assert table.splitlines()[-1].endswith("| 1.0 | - |")
    found = json.loads((tmp_path / "real_detection.json").read_text())
    assert found["settings"]["framework"] == "jax"
    assert {"torch", "jax", "optax"} <= set(found["machine"]["versions"])
    assert [run["loss_seconds"] for run in found["runs"]["hybrid"]] == [None, None]
    assert (tmp_path / "real_detection_matches.png").stat().st_size > 10_000


def test_what_jax_needs_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = importlib.import_module("real_detection")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        script.arguments(["folder", "--framework", "jax"])
    assert "--framework jax needs jax and optax" in capsys.readouterr().err
