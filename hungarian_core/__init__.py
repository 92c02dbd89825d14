"""Optimal matching and set-prediction losses, written once for every array framework."""

from typing import TYPE_CHECKING, Any

from hungarian_core import (
    assigners,
    boxes,
    costs,
    denoising,
    gradients,
    hnet,
    masks,
    polylines,
    relaxations,
    terms,
)
from hungarian_core._backend import Backend, Problem, Solution
from hungarian_core._conversion import host_array
from hungarian_core._registry import backends, bind, get_backend
from hungarian_core._solvers.dispatch import solve
from hungarian_core._solvers.host import host_solver
from hungarian_core.assignment import (
    Assignment,
    assign,
    count_invalid,
    linear_sum_assignment,
)
from hungarian_core.capacities import ManyAssignment, assign_many
from hungarian_core.gradients import assignment_cost, fenchel_young_loss
from hungarian_core.losses import criteria
from hungarian_core.losses.aligned import AlignedDetrLoss, AlignedLosses
from hungarian_core.losses.detr import DetrLoss, MaskLoss
from hungarian_core.losses.matched import HungarianLoss, compute_euclidean_distance, loss
from hungarian_core.losses.permutation import pit_loss
from hungarian_core.losses.results import DetectionLosses, SetLosses
from hungarian_core.losses.set_loss import SetLoss

if TYPE_CHECKING:
    from hungarian_core.inspection import Explanation, StabilityMeter, explain, plot_matches
from hungarian_core.relaxations import Relaxation, assignment_matrix
from hungarian_core.terms.targets import Targets, pad_targets

__version__ = "0.1.0"

__all__ = [
    "AlignedDetrLoss",
    "AlignedLosses",
    "Assignment",
    "Backend",
    "DetectionLosses",
    "DetrLoss",
    "Explanation",
    "HungarianLoss",
    "ManyAssignment",
    "MaskLoss",
    "Problem",
    "Relaxation",
    "SetLoss",
    "SetLosses",
    "Solution",
    "StabilityMeter",
    "Targets",
    "assign",
    "assign_many",
    "assigners",
    "assignment_cost",
    "assignment_matrix",
    "backends",
    "bind",
    "boxes",
    "compute_euclidean_distance",
    "costs",
    "count_invalid",
    "criteria",
    "denoising",
    "explain",
    "fenchel_young_loss",
    "get_backend",
    "gradients",
    "hnet",
    "host_array",
    "host_solver",
    "linear_sum_assignment",
    "loss",
    "masks",
    "pad_targets",
    "pit_loss",
    "plot_matches",
    "polylines",
    "relaxations",
    "solve",
    "terms",
]
__dir__ = [*__all__, "__version__"].copy

if not TYPE_CHECKING:  # where types are checked, a name that is not there is an error

    def __getattr__(name: str) -> Any:
        # Looking at a matching is rare: an import for training goes without it.
        if name in ("Explanation", "StabilityMeter", "explain", "plot_matches"):
            from hungarian_core import inspection

            return getattr(inspection, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
