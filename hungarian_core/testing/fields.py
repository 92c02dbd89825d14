"""Criteria of whole fields, beside loops over images, objects and queries in float64.

A `Field` is a row of the documentation's table of them: a criterion, data for it, and what it is to
say, pair by pair and so that the numbers may be complex. The second of three images is the first
with its queries and its objects in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver

Arrays = Mapping[str, np.ndarray]
MASK = np.array([[True] * 3, [True] * 3, [True, False, False]])
IMAGES, OBJECTS = MASK.shape
OTHER_OBJECTS = np.array([2, 0, 1])
STEP, UPSTREAM, RELATIVE = 1e-30, 1.7, 2e-5


class Expected(NamedTuple):
    """What a criterion is to say."""

    rows: np.ndarray  # the object of each query or -1, (B, Q), or (n, B, Q) of n matchings
    total: Callable[[Arrays], Any]  # of outputs that may be complex, by these matchings
    costs: np.ndarray | None = None  # of the matchings, (B,) or (n, B), None where none are told


def of_set(criterion: Any, outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
    """Return the total of a set loss, a list of its matchings, and one of what they cost."""
    out = criterion(outputs, targets)
    return out.total, [out.assignment.row4col], [out.assignment.cost]


@dataclass(frozen=True, eq=False)
class Field:
    """A criterion and what it is to say."""

    row: str  # of the table
    criterion: str  # its name in the table, or none for a composition of terms
    make: Callable[[Any], Any]  # of a backend
    outputs: Callable[[np.random.Generator, int], Arrays]  # of so many queries of one image
    targets: Callable[[np.random.Generator, int], Arrays]  # of so many objects
    expected: Callable[[Arrays, Arrays], Expected]
    call: Callable[[Any, Mapping[str, Any], Mapping[str, Any]], Any] = of_set
    axes: Mapping[str, int | None] = field(default_factory=dict)  # of queries or objects, if not 0
    constants: tuple[str, ...] = ()  # outputs that pass no gradient
    shared: Arrays = field(default_factory=dict)  # outputs that all images have in common
    order: tuple[int, ...] = (3, 0, 5, 1, 4, 2)  # of the second image's queries
    essential: bool = True
    elsewhere: bool = False  # a module of its own has the program of unknown extents

    def __str__(self) -> str:
        return "_".join(f"{self.row} {self.criterion}".replace(",", "").split())

    def data(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return outputs and targets, exact in float32; where there is no object, anything."""
        rng = np.random.default_rng(len(self.row))
        outputs = _images(self.outputs, rng, np.array(self.order), self.axes)
        alone = {name: None for name, axis in self.axes.items() if axis is None}
        targets = _images(self.targets, rng, OTHER_OBJECTS, alone)
        for name, x in targets.items():
            there = MASK[(..., *(None,) * (x.ndim - 2))]
            if self.axes.get(name, 0) is not None and x.dtype != bool:
                nothing = 99 if np.issubdtype(x.dtype, np.integer) else np.nan
                targets[name] = np.where(there, x, nothing).astype(x.dtype)
        return {**outputs, **self.shared}, {**targets, "mask": MASK}


def _images(
    make: Any, rng: np.random.Generator, order: np.ndarray, axes: Mapping[str, int | None]
) -> dict[str, np.ndarray]:
    """Return the arrays of three images, of which the second is the first in another order."""
    first, other, found = make(rng, len(order)), make(rng, len(order)), {}
    for name, x in first.items():
        axis = axes.get(name, 0)
        again = x if axis is None else np.take(x, order, axis)
        whole = np.stack([x, again, other[name]], axis or 0)
        floating = np.issubdtype(whole.dtype, np.floating)
        found[name] = whole.astype(np.float32) if floating else whole
    return found


def image(arrays: Arrays, b: int, axes: Mapping[str, int | None]) -> list[dict[str, Any]]:
    """Return what each query or object of an image has; what the image has, each of them has."""
    alone = {name for name in arrays if axes.get(name, 0) is None}
    count = next(x.shape[1] for name, x in arrays.items() if name not in alone)
    return [
        {name: x[b] if name in alone else x[b, k] for name, x in arrays.items() if name != "mask"}
        for k in range(count)
    ]


def matched(
    price: Any, queries: list[Any], truths: list[Any], there: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the object of each query of an image, -1 for none, at least cost; and the cost."""
    objects = np.flatnonzero(there)
    cost = np.array([[np.real(price(query, truths[m])) for query in queries] for m in objects])
    rows, cols = linear_sum_assignment(cost)
    found = np.full(len(queries), -1)
    found[cols] = objects[rows]
    return found, float(cost[rows, cols].sum())


def composed(
    pair: Callable[[Any, Any], Any],
    price: Callable[[Any, Any], Any] | None = None,
    alone: Callable[[Any, Any], tuple[Any, float]] | None = None,
    more: Callable[[Arrays, Arrays, np.ndarray], Any] | None = None,
    axes: Mapping[str, int | None] | None = None,
) -> Callable[[Arrays, Arrays], Expected]:
    """Return what a criterion is to say of one matching of each image.

    Args:
        pair: What a pair loses, of a query and its object; the sum is divided by the pairs.
        price: What a pair costs, by default what it loses.
        alone: What a query loses, of it and its object or None, and what that adds to the divisor.
        more: What else there is to lose, of outputs, targets and the matching.
        axes: Those of the field.
    """
    axes = {} if axes is None else axes

    def expected(outputs: Arrays, targets: Arrays) -> Expected:
        truths = [image(targets, b, axes) for b in range(IMAGES)]
        found = [
            matched(price or pair, image(outputs, b, axes), truths[b], MASK[b])
            for b in range(IMAGES)
        ]
        rows, costs = (np.array(x) for x in zip(*found, strict=True))

        def total(outputs: Arrays) -> Any:
            pairs = singles = shares = 0.0
            for b in range(IMAGES):
                for query, m in zip(image(outputs, b, axes), rows[b], strict=True):
                    truth = truths[b][m] if m >= 0 else None
                    if truth is not None:
                        pairs = pairs + pair(query, truth)
                    if alone is not None:
                        loss, share = alone(query, truth)
                        singles, shares = singles + loss, shares + share
            found = pairs / MASK.sum() + singles / (shares or 1)
            return found if more is None else found + more(outputs, targets, rows)

        return Expected(rows, total, costs)

    return expected


def check(driver: Driver, given: Field) -> None:
    """Check the total, the matchings, what they cost and, by an upstream of 1.7, slopes.

    Slopes are compared along a direction at random, one of each output.
    """
    outputs, targets = given.data()
    exact = {name: x.astype(np.float64) for name, x in outputs.items()}
    wanted = given.expected(exact, targets)
    criterion, names = given.make(driver.backend), [k for k in outputs if k not in given.constants]
    fields = {name: driver.from_numpy(x) for name, x in targets.items()}
    constants = {name: driver.from_numpy(outputs[name]) for name in given.constants}

    def program(*arrays: Any) -> Any:
        xp = driver.resolve(arrays[0]).namespace(arrays[0])
        every = {**dict(zip(names, arrays, strict=True)), **constants}
        total, rows, costs = given.call(criterion, every, fields)
        parts = [xp.reshape(xp.astype(x, total.dtype), (-1,)) for x in (total, *costs, *rows)]
        return xp.concat(parts)

    inputs = [driver.from_numpy(outputs[name]) for name in names]
    paid = np.zeros(0) if wanted.costs is None else wanted.costs.reshape(-1)
    if driver.differentiable:
        above = np.zeros(1 + paid.size + wanted.rows.size)
        above[0] = UPSTREAM
        value, grads = driver.value_and_grad(program, inputs, driver.from_numpy(above, "float32"))
    else:
        value, grads = driver.trace(program)(*inputs), ()
    total, costs, rows = np.split(driver.to_numpy(value), [1, 1 + paid.size])
    _check_order(rows.reshape(-1, *wanted.rows.shape[-2:]), np.array(given.order))
    np.testing.assert_array_equal(rows.reshape(wanted.rows.shape), wanted.rows)
    np.testing.assert_allclose(total, [np.real(wanted.total(exact))], rtol=RELATIVE)
    np.testing.assert_allclose(costs, paid, rtol=RELATIVE, atol=RELATIVE)
    rng = np.random.default_rng(1)
    for name, x in zip(names, map(driver.to_numpy, grads), strict=bool(grads)):
        images = np.moveaxis(x, given.axes.get(name, 0) or 0, 0).reshape(IMAGES, -1)
        assert (np.abs(images).max(1) > 0).all(), f"no slope by {name}"
        way = rng.normal(size=x.shape)
        slope = np.imag(wanted.total({**exact, name: exact[name] + STEP * 1j * way})) / STEP
        scale = np.abs(x * way).sum()
        np.testing.assert_allclose(
            (x * way).sum(), UPSTREAM * slope, rtol=0, atol=RELATIVE * scale, err_msg=name
        )


def _check_order(rows: np.ndarray, order: np.ndarray) -> None:
    """Check that queries and objects of another order have the same matching `(n, B, Q)`."""
    first, second = rows[:, 0].astype(int), rows[:, 1].astype(int)
    assert (first >= 0).any()
    again = np.where(second >= 0, OTHER_OBJECTS[np.maximum(second, 0)], -1)
    np.testing.assert_array_equal(again, first[:, order])


def need(driver: Driver, given: Field) -> None:
    """Skip a field that another driver of the framework does sooner, or another module does."""
    if not given.essential:
        checks.skip_programs(driver)
    checks.skip_lengthy(driver)
    if given.elsewhere and not driver.static_shapes:
        pytest.skip(f"{given} is traced with unknown extents by a module of its own")
