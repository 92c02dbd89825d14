"""Gradients through a matching in what only one framework has, and as layers of a loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="for PyTorch")


@pytest.fixture
def jax() -> Any:
    return pytest.importorskip("jax", reason="for JAX")


def _saved(torch: Any, function: Any) -> int:
    """Return the bytes that a forward pass keeps for the backward pass, each memory once."""
    kept = {}

    def pack(x: Any) -> Any:
        storage = x.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        function()
    return sum(kept.values())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_total_keeps_an_index_per_row(torch: Any, dtype: str) -> None:
    """And its cost and two flags, 14 bytes, where the costs of a row are 300 times that."""
    b, n, m = 3, 50, 1000
    x = torch.randn(b, n, m, requires_grad=True)
    cost = (x * x).to(getattr(torch, dtype))
    value = []
    kept = _saved(torch, lambda: value.append(hc.assignment_cost(cost)))
    assert 8 * b * n <= kept <= 16 * b * n
    value[0].sum().backward()
    matching = hc.assign(cost).mask()
    torch.testing.assert_close(x.grad, 2 * x.detach() * matching)


def test_a_perturbed_matching_keeps_indices(torch: Any) -> None:
    """Neither the noise nor the matchings of the samples are kept, only the costs and indices."""
    n, m, samples = 30, 40, 64
    cost = torch.randn(n, m, requires_grad=True)
    kept = _saved(torch, lambda: hc.assignment_matrix(cost, "perturbed", samples=samples))
    assert kept <= 8 * n * samples + 12 * n * m  # one matrix of noise per sample would be 64


# What PyTorch (2.13) itself does when it first differentiates in forward mode.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_derivatives_of_other_kinds(torch: Any) -> None:
    """Forward mode gives the slope, and the second derivative is 0."""
    cost, tangent = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    expected = (tangent * hc.assign(cost).mask()).sum((-2, -1))
    _, found = torch.func.jvp(hc.assignment_cost, (cost,), (tangent,))
    torch.testing.assert_close(found, expected)
    with torch.autograd.forward_ad.dual_level():
        dual = hc.assignment_cost(torch.autograd.forward_ad.make_dual(cost, tangent))
        found = torch.autograd.forward_ad.unpack_dual(dual).tangent
    torch.testing.assert_close(found, expected)
    second = torch.func.hessian(hc.assignment_cost)(cost[0])
    assert second.abs().max() == 0
    assert torch.autograd.gradcheck(hc.assignment_cost, cost.requires_grad_())


def test_derivatives_of_other_kinds_in_jax(jax: Any) -> None:
    cost, tangent = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    expected = (tangent * hc.assign(cost).mask()).sum((-2, -1))
    _, found = jax.jit(lambda x, t: jax.jvp(hc.assignment_cost, (x,), (t,)))(cost, tangent)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_as_a_layer(torch: Any) -> None:
    """Points move onto targets whose order is unknown, by the total of a matching alone."""
    rng = np.random.default_rng(0)
    target = torch.tensor(rng.uniform(size=(6, 2)))
    points = torch.tensor(rng.uniform(size=(6, 2)), requires_grad=True)
    optimiser = torch.optim.SGD([points], lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        distances = ((points[:, None] - target[None]) ** 2).sum(-1)
        hc.assignment_cost(distances).backward()
        optimiser.step()
    matched = hc.assign(torch.cdist(points.detach(), target))
    assert matched.cost < 1e-4


@pytest.mark.parametrize("noise", ["gaussian", "gumbel"])
def test_costs_are_learnt_from_matchings(jax: Any, noise: Any) -> None:
    """One compiled step takes its number as the seed, and anneals the temperature."""
    features = jax.random.normal(jax.random.key(1), (20, 5, 5, 4))
    true = jax.numpy.asarray([1.0, -2.0, 0.5, 1.5])
    target = hc.assign(features @ true).mask()

    @jax.jit
    def step(weights: Any, number: Any) -> Any:
        def loss(weights: Any) -> Any:
            return hc.fenchel_young_loss(
                features @ weights, target, temperature=2.0 * 0.97**number, noise=noise,
                samples=8, seed=number,
            ).mean()  # fmt: skip

        return weights - 0.1 * jax.grad(loss)(weights)

    weights = jax.numpy.zeros(4)
    for number in range(60):
        weights = step(weights, number)
    found = hc.assign(features @ weights).mask()
    right = float((found & target).sum() / target.sum())
    assert right > 0.9  # by chance it is 0.2
    assert step._cache_size() == 1


@pytest.mark.parametrize("method", ["blackbox", "perturbed"])
def test_costs_are_learnt_through_a_matching(torch: Any, method: Any) -> None:
    """By the distance of the association from the right one, a function of the matrix."""
    features = torch.randn(20, 5, 5, 4, generator=torch.Generator().manual_seed(0))
    target = hc.assign(features @ torch.tensor([1.0, -2.0, 0.5, 1.5])).mask().float()
    weights = torch.zeros(4, requires_grad=True)
    optimiser = torch.optim.Adam([weights], lr=0.1)
    for number in range(60):
        options = {"temperature": 1.0, "seed": number} if method == "perturbed" else {}
        optimiser.zero_grad()
        found = hc.assignment_matrix(features @ weights, method, **options)
        ((found - target) ** 2).sum((-2, -1)).mean().backward()
        optimiser.step()
    found = hc.assign((features @ weights).detach()).mask()
    assert (found * target).sum() / target.sum() > 0.9  # by chance it is 0.2
