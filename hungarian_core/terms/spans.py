"""The term of spans of time: the L1 distance and the GIoU."""

from __future__ import annotations

import math
from typing import Literal

from hungarian_core import _checks
from hungarian_core import boxes as measures
from hungarian_core._backend import Array, Backend
from hungarian_core.boxes import Form
from hungarian_core.costs.vectors import l1
from hungarian_core.terms.comparison import Arrays, Comparison


class Spans(Comparison):
    """The term of spans of time, such as moments of a video or actions.

    The loss of a matched pair is ``span_weight * L1 + giou_weight * (1 - GIoU)``, called ``"span"``
    and ``"giou"``; matching costs the same with weights of its own. In the format ``"cxw"`` the
    distance is that of centres and widths, in ``"xx"`` that of starts and ends. It tells other
    terms the IoU.

    Args:
        span_weight, giou_weight: The weights in the loss.
        span_cost, giou_cost: The weights in the matching cost, by default those in the loss.
        format: ``"cxw"``, centre and width, or ``"xx"``, start and end, of both outputs and
            targets; in any unit, though weights go with spans relative to the video.
        form: ``"safe"`` or ``"published"``, see :mod:`hungarian_core.boxes`.
        check_targets: Raise if a true span is not finite or ends before it starts, where it can
            be read.
        on: The key of both outputs and targets, ``(..., 2)`` each.

    Raises:
        ValueError: An option is unknown.

    Reference:
        Lei et al., QVHighlights: Detecting Moments and Highlights in Videos via Natural Language
        Queries, NeurIPS 2021, equations 1 and 2.

    Example::

        >>> import numpy as np
        >>> import hungarian_core as hc
        >>> criterion = hc.SetLoss([hc.terms.Spans()])
        >>> outputs = {"spans": np.array([[[0.2, 0.2], [0.6, 0.4]]])}  # (B, Q, 2)
        >>> losses = criterion(outputs, [{"spans": np.array([[0.6, 0.2]])}])
        >>> losses.assignment.col4row
        array([[1]])
        >>> {name: round(float(x), 3) for name, x in losses.losses.items()}
        {'span': 2.0, 'giou': 0.5}
    """

    def __init__(
        self,
        *,
        span_weight: float = 10.0,
        giou_weight: float = 1.0,
        span_cost: float | None = None,
        giou_cost: float | None = None,
        format: Literal["cxw", "xx"] = "cxw",  # noqa: A002  (the field's word)
        form: Form = "safe",
        check_targets: bool = True,
        on: str = "spans",
    ) -> None:
        _checks.one_of("format", format, ("cxw", "xx"))
        _checks.one_of("form", form, _checks.FORMS)
        self.weights = {
            "span": _checks.weight("span_weight", span_weight),
            "giou": _checks.weight("giou_weight", giou_weight),
        }
        self.cost_weights = {
            "span": _checks.weight("span_cost", span_weight if span_cost is None else span_cost),
            "giou": _checks.weight("giou_cost", giou_weight if giou_cost is None else giou_cost),
        }
        self.format, self.form = format, form
        self.check_targets, self.on = check_targets, _checks.key("on", on)
        self.outputs = self.fields = {on: (2,)}

    def compare(
        self, predictions: Arrays, truths: Arrays, names: tuple[str, ...], backend: Backend
    ) -> dict[str, Array]:
        """The distance, and one less the GIoU."""
        prediction, truth = predictions[self.on], truths[self.on]
        found = {}
        if "span" in names:
            found["span"] = l1(backend.namespace(prediction), prediction, truth)
        if "giou" in names:
            found["giou"] = 1 - measures.giou(
                prediction, truth, format=self.format, form=self.form, backend=backend
            )
        return found

    def overlaps(self, predictions: Arrays, truths: Arrays, backend: Backend) -> Array:
        """The IoU."""
        return measures.iou(
            predictions[self.on], truths[self.on],
            format=self.format, form=self.form, backend=backend,
        )  # fmt: skip

    def impossible(self, truths: Arrays) -> tuple[Array, str]:
        """Spans that are not finite or end before they start."""
        spans = truths[self.on]
        if self.format == "xx":
            width, expected = spans[..., 1] - spans[..., 0], "xx: start and end, in order"
        else:
            width, expected = spans[..., 1], "cxw: centre and width, 0 or more"
        return ~((abs(spans) < math.inf).all(-1) & (width >= 0)), expected
