"""Distributions of box edges, and matchings that layers share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc
from hungarian_core.boxes import distributions
from hungarian_core.losses.criteria import UnionLoss
from hungarian_core.terms import Boxes, Classes, EdgeDistributions
from hungarian_core.testing import checks, reference
from hungarian_core.testing.driver import Driver

# Of three layers the last two have edges.
LAYERS, WITH_EDGES, IMAGES, QUERIES, OBJECTS, BINS = 3, 2, 2, 5, 3, 4
MASK = np.array([[True, True, True], [True, False, False]])
IGNORE = np.array([[False, True, False], [False, False, False]])
QUERY_MASK = np.array([[True] * 5, [True, True, False, True, True]])
STEP, UPSTREAM, TEMPERATURE = 1e-30, 1.7, 5.0
# Where (up * reg_scale + 1)**(2 / (bins - 2)) is 3.
PLACES = np.array([-4.0, -2.0, 0.0, 2.0, 4.0])


def _data(dtype: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    shape = (LAYERS, IMAGES, QUERIES)
    outputs = {
        "boxes": rng.uniform(0.2, 0.6, (*shape, 4)),
        "logits": rng.normal(size=(*shape, 2)),
        "edges": 2 * rng.normal(size=(WITH_EDGES, *shape[1:], 4, BINS + 1)),
        "references": rng.uniform(0.2, 0.6, (*shape[1:], 4)),
    }
    fields = {
        "boxes": np.where(MASK[..., None], rng.uniform(0.2, 0.6, (IMAGES, OBJECTS, 4)), np.nan),
        "weights": rng.uniform(0.5, 2, (IMAGES, OBJECTS)),
    }
    outputs, fields = (
        {name: x.astype(np.float32).astype(dtype) for name, x in side.items()}
        for side in (outputs, fields)
    )
    return outputs, {**fields, "mask": MASK, "ignore": IGNORE}


def _log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def fgl(edges: np.ndarray, box: Any, truth: Any, ref: Any) -> Any:
    """Return the loss of a pair, as the published code has it: by places and two weights."""
    unit = ref[2:] / 4
    low, high = truth[:2] - truth[2:] / 2, truth[:2] + truth[2:] / 2
    total = 0
    for k, apart in enumerate([*(ref[:2] - low) / unit - 2, *(high - ref[:2]) / unit - 2]):
        left = min(max(int((apart >= PLACES).sum()) - 1, 0), BINS - 1)
        right = np.clip((apart - PLACES[left]) / (PLACES[left + 1] - PLACES[left]), 0, 1)
        each = _log_softmax(edges[k])
        total = total - (1 - right) * each[left] - right * each[left + 1]
    return reference.overlap("iou", box, truth, "cxcywh").real * total


def ddf(edges: np.ndarray, teacher: np.ndarray) -> Any:
    p, q = _log_softmax(teacher / TEMPERATURE), _log_softmax(edges / TEMPERATURE)
    return TEMPERATURE**2 * (np.exp(p) * (p - q)).sum(-1).mean()


def _slopes(function: Any, edges: np.ndarray) -> tuple[float, np.ndarray]:
    """Return a function of edges and its slopes, by complex steps."""
    found = np.zeros(edges.shape)
    for at in np.ndindex(edges.shape):
        moved = edges.astype(complex)
        moved[at] += STEP * 1j
        found[at] = np.imag(function(moved)) / STEP
    return float(np.real(function(edges))), found


def _matched(outputs: Any, fields: Any) -> np.ndarray:
    """Return the object of each query, -1 for none, matched by boxes alone."""
    rows = np.full((LAYERS, IMAGES, QUERIES), -1)
    for layer, b in np.ndindex(LAYERS, IMAGES):
        queries, objects = np.flatnonzero(QUERY_MASK[b]), np.flatnonzero(MASK[b])
        pairs = [(outputs["boxes"][layer, b, q], fields["boxes"][b, m])
                 for m in objects for q in queries]  # fmt: skip
        cost = [
            5 * np.abs(x - y).sum() - 2 * reference.overlap("giou", x, y, "cxcywh").real
            for x, y in pairs
        ]
        i, j = linear_sum_assignment(np.reshape(cost, (len(objects), len(queries))))
        rows[layer, b, queries[j]] = objects[i]
    return rows


def _expected(outputs: Any, fields: Any, rows: np.ndarray) -> tuple[Any, Any]:
    """Return the losses by name and layer, and their slopes by edges, without weights of terms."""
    losses = {"fgl": np.zeros(LAYERS), "ddf": np.zeros(LAYERS)}
    slopes = {name: np.zeros(outputs["edges"].shape) for name in losses}
    edges, teacher = outputs["edges"].astype(float), outputs["edges"][-1].astype(float)
    for k in range(WITH_EDGES):
        layer = k + LAYERS - WITH_EDGES
        matched = rows[layer] >= 0
        ignored = matched & np.take_along_axis(IGNORE, np.maximum(rows[layer], 0), 1)
        parts = {True: matched & ~ignored, False: ~matched & QUERY_MASK}
        counts = outputs.get("balance", [x.sum() for x in parts.values()])
        tops = dict(zip(parts, np.sqrt(np.asarray(counts, float)), strict=True))
        for b, q in np.ndindex(IMAGES, QUERIES):
            if not QUERY_MASK[b, q] or ignored[b, q]:
                continue
            m, x = rows[layer, b, q], edges[k, b, q]
            certain = 1 / (1 + np.exp(-outputs["logits"][-1, b, q].max()))
            weight, share = 1.0, tops[bool(m >= 0)] / parts[bool(m >= 0)].sum()
            share /= sum(tops.values())
            if m >= 0:
                box, truth = outputs["boxes"][layer, b, q], fields["boxes"][b, m]
                ref, weight = outputs["references"][b, q], float(fields["weights"][b, m])
                certain = reference.overlap("iou", box, truth, "cxcywh").real
                value, slope = _slopes(
                    lambda y, box=box, truth=truth, ref=ref: fgl(y, box, truth, ref), x
                )
                pairs = parts[True].sum()
                losses["fgl"][layer] += weight * value / pairs
                slopes["fgl"][k, b, q] += weight * slope / pairs
            value, slope = _slopes(lambda y, t=teacher[b, q]: ddf(y, t), x)
            losses["ddf"][layer] += weight * share * certain * value
            slopes["ddf"][k, b, q] += weight * share * certain * slope
    return losses, slopes


def _criterion(driver: Driver) -> Any:
    """Return one that matches by boxes and learns edges alone."""
    boxes = Boxes(bbox_weight=0, giou_weight=0, bbox_cost=5, giou_cost=2)
    return hc.SetLoss([boxes, EdgeDistributions(bins=BINS)], backend=driver.backend)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_by_a_loop(driver: Driver, dtype: str) -> None:
    """Losses by layer and slopes, by the matching found, and none by what is constant.

    In float32 with numbers of queries that are given.
    """
    checks.skip_lengthy(driver)
    if dtype == "float64":
        checks.skip_programs(driver)
    checks.need(driver, dtype)
    data, targets = _data(dtype)
    if dtype == "float32":
        data["balance"] = np.array([2.0, 9.0], np.float32)
    rows = _matched(data, targets)
    data["edges"][0, 0, rows[1, 0] == 1] = np.nan  # of the ignored object
    data["edges"][:, ~QUERY_MASK] = np.nan
    fields = {name: driver.from_numpy(x) for name, x in targets.items()}
    there = driver.from_numpy(QUERY_MASK)
    criterion = _criterion(driver)
    losses, slopes = _expected(data, targets, rows)

    def program(*arrays: Any) -> Any:
        outputs = dict(zip(data, arrays, strict=True))
        xp = driver.resolve(arrays[0]).namespace(arrays[0])
        out = criterion(outputs, fields, query_mask=there)
        # Some frameworks have no gradient by what there is no way to.
        total = out.total + sum(0 * xp.sum(xp.where(x == x, x, 0)) for x in arrays)
        return xp.concat([total[None], out.losses["fgl"], out.losses["ddf"]])

    inputs = [driver.from_numpy(x) for x in data.values()]
    if driver.differentiable:
        above = np.zeros(1 + 2 * LAYERS)
        above[0] = UPSTREAM
        value, grads = driver.value_and_grad(program, inputs, driver.from_numpy(above, dtype))
    else:
        value, grads = driver.trace(program)(*inputs), ()
    tolerance = 2e-5 if dtype == "float32" else 1e-9
    wanted = np.concatenate([0.15 * losses["fgl"], 1.5 * losses["ddf"]])
    assert (losses["fgl"][1:] > 0).all()
    assert losses["ddf"][1] > 0 == losses["ddf"][2]
    np.testing.assert_allclose(
        driver.to_numpy(value), [wanted.sum(), *wanted], rtol=tolerance, atol=tolerance
    )
    for name, grad in zip(data, grads, strict=bool(grads)):
        slope = np.zeros(data[name].shape)
        if name == "edges":
            slope = UPSTREAM * (0.15 * slopes["fgl"] + 1.5 * slopes["ddf"])
        np.testing.assert_allclose(driver.to_numpy(grad), slope, rtol=0, atol=tolerance)


def test_boxes_of_distributions(driver: Driver) -> None:
    """Edges lie at the means of offsets, which coding them again gives; and the slopes."""
    checks.skip_lengthy(driver)
    rng = np.random.default_rng(0)
    logits, references = rng.normal(size=(3, 4, BINS + 1)), rng.uniform(0.2, 0.6, (3, 4))
    data = [x.astype(np.float32) for x in (logits, references)]

    def boxes(logits: np.ndarray, references: np.ndarray) -> np.ndarray:
        apart = (np.exp(_log_softmax(logits)) * PLACES).sum(-1)
        unit = references[..., 2:] / 4
        low = references[..., :2] - (2 + apart[..., :2]) * unit
        high = references[..., :2] + (2 + apart[..., 2:]) * unit
        return np.concatenate([(low + high) / 2, high - low], axis=-1)

    def program(logits: Any, references: Any) -> Any:
        xp = driver.resolve(logits).namespace(logits)
        options: Any = {"bins": BINS, "backend": driver.backend}
        found = distributions.decode(logits, references, **options)
        again = distributions.encode(found, references, **options)
        places = xp.cumulative_sum(xp.ones_like(again), axis=-1) * 2 - 6
        return xp.concat([found, xp.sum(again * places, axis=-1)], axis=0)

    inputs = [driver.from_numpy(x) for x in data]
    above = np.zeros((6, 4))
    above[:3] = rng.normal(size=(3, 4))
    if driver.differentiable:
        value, grads = driver.value_and_grad(program, inputs, driver.from_numpy(above, "float32"))
    else:
        value, grads = driver.trace(program)(*inputs), ()
    exact = [x.astype(float) for x in data]
    means = (np.exp(_log_softmax(exact[0])) * PLACES).sum(-1)
    np.testing.assert_allclose(
        driver.to_numpy(value), np.concatenate([boxes(*exact), means]), rtol=0, atol=2e-5
    )
    for k, grad in enumerate(grads):
        slope = np.zeros(exact[k].shape)
        for at in np.ndindex(slope.shape):
            moved = [x.astype(complex) for x in exact]
            moved[k][at] += STEP * 1j
            slope[at] = (np.imag(boxes(*moved)) / STEP * above[:3]).sum()
        np.testing.assert_allclose(driver.to_numpy(grad), slope, rtol=0, atol=2e-5)


def test_degenerate(driver: Driver) -> None:
    """References and boxes without sides, far away and inverted; sure and huge logits."""
    checks.skip_lengthy(driver)
    boxes = np.array(
        [[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, -0.1, 0.2], [1e30, -1e30, 1e30, 1e30], [0.5] * 4]
    )
    references = np.array([[0.5, 0.5, 0.0, 0.0], [0.1] * 4, [-1e30, 1e18, -1e30, 1e-30], [0.5] * 4])
    truth = np.array([[0.5, 0.5, 0.0, 0.0], [0.2, 0.2, 0.0, 1.0], [0.5] * 4, [0.5] * 4])
    edges = np.zeros((2, 4, 1, 4, BINS + 1))
    edges[0, :, 0, :, 0], edges[1, :, 0, :, 1] = [[1e18], [-1e18], [1e3], [1e-30]], 1e18
    logits = np.array([[1e18], [-1e18], [0.0], [1e3]])
    data = {
        "boxes": np.stack([boxes] * 2)[:, :, None],
        "logits": np.stack([logits] * 2)[:, :, None],
        "edges": edges,
        "references": references[:, None],
    }
    term = EdgeDistributions(bins=BINS)
    criterion = hc.SetLoss([term], backend=driver.backend, reduction="none")
    fields = {"boxes": driver.from_numpy(truth[:, None].astype(np.float32))}

    constants = {name: driver.from_numpy(x.astype(np.float32)) for name, x in data.items()}
    inputs = [constants.pop("edges")]

    def total(edges: Any) -> Any:
        outputs = {**constants, "edges": edges}
        return criterion(outputs, fields).total

    if driver.differentiable:
        above = driver.from_numpy(np.full(4, UPSTREAM, np.float32))
        value, grads = driver.value_and_grad(total, inputs, above)
    else:
        value, grads = driver.trace(total)(*inputs), ()
    for x in (value, *grads):
        assert np.isfinite(driver.to_numpy(x)).all()


def test_a_matching_that_is_given(driver: Driver) -> None:
    """All terms take it, as that of queries for denoising."""
    checks.skip_programs(driver)
    data, targets = _data("float32")
    given = np.array([[[0, 1, 0, -1, 2], [0, -1, -1, 0, -1]]] * LAYERS)
    outputs = {name: driver.from_numpy(x) for name, x in data.items()}
    fields = {name: driver.from_numpy(x) for name, x in targets.items() if name != "ignore"}
    fields["labels"] = driver.from_numpy(np.zeros((IMAGES, OBJECTS), int))
    terms = [Classes(2, loss="focal"), Boxes(), EdgeDistributions(bins=BINS)]
    at = driver.from_numpy(given)
    found = UnionLoss(terms[:1], terms[1:], backend=driver.backend)(
        outputs, fields, assignment=at, weights={"fgl": 2.0, "class": 3.0}
    )
    one = hc.SetLoss(terms, backend=driver.backend)(
        outputs, fields, assignment=at, weights={"fgl": 2.0, "class": 3.0}
    )
    for name, x in one.losses.items():
        np.testing.assert_allclose(
            driver.to_numpy(found.losses[name]), driver.to_numpy(x), rtol=1e-5
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": np.zeros((2, 2, 5, 4, 6))}, r"edges has shape .*expected \(2, 5, 4, 5\), or of"),
        ({"edges": np.zeros((4, 2, 5, 4, 5))}, "of the last layers, 3 at most"),
        ({"references": np.zeros((3, 2, 5, 4))}, r"references has shape .*\(2, 2, 5, 4\) as edges"),
        ({"edges": None}, "expected 'edges'"),
        ({"balance": np.ones(3)}, r"balance has shape \(3,\); expected \(2,\)"),
    ],
)
def test_wrong_shapes(change: Any, message: str) -> None:
    data, targets = _data("float64")
    with pytest.raises(ValueError, match=message):
        hc.SetLoss([EdgeDistributions(bins=BINS)])({**data, **change}, targets)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 5}, "bins is 5; expected an even number"),
        ({"up": 0.0}, "up has 0.0; expected positive"),
        ({"temperature": -1}, "temperature has -1"),
    ],
)
def test_wrong_options(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EdgeDistributions(**options)
