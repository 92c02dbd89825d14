"""Train and examine the learned Hungarian network: `hungarian-core hnet COMMAND`.

A package of its own, because it needs Lightning, which nothing else does. The network itself, its
data and its figures of merit are those of `hungarian_core.hnet`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence

from hungarian_hnet import arguments
from hungarian_hnet.errors import UserError

# For each command its module, its extra, and the packages of that by their names for pip.
_TRAINING = {
    "torch": "torch",
    "lightning": "lightning",
    "rich": "rich",
}
COMMANDS = {
    "data": ("hungarian_hnet.data", "hnet", {}),
    "train": ("hungarian_hnet.training", "hnet", _TRAINING),
    "eval": ("hungarian_hnet.evaluation", "hnet", {}),
    "plot": ("hungarian_hnet.plots", "hnet", {"matplotlib": "matplotlib"}),
    "tune": ("hungarian_hnet.search", "hnet,tune", {**_TRAINING, "ray": '"ray[tune]"'}),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code: 0, 1 for what can be mended, 130 if interrupted."""
    given = arguments.parser().parse_args(argv)
    module, extra, needed = COMMANDS[given.command]
    missing = [title for name, title in needed.items() if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"hnet {given.command} needs {', '.join(missing)}, which is not installed: "
            f'pip install "hungarian-core[{extra}]"',
            file=sys.stderr,
        )
        return 1
    try:
        return int(importlib.import_module(module).run(given) or 0)
    except UserError as error:
        print(f"hnet {given.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
