"""PyTorch's own: transforms, tracers and compilers, which must neither freeze nor drop anything."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

import hungarian_core as hc
import hungarian_torch as ht
import hungarian_torch._operator as operator

# What PyTorch says to itself, the first time that it goes forward.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

PRESETS = {"detr": 4, "deformable": 3, "rt_detr": 3, "lw_detr": 3}
METHODS = ("blackbox", "perturbed", "sinkhorn", "sinkhorn_implicit", "gumbel_sinkhorn", "dykstra")
C = torch.tensor(np.random.default_rng(0).random((2, 3, 4)))


def detection(
    classes: int, b: int = 2, q: int = 5, m: int = 3, dtype: Any = torch.float64, seed: int = 0
) -> tuple[Tensor, Tensor, hc.Targets]:
    rng = np.random.default_rng(seed)
    logits, boxes, truth = (
        torch.tensor(x, dtype=dtype)
        for x in (
            rng.normal(size=(b, q, classes)),
            rng.uniform(0.2, 0.6, (b, q, 4)),
            rng.uniform(0.2, 0.6, (b, m, 4)),
        )
    )
    mask = torch.tensor(rng.random((b, m)) < 0.8)
    return logits, boxes, hc.Targets(torch.tensor(rng.integers(0, 3, (b, m))), truth, mask)


def loss(name: str, **options: Any) -> Any:
    return ht.AlignedDetrLoss(3) if name == "aligned" else ht.DetrLoss.preset(name, 3, **options)


# ------------------------------------------------ vmap


@pytest.mark.parametrize("solver", ["auto", "core", "scipy"])
@pytest.mark.parametrize("which", ["row_mask", "col_mask", "unmatched_cost"])
def test_vmap_over_any_field_of_a_problem(which: str, solver: Any) -> None:
    wanted = ht.assign(C[0]).row4col == 0
    fields = {
        "row_mask": torch.tensor([[True] * 3, [True, False, True]]),
        "col_mask": torch.stack([wanted | True, ~wanted]),
        "unmatched_cost": torch.tensor([[0.0, 0.3, 1.0], [1.0, 0.0, 0.0]]),
    }[which]
    for function in (lambda **f: ht.assign(C[0], solver=solver, **f).col4row, _total):
        expected = torch.stack([function(**{which: x}) for x in fields])
        found = torch.func.vmap(lambda x: function(**{which: x}))(fields)  # noqa: B023
        assert not torch.equal(expected[0], expected[1])
        torch.testing.assert_close(found, expected)


def _total(**fields: Tensor) -> Tensor:
    return ht.assignment_cost(C[0], **fields)


@pytest.mark.parametrize("name", ["detr", "rt_detr", "aligned"])
@pytest.mark.parametrize("field", ["labels", "true_boxes", "mask", "extra_cost", "image_weights"])
def test_vmap_over_any_argument_of_a_detection_loss(name: str, field: str) -> None:
    logits, boxes, targets = detection(PRESETS.get(name, 4))
    criterion = loss(name)
    rng = np.random.default_rng(1)
    lanes = {
        "labels": torch.stack([targets.labels, targets.labels.flip(0)]),
        "true_boxes": torch.stack([targets.boxes, targets.boxes.flip(1)]),
        "mask": torch.tensor([[[True] * 3] * 2, [[True, False, False], [True] * 3]]),
        "extra_cost": torch.tensor(30 * rng.random((2, 2, 3, 5))),
        "image_weights": torch.tensor(rng.random((2, 2))),
    }[field]

    def total(x: Tensor) -> Tensor:
        if field in ("extra_cost", "image_weights"):
            return criterion(logits, boxes, targets, **{field: x}).total
        key = "boxes" if field == "true_boxes" else field
        return criterion(logits, boxes, targets._replace(**{key: x})).total

    expected = torch.stack([total(x) for x in lanes])
    assert abs(expected[0] - expected[1]) > 1e-6
    torch.testing.assert_close(torch.func.vmap(total)(lanes), expected)


@pytest.mark.parametrize("method", METHODS)
def test_vmap_over_masks_of_a_matrix(method: Any) -> None:
    masks = torch.tensor([[[True] * 3] * 2, [[True, False, True]] * 2])
    expected = torch.stack([ht.assignment_matrix(C, method, row_mask=x) for x in masks])
    found = torch.func.vmap(lambda x: ht.assignment_matrix(C, method, row_mask=x))(masks)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


MAPPED = {
    "loss": lambda x: ht.loss(1 - x[None], x[None], reduction="sum"),
    "cost": lambda x: ht.assignment_cost(x),
    "ciou": lambda x: hc.boxes.ciou(x, x.flip(0) * 0.8, format="cxcywh").sum(),
    "perturbed": lambda x: (ht.assignment_matrix(x, "perturbed", samples=2) * C[0]).sum(),
    "sinkhorn": lambda x: (ht.assignment_matrix(x, "sinkhorn", iterations=3) * C[0]).sum(),
}


@pytest.mark.parametrize("name", MAPPED)
def test_gradients_of_what_is_mapped(name: str) -> None:
    """A constant is one inside `vmap` too, where no tensor tells that it is differentiated."""
    program = MAPPED[name]
    expected = torch.func.vmap(torch.func.grad(program))(C)
    found = torch.func.grad(lambda x: torch.func.vmap(program)(x).sum())(C)
    torch.testing.assert_close(found, expected)
    leaf = C.clone().requires_grad_()
    torch.func.vmap(program)(leaf).sum().backward()
    torch.testing.assert_close(leaf.grad, expected)


# ------------------------------------------------ tracers


def _total_of(criterion: Any, logits: Tensor, boxes: Tensor, *truth: Tensor) -> Tensor:
    total: Tensor = criterion(logits, boxes, truth).total
    return total


def _matrix_by(method: Any) -> Callable[[Tensor], Tensor]:
    # Tracers look at the signature: no defaults, no partial.
    return lambda cost: ht.assignment_matrix(cost, method)


def _programs() -> dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...], tuple[Tensor, ...]]]:
    found: dict[str, Any] = {
        "assign": (lambda c: ht.assign(c).col4row, (C,), (1 - C,)),
        "price": (lambda c: ht.assign(c, unmatched_cost=0.4).col4row, (C,), (1 - C,)),
        "cost": (lambda c: ht.assignment_cost(c), (C,), (1 - C,)),
        "loss": (lambda x, y: ht.loss(x, y), (C, C.flip(2)), (C, 1 - C)),
        "pit": (lambda x, y: ht.pit_loss(x, y), (C, C.flip(2)), (C, 1 - C)),
    }
    for method in METHODS:
        found[method] = (_matrix_by(method), (C,), (1 - C,))
    for name, classes in (*PRESETS.items(), ("aligned", 4)):
        (first, second) = (detection(classes, seed=k) for k in (0, 1))
        program = functools.partial(_total_of, loss(name))
        found[name] = (program, *((x, y, *t[:3]) for x, y, t in (first, second)))
    return found


PROGRAMS = _programs()


def _exported(program: Callable[..., Tensor], example: tuple[Tensor, ...]) -> Any:
    class Module(torch.nn.Module):
        def forward(self, *arrays: Tensor) -> Tensor:
            return program(*arrays)

    return torch.export.export(Module(), example, strict=False).module()


TRACERS: dict[str, Callable[[Any, Any], Any]] = {
    "make_fx": lambda f, x: make_fx(f)(*x),
    "make_fx-symbolic": lambda f, x: make_fx(f, tracing_mode="symbolic")(*x),
    "jit": lambda f, x: torch.jit.trace(lambda *x: f(*x), x, check_trace=False),
    "export": _exported,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "tracer"),
    [
        *((name, tracer) for name in PROGRAMS for tracer in ("make_fx", "jit")),
        *(
            (name, tracer)
            for name in ("assign", "dykstra", "detr", "rt_detr")
            for tracer in ("make_fx-symbolic", "export")
        ),
    ],
)
def test_a_trace_matches_anew(name: str, tracer: str) -> None:
    program, example, other = PROGRAMS[name]
    expected = program(*other)
    assert not torch.equal(program(*example), expected)
    found = TRACERS[tracer](program, example)(*other)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PROGRAMS)
def test_fake_tensors_have_shapes(name: str) -> None:
    program, example, _ = PROGRAMS[name]
    with FakeTensorMode() as mode:
        found = program(*(mode.from_tensor(x) for x in example))
    assert tuple(found.shape) == tuple(program(*example).shape)


# ------------------------------------------------ forward mode and second derivatives

FORWARD = ("cost", "loss", "pit", "sinkhorn", "gumbel_sinkhorn", "perturbed", *PRESETS, "aligned")


# Of the truth as well, which warns once in a process.
@pytest.mark.filterwarnings("ignore:.*needs a gradient:UserWarning")
@pytest.mark.parametrize("argument", [0, 1])
@pytest.mark.parametrize("name", FORWARD)
def test_tangents_are_those_of_reverse_mode(name: str, argument: int) -> None:
    program, example, _ = PROGRAMS[name]
    if argument == 1 and len(example) == 1:
        argument = 0

    def f(x: Tensor) -> Tensor:
        return program(*example[:argument], x, *example[argument + 1 :])

    x = example[argument]
    step = torch.tensor(np.random.default_rng(2).normal(size=x.shape))
    value, pull = torch.func.vjp(f, x)
    upstream = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).reshape(value.shape)
    expected = (pull(upstream)[0] * step).sum()
    assert abs(expected) > 1e-6
    tangents = [torch.func.jvp(f, (x,), (step,))[1]]
    with forward_ad.dual_level():
        tangents.append(forward_ad.unpack_dual(f(forward_ad.make_dual(x, step))).tangent)
    tangents.append(torch.func.vmap(lambda t: torch.func.jvp(f, (x,), (t,))[1])(step[None])[0])
    for tangent in tangents:
        torch.testing.assert_close((upstream * tangent).sum(), expected)


@pytest.mark.parametrize("name", ["blackbox", "sinkhorn_implicit", "dykstra"])
def test_forward_mode_is_refused_where_the_rule_is_no_linear_program(name: str) -> None:
    program, (x,), _ = PROGRAMS[name]
    with pytest.raises(NotImplementedError, match="reverse mode"):
        torch.func.jvp(program, (x,), (torch.ones_like(x),))
    torch.func.grad(lambda x: program(x).sum())(x)  # which it does not spoil


@pytest.mark.parametrize("name", ["detr", "rt_detr", "aligned", "perturbed", "blackbox"])
def test_second_derivatives_are_refused(name: str) -> None:
    program, example, _ = PROGRAMS[name]

    def f(x: Tensor) -> Tensor:
        return program(x, *example[1:]).square().sum()

    x = example[0]
    ways: list[Callable[[], Any]] = [
        lambda: torch.func.grad(lambda y: torch.func.grad(f)(y).sum())(x),
        lambda: torch.func.jvp(torch.func.grad(f), (x,), (torch.ones_like(x),)),
        lambda: torch.autograd.functional.hvp(f, x, torch.ones_like(x)),
    ]
    for way in ways:
        with pytest.raises(NotImplementedError, match=r"once only|reverse mode"):
            way()


# ------------------------------------------------ operators


def test_a_program_may_run_the_library_s_own_functions_only() -> None:
    x = torch.eye(3)
    for name in ("os:system", "hungarian_core._registry:_load", "builtins:print"):
        with pytest.raises(ValueError, match="hungarian_core::run"):
            torch.ops.hungarian_core.run(name, [x], [0], [])
    for name in operator._RUNS:
        assert operator._known(name).__module__.startswith("hungarian_core.relaxations.")


def test_all_that_the_library_runs_is_on_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator, "_note", lambda *_: None)
    monkeypatch.setattr(operator, "_given", {})
    for method in METHODS:
        torch.func.vmap(
            torch.func.grad(lambda c, m=method: ht.assignment_matrix(c, m).square().sum())
        )(C)


def _doubled(backend: Any, x: Tensor) -> tuple[Tensor]:
    return (2 * x,)


def test_a_user_s_own_loop_runs_once_it_was_called() -> None:
    found = torch.func.vmap(lambda x: ht.backend.run(_doubled, x, like=(0,))[0])(C)
    assert torch.equal(found, 2 * C)


@pytest.mark.skipif(
    not hasattr(torch.Tag, "cudagraph_unsafe")
    or "tags" not in inspect.signature(torch.library.custom_op).parameters,
    reason="this PyTorch has no such tag",
)
@pytest.mark.parametrize("name", ["solve", "run"])
def test_operators_stay_out_of_cuda_graphs(name: str) -> None:
    packet = getattr(torch.ops.hungarian_core, name)
    assert torch.Tag.cudagraph_unsafe in packet.default.tags


# ------------------------------------------------ compiled programs of changing sizes


def _detection(name: str, **options: Any) -> tuple[Callable[..., Tensor], Callable[..., Any]]:
    criterion = loss(name, **options)

    def make(k: int) -> Any:
        logits, boxes, targets = detection(PRESETS.get(name, 4), b=k, q=3 * k + 7, m=2 * k + 1)
        extra = torch.rand(k, 2 * k + 1, 3 * k + 7)
        return logits, boxes, targets, extra

    return lambda x, y, t, e: criterion(x, y, t, extra_cost=e).total, make


def _listed(name: str) -> tuple[Callable[..., Tensor], Callable[..., Any]]:
    criterion = loss(name)

    def make(k: int) -> Any:
        logits, boxes, targets = detection(4, b=2, q=21, m=k)
        pairs = zip(targets.labels, targets.boxes, strict=True)
        return logits, boxes, [{"labels": x, "boxes": y} for x, y in pairs]

    return lambda *x: criterion(*x).total, make


def _masks(k: int) -> Any:
    logits, _, targets = detection(4, b=k, q=3 * k + 7, m=2 * k + 1)
    truth = (torch.rand(k, 2 * k + 1, 4 * k, 5 * k + 1) < 0.4).double()
    return (
        logits,
        targets._replace(boxes=None, masks=truth),
        torch.randn(k, 3 * k + 7, 4 * k, 5 * k + 1),
    )


def _table(k: int) -> Any:
    cost = torch.rand(k, 2 * k + 1, 3 * k + 2)
    return cost, torch.rand(k, 2 * k + 1) < 0.9, torch.rand(k, 2 * k + 1)


def _compiled() -> dict[str, tuple[Callable[..., Tensor], Callable[[int], Any]]]:
    mask2former = ht.DetrLoss.preset("mask2former", 3)
    sliced = ht.HungarianLoss([1, 3])

    def sets(k: int) -> Any:
        return torch.rand(k, 2 * k + 1, 4), torch.rand(k, 3 * k + 7, 4)

    def sound(k: int) -> Any:
        return torch.rand(k, 3 * k + 7, 50 * k), torch.rand(k, 2 * k + 1, 50 * k)

    return {
        **{name: _detection(name) for name in ("detr", "rt_detr", "lw_detr")},
        "list": _listed("detr"),
        "mask2former": (lambda x, t, m: mask2former(x, None, t, masks=m).total, _masks),
        "aligned": _detection("aligned"),
        "loss": (ht.loss, sets),
        "hungarian": (lambda x, y: sliced(x, y), sets),
        "pit": (ht.pit_loss, sound),
        "pit-l1": (lambda x, y: ht.pit_loss(x, y, metric="l1"), sound),
        "assign": (lambda c, r, p: ht.assign(c, row_mask=r, unmatched_cost=p).cost, _table),
        "cost": (
            lambda c, r, p: ht.assignment_cost(c, row_mask=r, unmatched_cost=p),
            _table,
        ),
        "sinkhorn_implicit": (
            lambda c, r, p: ht.assignment_matrix(c, "sinkhorn_implicit", row_mask=r),
            _table,
        ),
    }


COMPILED = _compiled()


@pytest.mark.parametrize(
    ("name", "dynamic"), [*((name, True) for name in COMPILED), ("detr", None), ("assign", None)]
)
def test_a_compiled_program_serves_changing_sizes(name: str, dynamic: bool | None) -> None:
    program, make = COMPILED[name]
    torch.compiler.reset()
    counter = CompileCounterWithBackend("eager")
    step = torch.compile(program, backend=counter, fullgraph=True, dynamic=dynamic)
    for k in (2, 3, 5):
        arrays = make(k)
        torch.testing.assert_close(step(*arrays), program(*arrays), rtol=1e-5, atol=1e-5)
    assert counter.frame_count <= 2  # one of a size that is known, and one for all others
    torch.compiler.reset()


def test_an_option_that_changes_from_call_to_call() -> None:
    """Dynamo takes a number for a variable once it has changed; it is checked nevertheless."""
    targets = [{"labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2]])}]

    def boxes(scale: float) -> Any:
        options: Any = {"seed": 1, "groups": 2, "box_noise_scale": scale}
        return hc.denoising.contrastive_queries(targets, 3, **options).boxes

    compiled = torch.compile(boxes, fullgraph=True, backend="eager")
    for scale in (1.0, 0.9, 0.8):
        assert torch.equal(compiled(scale), boxes(scale))
