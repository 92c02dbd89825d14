"""The matcher of DETR and its family as a module: what a criterion of one's own calls."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

import hungarian_core as _core
from hungarian_core import _checks
from hungarian_core._settings import Configured
from hungarian_core.assignment import Solver
from hungarian_core.costs.classes import ClassCost
from hungarian_core.terms import Boxes, Classes, Masks, Term
from hungarian_torch._backend import backend
from hungarian_torch._losses import _Module
from hungarian_torch._matchings import Pairs, solved
from hungarian_torch._outputs import check_targets, either, masks_of, point_ratio
from hungarian_torch._transformers.masks import sample

_READ = ("labels", "class_labels", "boxes", "masks")
_NUMPY = (torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool)
# By the names of the matcher those of `DetrLoss`.
CLASS_COSTS: dict[str, ClassCost] = {
    "softmax": "softmax", "sigmoid": "focal_published", "logsigmoid": "focal",
}  # fmt: skip


class MatchingCosts(NamedTuple):
    """The settings of a matcher, of which its criterion is made."""

    class_cost: float
    bbox_cost: float
    giou_cost: float
    class_cost_form: str = "softmax"
    alpha: float = 0.25
    gamma: float = 2.0
    mask_cost: float = 0.0
    dice_cost: float = 0.0
    mask_cost_form: Literal["bce", "focal"] = "bce"
    num_points: int | None = None
    mask_point_sample_ratio: int | None = None
    solver: Solver = "auto"

    @property
    def by_boxes(self) -> bool:
        """Whether boxes are read."""
        return self.bbox_cost > 0 or self.giou_cost > 0

    @property
    def by_masks(self) -> bool:
        """Whether masks are read."""
        return self.mask_cost > 0 or self.dice_cost > 0


class HungarianMatcher(Configured, _Module):
    """The matcher of DETR and of those who came after, to put in the place of theirs.

    It makes all costs of a batch in one pass and matches all images in one solve, and gives back
    what a criterion of theirs expects. A pair whose cost is NaN or infinite is taken only where
    nothing else is left, as in `transformers`. Settings are read at each call, and may be changed.

    Args:
        class_cost: The weight of the class in the matching cost, by default 1.
        bbox_cost: The weight of the L1 distance of boxes, by default 5, or 0 where there are costs
            of masks and none of boxes is named, as Mask2Former's matcher has none.
        giou_cost: The weight of the generalized IoU of boxes, by default 2, or 0 likewise.
        class_cost_form: ``"softmax"``: minus the probability of the class, as in DETR; the last
            class is "no object". ``"sigmoid"``: the focal cost of Deformable DETR and DINO, with
            1e-8 in its logarithms. ``"logsigmoid"``: the same without, as in RF-DETR; the two
            differ where probabilities are 0 or 1 to rounding.
        alpha: The alpha of the focal cost.
        gamma: The gamma of the focal cost.
        mask_cost: The weight of the mean loss of the pixels of masks, by default 0.
        dice_cost: The weight of the dice loss of masks, by default 0.
        mask_cost_form: ``"bce"`` as in Mask2Former, or ``"focal"`` as in MaskFormer.
        num_points: At how many random points masks are compared; by default at all pixels of the
            predicted masks, to whose size the true ones are brought, as in MaskFormer.
        mask_point_sample_ratio: For how many pixels of a predicted mask there is such a point, in
            the place of `num_points`, as in RF-DETR: all images at the same points, and of true
            masks the nearest pixel.
        solver: As for `hungarian_core.assign`.
        cost_class, cost_bbox, cost_giou, cost_mask, cost_dice: Other names of the weights, as DETR
            and Mask2Former have them.

    Raises:
        ValueError: All weights are 0, an option is unknown, or one came by two names.

    References:
        Carion et al., End-to-End Object Detection with Transformers, ECCV 2020, equation 1.
        Zhu et al., Deformable DETR, ICLR 2021. Cheng et al., Mask2Former, CVPR 2022.

    Examples:
        >>> matcher = ht.HungarianMatcher(cost_class=1, cost_bbox=5, cost_giou=2)
        >>> logits = torch.tensor([[[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]]])
        >>> boxes = torch.tensor([[[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.2, 0.2]]])
        >>> targets = [{"labels": torch.tensor([1]), "boxes": torch.tensor([[0.7, 0.7, 0.2, 0.2]])}]
        >>> matcher({"pred_logits": logits, "pred_boxes": boxes}, targets)
        [(tensor([1]), tensor([0]))]
    """

    def __init__(
        self,
        class_cost: float | None = None,
        bbox_cost: float | None = None,
        giou_cost: float | None = None,
        *,
        class_cost_form: Literal["softmax", "sigmoid", "logsigmoid"] = "softmax",
        alpha: float = 0.25,
        gamma: float = 2.0,
        mask_cost: float | None = None,
        dice_cost: float | None = None,
        mask_cost_form: Literal["bce", "focal"] = "bce",
        num_points: int | None = None,
        mask_point_sample_ratio: int | None = None,
        solver: Solver = "auto",
        cost_class: float | None = None,
        cost_bbox: float | None = None,
        cost_giou: float | None = None,
        cost_mask: float | None = None,
        cost_dice: float | None = None,
    ) -> None:
        super().__init__()
        weights = {
            "class": _named("class", class_cost, cost_class),
            "bbox": _named("bbox", bbox_cost, cost_bbox),
            "giou": _named("giou", giou_cost, cost_giou),
            "mask": _named("mask", mask_cost, cost_mask),
            "dice": _named("dice", dice_cost, cost_dice),
        }
        no_boxes = (weights["mask"] or weights["dice"]) and {weights["bbox"], weights["giou"]} == {
            None
        }
        defaults = {"class": 1.0} if no_boxes else {"class": 1.0, "bbox": 5.0, "giou": 2.0}
        weights = {
            name: defaults.get(name, 0.0) if weight is None else weight
            for name, weight in weights.items()
        }
        if not any(weights.values()):
            raise ValueError("all weights are 0; expected one at least that is not")
        _checks.one_of("class_cost_form", class_cost_form, tuple(CLASS_COSTS))
        _checks.one_of("mask_cost_form", mask_cost_form, ("bce", "focal"))
        if num_points is not None:
            _checks.whole("num_points", num_points, 1, "a positive integer, or None")
        point_ratio(mask_point_sample_ratio)
        if None not in (num_points, mask_point_sample_ratio):
            raise ValueError(
                f"num_points is {num_points} and mask_point_sample_ratio is "
                f"{mask_point_sample_ratio}; expected one of the two, which say how many points"
            )
        _checks.solver(solver)
        self.class_cost, self.bbox_cost, self.giou_cost = (
            weights[name] for name in ("class", "bbox", "giou")
        )
        self.mask_cost, self.dice_cost = weights["mask"], weights["dice"]
        self.class_cost_form, self.mask_cost_form = class_cost_form, mask_cost_form
        self.alpha, self.gamma = _checks.number("alpha", alpha), _checks.number("gamma", gamma)
        self.num_points, self.solver = num_points, solver
        self.mask_point_sample_ratio = mask_point_sample_ratio
        if type(self).__init__ is HungarianMatcher.__init__:
            # To be shown by one name each, and with the defaults that depend on others.
            self._made_with = (), dict(zip(MatchingCosts._fields, self._costs, strict=True))
        _classes(self._costs, 2)  # which checks their ranges

    @property
    def _costs(self) -> MatchingCosts:
        """The settings as they are now."""
        return MatchingCosts(*[getattr(self, name) for name in MatchingCosts._fields])

    @torch.compiler.disable  # a list whose parts depend on values is outside of any program
    def forward(
        self,
        outputs: Mapping[str, Tensor],
        targets: Sequence[Mapping[str, Tensor]],
        group_detr: int = 1,
    ) -> Pairs:
        """Match a batch.

        Args:
            outputs: ``"logits"`` or ``"pred_logits"`` `(B, Q, C)`, ``"boxes"`` or ``"pred_boxes"``
                `(B, Q, 4)` in cxcywh, relative to the image, where boxes are matched by, and
                ``"masks"`` or ``"pred_masks"`` `(B, Q, H, W)`, logits, where masks are.
            targets: For each image a mapping of ``"labels"`` or ``"class_labels"`` `(n,)`,
                ``"boxes"`` `(n, 4)` and ``"masks"`` `(n, H, W)`, as far as they are matched by.
            group_detr: Into how many groups of equal size queries fall, each matched for itself.

        Returns:
            For each image ``(queries, objects)``, index tensors on the CPU, queries ascending:
            min(Q, n) pairs, of each group.

        Raises:
            ValueError: Arrays do not fit, or a label is not among C classes.
        """
        check_targets(targets)
        costs = self._costs
        read = {"logits": either(outputs, "logits", "pred_logits")}
        if costs.by_boxes:
            read["boxes"] = either(outputs, "boxes", "pred_boxes")
        if costs.by_masks:
            read["masks"] = masks_of(outputs)
            if costs.mask_point_sample_ratio is not None:
                read["masks"], targets = _at_points(
                    read["masks"], targets, costs.mask_point_sample_ratio
                )
            if costs.num_points is not None:
                # One draw for each image, as Mask2Former makes them.
                draws = [
                    torch.rand(1, costs.num_points, 2, device=read["logits"].device)
                    for _ in targets
                ]
                read["points"] = torch.cat(draws)
            if len({x["masks"].shape[1:] for x in targets if "masks" in x}) > 1:
                # Points, and what is resized, are relative to the size of an image's own masks.
                return [
                    pair
                    for k, target in enumerate(targets)
                    for pair in _matched(
                        costs, {name: x[k : k + 1] for name, x in read.items()}, [target],
                        group_detr,
                    )
                ]  # fmt: skip
        return _matched(costs, read, targets, group_detr)


@torch.no_grad()
def _at_points(
    masks: Tensor, targets: Sequence[Mapping[str, Tensor]], ratio: int
) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Return masks `(B, Q, P, 1)` at points, and targets with theirs `(n, P, 1)`, as RF-DETR."""
    images, queries, height, width = masks.shape
    points = torch.rand(1, max(height * width // ratio, 1), 2, device=masks.device)
    wide = masks if masks.dtype == torch.float64 else masks.float()
    points = points.to(wide.dtype)
    found = sample(wide.flatten(0, 1), points, padding="border")
    truths = [t["masks"].to(wide) for t in targets]
    sampled = [  # PyTorch refuses to look at none
        sample(x, points, "nearest") if len(x) else x.new_zeros(0, points.shape[1]) for x in truths
    ]
    return found.reshape(images, queries, -1, 1), [
        {**t, "masks": x[..., None]} for t, x in zip(targets, sampled, strict=True)
    ]


def _named(name: str, ours: float | None, theirs: float | None) -> float | None:
    """Return the weight of a cost, which has two names; None if it came by neither."""
    if ours is not None and theirs is not None:
        raise ValueError(
            f"{name}_cost is {ours} and cost_{name} is {theirs}; expected one of the two, which "
            "are names of one weight"
        )
    weight = ours if theirs is None else theirs
    return None if weight is None else _checks.weight(f"{name}_cost", weight)


def _matched(
    costs: MatchingCosts,
    read: dict[str, Tensor],
    targets: Sequence[Mapping[str, Tensor]],
    groups: int,
) -> Pairs:
    """Return the pairs of a batch of outputs by the keys of terms."""
    logits, given = read["logits"].shape[-1], dict[str, Any](read)
    # The terms would leave others alone, which may be no tensors.
    targets = [{k: x for k, x in target.items() if k in _READ} for target in targets]
    arrays = (*read.values(), *[x for target in targets for x in target.values()])
    if on_host := all(map(_is_plain, arrays)):
        # NumPy's functions take half the time of PyTorch's on small arrays.
        given = {name: x.numpy(force=True) for name, x in read.items()}
        targets = [{k: x.numpy(force=True) for k, x in t.items()} for t in targets]
    with torch.no_grad():
        row4col = solved(_criterion(costs, logits, groups, on_host), given, targets)
    objects = row4col if on_host else row4col.numpy(force=True)
    pairs = []
    for of_image in objects.reshape(len(objects), -1):  # without the axis of groups
        (queries,) = np.nonzero(of_image >= 0)
        pairs.append((torch.from_numpy(queries), torch.from_numpy(of_image[queries])))
    return pairs


def _classes(costs: MatchingCosts, logits: int) -> Classes:
    """Return the term of classes, for a number of logits."""
    softmax = costs.class_cost_form == "softmax"
    return Classes(
        logits - softmax, loss="softmax" if softmax else "focal",
        cost=CLASS_COSTS[costs.class_cost_form], cost_weight=costs.class_cost,
        cost_alpha=costs.alpha, cost_gamma=costs.gamma,
    )  # fmt: skip


@functools.lru_cache(maxsize=128)
def _criterion(costs: MatchingCosts, logits: int, groups: int, on_host: bool) -> _core.SetLoss:
    """Return the criterion whose matching it is, for a number of logits."""
    terms: list[Term] = [_classes(costs, logits)]
    if costs.by_boxes:
        terms.append(Boxes(bbox_cost=costs.bbox_cost, giou_cost=costs.giou_cost))
    if costs.by_masks:
        whole = costs.num_points is costs.mask_point_sample_ratio is None
        resize: Any = "bilinear" if whole else None
        weights: Any = {"mask_cost": costs.mask_cost, "dice_cost": costs.dice_cost}
        terms.append(Masks(costs.mask_cost_form, resize=resize, **weights))
    return _core.SetLoss(
        terms, groups=groups, nan="forbid", solver=costs.solver,
        backend="numpy" if on_host else backend,
    )  # fmt: skip


def _is_plain(x: Any) -> bool:
    """Say whether NumPy can read a tensor where it lies."""
    return type(x) is Tensor and x.is_cpu and x.dtype in _NUMPY and x.layout is torch.strided
