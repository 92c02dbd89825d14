"""How a backend is found, and what is said when it is not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core import _registry

Register = Callable[..., None]


class EntryPoint:
    """An entry point as `importlib.metadata` returns it; `target` is loaded or raised."""

    def __init__(self, name: str, target: Any) -> None:
        self.name, self.value, self.target, self.loads = name, f"made_up_{name}:backend", target, 0

    def load(self) -> Any:
        self.loads += 1
        if isinstance(self.target, Exception):
            raise self.target
        return self.target


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Return a function that installs entry points in place of the real ones."""
    monkeypatch.setattr(_registry, "_loaded", {})
    monkeypatch.setattr(_registry, "_by_type", {})

    def install(**targets: Any) -> dict[str, EntryPoint]:
        entries = {name: EntryPoint(name, target) for name, target in targets.items()}

        def entry_points(*, group: str) -> list[EntryPoint]:
            assert group == "hungarian_core.backends"
            return list(entries.values())

        def find_spec(name: str) -> Any:
            return object() if name in entries else None

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
        monkeypatch.setattr(importlib.util, "find_spec", find_spec)
        return entries

    return install


def _backend(name: str) -> hc.Backend:
    backend = hc.Backend()
    backend.name = name
    return backend


def _array(module: str) -> Any:
    return type("Array", (), {"__module__": module})()


def test_by_name(register: Register) -> None:
    torch = _backend("torch")
    entries = register(torch=torch, numpy=_backend("numpy"))
    assert hc.get_backend("torch") is torch
    assert hc.get_backend("torch") is torch
    assert entries["torch"].loads == 1
    assert entries["numpy"].loads == 0


def test_instances_are_taken_as_they_are(register: Register) -> None:
    register()
    mine = _backend("mine")
    assert hc.get_backend(mine, _array("torch")) is mine


def test_by_the_root_module_of_the_type(register: Register) -> None:
    torch = _backend("torch")
    entries = register(torch=torch, jax=_backend("jax"))
    assert hc.get_backend(None, _array("torch.nn.parameter")) is torch
    assert entries["jax"].loads == 0


def test_by_the_root_module_of_a_base_class(register: Register) -> None:
    torch = _backend("torch")
    register(torch=torch)
    mine = type("Mine", (type(_array("torch")),), {"__module__": "my_package"})
    assert hc.get_backend(None, mine()) is torch


def test_two_names_of_one_framework(register: Register) -> None:
    jax = _backend("jax")
    register(jax=jax, jaxlib=jax)
    assert hc.get_backend(None, _array("jaxlib"), _array("jax")) is jax


def test_backends_lists_installed_ones_once(register: Register) -> None:
    entries = register(jax=_backend("jax"), jaxlib=_backend("jax"), torch=_backend("torch"))
    entries["jaxlib"].value = entries["jax"].value
    assert hc.backends() == ("jax", "torch")
    assert [entry.loads for entry in entries.values()] == [0, 0, 0]


def test_numpy_is_always_there() -> None:
    assert "numpy" in hc.backends()
    assert hc.get_backend("numpy").name == "numpy"
    assert hc.get_backend(None, np.zeros(2)) is hc.get_backend("numpy")


@pytest.mark.parametrize(
    "x", [[[1.0, 2.0]], ((1.0,),), 3.0, 2], ids=["list", "tuple", "float", "int"]
)
def test_lists_and_numbers_adapt(x: Any) -> None:
    assert hc.get_backend(None, x).name == "numpy"
    mine = _backend("mine")
    assert hc.get_backend(mine, x) is mine


def test_lists_adapt_to_the_arrays(register: Register) -> None:
    torch = _backend("torch")
    register(torch=torch, numpy=_backend("numpy"))
    assert hc.get_backend(None, [1.0], None, _array("torch")) is torch


def test_lists_are_costs() -> None:
    assert hc.assign([[4.0, 1.0], [2.0, 0.0]]).col4row.tolist() == [1, 0]


NAMES = {
    "pytorch": "Did you mean 'torch'?",
    "tenserflow": "Did you mean 'tensorflow'?",
    "Numpy": "Did you mean 'numpy'?",
}


@pytest.mark.parametrize("name", NAMES)
def test_did_you_mean(register: Register, name: str) -> None:
    register(**{known: _backend(known) for known in ("jax", "numpy", "tensorflow", "torch")})
    with pytest.raises(ValueError, match="unknown backend") as caught:
        hc.get_backend(name)
    installed = "installed: jax, numpy, tensorflow, torch."
    assert str(caught.value) == f"unknown backend {name!r}; {installed} {NAMES[name]}"


def test_nothing_is_like_it(register: Register) -> None:
    register(torch=_backend("torch"))
    with pytest.raises(ValueError, match=r"unknown backend 'qqq'; installed: torch\.$"):
        hc.get_backend("qqq")


@pytest.mark.parametrize("backend", ["torch", None])
def test_nothing_is_registered(register: Register, backend: str | None) -> None:
    register()
    with pytest.raises(ValueError, match=r"^no backends are registered; install the project"):
        hc.get_backend(backend, _array("torch"))


def test_missing_framework(register: Register) -> None:
    register(torch=ModuleNotFoundError("No module named 'torch'", name="torch"))
    with pytest.raises(ImportError) as caught:
        hc.get_backend("torch")
    assert str(caught.value) == (
        "backend 'torch' needs PyTorch: pip install \"hungarian-core[torch]\""
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'sympy'", name="sympy"),
        ModuleNotFoundError("No module named 'torch._C'", name="torch._C"),
        ImportError("libcudart.so.12: cannot open shared object file"),
    ],
    ids=["dependency", "submodule", "library"],
)
def test_a_broken_framework_speaks_for_itself(register: Register, error: ImportError) -> None:
    register(torch=error)
    with pytest.raises(ImportError) as caught:
        hc.get_backend("torch")
    assert caught.value is error


def test_an_entry_point_that_is_no_backend(register: Register) -> None:
    register(mine=hc.Backend)
    with pytest.raises(TypeError, match=r"entry point 'mine' .* is a type; expected an instance"):
        hc.get_backend("mine")


def test_two_frameworks(register: Register) -> None:
    register(torch=_backend("torch"), numpy=_backend("numpy"))
    message = (
        "y_true is a torch array and y_pred a numpy array; "
        "pass arrays of one framework or choose backend="
    )
    with pytest.raises(ValueError, match=message):
        hc.get_backend(None, y_true=_array("torch"), y_pred=np.zeros(2))


def test_unknown_type(register: Register) -> None:
    register(numpy=_backend("numpy"))
    message = (
        r"cost is a cupy\.Array, which no backend knows; installed: numpy\. "
        "Convert it, or choose backend="
    )
    with pytest.raises(ValueError, match=message):
        hc.get_backend(None, cost=_array("cupy"))


@pytest.mark.parametrize(
    ("given", "how"),
    [
        (type("DataFrame", (), {"__module__": "pandas", "to_numpy": None})(), "pass x.to_numpy()"),
        (
            type("csr", (), {"__module__": "scipy", "toarray": None, "nnz": 0})(),
            "it is sparse: pass x.toarray()",
        ),
    ],
    ids=["pandas", "sparse"],
)
def test_unknown_types_that_are_well_known(register: Register, given: Any, how: str) -> None:
    register(numpy=_backend("numpy"))
    with pytest.raises(ValueError, match="which no backend knows") as caught:
        hc.get_backend(None, cost=given)
    assert how in str(caught.value)


@pytest.mark.parametrize("backend", [None, hc.Backend()], ids=["by type", "given"])
def test_what_is_no_array_is_named(register: Register, backend: Any) -> None:
    register(numpy=_backend("numpy"))
    for given, what in ((np, "the module 'numpy'"), ({"a": 1}, "a dict"), ("x", "the text 'x'")):
        with pytest.raises(TypeError, match=rf"^y_true: {what} came"):
            hc.get_backend(backend, y_pred=np.zeros(2), y_true=given)


def test_numbers_of_numpy_adapt(register: Register) -> None:
    torch = _backend("torch")
    register(torch=torch, numpy=_backend("numpy"))
    for number in (np.float32(1), np.int64(1), np.array(1.0)):
        assert hc.get_backend(None, cost=_array("torch"), unmatched_cost=number) is torch
        assert hc.get_backend(None, unmatched_cost=number, cost=_array("torch")) is torch
        assert hc.get_backend(None, unmatched_cost=number).name == "numpy"


def test_a_second_name_is_advised_as_the_first(
    register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = register(
        jax=ModuleNotFoundError("No module named 'jax'", name="jax"),
        jaxlib=ModuleNotFoundError("No module named 'jaxlib'", name="jaxlib"),
        tapegrad=ModuleNotFoundError("No module named 'tapegrad'", name="tapegrad"),
    )
    entries["jaxlib"].value = entries["jax"].value
    for name, how in (
        ("jax", "backend 'jax' needs JAX: pip install \"hungarian-core[jax]\""),
        ("jaxlib", "backend 'jaxlib' needs JAX: pip install \"hungarian-core[jax]\""),
        ("tapegrad", "backend 'tapegrad' needs tapegrad: pip install tapegrad"),
    ):
        with pytest.raises(ImportError) as caught:
            hc.get_backend(name)
        assert str(caught.value) == how
    assert _registry.missing() == {}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert _registry.missing() == {
        "jax": 'pip install "hungarian-core[jax]"', "tapegrad": "pip install tapegrad"
    }  # fmt: skip
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "jaxlib" or None)
    assert [*_registry.missing()] == ["tapegrad"]


def test_backend_of_another_type() -> None:
    with pytest.raises(ValueError, match="backend is a int; expected a name such as 'torch'"):
        hc.get_backend(3)  # type: ignore[arg-type]  # the mistake under test


def test_bind_fills_in_the_backend() -> None:
    mine, other = _backend("mine"), _backend("other")
    seen = []
    bound = hc.bind(lambda **options: seen.append(options["backend"]), mine)
    bound()
    bound(backend=None)  # as a loss of the same front door takes it
    bound(backend=other)
    assert seen == [mine, mine, other]
