"""The examples, cut short: they run, and write what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hungarian_core.relaxations import METHODS

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def _run(name: str, folder: Path, *needs: str) -> tuple[dict[str, Any], str, np.ndarray]:
    """Run an example, cut short; return its figures, its table and the pixels of its picture."""
    for need in needs:
        pytest.importorskip(need, reason=f"{need} is not installed")
    from matplotlib.image import imread

    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", "--quick", "--output", folder],
        capture_output=True,
        text=True,
        timeout=300,
        # A script finds the files beside it, unless this is set.
        env={**os.environ, "PYTHONSAFEPATH": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = (folder / f"{name}.md").read_text()
    assert table in done.stdout
    found = json.loads((folder / f"{name}.json").read_text())
    return found, table, imread(folder / f"{name}.png")[..., :3]


def test_aligned_against_detr(tmp_path: Path) -> None:
    needs = ("torch", "sklearn", "matplotlib", "pycocotools")
    found, table, pixels = _run("aligned_vs_detr", tmp_path, *needs)
    assert {"DETR", "aligned"} < set(found["curves"])
    for curves in found["curves"].values():
        assert [point["step"] for point in curves[0]] == [4, 8, 12, 16, 20]
        assert all(0 <= point["ap"] <= point["ap50"] <= 1 for point in curves[0])
    assert len(table.splitlines()) == 2 + len(found["curves"])
    assert all(np.min(part) < 0.5 for part in np.array_split(pixels, 4, axis=1))


def test_differentiable_matching(tmp_path: Path) -> None:
    found, table, pixels = _run("differentiable_matching", tmp_path, "torch", "matplotlib")
    assert set(METHODS) <= set(found["runs"])
    for runs in found["runs"].values():
        assert len(runs) == 1
        assert len(runs[0]["accuracy"]) == 11
        assert all(0 <= share <= 1 for share in runs[0]["accuracy"])
        assert runs[0]["milliseconds"] > 0
    assert len(table.splitlines()) == 2 + len(found["runs"])
    assert all(np.min(part) < 0.5 for part in np.array_split(pixels, 4, axis=1))


def test_directions(tmp_path: Path) -> None:
    found, table, pixels = _run("directions", tmp_path, "torch", "jax", "optax", "matplotlib")
    for name, by_framework in found["degrees"].items():
        (in_torch,), (in_jax,) = by_framework["PyTorch"], by_framework["JAX"]
        assert len(in_torch) == len(in_jax) == 10
        assert 0 < in_torch[-1] < in_torch[0]
        assert 0 < in_jax[-1] < in_jax[0]
        # The same weights, batches and losses: they part by rounding only. A network that is
        # nearly as sharp as a matching makes a difference of it after a few steps.
        same = 1 if name == "frozen Hnet" else 10
        np.testing.assert_allclose(in_torch[:same], in_jax[:same], rtol=1e-3)
    assert len(table.splitlines()) == 2 + len(found["degrees"])
    assert all(np.min(part) < 0.5 for part in np.array_split(pixels, 4, axis=1))


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("aligned_vs_detr", "losses"),
        ("differentiable_matching", "gradients"),
        ("directions", "hnet"),
    ],
)
def test_documentation_quotes_the_figures(name: str, page: str) -> None:
    table = (EXAMPLES / "results" / f"{name}.md").read_text()
    assert table in (ROOT / "docs" / f"{page}.md").read_text()


def test_documentation_quotes_the_benchmark_of_the_network() -> None:
    results = (ROOT / "benchmarks" / "results" / "hnet.md").read_text().splitlines()
    page = (ROOT / "docs" / "hnet.md").read_text()
    quoted = page.partition("## Compared with")[2].partition("## An example")[0]
    rows = [line for line in quoted.splitlines() if line.startswith("| ")]
    assert len(rows) >= 12
    assert [row for row in rows if row not in results] == []
