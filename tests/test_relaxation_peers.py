"""Regularised matchings beside the published ones of OTT-JAX, and what PyTorch keeps of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hungarian_core.relaxations import assignment_matrix

jax: Any = pytest.importorskip("jax", reason="OTT is for JAX")
geometry: Any = pytest.importorskip("ott.geometry.geometry", reason="it is the peer")
linear_problem: Any = pytest.importorskip("ott.problems.linear.linear_problem", reason="as above")
ott_sinkhorn: Any = pytest.importorskip("ott.solvers.linear.sinkhorn", reason="as above")

SHAPES = [(6, 6), (4, 7), (7, 4)]


@pytest.fixture(autouse=True)
def _x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def _published(cost: Any, temperature: float) -> Any:
    """Return OTT's coupling; what is left over on one side goes to a row or column of its own."""
    n, m = cost.shape
    a, b = np.ones(n), np.ones(m)
    if n < m:
        cost, a = jax.numpy.concatenate([cost, np.zeros((1, m))]), np.append(a, m - n)
    elif m < n:
        cost, b = jax.numpy.concatenate([cost, np.zeros((n, 1))], axis=1), np.append(b, n - m)
    problem = linear_problem.LinearProblem(geometry.Geometry(cost, epsilon=temperature), a, b)
    solver = ott_sinkhorn.Sinkhorn(threshold=1e-12, max_iterations=20000)
    return solver(problem).matrix[:n, :m]


# OTT calls a part of Lineax that is on its way out.
@pytest.mark.filterwarnings("ignore:.*NormalCG:DeprecationWarning")
@pytest.mark.parametrize("temperature", [1.0, 0.05])
@pytest.mark.parametrize("shape", SHAPES)
def test_equal_to_ott(shape: tuple[int, int], temperature: float) -> None:
    """The matrix, and its gradient, which OTT takes from the optimality conditions as well."""
    rng = np.random.default_rng(shape[0])
    cost = jax.numpy.asarray(rng.uniform(size=shape))
    upstream = jax.numpy.asarray(rng.normal(size=shape))

    def ours(cost: Any) -> Any:
        return assignment_matrix(
            cost, "sinkhorn_implicit", temperature=temperature, tolerance=1e-12
        )

    results = []
    for function in (ours, lambda cost: _published(cost, temperature)):
        value, pull = jax.vjp(jax.jit(function), cost)
        results.append((np.asarray(value), np.asarray(pull(upstream)[0])))
    (value, grad), (their_value, their_grad) = results
    np.testing.assert_allclose(value, their_value, rtol=0, atol=1e-9)
    np.testing.assert_allclose(grad, their_grad, rtol=0, atol=1e-6 * np.abs(their_grad).max())


def _kept(method: Any, iterations: int) -> int:
    """Return how many numbers PyTorch keeps for a gradient."""
    torch: Any = pytest.importorskip("torch", reason="it says what it keeps")
    cost = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    kept: list[int] = []

    def pack(x: Any) -> Any:
        kept.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        assignment_matrix(cost, method, iterations=iterations, tolerance=1e-30)
    return sum(kept)


@pytest.mark.parametrize("method", ["sinkhorn_implicit", "dykstra"])
def test_implicit_gradients_keep_no_iterations(method: str) -> None:
    few, many = _kept(method, 2), _kept(method, 20)
    assert few == many <= 16 * 2 * 8 * 8


def test_unrolled_gradients_keep_every_iteration() -> None:
    few, many = _kept("sinkhorn", 2), _kept("sinkhorn", 20)
    assert many - few >= 18 * 2 * 2 * 8 * 8
