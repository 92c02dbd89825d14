"""The kernel on a device beside the native solver and SciPy, through PyTorch's door."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc

place = run_path(str(Path(__file__).with_name("place.py")))
torch, DEVICE, EMULATED, on_a_device = (
    place[name] for name in ("torch", "DEVICE", "EMULATED", "on_a_device")
)
random_case = run_path(str(Path(__file__).parents[1] / "cuda/cases.py"))["random_case"]
native = hc.host_solver("native")


def on_device(case: Any) -> hc.Solution:
    """Solve by the operator of PyTorch, and bring the results back."""
    from hungarian_torch import _device

    fields = [x if x is None else torch.from_numpy(x.copy()).to(DEVICE) for x in case[:4]]
    found = _device.launch(hc.Problem(*fields, *case[4:]))
    return hc.Solution(*(x.cpu().numpy() for x in found))


def total(cost: np.ndarray, col4row: np.ndarray) -> float:
    rows = np.flatnonzero(col4row >= 0)
    return float(cost[rows, col4row[rows]].sum(dtype=np.float64))


@pytest.mark.parametrize("seed", range(2 if EMULATED else 40))
def test_any_problem_as_the_native_solver(seed: int) -> None:
    """Status, cost and numbers of pairs; that duals prove a matching is held on a CPU."""
    rng = np.random.default_rng(1000 + seed)
    for _ in range(10):
        case, kind = random_case(rng, 12 if EMULATED else 60)
        found, expected = on_device(case), native(*case)
        status = np.zeros(2, np.uint8) if expected.status is None else expected.status
        np.testing.assert_array_equal(found.status, status)
        single = case.cost.dtype == np.float32
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(
                found.cost, expected.cost, rtol=1e-5 if single else 1e-12,
                atol=0 if kind in ("largest", "least") else 1e-5 if single else 1e-11,
            )  # fmt: skip
        np.testing.assert_array_equal(
            (found.col4row >= 0).sum(1), (found.row4col >= 0).sum(1), err_msg=kind
        )


SHAPES = (
    [(2, 5, 7), (2, 7, 5)]
    if EMULATED
    else [
        (96, 100, 20), (96, 300, 20), (12, 900, 100), (208, 300, 300), (64, 256, 256),
        (2, 1024, 16384), (2, 16384, 64), (1, 2048, 2048),
    ]
)  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_large_problems_as_scipy(shape: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    for cost in (rng.random(shape), rng.integers(0, 50, shape)):
        cost = cost.astype(dtype)
        tensor = torch.from_numpy(cost).to(DEVICE)
        match = hc.assign(tensor, solver="cuda")
        col4row = match.col4row.cpu().numpy()
        for k in {0, len(cost) - 1}:
            best = cost[k].astype(np.float64)[linear_sum_assignment(cost[k])].sum()
            assert total(cost[k], col4row[k]) == pytest.approx(best, rel=1e-9)
        again = hc.assign(tensor, solver="cuda").col4row.cpu().numpy()
        np.testing.assert_array_equal(again, col4row)  # whatever its threads did first


def test_transforms_and_programs() -> None:
    cost = torch.rand((4, 3, 6, 9), device=DEVICE)
    eager = hc.assign(cost, solver="cuda").col4row

    def solve(x: Any) -> Any:
        return hc.assign(x, solver="cuda").col4row

    assert (torch.func.vmap(solve)(cost) == eager).all()
    assert (torch.compile(solve, fullgraph=True, backend="aot_eager")(cost) == eager).all()


@on_a_device
def test_offsets_beyond_32_bits() -> None:
    far = 2**31 + 7
    try:
        memory = torch.zeros(far + 4, device=DEVICE)
    except torch.OutOfMemoryError:
        pytest.skip("the device has no 8 GiB")
    cost = memory.as_strided((2, 2, 2), (far, 2, 1))
    cost[:] = torch.tensor([[[1.0, 2], [2, 9]], [[2, 9], [1, 2]]])
    assert hc.assign(cost, solver="cuda").col4row.tolist() == [[1, 0], [0, 1]]


@on_a_device
def test_the_order_of_streams() -> None:
    """A solve waits for what its stream computes before it, and what comes after waits for it."""
    side = torch.cuda.Stream()
    base = torch.rand((32, 40, 60), device=DEVICE)
    expected = hc.assign(base + 1, solver="cuda").col4row
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        busy = torch.rand((4096, 4096), device=DEVICE)
        for _ in range(20):
            busy = busy @ busy / 4096
        cost = base + 1 + 0 * busy[0, 0]
        found = hc.assign(cost, solver="cuda").col4row * 1
    side.synchronize()
    assert (found == expected).all()


@on_a_device
def test_every_device() -> None:
    for ordinal in range(torch.cuda.device_count()):
        cost = torch.rand((3, 5, 8), device=f"cuda:{ordinal}")
        found = hc.assign(cost, solver="cuda")
        assert found.col4row.device == cost.device
        assert (found.col4row.cpu() == hc.assign(cost.cpu()).col4row).all()
