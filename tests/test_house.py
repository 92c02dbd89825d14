"""The size of files, and reasons beside exceptions from types, as CONTRIBUTING.md has them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("hungarian_core", "backends", "tests", "benchmarks", "examples")
SUFFIXES = (".py", ".cpp", ".h", ".cu")


def test_files_can_be_read_in_one_sitting() -> None:
    """No file has more than 400 lines, and no adapter's backend more than 100."""
    paths = [p for x in FOLDERS for p in (ROOT / x).rglob("*") if p.suffix in SUFFIXES]
    lines = {p.relative_to(ROOT).as_posix(): len(p.read_text("utf-8").splitlines()) for p in paths}
    assert len(lines) > 400
    limits = {name: 100 if name.endswith("/_backend.py") else 400 for name in lines}
    limits["hungarian_core/_backend.py"] = 400  # the protocol, with what it says of each hook
    assert {name: n for name, n in lines.items() if n > limits[name]} == {}


def test_exceptions_from_types_say_why() -> None:
    """Each `type: ignore` names its code, and a reason beside it."""
    found = {
        f"{path.relative_to(ROOT).as_posix()}:{number}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(r"#\s*type: ignore(?!\[[\w, -]+\]  # \S)", line)
    }
    assert found == set()
