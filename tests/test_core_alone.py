"""The core imports no framework, and works where none is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

FRAMEWORKS = ("torch", "jax", "jaxlib", "tensorflow", "keras")
ADAPTERS = tuple(
    f"hungarian_{name}" for name in ("native", "numpy", "torch", "jax", "tensorflow", "keras")
)

# None in sys.modules makes Python say that a module is not installed.
BLOCKED = f"""
import sys
for name in {[*FRAMEWORKS, "scipy", "array_api_strict"]!r}:
    sys.modules[name] = None
import numpy as np
import hungarian_core as hc
"""


def _run(code: str) -> Any:
    """Run `code` in a fresh interpreter and return what it prints, from JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """Return the root modules that ``import hungarian_core`` imports."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "import hungarian_core, json\n"
        "new = set(sys.modules) - before\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in new})))"
    )
    return set(_run(code))


@pytest.mark.parametrize("name", [*FRAMEWORKS, *ADAPTERS, "scipy", "pytest"])
def test_import_leaves_it_out(imported: set[str], name: str) -> None:
    assert name not in imported


def test_import_needs_numpy_and_array_api_compat_only(imported: set[str]) -> None:
    """Also what keeps the import fast; a test of the time itself would depend on the machine."""
    ours = {"hungarian_core", "numpy", "array_api_compat"}
    # NumPy's own import leaves nameless entries of Cython's runtime.
    foreign = {name for name in imported if not name.startswith(("_", "cython_runtime"))}
    assert foreign - set(sys.stdlib_module_names) - ours == set()


def test_import_leaves_out_what_is_slow() -> None:
    """`importlib.metadata` was half of the import's time; the checks are not of the core."""
    code = (
        "import sys, numpy, array_api_compat; before = set(sys.modules)\n"
        "import hungarian_core, json\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    new = _run(code)
    assert "importlib.metadata" not in new
    rare = ("hungarian_core.testing", "hungarian_core.inspection")
    assert [name for name in new if name.startswith(rare)] == []


def test_first_use_imports_one_adapter() -> None:
    code = (
        "import sys, json, numpy as np, hungarian_core as hc\n"
        "hc.assign(np.zeros((2, 2)), solver='core')\n"
        f"print(json.dumps([n for n in {[*ADAPTERS, *FRAMEWORKS, 'scipy']!r} if n in sys.modules]))"
    )
    assert _run(code) == ["hungarian_numpy"]


def test_works_without_frameworks_and_scipy() -> None:
    code = f"""{BLOCKED}
import json
cost = np.array([[4.0, 1, 3], [2, 0, 5]])
true = np.array([[[1.0, 2, 3, 4], [5, 6, 7, 8]]])
pred = np.array([[[1.0, 1, 1, 1], [2, 2, 2, 2]]])
criterion = hc.HungarianLoss([4])
print(json.dumps([
    hc.assign(cost).col4row.tolist(),
    [x.tolist() for x in hc.linear_sum_assignment(cost)],
    float(hc.loss(true, pred)),
    float(criterion(true, pred)),
    list(hc.backends()),
    str(hc.explain(hc.assign(cost), cost)).splitlines()[0],
    hc.StabilityMeter().update_layers(np.array([[0, 1], [1, 0]])),
]))
"""
    col4row, indices, value, squares, names, explained, changed = _run(code)
    assert col4row == [1, 0]
    assert indices == [[0, 1], [1, 0]]
    assert value == pytest.approx(6.50763825)
    assert squares == pytest.approx((14 + 86) / 8)
    assert names == ["numpy"]
    assert explained == "2 pairs, cost 3, duality gap 0"
    assert changed == [1.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            'hc.assign(np.zeros((2, 2)), solver="scipy")',
            'solver="scipy" needs SciPy: pip install scipy, or choose solver="core"',
        ),
        (
            'hc.get_backend("torch")',
            "backend 'torch' needs PyTorch: pip install \"hungarian-core[torch]\"",
        ),
        (
            'hc.get_backend("jax")',
            "backend 'jax' needs JAX: pip install \"hungarian-core[jax]\"",
        ),
        (
            'hc.get_backend("tensorflow")',
            "backend 'tensorflow' needs TensorFlow: pip install \"hungarian-core[tensorflow]\"",
        ),
    ],
    ids=["scipy", "torch", "jax", "tensorflow"],
)
def test_what_is_missing_is_named(call: str, message: str) -> None:
    code = f"""{BLOCKED}
import json
try:
    {call}
except ImportError as error:
    print(json.dumps(str(error)))
"""
    assert _run(code) == message


def test_the_plugin_needs_pytest_only() -> None:
    """The conftest of the tests loads it where SciPy is not installed."""
    code = f"{BLOCKED}\nimport json, hungarian_core.testing.plugin\nprint(json.dumps('fine'))"
    assert _run(code) == "fine"
