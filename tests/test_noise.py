"""The noise: Random123's published words, JAX's words, and the distributions."""

from __future__ import annotations

from typing import Any

import array_api_compat.numpy as xp
import numpy as np
import pytest
from scipy import stats

import hungarian_core as hc
from hungarian_core.relaxations.noise import _gaussian, _gumbel, noise_like, threefry, uniform

# Of the file kat_vectors of Random123: the counter, the key, and the words they make.
KNOWN = (
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
)
NUMPY = hc.get_backend("numpy")


def _word(value: int) -> np.ndarray:
    return np.array([value], np.uint32).view(np.int32)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_published_words(counter: Any, key: Any, expected: Any) -> None:
    found = threefry(tuple(map(_word, key)), tuple(map(_word, counter)), xp)
    assert tuple(int(x.view(np.uint32)[0]) for x in found) == expected


def test_words_of_jax() -> None:
    random = pytest.importorskip("jax.extend.random", reason="JAX has the same generator")
    rng = np.random.default_rng(0)
    for key in rng.integers(2**32, size=(5, 2), dtype=np.uint32):
        counter = rng.integers(2**32, size=(2, 50), dtype=np.uint32)
        expected = np.asarray(random.threefry_2x32(key, counter.ravel())).reshape(2, 50)
        words = tuple(_word(int(v)) for v in key), tuple(counter.view(np.int32))
        found = threefry(*words, xp)
        np.testing.assert_array_equal(np.stack(found).view(np.uint32), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["gaussian", "gumbel"])
def test_distribution(kind: Any, dtype: Any) -> None:
    """Of 100,000 numbers; the probability that a sound generator fails is 1e-3 or less."""
    noise = noise_like(np.zeros((250, 40), dtype), 10, 7, kind, NUMPY)
    assert noise.dtype == dtype
    law = stats.norm if kind == "gaussian" else stats.gumbel_r
    assert stats.kstest(noise.astype(np.float64).ravel(), law.cdf).pvalue > 1e-3
    flat = noise.reshape(10, -1).astype(np.float64)
    mean, variance, skewness, kurtosis = (float(x) for x in law.stats(moments="mvsk"))
    count = flat.size
    assert flat.mean() == pytest.approx(mean, abs=3.3 * np.sqrt(variance / count))
    spread = np.sqrt((kurtosis + 2) / count)
    assert flat.var() == pytest.approx(variance, rel=3.3 * spread)
    assert stats.skew(flat.ravel()) == pytest.approx(skewness, abs=0.1)
    # Neither neighbours nor samples, the two of a pair too, nor seeds have to do with each other.
    other = noise_like(np.zeros((250, 40), dtype), 10, 8, kind, NUMPY).reshape(10, -1)
    limit = 4.5 / np.sqrt(flat.shape[1])
    for x, y in [(flat[0], flat[1]), (flat[0], flat[2]), (flat[1], flat[2]), (flat[0], other[0])]:
        assert abs(np.corrcoef(x, y)[0, 1]) < limit
        assert abs(np.corrcoef(x**2, y**2)[0, 1]) < limit
    assert abs(np.corrcoef(flat[0, 1:], flat[0, :-1])[0, 1]) < limit


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform_numbers_stay_inside(dtype: Any) -> None:
    """At both ends of the words, where rounding would reach 0 or 1."""
    ends = np.array([0, -1, -(2**31), 2**31 - 1], np.int32)
    more = None if dtype == np.float32 else ends
    found = uniform(ends, more, dtype, xp)
    assert ((found > 0) & (found < 1)).all()
    for noise in (*_gaussian(found, found, xp), _gumbel(found, xp)):
        assert np.isfinite(noise).all()
    np.testing.assert_allclose(found, [0, 1, 0.5, 0.5], atol=1e-6)


@pytest.mark.parametrize("kind", ["gaussian", "gumbel"])
def test_fewer_are_the_first_of_more(kind: Any) -> None:
    x = np.zeros((2, 3), np.float32)
    many = noise_like(x, 7, 3, kind, NUMPY)
    assert many.shape == (7, 2, 3)
    for count in (1, 2, 5):
        np.testing.assert_array_equal(noise_like(x, count, 3, kind, NUMPY), many[:count])
    wide = noise_like(x.astype(np.float64), 7, 3, kind, NUMPY)
    np.testing.assert_allclose(many, wide, rtol=2e-6, atol=2e-6)
    assert (many != wide).any()


def test_seeds() -> None:
    """Numbers and arrays of the same value agree; all 64 bits of a number count."""
    x = np.zeros((2, 3), np.float32)

    def noise(seed: Any) -> Any:
        return noise_like(x, 2, seed, "gaussian", NUMPY)

    seeds = (5, 2**31, 2**32 + 5, 2**64 - 1)
    for k, seed in enumerate(seeds):
        for other in seeds[:k]:
            assert (noise(seed) != noise(other)).any()
    for dtype in (np.int64, np.int32, np.uint8):
        np.testing.assert_array_equal(noise(np.asarray(5, dtype)), noise(5))
