"""Terms of one's own that break the contract, and keys that cannot be: each is told by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver

TERMS: Any = hc.terms  # for the type checker: these options do not exist
RETURNED: dict[str, tuple[Any, str]] = {
    "two columns": (lambda x: {"s": x[:, :2, 0]}, r"returned 's' of shape .* expected \(2, "),
    "features": (lambda x: {"s": x}, r"returned 's' of shape .* expected \(2, "),
    "number": (lambda x: {"s": 1.0}, "returned 1.0 as 's'; expected an array"),
    "nothing": (lambda x: None, "returned None; expected"),
}


class Told(hc.terms.Term):
    """A term with vectors of queries."""

    outputs, fields, weights = {"d": ("d",)}, {}, {"s": 1.0}

    def read(self, outputs: Any, fields: Any, problems: Any) -> Any:
        """Lay them out."""
        return problems.of_queries(outputs["d"])


def _of_queries(found: Any) -> hc.terms.Term:
    class Queries(Told):
        def query_losses(self, problems: Any, inputs: Any, *_: Any) -> Any:
            losses = found(inputs)
            return None if losses is None else hc.terms.QueryLosses(losses)

    return Queries()


def _of_pairs(found: Any) -> hc.terms.Term:
    class PairsOf(Told):
        def pair_losses(self, problems: Any, inputs: Any, matches: Any) -> Any:
            return found(inputs)

    return PairsOf()


def _of_costs(found: Any) -> hc.terms.Term:
    class Costs(Told):
        def costs(self, problems: Any, inputs: Any, tile: Any, summary: Any) -> Any:
            return found(inputs)

    return Costs()


def _call(driver: Driver, *terms: hc.terms.Term, **options: Any) -> Any:
    """Return the losses of two images of three queries and an object each."""
    rng = np.random.default_rng(0)
    outputs = {
        "d": driver.from_numpy(rng.random((2, 3, 2)), "float32"),
        "boxes": driver.from_numpy(rng.uniform(0.3, 0.6, (2, 3, 4)), "float32"),
    }
    box = driver.from_numpy(np.full((1, 4), 0.5), "float32")
    criterion = hc.SetLoss([hc.terms.Boxes(), *terms], backend=driver.backend)
    return criterion(outputs, [{"boxes": box}, {"boxes": box}], **options)


@pytest.mark.parametrize("what", RETURNED)
@pytest.mark.parametrize("method", [_of_queries, _of_pairs, _of_costs])
def test_what_a_term_returns(driver: Driver, method: Any, what: str) -> None:
    """Broadcast in silence it would be a wrong number; an error of the framework says little."""
    checks.skip_programs(driver)
    found, message = RETURNED[what]
    with pytest.raises((ValueError, TypeError), match=message):
        _call(driver, method(found))


@pytest.mark.parametrize("method", [_of_queries, _of_pairs])
def test_a_loss_without_a_weight(driver: Driver, method: Any) -> None:
    checks.skip_programs(driver)
    with pytest.raises(ValueError, match=r"returned a loss 't'; expected .* weights name: 's'"):
        _call(driver, method(lambda x: {"t": x[..., 0]}))


def test_costs_of_one_name(driver: Driver) -> None:
    """One would be lost."""
    checks.skip_programs(driver)

    class Other(Told):
        def costs(self, problems: Any, inputs: Any, tile: Any, summary: Any) -> Any:
            return {"bbox": problems.xp.zeros_like(inputs[tile[0], None, tile[1], 0])}

    with pytest.raises(ValueError, match="Other has a cost 'bbox', as a term before it"):
        _call(driver, Other())


def test_no_objects_at_all(driver: Driver) -> None:
    """A list of images without objects has none to pad to, and an extra cost no rows."""
    checks.skip_programs(driver)
    nothing = {"boxes": driver.from_numpy(np.zeros((0, 4)), "float32")}
    outputs = {"boxes": driver.from_numpy(np.full((2, 3, 4), 0.5), "float32")}
    extra = driver.from_numpy(np.zeros((2, 0, 3)), "float32")
    criterion = hc.SetLoss([hc.terms.Boxes()], backend=driver.backend)
    losses = criterion(outputs, [nothing, nothing], extra_cost=extra)
    assert float(driver.to_numpy(losses.total)) == 0
    assert driver.to_numpy(losses.assignment.col4row).shape == (2, 0)


def test_targets_that_do_not_fit(driver: Driver) -> None:
    checks.skip_programs(driver)
    outputs = {"d": driver.from_numpy(np.zeros((2, 3, 2)), "float32")}
    criterion = hc.SetLoss([hc.terms.Pairs("d")], backend=driver.backend)
    vector = {"d": driver.from_numpy(np.zeros((1, 2)), "float32")}
    flat = {"d": driver.from_numpy(np.zeros(2), "float32")}
    for targets, message in (
        ([vector], "targets is a list of 1, and the outputs are of 2 images"),
        ([flat, flat], r"has shape \(2,\); expected \(n, d\), n objects"),
    ):
        with pytest.raises(ValueError, match=message):
            criterion(outputs, targets)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TERMS.Classes(3, on=("labels",)), "on is .'labels',.; expected two names"),
        (lambda: TERMS.Classes(3, class_weights=[1, -1, 1]), "expected numbers, 0 or more"),
        (lambda: TERMS.Pairs(""), "name is ''; expected a name"),
        (lambda: TERMS.Pairs(3), "name is 3; expected a name"),
        (lambda: TERMS.Pairs("a", on=("a", "b", "c")), "expected two names"),
        (lambda: TERMS.Boxes(on=3), "on is 3; expected two names"),
        (lambda: TERMS.Spans(on=3), "on is 3; expected a name"),
        (lambda: hc.SetLoss([TERMS.Pairs("mask")]), "reads 'mask' of the targets, which says"),
        (lambda: hc.SetLoss([TERMS.Boxes()], log="no"), "log is 'no'; expected True or False"),  # type: ignore[arg-type]  # the mistake under test
        (
            lambda: hc.SetLoss([TERMS.Boxes(), TERMS.Polylines(on="boxes")]),
            r"two terms read 'boxes' of the outputs, one as \(..., 4\) and one as \(..., K, d\)",
        ),
        (lambda: hc.SetLoss([hc.terms.Term()]), "has no mapping 'outputs'"),
    ],
)
def test_wrong_options(build: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        build()


@pytest.mark.parametrize("name", ["boxes", "weights"])
def test_complex_targets(driver: Driver, name: str) -> None:
    checks.skip_programs(driver)
    targets = {"boxes": np.full((2, 1, 4), 0.5), "weights": np.ones((2, 1))}
    try:
        given = {
            k: driver.from_numpy(x, "complex64" if k == name else "float32")
            for k, x in targets.items()
        }
    except (AttributeError, KeyError, TypeError):
        pytest.skip(f"{driver.name} has no complex numbers")
    criterion = hc.SetLoss([hc.terms.Boxes()], backend=driver.backend)
    outputs = {"boxes": driver.from_numpy(np.full((2, 3, 4), 0.5), "float32")}
    with pytest.raises(ValueError, match=f"{name} of the targets has dtype .*complex64"):
        criterion(outputs, given)


def test_extra_cost_of_repeated_objects(driver: Driver) -> None:
    """It is of the objects that the targets have, each time that they are matched."""
    checks.skip_programs(driver)
    rng = np.random.default_rng(3)
    extra = np.zeros((2, 2, 5))
    extra[0, 0, [0, 3]] = extra[1, 1, [1, 2]] = -100
    outputs = {"boxes": driver.from_numpy(rng.uniform(0.3, 0.6, (2, 5, 4)), "float32")}
    targets = {"boxes": driver.from_numpy(rng.uniform(0.3, 0.6, (2, 2, 4)), "float32")}
    criterion = hc.SetLoss([hc.terms.Boxes()], repeat=2, backend=driver.backend)
    found = criterion.match(outputs, targets, extra_cost=driver.from_numpy(extra, "float32"))
    col4row = driver.to_numpy(found.col4row)  # of objects 0, 1, 0, 1
    assert sorted(col4row[0, [0, 2]]) == [0, 3]
    assert sorted(col4row[1, [1, 3]]) == [1, 2]
