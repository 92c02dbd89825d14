"""`hungarian-core hnet data`: generate a data set and save it."""

from __future__ import annotations

import argparse

import numpy as np

from hungarian_core.cli import print_table
from hungarian_hnet import files, problems
from hungarian_hnet.recipe import Source, pick


def run(given: argparse.Namespace) -> None:
    """Write the file, and print how many problems of which kind it holds."""
    source = pick(Source, given)
    files.check_writable(given.output)
    made = problems.make(source, source.seed)
    problems.write(given.output, made, {"samples": source.samples, "seed": source.seed})
    samples = made.samples
    found = samples.association.sum(axis=(1, 2))
    print_table(
        ("pairs", "problems", "share", "mean distance of a pair"),
        [
            (
                str(pairs),
                str(np.sum(chosen := found == pairs)),
                f"{np.mean(chosen):.1%}",
                _mean(samples.distance[chosen][samples.association[chosen]]),
            )
            for pairs in range(made.max_len + 1)
        ],
        title=f"{len(found)} problems of {made.max_len} x {made.max_len}",
        justify="right",
    )
    size = given.output.stat().st_size / 1e6
    print(f"{given.output} holds them in {size:.1f} MB, seed {source.seed}")


def _mean(distances: np.ndarray) -> str:
    return f"{distances.mean():.3f}" if distances.size else "-"
