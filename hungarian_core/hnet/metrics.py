"""How well associations are predicted: the published F-score, and the share of exact matrices."""

from __future__ import annotations

import numpy as np

THRESHOLD = 0.5


def exact(association: np.ndarray, predicted: np.ndarray, threshold: float = THRESHOLD) -> float:
    """Return the share of samples whose whole matrix is right.

    Args:
        association: `(N, n, m)`, the truth, bool or 0 and 1.
        predicted: `(N, n, m)` from 0 to 1.
        threshold: From where on a pair counts as associated.

    Returns:
        The share, from 0 to 1; NaN for no samples.

    Examples:
        >>> hc.hnet.metrics.exact(np.eye(2)[None], np.array([[[0.9, 0.1], [0.6, 0.8]]]))
        0.0
    """
    right = (np.asarray(predicted) > threshold) == np.asarray(association).astype(bool)
    return float(right.all(axis=(-2, -1)).mean()) if len(right) else float("nan")


def weighted_f_score(
    association: np.ndarray,
    predicted: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    threshold: float = THRESHOLD,
    batch_size: int = 256,
) -> float:
    """Return the published score: the F-score of both classes, weighted, averaged over batches.

    All entries of a batch of matrices are one list of binary decisions, each of which counts as
    much as its place in the matrix is associated. The F-scores of "associated" and "not
    associated" are averaged by the weight of their true entries, and those of the batches evenly.
    As published, what is left over after the last whole batch is dropped, unless it is all.

    Args:
        association: `(N, n, m)`, the truth, bool or 0 and 1.
        predicted: `(N, n, m)` from 0 to 1.
        weights: `(n, m)`, how often each place is associated; by default, in `association`. The
            published ones are of the training data.
        threshold: From where on a pair counts as associated.
        batch_size: Samples per batch.

    Returns:
        The score, from 0 to 1; NaN for no samples. A batch whose truth has one class only, and
        whose predictions are right, has 1.

    Reference:
        scikit-learn's ``f1_score(average="weighted", sample_weight=..., zero_division=1)``.

    Examples:
        >>> predicted = np.array([[[0.9, 0.1], [0.6, 0.8]]])
        >>> round(hc.hnet.metrics.weighted_f_score(np.eye(2)[None], predicted), 4)
        1.0
    """
    truth = np.asarray(association).astype(bool)
    said = np.asarray(predicted) > threshold
    if not len(truth):
        return float("nan")
    weights = truth.mean(axis=0) if weights is None else np.asarray(weights, float)
    whole = max(len(truth) // batch_size, 1) * batch_size
    truth, said = truth[:whole], said[:whole]
    size = min(batch_size, len(truth))
    shape = (-1, size, *truth.shape[1:])
    truth, said = truth.reshape(shape), said.reshape(shape)
    scores, shares = [], []
    for value in (False, True):
        is_true, is_said = truth == value, said == value
        both = np.sum((is_true & is_said) * weights, axis=(1, 2, 3))
        real = np.sum(is_true * weights, axis=(1, 2, 3))
        claimed = np.sum(is_said * weights, axis=(1, 2, 3))
        sizes = real + claimed
        scores.append(np.where(sizes > 0, 2 * both / np.where(sizes > 0, sizes, 1), 1.0))
        shares.append(real)
    total = shares[0] + shares[1]
    each = (scores[0] * shares[0] + scores[1] * shares[1]) / np.where(total > 0, total, 1)
    return float(np.where(total > 0, each, 1.0).mean())
