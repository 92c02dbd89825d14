"""The term of presence: whether a query stands for an object, by one logit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from hungarian_core import _checks
from hungarian_core._backend import Array
from hungarian_core._dtypes import index_dtype
from hungarian_core.terms import _class_checks as checks
from hungarian_core.terms.class_inputs import ClassInputs, cardinality_error
from hungarian_core.terms.class_losses import ClassLoss, ClassLossName
from hungarian_core.terms.classes import Classes
from hungarian_core.terms.matches import Matches
from hungarian_core.terms.problems import MatchingProblems


class Presence(Classes):
    """The term of presence: one logit per query, of being an object.

    It is the term of a single class that all objects have, so that the targets need no labels. The
    loss of every query, called ``"presence"``, is a sigmoid loss: that of the label if it has an
    object, else that of another class. Of the logs, ``"presence_error"`` is the mean absolute error
    of the number of queries per image that claim an object.

    Args:
        loss: A sigmoid loss as for `Classes`: ``"focal"``, ``"bce"``, ``"ia_bce"`` and so on.
        cost: The matching cost, ``"focal"``, ``"focal_published"`` or ``"nll"``.
        weight: The weight in the loss.
        cost_weight: The weight in the matching cost, by default `weight`.
        alpha, gamma: The parameters of the loss.
        cost_alpha, cost_gamma: Those of the focal cost; `cost_gamma` is `gamma` by default.
        on: The key of the logits in the outputs, `(..., Q)`.

    Raises:
        ValueError: An option is unknown, or options do not fit each other.

    Reference:
        Carion et al., SAM 3: Segment Anything with Concepts, 2025, appendix C.

    Examples:
        >>> criterion = hc.SetLoss([hc.terms.Presence(loss="bce"), hc.terms.Boxes()])
        >>> boxes = np.array([[0.5, 0.5, 0.2, 0.2], [0.2, 0.2, 0.1, 0.1]])
        >>> outputs = {"presence": np.array([[2.0, -2.0]]), "boxes": boxes[None]}
        >>> losses = criterion(outputs, [{"boxes": boxes[:1]}])
        >>> round(float(losses.losses["presence"]), 4)
        0.2539
    """

    loss_name = "presence"

    def __init__(
        self,
        *,
        loss: ClassLossName | ClassLoss = "focal",
        cost: Literal["focal", "focal_published", "nll"] | None = None,
        weight: float = 1.0,
        cost_weight: float | None = None,
        alpha: float = 0.25,
        gamma: float = 2.0,
        cost_alpha: float = 0.25,
        cost_gamma: float | None = None,
        on: str = "presence",
    ) -> None:
        super().__init__(
            1, loss=loss, cost=cost, weight=weight, cost_weight=cost_weight, alpha=alpha,
            gamma=gamma, cost_alpha=cost_alpha, cost_gamma=cost_gamma,
            on=("labels", _checks.key("on", on)),
        )  # fmt: skip
        if self.softmax:
            checks.no_sigmoid(self.loss.name)
        self.outputs, self.fields = {on: ()}, {}

    def read(
        self, outputs: Mapping[str, Array], fields: Mapping[str, Array], problems: MatchingProblems
    ) -> ClassInputs:
        """Lay the logits out as those of one class."""
        logits, xp = outputs[self.on[1]], problems.xp
        _checks.real(self.on[1], logits, xp)
        labels = xp.zeros_like(problems.mask, dtype=index_dtype(xp))
        return ClassInputs(problems.of_queries(logits)[..., None], labels, None, None)

    def logs(
        self, problems: MatchingProblems, inputs: ClassInputs, summaries: Any, matches: Matches
    ) -> dict[str, Array]:
        """By how many objects the images' queries are off."""
        _, claims = self.largest_and_claims(problems, summaries)
        return {"presence_error": cardinality_error(problems, claims)}
