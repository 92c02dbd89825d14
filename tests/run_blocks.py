"""Run the file `blocks.py` of each folder in this process: `run_blocks.py FOLDER…`.

Each runs in its folder, as a script would, in a namespace of its own. What it and those whom it
calls print is in `stdout` and `stderr` there, and `done` is there if it came to its end.
"""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from pathlib import Path


def run(folder: Path) -> None:
    """Run the file of a folder, and write down how it went."""
    os.chdir(folder)
    for name, stream in {"stdout": sys.stdout, "stderr": sys.stderr}.items():
        with open(name, "wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    try:
        runpy.run_path("blocks.py", run_name="__main__")
    except BaseException:  # SystemExit too: what follows it would not run
        traceback.print_exc()
    else:
        Path("done").touch()
    sys.stdout.flush()


for argument in sys.argv[1:]:
    run(Path(argument))
