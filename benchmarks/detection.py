"""Detection losses, forward and backward on 2 threads, against those of transformers.

    python benchmarks/detection.py [--repeats 20] [--quick] [--only Q300] [--json FILE]

`DetrLoss` gets what the published loss gets, the predictions of all decoder layers and a dictionary
for each image; then the same objects padded, and compiled by `torch.compile`, `jax.jit` and
`tf.function`, the last with XLA and without. Every framework has a process of its own, in which
each total and gradient is compared with the published ones before it is timed.

Two more figures are of eager PyTorch: how its time divides into phases, and the most memory that a
call holds over what its process held before. The solver is the default, whatever `--solver` says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from large import held
from scenes import SCENES, Batch, Scene
from timing import Contender, arguments, fastest, save

import hungarian_core as hc
from hungarian_core.losses import set_loss

Call = Callable[[], tuple[Any, Any, Any]]  # the total, its gradients for logits and boxes
Bind = Callable[[Batch], Call]
CLOSE = 1e-5  # relative: everything is float32
BUDGET = 20.0  # seconds of turns for the contenders of one framework
PRESETS = {"DETR": "detr", "Deformable DETR": "hf_deformable"}
PHASES = ("cost", "solve", "loss", "backward")


def criterion(scene: Scene) -> Any:
    """Return our loss with the weights of the published one."""
    return hc.DetrLoss.preset(PRESETS[scene.loss], num_classes=scene.classes)


def ours(scene: Scene) -> Callable[..., Any]:
    """Return our loss as ``f(logits, boxes, targets) -> total``."""
    loss = criterion(scene)
    return lambda logits, boxes, targets: loss(logits, boxes, targets).total


def published(scene: Scene, device: str = "cpu") -> Callable[..., Any]:
    """Return the loss of transformers in the same form."""
    from transformers.loss.loss_deformable_detr import DeformableDetrForObjectDetectionLoss
    from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss

    loss = ForObjectDetectionLoss if scene.softmax else DeformableDetrForObjectDetectionLoss
    config = SimpleNamespace(  # the weights are the defaults of the models' configurations
        num_labels=scene.classes,
        auxiliary_loss=scene.layers > 1,
        decoder_layers=scene.layers,
        class_cost=1,
        bbox_cost=5,
        giou_cost=2,
        bbox_loss_coefficient=5,
        giou_loss_coefficient=2,
        eos_coefficient=0.1,
        focal_alpha=0.25,
    )
    return lambda logits, boxes, targets: loss(
        logits[-1], targets, device, boxes[-1], config, logits, boxes
    )[0]


def listed(batch: Batch) -> list[dict[str, Any]]:
    """Return the objects of each image as tensors, as transformers takes them."""
    import torch

    return [
        {"class_labels": torch.tensor(labels[real]), "boxes": torch.tensor(boxes[real])}
        for labels, boxes, real in zip(*batch.truth, strict=True)
    ]


def padded(batch: Batch) -> tuple[Any, ...]:
    """Return labels, boxes and mask of the objects as tensors."""
    import torch

    return tuple(torch.tensor(x) for x in batch.truth)


def leaves(batch: Batch) -> tuple[Any, Any]:
    """Return logits and boxes as tensors that collect gradients."""
    import torch

    return torch.tensor(batch.logits).requires_grad_(), torch.tensor(batch.boxes).requires_grad_()


def in_torch(loss: Callable[..., Any], targets: Callable[[Batch], Any]) -> Bind:
    """Return what binds a loss of PyTorch to a batch."""

    def bind(batch: Batch) -> Call:
        (logits, boxes), truth = leaves(batch), targets(batch)

        def call() -> tuple[Any, Any, Any]:
            logits.grad = boxes.grad = None
            total = loss(logits, boxes, truth)
            total.backward()
            return total.detach(), logits.grad, boxes.grad

        return call

    return bind


def torch_contenders(scene: Scene) -> dict[str, Bind]:
    """Return the published loss and ours in PyTorch."""
    import torch

    loss = ours(scene)
    return {
        "transformers": in_torch(published(scene), listed),
        "torch": in_torch(loss, listed),
        "torch, padded": in_torch(loss, padded),
        "torch.compile": in_torch(torch.compile(loss, fullgraph=True), padded),
    }


def jax_contenders(scene: Scene) -> dict[str, Bind]:
    """Return our loss in jitted JAX."""
    import jax
    import jax.numpy as jnp

    step = jax.jit(jax.value_and_grad(ours(scene), argnums=(0, 1)))

    def bind(batch: Batch) -> Call:
        logits, boxes, *truth = (jnp.asarray(x) for x in batch)

        def call() -> tuple[Any, Any, Any]:
            total, gradients = jax.block_until_ready(step(logits, boxes, tuple(truth)))
            return total, *gradients

        return call

    return {"jax.jit": bind}


def tensorflow_contenders(scene: Scene) -> dict[str, Bind]:
    """Return our loss in graphs of TensorFlow."""
    import tensorflow as tf

    loss = ours(scene)

    def within(jit_compile: bool) -> Bind:
        @tf.function(jit_compile=jit_compile)
        def step(logits: tf.Tensor, boxes: tf.Tensor, *truth: tf.Tensor) -> tuple[tf.Tensor, ...]:
            with tf.GradientTape() as tape:
                tape.watch((logits, boxes))
                total = loss(logits, boxes, truth)
            return total, *tape.gradient(total, (logits, boxes))

        def bind(batch: Batch) -> Call:
            tensors = [tf.constant(x) for x in batch]
            return lambda: step(*tensors)

        return bind

    return {"tf.function": within(False), "tf.function, XLA": within(True)}


FRAMEWORKS = {
    "torch": torch_contenders,
    "jax": jax_contenders,
    "tensorflow": tensorflow_contenders,
}


def distance(found: Any, expected: Any) -> float:
    """Return how far an array is from what it should be, relative to its norm."""
    found, expected = (np.asarray(x, np.float64) for x in (found, expected))
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def prove(calls: list[Call], answers: list[tuple[Any, Any, Any]]) -> float:
    """Compare totals and gradients of all draws with the published ones; return the worst."""
    worst = max(
        distance(found, expected)
        for call, answer in zip(calls, answers, strict=True)
        for found, expected in zip(call(), answer, strict=True)
    )
    assert worst <= CLOSE, f"off the published loss by {worst:.1e}"
    return worst


def time_here(scene: Scene, framework: str, repeats: int) -> dict[str, Any]:
    """Return the milliseconds of a framework's contenders, a call on average over the draws."""
    batches = [scene.batch(draw) for draw in range(scene.draws)]
    answers = [in_torch(published(scene), listed)(batch)() for batch in batches]
    contenders = FRAMEWORKS[framework](scene)
    calls = {name: [bind(batch) for batch in batches] for name, bind in contenders.items()}
    found: dict[str, Any] = {"off": {name: prove(calls[name], answers) for name in calls}}

    def turn(name: str) -> Contender:
        return Contender(lambda: [call() for call in calls[name]])

    times = fastest({name: turn(name) for name in calls}, repeats, BUDGET)
    found["ms"] = {name: 1e3 * seconds / len(batches) for name, seconds in times.items()}
    if framework == "torch":
        found["shares"] = phases(scene, batches, repeats)
    return found


def phases(scene: Scene, batches: list[Batch], repeats: int) -> dict[str, float]:
    """Return the shares of the phases of eager PyTorch, each draw's at its fastest call.

    The loss calls `assign` once, after the padding and the costs and before all else: the clock
    is read there. What the costs and the loss both need of the logits is taken before, too.
    """
    loss, solve = criterion(scene), set_loss.assign
    marks: list[float] = []

    def observed(*args: Any, **kwargs: Any) -> hc.Assignment:
        marks.append(time.perf_counter())
        assignment = solve(*args, **kwargs)
        marks.append(time.perf_counter())
        return assignment

    def spent() -> Iterator[np.ndarray]:
        for batch in batches:
            (logits, boxes), truth = leaves(batch), listed(batch)
            calls = []
            for _ in range(repeats):
                logits.grad = boxes.grad = None
                marks[:] = [time.perf_counter()]
                total = loss(logits, boxes, truth).total
                marks.append(time.perf_counter())
                total.backward()
                marks.append(time.perf_counter())
                calls.append(np.diff(marks))
            yield min(calls, key=np.sum)

    with mock.patch.object(set_loss, "assign", observed):
        seconds = sum(spent())
    return dict(zip(PHASES, (seconds / seconds.sum()).tolist(), strict=True))


def memory_here(scene: Scene, contender: str) -> int:
    """Return the bytes that one call of a contender holds at its peak over what was held."""
    bind = torch_contenders(scene)[contender]
    bind(scene._replace(size=2, queries=8, most=3).batch())()  # loads and allocates what stays
    call = bind(scene.batch())
    before = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    call()
    return held("VmHWM") - before


def run_here(case: dict[str, Any]) -> Any:
    """Run one case in this process, on two processors."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    scene = SCENES[case["scene"]]
    if "memory" in case:
        return memory_here(scene, case["memory"])
    return time_here(scene, case["framework"], case["repeats"])


def apart(scene: Scene, **case: Any) -> Any:
    """Run a case in a fresh process and return what came of it."""
    case["scene"] = SCENES.index(scene)
    answer = subprocess.check_output([sys.executable, __file__, "--case", json.dumps(case)])
    return json.loads(answer.splitlines()[-1])


def measure(scene: Scene, repeats: int) -> dict[str, Any]:
    """Return the figures of one scene."""
    row: dict[str, Any] = {
        "name": scene.name,
        "target": {"faster": scene.faster, "memory": scene.memory},
        "off": {},
        "ms": {},
    }
    for framework in FRAMEWORKS:
        found = apart(scene, framework=framework, repeats=repeats)
        for key in ("off", "ms"):
            row[key] |= found.pop(key)
        row |= found
    row["memory"] = {name: apart(scene, memory=name) for name in ("transformers", "torch")}
    return row


def show(row: dict[str, Any]) -> None:
    """Print the figures of one scene."""
    peer, memory = row["ms"]["transformers"], row["memory"]
    print(row["name"], f"off by {max(row['off'].values()):.0e} at most")
    for name, ms in row["ms"].items():
        print(f"  {name:20} {ms:9.2f} ms  x {peer / ms:.2f}")
    print("  ", ", ".join(f"{name} {share:.0%}" for name, share in row["shares"].items()))
    print("  ", ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in memory.items()))
    sys.stdout.flush()


def main() -> None:
    """Measure every scene and save the figures."""
    if sys.argv[1:2] == ["--case"]:
        print(json.dumps(run_here(json.loads(sys.argv[2]))))
        return
    options = arguments(__doc__, repeats=20, only="instances whose name has TEXT")
    rows = []
    for scene in SCENES:
        if options.only in scene.name and not (options.quick and scene.memory):
            rows.append(measure(scene, options.repeats))
            show(rows[-1])
    save(options.json, rows)


if __name__ == "__main__":
    main()
