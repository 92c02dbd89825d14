"""Learn how an expert matches, by every way of differentiating through a matching.

    python examples/differentiable_matching.py --output FOLDER

Twelve rows and fifteen columns are to be matched, such as couriers and orders. Numbers tell of each
pair, of each row and of each column. An expert has weights for these, which nobody else knows, and
a little of his own mind about each pair; he takes the matching of least cost and leaves out, on
both sides, what would cost more than nothing. Rows want the same few columns, so who gets which
depends on all others. From examples of what he did, weights are learned that do the same.
Data, initial weights, optimiser and steps are the same for every way; a seed changes the first two.
The folder gets `differentiable_matching.png`, quality against time, `.json`, every figure, and
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
from runs import machine
from torch import Tensor

import hungarian_core as hc

ROWS, COLUMNS = 12, 15
OF_PAIR, OF_ROW, OF_COLUMN = 6, 3, 3  # numbers that tell of each
LOUDNESS = 1.5  # of the weights of rows and columns, where those of pairs have 1
NOISE = 0.3  # standard deviation of the expert's own mind
BATCH, HELD_OUT, TUNING = 32, 500, 300
RATE = 3e-2
EVALUATIONS = 10
TURNS = 30  # of timing
# Where prices of staying alone are searched: among learned costs, so many of which are below.
PRICES = torch.linspace(0.02, 0.9, 45)

# Of cost[B, n, m + n], truth[B, n, m + n] and the step. The last n columns are for staying alone;
# those in ALONE get [B, n, m], without them.
Loss = Callable[[Tensor, Tensor, int], Tensor]


def by_matrix(method: str, **options: Any) -> Loss:
    """Return the squared distance of a matrix of association from the true matching."""

    def loss(cost: Tensor, truth: Tensor, step: int) -> Tensor:
        seeded = {"seed": step} if method in ("perturbed", "gumbel_sinkhorn") else {}
        matrix = hc.assignment_matrix(cost, method, **options, **seeded)
        return ((matrix - truth)[..., :COLUMNS] ** 2).sum() / len(cost)

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
    """Return the same of what a frozen network says, which was trained on distances up to 1."""
    matrix = hc.assignment_matrix(cost.sigmoid(), "hnet", params=HNET)
    return ((matrix - truth)[..., :COLUMNS] ** 2).sum() / len(cost)


def likelihood(cost: Tensor, truth: Tensor, step: int) -> Tensor:
    """Return the negative log-likelihood of who has whom, or nobody, under Sinkhorn's matrix."""
    matrix = hc.assignment_matrix(cost, "sinkhorn", temperature=TEMPERATURE)
    alone = matrix[..., COLUMNS:].sum(-1), truth[..., COLUMNS:].sum(-1)
    pairs = matrix[..., :COLUMNS], truth[..., :COLUMNS]
    return -sum(((x + 1e-9).log() * y).sum() for x, y in (pairs, alone)) / len(cost)


def choices(cost: Tensor, truth: Tensor) -> Tensor:
    """Return the cross entropy of each row's choice among columns, and staying alone for 0."""
    logits = torch.nn.functional.pad(-cost / TEMPERATURE, (0, 1))
    chosen = torch.cat([truth, 1 - truth.sum(-1, keepdim=True)], -1)
    return -(logits.log_softmax(-1) * chosen).sum() / len(cost)


def rows_alone(cost: Tensor, truth: Tensor, step: int) -> Tensor:
    """Return the cross entropy of what rows choose, each on its own."""
    return choices(cost, truth)


def rows_and_columns(cost: Tensor, truth: Tensor, step: int) -> Tensor:
    """Return the cross entropies of what rows and what columns choose, each on its own."""
    return sum(choices(x, y) for x, y in ((cost, truth), (cost.mT, truth.mT)))


def each_pair(cost: Tensor, truth: Tensor, step: int) -> Tensor:
    """Return the cross entropy of whether pairs were matched, each on its own."""
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    return entropy(-cost / TEMPERATURE, truth, reduction="sum") / len(cost)


TEMPERATURE, MARGIN = 1.0, 1.0  # the scale of the costs is learned
HNET = hc.hnet.load_pretrained(max_len=10, backend="torch")
WAYS: dict[str, Loss] = {
    "assignment_cost, as a perceptron": perceptron,
    "fenchel_young_loss": fenchel_young,
    "blackbox": by_matrix("blackbox", interpolation=10.0),
    "perturbed": by_matrix("perturbed", temperature=1.0, samples=64),
    "sinkhorn": by_matrix("sinkhorn", temperature=TEMPERATURE),
    "sinkhorn, log-likelihood": likelihood,
    "sinkhorn_implicit": by_matrix("sinkhorn_implicit", temperature=TEMPERATURE),
    "gumbel_sinkhorn": by_matrix("gumbel_sinkhorn", temperature=TEMPERATURE, noise_scale=0.5),
    "dykstra": by_matrix("dykstra", temperature=TEMPERATURE),
    "hnet": by_network,
    "softmax of rows, no matching": rows_alone,
    "softmax of rows and columns, no matching": rows_and_columns,
    "logistic of pairs, no matching": each_pair,
}
ALONE = (rows_alone, rows_and_columns, each_pair)


class Examples(NamedTuple):
    """What is known of pairs, and what the expert did."""

    features: Tensor  # [N, n, m, d]
    truth: Tensor  # [N, n, m], 1 where a row has a column


def examples(count: int, weights: Tensor, generator: torch.Generator) -> Examples:
    """Return `count` examples of an expert with such weights."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    shape = (count, ROWS, COLUMNS, -1)
    of_row, of_column = normal(ROWS, 1, OF_ROW), normal(1, COLUMNS, OF_COLUMN)
    parts = (normal(ROWS, COLUMNS, OF_PAIR), of_row.expand(shape), of_column.expand(shape))
    features = torch.cat(parts, dim=-1)
    minded = features @ weights + NOISE * normal(ROWS, COLUMNS)
    return Examples(features, matched(minded))


def matched(cost: Tensor) -> Tensor:
    """Return the matching of least cost, in which staying alone costs nothing."""
    return hc.assign(cost, unmatched_cost=0.0).mask().float()


def with_alone(cost: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Add a column for each row, in which it may stay alone for 0: `[N, n, m + n]`."""
    alone = torch.diag_embed(1 - truth.sum(-1))
    return torch.cat([cost, torch.zeros_like(alone)], -1), torch.cat([truth, alone], -1)


def agreement(cost: Tensor, truth: Tensor) -> float:
    """Return twice the pairs that are common to both, over all pairs of both (F1)."""
    found = matched(cost)
    return float(2 * (found * truth).sum() / (found.sum() + truth.sum()))


class Judge:
    """Tells how far costs agree with an expert, on examples that nobody learns from.

    Attributes:
        held_out: The examples that count.
        tuning: Others, on which the price of staying alone is searched. What is learned otherwise
            than by a matching may order all pairs rightly and still have them all too dear.
    """

    def __init__(self, weights: Tensor, generator: torch.Generator) -> None:
        self.held_out, self.tuning = (examples(x, weights, generator) for x in (HELD_OUT, TUNING))

    def __call__(self, costs: Callable[[Tensor], Tensor]) -> tuple[float, float]:
        """Return the agreement as learned, and with the best price of staying alone."""
        with torch.no_grad():
            known, unseen = costs(self.tuning.features), costs(self.held_out.features)
        prices = [0.0, *torch.quantile(known[:50].flatten(), PRICES).tolist()]
        tried = [agreement(known - price, self.tuning.truth) for price in prices]
        price = prices[int(np.argmax(tried))]
        truth = self.held_out.truth
        return agreement(unseen, truth), agreement(unseen - price, truth)


class Run(NamedTuple):
    """What came of training in one way, from the start on."""

    as_learned: list[float]
    agreement: list[float]  # with the best price of staying alone


def expert(seed: int) -> tuple[Tensor, torch.Generator]:
    """Return the weights of the expert of a seed, and the generator that drew them."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(OF_PAIR + OF_ROW + OF_COLUMN, generator=generator)
    weights[OF_PAIR:] *= LOUDNESS
    return weights, generator


def best(seed: int) -> float:
    """Return how far one agrees with the expert who knows his weights, but not his mind."""
    weights, generator = expert(seed)
    return Judge(weights, generator)(lambda features: features @ weights)[1]


def stepped(loss: Loss, learned: Tensor, batch: Examples, step: int) -> None:
    """Set the gradient of a loss."""
    learned.grad = None
    given = batch.features @ learned[:-1] + learned[-1], batch.truth
    loss(*(given if loss in ALONE else with_alone(*given)), step).backward()


def train(loss: Loss, seed: int, steps: int) -> Run:
    """Learn the weights, and what a pair costs beside them, by a loss."""
    weights, generator = expert(seed)
    judge = Judge(weights, generator)
    learned = torch.cat([0.1 * torch.randn(len(weights), generator=generator), torch.zeros(1)])
    learned.requires_grad_()

    def judged() -> tuple[float, float]:
        return judge(lambda features: features @ learned[:-1] + learned[-1])

    optimizer = torch.optim.Adam([learned], RATE)
    found = [judged()]
    for step in range(steps):
        stepped(loss, learned, examples(BATCH, weights, generator), step)
        optimizer.step()
        if (step + 1) * EVALUATIONS // steps > step * EVALUATIONS // steps:
            found.append(judged())
    return Run(*map(list, zip(*found, strict=True)))


def milliseconds(turns: int) -> dict[str, float]:
    """Return the median time of loss and gradient, of weights half learned; all take turns."""
    weights, generator = expert(0)
    learned = torch.cat([weights / 2, torch.zeros(1)]).requires_grad_()
    took: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(turns):
        batch = examples(BATCH, weights, generator)
        for name, loss in WAYS.items():
            started = time.perf_counter()
            stepped(loss, learned, batch, turn)
            took[name].append(1e3 * (time.perf_counter() - started))
    return {name: float(np.median(each)) for name, each in took.items()}


Runs = dict[str, list[Run]]


def table(found: Runs, possible: Sequence[float], took: dict[str, float]) -> str:
    """Return quality and time of every way, in Markdown: means over seeds, and a range.

    Experts are not equally hard to imitate, so that each is compared with what is possible.
    """
    head = "| way | agreement | behind what is possible | as learned, behind | ms per step |"
    lines = [head, "|---|---|---|---|---|"]
    for name, runs in found.items():
        searched, learned = (
            100 * np.array([each[-1] for each in of_runs])
            for of_runs in zip(*((run.agreement, run.as_learned) for run in runs), strict=True)
        )
        behind, before = (100 * np.array(possible) - x for x in (searched, learned))
        spread = f"{behind.mean():.1f} ({behind.min():.1f} to {behind.max():.1f})"
        cells = (name, f"{searched.mean():.1f}%", spread, f"{before.mean():.1f}")
        lines.append(f"| {' | '.join(cells)} | {took[name]:.2f} |")
    lines.append(f"| who knows the weights | {np.mean(possible):.1%} |  |  |  |")
    return "\n".join(lines) + "\n"


# Of Okabe and Ito, told apart by colour-blind readers too; line styles tell the families apart.
COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#D55E00", "#E69F00", "#CC79A7", "#F0E442", "#000000")
MARKERS = "osD^vP*X<>phd"


def draw(
    found: Runs, possible: Sequence[float], took: dict[str, float], steps: int, path: Path
) -> None:
    """Draw how the ways learn, and how long a step of each takes."""
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    learning, time_taken = figure.subplots(1, 2, sharey=True)
    at = np.linspace(0, steps, EVALUATIONS + 1)
    for k, (name, runs) in enumerate(found.items()):
        style = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k]}
        values = 100 * np.array([run.agreement for run in runs])
        learning.plot(
            at, values.mean(0), ms=5, label=name, ls="--" if "," in name else "-", **style
        )
        time_taken.plot(took[name], values[:, -1].mean(), ms=9, **style)
    learning.set(xlabel="steps", ylabel="agreement on held-out examples (%)", title="Learning")
    title = "milliseconds per step: loss and gradient"
    time_taken.set(xscale="log", xlabel=title, title="At the end")
    for axes in (learning, time_taken):
        axes.axhline(100 * np.mean(possible), color="grey", ls=":")
        axes.grid(alpha=0.3, which="both")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110, format="png")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the experiment and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=300, help="of training (%(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="their number (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path(), help="a folder (the current one)")
    parser.add_argument("--quick", action="store_true", help="10 steps: only see that it runs")
    given = parser.parse_args(argv)
    steps, seeds = (10, 1) if given.quick else (given.steps, given.seeds)
    given.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the work is too small to share

    found: Runs = {}
    for name, loss in WAYS.items():
        found[name] = [train(loss, seed, steps) for seed in range(seeds)]
        print(f"{name:<42} {np.mean([r.agreement[-1] for r in found[name]]):.1%}", flush=True)
    path = given.output / "differentiable_matching.png"
    possible = [best(seed) for seed in range(seeds)]
    took = milliseconds(2 if given.quick else TURNS)
    draw(found, possible, took, steps, path)
    path.with_suffix(".md").write_text(table(found, possible, took))
    settings = {"steps": steps, "seeds": seeds, "batch": BATCH, "rows": ROWS,
                "columns": COLUMNS, "possible": possible}  # fmt: skip
    runs = {name: [run._asdict() for run in of_seeds] for name, of_seeds in found.items()}
    on = machine("numpy", "torch", "hungarian-core")
    everything = {"settings": settings, "machine": on, "milliseconds": took, "runs": runs}
    path.with_suffix(".json").write_text(json.dumps(everything) + "\n")
    print(f"\n{table(found, possible, took)}\n{path} shows it.")


if __name__ == "__main__":
    main()
