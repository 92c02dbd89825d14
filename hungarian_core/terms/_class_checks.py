"""Every message that a user of classes can cause."""

from __future__ import annotations

import math
from typing import Any

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._checks import labels as label_range
from hungarian_core._checks import one_of, whole
from hungarian_core._extents import require_equal, same


def class_options(
    num_classes: Any,
    loss: Any,
    cost: Any,
    class_weights: Any,
    label_smoothing: float,
    alpha: float,
    gamma: float,
    cost_gamma: float,
) -> int:
    """Check the options of a term of classes against each other; `loss` is a `ClassLoss`.

    Returns:
        The number of classes, as Python has it.
    """
    num_classes = whole("num_classes", num_classes, 1, "a positive integer")
    softmax = loss.activation == "softmax"
    one_of("cost", cost, loss.costs, f"with loss={loss.name!r}")
    if class_weights is not None and len(class_weights) != num_classes:
        raise ValueError(
            f"class_weights has {len(class_weights)} entries; expected num_classes={num_classes}"
            + ("; the weight of the last class is no_object_weight" if softmax else "")
        )
    if class_weights is not None and not all(x >= 0 for x in class_weights):
        raise ValueError(f"class_weights is {[*class_weights]}; expected numbers, 0 or more")
    if label_smoothing and not softmax:
        raise ValueError(
            f"label_smoothing is {label_smoothing} with the class loss {loss.name!r}; it is "
            "defined for 'softmax' only"
        )
    exponents(loss, alpha, gamma, cost_gamma)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; expected a number from 0 to 1")
    return num_classes


def exponents(loss: Any, alpha: float, gamma: float, cost_gamma: float) -> None:
    """Check the parameters of a `ClassLoss` and of its cost."""
    if loss.activation != "softmax":
        _in_range("alpha", alpha, loss.most_alpha)
        _in_range("gamma", gamma)
        _in_range("cost_gamma", cost_gamma)


def token_mask(
    name: str, x: Array, expected: tuple[Any, ...], backend: Backend, xp: Namespace
) -> None:
    """Check the flags of the tokens that there are."""
    came = backend.shape(x)
    if (
        not xp.isdtype(x.dtype, "bool")
        or len(came) != len(expected)
        or not all(map(same, came, expected))
    ):
        raise ValueError(
            f"{name} has dtype {x.dtype} and shape {came}; expected bool {expected}, True where "
            "the text of an image has a token"
        )
    require_equal(name, came, expected)


def asymmetric_options(gamma_pos: float, gamma_neg: float, clip: float) -> None:
    """Check the parameters of the asymmetric loss."""
    _in_range("gamma_pos", gamma_pos)
    _in_range("gamma_neg", gamma_neg)
    if not 0 <= clip < 1:
        raise ValueError(f"clip is {clip!r}; expected a number from 0 to less than 1")


def no_sigmoid(name: str) -> None:
    """Say that a term of one logit needs a sigmoid loss."""
    raise ValueError(f"loss is {name!r}; expected a sigmoid loss, such as 'focal' or 'bce'")


def logit_shape(shape: tuple[Any, ...], logits: int, softmax: bool) -> None:
    """Check the number of logits."""
    if not same(shape[-1], logits):
        kind = "num_classes + 1, the last for no object" if softmax else "num_classes"
        raise ValueError(
            f"logits has shape {shape}, with {shape[-1]} classes; expected {logits}: {kind}"
        )
    require_equal("classes of logits", shape[-1:], (logits,))


def labels_fit(
    outside: Array, labels: Array, num_classes: int, backend: Backend, xp: Namespace
) -> None:
    """Check, where values can be read, that labels are below the number of classes."""
    label_range(
        outside, labels, f"0 to {num_classes - 1} with num_classes={num_classes}; labels that "
        "begin with 1 need num_classes to be one more, and an object without a class ignore=True",
        backend, xp,
    )  # fmt: skip


def _in_range(option: str, value: float, end: float = math.inf) -> None:
    if not 0 <= value <= end:
        interval = " from 0 to 1" if end == 1 else ", 0 or more"
        raise ValueError(f"{option} is {value!r}; expected a number{interval}")
