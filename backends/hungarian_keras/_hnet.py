"""The learned Hungarian network as a layer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from hungarian_core import hnet


@keras.saving.register_keras_serializable("hungarian")
class HNet(keras.layers.Layer):
    """The learned Hungarian network: distances `(..., n, m)` to probabilities of association.

    ``HNet.from_pretrained(2)`` has the weights that come with the package; with
    ``layer.trainable = False`` gradients reach the distances and the layer stays as it is. A model
    that contains it can be saved and loaded.

    Args:
        width, layers, seed: Of the initial weights, as for `hungarian_core.hnet.init_params`.
        shapes: The shapes of the weights by their names, in the place of `width` and `layers`.
        name, trainable, dtype: As for `keras.layers.Layer`.

    Examples:
        >>> layer = hk.HNet.from_pretrained(2)
        >>> probabilities = layer(np.array([[[0.1, 2.0], [1.5, 0.2]]], np.float32))
        >>> keras.ops.convert_to_numpy(probabilities).round(2)
        array([[[1., 0.],
                [0., 1.]]], dtype=float32)
    """

    def __init__(
        self,
        *,
        width: int = 16,
        layers: int = 10,
        seed: int = 0,
        shapes: Mapping[str, Any] | None = None,
        name: str | None = None,
        trainable: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, trainable=trainable, dtype=dtype)
        self.seed = seed
        if shapes is None:
            initial = hnet.init_params(width=width, layers=layers, seed=seed)
        else:  # Keras makes the layer of a saved model, and then sets its weights
            initial = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
        self.shapes = {key: value.shape for key, value in initial.items()}
        self._initial: dict[str, Any] = initial

    def build(self, *_: Any, **__: Any) -> None:
        """Make the weights, whose shapes do not depend on what comes."""
        self._named = {
            key: self.add_weight(shape=value.shape, initializer="zeros", name=key.replace(".", "_"))
            for key, value in self._initial.items()
        }
        for key, value in self._initial.items():
            self._named[key].assign(value)

    @classmethod
    def from_params(cls, params: Mapping[str, Any], **options: Any) -> HNet:
        """Return the layer of given parameters; `options` are those of a layer."""
        layer = cls(shapes={key: np.shape(value) for key, value in params.items()}, **options)
        layer._initial = {key: np.asarray(value, np.float32) for key, value in params.items()}
        layer.build((None, None))
        return layer

    @classmethod
    def from_pretrained(cls, max_len: int = 2, **options: Any) -> HNet:
        """Return the network that comes with the package."""
        return cls.from_params(hnet.load_pretrained(max_len), **options)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> HNet:
        """Return the network of a file of weights."""
        return cls.from_params(hnet.load(path)[0], **options)

    def params(self) -> dict[str, Any]:
        """Return the weights as the functions of `hungarian_core.hnet` take them."""
        return {key: keras.ops.convert_to_tensor(v) for key, v in self._named.items()}

    def call(self, distance: Any, row_mask: Any = None, col_mask: Any = None) -> Any:
        """Return the probabilities of association `(..., n, m)` of distances `(..., n, m)`.

        Masks are `(..., n)` and `(..., m)` bool, True = valid.
        """
        return hnet.associate(distance, self.params(), row_mask=row_mask, col_mask=col_mask)

    def compute_output_spec(self, distance: Any, *_: Any, **__: Any) -> Any:
        """Return the shape and dtype of the output, which are those of the distances."""
        return keras.KerasTensor(distance.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        shapes = {key: list(shape) for key, shape in self.shapes.items()}
        return {**super().get_config(), "seed": self.seed, "shapes": shapes}
