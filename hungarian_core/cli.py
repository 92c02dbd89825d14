"""The command line: `hungarian-core`, or `python -m hungarian_core`.

`doctor` is the core's own. Other commands are entry points of the group
``hungarian_core.commands``: functions ``main(argv) -> exit code`` of packages that may need more
than the core does, loaded when they are called.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib.metadata
import importlib.util
import io
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

import hungarian_core as hc
from hungarian_core._registry import missing

COMMANDS = "hungarian_core.commands"

# Taking the cheapest pair first would cost 10; the best matching costs 4.
COST = ((1.0, 2.0), (2.0, 9.0))
MATCHING = [1, 0]

# The documented example, whose loss is the mean of two Euclidean distances.
TRUTH = ((1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0))
PREDICTION = ((1.0, 1.0, 1.0, 1.0), (2.0, 2.0, 2.0, 2.0))
LOSS = 6.50763825


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: The command and its arguments; by default those of the process.
    """
    with _escaping():
        return _run(argv)


@contextlib.contextmanager
def _escaping() -> Iterator[None]:
    """Let what standard output cannot write, such as the name of a class, be escaped in it."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    before = stream.errors
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        if not stream.closed:
            stream.reconfigure(errors=before)


def _run(argv: Sequence[str] | None) -> int:
    """Run a command and return its exit code."""
    commands = {e.name: e for e in importlib.metadata.entry_points(group=COMMANDS)}
    names = sorted({"doctor", *commands})
    parser = argparse.ArgumentParser(
        prog="hungarian-core",
        description="Optimal matching and set-prediction losses.",
        epilog="`hungarian-core COMMAND --help` tells more about a command.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {hc.__version__}")
    parser.add_argument("command", metavar="COMMAND", help=", ".join(names))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the command")
    given = parser.parse_args(argv)
    if given.command == "doctor":
        return doctor(given.arguments)
    if given.command not in commands:
        close = difflib.get_close_matches(given.command, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        parser.error(f"unknown command {given.command!r}; expected {', '.join(names)}.{hint}")
    result = commands[given.command].load()(given.arguments)
    return int(result or 0)


def doctor(argv: Sequence[str] = ()) -> int:
    """Print versions, the native solver, and whether each backend matches and computes a loss.

    Returns:
        0 if every installed backend works, else 1.
    """
    parser = argparse.ArgumentParser(
        prog="hungarian-core doctor",
        description="Print versions, which backends are installed, and whether each of them works.",
        epilog="What TensorFlow logs is shown if TF_CPP_MIN_LOG_LEVEL is set, to 0 for all of it.",
    )
    parser.parse_args(argv)
    print(
        f"hungarian-core {hc.__version__} on NumPy {np.__version__}, "
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    print(f"native solver: {describe('native')}")
    print(f"solver for CUDA devices: {describe('cuda')}")
    # Who sets a level sees what TensorFlow logs. JAX sets one too, for itself: asked before.
    chatty = "TF_CPP_MIN_LOG_LEVEL" in os.environ or sys.stderr is None
    checks = [(examine if chatty else _examine_quietly)(name) for name in hc.backends()]
    for name, remedy in missing().items():
        checks.append(Check(name, "not installed", "-", "-", remedy, False))
    print_table(("backend", "version", "2x2 matching", "loss", ""), [c[:5] for c in checks])
    return int(any(check.broken for check in checks))


def describe(solver: str) -> str:
    """Say which library of a solver is loaded and how it solves, or why it does not load."""
    try:
        found = hc.host_solver(solver)
    except ImportError as error:
        return str(error).removeprefix(f"solver={solver!r} ")
    return str(getattr(found, "describe", lambda: found)())


class Check(NamedTuple):
    """A row of the doctor's table."""

    backend: str
    version: str
    matching: str
    loss: str
    remark: str
    broken: bool


def examine(name: str) -> Check:
    """Try an installed backend on a 2x2 problem and on the documented example."""
    version = _version(name)
    try:
        assignment = hc.assign(np.asarray(COST, np.float32), backend=name)
        found = [int(j) for j in assignment.col4row]
        y_true, y_pred = (np.asarray([objects], np.float32) for objects in (TRUTH, PREDICTION))
        loss: Any = hc.loss(y_true, y_pred, backend=name)
        value = float(loss)
    except Exception as error:  # whatever is wrong with an installation, the others get their turn
        return Check(name, version, "failed", "failed", f"{type(error).__name__}: {error}", True)
    right = found == MATCHING, abs(value - LOSS) <= 1e-5 * LOSS
    remark = "works" if all(right) else f"expected {MATCHING} and {LOSS}"
    return Check(name, version, f"{found}", f"{value:.6f}", remark, not all(right))


def _examine_quietly(name: str) -> Check:
    """Examine a backend; what libraries log meanwhile is shown if it does not work.

    They log to the descriptor: TensorFlow does so before it reads its own TF_CPP_MIN_LOG_LEVEL.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            check = examine(name)
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
        if check.broken:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
    return check


def _version(module: str) -> str:
    """Return the version of the distribution that a module belongs to."""
    owners = importlib.metadata.packages_distributions().get(module, ())
    return importlib.metadata.version(owners[0]) if owners else "unknown"


def print_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    justify: Literal["left", "right"] = "left",
) -> None:
    """Print a table, by Rich where that is installed; numbers are read best from the right."""
    if importlib.util.find_spec("rich") is not None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title or None, title_justify="left")
        for name in head:
            table.add_column(name, justify=justify)
        for row in rows:
            table.add_row(*map(Text, row))  # a cell may have brackets, which markup would take
        Console().print(table)
        return
    if title:
        print(title)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    side = {"left": "<", "right": ">"}[justify]
    for row in (head, *rows):
        cells = (f"{cell:{side}{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells))
