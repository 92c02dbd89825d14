"""The example of separated speakers, cut short: it runs, goes on, and says what is wrong."""

from __future__ import annotations

import importlib
import json
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for need in ("torch", "torchmetrics", "scipy", "matplotlib"):
    pytest.importorskip(need, reason=f"{need} is not installed")
EXAMPLES = Path(__file__).parents[1] / "examples"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module, which finds those beside it as a script does."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    before = set(sys.modules)
    yield importlib.import_module("sound_separation")
    for path in EXAMPLES.glob("*.py"):
        if path.stem not in before:
            sys.modules.pop(path.stem, None)


def _recordings(folder: Path) -> Path:
    """Write hums of three speakers as recordings of digits; return their folder."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for k, (speaker, number) in enumerate((s, n) for s in ("ann", "bob", "eve") for n in (1, 40)):
        angle = np.cumsum(np.full(3000, 0.05 * (k + 1))) + random.normal(size=3000) / 10
        with wave.open(str(folder / f"{k}_{speaker}_{number}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes((8000 * np.sin(angle)).astype("<i2").tobytes())
    return folder


def test_sound_separation(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(_recordings(tmp_path / "data"))
    options = ["--quick", "--workers", "1", "--output", str(tmp_path), data]
    example.main(options)
    table = (tmp_path / "sound_separation.md").read_text()
    assert table in capsys.readouterr().out
    assert "| sources | torchmetrics, PIT, ms | pit_loss, ms |" in table
    found = json.loads((tmp_path / "sound_separation.json").read_text())
    assert set(found["runs"]) == set(example.LOSSES)
    assert {"processor", "cores", "versions"} <= set(found["machine"])
    for (run,) in found["runs"].values():
        assert [step for step, _ in run["curve"]] == list(range(9))
        assert 0 < run["loss_milliseconds"] < run["milliseconds"]
    (one,), (other,) = (found["runs"][name] for name in ("torchmetrics, PIT", "pit_loss"))
    # The same loss by two ways.
    np.testing.assert_allclose(one["curve"][:3], other["curve"][:3], atol=1e-3)
    assert (tmp_path / "sound_separation.png").stat().st_size > 10_000

    example.main([*options, "--resume"])
    later = json.loads((tmp_path / "sound_separation.json").read_text())
    assert later["runs"] == found["runs"]  # all of it from the checkpoints


def test_a_run_that_was_cut_off_goes_on_to_the_same_bits(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds = example.read(_recordings(tmp_path / "data"))
    job: Any = ("pit_loss", 0, 8, 2, sounds)
    whole = example.train(*job, tmp_path / "whole", False)
    replace, saved = example.os.replace, []

    def cut_off(*paths: Any) -> None:
        replace(*paths)
        saved.append(paths)
        if len(saved) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(example.os, "replace", cut_off)
    with pytest.raises(KeyboardInterrupt):
        example.train(*job, tmp_path / "parts", True)
    assert example.train(*job, tmp_path / "parts", True).curve == whole.curve
    assert len(saved) == 8


def test_recordings_that_cannot_be_read_are_named(example: Any, tmp_path: Path) -> None:
    data = _recordings(tmp_path / "data")
    path = data / "3_ann_41.wav"
    path.write_bytes(b"RIFF")
    with pytest.raises(SystemExit, match=r"3_ann_41\.wav cannot be read"):
        example.read(data)
    path.unlink()
    for other in data.glob("*_[be]*_*.wav"):
        other.unlink()
    with pytest.raises(SystemExit, match="fewer than two speakers"):
        example.read(data)
