"""The index of the documentation says of the adapters what is so, though it cannot import them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
MODULES = [
    "hungarian_numpy",
    "hungarian_torch",
    "hungarian_torch.lightning",
    "hungarian_jax",
    "hungarian_jax.hnet",
    "hungarian_tensorflow",
    "hungarian_keras",
]
# What one adapter has of another.
ELSEWHERE = {"hungarian_tensorflow": {"HNet", "HungarianLoss", "PITLoss", "hungarian_loss"}}


@pytest.fixture(scope="module")
def front_doors() -> Any:
    spec = importlib.util.spec_from_file_location("front_doors", DOCS / "front_doors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", MODULES)
def test_every_name_is_in_the_index_with_its_signature(front_doors: Any, name: str) -> None:
    module = pytest.importorskip(name, exc_type=ImportError)
    assert f".. front-door:: {name}\n" in (DOCS / "api.md").read_text(encoding="utf-8")
    entries = front_doors.entries(name)
    assert front_doors.listed(name) == module.__all__
    assert set(module.__all__) - set(entries) == ELSEWHERE.get(name, set())
    for entry in entries.values():
        if entry.name not in module.__all__ or entry.kind in ("same", "data"):
            continue
        thing = getattr(module, entry.name)
        assert entry.text
        assert entry.signature == front_doors.signature(thing), entry.name
        for method in entry.methods:
            found = front_doors.signature(getattr(thing, method.name))
            assert method.text
            assert method.signature == found, f"{entry.name}.{method.name}"


def test_all_modules_of_the_index_are_tried() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    assert [line.split()[2] for line in page.splitlines() if "front-door::" in line] == MODULES


@pytest.mark.parametrize(
    "name", [*sorted(ELSEWHERE["hungarian_tensorflow"]), "compute_euclidean_distance"]
)
def test_tensorflow_has_those_of_keras(name: str) -> None:
    """So the tests of Keras are those of both."""
    pytest.importorskip("tensorflow", reason="a framework")
    pytest.importorskip("keras", reason="the losses are Keras's")
    import hungarian_keras
    import hungarian_tensorflow

    assert getattr(hungarian_tensorflow, name) is getattr(hungarian_keras, name)
