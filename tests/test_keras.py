"""Keras on each of its backends, which it chooses once per process: a process each."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITES = [
    Path(__file__).with_name(f"keras_{name}.py")
    for name in ("suite", "callbacks", "detection", "dtypes", "heads", "masks", "signals", "where")
]


@pytest.mark.parametrize("backend", ["jax", "torch", "tensorflow"])
def test_keras_on(backend: str) -> None:
    for name in ("keras", backend):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, SUITES)]
    if backend == "jax" and (flags := os.environ.get("XLA_FLAGS_OF_JAX")):  # noxfile.py sets them
        path = os.pathsep.join([str(SUITES[0].parent), os.environ.get("PYTHONPATH", "")])
        environment |= {"XLA_FLAGS": flags, "PYTHONPATH": path}
        command += ["-p", "keras_programs"]
    done = subprocess.run(
        command,
        cwd=SUITES[0].parents[1],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " skipped" not in done.stdout, done.stdout
