"""Where the tests of devices run: on a CUDA device, or on a CPU that stands in for one."""

from __future__ import annotations

import os
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="for PyTorch")

EMULATED = "HUNGARIAN_LIBCUDA" in os.environ
if not EMULATED and not torch.cuda.is_available():
    pytest.skip("there is no CUDA device; nox -s cuda runs these on a CPU", allow_module_level=True)
if EMULATED:  # tensors in host memory are taken for those of a device
    run_path(str(Path(__file__).parents[1] / "cuda/drivers.py"))

DEVICE = "cpu" if EMULATED else "cuda"
# What only a device has: streams, graphs, waits that can be forbidden, and time for large problems.
on_a_device = pytest.mark.skipif(EMULATED, reason="a CPU has no streams and no graphs")
