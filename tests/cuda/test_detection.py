"""The passes of detection losses on CUDA devices, run on a CPU, beside those of the native library.

`nox -s cuda` builds the stand-in for a driver and names it in HUNGARIAN_LIBCUDA.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

if "HUNGARIAN_LIBCUDA" not in os.environ:
    pytest.skip("nox -s cuda builds the driver that these tests want", allow_module_level=True)

from hungarian_cuda._passes import PASSES, Placed

native: Any = hc.host_solver("native")
# Problems, queries, objects and classes: one of each; more than a warp has lanes; two tiles; many.
SHAPES = [(1, 1, 1, 2), (2, 5, 3, 40), (3, 37, 9, 7), (2, 64, 11, 33), (1, 70, 20, 91)]
ODD = (np.nan, np.inf, -np.inf, 0.0, 80.0, -80.0, 300.0, -300.0)


def placed(x: Any) -> Placed:
    assert x.flags.c_contiguous
    return Placed(x.ctypes.data, x.shape, x.dtype)


def on_device(name: str, given: list[Any], **options: Any) -> list[np.ndarray]:
    """Run a pass. Results are not blank before, so nothing is right by chance."""
    expected = getattr(native, name)(*given, **options)
    found = [np.full_like(x, 7 if x.dtype != bool else True) for x in expected]
    PASSES[name]([placed(x) for x in given], [placed(x) for x in found], 0, **options)
    return found


def compare(name: str, given: list[Any], **options: Any) -> None:
    # Some roundings of the result, and of the largest numbers that it is a difference of.
    ulp, finite = float(np.finfo(given[0].dtype).eps), given[0][np.isfinite(given[0])]
    slack = 4 * ulp * max(1.0, float(np.max(np.abs(finite), initial=0)))
    expected = getattr(native, name)(*given, **options)
    found = on_device(name, given, **options)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=24 * ulp, atol=slack)


def logits_of(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, odd: bool) -> Any:
    x = (rng.normal(size=shape) * 4).astype(dtype)
    if odd:
        at = rng.random(shape) < 0.05
        x[at] = rng.choice(ODD, at.sum())
        x[0, 0] = -np.inf
    return x


def boxes_of(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, odd: bool) -> Any:
    x = rng.uniform(0.05, 0.9, (*shape, 4)).astype(dtype)
    if odd:
        at = rng.random(x.shape) < 0.1
        x[at] = rng.choice((*ODD, -0.3, 0.25, 0.25), at.sum())
    return x


@pytest.mark.parametrize("odd", [False, True], ids=["ordinary", "odd"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("softmax", "form"),
    [
        (True, "softmax"),
        (True, "nll"),
        (False, "focal"),
        (False, "nll"),
        (False, "focal_published"),
    ],
)
@pytest.mark.parametrize("shape", SHAPES)
def test_matching_costs(
    shape: tuple[int, ...], softmax: bool, form: str, dtype: Any, odd: bool
) -> None:
    size, queries, objects, classes = shape
    rng = np.random.default_rng(queries)
    given = [
        logits_of(rng, (size, queries, classes), dtype, odd),
        rng.integers(-1, classes, (size, objects)), rng.random((size, objects)) < 0.8,
    ]  # fmt: skip
    options = {"softmax": softmax, "class_cost_form": form, "class_cost": 1.5, "alpha": 0.3}
    for safe in (True, False):
        boxes = [boxes_of(rng, (size, n), dtype, odd) for n in (queries, objects)]
        weights = {"bbox_cost": 5.0, "giou_cost": 2.0, "safe": safe}
        with np.errstate(all="ignore"):
            compare("matching_costs", given + boxes, **options, **weights, only_finite=safe)
            compare("matching_costs", given, **options, only_finite=not safe)
            options["class_cost"] = 0.0


@pytest.mark.parametrize("odd", [False, True], ids=["ordinary", "odd"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", [0, 1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_class_losses(shape: tuple[int, ...], loss: int, dtype: Any, odd: bool) -> None:
    size, queries, objects, classes = shape
    rng = np.random.default_rng(queries)
    logits = logits_of(rng, (size, queries, classes), dtype, odd)
    nothing = np.zeros((size, objects), np.int64)
    _, _, log_normaliser, _ = native.matching_costs(
        logits, nothing, nothing > 0, softmax=loss == 0, class_cost_form="nll", class_cost=1.0,
        alpha=0.25, only_finite=False,
    )  # fmt: skip
    labels = rng.integers(0 if loss == 0 else -1, classes, (size, queries))
    given = [logits, labels, log_normaliser]
    if loss > 1:
        given.append(rng.random((size, queries)).astype(dtype))
    compare("class_losses", given, loss=loss, alpha=0.25)


@pytest.mark.parametrize("level", [0.0, 1e3, -1e3])
def test_probabilities_of_great_logits_add_up(level: float) -> None:
    """Whose logarithm of the sum is too coarse to tell them by."""
    logits = np.random.default_rng(0).normal(size=(2, 9, 50)).astype(np.float32) + np.float32(level)
    log_normaliser = np.log(np.exp(logits - np.float64(level)).sum(axis=-1)) + level
    labels = np.full((2, 9), 3)
    given = [logits, labels, log_normaliser.astype(np.float32)]
    _, slope = on_device("class_losses", given, loss=0, alpha=0.25)
    slope[..., 3] += 1
    np.testing.assert_allclose(slope.sum(axis=-1), 1, rtol=3e-6)


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("odd", [False, True], ids=["ordinary", "odd"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 300)])
def test_box_losses(shape: tuple[int, int], dtype: Any, odd: bool, safe: bool) -> None:
    rng = np.random.default_rng(shape[1])
    boxes, truth = (boxes_of(rng, shape, dtype, odd) for _ in range(2))
    same = rng.random(shape) < 0.2
    boxes[same] = truth[same]
    with np.errstate(all="ignore"):
        compare("box_losses", [boxes, truth], safe=safe)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_nothing_is_launched_for_nothing(shape: tuple[int, int]) -> None:
    """For which there would be no address to find a device by."""
    nothing = Placed(0, (*shape, 4), np.dtype(np.float32))
    PASSES["box_losses"]([nothing] * 2, [nothing] * 2, 0, safe=True)
    PASSES["class_losses"]([nothing] * 3, [nothing] * 2, 0, loss=1, alpha=0.25)


def test_more_than_a_grid_has_blocks_is_refused() -> None:
    many = Placed(64, (2**31, 2, 4), np.dtype(np.float32))
    with pytest.raises(ValueError, match="out of range"):
        PASSES["box_losses"]([many, many], [many, many], 0, safe=True)
