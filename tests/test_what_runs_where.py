"""The README's table "What runs where": each of its cells against what is seen to run.

Each row is run as the row says, with a spy on the native library, on SciPy, on the core's
algorithm and on each way from a framework to the host. There is no accelerator here. For eager
calls a backend stands in whose arrays, as it says, do not lie in host memory: what follows from
that is the path of an accelerator. A program of JAX is compiled for one, and read. The row of Keras
is in tests/keras_where.py, in a process for each of its backends.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
import hungarian_native
from hungarian_core._solvers import core, host

README = Path(__file__).resolve().parents[1] / "README.md"
COSTS = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)
SOLVERS = ("auto", "core", "native", "scipy")

# What a cell says, in terms of what is seen; a "*" is the solver that was named.
MEANING = {
    "native": "native",
    "core": "core",
    "as named": "*",
    "native, without copies": "native, at its address",
    "native, through one copy": "native, 1 copy",
    "through a copy": "*, 1 copy",
    "core on the device": "core, 0 copies",
    "as eager on that device, in one opaque operator": "1 operator, as eager",
    "same": "1 operator, as eager",
    "native, compiled once per shape": "native, compiled once",
    "core, compiled once per shape": "core, compiled once",
    "native in the program on a CPU, else core in the program": "CPU: native; else: core",
    "core in the program": "core",
    "native as for auto on a CPU; else by `pure_callback`": {
        "native": "CPU: native; else: callback",
        "scipy": "CPU: callback; else: callback",
    },
    "native, by `numpy_function`": "native, numpy_function",
    "by `numpy_function`": "*, numpy_function",
    "core in the graph": "core",
    "refused by XLA": "refused",
}


def table() -> dict[str, dict[str, str]]:
    """Return the cells by row and solver."""
    lines = README.read_text(encoding="utf-8").partition("## What runs where")[2].splitlines()
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines[: next(k for k, x in enumerate(lines) if x.startswith("The native"))]
        if line.startswith("|")
    )
    columns = [re.findall(r'"(\w+)"', name) for name in head]
    return {
        name: {solver: cell for solvers, cell in zip(columns[1:], cells, strict=True)
               for solver in solvers}
        for name, *cells in rows
    }  # fmt: skip


TABLE = table()


class Seen(list[str]):
    """What ran, in order."""

    def spy(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, which is noted when it runs."""

        def run(*args: Any, **options: Any) -> Any:
            self.append(name)
            return function(*args, **options)

        run.__dict__.update(function.__dict__ if hasattr(function, "__dict__") else {})
        return run

    @property
    def solvers(self) -> str:
        return ", ".join(dict.fromkeys(x for x in self if x in ("native", "scipy", "core")))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Note which solver runs from now on."""
    seen = Seen()
    monkeypatch.setattr(hungarian_native, "_solve", seen.spy("native", hungarian_native._solve))
    monkeypatch.setattr(core, "minimise", seen.spy("core", core.minimise))
    scipy = hc.host_solver("scipy")
    assert scipy is not None
    monkeypatch.setitem(host._found, "scipy", seen.spy("scipy", scipy))
    return seen


def expected(row: str, solver: str) -> str:
    """Return what should be seen."""
    meaning = MEANING[TABLE[row][solver]]
    named = meaning[solver] if isinstance(meaning, dict) else meaning
    return named.replace("*", solver)


def remote(kind: type[hc.Backend], seen: Seen, **methods: Any) -> hc.Backend:
    """Return a backend of this kind whose arrays, it says, do not lie in host memory."""
    name = f"Remote{kind.__name__}"
    methods |= {"on_host": lambda *_: False, "host_call": seen.spy("copy", kind.host_call)}
    return type(name, (kind,), methods)()


def copies(seen: Seen) -> str:
    """Return which solver ran, and how often arrays went to the host for it."""
    count = seen.count("copy")
    return f"{seen.solvers}, {count} {'copy' if count == 1 else 'copies'}"


def numpy_eager(solver: Any, seen: Seen, _: Any) -> str:
    hc.assign(COSTS, solver=solver)
    return seen.solvers


def torch_eager(solver: Any, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> str:
    torch = pytest.importorskip("torch")
    cost, addresses = torch.from_numpy(COSTS), []
    native: Any = hc.host_solver("native")

    def at(address: int, *rest: Any) -> Any:
        addresses.append(address)
        return solve(address, *rest)

    solve = native.at
    monkeypatch.setattr(native, "at", at)
    hc.assign(cost, solver=solver)
    where = ", at its address" if solver == "auto" and addresses == [cost.data_ptr()] else ""
    return seen.solvers + where


def torch_accelerator(solver: Any, seen: Seen, _: Any) -> str:
    torch = pytest.importorskip("torch")
    kind: Any = type(hc.get_backend("torch"))
    # The hook declines what does not lie in host memory: `cost.is_cpu`.
    backend = remote(kind, seen, solve=lambda *_, **__: None)
    hc.assign(torch.from_numpy(COSTS), solver=solver, backend=backend)
    return copies(seen)


def torch_programs(solver: Any, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> str:
    torch = pytest.importorskip("torch")
    hc.assign(torch.from_numpy(COSTS), solver=solver)
    eager = seen.solvers
    seen.clear()
    graphs: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append([str(n.target) for n in graph.graph.nodes if "hungarian" in str(n.target)])
        return graph

    def program(cost: Any) -> Any:
        return hc.assign(cost, solver=solver).col4row

    torch.compiler.reset()
    torch.compile(program, fullgraph=True, backend=backend)(torch.from_numpy(COSTS))
    assert [[name.partition(".default")[0] for name in g] for g in graphs] == [
        ["hungarian_core.solve"]
    ]
    assert seen.solvers == eager
    seen.clear()
    module = __import__("hungarian_torch._backend", fromlist=["_backend"])
    monkeypatch.setattr(module, "solve_opaquely", seen.spy("operator", module.solve_opaquely))
    torch.func.vmap(program)(torch.from_numpy(COSTS))
    count = seen.count("operator")
    return f"{count} operator, {'as eager' if seen.solvers == eager else seen.solvers}"


def jax_eager(solver: Any, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> str:
    jax = pytest.importorskip("jax")
    native = __import__("hungarian_jax._native", fromlist=["_native"])
    # `call` writes the native solver into a program: it runs once for each that is compiled.
    monkeypatch.setattr(native, "call", seen.spy("native", native.call))
    native.compiled.clear_cache()
    native.compiled_core.clear_cache()
    for k in range(3):
        hc.assign(jax.numpy.asarray(COSTS + k), solver=solver)
    once = ", compiled once" if len(seen) == 1 and solver != "native" else ""
    return seen.solvers + once


def jax_accelerator(solver: Any, seen: Seen, _: Any) -> str:
    jax = pytest.importorskip("jax")
    native = __import__("hungarian_jax._native", fromlist=["_native"])
    native.compiled_core.clear_cache()
    backend = remote(type(hc.get_backend("jax")), seen)
    calls = 2 if solver in ("auto", "core") else 1
    for k in range(calls):
        hc.assign(jax.numpy.asarray(COSTS + k), solver=solver, backend=backend)
    return "core, compiled once" if seen == ["core"] and calls == 2 else copies(seen)


def jax_programs(solver: Any, *_: Any) -> str:
    jax = pytest.importorskip("jax")

    def total(cost: Any) -> Any:
        return hc.assignment_cost(cost, solver=solver).sum()

    def holds(text: str) -> str:
        text = re.sub(r"(?m)loc\(.*|metadata=\{.*?\}", "", text)
        marks = {"native": "hungarian_core_native", "callback": "python_cpu", "core": "while"}
        return ", ".join(name for name, mark in marks.items() if mark in text)

    def elsewhere(traced: Any) -> str:
        try:
            return holds(traced.lower(lowering_platforms=("cuda",)).as_text())
        except ValueError as error:
            # Only a callback asks for the device itself, which is not there.
            if "different from the lowering platform cuda" not in str(error):
                raise
            return "callback"

    found = set()
    for program in (jax.jit(total), jax.jit(jax.vmap(total)), jax.jit(jax.grad(total))):
        traced = program.trace(COSTS)
        here, there = holds(traced.lower().compile().as_text()), elsewhere(traced)
        found.add(here if here == there == "core" else f"CPU: {here}; else: {there}")
    assert len(found) == 1
    return found.pop()


def tensorflow_eager(solver: Any, seen: Seen, _: Any) -> str:
    tf = pytest.importorskip("tensorflow")
    hc.assign(tf.constant(COSTS), solver=solver)
    return seen.solvers


def tensorflow_accelerator(solver: Any, seen: Seen, _: Any) -> str:
    tf = pytest.importorskip("tensorflow")
    backend = remote(type(hc.get_backend("tensorflow")), seen)
    hc.assign(tf.constant(COSTS), solver=solver, backend=backend)
    return copies(seen)


def tensorflow_function(solver: Any, seen: Seen, _: Any) -> str:
    tf = pytest.importorskip("tensorflow")
    program = tf.function(lambda cost: hc.assign(cost, solver=solver).col4row)
    traced = program.get_concrete_function(tf.constant(COSTS))
    of_graph = seen.solvers
    seen.clear()  # a graph for other processes holds the core too: what counts is what runs
    program(tf.constant(COSTS))
    definition = traced.graph.as_graph_def()
    nodes = [*definition.node, *(node for f in definition.library.function for node in f.node_def)]
    called = any(node.op.startswith("PyFunc") for node in nodes)
    ran = seen.solvers
    assert bool(ran) == called
    return f"{ran}, numpy_function" if called else of_graph


def tensorflow_xla(solver: Any, seen: Seen, _: Any) -> str:
    tf = pytest.importorskip("tensorflow")
    program = tf.function(lambda cost: hc.assign(cost, solver=solver).col4row, jit_compile=True)
    if solver in ("native", "scipy"):
        with pytest.raises(ValueError, match="a program compiled by XLA cannot call NumPy"):
            program(tf.constant(COSTS))
        return "refused"
    program(tf.constant(COSTS))
    return seen.solvers


ROWS: dict[str, Callable[..., str]] = {
    "NumPy": numpy_eager,
    "PyTorch, eager, CPU": torch_eager,
    "PyTorch, eager, accelerator": torch_accelerator,
    "`torch.compile`, `torch.func`": torch_programs,
    "JAX, eager, CPU": jax_eager,
    "JAX, eager, accelerator": jax_accelerator,
    "`jax.jit`, `jax.vmap`, `jax.grad` under `jit`": jax_programs,
    "TensorFlow, eager, CPU": tensorflow_eager,
    "TensorFlow, eager, accelerator": tensorflow_accelerator,
    "`tf.function`": tensorflow_function,
    "`tf.function(jit_compile=True)`": tensorflow_xla,
}


def test_every_row_is_run() -> None:
    assert list(TABLE) == [*ROWS, "Keras"]
    assert all(tuple(cells) == SOLVERS for cells in TABLE.values())
    assert set(TABLE["Keras"].values()) == {"as its backend"}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("row", ROWS)
def test_cell(row: str, solver: str, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ROWS[row](solver, seen, monkeypatch) == expected(row, solver)
