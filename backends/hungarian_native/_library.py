"""Find and load the shared library of the native solver."""

from __future__ import annotations

import ctypes
import os
import sys
import sysconfig
from pathlib import Path

ABI = 2  # HUNGARIAN_ABI of src/hungarian.h
VARIABLE = "HUNGARIAN_NATIVE_LIBRARY"

_OUT_OF_MEMORY = -2
_NAMES = {"win32": "hungarian.dll", "darwin": "libhungarian.dylib"}


def candidates() -> list[Path]:
    """Return where the library may lie, the first choice first."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return [Path(chosen)]
    # In an editable installation the modules stay where they are written, and what was built
    # lies where the package would be installed.
    folders = [Path(__file__).parent, *map(Path, sys.modules[__package__].__path__)]
    folders.append(Path(sysconfig.get_path("platlib"), __package__))
    name = _NAMES.get(sys.platform, "libhungarian.so")
    return list(dict.fromkeys(folder / name for folder in folders))


def load() -> tuple[ctypes.CDLL, Path]:
    """Return the library and its path.

    Raises:
        ImportError: It is nowhere, does not load, or has another interface than this package.
    """
    tried = []
    for path in candidates():
        if not path.is_file():
            tried.append(f"{path} (no such file)")
            continue
        try:
            library = ctypes.CDLL(str(path))  # releases the GIL while it runs
            library.hungarian_abi.restype = ctypes.c_int64
            abi = library.hungarian_abi()
        except (OSError, AttributeError) as error:
            tried.append(f"{path} ({error})")
            continue
        if abi == ABI:
            return _declare(library), path
        tried.append(f"{path} (it has interface {abi}, and hungarian_native needs {ABI})")
    raise ImportError(
        f"Tried {', '.join(tried)}. Install hungarian-core again, name the library in {VARIABLE}, "
        'or choose solver="scipy" or solver="core"'
    )


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    library.hungarian_solve.argtypes = [ctypes.c_char_p]
    library.hungarian_solve.restype = ctypes.c_int64
    for name in ("hungarian_price", "hungarian_grade"):
        function = getattr(library, name)
        function.argtypes, function.restype = [ctypes.c_char_p], ctypes.c_int64
    library.hungarian_message.argtypes = [ctypes.c_int64]
    library.hungarian_message.restype = ctypes.c_char_p
    library.hungarian_set_num_threads.argtypes = [ctypes.c_int64]
    library.hungarian_set_num_threads.restype = None
    library.hungarian_get_num_threads.restype = ctypes.c_int64
    library.hungarian_variant.restype = ctypes.c_char_p
    return library


def check(result: int) -> int:
    """Return what a function of the library returned, unless it is an error.

    Raises:
        MemoryError: The memory does not suffice.
        ValueError: An argument is out of range.
    """
    if result < 0:
        message = library.hungarian_message(result).decode()
        raise MemoryError(message) if result == _OUT_OF_MEMORY else ValueError(message)
    return result


library, path = load()
