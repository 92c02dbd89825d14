"""The term of boxes: the L1 distance and the GIoU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hungarian_core import _checks
from hungarian_core import boxes as measures
from hungarian_core._backend import Array
from hungarian_core._dtypes import solving_dtype
from hungarian_core.boxes import Form
from hungarian_core.costs.boxes import distances_and_overlaps
from hungarian_core.costs.classes import times, transposed
from hungarian_core.costs.vectors import l1
from hungarian_core.terms._target_checks import true_boxes
from hungarian_core.terms.matches import Matches
from hungarian_core.terms.problems import MatchingProblems, Tile
from hungarian_core.terms.term import Term


class BoxInputs(NamedTuple):
    """The boxes of queries and objects."""

    prediction: Array  # [N, Q, 4]
    truth: Array  # [N, M, 4], 0 where there is no object


class Boxes(Term):
    """The term of boxes in cxcywh, relative to the image.

    Matching costs ``bbox_cost * L1 + giou_cost * (-GIoU)``, and the loss of a matched pair is
    ``bbox_weight * L1 + giou_weight * (1 - GIoU)``, called ``"bbox"`` and ``"giou"``. It tells
    other terms the IoU.

    Args:
        bbox_weight, giou_weight: The weights in the loss.
        bbox_cost, giou_cost: The weights in the matching cost, by default those in the loss.
        form: As for `hungarian_core.DetrLoss`.
        check_targets: As for `hungarian_core.DetrLoss`.
        on: The key of both outputs and targets, or the pair of keys (of the targets, of the
            outputs).

    Reference:
        Carion et al., End-to-End Object Detection with Transformers, ECCV 2020, section 3.1.

    Examples:
        >>> criterion = hc.SetLoss([hc.terms.Boxes()])
        >>> outputs = {"boxes": np.array([[[0.2, 0.2, 0.2, 0.2], [0.5, 0.5, 0.4, 0.2]]])}
        >>> losses = criterion(outputs, [{"boxes": np.array([[0.5, 0.5, 0.2, 0.2]])}])
        >>> losses.assignment.col4row
        array([[1]])
        >>> {name: round(float(x), 3) for name, x in losses.losses.items()}
        {'bbox': 1.0, 'giou': 1.0}
    """

    def __init__(
        self,
        *,
        bbox_weight: float = 5.0,
        giou_weight: float = 2.0,
        bbox_cost: float | None = None,
        giou_cost: float | None = None,
        form: Form = "safe",
        check_targets: bool = True,
        on: str | tuple[str, str] = "boxes",
    ) -> None:
        _checks.one_of("form", form, _checks.FORMS)
        self.bbox_weight = _checks.weight("bbox_weight", bbox_weight)
        self.giou_weight = _checks.weight("giou_weight", giou_weight)
        self.bbox_cost = _checks.weight(
            "bbox_cost", self.bbox_weight if bbox_cost is None else bbox_cost
        )
        self.giou_cost = _checks.weight(
            "giou_cost", self.giou_weight if giou_cost is None else giou_cost
        )
        self.form = form
        self.check_targets = check_targets
        self.on = _checks.pair_of_keys(on)
        self.outputs, self.fields = {self.on[1]: (4,)}, {self.on[0]: (4,)}
        self.weights = {"bbox": self.bbox_weight, "giou": self.giou_weight}

    def read(
        self, outputs: Mapping[str, Array], fields: Mapping[str, Array], problems: MatchingProblems
    ) -> BoxInputs:
        """Check the true boxes and lay out both."""
        backend, xp = problems.backend, problems.xp
        truth, prediction = fields[self.on[0]], outputs[self.on[1]]
        _checks.real(self.on[1], prediction, xp)
        _checks.real("boxes of the targets", truth, xp)
        if self.check_targets:
            # NumPy has no bfloat16.
            numbers = xp.astype(truth, solving_dtype(truth.dtype, xp), copy=False)
            both = numbers, problems.objects_mask
            if all(backend.readable(x) for x in both):
                backend.host_call(true_boxes, *both, like=())
        return BoxInputs(problems.of_queries(prediction), problems.of_truth(truth))

    def costs(
        self, problems: MatchingProblems, inputs: BoxInputs, tile: Tile, summary: None
    ) -> dict[str, Array]:
        """The distance and the overlap of every pair."""
        distance, overlap = self._compare(problems, inputs, tile)
        return self._matrices(self.bbox_cost * distance, -self.giou_cost * overlap, problems)

    def alignable(self) -> bool:
        """A pair's loss is known."""
        return True

    def loss_changes(
        self, problems: MatchingProblems, inputs: BoxInputs, tile: Tile, summary: None
    ) -> dict[str, Array]:
        """The loss of every pair: unmatched ones have none."""
        xp = problems.xp
        distance, overlap = self._compare(problems, inputs, tile)
        # What is the same for all queries counts where some objects get none of them.
        overlap = overlap - 1
        if problems.weights is not None:
            weights = problems.weights[tile[0], None, :]
            distance, overlap = times(weights, distance, xp), overlap * weights
        return self._matrices(self.bbox_weight * distance, -self.giou_weight * overlap, problems)

    def native(self) -> tuple[str, dict[str, Any] | None]:
        """Return what the native library is to know of `costs`; a subclass has costs of its own."""
        if type(self) is not Boxes:
            return "", None
        return "boxes", {
            "bbox_cost": self.bbox_cost, "giou_cost": self.giou_cost, "safe": self.form == "safe",
        }  # fmt: skip

    def pair_losses(
        self, problems: MatchingProblems, inputs: BoxInputs, matches: Matches
    ) -> dict[str, Array]:
        """The distance, and one less the GIoU, of matched boxes."""
        prediction, truth = matches.compared(inputs.prediction, inputs.truth)
        overlap = measures.giou(
            prediction, truth, format="cxcywh", form=self.form, backend=problems.backend
        )
        return {"bbox": l1(problems.xp, prediction, truth), "giou": 1 - overlap}

    def iou(self, problems: MatchingProblems, inputs: BoxInputs, matches: Matches) -> Array:
        """The IoU of matched boxes."""
        backend = problems.backend
        constant = backend.stop_gradient(inputs.prediction)
        prediction, truth = matches.compared(constant, inputs.truth)
        return measures.iou(prediction, truth, format="cxcywh", form=self.form, backend=backend)

    def _compare(
        self, problems: MatchingProblems, inputs: BoxInputs, tile: Tile
    ) -> tuple[Array, Array]:
        n, q = tile
        prediction = problems.backend.stop_gradient(inputs.prediction[n, q, ...])
        return distances_and_overlaps(
            prediction, inputs.truth[n, ...], self.form == "safe", problems.xp
        )

    @staticmethod
    def _matrices(bbox: Array, giou: Array, problems: MatchingProblems) -> dict[str, Array]:
        xp = problems.xp
        return {"bbox": transposed(bbox, 3, xp), "giou": transposed(giou, 3, xp)}
