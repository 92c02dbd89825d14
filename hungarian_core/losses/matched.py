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
from hungarian_core._registry import backend_of, get_backend
from hungarian_core.assignment import Assignment, Nan, Solver, assign
from hungarian_core.costs import COSTS, CostFunction, euclidean
from hungarian_core.losses.pairs import Reduction, gather, inputs, reduce, settle

PairLoss = Callable[[Array, Array], Array]


def loss(
    y_true: Array,
    y_pred: Array,
    *,
    backend: str | Backend | None = None,
    cost: str | CostFunction = "euclidean",
    pair_loss: str | CostFunction | None = None,
    mask: Array | None = None,
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
    """
    _checks.one_of("reduction", reduction, _checks.REDUCTIONS)
    matching_cost = _cost_function("cost", cost)
    measure = matching_cost if pair_loss is None else _cost_function("pair_loss", pair_loss)
    backend = get_backend(backend, y_true=y_true, y_pred=y_pred, mask=mask)
    y_true, y_pred, mask, dtype = inputs(y_true, y_pred, mask, backend)
    xp = backend.namespace(y_pred)

    a, b = backend.stop_gradient(y_true), backend.stop_gradient(y_pred)
    pairwise = matching_cost(xp, a[:, :, None, :], b[:, None, :, :])
    expected = (*backend.shape(y_true)[:2], backend.shape(y_pred)[1])
    _checks.returned("cost", backend.shape(pairwise), expected)
    assignment = assign(pairwise, row_mask=mask, nan=nan, solver=solver, backend=backend)

    truth, prediction, matched = gather(y_true, y_pred, assignment, backend, xp)
    each = measure(xp, truth, prediction)
    each = settle(each, matched, assignment, xp)
    value = xp.astype(reduce(each, matched, reduction, backend, xp), dtype, copy=False)
    return (value, assignment) if return_assignment else value


class HungarianLoss:
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
            `[pairs, d]` and returns one value per pair, one per feature
            (averaged here) or one for all.
        slice_weights: One weight per slice, by default 1.
        slice_sizes: Another name for `slices`.
        reduction: As for `loss`; the loss is the weighted sum over slices.
        nan: As for `assign`.
        solver: As for `assign`.
        backend: As for `loss`.

    Raises:
        ValueError: The arguments do not fit each other.
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
        if slices is not None and slice_sizes is not None:
            raise ValueError("slices and slice_sizes are two names of one argument; pass one")
        sizes = slice_sizes if slices is None else slices
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
        self.backend = backend
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
        return_assignment: bool = False,
    ) -> Array | tuple[Array, Assignment]:
        """Return the loss; arguments and result as for `hungarian_core.loss`."""
        backend = get_backend(self.backend, y_true=y_true, y_pred=y_pred, mask=mask)
        y_pred = backend.asarray(y_pred)
        y_true = backend.asarray(y_true, like=y_pred)
        extents = (*backend.shape(y_true)[1:2], *backend.shape(y_pred)[1:2])
        known = len(extents) == 2 and all(isinstance(extent, int) for extent in extents)
        complete = mask is None and known and extents[0] <= extents[1]

        def pair_loss(xp: Namespace, truth: Array, prediction: Array) -> Array:
            return self._pair_loss(truth, prediction, complete, backend, xp)

        return loss(
            y_true,
            y_pred,
            backend=backend,
            cost=self._matching_cost,
            pair_loss=pair_loss,
            mask=mask,
            reduction=self.reduction,
            nan=self.nan,
            solver=self.solver,
            return_assignment=return_assignment,
        )

    def _matching_cost(self, xp: Namespace, a: Array, b: Array) -> Array:
        """Return the costs `[B, n, m]` of the chosen slice of a[B, n, 1, d] and b[B, 1, m, d]."""
        _checks.features(b.shape[-1], self.slices)
        chosen = self._ranges[self.slice_index_to_compute_assignment]
        a, b = a[:, :, :, chosen], b[:, :, :, chosen]
        if isinstance(self.compute_cost_matrix_fn, str):
            return COSTS[self.compute_cost_matrix_fn](xp, a, b)
        return self.compute_cost_matrix_fn(a[:, :, 0, :], b[:, 0, :, :])

    def _pair_loss(
        self, truth: Array, prediction: Array, complete: bool, backend: Backend, xp: Namespace
    ) -> Array:
        """Return the weighted losses `[B, n]` of the pairs truth[B, n, d], prediction[B, n, d]."""
        size, n, _ = backend.shape(truth)
        total: Any = 0
        for k, (chosen, weight) in enumerate(zip(self._ranges, self.slice_weights, strict=True)):
            extent = chosen.stop - chosen.start
            a = xp.reshape(truth[:, :, chosen], (size * n, extent))
            b = xp.reshape(prediction[:, :, chosen], (size * n, extent))
            if self.slice_losses_fn is None:
                each = (a - b) * (a - b)
            elif self._prediction_first[k]:
                each = self.slice_losses_fn[k](b, a)
            else:
                each = self.slice_losses_fn[k](a, b)
            total = total + weight * _per_pair(each, k, (size, n), complete, backend, xp)
        return total


def compute_euclidean_distance(a: Array, b: Array) -> Array:
    """Return the Euclidean distances `[B, n, m]` between `a[B, n, d]` and `b[B, m, d]`.

    Free of cancellation, with gradient 0 at distance 0.
    """
    backend = backend_of(a)
    if backend is not backend_of(b):
        backend = get_backend(None, a=a, b=b)
    a, b = (x if hasattr(x, "shape") else backend.asarray(x) for x in (a, b))
    return euclidean(backend.namespace(a, b), a[..., :, None, :], b[..., None, :, :])


def _cost_function(name: str, cost: str | CostFunction) -> CostFunction:
    if callable(cost):
        return cost
    _checks.one_of(name, cost, tuple(COSTS), "or a function (xp, a, b)")
    return COSTS[cost]


_TRUTH = ("y_true", "target", "targets", "labels", "label")
_PREDICTION = ("y_pred", "input", "inputs", "predictions", "preds", "prediction", "logits")


def _takes_prediction_first(function: PairLoss) -> bool:
    """Say in which order a loss takes its arguments, by their names.

    Keras has (y_true, y_pred), PyTorch (input, target), optax (predictions, targets) and
    (logits, labels): by position alone, an asymmetric loss would be silently wrong.
    """
    try:
        # A module of PyTorch takes (*args, **kwargs); its `forward` has the names.
        names = list(inspect.signature(getattr(function, "forward", function)).parameters)[:2]
    except (TypeError, ValueError):  # builtins have no signature
        return False
    return len(names) == 2 and names[0] in _PREDICTION and names[1] in _TRUTH


def _per_pair(
    each: Array,
    k: int,
    shape: tuple[Any, Any],
    complete: bool,
    backend: Backend,
    xp: Namespace,
) -> Array:
    """Bring what a slice loss returned to one value per pair, `[B, n]`.

    One value for all pairs is right only if the matching is `complete`: it would count
    unmatched truths as matched.
    """
    came = backend.shape(each)
    if len(came) == 2:
        each = xp.mean(each, axis=1)
    elif len(came) == 0:
        if not complete:
            raise ValueError(
                f"slice_losses_fn[{k}] returned one value for all pairs, and some of them may be "
                "unmatched; let it return one value per pair (reduction='none')"
            )
        return xp.broadcast_to(each, shape)
    elif len(came) != 1:
        raise ValueError(
            f"slice_losses_fn[{k}] returned shape {came}; expected one value per pair, "
            "per feature of a pair, or for all"
        )
    return xp.reshape(each, shape)
