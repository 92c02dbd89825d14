"""The stranger's solver of tests/third_party, where that is installed, by its name."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks
from hungarian_core.testing.cases import CASES
from hungarian_core.testing.driver import Driver

if importlib.util.find_spec("hungarian_recorder") is None:
    pytest.skip("the stranger's package is not installed", allow_module_level=True)

_drivers = run_path(str(Path(__file__).with_name("drivers.py")))


@pytest.fixture(params=["numpy", "third_party"])
def way(request: pytest.FixtureRequest) -> Driver:
    """Return a driver of a framework that is installed with the solver."""
    driver, *_ = _drivers[request.param]()  # the first is the framework as it is
    return driver


@pytest.mark.parametrize("name", ["wide", "tall", "masks", "priced"])
def test_a_solver_by_the_name_of_its_entry_point(way: Driver, name: str) -> None:
    import hungarian_recorder

    case = next(case for case in CASES if case.name == name)
    checks.need(way, case.dtype)
    checks.need_solver(way, "native")
    before = len(hungarian_recorder.records)
    cost, found = checks.run(way, case, "recorder")
    checks.check(way, case, cost, checks.on_host(way, found))
    record = hungarian_recorder.records[-1]
    assert len(hungarian_recorder.records) > before
    assert record.shape[-2:] == case.cost.shape[-2:]
    assert record.seconds >= 0


def test_losses_take_it_too(way: Driver) -> None:
    import hungarian_recorder

    checks.need_solver(way, "native")
    y: Any = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)
    before = len(hungarian_recorder.records)
    value = hc.loss(
        way.from_numpy(y), way.from_numpy(y[:, ::-1].copy()), solver="recorder",
        backend=way.backend,
    )  # fmt: skip
    assert float(way.to_numpy(value)) == 0
    assert len(hungarian_recorder.records) == before + 1
