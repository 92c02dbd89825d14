"""On a CUDA device: the kernel, the way through the host, and peers, side by side in one run.

    python benchmarks/gpu.py [--repeats 30] [--quick] [--only 300] [--json FILE]

Times are those of CUDA events around calls that take turns, so a wait for the host counts. Every
answer is compared before it is timed, with SciPy's or with that of our loss on a CPU, which
`detection.py` compares with the published one. What is not installed is left out; so is what fails,
which the table says, and if it is ours the command fails in the end. Figures go to
`benchmarks/results`, under the name of the card, with what they are to reach. With
HUNGARIAN_LIBCUDA, a stand-in for the driver, it runs on a CPU: that shows only that it runs, and
its figures go to `build/bench`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from runpy import run_path
from typing import Any

import detection
import numpy as np
import torch
from families import Instance, detr, uniform
from scenes import SCENES, Scene
from scipy.optimize import linear_sum_assignment
from timing import arguments, machine, save

import hungarian_core as hc
from hungarian_torch._backend import TorchBackend

HERE = Path(__file__).parent
EMULATED = "HUNGARIAN_LIBCUDA" in os.environ
DEVICE = "cpu" if EMULATED else "cuda"
# The problems, and the milliseconds that they may take at most on an H100.
BATCHES = [
    (detr, (96, 100, 20), None), (detr, (96, 300, 20), 0.05), (detr, (12, 900, 100), None),
    (detr, (208, 300, 100), 0.25), (detr, (208, 300, 300), None), (detr, (208, 300, 600), None),
    (uniform, (64, 256, 256), None), (uniform, (1, 2048, 2048), None),
]  # fmt: skip
OVER_PEER, OVER_HOST = 3.0, 5.0  # how much faster the kernel is to be
OURS = {"kernel", "ours, eager", "ours, compiled", "ours, captured"}
LOSS = {"ours, eager": 2.0, "ours, captured": 0.5}  # milliseconds, forward and backward

Row = dict[str, Any]


def clock(call: Callable[[], Any], calls: int) -> float:
    """Return the milliseconds of a call, on average of some in a row, by the device's clock."""
    if EMULATED:
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        return 1e3 * (time.perf_counter() - begin) / calls
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / calls


def fastest(contenders: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the milliseconds of each contender's fastest turn."""
    calls = {name: max(1, min(20, int(5 / clock(f, 1)))) for name, f in contenders.items()}
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(repeats):
        for name, call in contenders.items():
            best[name] = min(best[name], clock(call, calls[name]))
    return best


def captured(call: Callable[[], Any]) -> tuple[Callable[[], Any], Any]:
    """Return what replays a call as a graph of CUDA, and what it wrote its results to."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()
    return graph.replay, results


def check_matching(cost: np.ndarray, col4row: Any) -> None:
    """Compare the totals of a batch of matchings with SciPy's."""
    col4row = np.asarray(col4row.cpu())
    for k in range(0, len(cost), max(1, len(cost) // 8)):
        table = cost[k].astype(np.float64)
        rows = np.flatnonzero(col4row[k] >= 0)
        assert len(rows) == min(table.shape), "not all are matched"
        best = table[linear_sum_assignment(table)].sum()
        np.testing.assert_allclose(table[rows, col4row[k][rows]].sum(), best, rtol=1e-6)


def solvers(cost: Any) -> dict[str, Callable[[], Any]]:
    """Return the ways to match a batch that lies on the device, each returning columns of rows."""
    found: dict[str, Callable[[], Any]] = {
        "kernel": lambda: hc.assign(cost, solver="cuda").col4row,
        "host": lambda: hc.assign(cost, solver="native").col4row,
        "SciPy": lambda: torch.from_numpy(
            np.stack([_columns(c, linear_sum_assignment(c)) for c in cost.cpu().numpy()])
        ).to(DEVICE),
    }
    try:
        from torch_linear_assignment import batch_linear_assignment
    except ImportError:
        return found
    return found | {"torch-linear-assignment": lambda: batch_linear_assignment(cost)}


def _columns(cost: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    columns = np.full(len(cost), -1)
    columns[pairs[0]] = pairs[1]
    return columns


def measure_batch(family: Any, shape: tuple[int, ...], least: float | None, repeats: int) -> Row:
    """Return the figures of a batch of problems."""
    instance = Instance(family, shape, "float32")
    cost = instance.cost()
    tensor = torch.from_numpy(cost).to(DEVICE)
    row: Row = {"name": instance.name, "ms": {}, "failed": {}, "target_ms": least}
    contenders = solvers(tensor)
    for name, call in list(contenders.items()):
        try:
            check_matching(cost, call())
        except Exception as error:  # a failure is a figure too, and the others are to be timed
            row["failed"][name] = f"{type(error).__name__}: {error}"[:200]
            del contenders[name]
    if not EMULATED and "kernel" in contenders:
        contenders["kernel, captured"], results = captured(contenders["kernel"])
        contenders["kernel, captured"]()
        check_matching(cost, results)
    row["ms"] = fastest(contenders, repeats)
    return row


class WithoutPasses(TorchBackend):
    """Leaves logits and boxes to PyTorch's operations, and only the matching to the kernel."""

    def passes(self, solver: str, arrays: Any) -> None:
        """Decline."""


def loss_contenders(scene: Scene) -> dict[str, Callable[[], Any]]:
    """Return the losses of a batch on the device, forward and backward."""
    batch = scene.batch()
    logits, boxes = (torch.tensor(x, device=DEVICE).requires_grad_() for x in batch[:2])
    padded = tuple(torch.tensor(x, device=DEVICE) for x in batch.truth)
    listed = [{k: x.to(DEVICE) for k, x in image.items()} for image in detection.listed(batch)]
    preset = detection.PRESETS[scene.loss]
    criterion, without = (
        hc.DetrLoss.preset(preset, num_classes=scene.classes, solver="cuda", backend=backend)
        for backend in (None, WithoutPasses())
    )

    def step(loss: Callable[..., Any], truth: Any) -> Callable[[], Any]:
        def call() -> tuple[Any, ...]:
            total = loss(logits, boxes, truth)
            return total.detach(), *torch.autograd.grad(total, [logits, boxes])

        return call

    def ours(x: Any, y: Any, truth: Any) -> Any:
        return criterion(x, y, truth).total

    found = {"ours, eager": step(ours, padded)}
    found["its operations"] = step(lambda x, y, truth: without(x, y, truth).total, padded)
    if not EMULATED:
        found["ours, compiled"] = step(torch.compile(ours, fullgraph=True), padded)
        found["ours, captured"] = found["ours, eager"]  # replaced once its answer is known
    try:
        found["transformers"] = step(detection.published(scene, DEVICE), listed)
    except ImportError:
        print("transformers is not installed: its loss is left out")
    return found


def measure_loss(scene: Scene, repeats: int) -> Row:
    """Return the figures of the whole loss."""
    row: Row = {"name": scene.name, "ms": {}, "failed": {}, "target_ms": LOSS}
    contenders = loss_contenders(scene)
    expected = detection.in_torch(detection.ours(scene), detection.padded)(scene.batch())()
    for name, call in list(contenders.items()):
        try:
            if name == "ours, captured":
                contenders[name], results = captured(call)
                contenders[name]()
            else:
                results = call()
            for x, y in zip(results, expected, strict=True):
                assert detection.distance(x.cpu(), y) <= detection.CLOSE, name
        except Exception as error:  # as above
            row["failed"][name] = f"{type(error).__name__}: {error}"[:200]
            contenders.pop(name)
    row["ms"] = fastest(contenders, repeats)
    return row


def verdict(met: bool) -> str:
    """Return the word for a goal."""
    return "met" if met else "missed"


def text(figures: Row) -> str:
    """Return the tables."""
    lines = [
        "<!-- made by benchmarks/gpu.py -->", "",
        f"`{figures['command']}` on {figures['machine']['date']} at commit "
        f"{figures['machine']['commit']}: {figures['card']}, PyTorch {torch.__version__}.", "",
        "| costs | kernel, ms | captured | host | SciPy | peer | over host | over peer | goals |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]  # fmt: skip
    for row in figures["batches"]:
        ms, goals = row["ms"], []
        kernel = ms.get("kernel", float("inf"))  # of what failed no goal is met
        peer, host = ms.get("torch-linear-assignment"), ms.get("host")
        if row["target_ms"]:
            goals.append(f"{row['target_ms']} ms: {verdict(kernel <= row['target_ms'])}")
        if host:
            goals.append(f"host {OVER_HOST:g}: {verdict(host / kernel >= OVER_HOST)}")
        if peer:
            goals.append(f"peer {OVER_PEER:g}: {verdict(peer / kernel >= OVER_PEER)}")
        cells = [kernel, *(ms.get(x) for x in ("kernel, captured", "host", "SciPy")), peer]
        cells += [host and host / kernel, peer and peer / kernel]
        shown = " | ".join("" if x is None else f"{x:.3g}" for x in cells)
        lines.append(f"| {row['name']} | {shown} | {', '.join(goals)} |")
    lines += ["", "| loss | way | ms | goal |", "| --- | --- | ---: | --- |"]
    for row in figures["losses"]:
        for name, ms in row["ms"].items():
            least = row["target_ms"].get(name)
            goal = f"{least} ms: {verdict(ms <= least)}" if least else ""
            lines.append(f"| {row['name']} | {name} | {ms:.3g} | {goal} |")
    for row in (*figures["batches"], *figures["losses"]):
        lines += [f"\n{row['name']}, {name}: {why}" for name, why in row["failed"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and save."""
    options = arguments(__doc__, repeats=30, only="names that contain TEXT")
    if EMULATED:
        run_path(str(HERE.parent / "tests/cuda/drivers.py"))  # host memory stands in for a device's
    elif not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu.py: there is no CUDA device")
    batches, scenes = BATCHES, [SCENES[2]]
    if options.quick and EMULATED:
        batches = [(detr, (2, 20, 5), 0.05), (uniform, (1, 12, 12), None)]
        scenes = [Scene("Deformable DETR", 2, 2, 12, 5, 4, draws=1, faster=1)]
    figures: Row = {
        "command": "python benchmarks/gpu.py " + " ".join(sys.argv[1:]),
        "card": "a CPU that stands in" if EMULATED else torch.cuda.get_device_name(),
        "machine": machine(),
        "batches": [],
        "losses": [],
    }
    for family, shape, least in batches:
        if options.only in Instance(family, shape, "float32").name:
            figures["batches"].append(measure_batch(family, shape, least, options.repeats))
            print(figures["batches"][-1], flush=True)
    for scene in scenes:
        if options.only in scene.name:
            figures["losses"].append(measure_loss(scene, options.repeats))
            print(figures["losses"][-1], flush=True)
    card = "".join(c if c.isalnum() else "_" for c in figures["card"].lower())
    path = options.json or HERE / ("../build/bench" if EMULATED else "results") / f"gpu_{card}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, figures)
    path.with_suffix(".md").write_text(text(figures))
    print(text(figures))
    every = (*figures["batches"], *figures["losses"])
    if failed := [x["name"] for x in every if OURS & {*x["failed"]}]:
        raise SystemExit(f"benchmarks/gpu.py: ours failed on {', '.join(failed)}")


if __name__ == "__main__":
    main()
