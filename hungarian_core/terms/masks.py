"""The term of masks: the loss of their pixels, and the dice loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from hungarian_core import _checks
from hungarian_core import masks as measures
from hungarian_core._backend import Array, Backend, Namespace
from hungarian_core.costs.classes import times
from hungarian_core.masks import _checks as mask_checks
from hungarian_core.terms import _checks as checks
from hungarian_core.terms import _target_checks as target_checks
from hungarian_core.terms.mask_losses import mask_losses
from hungarian_core.terms.matches import Matches
from hungarian_core.terms.problems import MatchingProblems, Tile
from hungarian_core.terms.targets import blank
from hungarian_core.terms.term import Term


class MaskInputs(NamedTuple):
    """The masks of a call, which are too large to be laid out as other outputs are."""

    predictions: Array  # [L, B * groups, Q, H, W], or [1, ...] of the last layer
    last: bool  # they are of the last layer only
    truth: Array  # [B, M, H, W], 0 where there is no object
    points: Array | None  # [B, P, 2]
    candidates: Array | None  # [B, M, R, 2] or what broadcasts to it


@dataclass(frozen=True)
class Masks(Term):
    """The term of masks, ``"masks"`` in both outputs and targets.

    The loss of a matched pair is ``mask_weight * pixels + dice_weight * dice``, called ``"mask"``
    and ``"dice"``, and matching it costs ``mask_cost * pixels + dice_cost * dice``, with `pixels`
    the mean binary cross entropy or focal loss of :mod:`hungarian_core.masks`. Like those of
    boxes, losses are divided by the number of objects.

    Masks `(B, Q, H, W)` beside outputs of several layers are those of the last one. Two more
    outputs say where to look: ``"points"`` `(B, P, 2)`, by default all pixels, and ``"candidates"``
    `(B, M, R, 2)`, random points of which the loss takes the least certain.

    Of a matching that is given, too, only the masks of pairs are compared. A program that cannot
    count them compares as many as there are objects, of an `Assignment`, or else as queries.

    Args:
        pixels: ``"focal"``, as in DETR and MaskFormer, or ``"bce"``, as in Mask2Former.
        mask_weight: The weight of `pixels` in the loss.
        dice_weight: The weight of the dice loss.
        mask_cost: The weight of `pixels` in the matching cost; without one, masks are not matched
            by.
        dice_cost: The weight of the dice in the matching cost.
        alpha: As for `hungarian_core.masks.focal`.
        gamma: As there.
        num_points: At how many of the `candidates` of a call the loss looks. None for the number n
            that R candidates are drawn for, ``R = 4 n - int(importance_ratio * n)``.
        importance_ratio: As for `hungarian_core.masks.uncertain_points`.
        resize: What to do where predicted masks are of another size than true ones: None refuses
            them. With ``"bilinear"`` they are matched in the size of the predictions, at the pixels
            of the truth that lie there (`hungarian_core.masks.resize`, nearest), and the loss
            compares in the size of the truth: of all predictions only those that are matched are
            brought to it. As in MaskFormer and DETR.
        truth_sampling: What a true mask is at a point: ``"bilinear"`` between its pixels, as in
            Mask2Former, or that of the ``"nearest"``, as in RF-DETR.
        check_targets: Raise if a true mask holds other numbers than 0 to 1, such as 255, where it
            can be read.

    Raises:
        ValueError: An option is unknown.

    Examples:
        >>> square = np.zeros((8, 8))
        >>> square[2:5, 2:5] = 1
        >>> masks = 20 * np.stack([1 - square, square])[None] - 10  # logits, (B, Q, H, W)
        >>> criterion = hc.SetLoss([hc.terms.Masks("bce", mask_cost=1.0)])
        >>> losses = criterion({"masks": masks}, [{"masks": square[None]}])
        >>> losses.assignment.col4row
        array([[1]])
    """

    pixels: Literal["focal", "bce"] = "focal"
    mask_weight: float = 1.0
    dice_weight: float = 1.0
    mask_cost: float = 0.0
    dice_cost: float = 0.0
    alpha: float = 0.25
    gamma: float = 2.0
    num_points: int | None = 112 * 112
    importance_ratio: float = 0.75
    resize: Literal["bilinear"] | None = None
    truth_sampling: Literal["bilinear", "nearest"] = "bilinear"
    check_targets: bool = True

    outputs = {"masks": ("H", "W")}  # noqa: RUF012  (of the class, as for every term)
    fields = {"masks": ("H", "W")}  # noqa: RUF012  (as above)
    optional = ("points", "candidates")
    tiled = False
    decides_dtype = False

    def __post_init__(self) -> None:
        _checks.one_of("pixels", self.pixels, ("focal", "bce"))
        if self.resize is not None:
            _checks.one_of("resize", self.resize, ("bilinear",), "or None")
        _checks.one_of("truth_sampling", self.truth_sampling, ("bilinear", "nearest"))
        checks.mask_options(self.gamma, self.num_points, self.importance_ratio)

    @property
    def weights(self) -> Mapping[str, float]:  # type: ignore[override]  # made of two numbers, and no attribute
        """The weights in the loss."""
        return {"mask": self.mask_weight, "dice": self.dice_weight}

    def pairwise(
        self, truth: Array, prediction: Array, axes: int, backend: Backend
    ) -> tuple[Array, Array]:
        """Return `pixels` and dice `[..., M, Q]` of every true mask with every predicted one."""
        options: dict[str, Any] = {"axes": axes, "backend": backend}
        dice = measures.pairwise_dice(truth, prediction, **options)
        if self.pixels == "bce":
            return measures.pairwise_bce(truth, prediction, **options), dice
        options |= {"alpha": self.alpha, "gamma": self.gamma}
        return measures.pairwise_focal(truth, prediction, **options), dice

    def pairs(
        self, truth: Array, prediction: Array, axes: int, backend: Backend
    ) -> tuple[Array, Array]:
        """Return `pixels` and dice `[...]` of pairs of masks."""
        focal = self.pixels == "focal"
        return mask_losses(truth, prediction, focal, self.alpha, self.gamma, axes, backend)

    def read(
        self, outputs: Mapping[str, Array], fields: Mapping[str, Array], problems: MatchingProblems
    ) -> MaskInputs:
        """Check the masks, and choose those that are there."""
        backend, xp, dtype = problems.backend, problems.xp, problems.dtype
        masks, truth = outputs["masks"], fields["masks"]
        layers, images, groups = problems.batch_axes
        shape, points = backend.shape(masks), outputs.get("points")
        there = problems.objects_mask[..., None, None]
        truth = xp.astype(xp.where(there, truth, xp.zeros_like(truth)), dtype, copy=False)
        if self.check_targets and backend.readable(truth):
            backend.host_call(target_checks.true_masks, truth, like=())
        axes = (layers, images * groups, problems.queries)
        dense = points is None and self.resize is None
        checks.mask_shapes(shape, backend.shape(truth), dense)
        last = problems.layered and len(shape) == 4
        masks = xp.astype(masks if len(shape) == 5 else masks[None, ...], dtype, copy=False)
        if groups > 1:
            masks = xp.reshape(masks, (backend.shape(masks)[0], *axes[1:], *shape[-2:]))
        if problems.query_mask is not None:
            there = xp.reshape(problems.query_mask, axes)
            there = there[-1:, ...] if last else there
            masks = xp.where(there[..., None, None], masks, xp.zeros_like(masks))
        return MaskInputs(masks, last, truth, points, outputs.get("candidates"))

    def costs(
        self, problems: MatchingProblems, inputs: MaskInputs, tile: Tile, summary: None
    ) -> dict[str, Array]:
        """The costs of all pairs of masks."""
        return self._pairwise(self.mask_cost, self.dice_cost, problems, inputs)

    def alignable(self) -> bool:
        """A pair's loss is known, at all pixels or at points that do not depend on the pair."""
        return self.resize is None

    def loss_changes(
        self, problems: MatchingProblems, inputs: MaskInputs, tile: Tile, summary: None
    ) -> dict[str, Array]:
        """The loss of every pair: unmatched ones have none."""
        checks.candidates_alignable(inputs.candidates)
        checks.points_alignable(inputs.points, self.pixels)
        changes = self._pairwise(self.mask_weight, self.dice_weight, problems, inputs)
        if problems.weights is None:
            return changes
        weights = problems.weights[:, :, None]
        return {name: times(weights, change, problems.xp) for name, change in changes.items()}

    def _pairwise(
        self,
        mask_weight: float,
        dice_weight: float,
        problems: MatchingProblems,
        inputs: MaskInputs,
    ) -> dict[str, Array]:
        """Return the weighted losses `[N, M, Q]` of all pairs, by name."""
        if not (mask_weight or dice_weight):
            return {}
        backend, xp = problems.backend, problems.xp
        truth, prediction, axes = inputs.truth, backend.stop_gradient(inputs.predictions), 2
        if inputs.points is not None:
            truth = measures.sample(truth, inputs.points, mode=self.truth_sampling, backend=backend)
            points = _of_groups(inputs.points, problems)
            prediction = measures.sample(prediction, points, backend=backend)
            axes = 1
        elif self.resize is not None:
            size = backend.shape(prediction)[-2:]
            truth = measures.resize(truth, size, mode="nearest", backend=backend)
        truth = _of_groups(truth, problems)
        pixels, dice = self.pairwise(truth[None, ...], prediction, axes, backend)
        costs = {"mask": times(mask_weight, pixels, xp), "dice": dice_weight * dice}
        return {
            name: _spread(problems.repeated(cost, 2), inputs, problems)
            for name, cost in costs.items()
        }

    def pair_losses(
        self, problems: MatchingProblems, inputs: MaskInputs, matches: Matches
    ) -> dict[str, Array]:
        """The losses of the matched pairs."""
        backend, xp = problems.backend, problems.xp
        truth = _of_groups(problems.repeated(inputs.truth, 1), problems)
        counted, chosen = matches.counted, inputs.predictions
        place = None
        if matches.given:
            if problems.surplus:
                truth = xp.concat([truth, blank(truth, 1, xp)], axis=1)
            counted = self._folded(counted, inputs, problems)
            # An object may have many queries, and most queries have none: masks are large.
            at, place = _counted_first(counted, matches, problems)
            counted = xp.take_along_axis(counted, at, axis=2)
            objects = self._folded(matches.object_of_query, inputs, problems)
            objects = xp.take_along_axis(objects, at, axis=2)[..., None, None]
            layers = (backend.shape(at)[0], *backend.shape(truth))
            truth = xp.take_along_axis(xp.broadcast_to(truth[None, ...], layers), objects, axis=2)
        else:
            assert matches.query_of_pair is not None
            at = matches.query_of_pair[:, : problems.objects]
            at = self._folded(at, inputs, problems)
            counted = self._folded(counted[:, : problems.objects], inputs, problems)
            truth = truth[None, ...]
        chosen = xp.take_along_axis(chosen, at[..., None, None], axis=2)
        # What is not matched may hold anything, and no gradient is to meet it.
        chosen = xp.where(counted[..., None, None], chosen, xp.zeros_like(chosen))
        pixels, dice = self._compared(truth, chosen, inputs, matches, problems)
        losses = [xp.where(counted, x, 0) for x in (pixels, dice)]
        if place is not None:
            losses = [_of_places(x, place, xp) for x in losses]
        mask, dice = (_spread(x, inputs, problems, not matches.given) for x in losses)
        return {"mask": mask, "dice": dice}

    def _compared(
        self,
        truth: Array,
        chosen: Array,
        inputs: MaskInputs,
        matches: Matches,
        problems: MatchingProblems,
    ) -> tuple[Array, Array]:
        """Return the losses of masks `[L, B, P, H, W]`, at points if there are any."""
        backend, axes = problems.backend, 2
        points = None
        if inputs.points is not None:
            points = _of_groups(inputs.points, problems)[:, None, ...]
        if inputs.candidates is not None:
            candidates = inputs.candidates
            if candidates.ndim > 3 and backend.shape(candidates)[-3] != 1:
                checks.candidates_given(matches.given)
                candidates = problems.repeated(candidates, candidates.ndim - 3)
            if candidates.ndim == 4 and backend.shape(candidates)[0] != 1:
                candidates = _of_groups(candidates, problems)
            number = self.num_points
            if number is None:
                number = mask_checks.points_of(backend.shape(candidates)[-2], self.importance_ratio)
            points = measures.uncertain_points(
                chosen, candidates, number,
                importance_ratio=self.importance_ratio, backend=backend,
            )  # fmt: skip
        if points is not None:
            truth, chosen = (
                measures.sample(x[..., None, :, :], points, mode=mode, backend=backend)[..., 0, :]
                for x, mode in ((truth, self.truth_sampling), (chosen, "bilinear"))
            )
            axes = 1
        elif self.resize is not None:
            chosen = measures.resize(chosen, backend.shape(truth)[-2:], backend=backend)
        return self.pairs(truth, chosen, axes, backend)

    @staticmethod
    def _folded(x: Array, inputs: MaskInputs, problems: MatchingProblems) -> Array:
        """Return `[L, B * groups, ...]` of `[N, ...]`, or `[1, ...]` of the last layer."""
        layers, images, groups = problems.batch_axes
        x = problems.xp.reshape(x, (layers, images * groups, problems.backend.shape(x)[1]))
        return x[-1:, ...] if inputs.last else x


def _of_groups(x: Array, problems: MatchingProblems) -> Array:
    """Return what each image has, `[B, ...]`, for each of its groups of queries."""
    xp, shape = problems.xp, problems.backend.shape(x)
    _, images, groups = problems.batch_axes
    if groups == 1:
        return x
    x = xp.broadcast_to(x[:, None, ...], (images, groups, *shape[1:]))
    return xp.reshape(x, (images * groups, *shape[1:]))


def _counted_first(
    counted: Array, matches: Matches, problems: MatchingProblems
) -> tuple[Array, Array]:
    """Return the queries `[L, B, P]` of all pairs that count, and the places of queries in them.

    The places are `[L, B, Q]`, P for a query that does not count. P is the greatest number of such
    pairs in an image where that can be read, or else the greatest that there can be.
    """
    backend, xp = problems.backend, problems.xp
    one = xp.astype(xp.ones_like(counted), matches.object_of_query.dtype)
    index = xp.cumulative_sum(one, axis=2) - 1
    number = xp.cumulative_sum(xp.where(counted, one, 0), axis=2)
    most = problems.objects if matches.exclusive else problems.queries
    # One wait for a device costs less than masks of all queries.
    if backend.readable(counted) or not (matches.exclusive or backend.is_traced(counted)):
        most = max(int(xp.max(number)), 1) if all(backend.shape(counted)) else 0
    if isinstance(most, int) and isinstance(problems.queries, int):
        most = min(most, problems.queries)
    at = xp.argsort(xp.where(counted, index, index + problems.queries), axis=2)[..., :most]
    at = xp.astype(at, index.dtype, copy=False)
    end = xp.sum(xp.ones_like(at), axis=2, keepdims=True)
    return at, xp.where(counted, number - 1, end)


def _of_places(x: Array, place: Array, xp: Namespace) -> Array:
    """Return for each query what is at its place in `[L, B, P]`, 0 for the place P."""
    x = xp.concat([x, xp.zeros_like(xp.sum(x, axis=2, keepdims=True))], axis=2)
    return xp.take_along_axis(x, place, axis=2)


def _spread(
    x: Array, inputs: MaskInputs, problems: MatchingProblems, of_objects: bool = True
) -> Array:
    """Return `[N, ...]` of `[L, B * groups, ...]`, or of `[1, ...]` for the last layer."""
    xp = problems.xp
    layers, images, groups = problems.batch_axes
    images = images * groups
    rest = problems.backend.shape(x)[2:]
    if inputs.last:
        of_layers = xp.reshape(xp.astype(problems.mask[:, 0], x.dtype), (layers, images))[:, :1]
        place = xp.cumulative_sum(xp.ones_like(of_layers), axis=0)
        is_last = place == xp.max(place)
        is_last = is_last[(..., *(None,) * len(rest))]
        x = xp.where(is_last, x, xp.zeros_like(x))
    x = xp.reshape(x, (layers * images, *rest))
    return xp.concat([x, blank(x, 1, xp)], axis=1) if problems.surplus and of_objects else x
