"""What a small call takes beside the solver: a 10 x 10 problem, in NumPy and in PyTorch.

    python benchmarks/small_calls.py [--repeats 200] [--only TEXT] [--json FILE]

A call of ``scipy.optimize.linear_sum_assignment`` on the same costs, an array, is the unit; of a
tensor, with a tensor to show for it, it stands beside it. Time is the fastest of many turns, which
the calls take one after the other. The counts do not depend on how busy the machine is: calls of
Python functions and of C functions as `sys.setprofile` sees them, and bytecodes as `sys.settrace`
does, of everything between the user's call and its result.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from timing import Contender, arguments, fastest, save

import hungarian_core as hc

SIZE = 10
UNIT = "scipy"
LEAST = {"linear_sum_assignment": 6.0, "assign, PyTorch": 5.0}  # times SciPy's call, at most


def contenders() -> dict[str, Callable[[], Any]]:
    """Return the calls, whose results agree."""
    import torch

    cost = np.random.default_rng(0).random((SIZE, SIZE))
    tensor, mask = torch.from_numpy(cost), torch.ones(SIZE, dtype=torch.bool)
    calls: dict[str, Callable[[], Any]] = {
        UNIT: lambda: linear_sum_assignment(cost)[1],
        "scipy, of tensors": lambda: torch.from_numpy(linear_sum_assignment(tensor)[1]),
        "linear_sum_assignment": lambda: hc.linear_sum_assignment(cost)[1],
        "assign, NumPy": lambda: hc.assign(cost).col4row,
        "linear_sum_assignment, PyTorch": lambda: hc.linear_sum_assignment(tensor)[1],
        "assign, PyTorch": lambda: hc.assign(tensor).col4row,
        "assign, PyTorch, masked": lambda: hc.assign(tensor, row_mask=mask).col4row,
    }
    expected = linear_sum_assignment(cost)[1]
    for call in calls.values():
        np.testing.assert_array_equal(np.asarray(call()), expected)
    return calls


def counts(call: Callable[[], Any]) -> dict[str, int]:
    """Return how many functions a call enters and how many bytecodes it runs."""
    found = {"python_calls": 0, "c_calls": 0, "bytecodes": 0}

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            found["python_calls" if event == "call" else "c_calls"] += 1

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        found["bytecodes"] += event == "opcode"
        return trace

    sys.setprofile(profile)
    call()
    sys.setprofile(None)
    found["c_calls"] -= 1  # of setprofile
    sys.settrace(trace)
    call()
    sys.settrace(None)
    return found


def main() -> None:
    """Print and save the figures."""
    options = arguments(__doc__, repeats=200, only="calls whose names contain this")
    calls = {k: x for k, x in contenders().items() if k == UNIT or options.only in k}
    seconds = fastest({name: Contender(call) for name, call in calls.items()}, options.repeats)
    rows = []
    print(f"{'call':32}{'Python':>8}{'C':>6}{'bytecodes':>11}{'µs':>8}{'x SciPy':>9}  at most")
    for name, call in calls.items():
        row = {"name": name, **counts(call), "us": 1e6 * seconds[name]}
        row["over_scipy"] = seconds[name] / seconds[UNIT]
        rows.append(row)
        print(
            f"{name:32}{row['python_calls']:8}{row['c_calls']:6}{row['bytecodes']:11}"
            f"{row['us']:8.2f}{row['over_scipy']:9.2f}  {LEAST.get(name, '')}"
        )
    save(options.json, rows)


if __name__ == "__main__":
    main()
