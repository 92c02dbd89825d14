"""Queries made from true objects with noise, beside a loop over them with the generator in ints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver

CLASSES, GROUPS, QUERIES, SEED = 5, 3, 2, 2**40 + 7
MASK = np.array([[True, True, True], [True, False, False], [False, False, False]])
NAMES = ("labels", "boxes", "assignment", "mask", "group")
BITS = 2**32 - 1


def make_data(dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
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


def contrastive(box: np.ndarray, kind: int, u: np.ndarray, signs: np.ndarray) -> np.ndarray:
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


def expected_queries(
    kinds: int, ratio: float, noised: Callable[..., np.ndarray]
) -> dict[str, np.ndarray]:
    """Return what the queries are by a loop over images, groups, kinds and objects."""
    labels, boxes = make_data("float64")
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


def make_queries(driver: Driver, labels: Any, boxes: Any, mask: Any, *, contrastive: bool) -> Any:
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
    labels, boxes = make_data(dtype)

    def program(*arrays: Any) -> tuple[Any, ...]:
        near_and_far, near = (make_queries(driver, *arrays, contrastive=x) for x in (True, False))
        mask = near_and_far.attention_mask(QUERIES)
        return (*near_and_far, *near, mask)

    inputs = [driver.from_numpy(x) for x in (labels, boxes, MASK)]
    found = [driver.to_numpy(x) for x in driver.trace(program)(*inputs)]
    for k, want in enumerate(
        (expected_queries(2, 0.3, contrastive), expected_queries(1, 0.6, _plain))
    ):
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
    labels, boxes = make_data()
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
    labels, boxes = make_data()
    arrays = [driver.from_numpy(x) for x in (labels, boxes, MASK)]
    noised = make_queries(driver, *arrays, contrastive=True)
    criterion = hc.SetLoss([hc.terms.Boxes()], backend=driver.backend)
    out = criterion(
        {"boxes": noised.boxes},
        dict(zip(("labels", "boxes", "mask"), arrays, strict=True)),
        assignment=noised.assignment,
    )
    want = expected_queries(2, 0.3, contrastive)
    of_query = want["assignment"]
    truth = np.take_along_axis(boxes, np.maximum(of_query, 0)[..., None], axis=1)
    apart = np.abs(want["boxes"] - truth).sum(-1)[of_query >= 0]
    assert len(apart) == MASK.sum() * GROUPS
    np.testing.assert_allclose(driver.to_numpy(out.losses["bbox"]), 5 * apart.mean(), rtol=1e-5)


def test_no_class(driver: Driver) -> None:
    """An object that is ignored may have none: an embedding has a row for it."""
    checks.skip_programs(driver)
    labels, boxes = make_data()
    labels[0, 1] = -1
    ignore = np.zeros(MASK.shape, bool)
    ignore[0, 1] = True
    targets = {
        name: driver.from_numpy(x)
        for name, x in (("labels", labels), ("boxes", boxes), ("mask", MASK), ("ignore", ignore))
    }
    found = hc.denoising.contrastive_queries(
        targets, CLASSES, seed=3, groups=2, label_noise_ratio=0.0, backend=driver.backend
    )
    expected = np.tile(np.where(MASK & ~ignore, labels, CLASSES), (1, 4))
    np.testing.assert_array_equal(driver.to_numpy(found.labels), expected)


def test_without_noise(driver: Driver) -> None:
    checks.skip_programs(driver)
    labels, boxes = make_data()
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
