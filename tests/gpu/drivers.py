"""The ways of running PyTorch and JAX on a CUDA device that the conformance suite covers there.

`--driver tests/gpu/drivers.py:torch_kernel` has every problem solved by the kernel, as if "auto"
were "cuda"; `torch_copy` leaves "auto" as it is, which copies costs to the host and back; `jax`
has its arrays on the device, and "auto" is the core's algorithm there. HUNGARIAN_LIBCUDA may name
a stand-in for the driver of the system: the kernel then runs on a CPU, on arrays there.
"""

from __future__ import annotations

import os
from pathlib import Path
from runpy import run_path

from hungarian_core.testing import Driver

_TESTS = Path(__file__).parents[1]
_drivers = run_path(str(_TESTS / "drivers.py"))
EMULATED = "HUNGARIAN_LIBCUDA" in os.environ


def torch_kernel() -> list[Driver]:
    """Return PyTorch's drivers on the device, eager and in programs, solving by the kernel."""
    if EMULATED:
        emulated: list[Driver] = run_path(str(_TESTS / "cuda/drivers.py"))["emulated"]()
        return emulated
    from hungarian_torch import _device

    serves = _device.serves
    _device.serves = lambda cost, solver: serves(cost, "cuda" if solver == "auto" else solver)
    return _on_device("kernel")


def torch_copy() -> list[Driver]:
    """Return PyTorch's drivers on the device, as users have them who choose no solver."""
    return _on_device("copy")


def _on_device(name: str) -> list[Driver]:
    # A fourth, where there is a device, is the first of these.
    drivers: list[Driver] = _drivers["torch"]()[:3]
    for driver in drivers:
        driver.place = "cuda"  # type: ignore[attr-defined]  # of drivers of PyTorch
        driver.name, driver.raises = f"cuda-{name}-{driver.name}", False
    return drivers


def jax() -> list[Driver]:
    """Return JAX's drivers, whose arrays lie where JAX puts them: on the device, if it has one."""
    import jax

    if not EMULATED and jax.default_backend() != "gpu":
        raise RuntimeError(f"JAX computes on {jax.default_backend()}; expected a CUDA device")
    drivers: list[Driver] = _drivers["jax"]()
    for driver in drivers:
        driver.name = f"cuda-{driver.name}"
        driver.raises = driver.raises and EMULATED  # nothing is read on a device
    return drivers
