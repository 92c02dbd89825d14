"""What the runs of an experiment have in common: the machine, and several of them at a time."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

R = TypeVar("R")


def several(one: Callable[..., R], jobs: Sequence[tuple[Any, ...]], workers: int) -> Iterator[R]:
    """Return what comes of the arguments of jobs, in their order, so many at a time."""
    if workers == 1:
        yield from itertools.starmap(one, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(one, *zip(*jobs, strict=True))


def machine(*packages: str) -> dict[str, Any]:
    """Return what figures were made on, with the versions of packages."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in packages},
    }


def _processor() -> str:
    try:  # Linux; elsewhere platform says it
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.processor()
