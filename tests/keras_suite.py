"""What Keras users expect of the losses, on the backend that KERAS_BACKEND names.

`tests/test_keras.py` runs this file once per backend.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from hungarian_keras import HungarianLoss, compute_euclidean_distance, hungarian_loss

TRUTH = np.array([[[1, 2, 3, 4], [5, 6, 7, 8]]], np.float32)
PREDICTION = np.array([[[2, 2, 2, 2], [1, 1, 1, 1]]], np.float32)
VALUE = 6.50763825
BACKEND = keras.backend.backend()

pytestmark = [
    # Keras's variables, when saved, and NumPy 2: keras/src/backend/common/variables.py.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]


def sample(batch: int = 6, n: int = 3, m: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return truths `(batch, n, 14)` and predictions `(batch, m, 14)`: boxes and classes."""
    rng = np.random.default_rng(seed)
    y_true = np.concatenate(
        [rng.random((batch, n, 4)), np.eye(10)[rng.integers(10, size=(batch, n))]], -1
    )
    scores = rng.random((batch, m, 10)) + 0.1
    scores /= scores.sum(-1, keepdims=True)
    y_pred = np.concatenate([rng.random((batch, m, 4)), scores], -1)
    return y_true.astype(np.float32), y_pred.astype(np.float32)


def expected(y_true: np.ndarray, y_pred: np.ndarray, weights: tuple[float, float]) -> np.ndarray:
    """Return the loss of each sample by SciPy and NumPy: MSE of boxes, cross-entropy of classes."""
    values = []
    for truths, predictions in zip(
        y_true.astype(np.float64), y_pred.astype(np.float64), strict=True
    ):
        truths = truths[~np.all(truths == -1, axis=-1)]
        cost = np.linalg.norm(truths[:, None, :4] - predictions[None, :, :4], axis=-1)
        i, j = linear_sum_assignment(cost)
        a, b = truths[i], predictions[j]
        boxes = np.mean((a[:, :4] - b[:, :4]) ** 2, axis=-1)
        classes = -np.sum(a[:, 4:] * np.log(b[:, 4:]), axis=-1)
        values.append(np.mean(weights[0] * boxes + weights[1] * classes) if len(truths) else 0.0)
    return np.array(values)


def readme_loss(**options: Any) -> HungarianLoss:
    """Return the loss of the documented call."""
    return HungarianLoss(
        slices=[4, 10],
        slice_index_to_compute_assignment=0,
        compute_cost_matrix_fn=compute_euclidean_distance,
        slice_losses_fn=[
            keras.losses.mean_squared_error,
            keras.losses.categorical_crossentropy,
        ],
        slice_weights=[1.0, 2.0],
        **options,
    )


def detector(m: int = 5) -> keras.Model:
    """Return a small model from 7 numbers to `m` objects of 4 + 10 features."""
    x = keras.Input((7,))
    h = keras.layers.Dense(16, activation="tanh")(x)
    boxes = keras.layers.Reshape((m, 4))(keras.layers.Dense(m * 4)(h))
    scores = keras.layers.Reshape((m, 10))(keras.layers.Dense(m * 10)(h))
    scores = keras.layers.Softmax(dtype="float32")(scores)
    return keras.Model(
        x, keras.layers.Concatenate(name="objects", dtype="float32")([boxes, scores])
    )


def inputs(batch: int = 6) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(batch, 7)).astype(np.float32)


# The values


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_the_documented_example(dtype: str) -> None:
    value = hungarian_loss(TRUTH.astype(dtype), keras.ops.convert_to_tensor(PREDICTION))
    assert tuple(value.shape) == ()
    assert float(value) == pytest.approx(VALUE, rel=1e-6)
    loss = HungarianLoss(slices=[4], slice_losses_fn=[distance])
    assert float(loss(TRUTH.astype(dtype), PREDICTION)) == pytest.approx(VALUE, rel=1e-6)


@keras.saving.register_keras_serializable("suite")
def distance(y_true: Any, y_pred: Any) -> Any:
    """Return Euclidean distances of rows."""
    return keras.ops.norm(y_true - y_pred, axis=-1)


def test_the_documented_class() -> None:
    y_true, y_pred = sample()
    each = expected(y_true, y_pred, (1.0, 2.0))
    assert float(readme_loss()(y_true, y_pred)) == pytest.approx(each.mean(), rel=1e-5)
    assert float(readme_loss(reduction="sum")(y_true, y_pred)) == pytest.approx(
        each.sum(), rel=1e-5
    )
    values = keras.ops.convert_to_numpy(readme_loss(reduction=None)(y_true, y_pred))
    np.testing.assert_allclose(values, each, rtol=1e-5)


def test_sample_weight_weighs_samples() -> None:
    y_true, y_pred = sample()
    weight = np.array([0.0, 1.0, 2.0, 0.0, 0.5, 3.0])
    each = expected(y_true, y_pred, (1.0, 2.0))
    value = readme_loss()(y_true, y_pred, sample_weight=weight)
    assert float(value) == pytest.approx((weight * each).mean(), rel=1e-5)


def test_mean_by_sample_weight() -> None:
    y_true, y_pred = sample()
    weight = np.array([0.0, 1.0, 2.0, 0.0, 0.5, 3.0])
    each = expected(y_true, y_pred, (1.0, 2.0))
    value = readme_loss(reduction="mean_with_sample_weight")(y_true, y_pred, sample_weight=weight)
    assert float(value) == pytest.approx((weight * each).sum() / weight.sum(), rel=1e-5)


def test_rows_of_mask_value_are_no_objects() -> None:
    y_true, y_pred = sample()
    y_true[0, 1:] = y_true[2, 2:] = y_true[3, :] = -1
    y_true[4, 0, 0] = -1  # one feature is not the row
    each = expected(y_true, y_pred, (1.0, 2.0))
    assert each[3] == 0
    values = readme_loss(reduction="none", mask_value=-1.0)(y_true, y_pred)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(values), each, rtol=1e-5)


@pytest.mark.parametrize(
    "functions",
    [
        [
            keras.losses.MeanSquaredError(reduction="none"),
            keras.losses.CategoricalCrossentropy(reduction="none"),
        ],
        [keras.losses.mean_squared_error, keras.losses.CategoricalCrossentropy(reduction=None)],
        [keras.losses.MeanSquaredError(), keras.losses.CategoricalCrossentropy()],
    ],
    ids=["none", "mixed", "mean"],
)
def test_instances_of_keras_losses(functions: list[Any]) -> None:
    y_true, y_pred = sample()
    loss = HungarianLoss(slices=[4, 10], slice_losses_fn=functions, slice_weights=[1.0, 2.0])
    each = expected(y_true, y_pred, (1.0, 2.0))
    assert float(loss(y_true, y_pred)) == pytest.approx(each.mean(), rel=1e-5)


def framework_losses() -> list[Any]:
    """Return mean squared error and cross-entropy as the framework in use has them."""
    if BACKEND == "torch":
        import torch

        def entropy(input: Any, target: Any) -> Any:  # noqa: A002  # as PyTorch names it
            return torch.nn.functional.nll_loss(
                torch.log(input), target.argmax(-1), reduction="none"
            )

        return [torch.nn.MSELoss(reduction="none"), entropy]
    if BACKEND == "tensorflow":
        import tensorflow as tf

        # As in the documentation that users of TensorFlow know.
        return [tf.keras.losses.mse, tf.keras.losses.categorical_crossentropy]
    import jax.numpy as jnp

    return [
        lambda predictions, targets: jnp.square(predictions - targets),  # as optax names them
        lambda y_true, y_pred: -jnp.sum(y_true * jnp.log(y_pred), axis=-1),
    ]


def test_losses_of_the_framework() -> None:
    y_true, y_pred = sample()
    loss = HungarianLoss(
        slices=[4, 10],
        slice_index_to_compute_assignment=0,
        compute_cost_matrix_fn=compute_euclidean_distance,
        slice_losses_fn=framework_losses(),
        slice_weights=[1.0, 2.0],
    )
    each = expected(y_true, y_pred, (1.0, 2.0))
    assert float(loss(y_true, y_pred)) == pytest.approx(each.mean(), rel=1e-5)
    model = detector()
    model.compile(optimizer="adam", loss=loss)
    assert_training_follows(model, loss, y_true)


# Training


def assert_training_follows(model: keras.Model, loss: Any, y_true: np.ndarray, **fit: Any) -> None:
    """Check that `fit` reports what the loss is on the model's predictions, and lowers it."""
    x = inputs(len(y_true))
    before = float(loss(y_true, model.predict(x, verbose=0)))
    history = model.fit(x, y_true, epochs=8, batch_size=len(y_true), verbose=0, **fit)
    assert history.history["loss"][0] == pytest.approx(before, rel=1e-3)
    assert history.history["loss"][-1] < before
    after = model.evaluate(x, y_true, verbose=0, batch_size=len(y_true))
    assert after < before


# PyTorch's compiler takes most of a minute per model: what it does is not this suite's to check.
# "auto", which is one of the two, is what all models here have that say nothing.
JIT = [False] if BACKEND == "torch" else [True, False]


@pytest.mark.parametrize("jit_compile", JIT)
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
def test_fit(jit_compile: bool, padded: bool) -> None:
    keras.utils.set_random_seed(0)
    y_true, _ = sample()
    if padded:
        y_true[0, 1:] = y_true[2, 2:] = y_true[3, :] = -1
    model, loss = detector(), readme_loss(mask_value=-1.0 if padded else None)
    model.compile(optimizer="adam", loss=loss, jit_compile=jit_compile)
    assert_training_follows(model, loss, y_true)


@pytest.mark.parametrize("jit_compile", JIT)
def test_fit_with_a_loss_by_name_of_output_and_weights(jit_compile: bool) -> None:
    keras.utils.set_random_seed(0)
    x = keras.Input((7,))
    boxes = keras.layers.Reshape((5, 4), name="bbox")(keras.layers.Dense(20)(x))
    score = keras.layers.Dense(1, name="score")(x)
    model = keras.Model(x, {"bbox": boxes, "score": score})
    model.compile(
        optimizer="adam",
        loss={"bbox": hungarian_loss, "score": "mse"},
        loss_weights={"bbox": 3.0, "score": 1.0},
        jit_compile=jit_compile,
    )
    y_true = {"bbox": sample()[0][..., :4], "score": np.zeros((6, 1), np.float32)}
    predicted = model.predict(inputs(), verbose=0)
    value = 3 * float(
        hungarian_loss(y_true["bbox"], keras.ops.convert_to_tensor(predicted["bbox"]))
    )
    value += float(np.mean(predicted["score"] ** 2))
    history = model.fit(inputs(), y_true, epochs=3, batch_size=6, verbose=0).history["loss"]
    assert history[0] == pytest.approx(value, rel=1e-4)
    assert history[-1] < history[0]


def test_fit_with_sample_weight_and_a_last_smaller_batch() -> None:
    keras.utils.set_random_seed(0)
    y_true, _ = sample()
    model = detector()
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss=readme_loss())
    weight = np.array([0.0, 1.0, 2.0, 0.0, 0.5, 3.0], np.float32)
    each = expected(y_true, model.predict(inputs(), verbose=0), (1.0, 2.0))
    fit = {"sample_weight": weight, "batch_size": 4, "verbose": 0, "shuffle": False}
    history = model.fit(inputs(), y_true, **fit).history["loss"]
    assert history[0] == pytest.approx((weight * each).mean(), rel=1e-4)


def test_mixed_precision() -> None:
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = detector()
        assert model.layers[1].compute_dtype == "float16"
        model.compile(optimizer="adam", loss=readme_loss())
        history = model.fit(inputs(), sample()[0], epochs=8, batch_size=6, verbose=0)
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.all(np.isfinite(history.history["loss"]))
    assert history.history["loss"][-1] < history.history["loss"][0]


def test_half_precision_predictions() -> None:
    y_true, y_pred = sample()
    value = readme_loss()(y_true, keras.ops.convert_to_tensor(y_pred, "float16"))
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    each = expected(y_true, y_pred.astype(np.float16).astype(np.float32), (1.0, 2.0))
    assert float(value) == pytest.approx(each.mean(), rel=1e-5)
    value = hungarian_loss(TRUTH, keras.ops.convert_to_tensor(PREDICTION, "float16"))
    assert keras.backend.standardize_dtype(value.dtype) == "float16"
    assert float(value) == pytest.approx(VALUE, rel=1e-3)


# Saving


def same(a: HungarianLoss, b: HungarianLoss) -> None:
    y_true, y_pred = sample()
    assert b.get_config() == a.get_config()
    assert float(b(y_true, y_pred)) == float(a(y_true, y_pred))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"slice_weights": [0.5, 2.0], "slice_index_to_compute_assignment": 1},
        {"compute_cost_matrix_fn": compute_euclidean_distance, "mask_value": -1.0},
        {"compute_cost_matrix_fn": "l1", "reduction": "sum", "name": "set", "nan": "worst"},
        {"slice_losses_fn": [distance, keras.losses.categorical_crossentropy], "solver": "core"},
        {
            "slice_losses_fn": [
                keras.losses.MeanAbsoluteError(reduction="none"),
                keras.losses.CategoricalCrossentropy(label_smoothing=0.1, reduction="none"),
            ]
        },
    ],
    ids=["default", "weights", "matcher", "named", "functions", "instances"],
)
def test_config_round_trip(options: dict[str, Any]) -> None:
    loss = HungarianLoss(slices=[4, 10], **options)
    same(loss, HungarianLoss.from_config(loss.get_config()))
    packed = keras.saving.serialize_keras_object(loss)
    same(loss, keras.saving.deserialize_keras_object(packed))


def test_dtype_is_kept() -> None:
    loss = HungarianLoss(slices=[4, 10], dtype="float16")
    assert HungarianLoss.from_config(loss.get_config()).dtype == "float16"


@pytest.mark.parametrize(
    "loss", [readme_loss(mask_value=-1.0), hungarian_loss], ids=["class", "function"]
)
def test_save_and_load(loss: Any, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    y_true, _ = sample()
    model = detector()
    model.compile(optimizer="adam", loss=loss)
    model.fit(inputs(), y_true, batch_size=6, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    value = model.evaluate(inputs(), y_true, batch_size=6, verbose=0)
    assert loaded.evaluate(inputs(), y_true, batch_size=6, verbose=0) == pytest.approx(value)
    losses = [m.fit(inputs(), y_true, batch_size=6, verbose=0).history for m in (model, loaded)]
    assert losses[1]["loss"] == pytest.approx(losses[0]["loss"])


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slices": None}, "slices is None; expected a list of sizes"),
        ({"slices": [4, 10], "slice_weights": [1.0]}, "slice_weights is .* one entry for each"),
        ({"slices": [4], "compute_cost_matrix_fn": "l3"}, "expected one of 'euclidean'"),
        ({"slices": [4], "reduction": "avg"}, "Invalid value for argument `reduction`"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HungarianLoss(**options)


def test_wrong_shapes() -> None:
    y_true, y_pred = sample()
    with pytest.raises(ValueError, match="y_pred has 14 features and slices"):
        HungarianLoss(slices=[4, 11])(y_true, y_pred)
    with pytest.raises(ValueError, match="expected equal batch_size and num_features"):
        hungarian_loss(y_true[..., :4], keras.ops.convert_to_tensor(y_pred))
