"""`Tokens`: matchings, losses and slopes beside a loop over queries in float64."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc
from hungarian_core.terms import Alignment, Boxes, Classes, Tokens
from hungarian_core.testing import checks, detection
from hungarian_core.testing.driver import Driver

UPSTREAM = 1.7
LAYERS, IMAGES, QUERIES, OBJECTS, TOKENS = 2, 2, 5, 3, 6
MASK = np.array([[True, True, True], [True, False, False]])
IGNORE = np.array([[False, True, False], [False, False, False]])
# The texts have six and four tokens.
THERE = np.arange(TOKENS) < np.array([[6], [4]])
INF, NAN = float("inf"), float("nan")


@dataclass(frozen=True, eq=False)
class Example:
    """A term with its options, and whether all its drivers run it."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    essential: bool = False

    def __str__(self) -> str:
        return self.name


EXAMPLES = (
    Example("focal", {"weight": 2.0, "cost_weight": 0.7, "cost_gamma": 1.5}, essential=True),
    Example("published", {"cost": "focal_published"}),
    Example("binary_focal", {"cost": "binary_focal", "alpha": 0.4, "gamma": 1.0}),
    Example("asl", {"loss": "asl"}),
    Example("softmax", {"loss": "softmax", "no_object_weight": 0.3}),
)


def _data(dtype: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(LAYERS, IMAGES, QUERIES, TOKENS)) * 2
    maps = rng.integers(0, 3, (IMAGES, OBJECTS, TOKENS)) * 0.5
    maps[..., 1] = 1
    arrays = {
        "logits": logits,
        "maps": np.where(MASK[..., None], maps, np.nan),
        "weights": rng.uniform(0.5, 2, (IMAGES, OBJECTS)),
    }
    return {name: x.astype(np.float32).astype(dtype) for name, x in arrays.items()}


def _log_probabilities(x: Any, there: Any) -> Any:
    """Return the logarithms of the softmax over what is there, 0 elsewhere."""
    return np.where(there, x - np.log(np.where(there, np.exp(x), 0).sum()), 0)


def token_cost(x: Any, there: Any, share: Any, label: Any, o: dict[str, Any]) -> Any:
    """Return the cost of a query for an object."""
    if o["loss"] == "softmax":
        return -(share * np.where(there, np.exp(_log_probabilities(x, there)), 0)).sum()
    a, g, tiny = o["cost_alpha"], o["cost_gamma"], 1e-8 * (o["cost"] == "focal_published")
    p = 1 / (1 + np.exp(-x))
    wrong = -a * (1 - p) ** g * np.log(p + tiny)
    right = -(1 - a) * p**g * np.log(1 - p + tiny)
    if o["cost"] == "binary_focal":
        return np.where(there, np.where(label, wrong, right), 0).sum()
    return (share * (wrong - right)).sum()


def token_loss(x: Any, there: Any, share: Any, label: Any, o: dict[str, Any]) -> Any:
    """Return the loss of a query for an object, or for none: then there is no label."""
    if o["loss"] == "softmax":
        if not label.any():
            share = np.eye(TOKENS)[-1]
        weight = 1 if label.any() else o["no_object_weight"]
        return -weight * (share * _log_probabilities(x, there)).sum()
    losses = [
        detection.label_loss(o["loss"], z, 0.0, o["alpha"], o["gamma"])
        if chosen
        else detection.other_loss(o["loss"], z, o["alpha"], o["gamma"])
        for z, chosen in zip(x, label, strict=True)
    ]
    return np.where(there, losses, 0).sum()


def _expected(data: dict[str, np.ndarray], options: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Return the matching `(L, B, M)`, the losses `(L,)` and the slopes by the logits."""
    o = {
        "loss": "focal", "cost": "focal", "weight": 1.0, "alpha": 0.25, "gamma": 2.0,
        "cost_alpha": 0.25, **options,
    }  # fmt: skip
    o = {"cost_weight": o["weight"], "cost_gamma": o["gamma"], **o}
    logits = data["logits"].astype(np.float64)
    col4row, losses = np.full((LAYERS, IMAGES, OBJECTS), -1), np.zeros(LAYERS)
    slopes = np.zeros(logits.shape)
    counted = (MASK & ~IGNORE).sum()
    for layer, b in np.ndindex(LAYERS, IMAGES):
        there = THERE[b]
        if o["loss"] == "softmax":
            there = there | (np.arange(TOKENS) == TOKENS - 1)
        maps = np.where(there, data["maps"][b].astype(float), 0)
        shares, labels = maps / maps.sum(-1, keepdims=True), maps > 0
        objects = np.flatnonzero(MASK[b])
        costs = [
            [token_cost(x, there, shares[i], labels[i], o) for x in logits[layer, b]]
            for i in objects
        ]
        i, j = linear_sum_assignment(np.array(costs))
        col4row[layer, b, objects[i]] = j
        for q in range(QUERIES):
            (k,) = objects[i[j == q]] if q in j else (-1,)
            if k >= 0 and IGNORE[b, k]:
                continue
            share, label = (shares[k], labels[k]) if k >= 0 else (np.zeros(TOKENS),) * 2
            weight = (data["weights"][b, k] if k >= 0 else 1.0) * o["weight"] / counted

            x = logits[layer, b, q]
            losses[layer] += weight * token_loss(x, there, share, label > 0, o)
            for c in range(TOKENS):
                moved = token_loss(
                    x + detection.STEP * 1j * np.eye(TOKENS)[c], there, share, label > 0, o
                )
                slopes[layer, b, q, c] = weight * moved.imag / detection.STEP
    return col4row, losses, slopes


def _arrays(driver: Driver, data: dict[str, np.ndarray]) -> tuple[Any, Any]:
    """Return flags of tokens and targets."""
    fields = {"token_maps": data["maps"], "weights": data["weights"], "mask": MASK}
    fields["ignore"] = IGNORE
    there = driver.from_numpy(THERE)
    return there, {name: driver.from_numpy(x) for name, x in fields.items()}


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_tokens(driver: Driver, example: Example) -> None:
    """Layers, weights, ignored objects; and tokens that there are not hold anything."""
    if example.essential:
        checks.skip_lengthy(driver)
    else:
        checks.skip_programs(driver)
    dtype = "float64" if "float64" in driver.dtypes and not example.essential else "float32"
    data = _data(dtype)
    criterion = hc.SetLoss([Tokens(**example.options)], backend=driver.backend)
    there, fields = _arrays(driver, data)
    col4row, losses, slopes = _expected(data, example.options)
    # The last token is "no object" to a softmax.
    last = np.arange(TOKENS) == TOKENS - 1
    keep = THERE | (last if criterion.terms[0].softmax else False)  # type: ignore[attr-defined]  # of `Tokens`
    logits = driver.from_numpy(np.where(keep[:, None, :], data["logits"], NAN).astype(dtype))

    def call(logits: Any) -> hc.SetLosses:
        return criterion({"logits": logits, "token_mask": there}, fields)

    def several(logits: Any) -> tuple[Any, ...]:
        out = call(logits)
        return out.losses["token"], out.assignment.col4row, out.logs["cardinality_error"]

    found = [driver.to_numpy(x) for x in driver.trace(several)(logits)]
    tolerance: Any = {"rtol": 2e-5 if dtype == "float32" else 1e-11, "atol": 1e-6}
    np.testing.assert_array_equal(found[1], col4row)
    np.testing.assert_allclose(found[0], losses, **tolerance)
    assert (found[2] >= 0).all()
    if driver.differentiable:
        up = driver.from_numpy(np.asarray(UPSTREAM), dtype)
        _, (grad,) = driver.value_and_grad(lambda x: call(x).total, [logits], up)
        np.testing.assert_allclose(driver.to_numpy(grad), UPSTREAM * slopes, **tolerance)


@pytest.mark.parametrize("loss", ["softmax", "focal", "mal", "asl"])
def test_one_token_per_object_is_a_class(driver: Driver, loss: Any) -> None:
    """Value, slopes and matching, with the IoU for those that want it, and infinite logits."""
    checks.skip_programs(driver)
    softmax, rng = loss == "softmax", np.random.default_rng(2)
    logits = rng.normal(size=(2, QUERIES, TOKENS)).astype(np.float32)
    logits[0, 0, 1:3], logits[0, 1, 3] = -INF, 40.0
    if not softmax:
        logits[1, 1, 2], logits[1, 2, 0] = INF, -INF
    boxes = rng.uniform(0.2, 0.5, (2, QUERIES, 4)).astype(np.float32)
    truth = rng.uniform(0.2, 0.5, (2, OBJECTS, 4)).astype(np.float32)
    labels = rng.integers(0, TOKENS - softmax, (2, OBJECTS))
    targets = {"boxes": truth, "mask": MASK, "ignore": IGNORE}
    options: Any = {"loss": loss, "weight": 1.5, "gamma": 1.5, "cost_gamma": 1.0}
    classes: Any = {"normalize": "objects", "no_object_weight": 0.3} if softmax else {}
    more: Any = {"no_object_weight": 0.3} if softmax else {}
    terms = (
        (Classes(TOKENS - softmax, **options, **classes), {"labels": labels}, "class"),
        (Tokens(**options, **more), {"token_maps": np.eye(TOKENS, dtype=bool)[labels]}, "token"),
    )
    found = []
    for term, of_objects, name in terms:
        criterion = hc.SetLoss([term, Boxes()], backend=driver.backend, solver="core")
        given = {k: driver.from_numpy(x) for k, x in {**targets, **of_objects}.items()}
        inputs = [driver.from_numpy(x) for x in (logits, boxes)]

        def call(x: Any, y: Any, c: Any = criterion, given: Any = given) -> Any:
            return c({"logits": x, "boxes": y}, given)

        with np.errstate(all="ignore"):
            out = call(*inputs)
            parts = [out.losses[name], out.assignment.col4row, out.logs["cardinality_error"]]
            parts = [driver.to_numpy(x) for x in parts]
            if driver.differentiable:
                up = driver.from_numpy(np.asarray(UPSTREAM), "float32")
                _, grads = driver.value_and_grad(lambda *xs, f=call: f(*xs).total, inputs, up)
                parts.append(driver.to_numpy(grads[0]))
                assert np.isfinite(parts[-1]).all()
        found.append(parts)
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cost", ["focal", "focal_published", "binary_focal"])
def test_infinite_logits_cost_what_they_say(driver: Driver, cost: Any) -> None:
    """Of tokens that the map leaves out -inf costs nothing; what is sure of a wrong one, most."""
    checks.skip_programs(driver)
    logits = np.full((1, 4, 4), -2.0, np.float32)
    logits[0, :, 3] = -INF
    logits[0, 0, 0], logits[0, 1, 2], logits[0, 2, 0] = -INF, INF, 1.0
    maps = np.array([[[True, True, False, False]]])
    criterion = hc.SetLoss([Tokens(cost=cost)], backend=driver.backend)
    targets = {"token_maps": driver.from_numpy(maps)}
    with np.errstate(all="ignore"):
        terms = criterion.costs({"logits": driver.from_numpy(logits)}, targets)
        out = criterion({"logits": driver.from_numpy(logits)}, targets)
    (found,) = driver.to_numpy(terms["token"])[0]
    assert np.isfinite(found[2])
    if cost != "focal_published":
        assert found[0] == INF
    # Another token than the object's has a say in the loss, and in the cost of all tokens alone.
    assert (found[1] == INF) == (cost == "binary_focal")
    assert driver.to_numpy(out.assignment.col4row).tolist() == [[2]]


def alignment(x: Any, named: Any, there: Any) -> Any:
    """Return the loss of every query of an image, by a loop over tokens and queries."""
    losses = np.zeros(len(x), x.dtype)
    for q, c in np.argwhere(named):
        row, column = x[q, there], x[:, c]
        losses[q] += (np.log(np.exp(row).sum()) - x[q, c]) / named[q].sum() / 2
        losses[q] += (np.log(np.exp(column).sum()) - x[q, c]) / named[:, c].sum() / 2
    return losses


def test_alignment(driver: Driver) -> None:
    """For a matching that is given: weights, ignored objects, tokens that there are not."""
    checks.skip_lengthy(driver)
    data = _data("float32")
    there, fields = _arrays(driver, data)
    x = np.where(THERE[:, None, :], data["logits"] / 10, NAN).astype(np.float32)
    # Two queries of the second image have the first object, and so share its tokens.
    row4col = np.array([[0, -1, 2, 1, -1], [-1, 0, -1, -1, 0]])
    given = driver.from_numpy(row4col)
    criterion = hc.SetLoss(
        [Alignment(weight=2.0, temperature=0.5)], normalize="images", backend=driver.backend
    )

    def call(x: Any) -> hc.SetLosses:
        outputs = {"similarities": x, "token_mask": there}
        return criterion(outputs, fields, assignment=given)

    maps = np.where(THERE[:, None, :], data["maps"], 0) > 0

    def loss(x: Any, layer: int) -> Any:
        total = 0
        for b in range(IMAGES):
            counted = (row4col[b] >= 0) & ~IGNORE[b, row4col[b]]
            named = maps[b, row4col[b]] & counted[:, None]
            each = alignment(x[layer, b] / 0.5, named, THERE[b])
            total = total + (each * np.where(counted, data["weights"][b, row4col[b]], 0)).sum()
        return 2 * total / IMAGES

    wide = np.where(THERE[:, None, :], x, 0).astype(float)
    expected = np.array([loss(wide, layer) for layer in range(LAYERS)])
    slopes = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        moved = wide.astype(complex)
        moved[at] += detection.STEP * 1j
        slopes[at] = loss(moved, at[0]).imag / detection.STEP
    inputs = driver.from_numpy(x)
    found = driver.trace(lambda x: call(x).losses["alignment"])(inputs)
    np.testing.assert_allclose(driver.to_numpy(found), expected, rtol=1e-5)
    if driver.differentiable:
        up = driver.from_numpy(np.asarray(UPSTREAM), "float32")
        _, (grad,) = driver.value_and_grad(lambda x: call(x).total, [inputs], up)
        np.testing.assert_allclose(driver.to_numpy(grad), UPSTREAM * slopes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4, 1e18])
def test_alignment_is_finite(driver: Driver, scale: float) -> None:
    """Whatever the similarities, without tokens or without any object as well."""
    checks.skip_programs(driver)
    x = (scale * np.random.default_rng(1).normal(size=(3, 4, 3)) - scale).astype(np.float32)
    fields = {
        "token_maps": driver.from_numpy(np.array([[[1, 1, 0]], [[0, 0, 0]], [[1, 0, 1]]])),
        "mask": driver.from_numpy(np.array([[True], [True], [False]])),
    }
    flags = driver.from_numpy(np.array([[True, False, True], [False] * 3, [True] * 3]))
    given = driver.from_numpy(np.array([[0, -1, 0, -1], [-1, 0, -1, -1], [-1] * 4]))
    criterion = hc.SetLoss([Alignment()], backend=driver.backend)

    def total(x: Any) -> Any:
        outputs = {"similarities": x, "token_mask": flags}
        return criterion(outputs, fields, assignment=given).total

    inputs = driver.from_numpy(x)
    assert np.isfinite(driver.to_numpy(total(inputs)))
    if driver.differentiable:
        up = driver.from_numpy(np.asarray(UPSTREAM), "float32")
        _, (grad,) = driver.value_and_grad(total, [inputs], up)
        assert np.isfinite(driver.to_numpy(grad)).all()
        assert (driver.to_numpy(grad)[1:] == 0).all()


ERRORS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "flags": (
        {"token_mask": np.ones((1, 4))},
        {},
        r"token_mask has dtype .*expected bool \(1, 4\)",
    ),
    "shape": ({"token_mask": np.ones((1, 3), bool)}, {}, r"shape \(1, 3\); expected bool \(1, 4\)"),
    "tokens": ({}, {"token_maps": np.ones((1, 2, 5))}, "token_maps of the targets has shape"),
    "negative": ({}, {"token_maps": -np.ones((1, 2, 4))}, "expected numbers from 0 on"),
    "NaN": ({}, {"token_maps": np.full((1, 2, 4), NAN)}, "expected numbers from 0 on"),
    "complex": (
        {},
        {"token_maps": np.ones((1, 2, 4)) + 1j},
        "token_maps of the targets has dtype",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_wrong_arrays(name: str) -> None:
    outputs, fields, message = ERRORS[name]
    given = {"logits": np.zeros((1, 3, 4)), **outputs}
    with pytest.raises(ValueError, match=message):
        hc.SetLoss([Tokens()])(given, {"token_maps": np.ones((1, 2, 4)), **fields})


def test_wrong_options() -> None:
    with pytest.raises(ValueError, match="cost is 'focal'; expected one of 'softmax' with loss="):
        Tokens(loss="softmax", cost="focal")
    with pytest.raises(ValueError, match="cost_gamma is -1; expected a number, 0 or more"):
        Tokens(cost_gamma=-1)
    with pytest.raises(ValueError, match=r"Tokens.* needs the IoU of matched boxes"):
        hc.SetLoss([Tokens(loss="qfl")])
    with pytest.raises(ValueError, match="temperature has 0"):
        Alignment(temperature=0)
