"""The main job, cut short: it runs from the command line to the picture, and tells the truth."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hungarian_demo

MISSING = [
    name for name in (*hungarian_demo.NEEDED, "jax") if importlib.util.find_spec(name) is None
]
needs_extra = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hungarian_core", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        # The demo chooses jax, whatever the environment says of Keras.
        env={**os.environ, "KERAS_BACKEND": "numpy", "COLUMNS": "100", "PYTHONUTF8": "1"},
    )


@needs_extra
def test_end_to_end(tmp_path: Path) -> None:
    from matplotlib.image import imread

    picture = tmp_path / "scenes.png"
    done = demo("--quick", "--seed", "3", "--output", str(picture))
    assert done.returncode == 0, done.stdout + done.stderr
    for row in ("before training", "matched", "by position"):
        (line,) = re.findall(rf"│ {row} +│ (.*) │ (.*)%", done.stdout)
        iou, percent = map(float, line)
        assert 0 < iou < 1
        assert 0 <= percent <= 100
    assert "Training, matched" in done.stdout
    assert "With nothing changed but the pairing inside the loss" in done.stdout
    pixels = imread(picture)[..., :3]
    height, width, _ = pixels.shape
    assert width > height > 500
    # Every column of the picture has something drawn on its white ground.
    assert all(np.min(part) < 0.5 for part in np.array_split(pixels, 5, axis=1))


def test_wrong_options_are_told(tmp_path: Path) -> None:
    done = demo("--backend", "numpy")
    assert done.returncode == 2
    assert "invalid choice: 'numpy'" in done.stderr
    done = demo("--steps", "0")
    assert done.returncode == 2
    assert "0 is not positive" in done.stderr


@needs_extra
def test_a_folder_that_is_not_there_is_told_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hungarian_demo.main(["--output", str(tmp_path / "none" / "demo.png")]) == 1
    assert "--output: there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("backend", "absent", "message"),
    [
        (
            "jax",
            {"rich", "sklearn"},
            'scikit-learn, rich, which is not installed: pip install "hun',
        ),
        (
            "jax",
            {"jax"},
            'the demo needs jax, which is not installed: pip install "hungarian-core[demo]"',
        ),
        ("torch", {"torch"}, 'pip install "hungarian-core[demo,torch]"'),
    ],
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    backend: str,
    absent: set[str],
    message: str,
) -> None:
    monkeypatch.setattr(
        hungarian_demo.importlib.util,
        "find_spec",
        lambda name: None if name in absent else object(),
    )
    assert hungarian_demo.main(["--backend", backend]) == 1
    assert message in capsys.readouterr().err


@needs_extra
def test_scenes_hold_what_they_say() -> None:
    from hungarian_demo import scenes

    training, held_out = scenes.make(40, 20, seed=1)
    assert training.images.shape == (40, scenes.SIDE, scenes.SIDE, 1)
    assert held_out.truths.shape == (20, scenes.MOST, scenes.FEATURES)
    counts = training.mask.sum(axis=1)
    assert set(counts) == {1, 2, 3, 4, 5}
    for image, truth, mask in zip(training.images, training.truths, training.mask, strict=True):
        assert not np.any(np.diff(mask.astype(int)) > 0), "digits come before padding"
        outside = image[..., 0].copy()
        for x, y, w, h in truth[mask, :4] * scenes.SIDE:
            rows = slice(round(y - h / 2), round(y + h / 2))
            columns = slice(round(x - w / 2), round(x + w / 2))
            assert image[rows, columns].max() > 100, "a box has ink in it"
            outside[rows, columns] = 0
        assert not outside.any(), "no ink is outside of boxes"
        assert np.all(truth[mask, 4:].sum(axis=1) == 1)
        assert np.all(truth[~mask] == scenes.PADDING)


@needs_extra
def test_the_same_seed_gives_the_same_scenes_and_another_does_not() -> None:
    from hungarian_demo import scenes

    first, again, other = (scenes.make(8, 4, seed)[0].images for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


@needs_extra
def test_a_perfect_prediction_scores_one_in_any_order() -> None:
    from hungarian_demo import measure, scenes

    _, held_out = scenes.make(1, 30, seed=2)
    rng = np.random.default_rng(0)
    predictions = rng.random((30, 8, scenes.FEATURES)).astype(np.float32) * 0.01
    predictions[:, 2:7] = np.where(held_out.mask[..., None], held_out.truths, predictions[:, 2:7])
    shuffled = rng.permuted(predictions, axis=1)  # each feature on its own: no longer a prediction
    order = rng.permutation(8)
    assert measure.score(held_out, predictions[:, order]) == pytest.approx((1.0, 1.0))
    assert measure.score(held_out, shuffled).iou < 0.9
    predictions[:, :, 4:] = np.eye(scenes.CLASSES, dtype=np.float32)[0]
    zeros = np.mean(held_out.truths[held_out.mask][:, 4] == 1)
    assert measure.score(held_out, predictions) == pytest.approx((1.0, zeros))


def test_overlap_of_boxes() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from hungarian_demo.measure import iou

    a = np.array([[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2]])
    b = np.array([[0.5, 0.5, 0.2, 0.2], [0.6, 0.5, 0.2, 0.2], [0.9, 0.9, 0.1, 0.1]])
    np.testing.assert_allclose(iou(a, b), [1, 1 / 3, 0], atol=1e-12)
