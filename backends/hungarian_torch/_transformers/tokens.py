"""What Grounding DINO hands its loss: which tokens of a text each query stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hungarian_core.losses.set_loss import SetLoss
from hungarian_core.terms.classes import Classes
from hungarian_core.terms.tokens import Tokens
from hungarian_torch._transformers.layers import (
    Criterion,
    Labels,
    Result,
    Settings,
    auxiliary,
    before_last,
    by_ends,
    criterion,
    joined,
    known,
    options_of,
)


def evaluate(
    of_config: Callable[[Any], Settings],
    changes: Settings,
    logits: Tensor,
    labels: Labels,
    device: Any,
    pred_boxes: Tensor,
    config: Any,
    label_maps: Sequence[Tensor],
    text_mask: Tensor,
    outputs_class: Any = None,
    outputs_coord: Any = None,
    encoder_logits: Any = None,
    encoder_pred_boxes: Any = None,
    **others: Any,
) -> Result:
    """Evaluate Grounding DINO and MM-Grounding-DINO."""
    between = before_last(config, outputs_class, outputs_coord)
    layers = by_ends((logits, pred_boxes), between)
    if config.two_stage:
        layers["_enc"] = encoder_logits, encoder_pred_boxes
    loss = _of_tokens({**of_config(config), **changes})
    there = text_mask[:, 0]
    # Behind the longest text there is nothing: most of what a model has room for.
    length = max(
        int((there.any(0) * torch.arange(1, 1 + there.shape[1]).to(there.device)).max()), 1
    )
    targets = [
        {**known(t), "token_maps": maps[t["class_labels"], :length]}
        for t, maps in zip(labels, label_maps, strict=True)
    ]
    outputs = joined([(x[..., :length], y) for x, y in layers.values()], "logits", "boxes")
    outputs["token_mask"] = there[:, :length]
    total, reported = loss(outputs, loss.loss.pad_targets(targets, like=logits), [*layers])
    text = {"label_maps": label_maps, "text_mask": text_mask}
    return total, reported, auxiliary(config, between, "logits", "pred_boxes", **text)


def _of_tokens(settings: Settings) -> Criterion:
    """Return the criterion with tokens in the place of the classes."""
    made = criterion(settings)
    assert isinstance(made.loss, SetLoss)
    classes, boxes = made.loss.terms
    assert isinstance(classes, Classes)
    cost: Any = classes.cost
    tokens = Tokens(
        loss=classes.loss, cost=cost, cost_weight=classes.cost_weight,
        alpha=classes.alpha, gamma=classes.gamma, cost_alpha=classes.cost_alpha,
        cost_gamma=classes.cost_gamma,
    )  # fmt: skip
    weights, names = dict(made.weights), dict(made.names)
    weights["token"], names = weights.pop("class"), {"token": names.pop("class"), **names}
    return Criterion(SetLoss([tokens, boxes], **options_of(made.loss)), weights, names)
