"""Train a regressor of two directions of arrival by three losses, in PyTorch and in JAX.

    python examples/directions.py --output FOLDER

Two sources speak at once. What the regressor gets is what a microphone array gives in each of 24
bins of time and frequency: the sum of the directions of the sources, weighted by their loudness
there, with noise. Nothing says which source comes first, so a loss has to match:

- `pit_loss`: the least mean squared error over the permutations;
- a frozen Hnet: distances weighted by its soft association, through which gradients go as well;
- `loss`: the angles of the optimally matched pairs.

The folder gets `directions.png`, the curves, `directions.json` and `directions.md`, the table of
angular errors. It needs the extras `torch` and `jax`, optax, safetensors and matplotlib.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import hungarian_core as hc

BINS, SOURCES, WIDTH = 24, 2, 64
BATCH, HELD_OUT, RATE = 64, 2000, 2e-3
EVALUATIONS = 10
Arrays = dict[str, Any]


def scenes(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return features `[N, BINS, 3]` and unit vectors `[N, SOURCES, 3]` in no order."""
    directions = rng.normal(size=(count, SOURCES, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    # A bin is mostly of one source: speech is sparse.
    shares = rng.dirichlet([0.4] * SOURCES, size=(count, BINS))
    features = shares @ directions + 0.2 * rng.normal(size=(count, BINS, 3))
    return features.astype(np.float32), directions.astype(np.float32)


def initial(seed: int) -> Arrays:
    """Return the weights of a regressor: a network for each bin, one for their mean and spread."""
    rng = np.random.default_rng(seed)
    sizes = {"bin": (3, WIDTH), "bin2": (WIDTH, WIDTH), "all": (2 * WIDTH, WIDTH),
             "out": (WIDTH, 3 * SOURCES)}  # fmt: skip
    weights = {k: rng.normal(size=s) * (2 / s[0]) ** 0.5 for k, s in sizes.items()}
    biases = {f"{k} bias": np.zeros(s[1]) for k, s in sizes.items()}
    return {k: x.astype(np.float32) for k, x in (weights | biases).items()}


def regress(xp: Any, p: Arrays, features: Any) -> Any:
    """Return directions `[B, SOURCES, 3]`, not of length 1, of features `[B, BINS, 3]`."""
    x = xp.tanh(features @ p["bin"] + p["bin bias"])
    x = xp.tanh(x @ p["bin2"] + p["bin2 bias"])
    x = xp.concatenate([x.mean(1), x.max(1)[0] if xp is torch else x.max(1)], -1)
    x = xp.tanh(x @ p["all"] + p["all bias"])
    return (x @ p["out"] + p["out bias"]).reshape(len(features), SOURCES, 3)


# The losses, of predicted and true directions [B, SOURCES, 3], in either framework


def by_permutation(predicted: Any, true: Any, hnet: Arrays) -> Any:
    """Return the mean squared error of the best permutation: coordinates stand in for time."""
    return hc.pit_loss(predicted, true, metric="mse")


def by_hnet(predicted: Any, true: Any, hnet: Arrays) -> Any:
    """Return the distance of associated pairs, and the share of true directions left without.

    As in Adavanne et al., Differentiable Tracking-Based Training of Deep Learning Sound Source
    Localizers, WASPAA 2021: localisation error and misses, both through the soft association.
    """
    distance = (((predicted[:, None] - true[:, :, None]) ** 2).sum(-1) + 1e-12) ** 0.5
    association = hc.hnet.associate(distance, hnet)
    misses = SOURCES - association.sum((-2, -1))
    return ((association * distance).sum((-2, -1)) + misses).mean() / SOURCES


def by_matching(predicted: Any, true: Any, hnet: Arrays) -> Any:
    """Return the mean angle of the optimally matched pairs."""
    return hc.loss(true, predicted, cost="angular")


LOSSES: dict[str, Callable[[Any, Any, Arrays], Any]] = {
    "pit_loss": by_permutation,
    "frozen Hnet": by_hnet,
    "Hungarian loss": by_matching,
}


def error(predicted: np.ndarray, true: np.ndarray) -> float:
    """Return the mean angle in degrees between matched directions."""
    return float(np.degrees(hc.loss(true, predicted, cost="angular")))


Judge = Callable[[np.ndarray], None]  # of the predictions on held-out scenes


def in_torch(loss: Any, weights: Arrays, batches: Any, unseen: np.ndarray, judge: Judge) -> None:
    """Train in PyTorch; let `judge` see held-out predictions between the parts of `batches`."""
    p = {k: torch.tensor(x, requires_grad=True) for k, x in weights.items()}
    hnet = {k: torch.tensor(x) for k, x in hc.hnet.load_pretrained(2).items()}
    optimizer = torch.optim.Adam(p.values(), RATE)
    held_out = torch.tensor(unseen)
    for part in batches:
        for features, true in part:
            optimizer.zero_grad()
            predicted = regress(torch, p, torch.tensor(features))
            loss(predicted, torch.tensor(true), hnet).backward()
            optimizer.step()
        with torch.no_grad():
            judge(regress(torch, p, held_out).numpy())


def in_jax(loss: Any, weights: Arrays, batches: Any, unseen: np.ndarray, judge: Judge) -> None:
    """Train in JAX, compiled; let `judge` see held-out predictions as above."""
    p = {k: jnp.asarray(x) for k, x in weights.items()}
    hnet = {k: jnp.asarray(x) for k, x in hc.hnet.load_pretrained(2).items()}
    optimizer = optax.adam(RATE)
    state = optimizer.init(p)

    @jax.jit
    def step(p: Arrays, state: Any, features: Any, true: Any) -> tuple[Arrays, Any]:
        slopes = jax.grad(lambda p: loss(regress(jnp, p, features), true, hnet))(p)
        updates, state = optimizer.update(slopes, state)
        return optax.apply_updates(p, updates), state

    for part in batches:
        for features, true in part:
            p, state = step(p, state, features, true)
        judge(np.asarray(regress(jnp, p, jnp.asarray(unseen))))


FRAMEWORKS = {"PyTorch": in_torch, "JAX": in_jax}


def train(name: str, framework: str, seed: int, steps: int) -> list[float]:
    """Return the angular error on held-out scenes in the course of training."""
    rng = np.random.default_rng(seed)
    unseen, truth = scenes(HELD_OUT, rng)
    ends = [steps * (k + 1) // EVALUATIONS for k in range(EVALUATIONS)]
    batches = (
        (scenes(BATCH, rng) for _ in range(stop - start))
        for start, stop in zip([0, *ends], ends, strict=False)
    )
    curve: list[float] = []
    FRAMEWORKS[framework](
        LOSSES[name], initial(seed), batches, unseen, lambda x: curve.append(error(x, truth))
    )
    return curve


Curves = dict[str, dict[str, list[list[float]]]]  # by loss, by framework, of each seed


def table(found: Curves) -> str:
    """Return the final errors in Markdown: the mean over seeds, and the range."""
    lines = [f"| loss | {' | '.join(FRAMEWORKS)} |", "|---|---|---|"]
    for name, by_framework in found.items():
        last = [np.array([curve[-1] for curve in by_framework[f]]) for f in FRAMEWORKS]
        cells = [f"{x.mean():.2f}° ({x.min():.2f} to {x.max():.2f})" for x in last]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


COLOURS = ("#0072B2", "#D55E00", "#009E73")  # of Okabe and Ito


def draw(found: Curves, steps: int, path: Path) -> None:
    """Draw the errors in the course of training, one panel per framework."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    at = steps * np.arange(1, EVALUATIONS + 1) / EVALUATIONS
    for axes, framework in zip(figure.subplots(1, 2, sharey=True), FRAMEWORKS, strict=True):
        for (name, by_framework), colour, marker in zip(found.items(), COLOURS, "os^", strict=True):
            values = np.array(by_framework[framework])
            axes.plot(at, values.mean(0), color=colour, marker=marker, ms=4, label=name)
            axes.fill_between(at, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
        axes.set(title=framework, xlabel="steps of training")
        axes.grid(alpha=0.3)
    figure.axes[0].set(ylabel="angular error on held-out scenes (degrees)", ylim=(0, None))
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110, format="png")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the experiment and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=2000, help="of training (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="their number (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path(), help="a folder (the current one)")
    parser.add_argument("--quick", action="store_true", help="20 steps: only see that it runs")
    given = parser.parse_args(argv)
    steps, seeds = (20, 1) if given.quick else (given.steps, given.seeds)
    given.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the work is too small to share

    found: Curves = {name: {} for name in LOSSES}
    for name in LOSSES:
        for framework in FRAMEWORKS:
            runs = [train(name, framework, seed, steps) for seed in range(seeds)]
            found[name][framework] = runs
            print(f"{name:<16} {framework:<8} {np.mean([r[-1] for r in runs]):6.2f}°", flush=True)
    path = given.output / "directions.png"
    draw(found, steps, path)
    path.with_suffix(".md").write_text(table(found))
    settings = {"steps": steps, "seeds": seeds, "batch": BATCH, "torch": torch.__version__,
                "jax": jax.__version__}  # fmt: skip
    text = json.dumps({"settings": settings, "degrees": found}, indent=1)
    path.with_suffix(".json").write_text(text + "\n")
    print(f"\n{table(found)}\n{path} shows it.")


if __name__ == "__main__":
    main()
