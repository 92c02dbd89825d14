"""Train the detector on a folder of real images, with a checkpoint after each epoch."""

from __future__ import annotations

import functools
import importlib
import os
import pickle
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from coco import Judge, Precision, Truth, softmax
from detector import RECIPES

import hungarian_core as hc
import hungarian_data

SPLITS = ("train", "val", "test")
SHARES = (0.6, 0.8)  # where the list of a folder is cut that has no such splits
EVALUATIONS = 5  # in the course of training
TRIAL_SEED = 1000  # no seed that is reported
FRAMEWORKS = {"torch": "torch_trainer", "jax": "jax_trainer"}  # the files that train in them


class Job(NamedTuple):
    """A run: everything that its result depends on.

    Attributes:
        folder: The images and boxes.
        height: What images are resized to, in pixels.
        width: Likewise.
        batch: How many images make a step.
        epochs: How often each image is seen.
        loss: A key of `RECIPES`.
        learning_rate: Its peak.
        class_weight: The factor of the published weight of classes.
        trial: The number of the point that is tried, or None for a run that is reported.
        seed: Of the initial weights, the order of the images and their flips.
        framework: A key of `FRAMEWORKS`.
    """

    folder: str
    height: int
    width: int
    batch: int
    epochs: int
    loss: str
    learning_rate: float
    class_weight: float
    trial: int | None
    seed: int
    framework: str = "torch"

    @property
    def name(self) -> str:
        """Return the name of its checkpoint."""
        which = f"seed{self.seed}" if self.trial is None else f"trial{self.trial}"
        return f"{self.loss}-{which}"


class CheckpointError(ValueError):
    """A checkpoint from which a job cannot go on."""


class JobError(RuntimeError):
    """A job that failed where others ran it, or nobody there to run it."""


class Run(NamedTuple):
    """What came of a job.

    Attributes:
        curve: Epochs, and the precision on the validation split after them.
        test: The precision on the test split in the end; None for trials, which never see it.
        seconds: What all steps of training took; in JAX the first of them compiles.
        loss_seconds: The part of the loss, with its gradient in logits and boxes; None where a
            step is one program, as in JAX.
    """

    curve: list[tuple[int, Precision]]
    test: Precision | None
    seconds: float
    loss_seconds: float | None


class Split(NamedTuple):
    """The images of a split, all resized to one shape, and their objects.

    Attributes:
        images: `[N, 3, height, width]` uint8.
        targets: Padded to the most objects of an image.
        truths: The same, by image.
        size: Width and height that areas of objects are measured in, those of the first image.
    """

    images: torch.Tensor
    targets: hc.Targets
    truths: list[Truth]
    size: tuple[int, int]


@functools.lru_cache(maxsize=1)
def read(folder: str) -> dict[str, hungarian_data.Dataset]:
    """Return the splits of a folder: its own, or else three of a seeded order."""
    try:
        return {
            name: without_points(hungarian_data.read(folder, split=name, on_error="skip"))
            for name in SPLITS
        }
    except hungarian_data.DataError:
        classes, examples = without_points(hungarian_data.read(folder, on_error="skip"))
    order = np.random.default_rng(0).permutation(len(examples))
    parts = np.split(order, [int(share * len(examples)) for share in SHARES])
    return {
        name: hungarian_data.Dataset(classes, tuple(examples[k] for k in sorted(part)))
        for name, part in zip(SPLITS, parts, strict=True)
    }


def without_points(dataset: hungarian_data.Dataset) -> hungarian_data.Dataset:
    """Leave out objects of a single pixel: BCCD has two, where somebody clicked by mistake."""
    kept = []
    for x in dataset.examples:
        large = (x.boxes[:, 2:] * [x.width, x.height]).max(axis=1) > 1.5
        arrays = {"boxes": x.boxes[large], "labels": x.labels[large], "crowd": x.crowd[large]}
        kept.append(x._replace(**arrays))
    return hungarian_data.Dataset(dataset.classes, tuple(kept))


@functools.lru_cache(maxsize=len(SPLITS))
def load(folder: str, name: str, height: int, width: int) -> Split:
    """Return a split with the pixels of its images."""
    with warnings.catch_warnings():  # each process reads; the first of all has said it
        warnings.simplefilter("ignore")
        examples = read(folder)[name].examples
    pixels = np.stack([hungarian_data.pixels(x, height, width) for x in examples])
    padded = hc.pad_targets(
        [
            {
                "labels": torch.tensor(x.labels),
                "boxes": torch.tensor(x.boxes),
                "ignore": torch.tensor(x.crowd),
            }
            for x in examples
        ]
    )
    truths = [Truth(x.boxes, x.labels, x.crowd) for x in examples]
    images = torch.tensor(pixels).permute(0, 3, 1, 2).contiguous()
    return Split(images, padded, truths, (examples[0].width, examples[0].height))


def prepared(images: torch.Tensor) -> torch.Tensor:
    """Return images as the detector takes them."""
    return images.float() / 127.5 - 1


def train(job: Job, checkpoints: Path, *, resume: bool) -> Run:
    """Train a detector, or go on with it; a run that was cut off ends with the same figures.

    Args:
        job: What to do.
        checkpoints: The folder of checkpoints.
        resume: Go on from the checkpoint of this job, if there is one.

    Raises:
        CheckpointError: The checkpoint is of a job with other settings, or broken.
    """
    torch.set_num_threads(1)  # the work is too small to share; the runs are shared instead
    path = checkpoints / f"{job.name}.pt"
    recipe, classes = RECIPES[job.loss], len(read(job.folder)["train"].classes)
    splits = {x: load(job.folder, x, job.height, job.width) for x in SPLITS}
    judges = {name: _judge(splits[name], classes, job) for name in SPLITS[1:]}
    training = splits["train"]
    batch = min(job.batch, len(training.images))
    steps = len(training.images) // batch

    # Imported here: each needs a framework that the other does not.
    trainer = importlib.import_module(FRAMEWORKS[job.framework]).Trainer(
        job, classes, steps * job.epochs
    )
    done: dict[str, Any] = {"epoch": 0, "curve": [], "test": None, "times": [0.0, 0.0]}
    if resume and path.exists():
        states, done = restored(path, job)
        trainer.restore(states)
    # Trials are compared by where they end.
    evaluations = EVALUATIONS if job.trial is None else 1
    for epoch in range(done["epoch"], job.epochs):
        # By seed and epoch, so that a run which goes on sees what it would have seen.
        random = np.random.default_rng([job.seed, epoch])
        order = random.permutation(len(training.images))
        for step in range(steps):
            started = time.perf_counter()
            at = torch.tensor(order[step * batch : (step + 1) * batch])
            images, targets = flipped(training, at, random)
            noised = None
            if recipe.denoising:
                noised = hc.denoising.contrastive_queries(
                    targets, classes, seed=int(random.integers(2**63)), groups=recipe.denoising
                )
            loss_seconds = trainer.step(images, targets, noised)
            seconds, of_loss = done["times"]
            done["times"] = [
                seconds + time.perf_counter() - started,
                None if loss_seconds is None else of_loss + loss_seconds,
            ]
        done["epoch"] = epoch + 1
        if (epoch + 1) * evaluations // job.epochs > epoch * evaluations // job.epochs:
            done["curve"].append((epoch + 1, tuple(judges["val"](trainer.detect))))
        if epoch + 1 == job.epochs and job.trial is None:
            done["test"] = tuple(judges["test"](trainer.detect))
        save(path, job, trainer.states(), done)
    curve = [(epoch, Precision(*precision)) for epoch, precision in done["curve"]]
    return Run(curve, done["test"] and Precision(*done["test"]), *done["times"])


def flipped(
    training: Split, at: torch.Tensor, random: np.random.Generator
) -> tuple[torch.Tensor, hc.Targets]:
    """Return the images at places, each flipped or not in either direction, and their objects."""
    images, (labels, boxes, mask, _, ignore, _) = training.images[at], training.targets
    boxes = boxes[at]
    for axis in (0, 1):  # x, then y
        turned = torch.tensor(random.integers(2, size=len(at)) == 1)
        images = torch.where(turned[:, None, None, None], images.flip(3 - axis), images)
        mirrored = boxes.clone()
        mirrored[..., axis] = 1 - boxes[..., axis]
        boxes = torch.where(turned[:, None, None], mirrored, boxes)
    return prepared(images), hc.Targets(labels[at], boxes, mask[at], ignore=ignore[at])


def _judge(split: Split, classes: int, job: Job) -> Judge:
    scores = torch.sigmoid if RECIPES[job.loss].sigmoid else softmax
    return Judge(prepared(split.images), split.truths, classes, scores=scores, size=split.size)


def save(path: Path, job: Job, states: dict[str, Any], done: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"job": tuple(job), "states": states, "done": done}, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def restored(path: Path, job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint, and return the states of a trainer and how far it is."""
    try:
        found = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is cut off or broken; remove it to begin anew") from error
    if Job(*found["job"]) != job:
        raise CheckpointError(
            f"{path} is of {Job(*found['job'])}, and what was asked for is {job}: give the same "
            "options as before, another --output, or leave out --resume to begin anew"
        )
    return found["states"], found["done"]
