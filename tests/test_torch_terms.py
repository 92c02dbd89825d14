"""PyTorch compiles what each term costs and loses as one graph, whose values are the eager ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

import hungarian_core as hc
from hungarian_core import terms
from hungarian_core.testing.test_fields import FIELDS, Points, cross_entropy
from hungarian_core.testing.test_poses import SIGMAS

# What is made of them, with the data of a field of the suite.
CRITERIA: dict[str, tuple[list[terms.Term], str]] = {
    "boxes": ([terms.Classes(3, loss="varifocal"), terms.Boxes()], "pose"),
    "edges": ([terms.EdgeDistributions(bins=4)], "detection, refined edges"),
    "interactions": (
        [terms.Prefixed("person_", terms.Boxes(on="person_boxes")),
         terms.Pairs("verbs", cross_entropy)],
        "human-object interaction, scene graphs",
    ),
    "lines": ([terms.Polylines(closed="closed", chamfer_weight=1.0)], "maps and lanes"),
    "masks": ([terms.Masks("focal")], "masks"),
    "points": ([Points()], "point clouds"),
    "poses": (
        [terms.Poses(sigmas=SIGMAS, area=None, symmetries=[(0, 2, 1, 3)]),
         terms.Presence()],
        "pose",
    ),
    "rotated boxes": ([terms.RotatedBoxes()], "oriented boxes, text"),
    "solid boxes": ([terms.Boxes3D("giou")], "3-D detection"),
    "spans": ([terms.Spans()], "video moments, actions"),
    "tokens": ([terms.Tokens(), terms.Alignment()], "phrases"),
}  # fmt: skip


@pytest.mark.parametrize("name", CRITERIA)
def test_one_graph(name: str) -> None:
    """The total, the slopes by an upstream of 1.7 and the matching."""
    of_criterion, row = CRITERIA[name]
    wanted = {key for term in of_criterion for key in (*term.outputs, *term.optional)}
    field = [x for x in FIELDS if x.row == row][-1]
    outputs, targets = ({k: torch.tensor(x) for k, x in side.items()} for side in field.data())
    outputs["presence"] = torch.linspace(-1, 1, 3 * len(field.order)).reshape(3, -1)
    constants = {k: outputs[k] for k in field.constants}
    leaves = {k: x for k, x in outputs.items() if k in wanted and k not in constants}
    criterion = hc.SetLoss(of_criterion)

    def call(*arrays: Tensor) -> tuple[Tensor, Tensor]:
        found = criterion({**constants, **dict(zip(leaves, arrays, strict=True))}, targets)
        return found.total, found.assignment.row4col

    def slopes(call: Any) -> tuple[Any, ...]:
        arrays = [x.clone().requires_grad_() for x in leaves.values()]
        total, rows = call(*arrays)
        grads = torch.autograd.grad(total, arrays, torch.tensor(1.7), allow_unused=True)
        return total, rows, grads

    counter = CompileCounterWithBackend("eager")
    torch.compiler.reset()
    found = slopes(torch.compile(call, fullgraph=True, backend=counter))
    assert counter.frame_count == 1
    eager = slopes(call)
    assert any(grad is not None and grad.abs().max() > 0 for grad in eager[2])
    torch.testing.assert_close(found, eager)


def test_every_term_is_compiled() -> None:
    every = [getattr(terms, name) for name in terms.__all__]
    public = {x for x in every if isinstance(x, type) and issubclass(x, terms.Term)}
    made = {kind for of, _ in CRITERIA.values() for term in of for kind in type(term).__mro__}
    assert public - made == set()
