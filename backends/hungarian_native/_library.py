"""Find and load the shared library of the native solver."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import sysconfig
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

ABI = 6  # HUNGARIAN_ABI of src/hungarian.h
VARIABLE = "HUNGARIAN_NATIVE_LIBRARY"
THREADS, MOST_THREADS = "HUNGARIAN_NUM_THREADS", 1024  # MOST_THREADS of src/solver.cpp
VARIANT = "HUNGARIAN_VARIANT"

_bytes_of: Any = ctypes.c_char.from_buffer

_OUT_OF_MEMORY, _INTERRUPTED = -2, -3
_VARIANTS = {"base": "baseline", "v3": "x86-64-v3", "v4": "x86-64-v4"}
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
    for name in ("hungarian_matching_cost", "hungarian_class_loss", "hungarian_box_loss"):
        function = getattr(library, name)
        function.argtypes, function.restype = [ctypes.c_char_p], ctypes.c_int64
    library.hungarian_message.argtypes = [ctypes.c_int64]
    library.hungarian_message.restype = ctypes.c_char_p
    library.hungarian_set_num_threads.argtypes = [ctypes.c_int64]
    library.hungarian_set_num_threads.restype = None
    library.hungarian_get_num_threads.restype = ctypes.c_int64
    library.hungarian_be_worker.restype = None
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


def in_order(x: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array in row-major order whose elements lie at multiples of their size."""
    x = np.ascontiguousarray(x, dtype)
    return x.copy() if address_of(x) % x.itemsize else x


def address_of(x: NDArray[Any]) -> int:
    """Return where an array in row-major order lies."""
    try:
        return ctypes.addressof(_bytes_of(x))  # in a third of the time of `ctypes.data`
    except (TypeError, ValueError, BufferError):  # read-only or empty
        return x.ctypes.data


def finish(packed: bytes, result: int) -> int:
    """Return what `hungarian_solve` returned, unless it is an error, and solve again as need be.

    An interrupted call has made Python note the signal, and its handler has run by now if this is
    the main thread. If it did not raise, the call goes on: from the start, since nothing is kept.

    Raises:
        KeyboardInterrupt: SIGINT came, has its usual meaning, and this is not the main thread,
            where the handler itself raises.
        MemoryError: As for `check`.
        ValueError: As for `check`.
    """
    while result == _INTERRUPTED:
        usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if usual and threading.current_thread() is not threading.main_thread():
            raise KeyboardInterrupt("a solve was interrupted")
        result = library.hungarian_solve(packed)
    return check(result)


def _be_worker_if_so() -> None:
    """Tell the library if this is a worker of `multiprocessing`, however it was started."""
    # A worker has the module loaded; others need not load it for this.
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        library.hungarian_be_worker()


def _warn_of_environment() -> None:
    """Warn of variables that ask for what there is not."""
    threads = os.environ.get(THREADS, "")
    number = threads.split(",")[0].strip()
    if threads and not (number.isdecimal() and 0 < int(number) <= MOST_THREADS):
        _warn(THREADS, threads, f"a whole number from 1 to {MOST_THREADS}",
              f"{library.hungarian_get_num_threads()} may be used")  # fmt: skip
    variant, used = os.environ.get(VARIANT), library.hungarian_variant().decode()
    if variant is not None and used != _VARIANTS.get(variant):
        _warn(VARIANT, variant, f"one of {', '.join(_VARIANTS)} that the processor has",
              f"{used} is used")  # fmt: skip


def _warn(name: str, value: str, expected: str, instead: str) -> None:
    warnings.warn(
        f"the environment says {name}={value!r}; expected {expected}. Instead {instead}",
        RuntimeWarning,
        stacklevel=2,
    )


library, path = load()
_be_worker_if_so()
_warn_of_environment()
