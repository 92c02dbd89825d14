"""PyTorch's own: settings of its surroundings, and tensors that are not like others."""

import copy
import ctypes
import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import hungarian_core as hc
import hungarian_torch as ht


def autocast(dtype: torch.dtype) -> Callable[[], Any]:
    return lambda: torch.autocast("cpu", dtype=dtype)


@contextmanager
def precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


SURROUNDINGS = {
    "autocast-bfloat16": autocast(torch.bfloat16),
    "autocast-float16": autocast(torch.float16),
    "precision-high": lambda: precision("high"),
    "precision-medium": lambda: precision("medium"),
    "default-float16": lambda: default_dtype(torch.float16),
    "default-meta": lambda: default_device("meta"),
}
surrounded = pytest.mark.parametrize("around", SURROUNDINGS.values(), ids=SURROUNDINGS)

rng = np.random.default_rng(0)
TRUTH = torch.tensor(rng.random((2, 4, 16, 16)) < 0.3, dtype=torch.float32)
MASKS = torch.tensor(3 * rng.normal(size=(2, 7, 16, 16)), dtype=torch.float32)
COST = torch.tensor(rng.random((2, 5, 7)), dtype=torch.float32)
SOUND = torch.tensor(10 * rng.normal(size=(2, 3, 200)), dtype=torch.float32)
LOGITS = torch.tensor(rng.normal(size=(2, 5, 4)), dtype=torch.float32)
BOXES = torch.tensor(rng.uniform(0.2, 0.6, (2, 5, 4)), dtype=torch.float32)
TARGETS = hc.Targets(
    torch.tensor(rng.integers(0, 3, (2, 3))),
    torch.tensor(rng.uniform(0.2, 0.6, (2, 3, 4)), dtype=torch.float32),
    torch.tensor([[True, True, False], [True] * 3]),
)
NET = ht.HNet.from_pretrained(2).frozen()

PROGRAMS: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "bce": (lambda x: hc.masks.pairwise_bce(TRUTH.to(x), x), MASKS),
    "dice": (lambda x: hc.masks.pairwise_dice(TRUTH.to(x), x), MASKS),
    "focal": (lambda x: hc.masks.pairwise_focal(TRUTH.to(x), x), MASKS),
    "pit": (lambda x: ht.pit_loss(x, SOUND.flip(1).to(x) + 1, metric="mse"), SOUND),
    "hnet": (lambda x: copy.deepcopy(NET).to(x)(3 * x), COST),
    "implicit": (lambda x: ht.assignment_matrix(x, "sinkhorn_implicit", tolerance=1e-6), COST),
    "dykstra": (lambda x: ht.assignment_matrix(x, "dykstra", temperature=0.5), COST),
    "user": (
        lambda x: ht.loss(x.flip(1) + 0.5, x, cost=lambda xp, a, b: -xp.vecdot(a, b)),
        COST,
    ),
    "mask2former": (
        lambda x: (
            ht.DetrLoss.preset("mask2former", 3)(
                LOGITS.to(x),
                None,
                TARGETS._replace(boxes=None, masks=TRUTH[:, :3].to(x)),
                masks=x[:, :5],
            ).total
        ),
        MASKS,
    ),
}


def slope(program: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    value = program(x)
    upstream = torch.linspace(0.5, 1.5, value.numel(), device="cpu", dtype=value.dtype)
    return value.detach(), torch.autograd.grad(value, x, upstream.reshape(value.shape))[0]


@surrounded
@pytest.mark.parametrize("name", PROGRAMS)
def test_surroundings_change_nothing(name: str, around: Callable[[], Any]) -> None:
    program, x = PROGRAMS[name]
    value, grad = slope(program, x.double())
    with around():
        found, pulled = slope(program, x)
    assert found.dtype == pulled.dtype == torch.float32
    assert float((found - value).abs().max() / value.abs().max()) < 3e-5
    assert float(grad.abs().max()) > 0
    assert float((pulled - grad).abs().max() / grad.abs().max()) < 1e-3


def test_a_backward_pass_alone_inside_autocast() -> None:
    weight = torch.tensor(rng.normal(size=(7, 4)), dtype=torch.float32, requires_grad=True)
    x = COST.clone().requires_grad_()
    product = ht.backend.namespace().matmul
    exact = torch.autograd.grad((x.double() @ weight.double()).square().sum(), (x, weight))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ weight).dtype == torch.bfloat16
    value = product(x, weight).square().sum()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = torch.autograd.grad(value, (x, weight), create_graph=True)
        (second,) = torch.autograd.grad(found[0].square().sum(), x)
    for got, expected in zip(found, exact, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(second, 2 * (2 * exact[0]) @ weight @ weight.T, rtol=1e-4, atol=1e-2)


@pytest.mark.skipif(not hasattr(torch._C, "_get_fp32_precision_getter"), reason="PyTorch < 2.9")
def test_settings_of_one_library_alone() -> None:
    x = MASKS[0, 0]
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        found = ht.backend.namespace().matmul(x, x)
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = "ieee"
    torch.testing.assert_close(found, (x.double() @ x.double()).float(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_numbers_are_exact_whatever_the_default_dtype(compiled: bool) -> None:
    def call(cost: Tensor, price: Any) -> Any:
        return ht.assign(cost, unmatched_cost=price)

    if compiled:
        torch.compiler.reset()
        call = torch.compile(call, backend="eager", fullgraph=True)
    with default_dtype(torch.float16):
        match = call(torch.tensor([[1e5, 2e5]], dtype=torch.float32), 7e4)
        assert match.col4row.tolist() == [-1]
        assert float(match.cost) == 7e4
    wide = torch.tensor([[0.1 + 2e-17]], dtype=torch.float64)
    assert float(call(wide, 0.1).cost) == 0.1  # float32 has 0.100000001, which is dearer
    assert float(call(wide, [0.1]).cost) == 0.1
    mixed = hc.assign([[torch.tensor(0.5), 0.1]], backend=ht.backend)
    assert float(mixed.cost) == np.float32(0.1)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda x: x.to_sparse(), "sparse"),
        (lambda x: x.to_sparse_csr(), "sparse"),
        (lambda x: x.to_sparse_csc(), "sparse"),
        (lambda x: x.to_sparse_bsr((1, 1)), "sparse"),
        (lambda x: x.to_mkldnn(), "to_dense"),
        (lambda x: torch.nested.nested_tensor([x, x]), "nested"),
        (lambda x: torch.nested.nested_tensor([x, x], layout=torch.jagged), "nested"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8), "quantised"),
        (lambda x: x.to(torch.complex64), "complex"),
        (lambda x: x.to("meta"), "meta"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_of_other_kinds_are_refused_in_words(make: Any, word: str) -> None:
    x = torch.eye(3)
    with pytest.raises(ValueError, match=word):
        ht.assign(make(x))
    with pytest.raises(ValueError, match=word):
        ht.assign(torch.eye(3), unmatched_cost=make(x)[0] if word == "complex" else make(x))
    with pytest.raises(ValueError, match=word):
        ht.loss(make(x[None]) if "nested" not in word else make(x), x[None])


def test_distributed_and_masked_tensors_are_refused_in_words() -> None:
    class DTensor(Tensor):
        pass

    with pytest.raises(ValueError, match="full_tensor"):
        ht.assign(torch.eye(3).as_subclass(DTensor))


@pytest.mark.parametrize("name", ["row_mask", "col_mask", "unmatched_cost"])
def test_fields_on_another_device_are_refused(name: str) -> None:
    kind = torch.float32 if name == "unmatched_cost" else torch.bool
    away = torch.zeros(3, dtype=kind, device="meta")
    for function in (ht.assign, ht.assignment_cost):
        with pytest.raises(ValueError, match=r"meta.*cpu"):
            function(torch.eye(3), **{name: away})
    with pytest.raises(ValueError, match=r"meta.*cpu"):
        ht.DetrLoss(3)(LOGITS, BOXES, TARGETS._replace(mask=TARGETS.mask.to("meta")))


@pytest.mark.parametrize("name", ["cost", "row_mask", "unmatched_cost"])
def test_freed_memory_is_refused(name: str) -> None:
    given = {
        "cost": torch.rand(3, 3),
        "row_mask": torch.ones(4, dtype=torch.bool)[1:],
        "unmatched_cost": torch.rand(3),
    }
    given[name].untyped_storage().resize_(0)
    with pytest.raises(ValueError, match="freed"):
        ht.assign(**given)


def test_memory_that_was_cut_short_is_refused() -> None:
    x = torch.rand(2, 5, 4)
    x.untyped_storage().resize_(8)
    with pytest.raises(ValueError, match="smaller"):
        ht.DetrLoss(3)(LOGITS, x, TARGETS)
    with pytest.raises(ValueError, match="smaller"):
        ht.loss(BOXES, x)


@pytest.mark.parametrize("offset", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_misaligned_tensors(
    offset: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hungarian_core._solvers.host import host_solver

    native: Any = host_solver("native")
    cost, price = COST[0].to(dtype), torch.linspace(0.1, 0.6, 5, dtype=dtype)
    addresses = []

    def at(address: int, *rest: Any) -> Any:
        addresses.extend([address, rest[5]])
        return native_at(address, *rest)

    native_at = native.at
    monkeypatch.setattr(native, "at", at)

    def moved(x: Tensor) -> Tensor:
        buffer = bytearray(x.numel() * x.element_size() + 16)
        start = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        skip = offset - start % 8 + 8
        y = torch.frombuffer(buffer, dtype=dtype, offset=skip, count=x.numel()).reshape(x.shape)
        y.copy_(x)
        assert y.data_ptr() % 8 == offset
        return y

    found = ht.assign(moved(cost), unmatched_cost=moved(price))
    assert all(address % cost.element_size() == 0 for address in addresses)
    assert addresses
    expected = ht.assign(cost, unmatched_cost=price)
    assert torch.equal(found.col4row, expected.col4row)
    assert found.cost == expected.cost
    ht.DetrLoss(3)(moved(LOGITS.to(dtype)), moved(BOXES.to(dtype)), TARGETS)


def test_lazy_signs_and_subclasses() -> None:
    class Named(Tensor):
        pass

    cost = torch.complex(torch.zeros(5, 7), -COST[0]).conj().imag
    price = torch.complex(torch.zeros(5), -COST[1, :, 0]).conj().imag
    assert cost.is_neg()
    assert price.is_neg()
    expected = ht.assign(COST[0], unmatched_cost=COST[1, :, 0]).col4row.tolist()
    assert ht.assign(cost, unmatched_cost=price).col4row.tolist() == expected
    named = COST[0].as_subclass(Named)
    assert ht.assign(named, unmatched_cost=price).col4row.tolist() == expected
    parameter = torch.nn.Parameter(COST[0])
    assert ht.assign(parameter, unmatched_cost=price).col4row.tolist() == expected


def test_numpy_arrays_of_any_form() -> None:
    cost = rng.random((3, 5))
    best = linear_sum_assignment(cost)[1].tolist()
    off = np.ndarray((3, 5), np.float64, bytearray(128), 3)
    off[...] = cost
    fixed = cost.copy()
    fixed.setflags(write=False)
    for x in (
        np.ascontiguousarray(cost[::-1])[::-1],
        cost.astype(">f8"),
        off,
        fixed,
        cost.T.copy().T,
    ):
        assert ht.assign(x).col4row.tolist() == best
        assert (
            ht.assign(torch.tensor(cost), row_mask=np.ones(3, bool)[::-1]).col4row.tolist() == best
        )


MODULES: dict[str, tuple[Callable[[], torch.nn.Module], tuple[Any, ...]]] = {
    "detr": (lambda: ht.DetrLoss(3), (LOGITS, BOXES, TARGETS)),
    "aligned": (lambda: ht.AlignedDetrLoss(3), (LOGITS, BOXES, TARGETS)),
    "hungarian": (
        lambda: ht.HungarianLoss([3, 4], slice_losses_fn=[torch.nn.L1Loss(reduction="none")] * 2),
        (COST, COST.flip(1) + 0.1),
    ),
    "matched": (ht.MatchedLoss, (COST, COST.flip(1) + 0.1)),
    "pit": (ht.PITLoss, (SOUND, SOUND.flip(1) + 0.1)),
    "hnet": (lambda: ht.HNet.from_pretrained(2), (COST,)),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_modules(name: str) -> None:
    make, arguments = MODULES[name]
    module = make()

    def value(module: torch.nn.Module) -> Tensor:
        found = module(*arguments)
        return found.total if hasattr(found, "total") else found

    expected = value(module)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    state = make()
    state.load_state_dict(module.state_dict())
    for again in (
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(file, weights_only=False),
        state,
    ):
        assert torch.equal(value(again), expected)
    with torch.inference_mode():
        assert torch.equal(value(module), expected)
    with torch.no_grad():
        assert torch.equal(value(module), expected)
    found = torch.func.functional_call(module, dict(module.named_parameters()), arguments)
    assert torch.equal(found.total if hasattr(found, "total") else found, expected)
    for around in (default_device("meta"), default_dtype(torch.float16)):
        with around:
            assert torch.equal(value(module), expected)


@pytest.mark.parametrize("wrap", ["itself", "compiled", "parallel", "method"])
def test_a_loss_in_a_wrapper_keeps_its_order(wrap: str) -> None:
    """Which is (prediction, truth): the other way round it is another number."""
    plain = torch.nn.CrossEntropyLoss(reduction="none")
    wrapped = {
        "itself": plain,
        "compiled": torch.compile(plain, backend="eager"),
        "parallel": torch.nn.DataParallel(plain),
        "method": plain.__call__,
    }[wrap]
    truth, prediction = COST[:, :3, :2], COST[:, :3, 2:4]
    value, match = ht.HungarianLoss([2], slice_losses_fn=[wrapped])(
        truth, prediction, return_assignment=True
    )
    chosen = torch.take_along_dim(prediction, match.col4row[..., None], 1)
    torch.testing.assert_close(value, plain(chosen.reshape(-1, 2), truth.reshape(-1, 2)).mean())


def test_a_slice_loss_that_adds_up_is_refused() -> None:
    with pytest.raises(ValueError, match=r"adds up the losses.*reduction='none'"):
        ht.HungarianLoss([2], slice_losses_fn=[torch.nn.L1Loss(reduction="sum")])


@pytest.mark.parametrize("option", ["bbox_cost", "class_weight"])
@pytest.mark.parametrize("value", [float("nan"), "5", None], ids=str)
def test_weights_that_are_no_numbers_are_refused(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=option):
        ht.DetrLoss(3, **{option: value})
    with pytest.raises(ValueError, match="maximize is 'no'; expected True or False"):
        ht.assign(COST, maximize="no")
