"""What models say of their layers, evaluated by one criterion, and what they report of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hungarian_core import DetrLoss
from hungarian_core.losses.pairs import per_worker
from hungarian_core.losses.results import SetLosses
from hungarian_core.losses.set_loss import SetLoss
from hungarian_core.losses.union import UnionLoss
from hungarian_torch._backend import backend

Settings = dict[str, Any]
Labels = Sequence[Mapping[str, Tensor]]
Outputs = dict[str, Tensor]
Result = tuple[Tensor, dict[str, Tensor], list[dict[str, Any]] | None]

_WEIGHTS = {"class": "class_weight", "bbox": "bbox_weight", "giou": "giou_weight"}
_OPTIONS = ("denominator", "repeat", "groups", "nan", "solver", "tile_bytes", "log", "backend")


class Criterion(NamedTuple):
    """A loss whose terms weigh 1, their weights, and how a model reports them."""

    loss: SetLoss | UnionLoss
    weights: dict[str, float]
    names: dict[str, str]  # in `loss_dict`, of each loss
    weighted: bool = False  # `loss_dict` has the losses times their weights

    def __call__(
        self,
        outputs: Outputs,
        targets: Any,
        ends: Sequence[str | None],
        order: Sequence[str] | None = None,
        only: Mapping[str, Collection[str]] | None = None,
        **options: Any,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Evaluate and report; `options` are more arguments of the criterion."""
        return self.report(self.evaluate(outputs, targets, **options), ends, order, only)

    def pad_targets(self, labels: Labels, like: Tensor) -> dict[str, Tensor]:
        """Return the labels of images, as a model has them, padded."""
        return self.loss.pad_targets([known(t) for t in labels], like=like)

    def evaluate(self, outputs: Outputs, targets: Any, **options: Any) -> SetLosses:
        """Return the losses, each with the weight 1."""
        return self.loss(outputs, targets, weights=dict.fromkeys(self.weights, 1.0), **options)

    def report(
        self,
        found: SetLosses,
        ends: Sequence[str | None],
        order: Sequence[str] | None = None,
        only: Mapping[str, Collection[str]] | None = None,
        more: Mapping[str, Mapping[str, Tensor]] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of all losses that are reported, and `loss_dict`.

        Args:
            found: The losses, of layers.
            ends: What the names of the layers' losses end in; None for a layer without a share.
            order: The same in the order of `loss_dict`, if it is another.
            only: Of losses that some layers lack, the ends of those that have them.
            more: What `loss_dict` has of a layer behind its losses, by the layer's end.
        """
        places = {end: k for k, end in enumerate(ends) if end is not None}
        only, more = only or {}, more or {}
        total, shown = [], {}
        for name, losses in found.losses.items():
            weighted = self.weights[name] * losses
            at = [k for end, k in places.items() if end in only.get(name, places)]
            total.append((weighted if len(at) == len(ends) else weighted[at]).sum())
            shown[name] = (weighted if self.weighted else losses).unbind()
        if "cardinality_error" in found.logs and not self.weighted:
            shown["cardinality_error"] = found.logs["cardinality_error"].unbind()
        names = {name: x for name, x in self.names.items() if name in shown}
        reported: dict[str, Tensor] = {}
        for end in order or places:
            reported |= {
                names[name] + end: shown[name][places[end]]
                for name in names
                if end in only.get(name, places)
            }
            reported |= more.get(end, {})
        return torch.stack(total).sum(), reported


NAMES = {
    "class": "loss_ce", "bbox": "loss_bbox", "giou": "loss_giou",
    "cardinality_error": "cardinality_error",
}  # fmt: skip


def criterion(
    settings: Settings, names: dict[str, str] = NAMES, weighted: bool = False
) -> Criterion:
    """Return the criterion of a `DetrLoss` with these settings."""
    of_loss = {**settings, **dict.fromkeys(_WEIGHTS.values(), 1.0)}
    loss = DetrLoss(**of_loss, backend=backend).criterion
    weights = {name: settings[setting] for name, setting in _WEIGHTS.items()}
    for term in loss.terms[2:]:
        weights |= term.weights
    return Criterion(loss, weights, names, weighted)


def options_of(loss: SetLoss) -> dict[str, Any]:
    """Return the options that a criterion of other terms takes over."""
    return {name: getattr(loss, name) for name in _OPTIONS}


def number_of(targets: Mapping[str, Tensor], over_all: bool = False) -> Tensor:
    """Return the number of true objects that count, the mean over processes, at least 1.

    `over_all`: it is at least 1 in all processes together, as for `per_worker`.
    """
    there = targets["mask"]
    if "ignore" in targets:
        there = there & ~targets["ignore"]
    count = there.sum(dtype=torch.float32)[None]
    number, _ = per_worker(count, None, backend, backend.namespace(count), published=not over_all)
    return number[0]


def before_last(config: Any, *outputs: Any) -> list[tuple[Tensor, ...]]:
    """Return the outputs of the decoder layers before the last, where a model trains them."""
    return [*zip(*(x[:-1] for x in outputs), strict=True)] if config.auxiliary_loss else []


def by_ends(
    last: tuple[Tensor, ...], between: Sequence[tuple[Tensor, ...]]
) -> dict[str, tuple[Tensor, ...]]:
    """Return the outputs of layers by what their names in `loss_dict` end in, the last first."""
    return {"": last, **dict(zip(numbered("_", len(between)), between, strict=True))}


def auxiliary(
    config: Any, between: Sequence[tuple[Tensor, ...]], *names: str, **more: Any
) -> list[dict[str, Any]] | None:
    """Return what a model returns of the layers before the last: outputs by name, and `more`."""
    if not config.auxiliary_loss:
        return None
    return [{**dict(zip(names, x, strict=True)), **more} for x in between]


def known(target: Mapping[str, Tensor], *more: str) -> dict[str, Tensor]:
    """Return what is read of the labels of an image."""
    names = ("class_labels", "boxes", "weights", "ignore", *more)
    return {name: target[name] for name in names if name in target}


def joined(layers: Sequence[tuple[Tensor, ...]], *names: str) -> Outputs:
    """Return the outputs of layers, of each layer a tuple, as the criterion takes them."""
    return {name: torch.stack(x) for name, x in zip(names, zip(*layers, strict=True), strict=True)}


def numbered(prefix: str, count: int) -> list[str]:
    """Return the ends of the names of so many layers."""
    return [f"{prefix}{k}" for k in range(count)]
