"""One of two processes of torch.distributed: `in_torch.py FOLDER RANK`."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import workers
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import hungarian_core as hc
import hungarian_torch as ht

FOLDER, RANK = Path(sys.argv[1]).resolve(), int(sys.argv[2])
NAMED = ("uneven", "one_without")  # batches for losses with the names of other libraries
TIMEOUT = datetime.timedelta(seconds=60)

calls = workers.watch(hc.get_backend("torch"))


def own(arrays: workers.Arrays) -> workers.Arrays:
    """Return this process's part of a batch."""
    return tuple(np.split(x, workers.WORKERS)[RANK] for x in arrays)


def step(name: str, arrays: workers.Arrays) -> Any:
    """Return the losses and gradients of this process."""
    tensors = [torch.tensor(x) for x in arrays]
    for x in tensors[:2]:
        x.requires_grad_()
    calls.clear()
    values = workers.losses(name, tuple(tensors))
    assert len(calls) == 1, f"{name}: {len(calls)} reductions"
    values["total"].backward()
    return {k: x.detach() for k, x in values.items()}, tuple(x.grad for x in tensors[:2])


def of_both(name: str, arrays: workers.Arrays) -> Any:
    """Return the losses and gradients of both processes."""
    values, slopes = step(name, own(arrays))
    return {k: _gather(x) for k, x in values.items()}, [_gather(x).flatten(0, 1) for x in slopes]


def _gather(x: Tensor) -> Tensor:
    parts = [torch.empty_like(x) for _ in range(workers.WORKERS)]
    dist.all_gather(parts, x)
    return torch.stack(parts)


def slopes_of_weights(name: str, arrays: workers.Arrays) -> np.ndarray:
    """Return the gradient of a model's weights, which DistributedDataParallel averages.

    The true objects come as lists, which differ in length between processes too.
    """
    torch.manual_seed(0)
    model: nn.Module = nn.Linear(workers.LOGITS, workers.LOGITS + 4)
    if dist.is_initialized():
        model = DistributedDataParallel(model)
    x, _, labels, boxes, mask, _ = (torch.tensor(x) for x in arrays)
    out = model(x[:, 0])
    truths = [{"labels": c[m], "boxes": b[m]} for c, b, m in zip(labels, boxes, mask, strict=True)]
    logits, predicted = out[..., : workers.LOGITS], out[..., workers.LOGITS :].sigmoid()
    workers.LOSSES[name](logits, predicted, truths).total.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()]).numpy()


def criterion(logits: Tensor, boxes: Tensor, truths: Any) -> Tensor:
    """Return the loss of the criterion in the place of Deformable DETR's."""
    found = ht.SetCriterion(workers.LOGITS, focal_alpha=0.25, losses=["labels", "boxes"])(
        {"pred_logits": logits, "pred_boxes": boxes}, truths
    )
    return found["loss_ce"] + found["loss_bbox"] + found["loss_giou"]


def transformers(logits: Tensor, boxes: Tensor, truths: Any) -> Tensor:
    """Return what a model of transformers is given in the place of its own loss."""
    config = SimpleNamespace(
        num_labels=workers.LOGITS, class_cost=2.0, bbox_cost=5.0, giou_cost=2.0, focal_alpha=0.25,
        bbox_loss_coefficient=5.0, giou_loss_coefficient=2.0, auxiliary_loss=False,
    )  # fmt: skip
    loss = ht.TransformersLoss("DeformableDetrForObjectDetection")
    labels = [{"class_labels": t["labels"], "boxes": t["boxes"]} for t in truths]
    return loss(logits, labels, "cpu", boxes, config)[0]


def named(which: str, loss: Any, part: Any) -> Any:
    """Return the loss and gradients of a process by those who have names of other libraries."""
    logits, boxes, labels, true, mask, _ = (torch.tensor(x) for x in part(workers.scenes(which)))
    inputs = [x[:, 0].requires_grad_() for x in (logits, boxes)]
    truths = [{"labels": c[m], "boxes": b[m]} for c, b, m in zip(labels, true, mask, strict=True)]
    calls.clear()
    total = loss(*inputs, truths)
    assert len(calls) == 1, f"{loss.__name__}: {len(calls)} reductions"
    return {"total": total.detach()}, torch.autograd.grad(total, inputs)


def main() -> None:
    """Compute in no run, in a run of one process, and in a run of both."""
    trained = {name: workers.scenes("uneven") for name in ("softmax", "focal")}
    found = workers.results("one", step)
    for name, arrays in trained.items():
        found[f"{name}/one/by_weights"] = slopes_of_weights(name, arrays)

    by_names = [(f"{x.__name__}/{k}", k, x) for x in (criterion, transformers) for k in NAMED]
    for case, which, loss in by_names:
        found |= workers.named(f"{case}/one", *named(which, loss, lambda x: x))

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    found |= workers.results("alone", step)
    dist.destroy_process_group()

    dist.init_process_group(
        "gloo", init_method=f"file://{FOLDER}/rendezvous", rank=RANK, world_size=workers.WORKERS,
        timeout=TIMEOUT,
    )  # fmt: skip
    found |= workers.results("several", of_both)
    for name, arrays in trained.items():
        found[f"{name}/several/by_weights"] = slopes_of_weights(name, own(arrays))
    for case, which, loss in by_names:
        values, slopes = named(which, loss, own)
        values = {k: _gather(x) for k, x in values.items()}
        both = [_gather(x).flatten(0, 1) for x in slopes]
        found |= workers.named(f"{case}/of_two", values, both)
    if RANK == 0:
        np.savez(FOLDER / "found.npz", **found, **workers.halves())
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
