"""`assign` on NumPy arrays against SciPy and lapx, on every family of `families.py`.

    python benchmarks/assign.py [--repeats 60] [--quick] [--only geometric] [--json FILE]

SciPy is called once per problem, which is its only way and one thread; lapx gets the whole batch
and 1 or 2 threads. Of its functions for a batch of dense costs the fastest counts, found anew for
each instance. Neither returns duals; `assign` does. The faster of both at the same number of
threads is the peer to beat.

A batch of less than a megabyte comes in several draws, which the calls of a turn go through: a
processor learns the branches of a small batch that it sees again and again, as no training has it.

Before anything is timed, the answer of `assign` is proved: its duals are feasible, its total is
theirs to rounding and no more than SciPy's, all in float64 on the costs that the solvers got.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import lap
import numpy as np
from certificate import DOUBLE, certify
from families import INSTANCES, Instance
from scipy.optimize import linear_sum_assignment
from timing import Contender, arguments, fastest, save

import hungarian_core as hc

THREADS = (1, 2)
LAPX = ("lapjvr_batch", "lapjvh_batch", "lapjvs_batch", "lapjvx_batch")
BUDGET = 12.0  # seconds of turns for one instance
DRAWS, DRAWN = 16, 1e6  # most draws of an instance, and bytes that are enough
LARGE = 1e6  # entries of a batch; what exceeds it is left out of a quick run


def set_threads(count: int) -> None:
    """Set how many threads the native solver may use; nothing to do where it is missing."""
    try:
        from hungarian_native import set_num_threads
    except ImportError:
        return
    set_num_threads(count)


def prove(cost: np.ndarray, found: hc.Assignment) -> dict[str, float]:
    """Check an answer against its duals and SciPy's total; return how far the proofs are off.

    What is returned is the worst of the batch, over the greatest finite cost. Totals are compared
    after the least cost is subtracted, which is exact where costs are nearly tied: there SciPy may
    round to a worse matching, and the answer may be better than its, but never worse.
    """
    proofs = []
    for problem, col4row, u, v in zip(cost, found.col4row, found.u, found.v, strict=True):
        proof = certify(problem, col4row, u, v)
        above = problem.astype(np.float64)
        above -= above.min()
        rows = np.flatnonzero(col4row >= 0)
        excess = above[rows, col4row[rows]].sum() - above[linear_sum_assignment(problem)].sum()
        rounding = 4 * len(rows) * DOUBLE
        assert excess <= rounding * above[np.isfinite(above)].max(), f"{excess:.1e} over SciPy's"
        assert excess >= -rounding * proof["greatest"], f"SciPy's total is worse by {-excess:.1e}"
        proofs.append(proof)
    return {
        key: max(proof[key] / proof["greatest"] for proof in proofs)
        for key in ("gap", "infeasibility")
    }


def each(call: Callable[[np.ndarray], Any], draws: list[np.ndarray]) -> Contender:
    """Return a contender that goes through the draws, one a call."""
    following = itertools.cycle(draws)
    return Contender(lambda: call(next(following)))


def lapx_entry(name: str, shape: tuple[int, ...], threads: int) -> Callable[[np.ndarray], Any]:
    """Return one of lapx's batch functions, to return rows and columns only."""
    call = functools.partial(
        getattr(lap, name),
        extend_cost=shape[1] != shape[2],
        return_cost=False,
        n_threads=threads,
    )
    # By default this one solves in float32 whatever it gets, which is another problem.
    return functools.partial(call, prefer_float32=False) if name == "lapjvs_batch" else call


def lapx_entries(draws: list[np.ndarray], expected: float) -> list[str]:
    """Return the entries of lapx that are right, and within a factor 2 of the fastest of them.

    They are tried on one thread: on two, none can gain more than that factor.
    """
    seconds, cost = {}, draws[0]
    for name in LAPX:
        call = lapx_entry(name, cost.shape, threads=1)
        rows, columns = call(cost)
        total = sum(
            c[i, j].sum(dtype=np.float64) for c, i, j in zip(cost, rows, columns, strict=True)
        )
        if abs(total - expected) <= 1e-6 * abs(expected):
            seconds[name] = fastest({name: each(call, draws)}, repeats=2)[name]
    return [name for name, taken in seconds.items() if taken <= 2 * min(seconds.values())]


def measure(instance: Instance, repeats: int, solver: Any) -> dict[str, Any]:
    """Return one instance's figures: milliseconds, ratios, certificate."""
    draws = [instance.cost()]
    draws += [instance.cost(k) for k in range(1, min(DRAWS, int(DRAWN // draws[0].nbytes)))]
    ours = functools.partial(hc.assign, solver=solver)
    for threads in reversed(THREADS):  # starts the threads, too
        set_threads(threads)
        proofs = [prove(cost, ours(cost)) for cost in draws]
        hc.assign(draws[0])
    expected = float(np.sum(ours(draws[0]).cost, dtype=np.float64))

    scipy = each(lambda cost: [linear_sum_assignment(c) for c in cost], draws)
    contenders = {"scipy": scipy}
    entries = lapx_entries(draws, expected)
    for threads in THREADS:
        prepare = functools.partial(set_threads, threads)
        for name in entries:
            contenders[f"{name} {threads}"] = each(lapx_entry(name, instance.shape, threads), draws)
        contenders[f"ours {threads}"] = each(ours, draws)._replace(prepare=prepare)
        contenders[f"auto {threads}"] = each(hc.assign, draws)._replace(prepare=prepare)
    ms = {name: 1e3 * s for name, s in fastest(contenders, repeats, BUDGET).items()}

    row: dict[str, Any] = {
        "name": instance.name,
        "family": instance.label,
        "shape": list(instance.shape),
        "dtype": instance.dtype,
        "ms": {name: round(value, 4) for name, value in ms.items()},
        "draws": len(draws),
        **{key: max(proof[key] for proof in proofs) for key in proofs[0]},
    }
    for threads in THREADS:
        lapx, entry = min((ms[f"{name} {threads}"], name) for name in entries)
        mine = ms[f"ours {threads}"]
        row[f"{threads}"] = {
            "ms": mine,
            "lapx_ms": lapx,
            "lapx_entry": entry,
            "peer": "SciPy" if ms["scipy"] < lapx else "lapx",
            "over_peer": min(ms["scipy"], lapx) / mine,
            "over_scipy": ms["scipy"] / mine,
            "auto_over_native": ms[f"auto {threads}"] / mine,
        }
    return row


def main() -> None:
    """Measure every instance and save the figures."""
    options = arguments(__doc__, repeats=60, only="instances whose name has TEXT")
    rows = []
    for instance in INSTANCES:
        if options.only not in instance.name or (options.quick and np.prod(instance.shape) > LARGE):
            continue
        row = measure(instance, options.repeats, options.solver)
        rows.append(row)
        one, two = row["1"], row["2"]
        print(
            f"{row['name']:36} SciPy {row['ms']['scipy']:8.2f}  "
            f"lapx {one['lapx_ms']:8.2f} {two['lapx_ms']:8.2f}  "
            f"ours {one['ms']:8.2f} {two['ms']:8.2f} ms  "
            f"over the peer {one['over_peer']:5.2f} {two['over_peer']:5.2f}",
            flush=True,
        )
    set_threads(0)
    save(options.json, rows)


if __name__ == "__main__":
    main()
