"""The kernel for CUDA devices, run on a CPU, beside the native solver and SciPy.

`nox -s cuda` builds the stand-in for a driver and names it in HUNGARIAN_LIBCUDA.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc

if "HUNGARIAN_LIBCUDA" not in os.environ:
    pytest.skip("nox -s cuda builds the driver that these tests want", allow_module_level=True)

import hungarian_cuda

native = hc.host_solver("native")
cases = run_path(str(Path(__file__).with_name("cases.py")))
Case: Any = cases["Case"]
random_case = cases["random_case"]


def on_device(case: Case) -> hc.Solution:
    """Solve by the kernel. Results are not blank before, so nothing is right by chance."""
    cost, *others = case[:4]
    size, n, m = cost.shape
    dtype = cost.dtype
    forms = ((size, n), (size, m), (size,), (size, n), (size, m))
    found = [np.full(form, -7, np.int64 if k < 2 else dtype) for k, form in enumerate(forms)]
    found.append(np.full(size, 9, np.uint8))
    room = np.zeros(hungarian_cuda.workspace(cost.shape, dtype), np.uint8)
    whole = [None if x is None else np.ascontiguousarray(x) for x in others]
    rows, cols, price = (0 if x is None else x.ctypes.data for x in whole)
    hungarian_cuda.launch(
        cost.ctypes.data, cost.shape, [step // dtype.itemsize for step in cost.strides], dtype,
        rows, cols, price, None, case.maximize, case.nan,
        [x.ctypes.data for x in found], room.ctypes.data, 0,
    )  # fmt: skip
    return hc.Solution(*found)


def heeded(cost: np.ndarray, nan: str) -> np.ndarray:
    """Return valid costs of a minimum as the policy has them."""
    finite = cost[np.isfinite(cost)]
    if nan == "worst":
        cost = np.where(np.isnan(cost), finite.max() if finite.size else 0, cost)
        cost = np.where(cost == -np.inf, finite.min() if finite.size else 0, cost)
    return np.where(np.isnan(cost), np.inf, cost)


def check_certificate(case: Case, found: hc.Solution, k: int, slack: float) -> None:
    """Check that the duals of a problem prove its matching."""
    sense = -1.0 if case.maximize else 1.0
    _, n, m = case.cost.shape
    rows = np.ones(n, bool) if case.row_mask is None else case.row_mask[k]
    cols = np.ones(m, bool) if case.col_mask is None else case.col_mask[k]
    u, v = (sense * np.asarray(x[k], np.float64) for x in (found.u, found.v))
    cost = heeded(sense * case.cost[k].astype(np.float64)[rows][:, cols], case.nan)
    assert (cost - u[rows][:, None] - v[cols] >= -slack).all()
    assert not u[~rows].any()
    assert not v[~cols].any()
    assert not v[found.row4col[k] < 0].any() or case.unmatched_cost is None
    if case.unmatched_cost is not None:
        assert (u[rows] <= sense * case.unmatched_cost[k][rows] + slack).all()
    assert abs(sense * found.cost[k] - u.sum() - v.sum()) <= 100 * slack


@pytest.mark.parametrize("seed", range(12))
def test_any_problem_as_the_native_solver(seed: int) -> None:
    """Status, cost and certificate; among optima that tie, the matchings may differ."""
    rng = np.random.default_rng(seed)
    for _ in range(25):
        case, kind = random_case(rng, 40 if seed == 0 else 12)
        found, expected = on_device(case), native(*case)
        status = np.zeros(2, np.uint8) if expected.status is None else expected.status
        np.testing.assert_array_equal(found.status, status)
        single = case.cost.dtype == np.float32
        size = {"largest": 0.0, "least": 0.0 if case.unmatched_cost is None else 1.0}.get(kind, 1.0)
        slack = size * (1e-4 if single else 1e-10)
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(
                found.cost, expected.cost, rtol=1e-5 if single else 1e-12, atol=slack / 10
            )
        for k in range(2):
            matched = np.flatnonzero(found.col4row[k] >= 0)
            assert (found.row4col[k][found.col4row[k][matched]] == matched).all()
            assert (found.row4col[k] >= 0).sum() == len(matched)
            if status[k]:
                assert not len(matched)
                assert np.isnan([*found.u[k], *found.v[k], found.cost[k]]).all()
            elif kind != "largest":  # whose sums overflow here
                check_certificate(case, found, k, slack if kind != "least" else slack or 1e-310)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 900), (900, 3), (12, 1400)])
def test_long_lines_of_the_whole_block(shape: tuple[int, int], dtype: Any) -> None:
    """Of so many items that the working memory is no longer shared memory."""
    rng = np.random.default_rng(0)
    assert hungarian_cuda.workspace((1, *shape), np.dtype(dtype)) > 0
    for cost in (rng.random(shape), rng.integers(0, 3, shape), rng.normal(size=(shape[0], 1))
                 @ rng.normal(size=(1, shape[1]))):  # fmt: skip
        cost = cost.astype(dtype)
        found = on_device(Case(cost[None]))
        matched = np.flatnonzero(found.col4row[0] >= 0)
        rows, cols = linear_sum_assignment(cost)
        assert found.status[0] == 0
        assert len(matched) == min(shape)
        best = cost.astype(np.float64)[rows, cols].sum()
        ours = cost.astype(np.float64)[matched, found.col4row[0][matched]].sum()
        assert ours == pytest.approx(best, rel=1e-9)


def test_the_most_that_shared_memory_holds() -> None:
    """A driver launches nothing that wants more than 48 KiB of a block, unless it is asked to."""
    cost = np.random.default_rng(1).random((2, 2, 852))
    for long in (cost, cost.swapaxes(1, 2)):
        assert hungarian_cuda.workspace(long.shape, long.dtype) == 0
        found, expected = on_device(Case(long)), native(long)
        np.testing.assert_array_equal(found.col4row, expected.col4row)
    assert hungarian_cuda.workspace((2, 2, 853), cost.dtype) > 0


@pytest.mark.parametrize("size", [40, 64])
def test_hard_squares(size: int) -> None:
    rng = np.random.default_rng(size)
    for cost in (rng.random((size, size)), rng.integers(0, 9, (size, size)) * 1.0,
                 np.outer(np.arange(size) + 1.0, np.arange(size) + 1.0)):  # fmt: skip
        found = on_device(Case(cost[None]))
        rows, cols = linear_sum_assignment(cost)
        assert found.cost[0] == pytest.approx(cost[rows, cols].sum(), rel=1e-12)
        check_certificate(Case(cost[None]), found, 0, 1e-9)


def test_a_problem_does_not_depend_on_its_neighbours_or_layout() -> None:
    rng = np.random.default_rng(0)
    cost = rng.integers(0, 3, (6, 7, 7)).astype(np.float32)  # tied
    whole = on_device(Case(cost))
    turned = on_device(Case(np.ascontiguousarray(cost.swapaxes(1, 2)).swapaxes(1, 2)))
    for k in range(6):
        alone = on_device(Case(cost[k : k + 1]))
        np.testing.assert_array_equal(alone.col4row[0], whole.col4row[k])
    np.testing.assert_array_equal(turned.col4row, whole.col4row)
    constant = on_device(Case(np.full((1, 9, 9), 2.0)))
    np.testing.assert_array_equal(constant.col4row[0], np.arange(9))


def test_bids_beyond_the_largest_number() -> None:
    """Each row would outbid the other by more than there are numbers for."""
    cost = np.array([[[-1.6, 1.6], [-1.7, 1.7]], [[1.6, -1.6], [1.7, -1.7]]]) * 1e308
    found = on_device(Case(cost))
    assert found.col4row.tolist() == [[1, 0], [0, 1]]
    np.testing.assert_allclose(found.cost, -1e307, rtol=1e-12)


def test_offsets_beyond_32_bits() -> None:
    """Of memory that is reserved, and touched at its two ends only."""
    far = 2**31 + 7
    memory = np.frombuffer(mmap.mmap(-1, (far + 4) * 4), np.float32)
    cost = np.lib.stride_tricks.as_strided(memory, (2, 2, 2), (4 * far, 8, 4), writeable=True)
    cost[:] = [[[1, 2], [2, 9]], [[2, 9], [1, 2]]]
    found = on_device(Case(cost))
    assert found.col4row.tolist() == [[1, 0], [0, 1]]
    assert found.cost.tolist() == [4, 4]


def test_what_lies_in_host_memory_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="came in host memory; solver='cuda' takes"):
        hc.assign(np.zeros((2, 2)), solver="cuda")


def test_wrong_arguments_and_the_description() -> None:
    with pytest.raises(ValueError, match="out of range"):
        hungarian_cuda.launch(
            0, (1, -1, 2), None, np.dtype("f4"), 0, 0, 0, None, False, "raise", [0] * 6, 0, 0
        )
    assert hungarian_cuda.describe() == "cuda:0 emulated, compute capability 9.0"
