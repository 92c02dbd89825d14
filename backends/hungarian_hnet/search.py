"""`hungarian-core hnet tune`: search for options of training with Ray Tune."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import math
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported: it would report
import ray
from lightning.pytorch.callbacks import Callback
from ray import tune

from hungarian_core.cli import print_table
from hungarian_hnet import files, problems
from hungarian_hnet.errors import UserError
from hungarian_hnet.module import SCORE
from hungarian_hnet.recipe import Recipe, Source, enough_layers, pick

RESULT, TRIALS = "best.json", "trials"
SEARCHED = ("width", "layers", "batch_size", "learning_rate", "weight_decay")


class Report(Callback):
    """Tells Ray what each epoch came to; Ray may then end the trial."""

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Report the scores."""
        tune.report({"epoch": trainer.current_epoch + 1, **pl_module.scores})


def train(options: dict[str, Any]) -> None:
    """Train one network, in a process of Ray, perhaps on another machine."""
    import torch

    from hungarian_hnet import training

    torch.set_num_threads(options.pop("cpus"))
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    source = Source(**options.pop("source"))
    with tempfile.TemporaryDirectory() as folder:
        sets = problems.training(source)
        training.fit(Recipe(**options), sets, Path(folder), callbacks=(Report(),))


def run(given: argparse.Namespace) -> None:
    """Search, print the trials from the best on, and write what to give to `train`."""
    if (given.output / TRIALS).exists():
        raise UserError(f"--output {given.output} holds a search; expected another folder")
    files.check_writable(given.output, folder=True)
    source = pick(Source, given)
    problems.make(dataclasses.replace(source, samples=1), 0)  # a wrong option is told at once
    fixed = {
        "epochs": given.epochs,
        "patience": given.epochs,
        "max_time": given.max_time,
        "seed": given.seed,
        "cpus": given.cpus,
        "source": dataclasses.asdict(source),
    }
    results = _search({**fixed, **_space(given, source)}, given)
    done = [result for result in results if result.metrics and SCORE in result.metrics]
    if not done:
        error = results[0].error if len(results) else None
        raise UserError(f"no trial came as far as a score; the first one ended with: {error}")
    done.sort(key=lambda result: -result.metrics[SCORE])
    print_table(
        (*(name.replace("_", " ") for name in SEARCHED), "epochs", "weighted F", "exact"),
        [
            (
                *(f"{result.config[name]:.4g}" for name in SEARCHED),
                str(result.metrics["epoch"]),
                f"{result.metrics[SCORE]:.5f}",
                f"{result.metrics['accuracy']:.5f}",
            )
            for result in done
        ],
        title=f"{len(done)} trials",
        justify="right",
    )
    best = {name: done[0].config[name] for name in SEARCHED}
    scores = {name: done[0].metrics[name] for name in (SCORE, "accuracy", "val_loss")}
    path = given.output / RESULT
    with files.replaced(path) as unfinished:
        unfinished.write_text(json.dumps({"options": best, "scores": scores}, indent=2) + "\n")
    command = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in best.items())
    print(f"{path} holds the best: hungarian-core hnet train {command}")


def _space(given: argparse.Namespace, source: Source) -> dict[str, Any]:
    """Return what is drawn for each trial."""
    low, high = min(given.learning_rate), max(given.learning_rate)
    return {
        "width": tune.choice(given.width),
        "layers": tune.choice(given.layers or (enough_layers(source.max_len or 2),)),
        "batch_size": tune.choice(given.batch_size),
        "learning_rate": tune.loguniform(low, high) if low < high else low,
        "weight_decay": tune.choice(given.weight_decay),
    }


def _search(space: dict[str, Any], given: argparse.Namespace) -> Any:
    """Run the trials: bad ones end early, by asynchronous successive halving."""
    local = given.address is None
    here: dict[str, Any] = {"num_cpus": given.workers * given.cpus, "include_dashboard": False}
    try:
        ray.init(
            address="local" if local else given.address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(here if local else {}),
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = "here" if local else f"at --address {given.address}"
        raise UserError(f"Ray does not start or answer {where}: {error}") from error
    grace = max(1, math.ceil(given.epochs / 8))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Ray itself; a trial's own are in its process
            return tune.Tuner(
                tune.with_resources(train, {"cpu": given.cpus}),
                param_space=space,
                tune_config=tune.TuneConfig(
                    metric=SCORE,
                    mode="max",
                    num_samples=given.trials,
                    scheduler=tune.schedulers.ASHAScheduler(max_t=given.epochs, grace_period=grace),
                    search_alg=tune.search.BasicVariantGenerator(
                        random_state=given.seed, max_concurrent=given.workers
                    ),
                ),
                run_config=tune.RunConfig(
                    name=TRIALS, storage_path=str(given.output.absolute()), verbose=0
                ),
            ).fit()
    finally:
        ray.shutdown()
