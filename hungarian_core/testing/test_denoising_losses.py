"""The losses of queries for denoising, beside a loop over them, and what workers ask each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks
from hungarian_core.testing.detection import label_loss, other_loss
from hungarian_core.testing.driver import Driver
from hungarian_core.testing.test_denoising import (
    CLASSES,
    GROUPS,
    MASK,
    contrastive,
    expected_queries,
    make_data,
    make_queries,
)


def _of_denoised(
    logits: np.ndarray, boxes: np.ndarray, of_query: np.ndarray, number: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the losses of classes and boxes in layers and the slopes, in a loop over queries."""
    labels, true = make_data("float64")
    step, losses = 1e-30, np.zeros((2, len(logits)))
    slopes = np.zeros(logits.shape), np.zeros(boxes.shape)
    for k, b, q in np.ndindex(logits.shape[:3]):
        own = of_query[b, q]
        for c in range(CLASSES):
            is_label = own >= 0 and labels[b, own] == c
            x = logits[k, b, q, c] + 1j * step
            each = (
                label_loss("focal", x, 1, 0.25, 2) if is_label else other_loss("focal", x, 0.25, 2)
            )
            losses[0, k] += each.real / number
            slopes[0][k, b, q, c] = each.imag / step / number
        if own >= 0:
            apart = boxes[k, b, q] - true[b, own]
            losses[1, k] += 5 * np.abs(apart).sum() / number
            slopes[1][k, b, q] = 5 * np.sign(apart) / number
    return losses[0], losses[1], *slopes


@pytest.mark.parametrize("repeat", [1, 2])
def test_loss_beside_the_own(driver: Driver, repeat: int) -> None:
    """DINO's: over the number of objects times that of groups, whatever the own queries are."""
    if repeat > 1:
        checks.skip_programs(driver)
    checks.skip_lengthy(driver)
    labels, true = make_data()
    truth = [driver.from_numpy(x) for x in (labels, true, MASK)]
    queries = make_queries(driver, *truth, contrastive=True)
    rng = np.random.default_rng(8)
    shapes = (1, 3, 4, CLASSES), (1, 3, 4, 4), (2, 3, 18, CLASSES), (2, 3, 18, 4)
    arrays = [rng.uniform(0.2, 0.6, shape).astype(np.float32) for shape in shapes]
    criterion = hc.SetLoss(
        [hc.terms.Classes(CLASSES, loss="focal"), hc.terms.Boxes(giou_weight=0.0)],
        repeat=repeat, groups=repeat, backend=driver.backend,
    )  # fmt: skip
    given = dict(zip(("labels", "boxes", "mask"), truth, strict=True))

    def program(logits: Any, boxes: Any, noised_logits: Any, noised_boxes: Any) -> Any:
        outputs = {"logits": noised_logits, "boxes": noised_boxes}
        made = hc.denoising.Denoised(queries, outputs)
        return criterion({"logits": logits, "boxes": boxes}, given, denoising=made)

    inputs = [driver.from_numpy(x) for x in arrays]
    found = driver.trace(program)(*inputs)
    plain = criterion({"logits": inputs[0], "boxes": inputs[1]}, given)
    of_query = expected_queries(2, 0.3, contrastive)["assignment"]
    number = MASK.sum() * GROUPS
    classes, boxes, *slopes = _of_denoised(
        arrays[2].astype(float), arrays[3].astype(float), of_query, number
    )
    for name, want in (("class_dn", classes), ("bbox_dn", boxes)):
        np.testing.assert_allclose(driver.to_numpy(found.losses[name]), want, rtol=1e-5)
    assert {*found.losses} == {f"{name}{end}" for name in plain.losses for end in ("", "_dn")}
    total = driver.to_numpy(plain.total) + classes.sum() + boxes.sum()
    np.testing.assert_allclose(driver.to_numpy(found.total), total, rtol=1e-5)
    if not driver.differentiable or repeat > 1:
        return
    upstream = driver.from_numpy(np.asarray(2.5, np.float32))
    _, grads = driver.value_and_grad(lambda *x: program(*x).total, inputs, upstream)
    for grad, slope in zip(grads[2:], slopes, strict=True):
        np.testing.assert_allclose(driver.to_numpy(grad), 2.5 * slope, rtol=1e-4, atol=1e-6)


def test_loss_of_a_detector(driver: Driver) -> None:
    """By `DetrLoss`, with padding left out, a number of objects that is given, and no object."""
    checks.skip_programs(driver)
    labels, true = make_data()
    truth: Any = tuple(driver.from_numpy(x) for x in (labels, true, MASK))
    queries = make_queries(driver, *truth, contrastive=True)
    rng = np.random.default_rng(8)
    options: Any = {"giou_weight": 0.0, "backend": driver.backend}
    criterion: Any = hc.DetrLoss.preset("dino", CLASSES, **options)
    own = [driver.from_numpy(np.full((3, 4, n), 0.3, np.float32)) for n in (CLASSES, 4)]
    logits, boxes = (rng.uniform(0.2, 0.6, (1, 3, 18, n)).astype(np.float32) for n in (CLASSES, 4))
    outputs = {
        "logits": driver.from_numpy(logits[0]), "boxes": driver.from_numpy(boxes[0])
    }  # fmt: skip
    made = hc.denoising.Denoised(queries, outputs, queries.mask)
    found = criterion(*own, truth, denoising=made, num_objects=7.0)
    plain = criterion(*own, truth, num_objects=7.0)
    assert plain.denoising == {}
    want = expected_queries(2, 0.3, contrastive)
    classes, apart, *_ = _of_denoised(
        np.where(want["mask"][..., None], logits, -50.0).astype(float), boxes.astype(float),
        want["assignment"], 7 * GROUPS,
    )  # fmt: skip
    np.testing.assert_allclose(driver.to_numpy(found.denoising["class"]), classes[0], rtol=1e-5)
    np.testing.assert_allclose(driver.to_numpy(found.denoising["bbox"]), apart[0], rtol=1e-5)
    np.testing.assert_allclose(
        driver.to_numpy(found.total), driver.to_numpy(plain.total) + classes[0] + apart[0],
        rtol=1e-5,
    )  # fmt: skip
    np.testing.assert_array_equal(driver.to_numpy(found.bbox), driver.to_numpy(plain.bbox))

    nothing = [{"labels": truth[0][0, :0], "boxes": truth[1][0, :0]}] * 3
    queries = hc.denoising.contrastive_queries(nothing, CLASSES, seed=0, backend=driver.backend)
    layers = [driver.from_numpy(np.zeros((2, 3, 0, n), np.float32)) for n in (CLASSES, 4)]
    outputs = dict(zip(("logits", "boxes"), layers, strict=True))
    found = criterion(*own, nothing, denoising=hc.denoising.Denoised(queries, outputs))
    for x in found.denoising.values():  # of as many layers as there are outputs
        np.testing.assert_array_equal(driver.to_numpy(x), np.zeros(2))
    np.testing.assert_array_equal(
        driver.to_numpy(found.total), driver.to_numpy(criterion(*own, nothing).total)
    )


@pytest.fixture
def asks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What NumPy's backend asks of all workers: a second one, which has the same."""
    found: list[Any] = []

    def all_reduce(self: Any, x: Any) -> Any:
        found.append(x)
        return 2 * x

    monkeypatch.setattr(type(hc.get_backend("numpy")), "all_reduce", all_reduce)
    return found


@pytest.mark.parametrize("axes", [(2,), (2, 2)])
@pytest.mark.parametrize(
    ("options", "asked"),
    [({}, 1), ({"class_denominator": "global"}, 2), ({"class_loss": "focal"}, 1)],
)
def test_workers_ask_for_the_same(
    options: dict[str, Any], asked: int, axes: tuple[int, ...], asks: list[Any]
) -> None:
    """Whether they have objects, and so queries for denoising, or none: else they wait for good."""
    criterion = hc.DetrLoss(3, **options)
    for n in (2, 0):
        targets = [{"labels": np.zeros(n, int), "boxes": np.full((n, 4), 0.5)}] * 2
        queries = hc.denoising.contrastive_queries(targets, 3, seed=0, groups=2)
        logits = 3 if options.get("class_loss") else 4
        noised = {"logits": np.zeros((*axes, 4 * n, logits)), "boxes": np.zeros((*axes, 4 * n, 4))}
        own = np.zeros((2, 5, logits)), np.full((2, 5, 4), 0.5)
        criterion(*own, targets, denoising=hc.denoising.Denoised(queries, noised))
    with_objects, without = asks[:asked], asks[asked:]
    assert [x.shape for x in with_objects] == [x.shape for x in without]


def test_workers_count_images_once(asks: list[Any]) -> None:
    """And divide the losses of queries for denoising by their number too."""
    criterion = hc.SetLoss([hc.terms.Boxes(giou_weight=0.0)], normalize="images")
    targets = [{"boxes": np.full((1, 4), 0.5)}] * 3
    made = [{**x, "labels": np.zeros(1, int)} for x in targets]
    queries = hc.denoising.contrastive_queries(made, 3, seed=0, groups=1)
    noised = {"boxes": np.full((3, 2, 4), 0.25)}
    found = criterion(
        {"boxes": np.full((3, 4, 4), 0.5)}, targets,
        denoising=hc.denoising.Denoised(queries, noised),
    )  # fmt: skip
    assert len(asks) == 1
    np.testing.assert_allclose(found.losses["bbox_dn"], 5 * 4 * 0.25)


def test_not_denoised() -> None:
    targets = [{"labels": np.array([1]), "boxes": np.array([[0.5, 0.5, 0.2, 0.2]])}]
    queries = hc.denoising.contrastive_queries(targets, 3, seed=0, groups=1)
    own: Any = np.zeros((1, 4, 3)), np.full((1, 4, 4), 0.5), targets
    outputs = {"logits": np.zeros((1, 2, 3)), "boxes": queries.boxes}
    criterion: Any = hc.DetrLoss.preset("dino", 3)
    for wrong, came in (((queries, outputs), "tuple"), (queries, "DenoisingQueries")):
        with pytest.raises(TypeError, match=f"denoising has a {came}; expected .*Denoised"):
            criterion(*own, denoising=wrong)
    made: Any = hc.denoising.Denoised(queries.assignment, outputs)
    with pytest.raises(TypeError, match="denoising has a ndarray"):
        criterion(*own, denoising=made)
    fewer = {name: x[:, :1] for name, x in outputs.items()}
    with pytest.raises(ValueError, match=r"logits of denoising .* 1 images and 2 queries"):
        criterion(*own, denoising=hc.denoising.Denoised(queries, fewer))
    with pytest.raises(
        ValueError, match=r"denoising has the outputs \['logits'\]; expected 'boxes'"
    ):
        criterion(*own, denoising=hc.denoising.Denoised(queries, {"logits": outputs["logits"]}))
    boxes = {"boxes": own[1]}
    mine = hc.terms.Pairs("bbox_dn", lambda xp, a, b: xp.sum(xp.abs(a - b), axis=-1), on="boxes")
    with pytest.raises(ValueError, match=r"losses of terms are called \['bbox_dn'\]"):
        hc.SetLoss([hc.terms.Boxes(), mine])(
            boxes, targets, denoising=hc.denoising.Denoised(queries, {"boxes": queries.boxes})
        )
    with pytest.raises(ValueError, match="num_objects has dtype complex128"):
        criterion(*own, num_objects=5j)
    with pytest.raises(ValueError, match=r"labels holds 3.*; expected 0 to 2"):
        hc.denoising.contrastive_queries([{**targets[0], "labels": np.array([3])}], 3, seed=0)
