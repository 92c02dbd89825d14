"""`hungarian-core hnet train`: from problems to a file of weights."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.util
import json
import logging
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, Timer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from hungarian_hnet import files, problems
from hungarian_hnet.batches import Batches
from hungarian_hnet.callbacks import Bar, InterruptedTrainingError, Last, Log
from hungarian_hnet.errors import UserError
from hungarian_hnet.module import SCORE, Training
from hungarian_hnet.problems import Problems
from hungarian_hnet.recipe import Recipe, Source, enough_layers, pick
from hungarian_torch import HNet

OPTIONS, LAST, BEST = "options.json", "last.ckpt", "best.ckpt"
LOG, WEIGHTS = "metrics.csv", "weights.safetensors"
CHANGEABLE = ("epochs", "max_time", "patience")  # by --resume
# What reading the files of a run raises if they are not whole.
_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, UnpicklingError)
_PER_CALL = 8192  # problems that are validated at once


class Result(NamedTuple):
    """What came out of a run.

    Attributes:
        scores: The weighted F-score, the accuracy and the loss in validation, of the best epoch.
        epochs, steps: How far training came.
        interrupted: By Ctrl-C; `fit` with ``resume=True`` goes on.
    """

    scores: dict[str, float]
    epochs: int
    steps: int
    interrupted: bool


def run(given: argparse.Namespace) -> int:
    """Train as the command line says, and return the exit code."""
    recipe, source = _options(given)
    if given.threads:
        torch.set_num_threads(given.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    sets = problems.training(source)
    _note(given.output, recipe, source)
    train, validation = (len(x.samples.distance) for x in sets)
    print(f"Training on {train} problems of {sets[0].max_len} x {sets[0].max_len}, "
          f"validating on {validation}; {given.output} holds the run")  # fmt: skip
    started = time.perf_counter()
    result = fit(
        recipe,
        sets,
        given.output,
        resume=given.resume,
        tensorboard=given.logger == "tensorboard",
        accelerator=given.accelerator,
        bar=not given.quiet and sys.stdout.isatty(),
        about={"source": json.dumps(_public(source))},
    )
    seconds = time.perf_counter() - started
    scores = ", ".join(f"{name} {value:.5f}" for name, value in result.scores.items())
    print(f"{result.epochs} epochs, {result.steps} steps, {seconds:.0f} s; best: {scores or '-'}")
    if result.interrupted:
        print(f"Interrupted. `hungarian-core hnet train --resume --output {given.output}` goes on")
        return 130
    print(f"{given.output / WEIGHTS} holds the weights of the best epoch")
    return 0


def fit(
    recipe: Recipe,
    sets: tuple[Problems, Problems],
    folder: Path,
    *,
    resume: bool = False,
    tensorboard: bool = False,
    accelerator: str = "cpu",
    bar: bool = False,
    about: Mapping[str, str] | None = None,
    callbacks: tuple[Callback, ...] = (),
) -> Result:
    """Train a network and leave in `folder` its weights, checkpoints and log.

    Args:
        recipe: How.
        sets: Problems to train and to validate on.
        folder: Exists, and holds a run if `resume`.
        resume: Go on from its last checkpoint; training comes out as if never interrupted.
        tensorboard: Log for TensorBoard too.
        accelerator: As for Lightning's trainer.
        bar: Show progress.
        about: Is added to the metadata of the weights.
        callbacks: More of Lightning's.
    """
    limit = datetime.timedelta(seconds=recipe.max_time) if recipe.max_time else None
    timer = Timer(limit, verbose=False)
    best = ModelCheckpoint(
        folder,
        "best",
        monitor=SCORE,
        mode="max",
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    last = Last(folder / LAST)
    trainer = lightning.Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=recipe.epochs,
        callbacks=[
            Log(folder / LOG),
            timer,
            EarlyStopping(SCORE, mode="max", patience=recipe.patience),
            best,
            last,
            *([Bar(refresh_rate=20)] if bar else []),
            *callbacks,
        ],
        enable_progress_bar=bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        gradient_clip_val=recipe.clip or None,
        logger=TensorBoardLogger(folder, "tensorboard", "") if tensorboard else False,
        log_every_n_steps=50,
    )
    layers = recipe.layers or enough_layers(sets[0].max_len)
    network = HNet(width=recipe.width, layers=layers, seed=recipe.seed)
    batches = (
        Batches(_tensors(sets[0]), recipe.batch_size, recipe.seed),
        Batches(_tensors(sets[1]), _PER_CALL, None),
    )
    module = Training(network, recipe, batches[0], lambda: _passed(timer, recipe.max_time))
    interrupted = False
    with warnings.catch_warnings(), last.listening():
        # A run that goes on finds its own checkpoints in the folder, and a new one its options.
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
        # Lightning's own use of PyTorch (2.6 with torch 2.13).
        warnings.filterwarnings("ignore", "`isinstance.treespec, LeafSpec.` is deprecated")
        try:
            trainer.fit(module, *batches, ckpt_path=folder / LAST if resume else None)
        except InterruptedTrainingError:
            interrupted = True
    scores = _export(
        folder,
        best.best_model_path,
        sets[0],
        dataclasses.replace(recipe, layers=layers),
        about or {},
    )
    return Result(scores, trainer.current_epoch, trainer.global_step, interrupted)


def _passed(timer: Timer, max_time: float | None) -> float:
    """Return the part of the time for training that has passed."""
    return timer.time_elapsed() / max_time if max_time else 0.0


def _tensors(given: Problems) -> tuple[Tensor | None, ...]:
    """Return distances, associations and masks, as batches are made of."""
    samples = given.samples
    arrays = (samples.distance, samples.association, *given.masks.values())
    return tuple(None if x is None else torch.from_numpy(x) for x in arrays)


def _export(
    folder: Path, checkpoint: str, given: Problems, recipe: Recipe, about: Mapping[str, str]
) -> dict[str, float]:
    """Write the weights of the best epoch, and return its scores; none without an epoch."""
    if not checkpoint:
        return {}
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network = HNet.from_params(
        {name.removeprefix("network."): x.numpy() for name, x in saved["state_dict"].items()}
    )
    scores = {name: float(value) for name, value in saved["scores"].items()}
    network.save(
        folder / WEIGHTS,
        {
            "max_len": given.max_len,
            "missing": given.missing,
            "distance": given.distance,
            "epoch": saved["epoch"] + 1,
            "recipe": json.dumps(dataclasses.asdict(recipe)),
            **scores,
            **about,
        },
    )
    return scores


def _options(given: argparse.Namespace) -> tuple[Recipe, Source]:
    """Return what to do, from the command line or a run to go on with.

    Raises:
        UserError: The folder cannot be used, or holds another run, or none to go on with.
    """
    folder = given.output
    if given.resume:
        recipe, source = _resumed(folder, given)
    elif (folder / LAST).exists():
        raise UserError(
            f"--output {folder} holds a run; --resume goes on with it, another folder takes a "
            "new one"
        )
    else:
        recipe, source = pick(Recipe, given), pick(Source, given)
    files.check_writable(folder, folder=True)
    writers = [importlib.util.find_spec(name) for name in ("tensorboard", "tensorboardX")]
    if given.logger == "tensorboard" and not any(writers):
        raise UserError("--logger tensorboard needs it: pip install tensorboard")
    return recipe, source


def _note(folder: Path, recipe: Recipe, source: Source) -> None:
    """Write the options of a run, for `--resume`."""
    options = {"recipe": dataclasses.asdict(recipe), "source": dataclasses.asdict(source)}
    with files.replaced(folder / OPTIONS) as unfinished:
        unfinished.write_text(json.dumps(options, indent=2) + "\n")


def _public(source: Source) -> dict[str, Any]:
    """Return where problems came from, files without their folders."""
    names = {k: v and Path(v).name for k, v in vars(source).items() if k in ("data", "validation")}
    return {**dataclasses.asdict(source), **names}


def _resumed(folder: Path, given: argparse.Namespace) -> tuple[Recipe, Source]:
    """Return the options of the run in `folder`, with those that may change as given."""
    try:
        options = json.loads((folder / OPTIONS).read_text())
        recipe, source = Recipe(**options["recipe"]), Source(**options["source"])
        torch.load(folder / LAST, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(
            f"--resume: {error.filename} is not there; {folder} holds no run that came as far as "
            "a checkpoint"
        ) from error
    except _DAMAGED as error:
        raise UserError(f"--resume: the run in {folder} is damaged ({error})") from error
    for name, value in vars(given).items():
        for was in (recipe, source):
            if hasattr(was, name) and name not in CHANGEABLE and getattr(was, name) != value:
                option = "--" + name.replace("_", "-")
                raise UserError(
                    f"--resume: the run in {folder} has {option} {getattr(was, name)}, and {value} "
                    "came; leave it out, or begin a new run in another folder"
                )
    changes = {name: getattr(given, name) for name in CHANGEABLE if name in given}
    return dataclasses.replace(recipe, **changes), source
