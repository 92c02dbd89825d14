"""Weight files: safetensors, which every framework reads and which hold no code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hungarian_core._backend import Array, Backend
from hungarian_core._registry import get_backend
from hungarian_core.hnet import _checks

_WEIGHTS = Path(__file__).parent / "weights"
_FORMAT = "hungarian_core.hnet 1"


def save(
    path: str | os.PathLike[str],
    params: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write parameters to a file, with what is to be known about them.

    The file is written beside its place and then moved there: nobody sees half of it.

    Args:
        path: Such as ``"max_len_2.safetensors"``.
        params: As for `associate`, in NumPy arrays or in what `numpy.asarray` takes.
        metadata: Names and values; values are stored as text.

    Raises:
        ValueError: `params` are not those of a network.

    Examples:
        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "weights")
        ...     hc.hnet.save(path, hc.hnet.init_params(), {"note": "untrained"})
        ...     hc.hnet.load(path)[1]["note"]
        ...
        'untrained'
    """
    from safetensors.numpy import save as encode

    arrays = {name: np.asarray(x, np.float32, order="C") for name, x in params.items()}
    _checks.structure(arrays)
    notes = {name: str(value) for name, value in (metadata or {}).items()}
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(encode(arrays, metadata={**notes, "format": _FORMAT}))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load(
    path: str | os.PathLike[str], *, backend: str | Backend | None = None
) -> tuple[dict[str, Array], dict[str, str]]:
    """Read parameters from a file, and what was stored about them.

    Args:
        path: A file that `save` wrote.
        backend: A backend's name or instance, whose arrays to return; by default NumPy's.

    Returns:
        Parameters in float32, for `associate`, and the metadata.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no file of `save`, or not the whole of one, or its parameters are not
            those of a network, not float32 or not finite.

    Examples:
        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "weights")
        ...     hc.hnet.save(path, hc.hnet.init_params(width=4))
        ...     params, metadata = hc.hnet.load(path)
        ...
        >>> params["gate.bias"].shape
        (4,)
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file of network weights")
    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
            # A file has keys and cannot be iterated over.
            params = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (above)
    # Of a dtype that NumPy does not have, safetensors says TypeError.
    except (SafetensorError, TypeError) as error:
        raise ValueError(_checks.unreadable(path, error)) from error
    _checks.file_format(path, metadata.pop("format", None), _FORMAT)
    _checks.structure(params, path)
    _checks.values(params, path)
    if backend is not None:
        backend = get_backend(backend)
        return {name: backend.asarray(x) for name, x in params.items()}, metadata
    return params, metadata


def load_pretrained(max_len: int = 2, *, backend: str | Backend | None = None) -> dict[str, Array]:
    """Return the parameters that come with the package.

    Args:
        max_len: The number of rows and columns that they were trained on, at most.
        backend: As for `load`.

    Raises:
        ValueError: There are none for `max_len`.

    Examples:
        >>> hc.hnet.load_pretrained(2)["input.weight"].shape
        (6, 16)
    """
    path = _WEIGHTS / f"max_len_{max_len}.safetensors"
    if not path.is_file():
        sizes = sorted(int(p.stem.removeprefix("max_len_")) for p in _WEIGHTS.glob("max_len_*"))
        raise ValueError(_checks.no_weights(max_len, sizes))
    return load(path, backend=backend)[0]
