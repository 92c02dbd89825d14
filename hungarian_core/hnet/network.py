"""The network: unrolled max-product matching, with learned gates and steps.

A small perceptron looks at each pair, and at the means and largest values of its row and column,
and says whether the two may belong together at all. Rounds of the max-product algorithm then
let rows and columns compete: it converges to the best matching (Bayati, Shah and Sharma,
Max-product for maximum weight matching, IEEE Transactions on Information Theory 54(3), 2008).
Which side may stay without a partner depends on how many rows and columns seem to be real.

A permutation of rows or columns permutes the output likewise, and one set of parameters serves
any number of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import solving_dtype
from hungarian_core._inputs import checked_masks
from hungarian_core._registry import get_backend
from hungarian_core._solvers.policies import among_valid
from hungarian_core._tracing import skip_autograph
from hungarian_core.hnet import _checks

Params = Mapping[str, Array]
Reduction = Literal["mean", "sum", "none"]

# What counts as out of the question, in units of a message. Scaled distances are far below.
_FAR = 20.0
_CERTAIN = 0.01  # minus the logarithm of a chance that counts as 1


@skip_autograph
def associate(
    distance: Array,
    params: Params,
    *,
    row_mask: Array | None = None,
    col_mask: Array | None = None,
    backend: str | Backend | None = None,
) -> Array:
    """Return which rows and columns belong together, as a network has learned it.

    Args:
        distance: `(..., n, m)`, real, finite where valid.
        params: From `load_pretrained`, `load` or training; NumPy arrays are converted. Their
            shapes are the architecture, so a program that is traced has to know them; one that
            `torch.compile` traces wants tensors.
        row_mask: `(..., n)` bool, True = valid. Others are never read.
        col_mask: `(..., m)` bool, True = valid.
        backend: A backend's name or instance, to which other arrays are converted; by default
            the one of `distance`.

    Returns:
        `(..., n, m)` from 0 to 1, in the dtype of `distance` if that is floating. Rows and
        columns sum to at most 1, what is missing to 1 being the chance that there is no partner;
        masked entries are 0. Differentiable in `distance` and `params`.

    Raises:
        ValueError: Shapes or dtypes do not fit, or `params` are not those of such a network.

    Examples:
        >>> params = hc.hnet.load_pretrained()
        >>> hc.hnet.associate(np.array([[0.1, 2.0], [1.5, 0.2]]), params).round(2)
        array([[1., 0.],
               [0., 1.]])
    """
    backend = get_backend(backend, distance=distance, row_mask=row_mask, col_mask=col_mask)
    pairs, params, dtype = _inputs(distance, params, row_mask, col_mask, backend)
    xp = backend.namespace(pairs.distance)
    score = _score(pairs, params, backend, xp)
    rows, cols = (_none(score, pairs.valid, axis, backend, xp) for axis in (-1, -2))
    larger = xp.where(rows > cols, rows, cols)
    matrix = xp.where(pairs.valid, xp.exp(xp.where(pairs.valid, score - larger, 0)), 0)
    return xp.astype(matrix, dtype, copy=False)


@skip_autograph
def association_loss(
    distance: Array,
    association: Array,
    params: Params,
    *,
    row_mask: Array | None = None,
    col_mask: Array | None = None,
    reduction: Reduction = "mean",
    backend: str | Backend | None = None,
) -> Array:
    """Return the loss that trains the network: cross entropies of rows and columns.

    Every valid row chooses among the valid columns and having no partner, and every column
    likewise. A sample's loss is the mean over its valid rows and columns.

    Args:
        distance: As for `associate`.
        association: `(..., n, m)`, the truth, bool or numbers from 0 to 1; 0 where masked.
        params: As for `associate`.
        row_mask: As for `associate`.
        col_mask: As for `associate`.
        reduction: ``"mean"`` or ``"sum"`` over samples, or ``"none"`` for `(...)`.
        backend: As for `associate`.

    Returns:
        The loss, in float32 or wider.

    Raises:
        ValueError: As for `associate`.

    Examples:
        >>> params = hc.hnet.load_pretrained()
        >>> distance = np.array([[[0.1, 2.0], [1.5, 0.2]]])
        >>> float(hc.hnet.association_loss(distance, np.eye(2)[None], params)) < 0.1
        True
    """
    _checks.one_of("reduction", reduction, ("mean", "sum", "none"))
    backend = get_backend(
        backend, distance=distance, association=association, row_mask=row_mask, col_mask=col_mask
    )
    pairs, params, _ = _inputs(distance, params, row_mask, col_mask, backend)
    xp = backend.namespace(pairs.distance)
    association = backend.asarray(association, like=pairs.distance)
    _checks.association(backend.shape(association), backend.shape(pairs.distance))
    association = xp.astype(association, pairs.distance.dtype, copy=False)
    score = _score(pairs, params, backend, xp)
    total = -2 * xp.sum(association * score, axis=(-2, -1))
    count = xp.zeros_like(total)
    for axis in (-1, -2):
        each = _none(score, pairs.valid, axis, backend, xp)
        there = xp.any(pairs.valid, axis=axis, keepdims=True)
        total = total + xp.sum(xp.where(there, each, 0), axis=(-2, -1))
        count = count + xp.sum(xp.astype(there, score.dtype), axis=(-2, -1))
    each = total / xp.where(count == 0, 1, count)
    if reduction == "none":
        return each
    return xp.sum(each) if reduction == "sum" else xp.mean(each)


class _Pairs(NamedTuple):
    distance: Array  # [..., n, m] float32 or wider, 0 where not valid
    valid: Array  # [..., n, m] bool


def _inputs(
    distance: Array,
    params: Params,
    row_mask: Array | None,
    col_mask: Array | None,
    backend: Backend,
) -> tuple[_Pairs, dict[str, Array], object]:
    """Check and convert the arguments of `associate`; also return the dtype of its result."""
    distance = backend.asarray(distance)
    xp = backend.namespace(distance)
    _checks.distance_shape(backend.shape(distance))
    _checks.real("distance", distance, xp)
    came = distance.dtype
    distance = xp.astype(distance, solving_dtype(came, xp), copy=False)
    rows, cols = checked_masks(row_mask, col_mask, distance, backend, xp)
    valid = among_valid(xp.ones_like(distance, dtype=xp.bool), rows, cols)
    _checks.structure(params)
    arrays = {
        name: xp.astype(backend.asarray(x, like=distance), distance.dtype, copy=False)
        for name, x in params.items()
    }
    dtype = came if xp.isdtype(came, "real floating") else distance.dtype
    return _Pairs(xp.where(valid, distance, 0), valid), arrays, dtype


def _score(pairs: _Pairs, params: Params, backend: Backend, xp: Namespace) -> Array:
    """Return scores `[..., n, m]`: how much likelier a pair is than no partner, as a logarithm."""
    if any(isinstance(extent, int) and extent == 0 for extent in backend.shape(pairs.distance)):
        return pairs.distance
    gate = _gate(pairs, params, backend, xp)
    rows, cols = _floors(gate, pairs.valid, params, xp)
    penalty = xp.where(gate < 0, -gate, 0) + xp.log1p(xp.exp(-xp.abs(gate)))
    # Exactly 0 for a pair that is certain: a rounding would grow with every round of messages.
    penalty = xp.where(penalty > _CERTAIN, penalty - _CERTAIN, 0)
    gain = -params["cost.scale"] * pairs.distance - params["cost.gate"] * penalty
    gain = xp.where(gain < -2 * _FAR, -2 * _FAR, gain)
    # So far out that no message of a pair that is not valid is above any floor.
    gain = xp.where(pairs.valid, gain, -4 * _FAR)
    belief = _compete(gain, rows, cols, params["layers.momentum"], xp)
    lead = params["score.scale"] * belief + params["score.offset"]
    # A pair has to win and to pass the gate: of the odds, the smaller counts, smoothly.
    other = params["score.gate"] * gate
    smaller = xp.where(lead < other, lead, other)
    score = smaller - xp.log1p(xp.exp(-xp.abs(lead - other)))
    return xp.where(pairs.valid, score, 0)


def _gate(pairs: _Pairs, params: Params, backend: Backend, xp: Namespace) -> Array:
    """Return the odds, as logarithms `[..., n, m]`, that two objects may belong together."""
    valid = pairs.valid[..., None]
    x = _features(pairs, xp)
    bias, y, out = (
        xp.reshape(params[name], (*(1 for _ in backend.shape(x)[1:]), -1))
        for name in ("input.bias", "gate.bias", "gate.out")
    )
    h = _product(x, params["input.weight"], backend, xp) + bias
    h = xp.where(valid & (h > 0), h, 0)
    seen = [x, h]
    for axis in (-2, -3):
        count = xp.sum(xp.astype(valid, h.dtype), axis=axis, keepdims=True)
        seen.append(xp.sum(h, axis=axis, keepdims=True) / xp.where(count < 1, 1, count))
        seen.append(xp.max(h, axis=axis, keepdims=True))
    at = 0
    for part in seen:
        size = part.shape[-1]
        y = y + _product(part, params["gate.weight"][at : at + size, :], backend, xp)
        at += size
    return xp.sum(xp.where(y > 0, y, 0) * out, axis=-1) + params["gate.offset"]


def _features(pairs: _Pairs, xp: Namespace) -> Array:
    """Return what the perceptron sees of a distance d, `[..., n, m, 6]`, bounded or growing slowly.

    That is d up to 4, exp(-d), log(1 + d), log(d + 0.001), and 4 - d less the largest other such
    number of the row, and of the column.
    """
    d = xp.where(pairs.distance < 0, 0, pairs.distance)
    near = xp.where(d < 4, d, 4)
    room = xp.where(pairs.valid, 4 - near, 0)
    lead = [room - _best_other(room, axis, 0, xp) for axis in (-1, -2)]
    return xp.stack([near, xp.exp(-d), xp.log1p(d), xp.log(d + 0.001), *lead], axis=-1)


def _floors(gate: Array, valid: Array, params: Params, xp: Namespace) -> tuple[Array, Array]:
    """Return what it is worth to rows and to columns to have no partner, each `[..., 1, 1]`.

    That is 0 on the side with more real objects and far below on the other, where all have one.
    """
    real = xp.where(valid, _sigmoid(gate, xp), 0)
    rows = xp.sum(xp.max(real, axis=-1, keepdims=True), axis=-2, keepdims=True)
    cols = xp.sum(xp.max(real, axis=-2, keepdims=True), axis=-1, keepdims=True)
    slope = params["side.slope"]
    of_rows = -_FAR * _sigmoid(slope * (cols - rows + 0.5), xp)
    of_cols = -_FAR * _sigmoid(slope * (rows - cols + 0.5), xp)
    return of_rows, of_cols


def _compete(gain: Array, rows: Array, cols: Array, momentum: Array, xp: Namespace) -> Array:
    """Return by how much each pair beats its rivals after rounds of messages, `[..., n, m]`.

    What a row offers a column is the gain of the pair less the best that the row has elsewhere,
    given the offers of the other columns; and likewise from column to row, in turns.
    """
    of_col = of_row = gain
    for k in range(momentum.shape[0]):
        elsewhere = _best_other(of_col, -1, -_FAR, xp)
        elsewhere = xp.where(elsewhere > rows, elsewhere, rows)
        of_row = gain - elsewhere + momentum[k, 0] * (of_row - gain)
        elsewhere = _best_other(of_row, -2, -_FAR, xp)
        elsewhere = xp.where(elsewhere > cols, elsewhere, cols)
        of_col = gain - elsewhere + momentum[k, 1] * (of_col - gain)
    return of_row + of_col - gain


def _best_other(x: Array, axis: int, least: float, xp: Namespace) -> Array:
    """Return the largest value along an axis, each one itself left out; alone, it sees `least`."""
    largest = xp.max(x, axis=axis, keepdims=True)
    first = x == largest
    second = xp.max(xp.where(first, least, x), axis=axis, keepdims=True)
    alone = xp.sum(xp.astype(first, x.dtype), axis=axis, keepdims=True) < 2
    return xp.where(first & alone, second, largest)


def _product(x: Array, weight: Array, backend: Backend, xp: Namespace) -> Array:
    """Return ``x @ weight`` for `x[..., a]` and `weight[a, b]`.

    As one product of matrices: TensorFlow 2.21 with oneDNN crashes in a graph that adds to a
    batched one.
    """
    *batch, size = backend.shape(x)
    product = xp.matmul(xp.reshape(x, (-1, size)), weight)
    return xp.reshape(product, (*batch, weight.shape[1]))


def _sigmoid(x: Array, xp: Namespace) -> Array:
    return (1 + xp.tanh(x / 2)) / 2


def _none(score: Array, valid: Array, axis: int, backend: Backend, xp: Namespace) -> Array:
    """Return minus the logarithm of the chance of no partner, with the axis kept."""
    if any(isinstance(extent, int) and extent == 0 for extent in backend.shape(score)):
        return xp.sum(score, axis=axis, keepdims=True)
    largest = xp.max(backend.stop_gradient(score), axis=axis, keepdims=True)
    largest = xp.where(largest < 0, 0, largest)
    others = xp.where(valid, xp.exp(xp.where(valid, score - largest, 0)), 0)
    return largest + xp.log(xp.exp(-largest) + xp.sum(others, axis=axis, keepdims=True))
