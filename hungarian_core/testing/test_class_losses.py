"""The losses of classes by their registry: values and slopes of every logit, and presence."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.costs.classes import logit_stats
from hungarian_core.terms import (
    CLASS_LOSSES,
    Boxes,
    Classes,
    ClassLoss,
    Presence,
    asymmetric,
)
from hungarian_core.terms.logit_losses import QueryTargets, class_indices, sigmoid_losses
from hungarian_core.testing import checks, detection
from hungarian_core.testing.driver import Driver

UPSTREAM = 1.7
INF, NAN = float("inf"), float("nan")
SIGMOID = tuple(name for name, loss in CLASS_LOSSES.items() if loss.activation == "sigmoid")
# Those of the queries, of which the label is the second class; the others see all of them too.
LOGITS = np.array([-700.0, -40.0, -18.0, -5.0, -1.0, -0.1, 0.2, 2.0, 6.0, 17.0, 30.0])
QUALITIES = np.array([0.0, 1e-6, 0.3, 0.7, 1.0])


def _losses(
    driver: Driver,
    losses: list[ClassLoss],
    x: Any,
    quality: Any,
    alpha: float,
    gamma: float,
    matched: bool = True,
    traced: bool = False,
) -> list[tuple[Any, Any]]:
    """Return losses and slopes of queries with the logits `x` `[n, 2]` and the label 1."""
    shape = (1, len(x))
    arrays = [
        driver.from_numpy(x[None]),
        driver.from_numpy(np.full(shape, matched)),
        driver.from_numpy(np.ones(shape, np.int64)),
        driver.from_numpy(np.broadcast_to(quality, shape).astype(x.dtype)),
    ]

    def found(logits: Any, *targets: Any) -> tuple[Any, ...]:
        xp = driver.resolve(logits).namespace(logits)
        stats, classes = logit_stats(logits, "sigmoid", xp), class_indices(logits, xp)
        wanted = QueryTargets(*targets)
        each: list[Any] = []
        for loss in losses:
            each += sigmoid_losses(loss, stats, wanted, classes, None, alpha, gamma, xp)
        return tuple(each)

    with np.errstate(all="ignore"):  # NumPy warns of what comes in
        parts = [
            driver.to_numpy(part)[0] for part in (driver.trace(found) if traced else found)(*arrays)
        ]
    scales = [loss.scale(alpha) for loss in losses]
    return [(v * k, s * k) for v, s, k in zip(parts[::2], parts[1::2], scales, strict=True)]


def _expected(name: str, x: Any, quality: Any, alpha: float, gamma: float) -> tuple[Any, Any]:
    """Return the losses, and their slopes by an imaginary step of each logit."""
    moved = x.astype(np.float64) + 1j * detection.STEP
    with np.errstate(all="ignore"):
        own = [
            detection.label_loss(name, z, y, alpha, gamma)
            for z, y in zip(moved[:, 1], quality, strict=True)
        ]
        other = [detection.other_loss(name, z, alpha, gamma) for z in moved[:, 0]]
    each = np.stack([other, own], axis=-1)
    return each.real.sum(-1), each.imag / detection.STEP


def _queries(dtype: str) -> tuple[Any, Any]:
    """Return logits `[n, 2]` and IoUs `[n]` of queries of all kinds."""
    x, quality = (a.ravel() for a in np.meshgrid(LOGITS, QUALITIES))
    return np.stack([x[::-1], x], axis=-1).astype(dtype), quality.astype(dtype).astype(float)


def _compare(found: tuple[Any, Any], expected: tuple[Any, Any], dtype: str) -> None:
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("name", SIGMOID)
def test_every_slope_is_that_of_the_value(driver: Driver, name: str, gamma: float) -> None:
    """By an imaginary step, for all logits and IoUs, with what counts as a constant held."""
    checks.skip_slow(driver)
    dtype = "float64" if "float64" in driver.dtypes else "float32"
    x, quality = _queries(dtype)
    (found,) = _losses(driver, [CLASS_LOSSES[name]], x, quality, 0.3, gamma)
    _compare(found, _expected(name, x, quality, 0.3, gamma), dtype)


def test_all_in_one_program(driver: Driver) -> None:
    x, quality = _queries("float32")
    losses = [CLASS_LOSSES[name] for name in SIGMOID]
    found = _losses(driver, losses, x, quality, 0.3, 1.5, traced=True)
    for name, one in zip(SIGMOID, found, strict=True):
        _compare(one, _expected(name, x, quality, 0.3, 1.5), "float32")


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("name", SIGMOID)
def test_certain_logits_have_the_limits(driver: Driver, name: str, gamma: float) -> None:
    """Slopes are finite at infinite logits, and values and slopes NaN only where a logit is."""
    checks.skip_slow(driver)
    ends = np.array([-INF, -1e4, -100.0, 100.0, 1e4, INF], np.float32)
    x, quality = (a.ravel() for a in np.meshgrid(ends, np.array([0.0, 0.4, 1.0])))
    losses, x = [CLASS_LOSSES[name]], np.stack([x[::-1], x], axis=-1)
    odd = x.copy()
    odd[3, 0] = NAN
    for matched in (True, False):
        ((value, slope),) = _losses(driver, losses, x, quality, 0.25, gamma, matched)
        assert not np.isnan(value).any()
        assert np.isfinite(slope).all()
        ((value, slope),) = _losses(driver, losses, odd, quality, 0.25, gamma, matched)
        assert np.argwhere(np.isnan(value)).tolist() == [[3]]
        assert np.argwhere(np.isnan(slope)).tolist() == [[3, 0]]


def test_asymmetric_losses_of_other_parameters(driver: Driver) -> None:
    """Without a clip it is the focal loss with no alpha, infinite logits too."""
    checks.skip_slow(driver)
    x = np.array([[-INF, INF], [INF, -INF], [-100.0, 3.0], [3.0, -100.0], [0.3, -0.4]])
    x, quality = x.astype(np.float32), np.zeros(len(x))
    losses = [asymmetric(1.0, 1.0, clip=0.0), asymmetric(0.0, 2.0, clip=0.3)]
    found, clipped = _losses(driver, losses, x, quality, 0.25, 2.0)
    (focal,) = _losses(driver, [CLASS_LOSSES["focal"]], x, quality, 0.5, 1.0)
    for one, other in zip(found, focal, strict=True):
        np.testing.assert_allclose(one, 2 * other, rtol=1e-6)
    assert clipped[1][0].tolist() == [0.0, 0.0]  # sure of both, and right
    assert clipped[1][2, 0] == 0  # p is less than the clip


@pytest.mark.parametrize("wrong", [{"gamma_pos": -1.0}, {"gamma_neg": NAN}, {"clip": 1.0}])
def test_parameters_of_the_asymmetric_loss(wrong: Any) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} is .*; expected a number"):
        asymmetric(**wrong)


def _of_one_class(driver: Driver, presence: bool, loss: str) -> hc.SetLoss:
    options: Any = {"loss": loss, "weight": 2.0, "cost_weight": 0.5, "cost_gamma": 1.0}
    term = Presence(**options) if presence else Classes(1, **options)
    return hc.SetLoss([term, Boxes()], backend=driver.backend)


@pytest.mark.parametrize("loss", ["focal", "ia_bce"])
def test_presence_is_a_class_that_all_objects_have(driver: Driver, loss: str) -> None:
    """Value, slopes, matching and the number of claims, with ignored and weighted objects."""
    if loss == "focal":
        checks.skip_lengthy(driver)
    else:
        checks.skip_programs(driver)
    rng = np.random.default_rng(3)
    mask = np.array([[True, True, True], [True, False, False]])
    x = rng.normal(size=(2, 2, 5)).astype(np.float32)
    boxes = rng.uniform(0.2, 0.5, (2, 2, 5, 4)).astype(np.float32)
    fields = {
        "boxes": rng.uniform(0.2, 0.5, (2, 3, 4)).astype(np.float32),
        "mask": mask,
        "ignore": np.array([[False, True, False], [False] * 3]),
        "weights": rng.uniform(0.5, 2, (2, 3)).astype(np.float32),
    }
    labels = {"labels": np.zeros((2, 3), np.int64)}
    found = []
    for presence in (True, False):
        criterion = _of_one_class(driver, presence, loss)
        given = fields if presence else {**fields, **labels}
        targets = {name: driver.from_numpy(a) for name, a in given.items()}

        def call(
            x: Any, boxes: Any, c: Any = criterion, p: bool = presence, t: Any = targets
        ) -> Any:
            return c({"presence": x, "boxes": boxes} if p else {"logits": x, "boxes": boxes}, t)

        inputs = [driver.from_numpy(a) for a in (x if presence else x[..., None], boxes)]
        names = ("presence", "presence_error") if presence else ("class", "cardinality_error")

        def several(*xs: Any, call: Any = call, names: Any = names) -> Any:
            out = call(*xs)
            return out.losses[names[0]], out.logs[names[1]], out.assignment.col4row

        parts = [driver.to_numpy(a) for a in driver.trace(several)(*inputs)]
        if driver.differentiable:
            up = driver.from_numpy(np.asarray(UPSTREAM), "float32")
            _, grads = driver.value_and_grad(lambda *xs, c=call: c(*xs).total, inputs, up)
            parts += [driver.to_numpy(grads[0]).reshape(x.shape), driver.to_numpy(grads[1])]
        found.append(parts)
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_presence_by_its_formula() -> None:
    """Binary cross entropy of all queries, and the cost -log p."""
    x = np.array([[0.4, -1.0, 2.0]])
    term = Presence(loss="bce", cost="nll", weight=3.0)
    found = hc.SetLoss([term])({"presence": x}, {"mask": np.array([[True, False]])})
    assert found.assignment.col4row.tolist() == [[2, -1]]
    expected = np.log1p(np.exp([0.4, -1.0, -2.0])).sum()
    assert float(found.total) == pytest.approx(3 * expected)
    with pytest.raises(ValueError, match="loss is 'softmax'; expected a sigmoid loss"):
        Presence(loss="softmax")


def test_a_record_for_each_name() -> None:
    """Each has its name, can be pickled, and is a loss of `Classes`."""
    for name, loss in CLASS_LOSSES.items():
        assert loss.name == name
        again = pickle.loads(pickle.dumps(loss))
        assert again.name == name
        assert Classes(3, loss=again).loss.costs == loss.costs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_loss": "focal", "alpha": 1.5}, "alpha is 1.5; expected a number from 0 to 1"),
        (
            {"class_loss": "varifocal", "alpha": float("nan")},
            "alpha is nan; expected a number, 0 or more",
        ),
        ({"class_loss": "ia_bce", "alpha": -1}, "alpha is -1; expected a number from 0 to 1"),
        ({"class_loss": "focal", "gamma": -1.0}, "gamma is -1.0; expected a number, 0 or more"),
        (
            {"class_loss": "mal", "cost_gamma": -1.0},
            "cost_gamma is -1.0; expected a number, 0 or more",
        ),
    ],
)
def test_options_beyond_their_ends(options: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole message is compared)
        hc.DetrLoss(3, **options)
    assert str(caught.value) == message
