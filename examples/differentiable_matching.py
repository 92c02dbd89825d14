"""Learn to match by every way of differentiating through a matching, and compare them.

    python examples/differentiable_matching.py --output FOLDER

Two views show the same ten objects, in an unknown order: a few numbers that tell the objects
apart, with noise, among many that say nothing, all mixed by a rotation of each view's own. Two
linear maps learn to undo that, so that distances between the mapped views give back the order.
Data, initial maps, optimiser and steps are the same for every way; a seed changes the first two.
The folder gets `differentiable_matching.png`, quality against cost, `.json`, every figure, and
`.md`, the table. It needs the extra `torch`, and matplotlib.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

import hungarian_core as hc

OBJECTS = 10
SIGNAL, CLUTTER, EMBEDDING = 4, 28, 8  # numbers per object: telling, saying nothing, learned
NOISE, LOUDNESS = 0.35, 2.0  # standard deviations, where the signal has 1
BATCH, HELD_OUT = 32, 500
RATE = 5e-3
EVALUATIONS = 10

Loss = Callable[[Tensor, Tensor, int], Tensor]  # of cost[B, n, n], truth[B, n, n] and the step


def by_matrix(method: str, **options: Any) -> Loss:
    """Return the squared distance of a matrix of association from the true permutation."""

    def loss(cost: Tensor, truth: Tensor, step: int) -> Tensor:
        seeded = {"seed": step} if method in ("perturbed", "gumbel_sinkhorn") else {}
        matrix = hc.assignment_matrix(cost, method, **options, **seeded)
        return ((matrix - truth) ** 2).sum() / len(cost)

    return loss


def perceptron(cost: Tensor, truth: Tensor, step: int) -> Tensor:
    """Return by how much the true matching costs more than the best, as it is with a margin.

    Pairs that are right are made dearer by the margin first, so that the truth has to win by it.
    """
    cost = cost + MARGIN * truth
    return ((cost * truth).sum((-2, -1)) - hc.assignment_cost(cost)).mean()


def fenchel_young(cost: Tensor, truth: Tensor, step: int) -> Tensor:
    """Return the loss whose slope is the true matching less the mean of perturbed ones."""
    return hc.fenchel_young_loss(cost, truth, temperature=TEMPERATURE, seed=step).mean()


def by_network(cost: Tensor, truth: Tensor, step: int) -> Tensor:
    """Return the same of what a frozen network says, which was trained on distances up to 2."""
    distance = (cost + 1e-12).sqrt() / 2
    matrix = hc.assignment_matrix(distance, "hnet", params=HNET)
    return ((matrix - truth) ** 2).sum() / len(cost)


def likelihood(cost: Tensor, truth: Tensor, step: int) -> Tensor:
    """Return the negative log-likelihood of the true pairs under Sinkhorn's matrix."""
    matrix = hc.assignment_matrix(cost, "sinkhorn", temperature=TEMPERATURE)
    return -((matrix + 1e-9).log() * truth).sum() / len(cost)


def softmax(cost: Tensor, truth: Tensor, step: int) -> Tensor:
    """Return the cross entropy of rows and columns, each on its own: no matching at all."""
    rows, columns = (-cost / TEMPERATURE).log_softmax(-1), (-cost / TEMPERATURE).log_softmax(-2)
    return -((rows + columns) * truth).sum() / len(cost)


TEMPERATURE, MARGIN = 1.0, 1.0
HNET = hc.hnet.load_pretrained(max_len=10, backend="torch")
WAYS: dict[str, Loss] = {
    "assignment_cost, as a perceptron": perceptron,
    "fenchel_young_loss": fenchel_young,
    "blackbox": by_matrix("blackbox", interpolation=10.0),
    "perturbed": by_matrix("perturbed", temperature=2.0, samples=64),
    "sinkhorn": by_matrix("sinkhorn", temperature=TEMPERATURE),
    "sinkhorn, log-likelihood": likelihood,
    "sinkhorn_implicit": by_matrix("sinkhorn_implicit", temperature=TEMPERATURE),
    "gumbel_sinkhorn": by_matrix("gumbel_sinkhorn", temperature=TEMPERATURE, noise_scale=0.5),
    "dykstra": by_matrix("dykstra", temperature=TEMPERATURE),
    "hnet": by_network,
    "softmax, no matching": softmax,
}


class Views(NamedTuple):
    """Two views of sets of objects, and who is who."""

    first: Tensor  # [N, n, d]
    second: Tensor  # [N, n, d]
    truth: Tensor  # [N, n, n], 1 where an object of the first is one of the second


def views(count: int, rotations: Tensor, generator: torch.Generator) -> Views:
    """Return `count` sets of objects in both views."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    signal = normal(count, OBJECTS, SIGNAL)
    seen = []
    for rotation in rotations:
        clutter = LOUDNESS * normal(count, OBJECTS, CLUTTER)
        noisy = signal + NOISE * normal(count, OBJECTS, SIGNAL)
        seen.append(torch.cat([noisy, clutter], dim=-1) @ rotation)
    order = torch.rand(count, OBJECTS, generator=generator).argsort(-1)
    second = torch.take_along_dim(seen[1], order[..., None], 1)
    truth = (order[:, None, :] == torch.arange(OBJECTS)[:, None]).float()
    return Views(seen[0], second, truth)


def costs(maps: Tensor, given: Views) -> Tensor:
    """Return the squared distances `[N, n, n]` of the mapped views."""
    return torch.cdist(given.first @ maps[0], given.second @ maps[1]) ** 2


def accuracy(cost: Tensor, truth: Tensor) -> float:
    """Return the share of objects that the best matching gets right."""
    return float((hc.assign(cost).mask() & (truth > 0)).sum() / truth.sum())


class Run(NamedTuple):
    """What came of training in one way."""

    accuracy: list[float]  # on held-out sets, in the course of training, the start included
    milliseconds: float  # per step, the median: loss and gradient


def train(loss: Loss, seed: int, steps: int) -> Run:
    """Learn the maps by a loss."""
    generator = torch.Generator().manual_seed(seed)
    size = SIGNAL + CLUTTER
    rotations = torch.linalg.qr(torch.randn(2, size, size, generator=generator))[0]
    unseen = views(HELD_OUT, rotations, generator)
    # Distances of the order of the temperature: colder, most of the gradients vanish.
    maps = 0.2 * torch.randn(2, size, EMBEDDING, generator=generator) / size**0.5
    maps.requires_grad_()
    optimizer = torch.optim.Adam([maps], RATE)
    found, took = [accuracy(costs(maps, unseen).detach(), unseen.truth)], []
    for step in range(steps):
        batch = views(BATCH, rotations, generator)
        started = time.perf_counter()
        optimizer.zero_grad()
        loss(costs(maps, batch), batch.truth, step).backward()
        took.append(1e3 * (time.perf_counter() - started))
        optimizer.step()
        if (step + 1) * EVALUATIONS // steps > step * EVALUATIONS // steps:
            found.append(accuracy(costs(maps, unseen).detach(), unseen.truth))
    return Run(found, float(np.median(took)))


Runs = dict[str, list[Run]]


def table(found: Runs) -> str:
    """Return quality and cost of every way, in Markdown; the mean over seeds, and the range."""
    lines = ["| way | objects matched rightly | milliseconds per step |", "|---|---|---|"]
    for name, runs in found.items():
        last = np.array([run.accuracy[-1] for run in runs])
        spread = f"{last.mean():.1%} ({last.min():.1%} to {last.max():.1%})"
        lines.append(f"| {name} | {spread} | {np.mean([r.milliseconds for r in runs]):.2f} |")
    return "\n".join(lines) + "\n"


# Of Okabe and Ito, told apart by colour-blind readers too; line styles tell the families apart.
COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#D55E00", "#E69F00", "#CC79A7", "#F0E442", "#000000")
MARKERS = "osD^vP*X<>p"


def draw(found: Runs, steps: int, path: Path) -> None:
    """Draw how the ways learn, and what a step of each costs."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    learning, price = figure.subplots(1, 2, sharey=True)
    at = np.linspace(0, steps, EVALUATIONS + 1)
    for k, (name, runs) in enumerate(found.items()):
        style = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k]}
        values = 100 * np.array([run.accuracy for run in runs])
        learning.plot(
            at, values.mean(0), ms=5, label=name, ls="--" if "," in name else "-", **style
        )
        last, cost = values[:, -1], np.mean([run.milliseconds for run in runs])
        spread = [[last.mean() - last.min()], [last.max() - last.mean()]]
        price.errorbar(cost, last.mean(), spread, ms=9, capsize=3, **style)
    learning.set(xlabel="steps", ylabel="held-out objects matched rightly (%)", title="Learning")
    price.set(xscale="log", xlabel="milliseconds per step: loss and gradient", title="At the end")
    for axes in (learning, price):
        axes.grid(alpha=0.3, which="both")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=110, format="png")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the experiment and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=500, help="of training (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="their number (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path(), help="a folder (the current one)")
    parser.add_argument("--quick", action="store_true", help="10 steps: only see that it runs")
    given = parser.parse_args(argv)
    steps, seeds = (10, 1) if given.quick else (given.steps, given.seeds)
    given.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the work is too small to share

    found: Runs = {}
    for name, loss in WAYS.items():
        found[name] = [train(loss, seed, steps) for seed in range(seeds)]
        print(f"{name:<34} {np.mean([r.accuracy[-1] for r in found[name]]):.1%}", flush=True)
    path = given.output / "differentiable_matching.png"
    draw(found, steps, path)
    path.with_suffix(".md").write_text(table(found))
    settings = {"steps": steps, "seeds": seeds, "batch": BATCH, "objects": OBJECTS,
                "torch": torch.__version__}  # fmt: skip
    runs = {name: [run._asdict() for run in of_seeds] for name, of_seeds in found.items()}
    path.with_suffix(".json").write_text(json.dumps({"settings": settings, "runs": runs}) + "\n")
    print(f"\n{table(found)}\n{path} shows it.")


if __name__ == "__main__":
    main()
