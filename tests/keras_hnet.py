"""The learned network as a layer, on the backend that KERAS_BACKEND names.

`tests/test_hnet_frameworks.py` runs this file once per backend.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from hungarian_keras import HNet

WEIGHTS = os.environ["HNET_WEIGHTS"]
GIVEN = dict(np.load(os.environ["HNET_GIVEN"]))
INPUTS = [GIVEN[name] for name in ("distance", "row_mask", "col_mask")]

pytestmark = [
    # Keras's variables, when saved, and NumPy 2: keras/src/backend/common/variables.py.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]


def test_equal_to_the_core() -> None:
    layer = HNet.load(WEIGHTS)
    found = keras.ops.convert_to_numpy(layer(*INPUTS))
    np.testing.assert_allclose(found, GIVEN["expected"], atol=1e-5)


def test_a_model_that_contains_it_is_saved_and_loaded(tmp_path: Path) -> None:
    distance = keras.Input((4, 3))
    masks = [keras.Input((4,), dtype="bool"), keras.Input((3,), dtype="bool")]
    output = HNet.load(WEIGHTS, name="hnet")(distance, *masks)
    assert output.shape == (None, 4, 3)
    model = keras.Model([distance, *masks], output)
    path = tmp_path / "model.keras"
    model.save(path)
    for found in (model, keras.saving.load_model(path)):
        predicted = found.predict(INPUTS, batch_size=4, verbose=0)
        np.testing.assert_allclose(predicted, GIVEN["expected"], atol=1e-5)


def slope(total: Any, x: np.ndarray) -> np.ndarray:
    """Return the gradient of `total` for `x` in the way of the backend."""
    name = keras.backend.backend()
    if name == "jax":
        import jax

        return np.asarray(jax.grad(total)(x))
    if name == "torch":
        import torch

        tensor = torch.tensor(x, requires_grad=True)
        return torch.autograd.grad(total(tensor), tensor)[0].numpy(force=True)
    import tensorflow as tf

    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        value = total(tensor)
    return tape.gradient(value, tensor).numpy()


def test_frozen_it_lets_gradients_through() -> None:
    layer = HNet.load(WEIGHTS, trainable=False)
    assert layer.trainable_variables == []
    upstream = keras.ops.convert_to_tensor(GIVEN["upstream"])
    found = slope(lambda x: keras.ops.sum(layer(x) * upstream), GIVEN["distance"])
    np.testing.assert_allclose(found, GIVEN["gradient"], rtol=1e-3, atol=1e-4)


def test_it_trains() -> None:
    layer = HNet(width=8, layers=1, seed=2)
    model = keras.Sequential([keras.Input((4, 3)), layer])
    before = [keras.ops.convert_to_numpy(x) for x in layer.trainable_variables]
    assert len(before) == len(layer.params()) > 3
    model.compile("sgd", "binary_crossentropy")
    model.fit(INPUTS[0], np.round(GIVEN["expected"]), epochs=2, verbose=0)
    after = [keras.ops.convert_to_numpy(x) for x in layer.trainable_variables]
    assert any(np.any(x != y) for x, y in zip(before, after, strict=True))
