"""The criterion of DETR and its family by its own names: a dictionary of losses without weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from hungarian_core import Assignment, _checks
from hungarian_core._settings import Configured
from hungarian_core.terms import Boxes, Classes, Masks, Pairs, Term
from hungarian_core.terms._checks import brief
from hungarian_core.terms.class_losses import ClassLossName
from hungarian_torch._losses import SetLoss, _Module
from hungarian_torch._matcher import CLASS_COSTS, HungarianMatcher, either

Outputs = Mapping[str, Any]
Targets = Sequence[Mapping[str, Tensor]]
Matcher = Callable[[Outputs, Targets], Sequence[tuple[Any, Any]]]

_LOSSES = ("labels", "boxes", "masks", "cardinality")
_NAMES = {
    "class": "loss_ce", "bbox": "loss_bbox", "giou": "loss_giou", "mask": "loss_mask",
    "dice": "loss_dice", "xy": "loss_xy", "hw": "loss_hw",
}  # fmt: skip


class SetCriterion(Configured, _Module):
    """The criterion of DETR and of those who came after, to put in the place of theirs.

    It returns the losses of theirs by their names and without weights; what they are weighed by is
    the affair of `weight_dict`, as there. All decoder layers are matched in one solve.

    Args:
        num_classes: The number of classes, without "no object".
        matcher: A `HungarianMatcher`, whose costs are matched by; by default that of DETR, or of
            Deformable DETR for a sigmoid. Any other callable ``(outputs, targets) -> [(queries,
            objects), ...]``, a subclass with a `forward` of its own too, is asked for each layer,
            with ``group_detr=`` where there are groups.
        weight_dict: The weights by the names of the losses. It is kept as an attribute, for the
            loop that adds up the losses.
        eos_coef: The weight of "no object" in the cross entropy.
        focal_alpha: The alpha of the sigmoid focal loss of Deformable DETR, which takes the place
            of the cross entropy then.
        losses: Which losses there are to be, of ``"labels"``, ``"boxes"``, ``"masks"`` and
            ``"cardinality"``. Masks are those of the last layer, brought to the size of the truth.
        class_loss: Another loss of classes, such as ``"ia_bce"`` of RF-DETR: see
            `hungarian_core.terms.Classes`.
        group_detr: Into how many groups of equal size queries fall while it trains, as in Group
            DETR, LW-DETR and RF-DETR.
        enc_classes: Whether ``"enc_outputs"``, where they are one mapping, have classes as all
            others, as in LW-DETR and RF-DETR, or only tell objects from nothing, as in Deformable
            DETR. By default they have with ``class_loss="ia_bce"`` or more than one group.

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
    ) -> None:
        super().__init__()
        for name in losses:
            _checks.one_of("a loss", name, _LOSSES)
        if not set(losses) - {"cardinality"}:
            raise ValueError(f"losses is {[*losses]}; expected labels, boxes or masks among them")
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
        costs = self._own
        if costs is not None and (costs.mask_cost or costs.dice_cost):
            raise ValueError(
                "the matcher has costs of masks, which this criterion has not; expected "
                "DetrLoss.preset('mask2former', ...) or TransformersCriterion"
            )
        if costs is not None and (costs.class_cost_form == "softmax") != self.softmax:
            raise ValueError(
                f"the matcher has class_cost_form={costs.class_cost_form!r}, and the loss of "
                f"classes is {class_loss!r}; expected "
                + ("'softmax'" if self.softmax else "'sigmoid' or 'logsigmoid'")
            )
        self.weight_dict = {} if weight_dict is None else dict(weight_dict)
        self.eos_coef, self.losses = _checks.weight("eos_coef", eos_coef), tuple(losses)
        self.focal_alpha = (
            0.25 if focal_alpha is None else _checks.number("focal_alpha", focal_alpha)
        )
        self.class_loss = class_loss
        self.group_detr = _checks.whole("group_detr", group_detr, 1, "a positive integer")
        if enc_classes is None:
            enc_classes = class_loss == "ia_bce" or self.group_detr > 1
        self.enc_classes = _checks.flag("enc_classes", enc_classes)
        self._made: dict[Any, SetLoss] = {}
        self._criterion("plain", dino=False, groups=1)  # which checks the options of its terms

    @torch.compiler.disable  # its matching is outside of any program
    def forward(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Return the losses of a batch by name.

        Args:
            outputs: ``"pred_logits"`` (or ``"logits"``) `(B, Q, C)`, C one more than the classes
                for a softmax; ``"pred_boxes"`` (or ``"boxes"``) `(B, Q, 4)` in cxcywh, relative to
                the image; ``"pred_masks"`` (or ``"masks"``) `(B, Q, H, W)`, logits. Where they
                are, too: ``"aux_outputs"``, a list of the same for the layers before;
                ``"enc_outputs"``, of proposals that only tell objects from nothing, or a list of
                outputs with classes;
                ``"interm_outputs"``, of proposals with classes; ``"dn_meta"`` of DINO, with
                ``"pad_size"``, ``"num_dn_group"`` and ``"output_known_lbs_bboxes"``, the outputs of
                denoising queries.
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
        groups = self.group_detr if self.training else 1
        dino = "dn_meta" in outputs
        padded = self._criterion("pad", dino, groups).pad_targets(
            targets, like=either(outputs, "logits", "pred_logits")
        )
        found = self._of_layers(outputs, targets, padded, dino, groups)
        if "enc_outputs" in outputs:
            given = outputs["enc_outputs"]
            if not isinstance(given, Mapping):
                for k, last in enumerate(given):
                    end = f"_enc_{k}"
                    found |= self._of_layers(_single(last), targets, padded, dino, groups, end)
            elif self.enc_classes:
                found |= self._of_layers(_single(given), targets, padded, dino, groups, "_enc")
            else:
                objects = {**padded, "labels": torch.zeros_like(padded["labels"])}
                bare = [{**t, _key(t): torch.zeros_like(t[_key(t)])} for t in targets]
                found |= self._of_layers(_single(given), bare, objects, dino, groups, "_enc")
        if "interm_outputs" in outputs:
            last = _single(outputs["interm_outputs"])
            found |= self._of_layers(last, targets, padded, dino, groups, "_interm")
        if dino:
            found |= self._of_denoising(outputs, targets, padded)
        return found

    def _of_layers(
        self,
        outputs: Outputs,
        targets: Targets,
        padded: dict[str, Tensor],
        dino: bool,
        groups: int,
        suffix: str = "",
        assignment: Tensor | Assignment | None = None,
    ) -> dict[str, Tensor]:
        """Return the losses of outputs and of their layers before, with a suffix of the names."""
        aux = list(outputs.get("aux_outputs", ()))
        layers = [*aux, outputs]
        read = {"logits": torch.stack([either(x, "logits", "pred_logits") for x in layers])}
        if "boxes" in self.losses or self._costs.bbox_cost or self._costs.giou_cost:
            read["boxes"] = torch.stack([either(x, "boxes", "pred_boxes") for x in layers])
        masks = "masks" in self.losses and not suffix
        if masks:  # of the last layer, as in DETR: those before cost too much
            read["masks"] = either(outputs, "masks", "pred_masks")
        if assignment is None and self._own is None:
            assignment = self._foreign(layers, targets, read["logits"].shape[:3], groups)
        criterion = self._criterion("masks" if masks else "plain", dino, groups)
        out = criterion(read, padded, assignment=assignment)
        row4col = out.assignment
        if isinstance(row4col, Assignment):
            row4col = row4col.row4col
        row4col = row4col.reshape(read["logits"].shape[:3])
        found = {_NAMES[name]: x for name, x in out.losses.items() if self._wanted(name)}
        if "cardinality" in self.losses:
            found["cardinality_error"] = _cardinality_error(read["logits"], padded["mask"])
        names = [f"{suffix}_{k}" for k in range(len(aux))]
        by_name: dict[str, Tensor] = {}
        for k, end in enumerate((*names, suffix)):
            for name, x in found.items():
                if not (name in ("loss_mask", "loss_dice") and k < len(aux)):
                    by_name[f"{name}{end}"] = x[k]
        if "labels" in self.losses and not suffix:
            by_name["class_error"] = _class_error(read["logits"][-1], row4col[-1], padded["labels"])
        return by_name

    def _of_denoising(
        self, outputs: Outputs, targets: Targets, padded: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the losses of denoising queries, each of which knows its object."""
        meta = outputs["dn_meta"]
        known = meta.get("output_known_lbs_bboxes") if meta else None
        # A batch without objects has denoising outputs of no queries.
        if not (self.training and known and either(known, "logits", "pred_logits").shape[1]):
            zero = torch.zeros((), device=either(outputs, "logits", "pred_logits").device)
            names = [_NAMES[name] for name in ("class", "bbox", "giou", "xy", "hw")]
            layers = ["", *[f"_{k}" for k in range(len(outputs.get("aux_outputs", ())))]]
            every = [*names, "cardinality_error"]
            return {f"{name}_dn{layer}": zero for layer in layers for name in every}
        logits = either(known, "logits", "pred_logits")
        images, queries, _ = logits.shape
        count, size = meta["num_dn_group"], meta["pad_size"] // meta["num_dn_group"]
        place = torch.arange(queries, device=logits.device)
        # The first queries of a group are the objects', in their order; the others are nobody's.
        at = torch.where(place < count * size, place % size, queries)
        number = padded["mask"].sum(dim=1, keepdim=True)
        at = torch.where(at < number, at, -1)
        given = at.expand(1 + len(known.get("aux_outputs", ())), images, queries)
        return self._of_layers(known, targets, padded, True, 1, "_dn", given)

    def _foreign(
        self, layers: list[Outputs], targets: Targets, shape: Any, groups: int
    ) -> Assignment:
        """Return the matchings by somebody else's matcher, which is asked layer by layer."""
        device = either(layers[0], "logits", "pred_logits").device
        row4col = torch.full(shape, -1, device=device)
        in_groups: Any = {"group_detr": groups} if groups > 1 else {}
        for layer, outputs in enumerate(layers):
            alone = {name: x for name, x in outputs.items() if name not in _NESTED}
            for image, pair in enumerate(self.matcher(alone, targets, **in_groups)):
                queries, objects = (torch.as_tensor(x, device=device).long() for x in pair)
                row4col[layer, image, queries] = objects
        # As one that was solved: its losses are divided by objects, matched or not.
        if groups > 1:
            row4col = row4col.unflatten(-1, (groups, -1))
        cost = torch.zeros(row4col.shape[:-1], device=device)
        return Assignment(row4col, row4col, cost, cost, cost)

    @property
    def _own(self) -> HungarianMatcher | None:
        """The matcher whose costs are matched by, without asking it; None for one to be asked."""
        matcher = self.matcher
        if isinstance(matcher, HungarianMatcher):
            return matcher if type(matcher).forward is HungarianMatcher.forward else None
        return None

    @property
    def _costs(self) -> HungarianMatcher:
        """The matcher, or one that stands for a matcher to be asked."""
        own = self._own
        return _NO_COSTS if own is None else own

    def _wanted(self, name: str) -> bool:
        of = {"class": "labels", "mask": "masks", "dice": "masks"}.get(name, "boxes")
        return of in self.losses

    def _criterion(self, kind: str, dino: bool, groups: int) -> SetLoss:
        """Return the criterion with the terms of a kind of call."""
        key = kind, dino, groups
        if key in self._made:
            return self._made[key]
        costs, own = self._costs, self._own
        cost = None if own is None else CLASS_COSTS[own.class_cost_form]
        terms: list[Term] = [
            Classes(
                self.num_classes, loss=self.class_loss, cost_weight=costs.class_cost,
                no_object_weight=self.eos_coef, alpha=self.focal_alpha, cost_alpha=costs.alpha,
                cost_gamma=costs.gamma, cost=cost,
            )
        ]  # fmt: skip
        if "boxes" in self.losses or costs.bbox_cost or costs.giou_cost:
            terms.append(
                Boxes(
                    bbox_weight=1.0, giou_weight=1.0, bbox_cost=costs.bbox_cost,
                    giou_cost=costs.giou_cost,
                )
            )  # fmt: skip
            if dino:
                terms += [
                    Pairs(name, None, part, on="boxes") for name, part in (("xy", _xy), ("hw", _hw))
                ]
        if "masks" in self.losses and kind != "plain":
            terms.append(Masks("focal", resize="bilinear"))
        self._made[key] = SetLoss(terms, groups=groups, solver=costs.solver, log=False)
        return self._made[key]


_NESTED = ("aux_outputs", "enc_outputs", "interm_outputs", "dn_meta")
_NO_COSTS = HungarianMatcher(1.0, 0.0, 0.0)


def _xy(xp: Any, truth: Tensor, prediction: Tensor) -> Tensor:
    """The distance of centres, for logging."""
    return xp.sum(xp.abs(truth - prediction.detach())[..., :2], axis=-1)


def _hw(xp: Any, truth: Tensor, prediction: Tensor) -> Tensor:
    """The distance of sides, for logging."""
    return xp.sum(xp.abs(truth - prediction.detach())[..., 2:], axis=-1)


def _key(target: Mapping[str, Tensor]) -> str:
    return "labels" if "labels" in target else "class_labels"


def _single(outputs: Any) -> Outputs:
    """Return the outputs of proposals without what is nested in them."""
    if not isinstance(outputs, Mapping):
        raise ValueError(
            f"outputs of proposals are {brief(outputs)}; expected a mapping with 'pred_logits' and "
            "'pred_boxes'"
        )
    return {name: x for name, x in outputs.items() if name not in _NESTED}


@torch.no_grad()
def _cardinality_error(logits: Tensor, mask: Tensor) -> Tensor:
    """Return by how many the queries whose largest logit is not the last are off, `(L,)`."""
    said = (logits.argmax(-1) != logits.shape[-1] - 1).sum(-1)
    return (said.float() - mask.sum(-1).float()).abs().mean(-1)


@torch.no_grad()
def _class_error(logits: Tensor, row4col: Tensor, labels: Tensor) -> Tensor:
    """Return the percentage of matched queries `(B, Q)` whose largest logit is another's."""
    matched = row4col >= 0
    true = labels.gather(1, row4col.clamp(min=0)) if labels.shape[1] else row4col
    right = (matched & (logits.argmax(-1) == true)).sum()
    return 100 - 100 * right / matched.sum().clamp(min=1)
