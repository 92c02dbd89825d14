"""Make the PTX of the kernel for CUDA devices, or compare it with what is committed.

    python tests/cuda/ptx.py [--check]

It wants NVRTC 11.7, whose PTX drivers of May 2022 and newer read (`nox -s ptx` installs it), and no
device. Compute capability 7.0 is Volta, of 2017.
"""

from __future__ import annotations

import ctypes
import sys
from importlib.metadata import files
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CUDA, NATIVE = ROOT / "backends/hungarian_cuda/src", ROOT / "backends/hungarian_native/src"
TARGET = CUDA / "kernel.ptx"
OPTIONS = (
    b"--gpu-architecture=compute_70",
    b"-std=c++17",
    b"--fmad=false",  # as on a CPU, to the last bit
    b"-default-device",  # the declarations of the interface say nothing of where they are
    b"-diag-suppress=1097",  # nor does it know their visibility
)
# It has no headers of its own.
INTEGERS = (
    "typedef signed char int8_t; typedef unsigned char uint8_t; typedef int int32_t; "
    "typedef unsigned int uint32_t; typedef long long int64_t; "
    "typedef unsigned long long uint64_t;"
)
FLOATS = "#define INFINITY (__int_as_float(0x7f800000))\n"  # what math.h has that is no function


def nvrtc() -> ctypes.CDLL:
    """Load the compiler of the package nvidia-cuda-nvrtc-cu11."""
    found = files("nvidia-cuda-nvrtc-cu11") or []
    (path,) = (p.locate() for p in found if p.name.startswith("libnvrtc.so"))
    return ctypes.CDLL(str(path))


def compiled() -> str:
    """Return the PTX of the kernel's source.

    Raises:
        ValueError: It does not compile.
    """
    library = nvrtc()
    headers = {p.name: p.read_text(encoding="utf-8") for p in CUDA.glob("*.cuh")}
    shared = (NATIVE / "hungarian.h", NATIVE / "formulas.h")
    for path in (CUDA / "plan.h", CUDA / "hungarian_cuda.h", *shared):
        headers[path.name] = path.read_text(encoding="utf-8")
    headers |= {"stdint.h": INTEGERS, "math.h": FLOATS, "string.h": ""}
    names = (ctypes.c_char_p * len(headers))(*(name.encode() for name in headers))
    texts = (ctypes.c_char_p * len(headers))(*(text.encode() for text in headers.values()))
    program = ctypes.c_void_p()
    source = (CUDA / "kernel.cu").read_text(encoding="utf-8").encode()
    library.nvrtcCreateProgram(
        ctypes.byref(program), source, b"kernel.cu", len(headers), texts, names
    )
    options = (ctypes.c_char_p * len(OPTIONS))(*OPTIONS)
    error = library.nvrtcCompileProgram(program, len(OPTIONS), options)
    if error:
        raise ValueError(_text(library, program, "ProgramLog"))
    return _text(library, program, "PTX")


def _text(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> str:
    size = ctypes.c_size_t()
    getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    getattr(library, f"nvrtcGet{what}")(program, buffer)
    return buffer.value.decode()


def main() -> int:
    """Write the PTX, or with --check say whether it is that of the source."""
    text = compiled()
    if "--check" not in sys.argv:
        TARGET.write_text(text, encoding="utf-8")
        print(f"{TARGET.relative_to(ROOT)}: {len(text)} bytes")
        return 0
    same = text == TARGET.read_text(encoding="utf-8")
    print("the PTX is that of the source" if same else "the PTX is stale: run nox -s ptx")
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
