"""Permutation invariant training: the loss of separated signals, in whatever order they come.

The matching looks at every reference with every estimate, so it takes them from matrix products;
the loss looks at the matched pairs only, so it can afford to subtract the signals themselves,
sample of time by sample of time, and is free of cancellation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._registry import get_backend
from hungarian_core.assignment import Assignment, Nan, Solver, assign
from hungarian_core.costs import CostFunction
from hungarian_core.costs._functions import guarded, pair_losses
from hungarian_core.losses.pairs import Reduction, checked_sets, gather, mask_losses, reduce

SignalMetric = Literal["si_sdr", "snr", "l1", "mse"]

# Of an intermediate of the matching in which signals lie beside each other: 16 MiB in float32.
_ELEMENTS = 2**22
# What a matrix product may be off by, in units of eps. One that adds up in sequence, as PyTorch's
# does on a CPU, came to 44 with a second of sound (16,000 samples), and the others to 3.
_ROUNDING = 64


def pit_loss(
    estimates: Array,
    references: Array,
    *,
    metric: SignalMetric | CostFunction = "si_sdr",
    mask: Array | None = None,
    estimate_mask: Array | None = None,
    reduction: Reduction = "mean",
    zero_mean: bool = False,
    nan: Nan = "raise",
    solver: Solver = "auto",
    return_assignment: bool = False,
    backend: str | Backend | None = None,
) -> Array | tuple[Array, Assignment]:
    """Match estimated signals to reference signals for the best metric; return the pairs' loss.

    The best permutation is found by matching, not by trying all, so any number of sources will do.

    Args:
        estimates: `(batch, m, time)`, floating, what a model separated.
        references: `(batch, n, time)`, the true sources; n may differ from m, and min(n, m) pairs
            are matched per sample.
        metric: ``"si_sdr"`` is minus the scale-invariant signal-to-distortion ratio in dB,
            ``"snr"`` minus the signal-to-noise ratio in dB, ``"l1"`` and ``"mse"`` the mean
            absolute and the mean squared difference. Or a loss of your own, a function
            ``metric(xp, a, b)`` that reduces the last axis of references `a` and estimates `b`,
            broadcast against each other, in float32 or wider: `a[batch, n, 1, time]` and
            `b[batch, 1, k, time]` for the matching, k estimates at a time, and
            `a[batch, n, time]` and `b[batch, n, time]` for the loss.
        mask: `(batch, n)` bool, True where `references` holds a source. Other rows are never read:
            they may hold anything, NaN too.
        estimate_mask: `(batch, m)` bool, True where `estimates` holds a signal. Other rows are
            never read or matched, and their gradient is 0.
        reduction: As for `loss`: ``"mean"`` over all matched pairs of the batch, ``"sum"``,
            ``"none"`` for the loss of each reference `(batch, n)`, 0 where it is unmatched, or
            ``"sample"`` for the mean of each sample's pairs `(batch,)`.
        zero_mean: Take the mean over time off every signal first, for each metric.
        nan: What NaN and -inf costs do, as for `assign`.
        solver: As for `assign`.
        return_assignment: Return ``(loss, assignment)``; ``assignment.col4row`` `(batch, n)` is
            the permutation, the estimate of each reference.
        backend: A backend's name or instance, to which other arrays are converted;
            by default the one of the arrays.

    Returns:
        The loss in the dtype of `estimates`, differentiable in both inputs with the matching held
        constant. It is finite with a finite gradient for silent signals, references and
        estimates, and for perfect ones. Without any pair the loss is 0, still connected to the
        graph. Where `assign` could not raise, a sample with NaN costs has the loss NaN
        and passes no gradient.

    Raises:
        ValueError: Shapes, dtypes or options do not fit, or `assign` found no matching.
        TypeError: An input is no array, or a metric takes or returns something else.

    Note:
        The costs of the matching, and so ``assignment.cost``, come from matrix products, which
        cancel where an estimate is nearly its reference: pairs of more than about 48 dB in
        float32, or 135 dB in float64, count as equally good there. The loss of a pair comes
        from the signals, whatever its level.

    Reference:
        With ε the machine epsilon of the dtype, y a reference, x an estimate and
        ``a = (x·y + ε) / (y·y + ε)``: SI-SDR is ``10 log10((|ay|² + ε) / (|ay - x|² + ε))``
        and SNR the same with a = 1, as in torchmetrics. Le Roux et al., SDR - half-baked or well
        done?, ICASSP 2019. Kolbæk et al., Multitalker speech separation with utterance-level
        permutation invariant training of deep recurrent neural networks, IEEE/ACM TASLP 25(10),
        2017.

    Examples:
        >>> time = np.arange(800) / 8000
        >>> references = np.stack([np.sin(2760 * time), np.sin(4150 * time)])[None]
        >>> estimates = references[:, ::-1] + 0.01
        >>> value, match = hc.pit_loss(estimates, references, return_assignment=True)
        >>> round(float(value), 1)
        -37.0
        >>> match.col4row
        array([[1, 0]])
    """
    _checks.one_of("reduction", reduction, _checks.REDUCTIONS)
    kind, axes = _metric(metric), ("batch", "sources", "time")
    for name, x in (("estimates", estimates), ("references", references)):
        _checks.given(name, x, axes)
    backend = get_backend(
        backend, estimates=estimates, references=references, mask=mask, estimate_mask=estimate_mask
    )
    references, estimates, mask, estimate_mask, dtype = checked_sets(
        references,
        estimates,
        mask,
        estimate_mask,
        backend,
        names=("references", "estimates", "estimate_mask"),
        axes=axes,
    )
    xp = backend.namespace(estimates)
    if zero_mean:
        references = references - xp.mean(references, axis=-1, keepdims=True)
        estimates = estimates - xp.mean(estimates, axis=-1, keepdims=True)

    a, b = backend.stop_gradient(references), backend.stop_gradient(estimates)
    if estimate_mask is not None:  # their sum is none of least size, see `_squared_distances`
        b = xp.where(estimate_mask[:, :, None], b, xp.sum(b, axis=1, keepdims=True))
    if kind.matrix is None:
        pairwise = _side_by_side(xp, a, b, backend, kind.pairs)
    else:
        pairwise = kind.matrix(xp, a, b, backend)
    assignment = assign(
        pairwise, row_mask=mask, col_mask=estimate_mask, nan=nan, solver=solver, backend=backend
    )

    reference, estimate, matched = gather(references, estimates, assignment, backend, xp)
    each = kind.pairs(xp, reference, estimate)
    pair_losses("metric", backend.shape(each), backend.shape(matched))
    each = mask_losses(each, matched, assignment, xp)
    value = xp.astype(reduce(each, matched, reduction, backend, xp), dtype, copy=False)
    return (value, assignment) if return_assignment else value


class _Metric(NamedTuple):
    """A metric twice: as accurate as it gets, for pairs, and without a pass per pair, for all."""

    pairs: CostFunction  # (xp, y[B, n, T], x[B, n, T]) -> [B, n]
    # (xp, y[B, n, T], x[B, m, T], backend) -> [B, n, m]; None where no matrix product gives it.
    matrix: Callable[[Namespace, Array, Array, Backend], Array] | None = None


def _metric(metric: str | CostFunction) -> _Metric:
    if callable(metric):
        return _Metric(guarded("metric", metric))
    _checks.one_of("metric", metric, tuple(_METRICS), "or a function (xp, a, b)")
    return _METRICS[metric]


# Of matched pairs, reference y and estimate x


def _si_sdr(xp: Namespace, y: Array, x: Array) -> Array:
    eps = _eps(xp, x)
    product = xp.sum(x * y, axis=-1, keepdims=True)
    scaled = (product + eps) / (xp.sum(y * y, axis=-1, keepdims=True) + eps) * y
    return _decibels(xp, _energy(xp, scaled), _energy(xp, scaled - x))


def _snr(xp: Namespace, y: Array, x: Array) -> Array:
    return _decibels(xp, _energy(xp, y), _energy(xp, y - x))


def _l1(xp: Namespace, y: Array, x: Array) -> Array:
    difference = y - x
    # JAX gives `abs` the slope 1 at 0.
    return xp.mean(xp.where(difference == 0, 0, xp.abs(difference)), axis=-1)


def _mse(xp: Namespace, y: Array, x: Array) -> Array:
    difference = y - x
    return xp.mean(difference * difference, axis=-1)


def _energy(xp: Namespace, x: Array) -> Array:
    return xp.sum(x * x, axis=-1)


def _eps(xp: Namespace, x: Array) -> float:
    return float(xp.finfo(x.dtype).eps)


def _decibels(xp: Namespace, signal: Array, noise: Array) -> Array:
    """Return minus the ratio of signal to noise in dB; ε keeps it and its slope finite."""
    eps = _eps(xp, signal)
    return 10 / math.log(10) * xp.log((noise + eps) / (signal + eps))


# Of all references y[B, n, T] with all estimates x[B, m, T], without gradient


def _si_sdr_matrix(xp: Namespace, y: Array, x: Array, backend: Backend) -> Array:
    eps = _eps(xp, x)
    yy, xx, xy = _products(xp, y, x)
    scale = (xy + eps) / (yy + eps)
    signal = scale * scale * yy
    return _decibels(xp, signal, _difference(xp, signal + xx, scale * xy))


def _snr_matrix(xp: Namespace, y: Array, x: Array, backend: Backend) -> Array:
    return _decibels(xp, _energy(xp, y)[:, :, None], _squared_distances(xp, y, x))


def _mse_matrix(xp: Namespace, y: Array, x: Array, backend: Backend) -> Array:
    length = backend.shape(x)[2]
    if not isinstance(length, int):
        length = xp.astype(length, x.dtype)
    return _squared_distances(xp, y, x) / length


def _squared_distances(xp: Namespace, y: Array, x: Array) -> Array:
    """Return ``|y - x|²``, of signals less the common offset of the estimates of a sample.

    Subtracting it before the square is expanded loses fewer digits. The offset is the mean of
    least size if all means have one sign, else 0: taken off, it makes no estimate larger, and a
    reference only where that is far from every estimate.
    """
    means = xp.mean(x, axis=-1)
    # Their sum is none of least size, and is there where there are no estimates.
    means = xp.concat([means, xp.sum(means, axis=1, keepdims=True)], axis=1)
    least, most = xp.min(means, axis=1)[:, None, None], xp.max(means, axis=1)[:, None, None]
    offset = xp.where(least > 0, least, xp.where(most < 0, most, 0))
    yy, xx, xy = _products(xp, y - offset, x - offset)
    return _difference(xp, yy + xx, xy)


def _products(xp: Namespace, y: Array, x: Array) -> tuple[Array, Array, Array]:
    """Return ``y·y`` `[B, n, 1]`, ``x·x`` `[B, 1, m]` and ``x·y`` `[B, n, m]`."""
    products = xp.matmul(y, xp.permute_dims(x, (0, 2, 1)))
    return _energy(xp, y)[:, :, None], _energy(xp, x)[:, None, :], products


def _difference(xp: Namespace, squares: Array, product: Array) -> Array:
    """Return ``squares - 2 product``, at least what rounding leaves of it.

    Where all digits cancel, what is left is noise: it may be negative, or so small that its
    logarithm outweighs every other pair of the sample.
    """
    least = _ROUNDING * _eps(xp, squares) * squares
    difference = squares - 2 * product
    return xp.where(difference < least, least, difference)


def _side_by_side(
    xp: Namespace, y: Array, x: Array, backend: Backend, metric: CostFunction
) -> Array:
    """Return any metric of all pairs, for as many estimates at a time as memory allows."""
    (size, n, length), m = backend.shape(y), backend.shape(x)[1]

    def part(start: int, stop: Any) -> Array:
        some = x[:, start:stop, :]
        costs = metric(xp, y[:, :, None, :], some[:, None, :, :])
        _checks.returned("metric", backend.shape(costs), (size, n, backend.shape(some)[1]))
        return costs

    if not isinstance(m, int) or m == 0:
        return part(0, None)
    known = all(isinstance(extent, int) for extent in (size, n, length))
    # A comparison, and no quotient of sizes, which would fix them in a program of PyTorch.
    if known and size * n * length * m <= _ELEMENTS:
        return part(0, None)
    step = max(1, _ELEMENTS // max(1, size * n * length)) if known else 1
    parts = [part(start, min(start + step, m)) for start in range(0, m, step)]
    return parts[0] if len(parts) == 1 else xp.concat(parts, axis=2)


_METRICS = {
    "si_sdr": _Metric(_si_sdr, _si_sdr_matrix),
    "snr": _Metric(_snr, _snr_matrix),
    "l1": _Metric(_l1),
    "mse": _Metric(_mse, _mse_matrix),
}

METRICS = tuple(_METRICS)
