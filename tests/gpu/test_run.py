"""The command for devices, where a CPU stands in for one: it runs, and reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

if "HUNGARIAN_LIBCUDA" not in os.environ:
    pytest.skip("on a device the command runs this, not the reverse", allow_module_level=True)
pytest.importorskip("torch", reason="for PyTorch")
pytest.importorskip("jax", reason="for JAX")


def test_the_command_for_devices(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("run.py")), "--report", str(tmp_path)]
    # A script finds the files beside it, unless PYTHONSAFEPATH is set.
    environment = {**os.environ, "PYTHONSAFEPATH": ""}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = (tmp_path / "report.md").read_text()
    assert report.count(": passed, ") == 4, report
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert all(row["ms"]["kernel"] > 0 for row in figures["batches"])
    assert figures["losses"][0]["ms"]["ours, eager"] > 0
    assert not figures["losses"][0]["failed"]
    assert "| goals |" in (tmp_path / "figures.md").read_text()


def test_without_a_device_it_says_so() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "HUNGARIAN_LIBCUDA"}
    command = [sys.executable, str(Path(__file__).with_name("run.py"))]
    done = subprocess.run(
        command, env={**environment, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no CUDA device" in done.stdout
