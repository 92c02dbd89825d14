"""The pytest plugin behind ``pytest -p hungarian_core.testing.plugin --driver ...``."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hungarian_core.testing.driver import Driver

# Whatever is added there: the tests, and what they assert with.
pytest.register_assert_rewrite(
    *(
        f"hungarian_core.testing.{path.stem}"
        for path in Path(__file__).parent.glob("*.py")
        if path.stem.startswith("test_")
        or path.stem in ("checks", "comparisons", "detection", "field_losses", "fields")
    )
)

_drivers = pytest.StashKey[list[Driver]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option ``--driver``."""
    parser.getgroup("hungarian_core").addoption(
        "--driver",
        action="append",
        default=[],
        metavar="FILE.py:NAME",
        help="a hungarian_core.testing.Driver, a list of them, or a function that returns them; "
        "also as package.module:NAME",
    )


def load(spec: str) -> list[Driver]:
    """Return the drivers of ``file.py:name`` or ``package.module:name``."""
    where, _, name = spec.rpartition(":")
    if not where:
        raise pytest.UsageError(f"--driver is {spec!r}; expected file.py:name or module:name")
    if where.endswith(".py"):
        location = importlib.util.spec_from_file_location(Path(where).stem, where)
        if location is None or location.loader is None:
            raise pytest.UsageError(f"--driver {spec}: cannot read {where}")
        module = importlib.util.module_from_spec(location)
        location.loader.exec_module(module)
    else:
        module = importlib.import_module(where)
    found: Any = getattr(module, name)
    if callable(found) and not isinstance(found, Driver):
        found = found()
    drivers = list(found) if isinstance(found, (list, tuple)) else [found]
    for driver in drivers:
        if not isinstance(driver, Driver):
            raise pytest.UsageError(f"--driver {spec} holds {driver!r}; expected a Driver")
    return drivers


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that asks for `driver` once per driver."""
    if "driver" not in metafunc.fixturenames:
        return
    config = metafunc.config
    if _drivers not in config.stash:
        specs = config.getoption("driver")
        if not specs:
            raise pytest.UsageError("no driver; pass --driver FILE.py:NAME")
        config.stash[_drivers] = [driver for spec in specs for driver in load(spec)]
    found = config.stash[_drivers]
    metafunc.parametrize(
        "driver", found, ids=[driver.name for driver in found], indirect=True, scope="session"
    )


@pytest.fixture(scope="session")
def driver(request: pytest.FixtureRequest) -> Driver:
    """Return the way of running a framework under test."""
    return request.param


@pytest.fixture(autouse=True)
def _in_context(request: pytest.FixtureRequest) -> Iterator[None]:
    if "driver" not in request.fixturenames:
        yield
        return
    with request.getfixturevalue("driver").context():
        yield
