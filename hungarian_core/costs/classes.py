"""What it costs to take a prediction for an object of a class.

`softmax`, `focal` and `nll` give the matrix `[..., n, m]` of the labels of n true objects and the
logits of m predictions. They are pieces: `logit_stats` takes the exponentials of all logits, once
for the matching and for the loss, `table` makes the cost of every class of them, and `pick` takes
the columns that the labels name.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import index_dtype, solving_dtype
from hungarian_core._registry import get_backend

ClassCost = Literal["softmax", "focal", "focal_published", "nll"]
Activation = Literal["softmax", "sigmoid"]


def softmax(labels: Array, logits: Array, *, backend: str | Backend | None = None) -> Array:
    """Return ``-p(label)`` by softmax over all classes, as DETR matches.

    Args:
        labels: `(..., n)` integer, each in 0 to C - 1. Padding needs such a label too, since a
            cost has no mask: `DetrLoss`, which has one, lets it hold anything.
        logits: `(..., m, C)` floating; the class "no object", if there is one, counts as a class.
        backend: A backend's name or instance, to which other arrays are converted; by default
            the one of the arrays.

    Returns:
        `(..., n, m)` in the dtype of `logits`, or float32 for float16 and bfloat16.

    Raises:
        ValueError: Shapes or dtypes do not fit, or a label is out of range. Where values cannot
            be read, in a program or on an accelerator, the costs of that label are NaN.

    Reference:
        Carion et al., End-to-End Object Detection with Transformers, ECCV 2020, section 3.1.

    Examples:
        >>> labels = np.array([0, 2])
        >>> logits = np.array([[3.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
        >>> hc.costs.softmax(labels, logits).round(4)
        array([[-0.9094, -0.0453],
               [-0.0453, -0.9094]])
    """
    return _cost("softmax", "softmax", labels, logits, backend)


def focal(
    labels: Array,
    logits: Array,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    form: Literal["safe", "published"] = "safe",
    backend: str | Backend | None = None,
) -> Array:
    """Return the focal cost of the label by sigmoid, as Deformable DETR matches.

    ``alpha (1 - p)**gamma (-log p) - (1 - alpha) p**gamma (-log(1 - p))``. Arguments, result and
    errors are those of `softmax`, and:

    Args:
        labels: As for `softmax`.
        logits: `(..., m, C)` floating, without a class "no object".
        alpha: The weight of being the class.
        gamma: The exponent that makes little of what is certain.
        form: ``"safe"`` takes logarithms of the logits and is exact; ``"published"`` is the
            published form, with p + 1e-8 and 1 - p + 1e-8 inside of the logarithms. They differ
            where p is 0 or 1 to rounding.
        backend: As for `softmax`.

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 5. Zhu et al.,
        Deformable DETR, ICLR 2021.

    Examples:
        >>> labels = np.array([0, 2])
        >>> logits = np.array([[3.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
        >>> hc.costs.focal(labels, logits).round(4)
        array([[-2.0747, -0.0866],
               [-0.0866, -2.0747]])
    """
    _checks.one_of("form", form, _checks.FORMS)
    kind: ClassCost = "focal" if form == "safe" else "focal_published"
    return _cost(kind, "sigmoid", labels, logits, backend, alpha, gamma)


def nll(
    labels: Array,
    logits: Array,
    *,
    activation: Activation = "softmax",
    backend: str | Backend | None = None,
) -> Array:
    """Return ``-log p(label)``, by softmax over all classes or by sigmoid.

    Arguments, result and errors are those of `softmax`.

    Examples:
        >>> labels = np.array([0, 2])
        >>> logits = np.array([[3.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
        >>> hc.costs.nll(labels, logits).round(4)
        array([[0.0949, 3.0949],
               [3.0949, 0.0949]])
    """
    _checks.one_of("activation", activation, ("softmax", "sigmoid"))
    return _cost("nll", activation, labels, logits, backend)


class LogitStats(NamedTuple):
    """What is known of logits `[..., Q, C]` without any target."""

    logits: Array
    probability: Array  # [..., Q, C]
    # Softmax: [..., Q, 1], the log of the sum of exponentials. Sigmoid: [..., Q, C], that of
    # 1 + exp(logits). Less a logit it is -log p either way.
    log_normaliser: Array
    max_logit: Array  # [..., Q] the largest logit
    independent: bool = False  # sigmoid


def logit_stats(
    logits: Array, activation: Activation, xp: Namespace, max_logit: Array | None = None
) -> LogitStats:
    """Return the statistics of logits `[..., Q, C]`, with the largest one if it is known."""
    if max_logit is None:
        max_logit = xp.max(logits, axis=-1)
    if activation == "sigmoid":
        return LogitStats(logits, *sigmoid(logits, xp), max_logit, True)
    exponential = xp.exp(logits - max_logit[..., None])
    total = xp.sum(exponential, axis=-1, keepdims=True)
    log_normaliser = xp.log(total) + max_logit[..., None]
    return LogitStats(logits, exponential / total, log_normaliser, max_logit)


def sigmoid(x: Array, xp: Namespace) -> tuple[Array, Array]:
    """Return ``1 / (1 + exp(-x))`` and ``log(1 + exp(x))``, accurate on both sides of 0."""
    small = xp.exp(-xp.abs(x))
    probability = xp.where(x < 0, small, 1) / (1 + small)
    return probability, xp.log1p(small) + xp.where(x < 0, 0, x)


def table(kind: ClassCost, stats: LogitStats, alpha: float, gamma: float, xp: Namespace) -> Array:
    """Return what it costs each prediction to be taken for each class, `[..., Q, C]`."""
    p = stats.probability
    if kind == "softmax":
        return -p
    if kind == "focal_published":
        q = 1 - p
        wrong, right = -xp.log(p + 1e-8), -xp.log(q + 1e-8)
        return power(q, gamma) * wrong * alpha - power(p, gamma) * right * (1 - alpha)
    if stats.independent:  # a logit of +inf is right for certain
        certain = infinite(stats.logits, xp) & (stats.logits > 0)
        wrong = xp.where(certain, 0, stats.log_normaliser - xp.where(certain, 0, stats.logits))
    else:
        wrong = stats.log_normaliser - stats.logits
    if kind == "nll":
        return wrong
    q, right = 1 - p, stats.log_normaliser
    parts = []
    if alpha:
        parts.append(power(q, gamma) * wrong * alpha)
    if alpha != 1:  # 0 times the infinite cost of what is certain would be NaN
        parts.append(power(p, gamma) * right * (alpha - 1))
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def power(x: Array, exponent: float) -> Array:
    """Return ``x**exponent`` of finite numbers; the commonest without a logarithm.

    Frameworks differ about 0**0, which is 1 here, and NaN**0, which is NaN.
    """
    if exponent == 2:
        return x * x
    return x**exponent if exponent else x * 0 + 1


def infinite(x: Array, xp: Namespace) -> Array:
    """Say what is infinite, without a constant that TensorFlow's `check_numerics` would find."""
    return ~xp.isfinite(x) & ~xp.isnan(x)


def times(weight: Any, x: Array, xp: Namespace) -> Array:
    """Return ``weight * x``, where an infinite x of weight 0 counts as nothing; NaN stays NaN.

    Args:
        weight: A number, or an array that broadcasts with `x`.
        x: Costs or losses.
        xp: The namespace.
    """
    if isinstance(weight, (int, float)):
        if weight == 1:
            return x
        return weight * (x if weight else xp.where(infinite(x, xp), 0, x))
    return weight * xp.where((weight == 0) & infinite(x, xp), 0, x)


def pick(costs: Array, labels: Array, xp: Namespace) -> Array:
    """Return the costs `[..., Q, n]` of a table `[..., Q, C]` for labels `[..., n]`."""
    return xp.take_along_axis(costs, labels[..., None, :], axis=-1)


def _cost(
    kind: ClassCost,
    activation: Activation,
    labels: Array,
    logits: Array,
    backend: str | Backend | None,
    *parameters: float,
) -> Array:
    backend = get_backend(backend, labels=labels, logits=logits)
    logits = backend.asarray(logits)
    labels = backend.asarray(labels, like=logits)
    xp = backend.namespace(labels, logits)
    came, shape = backend.shape(labels), backend.shape(logits)
    _checks.classes(came, shape)
    _checks.real("logits", logits, xp)
    _checks.integral("labels", labels, xp)
    logits = xp.astype(logits, solving_dtype(logits.dtype, xp), copy=False)
    labels = as_index(labels, xp)
    alpha, gamma = parameters or (0.0, 0.0)
    costs = table(kind, logit_stats(logits, activation, xp), alpha, gamma, xp)
    outside = (labels < 0) | (labels >= shape[-1])
    if backend.readable(outside):
        _checks.labels(
            outside, labels, f"0 to {shape[-1] - 1}, as logits has {shape[-1]} classes; labels "
            "that begin with 1 need one to be subtracted, and padding a label in range",
            backend, xp,
        )  # fmt: skip
        return transposed(pick(costs, labels, xp), len(shape), xp)
    picked = pick(costs, xp.where(outside, 0, labels), xp)
    return transposed(xp.where(outside[..., None, :], math.nan, picked), len(shape), xp)


def as_index(x: Array, xp: Namespace) -> Array:
    """Return integers in the dtype that a framework takes for indices."""
    return xp.astype(x, index_dtype(xp), copy=False)


def transposed(x: Array, rank: int, xp: Namespace) -> Array:
    """Return `[..., m, n]` of `[..., n, m]`."""
    return xp.permute_dims(x, (*range(rank - 2), rank - 1, rank - 2))
