"""Run jobs with Ray Tune, on this machine or on those of a cluster."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported: it would report
import ray
from ray import tune
from training import Job, JobError, Run

LOCAL = "local"


class Ended(tune.Callback):
    """Says which jobs have ended, as their results come all at once."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs, self.count = jobs, 0

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Print the name of the job."""
        self.count += 1
        name = self.jobs[trial.config["job"]].name
        print(f"{name} has ended, {self.count} of {len(self.jobs)}", flush=True)


def runs(
    train: Callable[[Job], Run], jobs: Sequence[Job], folder: Path, workers: int, address: str
) -> list[Run]:
    """Return what comes of jobs, in their order.

    Args:
        train: Does one, in a process of Ray. Its files must be seen by all machines at the same
            paths.
        jobs: Settings; nothing else is searched, and none is ended early.
        folder: Where Ray Tune keeps its records, seen by all machines too.
        workers: How many jobs at a time, each with one core.
        address: Of the cluster, or `LOCAL` to start one here.

    Raises:
        JobError: Ray does not start or answer, or a job failed.
    """
    here = {"num_cpus": workers, "include_dashboard": False} if address == LOCAL else {}
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(address=address, **quiet, **here)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise JobError(f"Ray does not start or answer at {address}: {error}") from error

    def one(config: dict[str, int]) -> None:
        tune.report({"run": train(jobs[config["job"]])})

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Ray itself; a job's own are in its process
            results = tune.Tuner(
                tune.with_resources(one, {"cpu": 1}),
                param_space={"job": tune.grid_search(list(range(len(jobs))))},
                tune_config=tune.TuneConfig(
                    search_alg=tune.search.BasicVariantGenerator(max_concurrent=workers)
                ),
                run_config=tune.RunConfig(
                    storage_path=str(folder.absolute()), verbose=0, callbacks=[Ended(jobs)]
                ),
            ).fit()
    finally:
        ray.shutdown()
    found: dict[int, Run] = {}
    for result in results:
        at = result.config["job"]
        if result.error is not None:
            reason = getattr(result.error, "cause", result.error)  # not Ray's account of it
            raise JobError(f"{jobs[at].name} failed: {reason}") from result.error
        found[at] = result.metrics["run"]
    return [found[at] for at in range(len(jobs))]
