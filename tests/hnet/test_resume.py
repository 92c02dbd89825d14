"""An interrupted run goes on as if it had not been interrupted, to the last bit."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

import hungarian_hnet
from hungarian_core import hnet
from hungarian_hnet import problems, training
from hungarian_hnet.batches import Batches
from hungarian_hnet.problems import Problems
from hungarian_hnet.recipe import Recipe, Source

RECIPE = Recipe(width=4, layers=1, batch_size=256, epochs=3, warmup=3)
STEPS = 8  # of an epoch
ALL = 3 * STEPS


class Press(Callback):
    """Presses Ctrl-C in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def sets() -> tuple[Problems, Problems]:
    return problems.training(Source(samples=75))


@pytest.fixture(scope="module")
def whole(sets: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    result = training.fit(RECIPE, sets, folder)
    assert (result.epochs, result.steps, result.interrupted) == (3, ALL, False)
    return folder


def state(folder: Path) -> dict[str, np.ndarray]:
    """Return the last parameters, not the best, of a run."""
    saved = torch.load(folder / training.LAST, weights_only=True)
    return {name: x.numpy() for name, x in saved["state_dict"].items()}


# In the first step, within epochs, at the last step of one and at the first of the next.
@pytest.mark.parametrize("step", [0, 3, STEPS - 1, STEPS, ALL - 2])
def test_ctrl_c_and_resume(sets: Any, whole: Path, tmp_path: Path, step: int) -> None:
    before = signal.getsignal(signal.SIGINT)
    result = training.fit(RECIPE, sets, tmp_path, callbacks=(Press(step),))
    assert signal.getsignal(signal.SIGINT) == before
    assert result.interrupted
    assert result.steps == step + 1
    result = training.fit(RECIPE, sets, tmp_path, resume=True)
    assert (result.epochs, result.steps, result.interrupted) == (3, ALL, False)
    found, expected = state(tmp_path), state(whole)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    logs = [
        [line.split(",")[:2] for line in (folder / training.LOG).read_text().splitlines()]
        for folder in (tmp_path, whole)
    ]
    assert logs[0] == logs[1]
    params, _ = hnet.load(tmp_path / training.WEIGHTS)
    for name, array in hnet.load(whole / training.WEIGHTS)[0].items():
        np.testing.assert_array_equal(params[name], array, err_msg=name)


def test_more_epochs(sets: Any, tmp_path: Path) -> None:
    training.fit(RECIPE, sets, tmp_path)
    more = Recipe(**{**vars(RECIPE), "epochs": 4})
    assert training.fit(more, sets, tmp_path, resume=True).steps == 4 * STEPS


def test_time_ends_a_run(sets: Any, tmp_path: Path) -> None:
    recipe = Recipe(**{**vars(RECIPE), "epochs": 10**4, "max_time": 0.5})
    result = training.fit(recipe, sets, tmp_path)
    assert not result.interrupted
    assert 0 < result.steps < 10**4 * STEPS
    assert result.scores["weighted_f"] > 0
    rate = float((tmp_path / training.LOG).read_text().splitlines()[-1].split(",")[3])
    assert rate < 0.2 * recipe.learning_rate


def test_patience_ends_a_run(sets: Any, tmp_path: Path) -> None:
    still = Recipe(**{**vars(RECIPE), "epochs": 50, "patience": 2, "learning_rate": 1e-12})
    assert training.fit(still, sets, tmp_path).epochs == 3


def test_from_the_command_line(
    tmp_path: Path, small: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run = tmp_path / "run"
    train = ["train", "--output", str(run)]
    original = training.fit

    def pressed(*arguments: Any, **options: Any) -> Any:
        return original(*arguments, **options, callbacks=(Press(70),))

    monkeypatch.setattr(training, "fit", pressed)
    assert hungarian_hnet.main([*train, *small, "--epochs", "2"]) == 130
    said = capsys.readouterr().out
    assert f"hungarian-core hnet train --resume --output {run}" in said
    monkeypatch.setattr(training, "fit", original)

    assert hungarian_hnet.main([*train, *small]) == 1
    assert "holds a run; --resume goes on with it" in capsys.readouterr().err
    assert hungarian_hnet.main([*train, "--resume", "--width", "16"]) == 1
    assert "has --width 8, and 16 came" in capsys.readouterr().err
    assert hungarian_hnet.main([*train, "--resume", "--epochs", "3"]) == 0
    assert "3 epochs, 192 steps" in capsys.readouterr().out
    assert json.loads((run / training.OPTIONS).read_text())["recipe"]["epochs"] == 3

    content = (run / training.LAST).read_bytes()
    (run / training.LAST).write_bytes(content[: len(content) // 2])
    assert hungarian_hnet.main([*train, "--resume"]) == 1
    assert "is damaged" in capsys.readouterr().err
    assert hungarian_hnet.main(["train", "--resume", "--output", str(tmp_path / "none")]) == 1
    assert "holds no run" in capsys.readouterr().err


def test_batches_are_all_samples_once_in_another_order_each_epoch() -> None:
    batches = Batches((torch.arange(10), None), 4, seed=3)
    epochs = [list(batches) for _ in range(2)]
    orders = []
    for epoch in epochs:
        assert [len(first) for first, _ in epoch] == [4, 4, 2]
        assert all(second is None for _, second in epoch)
        orders.append(torch.cat([first for first, _ in epoch]).tolist())
        assert sorted(orders[-1]) == list(range(10))
    assert orders[0] != orders[1] != list(range(10))
    again = Batches((torch.arange(10), None), 4, seed=3)
    again.load_state_dict({"epoch": 1, "position": 2})
    assert [first.tolist() for first, _ in again] == [orders[1][8:]]
