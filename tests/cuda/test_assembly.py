"""What the kernel's PTX becomes on devices: assembled without one, and within bounds."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "backends/hungarian_cuda/src"
try:
    WHEEL = files("nvidia-cuda-nvcc-cu12") or []
except PackageNotFoundError:
    pytest.skip("nox -s cuda installs the assembler of these tests", allow_module_level=True)
(ASSEMBLER,) = (str(path.locate()) for path in WHEEL if path.name == "ptxas")

# Of one thread. With 256 of them, 128 registers let two blocks share the 65536 of a multiprocessor.
# The rest is what few values that are read seldom take: more tells of an array that lost its place.
BOUNDS = {"registers": 128, "bytes stack frame": 64, "bytes spill stores": 64}
SHARED = 48 * 1024  # of a block that does not ask for more


def most_shared() -> int:
    """Return what plan.h gives a problem, in bytes, beside what the kernel itself declares."""
    text = (SOURCES / "plan.h").read_text(encoding="utf-8")
    (kibibytes,) = re.findall(r"MOST_SHARED = (\d+) \* 1024;", text)
    return int(kibibytes) * 1024


@pytest.mark.parametrize("capability", [70, 80, 90, 100])
def test_the_kernel_is_assembled_within_bounds(capability: int, tmp_path: Path) -> None:
    command = [
        ASSEMBLER, "-v", f"--gpu-name=sm_{capability}", str(SOURCES / "kernel.ptx"),
        "-o", str(tmp_path / "kernel.cubin"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = done.stdout + done.stderr
    names = re.findall(r"Compiling entry function '(\w+)'", said)
    assert sorted(names) == [
        f"hungarian_{size}_{kind}" for size in ("large", "small") for kind in ("f32", "f64")
    ]
    for what, bound in BOUNDS.items():
        figures = [int(x) for x in re.findall(rf"(\d+) {what}", said)]
        assert len(figures) == 4, said
        assert max(figures) <= bound, said
    own = [int(x) for x in re.findall(r"(\d+) bytes smem", said)]
    assert len(own) == 4, said
    assert max(own) + most_shared() <= SHARED, said
