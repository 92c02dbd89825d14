"""What Keras users expect of the loss of separated signals, on the backend of KERAS_BACKEND.

`tests/test_keras.py` runs this file once per backend.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from hungarian_keras import PITLoss

pytestmark = [
    # Keras's variables, when saved, and NumPy 2: keras/src/backend/common/variables.py.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]


def signals() -> tuple[np.ndarray, np.ndarray]:
    """Return references `(6, 3, 40)` and estimates of them in another order, with noise."""
    rng = np.random.default_rng(0)
    references = rng.normal(size=(6, 3, 40))
    estimates = references[:, [2, 0, 1]] + rng.normal(size=(6, 3, 40)) / 4
    return references.astype(np.float32), estimates.astype(np.float32)


@keras.saving.register_keras_serializable("suite")
def cubed(xp: Any, a: Any, b: Any) -> Any:
    """Return the mean cube of the differences."""
    return xp.mean(xp.abs(a - b) ** 3, axis=-1)


def snr(references: np.ndarray, estimates: np.ndarray) -> np.ndarray:
    """Return minus the SNR of each reference in dB, where the order is that of `signals`."""
    noise = references - estimates[:, [1, 2, 0]]
    return -10 * np.log10((references**2).sum(-1) / (noise**2).sum(-1))


def test_signals() -> None:
    references, estimates = signals()
    each = snr(references, estimates)
    assert float(PITLoss("snr")(references, estimates)) == pytest.approx(each.mean(), rel=1e-5)
    references[0, 1:] = references[2, 2] = 0
    counted = references.any(-1)
    expected = np.where(counted, snr(np.where(counted[..., None], references, 1), estimates), 0)
    expected = expected.sum(1) / counted.sum(1)
    values = PITLoss("snr", mask_value=0.0, reduction="none")(references, estimates)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(values), expected, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"metric": cubed, "zero_mean": True, "mask_value": 0.0}])
def test_a_signal_loss_round_trip(options: dict[str, Any]) -> None:
    loss = PITLoss(**options, nan="worst", solver="core", reduction="sum", name="separated")
    for copy in (
        PITLoss.from_config(loss.get_config()),
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss)),
    ):
        assert copy.get_config() == loss.get_config()
        assert float(copy(*signals())) == float(loss(*signals()))


def test_a_separator_trains_and_is_saved(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    references, _ = signals()
    mixture = references.sum(1)
    model = keras.Sequential(
        [keras.Input((40,)), keras.layers.Dense(120), keras.layers.Reshape((3, 40))]
    )
    model.compile(optimizer="adam", loss=PITLoss("snr"))
    before = float(PITLoss("snr")(references, model.predict(mixture, verbose=0)))
    fit = {"batch_size": 6, "verbose": 0}
    history = model.fit(mixture, references, epochs=8, **fit).history["loss"]
    assert history[0] == pytest.approx(before, rel=1e-3)
    assert history[-1] < before
    model.save(tmp_path / "separator.keras")
    loaded = keras.models.load_model(tmp_path / "separator.keras")
    value = model.evaluate(mixture, references, **fit)
    assert loaded.evaluate(mixture, references, **fit) == pytest.approx(value)
