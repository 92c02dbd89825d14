"""The term of poses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.terms import Poses
from hungarian_core.testing import checks, comparisons
from hungarian_core.testing.driver import Driver

SIGMAS = (0.3, 0.5, 0.4, 0.2)
MIRRORED = (0, 2, 1, 3)


def _people(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return poses without some of their labels, whose coordinates are NaN there, and areas."""
    keypoints = rng.uniform(0, 1, (*shape, 4, 3))
    keypoints[..., 2] = rng.integers(0, 3, (*shape, 4))
    keypoints[..., 0, 2] = 2
    keypoints[-1, 0, :, 2] = 0  # nobody saw any of it
    keypoints[..., :2] = np.where(keypoints[..., 2:] > 0, keypoints[..., :2], np.nan)
    return {"keypoints": keypoints, "area": rng.uniform(0.2, 2, shape)}


def random_people(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    keypoints = _people(rng, shape)["keypoints"]
    return {"keypoints": keypoints, "boxes": rng.uniform(0.3, 1, (*shape, 4))}


def _queries(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {"keypoints": rng.uniform(0, 1, (*shape, 4, 2))}


def pair_losses(orders: Any = ((0, 1, 2, 3),), mean: bool = False) -> Any:
    """One keypoint after the other."""

    def losses(query: Any, truth: Any) -> dict[str, Any]:
        area = truth["area"] if "area" in truth else truth["boxes"][2] * truth["boxes"][3]
        best: Any = None
        for order in orders:
            person = truth["keypoints"][list(order)]
            seen = [k for k in range(4) if person[k, 2] > 0]
            apart = [query["keypoints"][k] - person[k, :2] for k in seen]
            distance = sum((x * np.sign(x.real)).sum() for x in apart)
            similar = [
                np.exp(-(x**2).sum() / (2 * area * (2 * SIGMAS[k]) ** 2))
                for k, x in zip(seen, apart, strict=True)
            ]
            squares = sum((x.real**2).sum() for x in apart)
            if best is None or squares < best[0]:
                best = squares, distance, similar
        _, distance, similar = best
        number = max(len(similar), 1)
        return {
            "keypoint": distance / (number if mean else 1),
            "oks": 1 - sum(similar) / number if similar else 0.0,
        }

    return losses


EXAMPLES = (
    comparisons.Example(
        "symmetric",
        lambda: Poses(
            keypoint_weight=2.0, oks_weight=3.0, keypoint_cost=0.5, sigmas=SIGMAS,
            symmetries=[MIRRORED],
        ),
        _queries, _people, pair_losses(((0, 1, 2, 3), MIRRORED)),
        {"keypoint": 0.5, "oks": 3.0},
    ),
    comparisons.Example(
        "boxes", lambda: Poses(sigmas=SIGMAS, area=None, reduce="mean", oks_cost=1.0), _queries,
        random_people, pair_losses(mean=True), {"keypoint": 10.0, "oks": 1.0},
    ),
)  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_by_a_loop(driver: Driver, example: comparisons.Example, dtype: str) -> None:
    if (str(example), dtype) != ("symmetric", "float32"):
        checks.skip_programs(driver)
    comparisons.check(driver, example, dtype)


def test_degenerate(driver: Driver) -> None:
    """At the same place, far away, of no area, and without a label anywhere."""
    person = np.array([[0.1, 0.2, 2], [0.4, 0.2, 1], [0.4, 0.7, 0], [0.3, 0.3, 2]])
    people = np.stack([person] * 7)
    people[3, :, :2], people[3, :, 2] = np.nan, 0
    people[6, :, :2] *= 1e30
    queries = np.stack([person[:, :2]] * 7)
    queries[1], queries[2], queries[5] = 1e30, 1e-30, person[:, :2] + 1e-8
    areas = np.array([0.5, 0.5, 1e-30, 0.5, 0.0, 0.0, 1e30])
    fields = {"keypoints": people.astype(np.float32), "area": areas.astype(np.float32)}
    comparisons.check_finite(driver, EXAMPLES[0], {"keypoints": queries.astype(np.float32)}, fields)


def test_nothing_labelled(driver: Driver) -> None:
    """Costs nothing with any query, and is matched with the one that is left."""
    checks.skip_programs(driver)
    rng = np.random.default_rng(0)
    queries = rng.uniform(0, 1, (1, 2, 4, 2)).astype(np.float32)
    people = np.full((1, 2, 4, 3), np.nan, np.float32)
    people[0, 0, :, 2], people[0, 1, :, 2] = 0, 2
    people[0, 1, :, :2] = queries[0, 0] + 0.01
    criterion = hc.SetLoss([Poses(sigmas=SIGMAS, area=0.5)], backend=driver.backend)
    given = {"keypoints": driver.from_numpy(queries)}, {"keypoints": driver.from_numpy(people)}
    costs = criterion.costs(*given)
    for cost in costs.values():
        assert (driver.to_numpy(cost)[0, 0] == 0).all()
        assert (driver.to_numpy(cost)[0, 1] > 0).all()
    out = criterion(*given)
    assert driver.to_numpy(out.assignment.col4row).tolist() == [[1, 0]]
    np.testing.assert_allclose(driver.to_numpy(out.losses["keypoint"]), 0.4, rtol=1e-4)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [((0, 0), np.inf, "finite labelled"), ((1, 2), 3, "visibility 0, 1 or 2")],
    ids=["infinite", "visibility"],
)
def test_impossible_truth(driver: Driver, at: Any, value: float, message: str) -> None:
    if not driver.raises or not driver.static_shapes:
        pytest.skip("values are not read")
    checks.skip_programs(driver)
    criterion = hc.SetLoss([Poses(sigmas=SIGMAS, area=0.5)], backend=driver.backend)
    people = np.full((1, 2, 4, 3), 1, np.float32)
    people[(0, 1, *at)] = value
    outputs = {"keypoints": driver.from_numpy(np.full((1, 2, 4, 2), 0.5, np.float32))}
    with pytest.raises(ValueError, match=f"image 0, object 1.*{message}.*check_targets=False"):
        criterion(outputs, {"keypoints": driver.from_numpy(people)})


def test_options(driver: Driver) -> None:
    checks.skip_programs(driver)
    with pytest.raises(ValueError, match=r"symmetries has .*expected each of 0 to 3 once"):
        Poses(sigmas=SIGMAS, symmetries=[(0, 1, 2, 2)])
    criterion = hc.SetLoss([Poses(area=0.5)], backend=driver.backend)
    outputs = {"keypoints": driver.from_numpy(np.zeros((1, 2, 4, 2), np.float32))}
    people = {"keypoints": driver.from_numpy(np.zeros((1, 2, 4, 3), np.float32))}
    with pytest.raises(ValueError, match="with 4 keypoints, and there are 17 sigmas"):
        criterion(outputs, people)
