"""What a set loss is made of: terms, each with its matching cost and its loss."""

from hungarian_core.terms.alignment import Alignment
from hungarian_core.terms.boxes import Boxes
from hungarian_core.terms.boxes_3d import Boxes3D
from hungarian_core.terms.class_losses import CLASS_LOSSES, ClassLoss, asymmetric
from hungarian_core.terms.classes import Classes
from hungarian_core.terms.comparison import Comparison, Pairs
from hungarian_core.terms.edges import EdgeDistributions
from hungarian_core.terms.masks import Masks
from hungarian_core.terms.matches import Matches
from hungarian_core.terms.polylines import Polylines
from hungarian_core.terms.poses import Poses
from hungarian_core.terms.prefixed import Prefixed
from hungarian_core.terms.presence import Presence
from hungarian_core.terms.problems import MatchingProblems
from hungarian_core.terms.rotated_boxes import RotatedBoxes
from hungarian_core.terms.spans import Spans
from hungarian_core.terms.term import QueryLosses, Term
from hungarian_core.terms.tokens import Tokens

__all__ = [
    "CLASS_LOSSES",
    "Alignment",
    "Boxes",
    "Boxes3D",
    "ClassLoss",
    "Classes",
    "Comparison",
    "EdgeDistributions",
    "Masks",
    "Matches",
    "MatchingProblems",
    "Pairs",
    "Polylines",
    "Poses",
    "Prefixed",
    "Presence",
    "QueryLosses",
    "RotatedBoxes",
    "Spans",
    "Term",
    "Tokens",
    "asymmetric",
]
__dir__ = __all__.copy
