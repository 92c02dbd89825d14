"""The criterion of Moment-DETR beside loops in float64, with complex steps for its slopes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import hungarian_core as hc
from hungarian_core.testing import checks
from hungarian_core.testing.driver import Driver

LAYERS, VIDEOS, QUERIES, CLIPS, PAIRS, STEP = 2, 3, 6, 9, 2, 1e-20
COUNTS = (3, 1, 0)
NAMES = ("class", "span", "giou", "saliency")


def _data(dtype: str) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(8)
    shape = (LAYERS, VIDEOS, QUERIES, 2)
    outputs = [
        rng.normal(size=shape),
        np.stack([rng.uniform(0.2, 0.8, shape[:-1]), rng.uniform(0.1, 0.4, shape[:-1])], axis=-1),
        rng.normal(size=(VIDEOS, CLIPS)),
    ]
    mask = np.arange(max(COUNTS)) < np.array(COUNTS)[:, None]
    spans = np.stack(
        [rng.uniform(0.2, 0.8, mask.shape), rng.uniform(0.1, 0.4, mask.shape)], axis=-1
    )
    pairs = [rng.integers(0, CLIPS, (VIDEOS, PAIRS)) for _ in range(2)]
    spans = np.where(mask[..., None], spans, np.nan).astype(np.float32).astype(dtype)
    fields = {"spans": spans, "mask": mask, "saliency_pos": pairs[0], "saliency_neg": pairs[1]}
    return [x.astype(np.float32).astype(dtype) for x in outputs], fields


def _giou(a: Any, b: np.ndarray) -> Any:
    """Return the generalised IoU of two spans in centre and width."""
    (low, high), (start, end) = ((x[0] - x[1] / 2, x[0] + x[1] / 2) for x in (a, b))
    common = min(high, end, key=np.real) - max(low, start, key=np.real)
    common = common if np.real(common) > 0 else 0
    union = a[1] + b[1] - common
    hull = max(high, end, key=np.real) - min(low, start, key=np.real)
    return common / union - (hull - union) / hull


def _matching(outputs: list[np.ndarray], fields: dict[str, np.ndarray]) -> np.ndarray:
    found = np.full((LAYERS, VIDEOS, max(COUNTS)), -1)
    logits, spans, _ = (x.astype(float) for x in outputs)
    p = np.exp(logits[..., 0]) / np.exp(logits).sum(-1)
    for layer, b in np.ndindex(LAYERS, VIDEOS):
        truth = fields["spans"][b, : COUNTS[b]].astype(float)
        cost = np.array(
            [
                [
                    -4 * p[layer, b, q] + 10 * abs(s - t).sum() - _giou(s, t)
                    for q, s in enumerate(spans[layer, b])
                ]
                for t in truth
            ]
        ).reshape(-1, QUERIES)
        rows, cols = linear_sum_assignment(cost)
        found[layer, b, rows] = cols
    return found


def _losses(outputs: list[Any], fields: dict[str, np.ndarray], at: np.ndarray) -> dict[str, Any]:
    """Return the losses by name, of each layer, real or complex."""
    logits, spans, scores = outputs
    found: dict[str, list[Any]] = {name: [] for name in NAMES}
    for layer in range(LAYERS):
        entropies, apart, overlaps = [], [], []
        for b in range(VIDEOS):
            for q in range(QUERIES):
                moment = q in at[layer, b]
                x = logits[layer, b, q]
                entropy = np.log(np.exp(x).sum()) - x[0 if moment else 1]
                entropies.append(entropy * (1 if moment else 0.1))
            for m in range(COUNTS[b]):
                s, t = spans[layer, b, at[layer, b, m]], fields["spans"][b, m].astype(float)
                apart += [x * np.sign(np.real(x)) for x in s - t]
                overlaps.append(1 - _giou(s, t))
        found["class"].append(4 * sum(entropies) / len(entropies))
        found["span"].append(10 * sum(apart) / len(apart))
        found["giou"].append(sum(overlaps) / len(overlaps))
        hinge = 0
        for b, k in np.ndindex(VIDEOS, PAIRS):
            far = scores[b, fields["saliency_neg"][b, k]] - scores[b, fields["saliency_pos"][b, k]]
            hinge += 0.2 + far if np.real(0.2 + far) > 0 else 0
        last = layer == LAYERS - 1
        found["saliency"].append(hinge / (VIDEOS * PAIRS) * 2 if last else 0)
    return {name: np.array(x) for name, x in found.items()}


def _slopes(outputs: list[np.ndarray], fields: Any, at: np.ndarray) -> list[np.ndarray]:
    slopes = []
    for k, x in enumerate(outputs):
        slope = np.zeros(x.shape)
        for place in np.ndindex(*x.shape):
            moved = [y.astype(complex) for y in outputs]
            moved[k][place] += STEP * 1j
            losses = _losses(moved, fields, at)
            slope[place] = sum(np.imag(y).sum() for y in losses.values()) / STEP
        slopes.append(slope)
    return slopes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_by_loops(driver: Driver, dtype: str) -> None:
    """The matching, the losses and, by an upstream of 1.7, the slopes, in one program."""
    if dtype != "float32":
        checks.skip_programs(driver)
    checks.need(driver, dtype)
    checks.skip_lengthy(driver)
    outputs, fields = _data(dtype)
    criterion = hc.criteria.moment_detr(backend=driver.backend)
    at = _matching(outputs, fields)
    losses = _losses([x.astype(float) for x in outputs], fields, at)
    want = np.concatenate(
        [[sum(x.sum() for x in losses.values())], at.ravel(), *(losses[name] for name in NAMES)]
    )
    targets = {name: driver.from_numpy(x) for name, x in fields.items()}

    def program(*arrays: Any) -> Any:
        out = criterion(dict(zip(("logits", "spans", "saliency"), arrays, strict=True)), targets)
        xp = driver.resolve(arrays[0]).namespace(arrays[0])
        found = [out.total, xp.astype(out.assignment.col4row, out.total.dtype)]
        found += [out.losses[name] for name in NAMES]
        return xp.concat([xp.reshape(x, (-1,)) for x in found])

    inputs = [driver.from_numpy(x) for x in outputs]
    tolerance = 1e-5 if dtype == "float32" else 1e-9
    if not driver.differentiable:
        value = driver.trace(program)(*inputs)
        np.testing.assert_allclose(driver.to_numpy(value), want, rtol=tolerance, atol=tolerance)
        return
    above = np.zeros(len(want))
    above[0] = 1.7
    value, grads = driver.value_and_grad(program, inputs, driver.from_numpy(above, dtype))
    np.testing.assert_allclose(driver.to_numpy(value), want, rtol=tolerance, atol=tolerance)
    for grad, slope in zip(grads, _slopes(outputs, fields, at), strict=True):
        np.testing.assert_allclose(
            driver.to_numpy(grad), 1.7 * slope, rtol=0, atol=10 * tolerance * abs(slope).max()
        )


def test_forms_of_targets(driver: Driver) -> None:
    """A list of videos is the padded arrays; without pairs there is no saliency."""
    checks.skip_programs(driver)
    outputs, fields = _data("float32")
    criterion = hc.criteria.moment_detr(backend=driver.backend)
    arrays = dict(
        zip(("logits", "spans", "saliency"), map(driver.from_numpy, outputs), strict=True)
    )
    padded = criterion(arrays, {name: driver.from_numpy(x) for name, x in fields.items()})
    videos = [
        {
            "spans": driver.from_numpy(fields["spans"][b, :n]),
            "saliency_pos": driver.from_numpy(fields["saliency_pos"][b]),
            "saliency_neg": driver.from_numpy(fields["saliency_neg"][b]),
        }
        for b, n in enumerate(COUNTS)
    ]
    listed = criterion(arrays, videos)
    for name in NAMES:
        np.testing.assert_allclose(
            driver.to_numpy(listed.losses[name]), driver.to_numpy(padded.losses[name]), rtol=1e-6
        )
    bare = criterion(arrays, [{"spans": video["spans"]} for video in videos])
    assert sorted(bare.losses) == ["class", "giou", "span"]
    one = {name: x if name == "saliency" else x[-1] for name, x in arrays.items()}
    last = criterion(one, videos)
    for name in NAMES:
        np.testing.assert_allclose(
            driver.to_numpy(last.losses[name]), driver.to_numpy(padded.losses[name])[-1], rtol=1e-6
        )
    with pytest.raises(ValueError, match="scores has shape"):
        hc.criteria.saliency_loss(
            driver.from_numpy(outputs[2][0]), *(videos[0][k] for k in list(videos[0])[1:]),
            backend=driver.backend,
        )  # fmt: skip
    if driver.raises:
        fields["saliency_pos"][1, 0] = CLIPS
        with pytest.raises(ValueError, match="positive holds 9; expected the index of a clip"):
            criterion(arrays, {name: driver.from_numpy(x) for name, x in fields.items()})


@pytest.mark.parametrize("loss", ["softmax", "focal"])
def test_classes_by_queries(driver: Driver, loss: Any) -> None:
    """The sum over queries is divided by the number of queries that there are."""
    checks.skip_programs(driver)
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(2, 5, 3)).astype(np.float32)
    there = np.array([[True] * 5, [True, True, False, True, False]])
    labels = np.array([[1], [0]])
    found = []
    for normalize in ("objects", "queries"):
        term = hc.terms.Classes(2 if loss == "softmax" else 3, loss=loss, normalize=normalize)
        out = hc.SetLoss([term], backend=driver.backend)(
            {"logits": driver.from_numpy(logits)}, {"labels": driver.from_numpy(labels)},
            query_mask=driver.from_numpy(there),
        )  # fmt: skip
        found.append(driver.to_numpy(out.losses["class"]))
    np.testing.assert_allclose(found[1], found[0] * labels.size / there.sum(), rtol=1e-6)
