"""How the time of the native solver grows with the size, by the kind of costs.

    python benchmarks/growth.py [--quick] [--only TEXT] [--json FILE]

One square problem at a time, on one thread, whose processor time is counted so that a busy machine
disturbs less; the least of several runs. The exponent is that of
time ~ size^p, fitted to all sizes in logarithms. Each answer is proved by its duals.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from certificate import certify
from families import Instance, geometric, integers, low_rank, machol_wien, near_tie, uniform
from timing import arguments, save

import hungarian_core as hc

FAMILIES = (uniform, integers, near_tie, geometric, low_rank, machol_wien)
SIZES = (250, 500, 1000, 2000)
ENOUGH = 1.0  # seconds spent on one size, unless a single run takes longer


def measure(cost: np.ndarray, repeats: int) -> dict[str, Any]:
    """Return the least seconds of a solve and how far its duals are from proving it."""
    seconds: list[float] = []
    while not seconds or (len(seconds) < repeats and sum(seconds) < ENOUGH):
        start = time.thread_time()
        found = hc.assign(cost)
        seconds.append(time.thread_time() - start)
    proof = certify(cost, found.col4row, found.u, found.v)
    return {"seconds": min(seconds), "gap": proof["gap"] / max(abs(proof["total"]), 1e-300)}


def main() -> None:
    """Measure all families and save the figures."""
    options = arguments(__doc__, repeats=9, only="families that contain TEXT")
    sizes = SIZES[:3] if options.quick else SIZES
    print("| costs | " + " | ".join(map(str, sizes)) + " | exponent |")
    print("|---|" + "---:|" * (len(sizes) + 1))
    rows = []
    for family in FAMILIES:
        label = Instance(family, (1, 1, 1), "float64").label
        if options.only not in label:
            continue
        found = [
            measure(Instance(family, (1, n, n), "float64").cost()[0], options.repeats)
            for n in sizes
        ]
        seconds = [each["seconds"] for each in found]
        exponent = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
        rows.append({"family": label, "sizes": sizes, "results": found, "exponent": exponent})
        times = " | ".join(f"{1e3 * s:.3g} ms" for s in seconds)
        print(f"| {label} | {times} | {exponent:.1f} |", flush=True)
    save(options.json, {"growth_by_family": rows})


if __name__ == "__main__":
    main()
