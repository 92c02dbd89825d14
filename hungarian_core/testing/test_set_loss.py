"""`SetLoss`: terms of one's own, matchings that are given, and what sums are divided by."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc
from hungarian_core.terms import Boxes, Classes, ClassLoss, Pairs, Prefixed, QueryLosses, Term
from hungarian_core.testing import checks, detection
from hungarian_core.testing.driver import Driver

UPSTREAM = 1.7
LAYERS, IMAGES, QUERIES, OBJECTS = 2, 2, 5, 3
MASK = np.array([[True, True, True], [True, False, False]])


def _squares(xp: Any, a: Any, b: Any) -> Any:
    return xp.sum((a - b) ** 2, axis=-1)


class Presence(Term):
    """Each query says by one logit whether it stands for an object: a term as users write it."""

    outputs: Mapping[str, tuple[int | str, ...]] = {"presence": ()}
    fields: Mapping[str, tuple[int | str, ...]] = {}
    weights: Mapping[str, float] = {"presence": 3.0}

    def read(self, outputs: Any, fields: Any, problems: Any) -> Any:  # noqa: D102  (as of `Term`)
        return problems.of_queries(outputs["presence"])

    def costs(  # noqa: D102
        self, problems: Any, inputs: Any, tile: Any, summary: Any
    ) -> dict[str, Any]:
        xp, (n, q) = problems.xp, tile
        x = problems.backend.stop_gradient(inputs[n, q])[:, None, :]
        return {"presence": xp.zeros_like(problems.mask[n, :, None], dtype=x.dtype) - 0.5 * x}

    def query_losses(  # noqa: D102
        self, problems: Any, inputs: Any, summaries: Any, matches: Any, iou: Any
    ) -> QueryLosses:
        xp = problems.xp
        wrong = xp.where(matches.query_matched, -inputs, inputs)
        losses, ones = {"presence": xp.log1p(xp.exp(wrong))}, xp.ones_like(inputs)
        return QueryLosses(losses, xp.where(matches.query_matched, ones, 0.5 * ones))


def _data(dtype: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    arrays = {
        "where": rng.normal(size=(LAYERS, IMAGES, QUERIES, 3)),
        "presence": rng.normal(size=(LAYERS, IMAGES, QUERIES)),
        "spots": np.where(MASK[..., None], rng.normal(size=(IMAGES, OBJECTS, 3)), np.nan),
        "weights": rng.uniform(0.5, 2, (IMAGES, OBJECTS)),
    }
    return {name: x.astype(np.float32).astype(dtype) for name, x in arrays.items()}


def _of_own(**options: Any) -> hc.SetLoss:
    spots = Pairs("spot", _squares, weight=2.0, cost_weight=0.7, on=("spots", "where"))
    return hc.SetLoss([spots, Presence()], **options)


@pytest.mark.parametrize("solver", ["auto", "core"])
def test_terms_of_ones_own(driver: Driver, solver: Any) -> None:
    """A pair of functions and a class, beside a loop over problems in float64."""
    if solver == "core":
        checks.skip_programs(driver)
    dtype = "float64" if "float64" in driver.dtypes else "float32"
    data = _data(dtype)
    criterion = _of_own(backend=driver.backend, solver=solver)
    fields = {name: driver.from_numpy(data[name]) for name in ("spots", "weights")}
    fields["mask"] = driver.from_numpy(MASK)

    def call(where: Any, presence: Any) -> hc.SetLosses:
        return criterion({"where": where, "presence": presence}, fields)

    inputs = [driver.from_numpy(data[name]) for name in ("where", "presence")]

    def several(*xs: Any) -> tuple[Any, ...]:
        out = call(*xs)
        return out.total, out.losses["spot"], out.losses["presence"], out.assignment.col4row

    total, spot, presence, col4row = map(driver.to_numpy, driver.trace(several)(*inputs))

    where, x = (data[name].astype(np.float64) for name in ("where", "presence"))
    want_spot, want_presence = np.zeros(LAYERS), np.zeros(LAYERS)
    slope_of_where, slope_of_x = np.zeros_like(where), np.zeros_like(x)
    counted = MASK.sum()
    for layer in range(LAYERS):
        matched, want_cols = np.zeros((IMAGES, QUERIES), bool), np.full((IMAGES, OBJECTS), -1)
        of_object = np.ones((IMAGES, QUERIES))  # the weights of the queries' objects
        for b in range(IMAGES):
            truth = data["spots"][b, MASK[b]].astype(np.float64)
            apart = where[layer, b][None] - truth[:, None]
            cost = 0.7 * (apart**2).sum(-1) - 0.5 * x[layer, b]
            rows, cols = linear_sum_assignment(cost)
            want_cols[b, rows] = cols
            matched[b, cols] = True
            for i, j in zip(rows, cols, strict=True):
                of_object[b, j] = data["weights"][b, i]
                weight = 2 * float(data["weights"][b, i]) / counted
                want_spot[layer] += weight * (apart[i, j] ** 2).sum()
                slope_of_where[layer, b, j] = weight * 2 * apart[i, j]
        np.testing.assert_array_equal(col4row[layer], want_cols)
        sign, weight = np.where(matched, -1, 1), 3 / np.where(matched, 1, 0.5).sum()
        weight = weight * of_object
        want_presence[layer] = (weight * np.log1p(np.exp(sign * x[layer]))).sum()
        slope_of_x[layer] = weight * sign / (1 + np.exp(-sign * x[layer]))
    tolerance: Any = {"rtol": 1e-5 if dtype == "float32" else 1e-12, "atol": 1e-7}
    np.testing.assert_allclose(spot, want_spot, **tolerance)
    np.testing.assert_allclose(presence, want_presence, **tolerance)
    np.testing.assert_allclose(total, want_spot.sum() + want_presence.sum(), **tolerance)
    if driver.differentiable:
        _, grads = driver.value_and_grad(
            lambda *xs: call(*xs).total, inputs, driver.from_numpy(np.asarray(UPSTREAM), dtype)
        )
        for grad, slope in zip(grads, (slope_of_where, slope_of_x), strict=True):
            np.testing.assert_allclose(driver.to_numpy(grad), UPSTREAM * slope, **tolerance)


def detection_call(rng: np.random.Generator, groups: int = 1) -> tuple[dict[str, Any], hc.Targets]:
    """Return the outputs and targets of a call at random."""
    shape = (LAYERS, IMAGES, QUERIES * groups)
    outputs = {
        "logits": rng.normal(size=(*shape, 4)).astype(np.float32),
        "boxes": rng.uniform(0.2, 0.5, (*shape, 4)).astype(np.float32),
    }
    truth = rng.uniform(0.2, 0.5, (IMAGES, OBJECTS, 4)).astype(np.float32)
    labels = rng.integers(0, 3, (IMAGES, OBJECTS))
    weights = rng.uniform(0.5, 2, (IMAGES, OBJECTS)).astype(np.float32)
    ignore = np.array([[False, True, False], [False] * 3])
    return outputs, hc.Targets(labels, truth, MASK, weights, ignore)


def to_arrays(driver: Driver, targets: hc.Targets) -> hc.Targets:
    """Return targets in the driver's framework."""
    return hc.Targets(*[None if x is None else driver.from_numpy(x) for x in targets])


def test_a_class_loss_is_a_record(driver: Driver) -> None:
    """One of the user's own does what the library's does with the same formula."""
    checks.skip_programs(driver)
    outputs, targets = detection_call(np.random.default_rng(3))
    arrays = [driver.from_numpy(outputs["logits"][..., :3]), driver.from_numpy(outputs["boxes"])]
    given = to_arrays(driver, targets)
    focal = hc.terms.CLASS_LOSSES["focal"]
    mine = dataclasses.replace(focal, name="mine", native=None)
    losses: tuple[Any, ...] = ("focal", mine)
    criteria: list[Any] = [hc.DetrLoss(3, class_loss=x, backend=driver.backend) for x in losses]
    one, other = (driver.to_numpy(criterion(*arrays, given).total) for criterion in criteria)
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_class_loss_by_its_formula() -> None:
    """The square of 1 - p for the label, and the usual sum for the others."""

    def label(x: Any, quality: Any, alpha: float, gamma: float, xp: Any) -> tuple[Any, Any]:
        p = 1 / (1 + xp.exp(-x))
        return (1 - p) ** 2, -2 * (1 - p) ** 2 * p

    loss = ClassLoss("square", label=label)
    logits = np.random.default_rng(1).normal(size=(1, 2, 3))
    found = hc.SetLoss([Classes(3, loss=loss, cost="nll", gamma=0.0)])(
        {"logits": logits}, {"labels": np.array([[2]])}
    )
    p = 1 / (1 + np.exp(-logits[0]))
    at = int(np.argmax(p[:, 2]))
    entropy = -np.log(1 - p)
    entropy[at, 2] = (1 - p[at, 2]) ** 2
    assert found.assignment.col4row.tolist() == [[at]]
    assert float(found.total) == pytest.approx(entropy.sum())


@pytest.mark.parametrize("solver", ["native", "core"])
def test_what_sums_are_divided_by(driver: Driver, solver: Any) -> None:
    checks.skip_programs(driver)
    checks.need_solver(driver, solver)
    data = _data("float32")
    outputs = {name: driver.from_numpy(data[name]) for name in ("where", "presence")}
    fields = {"spots": driver.from_numpy(data["spots"]), "mask": driver.from_numpy(MASK)}
    sums = {}
    for normalize in ("objects", "images", None):
        options: Any = {"backend": driver.backend, "normalize": normalize, "solver": solver}
        found = _of_own(**options, log=False)(outputs, fields)
        assert found.logs == {}
        sums[normalize] = driver.to_numpy(found.losses["spot"])
        apart = _of_own(**options, reduction="none")(outputs, fields)
        assert driver.to_numpy(apart.losses["spot"]).shape == (LAYERS, IMAGES)
        by_image = driver.to_numpy(apart.losses["spot"])
        np.testing.assert_allclose(by_image.sum(1), sums[normalize], rtol=1e-5)
    np.testing.assert_allclose(sums["objects"] * MASK.sum(), sums[None], rtol=1e-6)
    np.testing.assert_allclose(sums["images"] * IMAGES, sums[None], rtol=1e-6)


def test_two_ways_with_a_term_of_ones_own(driver: Driver) -> None:
    """Classes and boxes natively beside a term that the library has not, odd input and all."""
    checks.need_solver(driver, "native")
    checks.skip_programs(driver)
    rng = np.random.default_rng(4)
    losses: tuple[Any, ...] = ("softmax", "focal")
    for trial, loss in itertools.product(range(6), losses):
        outputs, targets = detection_call(rng)
        outputs["logits"] = outputs["logits"][..., : 3 + (loss == "softmax")]
        outputs["where"] = rng.normal(size=(LAYERS, IMAGES, QUERIES, 2)).astype(np.float32)
        for x in outputs.values():
            x[rng.random(x.shape) < 0.02 * (trial % 3)] = rng.choice([np.inf, -np.inf, np.nan])
        fields = {name: getattr(targets, name) for name in targets._fields[:5]}
        fields["spots"] = rng.normal(size=(IMAGES, OBJECTS, 2)).astype(np.float32)
        given = {name: driver.from_numpy(x) for name, x in fields.items()}
        arrays = {name: driver.from_numpy(x) for name, x in outputs.items()}
        terms = [Classes(3, loss=loss), Boxes(), Pairs("spot", "l1", on=("spots", "where"))]
        found = []
        solvers: tuple[Any, ...] = ("native", "core")
        for solver in solvers:
            criterion = hc.SetLoss(terms, solver=solver, backend=driver.backend)
            with np.errstate(all="ignore"):
                out = criterion(arrays, given)
            found.append([out.assignment.cost, *out.losses.values(), *out.logs.values()])
        for k, (one, other) in enumerate(zip(*found, strict=True)):
            detection.compare(driver.to_numpy(one), driver.to_numpy(other), f"{k} of {trial}", 1e-4)


def test_weights_of_a_call(driver: Driver) -> None:
    """They take the place of the terms' own, in the loss and not in the matching."""
    checks.skip_programs(driver)
    outputs, targets = detection_call(np.random.default_rng(6))
    arrays = {name: driver.from_numpy(x) for name, x in outputs.items()}
    given = to_arrays(driver, targets)
    criterion = hc.SetLoss([Classes(3), Boxes()], backend=driver.backend)
    plain, found = criterion(arrays, given), criterion(arrays, given, weights={"bbox": 2.5})
    for name, x in plain.losses.items():
        scale = 0.5 if name == "bbox" else 1
        other = driver.to_numpy(found.losses[name])
        np.testing.assert_allclose(other, driver.to_numpy(x) * scale, rtol=1e-6)
    with pytest.raises(ValueError, match="weight is 'box'; expected one of 'class', 'bbox'"):
        criterion(arrays, given, weights={"box": 1.0})
    aligned = hc.SetLoss([Classes(3), Boxes()], match_by="loss", backend=driver.backend)
    with pytest.raises(ValueError, match="weights came with match_by='loss'"):
        aligned(arrays, given, weights={"bbox": 1.0})


def test_what_is_set_later_counts(driver: Driver) -> None:
    """Attributes of `DetrLoss` that a schedule or a wrapper sets are read at every call."""
    checks.skip_programs(driver)
    outputs, targets = detection_call(np.random.default_rng(8), groups=2)
    arrays = [driver.from_numpy(outputs[name]) for name in ("logits", "boxes")]
    given = to_arrays(driver, targets)
    changes: Any = {"groups": 2, "repeat": 2, "reduction": "none", "bbox_weight": 1.0}
    criterion: Any = hc.DetrLoss(3)
    criterion.backend = driver.backend
    for name, value in changes.items():
        setattr(criterion, name, value)
        assert getattr(criterion, name) == value
    expected: Any = hc.DetrLoss(3, **changes, backend=driver.backend)
    one, other = (driver.to_numpy(f(*arrays, given).total) for f in (criterion, expected))
    assert one.shape == (IMAGES,)
    np.testing.assert_array_equal(one, other)


def test_forms_of_targets(driver: Driver) -> None:
    """Padded arrays and lists of mappings, with keys of the user's own."""
    if not driver.static_shapes or not driver.raises:
        pytest.skip("padding comes before the program")
    checks.skip_programs(driver)
    data = _data("float32")
    outputs = {name: driver.from_numpy(data[name]) for name in ("where", "presence")}
    padded = {name: driver.from_numpy(data[name]) for name in ("spots", "weights")}
    padded["mask"] = driver.from_numpy(MASK)
    images = [
        {name: driver.from_numpy(data[name][b, MASK[b]]) for name in ("spots", "weights")}
        for b in range(IMAGES)
    ]
    criterion = _of_own(backend=driver.backend)
    made = criterion.pad_targets(images, size=OBJECTS)
    assert {name: driver.to_numpy(x).shape for name, x in made.items()} == {
        "mask": (2, 3), "spots": (2, 3, 3), "weights": (2, 3),
    }  # fmt: skip
    forms: tuple[Any, ...] = (padded, images, made)
    one, other, third = (driver.to_numpy(criterion(outputs, x).total) for x in forms)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one, third)


@pytest.mark.parametrize("options", [{}, {"match_by": "loss"}], ids=["cost", "loss"])
def test_prefixed_terms_are_the_terms(driver: Driver, options: Any) -> None:
    """All that a term says has other names, and nothing else is different."""
    checks.skip_programs(driver)
    outputs, targets = detection_call(np.random.default_rng(9))
    terms = [Classes(3), Boxes(), Pairs("boxes", "l1", weight=0.5)]
    arrays = {name: driver.from_numpy(x) for name, x in outputs.items()}
    given = to_arrays(driver, targets)
    plain, prefixed = (
        hc.SetLoss(x, backend=driver.backend, **options)
        for x in (terms, [Prefixed("a ", x) for x in terms])
    )
    wanted, found = plain(arrays, given), prefixed(arrays, given)
    np.testing.assert_allclose(
        driver.to_numpy(found.total), driver.to_numpy(wanted.total), rtol=1e-6
    )
    for ours, theirs in (
        (found.losses, wanted.losses),
        (prefixed.costs(arrays, given), plain.costs(arrays, given)),
        (found.logs, wanted.logs),
    ):
        of_set = {"assigned", "background"}  # what the criterion says has no prefix
        assert {*ours} == {k if k in of_set else f"a {k}" for k in theirs}
        for name, x in theirs.items():
            other = ours[name if name in of_set else f"a {name}"]
            np.testing.assert_allclose(driver.to_numpy(other), driver.to_numpy(x), rtol=1e-5)


ERRORS: dict[str, tuple[Any, Any, str]] = {
    "no terms": ([], {}, "terms is .*; expected a list of one term at least"),
    "no term": (["boxes"], {}, r"terms\[0\] is 'boxes'; expected a term"),
    "twice": ([Boxes(), Boxes()], {}, r"terms\[1\] has a loss 'bbox', as one before it"),
    "prefixed twice": ([Prefixed("a", Boxes()), Prefixed("a", Boxes())], {}, r"a loss 'abbox', as"),
    "iou": ([Classes(3, loss="varifocal")], {}, r"needs the IoU of matched boxes; expected a term"),
    "alone": ([Classes(3, loss="focal")], {"match_by": "loss"}, "cannot be matched by its loss"),
    "option": ([Boxes()], {"match_by": "giou"}, "match_by is 'giou'; expected one of 'cost', 'los"),
    "cost": ([Boxes()], {"normalize": "boxes"}, "normalize is 'boxes'; expected one of 'objects'"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_wrong_terms_and_options(name: str) -> None:
    terms, options, message = ERRORS[name]
    with pytest.raises((TypeError, ValueError), match=message):
        hc.SetLoss(terms, **options)


TWO = np.ones((1, 2, 4))


@pytest.mark.parametrize(
    ("outputs", "targets", "message"),
    [
        ({"boxs": TWO}, {}, r"outputs has the keys \['boxs'\]; expected 'boxes'"),
        (TWO, {}, "outputs is .*; expected a mapping with 'boxes'"),
        ({"boxes": TWO[0]}, {"boxes": TWO}, r"expected \(B, Q, 4\), or \(L"),
        ({"boxes": TWO}, {"labels": np.ones((1, 1), int)}, "the targets have none"),
        ({"boxes": TWO}, [{"labels": np.ones(1, int)}], r"targets\[0\] has the keys"),
        ({"boxes": TWO}, {"boxes": TWO[..., :3]}, r"expected \(B, M, 4\) with"),
    ],
)
def test_wrong_outputs_and_targets(outputs: Any, targets: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        hc.SetLoss([Boxes()])(outputs, targets)


def test_targets_of_which_nothing_is_read() -> None:
    """It is the mask that counts objects, and a list has none."""
    criterion, outputs = hc.SetLoss([Presence()]), {"presence": np.zeros((2, 3))}
    found = criterion(outputs, {"mask": np.array([[True, False], [True, True]])})
    assert (found.assignment.col4row >= 0).sum() == 3
    with pytest.raises(ValueError, match="no term reads anything of the targets"):
        criterion(outputs, [{"labels": np.ones(1, int)}] * 2)
    with pytest.raises(ValueError, match="the targets have no 'mask'"):
        criterion(outputs, {})


def test_wrong_pairs() -> None:
    with pytest.raises(ValueError, match="the cost of 'a' is 'l3'; expected one of 'euclidean'"):
        Pairs("a", "l3")
    with pytest.raises(ValueError, match="the term 'a' has neither a cost nor a loss"):
        Pairs("a", None)
    wrong: Any = lambda a, b: abs(a - b)  # noqa: E731  (the mistake under test)
    criterion = hc.SetLoss([Pairs("a", wrong)])
    data = {"a": np.ones((1, 2, 3))}
    with pytest.raises(TypeError, match=r"the cost of 'a' is a function \(a, b\); expected"):
        criterion(data, data)
    with pytest.raises(ValueError, match="equally many features"):
        hc.SetLoss([Pairs("a")])(data, {"a": np.ones((1, 2, 2))})


def test_what_is_prefixed_is_a_term() -> None:
    wrong: Any = "boxes"
    with pytest.raises(TypeError, match="term is 'boxes'; expected a term, such as"):
        Prefixed("a", wrong)
