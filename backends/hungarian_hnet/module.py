"""The network in training, as Lightning sees it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor

from hungarian_core.hnet import metrics
from hungarian_hnet.batches import Batches
from hungarian_hnet.recipe import Recipe
from hungarian_torch import HNet

SCORE = "weighted_f"


class Training(lightning.LightningModule):
    """Trains `network` by `recipe`; logs losses and what it gets right on validation problems.

    Batches are distances, associations and masks, ``(distance, association, row_mask, col_mask)``.

    Args:
        network: The network.
        recipe: How to train it.
        batches: What it is trained on.
        passed: Says which part of the time for training has passed, from 0 to 1.
    """

    def __init__(
        self, network: HNet, recipe: Recipe, batches: Batches, passed: Callable[[], float]
    ) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.batches = batches
        self.passed = passed
        self.scores: dict[str, float] = {}
        self._losses: list[Tensor] = []
        self._found: list[tuple[Tensor, ...]] = []

    def training_step(self, batch: tuple[Tensor | None, ...], _: int) -> Tensor:
        """Return the loss of a batch."""
        loss = self._loss(batch)
        self._losses.append(loss.detach())
        return loss

    def validation_step(self, batch: tuple[Tensor | None, ...], _: int) -> None:
        """Keep what the network says."""
        distance, association, *masks = batch
        found = self.network(distance, *masks)
        self._found.append((self._loss(batch), association, found))

    def on_validation_epoch_end(self) -> None:
        """Log the losses, and what the network gets right."""
        if self._losses:  # of the epoch, or of what was left of it after an interruption
            # Lightning's own mean over an epoch takes longer than a step of this network.
            self.log("train_loss", torch.stack(self._losses).mean())
        losses, true, found = zip(*self._found, strict=True)
        sizes = torch.tensor([float(len(x)) for x in true])
        self.scores = {"val_loss": float(torch.stack(losses).cpu() @ sizes / sizes.sum())}
        matrices = [torch.cat(x).numpy(force=True) for x in (true, found)]
        self.scores[SCORE] = metrics.weighted_f_score(*matrices)
        self.scores["accuracy"] = metrics.exact(*matrices)
        self.log_dict(self.scores, prog_bar=True)
        self._losses.clear()
        self._found.clear()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the scores and the place in the epoch with the weights."""
        checkpoint["scores"] = self.scores
        checkpoint["batches"] = self.batches.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from the place in the epoch.

        Lightning (2.6) does so for a checkpoint within an epoch, not for one at its end.
        """
        self.scores = checkpoint["scores"]
        self.batches.load_state_dict(checkpoint["batches"])

    def _loss(self, batch: tuple[Tensor | None, ...]) -> Tensor:
        distance, association, *masks = batch
        return self.network.loss(distance, association, *masks)

    def configure_optimizers(self) -> Any:
        """Return AdamW and the schedule of its rate, which moves on by steps."""
        recipe = self.recipe
        optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _rate(self, step: int) -> float:
        """Return the part of the learning rate that a step takes."""
        recipe = self.recipe
        warm = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
        if recipe.schedule == "constant":
            return warm
        steps = recipe.epochs * len(self.batches)
        passed = min(1.0, max(step / steps, self.passed()))
        return warm * (1 + math.cos(math.pi * passed)) / 2
