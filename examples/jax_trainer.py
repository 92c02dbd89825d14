"""Train the detector in JAX: each step, with the loss and its matching, is one compiled program.

The layers and their initial values are those of `detector.Detector`, the schedule is that of
`torch_trainer`, and a checkpoint holds the detector in the form of PyTorch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from detector import RECIPES, Detector, Operations, detect, total
from jax_layers import Arrays, Layers
from torch_trainer import CLIP, DECAY, one_cycle

import hungarian_core as hc

if TYPE_CHECKING:
    from training import Job

# Of the compiler: one core, as PyTorch takes; the runs are shared out instead.
OPTIONS: dict[str, Any] = {"xla_cpu_multi_thread_eigen": False}


class State(NamedTuple):
    """What a step changes.

    Attributes:
        parameters: By their names in `Detector`.
        buffers: Likewise; the running statistics of batches.
        optimizer: Of optax.
    """

    parameters: Arrays
    buffers: Arrays
    optimizer: Any


class Trainer:
    """The detector of a job, its optimiser, and how far both are: see `torch_trainer.Trainer`."""

    def __init__(self, job: Job, classes: int, steps: int) -> None:
        self.job, self.classes, self.taken = job, classes, 0
        self.take, self.predict = programs(job.loss, classes, job.class_weight)
        self.rates = rates(job.learning_rate, steps)
        torch.manual_seed(job.seed)
        self._begin(Detector(classes, RECIPES[job.loss]))

    def step(
        self,
        images: torch.Tensor,
        targets: hc.Targets,
        noised: hc.denoising.DenoisingQueries | None,
    ) -> float | None:
        """Learn from a batch; within the program, the seconds of the loss cannot be told."""
        batch = jax.tree.map(jnp.asarray, (images, targets, noised))
        self.state = self.take(self.state, self.rates[self.taken], *batch)
        self.taken += 1
        jax.block_until_ready(self.state)  # as the steps are timed
        return None

    def detect(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits and boxes of images, as the detector is now."""
        logits, boxes = self.predict(self.state, jnp.asarray(images))
        return _tensor(logits), _tensor(boxes)

    def states(self) -> dict[str, Any]:
        """Return what a checkpoint is to hold; `"model"` is the state of a `Detector`."""
        arrays = self.state.parameters | self.state.buffers
        leaves = [_tensor(x) for x in jax.tree.leaves(self.state.optimizer)]
        model = {name: _tensor(x) for name, x in arrays.items()}
        return {"model": model, "optimizer": leaves, "taken": self.taken}

    def restore(self, states: dict[str, Any]) -> None:
        """Go on from the states of a checkpoint."""
        model = Detector(self.classes, RECIPES[self.job.loss])
        model.load_state_dict(states["model"])
        self._begin(model)
        leaves = [jnp.asarray(x) for x in states["optimizer"]]
        optimizer = jax.tree.unflatten(jax.tree.structure(self.state.optimizer), leaves)
        self.state, self.taken = self.state._replace(optimizer=optimizer), states["taken"]

    def _begin(self, model: Detector) -> None:
        """Take over a detector, with the optimiser at its start."""
        parameters = {name: _array(x) for name, x in model.named_parameters()}
        buffers = {name: _array(x) for name, x in model.named_buffers()}
        self.state = State(parameters, buffers, jax.jit(adamw(0.0, 0.0).init)(parameters))


@functools.lru_cache
def programs(
    loss: str, classes: int, class_weight: float
) -> tuple[Callable[..., State], Callable[..., tuple[jax.Array, jax.Array]]]:
    """Return the programs of a step and of the detector in evaluation.

    Seeds share them, so that runs of one process are not compiled anew.
    """
    recipe = RECIPES[loss]
    criterion, module = recipe.make(classes, class_weight), Detector(classes, recipe)

    def take(
        state: State,
        rate: tuple[float, float],
        images: jax.Array,
        targets: hc.Targets,
        noised: hc.denoising.DenoisingQueries | None,
    ) -> State:
        def objective(parameters: Arrays) -> tuple[jax.Array, Arrays]:
            layers = Layers(module, parameters | state.buffers, training=True)
            outputs = detect(layers, JAX, images, recipe.groups, noised)
            return total(jnp, criterion, outputs, targets, recipe, noised), layers.updates

        slopes, changed = jax.grad(objective, has_aux=True)(state.parameters)
        updates, optimizer = adamw(*rate).update(slopes, state.optimizer, state.parameters)
        parameters = optax.apply_updates(state.parameters, updates)
        return State(parameters, state.buffers | changed, optimizer)

    def predict(state: State, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        layers = Layers(module, state.parameters | state.buffers, training=False)
        logits, boxes = detect(layers, JAX, images)
        return logits, boxes

    return jax.jit(take, compiler_options=OPTIONS), jax.jit(predict, compiler_options=OPTIONS)


def adamw(rate: Any, momentum: Any) -> optax.GradientTransformation:
    """Return the optimiser of PyTorch at a step: gradients are clipped to a norm, then AdamW."""

    def clipped(slopes: Arrays, _: Any) -> Arrays:
        # As `clip_grad_norm_` does; that of optax differs by the small number.
        share = jnp.minimum(CLIP / (optax.tree.norm(slopes) + 1e-6), 1)
        return jax.tree.map(lambda x: x * share, slopes)

    return optax.chain(optax.stateless(clipped), optax.adamw(rate, b1=momentum, weight_decay=DECAY))


def rates(learning_rate: float, steps: int) -> list[tuple[float, float]]:
    """Return the learning rate and momentum of each step, as PyTorch schedules them."""
    optimizer, schedule = one_cycle([torch.zeros(1)], learning_rate, steps)
    found = []
    for step in range(steps):
        (group,) = optimizer.param_groups
        found.append((float(group["lr"]), float(group["betas"][0])))
        optimizer.step()
        if step + 1 < steps:
            schedule.step()
    return found


def _sampled(maps: jax.Array, places: jax.Array) -> jax.Array:
    """Sample as `Operations` has it: a cell counts by how near its middle is along each axis."""

    def shares(along: jax.Array, size: int) -> jax.Array:
        return jnp.maximum(1 - abs(along[..., None] * size - 0.5 - jnp.arange(size)), 0)

    places = jnp.broadcast_to(places, (len(maps), *places.shape[-2:]))
    height, width = maps.shape[2:]
    rows = jnp.einsum("bqy,bcyx->bqcx", shares(places[..., 1], height), maps)
    return jnp.einsum("bqx,bqcx->bqc", shares(places[..., 0], width), rows)


def _logit(x: jax.Array, eps: float) -> jax.Array:
    return jax.scipy.special.logit(jnp.clip(x, eps, 1 - eps))


def _array(x: torch.Tensor) -> jax.Array:
    return jnp.asarray(x.detach().numpy())


def _tensor(x: jax.Array) -> torch.Tensor:
    return torch.from_numpy(np.array(x))


JAX = Operations(jnp, jax.nn.sigmoid, _logit, _sampled)
