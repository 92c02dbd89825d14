"""What every benchmark shares: taking turns, the facts of the machine, ratios."""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

TURN = 0.004  # seconds that a turn lasts at least, so that quick calls run with warm caches
PACKAGES = (
    "hungarian-core", "numpy", "scipy", "lapx", "jax", "optax", "torch", "tensorflow", "keras",
    "hungarian-loss", "transformers",
)  # fmt: skip


class Contender(NamedTuple):
    """A call to time, and what to do before its turn, untimed."""

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


def fastest(
    contenders: dict[str, Contender], repeats: int, budget: float = math.inf
) -> dict[str, float]:
    """Return each contender's fastest call in seconds, all of them taking turns.

    A busy machine then slows everybody, and what to compare is the ratio. Each contender
    has run once before; after `budget` seconds there are no more repeats than three.
    """
    best = dict.fromkeys(contenders, math.inf)
    collecting = gc.isenabled()
    gc.disable()
    try:
        begin = time.perf_counter()
        for repeat in range(repeats):
            if repeat >= 3 and time.perf_counter() - begin > budget:
                break
            for name, contender in contenders.items():
                contender.prepare()
                turn = start = time.perf_counter()
                while start - turn < TURN:
                    contender.run()
                    end = time.perf_counter()
                    best[name] = min(best[name], end - start)
                    start = end
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return best


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, versions, commit."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
        "native": _native(),
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def made_by(command: str, threads: int) -> str:
    """Return the line below a table that says what made it: transformers' losses and ours."""
    facts = machine()
    versions = facts["versions"]
    return (
        f"`{command}` on {facts['date']} at {facts['commit']}, transformers "
        f"{versions['transformers']}, PyTorch {versions['torch']}, {threads} "
        f"thread{'s' * (threads > 1)} of {facts['processor']}."
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    found = dict([part.strip() for part in line.split(":", 1)] for line in lines if ":" in line)
    return f"{found.get('model name')}, family {found.get('cpu family')} model {found.get('model')}"


def _native() -> dict[str, Any] | None:
    """Return the instruction set that the native solver picked and how many threads it uses."""
    try:
        import hungarian_native
    except ImportError:
        return None
    variant = hungarian_native.describe().rsplit(", ", 2)[1]  # a path, it, and the threads
    return {"variant": variant, "threads": hungarian_native.get_num_threads()}


def _commit() -> str | None:
    """Return the commit, with a + if the tree differs from it."""
    root = Path(__file__).parent
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], text=True).strip()
        # Results are written beside the scripts: they do not change what was measured.
        status = [*git, "status", "--porcelain", "--", ":/", ":(exclude,top)benchmarks/results"]
        return commit + ("+" if subprocess.check_output(status, text=True).strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def arguments(
    description: str | None, *, repeats: int, only: str, argv: list[str] | None = None
) -> argparse.Namespace:
    """Return the options that every benchmark has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=repeats, help="turns of each contender")
    parser.add_argument("--quick", action="store_true", help="3 turns and no large instances")
    parser.add_argument("--only", default="", metavar="TEXT", help=only)
    parser.add_argument("--solver", default="native", help="ours: native, scipy or core")
    parser.add_argument("--json", type=Path, help="where to save the figures")
    options = parser.parse_args(argv)
    if options.quick:
        options.repeats = min(options.repeats, 3)
    return options


def save(path: Path | None, figures: Any) -> None:
    """Write the figures as JSON, if a place was given."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=1) + "\n")
