"""The losses of detected objects for `model.compile`."""

from __future__ import annotations

import functools
from typing import Any

import keras

import hungarian_core as _core


class _Packed(keras.losses.Loss):
    """A loss of classes and boxes, which come in one array of truths and one of predictions."""

    def __init__(
        self, criterion: Any, given: dict[str, Any], shares: bool, **keras_options: Any
    ) -> None:
        super().__init__(**keras_options)
        self.criterion = criterion
        self.given = given
        self.shares = shares  # of the loss of the batch are what the criterion gives each image

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return a value for each image, `(batch_size,)`; their mean is the loss of the batch."""
        labels = keras.ops.cast(y_true[..., 0], "int32")
        logits, boxes = y_pred[..., :-4], y_pred[..., -4:]
        if len(y_pred.shape) == 4:
            logits, boxes = (keras.ops.moveaxis(x, 1, 0) for x in (logits, boxes))
        values = self.criterion(logits, boxes, (labels, y_true[..., 1:], labels >= 0)).total
        if self.shares:
            values = values * keras.ops.cast(keras.ops.shape(y_pred)[0], values.dtype)
        return values

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), **self.given, "dtype": self.dtype}


@keras.saving.register_keras_serializable("hungarian")
class DetrLoss(_Packed):
    """`hungarian_core.DetrLoss` for Keras.

    Keras hands a loss one array of truths and one of predictions. Here they are

    - `y_true`, `(batch_size, M, 5)`: of each object the label and the box in cxcywh, relative to
      the image. A negative label marks padding.
    - `y_pred`, `(batch_size, Q, C + 4)`: of each query the logits and the box, for instance from
      ``keras.layers.Concatenate()([logits, boxes])``. Or `(batch_size, L, Q, C + 4)`, for L
      decoder layers.

    The loss of a batch divides by what there is in all of its images. Each image has its share in
    it, times `batch_size`: by default Keras takes the mean, which is the loss of the batch, and
    with `sample_weight` the loss with `image_weights`.

    Args:
        num_classes: As for `hungarian_core.DetrLoss`.
        preset: A name of `hungarian_core.DetrLoss.preset`, by default none.
        reduction, name, dtype: As for `keras.losses.Loss`.
        **options: Other arguments of `hungarian_core.DetrLoss`.

    Example::

        logits = keras.layers.Dense(num_classes + 1)(queries)
        boxes = keras.layers.Dense(4, activation="sigmoid")(queries)
        model = keras.Model(image, keras.layers.Concatenate()([logits, boxes]))
        model.compile("adam", loss=DetrLoss(num_classes, preset="detr"))
    """

    def __init__(
        self,
        num_classes: int,
        *,
        preset: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "detr_loss",
        dtype: Any = None,
        **options: Any,
    ) -> None:
        make: Any = _core.DetrLoss
        if preset is not None:
            make = functools.partial(_core.DetrLoss.preset, preset)
        super().__init__(
            make(num_classes, **options, reduction="none"),
            {"num_classes": num_classes, "preset": preset, **options},
            shares=True,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )


@keras.saving.register_keras_serializable("hungarian")
class AlignedDetrLoss(_Packed):
    """`hungarian_core.AlignedDetrLoss` for Keras, which takes the same arrays as `DetrLoss`.

    Args:
        num_classes: As for `hungarian_core.AlignedDetrLoss`.
        normalize: As for `hungarian_core.AlignedDetrLoss`.
        reduction, name, dtype: As for `keras.losses.Loss`. Keras takes the mean over images.
        **options: Other arguments of `hungarian_core.AlignedDetrLoss`.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        normalize: Any = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "aligned_detr_loss",
        dtype: Any = None,
        **options: Any,
    ) -> None:
        criterion = _core.AlignedDetrLoss(
            num_classes, normalize=normalize, **options, reduction="none"
        )
        super().__init__(
            criterion,
            {"num_classes": num_classes, "normalize": normalize, **options},
            shares=normalize == "boxes",
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
