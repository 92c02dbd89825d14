"""`pit_loss` beside the published one: torchmetrics, which tries permutations or asks SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

torch: Any = pytest.importorskip("torch", reason="torchmetrics is for PyTorch")
audio: Any = pytest.importorskip("torchmetrics.functional.audio", reason="it is the peer")

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
PUBLISHED = {
    "si_sdr": audio.scale_invariant_signal_distortion_ratio,
    "snr": audio.signal_noise_ratio,
}


def signals(sources: int, dtype: str, noise: float = 0.5) -> tuple[Any, Any]:
    """Return estimates and references `(4, sources, 200)`: another order, other gains, noise."""
    rng = np.random.default_rng(sources)
    references = rng.normal(size=(4, sources, 200)) + rng.normal(size=(4, sources, 1)) / 4
    order = np.argsort(rng.normal(size=(4, sources)), axis=1)
    estimates = np.take_along_axis(references, order[:, :, None], axis=1)
    estimates = estimates * rng.uniform(0.5, 2, (4, sources, 1))
    estimates += noise * rng.normal(size=estimates.shape)
    return tuple(torch.asarray(x, dtype=getattr(torch, dtype)) for x in (estimates, references))


def published(estimates: Any, references: Any, metric: str, **options: Any) -> tuple[Any, Any]:
    """Return the loss of each sample and its permutation."""
    best, permutation = audio.permutation_invariant_training(
        estimates, references, PUBLISHED[metric], mode="speaker-wise", eval_func="max", **options
    )
    return -best, permutation


@pytest.mark.parametrize("zero_mean", [False, True], ids=["as it is", "zero mean"])
@pytest.mark.parametrize("dtype", sorted(TOLERANCE))
@pytest.mark.parametrize("sources", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("metric", sorted(PUBLISHED))
def test_equal(metric: str, sources: int, dtype: str, zero_mean: bool) -> None:
    """Values, permutations, and gradients by both inputs with an upstream gradient."""
    data = signals(sources, dtype)
    upstream = torch.asarray([2.0, -0.5, 3.0, 1.0], dtype=data[0].dtype)

    def ours(estimates: Any, references: Any) -> tuple[Any, Any]:
        options: Any = {"metric": metric, "zero_mean": zero_mean, "reduction": "sample"}
        loss, found = hc.pit_loss(estimates, references, return_assignment=True, **options)
        return loss, found.col4row

    def theirs(estimates: Any, references: Any) -> tuple[Any, Any]:
        return published(estimates, references, metric, zero_mean=zero_mean)

    results = []
    for function in (ours, theirs):
        leaves = [x.clone().requires_grad_() for x in data]
        loss, permutation = function(*leaves)
        grads = torch.autograd.grad(loss, leaves, upstream)
        results.append([x.detach().numpy() for x in (loss, *grads, permutation)])
    np.testing.assert_array_equal(results[0].pop(), results[1].pop())
    for x, y in zip(*results, strict=True):
        assert x.dtype.name == y.dtype.name == dtype
        np.testing.assert_allclose(x, y, rtol=0, atol=TOLERANCE[dtype] * np.abs(y).max())


@pytest.mark.parametrize("metric", sorted(PUBLISHED))
@pytest.mark.parametrize("kind", ["silent", "perfect", "loud", "quiet"])
def test_equal_at_the_edges(kind: str, metric: str) -> None:
    estimates, references = signals(3, "float32")
    if kind == "silent":
        references[0, 1] = estimates[1, 2] = references[2] = 0
    elif kind == "perfect":
        estimates = references[:, [1, 2, 0]].clone()
    else:
        scale = 1e6 if kind == "loud" else 1e-6
        estimates, references = scale * estimates, scale * references
    loss = hc.pit_loss(estimates, references, metric=metric, reduction="sample")
    expected, _ = published(estimates, references, metric)
    np.testing.assert_allclose(loss.numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("metric", sorted(PUBLISHED))
def test_masked_counts_are_smaller_problems(metric: str) -> None:
    """Which the published loss cannot batch: sample by sample, without the padding, it is equal."""
    estimates, references = signals(4, "float64")
    counts = [1, 4, 2, 3]
    mask = torch.arange(4) < torch.asarray(counts)[:, None]
    # As many estimates as sources; what is left over is loud noise, and nobody's estimate.
    loud = 1e3 * np.random.default_rng(0).normal(size=(4, 4, 200))
    for sample, count in enumerate(counts):
        estimates[sample, count:] = torch.asarray(loud[sample, count:])
        references[sample, count:] = torch.nan
    loss = hc.pit_loss(estimates, references, metric=metric, mask=mask, reduction="sample")
    for sample, count in enumerate(counts):
        pair = (x[sample : sample + 1, :count] for x in (estimates, references))
        expected, _ = published(*pair, metric)
        assert float(loss[sample]) == pytest.approx(float(expected), rel=1e-10)


def test_module() -> None:
    front = pytest.importorskip("hungarian_torch", reason="for PyTorch")
    estimates, references = signals(3, "float32")
    module = front.PITLoss(metric="snr", reduction="sample")
    expected, _ = published(estimates, references, "snr")
    np.testing.assert_allclose(module(estimates, references), expected, rtol=1e-5)
    mask = torch.asarray([[True, False, True]] * 4)
    found = module(estimates, references, mask)
    assert found.shape == (4,)
    assert torch.equal(found, front.pit_loss(estimates, references, mask=mask, **module.options))
