"""Run every benchmark and print one table: what `nox -s bench` does.

    python benchmarks/run.py [--repeats 60] [--quick] [--only assign] [--results FOLDER]

Each part is a process of its own, so that no framework's threads disturb another's figures. A whole
run saves its figures as JSON, a picture, and the table that the documentation includes in
`benchmarks/results`; a quick or partial one leaves those alone and saves to `build/bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import report
from timing import machine

HERE = Path(__file__).parent
PARTS = {
    "assign": ["assign.py"],
    "numpy": ["frameworks.py", "--only", "numpy"],
    "torch": ["frameworks.py", "--only", "torch"],
    "jax": ["frameworks.py", "--only", "jax"],
    "tensorflow": ["frameworks.py", "--only", "tensorflow"],
    "detection": ["detection.py"],
    "large": ["large.py"],
    "core": ["core.py"],
    "import_time": ["import_time.py"],
}


def run(part: str, options: list[str]) -> Any:
    """Run one part in a fresh process, as it was installed, and return its figures."""
    print(f"-- {part}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder, "figures.json")
        command = [sys.executable, str(HERE / PARTS[part][0]), *PARTS[part][1:]]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run([*command, *options, "--json", figures], check=True, env=environment)
        return json.loads(figures.read_text())


def main() -> None:
    """Run the parts, save what they found, show it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, help="turns of each contender")
    parser.add_argument("--quick", action="store_true", help="3 turns and no large instances")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="these parts")
    parser.add_argument("--solver", help="ours: native, scipy or core")
    parser.add_argument("--results", type=Path, help="folder to save to")
    options = parser.parse_args()
    whole = not (options.quick or options.only or options.solver)
    folder = options.results or HERE.parent / (
        "benchmarks/results" if whole else "build/bench"
    )  # build/ is ignored by git
    folder.mkdir(parents=True, exist_ok=True)

    passed = ["--quick"] * options.quick
    passed += ["--repeats", str(options.repeats)] if options.repeats else []
    passed += ["--solver", options.solver] if options.solver else []
    command = shlex.join(["python", "benchmarks/run.py", *sys.argv[1:]])
    figures: dict[str, Any] = {"command": command, "machine": machine()}
    begin = time.monotonic()
    for part in options.only or PARTS:
        figures[part] = run(part, passed)
    figures["minutes"] = round((time.monotonic() - begin) / 60, 1)
    (folder / report.JSON).write_text(json.dumps(figures, indent=1) + "\n")
    report.write(folder)


if __name__ == "__main__":
    main()
