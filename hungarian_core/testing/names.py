"""The names of the Array API standard that `hungarian_core` calls: a namespace's checklist.

The list is read off the modules that compute with arrays of any framework, so it is never behind.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

CORE = Path(__file__).parents[1]
# What knows NumPy and reads values on the host. It asks a namespace for nothing else.
_ON_HOST = ("inspection", "testing", "_backend.py", "_conversion.py", "terms/_checks.py")


@functools.cache
def tree(module: str) -> ast.Module:
    """Return the syntax of a module, given by its path in the package."""
    return ast.parse((CORE / module).read_text(encoding="utf-8"))


@functools.cache
def asked_for(module: str) -> frozenset[str]:
    """Return the names that a module asks of a namespace, which is always called `xp`."""
    return frozenset(
        node.attr
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute)
        and (
            (isinstance(node.value, ast.Name) and node.value.id == "xp")
            or (isinstance(node.value, ast.Attribute) and node.value.attr == "xp")
        )
    )


def modules() -> tuple[str, ...]:
    """Return the modules that compute with arrays of any framework, by their paths."""
    every = sorted(path.relative_to(CORE) for path in CORE.glob("**/*.py"))
    paths = [path.as_posix() for path in every if path.parts[0] not in _ON_HOST]
    return tuple(path for path in paths if path not in _ON_HOST and asked_for(path))


NAMES = tuple(sorted(frozenset[str]().union(*map(asked_for, modules()))))
