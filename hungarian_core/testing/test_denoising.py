"""Queries made from true objects with noise, beside a loop over them with the generator in ints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks
from hungarian_core.testing.detection import label_loss, other_loss
from hungarian_core.testing.driver import Driver

CLASSES, GROUPS, QUERIES, SEED = 5, 3, 2, 2**40 + 7
MASK = np.array([[True, True, True], [True, False, False], [False, False, False]])
NAMES = ("labels", "boxes", "assignment", "mask", "group")
BITS = 2**32 - 1


def _data(dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, CLASSES, MASK.shape)
    boxes = np.where(MASK[..., None], rng.uniform(0.2, 0.6, (*MASK.shape, 4)), np.nan)
    return labels, boxes.astype(np.float32).astype(dtype)


def _words(seed: int, object_: int, stream: int, image: int, copy: int) -> tuple[int, int]:
    """Return two words of Threefry-2x32 with 20 rounds (Salmon et al., SC 2011)."""
    key = [seed & BITS, seed >> 32]
    key.append(key[0] ^ key[1] ^ 0x1BD11BDA)
    a, b = (object_ * 8 + stream + key[0]) & BITS, (image * 2**16 + copy + key[1]) & BITS
    for group in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            a = (a + b) & BITS
            b = a ^ ((b << turn | b >> (32 - turn)) & BITS)
        a = (a + key[(group + 1) % 3]) & BITS
        b = (b + key[(group + 2) % 3] + group + 1) & BITS
    return a, b


def _contrastive(box: np.ndarray, kind: int, u: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """DINO's: corners move by up to half a side, and those of kind 1 by that much farther."""
    x, y, w, h = box
    corners = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    corners += (u + kind) * signs * np.array([w, h, w, h]) / 2 * 0.8
    x0, y0, x1, y1 = np.clip(corners, 0, 1)
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, 0), max(y1 - y0, 0)])


def _plain(box: np.ndarray, kind: int, u: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """DN-DETR's: the centre moves by up to half a side, and the side by up to itself."""
    reach = np.array([box[2] / 2, box[3] / 2, box[2], box[3]])
    return np.clip(box + (2 * u - 1) * reach * 0.8, 0, 1)


def _expected(kinds: int, ratio: float, noised: Callable[..., np.ndarray]) -> dict[str, np.ndarray]:
    """Return what the queries are by a loop over images, groups, kinds and objects."""
    labels, boxes = _data("float64")
    images, objects = MASK.shape
    rows: dict[str, list[Any]] = {name: [] for name in NAMES}
    for b, group, kind, m in np.ndindex(images, GROUPS, kinds, objects):
        copy, there = group * kinds + kind, MASK[b, m]
        draw, new = _words(SEED, m, 0, b, copy)
        label = int((new >> 8) * CLASSES / 2**24)
        words = [x for stream in (1, 2) for x in _words(SEED, m, stream, b, copy)]
        (flips, _), u = _words(SEED, m, 3, b, copy), (np.array(words) + 0.5) / 2**32
        signs = np.array([2.0 * (flips >> k & 1) - 1 for k in range(4)])
        old = labels[b, m] if there else CLASSES
        rows["labels"].append(label if there and (draw >> 8) / 2**24 < ratio else old)
        rows["boxes"].append(noised(boxes[b, m], kind, u, signs) if there else np.zeros(4))
        rows["assignment"].append(m if there and kind == 0 else -1)
        rows["mask"].append(there)
        rows["group"].append(group)
    found = {name: np.array(x).reshape(images, -1, *np.shape(x[0])) for name, x in rows.items()}
    return {**found, "group": found["group"][0]}


def _made(driver: Driver, labels: Any, boxes: Any, mask: Any, *, contrastive: bool) -> Any:
    shared: Any = {"seed": SEED, "groups": GROUPS, "backend": driver.backend}
    shared |= {"label_noise_ratio": 0.6, "box_noise_scale": 0.8}
    make = hc.denoising.contrastive_queries if contrastive else hc.denoising.denoising_queries
    return make((labels, boxes, mask), CLASSES, **shared)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_by_a_loop(driver: Driver, dtype: str) -> None:
    """Both kinds in one program, with numbers that are those of every framework."""
    if dtype != "float32":
        checks.skip_slow(driver)
    checks.need(driver, dtype)
    labels, boxes = _data(dtype)

    def program(*arrays: Any) -> tuple[Any, ...]:
        near_and_far, near = (_made(driver, *arrays, contrastive=x) for x in (True, False))
        mask = near_and_far.attention_mask(QUERIES)
        return (*near_and_far, *near, mask)

    inputs = [driver.from_numpy(x) for x in (labels, boxes, MASK)]
    found = [driver.to_numpy(x) for x in driver.trace(program)(*inputs)]
    for k, want in enumerate((_expected(2, 0.3, _contrastive), _expected(1, 0.6, _plain))):
        for name, x in zip(NAMES, found[5 * k : 5 * k + 5], strict=True):
            if name == "boxes":
                # In float64 noise has 53 digits, of which the reference has the first 32.
                assert x.dtype == dtype
                np.testing.assert_allclose(x, want[name], rtol=0, atol=3e-7, err_msg=name)
            else:
                np.testing.assert_array_equal(x, want[name], err_msg=name)
    each = 2 * MASK.shape[1]
    total = each * GROUPS
    may = np.ones((total + QUERIES,) * 2, bool)
    may[:, :total] = False
    for group in range(GROUPS):
        own = slice(each * group, each * (group + 1))
        may[own, own] = True
    np.testing.assert_array_equal(found[10], may)


def test_noise_of_an_object_is_its_own(driver: Driver) -> None:
    """Neither more padding nor more groups change it; another seed and an array of one do."""
    checks.skip_programs(driver)
    labels, boxes = _data()
    padded = [np.pad(x, [(0, 0), (0, 2)] + [(0, 0)] * (x.ndim - 2)) for x in (labels, boxes, MASK)]

    def made(arrays: Any, groups: int, seed: Any) -> list[np.ndarray]:
        found = hc.denoising.contrastive_queries(
            tuple(driver.from_numpy(x) for x in arrays), CLASSES, seed=seed, groups=groups,
            backend=driver.backend,
        )  # fmt: skip
        objects = arrays[0].shape[1]
        return [
            driver.to_numpy(x).reshape(3, groups, 2, objects, -1)[:, :2, :, :3]
            for x in (found.labels, found.boxes)
        ]

    few = made((labels, boxes, MASK), 2, 5)
    for many in (made(padded, 4, 5), made(padded, 4, driver.from_numpy(np.array(5, np.int32)))):
        for x, y in zip(few, many, strict=True):
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-7)
    assert (few[1] != made((labels, boxes, MASK), 2, 6)[1]).any()


def test_loss_of_its_matching(driver: Driver) -> None:
    """An object has a query in each group; what is divided by is the number of such pairs."""
    checks.skip_programs(driver)
    labels, boxes = _data()
    arrays = [driver.from_numpy(x) for x in (labels, boxes, MASK)]
    noised = _made(driver, *arrays, contrastive=True)
    criterion = hc.SetLoss([hc.terms.Boxes()], backend=driver.backend)
    out = criterion(
        {"boxes": noised.boxes},
        dict(zip(("labels", "boxes", "mask"), arrays, strict=True)),
        assignment=noised.assignment,
    )
    want = _expected(2, 0.3, _contrastive)
    of_query = want["assignment"]
    truth = np.take_along_axis(boxes, np.maximum(of_query, 0)[..., None], axis=1)
    apart = np.abs(want["boxes"] - truth).sum(-1)[of_query >= 0]
    assert len(apart) == MASK.sum() * GROUPS
    np.testing.assert_allclose(driver.to_numpy(out.losses["bbox"]), 5 * apart.mean(), rtol=1e-5)


def _of_denoised(
    logits: np.ndarray, boxes: np.ndarray, of_query: np.ndarray, number: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the losses of classes and boxes in layers and the slopes, in a loop over queries."""
    labels, true = _data("float64")
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
    labels, true = _data()
    truth = [driver.from_numpy(x) for x in (labels, true, MASK)]
    queries = _made(driver, *truth, contrastive=True)
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
    of_query = _expected(2, 0.3, _contrastive)["assignment"]
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
    labels, true = _data()
    truth: Any = tuple(driver.from_numpy(x) for x in (labels, true, MASK))
    queries = _made(driver, *truth, contrastive=True)
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
    want = _expected(2, 0.3, _contrastive)
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
    outputs = {"logits": own[0][:, :0, :], "boxes": own[1][:, :0, :]}
    found = criterion(*own, nothing, denoising=hc.denoising.Denoised(queries, outputs))
    assert [float(driver.to_numpy(x)) for x in found.denoising.values()] == [0, 0, 0]
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
    with pytest.raises(ValueError, match=r"assignment has .*shape \(1, 2\)"):
        criterion(*own, denoising=hc.denoising.Denoised(queries, fewer))


def test_without_noise(driver: Driver) -> None:
    checks.skip_programs(driver)
    labels, boxes = _data()
    images = [
        {"labels": driver.from_numpy(x[there]), "boxes": driver.from_numpy(y[there])}
        for x, y, there in zip(labels, boxes, MASK, strict=True)
    ]
    found = hc.denoising.contrastive_queries(
        images, CLASSES, seed=0, queries=7, label_noise_ratio=0, box_noise_scale=0,
        backend=driver.backend,
    )  # fmt: skip
    assert driver.to_numpy(found.group).tolist() == [0] * 6 + [1] * 6  # 7 // 3 groups
    labels, boxes = np.where(MASK, labels, CLASSES), np.where(MASK[..., None], boxes, 0)
    np.testing.assert_array_equal(driver.to_numpy(found.labels), np.tile(labels, (1, 4)))
    np.testing.assert_array_equal(driver.to_numpy(found.boxes), np.tile(boxes, (1, 4, 1)))
    logits = driver.to_numpy(hc.denoising.inverse_sigmoid(found.boxes, backend=driver.backend))
    back = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(back, np.clip(np.tile(boxes, (1, 4, 1)), 1e-5, 1 - 1e-5), atol=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 0}, "groups is 0; expected how many groups"),
        ({"queries": 0}, "queries is 0; expected about half"),
        ({"label_noise_ratio": 1.5}, "label_noise_ratio is 1.5; expected a number from 0 to 1"),
        ({"box_noise_scale": -1.0}, "box_noise_scale is -1.0; expected 0 or more"),
        ({"seed": -1}, "seed is -1; expected an integer from 0"),
        ({"num_classes": 0}, "num_classes is 0"),
    ],
)
def test_wrong_options(options: Any, message: str) -> None:
    targets = [{"labels": np.array([1]), "boxes": np.array([[0.5, 0.5, 0.2, 0.2]])}]
    options = {"seed": 0, "num_classes": 3, **options}
    with pytest.raises(ValueError, match=message):
        hc.denoising.contrastive_queries(targets, **options)
