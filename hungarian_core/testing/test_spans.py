"""The term of spans of time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
from hungarian_core.terms import Classes, Spans
from hungarian_core.testing import checks, comparisons, reference
from hungarian_core.testing.driver import Driver


def _spans(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {"spans": rng.uniform(0.1, 0.6, (*shape, 2))}


def _ends(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {"spans": np.cumsum(rng.uniform(0.1, 0.6, (*shape, 2)), axis=-1)}


def pair_losses(form: str) -> Any:
    def losses(query: Any, truth: Any) -> dict[str, Any]:
        a, b = query["spans"], truth["spans"]
        apart = a - b
        return {
            "span": (apart * np.sign(apart.real)).sum(),
            "giou": 1 - reference.overlap("giou", a, b, form),
        }

    return losses


EXAMPLES = (
    comparisons.Example(
        "cxw", Spans, _spans, _spans, pair_losses("cxw"), {"span": 10.0, "giou": 1.0}
    ),
    comparisons.Example(
        "xx",
        lambda: Spans(span_weight=2.0, giou_weight=3.0, span_cost=0.5, giou_cost=4.0, format="xx"),
        _ends, _ends, pair_losses("xx"), {"span": 0.5, "giou": 4.0},
    ),
)  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_by_a_loop(driver: Driver, example: comparisons.Example, dtype: str) -> None:
    if (str(example), dtype) != ("cxw", "float32"):
        checks.skip_programs(driver)
    comparisons.check(driver, example, dtype)


def test_degenerate(driver: Driver) -> None:
    """Spans without a width, inverted ones, and those that are the same."""
    spans = np.array([[0.5, 0.0], [0.5, 0.0], [0.3, -0.2], [0.5, 0.2], [1e30, 1e30]])
    truth = np.array([[0.5, 0.0], [0.2, 0.0], [0.5, 0.2], [0.5, 0.2], [0.5, 0.2]])
    data = {"spans": spans.astype(np.float32)}, {"spans": truth.astype(np.float32)}
    comparisons.check_finite(driver, EXAMPLES[0], *data)


def test_classes_know_the_overlap(driver: Driver) -> None:
    """A class loss that needs the IoU has it from spans, as it has it from boxes."""
    checks.skip_programs(driver)
    rng = np.random.default_rng(0)
    spans, logits = rng.uniform(0.1, 0.6, (1, 4, 2)), rng.normal(size=(1, 4, 2))
    truth, labels = rng.uniform(0.1, 0.6, (1, 3, 2)), np.array([[0, 1, 1]])
    of_spans = hc.SetLoss([Classes(2, loss="ia_bce"), Spans()], backend=driver.backend)
    of_boxes = hc.SetLoss([Classes(2, loss="ia_bce"), hc.terms.Boxes()], backend=driver.backend)

    def losses(criterion: Any, key: str, outputs: Any, targets: Any) -> float:
        arrays = [
            {name: driver.from_numpy(x.astype(np.float32)) for name, x in side.items()}
            for side in ({"logits": logits, key: outputs}, {key: targets})
        ]
        arrays[1]["labels"] = driver.from_numpy(labels)
        match = driver.from_numpy(np.array([[0, 2, -1, 1]]))
        found = criterion(*arrays, assignment=match).losses["class"]
        return float(driver.to_numpy(found))

    def tall(x: np.ndarray) -> np.ndarray:
        """Return boxes of the height 1 as wide as spans, which overlap as these do."""
        height = np.full(x.shape[:-1], 1.0)
        return np.stack([x[..., 0], height * 0.5, x[..., 1], height], -1)

    found = losses(of_spans, "spans", spans, truth)
    assert found == pytest.approx(losses(of_boxes, "boxes", tall(spans), tall(truth)), rel=1e-5)


@pytest.mark.parametrize(
    ("span", "form", "message"),
    [
        ([0.5, -0.1], "cxw", "cxw: centre and width, 0 or more"),
        ([0.5, 0.4], "xx", "xx: start and end, in order"),
        ([np.nan, 0.4], "cxw", "cxw: centre and width, 0 or more"),
    ],
)
def test_impossible_truth(driver: Driver, span: Any, form: Any, message: str) -> None:
    if not driver.raises or not driver.static_shapes:
        pytest.skip("values are not read")
    checks.skip_programs(driver)
    criterion = hc.SetLoss([Spans(format=form)], backend=driver.backend)
    outputs = {"spans": driver.from_numpy(np.full((1, 2, 2), 0.5, np.float32))}
    truth = np.array([[[0.2, 0.3], span]], np.float32)
    with pytest.raises(ValueError, match=f"image 0, object 1.*{message}.*check_targets=False"):
        criterion(outputs, {"spans": driver.from_numpy(truth)})
