"""What docs/coming-from names, beside the code of the codebases themselves.

A package for training brings gigabytes that its loss never reads. So such a package is installed
alone, the `__init__` of the packages around a module does not run, and what a module imports for
other purposes has a stand-in.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pytest

import hungarian_core as hc
import hungarian_numpy as hn

torch: Any = pytest.importorskip("torch", reason="their codebases are for PyTorch")
ht: Any = pytest.importorskip("hungarian_torch", reason="for PyTorch")
pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES, QUERIES = 5, 26


def load(name: str, *, without: Sequence[str] = (), alone: bool = True) -> Any:
    """Return a module of an installed package, or skip.

    Args:
        name: Of the module, with its packages.
        without: Packages that it imports and does not need here.
        alone: Whether the packages around it are left out; if not, it is imported as by anybody.
    """
    root = name.partition(".")[0]
    folders = [Path(folder) for folder in sys.path if (Path(folder) / root).is_dir()]
    if not folders:
        pytest.skip(f"{root} is not installed")
    before = dict(sys.modules)
    parts = name.split(".")
    try:
        for k in range(1, len(parts) if alone else 1):
            around = ModuleType(".".join(parts[:k]))
            around.__path__ = [str(folder.joinpath(*parts[:k])) for folder in folders]
            around.__dict__["__version__"] = "0.0"
            sys.modules[around.__name__] = around
        stand_ins = {x: mock.MagicMock(__path__=[], __version__="0.0") for x in without}
        sys.modules.update(stand_ins)
        versions = importlib.metadata.version
        with (
            warnings.catch_warnings(action="ignore"),
            mock.patch.object(
                importlib.metadata, "version", lambda x: "0.0" if x in stand_ins else versions(x)
            ),
        ):
            return importlib.import_module(name)
    finally:
        # Others, such as transformers, look for these packages too, and would find them maimed.
        roots = {root, *(x.partition(".")[0] for x in without)}
        for each in [x for x in sys.modules if x.partition(".")[0] in roots and x not in before]:
            del sys.modules[each]
        sys.modules.update({x: y for x, y in before.items() if x.partition(".")[0] in roots})


def layers(count: int, images: int, queries: int = QUERIES) -> tuple[Any, Any]:
    """Return logits and boxes of layers, that have gradients."""
    noise = torch.Generator().manual_seed(count)
    logits = 2 * torch.randn(count, images, queries, CLASSES, generator=noise)
    boxes = torch.rand(count, images, queries, 4, generator=noise) * 0.4 + 0.3
    return logits.requires_grad_(), boxes.requires_grad_()


def objects(counts: list[int]) -> list[dict[str, Any]]:
    """Return the objects of images."""
    noise = torch.Generator().manual_seed(9)
    return [
        {
            "labels": torch.randint(CLASSES, (n,), generator=noise),
            "boxes": torch.rand(n, 4, generator=noise) * 0.4 + 0.3,
        }
        for n in counts
    ]


def assert_same(ours: Any, theirs: Any, inputs: tuple[Any, ...]) -> None:
    """Compare values, and gradients by an upstream gradient."""
    torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=0)
    found, expected = (torch.autograd.grad(1.7 * x, inputs) for x in (ours, theirs))
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-5 * float(y.abs().max()))


@pytest.fixture(scope="module")
def rt_detr(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The losses of RT-DETR in ultralytics, which writes settings where it may."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("ultralytics")))
        return load("ultralytics.models.utils.loss", without=("cv2", "torchvision"))


@pytest.mark.parametrize("counts", [[4, 0, 2], [30, 1, 3]], ids=["few", "more than queries"])
def test_ultralytics(rt_detr: Any, counts: list[int]) -> None:
    """The loss, and its gradient through the weight of the varifocal loss."""
    (logits, boxes), targets = layers(3, 3), objects(counts)
    flat = {
        "cls": torch.cat([t["labels"] for t in targets]),
        "bboxes": torch.cat([t["boxes"] for t in targets]),
        "gt_groups": counts,
    }
    theirs = rt_detr.RTDETRDetectionLoss(nc=CLASSES, use_vfl=True)((boxes, logits), flat)
    criterion = ht.DetrLoss.preset(
        "rt_detr", CLASSES, class_loss="varifocal_differentiated", alpha=0.25, gamma=1.5,
        cost_gamma=2.0,
    )  # fmt: skip
    split = zip(flat["cls"].split(counts), flat["bboxes"].split(counts), strict=True)
    split = [{"labels": c, "boxes": b} for c, b in split]
    # There it is the number of pairs that losses are divided by.
    pairs = torch.tensor(float(sum(min(n, QUERIES) for n in counts)))
    out = criterion(logits, boxes, split, num_objects=pairs)
    assert_same(out.total, sum(theirs.values()), (logits, boxes))
    terms = {"class": out.class_, "bbox": out.bbox, "giou": out.giou}
    for name, x in terms.items():
        torch.testing.assert_close(x[-1], theirs[f"loss_{name}"], rtol=2e-6, atol=0)
        torch.testing.assert_close(x[:-1].sum(), theirs[f"loss_{name}_aux"], rtol=2e-6, atol=0)


def test_denoising_of_ultralytics(rt_detr: Any) -> None:
    """Queries that know their objects, in three groups, half of which become nothing."""
    counts, groups = [3, 0, 2], 3
    (logits, boxes), (logits_dn, boxes_dn) = layers(2, 3), layers(3, 3, 2 * 3 * groups)
    targets, first = objects(counts), [0, 3, 3]
    size = 2 * max(counts)
    places = [torch.arange(n) + size * torch.arange(groups)[:, None] for n in counts]
    meta = {
        "dn_pos_idx": [x.flatten() for x in places], "dn_num_group": groups,
        "dn_gt_idx": [k + torch.arange(n) for k, n in zip(first, counts, strict=True)],
    }  # fmt: skip
    flat = {
        "cls": torch.cat([t["labels"] for t in targets]),
        "bboxes": torch.cat([t["boxes"] for t in targets]),
        "gt_groups": counts,
    }
    published = rt_detr.RTDETRDetectionLoss(nc=CLASSES, use_vfl=True)
    theirs = published((boxes, logits), flat, boxes_dn, logits_dn, meta)
    expected = sum(x for name, x in theirs.items() if name.endswith("_dn"))
    criterion = ht.DetrLoss.preset(
        "rt_detr", CLASSES, class_loss="varifocal_differentiated", alpha=0.25, gamma=1.5
    )
    given = torch.full((3, size * groups), -1)
    for row, place, n in zip(given, places, counts, strict=True):
        row[place] = torch.arange(n)
    found = criterion(logits_dn, boxes_dn, targets, assignment=given).total
    assert_same(found, expected, (logits_dn, boxes_dn))


@pytest.mark.parametrize("counts", [[4, 0, 2], [3, 1, 5]])
def test_rfdetr(counts: list[int]) -> None:
    """Its criterion, with layers, proposals, and 13 groups of queries in training."""
    without = ("torchvision", "torchvision.ops", "torchvision.ops.boxes")
    theirs = load("rfdetr.models.criterion", without=without)
    box_ops = theirs.box_ops
    box_ops.box_area = lambda x: (x[:, 2:] - x[:, :2]).prod(-1)
    (logits, boxes), targets = layers(3, 3), objects(counts)
    each = [
        {"pred_logits": x, "pred_boxes": y}
        for x, y in zip(logits.unbind(), boxes.unbind(), strict=True)
    ]
    outputs = {**each[0], "aux_outputs": [each[1]], "enc_outputs": each[2]}
    matcher = theirs.HungarianMatcher(2, 5, 2)
    losses = ["labels", "boxes", "cardinality"]
    options = {"group_detr": 13, "ia_bce_loss": True}
    published = theirs.SetCriterion(CLASSES, matcher, {}, 0.25, losses, **options)
    ours = ht.HungarianMatcher(2, 5, 2, class_cost_form="logsigmoid")
    criterion = ht.SetCriterion(CLASSES, ours, class_loss="ia_bce", group_detr=13)
    for training in (True, False):
        expected = published.train(training)(outputs, targets)
        found = criterion.train(training)(outputs, targets)
        assert set(found) == set(expected)
        for name, x in expected.items():
            torch.testing.assert_close(found[name].float(), x.float(), rtol=1e-5, atol=0, msg=name)
        learnt = [name for name in expected if name.startswith("loss")]
        assert_same(
            sum(found[x] for x in learnt), sum(expected[x] for x in learnt), (logits, boxes)
        )
    for groups in (1, 13):
        pairs = zip(ours(each[0], targets, groups), matcher(each[0], targets, groups), strict=True)
        for found, expected in pairs:
            assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("limit", [0.3, 0.8])
def test_tracking_in_ultralytics_and_supervision(
    rt_detr: Any, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ByteTrack's pairs, lost tracks and new detections, after one import has changed."""
    matching = load("ultralytics.trackers.utils.matching", without=("cv2", "torchvision"))
    supervision = load("supervision.tracker.byte_tracker.matching", without=("cv2",))
    rng = np.random.default_rng(5)
    for _ in range(100):
        cost = rng.uniform(size=rng.integers(0, 9, 2))
        expected = matching.linear_assignment(cost, limit)
        with monkeypatch.context() as patched:
            patched.setattr(matching, "lap", hn)
            found = matching.linear_assignment(cost, limit)
        for x, y in zip(found, expected, strict=True):
            np.testing.assert_array_equal(x, y)
        pairs, lost, new = supervision.linear_assignment(cost.copy(), limit)
        gated = np.where(cost > limit, np.inf, cost)
        match = hc.assign(gated, unmatched_cost=limit + 1e-4)
        np.testing.assert_array_equal(np.stack(match.indices(), axis=1), pairs)
        assert np.flatnonzero(match.col4row < 0).tolist() == sorted(lost)
        assert np.flatnonzero(match.row4col < 0).tolist() == sorted(new)


def test_norfair() -> None:
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
def test_trackeval(module: str, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_asteroid(sources: int) -> None:
    """`PITLossWrapper` of SI-SDR: its loss, gradient, and estimates in order."""
    wrapper = load("asteroid.losses.pit_wrapper").PITLossWrapper
    sdr = load("asteroid.losses.sdr")
    estimates, references = signals(sources)
    theirs, expected = wrapper(sdr.pairwise_neg_sisdr, pit_from="pw_mtx")(
        estimates, references, return_est=True
    )
    ours, match = ht.pit_loss(estimates, references, zero_mean=True, return_assignment=True)
    assert_same(ours, theirs, (estimates,))
    found = torch.take_along_dim(estimates, match.col4row[..., None], dim=1)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("sources", [2, 4])
def test_speechbrain(sources: int) -> None:
    """`PitWrapper` of mean squares: the losses of the samples, and the orders."""
    losses = load("speechbrain.nnet.losses", without=("torchaudio",))
    estimates, references = signals(sources)
    wrapper = losses.PitWrapper(torch.nn.MSELoss(reduction="none"))
    expected, orders = wrapper(estimates.mT, references.mT)
    found, match = ht.pit_loss(
        estimates, references, metric="mse", reduction="sample", return_assignment=True
    )
    assert match.col4row.tolist() == [list(order) for order in orders]
    assert_same(found.sum(), expected.sum(), (estimates,))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("metric", ["mse", "mae"])
def test_pyannote(metric: str) -> None:
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
for objects in (0, 2, 4, 6):
    for dtype in ("float32", "float64"):
        cost = keras.ops.convert_to_tensor(rng.uniform(size=(queries, objects)), dtype=dtype)
        rows, columns, valid = module.hungarian_assignment(cost, queries)
        match = hc.assign(keras.ops.transpose(cost))
        ours = keras.ops.arange(queries), match.row4col, match.row4col >= 0
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
