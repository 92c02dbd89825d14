"""`DetrLoss` natively and in the framework's operations: the same on all input, odd or not."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.losses.call import read_call, wanted_by
from hungarian_core.losses.kernels import choose_kernels
from hungarian_core.terms.logit_losses import QueryTargets
from hungarian_core.testing import checks, detection
from hungarian_core.testing.detection import Example
from hungarian_core.testing.driver import Driver
from hungarian_core.testing.test_detection import EXAMPLES, UPSTREAM

INF, NAN = float("inf"), float("nan")


def _random(rng: np.random.Generator, example: Example, odd: float) -> dict[str, np.ndarray]:
    """Return a call of two images of which a share of the numbers is odd."""
    softmax, groups = example.softmax, example.options.get("groups", 1)
    arrays = {
        "logits": rng.normal(size=(2, 4 * groups, 3 + softmax)) * rng.choice([1, 8]),
        "boxes": rng.uniform(0.1, 0.6, (2, 4 * groups, 4)),
        "truth": rng.uniform(0.1, 0.6, (2, 2, 4)),
    }
    of_boxes = [INF, -INF, NAN, -0.3, 0.0, 1e12, 1e25, -1e25, 1e-20]
    of_logits = [INF, -INF, NAN, 1e4, -1e4, 90.0, -90.0, 17.0, -17.0, 0.0, 1e-3]
    for name, x in arrays.items():
        at = rng.random(x.shape) < odd
        x[at] = rng.choice(of_logits if name == "logits" else of_boxes, at.sum())
    kind = example.dtype
    return {name: x.astype(np.float32).astype(kind) for name, x in arrays.items()}


def _need_both_ways(driver: Driver) -> None:
    checks.need_solver(driver, "native")
    checks.skip_programs(driver)
    if not driver.raises:
        pytest.skip("where values cannot be read there is one way")


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_two_ways_of_the_passes(driver: Driver, example: Example) -> None:
    """Costs, losses and slopes of the native passes are those of the framework's operations."""
    _need_both_ways(driver)
    checks.need(driver, example.dtype)
    classes: Any = hc.DetrLoss(3, **example.options).criterion.terms[0]
    if classes.native()[1] is None:
        pytest.skip("the native library does not know the options, so there is one way")
    rng = np.random.default_rng(8)
    groups = example.options.get("groups", 1)
    for trial in range(30):
        data = _random(rng, example, odd=(0, 0.05, 0.3)[trial % 3])
        rest: Any = {
            "form": ("safe", "published")[trial % 2],
            "nan": ("worst", "forbid")[trial // 15],
        }
        loss = hc.DetrLoss(3, **example.options, **rest, check_targets=False).criterion
        arrays = {name: driver.from_numpy(data[name]) for name in ("logits", "boxes")}
        labels = driver.from_numpy(rng.integers(0, 3, (2, 2)))
        targets = hc.Targets(labels, driver.from_numpy(data["truth"]), None)
        with np.errstate(all="ignore"):
            call = read_call(
                loss.terms, wanted_by(loss.terms), arrays, targets, None, None, 1, groups,
                driver.backend,
            )  # fmt: skip
            to_predict, weights = _to_predict(driver, rng, call.inputs[0], classes)
            found = []
            for solver in ("native", "core"):
                kernels = choose_kernels(
                    loss.terms, call.inputs, call.problems, None, match_by="cost", nan=loss.nan,
                    solver=solver, tile_bytes=None,
                )  # fmt: skip
                cost = kernels.matching_cost(None)
                summaries = kernels.summaries(0)
                stats = classes.largest_and_claims(call.problems, summaries)
                graded = classes.values_and_slopes(
                    call.problems, call.inputs[0], summaries, to_predict, weights
                )
                found.append([driver.to_numpy(x) for x in (cost, *stats, *graded)])
        names = ("cost", "largest logit", "claims", "loss", "slope")
        for what, one, other in zip(names, *found, strict=True):
            detection.compare(one, other, f"{what} of {trial}")


def _to_predict(
    driver: Driver, rng: np.random.Generator, given: Any, classes: Any
) -> tuple[QueryTargets, Any]:
    """Return what queries are to predict, at random, with IoUs of all kinds."""
    shape = given.logits.shape[:2]
    matched = rng.random(shape) < 0.5
    label = np.where(matched | (not classes.softmax), rng.integers(0, 3, shape), 3)
    quality = rng.choice([0.0, 1.0, 0.3, 0.7, NAN], shape)
    kind = driver.dtype(given.logits)
    targets = QueryTargets(
        driver.from_numpy(matched),
        driver.from_numpy(label),
        driver.from_numpy(quality, kind) if classes.needs_iou else None,
    )
    return targets, driver.from_numpy(np.ones(shape), kind) if classes.softmax else None


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_two_ways_of_the_loss(driver: Driver, example: Example) -> None:
    """Every example with both solvers, on ordinary and on odd input: same result, up to ties."""
    _need_both_ways(driver)
    checks.need(driver, example.dtype)
    rng, alike, trials = np.random.default_rng(9), 0, 9
    names = ("class_", "bbox", "giou", "cardinality_error", "class_error")
    for trial in range(trials):
        data = _random(rng, example, odd=(0, 0.05, 0.3)[trial % 3])
        inputs = [driver.from_numpy(data[name]) for name in ("logits", "boxes")]
        targets = (
            driver.from_numpy(rng.integers(0, 3, (2, 2))), driver.from_numpy(data["truth"]), None,
        )  # fmt: skip
        results = []
        for solver in ("native", "core"):
            criterion: Any = hc.DetrLoss(
                3, **example.options, check_targets=False, solver=solver, backend=driver.backend
            )
            kept: Any = []

            def total(*xs: Any, f: Any = criterion, t: Any = targets, kept: Any = kept) -> Any:
                kept.append(f(*xs, t))
                return kept[-1].total

            with np.errstate(all="ignore"):
                if driver.differentiable:
                    upstream = driver.from_numpy(np.asarray(UPSTREAM), example.dtype)
                    _, grads = driver.value_and_grad(total, inputs, upstream)
                else:
                    total(*inputs)
                    grads = ()
                out = kept[-1]
                parts = [driver.to_numpy(x) for x in (*(getattr(out, k) for k in names), *grads)]
            results.append((driver.to_numpy(out.assignment.col4row), out.assignment.cost, parts))
        (one, paid, parts), (other, paid_too, parts_too) = results
        detection.compare(
            driver.to_numpy(paid), driver.to_numpy(paid_too), f"cost of {trial}", 1e-4
        )
        if not (one == other).all():
            assert trial % 3 or "repeat" in example.options, "ordinary input has no ties"
            continue
        alike += 1
        for k, (x, y) in enumerate(zip(parts, parts_too, strict=True)):
            detection.compare(x, y, f"part {k} of {trial}", 1e-4)
    assert alike >= trials / 2 or example.options.get("repeat")


def _sum_of_boxes(call: Any, share: float, rest: float, boxes: Any) -> Any:
    out = call(boxes=boxes)
    return out.bbox * share + out.giou * rest


@pytest.mark.parametrize("form", ["safe", "published"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_two_ways_of_matched_boxes(driver: Driver, dtype: str, form: Any) -> None:
    """The losses of matched boxes and each one's slopes, on ordinary and odd input and on ties."""
    _need_both_ways(driver)
    checks.need(driver, dtype)
    rng, example = np.random.default_rng(10), Example("boxes", dtype=dtype)
    targets_of = driver.from_numpy(rng.integers(0, 3, (2, 2)))
    for trial in range(30):
        data = _random(rng, example, odd=(0, 0.05, 0.3)[trial % 3])
        if trial % 2:  # on a grid, so that sides coincide
            data = {name: np.round(x * 8) / 8 for name, x in data.items()}
        logits, boxes = (driver.from_numpy(data[name]) for name in ("logits", "boxes"))
        targets = targets_of, driver.from_numpy(data["truth"]), None
        matching = driver.from_numpy(rng.integers(-1, 2, (2, 4)))
        # Each loss for itself, but both where a pair's slopes are NaN, whichever loss it is by.
        shares = [(1.5, 1.0)] if trial % 3 else [(1.0, 0.0), (0.0, 1.0)]
        for share, rest in shares:
            found = []
            for solver in ("native", "core"):
                criterion: Any = hc.DetrLoss(
                    3, form=form, check_targets=False, solver=solver, backend=driver.backend
                )

                call = functools.partial(criterion, logits, targets=targets, assignment=matching)
                loss = functools.partial(_sum_of_boxes, call, share, rest)
                with np.errstate(all="ignore"):
                    found.append([driver.to_numpy(loss(boxes))])
                    if driver.differentiable:
                        upstream = driver.from_numpy(np.asarray(UPSTREAM), dtype)
                        _, (slope,) = driver.value_and_grad(loss, [boxes], upstream)
                        found[-1].append(driver.to_numpy(slope))
            for one, other in zip(*found, strict=True):
                detection.compare(one, other, f"{share} and {rest} of {trial}", 1e-4)
