"""The native solver's answer is fixed by the problem alone, not by where its numbers lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hungarian_core as hc
import hungarian_native as native


def _strided(x: np.ndarray) -> np.ndarray:
    wide = np.zeros((*x.shape[:-2], 2 * x.shape[-2], 3 * x.shape[-1]), x.dtype)
    wide[..., ::2, ::3] = x
    return wide[..., ::2, ::3]


def _off_grid(x: np.ndarray) -> np.ndarray:
    moved = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    moved[...] = x
    return moved


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "column_major": lambda x: np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2),
    "backwards": lambda x: x[..., ::-1, ::-1].copy()[..., ::-1, ::-1],
    "column_major_backwards": lambda x: np.ascontiguousarray(x.swapaxes(-1, -2)[..., ::-1, ::-1])[
        ..., ::-1, ::-1
    ].swapaxes(-1, -2),
    "batch_last": lambda x: np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0),
    "strided": _strided,
    "off_grid": _off_grid,
}


def _problem(seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Return costs of few values, hence with many optima, and what may come with them."""
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 12, 2) if seed % 5 else rng.integers(96, 120, 2)
    if seed % 3 == 0:
        m = n
    dtype = np.float64 if seed % 2 else np.float32
    cost = rng.integers(-1, rng.integers(1, 4), (3, n, m)).astype(dtype)
    cost = np.where(rng.uniform(size=cost.shape) < 0.1, -0.0 * cost, cost).astype(dtype)
    given: dict[str, Any] = {"maximize": bool(rng.integers(2))}
    if rng.integers(2):
        given["row_mask"] = rng.uniform(size=(3, n)) < 0.8
        given["col_mask"] = rng.uniform(size=(3, m)) < 0.8
    if rng.integers(3) == 0:
        given["unmatched_cost"] = rng.integers(-1, 3, (3, n)).astype(dtype)
    return cost, given


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), threads=st.integers(1, 3))
def test_ties_do_not_depend_on_the_layout(seed: int, threads: int) -> None:
    cost, given = _problem(seed)
    expected = hc.assign(cost, solver="native", **given)
    native.set_num_threads(threads)
    try:
        for name, lay_out in LAYOUTS.items():
            laid = {
                k: x if k == "maximize" else x[..., ::-1].copy()[..., ::-1]
                for k, x in given.items()
            }
            found = hc.assign(lay_out(cost), solver="native", **laid)
            for x, y in zip(found, expected, strict=True):
                np.testing.assert_array_equal(x, y, err_msg=name)
    finally:
        native.set_num_threads(0)


@pytest.mark.parametrize("seed", range(6))
def test_nor_on_the_framework(seed: int) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    cost, given = _problem(30 * seed)
    expected = hc.assign(cost, solver="native", **given)
    arrays = {k: x if k == "maximize" else torch.from_numpy(x) for k, x in given.items()}
    plain = torch.from_numpy(cost)
    for x in (
        plain,
        plain.mT.contiguous().mT,
        plain.permute(1, 2, 0).contiguous().permute(2, 0, 1),
    ):
        found = hc.assign(x, solver="native", **arrays)
        np.testing.assert_array_equal(found.col4row.numpy(), expected.col4row)


def test_detection_passes_take_arrays_off_the_grid() -> None:
    """The library never gets an address that is no multiple of the size of a number."""
    rng = np.random.default_rng(0)
    dtype = np.float32
    logits, boxes = (
        rng.normal(size=(2, 5, 4)).astype(dtype),
        rng.uniform(size=(2, 5, 4)).astype(dtype),
    )
    truth, labels = rng.uniform(size=(2, 3, 4)).astype(dtype), rng.integers(0, 3, (2, 3))
    options: dict[str, Any] = {
        "softmax": True, "class_cost_form": "softmax", "class_cost": 1.0, "bbox_cost": 5.0,
        "giou_cost": 2.0, "alpha": 0.25, "safe": True, "only_finite": False,
    }  # fmt: skip
    mask = np.ones((2, 3), bool)
    seen: list[int] = []
    real = native._detection._pack_costs

    def pack(*fields: Any) -> bytes:
        seen.extend(int(at) for at in fields[-9:] if at)
        return bytes(real(*fields))

    native._detection._pack_costs = pack
    try:
        found = native.solve.matching_costs(
            _off_grid(logits),
            _off_grid(labels),
            mask,
            _off_grid(boxes),
            _off_grid(truth),
            **options,
        )
    finally:
        native._detection._pack_costs = real
    floats = [seen[0], seen[1], seen[3], *seen[5:8]]
    assert all(at % 4 == 0 for at in floats)
    assert seen[2] % 8 == 0
    expected = native.solve.matching_costs(logits, labels, mask, boxes, truth, **options)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_array_equal(x, y)
    says = rng.integers(0, 4, (2, 5))
    graded = native.solve.class_losses(
        _off_grid(logits), _off_grid(says), _off_grid(found[2]), loss=0, alpha=0.25
    )
    expected = native.solve.class_losses(logits, says, found[2], loss=0, alpha=0.25)
    for x, y in zip(graded, expected, strict=True):
        np.testing.assert_array_equal(x, y)
