"""Every message that a user of the losses for Keras can cause."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import keras

# The whole numbers that a dtype of half precision has without a gap.
_WHOLE = {"bfloat16": 2**8, "float16": 2**11}


def given(name: str, x: Any) -> None:
    """Check that what came is no structure, and nothing but an array."""
    if isinstance(x, Mapping):
        raise TypeError(
            f"{name} is a {type(x).__name__} with the keys {', '.join(sorted(map(repr, x)))}; "
            "expected one array: name the output that the loss is for, as in "
            "model.compile(loss={'objects': loss}), put the parts together by "
            "keras.layers.Concatenate(), or make the model a hungarian_keras.DetectionModel"
        )
    if x is None or isinstance(x, (str, bytes)):
        came = "None" if x is None else f"a {type(x).__name__}"
        raise TypeError(f"{name} is {came}; expected an array")
    if hasattr(x, "row_splits"):
        raise TypeError(
            f"{name} is a {type(x).__name__}; expected a dense array: pad it by "
            "x.to_tensor(default), and say which rows are padding with mask_value="
        )


def numerical(name: str, x: Any) -> None:
    """Check that a tensor holds real numbers."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    sorts = (keras.backend.is_float_dtype, keras.backend.is_int_dtype)
    if dtype != "bool" and not any(sort(dtype) for sort in sorts):
        raise TypeError(f"{name} has dtype {dtype}; expected real numbers")


def mask_value(value: Any) -> float | None:
    """Return the value that marks padding, as a number of Python."""
    if value is None:
        return None
    if not isinstance(value, numbers.Real):
        raise ValueError(f"mask_value is {value!r}; expected a number, or None for no padding")
    return float(value)


def carried(name: str, came: tuple[Any, ...], shape: tuple[Any, ...]) -> None:
    """Check the shape of a mask that a tensor `(batch_size, ..., objects, features)` carries."""
    allowed = [shape[:-1]] if len(shape) < 4 else [shape[:-1], (shape[0], shape[-2])]
    for expected in allowed:
        pairs = list(zip(came, expected, strict=False))
        if len(came) == len(expected) and all(None in p or p[0] == p[1] for p in pairs):
            return
    raise ValueError(
        f"{name} has shape {shape} and carries a Keras mask of shape {came}; expected "
        f"{' or '.join(map(str, allowed))}: True where there is an object. A mask over time or "
        "features has no meaning here; a layer that supports no masks, such as "
        "keras.layers.Reshape, takes one off"
    )


def sample_weight(came: tuple[Any, ...]) -> None:
    """Check that there is a weight per sample."""
    if len(came) > 1 and not (len(came) == 2 and came[1] in (1, None)):
        raise ValueError(
            f"sample_weight has shape {came}; expected (batch_size,), one weight per sample, since "
            "there is one loss per sample"
        )


def summed(k: int, loss: Any) -> None:
    """Say that a slice loss cannot be a sum."""
    raise ValueError(
        f"slice_losses_fn[{k}] is a {type(loss).__name__} with reduction='sum'; expected "
        "reduction=None: HungarianLoss takes the mean over the pairs of each sample itself"
    )


def packed(true: tuple[Any, ...], pred: tuple[Any, ...]) -> None:
    """Check the shapes of packed truths and predictions."""
    if len(true) != 3 or true[2] not in (5, None):
        raise ValueError(
            f"y_true has shape {true}; expected (batch_size, M, 5): (label, cx, cy, w, h) of each "
            "object, a negative label for padding. A model of two outputs, logits and boxes, is to "
            "be a hungarian_keras.DetectionModel"
        )
    if len(pred) not in (3, 4) or (pred[-1] is not None and pred[-1] < 5):
        raise ValueError(
            f"y_pred has shape {pred}; expected (batch_size, Q, C + 4), or (batch_size, L, Q, "
            "C + 4) for decoder layers: the logits and then (cx, cy, w, h) of each query"
        )


def labels_fit(dtype: Any, num_classes: int) -> None:
    """Check that the labels of all classes are whole numbers of the dtype of the truth."""
    dtype = keras.backend.standardize_dtype(dtype)
    greatest = _WHOLE.get(dtype)
    if greatest is not None and num_classes - 1 > greatest:
        raise ValueError(
            f"y_true has dtype {dtype}, in which labels above {greatest} are rounded, with "
            f"num_classes={num_classes}; expected float32. model.fit casts arrays to "
            "keras.config.floatx(): leave that at 'float32', and compute in half precision by "
            "keras.config.set_dtype_policy('mixed_bfloat16')"
        )


def labels_whole(labels: Any, odd: Any) -> None:
    """Raise if a label is no whole number; both are arrays of NumPy, `(batch_size, M)`."""
    if odd.any():
        image, at = (int(axis[0]) for axis in odd.nonzero())
        raise ValueError(
            f"y_true holds the label {labels[image, at]} (first at image {image}, object {at}); "
            "expected whole numbers, 0 to num_classes - 1 or negative for padding, in the layout "
            "(label, cx, cy, w, h): the label comes first"
        )


def no_masks() -> None:
    """Say that masks have no place in one array of predictions."""
    raise ValueError(
        "masks came; this loss gets one array of logits and boxes, in which masks have no place: "
        "call hungarian_core.DetrLoss(..., masks=MaskLoss()) in a training step of your own"
    )


def heads(name: str, x: Any, keys: tuple[str, str]) -> None:
    """Check that logits and boxes came as two arrays by name."""
    if not isinstance(x, Mapping) or any(key not in x for key in keys):
        came = (
            f"has the keys {sorted(map(str, x))}"
            if isinstance(x, Mapping)
            else f"is a {type(x).__name__}"
        )
        raise TypeError(f"{name} {came}; expected a mapping with {keys[0]!r} and {keys[1]!r}")
    for key in keys:
        given(f"{name}[{key!r}]", x[key])


def joint(loss: Any, kind: type[Any]) -> None:
    """Check the loss of a model of two outputs."""
    if not isinstance(loss, kind):
        raise TypeError(
            f"loss is {loss!r}; expected a DetrLoss or an AlignedDetrLoss of hungarian_keras, "
            "which takes both outputs"
        )
