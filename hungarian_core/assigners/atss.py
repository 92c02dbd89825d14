"""ATSS: the anchors near an object that overlap it more than is usual there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hungarian_core import _checks as core_checks
from hungarian_core._backend import Array, Backend
from hungarian_core._settings import Configured
from hungarian_core._tracing import skip_autograph
from hungarian_core.assigners import _checks as checks
from hungarian_core.assigners.dense import Assigned, best, least, read
from hungarian_core.terms.targets import TargetForms


@skip_autograph
class ATSS(Configured):
    """The anchors whose IoU with an object is above those near it by their deviation, or more.

    Near are, of each level of a feature pyramid, the `top_k` anchors whose centres are the nearest
    to that of the object. Of these it takes those whose centres lie inside of its box and whose IoU
    is at least their mean plus their standard deviation (of a sample). An anchor of several objects
    goes to the one that it overlaps most. No prediction is read. `Assigned.score` is the IoU.

    Args:
        levels: How many anchors the levels have, in order.
        top_k: How many anchors of a level are near.
        format: ``"cxcywh"``, ``"xyxy"`` or ``"xywh"``, of true boxes and anchors.
        backend: A backend's name or instance, by default the one of the arrays.

    Raises:
        ValueError: An option is unknown or out of range.

    Reference:
        Zhang et al., Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive
        Training Sample Selection, CVPR 2020, algorithm 1.

    Examples:
        >>> y, x = np.divmod(np.arange(16.0), 4)
        >>> centres = np.stack([x, y], axis=-1) * 8 + 4
        >>> outputs = {"anchors": np.concatenate([centres, np.full((16, 2), 16.0)], axis=-1)}
        >>> targets = [{"boxes": np.array([[12.0, 12.0, 17.0, 17.0]])}]
        >>> hc.assigners.ATSS([16])(outputs, targets).row4col.reshape(4, 4)
        array([[-1, -1, -1, -1],
               [-1,  0, -1, -1],
               [-1, -1, -1, -1],
               [-1, -1, -1, -1]])
    """

    def __init__(
        self,
        levels: Sequence[int],
        top_k: int = 9,
        *,
        format: Literal["cxcywh", "xyxy", "xywh"] = "cxcywh",  # noqa: A002  (the field's word)
        backend: str | Backend | None = None,
    ) -> None:
        self.levels = checks.levels(levels)
        self.top_k = core_checks.whole("top_k", top_k, 1, "how many anchors of a level are near")
        core_checks.one_of("format", format, ("cxcywh", "xyxy", "xywh"))
        self.format, self.backend = format, backend

    def __call__(
        self,
        outputs: Mapping[str, Array],
        targets: TargetForms,
        *,
        query_mask: Array | None = None,
    ) -> Assigned:
        """Return which object each anchor is to learn.

        Args:
            outputs: ``"anchors"`` `(Q, 4)`.
            targets: Boxes, as for `hungarian_core.SetLoss`.
            query_mask: `(B, Q)` bool, True where there is an anchor.

        Raises:
            ValueError: Shapes or dtypes do not fit.
        """
        wanted: dict[str, tuple[Any, ...]] = {"anchors": ("Q", 4)}
        batch = read(outputs, targets, query_mask, wanted, self.backend, labelled=False)
        xp, anchors = batch.xp, batch.outputs["anchors"]
        checks.as_many(self.levels, batch.backend.shape(anchors)[0])
        low, high = batch.corners(anchors, self.format)
        centres = (low + high) * 0.5
        low, high = batch.corners(batch.truth, self.format)
        apart = centres[None, None, :, :] - ((low + high) * 0.5)[:, :, None, :]
        apart = xp.sum(apart * apart, axis=-1)

        near, start = [], 0
        for size in self.levels:
            line = (..., slice(start, start + size))
            near.append(least(apart[line], self.top_k, self.top_k, batch.pairs[line], xp))
            start = start + size
        near = xp.concat(near, axis=-1)
        overlap = batch.overlaps(anchors[None, ...], self.format)
        count = xp.sum(xp.astype(near, overlap.dtype), axis=-1, keepdims=True)
        mean = xp.sum(xp.where(near, overlap, 0), axis=-1, keepdims=True)
        mean = mean / xp.where(count > 0, count, 1)
        square = xp.where(near, (overlap - mean) ** 2, 0)
        square = xp.sum(square, axis=-1, keepdims=True) / xp.where(count > 1, count - 1, 1)
        inside = batch.inside(centres, low, high)
        chosen = near & inside & (overlap >= mean + xp.sqrt(square))
        return batch.assigned(best(overlap, chosen, xp), overlap)
