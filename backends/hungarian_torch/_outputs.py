"""What the criteria of DETR and its family read: outputs and targets by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hungarian_core import _checks
from hungarian_core.terms._checks import brief

Outputs = Mapping[str, Any]
Targets = Sequence[Mapping[str, Tensor]]
_NESTED = ("aux_outputs", "auxiliary_outputs", "enc_outputs", "interm_outputs", "dn_meta")


def either(outputs: Outputs, name: str, other: str) -> Tensor:
    """Return an output, which may be called as in DETR."""
    found = outputs.get(name, outputs.get(other)) if isinstance(outputs, Mapping) else None
    if found is None:
        came: Any = sorted(map(str, outputs)) if isinstance(outputs, Mapping) else type(outputs)
        raise ValueError(f"outputs has {came}; expected {name!r} or {other!r} among the keys")
    return found


def masks_of(outputs: Outputs) -> Tensor:
    """Return the masks `(B, Q, H, W)`, which RF-DETR says by features while it trains."""
    masks: Any = either(outputs, "masks", "pred_masks")
    if isinstance(masks, Mapping):
        features, queries = masks["spatial_features"], masks["query_features"]
        masks = torch.einsum("bchw,bqc->bqhw", features, queries) + masks["bias"]
    return masks


def point_ratio(ratio: int | None) -> int | None:
    """Check for how many pixels of a mask there is to be a point."""
    if ratio is None:
        return None
    return _checks.whole("mask_point_sample_ratio", ratio, 1, "a positive integer, or None")


def check_targets(targets: Any) -> None:
    """Check that there is a list with a mapping for each image."""
    if not isinstance(targets, (list, tuple)) or not all(isinstance(x, Mapping) for x in targets):
        raise TypeError(f"targets is {brief(targets)}; expected a list with one mapping per image")


def _key(target: Mapping[str, Tensor]) -> str:
    return "labels" if "labels" in target else "class_labels"


def single(outputs: Any) -> Outputs:
    """Return outputs without what is nested in them."""
    if not isinstance(outputs, Mapping):
        raise ValueError(
            f"outputs of proposals are {brief(outputs)}; expected a mapping with 'pred_logits' and "
            "'pred_boxes'"
        )
    return {name: x for name, x in outputs.items() if name not in _NESTED}


def before(outputs: Outputs) -> list[Outputs]:
    """Return the outputs of the layers before."""
    layers = outputs.get("aux_outputs")
    layers = outputs.get("auxiliary_outputs") if layers is None else layers
    return [] if layers is None else [*layers]


def stacked(layers: Sequence[Outputs], name: str, other: str) -> Tensor:
    """Return an output of all layers, the last one at the end."""
    each = [either(x, name, other) for x in layers]
    shapes = [tuple(x.shape) for x in each]
    if len({*shapes}) > 1:
        raise ValueError(
            f"the {name} of the layers have the shapes {shapes}; expected one shape for all"
        )
    return torch.stack(each)


class Batch(NamedTuple):
    """The objects of a batch, as they came and padded."""

    targets: Targets
    padded: dict[str, Tensor]

    def without_classes(self) -> Batch:
        """Return the same objects as of one class."""
        bare = [{**t, _key(t): torch.zeros_like(t[_key(t)])} for t in self.targets]
        return Batch(bare, {**self.padded, "labels": torch.zeros_like(self.padded["labels"])})
