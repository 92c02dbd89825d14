"""The search for options, with two workers of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import hungarian_hnet


@pytest.mark.filterwarnings(
    # Ray's own, of its processes and sockets when it ends (2.60).
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
def test_two_workers(tmp_path: Path, capfd: Any) -> None:
    options = ["--samples", "40", "--trials", "2", "--epochs", "2", "--width", "4"]
    options += ["--layers", "1", "--batch-size", "64", "--learning-rate", "0.001,0.01"]
    command = ["tune", *options, "--workers", "2", "--output", str(tmp_path / "search")]
    assert hungarian_hnet.main(command) == 0
    found = json.loads((tmp_path / "search" / "best.json").read_text())
    assert found["options"]["width"] == 4
    assert 0.001 <= found["options"]["learning_rate"] <= 0.01
    assert 0 < found["scores"]["weighted_f"] <= 1
    said = capfd.readouterr().out
    assert "2 trials" in said
    assert f"{found['scores']['weighted_f']:.5f}" in said
    assert "hungarian-core hnet train --width 4" in said
    assert hungarian_hnet.main(command) == 1
    assert "holds a search; expected another folder" in capfd.readouterr().err


def test_a_cluster_that_does_not_answer(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hungarian_hnet import search

    def refuse(**options: Any) -> None:
        raise ConnectionError(f"nobody at {options['address']}")

    monkeypatch.setattr(search.ray, "init", refuse)
    command = ["tune", "--address", "head:6379", "--output", str(tmp_path)]
    assert hungarian_hnet.main(command) == 1
    said = capsys.readouterr().err
    assert "Ray does not start or answer at --address head:6379: nobody at head:6379" in said
