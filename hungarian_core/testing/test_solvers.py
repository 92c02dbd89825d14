"""A solver on the host that somebody installed is called by its name, from every framework."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core import _options
from hungarian_core._solvers import host
from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver

COST = np.array([[0.9, 0.2, 0.5], [0.1, 0.3, 0.8]])


class _EntryPoint:
    name = "recorder"

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def load(self) -> Any:
        def solve(cost: np.ndarray, *others: Any) -> hc.Solution:
            self.shapes.append(cost.shape)
            native: Any = hc.host_solver("native")
            return native(cost, *others)

        return solve


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> _EntryPoint:
    """Install a solver on the host that notes what it gets."""
    entry, original = _EntryPoint(), importlib.metadata.entry_points

    def entry_points(**chosen: Any) -> Any:
        found = original(**chosen)
        return [*found, entry] if chosen.get("group") == "hungarian_core.solvers" else found

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    monkeypatch.setattr(_options, "_installed", set())
    monkeypatch.setattr(host, "_found", {})
    return entry


def test_a_solver_that_somebody_installed(driver: Driver, recorder: _EntryPoint) -> None:
    checks.need_solver(driver, "native")

    def run(x: Any) -> Any:
        return hc.assign(x, solver="recorder", unmatched_cost=0.25, backend=driver.backend).col4row

    found = driver.trace(run)(driver.from_numpy(np.stack([COST, COST]), "float32"))
    assert driver.to_numpy(found).tolist() == [[1, 0]] * 2
    assert recorder.shapes
    assert all(shape[-2:] == (2, 3) for shape in recorder.shapes)


def test_a_solver_that_nobody_installed(driver: Driver, recorder: _EntryPoint) -> None:
    backend = driver.resolve(driver.from_numpy(COST, "float32"))
    cost = driver.from_numpy(COST, "float32")
    message = (
        r"solver is 'recoder'; expected one of 'auto', .*'recorder'.*Did you mean 'recorder'\?"
    )
    for call in (
        lambda: hc.assign(cost, solver="recoder", backend=backend),
        lambda: hc.assignment_matrix(cost, "blackbox", solver="recoder", backend=backend),
        lambda: hc.DetrLoss(3, solver="recoder"),
        lambda: hc.AlignedDetrLoss(3, solver="recoder"),
        lambda: hc.host_solver("recoder"),
    ):
        with pytest.raises(ImportError, match=message):
            call()
