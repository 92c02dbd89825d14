"""Dtypes, what is no truth, and copies of the losses in Keras, on the backend of KERAS_BACKEND.

`tests/test_keras.py` runs this file once per backend.
"""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import hungarian_core as hc
from hungarian_keras import (
    AlignedDetrLoss,
    DetrLoss,
    HNet,
    HungarianLoss,
    MatchingStability,
    PITLoss,
    hungarian_loss,
)

BACKEND = keras.backend.backend()
HALVES = ("bfloat16", "float16")

pytestmark = [
    # Keras's variables, when saved, and NumPy 2: keras/src/backend/common/variables.py.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def number(x: Any) -> float:
    return float(keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")))


def dtype(x: Any) -> str:
    return keras.backend.standardize_dtype(x.dtype)


# Half precision


def many_classes(label: int) -> tuple[np.ndarray, np.ndarray, DetrLoss]:
    """Return a truth, a prediction that is right about its class, and a loss of classes alone."""
    logits = np.zeros((1, 2, 3005), np.float32)
    logits[0, 0, label] = logits[0, 1, 3000] = 20
    y_true = np.array([[[label, 0.5, 0.5, 0.2, 0.2]]], np.float32)
    nothing = dict.fromkeys(("bbox_cost", "giou_cost", "bbox_weight", "giou_weight"), 0.0)
    return y_true, logits, DetrLoss(3000, **nothing)


@pytest.mark.parametrize(
    ("way", "half", "label"),
    [("floatx", "bfloat16", 301), ("policy", "float16", 2999), ("dtype", "float16", 2999)],
)
def test_labels_survive(way: str, half: str, label: int) -> None:
    if way == "floatx":
        keras.config.set_floatx(half)
    elif way == "policy":
        keras.config.set_dtype_policy(f"mixed_{half}")
    y_true, y_pred, loss = many_classes(label)
    if way == "dtype":
        loss = DetrLoss(**{**loss.get_config(), "dtype": half})
    value = loss(y_true, y_pred)
    assert dtype(value) == ("float32" if way == "policy" else half)
    assert number(value) < 0.01
    assert number(loss(y_true.tolist(), y_pred.tolist())) < 0.01


@pytest.mark.parametrize("half", HALVES)
def test_labels_that_were_rounded_on_their_way_are_refused(half: str) -> None:
    """As `fit` does it where `floatx` is a half."""
    y_true, y_pred, loss = many_classes(3)
    message = rf"y_true has dtype {half}, in which labels above \d+ are rounded.*mixed_bfloat16"
    with pytest.raises(ValueError, match=message):
        loss(keras.ops.cast(y_true, half), y_pred)
    few = keras.ops.cast(detections(0), half)
    assert np.isfinite(number(DetrLoss(3)(few, PREDICTION)))


@pytest.mark.parametrize(("way", "half"), [("floatx", "float16"), ("dtype", "bfloat16")])
def test_truths_are_not_rounded(way: str, half: str) -> None:
    """The nearest prediction of 1000.5 is 1000, not 1001, and its square fits no float16."""
    if way == "floatx":
        keras.config.set_floatx(half)
    y_true = np.array([[[1000.4, 1.0]]], np.float32)
    y_pred = np.array([[[1000.0, 1.0], [1001.5, 1.0]]], np.float32)
    given = {} if way == "floatx" else {"dtype": half}
    value = HungarianLoss([2], **given)(y_true, y_pred)
    assert dtype(value) == half
    assert number(value) == pytest.approx(0.08, rel=1e-2)
    value = PITLoss("mse", **given)(y_true, y_pred)
    assert number(value) == pytest.approx(0.08, rel=1e-2)
    weight = np.float32(1e-6)  # computed in float32, the batch does not overflow
    far = HungarianLoss([2], **given)(y_true, y_pred + 2000, sample_weight=weight)
    assert number(far) == pytest.approx(1e-6 * ((1999.6**2 + 2000**2) / 2), rel=1e-2)
    # Of the padding, too: -0.1 in half precision is what -0.1 becomes there.
    padded = keras.ops.cast(np.array([[[1000, 1.0], [-0.1, -0.1]]]), half)
    loss = HungarianLoss([2], mask_value=-0.1, **given)
    assert number(loss(padded, y_pred)) == pytest.approx(0.0, abs=1e-3)


def test_double_precision() -> None:
    with contextlib.ExitStack() as stack:
        if BACKEND == "jax":
            import jax

            stack.callback(jax.config.update, "jax_enable_x64", jax.config.jax_enable_x64)
            jax.config.update("jax_enable_x64", True)
        keras.config.set_floatx("float64")
        loss = HungarianLoss([2], reduction="sum")  # Keras divides in float32, on PyTorch
        value = loss(np.array([[[0.1, 0.2]]]), np.zeros((1, 1, 2)))
        assert dtype(value) == "float64"
        assert float(value) == pytest.approx(0.025, rel=1e-14, abs=0)
        assert float(loss([[[0.1, 0.2]]], [[[0.0, 0.0]]])) == float(value)


# What is no truth


def detections(label: float) -> np.ndarray:
    y_true = np.full((2, 2, 5), 0.3, np.float32)
    y_true[..., 0] = [[1, label], [2, -1]]
    return y_true


PREDICTION = np.random.default_rng(0).random((2, 4, 8)).astype(np.float32)


@pytest.mark.parametrize("kind", [DetrLoss, AlignedDetrLoss])
def test_labels_are_whole_numbers(kind: Any) -> None:
    for label in (0.3, np.nan, -0.5):
        with pytest.raises(
            ValueError, match=r"the label .* image 0, object 1.*in the layout \(label"
        ):
            kind(3)(detections(label), PREDICTION)
    y_true = detections(0)
    with pytest.raises(ValueError, match=r"holds the label 0.3.* image 0, object 0"):
        kind(3)(np.roll(y_true, -1, axis=-1), PREDICTION)  # the box put first


def programs() -> list[Any]:
    """Return what compiles; PyTorch's compiler takes minutes."""
    if BACKEND == "jax":
        import jax

        return [jax.jit]
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return [tf.function]
    return []


def test_in_a_program_the_loss_of_the_image_is_nan() -> None:
    for compiled in programs():
        program = compiled(DetrLoss(3, reduction=None))
        for label in (0.3, np.nan, np.inf):
            arrays = [keras.ops.convert_to_tensor(x) for x in (detections(label), PREDICTION)]
            assert np.isnan(keras.ops.convert_to_numpy(program(*arrays))[0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "is None; expected an array"),
        (
            {"boxes": PREDICTION},
            "is a dict with the keys 'boxes'; expected one array: name the out",
        ),
        ("boxes", "is a str; expected an array"),
        (np.array([["a"]]), "expected numerical entries"),
        (np.ones((2, 4, 8), np.complex64), "has dtype complex64; expected real numbers"),
    ],
    ids=["none", "dict", "str", "strings", "complex"],
)
@pytest.mark.parametrize("loss", [HungarianLoss([8]), PITLoss(), DetrLoss(3)], ids=type)
def test_what_is_no_array(loss: Any, given: Any, message: str) -> None:
    for pair in ((given, PREDICTION), (PREDICTION, given)):
        with pytest.raises(TypeError, match=message):
            loss(*pair)


def test_shapes_of_detections() -> None:
    loss = DetrLoss(3)
    with pytest.raises(ValueError, match=r"y_true has shape \(2, 2, 4\); expected \(batch_size, M"):
        loss(detections(0)[..., 1:], PREDICTION)
    with pytest.raises(ValueError, match=r"y_pred has shape \(2, 8\); expected \(batch_size, Q, C"):
        loss(detections(0), PREDICTION[:, 0])


def test_ragged_truths() -> None:
    import tensorflow as tf  # whatever the backend: it may be what the data come with

    ragged = tf.ragged.constant([[[1.0] * 8], []], ragged_rank=1)
    with pytest.raises(TypeError, match=r"y_true is a RaggedTensor; expected a dense array: pad"):
        HungarianLoss([8])(ragged, PREDICTION)


# Padding


@pytest.mark.parametrize("value", [np.nan, np.float32(-1), 7])
def test_padding(value: Any, tmp_path: Path) -> None:
    """Rows that hold the value throughout; also after the model is saved."""
    rng = np.random.default_rng(0)
    y_true, x = rng.random((2, 3, 4)).astype(np.float32), rng.random((2, 3, 4)).astype(np.float32)
    y_true[0, 1:] = value
    y_true[1, 0, 0] = 0.5 if np.isnan(value) else value  # one feature is not the row
    for loss in (HungarianLoss([4], mask_value=value), PITLoss("mse", mask_value=value)):
        first = min(((y_true[0, 0] - x[0, j]) ** 2).mean() for j in range(3))
        by_distance = hc.loss(y_true[1:], x[1:], cost="sqeuclidean", reduction="mean") / 4
        value_ = float(loss(y_true, x))
        if isinstance(loss, PITLoss):
            assert value_ == pytest.approx((first + float(by_distance)) / 2, rel=1e-5)
        model = keras.Sequential([keras.Input((3, 4)), keras.layers.Identity()])
        model.compile("sgd", loss=loss)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert loaded.evaluate(x, y_true, verbose=0) == pytest.approx(value_, rel=1e-5)


def test_a_padding_that_is_no_number() -> None:
    for kind in (lambda **o: HungarianLoss([4], **o), PITLoss):
        with pytest.raises(ValueError, match="mask_value is 'nan'; expected a number"):
            kind(mask_value="nan")


# Copies


LOSSES: dict[str, Any] = {
    "slices": lambda: HungarianLoss(
        np.array([5, 3]),
        np.int64(1),
        "l1",
        [keras.losses.MeanAbsoluteError(), keras.losses.mean_squared_error],
        np.array([1.0, 2.0]),
        mask_value=np.float32(-1),
    ),
    "signals": lambda: PITLoss("snr", zero_mean=True, mask_value=np.nan),
    "classes": lambda: DetrLoss(3, class_weights=np.array([1.0, 2.0, 3.0])),
    "tensor": lambda: DetrLoss(
        np.int64(3),
        preset="detr",
        class_weights=keras.ops.convert_to_tensor([1.0, 2.0, 3.0]),
        bbox_weight=np.float32(4),
    ),
    "aligned": lambda: AlignedDetrLoss(3, class_weights=(1.0, 2.0, 3.0), normalize="boxes"),
}


def batch(name: str) -> tuple[np.ndarray, np.ndarray]:
    if name in ("slices", "signals"):
        return np.random.default_rng(1).random((2, 3, 8)).astype(np.float32), PREDICTION
    return detections(0), PREDICTION


@pytest.mark.parametrize("name", LOSSES)
def test_copies(name: str) -> None:
    loss = LOSSES[name]()
    packed = keras.saving.serialize_keras_object(loss)
    copies = [
        type(loss).from_config(loss.get_config()),
        keras.saving.deserialize_keras_object(packed),
        copy.deepcopy(loss),
        pickle.loads(pickle.dumps(loss)),
    ]
    wanted = float(loss(*batch(name)))
    assert np.isfinite(wanted)
    for other in copies:
        assert repr(other.get_config()) == repr(loss.get_config())
        assert float(other(*batch(name))) == wanted


@pytest.mark.parametrize("name", ["slices", "classes", "aligned"])
def test_a_model_is_saved_and_loaded(name: str, tmp_path: Path) -> None:
    y_true, x = batch(name)
    model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Dense(8)])
    model.compile("sgd", loss=LOSSES[name]())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    wanted = model.evaluate(x, y_true, verbose=0)
    assert loaded.evaluate(x, y_true, verbose=0) == pytest.approx(wanted)


def test_copies_of_the_callback_and_the_layer() -> None:
    y_true = np.random.default_rng(0).random((2, 3, 8)).astype(np.float32)
    stability = MatchingStability(PREDICTION, y_true, name="probe")
    for other in (copy.deepcopy(stability), pickle.loads(pickle.dumps(stability))):
        assert (other.name, other.every) == ("probe", None)
        other.meter.update(other.match(y_true, PREDICTION))
        assert np.isnan(other.meter.changed)
    layer = HNet(width=4, layers=1)
    layer.build()
    packed = keras.saving.serialize_keras_object(layer)
    for other in (keras.saving.deserialize_keras_object(packed), copy.deepcopy(layer)):
        assert other.get_config() == layer.get_config()
        assert {k: tuple(v.shape) for k, v in other.params().items()} == layer.shapes


def test_masks_have_no_place() -> None:
    with pytest.raises(ValueError, match="masks came; this loss gets one array of logits and box"):
        DetrLoss(3, masks=hc.MaskLoss())


def test_the_function_does_not_round_truths() -> None:
    y_pred = keras.ops.convert_to_tensor(np.array([[[1000.0, 0.0]]], np.float16))
    value = hungarian_loss(np.array([[[1000.3, 0.0]]], np.float32), y_pred)
    assert number(value) == pytest.approx(0.3, rel=1e-3)
