"""What the Array API standard lacks: the hooks that a framework adapter supplies.

``Backend`` is concrete. Its defaults describe an eager Array API library whose
arrays live in host memory, so ``Backend()`` itself runs NumPy, and an adapter for
a similar library overrides one hook or none. Adapters are final: they implement
hooks, and never refine one another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import array_api_compat
import numpy as np

# Arrays, dtypes and namespaces of any framework; the standard defines no base class.
Array = Any
DType = Any
Namespace = ModuleType | Any

# What needs no conversion: a test that costs nothing beside a small problem.
NATIVE = frozenset(map(np.dtype, "?bBhHiIlLqQefd"))


class Problem(NamedTuple):
    """A batch of assignment problems, checked for shapes and dtypes, with values as they came.

    Batch axes are any number of leading ones, the same for every array.
    """

    cost: Array  # [..., n, m] float32 or float64; may hold anything, NaN too
    row_mask: Array | None = None  # [..., n] bool, True = valid
    col_mask: Array | None = None  # [..., m] bool
    unmatched_cost: Array | None = None  # [..., n] in the dtype of cost
    maximize: bool = False
    nan: str = "raise"  # what NaN and -inf do, as for `assign`


class Solution(NamedTuple):
    """What became of a `Problem`, in its own sense: of greatest cost where it maximises.

    A sample that is not solved has matches of -1 and NaN for cost and duals.
    """

    col4row: Array  # [..., n] index, -1 = unmatched
    row4col: Array  # [..., m] index, -1 = unmatched
    cost: Array  # [...] in the dtype of the problem's, like u and v
    u: Array  # [..., n] row duals
    v: Array  # [..., m] column duals
    # [...] uint8: 0 solved, 1 invalid entries, 2 infeasible; None says that all are solved.
    status: Array | None = None


class Backend:
    """A framework, as the core sees it. Every method but `readable` is a hook with a default.

    Attributes:
        name: The root module of the framework's arrays, for error messages.
    """

    name: str = "numpy"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def __reduce__(self) -> Any:
        # A registered backend is one object in each process, which programs are cached by.
        from hungarian_core._registry import registered, restored

        return (restored, (self.name,)) if registered(self) else super().__reduce__()

    def namespace(self, *arrays: Array) -> Namespace:
        """Return the Array API namespace of `arrays`."""
        return array_api_compat.array_namespace(*arrays)

    def shape(self, x: Array) -> tuple[Any, ...]:
        """Return the shape of `x`: an int where known, else a scalar index array."""
        return tuple(x.shape)

    def require_equal(self, what: str, came: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
        """Have the program fail when it runs if extents differ, some of them unknown by now.

        By default nothing: whoever knows all extents, or compares those that are open without being
        asked, has nothing left to do.

        Args:
            what: What has these extents, for the message.
            came: The extents, as `shape` has them.
            expected: As many that they have to be equal to.
        """

    def asarray(self, x: Any, like: Array | None = None) -> Array:
        """Turn `x` into an array of this framework, on the device of `like` if given.

        An array that is already one of this framework is returned as it is; where `like` lies on
        another device, it is an error. `host_array` says what becomes of numbers and lists.
        """
        if type(x) is np.ndarray and x.dtype in NATIVE:
            return x
        from hungarian_core._conversion import host_array  # which imports this module

        found = host_array(x, like, self)
        # What ml_dtypes adds, bfloat16 among it, is computed in float32, and no dtype of NumPy's.
        return found.astype(np.float32) if found.dtype.kind == "V" else found

    def is_traced(self, x: Array) -> bool:
        """Say whether `x` is a symbol in a program being traced, without a value."""
        return False

    def on_host(self, x: Array) -> bool:
        """Say whether NumPy can read `x` where it lies, without a device transfer.

        For a traced array: True if the compiled program may call back to Python while it runs.
        """
        return True

    def readable(self, x: Array) -> bool:
        """Say whether the values of `x` are there and can be read without a wait.

        What is told about values is told of readable arrays: by an error, or a warning. It
        follows from the two hooks above.
        """
        return not self.is_traced(x) and self.on_host(x)

    def stop_gradient(self, x: Array) -> Array:
        """Return `x` as a constant for differentiation."""
        return x

    def custom_vjp(
        self,
        forward: Callable[..., tuple[Array, Any]],
        backward: Callable[[Any, Array], tuple[Array | None, ...]],
    ) -> Callable[..., Array]:
        """Return a function of arrays with a gradient of its own.

        Args:
            forward: ``forward(*xs) -> (out, residuals)``; `out` is one array,
                `residuals` a tuple of arrays.
            backward: ``backward(residuals, g) -> grads``, one array per input, or None for an
                input that counts as a constant. It has the attribute ``linear`` if it multiplies g
                by a slope, which the forward mode of a framework may then use.
        """
        return lambda *xs: forward(*xs)[0]

    def while_loop(
        self,
        cond: Callable[[tuple[Array, ...]], Array],
        body: Callable[[tuple[Array, ...]], tuple[Array, ...]],
        state: tuple[Array, ...],
    ) -> tuple[Array, ...]:
        """Apply `body` to `state` as long as `cond(state)`; shapes and dtypes stay fixed."""
        while cond(state):
            state = body(state)
        return state

    def run(
        self,
        function: Callable[..., tuple[Array, ...]],
        *arrays: Array,
        like: tuple[int, ...],
        options: tuple[float, ...] = (),
    ) -> tuple[Array, ...]:
        """Return ``function(self, *arrays, *options)``, which may contain `while_loop`.

        No gradient goes through. A framework that cannot trace such loops runs it as one step of
        its programs.

        Args:
            function: One that its module knows by its name, so that a program can find it again.
                It closes over no array, and takes any leading batch axes.
            *arrays: What it gets.
            like: Result k has the shape and the dtype of ``arrays[like[k]]``.
            options: Numbers, constant in a program.
        """
        return function(self, *arrays, *options)

    def host_call(
        self,
        function: Callable[..., tuple[np.ndarray, ...]],
        *arrays: Array,
        like: tuple[tuple[tuple[Any, ...], DType], ...],
    ) -> tuple[Array, ...]:
        """Run a NumPy function on `arrays`.

        `function` takes and returns NumPy arrays and accepts leading batch dimensions.
        Result `k` has the shape and dtype ``like[k]`` and lies where ``arrays[0]`` lies.
        """
        results = function(*(np.asarray(x) for x in arrays))
        xp, pairs = self.namespace(*arrays), zip(results, like, strict=True)
        return tuple(xp.asarray(r, dtype=dtype) for r, (_, dtype) in pairs)

    def solve(self, problem: Problem, *, solver: str) -> Solution | None:
        """Solve in the framework's own way, or return None to decline.

        `solver` is the user's choice. ``"auto"`` leaves it to the backend, whose own way
        then comes before every other; a solver by name is to be honoured.
        `hungarian_core.solve` does the work when this declines.
        """
        return None

    def passes(
        self, solver: str, arrays: Sequence[Array]
    ) -> Callable[..., tuple[Array, ...]] | None:
        """Return what makes passes over arrays of a detection loss where they lie, or None.

        It is called with the name of a function of `hungarian_native`, ``"matching_costs"``,
        ``"class_losses"`` or ``"box_losses"``, with the arrays and the options of that and with
        `like` as for `host_call`, and returns what that does. No gradient goes through.

        Args:
            solver: The user's choice, as for `solve`.
            arrays: All that the passes depend on.
        """
        return None

    def sample_masks(self, masks: Array, points: Array, *, mode: str) -> Array | None:
        """Read masks at points by an operation of the framework, or return None to decline.

        It returns what `hungarian_core.masks.sample` says, value and gradient, infinite and NaN
        masks and points included, within rounding.

        Args:
            masks: `[..., K, H, W]` of any real dtype.
            points: `[..., P, 2]` in the dtype of the result. Axes before these broadcast.
            mode: ``"bilinear"`` or ``"nearest"``.
        """
        return None

    def all_reduce(self, x: Array) -> Array:
        """Sum `x` over the workers of a distributed run; `x` itself says that there is one.

        Never differentiated.
        """
        return x
