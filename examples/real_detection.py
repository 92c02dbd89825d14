"""Compare set losses on real images: train one detector with each, after an equal search.

    python examples/real_detection.py FOLDER --output FOLDER [--framework jax]

The images and boxes are in the layout of PASCAL VOC or COCO, with splits of the names train, val
and test; if there are none, three parts of the images in a seeded order take their places. For
each loss the same few points, of learning rate and weight of classes, are tried with shorter
training, and the one with the highest AP on the validation split is kept. With it, the detector
is trained from several seeds, and judged on the test split once, in the end. The detector, the
images and their order are the same for every loss, and for PyTorch and JAX.

The output gets `real_detection_search.md`, the precision at each point, once all are tried, and
in the end `real_detection.md`, the table, `real_detection.json`, every figure,
`real_detection.png`, the curves, and `real_detection_matches.png`, images of the test split with
their matchings; and `checkpoints/`, from which `--resume` goes on. It needs the extras `torch`,
`scipy` and `plot`, Pillow and pycocotools; `--framework jax` needs the extra `jax` and optax too,
as PyTorch defines the detector and draws its initial values. It runs on the CPU, which is enough
for hundreds of images; with `--ray` and the extra `tune` by Ray Tune, there or on a cluster.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import curves
import numpy as np
from detector import QUERIES, RECIPES
from intervals import differences, mean, table
from pictures import matches
from runs import machine, several
from training import FRAMEWORKS, TRIAL_SEED, CheckpointError, Job, JobError, Run, read, train

import hungarian_data

BASE = "detr"  # what the others are compared with
Range = tuple[float, float]


class Point(NamedTuple):
    """Settings that are searched: see `Job`."""

    learning_rate: float
    class_weight: float


def points(trials: int, rates: Range, weights: Range) -> list[Point]:
    """Return the points that are tried, for every loss the same.

    By logarithm, both ranges are cut in as many parts as there are trials, and each part has one
    point.
    """
    random = np.random.default_rng(0)
    parts = np.stack([random.permutation(trials), random.permutation(trials)], axis=-1)
    shares = (parts + random.uniform(size=(trials, 2))) / trials
    low, high = np.log(np.array([rates, weights]).T)
    return [Point(*row) for row in np.exp(low + shares * (high - low)).tolist()]


class Bench:
    """Runs jobs, several at a time, and says how far it is."""

    def __init__(
        self,
        checkpoints: Path,
        workers: int,
        total: int,
        *,
        resume: bool,
        address: str | None = None,
    ) -> None:
        self.checkpoints, self.workers, self.resume = checkpoints.absolute(), workers, resume
        self.address = address  # of Ray, if it runs them
        self.total, self.done, self.started = total, 0, time.perf_counter()

    def __call__(self, jobs: Sequence[Job]) -> list[Run]:
        """Return what comes of jobs, in their order."""
        runs = []
        for job, run in zip(jobs, self._runs(jobs), strict=True):
            self.done += 1
            seconds = time.perf_counter() - self.started
            print(
                f"[{self.done:>3}/{self.total}] {job.name:<24} rate {job.learning_rate:.1e}  "
                f"weight {job.class_weight:4.1f}  AP {run.curve[-1][1].ap:.3f} (val)  "
                f"{seconds:5.0f} s",
                flush=True,
            )
            runs.append(run)
        return runs

    def _runs(self, jobs: Sequence[Job]) -> Iterator[Run]:
        one = functools.partial(train, checkpoints=self.checkpoints, resume=self.resume)
        if self.address:
            import cluster

            records = self.checkpoints.with_name("ray")
            yield from cluster.runs(one, jobs, records, self.workers, self.address)
            return
        yield from several(one, [(job,) for job in jobs], self.workers)


def searched(bench: Bench, common: dict[str, Any], losses: Sequence[str], tried: list[Point],
             epochs: int) -> tuple[dict[str, Point], dict[str, list[float]]]:  # fmt: skip
    """Return for each loss the best point, and the precision on validation of all."""
    jobs = [
        Job(**common, **point._asdict(), loss=loss, epochs=epochs, trial=k, seed=TRIAL_SEED)
        for loss in losses
        for k, point in enumerate(tried)
    ]
    precision = [run.curve[-1][1].ap for run in bench(jobs)]
    by_loss = dict(zip(losses, np.reshape(precision, (len(losses), -1)).tolist(), strict=True))
    return {loss: tried[int(np.argmax(values))] for loss, values in by_loss.items()}, by_loss


def tabulated(found: dict[str, list[Run]], best: dict[str, Point]) -> tuple[str, dict[str, Any]]:
    """Return the table, and its figures."""
    tests = {name: [run.test for run in runs if run.test] for name, runs in found.items()}
    ahead = differences({name: [x.ap for x in each] for name, each in tests.items()}, BASE)
    rows, figures = [], {}
    for name, runs in found.items():
        columns = [mean(column) for column in zip(*tests[name], strict=True)]
        parts = [run.loss_seconds for run in runs]  # None in JAX, where a step is one program
        share = None if None in parts else sum(parts) / sum(run.seconds for run in runs)
        over = f"{ahead[name].mean:+.3f}" if name in ahead else ""
        if over and ahead[name].half is not None:
            over += f" ± {ahead[name].half:.3f}"
        rows.append(
            [RECIPES[name].title, *columns, over, f"{best[name].learning_rate:.1e}",
             f"{best[name].class_weight:.1f}", "-" if share is None else f"{share:.0%}"]
        )  # fmt: skip
        precision = zip(("ap", "ap50", "ap75"), (x._asdict() for x in columns), strict=True)
        figures[name] = {
            **dict(precision),
            "ap_less_that_of_detr": ahead[name]._asdict() if name in ahead else None,
            "loss_share_of_step": share,
        }
    head = ["loss", "AP", "AP50", "AP75", "AP less DETR's", "learning rate", "class weight",
            "loss in a step"]  # fmt: skip
    return table(head, rows), figures


def tabulated_search(tried: Sequence[Point], search: dict[str, list[float]]) -> str:
    """Return the table of the precision on validation at each point, by its weight of classes."""
    order = sorted(range(len(tried)), key=lambda k: tried[k].class_weight)
    head = [f"{tried[k].class_weight:.1f}, {tried[k].learning_rate:.1e}" for k in order]
    rows = [
        [RECIPES[name].title, *(f"{values[k]:.3f}" for k in order)]
        for name, values in search.items()
    ]
    return table(["class weight, learning rate", *head], rows)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="images and boxes, as of PASCAL VOC or COCO")
    parser.add_argument("--output", type=Path, default=Path(), help="a folder (the current one)")
    parser.add_argument("--losses", default=",".join(RECIPES), help="(%(default)s)")
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch", help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="their number (%(default)s)")
    parser.add_argument("--trials", type=int, default=4, help="per loss (%(default)s)")
    parser.add_argument(
        "--rates", type=ends, default="1e-3,2e-2", help="range of learning rates (%(default)s)"
    )
    parser.add_argument(
        "--weights", type=ends, default="0.2,5", help="range of class weights (%(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=30, help="(%(default)s)")
    parser.add_argument("--search-epochs", type=int, help="of a trial (half of --epochs)")
    parser.add_argument("--size", default="160x120", help="of images, in pixels (%(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="images in a step (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (%(default)s)")
    parser.add_argument(
        "--ray", nargs="?", const="local", metavar="ADDRESS",
        help="run by Ray Tune: on this machine, or on a cluster that sees the same folders",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints")
    parser.add_argument("--quick", action="store_true", help="2 epochs: only see that it runs")
    if parser.parse_known_args(argv)[0].quick:  # what is given beside it stays
        parser.set_defaults(epochs=2, search_epochs=1, seeds=2, trials=1, size="64x48", workers=1)
    given = parser.parse_args(argv)
    given.losses = given.losses.split(",")
    if unknown := [name for name in given.losses if name not in RECIPES]:
        parser.error(f"no such loss: {', '.join(unknown)}; there are {', '.join(RECIPES)}")
    if len({*given.losses}) < len(given.losses):
        parser.error(f"--losses has one twice: {', '.join(given.losses)}")
    if given.output.exists() and not given.output.is_dir():
        parser.error(f"--output is {given.output}, which is no folder")
    needed = ("jax", "optax") if given.framework == "jax" else ()
    if missing := [name for name in needed if not importlib.util.find_spec(name)]:
        parser.error(f"--framework jax needs {' and '.join(missing)}: pip install jax optax")
    if given.ray:
        try:
            import cluster  # noqa: F401  # Ray is needed for nothing else
        except ImportError as error:
            parser.error(f"--ray needs Ray Tune, hungarian-core[tune]: {error}")
    try:
        given.width, given.height = (int(side) for side in given.size.split("x"))
    except ValueError:
        parser.error(f"--size is {given.size!r}; expected width x height, such as 160x120")
    if given.search_epochs is None:
        given.search_epochs = math.ceil(given.epochs / 2)
    numbers = ("seeds", "trials", "epochs", "search_epochs", "width", "height", "batch", "workers")
    for name in numbers:
        if getattr(given, name) < 1:
            parser.error(f"{name} is {getattr(given, name)}; expected 1 or more")
    return given


def ends(text: str) -> Range:
    """Read the ends of what is searched."""
    low, high = (float(end) for end in text.split(","))
    if not 0 < low <= high < math.inf:
        raise ValueError
    return low, high


def main(argv: Sequence[str] | None = None) -> None:
    """Run the experiment, or say in a line why that cannot be."""
    given = arguments(argv)
    try:
        experiment(given)
    except (hungarian_data.DataError, CheckpointError, JobError) as error:
        raise SystemExit(f"real_detection.py: {error}") from error


def experiment(given: argparse.Namespace) -> None:
    """Run the experiment and write what came out."""
    folder = str(given.folder.absolute())  # other processes may be elsewhere
    images = {name: len(split.examples) for name, split in read(folder).items()}
    classes = read(folder)["train"].classes
    print(f"{given.folder}: {images} images, classes {', '.join(classes)}")
    common = {"folder": folder, "height": given.height, "width": given.width, "batch": given.batch,
              "framework": given.framework}  # fmt: skip
    total = len(given.losses) * (given.trials + given.seeds)
    checkpoints = given.output / "checkpoints"
    bench = Bench(checkpoints, given.workers, total, resume=given.resume, address=given.ray)
    tried = points(given.trials, given.rates, given.weights)
    best, search = searched(bench, common, given.losses, tried, given.search_epochs)
    (given.output / "real_detection_search.md").write_text(tabulated_search(tried, search))
    jobs = [
        Job(**common, **best[loss]._asdict(), loss=loss, epochs=given.epochs, trial=None, seed=seed)
        for loss in given.losses
        for seed in range(given.seeds)
    ]
    runs = iter(bench(jobs))
    found = {loss: [next(runs) for _ in range(given.seeds)] for loss in given.losses}

    text, figures = tabulated(found, best)
    path = given.output / "real_detection.png"
    path.with_suffix(".md").write_text(text)
    settings = {"width": given.width, "height": given.height, "batch": given.batch,
                "epochs": given.epochs, "search_epochs": given.search_epochs,
                "rates": given.rates, "weights": given.weights, "seeds": given.seeds,
                "queries": QUERIES, "images": images, "classes": classes,
                "workers": given.workers, "framework": given.framework}  # fmt: skip
    frameworks = ("torch", "jax", "optax") if given.framework == "jax" else ("torch",)
    everything = {
        "settings": settings,
        "machine": machine("numpy", "hungarian-core", "pycocotools", "pillow", *frameworks),
        "search": {"points": [x._asdict() for x in tried], "validation_ap": search},
        "losses": figures,
        "runs": {name: [_record(run) for run in runs] for name, runs in found.items()},
    }
    path.with_suffix(".json").write_text(json.dumps(everything, indent=1) + "\n")
    columns = {RECIPES[name].title: [_columns(x) for x in each] for name, each in found.items()}
    curves.save(columns, path, images="the validation split", steps="epochs", top=None)
    picture = path.with_name("real_detection_matches.png")
    matches([job for job in jobs if job.seed == 0], checkpoints, picture)
    seconds = time.perf_counter() - bench.started
    print(f"\n{text}\n{path} and {picture} show it. All took {seconds:.0f} s.")


def _record(run: Run) -> dict[str, Any]:
    """Return a run as it is written down."""
    curve = [{"epoch": epoch, **precision._asdict()} for epoch, precision in run.curve]
    test = run.test and run.test._asdict()
    return {**run._asdict(), "curve": curve, "test": test}


def _columns(run: Run) -> curves.Curve:
    """Return epochs, AP and AP50 of the curve of a run."""
    epochs, precisions = zip(*run.curve, strict=True)
    return list(epochs), [p.ap for p in precisions], [p.ap50 for p in precisions]


if __name__ == "__main__":
    main()
