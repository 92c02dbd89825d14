"""Train the detector in PyTorch."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from coco import evaluated
from detector import RECIPES, Detector, Recipe, total
from torch import nn

import hungarian_core as hc

if TYPE_CHECKING:
    from training import Job

# As DETR is trained.
CLIP = 0.1  # of the norm of gradients
DECAY = 1e-4  # of weights


class Trainer:
    """The detector of a job, its optimiser, and how far both are.

    Args:
        job: What to do.
        classes: The number of classes.
        steps: Of all the training.
    """

    def __init__(self, job: Job, classes: int, steps: int) -> None:
        self.recipe = RECIPES[job.loss]
        self.criterion = self.recipe.make(classes, job.class_weight)
        torch.manual_seed(job.seed)
        self.model = Detector(classes, self.recipe)
        self.optimizer, self.schedule = one_cycle(self.model.parameters(), job.learning_rate, steps)

    def step(
        self,
        images: torch.Tensor,
        targets: hc.Targets,
        noised: hc.denoising.DenoisingQueries | None,
    ) -> float | None:
        """Learn from a batch, and return the seconds that the loss took, with its gradient."""
        outputs = self.model(images, self.recipe.groups, noised)
        before = time.perf_counter()
        given = slopes(self.criterion, outputs, targets, self.recipe, noised)
        seconds = time.perf_counter() - before
        self.optimizer.zero_grad()
        torch.autograd.backward(outputs, given)
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        self.schedule.step()
        return seconds

    def detect(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits and boxes of images, as the detector is now."""
        return evaluated(self.model, images)

    def states(self) -> dict[str, Any]:
        """Return what a checkpoint is to hold; `"model"` is the state of a `Detector`."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def restore(self, states: dict[str, Any]) -> None:
        """Go on from the states of a checkpoint."""
        for name, part in self._parts.items():
            part.load_state_dict(states[name])

    @functools.cached_property
    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}


def one_cycle(
    parameters: Iterable[torch.Tensor], learning_rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW, and the schedule of its learning rate and momentum up to the last step."""
    optimizer = torch.optim.AdamW(parameters, learning_rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps, pct_start=0.1)
    return optimizer, schedule


def slopes(
    criterion: Any,
    outputs: Sequence[torch.Tensor],
    targets: hc.Targets,
    recipe: Recipe,
    noised: hc.denoising.DenoisingQueries | None,
) -> tuple[torch.Tensor, ...]:
    """Return the gradient of the loss in the detector's outputs, apart from the detector's own."""
    outputs = [x.detach().requires_grad_() for x in outputs]
    return torch.autograd.grad(total(torch, criterion, outputs, targets, recipe, noised), outputs)
