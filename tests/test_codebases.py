"""Trackers, separated speech and KerasHub, and what docs/coming-from says that they are here."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
import hungarian_numpy as hn

torch: Any = pytest.importorskip("torch", reason="their codebases are for PyTorch")
ht: Any = pytest.importorskip("hungarian_torch", reason="for PyTorch")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("limit", [0.3, 0.8])
def test_tracking_in_ultralytics_and_supervision(
    load: Any, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ByteTrack's pairs, lost tracks and new detections, after one import has changed."""
    name, without = "ultralytics.trackers.utils.matching", ("cv2", "torchvision")
    matching = load(name, without=without)
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "lap", hn)
        changed = load(name, without=without)
    assert changed.lap is hn
    supervision = load("supervision.tracker.byte_tracker.matching", without=("cv2",))
    rng = np.random.default_rng(5)
    for _ in range(100):
        cost = rng.uniform(size=rng.integers(0, 9, 2))
        expected = matching.linear_assignment(cost, limit)
        found = changed.linear_assignment(cost, limit)
        for x, y in zip(found, expected, strict=True):
            np.testing.assert_array_equal(x, y)
        pairs, lost, new = supervision.linear_assignment(cost.copy(), limit)
        gated = np.where(cost > limit, np.inf, cost)
        match = hc.assign(gated, unmatched_cost=limit + 1e-4)
        np.testing.assert_array_equal(np.stack(match.indices(), axis=1), pairs)
        assert np.flatnonzero(match.col4row < 0).tolist() == sorted(lost)
        assert np.flatnonzero(match.row4col < 0).tolist() == sorted(new)


def test_what_is_loaded_leaves_the_process_alone(load: Any) -> None:
    """Or other tests would run on what ultralytics puts in the place of others' functions."""
    from PIL import Image

    load("ultralytics.models.utils.loss", without=("cv2", "torchvision"))
    assert Image.open.__module__ == "PIL.Image"
    assert torch.save.__module__ == "torch.serialization"
    assert np.get_printoptions()["linewidth"] == 75


def test_norfair(load: Any) -> None:
    """It takes the nearest pair first: never better, and the same where there is no contest."""
    tracker = load("norfair.tracker", without=("filterpy", "filterpy.kalman"))
    rng, equal = np.random.default_rng(7), 0
    for _ in range(200):
        distance = rng.uniform(size=rng.integers(1, 7, 2))
        i, j = tracker.Tracker.match_dets_and_objs(None, distance, 0.5)
        rows, cols = hc.assign(distance, unmatched_cost=0.5).indices()
        gain = [(distance[x, y] - 0.5).sum() for x, y in ((rows, cols), (i, j))]
        assert gain[0] <= gain[1] + 1e-12
        equal += sorted(zip(i, j, strict=True)) == list(zip(rows, cols, strict=True))
    assert 100 < equal < 200


@pytest.mark.parametrize(("module", "metric"), [("hota", "HOTA"), ("identity", "Identity")])
def test_trackeval(load: Any, module: str, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every figure of a sequence, after one import has changed."""
    theirs = load(f"trackeval.metrics.{module}")
    rng = np.random.default_rng(8)
    ids = [[np.flatnonzero(rng.uniform(size=6) < 0.7) for _ in range(20)] for _ in range(2)]
    count = [sum(map(len, x)) for x in ids]
    scores = [rng.uniform(size=(len(x), len(y))) for x, y in zip(*ids, strict=True)]
    data = {
        "gt_ids": ids[0], "tracker_ids": ids[1], "similarity_scores": scores, "num_gt_ids": 6,
        "num_tracker_ids": 6, "num_gt_dets": count[0], "num_tracker_dets": count[1],
    }  # fmt: skip
    expected = getattr(theirs, metric)({"PRINT_CONFIG": False}).eval_sequence(data)
    asked: list[Any] = []

    def solved(cost: Any) -> Any:
        asked.append(cost)
        return hc.linear_sum_assignment(cost)

    monkeypatch.setattr(theirs, "linear_sum_assignment", solved)
    found = getattr(theirs, metric)({"PRINT_CONFIG": False}).eval_sequence(data)
    assert asked
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_allclose(found[name], x, rtol=1e-12, err_msg=name)


def signals(sources: int) -> tuple[Any, Any]:
    """Return estimates with a gradient and references, (B, sources, T)."""
    noise = torch.Generator().manual_seed(sources)
    references, other = torch.randn(2, 4, sources, 300, generator=noise)
    return (2 * references.flip(1) + other + 0.3).requires_grad_(), references


@pytest.mark.filterwarnings("ignore:Creating a tensor from a list:UserWarning")
@pytest.mark.parametrize("sources", [2, 5])
def test_asteroid(load: Any, sources: int) -> None:
    """`PITLossWrapper` of SI-SDR: its loss, gradient, and estimates in order."""
    wrapper = load("asteroid.losses.pit_wrapper").PITLossWrapper
    sdr = load("asteroid.losses.sdr")
    estimates, references = signals(sources)
    theirs, expected = wrapper(sdr.pairwise_neg_sisdr, pit_from="pw_mtx")(
        estimates, references, return_est=True
    )
    ours, match = ht.pit_loss(estimates, references, zero_mean=True, return_assignment=True)
    torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=0)
    x, y = (torch.autograd.grad(1.7 * x, estimates)[0] for x in (ours, theirs))
    torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5 * float(y.abs().max()))
    found = torch.take_along_dim(estimates, match.col4row[..., None], dim=1)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("sources", [2, 4])
def test_speechbrain(load: Any, sources: int) -> None:
    """`PitWrapper` of mean squares: the losses of the samples, and the orders."""
    losses = load("speechbrain.nnet.losses", without=("torchaudio",))
    estimates, references = signals(sources)
    wrapper = losses.PitWrapper(torch.nn.MSELoss(reduction="none"))
    expected, orders = wrapper(estimates.mT, references.mT)
    found, match = ht.pit_loss(
        estimates, references, metric="mse", reduction="sample", return_assignment=True
    )
    assert match.col4row.tolist() == [list(order) for order in orders]
    torch.testing.assert_close(found, expected)
    x, y = (torch.autograd.grad(1.7 * x.sum(), estimates)[0] for x in (found, expected))
    torch.testing.assert_close(x, y)


@pytest.mark.parametrize("metric", ["mse", "mae"])
def test_pyannote(load: Any, metric: str) -> None:
    """Speakers in the order of others."""
    without = ("pyannote.core",)
    permutate = load("pyannote.audio.utils.permutation", without=without).permutate
    y2, y1 = (x.mT for x in signals(4))
    expected, orders = permutate(y1, y2, metric)
    measure = "mse" if metric == "mse" else lambda xp, a, b: xp.mean(xp.abs(a - b), axis=-1)
    _, match = ht.pit_loss(y2.mT, y1.mT, metric=measure, return_assignment=True)
    found = torch.take_along_dim(y2, match.col4row[:, None, :], dim=2)
    assert match.col4row.tolist() == [list(order) for order in orders]
    assert torch.equal(found, expected)


KERASHUB = """
from importlib.util import module_from_spec, spec_from_file_location
import sys
import keras
import numpy as np
import hungarian_core as hc

spec = spec_from_file_location("d_fine_utils", sys.argv[1])
module = module_from_spec(spec)
spec.loader.exec_module(module)
rng, queries = np.random.default_rng(3), 6


def hungarian_assignment(cost_matrix, num_queries):
    columns = hc.assign(keras.ops.transpose(cost_matrix)).row4col
    return keras.ops.arange(num_queries), columns, columns >= 0


for objects in (0, 2, 4, 6):
    for dtype in ("float32", "float64"):
        cost = keras.ops.convert_to_tensor(rng.uniform(size=(queries, objects)), dtype=dtype)
        rows, columns, valid = module.hungarian_assignment(cost, queries)
        ours = hungarian_assignment(cost, queries)
        # As D-FINE calls it: images with fewer objects than others are filled up.
        filled = keras.ops.pad(cost, ((0, 0), (0, 2)), constant_values=1e9)
        _, found, there = hungarian_assignment(filled, queries)
        there = keras.ops.logical_and(there, found < objects)
        assert bool(keras.ops.all(keras.ops.where(there, found, -1) == ours[1]))
        theirs = rows, keras.ops.where(valid, columns, -1), valid
        chosen = [
            float(keras.ops.sum(cost[i[there], j[there]])) for i, j, there in (ours, theirs)
        ]
        equal = all(bool(keras.ops.all(x == y)) for x, y in zip(ours, theirs))
        print(objects, int(keras.ops.sum(ours[2])), int(keras.ops.sum(valid)), *chosen, int(equal))
"""


def test_kerashub() -> None:
    """Whose object a query has, and whether it has one, of one image.

    In float32 its own loses the costs beside the large number with which it fills them up.
    Keras chooses its backend once per process, hence one of its own.
    """
    spec = importlib.util.find_spec("keras_hub")
    if spec is None or spec.origin is None:
        pytest.skip("keras_hub is not installed")
    path = Path(spec.origin).with_name("src") / "models" / "d_fine" / "d_fine_utils.py"
    done = subprocess.run(
        [sys.executable, "-c", KERASHUB, str(path)],
        env={**os.environ, "KERAS_BACKEND": "torch"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = np.array([list(map(float, line.split())) for line in done.stdout.splitlines()])
    objects, ours, theirs, least, cost, equal = found.T
    assert (ours == objects).all()
    assert (theirs == objects).all()
    assert (least <= cost + 1e-6).all()
    assert equal.tolist() == [1, 1, 0, 1, 0, 1, 1, 1]
