"""Arrays of one framework where another's are wanted, and what NumPy cannot read of them.

A matching is a constant for differentiation, so a door that returns one takes what requires a
gradient. Through other doors the gradient would end without a word: that is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hungarian_core as hc
import hungarian_numpy as hn

torch: Any = pytest.importorskip("torch", reason="for PyTorch")
jax: Any = pytest.importorskip("jax", reason="for JAX")
tf: Any = pytest.importorskip("tensorflow", reason="for TensorFlow")

COST = np.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]], np.float32)
BACKENDS = ["numpy", "jax", "tensorflow"]
MATCHINGS: dict[str, Callable[[Any, str], Any]] = {
    "assign": lambda x, backend: hc.assign(x, backend=backend).col4row,
    "a price": lambda x, backend: hc.assign(COST, unmatched_cost=x[0] + 9, backend=backend).col4row,
    "linear_sum_assignment": lambda x, backend: hc.linear_sum_assignment(x, backend=backend)[1],
    "assign_many": lambda x, backend: hc.assign_many(x, 1, backend=backend).cols4row[:, 0],
    "lapjv": lambda x, _: hn.lapjv(x)[1],
    "count_invalid": lambda x, backend: hc.count_invalid(x, backend=backend) + np.array([1, 0, 2]),
}
OTHERS: dict[str, Callable[[Any, str], Any]] = {
    "assignment_cost": lambda x, backend: hc.assignment_cost(x, backend=backend),
    "assignment_matrix": lambda x, backend: hc.assignment_matrix(x, backend=backend),
    "loss": lambda x, backend: hc.loss(x[None], x[None], backend=backend),
    "a list": lambda x, backend: hc.assign(list(x), backend=backend),
    "host_array": lambda x, backend: hc.host_array(x, None, hc.get_backend(backend)),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MATCHINGS)
def test_a_matching_takes_what_requires_a_gradient(name: str, backend: str) -> None:
    cost = torch.tensor(COST, requires_grad=True)
    for x in (cost, 1 * cost, torch.nn.Parameter(cost)):
        np.testing.assert_array_equal(MATCHINGS[name](x, backend), [1, 0, 2])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", OTHERS)
def test_no_gradient_ends_without_a_word(name: str, backend: str) -> None:
    words = r"a Tensor that requires a gradient came.*pass x.detach\(\).*backend='torch'"
    with pytest.raises(ValueError, match=words):
        OTHERS[name](torch.tensor(COST, requires_grad=True), backend)


@pytest.mark.parametrize("name", [*MATCHINGS, *OTHERS])
def test_what_has_no_values(name: str) -> None:
    if name == "a list":
        pytest.skip("its parts are no matrices")
    call = {**MATCHINGS, **OTHERS}[name]
    with pytest.raises(ValueError, match="on the device 'meta' came, which has no values"):
        call(torch.tensor(COST, device="meta"), "numpy")


@pytest.mark.parametrize("name", ["assign", "lapjv", "assignment_cost", "loss"])
@pytest.mark.parametrize("program", ["jax.jit", "jax.vmap", "tf.function", "torch.func.vmap"])
def test_symbols_of_programs(program: str, name: str) -> None:
    def run(x: Any) -> Any:
        return {**MATCHINGS, **OTHERS}[name](x, "numpy")

    framework = {"jax": "jax", "tf": "tensorflow", "torch": "torch"}[program.partition(".")[0]]
    given = COST[None] if "vmap" in program else COST
    calls: dict[str, Callable[[], Any]] = {
        "jax.jit": lambda: jax.jit(run)(given),
        "jax.vmap": lambda: jax.vmap(run)(given),
        "tf.function": lambda: tf.function(run, autograph=False)(tf.constant(given)),
        "torch.func.vmap": lambda: torch.func.vmap(run)(torch.tensor(given)),
    }
    words = rf"a symbol in a program of {framework}, .*choose backend='{framework}'"
    with pytest.raises(ValueError, match=words):
        calls[program]()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda x: x.bfloat16(), "a Tensor of torch.bfloat16 came.*convert it to float32 first"),
        (lambda x: x.to_sparse(), r"a sparse tensor .* came.*pass x.to_dense\(\)"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), r"pass x.dequantize\(\)"),
        (lambda x: torch.nested.nested_tensor([x[0], x[1, :2]]), "a nested tensor came"),
    ],
    ids=["bfloat16", "sparse", "quantised", "nested"],
)
@pytest.mark.filterwarnings("ignore")  # of PyTorch, that nested and quantised tensors may change
def test_what_numpy_has_not(made: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hn.lapjv(made(torch.tensor(COST)))


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3fn"])
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax", "tensorflow"])
def test_dtypes_of_ml_dtypes(backend: str, kind: str) -> None:
    """What JAX and TensorFlow have in NumPy's arrays beside NumPy's dtypes is solved everywhere."""
    cost = COST.astype(jax.numpy.dtype(kind))
    found = hc.assign(cost, backend=backend)
    np.testing.assert_array_equal(found.col4row, [1, 0, 2])
    assert "float32" in str(found.cost.dtype)
    assert float(found.cost) == 5
