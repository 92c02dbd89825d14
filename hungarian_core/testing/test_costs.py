"""`costs`: classes, boxes, and weighted sums of any terms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax

import hungarian_core as hc
from hungarian_core.testing import checks, reference
from hungarian_core.testing.driver import Driver

COSTS: Any = hc.costs
LABELS = np.array([[0, 3, 1], [2, 2, 0]])
LOGITS = (np.random.default_rng(0).normal(size=(2, 5, 4)) * 3).astype(np.float32)
X = LOGITS.astype(np.float64)
P = expit(X)
A = np.random.default_rng(1).uniform(0.2, 0.6, (2, 3, 4)).astype(np.float32)
B = np.random.default_rng(2).uniform(0.2, 0.6, (2, 5, 4)).astype(np.float32)


def _focal(p: np.ndarray, alpha: float, gamma: float, tiny: float = 0) -> np.ndarray:
    positive = -alpha * (1 - p) ** gamma * np.log(p + tiny)
    return positive + (1 - alpha) * p**gamma * np.log(1 - p + tiny)


CLASS_COSTS = {
    "softmax": (lambda a, b, k: COSTS.softmax(a, b, backend=k), -softmax(X, -1)),
    "focal": (lambda a, b, k: COSTS.focal(a, b, backend=k), _focal(P, 0.25, 2)),
    "focal_options": (
        lambda a, b, k: COSTS.focal(a, b, alpha=0.4, gamma=1.5, backend=k), _focal(P, 0.4, 1.5),
    ),
    "focal_published": (
        lambda a, b, k: COSTS.focal(a, b, form="published", backend=k), _focal(P, 0.25, 2, 1e-8),
    ),
    "nll": (lambda a, b, k: COSTS.nll(a, b, backend=k), -log_softmax(X, -1)),
    "nll_sigmoid": (
        lambda a, b, k: COSTS.nll(a, b, activation="sigmoid", backend=k), -np.log(P),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CLASS_COSTS)
def test_classes(driver: Driver, name: str) -> None:
    """Every label with every query; a row per object."""
    if name != "focal":
        checks.skip_long(driver)
    function, table = CLASS_COSTS[name]
    labels, logits = driver.from_numpy(LABELS), driver.from_numpy(LOGITS)
    found = driver.trace(lambda a, b: function(a, b, driver.backend))(labels, logits)
    assert driver.dtype(found) == "float32"
    assert driver.device(found) == driver.device(logits)
    expected = np.stack([table[b][:, LABELS[b]].T for b in range(2)])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(driver.to_numpy(found), expected, rtol=0, atol=1e-6 * scale)


def test_saturated_logits(driver: Driver) -> None:
    """The focal cost keeps its digits where p is 1 or 0; the published one is bounded."""
    checks.skip_long(driver)
    logits = driver.from_numpy(np.array([[0.0], [10], [2], [-2], [40], [-40]]), "float32")
    labels = driver.from_numpy(np.array([0]))
    exact = driver.to_numpy(COSTS.focal(labels, logits, backend=driver.backend))[0]
    np.testing.assert_allclose(exact, [-0.0866434, -7.49935, -1.23711, 0.41117, -30, 10], rtol=1e-5)
    bounded = driver.to_numpy(COSTS.focal(labels, logits, form="published", backend=driver.backend))
    np.testing.assert_allclose(bounded[0, [0, 4, 5]], [-0.0866434, -13.81551, 4.60517], rtol=1e-5)


def test_boxes(driver: Driver) -> None:
    checks.skip_long(driver)
    a, b = driver.from_numpy(A), driver.from_numpy(B)
    found = driver.trace(lambda a, b: COSTS.giou(a, b, backend=driver.backend))(a, b)
    expected = [
        [[-reference.overlap("giou", p, q, "cxcywh") for q in y] for p in x]
        for x, y in zip(A.astype(float), B.astype(float), strict=True)
    ]
    np.testing.assert_allclose(driver.to_numpy(found), expected, rtol=0, atol=1e-6)


def _sum(driver: Driver) -> Any:
    def labels_and_logits(truth: Any, prediction: Any) -> Any:
        return COSTS.focal(truth, prediction, backend=driver.backend)

    def far(truth: Any, prediction: Any) -> Any:
        xp = driver.resolve(truth["boxes"]).namespace(truth["boxes"])
        a, b = truth["boxes"][..., :, None, :], prediction["boxes"][..., None, :, :]
        return xp.max(xp.abs(a - b), axis=-1)

    return COSTS.WeightedSum(
        {
            "class": (2.0, labels_and_logits, ("labels", "logits")),
            "bbox": (5.0, lambda a, b: _l1(driver, a, b), "boxes"),
            "far": (0.5, far),
        }
    )


def _l1(driver: Driver, a: Any, b: Any) -> Any:
    xp = driver.resolve(a).namespace(a)
    return COSTS.l1(xp, a[..., :, None, :], b[..., None, :, :])


def test_weighted_sum(driver: Driver) -> None:
    """The sum, its terms, and the terms of the matches, with a term of the user's own."""
    checks.skip_long(driver)
    cost = _sum(driver)

    def program(labels: Any, logits: Any, a: Any, b: Any) -> tuple[Any, ...]:
        truth, prediction = {"labels": labels, "boxes": a}, {"logits": logits, "boxes": b}
        total = cost(truth, prediction)
        match = hc.assign(total, backend=driver.backend)
        return total, match.col4row, *cost.of_matches(match, truth, prediction).values()

    arrays = [driver.from_numpy(x) for x in (LABELS, LOGITS, A, B)]
    total, col4row, *terms = map(driver.to_numpy, driver.trace(program)(*arrays))
    difference = np.abs(A[:, :, None].astype(float) - B[:, None].astype(float))
    focal = np.stack([_focal(P, 0.25, 2)[b][:, LABELS[b]].T for b in range(2)])
    expected = [2 * focal, 5 * difference.sum(-1), 0.5 * difference.max(-1)]
    np.testing.assert_allclose(total, sum(expected), rtol=0, atol=2e-5)
    for found, term in zip(terms, expected, strict=True):
        matched = np.take_along_axis(term, col4row[..., None], -1)[..., 0]
        np.testing.assert_allclose(found, matched, rtol=0, atol=2e-5)


def test_named_term() -> None:
    """A cost of `loss` by its name, on arrays of any framework."""
    cost = COSTS.WeightedSum({"bbox": (5.0, "l1", "boxes")})
    found = cost({"boxes": A}, {"boxes": B})
    expected = 5 * np.abs(A[:, :, None] - B[:, None]).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_terms_of_unmatched_objects_are_zero() -> None:
    cost = COSTS.WeightedSum({"bbox": (1.0, "l1")})
    match = hc.assign(cost(B, A))
    found = cost.of_matches(match, B, A)["bbox"]
    np.testing.assert_array_equal(found[match.col4row < 0], 0)
    np.testing.assert_allclose(found.sum(1), match.cost, rtol=1e-6)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({}, "terms is {}; expected a mapping such as"),
        ({"bbox": (5.0, "l2")}, "terms['bbox'] is (5.0, 'l2'); expected (weight, function)"),
        ({"bbox": ("l1", 5.0)}, "terms['bbox'] is ('l1', 5.0); expected (weight, function)"),
    ],
    ids=["none", "name", "order"],
)
def test_wrong_terms(terms: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (its beginning is compared)
        COSTS.WeightedSum(terms)
    assert str(caught.value).startswith(message)


def test_wrong_shapes(driver: Driver) -> None:
    checks.skip_long(driver)
    if not driver.static_shapes or not driver.raises:
        pytest.skip("one message for all: it depends on shapes only")
    labels, logits = driver.from_numpy(LABELS[:1]), driver.from_numpy(LOGITS)
    with pytest.raises(ValueError, match=r"labels has shape \(1, 3\) and logits \(2, 5, 4\)"):
        COSTS.softmax(labels, logits, backend=driver.backend)
    with pytest.raises(ValueError, match=r"labels has dtype .*float32.*; expected integers"):
        COSTS.softmax(driver.from_numpy(A[..., 0]), logits, backend=driver.backend)


@pytest.mark.parametrize("kind", ["softmax", "focal", "nll"])
@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range(driver: Driver, kind: str, label: int) -> None:
    """Eagerly an error, elsewhere costs of NaN: no other class is read."""
    if kind != "softmax":
        checks.skip_slow(driver)
    logits = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    labels = np.array([[0, 1], [2, label]])
    given = [driver.from_numpy(x) for x in (labels, logits)]
    cost = driver.trace(lambda *xs: getattr(hc.costs, kind)(*xs, backend=driver.backend))
    if driver.raises:
        expected = rf"labels holds {label} \(first at batch index 1\); expected 0 to 2"
        with pytest.raises(ValueError, match=expected):
            cost(*given)
        return
    found = driver.to_numpy(cost(*given))
    assert np.isnan(found[1, 1]).all()
    expected = getattr(hc.costs, kind)(np.array([[0, 1], [2, 0]]), logits)
    # A focal cost is the difference of two terms, each rounded.
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[1, 0], expected[1, 0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_infinite_logits(driver: Driver, alpha: float) -> None:
    """The costs are the limits: what is certain costs nothing or everything."""
    checks.skip_slow(driver)
    inf = float("inf")
    logits = driver.from_numpy(np.array([[[-inf], [inf], [1.0]]], np.float32))
    labels = driver.from_numpy(np.array([[0]]))
    for kind, options, expected in (
        ("nll", {"activation": "sigmoid"}, [inf, 0.0]),
        ("focal", {"alpha": alpha}, [inf if alpha else 0.0, -inf if alpha < 1 else 0.0]),
        ("focal", {"alpha": alpha, "gamma": 0.0}, [inf if alpha else 0, -inf if alpha < 1 else 0]),
    ):
        found = getattr(hc.costs, kind)(labels, logits, backend=driver.backend, **options)
        found = driver.to_numpy(found)[0, 0]
        assert found[:2].tolist() == expected
        assert np.isfinite(found[2])
    masked = driver.from_numpy(np.array([[[-inf, 0.0], [0.0, -inf]]], np.float32))
    assert driver.to_numpy(hc.costs.softmax(labels, masked, backend=driver.backend)).tolist() == [
        [[0.0, -1.0]]
    ]
    assert driver.to_numpy(hc.costs.nll(labels, masked, backend=driver.backend)).tolist() == [
        [[inf, 0.0]]
    ]
