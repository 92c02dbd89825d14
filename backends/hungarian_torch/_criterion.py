"""The criterion of DETR and its family by its own names: a dictionary of losses without weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from hungarian_core import SetLoss, _checks
from hungarian_core._settings import Configured
from hungarian_core.terms._checks import brief
from hungarian_core.terms.class_losses import ClassLossName
from hungarian_torch._backend import backend
from hungarian_torch._criterion_terms import (
    CriterionSettings,
    losses_of,
    masks_at_points,
    set_loss,
)
from hungarian_torch._losses import _Module
from hungarian_torch._matcher import HungarianMatcher, MatchingCosts
from hungarian_torch._matchings import Matcher, asked
from hungarian_torch._outputs import (
    Batch,
    Outputs,
    Targets,
    before,
    check_targets,
    either,
    masks_of,
    point_ratio,
    single,
    stacked,
)

_LOSSES = ("labels", "boxes", "masks", "cardinality")
_NAMES = {
    "class": "loss_ce", "bbox": "loss_bbox", "giou": "loss_giou", "mask": "loss_mask",
    "dice": "loss_dice", "xy": "loss_xy", "hw": "loss_hw",
}  # fmt: skip


class SetCriterion(Configured, _Module):
    """The criterion of DETR and of those who came after, to put in the place of theirs.

    It returns the losses of theirs by their names and without weights; what they are weighed by is
    the affair of `weight_dict`, as there. All decoder layers are matched in one solve. In several
    processes the number of objects is asked for once in a call, whatever a process has in its
    batch. Attributes are read at each call, and may be changed.

    Args:
        num_classes: The number of classes, without "no object".
        matcher: A `HungarianMatcher`, by whose costs all layers are matched in one solve; by
            default that of DETR, or of Deformable DETR for a sigmoid. Any other callable
            ``(outputs, targets) -> [(queries, objects), ...]`` is asked for each layer, with
            ``group_detr=`` where `group_detr` is more than 1; so is a `HungarianMatcher` with
            costs of masks, with hooks, or with a `forward` of its own.
        weight_dict: The weights by the names of the losses. It is kept as an attribute, for the
            loop that adds up the losses.
        eos_coef: The weight of "no object" in the cross entropy.
        focal_alpha: The alpha of the sigmoid focal loss of Deformable DETR, which takes the place
            of the cross entropy then.
        losses: Which losses there are to be, of ``"labels"``, ``"boxes"``, ``"masks"`` and
            ``"cardinality"``. Masks are those of the last layer, brought to the size of the truth.
            Queries count as objects whose largest logit is not the last, as in DETR and, though
            the last is a class there, in Deformable DETR; with ``class_loss="ia_bce"`` those of
            which a class is more likely than not, as in RF-DETR.
        class_loss: Another loss of classes, such as ``"ia_bce"`` of RF-DETR: see
            `hungarian_core.terms.Classes`.
        group_detr: Into how many groups of equal size queries fall while it trains, as in Group
            DETR, LW-DETR and RF-DETR.
        enc_classes: Whether ``"enc_outputs"``, where they are one mapping, have classes as all
            others, as in LW-DETR and RF-DETR, or only tell objects from nothing, as in Deformable
            DETR. By default they have with ``class_loss="ia_bce"`` or more than one group.
        mask_point_sample_ratio: For how many pixels of a predicted mask there is a random point at
            which it is compared, as in RF-DETR: 16 there. The losses, of all layers and proposals,
            are ``loss_mask_ce`` and ``loss_mask_dice`` then. By default masks are compared at all
            pixels, as in DETR.

    Attributes:
        weight_dict: As given.

    Raises:
        ValueError: An option is unknown, or options do not fit each other.

    References:
        Carion et al., End-to-End Object Detection with Transformers, ECCV 2020.
        Zhu et al., Deformable DETR, ICLR 2021. Zhang et al., DINO, ICLR 2023.

    Examples:
        >>> weight_dict = {"loss_ce": 1, "loss_bbox": 5, "loss_giou": 2}
        >>> criterion = ht.SetCriterion(2, weight_dict=weight_dict, losses=["labels", "boxes"])
        >>> logits = torch.tensor([[[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]]])
        >>> boxes = torch.tensor([[[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.2, 0.2]]])
        >>> targets = [{"labels": torch.tensor([1]), "boxes": torch.tensor([[0.7, 0.7, 0.2, 0.2]])}]
        >>> losses = criterion({"pred_logits": logits, "pred_boxes": boxes}, targets)
        >>> sorted(losses)
        ['class_error', 'loss_bbox', 'loss_ce', 'loss_giou']
        >>> total = sum(losses[k] * weight_dict[k] for k in losses if k in weight_dict)
        >>> losses["loss_bbox"]
        tensor(0.1000)
    """

    def __init__(
        self,
        num_classes: int,
        matcher: HungarianMatcher | Matcher | None = None,
        weight_dict: Mapping[str, float] | None = None,
        eos_coef: float = 0.1,
        losses: Sequence[Literal["labels", "boxes", "masks", "cardinality"]] = (
            "labels",
            "boxes",
            "cardinality",
        ),
        *,
        focal_alpha: float | None = None,
        class_loss: ClassLossName | None = None,
        group_detr: int = 1,
        enc_classes: bool | None = None,
        mask_point_sample_ratio: int | None = None,
    ) -> None:
        super().__init__()
        for name in losses:
            _checks.one_of("a loss", name, _LOSSES)
        if not losses:
            raise ValueError(f"losses is empty; expected some of {[*_LOSSES]}")
        self.num_classes = _checks.whole("num_classes", num_classes, 1, "a positive integer")
        if class_loss is None:
            class_loss = "softmax" if focal_alpha is None else "focal"
        elif class_loss == "softmax" and focal_alpha is not None:
            raise ValueError(f"focal_alpha is {focal_alpha} with class_loss='softmax'")
        self.softmax = class_loss == "softmax"
        if matcher is None:
            matcher = (
                HungarianMatcher()
                if self.softmax
                else HungarianMatcher(2.0, class_cost_form="sigmoid")
            )
        if not callable(matcher):
            raise TypeError(
                f"matcher is {brief(matcher)}; expected a HungarianMatcher or a callable"
            )
        self.matcher = matcher
        costs = self._costs
        if costs is not None and (costs.class_cost_form == "softmax") != self.softmax:
            raise ValueError(
                f"the matcher has class_cost_form={costs.class_cost_form!r}, and the loss of "
                f"classes is {class_loss!r}; expected "
                + ("'softmax'" if self.softmax else "'sigmoid' or 'logsigmoid'")
            )
        self.weight_dict = {} if weight_dict is None else weight_dict
        self.eos_coef, self.losses = _checks.weight("eos_coef", eos_coef), tuple(losses)
        self.focal_alpha = (
            0.25 if focal_alpha is None else _checks.number("focal_alpha", focal_alpha)
        )
        self.class_loss = class_loss
        self.group_detr = _checks.whole("group_detr", group_detr, 1, "a positive integer")
        if enc_classes is None:
            enc_classes = class_loss == "ia_bce" or self.group_detr > 1
        self.enc_classes = _checks.flag("enc_classes", enc_classes)
        self.mask_point_sample_ratio = point_ratio(mask_point_sample_ratio)
        self._set_loss(self.losses, dino=False, groups=1)  # which checks the options of its terms

    @torch.compiler.disable  # its matching is outside of any program
    def forward(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Return the losses of a batch by name.

        Args:
            outputs: ``"pred_logits"`` (or ``"logits"``) `(B, Q, C)`, C one more than the classes
                for a softmax; ``"pred_boxes"`` (or ``"boxes"``) `(B, Q, 4)` in cxcywh, relative to
                the image; ``"pred_masks"`` (or ``"masks"``) `(B, Q, H, W)`, logits, or
                RF-DETR's mapping of features that give these. Where they are, too:
                ``"aux_outputs"`` (or ``"auxiliary_outputs"``), a list of the same for the layers
                before; ``"enc_outputs"``, of proposals that only tell objects from nothing, or a
                list of outputs with classes; ``"interm_outputs"``, of proposals with classes;
                ``"dn_meta"`` of DINO, with ``"pad_size"``, ``"num_dn_group"`` and
                ``"output_known_lbs_bboxes"``, the outputs of denoising queries.
            targets: For each image a mapping of ``"labels"`` or ``"class_labels"`` `(n,)`,
                ``"boxes"`` `(n, 4)` and, for masks, ``"masks"`` `(n, H, W)`.

        Returns:
            ``loss_ce``, ``loss_bbox``, ``loss_giou``, ``loss_mask``, ``loss_dice``,
            ``class_error`` and ``cardinality_error``, as far as `losses` asks for them, with the
            suffixes ``_{i}`` of layers before, ``_enc``, ``_interm``, ``_dn`` and ``_dn_{i}``;
            with ``"dn_meta"`` also ``loss_xy`` and ``loss_hw``, the parts of ``loss_bbox``.

        Raises:
            ValueError: Arrays do not fit; see `DetrLoss`.
        """
        check_targets(targets)
        logits = either(outputs, "logits", "pred_logits")
        groups = self.group_detr if self.training else 1
        batch = Batch(
            targets,
            self._set_loss(self.losses, dino=False, groups=1).pad_targets(targets, like=logits),
        )
        mean = _objects_per_process(batch.padded)
        number = (mean * groups).clamp(min=1)
        dino = "dn_meta" in outputs
        found = self._of_layers(outputs, batch, number, dino, groups)
        given = outputs.get("enc_outputs")
        if isinstance(given, Mapping):
            objects = batch if self.enc_classes else batch.without_classes()
            found |= self._of_layers(single(given), objects, number, dino, groups, "_enc")
        elif given is not None:
            for k, last in enumerate(given):
                end = f"_enc_{k}"
                found |= self._of_layers(single(last), batch, number, dino, groups, end)
        if outputs.get("interm_outputs") is not None:
            last = single(outputs["interm_outputs"])
            found |= self._of_layers(last, batch, number, dino, groups, "_interm")
        if dino:
            found |= self._of_denoising(outputs, batch, mean)
        return found

    def _of_layers(
        self,
        outputs: Outputs,
        batch: Batch,
        number: Tensor,
        dino: bool,
        groups: int,
        suffix: str = "",
        assignment: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the losses of outputs and of their layers before, with a suffix of the names."""
        aux = before(outputs)
        layers = [*aux, outputs]
        read = {"logits": stacked(layers, "logits", "pred_logits")}
        costs = self._costs
        if "boxes" in self.losses or (costs is not None and costs.by_boxes):
            read["boxes"] = stacked(layers, "boxes", "pred_boxes")
        # Masks of the last layer, as in DETR: those before cost too much.
        ratio = self.mask_point_sample_ratio
        losses = [x for x in self.losses if x != "masks" or (not suffix and ratio is None)]
        if "masks" in losses:
            read["masks"] = masks_of(outputs)
        if assignment is None and costs is None:
            options: Any = {"group_detr": groups} if self.group_detr > 1 else {}
            counts = batch.padded["mask"].sum(1).tolist()
            alone = [single(x) for x in layers]
            assignment = asked(
                self.matcher, alone, counts, batch.targets, read["logits"].shape[:3],
                read["logits"].device, **options,
            )  # fmt: skip
        criterion = self._set_loss(losses, dino, groups)
        out = losses_of(criterion, read, batch.padded, assignment, number)
        row4col: Any = getattr(out.assignment, "row4col", out.assignment)
        row4col = row4col.reshape(read["logits"].shape[:3])
        found = {_NAMES[name]: x for name, x in out.losses.items() if self._wanted(name)}
        if "cardinality" in self.losses:
            found["cardinality_error"] = _cardinality_error(
                read["logits"], batch.padded["mask"], self.class_loss == "ia_bce"
            )
        if "masks" in self.losses and ratio is not None:
            found |= masks_at_points(layers, batch, row4col, number, ratio)
        names = [f"{suffix}_{k}" for k in range(len(aux))]
        by_name: dict[str, Tensor] = {}
        for k, end in enumerate((*names, suffix)):
            for name, x in found.items():
                if not (name in ("loss_mask", "loss_dice") and k < len(aux)):
                    by_name[f"{name}{end}"] = x[k]
        if "labels" in self.losses and not suffix:
            labels = batch.padded["labels"]
            by_name["class_error"] = _class_error(read["logits"][-1], row4col[-1], labels)
        return by_name

    def _of_denoising(self, outputs: Outputs, batch: Batch, mean: Tensor) -> dict[str, Tensor]:
        """Return the losses of denoising queries, each of which knows its object."""
        meta = outputs["dn_meta"]
        known = meta.get("output_known_lbs_bboxes") if meta else None
        # A batch without objects has denoising outputs of no queries.
        if not (self.training and known and either(known, "logits", "pred_logits").shape[1]):
            zero = torch.zeros((), device=either(outputs, "logits", "pred_logits").device)
            names = [_NAMES[name] for name in ("class", "bbox", "giou", "xy", "hw")]
            layers = ["", *[f"_{k}" for k in range(len(before(outputs)))]]
            every = [*names, "cardinality_error"]
            return {f"{name}_dn{layer}": zero for layer in layers for name in every}
        logits = either(known, "logits", "pred_logits")
        images, queries, _ = logits.shape
        count, size = meta["num_dn_group"], meta["pad_size"] // meta["num_dn_group"]
        place = torch.arange(queries, device=logits.device)
        # The first queries of a group are the objects', in their order; the others are nobody's.
        at = torch.where(place < count * size, place % size, queries)
        objects = batch.padded["mask"].sum(dim=1, keepdim=True)
        at = torch.where(at < objects, at, -1)
        given = at.expand(1 + len(before(known)), images, queries)
        return self._of_layers(known, batch, mean.clamp(min=1) * count, True, 1, "_dn", given)

    @property
    def _costs(self) -> MatchingCosts | None:
        """The costs to match by; None if the matcher is to be asked."""
        matcher = self.matcher
        if not isinstance(matcher, HungarianMatcher) or matcher._costs.by_masks:
            return None
        hooks = matcher._forward_hooks or matcher._forward_pre_hooks
        as_ours = type(matcher).forward is HungarianMatcher.forward and not hooks
        return matcher._costs if as_ours else None

    def _wanted(self, name: str) -> bool:
        of = {"class": "labels", "mask": "masks", "dice": "masks"}.get(name, "boxes")
        return of in self.losses

    def _set_loss(self, losses: Sequence[str], dino: bool, groups: int) -> SetLoss:
        """Return what computes losses, by the settings as they are now."""
        settings = CriterionSettings(
            self.num_classes, self.class_loss, self.eos_coef, self.focal_alpha,
            "boxes" in losses, "masks" in losses, dino, groups, self._costs,
        )  # fmt: skip
        return set_loss(settings)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Take the only buffer that DETR's criterion has, if it says what this one has."""
        name = f"{prefix}empty_weight"
        came = state_dict.pop(name, None)
        if came is not None:
            expected = torch.ones(self.num_classes + 1)
            expected[-1] = self.eos_coef
            if came.shape != expected.shape or not torch.allclose(came.cpu().float(), expected):
                others[-1].append(
                    f"{name} is {came.tolist()}; expected {expected.tolist()}: num_classes="
                    f"{self.num_classes} and eos_coef={self.eos_coef} are given when it is made"
                )
        super()._load_from_state_dict(state_dict, prefix, *others)


@torch.no_grad()
def _objects_per_process(padded: Mapping[str, Tensor]) -> Tensor:
    """Return the number of objects, in several processes the mean of theirs."""
    mask = padded["mask"] & ~padded["ignore"] if "ignore" in padded else padded["mask"]
    count = mask.sum(dtype=torch.float32)
    total, processes = backend.all_reduce(torch.stack([count, torch.ones_like(count)]))
    return total / processes


@torch.no_grad()
def _cardinality_error(logits: Tensor, mask: Tensor, likely: bool) -> Tensor:
    """Return by how many the queries that say that there is something are off, `(L,)`.

    In RF-DETR these have a class that is `likely`, in others a largest logit that is not the last.
    """
    said = (logits > 0).any(-1) if likely else logits.argmax(-1) != logits.shape[-1] - 1
    said = said.sum(-1)
    return (said.float() - mask.sum(-1).float()).abs().mean(-1)


@torch.no_grad()
def _class_error(logits: Tensor, row4col: Tensor, labels: Tensor) -> Tensor:
    """Return the percentage of matched queries `(B, Q)` whose largest logit is another's."""
    matched = row4col >= 0
    true = labels.gather(1, row4col.clamp(min=0)) if labels.shape[1] else row4col
    right = (matched & (logits.argmax(-1) == true)).sum()
    return 100 - 100 * right / matched.sum().clamp(min=1)
