"""The backend of tapegrad: what `hungarian_core` needs beyond the Array API standard."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tapegrad
from tapegrad import Tensor

from hungarian_core import Backend, host_array


class TapegradBackend(Backend):
    """tapegrad is eager and in host memory: loops, host calls and shapes are the defaults."""

    name = "tapegrad"

    def asarray(self, x: Any, like: Tensor | None = None) -> Tensor:
        return x if isinstance(x, Tensor) else tapegrad.asarray(host_array(x, like, self))

    def stop_gradient(self, x: Tensor) -> Tensor:
        return Tensor(x.data)

    def custom_vjp(
        self, forward: Callable[..., Any], backward: Callable[..., Any]
    ) -> Callable[..., Tensor]:
        def function(*xs: Tensor) -> Tensor:
            out, residuals = forward(*(Tensor(x.data) for x in xs))

            def pull(k: int, g: np.ndarray) -> np.ndarray | None:
                grad = backward(residuals, Tensor(g))[k]
                return None if grad is None else grad.data

            return Tensor(out.data, *((x, partial(pull, k)) for k, x in enumerate(xs)))

        return function


backend = TapegradBackend()
