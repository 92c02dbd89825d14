"""The matcher of DETR and its family as a module: what a criterion of one's own calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

import hungarian_core as _core
from hungarian_core import _checks
from hungarian_core._settings import Configured
from hungarian_core.assignment import Solver
from hungarian_core.costs.classes import ClassCost
from hungarian_core.terms import Boxes, Classes, Masks, Term
from hungarian_core.terms._checks import brief
from hungarian_torch._backend import backend
from hungarian_torch._losses import _Module

_READ = ("labels", "class_labels", "boxes", "masks")
_NUMPY = (torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool)
# By the names of the matcher those of `DetrLoss`.
CLASS_COSTS: dict[str, ClassCost] = {
    "softmax": "softmax", "sigmoid": "focal_published", "logsigmoid": "focal",
}  # fmt: skip
Pairs = list[tuple[Tensor, Tensor]]


class HungarianMatcher(Configured, _Module):
    """The matcher of DETR and of those who came after, to put in the place of theirs.

    It makes all costs of a batch in one pass and matches all images in one solve, and gives back
    what a criterion of theirs expects. Costs that are NaN or infinite count as the worst there are,
    as in `transformers`.

    Args:
        class_cost: The weight of the class in the matching cost.
        bbox_cost: The weight of the L1 distance of boxes.
        giou_cost: The weight of the generalized IoU of boxes.
        class_cost_form: ``"softmax"``: minus the probability of the class, as in DETR; the last
            class is "no object". ``"sigmoid"``: the focal cost of Deformable DETR and DINO, with
            1e-8 in its logarithms. ``"logsigmoid"``: the same without, as in RF-DETR; the two
            differ where probabilities are 0 or 1 to rounding.
        alpha: The alpha of the focal cost.
        gamma: The gamma of the focal cost.
        mask_cost: The weight of the mean loss of the pixels of masks.
        dice_cost: The weight of the dice loss of masks.
        mask_cost_form: ``"bce"`` as in Mask2Former, or ``"focal"`` as in MaskFormer.
        num_points: At how many random points masks are compared; by default at all pixels of the
            predicted masks, to whose size the true ones are brought, as in MaskFormer.
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
        class_cost: float = 1.0,
        bbox_cost: float = 5.0,
        giou_cost: float = 2.0,
        *,
        class_cost_form: Literal["softmax", "sigmoid", "logsigmoid"] = "softmax",
        alpha: float = 0.25,
        gamma: float = 2.0,
        mask_cost: float = 0.0,
        dice_cost: float = 0.0,
        mask_cost_form: Literal["bce", "focal"] = "bce",
        num_points: int | None = None,
        solver: Solver = "auto",
        cost_class: float | None = None,
        cost_bbox: float | None = None,
        cost_giou: float | None = None,
        cost_mask: float | None = None,
        cost_dice: float | None = None,
    ) -> None:
        super().__init__()
        given = (
            ("class", class_cost, cost_class, 1.0), ("bbox", bbox_cost, cost_bbox, 5.0),
            ("giou", giou_cost, cost_giou, 2.0), ("mask", mask_cost, cost_mask, 0.0),
            ("dice", dice_cost, cost_dice, 0.0),
        )  # fmt: skip
        weights = {}
        for name, ours, theirs, default in given:
            if theirs is not None and ours != default:
                raise ValueError(
                    f"{name}_cost is {ours} and cost_{name} is {theirs}; expected one of the two, "
                    "which are names of one weight"
                )
            weight = ours if theirs is None else theirs
            weights[name] = _checks.weight(f"{name}_cost", weight)
        if not any(weights.values()):
            raise ValueError("all weights are 0; expected one at least that is not")
        _checks.one_of("class_cost_form", class_cost_form, tuple(CLASS_COSTS))
        _checks.one_of("mask_cost_form", mask_cost_form, ("bce", "focal"))
        if num_points is not None:
            _checks.whole("num_points", num_points, 1, "a positive integer, or None")
        _checks.solver(solver)
        self.class_cost, self.bbox_cost, self.giou_cost = (
            weights[name] for name in ("class", "bbox", "giou")
        )
        self.mask_cost, self.dice_cost = weights["mask"], weights["dice"]
        self.class_cost_form, self.mask_cost_form = class_cost_form, mask_cost_form
        self.alpha, self.gamma = _checks.number("alpha", alpha), _checks.number("gamma", gamma)
        self.num_points, self.solver = num_points, solver
        self._classes(2)  # which checks their ranges
        self._of_sizes: dict[tuple[int, int, bool], _core.SetLoss] = {}

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
        if not isinstance(targets, (list, tuple)) or not all(
            isinstance(target, Mapping) for target in targets
        ):
            raise TypeError(
                f"targets is {brief(targets)}; expected a list with one mapping per image"
            )
        read = {"logits": either(outputs, "logits", "pred_logits")}
        if self._by_boxes:
            read["boxes"] = either(outputs, "boxes", "pred_boxes")
        if self._by_masks:
            read["masks"] = either(outputs, "masks", "pred_masks")
            if self.num_points is not None:
                # One draw for each image, as Mask2Former makes them.
                draws = [
                    torch.rand(1, self.num_points, 2, device=read["logits"].device) for _ in targets
                ]
                read["points"] = torch.cat(draws)
            if len({x["masks"].shape[1:] for x in targets if "masks" in x}) > 1:
                # Points, and what is resized, are relative to the size of an image's own masks.
                return [
                    pair
                    for k, target in enumerate(targets)
                    for pair in self._matched(
                        {name: x[k : k + 1] for name, x in read.items()}, [target], group_detr
                    )
                ]
        return self._matched(read, targets, group_detr)

    def _matched(
        self, read: dict[str, Tensor], targets: Sequence[Mapping[str, Tensor]], groups: int
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
            row4col = self._criterion(logits, groups, on_host).match(given, targets).row4col
        objects = row4col if on_host else row4col.numpy(force=True)
        pairs = []
        for of_image in objects.reshape(len(objects), -1):  # without the axis of groups
            (queries,) = np.nonzero(of_image >= 0)
            pairs.append((torch.from_numpy(queries), torch.from_numpy(of_image[queries])))
        return pairs

    @property
    def _by_boxes(self) -> bool:
        return self.bbox_cost > 0 or self.giou_cost > 0

    @property
    def _by_masks(self) -> bool:
        return self.mask_cost > 0 or self.dice_cost > 0

    def _classes(self, logits: int) -> Classes:
        """Return the term of classes, for a number of logits."""
        softmax = self.class_cost_form == "softmax"
        return Classes(
            logits - softmax, loss="softmax" if softmax else "focal",
            cost=CLASS_COSTS[self.class_cost_form], cost_weight=self.class_cost,
            cost_alpha=self.alpha, cost_gamma=self.gamma,
        )  # fmt: skip

    def _criterion(self, logits: int, groups: int, on_host: bool) -> _core.SetLoss:
        """Return the criterion whose matching it is, for a number of logits."""
        if (logits, groups, on_host) not in self._of_sizes:
            terms: list[Term] = [self._classes(logits)]
            if self._by_boxes:
                terms.append(Boxes(bbox_cost=self.bbox_cost, giou_cost=self.giou_cost))
            if self._by_masks:
                resize: Any = "bilinear" if self.num_points is None else None
                costs = {"mask_cost": self.mask_cost, "dice_cost": self.dice_cost}
                terms.append(Masks(self.mask_cost_form, resize=resize, **costs))
            self._of_sizes[logits, groups, on_host] = _core.SetLoss(
                terms, groups=groups, solver=self.solver, backend="numpy" if on_host else backend
            )
        return self._of_sizes[logits, groups, on_host]


def _is_plain(x: Any) -> bool:
    """Say whether NumPy can read a tensor where it lies."""
    return type(x) is Tensor and x.is_cpu and x.dtype in _NUMPY and x.layout is torch.strided


def either(outputs: Mapping[str, Tensor], name: str, other: str) -> Tensor:
    """Return an output, which may be called as in DETR."""
    found = outputs.get(name, outputs.get(other)) if isinstance(outputs, Mapping) else None
    if found is None:
        came: Any = sorted(map(str, outputs)) if isinstance(outputs, Mapping) else type(outputs)
        raise ValueError(f"outputs has {came}; expected {name!r} or {other!r} among the keys")
    return found
