"""`hungarian-core hnet eval`: how often a network is right, next to an exact solver."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import hungarian_core as hc
from hungarian_core import hnet
from hungarian_core.cli import print_table
from hungarian_core.hnet import metrics
from hungarian_hnet import files, problems
from hungarian_hnet.errors import UserError
from hungarian_hnet.files import Network
from hungarian_hnet.problems import Problems
from hungarian_hnet.recipe import DISTANCES, Source, pick

# Of the gap, in the unit of distances: the lower ends of bins.
GAPS = (0.0, 1e-6, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
_PER_CALL = 8192  # problems at once
_SCORES = ("weighted_f", "accuracy")


class Found(NamedTuple):
    """What was found for problems.

    Attributes:
        network: `[N, L, L]`, probabilities of the network.
        solver: `[N, L, L]` bool, of the exact solver.
        gap: `[N]`, by how much the second-best matching costs more; inf where there is none.
    """

    network: np.ndarray
    solver: np.ndarray
    gap: np.ndarray


def run(given: argparse.Namespace) -> None:
    """Measure, print the figures and write them."""
    files.check_writable(given.output)
    network, unseen = load(given)
    found = find(network, unseen)
    figures = {
        "network": network.name,
        "metadata": network.metadata,
        "problems": {
            "count": len(found.gap),
            "max_len": unseen.max_len,
            "missing": unseen.missing,
            "distance": unseen.distance,
            "from": getattr(given, "data", None) or f"seed {given.seed}",
        },
        **measure(unseen, found),
    }
    with files.replaced(given.output) as unfinished:
        unfinished.write_text(json.dumps(figures, indent=2) + "\n")
    _print(figures)
    print(f"{given.output} holds these figures")


def load(given: argparse.Namespace) -> tuple[Network, Problems]:
    """Return the network and the problems that the command line names.

    Raises:
        UserError: There is no such network or file, or they do not go together.
    """
    network = Network.read(given.weights, given.pretrained)
    source = pick(Source, given)
    if source.data is not None:
        unseen = problems.read(Path(source.data), source)
    else:
        unseen = problems.make(network.filled(source), source.seed)
    trained = network.max_len
    if trained is not None and unseen.max_len > trained and "max_len" not in given:
        raise UserError(
            f"{network.name} was trained for max_len {trained}, and the problems have "
            f"{unseen.max_len}; give --max-len {unseen.max_len} to try it beyond its training"
        )
    return network, unseen


def find(network: Network, unseen: Problems) -> Found:
    """Solve problems by the network and exactly, and tell how clear their solutions are."""
    parts = []
    for at in range(0, len(unseen.samples.distance), _PER_CALL):
        some = unseen.at(slice(at, at + _PER_CALL))
        said = hnet.associate(some.samples.distance, network.params, **some.masks)
        parts.append((np.asarray(said), solve(some), gaps(some)))
    return Found(*(np.concatenate(x) for x in zip(*parts, strict=True)))


def solve(some: Problems) -> np.ndarray:
    """Return the best matchings `[N, L, L]` of pairs that may belong together.

    Those are the pairs of valid objects, or if there are no masks, all that are as near as
    directions can be, but not at distance 0: in half of the published problems, all that are
    missing lie in one point. As many pairs as possible are matched.
    """
    distance = some.samples.distance.astype(np.float64)
    farthest = DISTANCES[some.distance]
    # Float32 may round a little beyond. A row that may stay alone for more than all pairs of a
    # matching can cost is matched if it can be.
    admissible = distance <= farthest * (1 + 1e-6)
    admissible &= (distance > 0) | some.samples.masked[:, None, None]
    cost = np.where(admissible, distance, np.inf)
    unmatched_cost = 2.0 * farthest * some.max_len
    return np.asarray(hc.assign(cost, **some.masks, unmatched_cost=unmatched_cost).mask())


def gaps(some: Problems) -> np.ndarray:
    """Return by how much the second-best matching of the real objects costs more, `[N]`.

    It lacks a pair of the best one: of each pair of that, the best matching without it is found.
    """
    samples = some.samples
    real = samples.row_mask[:, :, None] & samples.col_mask[:, None, :]
    cost = np.where(real, samples.distance, 0).astype(np.float64)
    masks: Any = {"row_mask": samples.row_mask, "col_mask": samples.col_mask}
    backend = hc.get_backend("numpy")
    best = hc.assign(cost, **masks)
    lowest = np.full(len(cost), np.inf)
    for row in range(some.max_len):
        pair = best.mask() & (np.arange(some.max_len) == row)[:, None]
        without = hc.solve(hc.Problem(np.where(pair, np.inf, cost), **masks), backend=backend)
        # NaN where the others cannot be matched without it.
        more = np.where(pair.any(axis=(1, 2)), without.cost - best.cost, np.inf)
        lowest = np.fmin(lowest, more)
    return np.maximum(lowest, 0)


def measure(unseen: Problems, found: Found) -> dict[str, Any]:
    """Return scores of the network and the solver, of all problems and of groups of them."""
    samples, gap = unseen.samples, found.gap
    objects = np.maximum(samples.rows, samples.cols)

    def of(chosen: np.ndarray) -> dict[str, Any]:
        truth = samples.association[chosen]
        scores = {
            who: {
                "weighted_f": metrics.weighted_f_score(truth, said[chosen]),
                "accuracy": metrics.exact(truth, said[chosen]),
            }
            for who, said in (("network", found.network), ("solver", found.solver))
        }
        return {"problems": len(truth), **scores}

    sizes = range(unseen.max_len + 1)
    bins = np.digitize(gap, GAPS) - 1
    by_n = [{"n": n, **of(objects == n)} for n in sizes]
    by_gap = [
        {"from": low, "to": high, **of((bins == k) & np.isfinite(gap))}
        for k, (low, high) in enumerate(zip(GAPS, (*GAPS[1:], None), strict=True))
    ]
    by_gap.append({"from": None, "to": None, **of(np.isinf(gap))})
    return {
        "all": of(np.ones(len(gap), bool)),
        "by_n": [part for part in by_n if part["problems"]],
        "by_gap": [part for part in by_gap if part["problems"]],
    }


def label(part: dict[str, Any]) -> str:
    """Return how a bin of the gap is written."""
    low, high = part["from"], part["to"]
    if low is None:
        return "only one"
    if high is None:
        return f"{low:g} or more"
    if low == 0:
        return "none"
    return f"{low:g} to {high:g}" if low >= 1e-3 else f"below {high:g}"


def _print(figures: dict[str, Any]) -> None:
    head = ("problems", "weighted F", "exact", "solver: weighted F", "exact")

    def row(part: dict[str, Any]) -> list[str]:
        scores = [part[who][name] for who in ("network", "solver") for name in _SCORES]
        return [str(part["problems"]), *(f"{score:.4f}" for score in scores)]

    parts = [["all", *row(figures["all"])]]
    parts += [[f"n = {part['n']}", *row(part)] for part in figures["by_n"]]
    parts += [[f"gap {label(part)}", *row(part)] for part in figures["by_gap"]]
    title = f"{figures['network']} on problems that it has not seen"
    print_table(("", *head), parts, title=title, justify="right")
