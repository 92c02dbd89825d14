"""A model of two outputs, on one of Keras's backends; see test_keras.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from hungarian_keras import AlignedDetrLoss, DetectionModel, DetrLoss

CLASSES, QUERIES = 3, 5

pytestmark = [
    # Keras's variables, when saved, and NumPy 2: keras/src/backend/common/variables.py.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]


def _model(kind: Any = DetectionModel) -> Any:
    keras.utils.set_random_seed(0)
    x = keras.Input((8,))
    logits = keras.layers.Dense(QUERIES * (CLASSES + 1), kernel_regularizer="l2")(x)
    boxes = keras.layers.Dense(QUERIES * 4, activation="sigmoid")(x)
    return kind(
        x,
        {
            "logits": keras.layers.Reshape((QUERIES, CLASSES + 1))(logits),
            "boxes": keras.layers.Reshape((QUERIES, 4))(boxes),
        },
    )


def _data(count: int = 12) -> tuple[Any, Any, Any]:
    """Return inputs, truths and weights of twelve images, in batches of five the last has two."""
    rng = np.random.default_rng(0)
    truth = {
        "labels": rng.integers(-1, CLASSES, (count, 3)).astype("int32"),
        "boxes": rng.uniform(0.3, 0.6, (count, 3, 4)).astype("float32"),
    }
    return rng.normal(size=(count, 8)).astype("float32"), truth, rng.uniform(0.5, 2, count)


@pytest.mark.parametrize(
    "loss", [DetrLoss(CLASSES, preset="detr"), AlignedDetrLoss(CLASSES)], ids=["detr", "aligned"]
)
def test_equal_to_the_packed_loss(loss: Any) -> None:
    """Of a batch with weights: the loss of the arrays put together, and the regulariser's."""
    model, (x, truth, weights) = _model(), _data(5)
    model.compile("sgd", loss=loss)
    found = model.evaluate(x, truth, sample_weight=weights, verbose=0, return_dict=True)
    out = {name: keras.ops.convert_to_numpy(y) for name, y in model(x).items()}
    y_true = np.concatenate([truth["labels"][..., None], truth["boxes"]], -1)
    y_pred = np.concatenate([out["logits"], out["boxes"]], -1)
    more = sum(float(keras.ops.convert_to_numpy(y)) for y in model.losses)
    expected = float(loss(y_true, y_pred, weights))
    assert more > 0
    assert found["loss"] == pytest.approx(expected + more, rel=1e-5)
    assert found["class"] + found["bbox"] + found["giou"] == pytest.approx(expected, rel=1e-4)


def test_training(tmp_path: Path) -> None:
    """It learns, the last batch may be smaller, and what is loaded goes on."""
    model, (x, truth, weights) = _model(), _data()
    model.compile("adam", loss=DetrLoss(CLASSES, preset="detr"))
    history = model.fit(
        x, truth, sample_weight=weights, batch_size=5, epochs=8, verbose=0,
        validation_data=(x, truth),
    ).history  # fmt: skip
    names = ("loss", "class", "bbox", "giou")
    assert set(history) == {*names, *(f"val_{name}" for name in names)}
    assert history["loss"][-1] < history["loss"][0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, DetectionModel)
    expected = model.evaluate(x, truth, batch_size=5, verbose=0)
    assert loaded.evaluate(x, truth, batch_size=5, verbose=0) == pytest.approx(expected)
    loaded.fit(x, truth, batch_size=5, verbose=0)


def test_wrong_use() -> None:
    x, truth, _ = _data(5)
    with pytest.raises(TypeError, match="expected a DetrLoss or an AlignedDetrLoss"):
        _model().compile("sgd", loss="mse")
    model = _model()
    model.compile("sgd", loss=DetrLoss(CLASSES))
    with pytest.raises(TypeError, match="expected a mapping with 'labels' and 'boxes'"):
        model.evaluate(x, {"labels": truth["labels"]}, verbose=0)
    plain = _model(keras.Model)
    plain.compile("sgd", loss=DetrLoss(CLASSES))
    with pytest.raises(Exception, match=r"hungarian_keras\.DetectionModel"):
        plain.evaluate(x, {"logits": truth["labels"], "boxes": truth["boxes"]}, verbose=0)
