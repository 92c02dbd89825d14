"""The examples, cut short: they run, and write what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def test_aligned_against_detr(tmp_path: Path) -> None:
    for name in ("torch", "sklearn", "matplotlib", "pycocotools"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    from matplotlib.image import imread

    done = subprocess.run(
        [sys.executable, EXAMPLES / "aligned_vs_detr.py", "--quick", "--output", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        # A script finds the files beside it, unless this is set.
        env={**os.environ, "PYTHONSAFEPATH": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "aligned_vs_detr.json").read_text())
    assert {"DETR", "aligned"} < set(found["curves"])
    for curves in found["curves"].values():
        assert [point["step"] for point in curves[0]] == [4, 8, 12, 16, 20]
        assert all(0 <= point["ap"] <= point["ap50"] <= 1 for point in curves[0])
    table = (tmp_path / "aligned_vs_detr.md").read_text()
    assert table in done.stdout
    assert len(table.splitlines()) == 2 + len(found["curves"])
    pixels = imread(tmp_path / "aligned_vs_detr.png")[..., :3]
    assert all(np.min(part) < 0.5 for part in np.array_split(pixels, 4, axis=1))


def test_documentation_quotes_the_figures() -> None:
    table = (EXAMPLES / "results" / "aligned_vs_detr.md").read_text()
    assert table in (ROOT / "docs" / "losses.md").read_text()
