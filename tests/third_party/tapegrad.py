"""A made-up framework: arrays that record what is done to them, for gradients.

It follows the Array API standard as far as hungarian_core calls it, and holds NumPy arrays.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

# Names of the standard shadow builtins here.
# ruff: noqa: A001

int8, int16, int32, int64, uint8 = (
    np.dtype(f"{k}") for k in ("int8", "int16", "int32", "int64", "uint8")
)
float16, float32, float64 = np.dtype("float16"), np.dtype("float32"), np.dtype("float64")
bool = np.dtype("bool")
Pull = Callable[[np.ndarray], np.ndarray | None]


class Tensor:
    """An array, and for each array it came from, how a gradient goes back there."""

    def __init__(self, data: Any, *sources: tuple[Any, Pull]) -> None:
        self.data = np.asarray(data)
        self.sources = [(x, pull) for x, pull in sources if isinstance(x, Tensor)]
        self.shape, self.dtype, self.ndim = self.data.shape, self.data.dtype, self.data.ndim
        self.device = "cpu"

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return sys.modules[__name__]

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self.data, dtype)

    def __bool__(self) -> builtins.bool:
        return builtins.bool(self.data)

    def __int__(self) -> int:
        return int(self.data)

    def __float__(self) -> float:
        return float(self.data)

    def __repr__(self) -> str:
        return f"Tensor({self.data!r})"

    def __getitem__(self, key: Any) -> Tensor:
        def pull(g: np.ndarray) -> np.ndarray:
            back = np.zeros(self.shape, g.dtype)
            np.add.at(back, key, g)  # An entry may have been taken more than once.
            return back

        return Tensor(self.data[key], (self, pull))

    def __add__(self, y: Any) -> Tensor:
        return Tensor(self.data + _data(y), (self, lambda g: g), (y, lambda g: g))

    def __sub__(self, y: Any) -> Tensor:
        return Tensor(self.data - _data(y), (self, lambda g: g), (y, lambda g: -g))

    def __mul__(self, y: Any) -> Tensor:
        a, b = self.data, _data(y)
        return Tensor(a * b, (self, lambda g: g * b), (y, lambda g: g * a))

    def __truediv__(self, y: Any) -> Tensor:
        a, b = self.data, _data(y)
        return Tensor(a / b, (self, lambda g: g / b), (y, lambda g: -g * (a / b) / b))

    def __pow__(self, y: Any) -> Tensor:
        a, b = self.data, _data(y)
        return Tensor(a**b, (self, lambda g: g * b * a ** (b - 1)))

    def __rsub__(self, y: Any) -> Tensor:
        return -self + y

    def __rtruediv__(self, y: Any) -> Tensor:
        out = y / self.data
        return Tensor(out, (self, lambda g: -g * out / self.data))

    def __neg__(self) -> Tensor:
        return Tensor(-self.data, (self, lambda g: -g))

    def __abs__(self) -> Tensor:
        return Tensor(np.abs(self.data), (self, lambda g: g * np.sign(self.data)))

    __radd__, __rmul__ = __add__, __mul__
    __hash__ = object.__hash__


def _data(x: Any) -> Any:
    return x.data if isinstance(x, Tensor) else x


def _without_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of NumPy for tensors, whose result is a constant."""

    def run(*args: Any, **kwargs: Any) -> Any:
        out = function(*(_data(x) for x in args), **kwargs)
        return tuple(Tensor(x) for x in out) if isinstance(out, tuple) else Tensor(out)

    return run


for _name in ("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor", "floordiv"):
    setattr(Tensor, f"__{_name}__", _without_gradient(getattr(np.ndarray, f"__{_name}__")))
Tensor.__invert__ = _without_gradient(np.ndarray.__invert__)  # type: ignore[attr-defined]  # arrays have it

all, any = _without_gradient(np.all), _without_gradient(np.any)
argmax, argmin = _without_gradient(np.argmax), _without_gradient(np.argmin)
argsort, cumulative_sum = _without_gradient(np.argsort), _without_gradient(np.cumulative_sum)
bitwise_and, bitwise_or, bitwise_xor, bitwise_left_shift, bitwise_right_shift = (
    _without_gradient(f)
    for f in (np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.left_shift, np.right_shift)
)
floor = _without_gradient(np.floor)
round = _without_gradient(np.round)
isfinite, isnan, nonzero = (_without_gradient(f) for f in (np.isfinite, np.isnan, np.nonzero))
min = _without_gradient(np.min)
maximum, minimum = (_without_gradient(f) for f in (np.maximum, np.minimum))
ones_like, zeros_like = _without_gradient(np.ones_like), _without_gradient(np.zeros_like)
asarray = _without_gradient(np.asarray)
abs = Tensor.__abs__
finfo, isdtype, __array_namespace_info__ = np.finfo, np.isdtype, np.__array_namespace_info__


def astype(x: Tensor, dtype: Any, /, *, copy: builtins.bool = True) -> Tensor:
    return Tensor(x.data.astype(dtype), (x, lambda g: g.astype(x.dtype)))


def atan(x: Tensor, /) -> Tensor:
    return Tensor(np.arctan(x.data), (x, lambda g: g / (1 + x.data**2)))


def atan2(y: Tensor, x: Tensor, /) -> Tensor:
    a, b = y.data, x.data
    squares = a**2 + b**2
    return Tensor(np.arctan2(a, b), (y, lambda g: g * b / squares), (x, lambda g: -g * a / squares))


def cos(x: Tensor, /) -> Tensor:
    return Tensor(np.cos(x.data), (x, lambda g: -g * np.sin(x.data)))


def exp(x: Tensor, /) -> Tensor:
    out = np.exp(x.data)
    return Tensor(out, (x, lambda g: g * out))


def log(x: Tensor, /) -> Tensor:
    return Tensor(np.log(x.data), (x, lambda g: g / x.data))


def log1p(x: Tensor, /) -> Tensor:
    return Tensor(np.log1p(x.data), (x, lambda g: g / (1 + x.data)))


def matmul(x: Tensor, y: Tensor, /) -> Tensor:
    a, b = x.data, y.data
    return Tensor(
        a @ b, (x, lambda g: g @ np.swapaxes(b, -1, -2)), (y, lambda g: np.swapaxes(a, -1, -2) @ g)
    )


def broadcast_to(x: Tensor, /, shape: Any) -> Tensor:
    return Tensor(np.broadcast_to(x.data, shape), (x, lambda g: g))


def permute_dims(x: Tensor, /, axes: Any) -> Tensor:
    return Tensor(np.transpose(x.data, axes), (x, lambda g: np.transpose(g, np.argsort(axes))))


def reshape(x: Tensor, /, shape: Any) -> Tensor:
    return Tensor(np.reshape(x.data, shape), (x, lambda g: np.reshape(g, x.shape)))


def sin(x: Tensor, /) -> Tensor:
    return Tensor(np.sin(x.data), (x, lambda g: g * np.cos(x.data)))


def sqrt(x: Tensor, /) -> Tensor:
    out = np.sqrt(x.data)
    return Tensor(out, (x, lambda g: g / (2 * out)))


def sum(x: Tensor, /, *, axis: Any = None, keepdims: builtins.bool = False) -> Tensor:
    def pull(g: np.ndarray) -> np.ndarray:
        g = g if axis is None or keepdims else np.expand_dims(g, axis)
        return np.broadcast_to(g, x.shape)

    return Tensor(np.sum(x.data, axis=axis, keepdims=keepdims), (x, pull))


def max(x: Tensor, /, *, axis: Any = None, keepdims: builtins.bool = False) -> Tensor:
    largest = np.max(x.data, axis=axis, keepdims=True)
    first = x.data == largest

    def pull(g: np.ndarray) -> np.ndarray:
        g = g if axis is None or keepdims else np.expand_dims(g, axis)
        return np.where(first, g / np.sum(first, axis=axis, keepdims=True), 0)

    return Tensor(np.max(x.data, axis=axis, keepdims=keepdims), (x, pull))


def mean(x: Tensor, /, *, axis: Any = None, keepdims: builtins.bool = False) -> Tensor:
    total = sum(x, axis=axis, keepdims=keepdims)
    return total / (x.data.size / builtins.max(total.data.size, 1))


def concat(arrays: Any, /, *, axis: int = 0) -> Tensor:
    ends = np.cumsum([x.shape[axis] for x in arrays])
    pulls = [(x, lambda g, k=k: np.split(g, ends[:-1], axis)[k]) for k, x in enumerate(arrays)]
    return Tensor(np.concat([x.data for x in arrays], axis=axis), *pulls)


def stack(arrays: Any, /, *, axis: int = 0) -> Tensor:
    pulls = [(x, lambda g, k=k: np.take(g, k, axis)) for k, x in enumerate(arrays)]
    return Tensor(np.stack([x.data for x in arrays], axis=axis), *pulls)


def tanh(x: Tensor, /) -> Tensor:
    out = np.tanh(x.data)
    return Tensor(out, (x, lambda g: g * (1 - out**2)))


def take(x: Tensor, indices: Any, /, *, axis: int = 0) -> Tensor:
    return x[(slice(None),) * (axis % x.ndim) + (indices.data,)]


def take_along_axis(x: Tensor, indices: Tensor, /, *, axis: int = -1) -> Tensor:
    def pull(g: np.ndarray) -> np.ndarray:
        # An entry may have been taken more than once.
        chosen = np.moveaxis(indices.data, axis, -1)[..., None] == np.arange(x.shape[axis])
        parts = np.where(chosen, np.moveaxis(g, axis, -1)[..., None], 0)
        return np.moveaxis(parts.sum(-2), -1, axis)

    return Tensor(np.take_along_axis(x.data, indices.data, axis=axis), (x, pull))


def where(condition: Tensor, x: Any, y: Any, /) -> Tensor:
    holds = condition.data
    return Tensor(
        np.where(holds, _data(x), _data(y)),
        (x, lambda g: np.where(holds, g, 0)),
        (y, lambda g: np.where(holds, 0, g)),
    )


def gradients(out: Tensor, inputs: list[Tensor], upstream: np.ndarray) -> list[np.ndarray | None]:
    """Return the gradients of ``sum(upstream * out)``; None where there is no path."""
    order: list[Tensor] = []
    seen: set[int] = set()

    def visit(x: Tensor) -> None:
        if id(x) not in seen:
            seen.add(id(x))
            for source, _ in x.sources:
                visit(source)
            order.append(x)

    visit(out)
    grads: dict[int, np.ndarray] = {id(out): np.asarray(upstream)}
    for x in reversed(order):
        if id(x) not in grads:
            continue
        for source, pull in x.sources:
            # As in any framework, what becomes no number on the way back is no warning.
            with np.errstate(divide="ignore", invalid="ignore"):
                g = pull(grads[id(x)])
                if g is None:  # a constant
                    continue
                g = _unbroadcast(g, source.shape)
                grads[id(source)] = grads[id(source)] + g if id(source) in grads else g
    return [grads.get(id(x)) for x in inputs]


def _unbroadcast(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum a gradient over the axes that broadcasting added or stretched."""
    g = g.sum(tuple(range(g.ndim - len(shape))))
    stretched = tuple(k for k, extent in enumerate(shape) if extent == 1 and g.shape[k] != 1)
    return g.sum(stretched, keepdims=True) if stretched else g
