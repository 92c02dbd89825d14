"""Two workers, each with half of a batch, are together one worker with all of it.

The programs in tests/distributed compute losses and gradients on one device and on two, each in
its own processes, where devices can be chosen and nothing can hang for long.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).with_name("distributed")
SECONDS = 300  # many times what they take
PROCESSES = {"torch": [("0",), ("1",)], "jax": [()], "tensorflow": [()]}  # their last arguments

COMPILED = ["softmax", "focal", "varifocal", "pairs"]
LOSSES = {
    "torch": [*COMPILED, "softmax_as_published", "focal_as_published", "aligned"],
    "jax": COMPILED,
    "tensorflow": COMPILED,
}
COUNTS = ["uneven", "one_without", "fewer_than_workers", "none", "ignored_on_one"]

Found = Mapping[str, np.ndarray]
Run = Callable[[str], Found]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the program of a framework, once for all tests, and return what it found."""

    @functools.cache
    def finished(framework: str) -> tuple[str, Found]:
        folder = tmp_path_factory.mktemp(framework)
        program = str(FOLDER / f"in_{framework}.py")
        failure = _finish([[program, str(folder), *more] for more in PROCESSES[framework]], folder)
        if failure:
            return failure, {}
        with np.load(folder / "found.npz") as arrays:
            return "", dict(arrays)

    def found(framework: str) -> Found:
        if importlib.util.find_spec(framework) is None:
            pytest.skip(f"{framework} is not installed")
        failure, arrays = finished(framework)
        if failure:
            pytest.fail(failure)
        return arrays

    return found


def _finish(programs: list[list[str]], folder: Path) -> str:
    """Run Python programs at once and return what a failed one said; none outlives this."""
    path = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{FOLDER}{os.pathsep}{path}" if path else str(FOLDER),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    if sys.platform == "linux":
        environment["GLOO_SOCKET_IFNAME"] = "lo"  # the host's own name need not be known
    deadline = time.monotonic() + SECONDS
    started = []
    try:
        for program in programs:
            said = (folder / f"output-{len(started)}").open("w+b")
            process = subprocess.Popen(
                [sys.executable, *program], cwd=folder, env=environment, stdout=said, stderr=said
            )
            started.append((process, said))
        for process, said in started:
            try:
                code = process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                code = None
            if code != 0:
                said.seek(0)
                return f"{process.args}: {code}\n{said.read().decode(errors='replace')}"
        return ""
    finally:
        for process, said in started:
            process.kill()
            process.wait()
            said.close()


def _near(found: np.ndarray, wanted: np.ndarray, tolerance: float = 1e-6) -> None:
    scale = np.abs(wanted).max(initial=0)
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * scale)


def _same(found: Found, case: str, share: float = 1) -> None:
    """Compare the mean over workers of losses and gradients with those of one device."""
    _near(found[f"{case}/several/total"].mean(), share * found[f"{case}/one/total"])
    for by in ("by_logits", "by_boxes"):
        # An input belongs to one worker: the other's gradient is 0.
        _near(found[f"{case}/several/{by}"] / 2, share * found[f"{case}/one/{by}"])


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize(
    ("framework", "loss"),
    [(k, name) for k, names in LOSSES.items() for name in names if "published" not in name],
)
def test_mean_over_workers(run: Run, framework: str, loss: str, counts: str) -> None:
    """Whatever the objects that the workers have, or have not."""
    _same(run(framework), f"{loss}/{counts}")


@pytest.mark.parametrize("framework", LOSSES)
def test_gradients_are_there(run: Run, framework: str) -> None:
    """What is compared is not 0, for any loss or worker."""
    found = run(framework)
    for loss in LOSSES[framework]:
        for by in ("by_logits", "by_boxes"):
            halves = np.split(found[f"{loss}/uneven/one/{by}"], 2)
            assert min(np.abs(half).max() for half in halves) > 1e-3


@pytest.mark.parametrize("counts", COUNTS)
def test_published_focal(run: Run, counts: str) -> None:
    """By default as well, but where there are fewer objects than workers each divides by 1."""
    few = counts in ("fewer_than_workers", "none")
    _same(run("torch"), f"focal_as_published/{counts}", 0.5 if few else 1)


@pytest.mark.parametrize("counts", COUNTS)
def test_published_cross_entropy(run: Run, counts: str) -> None:
    """By default each divides by its own weights: the mean is not that of one device."""
    found, case = run("torch"), f"softmax_as_published/{counts}"
    classes, whole = found[f"{case}/several/classes"], found[f"{case}/one/classes"]
    _near(classes, found[f"{case}/halves/classes"], 1e-5)
    differs = np.abs(classes.mean(axis=0) - whole).max() > 0.01 * whole.max()
    assert differs == (counts != "none")


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("loss", LOSSES["torch"])
def test_run_of_one_process(run: Run, loss: str, counts: str) -> None:
    """An initialised run of one process is no run at all."""
    found, case = run("torch"), f"{loss}/{counts}"
    for what in ("total", "by_logits", "by_boxes"):
        np.testing.assert_array_equal(found[f"{case}/alone/{what}"], found[f"{case}/one/{what}"])


@pytest.mark.parametrize(
    ("framework", "loss"), [("torch", "softmax"), ("torch", "focal"), ("tensorflow", "softmax")]
)
def test_weights_of_models(run: Run, framework: str, loss: str) -> None:
    """What DistributedDataParallel averages, and `fit` of Keras adds up, is the whole gradient."""
    found = run(framework)
    _near(found[f"{loss}/several/by_weights"], found[f"{loss}/one/by_weights"])


@pytest.mark.parametrize("what", ["total", "by_logits", "by_boxes"])
def test_sharded_arrays(run: Run, what: str) -> None:
    """A JAX program that sees the whole batch needs no axis, however the batch is laid out."""
    found = run("jax")
    _near(found[f"softmax/uneven/sharded/{what}"], found[f"softmax/uneven/one/{what}"])


@pytest.mark.parametrize("mask", ["of_each", "of_all"])
@pytest.mark.parametrize("solver", ["auto", "core", "scipy"])
def test_solvers_in_shard_map(run: Run, solver: str, mask: str) -> None:
    """Each is accounted for by `shard_map`, with masks that workers have or share."""
    found = run("jax")
    np.testing.assert_array_equal(found[f"{solver}/{mask}"], found[f"outside/{mask}"])


def test_eager_replicas(run: Run) -> None:
    """TensorFlow's replicas need no graph."""
    found = run("tensorflow")
    _near(found["focal/uneven/eager/total"], found["focal/uneven/several/total"])
    _near(found["focal/uneven/eager/by_logits"], found["focal/uneven/several/by_logits"])


@pytest.mark.parametrize("loss", ["criterion", "transformers"])
@pytest.mark.parametrize("counts", ["uneven", "one_without"])
def test_losses_with_the_names_of_others(run: Run, loss: str, counts: str) -> None:
    """`SetCriterion` and `TransformersLoss`: one process without an object asks as the other."""
    found, case = run("torch"), f"{loss}/{counts}"
    _near(found[f"{case}/of_two/total"].mean(), found[f"{case}/one/total"])
    for by in ("by_logits", "by_boxes"):
        assert np.abs(found[f"{case}/one/{by}"]).max() > 1e-3
        _near(found[f"{case}/of_two/{by}"] / 2, found[f"{case}/one/{by}"])


@pytest.mark.parametrize("framework", LOSSES)
def test_no_case_is_left_out(run: Run, framework: str) -> None:
    """The lists above name all that the programs compute."""
    found = {key.rpartition("/several/")[0] for key in run(framework) if "/several/total" in key}
    assert found == {f"{loss}/{counts}" for loss in LOSSES[framework] for counts in COUNTS}
