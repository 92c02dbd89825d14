"""The losses of detected objects in Keras, on the backend that KERAS_BACKEND names.

`tests/test_keras.py` runs this file once per backend.
"""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
import pytest

import hungarian_core as hc
from hungarian_keras import AlignedDetrLoss, DetrLoss

# The sizes of keras_masks.py and keras_heads.py: JAX compiles operations once for all three.
CLASSES, IMAGES, QUERIES = 3, 5, 5
BACKEND = keras.backend.backend()
LOSSES = {
    "detr": (DetrLoss, {"preset": "detr"}),
    "deformable": (DetrLoss, {"preset": "deformable"}),
    "rt_detr": (DetrLoss, {"preset": "rt_detr", "bbox_weight": 4.0}),
    "options": (DetrLoss, {"class_weights": [1.0, 2.0, 3.0], "no_object_weight": 0.2}),
    "aligned": (AlignedDetrLoss, {}),
    "aligned_boxes": (AlignedDetrLoss, {"normalize": "boxes", "no_object_weight": 0.1}),
}

pytestmark = [
    # Tensors of PyTorch and NumPy 2: keras/src/backend/torch/core.py.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]


def truth(counts: tuple[int, ...] = (2, 0, 3, 1, 2)) -> np.ndarray:
    """Return truths `(batch, 3, 5)`: labels and boxes, padding with a label of -1 and NaN."""
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=(len(counts), 3, 1))
    y_true = np.concatenate([labels, 0.2 + 0.4 * rng.random((len(counts), 3, 4))], -1)
    padding = np.arange(3) >= np.array(counts)[:, None]
    y_true[padding] = [-1, *[np.nan] * 4]
    return y_true.astype(np.float32)


def prediction(logits: int, layers: int = 0) -> np.ndarray:
    """Return predictions `(5, [layers,] 5, logits + 4)`."""
    rng = np.random.default_rng(1)
    lead = (IMAGES, layers, QUERIES) if layers else (IMAGES, QUERIES)
    parts = [2 * rng.normal(size=(*lead, logits)), 0.2 + 0.4 * rng.random((*lead, 4))]
    return np.concatenate(parts, -1).astype(np.float32)


def of(name: str, /, **more: Any) -> tuple[Any, int]:
    """Return a loss and its number of logits."""
    kind, options = LOSSES[name]
    return kind(CLASSES, **options, **more), CLASSES + (name not in ("deformable", "rt_detr"))


def expected(name: str, y_true: np.ndarray, y_pred: np.ndarray, **call: Any) -> float:
    """Return the loss of the batch by the core, in NumPy."""
    kind, options = LOSSES[name]
    options = dict(options)
    core = getattr(hc, kind.__name__)
    if "preset" in options:
        core = core.preset
        criterion = core(options.pop("preset"), CLASSES, **options)
    else:
        criterion = core(CLASSES, **options)
    labels = y_true[..., 0].astype(np.int64)
    if y_pred.ndim == 4:
        y_pred = np.moveaxis(y_pred, 1, 0)
    targets = (labels, y_true[..., 1:], labels >= 0)
    return float(criterion(y_pred[..., :-4], y_pred[..., -4:], targets, **call).total)


@pytest.mark.parametrize(
    ("name", "layers"), [*((name, 0) for name in LOSSES), ("detr", 2), ("aligned_boxes", 2)]
)
def test_is_the_loss_of_the_core(name: str, layers: int) -> None:
    loss, logits = of(name)
    y_true, y_pred = truth(), prediction(logits, layers)
    assert float(loss(y_true, y_pred)) == pytest.approx(expected(name, y_true, y_pred), rel=1e-5)
    weight = np.array([0.5, 2.0, 0.0, 1.0, 1.5], np.float32)
    value = float(loss(y_true, y_pred, sample_weight=weight))
    weighted = expected(name, y_true, y_pred, image_weights=weight)
    assert value == pytest.approx(weighted, rel=1e-5)


def test_a_batch_without_objects() -> None:
    loss, logits = of("detr")
    y_true, y_pred = truth((0,) * IMAGES), prediction(logits)
    value = float(loss(y_true, y_pred))
    assert 0 < value == pytest.approx(expected("detr", y_true, y_pred), rel=1e-5)


def detector(logits: int) -> keras.Model:
    """Return a small model from 7 numbers to logits and boxes of `QUERIES` queries."""
    x = keras.Input((7,))
    h = keras.layers.Dense(16, activation="tanh")(x)
    classes = keras.layers.Reshape((QUERIES, logits))(keras.layers.Dense(QUERIES * logits)(h))
    boxes = keras.layers.Dense(QUERIES * 4, activation="sigmoid")(h)
    boxes = keras.layers.Reshape((QUERIES, 4))(boxes)
    return keras.Model(x, keras.layers.Concatenate(dtype="float32")([classes, boxes]))


def inputs() -> np.ndarray:
    return np.random.default_rng(2).normal(size=(IMAGES, 7)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "policy"),
    [("detr", "float32"), ("detr", "mixed_float16"), ("deformable", "float32")],
)
def test_fit(name: str, policy: str) -> None:
    """What `fit` reports is the loss on the model's predictions, and it falls."""
    keras.utils.set_random_seed(0)
    loss, logits = of(name)
    keras.config.set_dtype_policy(policy)
    try:
        model = detector(logits)
        model.compile(optimizer=keras.optimizers.Adam(0.01), loss=loss)
        before = expected(name, truth(), model.predict(inputs(), verbose=0))
        history = model.fit(inputs(), truth(), epochs=8, verbose=0).history["loss"]
    finally:
        keras.config.set_dtype_policy("float32")
    assert history[0] == pytest.approx(before, rel=1e-3 if policy == "float32" else 1e-2)
    assert history[-1] < history[0]


@pytest.mark.parametrize("name", LOSSES)
def test_config_round_trip(name: str) -> None:
    loss, logits = of(name, nan="raise", reduction="sum", name="set")
    packed = keras.saving.serialize_keras_object(loss)
    y_true, y_pred = truth(), prediction(logits)
    for copied in (
        type(loss).from_config(loss.get_config()),
        keras.saving.deserialize_keras_object(packed),
    ):
        assert copied.get_config() == loss.get_config()
        assert float(copied(y_true, y_pred)) == float(loss(y_true, y_pred))


def test_the_core_takes_the_tensors_of_keras() -> None:
    """In a training step of one's own there is nothing to pack."""
    loss, logits = of("detr")
    y_true, y_pred = truth(), prediction(logits)
    labels = keras.ops.cast(y_true[..., 0], "int32")
    arrays = (keras.ops.convert_to_tensor(x) for x in (y_pred[..., :-4], y_pred[..., -4:]))
    targets = (labels, keras.ops.convert_to_tensor(y_true[..., 1:]), labels >= 0)
    found = hc.DetrLoss.preset("detr", CLASSES)(*arrays, targets)
    assert float(found.total) == pytest.approx(float(loss(y_true, y_pred)), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "detr2"}, "preset is 'detr2'; expected one of 'detr'"),
        ({"class_loss": "hinge"}, "class_loss is 'hinge'; expected one of"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DetrLoss(CLASSES, **options)


def test_wrong_shapes() -> None:
    loss, logits = of("detr")
    with pytest.raises(ValueError, match=r"with 5 classes; expected 4: num_classes \+ 1"):
        loss(truth(), prediction(logits + 1))


def test_a_loss_shows_its_settings_and_what_it_takes() -> None:
    loss = DetrLoss(CLASSES, preset="detr", groups=2, class_cost=1.0)
    assert repr(loss) == "DetrLoss(num_classes=3, preset='detr', class_cost=1.0, groups=2)"
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    assert "preset='detr'" in repr(again)
    parameters = inspect.signature(DetrLoss).parameters
    assert {"num_classes", "preset", "dtype", "giou_cost"} <= set(parameters)
    expected = inspect.signature(hc.AlignedDetrLoss).parameters["form"]
    assert inspect.signature(AlignedDetrLoss).parameters["form"] == expected


def test_a_misspelt_option_is_told() -> None:
    with pytest.raises(TypeError, match=r"no option 'clas_cost'.*Did you mean 'class_cost'"):
        DetrLoss(CLASSES, clas_cost=1.0)
