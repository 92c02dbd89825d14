"""Make queries for denoising."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hungarian_core import _checks as core_checks
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core._dtypes import solving_dtype
from hungarian_core._registry import get_backend
from hungarian_core._tracing import skip_autograph
from hungarian_core.costs.classes import as_index
from hungarian_core.denoising.queries import DenoisingQueries
from hungarian_core.relaxations import _checks as noise_checks
from hungarian_core.relaxations.noise import key_of, threefry, uniform
from hungarian_core.terms import _checks as checks
from hungarian_core.terms.targets import TargetForms, Targets, as_fields, pad_fields

_WANTED: dict[str, checks.Extents] = {"labels": (), "boxes": (4,)}


@skip_autograph
def contrastive_queries(
    targets: TargetForms,
    num_classes: int,
    *,
    seed: int | Array,
    queries: int = 100,
    groups: int | None = None,
    label_noise_ratio: float = 0.5,
    box_noise_scale: float = 1.0,
    size: int | None = None,
    backend: str | Backend | None = None,
) -> DenoisingQueries:
    """Make queries for contrastive denoising, as DINO, RT-DETR and D-FINE do.

    A corner of a box moves along each axis by up to half of the box's side, times
    `box_noise_scale`, and by that much farther in queries that are to become nothing.

    Args:
        targets: As for `hungarian_core.DetrLoss`, with labels and boxes: a list with a mapping per
            image, or padded arrays, which a program needs that is compiled once.
        num_classes: How many classes there are to draw wrong ones from.
        seed: An int from 0 to 2**64 - 1, or an integer array `()`, which may be traced and of which
            the lower 32 bits count.
        queries: About half of how many to make per image: ``groups = max(queries // M, 1)``. There
            are 2 M queries in a group.
        groups: How many groups to make, instead. M has to be known otherwise.
        label_noise_ratio: Twice the probability that a label is drawn anew from all classes.
        box_noise_scale: What noise of boxes is multiplied by; 0 leaves them as they are.
        size: M, the number of objects to pad a list to, by default the greatest there is.
        backend: A backend's name or instance, by default the one of the arrays.

    Returns:
        `DenoisingQueries`, of D = 2 M groups.

    Raises:
        ValueError: An option or, where values can be read, a label is out of range, or shapes or
            dtypes do not fit.

    Reference:
        Zhang et al., DINO, ICLR 2023, section 3.3; the numbers are those of transformers'
        ``get_contrastive_denoising_training_group`` for RT-DETR.

    Examples:
        >>> targets = [{"labels": np.array([1]), "boxes": np.array([[0.5, 0.5, 0.2, 0.2]])}]
        >>> noised = hc.denoising.contrastive_queries(targets, 3, seed=0, groups=2)
        >>> noised.labels.shape, noised.boxes.shape
        ((1, 4), (1, 4, 4))
        >>> noised.boxes.round(3)[0, :2]
        array([[0.496, 0.413, 0.129, 0.177],
               [0.646, 0.502, 0.177, 0.   ]])
    """
    ratio = _options(label_noise_ratio, box_noise_scale) * 0.5
    made = _Copies(targets, num_classes, seed, queries, groups, 2, size, backend)
    xp, boxes = made.xp, made.boxes
    farther = xp.astype(made.kind, made.dtype)[..., None]
    signs = xp.astype(made.signs(), made.dtype) * 2 - 1
    moves = (made.uniform() + farther) * signs * (box_noise_scale * 0.5)
    half = boxes[..., 2:] * 0.5
    # A box with its noise becomes one of corners, and these a box again.
    low = boxes[..., :2] - half + moves[..., :2] * boxes[..., 2:]
    high = boxes[..., :2] + half + moves[..., 2:] * boxes[..., 2:]
    low, high = _inside(low, xp), _inside(high, xp)
    sides = high - low  # below 0 where corners passed each other
    noised = xp.concat([(low + high) * 0.5, xp.where(sides > 0, sides, 0)], axis=-1)
    return made.queries(noised, ratio, box_noise_scale)


@skip_autograph
def denoising_queries(
    targets: TargetForms,
    num_classes: int,
    *,
    seed: int | Array,
    groups: int = 5,
    label_noise_ratio: float = 0.2,
    box_noise_scale: float = 0.4,
    size: int | None = None,
    backend: str | Backend | None = None,
) -> DenoisingQueries:
    """Make queries for denoising, as DN-DETR does, all of which are to become objects again.

    The centre of a box moves along each axis by up to half of its side, and the side changes by up
    to itself, both times `box_noise_scale`. DN-DETR calls groups scalar.

    Args:
        targets: As for `contrastive_queries`.
        num_classes: As for `contrastive_queries`.
        seed: As for `contrastive_queries`.
        groups: How many groups to make.
        label_noise_ratio: The probability that a label is drawn anew from all classes.
        box_noise_scale: What noise of boxes is multiplied by; 0 leaves them as they are.
        size: As for `contrastive_queries`.
        backend: As for `contrastive_queries`.

    Returns:
        `DenoisingQueries`, of D = M groups.

    Raises:
        ValueError: As of `contrastive_queries`.

    Reference:
        Li et al., DN-DETR, CVPR 2022, section 4.3.

    Examples:
        >>> targets = [{"labels": np.array([1]), "boxes": np.array([[0.5, 0.5, 0.2, 0.2]])}]
        >>> noised = hc.denoising.denoising_queries(targets, 3, seed=0, groups=2)
        >>> noised.assignment
        array([[0, 0]])
        >>> noised.boxes.round(3)[0]
        array([[0.485, 0.52 , 0.183, 0.278],
               [0.506, 0.477, 0.176, 0.15 ]])
    """
    ratio = _options(label_noise_ratio, box_noise_scale)
    made = _Copies(targets, num_classes, seed, 0, groups, 1, size, backend)
    xp, boxes = made.xp, made.boxes
    sides = boxes[..., 2:]
    reach = xp.concat([sides * 0.5, sides], axis=-1)
    noised = boxes + (made.uniform() * 2 - 1) * reach * box_noise_scale
    return made.queries(_inside(noised, xp), ratio, box_noise_scale)


def inverse_sigmoid(x: Array, eps: float = 1e-5, *, backend: str | Backend | None = None) -> Array:
    """Return the logits of numbers from 0 to 1, such as boxes relative to the image.

    Args:
        x: `(...)`, real; what is outside of 0 to 1 counts as the nearer end.
        eps: The least that ``x`` and ``1 - x`` are taken to be: 1e-5 in Deformable DETR and
            RT-DETR, 1e-3 in DINO.
        backend: A backend's name or instance, by default the one of the array.

    Returns:
        `(...)`, ``log(max(x, eps) / max(1 - x, eps))``.

    Examples:
        >>> hc.denoising.inverse_sigmoid(np.array([0.0, 0.5, 1.0])).round(3)
        array([-11.513,   0.   ,  11.513])
    """
    core_checks.positive("eps", eps)
    backend = get_backend(backend, x=x)
    x = backend.asarray(x)
    xp = backend.namespace(x)
    x = _inside(xp.astype(x, solving_dtype(x.dtype, xp), copy=False), xp)
    rest = 1 - x
    return xp.log(xp.where(x > eps, x, eps)) - xp.log(xp.where(rest > eps, rest, eps))


class _Copies:
    """The objects of images, so many times each, with what noise is made of.

    Arrays are `[B, C, M, ...]` of C copies: in each group one of each kind.
    """

    def __init__(
        self,
        targets: TargetForms,
        num_classes: int,
        seed: int | Array,
        queries: int,
        groups: int | None,
        kinds: int,
        size: int | None,
        backend: str | Backend | None,
    ) -> None:
        self.num_classes = core_checks.whole("num_classes", num_classes, 1, "how many there are")
        fields, backend = _fields(targets, size, backend)
        labels, boxes, mask = (fields[name] for name in ("labels", "boxes", "mask"))
        self.backend, self.xp = backend, backend.namespace(labels)
        xp = self.xp
        images, objects = backend.shape(labels)
        if groups is None:
            core_checks.whole("queries", queries, 1, "about half of how many queries to make")
            if not isinstance(objects, int):
                raise ValueError(
                    "groups is None, and how many objects images are padded to is not known when "
                    "the program is traced; pass the number of groups"
                )
            groups = max(queries // max(objects, 1), 1)
        groups = core_checks.whole("groups", groups, 1, "how many groups of queries to make")
        copies = groups * kinds
        shape = (images, copies, objects)
        self.count = copies * objects
        self.dtype = solving_dtype(boxes.dtype, xp)
        boxes = xp.astype(backend.stop_gradient(boxes), self.dtype, copy=False)
        # Padding may hold anything.
        boxes = xp.where(mask[..., None], boxes, 0)
        self.boxes = xp.broadcast_to(boxes[:, None, ...], (*shape, 4))
        labels = as_index(labels, xp)
        outside = mask & ((labels < 0) | (labels >= self.num_classes))
        # An object that is ignored may be of no class.
        wrong = outside & ~fields["ignore"] if "ignore" in fields else outside
        if backend.readable(wrong):
            core_checks.labels(wrong, labels, f"0 to {self.num_classes - 1}", backend, xp)
        labels = xp.where(mask & ~outside, labels, self.num_classes)
        self.labels = xp.broadcast_to(labels[:, None, ...], shape)
        self.mask = xp.broadcast_to(mask[:, None, ...], shape)
        ones = xp.ones_like(self.labels, dtype=xp.int32)
        image, self.object = (
            xp.astype(xp.cumulative_sum(ones, axis=axis), xp.int32) - 1 for axis in (0, 2)
        )
        copy = xp.astype(backend.asarray(list(range(copies)), like=boxes), xp.int32)
        self.group = xp.bitwise_right_shift(copy, kinds - 1)
        self.kind = xp.bitwise_and(copy, kinds - 1)[None, :, None]
        self.place = image * 2**16 + copy[None, :, None]
        seed = noise_checks.seed_of(seed, boxes, backend, xp)
        self.key = key_of(seed, self.place, backend, xp)

    def words(self, stream: int) -> tuple[Array, Array]:
        """Return two words of noise for each object, others for each stream from 0 to 7."""
        return threefry(self.key, (self.object * 8 + stream, self.place), self.xp)

    def uniform(self) -> Array:
        """Return four numbers above 0 and below 1 for each object."""
        words = (*self.words(1), *self.words(2))
        more: tuple[Array | None, ...] = (None,) * 4
        if self.dtype == self.xp.float64:
            more = (*self.words(4), *self.words(5))
        numbers = [
            uniform(word, rest, self.dtype, self.xp) for word, rest in zip(words, more, strict=True)
        ]
        return self.xp.stack(numbers, axis=-1)

    def signs(self) -> Array:
        """Return four numbers that are 0 or 1 for each object."""
        xp = self.xp
        word, _ = self.words(3)
        return xp.stack(
            [xp.bitwise_and(xp.bitwise_right_shift(word, k), 1) for k in range(4)], axis=-1
        )

    def queries(self, noised: Array, ratio: float, box_noise_scale: float) -> DenoisingQueries:
        """Return the queries with these boxes, and labels drawn anew with a probability."""
        xp = self.xp
        # Numbers of 24 bits and one rounding: no framework draws another label.
        draw, label = (
            xp.astype(xp.bitwise_and(xp.bitwise_right_shift(word, 8), 2**24 - 1), xp.float32)
            * 2.0**-24
            for word in self.words(0)
        )
        new = as_index(xp.floor(label * self.num_classes), xp)
        new = xp.where(new < self.num_classes, new, self.num_classes - 1)
        labels = xp.where(self.mask & (draw < ratio), new, self.labels)
        boxes = noised if box_noise_scale > 0 else self.boxes
        own = self.mask & (self.kind == 0)
        assignment = xp.where(own, as_index(self.object, xp), -1)
        images, *copies = self.backend.shape(self.labels)
        group = xp.broadcast_to(as_index(self.group, xp)[:, None], tuple(copies))
        flat = (images, self.count)
        return DenoisingQueries(
            xp.reshape(labels, flat), xp.reshape(boxes, (*flat, 4)), xp.reshape(assignment, flat),
            xp.reshape(self.mask, flat), xp.reshape(group, (self.count,)),
        )  # fmt: skip


def _fields(
    targets: TargetForms, size: int | None, backend: str | Backend | None
) -> tuple[dict[str, Array], Backend]:
    """Return labels, boxes and mask `(B, M, ...)` of targets in any form, checked."""
    padded = isinstance(targets, (Targets, Mapping)) or (
        isinstance(targets, tuple) and len(targets) == 3 and not isinstance(targets[0], Mapping)
    )
    if padded:
        first = targets[0] if isinstance(targets, tuple) else _labels(targets)
        backend = get_backend(backend, labels=first)
        fields = as_fields(targets, backend.asarray(first), backend, _WANTED)
    else:
        images: Any = targets
        fields = pad_fields(images, _WANTED, size, None, backend)
        backend = get_backend(backend, labels=fields["labels"])
    xp = backend.namespace(fields["labels"])
    shapes = {name: backend.shape(x) for name, x in fields.items()}
    checks.field_shapes(shapes, {**_WANTED, "mask": ()}, (shapes["labels"] or (0,))[0])
    core_checks.integral("labels", fields["labels"], xp)
    core_checks.mask("mask", fields["mask"], shapes["mask"], backend, xp)
    return fields, backend


def _labels(targets: Any) -> Any:
    checks.fields_there(targets, {"labels": ()} if "class_labels" not in targets else {})
    return targets["labels" if "labels" in targets else "class_labels"]


def _options(label_noise_ratio: float, box_noise_scale: float) -> float:
    """Return the ratio of noise in labels, after a check of both options."""
    ratio = core_checks.number("label_noise_ratio", label_noise_ratio, "a number from 0 to 1")
    if not 0 <= ratio <= 1:
        raise ValueError(f"label_noise_ratio is {ratio!r}; expected a number from 0 to 1")
    if not core_checks.number("box_noise_scale", box_noise_scale) >= 0:
        raise ValueError(f"box_noise_scale is {box_noise_scale!r}; expected 0 or more")
    return ratio


def _inside(x: Array, xp: Namespace) -> Array:
    """Return numbers as they are from 0 to 1, and else the nearer end; NaN stays."""
    x = xp.where(x < 0, 0, x)
    return xp.where(x > 1, 1, x)
