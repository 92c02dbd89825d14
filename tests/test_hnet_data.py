"""The data, the metrics and the files of the learned network, against SciPy and scikit-learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc

generate = hc.hnet.data.generate


def small(**options: Any) -> hc.hnet.data.Samples:
    return generate(**{"samples": 60, "seed": 3, **options})


def test_the_published_number_of_samples() -> None:
    assert hc.hnet.data.samples_per_pair(2) == (3000, 5000, 15000)
    found = generate(2, samples=(30, 50, 150))
    assert len(found.rows) == 9 * (5 * 30 + 3 * 50 + 150)
    pairs, repeats = np.unique(np.stack([found.rows, found.cols]), axis=1, return_counts=True)
    assert dict(zip(map(tuple, pairs.T.tolist()), (repeats // 9).tolist(), strict=True)) == {
        (n, m): (30, 50, 150)[min(n, m)] for n in range(3) for m in range(3)
    }


@pytest.mark.parametrize("max_len", [1, 2, 3, 10])
def test_counts_of_associations_are_equally_frequent(max_len: int) -> None:
    found = generate(max_len, samples=400, resolutions=(10,))
    matched = found.association.sum(axis=(1, 2))
    np.testing.assert_array_equal(matched, np.minimum(found.rows, found.cols))
    frequencies = np.bincount(matched, minlength=max_len + 1)
    assert frequencies.min() > 0.95 * frequencies.max()


def test_counts_can_be_chosen() -> None:
    found = small(max_len=4, counts=[(4, 2), (1, 3)], resolutions=(5, 30))
    assert {*zip(found.rows.tolist(), found.cols.tolist(), strict=True)} == {(4, 2), (1, 3)}
    assert {*found.resolution.tolist()} == {5, 30}


@pytest.mark.parametrize("missing", ["published", "masked", "mixed"])
@pytest.mark.parametrize("max_len", [2, 7])
def test_labels_one_by_one(max_len: int, missing: Any) -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="needs SciPy")
    found = small(max_len=max_len, missing=missing, resolutions=(1, 30))
    for k in range(len(found.rows)):
        rows, cols = np.flatnonzero(found.row_mask[k]), np.flatnonzero(found.col_mask[k])
        assert (len(rows), len(cols)) == (found.rows[k], found.cols[k])
        real = found.distance[k][np.ix_(rows, cols)].astype(float)
        assert (real <= 2 + 1e-6).all()
        i, j = optimize.linear_sum_assignment(real)
        inside = found.association[k][np.ix_(rows, cols)]
        # Where two matchings are as good, the pairs may differ, and what they cost may not.
        assert inside.sum() == found.association[k].sum() == len(i)
        assert (inside.sum(axis=0) <= 1).all()
        assert (inside.sum(axis=1) <= 1).all()
        assert real[inside].sum() == pytest.approx(real[i, j].sum(), abs=1e-5)


def test_missing_objects() -> None:
    """Half of the samples have them at one point, and the others where no direction is."""
    found = generate(2, samples=2000, resolutions=(10,))
    none = (found.rows == 0) & (found.cols == 0)
    at_one_point = (found.distance[none] == 0).all(axis=(1, 2))
    assert 0.45 < at_one_point.mean() < 0.55
    assert (found.distance[none][~at_one_point] != 0).any(axis=(1, 2)).all()
    assert found.distance.max() < np.hypot(200, np.hypot(200, 200))
    mixed = (found.rows == 2) & (found.cols == 0)
    assert (found.distance[mixed] > 0.7).all()  # (1, 1, 1) is that far from the sphere
    both = generate(2, samples=200, missing="mixed")
    assert 0.45 < both.masked.mean() < 0.55
    real = both.row_mask[:, :, None] & both.col_mask[:, None, :]
    blank = ((both.distance == 0) | real).all(axis=(1, 2))
    assert blank[both.masked].all()
    assert not blank[~both.masked].all()
    assert not found.masked.any()
    masked = generate(2, samples=200, missing="masked")
    assert masked.masked.all()
    real = masked.row_mask[:, :, None] & masked.col_mask[:, None, :]
    assert (masked.distance[~real] == 0).all()


@pytest.mark.parametrize(("resolution", "max_len"), [(30, 7), (15, 13), (90, 3), (7, 20)])
def test_directions_lie_on_grids_without_replacement(resolution: int, max_len: int) -> None:
    seen: list[np.ndarray] = []

    def watch(xp: Any, a: Any, b: Any) -> Any:
        seen.extend((a[:, :, 0], b[:, 0]))
        return hc.costs.COSTS["euclidean"](xp, a, b)

    counts = [(max_len, max_len)]
    generate(max_len, samples=50, counts=counts, resolutions=(resolution,), distance=watch)
    for points in seen:
        np.testing.assert_allclose(np.linalg.norm(points, axis=-1), 1, atol=1e-12)
        elevation = np.rad2deg(np.arcsin(points[..., 2].clip(-1, 1)))
        steps = (elevation + 90) / resolution
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-5)
        assert all(len(np.unique(np.rint(x))) == max_len for x in steps)
        level = np.abs(elevation) < 89
        azimuth = np.rad2deg(np.arctan2(points[..., 1], points[..., 0]))
        steps = np.where(level, (azimuth + 180) / resolution, 0)
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-5)
        steps = np.rint(steps) % (-(-360 // resolution) if 360 % resolution == 0 else 10**6)
        assert all(len(np.unique(x[y])) == y.sum() for x, y in zip(steps, level, strict=True))


def test_more_directions_than_a_grid_has() -> None:
    """Then all of its steps are used before one comes again."""
    drawn = hc.hnet.data._distinct(np.full(200, 7), 17, np.random.default_rng(0))
    assert all((np.bincount(x, minlength=7) >= 2).all() for x in drawn)
    assert all((np.bincount(x[:7]) == 1).all() for x in drawn)
    assert len({tuple(x) for x in drawn.tolist()}) == 200
    first = np.bincount(drawn[:, 0], minlength=7)
    assert first.min() > 10


def test_rows_or_columns_are_shuffled() -> None:
    found = small(max_len=3, counts=[(2, 2)])
    in_order = np.array([True, True, False])
    rows, cols = ((x == in_order).all(axis=1) for x in (found.row_mask, found.col_mask))
    assert (rows | cols).all()
    assert 0.1 < (rows & ~cols).mean() < 0.6
    assert 0.1 < (cols & ~rows).mean() < 0.6


def test_the_seed_decides() -> None:
    a, b, c = small(seed=1), small(seed=1), small(seed=2)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)
    assert (a.distance != c.distance).any()
    assert a.distance.dtype == np.float32
    assert a.association.dtype == a.row_mask.dtype == bool


def test_other_distances() -> None:
    plain, other = small(missing="masked"), small(missing="masked", distance="angular")
    real = plain.row_mask[:, :, None] & plain.col_mask[:, None, :]
    # The chord is twice the sine of half the angle.
    np.testing.assert_allclose(
        2 * np.sin(other.distance / 2)[real], plain.distance[real], atol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_len": 0}, "max_len is 0; expected a whole number from 1 on"),
        (
            {"samples": (1, 2)},
            "samples has 2 numbers; expected 3, for 0 to 2 associations, or one number",
        ),
        (
            {"counts": [(1, 3)]},
            "counts has (1, 3); expected pairs of whole numbers from 0 to 2, references and "
            "predictions",
        ),
        ({"resolutions": (0,)}, "resolutions has 0; expected whole degrees from 1 to 90"),
        ({"missing": "zero"}, "missing is 'zero'; expected one of 'published', 'masked'"),
        (
            {"distance": lambda xp, a, b: a},
            "distance returned an array of shape (1224, 2, 1, 3); expected (1224, 2, 2)",
        ),
    ],
    ids=["max_len", "samples", "counts", "resolutions", "missing", "distance"],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole message is compared)
        small(**options)
    assert str(caught.value).startswith(message.replace("1224", str(len(small().rows))))


def predictions(truth: np.ndarray, seed: int, wrong: float) -> np.ndarray:
    """Return chances of which a share is on the wrong side of one half."""
    rng = np.random.default_rng(seed)
    said = truth ^ (rng.random(truth.shape) < wrong)
    return np.where(said, rng.uniform(0.51, 1, truth.shape), rng.uniform(0, 0.49, truth.shape))


@pytest.mark.parametrize("wrong", [0, 0.01, 0.3])
@pytest.mark.parametrize("max_len", [2, 5])
def test_weighted_f_score_is_that_of_scikit_learn(max_len: int, wrong: float) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn")
    truth = small(max_len=max_len).association
    predicted = predictions(truth, 5, wrong)
    weights = truth.mean(axis=0)
    expected = [
        metrics.f1_score(
            truth[at : at + 256].ravel(),
            (predicted[at : at + 256] > 0.5).ravel(),
            average="weighted",
            sample_weight=np.tile(weights.ravel(), 256),
            zero_division=1,
        )
        for at in range(0, len(truth) - 255, 256)
    ]
    assert len(expected) >= 2
    found = hc.hnet.metrics.weighted_f_score(truth, predicted)
    assert found == pytest.approx(np.mean(expected), abs=1e-12)
    assert (found == 1) == (wrong == 0)


def test_f_score_of_few_samples() -> None:
    """Less than a batch is a batch; without associations, saying so is right."""
    score = hc.hnet.metrics.weighted_f_score
    one = np.array([[[True, False], [False, False]]])
    assert score(one, one, weights=np.ones((2, 2))) == 1
    # Precision 1/2 and recall 1 of one pair in four; of the others, 1 and 2/3.
    said = np.array([[[0.9, 0.9], [0.1, 0.1]]])
    expected = 0.25 * (2 / 3) + 0.75 * 0.8
    assert score(one, said, weights=np.ones((2, 2))) == pytest.approx(expected)
    assert score(~one & one, ~one & one, weights=np.ones((2, 2))) == 1
    assert np.isnan(score(one[:0], said[:0]))


def test_exact() -> None:
    truth = small().association
    assert hc.hnet.metrics.exact(truth, predictions(truth, 1, 0)) == 1
    predicted = predictions(truth, 1, 0)
    predicted[::4, 1, 0] = 1 - predicted[::4, 1, 0]
    assert hc.hnet.metrics.exact(truth, predicted) == pytest.approx(0.75, abs=1 / len(truth))
    assert np.isnan(hc.hnet.metrics.exact(truth[:0], predicted[:0]))


def test_files_keep_everything(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    params = hc.hnet.init_params(width=5, layers=3, seed=4)
    hc.hnet.save(path, params, {"max_len": 2, "made by": "a test"})
    found, metadata = hc.hnet.load(path)
    assert metadata == {"max_len": "2", "made by": "a test"}
    assert found.keys() == params.keys()
    for name, value in params.items():
        assert found[name].dtype == np.float32
        assert found[name].shape == value.shape
        np.testing.assert_array_equal(found[name], value)
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    params = hc.hnet.init_params(width=2, layers=1)
    hc.hnet.save(path, params)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="expected the parameters of a network"):
        hc.hnet.save(path, {"a": np.ones(3)})
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_bad_files(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.numpy").save_file
    path = tmp_path / "weights.safetensors"
    with pytest.raises(FileNotFoundError, match=r"weights\.safetensors: there is no such file"):
        hc.hnet.load(path)
    params = hc.hnet.init_params(width=2, layers=1)
    hc.hnet.save(path, params)
    whole = path.read_bytes()
    for part in (b"", whole[:4], whole[:100], whole[:-8], b"something else entirely"):
        path.write_bytes(part)
        with pytest.raises(ValueError, match="not a file of network weights, or not the whole"):
            hc.hnet.load(path)
    save_file(params, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"the format is 'pt'; expected 'hungarian_core\.hnet 1'"):
        hc.hnet.load(path)


def test_a_file_keeps_what_load_promises(tmp_path: Path) -> None:
    """Float32, finite, of the right names and shapes: whatever else a file holds is refused."""
    save_file = pytest.importorskip("safetensors.numpy").save_file
    path = tmp_path / "weights.safetensors"
    params = hc.hnet.init_params(width=2, layers=1)
    nan = params["gate.out"] * np.float32(np.nan)
    for change, message in (
        ({"gate.out": params["gate.out"].astype("f8")}, r"'gate\.out' has dtype float64; expected"),
        ({"gate.out": params["gate.out"].astype("f2")}, r"'gate\.out' has dtype float16; expected"),
        ({"gate.out": np.zeros(2, "i4")}, r"'gate\.out' has dtype int32; expected float32"),
        ({"gate.out": nan}, r"'gate\.out' holds nan; expected finite numbers"),
        ({"cost.gate": np.array(np.inf, "f4")}, r"'cost\.gate' holds inf; expected finite numbers"),
        ({"gate.bias": np.zeros(3, "f4")}, r"'gate\.bias' has shape \(3,\); expected \(2,\)"),
        ({"more": np.zeros(3, "f4")}, r"it lacks nothing and has more besides"),
        ({"gate.bias": None}, r"it lacks gate\.bias and has nothing besides"),
    ):
        changed = {name: x for name, x in {**params, **change}.items() if x is not None}
        save_file(changed, path, metadata={"format": "hungarian_core.hnet 1"})
        with pytest.raises(ValueError, match=rf"weights\.safetensors.*{message}"):
            hc.hnet.load(path)
    whole = hc.hnet.init_params(width=np.int64(2), layers=np.int32(1))
    assert {name: x.shape for name, x in whole.items()} == {k: x.shape for k, x in params.items()}


def test_a_dtype_that_numpy_lacks_is_told(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    about = {"format": "hungarian_core.hnet 1"}
    tensor = {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}
    header = json.dumps({"__metadata__": about, "a": tensor}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(ValueError, match=r"weights\.safetensors"):
        hc.hnet.load(path)


def test_bad_parameters() -> None:
    params = hc.hnet.init_params(width=2, layers=1)
    distance = np.ones((2, 2))
    for bad in (None, {}, {**params, "more": np.ones(2)}, {"input.weight": np.ones((6, 2))}):
        with pytest.raises(ValueError, match="expected the parameters of a network"):
            hc.hnet.associate(distance, bad)  # type: ignore[arg-type]  # the point of the test
    bad = {**params, "gate.weight": params["gate.weight"][1:]}
    with pytest.raises(ValueError, match=r"'gate\.weight' has shape \(15, 2\); expected \(16, 2\)"):
        hc.hnet.associate(distance, bad)
    with pytest.raises(ValueError, match="width is 0; expected a whole number from 1 on"):
        hc.hnet.init_params(width=0)


def test_pretrained_sizes() -> None:
    with pytest.raises(ValueError, match="no weights for max_len 3; those there are: 2, 10"):
        hc.hnet.load_pretrained(3)
