"""The losses of detected objects for `model.compile`."""

from __future__ import annotations

import functools
from typing import Any

import keras

import hungarian_core as _core
from hungarian_core._settings import passing_on
from hungarian_keras import _checks
from hungarian_keras._base import SetLoss, plain

_LARGEST = 2.0**31 - 128  # of float32, that int32 has


class _Packed(SetLoss):
    """A loss of classes and boxes, which come in one array of truths and one of predictions."""

    def __init__(
        self, criterion: Any, given: dict[str, Any], shares: bool, **keras_options: Any
    ) -> None:
        super().__init__(**keras_options)
        self.criterion = criterion
        self.num_classes = given["num_classes"]
        self.given = given
        self.shares = shares  # of the loss of the batch are what the criterion gives each image

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return a value for each image, `(batch_size,)`; their mean is the loss of the batch."""
        _checks.packed(tuple(y_true.shape), tuple(y_pred.shape))
        _checks.labels_fit(y_true.dtype, self.num_classes)
        y_true, y_pred, mask, query_mask = self.sets(y_true, y_pred)
        true = y_true[..., 0], y_true[..., 1:], mask
        return self._of_images(*true, y_pred[..., :-4], y_pred[..., -4:], query_mask)["total"]

    def of_heads(self, y_true: Any, y_pred: Any) -> dict[str, Any]:
        """Return the loss and its terms by name for each image, `(batch_size,)`.

        Args:
            y_true: A mapping of ``"labels"`` `(batch_size, M)`, negative for padding, and
                ``"boxes"`` `(batch_size, M, 4)`.
            y_pred: A mapping of ``"logits"`` `(batch_size, Q, C)` and ``"boxes"`` `(batch_size, Q,
                4)`, or with an axis of L layers before that of the queries.
        """
        _checks.heads("y", y_true, ("labels", "boxes"))
        _checks.heads("the model's output", y_pred, ("logits", "boxes"))
        _checks.labels_fit(y_true["labels"].dtype, self.num_classes)
        boxes, logits, mask, query_mask = self.sets(y_true["boxes"], y_pred["logits"])
        labels = keras.ops.convert_to_tensor(y_true["labels"])
        predicted = keras.ops.convert_to_tensor(y_pred["boxes"], self._wide)
        return self._of_images(labels, boxes, mask, logits, predicted, query_mask)

    def _of_images(
        self, labels: Any, true: Any, mask: Any, logits: Any, boxes: Any, query_mask: Any
    ) -> dict[str, Any]:
        """Return the loss and its terms for each image."""
        size = keras.ops.shape(logits)[0]
        labels = self._labels(labels if mask is None else keras.ops.where(mask, labels, -1))
        if len(logits.shape) == 4:
            logits, boxes = (keras.ops.moveaxis(x, 1, 0) for x in (logits, boxes))
            if query_mask is not None and len(query_mask.shape) == 3:
                query_mask = keras.ops.moveaxis(query_mask, 1, 0)
        more = {} if query_mask is None else {"query_mask": query_mask}
        found = self.criterion(logits, boxes, (labels, true, labels >= 0), **more)
        values = {"total": found.total}
        for name, x in (("class", found.class_), ("bbox", found.bbox), ("giou", found.giou)):
            values[name] = keras.ops.sum(x, axis=0) if len(x.shape) == 2 else x
        if self.shares:
            values = {k: x * keras.ops.cast(size, x.dtype) for k, x in values.items()}
        return values

    def _labels(self, given: Any) -> Any:
        """Return labels as integers; what is no whole number becomes one out of range.

        So the core makes the loss of its image NaN where nobody can look at values.
        """
        whole = keras.ops.floor(given)
        odd = keras.ops.not_equal(given, whole)  # NaN too
        backend = _core.get_backend(None, given)
        if backend.readable(given):
            _checks.labels_whole(*(keras.ops.convert_to_numpy(x) for x in (given, odd)))
        whole = keras.ops.where(odd, self.num_classes, keras.ops.minimum(whole, _LARGEST))
        return keras.ops.cast(keras.ops.maximum(whole, -1), "int32")

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
      decoder layers. A Keras mask that it carries, `(batch_size, Q)` or `(batch_size, L, Q)`, says
      which queries there are: those of False are not matched and have no loss.

    The loss of a batch divides by what there is in all of its images. Each image has its share in
    it, times `batch_size`: by default Keras takes the mean, which is the loss of the batch, and
    with `sample_weight` the loss with `image_weights`. It is computed in float32 or wider,
    whatever its dtype.

    Args:
        num_classes: As for `hungarian_core.DetrLoss`.
        preset: A name of `hungarian_core.DetrLoss.preset`, by default none.
        reduction, name, dtype: As for `keras.losses.Loss`.
        **options: Other arguments of `hungarian_core.DetrLoss`, but `masks`.

    Example::

        logits = keras.layers.Dense(num_classes + 1)(queries)
        boxes = keras.layers.Dense(4, activation="sigmoid")(queries)
        model = keras.Model(image, keras.layers.Concatenate()([logits, boxes]))
        model.compile("adam", loss=DetrLoss(num_classes, preset="detr"))

    Examples:
        >>> y_true = np.array([[[1, 0.7, 0.7, 0.2, 0.2], [-1, 0, 0, 0, 0]]], np.float32)
        >>> y_pred = np.zeros((1, 3, 7), np.float32)
        >>> loss = hk.DetrLoss(2, preset="detr")
        >>> round(float(loss(y_true, y_pred)), 3)
        13.974
        >>> loss
        DetrLoss(num_classes=2, preset='detr')
    """

    @passing_on(_core.DetrLoss, "backend", defaults=False)
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
        if options.get("masks") is not None:
            _checks.no_masks()
        make: Any = _core.DetrLoss
        if preset is not None:
            make = functools.partial(_core.DetrLoss.preset, preset)
        given = plain({"num_classes": num_classes, **options})
        super().__init__(
            make(**given, reduction="none"),
            {**given, "preset": preset},
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

    Examples:
        >>> y_true = np.array([[[1, 0.7, 0.7, 0.2, 0.2], [-1, 0, 0, 0, 0]]], np.float32)
        >>> y_pred = np.zeros((1, 3, 7), np.float32)
        >>> round(float(hk.AlignedDetrLoss(2)(y_true, y_pred)), 3)
        16.171
    """

    @passing_on(_core.AlignedDetrLoss, "backend")
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
        given = plain({"num_classes": num_classes, "normalize": normalize, **options})
        super().__init__(
            _core.AlignedDetrLoss(**given, reduction="none"),
            given,
            shares=normalize == "boxes",
            reduction=reduction,
            name=name,
            dtype=dtype,
        )


@keras.saving.register_keras_serializable("hungarian")
class DetectionModel(keras.Model):
    """A `keras.Model` with two outputs, logits and boxes, which are learned by one loss.

    Keras gives each output a loss of its own, and a matching needs both. This model gives them to
    one loss, `DetrLoss` or `AlignedDetrLoss`, and reports its terms as the metrics ``class``,
    ``bbox`` and ``giou`` beside ``loss``. It is made as a `keras.Model` is, by inputs and outputs
    or as a base class, and its outputs are a mapping with ``"logits"`` `(batch_size, Q, C)` and
    ``"boxes"`` `(batch_size, Q, 4)` in cxcywh, relative to the image, or with an axis of L decoder
    layers before that of the queries. The truths that `fit` gets are a mapping with ``"labels"``
    `(batch_size, M)`, negative for padding, and ``"boxes"`` `(batch_size, M, 4)`. A
    `sample_weight` `(batch_size,)` weighs images.

    Examples:
        >>> x = keras.Input((8,))
        >>> heads = {
        ...     "logits": keras.layers.Reshape((5, 4))(keras.layers.Dense(20)(x)),
        ...     "boxes": keras.layers.Reshape((5, 4))(keras.layers.Dense(20, "sigmoid")(x)),
        ... }
        >>> model = hk.DetectionModel(x, heads)
        >>> model.compile("adam", loss=hk.DetrLoss(3, preset="detr"))
        >>> truth = {"labels": np.array([[1, -1]] * 4), "boxes": np.full((4, 2, 4), 0.5)}
        >>> history = model.fit(np.ones((4, 8)), truth, verbose=0).history
        >>> sorted(history)
        ['bbox', 'class', 'giou', 'loss']
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # the names by which Keras loads it
        super().__init__(*args, **kwargs)

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, **options: Any) -> None:
        """Configure the model as `keras.Model.compile` does.

        Args:
            optimizer: As for `keras.Model.compile`.
            loss: A `DetrLoss` or an `AlignedDetrLoss`.
            **options: As for `keras.Model.compile`.

        Raises:
            TypeError: `loss` is something else.
        """
        if isinstance(loss, dict):  # from a file
            loss = keras.losses.deserialize(loss)
        _checks.joint(loss, _Packed)
        # Keras itself would give it each output for itself.
        super().compile(optimizer, loss=None, **options)
        self.joint_loss = loss
        self.terms = [keras.metrics.Mean(name=name) for name in ("class", "bbox", "giou")]

    def get_compile_config(self) -> dict[str, Any]:
        """Return what `compile` got, for a file."""
        config: dict[str, Any] = super().get_compile_config()
        return {**config, "loss": keras.losses.serialize(self.joint_loss)} if config else config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as `get_compile_config` says."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the loss of a batch, and note its terms."""
        if isinstance(sample_weight, dict):  # Keras has given it to every array of the truth
            sample_weight = next(iter(sample_weight.values()))
        values = self.joint_loss.of_heads(y, y_pred)
        size = keras.ops.shape(values["total"])[0]
        for term in self.terms:
            value = self.joint_loss.reduced(values[term.name], sample_weight)
            term.update_state(value, sample_weight=size)
        total = self.joint_loss.reduced(values["total"], sample_weight)
        for more in self.losses:  # of regularisers
            total = total + keras.ops.cast(keras.ops.sum(more), total.dtype)
        return total
