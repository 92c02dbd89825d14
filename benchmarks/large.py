"""One large problem and its memory: uniform float32 from 1000 to 10000 rows.

    python benchmarks/large.py [--quick] [--only 3000] [--json FILE]

Every run is a process of its own. Memory is what the process held at its peak while it solved, over
what it held before, the costs included: Linux counts it (VmHWM), and so the solver's own
allocations are in. The last rows are about memory alone: an array in column-major order and a tall
one, which may be transposed, beside row-major ones, which must not be copied. Each answer is proved
by its duals.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from certificate import certify
from timing import arguments, save

SIZES = (1000, 2000, 3000, 5000, 10000)
LAYOUTS = (  # batch, n, m, dtype, order
    (1, 3000, 3000, "float32", "C"),
    (1, 3000, 3000, "float64", "C"),
    (1, 3000, 3000, "float32", "F"),
    (1, 500, 20000, "float32", "C"),
    (1, 20000, 500, "float32", "C"),
    (8, 4000, 500, "float32", "C"),
)


def held(field: str) -> int:
    """Return bytes of resident memory: VmRSS is now, VmHWM the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def threads_used() -> int:
    """Return how many threads the native solver may use, 1 where it is missing."""
    try:
        from hungarian_native import get_num_threads
    except ImportError:
        return 1
    return int(get_num_threads())


def solve_here(case: dict[str, Any]) -> dict[str, Any]:
    """Solve one case in this process; return seconds, extra bytes and the certificate."""
    import hungarian_core as hc

    _, n, _ = shape = case["shape"]
    cost = np.random.default_rng(n).random(shape, dtype=case["dtype"])
    if case["order"] == "F":
        cost = cost.transpose(0, 2, 1)
    if case["solver"] == "SciPy":  # the call itself, without what `assign` adds
        from scipy.optimize import linear_sum_assignment

        def solve(costs: np.ndarray) -> Any:
            return [linear_sum_assignment(c) for c in costs]
    else:

        def solve(costs: np.ndarray) -> Any:
            return hc.assign(costs, solver=case["solver"])

    solve(np.ones((2, 2, 2), cost.dtype))  # load the library, start the threads
    before = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    seconds = []
    for _ in range(case["repeats"]):
        start = time.perf_counter()
        found = solve(cost)
        seconds.append(time.perf_counter() - start)
    answer = {"seconds": min(seconds), "extra": held("VmHWM") - before, "cost_bytes": cost.nbytes}
    answer["threads"] = threads_used()
    if case["solver"] != "SciPy":
        proofs = [
            certify(*sample) for sample in zip(cost, found.col4row, found.u, found.v, strict=True)
        ]
        answer["gap"] = max(proof["gap"] / proof["total"] for proof in proofs)
    return answer


def solve_apart(
    shape: tuple[int, int, int], dtype: str, order: str, solver: str, repeats: int
) -> dict[str, Any]:
    """Solve one case in a fresh process and return the case with what came of it."""
    case = {"shape": shape, "dtype": dtype, "order": order, "solver": solver, "repeats": repeats}
    answer = subprocess.check_output([sys.executable, __file__, "--case", json.dumps(case)])
    return {**case, **json.loads(answer)}


def exponent(rows: list[dict[str, Any]]) -> float:
    """Return p of time ~ size^p by least squares in log-log."""
    sizes, seconds = zip(*((row["shape"][1], row["seconds"]) for row in rows), strict=True)
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def show(row: dict[str, Any]) -> None:
    """Print one line."""
    size, n, m = row["shape"]
    print(
        f"{row['solver']:7} {size} x ({n} x {m}) {row['dtype']} {row['order']}: "
        f"{row['seconds']:8.3f} s, {row['extra'] / 2**20:8.2f} MiB extra, "
        f"{row['extra'] / row['cost_bytes']:.3f} of the costs, gap {row.get('gap', 0):.1e}",
        flush=True,
    )


def main() -> None:
    """Measure all sizes and layouts and save the figures."""
    if sys.argv[1:2] == ["--case"]:
        print(json.dumps(solve_here(json.loads(sys.argv[2]))))
        return
    options: argparse.Namespace = arguments(__doc__, repeats=5, only="sizes that contain TEXT")
    sizes = [n for n in SIZES if options.only in str(n) and not (options.quick and n > 3000)]
    growth: dict[str, list[dict[str, Any]]] = {options.solver: [], "SciPy": []}
    for n in sizes:
        for solver, rows in growth.items():
            repeats = 1 if n > 3000 and solver == "SciPy" else min(options.repeats, 10**4 // n)
            rows.append(solve_apart((1, n, n), "float32", "C", solver, max(repeats, 1)))
            show(rows[-1])
    exponents = {solver: exponent(rows) for solver, rows in growth.items() if len(rows) > 1}
    print({solver: round(p, 2) for solver, p in exponents.items()})
    layouts = []
    for size, n, m, dtype, order in LAYOUTS:
        if options.only in str(n):
            layouts.append(solve_apart((size, n, m), dtype, order, options.solver, 1))
            show(layouts[-1])
    save(options.json, {"growth": growth, "exponents": exponents, "layouts": layouts})


if __name__ == "__main__":
    main()
