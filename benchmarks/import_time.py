"""What `import hungarian_core` costs on top of NumPy and array_api_compat.

    python benchmarks/import_time.py [--repeats 15] [--json FILE]

Each repeat is a fresh interpreter; the figure is the fastest, the median beside it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from timing import arguments, save

PROGRAM = """
import time, numpy, array_api_compat
start = time.perf_counter()
import hungarian_core
print(1e3 * (time.perf_counter() - start))
"""


def main() -> None:
    """Measure and print one line."""
    options = arguments(__doc__, repeats=15, only="not used: there is one figure")
    # -P: the folder that this runs in may be a checkout, and what is installed is to be timed.
    command = [sys.executable, "-P", "-c", PROGRAM]
    times = [float(subprocess.check_output(command)) for _ in range(options.repeats)]
    print(f"import hungarian_core: {min(times):.1f} ms, median {statistics.median(times):.1f} ms")
    save(options.json, {"ms": min(times), "median_ms": statistics.median(times)})


if __name__ == "__main__":
    main()
