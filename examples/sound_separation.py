"""Separate two speakers by losses that find the order of the sources, and compare them.

    python examples/sound_separation.py FOLDER --output FOLDER

The folder holds recordings of spoken digits, `{digit}_{speaker}_{number}.wav`, as the Free Spoken
Digit Dataset has them in `recordings`; the numbers below 40 are trained on, the others held out. A
mixture is the sum of two digits of different speakers at equal loudness. A small network of
convolutions masks what it has learned to see of a mixture, once for each source, in no known
order. The network, its first weights, the mixtures and the number of steps are the same for every
loss; a seed changes the first three. Quality is the SI-SDR of the sources, in dB, by how much it
is above that of the mixture, in the better of the two orders.

The output gets `sound_separation.md`, the table, `.json`, every figure, and `.png`, the curves;
and `checkpoints/`, from which `--resume` goes on. It needs the extras `torch`, `scipy` and `plot`,
and torchmetrics.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import time
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from intervals import differences, mean, table
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from runs import machine, several
from torch import Tensor, nn
from torchmetrics.functional.audio import (
    permutation_invariant_training,
    scale_invariant_signal_distortion_ratio,
)

import hungarian_core as hc

RATE, LENGTH = 8000, 4096  # samples of a second, and of a mixture: half of one
HELD_OUT = 40  # numbers of recordings from which on they are not trained on
BATCH = 8  # mixtures of a step
CHANNELS, KERNEL, BLOCKS = 64, 16, 6
LEARNING_RATE = 2e-3
EVALUATIONS = 8
BASE = "torchmetrics, PIT"  # what the others are compared with
MANY = (2, 3, 5, 10, 20)  # sources, of which the losses are timed

Loss = Callable[[Tensor, Tensor], Tensor]  # of estimates and references, [B, 2, LENGTH]


def by_torchmetrics(estimates: Tensor, references: Tensor) -> Tensor:
    """Return the loss of permutation invariant training as torchmetrics has it."""
    metric = scale_invariant_signal_distortion_ratio
    best, _ = permutation_invariant_training(estimates, references, metric, eval_func="max")
    return -best.mean()


def by_network(estimates: Tensor, references: Tensor) -> Tensor:
    """Return the pairs' SI-SDR, each weighed by what a frozen network says of its association.

    The network was trained on distances up to 1: 0 dB is in the middle of them.
    """
    costs = -scale_invariant_signal_distortion_ratio(
        estimates[:, None, :, :].expand(-1, references.shape[1], -1, -1),
        references[:, :, None, :].expand(-1, -1, estimates.shape[1], -1),
    )
    matrix = hc.assignment_matrix((costs / 10).sigmoid(), "hnet", params=HNET)
    return (matrix * costs).sum() / (len(costs) * references.shape[1])


def in_order(estimates: Tensor, references: Tensor) -> Tensor:
    """Return the SI-SDR of source i with estimate i."""
    return -scale_invariant_signal_distortion_ratio(estimates, references).mean()


HNET = hc.hnet.load_pretrained(backend="torch")
LOSSES: dict[str, Loss] = {
    BASE: by_torchmetrics,
    "pit_loss": hc.pit_loss,
    "frozen Hnet": by_network,
    "loss, Euclidean": lambda estimates, references: hc.loss(references, estimates),
    "in a fixed order": in_order,
}


class Sounds(NamedTuple):
    """Recordings `[N, LENGTH]` of one loudness, and whose they are, `[N]`."""

    waves: Tensor
    speakers: Tensor


def read(folder: Path) -> tuple[Sounds, Sounds]:
    """Return recordings to train on, and those that are held out.

    Raises:
        SystemExit: There are none, or one is broken or of another kind.
    """
    paths = sorted(folder.glob("*.wav"))
    speakers = sorted({path.stem.split("_")[1] for path in paths if path.stem.count("_") == 2})
    parts: tuple[list[tuple[np.ndarray, int]], ...] = ([], [])
    for path in paths:
        if path.stem.count("_") != 2 or not path.stem.split("_")[2].isdecimal():
            raise SystemExit(f"{path}: expected a name like 3_theo_17.wav")
        _, speaker, number = path.stem.split("_")
        try:
            with wave.open(str(path)) as file:
                form = file.getnchannels(), file.getsampwidth(), file.getframerate()
                samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        except (wave.Error, EOFError, ValueError) as error:
            raise SystemExit(f"{path} cannot be read: {error}") from error
        if form != (1, 2, RATE):
            raise SystemExit(
                f"{path} has {form[0]} channels of {8 * form[1]} bits at {form[2]} Hz; expected "
                f"one of 16 bits at {RATE} Hz"
            )
        sound = np.zeros(LENGTH, np.float32)
        sound[: len(samples)] = samples[:LENGTH]
        sound -= sound.mean()
        if loudness := float(np.sqrt((sound**2).mean())):
            parts[int(number) >= HELD_OUT].append((sound / loudness, speakers.index(speaker)))
    for part, name in zip(parts, ("below", "from"), strict=True):
        if len({speaker for _, speaker in part}) < 2:
            raise SystemExit(
                f"{folder} has recordings of fewer than two speakers with numbers {name} "
                f"{HELD_OUT}; expected those of the Free Spoken Digit Dataset"
            )
    known, unseen = (
        Sounds(torch.tensor(np.stack([x for x, _ in part])), torch.tensor([k for _, k in part]))
        for part in parts
    )
    return known, unseen


def pairs(sounds: Sounds, count: int, random: np.random.Generator) -> Tensor:
    """Return `count` pairs of sources `[count, 2, LENGTH]` of different speakers."""
    found: list[list[int]] = []
    while len(found) < count:
        one, other = random.integers(len(sounds.waves), size=2).tolist()
        if sounds.speakers[one] != sounds.speakers[other]:
            found.append([one, other])
    return sounds.waves[torch.tensor(found)]


class Separator(nn.Module):
    """A mixture in learned frames, masked once for each source, and made sound again."""

    def __init__(self) -> None:
        super().__init__()
        step = KERNEL // 2
        self.encoder = nn.Conv1d(1, CHANNELS, KERNEL, step, padding=step, bias=False)
        self.blocks = nn.ModuleList(_Block(2**k) for k in range(BLOCKS))
        self.masks = nn.Conv1d(CHANNELS, 2 * CHANNELS, 1)
        self.decoder = nn.ConvTranspose1d(CHANNELS, 1, KERNEL, step, padding=step, bias=False)

    def forward(self, mixture: Tensor) -> Tensor:
        """Return two estimates `[B, 2, LENGTH]` of mixtures `[B, LENGTH]`."""
        frames = self.encoder(mixture[:, None]).relu()
        x = frames
        for block in self.blocks:
            x = x + block(x)
        masks = self.masks(x).sigmoid().unflatten(1, (2, CHANNELS))
        heard = (masks * frames[:, None]).flatten(0, 1)
        return self.decoder(heard)[:, 0, : mixture.shape[1]].unflatten(0, (-1, 2))


class _Block(nn.Sequential):
    def __init__(self, dilation: int) -> None:
        super().__init__(
            nn.Conv1d(CHANNELS, CHANNELS, 1),
            nn.PReLU(),
            nn.GroupNorm(1, CHANNELS),
            nn.Conv1d(CHANNELS, CHANNELS, 3, padding=dilation, dilation=dilation, groups=CHANNELS),
            nn.PReLU(),
            nn.GroupNorm(1, CHANNELS),
            nn.Conv1d(CHANNELS, CHANNELS, 1),
        )


class Run(NamedTuple):
    """What came of training by a loss.

    Attributes:
        curve: Steps, and the improvement of SI-SDR on held-out mixtures after them, in dB.
        milliseconds: Of a step, the median.
        loss_milliseconds: Of its loss with the gradient in the estimates, the median.
    """

    curve: list[tuple[int, float]]
    milliseconds: float
    loss_milliseconds: float


@torch.no_grad()
def improvement(model: nn.Module, sources: Tensor) -> float:
    """Return by how much estimates are above their mixture, by SI-SDR in the better order.

    The orders of torchmetrics and of `pit_loss` have to be the same.
    """
    mixture = sources.sum(1)
    estimates = torch.cat([model(some) for some in mixture.split(BATCH)])
    metric = scale_invariant_signal_distortion_ratio
    best, order = permutation_invariant_training(estimates, sources, metric, eval_func="max")
    _, match = hc.pit_loss(estimates, sources, return_assignment=True)
    if not torch.equal(order, match.col4row):
        raise AssertionError("two ways to find the order of sources differ")
    before = metric(mixture[:, None].expand_as(sources), sources).mean()
    return float(best.mean() - before)


def train(
    name: str,
    seed: int,
    steps: int,
    judges: int,
    sounds: tuple[Sounds, Sounds],
    checkpoints: Path,
    resume: bool,
) -> Run:
    """Train a separator, or go on with it; a run that was cut off ends with the same figures."""
    torch.set_num_threads(1)  # the work is too small to share; the runs are shared instead
    known, unseen = sounds
    torch.manual_seed(seed)
    model = Separator()
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    judged = pairs(unseen, judges, np.random.default_rng(0))
    slug = "".join(c if c.isalnum() else "_" for c in name)
    path = checkpoints / f"{slug}-seed{seed}-{steps}.pt"
    done: dict[str, Any] = {"step": 0, "curve": [(0, improvement(model, judged))], "times": []}
    if resume and path.exists():
        found = torch.load(path, weights_only=True)
        model.load_state_dict(found["model"])
        optimizer.load_state_dict(found["optimizer"])
        done = found["done"]
    for step in range(done["step"], steps):
        sources = pairs(known, BATCH, np.random.default_rng([seed, step]))
        started = time.perf_counter()
        estimates = model(sources.sum(1))
        before = time.perf_counter()
        leaf = estimates.detach().requires_grad_()
        (slope,) = torch.autograd.grad(LOSSES[name](leaf, sources), leaf)
        of_loss = time.perf_counter() - before
        optimizer.zero_grad()
        estimates.backward(slope)
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        done["times"].append((1e3 * (time.perf_counter() - started), 1e3 * of_loss))
        if (step + 1) * EVALUATIONS // steps > step * EVALUATIONS // steps:
            done |= {"step": step + 1}
            done["curve"].append((step + 1, improvement(model, judged)))
            checkpoints.mkdir(parents=True, exist_ok=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "done": done}, path.with_suffix(".new"))
            os.replace(path.with_suffix(".new"), path)
    whole, of_loss = np.median(np.array(done["times"]), axis=0).tolist()
    return Run([tuple(point) for point in done["curve"]], whole, of_loss)


def timed(repeats: int, many: Sequence[int]) -> dict[int, dict[str, float]]:
    """Return the milliseconds of both permutation invariant losses of many sources, at their best.

    Four mixtures; forward and backward. The losses are compared first.
    """
    torch.set_num_threads(1)
    found: dict[int, dict[str, float]] = {}
    for sources in many:
        torch.manual_seed(0)
        references = torch.randn(4, sources, LENGTH)
        estimates = (references.flip(1) + torch.randn_like(references)).requires_grad_()
        ways = {name: LOSSES[name] for name in (BASE, "pit_loss")}
        values = [loss(estimates, references) for loss in ways.values()]
        torch.testing.assert_close(*values)
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(repeats):
            for name, loss in ways.items():
                started = time.perf_counter()
                torch.autograd.grad(loss(estimates, references), estimates)
                best[name] = min(best[name], 1e3 * (time.perf_counter() - started))
        found[sources] = best
    return found


def tabulated(found: dict[str, list[Run]]) -> str:
    """Return the table of losses."""
    last = {name: [run.curve[-1][1] for run in runs] for name, runs in found.items()}
    ahead = differences(last, BASE)
    rows = []
    for name, runs in found.items():
        whole, of_loss = (
            np.mean([getattr(run, field) for run in runs])
            for field in ("milliseconds", "loss_milliseconds")
        )
        over = ahead.get(name, "")
        rows.append([name, mean(last[name]), over, f"{whole:.1f}", f"{of_loss:.2f}"])
    head = ["loss", "SI-SDR improvement, dB", "less that of torchmetrics", "ms per step",
            "ms of its loss"]  # fmt: skip
    return table(head, rows)


def draw(found: dict[str, list[Run]], path: Path) -> None:
    """Draw how the losses learn: the mean over seeds as a line, their range as a band."""
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    axes = figure.subplots()
    for k, (name, runs) in enumerate(found.items()):
        x = [step for step, _ in runs[0].curve]
        values = np.array([[y for _, y in run.curve] for run in runs])
        axes.plot(x, values.mean(0), "--" if k == 0 else "-", lw=2, label=name, zorder=3 - k / 10)
        axes.fill_between(x, values.min(0), values.max(0), alpha=0.15, lw=0)
    axes.set(xlabel="steps of training", ylabel="SI-SDR improvement on held-out mixtures (dB)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110, format="png")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the experiment and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of recordings, {digit}_{speaker}_{number}.wav")
    parser.add_argument("--steps", type=int, default=1200, help="of training (%(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="their number (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path(), help="a folder (the current one)")
    parser.add_argument(
        "--unseen", type=int, default=200, help="mixtures to judge by (%(default)s)"
    )
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (%(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints")
    parser.add_argument("--quick", action="store_true", help="8 steps: only see that it runs")
    given = parser.parse_args(argv)
    steps, seeds, judges = (8, 1, 8) if given.quick else (given.steps, given.seeds, given.unseen)
    if steps < EVALUATIONS or min(seeds, judges, given.workers) < 1:
        parser.error(f"expected {EVALUATIONS} steps, a seed, a worker and a mixture at least")
    given.output.mkdir(parents=True, exist_ok=True)
    sounds = read(given.folder)
    print(f"{given.folder}: {len(sounds[0].waves)} recordings and {len(sounds[1].waves)} held out")
    found: dict[str, list[Run]] = {name: [] for name in LOSSES}
    one = functools.partial(
        train, steps=steps, judges=judges, sounds=sounds, checkpoints=given.output / "checkpoints",
        resume=given.resume,
    )  # fmt: skip
    jobs = list(itertools.product(LOSSES, range(seeds)))
    for (name, seed), run in zip(jobs, several(one, jobs, given.workers), strict=True):
        found[name].append(run)
        print(f"{name:<20} seed {seed}  {run.curve[-1][1]:6.2f} dB", flush=True)
    times = timed(2, MANY[:2]) if given.quick else timed(20, MANY)
    head = ["sources", *(f"{name}, ms" for name in (BASE, "pit_loss"))]
    of_many = table(head, [[k, *(f"{x:.2f}" for x in row.values())] for k, row in times.items()])
    path = given.output / "sound_separation.png"
    draw(found, path)
    text = tabulated(found) + "\n" + of_many
    path.with_suffix(".md").write_text(text)
    settings = {"steps": steps, "seeds": seeds, "batch": BATCH, "unseen": judges}
    runs = {name: [run._asdict() for run in each] for name, each in found.items()}
    everything = {
        "settings": settings,
        "machine": machine("numpy", "torch", "torchmetrics", "hungarian-core"),
        "runs": runs,
        "milliseconds_of_many_sources": times,
    }
    path.with_suffix(".json").write_text(json.dumps(everything) + "\n")
    print(f"\n{text}\n{path} shows it.")


if __name__ == "__main__":
    main()
