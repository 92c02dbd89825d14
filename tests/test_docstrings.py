"""Public docstrings have examples, and these print what they show.

An example takes for granted what the beginning of `docs/api.md` says is imported.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

# A backend is made by its author, and a picture shows itself in the documentation.
WITHOUT = {"Backend", "plot_matches"}
CORE = [
    "hungarian_core",
    "hungarian_core.assigners",
    "hungarian_core.boxes",
    "hungarian_core.boxes.distributions",
    "hungarian_core.boxes.rotated",
    "hungarian_core.boxes.solid",
    "hungarian_core.costs",
    "hungarian_core.denoising",
    "hungarian_core.gradients",
    "hungarian_core.hnet",
    "hungarian_core.hnet.data",
    "hungarian_core.hnet.metrics",
    "hungarian_core.losses.criteria",
    "hungarian_core.masks",
    "hungarian_core.polylines",
    "hungarian_core.relaxations",
    "hungarian_core.terms",
    "hungarian_data",
]
# Front doors, and the names under which an example finds them and their framework.
DOORS = {
    "hungarian_numpy": {"hn": "hungarian_numpy"},
    "hungarian_torch": {"torch": "torch", "ht": "hungarian_torch"},
    "hungarian_jax": {"jax": "jax", "jnp": "jax.numpy", "hj": "hungarian_jax"},
    "hungarian_jax.hnet": {},
    "hungarian_tensorflow": {"tf": "tensorflow", "htf": "hungarian_tensorflow"},
}
KERAS = {"keras": "keras", "hk": "hungarian_keras"}


def documented(module: str) -> list[tuple[str, Any]]:
    """Return the functions and classes that a module lists, by name."""
    found = importlib.import_module(module)
    names = getattr(found, "__all__", None) or [
        name
        for name, x in vars(found).items()
        if name[0] != "_" and getattr(x, "__module__", "") == module
    ]
    things = [(name, getattr(found, name)) for name in names]
    return [(n, x) for n, x in things if inspect.isfunction(x) or inspect.isclass(x)]


def run(name: str, thing: Any, space: dict[str, Any]) -> int:
    """Run the examples of a docstring and return how many there are."""
    parsed = doctest.DocTestParser().get_doctest(
        inspect.getdoc(thing) or "", space, name, getattr(thing, "__module__", None), 0
    )
    said: list[str] = []
    found = doctest.DocTestRunner(verbose=False).run(parsed, out=said.append)
    assert not found.failed, "".join(said)
    return found.attempted


@pytest.mark.parametrize("module", CORE)
def test_examples_of_the_core(module: str) -> None:
    things = documented(module)
    assert things
    for name, thing in things:
        count = run(f"{module}.{name}", thing, {"np": np, "hc": hc})
        # Tuples of results are explained by their fields.
        results = inspect.isclass(thing) and issubclass(thing, tuple)
        assert count or results or name in WITHOUT, f"{name} has no example"


@pytest.mark.parametrize("module", DOORS)
def test_examples_of_the_front_doors(module: str) -> None:
    pytest.importorskip(module, exc_type=ImportError)
    there = {name: importlib.import_module(x) for name, x in DOORS[module].items()}
    for name, thing in documented(module):
        # What comes from elsewhere has its examples there.
        if thing.__module__.startswith(module):
            assert run(f"{module}.{name}", thing, {"np": np, "hc": hc, **there}), name


def test_examples_of_keras() -> None:
    pytest.importorskip("keras")
    done = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    keras = {name: importlib.import_module(x) for name, x in KERAS.items()}
    for name, thing in documented("hungarian_keras"):
        if thing.__module__.startswith("hungarian_keras") and name != "MatchingStability":
            assert run(name, thing, {"np": np, "hc": hc, **keras}), name
