"""The detector: a small convolutional network, then slots that look at what it found."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from hungarian_demo.scenes import CLASSES, SIDE

SLOTS = 8  # objects that the model predicts for each image
WIDTH = 64
GRID = SIDE // 4  # cells along the side of the feature map


def detector() -> keras.Model:
    """Return a model from images `(B, SIDE, SIDE, 1)` to objects `(B, SLOTS, 4 + CLASSES)`.

    An object is a box, cxcywh in [0, 1], and the probabilities of the classes.
    """
    image = keras.Input((SIDE, SIDE, 1), name="image")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(WIDTH // 2, 4, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(WIDTH, 4, strides=2, padding="same", activation="relu")(x)
    for _ in range(2):
        x += layers.Conv2D(WIDTH, 3, padding="same", activation="relu")(_norm(x))
    cells = _norm(layers.Reshape((GRID * GRID, WIDTH))(x))
    cells += Learned(GRID * GRID, 0.1, name="positions")(cells)

    slots = Learned(SLOTS, 1.0, name="slots")(cells)
    for _ in range(2):
        query = _norm(slots)
        slots += layers.MultiHeadAttention(4, WIDTH // 4)(query, query)
        slots += layers.MultiHeadAttention(4, WIDTH // 4)(_norm(slots), cells)
        slots += layers.Dense(WIDTH)(layers.Dense(2 * WIDTH, activation="relu")(_norm(slots)))
    slots = _norm(slots)

    seen, centre = Point(name="point")([slots, cells])
    x = layers.Dense(2 * WIDTH, activation="relu")(layers.Concatenate()([slots, seen]))
    # The box's centre is where the slot looked, give or take a fifth of the image.
    shift = layers.Rescaling(0.2)(layers.Dense(2, activation="tanh")(x))
    size = layers.Dense(2, activation="sigmoid")(x)
    scores = layers.Dense(CLASSES, activation="softmax")(x)
    objects = layers.Concatenate(name="objects")([centre + shift, size, scores])
    return keras.Model(image, objects, name="detector")


def _norm(x: Any) -> Any:
    return layers.LayerNormalization()(x)


class Learned(layers.Layer):
    """Vectors that are learned, the same for every image: `(B, ...)` to `(B, count, WIDTH)`."""

    def __init__(self, count: int, spread: float, **options: Any) -> None:
        super().__init__(**options)
        self.count = count
        self.spread = spread

    def build(self, shape: Any) -> None:
        """Make the vectors."""
        initial = keras.initializers.RandomNormal(stddev=self.spread)
        self.vectors = self.add_weight(shape=(1, self.count, WIDTH), initializer=initial)

    def call(self, x: Any) -> Any:
        """Return the vectors for each image of the batch."""
        return ops.tile(self.vectors, (ops.shape(x)[0], 1, 1))


class Point(layers.Layer):
    """Attention with one head that also says where it looks.

    From slots `(B, SLOTS, WIDTH)` and cells `(B, GRID * GRID, WIDTH)` to what the slots saw
    `(B, SLOTS, WIDTH)` and the mean place of it, xy `(B, SLOTS, 2)`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.query = layers.Dense(WIDTH)
        self.key = layers.Dense(WIDTH)

    def build(self, shapes: Any) -> None:
        """Make the weights, and the places of the cells."""
        self.query.build(shapes[0])
        self.key.build(shapes[1])
        middle = (np.arange(GRID, dtype=np.float32) + 0.5) / GRID
        self.places = np.stack(np.meshgrid(middle, middle), axis=-1).reshape(GRID * GRID, 2)

    def call(self, inputs: Any) -> Any:
        """Return what the slots saw and where."""
        slots, cells = inputs
        keys = ops.transpose(self.key(cells), (0, 2, 1))
        weights = ops.softmax(ops.matmul(self.query(slots), keys) / WIDTH**0.5)
        places = ops.convert_to_tensor(self.places, weights.dtype)
        return ops.matmul(weights, cells), ops.matmul(weights, places)
