"""The learned network in every framework: one file of weights, equal outputs and gradients."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hungarian_core import hnet

RNG = np.random.default_rng(0)
DISTANCE = (2 * RNG.random((6, 4, 3))).astype(np.float32)
ROW_MASK = RNG.random((6, 4)) > 0.3
COL_MASK = RNG.random((6, 3)) > 0.3
UPSTREAM = RNG.normal(size=(6, 4, 3)).astype(np.float32)
TRUTH = np.asarray(hnet.data.generate(3, samples=20, seed=1).association[:6], np.float32)
KERAS = Path(__file__).with_name("keras_hnet.py")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    hnet.save(path, hnet.init_params(width=8, layers=2, seed=3), {"max_len": 4})
    return path


@pytest.fixture(scope="module")
def expected(weights: Path) -> np.ndarray:
    params, _ = hnet.load(weights)
    return np.asarray(hnet.associate(DISTANCE, params, row_mask=ROW_MASK, col_mask=COL_MASK))


def gradient(weights: Path) -> np.ndarray:
    """Return the gradient of ``sum(UPSTREAM * output)`` for the distances, by differences."""
    params = {k: x.astype(np.float64) for k, x in hnet.load(weights)[0].items()}
    at, step = DISTANCE.astype(np.float64), 1e-6
    found = np.zeros_like(at)
    for index in np.ndindex(*at.shape[1:]):  # of all samples at once
        moved = [at.copy(), at.copy()]
        moved[0][(slice(None), *index)] -= step
        moved[1][(slice(None), *index)] += step
        low, high = (
            np.sum(UPSTREAM * np.asarray(hnet.associate(x, params)), axis=(1, 2)) for x in moved
        )
        found[(slice(None), *index)] = (high - low) / (2 * step)
    return found


def test_torch(weights: Path, expected: np.ndarray, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="a framework")
    from hungarian_torch import HNet

    network = HNet.load(weights)
    assert network.metadata == {"max_len": "4"}
    assert set(network.state_dict()) == set(hnet.load(weights)[0])
    inputs = [torch.asarray(x) for x in (DISTANCE, ROW_MASK, COL_MASK)]
    found = network(*inputs).detach()
    np.testing.assert_allclose(found, expected, atol=1e-5)

    # Frozen, it lets gradients through to the distances, and has none itself.
    distance = inputs[0].clone().requires_grad_()
    layer = HNet.load(weights).frozen()
    (layer(distance) * torch.asarray(UPSTREAM)).sum().backward()
    np.testing.assert_allclose(distance.grad, gradient(weights), rtol=1e-3, atol=1e-4)
    assert all(p.grad is None for p in layer.parameters())

    # It learns, and comes back from its own file and from a state_dict.
    truth = torch.asarray(TRUTH)
    square = inputs[0][:, :3]
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = network.loss(square, truth)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    network.save(tmp_path / "own.safetensors", {"steps": 5})
    again = HNet.load(tmp_path / "own.safetensors")
    assert again.metadata == {"max_len": "4", "steps": "5"}
    other = HNet(width=8, layers=2, seed=9)
    assert not torch.equal(other(square), network(square))
    other.load_state_dict(network.state_dict())
    for copy in (again, other):
        torch.testing.assert_close(copy(square), network(square), rtol=0, atol=0)


def test_torch_on_a_module_in_float64_and_compiled(weights: Path, expected: np.ndarray) -> None:
    torch = pytest.importorskip("torch", reason="a framework")
    from hungarian_torch import HNet

    inputs = [torch.asarray(x) for x in (DISTANCE, ROW_MASK, COL_MASK)]
    network = torch.nn.Sequential(HNet.load(weights)).double()
    found = network(inputs[0].double())
    assert found.dtype == torch.float64
    compiled = torch.compile(HNet.load(weights).frozen(), fullgraph=True, backend="eager")
    np.testing.assert_allclose(compiled(*inputs), expected, atol=1e-5)


def test_jax(weights: Path, expected: np.ndarray) -> None:
    jax = pytest.importorskip("jax", reason="a framework")
    from hungarian_jax import hnet as door

    params, metadata = door.load(weights)
    assert metadata == {"max_len": "4"}
    assert all(isinstance(x, jax.Array) for x in params.values())
    masks = {"row_mask": ROW_MASK, "col_mask": COL_MASK}
    for function in (door.associate, jax.jit(door.associate)):
        np.testing.assert_allclose(function(DISTANCE, params, **masks), expected, atol=1e-5)

    def total(distance: Any, params: Any) -> Any:
        return jax.numpy.sum(UPSTREAM * door.associate(distance, params))

    found = jax.jit(jax.grad(total))(DISTANCE, params)
    np.testing.assert_allclose(found, gradient(weights), rtol=1e-3, atol=1e-4)

    # Parameters are a pytree.
    start = door.init_params(width=8, layers=2, seed=3)
    assert jax.tree.structure(start) == jax.tree.structure(params)
    square = DISTANCE[:, :3]
    value = jax.jit(jax.value_and_grad(lambda p: door.association_loss(square, TRUTH, p)))
    before, slopes = value(start)
    after, _ = value(jax.tree.map(lambda p, g: p - 1e-3 * g, start, slopes))
    assert after < before


@pytest.mark.parametrize("backend", ["jax", "torch", "tensorflow"])
def test_keras(weights: Path, expected: np.ndarray, tmp_path: Path, backend: str) -> None:
    """In a process of its own: Keras chooses its backend once."""
    for name in ("keras", backend):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    given = tmp_path / "given.npz"
    inputs = {"distance": DISTANCE, "row_mask": ROW_MASK, "col_mask": COL_MASK}
    np.savez(given, **inputs, expected=expected, upstream=UPSTREAM, gradient=gradient(weights))
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "HNET_WEIGHTS": str(weights),
        "HNET_GIVEN": str(given),
    }
    if backend == "jax" and (flags := os.environ.get("XLA_FLAGS_OF_JAX")):  # noxfile.py sets them
        environment["XLA_FLAGS"] = flags
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(KERAS)],
        cwd=KERAS.parents[1],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " skipped" not in done.stdout, done.stdout
