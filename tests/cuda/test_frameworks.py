"""PyTorch's operator and JAX's handler for CUDA devices, as far as no device is needed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

if "HUNGARIAN_LIBCUDA" not in os.environ:
    pytest.skip("nox -s cuda builds the driver that these tests want", allow_module_level=True)

COSTS = np.random.default_rng(0).random((2, 3, 5)).astype(np.float32)
torch: Any = pytest.importorskip("torch", reason="for PyTorch")
jax: Any = pytest.importorskip("jax", reason="for JAX")
run_path(str(Path(__file__).with_name("drivers.py")))  # registers the operator for host memory
from hungarian_torch import _device  # noqa: E402  # after the check for PyTorch


def fields(device: str | None = None) -> tuple[Any, ...]:
    cost = torch.asarray(COSTS) if device is None else torch.empty((2, 3, 5), device=device)
    mask = torch.ones((2, 3), dtype=torch.bool, device=device)
    price = torch.full((2, 3), 0.3, device=device)
    return cost, mask, None, price, False, "raise"


def test_the_operator_keeps_the_rules_of_pytorch() -> None:
    torch.library.opcheck(_device.solve_on_device, fields())
    torch.library.opcheck(
        _device.solve_on_device, (torch.asarray(COSTS), *[None] * 3, True, "worst")
    )


def test_the_operator_may_be_captured() -> None:
    """It has no tag that keeps it out of a graph of CUDA, as those have that copy to the host."""
    unsafe = torch.Tag.cudagraph_unsafe
    assert unsafe not in torch.ops.hungarian_core.solve_on_device.default.tags
    assert unsafe in torch.ops.hungarian_core.solve.default.tags


def test_shapes_of_tensors_on_a_device_that_is_not_there() -> None:
    with torch._subclasses.FakeTensorMode():
        found = _device.solve_on_device(*fields("cuda"))
    assert {str(x.device) for x in found} == {"cuda:0"}
    assert [tuple(x.shape) for x in found] == [(2, 3), (2, 5), (2,), (2, 3), (2, 5), (2,)]
    assert [x.dtype for x in found] == [*[torch.int64] * 2, *[torch.float32] * 3, torch.uint8]


def test_batch_axes_of_any_number_and_none() -> None:
    cost = torch.asarray(COSTS)
    assert _device.launch(hc.Problem(cost[0])).cost.shape == ()
    many = _device.launch(hc.Problem(cost[None, :, None].expand(4, 2, 3, 3, 5)))
    alone = _device.launch(hc.Problem(cost))
    assert (many.col4row == alone.col4row[None, :, None]).all()
    assert _device.launch(hc.Problem(cost[:0])).col4row.shape == (0, 3)
    assert _device.launch(hc.Problem(cost[:, :0])).row4col.tolist() == [[-1] * 5] * 2


def test_programs_of_jax_for_cuda_hold_the_handler() -> None:
    def solve(cost: Any) -> Any:
        return hc.assign(cost, solver="cuda", unmatched_cost=0.3, maximize=True)

    for function, batch in ((solve, "2x"), (jax.vmap(solve), "2x")):
        traced = jax.jit(function).trace(COSTS)
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
        (call,) = re.findall(r"custom_call @hungarian_core_cuda\(.*", text)
        assert "maximize = 1" in call
        assert f"tensor<{batch}3x5xf32>" in call
    with pytest.raises(ValueError, match="came in a program for cpu; expected one for CUDA"):
        jax.jit(solve)(COSTS)
    with pytest.raises(ValueError, match="came in host memory"):
        hc.assign(jax.numpy.asarray(COSTS), solver="cuda")


def test_exported_programs_of_jax() -> None:
    """That of "auto" is for CPUs and devices and wants no handler; that of "cuda" names it."""
    step = jax.jit(lambda cost: hc.assign(cost).col4row)
    exported = jax.export.export(step, platforms=("cpu", "cuda"))(COSTS)
    assert "custom_call @hungarian" not in exported.mlir_module()
    found = jax.export.deserialize(exported.serialize()).call(COSTS)
    np.testing.assert_array_equal(found, hc.assign(COSTS).col4row)
    step = jax.jit(lambda cost: hc.assign(cost, solver="cuda").col4row)
    known = jax.export.DisabledSafetyCheck.custom_call("hungarian_core_cuda")
    exported = jax.export.export(step, platforms=("cuda",), disabled_checks=(known,))(COSTS)
    assert "custom_call @hungarian_core_cuda" in exported.mlir_module()


def test_shards_of_jax() -> None:
    """Each device solves its own problems: one here, and two in a program for CUDA."""
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:1]), ("i",))
    spec = jax.sharding.PartitionSpec("i")

    def shards(solver: str, mesh: Any) -> Any:
        one = jax.shard_map(
            lambda cost: hc.assign(cost, solver=solver).col4row,
            mesh=mesh, in_specs=spec, out_specs=spec,
        )  # fmt: skip
        return jax.jit(one)

    np.testing.assert_array_equal(shards("auto", mesh)(COSTS), hc.assign(COSTS).col4row)
    two = jax.sharding.AbstractMesh((2,), ("i",))
    text = shards("cuda", two).trace(COSTS).lower(lowering_platforms=("cuda",)).as_text()
    (call,) = re.findall(r"custom_call @hungarian_core_cuda\(.*", text)
    assert "tensor<1x3x5xf32>" in call
