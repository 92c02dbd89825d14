"""Choose the frameworks that the conformance suite runs on."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import hungarian_core

pytest_plugins = ["hungarian_core.testing.plugin"]

DRIVERS = Path(__file__).with_name("drivers.py")
# The functions of drivers.py, and the module that each needs.
BACKENDS = {
    "numpy": "numpy",
    "torch": "torch",
    "jax": "jax",
    "tensorflow": "tensorflow",
    "array_api_strict": "array_api_strict",
    "third_party": "tapegrad",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        action="append",
        choices=BACKENDS,
        help="a framework to run the conformance suite on; by default all that are installed",
    )


def pytest_configure(config: pytest.Config) -> None:
    chosen = config.getoption("--backend") or [
        name for name, module in BACKENDS.items() if importlib.util.find_spec(module) is not None
    ]
    # Elsewhere the suite skips what is not there; in this project the native solver has to be.
    hungarian_core.host_solver("native")
    config.option.driver = config.option.driver or [f"{DRIVERS}:{name}" for name in chosen]
