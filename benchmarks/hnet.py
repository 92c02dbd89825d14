"""The learned network against the published one, exact solvers and Sinkhorn, in PyTorch.

    python benchmarks/hnet.py [--budget 150] [--threads 1] [--quick] [--results FOLDER]

For at most 2 and at most 10 directions, on fresh problems of the published distribution: the
weighted F-score and the share of matrices that are exactly right at the threshold 0.5, the latter
also where a pair counts that is the largest of its row and column, and the time of a batch of 256.

Ours and the published architecture are trained here for the same seconds on the same problems;
the published one is larger. Solvers and Sinkhorn do not know what stands for missing objects:
they are told which rows and columns are real, or take distances above 0 and up to 2 for real. The
networks are told nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from timing import Contender, fastest, machine
from torch import Tensor, nn

import hungarian_core as hc

BATCH = 256
# Samples for each number of associations, at each of the nine resolutions: training, test.
SIZES = {2: (15_000, 1500), 10: (3000, 100)}
LAYERS = {2: 3, 10: 20}
TRAIN_SEED, TEST_SEED = 1, 12345


class Published(nn.Module):
    """The architecture of Adavanne et al.: a recurrent layer over the rows, then attention."""

    def __init__(self, max_len: int, hidden: int = 128) -> None:
        super().__init__()
        self.recurrent = nn.GRU(max_len, hidden, batch_first=True)
        self.query, self.key, self.value = (nn.Linear(hidden, hidden, bias=False) for _ in range(3))
        self.output = nn.Linear(hidden, max_len)

    def forward(self, distance: Tensor) -> Tensor:
        """Return logits `[B, L, L]` of `distance[B, L, L]`."""
        states, _ = self.recurrent(distance)
        weights = torch.softmax(self.query(states) @ self.key(states).mT, dim=-1)
        return self.output(torch.tanh(weights @ self.value(states)))

    def loss(self, distance: Tensor, association: Tensor) -> Tensor:
        """Return cross entropies of the pairs and of the rows' and columns' largest logits."""
        logits, truth = self(distance), association.float()
        entropy = nn.functional.binary_cross_entropy_with_logits
        parts = [(logits, truth)] + [(logits.amax(k), truth.sum(k)) for k in (-1, -2)]
        return sum((entropy(x, y, reduction="sum") for x, y in parts), torch.zeros(()))


class Ours(nn.Module):
    """`hungarian_core.hnet`, with parameters to train."""

    def __init__(self, params: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.names = list(params)
        self.arrays = nn.ParameterList(torch.tensor(x) for x in params.values())

    def params(self) -> dict[str, Tensor]:
        """Return the parameters by name."""
        return dict(zip(self.names, self.arrays, strict=True))

    def forward(self, distance: Tensor) -> Tensor:
        """Return associations `[B, L, L]`."""
        return hc.hnet.associate(distance, self.params())

    def loss(self, distance: Tensor, association: Tensor) -> Tensor:
        """Return the loss of training."""
        return hc.hnet.association_loss(distance, association, self.params())


def train(model: Any, data: hc.hnet.data.Samples, seconds: float, rate: float, batch: int) -> int:
    """Train for so many seconds, the rate falling as a cosine; return the number of steps."""
    torch.manual_seed(0)
    distance, association = torch.from_numpy(data.distance), torch.from_numpy(data.association)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    begin = time.perf_counter()

    def batches() -> Iterator[Tensor]:
        while True:
            yield from torch.randperm(len(distance)).split(batch)

    for steps, at in enumerate(batches()):
        passed = (time.perf_counter() - begin) / seconds
        if passed >= 1:
            return steps
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, passed / 0.03) * (1 + math.cos(math.pi * passed)) / 2
        optimiser.zero_grad()
        model.loss(distance[at], association[at]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    raise AssertionError("batches never end")


class Entry(NamedTuple):
    """A way to associate: from a batch of test problems to a matrix from 0 to 1."""

    name: str
    run: Callable[[Tensor, Tensor, Tensor], Tensor]  # distance, row_mask, col_mask
    told: bool  # which objects are real
    parameters: int = 0
    training: str = "-"


def exact_if_told(distance: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """Match what is real."""
    return hc.assign(distance, row_mask=rows, col_mask=cols).mask().float()


def exact(distance: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """Match as many pairs as possible of those that may be real, at least cost."""
    allowed = (distance > 0) & (distance < 2.0001)
    cost = torch.where(allowed, distance, math.inf)
    return hc.assign(cost, unmatched_cost=100.0).mask().float()


def sinkhorn(temperature: float, iterations: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return Sinkhorn's algorithm with these options and the tolerance that it has by default."""

    def run(distance: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        return hc.assignment_matrix(
            distance, "sinkhorn", row_mask=rows, col_mask=cols, temperature=temperature,
            iterations=iterations,
        )  # fmt: skip

    return run


def entries(max_len: int, seconds: float, samples: int) -> Iterator[Entry]:
    """Yield the contenders for a size, trained."""
    data = hc.hnet.data.generate(max_len, samples=samples, seed=TRAIN_SEED)
    networks: list[tuple[str, Any, float, int]] = [
        ("published architecture", Published(max_len), 1e-3, 256),
        (
            "ours",
            Ours(hc.hnet.init_params(width=16, layers=LAYERS[max_len])),
            1e-2,
            1024 if max_len == 2 else 128,
        ),
    ]
    for name, model, rate, batch in networks:
        steps = train(model, data, seconds, rate, batch)
        count = sum(x.numel() for x in model.parameters())
        sigmoid = isinstance(model, Published)

        def run(d: Tensor, r: Tensor, c: Tensor, model: Any = model, s: bool = sigmoid) -> Tensor:
            return torch.sigmoid(model(d)) if s else model(d)

        yield Entry(name, run, False, count, f"{seconds:.0f} s, {steps} steps of {batch}")
    params = hc.hnet.load_pretrained(max_len, backend="torch")
    count = sum(x.numel() for x in params.values())
    yield Entry(
        "ours, as shipped", lambda d, r, c: hc.hnet.associate(d, params), False, count, "shipped"
    )
    yield Entry("exact, on distances of (0, 2]", exact, False)
    yield Entry("exact, told what is real", exact_if_told, True)
    for temperature in (0.1, 0.03, 0.01):
        for iterations in (5, 10, 20, 50, 100):
            name = f"Sinkhorn, temperature {temperature}, {iterations} iterations"
            yield Entry(name, sinkhorn(temperature, iterations), True)


def decided(matrix: np.ndarray) -> np.ndarray:
    """Return the pairs that are the largest of their row and column, and no less than 0.1."""
    largest = [matrix == matrix.max(axis=axis, keepdims=True) for axis in (-1, -2)]
    return (largest[0] & largest[1] & (matrix >= 0.1)).astype(float)


def measure(max_len: int, seconds: float, sizes: tuple[int, int], repeats: int) -> list[Any]:
    """Return a row of figures for each contender."""
    test = hc.hnet.data.generate(max_len, samples=sizes[1], seed=TEST_SEED)
    d, r, c = (torch.from_numpy(x) for x in (test.distance, test.row_mask, test.col_mask))
    contenders = list(entries(max_len, seconds, sizes[0]))
    rows, calls = [], {}
    with torch.no_grad():
        for entry in contenders:
            parts = zip(d.split(1024), r.split(1024), c.split(1024), strict=True)
            matrix = torch.cat([entry.run(*part) for part in parts]).numpy()
            metrics = hc.hnet.metrics
            rows.append({
                "max_len": max_len, "name": entry.name, "told": entry.told,
                "parameters": entry.parameters, "training": entry.training,
                "weighted_f": metrics.weighted_f_score(test.association, matrix),
                "exact": metrics.exact(test.association, matrix),
                "exact_by_largest": metrics.exact(test.association, decided(matrix)),
            })  # fmt: skip
            batch = (d[:BATCH], r[:BATCH], c[:BATCH])
            calls[entry.name] = Contender(lambda run=entry.run, batch=batch: run(*batch))
        best = fastest(calls, repeats, 30.0)
    return [{**row, "milliseconds": best[row["name"]] * 1e3} for row in rows]


def table(rows: list[Any]) -> str:
    """Return the figures as Markdown, a table for each size."""
    text = []
    for max_len in dict.fromkeys(row["max_len"] for row in rows):
        text += [
            f"\n## At most {max_len} rows and columns\n",
            "| | told what is real | parameters | training | weighted F | exact | "
            "exact by largest | ms for 256 |",
            "|---|---|---|---|---|---|---|---|",
        ]
        text += [
            f"| {row['name']} | {'yes' if row['told'] else 'no'} | {row['parameters'] or '-'} | "
            f"{row['training']} | {row['weighted_f']:.4f} | {row['exact']:.4f} | "
            f"{row['exact_by_largest']:.4f} | {row['milliseconds']:.2f} |"
            for row in rows
            if row["max_len"] == max_len
        ]
    return "\n".join(text)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=150.0, help="seconds of training, each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument(
        "--quick", action="store_true", help="see that it runs; figures mean little"
    )
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: list[Any] = []
    for max_len, sizes in SIZES.items():
        if options.quick:
            rows += measure(max_len, 2.0, (300, 20), 1)
        else:
            rows += measure(max_len, options.budget, sizes, options.repeats)
    facts = {**machine(), "threads": options.threads}
    options.results.mkdir(parents=True, exist_ok=True)
    text = (
        f"# {__doc__.splitlines()[0]}\n\n"
        f"Made by `python benchmarks/hnet.py --budget {options.budget:.0f}` with PyTorch "
        f"{torch.__version__} on {options.threads} threads of {facts['processor']}, "
        f"{facts['date']}.\n{table(rows)}\n"
    )
    (options.results / "hnet.md").write_text(text, encoding="utf-8")
    body = json.dumps({"machine": facts, "rows": rows}, indent=1)
    (options.results / "hnet.json").write_text(body + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
