"""Build the stand-in for a CUDA driver, or a program, from the kernel and some changes to it.

python tests/cuda/build.py OUTPUT [OPTION ...]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent
CUDA = HERE.parents[1] / "backends/hungarian_cuda/src"
NATIVE = HERE.parents[1] / "backends/hungarian_native/src"


def build(
    output: Path, options: Sequence[str] = (), changes: Mapping[str, tuple[str, str]] | None = None
) -> Path:
    """Compile tests/cuda/driver.cpp, or program.cpp if the output is no shared library.

    Args:
        output: Where to.
        options: More options of the compiler.
        changes: For a file of the kernel, what stands there once and what is to stand there.
    """
    with tempfile.TemporaryDirectory() as folder:
        sources = Path(folder, "src")
        shutil.copytree(CUDA, sources)
        for name, (old, new) in (changes or {}).items():
            text = (sources / name).read_text(encoding="utf-8")
            if text.count(old) != 1:
                raise ValueError(f"{name} holds {old!r} {text.count(old)} times; expected once")
            (sources / name).write_text(text.replace(old, new), encoding="utf-8")
        form = ["-fPIC", "-shared", str(HERE / "driver.cpp")]
        if output.suffix != ".so":
            form = ["-pthread", str(HERE / "program.cpp")]
        compiler = os.environ.get("CXX", "c++")
        command = [
            compiler, "-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{sources}",
            f"-I{NATIVE}", *form, "-o", str(output), *options,
        ]  # fmt: skip
        subprocess.run(command, check=True)
    return output


if __name__ == "__main__":
    build(Path(sys.argv[1]), sys.argv[2:])
