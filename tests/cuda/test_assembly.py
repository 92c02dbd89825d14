"""What the kernels' PTX becomes on devices: assembled without one, and within bounds."""

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
SOLVER, PASSES = ("large", "small"), ("boxes", "classes", "costs")
# A pass has nothing to wait for but memory, which more blocks at once make good.
MOST_REGISTERS = {"f32": 40, "f64": 64}


def most_shared() -> int:
    """Return what plan.h gives a problem, in bytes, beside what the kernel itself declares."""
    text = (SOURCES / "plan.h").read_text(encoding="utf-8")
    (kibibytes,) = re.findall(r"MOST_SHARED = (\d+) \* 1024;", text)
    return int(kibibytes) * 1024


@pytest.mark.parametrize("capability", [70, 80, 90, 100])
def test_the_kernels_are_assembled_within_bounds(capability: int, tmp_path: Path) -> None:
    command = [
        ASSEMBLER, "-v", f"--gpu-name=sm_{capability}", str(SOURCES / "kernel.ptx"),
        "-o", str(tmp_path / "kernel.cubin"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = done.stdout + done.stderr
    parts = re.split(r"Compiling entry function '(\w+)'", said)[1:]
    found = dict(zip(parts[::2], parts[1::2], strict=True))
    names = [f"hungarian_{what}_{kind}" for what in SOLVER + PASSES for kind in ("f32", "f64")]
    assert sorted(found) == sorted(names)

    def figure(name: str, what: str) -> int:
        return int(re.findall(rf"(\d+) {what}", found[name])[0])

    for name in names:
        for what, bound in BOUNDS.items():
            assert figure(name, what) <= bound, said
    for name in names:
        _, what, kind = name.split("_")
        if what in SOLVER:
            assert figure(name, "bytes smem") + most_shared() <= SHARED, said
        else:
            assert figure(name, "registers") <= MOST_REGISTERS[kind], said
