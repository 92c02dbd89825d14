"""Optimal matching and set-prediction losses, written once for every array framework."""

from hungarian_core import boxes
from hungarian_core._backend import Backend, Problem, Solution
from hungarian_core._hosts import host_solver
from hungarian_core._registry import backends, bind, get_backend
from hungarian_core._solve import solve
from hungarian_core.assignment import (
    Assignment,
    assign,
    count_invalid,
    linear_sum_assignment,
)
from hungarian_core.losses.matched import HungarianLoss, compute_euclidean_distance, loss

__version__ = "0.1.0"

__all__ = [
    "Assignment",
    "Backend",
    "HungarianLoss",
    "Problem",
    "Solution",
    "assign",
    "backends",
    "bind",
    "boxes",
    "compute_euclidean_distance",
    "count_invalid",
    "get_backend",
    "host_solver",
    "linear_sum_assignment",
    "loss",
    "solve",
]
