"""The NumPy backend."""

import array_api_compat.numpy
import numpy as np

from hungarian_core import Backend, Problem, Solution, host_solver


class NumPyBackend(Backend):
    """NumPy, which the defaults of `Backend` describe, and whose arrays the host solvers take."""

    def namespace(self, *arrays: np.ndarray) -> object:
        return array_api_compat.numpy

    def solve(self, problem: Problem, *, solver: str) -> Solution | None:
        host = host_solver(solver)
        return None if host is None else host(*problem)


backend = NumPyBackend()
