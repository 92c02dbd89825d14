"""Arrays on a device whose memory NumPy cannot read: how often a loss waits for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

xp: Any = pytest.importorskip("array_api_strict", reason="it has a second device")
CPU, DEVICE = xp.Device("CPU_DEVICE"), xp.Device("device1")


class Remote(hc.Backend):
    """Its arrays lie on a device, and every way to the host is counted."""

    name = "array_api_strict"

    def __init__(self) -> None:
        self.waits = 0

    def asarray(self, x: Any, like: Any = None) -> Any:
        if type(x).__module__.startswith(self.name):
            return x
        return xp.asarray(x if isinstance(x, (list, int, float)) else np.asarray(x), device=DEVICE)

    def on_host(self, x: Any) -> bool:
        return False

    def host_call(self, function: Any, *arrays: Any, like: Any) -> Any:
        self.waits += 1
        results = function(*(np.asarray(x.to_device(CPU)) for x in arrays))
        pairs = zip(results, like, strict=True)
        return tuple(xp.asarray(r, dtype=dtype, device=DEVICE) for r, (_, dtype) in pairs)


def _forbidden(name: str) -> Any:
    def read(self: Any, *_: Any) -> Any:
        if self.device == DEVICE:
            raise AssertionError(f"{name} waits for the device")
        return getattr(self._array, name)()

    return read


@pytest.mark.parametrize("form", ["padded", "list"])
@pytest.mark.parametrize("class_loss", ["softmax", "focal", "varifocal"])
def test_a_detection_loss_waits_once(
    class_loss: Any, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the costs, to match them; no value is read anywhere else."""
    rng, backend = np.random.default_rng(0), Remote()
    criterion = hc.DetrLoss(3, class_loss=class_loss, backend=backend)
    data = {
        "logits": rng.normal(size=(2, 3, 6, 3 + (class_loss == "softmax"))),
        "boxes": rng.uniform(0.2, 0.6, (2, 3, 6, 4)),
        "labels": rng.integers(0, 3, (3, 4)),
        "true_boxes": rng.uniform(0.2, 0.6, (3, 4, 4)),
        "mask": np.ones((3, 4), bool),
    }
    expected = hc.DetrLoss(3, class_loss=class_loss)(
        data["logits"], data["boxes"], (data["labels"], data["true_boxes"], data["mask"])
    )
    logits, boxes, labels, truth, mask = (xp.asarray(x, device=DEVICE) for x in data.values())
    targets: Any = (labels, truth, mask)
    if form == "list":
        targets = [{"labels": labels[b, :], "boxes": truth[b, ...]} for b in range(3)]
    for name in ("__bool__", "__int__", "__float__", "__index__"):
        monkeypatch.setattr(type(logits), name, _forbidden(name))
    out = criterion(logits, boxes, targets)
    monkeypatch.undo()
    assert backend.waits == 1
    assert out.total.device == DEVICE
    np.testing.assert_allclose(np.asarray(out.total.to_device(CPU)), expected.total, rtol=1e-12)
