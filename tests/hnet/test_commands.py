"""The commands from end to end on small settings, and what they say of wrong ones."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

import hungarian_hnet
from hungarian_core import hnet
from hungarian_core.hnet.data import generate
from hungarian_hnet import evaluation, problems, training
from hungarian_hnet.files import Network
from hungarian_hnet.recipe import Source

PICTURES = ("associations", "accuracy_by_n", "accuracy_by_gap", "training")


def rows(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: float(x) for k, x in row.items()} for row in csv.DictReader(file)]


def failed(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """Return what a command says that fails for a reason the user can mend."""
    capsys.readouterr()
    assert hungarian_hnet.main([*map(str, arguments)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"hnet {arguments[0]}")
    assert "Traceback" not in said
    return said


def test_data_is_what_the_core_generates(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "data.npz"
    options = ["--max-len", "3", "--samples", "70", "--missing", "masked", "--distance", "l1"]
    assert hungarian_hnet.main(["data", *options, "--seed", "4", "--output", str(path)]) == 0
    expected = generate(3, samples=70, missing="masked", distance="l1", seed=4)
    read = problems.read(path, Source())
    assert (read.max_len, read.missing, read.distance) == (3, "masked", "l1")
    for name, found, true in zip(expected._fields, read.samples, expected, strict=True):
        np.testing.assert_array_equal(found, true, err_msg=name)
    table = capsys.readouterr().out
    pairs = expected.association.sum(axis=(1, 2))
    for k in range(4):
        assert f"│     {k} │ {np.sum(pairs == k):8} │" in table


def test_training_learns_and_leaves_the_best_epoch(trained: Path) -> None:
    log = rows(trained)
    assert [row["epoch"] for row in log] == [1, 2]
    assert log[1]["train_loss"] < log[0]["train_loss"]
    assert log[1]["seconds"] > log[0]["seconds"] > 0
    best = max(log, key=lambda row: row["weighted_f"])
    params, metadata = hnet.load(trained / training.WEIGHTS)
    assert metadata["max_len"] == "3"
    assert metadata["missing"] == "masked"
    assert int(metadata["epoch"]) == best["epoch"]
    assert json.loads(metadata["recipe"])["width"] == 8

    source = Source(data=str(trained.parent / "data.npz"))
    _, validation = problems.training(source)
    found = hnet.associate(validation.samples.distance, params, **validation.masks)
    truth = validation.samples.association
    exact = hnet.metrics.exact(truth, found)
    assert exact == pytest.approx(best["accuracy"], abs=1e-6)
    assert float(metadata["accuracy"]) == pytest.approx(exact, abs=1e-6)
    score = hnet.metrics.weighted_f_score(truth, found)
    assert float(metadata["weighted_f"]) == pytest.approx(score, abs=1e-6)


def test_evaluation(trained: Path, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "figures.json"
    weights = str(trained / training.WEIGHTS)
    command = ["eval", "--weights", weights, "--samples", "100", "--output", str(path)]
    assert hungarian_hnet.main(command) == 0
    figures = json.loads(path.read_text())
    # Of the kind that the weights were trained on, and of another seed.
    assert figures["problems"]["max_len"] == 3
    assert figures["problems"]["missing"] == "masked"
    fresh = generate(3, samples=100, missing="masked", seed=1000)
    params, _ = hnet.load(weights)
    masks: Any = {"row_mask": fresh.row_mask, "col_mask": fresh.col_mask}
    found = hnet.associate(fresh.distance, params, **masks)
    accuracy = figures["all"]["network"]["accuracy"]
    assert accuracy == hnet.metrics.exact(fresh.association, found)
    assert figures["all"]["solver"]["accuracy"] > 0.999
    assert f"{accuracy:.4f}" in capsys.readouterr().out
    for groups in ("by_n", "by_gap"):
        parts = figures[groups]
        assert sum(part["problems"] for part in parts) == len(fresh.distance)
        mean = sum(part["problems"] * part["network"]["accuracy"] for part in parts)
        assert mean / len(fresh.distance) == pytest.approx(accuracy)
    assert [part["n"] for part in figures["by_n"]] == [0, 1, 2, 3]


def test_the_exact_solver_is_as_good_as_published() -> None:
    unseen = problems.make(Source(samples=2000), 1)
    truth, found = unseen.samples.association, evaluation.solve(unseen)
    assert 0.993 <= hnet.metrics.exact(truth, found) <= 0.996


def test_gap_of_known_problems() -> None:
    distance = np.array([[[0.5, 1.0], [0.75, 0.25]], [[0.5, 0.0], [0.75, 0.0]]], np.float32)
    distance = np.concatenate([distance, distance[1:] * 0])
    cols = np.array([[True, True], [True, False], [False, False]])
    rows_ = np.ones((3, 2), bool)
    counts = np.array([2, 2, 2]), cols.sum(axis=1)
    samples = problems.Samples(distance, distance > 0, *counts, rows_, cols, counts[0], cols[:, 0])
    # Both ways of matching two; two rows for one column; nothing to match.
    expected = [1.75 - 0.75, 0.75 - 0.5, np.inf]
    np.testing.assert_allclose(evaluation.gaps(problems.Problems(samples, "masked")), expected)


def test_mixed_problems_tell_of_some_missing_objects() -> None:
    mixed = problems.make(Source(max_len=3, samples=60, missing="mixed"), 0)
    samples, told = mixed.samples, mixed.masks
    assert told["row_mask"][~samples.masked].all()
    np.testing.assert_array_equal(
        told["row_mask"][samples.masked], samples.row_mask[samples.masked]
    )
    np.testing.assert_array_equal(
        told["col_mask"][samples.masked], samples.col_mask[samples.masked]
    )
    assert 0 < samples.masked.mean() < 1
    # What the exact solver may use is what the network is told.
    right = (evaluation.solve(mixed) == samples.association).all(axis=(1, 2))
    assert right[samples.masked].mean() > right[~samples.masked].mean() > 0.9


def test_plots(trained: Path, tmp_path: Path) -> None:
    weights, log = str(trained / training.WEIGHTS), str(trained / training.LOG)
    command = ["plot", "--weights", weights, "--log", log, "--samples", "50"]
    assert hungarian_hnet.main([*command, "--output", str(tmp_path / "new")]) == 0
    for name in PICTURES:
        pixels = imread(tmp_path / "new" / f"{name}.png")[..., :3]
        height, width, _ = pixels.shape
        assert width > height > 300
        assert all(np.min(part) < 0.5 for part in np.array_split(pixels, 3, axis=1))
    assert len(list((tmp_path / "new").iterdir())) == len(PICTURES)


def test_options_are_told_before_any_work(tmp_path: Path, capsys: Any) -> None:
    for option, value in (
        ("--epochs", "0"), ("--learning-rate", "nan"), ("--max-time", "1:2:3:4"),
        ("--max-time", "0"), ("--schedule", "linear"), ("--seed", "-1"), ("--width", "2.5"),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as exit_:
            hungarian_hnet.main(["train", option, value, "--output", str(tmp_path / "run")])
        assert exit_.value.code == 2
        assert f"argument {option}: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_files_that_cannot_be_used_are_told(trained: Path, tmp_path: Path, capsys: Any) -> None:
    weights, data = trained / training.WEIGHTS, trained.parent / "data.npz"
    cut = tmp_path / "cut"
    for whole, option in ((weights, "--weights"), (data, "--data")):
        more = () if option == "--weights" else ("--weights", weights)
        assert "there is no such file" in failed(capsys, "eval", option, tmp_path / "no", *more)
        for share in (0.5, 0.99):
            content = whole.read_bytes()
            cut.write_bytes(content[: int(share * len(content))])
            assert str(cut) in failed(capsys, "eval", option, cut, *more)
        other = data if option == "--weights" else weights
        assert str(other) in failed(capsys, "eval", option, other, *more)
        (tmp_path / "text").write_text("distance, association\n")
        assert "text" in failed(capsys, "eval", option, tmp_path / "text", *more)
    np.savez(tmp_path / "foreign.npz", distance=np.zeros((3, 2, 2)))
    message = failed(
        capsys, "train", "--data", tmp_path / "foreign.npz", "--output", tmp_path / "a"
    )
    assert "this is no data set of `hungarian-core hnet data`" in message
    message = failed(capsys, "plot", "--weights", weights, "--log", trained / training.OPTIONS)
    assert "this is no metrics.csv of `hnet train`" in message
    assert "no such file" in failed(capsys, "plot", "--weights", weights, "--log", tmp_path / "b")
    assert "max_len 99" in failed(capsys, "eval", "--pretrained", "99").replace("=", " ")


def test_bad_data_is_told_in_a_line(trained: Path, tmp_path: Path, capsys: Any) -> None:
    with np.load(trained.parent / "data.npz") as archive:
        good = {name: archive[name] for name in archive.files}
    header = json.loads(str(good["header"]))
    distance = good["distance"]
    for change, message in (
        ({"header": np.array("no json {")}, "this is no data set"),
        ({"header": np.array("[1]")}, "this is no data set"),
        ({"header": np.array(json.dumps({**header, "missing": 3}))}, "missing is 3; expected one"),
        ({"header": np.array(json.dumps({**header, "distance": "miles"}))}, "distance is 'miles'"),
        ({"header": np.array(json.dumps({**header, "missing": "maskd"}))}, "mean 'masked'?"),
        ({"distance": distance[:-1]}, "expected ("),
        ({"distance": distance * np.nan}, "distance holds NaN, infinite or negative numbers"),
        ({"distance": -distance}, "distance holds NaN, infinite or negative numbers"),
        ({"distance": distance > 0}, "distance has dtype bool; expected floats"),
        ({"association": distance}, "association has dtype float32; expected bool"),
        ({"association": distance > -1}, "association has several partners for one object"),
        ({"rows": good["rows"][:, None]}, "rows has shape"),
        ({name: x[:0] for name, x in good.items() if x.ndim}, "it holds 0 problems"),
        ({name: np.array(1) for name in good if name != "header"}, "has shape ()"),
    ):
        path = tmp_path / "bad.npz"
        np.savez(path, **{**good, **change})
        said = failed(capsys, "eval", "--weights", trained / training.WEIGHTS, "--data", path)
        assert message in said
        assert str(path) in said
        assert len(said.strip().splitlines()) == 1


def test_sizes_that_do_not_fit_are_told(trained: Path, tmp_path: Path, capsys: Any) -> None:
    data = trained.parent / "data.npz"
    run = ("--output", tmp_path / "run")
    message = failed(capsys, "train", "--data", data, "--max-len", "2", *run)
    assert "has max_len 3; expected --max-len 2" in message
    message = failed(capsys, "train", "--data", data, "--missing", "published", *run)
    assert "was made with --missing masked; expected published" in message
    other = tmp_path / "other.npz"
    assert hungarian_hnet.main(["data", "--samples", "20", "--output", str(other)]) == 0
    message = failed(capsys, "train", "--data", data, "--validation", other, *run)
    assert "has max_len 3 and missing='masked'" in message
    assert "--validation came without --data" in failed(
        capsys, "train", "--validation", other, "--output", tmp_path / "run2"
    )
    small = tmp_path / "small.safetensors"
    params, metadata = hnet.load(trained / training.WEIGHTS)
    hnet.save(small, params, {**metadata, "max_len": 2})
    message = failed(capsys, "eval", "--weights", small, "--data", data)
    assert "was trained for max_len 2, and the problems have 3; give --max-len 3" in message
    command = ["eval", "--weights", str(small), "--data", str(data), "--max-len", "3"]
    assert hungarian_hnet.main([*command, "--output", str(tmp_path / "figures.json")]) == 0
    assert Network.read(small, None).max_len == 2


def test_places_that_cannot_be_written_are_told(tmp_path: Path, capsys: Any) -> None:
    assert "there is no folder" in failed(capsys, "data", "--output", tmp_path / "no" / "a.npz")
    assert "is a folder" in failed(capsys, "data", "--output", tmp_path)
    (tmp_path / "file").touch()
    message = failed(capsys, "train", "--output", tmp_path / "file" / "run")
    assert "cannot be written: Not a directory" in message


@pytest.mark.parametrize("command", ["train", "plot", "tune"])
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, command: str
) -> None:
    _, extra, needed = hungarian_hnet.COMMANDS[command]
    monkeypatch.setattr(hungarian_hnet.importlib.util, "find_spec", lambda name: None)
    which = ["--pretrained", "2"] if command == "plot" else []
    message = failed(capsys, command, *which)
    assert message.endswith(f'is not installed: pip install "hungarian-core[{extra}]"\n')
    assert all(title in message for title in needed.values())


def test_no_bar_where_nobody_looks(tmp_path: Path, small: tuple[str, ...]) -> None:
    """From the command line, in a process of its own: warnings are errors there too."""
    command = [sys.executable, "-m", "hungarian_core", "hnet", "train", *small, "--epochs", "1"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=300,
        # PyTorch's own import (2.13) and nothing else may warn.
        env={**os.environ, "PYTHONWARNINGS": "default", "COLUMNS": "80"},
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "torch.jit" not in line]
    assert [line for line in said if line.strip() and "warn" in line.lower()] == []
    first, second, third = done.stdout.splitlines()
    assert first.startswith("Training on 4050 problems of 2 x 2, validating on 405;")
    assert second.startswith("1 epochs, 64 steps, ")
    assert third.endswith("weights.safetensors holds the weights of the best epoch")
