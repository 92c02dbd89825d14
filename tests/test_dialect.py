"""The core keeps to a part of the Array API standard that runs eagerly and traced."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing.names import CORE, NAMES, modules, tree

MODULES = modules()


def test_the_names_are_read_off_the_modules() -> None:
    """Every room is read, and what only the host does is not."""
    assert {"_solvers/core.py", "losses/detr.py", "relaxations/noise.py", "masks/pixels.py"} < {
        *MODULES
    }
    assert {"where", "take_along_axis", "__array_namespace_info__", "bitwise_xor"} < {*NAMES}
    assert not {"asarray", "linalg"} & {*NAMES}
    assert len(NAMES) < 60


def test_tensorflow_has_the_names() -> None:
    """By its source: the namespace of TensorFlow can be read where TensorFlow is not installed."""
    package = importlib.util.find_spec("hungarian_tensorflow")
    assert package is not None
    assert package.origin is not None
    tree = ast.parse(Path(package.origin).with_name("_namespace.py").read_text(encoding="utf-8"))
    defined = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defined.add(node.name)
        for target in node.targets if isinstance(node, ast.Assign) else ():
            defined |= {x.id for x in ast.walk(target) if isinstance(x, ast.Name)}
    assert set(NAMES) - defined == set()


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_written_in_place(module: str) -> None:
    """Arrays of JAX and TensorFlow cannot be written to. What has a name is in a dictionary."""
    written = [
        ast.unparse(target)
        for node in ast.walk(tree(module))
        for target in (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, (ast.AugAssign, ast.AnnAssign))
            else ()
        )
        if isinstance(target, ast.Subscript)
        and not (isinstance(target.slice, ast.Constant) and isinstance(target.slice.value, str))
    ]
    assert written == []


@pytest.mark.parametrize("module", MODULES)
def test_no_framework_and_no_numpy(module: str) -> None:
    roots = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add((node.module or "").partition(".")[0])
    standard = {
        "__future__", "collections", "dataclasses", "functools", "inspect", "itertools", "math",
        "typing", "warnings",
    }  # fmt: skip
    assert roots - standard == {"hungarian_core"} - ({"hungarian_core"} - roots)


@pytest.mark.parametrize("path", sorted(CORE.glob("**/*.py")), ids=lambda p: str(p.name))
def test_no_assignment_in_an_expression(path: Path) -> None:
    """AutoGraph cannot rewrite one, and warns whoever calls a loss in a `tf.function`."""
    if "testing" not in path.parts:
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        assert not any(isinstance(node, ast.NamedExpr) for node in nodes)


# The words of a generator of noise are no costs, nor are numbers of iterations.
UNBOUNDED = {"relaxations/noise.py", "relaxations/matrix.py"}


@pytest.mark.parametrize("module", sorted({*MODULES} - UNBOUNDED))
def test_no_big_constant_stands_for_infinity(module: str) -> None:
    """Padding with 1e9 in float32 gives wrong matchings."""
    big = [
        node.value
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, (int, float))
        and abs(node.value) >= 1000
    ]
    assert big == []


def test_the_algorithm_decides_on_no_array() -> None:
    """`if` asks for static extents and for what was passed, and `while` and `for` do not occur."""
    nodes = [*ast.walk(tree("_solvers/core.py"))]
    assert [n for n in nodes if isinstance(n, (ast.While, ast.For, ast.Assert))] == []
    tests = [n.test for n in nodes if isinstance(n, (ast.If, ast.IfExp))]
    assert tests
    assert [ast.unparse(test) for test in tests if not _static(test)] == []


def _static(test: ast.expr) -> bool:
    """Say whether a condition is known when a program is traced."""
    if isinstance(test, ast.Compare) and isinstance(test.ops[0], (ast.Is, ast.IsNot)):
        return True
    if isinstance(test, ast.BoolOp):
        return all(_static(x) for x in test.values)
    # Extents, after a look at whether they are numbers.
    extents = {"n", "m", "size", "static", "isinstance", "int"}
    return {x.id for x in ast.walk(test) if isinstance(x, ast.Name)} <= extents


@pytest.mark.parametrize(
    "module", ["_solvers/core.py", "boxes/axis_aligned.py", "costs/vectors.py"]
)
def test_no_values_are_read(module: str) -> None:
    """`int(x)`, `bool(x)` and `len(x)` of an array would stop a trace."""
    called = {
        node.func.id
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    # Of float("inf") and of a dtype's limits.
    constants = {"float"} if module in ("_solvers/core.py", "costs/vectors.py") else set()
    assert called & {"int", "bool", "float", "len", "range", "print"} <= constants


def test_under_the_strictest_flags_and_on_another_device() -> None:
    """The core itself; the conformance suite runs every case in this way."""
    xp: Any = pytest.importorskip("array_api_strict", reason="the strictest implementation")
    device = xp.Device("device1")

    class Strict(hc.Backend):
        name = "array_api_strict"

        def asarray(self, x: Any, like: Any = None) -> Any:
            return x

    rng = np.random.default_rng(0)
    cost = xp.asarray(rng.uniform(size=(4, 3, 5)), device=device)
    rows = xp.asarray(rng.uniform(size=(4, 3)) > 0.3, device=device)
    cols = xp.asarray(rng.uniform(size=(4, 5)) > 0.5, device=device)
    with xp.ArrayAPIStrictFlags(
        boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
    ):
        found = hc.assign(cost, row_mask=rows, col_mask=cols, solver="core", backend=Strict())
        value = hc.loss(cost, cost, mask=rows, solver="core", backend=Strict())
    assert {x.device for x in (*found, value)} == {device}
    assert float(value.to_device(xp.Device("CPU_DEVICE"))) == 0
