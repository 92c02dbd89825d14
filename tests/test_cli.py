"""The command line: commands are found, `doctor` tells the truth, nothing is imported early."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core import cli


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hungarian_core", *arguments]
    environment = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


def register(monkeypatch: pytest.MonkeyPatch, **commands: object) -> None:
    """Let `commands` be all that is registered as a command."""

    class Entry:
        def __init__(self, name: str, function: object) -> None:
            self.name, self.load = name, lambda: function

    original = importlib.metadata.entry_points

    def entry_points(*, group: str) -> object:
        if group == cli.COMMANDS:
            return [Entry(name, function) for name, function in commands.items()]
        return original(group=group)

    monkeypatch.setattr(cli.importlib.metadata, "entry_points", entry_points)


def test_version() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout == f"hungarian-core {hc.__version__}\n"


def test_help_names_the_commands() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "demo, doctor" in done.stdout


def test_without_a_command_the_usage_is_shown() -> None:
    done = run()
    assert done.returncode == 2
    assert "usage: hungarian-core" in done.stderr


def test_an_unknown_command_is_named_with_its_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["docter"])
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert "unknown command 'docter'; expected " in message
    assert "Did you mean 'doctor'?" in message


def test_a_command_gets_its_arguments_and_gives_the_exit_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    came: list[list[str]] = []
    register(monkeypatch, greet=lambda argv: came.append(argv) or 3, silent=lambda argv: None)
    assert cli.main(["greet", "--loud", "you", "-h"]) == 3
    assert came == [["--loud", "you", "-h"]]
    assert cli.main(["silent"]) == 0


def test_finding_a_command_imports_no_framework() -> None:
    program = (
        "import sys\n"
        "from hungarian_core import cli\n"
        "try: cli.main(['demo', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'keras', 'jax', 'torch', 'tensorflow', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert "--backend {jax,torch,tensorflow}" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_doctor_reports_every_installed_backend_and_what_becomes_of_devices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    done = run("doctor", HUNGARIAN_LIBCUDA="/nowhere/libcuda.so")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""  # TensorFlow says seven lines as it loads
    assert f"hungarian-core {hc.__version__} on NumPy {np.__version__}" in done.stdout
    for name in hc.backends():
        (row,) = [line for line in done.stdout.splitlines() if f" {name} " in line]
        assert "[1, 0]" in row
        assert "6.507638" in row
        assert "works" in row
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("solver for CUDA devices: ")]
    assert "does not load. There is no CUDA driver here: /nowhere/libcuda.so" in line


class Wrong(hc.Backend):
    """Matches the wrong columns."""

    name = "wrong"

    def solve(self, problem: hc.Problem, *, solver: str) -> hc.Solution:
        *batch, n, _ = problem.cost.shape
        identity = np.broadcast_to(np.arange(n), (*batch, n))
        zeros = np.zeros((*batch, n), problem.cost.dtype)
        return hc.Solution(identity, identity, zeros.sum(-1), zeros, zeros)


class Broken(hc.Backend):
    """Fails."""

    def solve(self, *arguments: object, **options: object) -> hc.Solution:
        os.write(2, b"it will not work\n")
        raise RuntimeError("no device")


@pytest.fixture
def damaged(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let the names of two defective backends and of NumPy be all that is installed."""
    named = {"wrong": Wrong(), "broken": Broken(), "numpy": hc.get_backend("numpy")}
    monkeypatch.setattr(hc, "backends", lambda: tuple(sorted(named)))
    for function in ("assign", "loss"):
        original = getattr(hc, function)

        def bound(*args: object, backend: str, original: object = original) -> object:
            return original(*args, backend=named[backend])

        monkeypatch.setattr(hc, function, bound)
    return monkeypatch


@pytest.mark.parametrize("rich", [True, False])
def test_doctor_tells_defects(
    damaged: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rich: bool
) -> None:
    if rich and importlib.util.find_spec("rich") is None:
        pytest.skip("rich is not installed")
    find = importlib.util.find_spec
    damaged.setattr(
        cli.importlib.util, "find_spec", lambda name: None if name == "rich" else find(name)
    ) if not rich else None
    damaged.setenv("COLUMNS", "120")
    assert cli.doctor() == 1
    table = capsys.readouterr().out
    assert ("━" in table) == rich
    rows = {line.strip("│ ").split()[0]: line for line in table.splitlines()[1:] if line.strip()}
    assert "RuntimeError: no device" in rows["broken"]
    assert "[0, 1]" in rows["wrong"]
    assert "expected [1, 0] and 6.50763825" in rows["wrong"]
    assert "works" in rows["numpy"]


def test_doctor_shows_what_was_logged_before_a_failure(
    damaged: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    damaged.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    assert cli.doctor() == 1
    assert capfd.readouterr().err == "it will not work\n"


def test_doctor_describes_the_native_solver(capsys: pytest.CaptureFixture[str]) -> None:
    native = pytest.importorskip("hungarian_native", reason="its library", exc_type=ImportError)
    cli.main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert f"native solver: {native.describe()}" in lines


def test_doctor_tells_why_the_native_solver_does_not_load(tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere.so")
    done = run("doctor", HUNGARIAN_NATIVE_LIBRARY=missing)
    assert f"native solver: does not load. Tried {missing} (no such file)" in done.stdout
    assert done.stderr.count("RuntimeWarning") <= 1


def test_doctor_tells_how_to_install_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hc, "backends", lambda: ("numpy",))
    find = importlib.util.find_spec
    monkeypatch.setattr(
        cli.importlib.util, "find_spec", lambda name: None if name == "torch" else find(name)
    )
    monkeypatch.setenv("COLUMNS", "120")
    assert cli.doctor() == 0
    assert 'pip install "hungarian-core[torch]"' in capsys.readouterr().out


def test_doctor_advises_extras_that_exist(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two names of one backend neither is missing where one is there, and one is advised."""
    find = importlib.util.find_spec
    gone = ("jax", "jaxlib", "torch", "tensorflow")
    monkeypatch.setattr(
        cli.importlib.util, "find_spec", lambda name: None if name in gone else find(name)
    )
    monkeypatch.setenv("COLUMNS", "120")
    assert cli.doctor() == 0
    advised = re.findall(r"hungarian-core\[(\w+)\]", capsys.readouterr().out)
    assert sorted(advised) == ["jax", "tensorflow", "torch"]
    extras = importlib.metadata.metadata("hungarian-core").get_all("Provides-Extra")
    assert set(advised) <= set(extras or ())
