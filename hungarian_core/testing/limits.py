"""Losses of classes at their limits: written out for infinite and saturated logits, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

NAN = float("nan")


def product(weight: Any, x: Any) -> Any:
    """Return the product, in which 0 times infinity is 0."""
    none = (np.asarray(weight) == 0) & np.isinf(x)
    return weight * np.where(none, 0, x)


def logs(x: Any) -> tuple[Any, Any, Any, Any]:
    """Return p, 1 - p, -log p and -log(1 - p) by sigmoid."""
    wrong, right = np.logaddexp(0, -x), np.logaddexp(0, x)
    return np.exp(-wrong), np.exp(-right), wrong, right


def query_loss(
    x: np.ndarray, label: int, quality: float, o: dict[str, Any]
) -> tuple[Any, np.ndarray]:
    """Return the loss of a query's logits in float64 and its slopes; label -1 for no object."""
    kind, classes = o["class_loss"], len(x) - (o["class_loss"] == "softmax")
    weights = np.array(o.get("class_weights", [1.0] * classes))
    if kind == "softmax":
        weights = np.append(weights, o.get("no_object_weight", 0.1))
        norm = np.logaddexp.reduce(x) if np.isfinite(x.max()) else NAN
        minus, p, e = norm - x, np.exp(x - norm), o.get("label_smoothing", 0.0)
        target = np.eye(len(x))[label] * (1 - e) + e / len(x)
        if np.isnan(norm):
            return NAN, np.full(len(x), NAN)
        weighted = weights * target
        return product(weighted, minus).sum(), weighted.sum() * p - weighted
    alpha, gamma = o.get("alpha", 0.25), o.get("gamma", 2.0)
    p, q, wrong, right = logs(x)
    if kind == "asl":
        left = np.maximum(p - 0.05, 0)
        losses = weights * left**4 * -np.log(1 - left)
        slopes = weights * p * q * (4 * left**3 * -np.log(1 - left) + left**4 / (1 - left))
    elif kind == "bce":
        losses, slopes = weights * right, weights * p
    else:
        focus = {"focal": 1 - alpha, "varifocal": alpha, "varifocal_differentiated": alpha}
        others = focus.get(kind, 1.0) * weights
        losses = product(others * p**gamma, right)
        constant = kind in ("varifocal", "mal")
        inner = 0 if constant else gamma * p**gamma * product(q, right)
        slopes = others * (p**gamma * p + inner)
    if label < 0:
        return losses.sum(), slopes
    own = p[label], q[label], wrong[label], right[label]
    losses[label], slopes[label] = _own(*own, quality, kind, alpha, gamma, weights[label])
    return losses.sum(), slopes


def _own(
    p: Any, q: Any, wrong: Any, right: Any, quality: Any, kind: str, a: float, g: float, w: float
) -> tuple[Any, Any]:
    """Return loss and slope of the logit of the label itself."""
    if kind in ("focal", "asl", "bce"):
        if kind != "focal":
            a, g = 1.0, 0.0
        return product(w * a * q**g, wrong), -w * a * q**g * (g * product(p, wrong) + q)
    target = {
        "ia_bce": max(p**a * quality ** (1 - a), 0.01), "mal": quality**g
    }.get(kind, quality)  # fmt: skip
    entropy = product(target, wrong) + product(1 - target, right)
    if kind == "qfl":
        w = w * abs(p - quality) ** g
        inner = quality * q * product(p, wrong) + (1 - quality) * p * product(q, right)
        return product(w, entropy), w * (p - quality) + w * g * inner / (p - quality or 1)
    weight = w * quality if kind.startswith("varifocal") else w
    return product(weight, entropy), weight * (p - target)
