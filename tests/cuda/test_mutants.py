"""Mistakes planted in the kernels: tests see each of them, and a sanitizer a missing barrier."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from build import build  # which lies beside this file

if "HUNGARIAN_LIBCUDA" not in os.environ:
    pytest.skip("nox -s cuda builds the driver that these tests want", allow_module_level=True)

FLAGS = "board.flags[warp] = (not_a_number ? 1 : 0) | (lowest ? 2 : 0);\n  }\n"
BARRIER = (FLAGS + "  __syncthreads();", FLAGS)
MUTANTS = {
    "a barrier is missing": ("problem.cuh", *BARRIER),
    "the last tied bidder comes first": (
        "bids.cuh", "board.gains[other] == gain && other < lane",
        "board.gains[other] == gain && other > lane",
    ),
    "a path ends at an item that is taken": (
        "paths.cuh", "join(best, known, INF, (owner[j] < 0 ? 0 : TAKEN) | j)",
        "join(best, known, INF, j)",
    ),
    "a price is not compared": ("paths.cuh", "if (leave_at < level)", "if (leave_at < -level)"),
    "a mask is not read": (
        "problem.cuh", "v[j] = item_mask && !item_mask[j] ? -INF : 0.0;", "v[j] = 0.0;",
    ),
    "duals stay behind": ("paths.cuh", "saved[j] + (distance[j] - level)", "saved[j]"),
    "offsets are of 32 bits": (
        "problem.cuh", "problem * p.cost_strides[0]", "int(problem * p.cost_strides[0])",
    ),
    "large costs are not scaled": ("problem.cuh", "peak >= LARGE)", "peak >= INF)"),
}  # fmt: skip
LOOKED = "look(p, before + k, k, lane, tile);\n"
OF_PASSES = {
    "costs do not wait for logits": ("detection.cuh", f"{LOOKED}  __syncthreads();", LOOKED),
    "a sum misses lanes": ("detection.cuh", "int step = 16; step; step >>= 1) x +=",
                           "int step = 8; step; step >>= 1) x +="),
    "NaN is not greatest": ("detection.cuh", "y > x || y != y ? y : x", "y > x ? y : x"),
    "no object is an object": ("detection.cuh", "c < p.classes - p.softmax", "c < p.classes"),
    "a tile is of another problem": ("detection.cuh", "blockIdx.x % tiles * TILE",
                                     "blockIdx.x % tiles"),
    "a label keeps its slope of others": ("detection.cuh", "if (c == label) continue;", ""),
    "coarse probabilities stay": ("detection.cuh", "> 16) {", "> 1600) {"),
    "infinite costs stay": (
        "detection.cuh", "p.only_finite && !(cost < T(INF))", "p.only_finite < 0",
    ),
    "a mask is not read": ("detection.cuh", "if (p.mask[object]) {", "{"),
    "threads of a block have one pair": ("detection.cuh", "* THREADS + threadIdx.x", "* THREADS"),
}  # fmt: skip


def passes(library: Path, file: str = "test_kernel.py") -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(Path(__file__).with_name(file))],
        env={**os.environ, "HUNGARIAN_LIBCUDA": str(library)},
        capture_output=True,
        timeout=300,
        check=False,
    )
    return done.returncode == 0


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_seen(name: str, tmp_path: Path) -> None:
    file, old, new = MUTANTS[name]
    assert not passes(build(tmp_path / "driver.so", changes={file: (old, new)}))


@pytest.mark.parametrize("name", OF_PASSES)
def test_a_mistake_planted_in_a_pass_is_seen(name: str, tmp_path: Path) -> None:
    file, old, new = OF_PASSES[name]
    library = build(tmp_path / "driver.so", changes={file: (old, new)})
    assert not passes(library, "test_detection.py")


SANITIZED: dict[str, Any] = {
    "threads": ["-DEMULATE_BY_THREADS", "-fsanitize=thread", "-g"],
    "addresses": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"],
}


def run(program: Path) -> subprocess.CompletedProcess[str]:
    options = {"TSAN_OPTIONS": "halt_on_error=1"}
    return subprocess.run(
        [program], capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, **options},
    )  # fmt: skip


@pytest.mark.parametrize("kind", SANITIZED)
def test_sanitizers_find_nothing(kind: str, tmp_path: Path) -> None:
    done = run(build(tmp_path / "program", SANITIZED[kind]))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("batches proved\n")


@pytest.mark.parametrize("file", ["problem.cuh", "detection.cuh"])
def test_a_sanitizer_sees_a_missing_barrier(file: str, tmp_path: Path) -> None:
    change = BARRIER if file == "problem.cuh" else OF_PASSES["costs do not wait for logits"][1:]
    program = build(tmp_path / "program", SANITIZED["threads"], {file: change})
    assert "data race" in run(program).stderr
