"""Matrices of association that gradients go through: `assignment_matrix`, one call, many ways."""

from hungarian_core.relaxations.matrix import METHODS, assignment_matrix
from hungarian_core.relaxations.problem import Relaxation

__all__ = ["METHODS", "Relaxation", "assignment_matrix"]
__dir__ = __all__.copy
