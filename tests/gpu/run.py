"""Everything that wants a CUDA device, in ten minutes at most: what `nox -s gpu` runs.

    python tests/gpu/run.py [--minutes 10] [--report FOLDER]

Needed are this package, PyTorch with CUDA, SciPy, pytest and hypothesis; of JAX, transformers and
compute-sanitizer what is there is used. The steps come in the order of their weight. Each is a
process of its own with a time limit, and a failure does not keep the next from running. The folder
gets `report.md`, which is written anew after each step, the output of each, and the figures of
`benchmarks/gpu.py`. Without a device it says so and fails. With HUNGARIAN_LIBCUDA, a stand-in for
the driver of a device, a few short ones show on a CPU that the rest of it runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
EMULATED = "HUNGARIAN_LIBCUDA" in os.environ
SUITE = "hungarian_core.testing.test_"
# Of the shipped checks those that solve, most telling first; a device waits too often for all.
TELLING = ("assign", "loss", "permutation", "set_loss", "detection")


class Step(NamedTuple):
    """A command, and how many seconds it may take."""

    name: str
    command: list[str]
    seconds: int
    needs: str = ""  # a package or a program


def pytest(*arguments: str) -> list[str]:
    """Return the command of tests; the first failure does not end them."""
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rfE", *arguments]


def suite(driver: str, *names: str) -> list[str]:
    """Return the command of shipped checks on a driver of the device."""
    checks = ["--pyargs", *(f"{SUITE}{name}" for name in names)]
    return pytest(*checks, "--driver", f"tests/gpu/drivers.py:{driver}", "-k", "not scipy")


def steps(report: Path) -> list[Step]:
    """Return what to run, most telling first."""
    bench = [sys.executable, "benchmarks/gpu.py", "--json", str(report / "figures.json")]
    if EMULATED:  # what nox -s cuda does not run anyway
        ways = ("torch_kernel", "torch_copy", "jax")
        return [
            Step("benchmark", [*bench, "--quick"], 120),
            *(Step(f"suite, {way}", [*suite(way, "loss"), "--collect-only"], 60) for way in ways),
        ]
    small = "import torch, hungarian_core as hc; cost = torch.rand(2, 9, 14, device='cuda'); "
    small += "print(hc.assign(cost, solver='cuda').col4row); "
    small += "x = torch.rand(2, 40, 7, device='cuda', requires_grad=True); "
    small += "truth = torch.zeros(2, 3).long().cuda(), torch.rand(2, 3, 4).cuda(), None; "
    small += "loss = hc.DetrLoss(6, solver='cuda')(x, x[..., :4].sigmoid(), truth); "
    small += "loss.total.backward(); print(x.grad.sum())"

    def sanitizer(tool: str) -> list[str]:
        program = [sys.executable, "-c", small]
        return ["compute-sanitizer", "--error-exitcode", "9", "--tool", tool, *program]

    return [
        Step("doctor", [sys.executable, "-m", "hungarian_core", "doctor"], 60),
        Step("kernel and losses", pytest("tests/gpu"), 150),
        Step("benchmark", [*bench, "--repeats", "10"], 150),
        Step("suite by the kernel", suite("torch_kernel", *TELLING), 120),
        Step("suite of JAX", suite("jax", *TELLING[:3]), 120, "jax"),
        Step("memory", sanitizer("memcheck"), 60, "compute-sanitizer"),
        Step("races", sanitizer("racecheck"), 60, "compute-sanitizer"),
        Step("suite by the copy", suite("torch_copy", *TELLING[:3]), 120),
    ]


def run(step: Step, seconds: float, report: Path) -> tuple[str, float, str]:
    """Run a step; return how it ended, its seconds, and its last lines."""
    if step.needs and not (importlib.util.find_spec(step.needs) or shutil.which(step.needs)):
        return "not run", 0.0, f"{step.needs} is not installed"
    path = report / f"{step.name.replace(' ', '_')}.log"
    begin = time.monotonic()
    with path.open("w") as log:
        process = subprocess.Popen(
            step.command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            # JAX would take most of the memory, which PyTorch wants too.
            env={"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        try:
            ended = "FAILED" if process.wait(seconds) else "passed"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            ended = f"cut off after {seconds:.0f} s"
    last = "\n".join(path.read_text(errors="replace").splitlines()[-12:])
    return ended, time.monotonic() - begin, last


def main() -> int:
    """Run the steps, report, and return 1 if one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="in all (%(default)g)")
    parser.add_argument("--report", type=Path, default=ROOT / "build/gpu", help="(%(default)s)")
    given = parser.parse_args()
    if not EMULATED and not there():
        print("tests/gpu/run.py: PyTorch sees no CUDA device, so nothing was run")
        return 1
    report = given.report.resolve()
    report.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * given.minutes
    lines, failed = ["# On a CUDA device", ""], False
    for step in steps(report):
        left = end - time.monotonic()
        ended, seconds, last = "not run", 0.0, "no time was left"
        if left > 10:
            ended, seconds, last = run(step, min(step.seconds, left), report)
        failed |= ended not in ("passed", "not run")
        lines += [f"## {step.name}: {ended}, {seconds:.0f} s", "", "```", last, "```", ""]
        print(f"{step.name}: {ended}, {seconds:.0f} s", flush=True)
        if ended != "passed":
            print(last, flush=True)
        (report / "report.md").write_text("\n".join(lines))
    return int(failed)


def there() -> bool:
    """Say whether PyTorch sees a CUDA device."""
    code = "import torch; raise SystemExit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
