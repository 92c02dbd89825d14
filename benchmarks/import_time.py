"""What `import hungarian_core` costs on top of NumPy and array_api_compat.

    python benchmarks/import_time.py [--repeats 15]

Each repeat is a fresh interpreter; the figure is the fastest, the median beside it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

PROGRAM = """
import time, numpy, array_api_compat
start = time.perf_counter()
import hungarian_core
print(1e3 * (time.perf_counter() - start))
"""


def main() -> None:
    """Measure and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    command = [sys.executable, "-c", PROGRAM]
    times = [float(subprocess.check_output(command)) for _ in range(repeats)]
    print(f"import hungarian_core: {min(times):.1f} ms, median {statistics.median(times):.1f} ms")


if __name__ == "__main__":
    main()
