"""The problems that a network is trained, validated and tried on."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hungarian_core._options import meant
from hungarian_core.hnet.data import Samples, generate
from hungarian_hnet.errors import UserError
from hungarian_hnet.files import replaced
from hungarian_hnet.recipe import DISTANCES, MISSING, Source

FORMAT = "hungarian-core hnet data 1"
_BOOLEAN = ("association", "row_mask", "col_mask", "masked")
_KINDS = {"b": "bool", "f": "floats", "iu": "integers"}
_FOREIGN = "this is no data set of `hungarian-core hnet data`"


class Problems(NamedTuple):
    """Samples and what stands in them for objects that are not there."""

    samples: Samples
    missing: str
    distance: str = "euclidean"

    @property
    def max_len(self) -> int:
        """Return the number of rows and columns."""
        return int(self.samples.distance.shape[-1])

    @property
    def masks(self) -> dict[str, Any]:
        """Return what a network is told of missing objects: as published, nothing."""
        if self.missing == "published":
            return {"row_mask": None, "col_mask": None}
        untold = ~self.samples.masked[:, None]
        return {
            "row_mask": self.samples.row_mask | untold,
            "col_mask": self.samples.col_mask | untold,
        }

    def at(self, chosen: Any) -> Problems:
        """Return those of an index or slice."""
        return Problems(Samples(*(x[chosen] for x in self.samples)), self.missing, self.distance)


def make(source: Source, seed: int, share: float = 1.0) -> Problems:
    """Generate problems, or a share of as many."""
    missing = source.missing or "published"
    try:
        samples = generate(
            source.max_len or 2,
            samples=max(1, round(share * source.samples)),
            distance=source.distance,
            missing=missing,  # type: ignore[arg-type]  # checked on the command line
            seed=seed,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    if not len(samples.distance):
        raise UserError(f"--samples {source.samples}: no problem is left of so few; ask for more")
    return Problems(samples, missing, source.distance)


def training(source: Source) -> tuple[Problems, Problems]:
    """Return what to train and what to validate on: a tenth as much, of another seed or held out.

    Raises:
        UserError: A file cannot be used, or does not go with the options.
    """
    if source.data is None:
        if source.validation is not None:
            raise UserError("--validation came without --data; expected both or --data alone")
        # Seeds of neighbouring runs differ by small numbers; those of validation by this.
        return make(source, source.seed), make(source, source.seed + 2**32, 0.1)
    given = read(Path(source.data), source)
    if source.validation is not None:
        other = read(Path(source.validation), source)
        if (given.max_len, given.missing) != (other.max_len, other.missing):
            raise UserError(
                f"--data {source.data} has max_len {given.max_len} and missing={given.missing!r}, "
                f"--validation {source.validation} {other.max_len} and {other.missing!r}; "
                "expected equal ones"
            )
        return given, other
    order = np.random.default_rng(source.seed).permutation(len(given.samples.distance))
    held_out = len(order) // 10
    if not held_out:
        raise UserError(
            f"--data {source.data} holds {len(order)} problems; expected 10 or more, a tenth of "
            "which is held out, or --validation"
        )
    return given.at(order[held_out:]), given.at(order[:held_out])


def write(path: Path, problems: Problems, about: dict[str, Any]) -> None:
    """Save problems, with what they were made from."""
    header = json.dumps(
        {
            "format": FORMAT,
            "missing": problems.missing,
            "distance": problems.distance,
            "max_len": problems.max_len,
            **about,
        }
    )
    with replaced(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, header=np.array(header), **problems.samples._asdict())


def read(path: Path, source: Source) -> Problems:
    """Read problems that `write` saved, and check that they are what `source` asks for.

    Raises:
        UserError: They are not, or there is no such file, or not the whole of one.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; `hungarian-core hnet data` makes one")
    try:
        # NumPy leaves a file open that it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UserError(f"{path}: damaged, or not the whole of a file ({error})") from error
    except (ValueError, TypeError, AttributeError) as error:  # no .npz, or with pickles
        raise UserError(f"{path}: {_FOREIGN}") from error
    about = _header(arrays.pop("header", None))
    if about.get("format") != FORMAT or set(arrays) != set(Samples._fields):
        raise UserError(f"{path}: {_FOREIGN}")
    samples = Samples(**arrays)
    if (wrong := _wrong(samples, about)) is not None:
        raise UserError(f"{path}: {wrong}; make the file anew by `hungarian-core hnet data`")
    problems = Problems(samples, about["missing"], about["distance"])
    if source.max_len not in (None, problems.max_len):
        raise UserError(
            f"{path} has max_len {problems.max_len}; expected --max-len {source.max_len}: leave "
            "it out to take that of the file"
        )
    if source.missing not in (None, problems.missing):
        raise UserError(
            f"{path} was made with --missing {problems.missing}; expected {source.missing}: leave "
            "it out to take that of the file"
        )
    return problems


def _header(text: Any) -> dict[str, Any]:
    """Return what a file says of itself, nothing if that cannot be read."""
    try:
        about = json.loads(str(text))
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def _wrong(samples: Samples, about: dict[str, Any]) -> str | None:
    """Say what of a file's contents cannot be, or return None."""
    for name, known in (("missing", MISSING), ("distance", tuple(DISTANCES))):
        if about.get(name) not in known:
            return (
                f"{name} is {about.get(name)!r}; expected one of {', '.join(known)}"
                f"{meant(about.get(name), known)}"
            )
    size, *extents = samples.distance.shape or (0,)
    length = extents[0] if extents else 0
    shapes = {
        "distance": (size, length, length), "association": (size, length, length),
        "row_mask": (size, length), "col_mask": (size, length),
    }  # fmt: skip
    for name, array in samples._asdict().items():
        expected = shapes.get(name, (size,))
        if array.shape != expected:
            return f"{name} has shape {array.shape}; expected {expected}"
        kinds = "b" if name in _BOOLEAN else "f" if name == "distance" else "iu"
        if array.dtype.kind not in kinds:
            return f"{name} has dtype {array.dtype}; expected {_KINDS[kinds]}"
    if not size or not length:
        return f"it holds {size} problems of {length} rows; expected some"
    if not (samples.distance >= 0).all() or np.isinf(samples.distance).any():
        return "distance holds NaN, infinite or negative numbers; expected distances"
    if max(samples.association.sum(axis=axis).max() for axis in (1, 2)) > 1:
        return "association has several partners for one object; expected one at most"
    return None
