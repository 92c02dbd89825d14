"""What only JAX has: its precision of products, exported programs, and its settings."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc

jax: Any = pytest.importorskip("jax", reason="for JAX")
hj: Any = pytest.importorskip("hungarian_jax", reason="for JAX")
jnp = jax.numpy

RNG = np.random.default_rng(0)
COST = RNG.uniform(size=(2, 3, 5)).astype(np.float32)
LOGITS = RNG.normal(size=(1, 4, 4)).astype(np.float32)
BOXES = RNG.uniform(0.2, 0.6, (1, 4, 4)).astype(np.float32)
TARGETS = (np.array([[1, 2]]), BOXES[:, :2] + np.float32(0.05), np.array([[True, True]]))


@pytest.mark.parametrize("setting", ["bfloat16", "tensorfloat32"])
@pytest.mark.parametrize("what", ["mask", "pit", "implicit"])
def test_products_are_in_full_precision_whatever_the_setting(what: str, setting: str) -> None:
    """In gradients too, by what the program says; no accelerator is needed to read it."""
    x = jnp.asarray(COST)

    def function(x: Any) -> Any:
        if what == "mask":
            return hc.masks.pairwise_dice(jnp.asarray(COST > 0.5), x, axes=1).sum()
        if what == "pit":
            return hj.pit_loss(x, jnp.asarray(COST)[:, ::-1], metric="snr")
        return (hj.assignment_matrix(x, "sinkhorn_implicit") * x).sum()

    with jax.default_matmul_precision(setting):
        text = jax.jit(jax.value_and_grad(function)).lower(x).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert products
    assert all(line.count("HIGHEST") == 2 for line in products)


def test_exported_programs_run_without_the_library_s_handler() -> None:
    def step(logits: Any) -> Any:
        return hj.DetrLoss(3)(logits, BOXES, TARGETS), hj.assign(logits, unmatched_cost=0.3)

    exported = jax.export.export(jax.jit(step))(LOGITS)
    assert "custom_call @hungarian" not in exported.mlir_module()
    losses, match = jax.export.deserialize(exported.serialize()).call(LOGITS)
    expected = step(jnp.asarray(LOGITS))[0].total
    assert float(losses.total) == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_array_equal(match.col4row, hc.assign(LOGITS, unmatched_cost=0.3).col4row)


def test_exported_programs_return_what_assigners_return() -> None:
    points = np.stack(np.divmod(np.arange(4.0, dtype=np.float32), 2), axis=-1) / 2 + 0.25
    maps = {"points": points, "strides": np.full(4, 0.5, np.float32)}
    targets = {"labels": TARGETS[0], "boxes": TARGETS[1]}

    def step(logits: Any) -> Any:
        head = {"logits": logits, "edges": logits[..., :, None] * jnp.ones(4)}
        outputs = {**maps, "one_to_many": head, "one_to_one": head}
        return hc.criteria.DualLoss(4, bins=4, backend="jax")(outputs, targets)

    exported = jax.export.export(jax.jit(step))(LOGITS)
    found = jax.export.deserialize(exported.serialize()).call(LOGITS)
    expected = step(jnp.asarray(LOGITS))
    assert float(found.total) == pytest.approx(float(expected.total), rel=1e-5)
    np.testing.assert_array_equal(found.one_to_many.row4col, expected.one_to_many.row4col)


def test_exported_programs_of_many_sizes() -> None:
    (size,) = jax.export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct((size, 3, 5), np.float32)
    exported = jax.export.export(jax.jit(lambda x: hj.assign(x).col4row))(shape)
    found = jax.export.deserialize(exported.serialize()).call(COST)
    np.testing.assert_array_equal(found, hc.assign(COST).col4row)


@pytest.mark.parametrize("solver", ["auto", "core"])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (0, 3)])
def test_linear_sum_assignment_in_a_program(shape: Any, maximize: bool, solver: Any) -> None:
    cost = np.random.default_rng(1).uniform(size=shape).astype(np.float32)
    found = jax.jit(lambda x: hj.linear_sum_assignment(x, maximize, solver=solver))(cost)
    for a, b in zip(found, linear_sum_assignment(cost, maximize), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", [(3, 4), (4, 3)], ids=["wide", "tall"])
def test_pairs_that_are_missing_in_a_program(shape: tuple[int, int]) -> None:
    """As long as the smaller side, with -1 in both for each pair that there cannot be."""
    cost = np.full(shape, np.inf)
    cost[0, :], cost[:, 1] = [3.0, 1.0, 2.0, 4.0][: shape[1]], [1.0, 2.0, 3.0, 4.0][: shape[0]]
    rows, cols = jax.jit(functools.partial(hj.linear_sum_assignment, partial=True))(cost)
    assert rows.shape == cols.shape == (3,)
    assert (rows.tolist(), cols.tolist()) == ([0, 1, -1], [2, 1, -1])


def test_without_a_solution_there_are_no_pairs() -> None:
    for cost in (np.full((2, 3), np.inf), np.full((3, 2), np.inf)):
        for indices in jax.jit(hj.linear_sum_assignment)(cost):
            assert indices.tolist() == [-1, -1]


def test_derivatives_that_cannot_be_had_are_errors() -> None:
    def loss(x: Any) -> Any:
        return hj.DetrLoss(3)(x, BOXES, TARGETS).total

    x = jnp.asarray(LOGITS)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(loss, (x,), (x,))
    for second in (jax.grad(lambda x: jax.grad(loss)(x).sum()), jax.hessian(loss)):
        with pytest.raises(NotImplementedError, match="first derivative only"):
            second(x)
    # The slope may be differentiated by what it is multiplied with.
    total = jax.grad(lambda w: jax.grad(lambda x: w * loss(x))(x).sum())(2.0)
    assert float(total) == pytest.approx(float(jax.grad(loss)(x).sum()), abs=1e-6)


def test_numbers_that_32_bits_do_not_hold() -> None:
    with jax.enable_x64(False):
        for x in (np.array([[2**40, 1]]), np.array([[-(2**35), 1]]), np.array([[1e39, 1.0]])):
            with pytest.raises(ValueError, match=r"pass smaller numbers, or switch 64 bits on"):
                hj.assign(x)
        with pytest.warns(UserWarning, match=r"2\*\*24 or more, which are solved as float32"):
            assert hj.assign(np.array([[2**31 - 1, 1], [1, 5]])).col4row.tolist() == [1, 0]
        assert hj.assign(np.array([[np.inf, 1.0], [1.0, 2.0]])).col4row.tolist() == [1, 0]


def test_sparse_arrays_are_refused_in_words() -> None:
    sparse = pytest.importorskip("jax.experimental.sparse", reason="part of JAX")
    with pytest.raises(ValueError, match=r"sparse BCOO came.*todense"):
        hj.assign(sparse.BCOO.fromdense(jnp.eye(3)))


def test_settings_for_debugging() -> None:
    """`disable_jit` and `debug_nans`."""

    def loss(x: Any) -> Any:
        return hj.DetrLoss(3)(x, BOXES, TARGETS).total

    x = jnp.asarray(LOGITS)
    expected = float(loss(x))
    with jax.disable_jit():
        found = jax.jit(lambda c: hj.assign(c, row_mask=c[:, :, 0] > -1).col4row)(COST)
        assert np.array_equal(found, hc.assign(COST).col4row)
    with jax.debug_nans(True):
        value, slope = jax.jit(jax.value_and_grad(loss))(x)
        assert float(value) == pytest.approx(expected, rel=1e-5)
        assert np.isfinite(slope).all()


def test_lists_of_targets_where_ranks_are_not_promoted() -> None:
    """The conformance suite runs under this setting; lists are made before its programs."""
    targets = [{"labels": jnp.arange(k), "boxes": jnp.full((k, 4), 0.5)} for k in (2, 1)]
    with jax.numpy_rank_promotion("raise"):
        mask = hj.pad_targets(targets).mask
    assert mask.tolist() == [[True, True], [True, False]]


CONSTANTS = {
    "assign": lambda: hj.assign(jnp.asarray(COST), row_mask=jnp.asarray(COST[..., 0] > 0.3)).cost,
    "integers": lambda: hj.assign(jnp.asarray(COST * 9, int), unmatched_cost=3).cost,
    "loss": lambda: hj.loss(jnp.asarray(COST), jnp.asarray(COST)[:, ::-1]),
    "pit": lambda: hj.pit_loss(jnp.asarray(COST), jnp.asarray(COST)[:, ::-1]),
    "masks": lambda: hc.masks.pairwise_bce(jnp.asarray(COST > 0.5), jnp.asarray(COST), axes=1),
    "labels": lambda: hc.costs.focal(jnp.asarray([[1, 2]]), jnp.asarray(LOGITS)),
    "detr": lambda: hj.DetrLoss(3)(jnp.asarray(LOGITS), jnp.asarray(BOXES), TARGETS).total,
    "matrix": lambda: hj.assignment_matrix(jnp.asarray(COST), "sinkhorn"),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_in_a_program(name: str) -> None:
    """What is known when a program is traced has values, and what is computed from it has none."""
    np.testing.assert_allclose(jax.jit(CONSTANTS[name])(), CONSTANTS[name](), rtol=1e-5, atol=1e-6)


def test_true_boxes_in_a_program_are_looked_at_where_they_are_constants() -> None:
    pixels = tuple(map(jnp.asarray, (TARGETS[0], TARGETS[1] * 640, TARGETS[2])))
    step = jax.jit(lambda logits: hj.DetrLoss(3)(logits, BOXES, pixels).total)
    with pytest.raises(ValueError, match=r"hungarian_core\.boxes\.convert"):
        step(LOGITS)


@pytest.mark.parametrize("temperature", [-1.0, 0.0, np.nan])
@pytest.mark.parametrize("method", ["sinkhorn", "sinkhorn_implicit", "dykstra", "perturbed"])
def test_a_schedule_that_oversteps_gives_nan(method: Any, temperature: float) -> None:
    """In a program a temperature cannot be refused."""
    step = jax.jit(lambda t: hj.assignment_matrix(jnp.asarray(COST), method, temperature=t))
    assert np.isnan(step(temperature)).all()


def test_calls_out_of_a_program_keep_64_bits_that_a_context_allows() -> None:
    """They run in a thread of XLA, which is outside of the context."""
    costs = 1 + np.random.default_rng(0).random((64, 20, 20)) * 1e-9  # all 1 in float32
    best = [x[linear_sum_assignment(x)].sum() for x in costs]
    solve = jax.jit(lambda x: hj.assign(x + 0.0, solver="scipy"))
    enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    with enable_x64(True):
        match = jax.block_until_ready(solve(jnp.asarray(costs)))
    assert match.col4row.dtype == np.int64
    assert match.u.dtype == match.cost.dtype == np.float64
    np.testing.assert_allclose(match.cost, best, rtol=0, atol=1e-13)


def test_a_program_reads_no_capacity() -> None:
    """The greatest capacity is a shape, which has to be told where the values are not known."""
    cost, capacity = jnp.ones((2, 5)), jnp.asarray([1, 2])
    with pytest.raises(ValueError, match="max_capacity is None, and capacity is an array"):
        jax.jit(hj.assign_many)(cost, capacity)


@pytest.mark.parametrize("shape", [(3, 9, 4), (3, 4, 9)])
def test_the_convention_of_scenic(shape: tuple[int, ...]) -> None:
    """`[B, 2, min]` in a program, as its matcher by SciPy gives it for each problem."""
    costs = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    found = jax.jit(lambda x: jnp.stack(hj.assign(x).padded_indices(), axis=1))(costs)
    expected = np.stack([linear_sum_assignment(cost) for cost in costs])
    np.testing.assert_array_equal(found, expected)
