"""A small run of training, which most tests look at."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import pytest

import hungarian_hnet

MISSING = [
    name
    for _, _, needed in hungarian_hnet.COMMANDS.values()
    for name in needed
    if importlib.util.find_spec(name) is None
]
collect_ignore_glob = ["test_*.py"] if MISSING else []

# Enough to learn that the nearest belong together, in a second.
SMALL = ("--samples", "150", "--width", "8", "--layers", "1", "--batch-size", "64")


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """Return options of a small run of training."""
    return SMALL


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of two epochs on a data set in ``data.npz`` beside it."""
    folder = tmp_path_factory.mktemp("trained")
    data = str(folder / "data.npz")
    options = ("--missing", "masked", "--max-len", "3")
    assert hungarian_hnet.main(["data", *SMALL[:2], *options, "--output", data]) == 0
    run = folder / "run"
    train = ["train", *SMALL[2:], "--epochs", "2", "--warmup", "5", "--data", data]
    assert hungarian_hnet.main([*train, "--output", str(run)]) == 0
    return run


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep Lightning from telling about devices and products; write nowhere else by default."""
    monkeypatch.chdir(tmp_path)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
