"""The callback for Lightning, in a training run of a small module."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

torch = pytest.importorskip("torch", reason="Lightning is PyTorch's")
lightning = pytest.importorskip("lightning.pytorch", reason="the callback is Lightning's")
from hungarian_torch.lightning import MatchingStability  # noqa: E402  (where Lightning is)

X = torch.linspace(-1, 1, 12 * 7).reshape(12, 7).sin()
BOXES = torch.linspace(0, 9, 12 * 3 * 4).reshape(12, 3, 4).sin() ** 2


class Detector(lightning.LightningModule):
    """A frozen normalisation, dropout, and a layer; it notes how it was called."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = torch.nn.BatchNorm1d(7).eval()
        self.layers = torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Linear(7, 20))
        self.predicted: list[Any] = []
        self.modes: set[tuple[bool, bool]] = set()
        self.losses: list[float] = []

    def forward(self, x: Any) -> Any:
        return self.layers(self.norm(x)).reshape(-1, 5, 4)

    def training_step(self, batch: Any, _: int) -> Any:
        self.modes.add((self.norm.training, self.layers.training))
        loss = hc.loss(batch[1], self(batch[0]))
        self.losses.append(float(loss.detach()))
        return loss

    def on_train_epoch_start(self) -> None:
        self.norm.eval()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.5)


def match(module: Detector, batch: Any) -> hc.Assignment:
    assert not module.training
    assert not torch.is_grad_enabled()
    y_pred = module(batch[0])
    module.predicted.append(y_pred.float())
    return hc.loss(batch[1], y_pred.float(), return_assignment=True)[1]


def train(callbacks: list[Any], epochs: int = 4, **options: Any) -> tuple[Detector, Any]:
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=callbacks, **options,
    )  # fmt: skip
    module = Detector()
    data = torch.utils.data.TensorDataset(X, BOXES)
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=4))
    return module, trainer


class History(lightning.Callback):
    """Keeps what was logged by the end of each epoch."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        logged = trainer.callback_metrics
        names = ("matching_changed", "matching_never_matched")
        self.seen.append(tuple(float(logged.get(name, -1)) for name in names))


pytestmark = [
    # Lightning's own use of torch.utils._pytree (lightning 2.6, torch 2.13).
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:Found 1 module.* in eval mode at the start of training"),
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the log"),
]


def test_epochs_log_what_has_changed() -> None:
    history = History()
    stability = MatchingStability((X, BOXES), match)
    module, _ = train([stability, history])
    meter = hc.StabilityMeter()
    expected = []
    for y_pred in module.predicted:
        changed = meter.update(hc.loss(BOXES, y_pred, return_assignment=True)[1])
        expected.append((changed, len(meter.never_matched)))
    assert len(expected) == 4
    assert max(changed for changed, _ in expected[1:]) > 0
    np.testing.assert_allclose(history.seen, expected, rtol=1e-6)
    # The weights were those at the end of the epoch.
    torch.testing.assert_close(module.predicted[-1], module.eval()(X))


def test_training_goes_on_as_without_it() -> None:
    alone, _ = train([])
    watched, _ = train([MatchingStability((X, BOXES), match, every=1)])
    np.testing.assert_allclose(watched.losses, alone.losses, rtol=1e-6)
    assert watched.modes == {(False, True)}, "the frozen part stays frozen"
    assert len(watched.predicted) == 12


def test_batches_and_a_name() -> None:
    stability = MatchingStability((X, BOXES), match, every=5, name="probe")
    _, trainer = train([stability])
    assert stability.meter.summary()["updates"] == 2
    logged = trainer.callback_metrics
    assert float(logged["probe_changed"]) == pytest.approx(stability.meter.changed, rel=1e-6)
    assert float(logged["probe_never_matched"]) == len(stability.meter.never_matched)


def test_mixed_precision() -> None:
    dtypes = []

    def match_and_note(module: Detector, batch: Any) -> hc.Assignment:
        dtypes.append(module(batch[0]).dtype)
        return match(module, batch)

    train([MatchingStability((X, BOXES), match_and_note)], epochs=2, precision="bf16-mixed")
    assert dtypes == [torch.bfloat16] * 2


def test_lightning_loads_when_asked_for_and_is_named_when_missing() -> None:
    code = """
import sys
import hungarian_torch
assert not any(name.startswith(("lightning", "pytorch_lightning")) for name in sys.modules)
sys.modules["lightning"] = sys.modules["pytorch_lightning"] = None
try:
    import hungarian_torch.lightning
except ImportError as error:
    assert "pip install lightning" in str(error), error
else:
    raise SystemExit("no error")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
