"""The loss of matched pairs: `loss`, and `HungarianLoss` for outputs made of slices.

Hard matching needs no gradient of its own. The matching is piecewise constant in the
predictions, so the gradient of the loss is that of its matched pairs: costs are computed
from inputs without gradient, and the gathered predictions are the only path back.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from hungarian_core import _checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._extents import features
from hungarian_core._registry import backend_of, get_backend
from hungarian_core.assignment import Assignment, Nan, Solver, assign
from hungarian_core.costs import COSTS, CostFunction, euclidean
from hungarian_core.costs._functions import called, cost_function, pair_losses, per_pair
from hungarian_core.losses.base import Loss
from hungarian_core.losses.pairs import (
    AXES,
    Reduction,
    Sets,
    checked_sets,
    gather,
    mask_losses,
    reduce,
)

PairLoss = Callable[[Array, Array], Array]


def loss(
    y_true: Array,
    y_pred: Array,
    *,
    backend: str | Backend | None = None,
    cost: str | CostFunction = "euclidean",
    pair_loss: str | CostFunction | None = None,
    mask: Array | None = None,
    pred_mask: Array | None = None,
    reduction: Reduction = "mean",
    nan: Nan = "raise",
    solver: Solver = "auto",
    return_assignment: bool = False,
) -> Array | tuple[Array, Assignment]:
    """Match predicted objects to true ones at least cost and return the loss of the pairs.

    Args:
        y_true: `(batch_size, n, num_features)`, the true objects.
        y_pred: `(batch_size, m, num_features)`, floating; m may differ from n, and min(n, m)
            pairs are matched per sample.
        backend: A backend's name or instance, to which other arrays are converted;
            by default the one of the arrays.
        cost: What the matching minimises: ``"euclidean"``, ``"sqeuclidean"``, ``"l1"``,
            ``"cosine"``, ``"angular"``, ``"great_circle"``, ``"points"``, or a function
            ``cost(xp, a, b)`` that reduces the last axis of two arrays broadcast against each
            other, written with `xp`, the Array API namespace of the framework. It gets
            `a[B, n, 1, d]` and `b[B, 1, m, d]` in float32 or wider.
        pair_loss: What is averaged over the matched pairs, in the same form, on
            `a[B, n, d]` and `b[B, n, d]`; by default the cost itself.
        mask: `(batch_size, n)` bool, True where `y_true` holds a real object. Other rows are
            never read: they may hold anything, NaN too.
        pred_mask: `(batch_size, m)` bool, True where `y_pred` holds a prediction. Other rows are
            never read or matched, and their gradient is 0.
        reduction: ``"mean"`` over all matched pairs of the batch (of all workers, where the
            backend's `all_reduce` spans several), ``"sum"``, ``"none"`` for the loss of each
            true object `(batch_size, n)`, 0 where it is unmatched, or ``"sample"`` for the
            mean of each sample's pairs `(batch_size,)`.
        nan: What NaN and -inf costs do, as for `assign`.
        solver: As for `assign`.
        return_assignment: Return ``(loss, assignment)``.

    Returns:
        The loss in the dtype of `y_pred`, differentiable in both inputs with the matching held
        constant; the gradient is 0 where a prediction equals its truth. Without any pair
        the loss is 0, still connected to the graph. Where `assign` could not raise, a
        sample with NaN costs has the loss NaN and passes no gradient.

    Raises:
        ValueError: Shapes, dtypes or options do not fit, or `assign` found no matching.
        TypeError: An input is no array, or a function takes or returns something else.

    Examples:
        >>> y_true = np.array([[[0.0, 0.0], [1.0, 1.0]]])
        >>> y_pred = np.array([[[1.0, 1.0], [0.0, 0.5], [9.0, 9.0]]])
        >>> float(hc.loss(y_true, y_pred))
        0.25
        >>> value, match = hc.loss(y_true, y_pred, reduction="none", return_assignment=True)
        >>> value
        array([[0.5, 0. ]])
        >>> match.col4row
        array([[1, 0]])
    """
    _checks.one_of("reduction", reduction, _checks.REDUCTIONS)
    for name, x in (("y_true", y_true), ("y_pred", y_pred)):
        _checks.given(name, x, AXES)
    matching_cost = cost_function("cost", cost)
    measure = matching_cost if pair_loss is None else cost_function("pair_loss", pair_loss)
    backend = get_backend(backend, y_true=y_true, y_pred=y_pred, mask=mask, pred_mask=pred_mask)
    sets = checked_sets(y_true, y_pred, mask, pred_mask, backend)
    names = ("cost", "cost" if pair_loss is None else "pair_loss")
    value = _matched(sets, backend, matching_cost, measure, names, reduction, nan, solver)
    return value if return_assignment else value[0]


def _matched(
    sets: Sets,
    backend: Backend,
    cost: CostFunction,
    measure: CostFunction,
    names: tuple[str, str],
    reduction: Reduction,
    nan: Nan,
    solver: Solver,
) -> tuple[Array, Assignment]:
    """Return the loss of sets by a cost and a loss of pairs, which users know by `names`."""
    y_true, y_pred = sets.true, sets.pred
    xp = backend.namespace(y_pred)
    a, b = backend.stop_gradient(y_true), backend.stop_gradient(y_pred)
    pairwise = cost(xp, a[:, :, None, :], b[:, None, :, :])
    expected = (*backend.shape(y_true)[:2], backend.shape(y_pred)[1])
    _checks.returned(names[0], backend.shape(pairwise), expected)
    assignment = assign(
        pairwise,
        row_mask=sets.mask,
        col_mask=sets.pred_mask,
        nan=nan,
        solver=solver,
        backend=backend,
    )
    truth, prediction, matched = gather(y_true, y_pred, assignment, backend, xp)
    each = measure(xp, truth, prediction)
    pair_losses(names[1], backend.shape(each), expected[:2])
    each = mask_losses(each, matched, assignment, xp)
    value = reduce(each, matched, reduction, backend, xp)
    return xp.astype(value, sets.dtype, copy=False), assignment


class HungarianLoss(Loss):
    """The loss of predictions made of slices: match on one slice, then weigh the losses of all.

    Args:
        slices: The sizes of the slices of the last axis, such as ``[4, 10]`` for 4 box
            coordinates and 10 class scores.
        slice_index_to_compute_assignment: The slice to match on.
        compute_cost_matrix_fn: ``f(a, b) -> [B, n, m]`` for slices `a[B, n, d]` of the truth and
            `b[B, m, d]` of the prediction, or the name of a cost of `loss`.
        slice_losses_fn: One loss per slice, ``f(y_true, y_pred)`` as in Keras, by default the mean
            squared error. A function whose parameters are named otherwise
            (`input`/`target`, `logits`/`labels`, ...) gets its arguments by those names, so
            losses of PyTorch and optax work as they are. It sees the matched pairs as rows
            `[pairs, d]` and returns one value per pair or one per feature (averaged here). Where
            every true object is matched for certain, and `reduction` is ``"mean"`` or ``"sum"``,
            it may return one for all, which then stands for each pair, as their mean does.
        slice_weights: One weight per slice, by default 1.
        slice_sizes: Another name for `slices`.
        reduction: As for `loss`; the loss is the weighted sum over slices.
        nan: As for `assign`.
        solver: As for `assign`.
        backend: As for `loss`.

    Raises:
        ValueError: The arguments do not fit each other.

    Examples:
        >>> criterion = hc.HungarianLoss([2, 1], slice_weights=[1.0, 0.5])
        >>> y_true = np.array([[[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]])
        >>> y_pred = np.array([[[1.0, 1.0, 1.0], [0.0, 0.5, 1.0]]])
        >>> float(criterion(y_true, y_pred))
        0.3125
        >>> criterion
        HungarianLoss(slices=[2, 1], slice_weights=[1.0, 0.5])
    """

    def __init__(
        self,
        slices: Sequence[int] | None = None,
        slice_index_to_compute_assignment: int = 0,
        compute_cost_matrix_fn: str | Callable[[Array, Array], Array] = "euclidean",
        slice_losses_fn: Sequence[PairLoss] | None = None,
        slice_weights: Sequence[float] | None = None,
        *,
        slice_sizes: Sequence[int] | None = None,
        reduction: Reduction = "mean",
        nan: Nan = "raise",
        solver: Solver = "auto",
        backend: str | Backend | None = None,
    ) -> None:
        super().__init__()
        if slices is not None and slice_sizes is not None:
            raise ValueError("slices and slice_sizes are two names of one argument; pass one")
        sizes = _checks.python_numbers(slice_sizes if slices is None else slices)
        slice_weights = _checks.python_numbers(slice_weights)
        slice_index_to_compute_assignment = _checks.python_numbers(
            slice_index_to_compute_assignment
        )
        _checks.slices(sizes, slice_index_to_compute_assignment, slice_losses_fn, slice_weights)
        _checks.one_of("reduction", reduction, _checks.REDUCTIONS)
        assert sizes is not None
        self.slices = [int(size) for size in sizes]
        ends = list(itertools.accumulate(self.slices))
        self._ranges = [slice(end - size, end) for end, size in zip(ends, self.slices, strict=True)]
        self.slice_index_to_compute_assignment = slice_index_to_compute_assignment
        self.compute_cost_matrix_fn = compute_cost_matrix_fn
        self.slice_losses_fn = None if slice_losses_fn is None else list(slice_losses_fn)
        self._prediction_first = [_takes_prediction_first(f) for f in slice_losses_fn or ()]
        self.slice_weights = [1.0] * len(self.slices) if slice_weights is None else [*slice_weights]
        self.reduction = reduction
        self.nan: Nan = nan
        self.solver: Solver = solver
        self.backend = self.default_backend if backend is None else backend
        if not callable(compute_cost_matrix_fn):
            _checks.one_of(
                "compute_cost_matrix_fn",
                compute_cost_matrix_fn,
                tuple(COSTS),
                "or a function f(a, b) -> [B, n, m]",
            )

    def __call__(
        self,
        y_true: Array,
        y_pred: Array,
        *,
        mask: Array | None = None,
        pred_mask: Array | None = None,
        return_assignment: bool = False,
    ) -> Array | tuple[Array, Assignment]:
        """Return the loss; arguments and result as for `hungarian_core.loss`."""
        for name, x in (("y_true", y_true), ("y_pred", y_pred)):
            _checks.given(name, x, AXES)
        backend = get_backend(
            self.backend, y_true=y_true, y_pred=y_pred, mask=mask, pred_mask=pred_mask
        )
        sets = checked_sets(y_true, y_pred, mask, pred_mask, backend)
        n, m = backend.shape(sets.true)[1], backend.shape(sets.pred)[1]
        known = isinstance(n, int) and isinstance(m, int)
        why_not = None
        if self.reduction in ("none", "sample"):
            why_not = f"and reduction={self.reduction!r} keeps them apart"
        elif mask is not None or pred_mask is not None or not known or n > m:
            why_not = "and some of them may be unmatched"

        def pair_loss(xp: Namespace, truth: Array, prediction: Array) -> Array:
            return self._pair_loss(truth, prediction, why_not, backend, xp)

        names = ("compute_cost_matrix_fn", "slice_losses_fn")
        options = (names, self.reduction, self.nan, self.solver)
        value = _matched(sets, backend, self._matching_cost, pair_loss, *options)
        return value if return_assignment else value[0]

    def _matching_cost(self, xp: Namespace, a: Array, b: Array) -> Array:
        """Return the costs `[B, n, m]` of the chosen slice of a[B, n, 1, d] and b[B, 1, m, d]."""
        _checks.features(features(b), self.slices)
        chosen = self._ranges[self.slice_index_to_compute_assignment]
        a, b = a[:, :, :, chosen], b[:, :, :, chosen]
        if isinstance(self.compute_cost_matrix_fn, str):
            return COSTS[self.compute_cost_matrix_fn](xp, a, b)
        name, form = "compute_cost_matrix_fn", "(a, b) -> [B, n, m], of a[B, n, d] and b[B, m, d]"
        return called(name, self.compute_cost_matrix_fn, form, a[:, :, 0, :], b[:, 0, :, :])

    def _pair_loss(
        self, truth: Array, prediction: Array, why_not: str | None, backend: Backend, xp: Namespace
    ) -> Array:
        """Return the weighted losses `[B, n]` of the pairs truth[B, n, d], prediction[B, n, d]."""
        size, n, _ = backend.shape(truth)
        total: Any = 0
        for k, (chosen, weight) in enumerate(zip(self._ranges, self.slice_weights, strict=True)):
            extent = chosen.stop - chosen.start
            a = xp.reshape(truth[:, :, chosen], (size * n, extent))
            b = xp.reshape(prediction[:, :, chosen], (size * n, extent))
            name = f"slice_losses_fn[{k}]"
            if self.slice_losses_fn is None:
                each = (a - b) * (a - b)
            else:
                pair = (b, a) if self._prediction_first[k] else (a, b)
                each = called(name, self.slice_losses_fn[k], "(y_true, y_pred)", *pair)
            each = per_pair(name, each, (size, n), extent, why_not, backend, xp)
            total = total + weight * each
        return total


def compute_euclidean_distance(a: Array, b: Array) -> Array:
    """Return the Euclidean distances `[B, n, m]` between `a[B, n, d]` and `b[B, m, d]`.

    Free of cancellation, with gradient 0 at distance 0.

    Examples:
        >>> a, b = np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 1.0]])
        >>> hc.compute_euclidean_distance(a, b)
        array([[5., 1.]])
    """
    backend = backend_of(a)
    if backend is not backend_of(b):
        backend = get_backend(None, a=a, b=b)
    a, b = (x if hasattr(x, "shape") else backend.asarray(x) for x in (a, b))
    return euclidean(backend.namespace(a, b), a[..., :, None, :], b[..., None, :, :])


_TRUTH = frozenset(
    [
        "y_true",
        "y",
        "target",
        "targets",
        "tgt",
        "label",
        "labels",
        "truth",
        "true",
        "gt",
        "ground_truth",
        "reference",
        "references",
    ]
)
_PREDICTION = frozenset(
    [
        "y_pred",
        "y_hat",
        "yhat",
        "input",
        "inputs",
        "output",
        "outputs",
        "pred",
        "preds",
        "prediction",
        "predictions",
        "logits",
        "estimate",
        "estimates",
    ]
)


def _takes_prediction_first(function: PairLoss) -> bool:
    """Say in which order a loss takes its arguments, by their names.

    Keras has (y_true, y_pred), PyTorch (input, target), optax (predictions, targets) and
    (logits, labels): by position alone, an asymmetric loss would be silently wrong. One name that
    is known decides, if the other does not contradict it.
    """
    first, second = _first_names(function)
    known = first in _PREDICTION or second in _TRUTH
    return known and not (first in _TRUTH or second in _PREDICTION)


def _first_names(function: Any) -> tuple[str, str]:
    """Return the names of the first two parameters; of what wraps a loss, those of the loss."""
    for _ in range(8):  # wrappers in wrappers
        try:
            # A module of PyTorch takes (*args, **kwargs); its `forward` has the names.
            signature = inspect.signature(getattr(function, "forward", function))
        except (TypeError, ValueError):  # builtins have no signature
            return "", ""
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = [p.name for p in signature.parameters.values() if p.kind in positional]
        if len(names) >= 2:
            return names[0], names[1]
        # Of torch.compile, DataParallel, and a method such as `loss.__call__`.
        inner = ("_orig_mod", "module", "__self__")
        function = next(
            (x for x in (getattr(function, k, None) for k in inner) if callable(x)), None
        )
        if function is None:
            break
    return "", ""
