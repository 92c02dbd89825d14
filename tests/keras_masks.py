"""Masks and weights of samples in Keras, on the backend that KERAS_BACKEND names.

`tests/test_keras.py` runs this file once per backend.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc
from hungarian_keras import AlignedDetrLoss, DetrLoss, HungarianLoss, PITLoss, hungarian_loss

BACKEND = keras.backend.backend()
# As many samples as predictions: a mask that multiplies values of samples would broadcast.
SIZE, N, M, D = 5, 3, 5, 4
EMPTY = -5.0
CLASSES = 3

pytestmark = [
    # Keras's variables, when saved, and NumPy 2: keras/src/backend/common/variables.py.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]


def there() -> np.ndarray:
    """Return which predictions there are: all, some, fewer than objects, one, none."""
    return np.arange(M) < np.array([5, 3, 2, 1, 0])[:, None]


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return truths `(SIZE, N, D)` and inputs `(SIZE, M, D)`, which hold EMPTY where none is."""
    rng = np.random.default_rng(0)
    y_true, x = rng.random((SIZE, N, D)), rng.random((SIZE, M, D))
    x[~there()] = EMPTY
    return y_true.astype(np.float32), x.astype(np.float32)


def model(features: int = D, dtype: str | None = None) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((M, D))
    h = keras.layers.Masking(EMPTY)(x)
    return keras.Model(x, keras.layers.Dense(features, dtype=dtype)(h))


def expected(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Return the mean squared error of each sample by SciPy, on the predictions that are there."""
    values = np.zeros(len(y_true))
    for b, cols in enumerate(there()):
        truths, predictions = y_true[b].astype(np.float64), y_pred[b, cols].astype(np.float64)
        i, j = linear_sum_assignment(
            np.linalg.norm(truths[:, None] - predictions[None], axis=-1)
            if cols.any() else np.zeros((N, 0))
        )  # fmt: skip
        if len(i):
            values[b] = np.mean((truths[i] - predictions[j]) ** 2)
    return values


def with_mask(y_pred: np.ndarray, mask: np.ndarray) -> Any:
    """Return predictions with a mask on them, in the way of Keras, and NaN where none is."""
    y_pred = np.where(mask[..., None], y_pred, np.float32(np.nan))
    marked = np.where(mask[..., None], y_pred, np.float32(7))
    carrier = keras.layers.Masking(7.0)(keras.ops.convert_to_tensor(marked))
    tensor = keras.ops.convert_to_tensor(y_pred)
    from keras.src import backend  # there is no public way to put one on

    backend.set_keras_mask(tensor, backend.get_keras_mask(carrier))
    return tensor


def test_a_mask_says_which_predictions_there_are() -> None:
    y_true, y_pred = data()
    values = HungarianLoss([D], reduction=None)(y_true, with_mask(y_pred, there()))
    each = expected(y_true, y_pred)
    assert (each > 0).tolist() == [True] * 4 + [False]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(values), each, rtol=1e-5)
    weight = np.array([1.0, 0.0, 3.0, 2.0, 5.0], np.float32)
    value = HungarianLoss([D])(y_true, with_mask(y_pred, there()), sample_weight=weight)
    assert float(value) == pytest.approx((weight * each).mean(), rel=1e-5)


def test_a_mask_and_padding_of_truths() -> None:
    y_true, y_pred = data()
    y_true[0, 1:] = y_true[1, :] = np.nan
    values = HungarianLoss([D], mask_value=np.nan, reduction=None)(
        y_true, with_mask(y_pred, there())
    )
    values = keras.ops.convert_to_numpy(values)
    one = np.min(np.linalg.norm(y_pred[0] - y_true[0, 0], axis=-1))
    nearest = np.argmin(np.linalg.norm(y_pred[0] - y_true[0, 0], axis=-1))
    assert one < np.linalg.norm(y_pred[0, (nearest + 1) % M] - y_true[0, 0])
    assert values[0] == pytest.approx(np.mean((y_pred[0, nearest] - y_true[0, 0]) ** 2), rel=1e-5)
    assert values[1] == 0
    # A mask on the truths says the same.
    real = np.array([[True, False, False], [False] * 3, [True] * 3, [True] * 3, [True] * 3])
    found = HungarianLoss([D], reduction=None)(
        with_mask(data()[0], real), with_mask(y_pred, there())
    )
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), values, rtol=1e-6)


def test_signals() -> None:
    y_true, y_pred = data()
    values = PITLoss("mse", reduction=None)(y_true, with_mask(y_pred, there()))
    for b, cols in enumerate(there()):
        table = ((y_true[b][:, None].astype(np.float64) - y_pred[b, cols][None]) ** 2).mean(-1)
        pairs = linear_sum_assignment(table)
        wanted = table[pairs].mean() if cols.any() else 0.0
        assert float(values[b]) == pytest.approx(wanted, rel=1e-5)


def test_the_function() -> None:
    """A scalar; Keras's wrapper leaves it alone, and multiplies it by weights of mean 1."""
    y_true, y_pred = data()

    def wanted(y_pred: np.ndarray) -> float:
        pairs = zip(y_true, y_pred, there(), strict=True)
        each = [hc.loss(a[None], b[None, cols], reduction="sum") for a, b, cols in pairs]
        return float(np.sum(each)) / np.minimum(there().sum(1), N).sum()

    value = float(hungarian_loss(y_true, with_mask(y_pred, there())))
    assert value == pytest.approx(wanted(y_pred), rel=1e-5)
    net = model()
    net.compile(keras.optimizers.SGD(0.0), loss=hungarian_loss)
    before = wanted(net.predict(data()[1], verbose=0))
    history = net.fit(data()[1], y_true, batch_size=SIZE, verbose=0).history["loss"]
    assert history[0] == pytest.approx(before, rel=1e-4)


# Before 3.14, a layer of Keras that casts its input, as mixed policies do, drops the mask on it.
KEEPS_MASKS = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 14)


# PyTorch's compiler takes most of a minute per model: what it does is not this suite's to check.
@pytest.mark.parametrize(
    ("jit_compile", "dtype"),
    [(True, "float32")] * (BACKEND != "torch")
    + [(False, "float32")]
    + [(False, "mixed_float16")] * KEEPS_MASKS,
)
def test_fit(jit_compile: bool, dtype: str) -> None:
    """What is reported is the loss of the predictions that are there; it falls."""
    net = model(dtype=dtype)
    net.compile(keras.optimizers.SGD(0.1), loss=HungarianLoss([D]), jit_compile=jit_compile)
    y_true, x = data()
    before = expected(y_true, net.predict(x, verbose=0)).mean()
    history = net.fit(x, y_true, epochs=3, batch_size=SIZE, verbose=0).history["loss"]
    assert history[0] == pytest.approx(before, rel=1e-4 if dtype == "float32" else 1e-2)
    assert history[-1] < history[0]


@pytest.mark.parametrize("kind", [DetrLoss, AlignedDetrLoss])
def test_detection(kind: Any) -> None:
    """Each image has what the core makes of the queries that are there."""
    rng = np.random.default_rng(3)
    boxes = 0.2 + 0.4 * rng.random((SIZE, N + M, 4))
    y_true = np.concatenate([rng.integers(CLASSES, size=(SIZE, N, 1)), boxes[:, :N]], -1)
    y_pred = np.concatenate([rng.normal(size=(SIZE, M, CLASSES + 1)), boxes[:, N:]], -1)
    y_true, y_pred = y_true.astype(np.float32), y_pred.astype(np.float32)
    values = keras.ops.convert_to_numpy(
        kind(CLASSES, reduction=None)(y_true, with_mask(y_pred, there()))
    )
    labels = y_true[..., 0].astype(np.int64)
    targets = (labels, y_true[..., 1:], labels >= 0)
    core = getattr(hc, kind.__name__)(CLASSES, reduction="none")
    wanted = core(y_pred[..., :-4], y_pred[..., -4:], targets, query_mask=there()).total
    np.testing.assert_allclose(values, wanted * (SIZE if kind is DetrLoss else 1), rtol=1e-5)
    assert np.isfinite(values).all()
    # Layers have their masks, or share one.
    layers = np.stack([y_pred, y_pred], axis=1)
    masks = np.stack([there(), there()[::-1]], axis=1)
    values = kind(CLASSES, reduction=None)(y_true, with_mask(layers, masks))
    stacked = np.moveaxis(layers, 1, 0)
    wanted = core(
        stacked[..., :-4], stacked[..., -4:], targets, query_mask=np.moveaxis(masks, 1, 0)
    ).total
    wanted = wanted * (SIZE if kind is DetrLoss else 1)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(values), wanted, rtol=1e-5)


@pytest.mark.parametrize("loss", [HungarianLoss([D]), PITLoss("mse"), hungarian_loss])
def test_masks_of_another_shape(loss: Any) -> None:
    y_true, y_pred = data()
    tensor = keras.ops.convert_to_tensor(y_pred)
    from keras.src import backend

    backend.set_keras_mask(tensor, keras.ops.ones((SIZE, M, D), "bool"))
    message = r"y_pred has shape \(5, 5, 4\) and carries a Keras mask of shape \(5, 5, 4\); expect"
    with pytest.raises(ValueError, match=message):
        loss(y_true, tensor)


# Weights of samples


@pytest.mark.parametrize("reduction", [None, "sum_over_batch_size"])
def test_losses_of_keras_keep_samples_apart(reduction: str | None) -> None:
    """Whatever their own reduction would be."""
    y_true, y_pred = data()
    weight = np.array([1.0, 0.0, 3.0, 0.0, 2.0], np.float32)
    functions = [keras.losses.MeanAbsoluteError(reduction=reduction)]
    found = HungarianLoss([D], slice_losses_fn=functions)(y_true, y_pred, sample_weight=weight)
    functions = [keras.losses.mean_absolute_error]
    wanted = HungarianLoss([D], slice_losses_fn=functions)(y_true, y_pred, sample_weight=weight)
    assert float(found) == pytest.approx(float(wanted), rel=1e-6)
    assert float(found) != pytest.approx(float(HungarianLoss([D])(y_true, y_pred)), rel=1e-2)


def test_what_would_mix_samples_is_refused() -> None:
    y_true, y_pred = data()
    with pytest.raises(ValueError, match=r"slice_losses_fn\[0\] is a MeanAbsoluteError with red"):
        HungarianLoss([D], slice_losses_fn=[keras.losses.MeanAbsoluteError(reduction="sum")])
    loss = HungarianLoss([D], slice_losses_fn=[lambda a, b: keras.ops.mean(keras.ops.abs(a - b))])
    with pytest.raises(ValueError, match="one value for all pairs, and reduction='sample' keeps"):
        loss(y_true, y_pred)
    with pytest.raises(ValueError, match=r"sample_weight has shape \(5, 5\); expected \(batch_s"):
        HungarianLoss([D])(y_true, y_pred, sample_weight=np.ones((SIZE, M)))
    column = HungarianLoss([D])(y_true, y_pred, sample_weight=2 * np.ones((SIZE, 1)))
    assert float(column) == pytest.approx(2 * float(HungarianLoss([D])(y_true, y_pred)))
