"""The criteria of models of `transformers` that predict classes and masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from hungarian_core import DetrLoss
from hungarian_core._options import one_of
from hungarian_core._settings import Configured, passing_on
from hungarian_core.losses.set_loss import SetLoss
from hungarian_torch._losses import _Module
from hungarian_torch._transformers import _checks
from hungarian_torch._transformers.layers import Settings, criterion, number_of, options_of
from hungarian_torch._transformers.masks import Comparison, of_objects


class _Architecture(NamedTuple):
    """What a configuration stands for."""

    class_cost: Callable[[Any], float]
    compared: Callable[[Any], Comparison]


class TransformersCriterion(Configured, _Module):
    """The criterion of a segmenter of `transformers`, in the place of its own.

    ``model.criterion = TransformersCriterion.for_model(model)`` is all. It serves MaskFormer,
    Mask2Former, OneFormer, EoMT, EoMT-DINOv3 and VideoMT, with the settings of the model's
    configuration. The losses, by the same names, are those of the model's own criterion; so are
    its parameters and buffers, hence checkpoints. Points at which masks are compared are drawn as
    there, so after the same seed they are the same. OneFormer's losses of masks are numbers, where
    its own have one axis.

    Args:
        model_type: ``"maskformer"``, ``"mask2former"``, ``"oneformer"``, ``"eomt"``,
            ``"eomt_dinov3"`` or ``"videomt"``.
        config: The configuration of the model, read at every call.
        **changes: Arguments of `DetrLoss` about classes and the solve, to set otherwise than the
            configuration does.

    Raises:
        ValueError: There is no such type.

    Examples:
        >>> from types import SimpleNamespace
        >>> config = SimpleNamespace(num_labels=2, no_object_weight=0.1, mask_weight=20.0,
        ...                          dice_weight=1.0)
        >>> criterion = ht.TransformersCriterion("maskformer", config)
        >>> masks = torch.tensor([[[[4.0, -4.0]], [[-4.0, 4.0]]]])  # (B, Q, H, W)
        >>> truth, labels = [torch.tensor([[[0.0, 1.0]]])], [torch.tensor([1])]
        >>> losses = criterion(masks, torch.zeros(1, 2, 3), truth, labels)
        >>> {name: round(x.item(), 4) for name, x in losses.items()}
        {'loss_mask': 0.0, 'loss_dice': 0.012, 'loss_cross_entropy': 1.0986}
    """

    @passing_on(
        DetrLoss, "num_classes", "backend", "reduction", "masks", "repeat", "groups",
        defaults=False,
    )  # fmt: skip
    def __init__(self, model_type: str, config: Any, **changes: Any) -> None:
        super().__init__()
        one_of("model_type", model_type, _ARCHITECTURES)
        self.model_type, self.config, self.changes = model_type, config, changes
        self.contrast: Callable[..., dict[str, Tensor]] | None = None

    @classmethod
    def for_model(cls, model: Any, **changes: Any) -> TransformersCriterion:
        """Return the criterion of a model, with `changes` as for the class.

        What OneFormer compares texts by stays: the parameter of its own criterion and its loss.

        Raises:
            ValueError: The model has no criterion, or one that is not served.
        """
        _checks.has_a_criterion(model)
        made = cls(model.config.model_type, model.config, **changes)
        theirs = model.criterion
        for name, x in theirs.named_buffers(recurse=False):
            made.register_buffer(name, x)
        for name, parameter in theirs.named_parameters(recurse=False):
            made.register_parameter(name, parameter)
        made.contrast = getattr(type(theirs), "loss_contrastive", None)
        return made

    def forward(
        self,
        masks_queries_logits: Tensor,
        class_queries_logits: Tensor,
        mask_labels: Sequence[Tensor],
        class_labels: Sequence[Tensor],
        auxiliary_predictions: Sequence[dict[str, Tensor]] | None = None,
        *,
        contrastive_queries_logits: Tensor | None = None,
        text_queries: Tensor | None = None,
        calculate_contrastive_loss: bool = False,
    ) -> dict[str, Tensor]:
        """Return the losses, without their weights; models call it."""
        loss = self._of_classes()
        targets = loss.pad_targets(
            [{"class_labels": x} for x in class_labels], like=class_queries_logits
        )
        count = number_of(targets)
        compared = _ARCHITECTURES[self.model_type].compared(self.config)
        weights = float(self.config.mask_weight), float(self.config.dice_weight)

        def of_layer(masks: Tensor, logits: Tensor, end: str) -> dict[str, Tensor]:
            size = targets["mask"].shape[1]
            found = loss(
                {"logits": logits}, targets, weights={"class": 1.0},
                extra_cost=compared.costs(mask_labels, masks, weights, size),
            )  # fmt: skip
            pairs = compared.losses(mask_labels, masks, found.assignment.row4col)
            mask, dice = of_objects(pairs, targets, count)
            # Models multiply what they get in place.
            classes = found.losses["class"].clone()
            named = {"loss_mask": mask, "loss_dice": dice, "loss_cross_entropy": classes}
            return {name + end: x for name, x in named.items()}

        losses = of_layer(masks_queries_logits, class_queries_logits, "")
        if calculate_contrastive_loss:
            assert self.contrast is not None
            losses |= self.contrast(self, contrastive_queries_logits, text_queries)
        for k, layer in enumerate(auxiliary_predictions or ()):
            masks, logits = layer["masks_queries_logits"], layer["class_queries_logits"]
            losses |= of_layer(masks, logits, f"_{k}")
        return losses

    def _of_classes(self) -> SetLoss:
        """Return the loss of classes, with what they are matched by."""
        settings: Settings = {
            "num_classes": self.config.num_labels,
            "class_cost": _ARCHITECTURES[self.model_type].class_cost(self.config),
            "no_object_weight": self.config.no_object_weight,
            "bbox_weight": 1.0,
            "giou_weight": 1.0,
            "class_weight": 1.0,
            "log": False,
            **self.changes,
        }
        loss = criterion(settings).loss
        assert isinstance(loss, SetLoss)
        return SetLoss(loss.terms[:1], **options_of(loss))

    __repr__ = nn.Module.__repr__


def _at_points(config: Any) -> Comparison:
    points = config.train_num_points
    return Comparison(
        "bce", points, points, config.oversample_ratio, config.importance_sample_ratio
    )


_MASK2FORMER = _Architecture(lambda config: config.class_weight, _at_points)
_ARCHITECTURES = {
    "maskformer": _Architecture(lambda config: 1.0, lambda config: Comparison("focal")),
    "mask2former": _MASK2FORMER,
    "oneformer": _MASK2FORMER,
    "eomt": _MASK2FORMER,
    "eomt_dinov3": _MASK2FORMER,
    "videomt": _MASK2FORMER,
}
