"""Boxes by distributions of where their edges are, as in D-FINE.

Around a reference box (cx, cy, w, h) each edge of another box, in the order left, top, right,
bottom, has a distance g: how far it lies outward of the reference's own edge, in units of
``w / reg_scale`` or ``h / reg_scale``. It is the mean of the offsets W(0) to W(bins) over a
distribution on ``bins + 1`` places, see `offsets`. So a box is an array `(..., 4, bins + 1)` of
logits, or of probabilities.

`encode` gives the distribution of a true box, `decode` the box of predicted ones; `cross_entropy`
and `divergence` are what losses are made of.
"""

from __future__ import annotations

from itertools import pairwise

from hungarian_core import _checks as core_checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import common_dtype, solving_dtype
from hungarian_core._gradient import with_constant_gradient
from hungarian_core._inputs import both
from hungarian_core._registry import get_backend
from hungarian_core.boxes import _checks as checks
from hungarian_core.boxes._arithmetic import positive
from hungarian_core.boxes.axis_aligned import convert

__all__ = ["cross_entropy", "decode", "distances", "divergence", "encode", "offsets"]
__dir__ = __all__.copy

# What is added to a unit of length, as published: a reference without sides has a unit too.
_LEAST = 1e-16


def offsets(bins: int = 32, *, up: float = 0.5, reg_scale: float = 4.0) -> tuple[float, ...]:
    """Return the offsets W(0) to W(bins) that a distribution is over, the least first.

    They lie closely around 0 and apart from each other far away: with ``b = up * reg_scale`` and
    ``s = (b + 1)**(2 / (bins - 2))``, W is ``s**k - 1`` k places after the middle and its negative
    k places before it, and ``2 b`` and its negative at the ends.

    Args:
        bins: One less than the number of places, even.
        up: How far the last but one place is from an edge, in units of the reference's sides.
        reg_scale: What part of the reference's sides is a unit: the larger, the finer.

    Raises:
        ValueError: An option is out of range.

    Reference:
        Peng et al., D-FINE: Redefine Regression Task of DETRs as Fine-grained Distribution
        Refinement, ICLR 2025, section 4.1, as its code has it.

    Examples:
        >>> [round(x, 4) for x in hc.boxes.distributions.offsets(8)]
        [-4.0, -2.0, -1.0801, -0.4422, 0.0, 0.4422, 1.0801, 2.0, 4.0]
    """
    bins = checks.weighting(bins, up, reg_scale)
    bound = float(up) * float(reg_scale)
    step = (bound + 1) ** (2 / (bins - 2))
    right = [step**k - 1 for k in range(1, bins // 2)]
    left = [-x for x in reversed(right)]
    return (-2 * bound, *left, 0.0, *right, 2 * bound)


def distances(
    boxes: Array,
    references: Array,
    *,
    reg_scale: float = 4.0,
    backend: str | Backend | None = None,
) -> Array:
    """Return how far the edges of boxes lie outward of those of references.

    Args:
        boxes: `(..., 4)` in cxcywh.
        references: `(..., 4)` in cxcywh, which broadcasts with `boxes`. A negative side is 0.
        reg_scale: As for `offsets`.
        backend: A backend's name or instance, to which other arrays are converted; by default the
            one of the arrays.

    Returns:
        The broadcast shape, with left, top, right and bottom in units of a reference's own sides
        over `reg_scale`; in the dtype of the boxes, or float32 for float16 and bfloat16.

    Raises:
        ValueError: Shapes or dtypes do not fit.

    Examples:
        >>> box, reference = np.array([0.5, 0.5, 0.4, 0.2]), np.array([0.5, 0.4, 0.2, 0.2])
        >>> hc.boxes.distributions.distances(box, reference).round(4)
        array([ 2., -2.,  2.,  2.])
    """
    core_checks.positive("reg_scale", reg_scale)
    boxes, references, _, xp = _boxes(boxes, references, backend)
    apart, unit = _apart(boxes, references, float(reg_scale), xp)
    return apart / unit - 0.5 * float(reg_scale)


def encode(
    boxes: Array,
    references: Array,
    *,
    bins: int = 32,
    up: float = 0.5,
    reg_scale: float = 4.0,
    backend: str | Backend | None = None,
) -> Array:
    """Return the distributions of the edges of true boxes, constants.

    Of each edge the two offsets next to its distance share the probability, such that the mean is
    that distance; where it is out of reach, the last offset has it all. It is what `bbox2distance`
    and `translate_gt` of the published code have as an index and two weights.

    Args:
        boxes: `(..., 4)` in cxcywh.
        references: `(..., 4)` in cxcywh, which broadcasts with `boxes`.
        bins: As for `offsets`.
        up: As for `offsets`.
        reg_scale: As for `offsets`.
        backend: As for `distances`.

    Returns:
        `(..., 4, bins + 1)` in the dtype of `distances`.

    Raises:
        ValueError: An option is out of range, or shapes or dtypes do not fit.

    Examples:
        >>> box, reference = np.array([0.5, 0.5, 0.4, 0.2]), np.array([0.5, 0.5, 0.3, 0.2])
        >>> hc.boxes.distributions.encode(box, reference, bins=4)[0].round(4)
        array([0.    , 0.    , 0.6667, 0.3333, 0.    ])
    """
    places = offsets(bins, up=up, reg_scale=reg_scale)
    boxes, references, found, xp = _boxes(boxes, references, backend)
    boxes, references = (found.stop_gradient(x) for x in (boxes, references))
    apart, unit = _apart(boxes, references, float(reg_scale), xp)
    # Beyond the last offset it is all the same, and nothing is to overflow.
    own = 0.5 * float(reg_scale)
    farthest = (places[-1] + own + 1) * unit
    apart = xp.where(apart > farthest, farthest, xp.where(apart < -farthest, -farthest, apart))
    g = (apart / unit - own)[..., None]
    low = _line(places[:-1], g, found, xp)
    gaps = [b - a for a, b in pairwise(places)]
    # How much of the way from one offset to the next lies before the edge: 1, then a part, then 0.
    share = (g - low) / _line(gaps, g, found, xp)
    share = positive(xp, share)
    share = xp.where(share > 1, 1, share)
    first, last = 1 - share[..., :1], share[..., -1:]
    return xp.concat([first, share[..., :-1] - share[..., 1:], last], axis=-1)


def decode(
    logits: Array,
    references: Array,
    *,
    bins: int = 32,
    up: float = 0.5,
    reg_scale: float = 4.0,
    backend: str | Backend | None = None,
) -> Array:
    """Return the boxes whose edges lie at the means of predicted distributions.

    Args:
        logits: `(..., 4, bins + 1)`.
        references: `(..., 4)` in cxcywh, whose axes before the last broadcast with those of
            `logits` before the last two.
        bins: As for `offsets`.
        up: As for `offsets`.
        reg_scale: As for `offsets`.
        backend: As for `distances`.

    Returns:
        `(..., 4)` in cxcywh, differentiable in both; in the dtype of the logits, or float32 for
        float16 and bfloat16.

    Raises:
        ValueError: An option is out of range, or shapes or dtypes do not fit.

    Examples:
        >>> reference = np.array([0.5, 0.5, 0.4, 0.2])
        >>> hc.boxes.distributions.decode(np.zeros((4, 33)), reference)  # as likely left as right
        array([0.5, 0.5, 0.4, 0.2])
    """
    places = offsets(bins, up=up, reg_scale=reg_scale)
    found = get_backend(backend, logits=logits, references=references)
    logits, references = both(logits, references, found)
    xp = found.namespace(logits, references)
    checks.edges("logits", found.shape(logits), bins)
    checks.boxes("references", found.shape(references), 4)
    core_checks.real("logits", logits, xp)
    core_checks.real("references", references, xp)
    wide = common_dtype(logits, references, xp)
    logits, references = (xp.astype(x, wide, copy=False) for x in (logits, references))
    probability, _ = _softmax(logits, found, xp)
    g = xp.sum(probability * _line(places, logits, found, xp), axis=-1)
    unit = references[..., 2:] / float(reg_scale)
    own = 0.5 * float(reg_scale)
    low = references[..., :2] - (own + g[..., :2]) * unit
    high = references[..., :2] + (own + g[..., 2:]) * unit
    return convert(xp.concat([low, high], axis=-1), "xyxy", "cxcywh", backend=found)


def cross_entropy(
    logits: Array, distribution: Array, *, backend: str | Backend | None = None
) -> Array:
    """Return ``-sum(p log q)`` of a constant distribution p and the softmax q of logits.

    For the distributions of `encode` it is the fine-grained localisation loss of an edge, without
    its weight.

    Args:
        logits: `(..., K)`.
        distribution: `(..., K)`, which broadcasts to `logits`.
        backend: As for `distances`.

    Returns:
        `(...)` in the dtype of the logits, or float32 for float16 and bfloat16; differentiable
        once in `logits`, in closed form.

    Raises:
        ValueError: Shapes or dtypes do not fit.

    Reference:
        Peng et al., D-FINE, section 4.1; Li et al., Generalized Focal Loss, NeurIPS 2020, equation
        6.

    Examples:
        >>> logits, distribution = np.zeros(5), np.array([0.0, 0.25, 0.75, 0.0, 0.0])
        >>> round(float(hc.boxes.distributions.cross_entropy(logits, distribution)), 4)
        1.6094
    """
    logits, distribution, found, xp = _pair("distribution", distribution, logits, backend)
    constant = found.stop_gradient(logits)
    q, log_q = _softmax(constant, found, xp)
    # An offset of probability 0 takes part with nothing, however unlikely it is to be.
    each = xp.where(distribution == 0, 0, log_q)
    value = -xp.sum(distribution * each, axis=-1)
    slope = xp.sum(distribution, axis=-1, keepdims=True) * q - distribution
    return with_constant_gradient(logits, value, slope, found)


def divergence(
    logits: Array,
    teacher: Array,
    *,
    temperature: float = 5.0,
    backend: str | Backend | None = None,
) -> Array:
    """Return ``T**2 KL(p | q)``, p and q the softmax of a teacher's and of a student's logits / T.

    It is the decoupled distillation focal loss of an edge, without its weight.

    Args:
        logits: `(..., K)`, the student's.
        teacher: `(..., K)`, which broadcasts to `logits`, constant.
        temperature: T, positive.
        backend: As for `distances`.

    Returns:
        `(...)` in the dtype of the logits, or float32 for float16 and bfloat16; differentiable
        once in `logits`, in closed form.

    Raises:
        ValueError: `temperature` is not positive, or shapes or dtypes do not fit.

    Reference:
        Peng et al., D-FINE, section 4.2; Hinton et al., Distilling the Knowledge in a Neural
        Network, 2015.

    Examples:
        >>> student, teacher = np.array([0.0, 0.0]), np.array([5.0, 0.0])
        >>> round(float(hc.boxes.distributions.divergence(student, teacher)), 4)
        2.7736
    """
    core_checks.positive("temperature", temperature)
    temperature = float(temperature)
    logits, teacher, found, xp = _pair("teacher", teacher, logits, backend)
    (p, log_p), (q, log_q) = (
        _softmax(found.stop_gradient(x), found, xp, temperature) for x in (teacher, logits)
    )
    # As for the cross entropy.
    each = xp.where(p == 0, 0, log_p - log_q)
    value = temperature**2 * xp.sum(p * each, axis=-1)
    return with_constant_gradient(logits, value, temperature * (q - p), found)


def _apart(boxes: Array, references: Array, reg_scale: float, xp: Namespace) -> tuple[Array, Array]:
    """Return how far edges lie outward of the centre of a reference, and the unit of that."""
    centre, sides = references[..., :2], positive(xp, references[..., 2:])
    half = boxes[..., 2:] * 0.5
    low, high = boxes[..., :2] - half, boxes[..., :2] + half
    unit = sides / reg_scale + _LEAST
    return xp.concat([centre - low, high - centre], axis=-1), xp.concat([unit, unit], axis=-1)


def _softmax(
    x: Array, backend: Backend, xp: Namespace, temperature: float = 1.0
) -> tuple[Array, Array]:
    """Return the probabilities over the last axis, and their logarithms."""
    # Divided once: a compiler may round two quotients that are to cancel differently.
    x = (x - backend.stop_gradient(xp.max(x, axis=-1, keepdims=True))) / temperature
    exponential = xp.exp(x)
    total = xp.sum(exponential, axis=-1, keepdims=True)
    return exponential / total, x - xp.log(total)


def _line(
    numbers: tuple[float, ...] | list[float], like: Array, backend: Backend, xp: Namespace
) -> Array:
    """Return numbers along the last axis, of as many axes as another array."""
    line = xp.astype(backend.asarray(list(numbers), like=like), like.dtype, copy=False)
    return line[(*(None,) * (like.ndim - 1), ...)]


def _boxes(
    boxes: Array, references: Array, backend: str | Backend | None
) -> tuple[Array, Array, Backend, Namespace]:
    """Return checked boxes in the dtype to compute in, of one shape."""
    found = get_backend(backend, boxes=boxes, references=references)
    boxes, references = both(boxes, references, found)
    xp = found.namespace(boxes, references)
    for name, x in (("boxes", boxes), ("references", references)):
        checks.boxes(name, found.shape(x), 4)
        core_checks.real(name, x, xp)
    checks.paired(found.shape(boxes), found.shape(references), 4, False)
    wide = common_dtype(boxes, references, xp)
    boxes, references = (xp.astype(x, wide, copy=False) for x in (boxes, references))
    return boxes, references, found, xp


def _pair(
    name: str, other: Array, logits: Array, backend: str | Backend | None
) -> tuple[Array, Array, Backend, Namespace]:
    """Return logits and what broadcasts to them, a constant, in the dtype to compute in."""
    found = get_backend(backend, logits=logits, **{name: other})
    logits, other = both(logits, other, found)
    xp = found.namespace(logits, other)
    core_checks.real("logits", logits, xp)
    core_checks.real(name, other, xp)
    checks.spreads(name, found.shape(other), "logits", found.shape(logits))
    wide = solving_dtype(logits.dtype, xp)
    logits, other = (xp.astype(x, wide, copy=False) for x in (logits, other))
    return logits, found.stop_gradient(other), found, xp
