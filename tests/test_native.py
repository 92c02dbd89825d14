"""What only the native solver has: a library to load, threads, addresses, bytes of any kind.

That it solves is shown by the conformance suite and by tests/test_properties.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc
import hungarian_native as native  # not importorskip: in this project it has to be there
from hungarian_core.testing import reference

COSTS = np.random.default_rng(0).uniform(size=(64, 20, 30)).astype(np.float32)


@pytest.fixture(autouse=True)
def _default_threads() -> Any:
    yield
    native.set_num_threads(0)


def _bytes(found: Any) -> list[bytes]:
    return [b"" if x is None else x.tobytes() for x in found]


def _run(code: str, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    imports = "import json, warnings, numpy as np, hungarian_core as hc"
    return subprocess.run(
        [sys.executable, "-c", f"{before}\n{imports}\n{code}"],
        capture_output=True, text=True, timeout=120, env={**os.environ, **environment},
        check=False,
    )  # fmt: skip


# The library


def test_auto_takes_it() -> None:
    assert hc.host_solver("auto") is hc.host_solver("native") is native.solve


def test_description() -> None:
    assert f"threads: {native.get_num_threads()}" in native.describe()
    assert native.symbol("hungarian_abi") is not None
    assert native.symbol("no_such_function") is None


MISSING = {"HUNGARIAN_NATIVE_LIBRARY": "/nonexistent/lib.so"}


def test_missing_library_is_one_warning() -> None:
    code = """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = [hc.assign(np.array([[4.0, 1, 3], [2, 0, 5]])) for _ in range(3)]
    total = float(hc.loss(np.zeros((1, 2, 3)), np.ones((1, 2, 3))))
print(json.dumps([[str(w.message) for w in caught], caught[0].category.__name__,
                  [f.col4row.tolist() for f in found], total]))
"""
    done = _run(code, **MISSING)
    assert done.returncode == 0, done.stderr
    messages, category, found, total = json.loads(done.stdout)
    assert category == "RuntimeWarning"
    (message,) = messages
    assert "SciPy solves instead" in message
    assert "Tried /nonexistent/lib.so (no such file)" in message
    assert found == [[1, 0]] * 3
    assert total == pytest.approx(3**0.5)


def test_missing_library_and_scipy() -> None:
    code = """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = hc.assign(np.array([[4.0, 1, 3], [2, 0, 5]]))
print(json.dumps([[str(w.message) for w in caught], found.col4row.tolist()]))
"""
    done = _run(code, before="import sys; sys.modules['scipy'] = None", **MISSING)
    assert done.returncode == 0, done.stderr
    (message,), found = json.loads(done.stdout)
    assert "the core's algorithm solves instead" in message
    assert found == [1, 0]


def test_missing_library_asked_for_by_name() -> None:
    done = _run("hc.assign(np.zeros((2, 2)), solver='native')", **MISSING)
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert message.startswith("ImportError: solver='native' does not load. Tried /nonexistent")
    assert 'choose solver="scipy" or solver="core"' in message


@pytest.mark.parametrize("kind", ["garbage", "stranger"])
def test_another_file_is_no_library(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "lib.so"
    if kind == "garbage":
        path.write_bytes(b"no library")
    else:
        import _ctypes

        path = Path(_ctypes.__file__)
    done = _run("hc.host_solver('native')", HUNGARIAN_NATIVE_LIBRARY=str(path))
    assert done.returncode == 1
    assert f"Tried {path} (" in done.stderr


# Threads


@pytest.mark.parametrize("threads", [-1, 2**31, 1.0, "2", None, True], ids=repr)
def test_what_is_no_number_of_threads(threads: Any) -> None:
    with pytest.raises(ValueError, match="expected an integer of at least 0"):
        native.set_num_threads(threads)


def test_number_of_threads() -> None:
    default = native.get_num_threads()
    assert default >= 1
    for three in (3, np.int64(3)):
        native.set_num_threads(three)
        assert native.get_num_threads() == 3
        native.set_num_threads(0)
        assert native.get_num_threads() == default
    with pytest.raises(ValueError, match="the number of threads is -2"):
        native.solve(COSTS, num_threads=-2)


@pytest.mark.parametrize(("text", "expected"), [("3", 3), ("1", 1)])
def test_number_of_threads_by_environment(text: str, expected: int) -> None:
    code = "import hungarian_native; print(hungarian_native.get_num_threads())"
    done = _run(code, HUNGARIAN_NUM_THREADS=text)
    assert done.stdout.split() == [str(expected)], done.stderr


@pytest.mark.parametrize(("text", "expected"), [("1", 1), ("2,4", 2)])
def test_number_of_threads_by_openmp(text: str, expected: int) -> None:
    code = "import hungarian_native; print(hungarian_native.get_num_threads())"
    done = _run(code, OMP_NUM_THREADS=text, HUNGARIAN_NUM_THREADS="")
    assert done.stdout.split() == [str(expected)], done.stderr
    done = _run(code, OMP_NUM_THREADS=text, HUNGARIAN_NUM_THREADS="3")
    assert done.stdout.split() == ["3"], done.stderr


@pytest.mark.parametrize("text", ["", "0", "many", "-4", "1e3"])
def test_what_the_environment_says_may_be_nonsense(text: str) -> None:
    code = "import hungarian_native; print(hungarian_native.get_num_threads())"
    done = _run(code, HUNGARIAN_NUM_THREADS=text)
    assert int(done.stdout) >= 1, done.stderr


@pytest.mark.parametrize("kind", ["generic", "ties"])
def test_threads_change_no_bit(kind: str) -> None:
    costs = COSTS if kind == "generic" else np.round(COSTS * 4)
    alone = _bytes(native.solve(costs, num_threads=1))
    for threads in (2, 7):
        for _ in range(5):
            assert _bytes(native.solve(costs, num_threads=threads)) == alone


def test_several_python_threads_at_once() -> None:
    native.set_num_threads(4)
    expected = [_bytes(native.solve(COSTS[k:])) for k in range(8)]
    start = threading.Barrier(8)

    def work(k: int) -> bool:
        start.wait()
        return all(_bytes(native.solve(COSTS[k:])) == expected[k] for _ in range(30))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


# Forked after threads were at work. A process of its own, since JAX and others warn of any fork.
FORKS = """
import multiprocessing, sys
import hungarian_native as native

COSTS = np.random.default_rng(0).uniform(size=(64, 20, 30)).astype(np.float32)

def solved(threads):
    return [x.tolist() for x in native.solve(COSTS, num_threads=threads)[:5]]

def in_child(queue, expected):
    queue.put(([solved(k) == expected for k in (0, 1, 2, 7)], native.get_num_threads()))

expected = solved(4)
context = multiprocessing.get_context("fork")
queue = context.Queue()
children = [context.Process(target=in_child, args=(queue, expected)) for _ in range(3)]
for child in children:
    child.start()
told = [queue.get(timeout=60) for _ in children]
for child in children:
    child.join(timeout=60)
codes = [child.exitcode for child in children]
print(json.dumps([told, codes, solved(4) == expected]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_in_a_forked_process() -> None:
    environment = {"HUNGARIAN_NUM_THREADS": ""}  # the default: one thread in a child
    done = _run(FORKS, **environment)
    assert done.returncode == 0, done.stderr
    told, codes, parent_goes_on = json.loads(done.stdout)
    assert told == [[[True] * 4, 1]] * 3
    assert codes == [0] * 3
    assert parent_goes_on


LOADER = """
import torch

class Matched(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, k):
        costs = np.random.default_rng(k).uniform(size=(16, 20, 30)).astype(np.float32)
        return hc.assign(torch.from_numpy(costs)).col4row

torch.set_num_threads(1)
alone = torch.stack([Matched()[k] for k in range(12)])
loader = torch.utils.data.DataLoader(Matched(), batch_size=3, num_workers=2)
print(json.dumps(bool((torch.cat(list(loader)) == alone).all())))
"""


def test_in_the_workers_of_a_data_loader() -> None:
    pytest.importorskip("torch", reason="needs PyTorch")
    done = _run(LOADER)
    assert done.stdout.split() == ["true"], done.stderr


# Memory


def _views() -> dict[str, np.ndarray]:
    base = np.random.default_rng(1).uniform(size=(6, 8, 10))
    odd = np.zeros(8 * 6 * 8 * 10 + 3, np.uint8)
    off_grid = odd[3:].view(np.float64).reshape(6, 8, 10)
    off_grid[:] = base
    record = np.zeros((6, 8, 10), [("flag", "u1"), ("cost", "f8")])
    record["cost"] = base
    read_only = base.copy()
    read_only.flags.writeable = False
    return {
        "row_major": base,
        "transposed": base.transpose(0, 2, 1),
        "column_major": np.asfortranarray(base),
        "backwards": base[::-1, ::-1, ::-1],
        "sliced": base[::2, 1::3, 2::2],
        "one_for_all": np.broadcast_to(base[0], (6, 8, 10)),
        "one_row_for_all": np.broadcast_to(base[:, :1], (6, 8, 10)),
        "off_grid": off_grid,
        "packed": record["cost"],
        "read_only": read_only,
        "foreign_order": base.astype(">f8"),
        "four_axes": base.reshape(2, 3, 8, 10)[:, ::-1],
    }


@pytest.mark.parametrize("maximize", [False, True], ids=["min", "max"])
@pytest.mark.parametrize("name", _views())
def test_where_it_lies(name: str, maximize: bool) -> None:
    cost = _views()[name]
    before = cost.copy()
    found = hc.assign(cost, solver="native", maximize=maximize)
    expected = hc.assign(np.ascontiguousarray(cost, float), solver="native", maximize=maximize)
    assert _bytes(found) == _bytes(expected)
    np.testing.assert_array_equal(cost, before)
    flat = np.asarray(cost, float).reshape(-1, *cost.shape[-2:])
    best = [c[linear_sum_assignment(c, maximize)].sum() for c in flat]
    np.testing.assert_allclose(found.cost.ravel(), best, rtol=1e-12)


@pytest.mark.parametrize("step", [1, 2, -1])
def test_masks_and_prices_where_they_lie(step: int) -> None:
    rng = np.random.default_rng(2)
    rows, cols = rng.uniform(size=(64, 40)) < 0.7, rng.uniform(size=(64, 60)) < 0.7
    price = rng.uniform(size=(64, 40)).astype(np.float32)
    chosen = {
        "row_mask": rows[:, ::step][:, :20],
        "col_mask": cols[:, ::step][:, :30],
        "unmatched_cost": price[:, ::step][:, :20],
    }
    found = hc.assign(COSTS, **chosen, solver="native")
    copied = {name: x.copy() for name, x in chosen.items()}
    assert _bytes(found) == _bytes(hc.assign(COSTS, **copied, solver="native"))
    core = hc.assign(COSTS, **copied, solver="core")
    np.testing.assert_allclose(found.cost, core.cost, rtol=1e-5)


def test_results_are_writable_and_apart() -> None:
    found = native.solve(COSTS[:3])
    before = _bytes(found)
    for k in range(5):
        assert found[k].flags.writeable
        found[k][...] = 7
        assert [b for j, b in enumerate(_bytes(found)) if j > k] == before[k + 1 :]


def test_addresses() -> None:
    found = native.solve_at(COSTS.ctypes.data, COSTS.shape, (600, 30, 1), COSTS.dtype)
    assert _bytes(found) == _bytes(native.solve(COSTS))


WRONG: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("one_axis", (np.zeros(3),), r"cost has shape \(3,\); expected \(n, m\) or \(b, n, m\)"),
    ("dtype", (np.zeros((2, 2), int),), "cost has dtype int64; expected float32 or float64"),
    ("row_mask", (np.zeros((2, 3)), np.ones(3, bool)), "row_mask is bool of shape"),
    ("mask_dtype", (np.zeros((2, 3)), np.ones(2)), "row_mask is float64 of shape"),
    ("col_mask", (np.zeros((2, 3)), None, np.ones(2, bool)), "col_mask is bool of shape"),
    ("price", (np.zeros((2, 3)), None, None, np.zeros(3)), "unmatched_cost is float64 of shape"),
    ("nan", (np.zeros((2, 3)), None, None, None, False, "ignore"), "nan is 'ignore'; expected"),
    ("many_axes", (np.zeros((2, 2, 2, 3)), np.ones((2, 2), bool)), "a bool array has shape"),
)


@pytest.mark.parametrize(("name", "fields", "message"), WRONG, ids=[w[0] for w in WRONG])
def test_what_does_not_fit(name: str, fields: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        native.solve(*fields)


# Bytes of any kind


@st.composite
def raw(draw: st.DrawFn) -> hc.Problem:
    """Return a problem made of arbitrary bytes."""
    dtype = draw(st.sampled_from((np.float32, np.float64)))
    b, n, m = draw(st.integers(0, 3)), draw(st.integers(0, 6)), draw(st.integers(0, 6))

    def array(kind: Any, *shape: int) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        return np.frombuffer(draw(st.binary(min_size=size, max_size=size)), kind).reshape(shape)

    return hc.Problem(
        array(dtype, b, n, m),
        array(np.uint8, b, n) % 4 > 0 if draw(st.booleans()) else None,
        array(np.uint8, b, m) % 4 > 0 if draw(st.booleans()) else None,
        array(dtype, b, n) if draw(st.booleans()) else None,
        draw(st.booleans()),
        draw(st.sampled_from(("raise", "worst", "forbid"))),
    )


@settings(max_examples=500, deadline=None)
@given(problem=raw())
def test_raw_bytes(problem: hc.Problem) -> None:
    """Whatever comes, there is an answer, the core's where values are moderate."""
    found = native.solve(*problem)
    status = np.zeros(len(problem.cost), np.uint8) if found.status is None else found.status
    lost = status != 0
    assert (found.col4row[lost] == -1).all()
    assert (found.row4col[lost] == -1).all()
    assert np.isnan(found.cost[lost]).all()
    values = [x.ravel() for x in (problem.cost, problem.unmatched_cost) if x is not None]
    finite = np.concatenate([x[np.isfinite(x)] for x in values])
    scale = np.abs(finite).max(initial=0)
    if scale > 1e30:  # sums of these overflow in one solver and not in the other
        return
    core = hc.solve(problem, solver="core", backend=hc.Backend())
    np.testing.assert_array_equal(status, core.status)
    tolerance = 64 * np.finfo(found.cost.dtype).eps * scale
    np.testing.assert_allclose(found.cost, core.cost, rtol=0, atol=tolerance)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from((np.float32, np.float64)))
def test_near_ties_end(seed: int, dtype: Any) -> None:
    """Where codes of Jonker and Volgenant can bid for ever: differences of single ulps."""
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 40, 2)
    cost = (1 + rng.integers(0, 3, (n, m)) * np.finfo(dtype).eps).astype(dtype)
    found = hc.assign(cost, solver="native")
    best = reference.solve(cost.astype(float), np.ones(n, bool), np.ones(m, bool), None)
    pairs = np.flatnonzero(found.col4row >= 0)
    exact = cost.astype(float)[pairs, found.col4row[pairs]].sum()
    assert exact == pytest.approx(best.total, rel=4e-15 if dtype == np.float64 else 1e-12)
