"""The examples, cut short: they run, and write what they say."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hungarian_core.relaxations import METHODS

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def _run(
    name: str, folder: Path, *needs: str, options: Sequence[str] = ()
) -> tuple[dict[str, Any], str, np.ndarray]:
    """Run an example, cut short; return its figures, its table and the pixels of its picture."""
    for need in needs:
        pytest.importorskip(need, reason=f"{need} is not installed")
    from matplotlib.image import imread

    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", "--quick", "--output", folder, *options],
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
        for shares in runs[0].values():
            assert len(shares) == 11
            assert all(0 <= share <= 1 for share in shares)
    assert found["milliseconds"].keys() == found["runs"].keys()
    assert min(found["milliseconds"].values()) > 0
    assert len(table.splitlines()) == 3 + len(found["runs"])
    assert all(np.min(part) < 0.5 for part in np.array_split(pixels, 4, axis=1))


@pytest.mark.usefixtures("beside", "one_thread")
def test_a_matching_is_needed_where_rows_compete() -> None:
    example = importlib.import_module("differentiable_matching")
    possible = example.best(1)
    behind = {
        loss: possible - example.train(loss, seed=1, steps=60).agreement[-1]
        for loss in (example.perceptron, example.rows_alone, example.rows_and_columns)
    }
    assert behind.pop(example.perceptron) < 0.05
    assert min(behind.values()) > 0.07


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


REAL = ("torch", "PIL", "scipy", "matplotlib", "pycocotools")


def test_real_detection(tmp_path: Path, photographs: Path) -> None:
    losses = (
        "position", "detr", "focal", "varifocal", "ia_bce", "mal", "groups", "hybrid", "denoising",
        "aligned", "aligned_01",
    )  # fmt: skip
    found, table, pixels = _run(
        "real_detection", tmp_path, *REAL, options=[str(photographs), "--losses", ",".join(losses)]
    )
    assert found["settings"]["images"] == {"train": 8, "val": 4, "test": 4}
    assert tuple(found["runs"]) == losses
    for name, runs in found["runs"].items():
        tests = [run["test"]["ap"] for run in runs]
        assert len(tests) == 2
        assert all(0 <= ap <= 1 for ap in tests)
        assert [point["epoch"] for point in runs[0]["curve"]] == [1, 2]
        assert 0 < found["losses"][name]["loss_share_of_step"] < 1
        assert len(found["search"]["validation_ap"][name]) == 1
        base = [run["test"]["ap"] for run in found["runs"]["detr"]]
        ahead = found["losses"][name]["ap_less_that_of_detr"]
        assert (ahead is None) == (name == "detr")
        if ahead:
            np.testing.assert_allclose(ahead["mean"], np.mean(tests) - np.mean(base), atol=1e-12)
    assert {"processor", "cores", "versions"} <= set(found["machine"])
    assert len(table.splitlines()) == 2 + len(losses)
    tried = (tmp_path / "real_detection_search.md").read_text().splitlines()
    best = found["search"]["validation_ap"]["mal"]
    assert len(tried) == 2 + len(losses)
    assert f"| MAL | {best[0]:.3f} |" in tried
    assert all(np.min(part) < 0.5 for part in np.array_split(pixels, 4, axis=1))
    assert (tmp_path / "real_detection_matches.png").stat().st_size > 10_000


@pytest.mark.usefixtures("beside")
def test_real_detection_goes_on_to_the_same_bits(
    tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    training = importlib.import_module("training")
    job = training.Job(str(photographs), 48, 64, 4, 3, "detr", 1e-3, 1.0, None, 0)
    whole = training.train(job, tmp_path / "whole", resume=False)

    save = training.save

    def cut_off(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "save", cut_off)
    for epoch in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            training.train(job, tmp_path / "parts", resume=True)
        found = torch.load(tmp_path / "parts" / f"{job.name}.pt", weights_only=True)
        assert found["done"]["epoch"] == epoch
    monkeypatch.setattr(training, "save", save)
    parts = training.train(job, tmp_path / "parts", resume=True)
    assert parts.curve == whole.curve
    assert parts.test == whole.test
    models = [
        torch.load(tmp_path / name / f"{job.name}.pt", weights_only=True)["states"]["model"]
        for name in ("whole", "parts")
    ]
    assert models[0].keys() == models[1].keys()
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])

    # What is whole is read, not trained again; other settings are another run.
    assert training.train(job, tmp_path / "parts", resume=True) == parts
    with pytest.raises(ValueError, match="--resume"):
        training.train(job._replace(batch=2), tmp_path / "parts", resume=True)


@pytest.mark.usefixtures("beside")
def test_real_detection_says_in_a_line_what_it_cannot_do(
    tmp_path: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = importlib.import_module("real_detection")
    data = str(photographs)
    (tmp_path / "file").write_text("")
    for options, told in (
        (["--search-epochs", "0"], "search_epochs is 0; expected 1 or more"),
        (["--losses", "detr,detr"], "--losses has one twice: detr, detr"),
        (["--output", str(tmp_path / "file")], "which is no folder"),
    ):
        with pytest.raises(SystemExit):
            script.main([data, *options])
        assert told in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"real_detection\.py: .*nowhere is no folder"):
        script.main([str(tmp_path / "nowhere")])
    given = script.arguments([data, "--quick", "--size", "32x24"])
    assert (given.width, given.height, given.epochs) == (32, 24, 2)

    checkpoint = tmp_path / "checkpoints" / "detr-trial0.pt"
    quick = [data, "--quick", "--losses", "detr", "--output", str(tmp_path)]
    training = importlib.import_module("training")
    other = training.Job(data, 48, 64, 4, 3, "detr", 1e-3, 1.0, 0, 0)
    training.save(checkpoint, other, {}, {})
    whole = checkpoint.read_bytes()
    for kept, told in (
        (len(whole), "leave out --resume"),
        (len(whole) // 2, "cut off"),
        (0, "cut"),
    ):
        checkpoint.write_bytes(whole[:kept])
        with pytest.raises(SystemExit, match=rf"detr-trial0\.pt is .*{told}"):
            script.main([*quick, "--resume"])


@pytest.mark.usefixtures("beside")
def test_real_detection_cuts_a_folder_without_splits(photographs: Path) -> None:
    training = importlib.import_module("training")
    given = training.read(str(photographs))
    for path in (photographs / "ImageSets" / "Main").iterdir():
        path.unlink()
    training.read.cache_clear()
    found = training.read(str(photographs))
    for splits, counts in ((given, (8, 4, 4)), (found, (9, 3, 4))):
        assert tuple(len(split.examples) for split in splits.values()) == counts
        assert len({x.path for split in splits.values() for x in split.examples}) == 16


@pytest.mark.usefixtures("beside")
def test_a_flip_moves_boxes_with_their_pixels(photographs: Path) -> None:
    training = importlib.import_module("training")
    torch = importlib.import_module("torch")
    split = training.load(str(photographs), "train", 48, 64)
    at = torch.arange(8).repeat(4)  # 32 draws of two flips
    images, targets = training.flipped(split, at, np.random.default_rng(0))
    kinds = set()
    for image, k, boxes, mask in zip(images, at, targets.boxes, targets.mask, strict=True):
        assert not targets.ignore.any()
        for (x, y, w, h), label in zip(boxes[mask], split.targets.labels[k][mask], strict=True):
            corner = [round(float(v)) for v in (64 * (x - w / 2), 48 * (y - h / 2))]
            end = [round(float(v)) for v in (64 * (x + w / 2), 48 * (y + h / 2))]
            part = image[int(label), corner[1] : end[1], corner[0] : end[0]]
            assert bool((part > 0.7).all())
        kinds.add(bool(torch.equal(boxes, split.targets.boxes[k])))
    assert kinds == {True, False}


@pytest.mark.usefixtures("beside")
@pytest.mark.filterwarnings(
    # Ray's own, of its processes and sockets when it ends (2.60).
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
def test_real_detection_by_ray(
    tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session `hnet` runs it, which has Ray."""
    pytest.importorskip("ray.tune", reason="Ray Tune is not installed", exc_type=ImportError)
    training, cluster, script = (
        importlib.import_module(x) for x in ("training", "cluster", "real_detection")
    )
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES))  # Ray tells workers where a script lies
    job = training.Job(str(photographs), 48, 64, 4, 2, "detr", 1e-3, 1.0, None, 0)
    jobs = [job, job._replace(loss="aligned_01", seed=1)]
    bench = script.Bench(tmp_path / "there", 2, 2, resume=True, address=cluster.LOCAL)
    for one, run in zip(jobs, bench(jobs), strict=True):
        expected = training.train(one, tmp_path / "here", resume=False)
        assert (run.curve, run.test) == (expected.curve, expected.test)
        # What a process of Ray saved, another goes on from.
        assert training.train(one, tmp_path / "there", resume=True) == run

    with pytest.raises(training.JobError, match=r"\Adetr-seed0 failed: .*--resume to begin anew\Z"):
        bench([job._replace(batch=2)])

    def refuse(**options: Any) -> None:
        raise ConnectionError(f"nobody at {options['address']}")

    monkeypatch.setattr(cluster.ray, "init", refuse)
    with pytest.raises(training.JobError, match="answer at head:6379: nobody at head:6379"):
        cluster.runs(bench, jobs, tmp_path, 2, "head:6379")


@pytest.mark.usefixtures("beside")
def test_intervals_and_points() -> None:
    from scipy import stats

    intervals, script = (importlib.import_module(x) for x in ("intervals", "real_detection"))
    values = {"detr": [0.2, 0.5, 0.3], "focal": [0.3, 0.7, 0.35], "mal": [0.1, 0.5, 0.2]}
    for each in values.values():
        low, high = stats.t.interval(0.95, 2, np.mean(each), stats.sem(each))
        found = intervals.mean(each)
        np.testing.assert_allclose([found.mean - found.half, found.mean + found.half], [low, high])
    ahead = intervals.differences(values, "detr")
    paired = stats.ttest_rel(values["focal"], values["detr"]).confidence_interval(0.95)
    np.testing.assert_allclose(
        [ahead["focal"].mean - ahead["focal"].half, ahead["focal"].mean + ahead["focal"].half],
        [paired.low, paired.high],
    )
    assert set(ahead) == {"focal", "mal"}
    assert intervals.differences({"focal": [0.1]}, "detr") == {}
    assert intervals.mean([0.25]) == (0.25, None)

    ranges = (1e-3, 2e-2), (0.2, 5.0)
    tried = np.array(script.points(4, *ranges))
    for column, ends in zip(tried.T, ranges, strict=True):
        shares = np.log(column / ends[0]) / np.log(ends[1] / ends[0])
        assert sorted(np.floor(4 * shares)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("aligned_vs_detr", "losses"),
        ("real_detection", "losses"),
        ("real_detection_four_points", "losses"),
        ("real_detection_search", "losses"),
        ("real_detection_five_seeds", "losses"),
        ("sound_separation", "losses"),
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
