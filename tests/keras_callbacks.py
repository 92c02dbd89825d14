"""The callback for Keras, on the backend that KERAS_BACKEND names; see `tests/test_keras.py`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import hungarian_core as hc
from hungarian_keras import MatchingStability, hungarian_loss

pytestmark = [
    # Keras's variables and NumPy 2: keras/src/backend/common/variables.py.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 7)).astype(np.float32)
BOXES = RNG.random((12, 3, 4)).astype(np.float32)


class Predictions(keras.callbacks.Callback):
    """Keeps what the model predicts at the end of each epoch, by the public way."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seen.append(self.model.predict(X, verbose=0))


def detector(rate: float = 0.5) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((7,))
    h = keras.layers.Dropout(0.2)(keras.layers.Dense(16, activation="tanh")(x))
    model = keras.Model(x, keras.layers.Reshape((5, 4))(keras.layers.Dense(20)(h)))
    model.compile(optimizer=keras.optimizers.SGD(rate), loss=hungarian_loss)
    return model


def test_epochs_log_what_has_changed() -> None:
    predictions = Predictions()
    stability = MatchingStability(X, BOXES)
    fit = {"epochs": 5, "batch_size": 4, "verbose": 0}
    history = detector().fit(X, BOXES, callbacks=[stability, predictions], **fit).history
    meter = hc.StabilityMeter()
    expected = []
    for y_pred in predictions.seen:
        changed = meter.update(hc.loss(BOXES, y_pred, return_assignment=True)[1])
        expected.append((changed, len(meter.never_matched)))
    assert np.isnan(history["matching_changed"][0])
    assert max(history["matching_changed"][1:]) > 0
    np.testing.assert_array_equal(
        np.transpose([history["matching_changed"], history["matching_never_matched"]]), expected
    )
    assert stability.meter.summary() == pytest.approx(meter.summary(), nan_ok=True)


def test_training_goes_on_as_without_it() -> None:
    """Predicting in the middle of an epoch leaves weights, momentum and dropout alone."""
    fit = {"epochs": 3, "batch_size": 4, "verbose": 0, "shuffle": False}
    alone = detector().fit(X, BOXES, **fit).history["loss"]
    watched = detector().fit(X, BOXES, callbacks=[MatchingStability(X, BOXES, every=1)], **fit)
    np.testing.assert_allclose(watched.history["loss"], alone, rtol=1e-5)


def test_batches() -> None:
    predicted: list[np.ndarray] = []

    def match(y_true: Any, y_pred: Any) -> hc.Assignment:
        predicted.append(y_pred)
        return hc.loss(y_true, y_pred, return_assignment=True)[1]

    stability = MatchingStability(X, BOXES, match, every=2, name="probe")
    seen: list[Any] = []
    log = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: seen.append(dict(logs)))
    model = detector()
    fit = {"epochs": 2, "batch_size": 4, "verbose": 0}
    history = model.fit(X, BOXES, callbacks=[stability, log], **fit).history
    assert ["probe_changed" in logs for logs in seen] == [False, True] * 3
    assert stability.meter.summary()["updates"] == len(predicted) == 3
    assert history["probe_changed"][1] == seen[-1]["probe_changed"] == stability.meter.changed
    # The weights are those after the batch, which JAX keeps to itself during an epoch.
    np.testing.assert_allclose(predicted[-1], model.predict(X, verbose=0), rtol=1e-4, atol=1e-6)


def test_a_matching_of_the_user() -> None:
    """Outputs in a dictionary, truths with a mask."""
    keras.utils.set_random_seed(0)
    x = keras.Input((7,))
    boxes = keras.layers.Reshape((5, 4), name="boxes")(keras.layers.Dense(20)(x))
    score = keras.layers.Dense(5, name="score")(x)
    model = keras.Model(x, {"boxes": boxes, "score": score})
    model.compile(optimizer="adam", loss={"boxes": hungarian_loss, "score": "mse"})
    real = np.arange(3) < RNG.integers(0, 4, (12, 1))
    shapes = []

    def match(y_true: Any, y_pred: Any) -> hc.Assignment:
        assert y_true is truths
        assert type(y_pred["boxes"]) is np.ndarray
        shapes.append(y_pred["score"].shape)
        return hc.loss(y_true["boxes"], y_pred["boxes"], mask=real, return_assignment=True)[1]

    truths = {"boxes": BOXES, "score": np.zeros((12, 5), np.float32)}
    stability = MatchingStability(X, truths, match)
    history = model.fit(X, truths, epochs=2, verbose=0, callbacks=[stability]).history
    assert shapes == [(12, 5)] * 2
    assert 0 <= history["matching_changed"][1] <= 1


def test_mixed_precision_and_integer_truths() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = detector()
        stability = MatchingStability(X, np.round(BOXES * 9).astype(np.int64))
        history = model.fit(X, BOXES, epochs=2, verbose=0, callbacks=[stability]).history
    finally:
        keras.config.set_dtype_policy("float32")
    assert 0 <= history["matching_changed"][1] <= 1
