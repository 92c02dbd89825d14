"""The kernels for CUDA devices where there is none, as a way of running PyTorch.

The driver of tests/cuda/driver.cpp stands in for that of the system: HUNGARIAN_LIBCUDA names it. So
all that is the library's own takes part: the operator, the launcher, and each line of the kernels.
"""

from __future__ import annotations

from pathlib import Path
from runpy import run_path
from typing import Any

from hungarian_core import Problem, Solution
from hungarian_core.testing import Driver
from hungarian_torch import _backend, _device

_drivers = run_path(str(Path(__file__).parents[1] / "drivers.py"))

# Arrays in host memory are taken for those of the device.
_device._stream = lambda _: 0
_device.serves = lambda cost, solver: solver in ("auto", "cuda")


def _solve(problem: Problem, solver: str) -> Solution | None:
    return _device.launch(problem) if solver in ("auto", "cuda") else in_place(problem, solver)


in_place, _backend.solve_in_place = _backend.solve_in_place, _solve


@_device.solve_on_device.register_kernel("cpu")
def _(*fields: Any) -> Any:
    return tuple(_device.launch(Problem(*fields)))


def emulated() -> list[Driver]:
    """Return the drivers: eager, in transforms, and compiled."""
    drivers: list[Driver] = _drivers["torch"]()
    for driver in drivers:
        driver.name = f"cuda-{driver.name}"
    return drivers
