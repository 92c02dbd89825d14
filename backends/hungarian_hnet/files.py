"""The files of the commands: weights, and places to write to."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hungarian_core import hnet
from hungarian_hnet.errors import UserError
from hungarian_hnet.recipe import Source


class Network:
    """A trained network as arrays of NumPy, and what its file says of it."""

    def __init__(self, params: dict[str, Any], metadata: dict[str, str], name: str) -> None:
        self.params = params
        self.metadata = metadata
        self.name = name

    @property
    def max_len(self) -> int | None:
        """Return the number of rows and columns that it was trained for, if that is known."""
        known = self.metadata.get("max_len")
        if known is None:
            return None
        if not known.isdecimal() or int(known) < 1:
            raise UserError(
                f"{self.name}: max_len is {known!r} in its metadata; expected a whole number"
            )
        return int(known)

    def filled(self, source: Source) -> Source:
        """Return `source` with the kind of problems of the training where it names none."""
        return dataclasses.replace(
            source,
            max_len=source.max_len or self.max_len,
            missing=source.missing or self.metadata.get("missing"),
        )

    @classmethod
    def read(cls, weights: Path | None, pretrained: int | None) -> Network:
        """Read a file of weights, or weights that the package holds.

        Raises:
            UserError: There are none, or the file is damaged or of another kind.
        """
        try:
            if weights is not None:
                return cls(*hnet.load(weights), weights.name)
            assert pretrained is not None
            params = hnet.load_pretrained(pretrained)
            return cls(params, {"max_len": str(pretrained)}, f"pretrained {pretrained}")
        except (ValueError, OSError) as error:
            raise UserError(str(error)) from error


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to; move it there when all is written."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def check_writable(path: Path, *, folder: bool = False) -> None:
    """Check, before any work, that a file or a folder can be written; make the folder.

    Raises:
        UserError: It cannot.
    """
    parent = path.absolute() if folder else path.absolute().parent
    if not folder and path.is_dir():
        raise UserError(f"--output {path} is a folder; expected the name of a file")
    if not folder and not parent.is_dir():
        raise UserError(f"--output {path}: there is no folder {parent}")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        probe = parent / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"--output {path} cannot be written: {error.strerror}") from error
