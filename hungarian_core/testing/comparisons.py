"""Terms that compare queries with objects, beside a loop over problems in float64.

An `Example` says how one query is compared with one object, in NumPy and so that the numbers may be
complex: slopes are differences by an imaginary step, which no cancellation limits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc
from hungarian_core.terms import Term
from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver

Arrays = Mapping[str, np.ndarray]
LAYERS, IMAGES, QUERIES, OBJECTS = 2, 2, 5, 3
MASK = np.array([[True, True, True], [True, False, False]])
IGNORE = np.array([[False, True, False], [False, False, False]])
STEP = 1e-30


@dataclass(frozen=True, eq=False)
class Example:
    """A term, data for it, and what it is to say of a pair."""

    name: str
    term: Callable[[], Term]  # made by each test
    outputs: Callable[[np.random.Generator, tuple[int, ...]], Arrays]  # of the shape (L, B, Q)
    fields: Callable[[np.random.Generator, tuple[int, ...]], Arrays]  # of the shape (B, M)
    # Of what one query and one object have: the losses by name, without weights.
    losses: Callable[[Arrays, Arrays], Mapping[str, Any]]
    cost_weights: Mapping[str, float]
    costs: Callable[[Arrays, Arrays], Mapping[str, Any]] | None = None  # where they are others
    tolerance: float = 1e-5  # in float32, relative to the largest

    def __str__(self) -> str:
        return self.name

    def data(self, dtype: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return outputs and targets, exact in the dtype; where there is no object, NaN."""
        rng = np.random.default_rng(len(self.name))
        outputs = self.outputs(rng, (LAYERS, IMAGES, QUERIES))
        fields = dict(self.fields(rng, (IMAGES, OBJECTS)))
        for name, x in fields.items():
            if np.issubdtype(x.dtype, np.floating):
                there = MASK[(..., *(None,) * (x.ndim - 2))]
                fields[name] = np.where(there, x, np.nan)
        fields["weights"] = rng.uniform(0.5, 2, (IMAGES, OBJECTS))

        def exact(x: np.ndarray) -> np.ndarray:
            floating = np.issubdtype(x.dtype, np.floating)
            return x.astype(np.float32).astype(dtype) if floating else x

        fields = {name: exact(x) for name, x in fields.items()} | {"mask": MASK, "ignore": IGNORE}
        return {name: exact(x) for name, x in outputs.items()}, fields


def expected(
    example: Example, outputs: Arrays, fields: Arrays, weights: Mapping[str, float]
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the matching `(L, B, M)`, the losses `(L,)`, the costs and the slopes by outputs."""
    price = example.costs or example.losses
    col4row = np.full((LAYERS, IMAGES, OBJECTS), -1)
    losses = {name: np.zeros(LAYERS) for name in weights}
    costs = {name: np.zeros((LAYERS, IMAGES, OBJECTS, QUERIES)) for name in example.cost_weights}
    slopes = {name: np.zeros(x.shape) for name, x in outputs.items()}
    counted = (MASK & ~IGNORE).sum()
    for layer, b in np.ndindex(LAYERS, IMAGES):
        queries = [
            {name: x[layer, b, q].astype(np.float64) for name, x in outputs.items()}
            for q in range(QUERIES)
        ]
        truths = [
            {
                name: x[b, m].astype(np.float64)
                for name, x in fields.items()
                if name not in ("mask", "weights", "ignore")
            }
            for m in range(OBJECTS)
        ]
        rows = np.flatnonzero(MASK[b])
        for m in rows:
            for q in range(QUERIES):
                for name, x in price(queries[q], truths[m]).items():
                    if name in costs:
                        costs[name][layer, b, m, q] = example.cost_weights[name] * np.real(x)
        total = np.sum([x[layer, b] for x in costs.values()], axis=0)
        for i, q in zip(*linear_sum_assignment(total[rows]), strict=True):
            m = rows[i]
            col4row[layer, b, m] = q
            if IGNORE[b, m]:
                continue
            share = float(fields["weights"][b, m]) / counted
            for name, x in example.losses(queries[q], truths[m]).items():
                losses[name][layer] += weights[name] * share * np.real(x)
            for key, x in queries[q].items():
                for at in np.ndindex(*x.shape):
                    moved = x.astype(complex)
                    moved[at] += STEP * 1j
                    found = example.losses({**queries[q], key: moved}, truths[m])
                    slopes[key][(layer, b, q, *at)] += share * sum(
                        weights[name] * np.imag(value) / STEP for name, value in found.items()
                    )
    return col4row, losses, costs, slopes


def check(driver: Driver, example: Example, dtype: str) -> None:
    """Check the matching, the costs, the losses and, by an upstream of 1.7, the slopes.

    In one program, since compiling one is most of the time.
    """
    checks.skip_lengthy(driver)
    checks.need(driver, dtype)
    term = example.term()
    criterion = hc.SetLoss([term], backend=driver.backend)
    data, targets = example.data(dtype)
    fields = {name: driver.from_numpy(x) for name, x in targets.items()}
    col4row, losses, costs, slopes = expected(example, data, targets, term.weights)
    there = MASK[None, :, :, None]
    want = {"total": np.sum([*losses.values()]), "matching": col4row, **losses}
    want |= {f"cost of {name}": np.where(there, x, 0) for name, x in costs.items()}

    def program(*arrays: Any) -> Any:
        outputs = dict(zip(data, arrays, strict=True))
        xp = driver.resolve(arrays[0]).namespace(arrays[0])
        out, priced = criterion(outputs, fields), criterion.costs(outputs, fields)
        found = [out.total, xp.astype(out.assignment.col4row, out.total.dtype)]
        found += [out.losses[name] for name in losses]
        mask = fields["mask"][None, :, :, None]
        found += [xp.where(mask, priced[name], 0) for name in costs]
        return xp.concat([xp.reshape(x, (-1,)) for x in found])

    inputs = [driver.from_numpy(x) for x in data.values()]
    if driver.differentiable:
        above = np.zeros(sum(np.size(x) for x in want.values()))
        above[0] = 1.7
        value, grads = driver.value_and_grad(program, inputs, driver.from_numpy(above, dtype))
    else:
        value, grads = driver.trace(program)(*inputs), ()
    relative = example.tolerance if dtype == "float32" else 1e-9

    def close(found: np.ndarray, wanted: Any, name: str) -> None:
        scale = np.abs(wanted).max()
        assert scale > 0, name
        np.testing.assert_allclose(found, wanted, rtol=0, atol=relative * scale, err_msg=name)

    ends = np.cumsum([np.size(x) for x in want.values()])
    parts = np.split(driver.to_numpy(value), ends[:-1])
    for found, (name, wanted) in zip(parts, want.items(), strict=True):
        close(found, np.reshape(wanted, (-1,)), name)
    for name, grad in zip(data, grads, strict=bool(grads)):
        close(driver.to_numpy(grad), 1.7 * slopes[name], f"slope by {name}")


def check_finite(driver: Driver, example: Example, outputs: Arrays, fields: Arrays) -> None:
    """Check that degenerate pairs `(n, ...)` have finite losses with finite slopes."""
    checks.skip_lengthy(driver)
    term = example.term()
    if hasattr(term, "check_targets"):
        term.check_targets = False
    criterion = hc.SetLoss([term], backend=driver.backend, reduction="none", nan="raise")
    truths = {name: driver.from_numpy(x[:, None]) for name, x in fields.items()}
    names = tuple(outputs)
    inputs = [driver.from_numpy(x[:, None].astype(np.float32)) for x in outputs.values()]

    def total(*arrays: Any) -> Any:
        return criterion(dict(zip(names, arrays, strict=True)), truths).total

    if not driver.differentiable:
        assert np.isfinite(driver.to_numpy(driver.trace(total)(*inputs))).all()
        return
    images = len(next(iter(outputs.values())))
    above = driver.from_numpy(np.full(images, 1.7, np.float32))
    value, grads = driver.value_and_grad(total, inputs, above)
    assert np.isfinite(driver.to_numpy(value)).all()
    for grad in grads:
        assert np.isfinite(driver.to_numpy(grad)).all()
